// The permutohedral lattice of one set of points (Adams, Baek and Davis 2010).
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "buffer.h"
#include "pass.h"
#include "points.h"
#include "team.h"

namespace densecrf {

enum class Normalization { kNone, kBefore, kAfter, kSymmetric };

// Passes over pixels run segment by segment, each a range of tiles. How an image is cut depends on its
// number of pixels alone, so that sums are added in one order whatever the number of threads.
inline int segments(int64_t pixels) {
    return pixels <= 16384 ? 1 : (int)std::min<int64_t>(16, (pixels + 32767) / 32768 * 2);
}
inline Range segment_tiles(const Tiling& tiling, int segment) {
    return portion(tiling.count(), segment, segments(tiling.pixels()));
}

// Like portion, for chains of Passes::blur: no chain is cut.
inline Range share_chains(const Array<int32_t>& order, int member, int members) {
    auto cut = [&](int64_t at) {
        while (at > 0 && at < (int64_t)order.size() && order[at - 1] >= 0) ++at;
        return at;
    };
    const Range range = portion((int64_t)order.size(), member, members);
    return {cut(range.begin), cut(range.end)};
}

// A pairwise kernel: the lattice of its points and the weights, normalisation included.
struct Filter {
    explicit Filter(const Tiling& t) : tiling(t) {}
    Tiling tiling;           // pixels are in the order of tiles
    int corners = 0;
    int64_t vertices = 0;
    float gain = 1;  // what blurring along all axes must be multiplied by
    // The pixels of a tile have slots such that those of one simplex follow one another.
    Array<uint16_t> place;      // (slots) pixel of the tile
    Array<Run> run;             // simplices of a tile, tile after tile
    Array<int64_t> tile_run;    // (tiles + 1) first run of each
    Array<int32_t> corner;      // (simplices, corners)
    Array<float> in_weight;     // (slots, corners), normalised
    Array<float> out_weight;    // empty where it equals in_weight
    // Vertices that each segment splats to lie in this range; empty where vertices gather.
    std::vector<Range> reach;
    // Splatting as vertices see it, where they are many; empty where they are few.
    Array<int64_t> start;  // (vertices + 1)
    Array<Share> share;    // by vertex, then by slot; a few more follow for fetching ahead
    std::vector<Array<int32_t>> order;  // one per axis, see Passes::blur
    // Whether the table is large and float16 holds all sums.
    bool half = false;
    // True where the normalised kernel matrix is diagonal and symmetric, so that it is the identity.
    bool identity = false;

    int64_t pixels() const { return tiling.pixels(); }
    bool gathers() const { return !start.empty(); }
    const Array<float>& slicing() const { return out_weight.empty() ? in_weight : out_weight; }
};

std::shared_ptr<const Filter> build_filter(const Points& points, Normalization normalization,
                                           int threads);

// The filter of pixel positions / (sx, sy); the last few are kept for the next call.
std::shared_ptr<const Filter> position_filter(const Tiling& tiling, double sx, double sy,
                                              Normalization normalization, int threads);

}  // namespace densecrf
