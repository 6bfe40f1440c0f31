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

// Passes over pixels run segment by segment. How pixels are cut depends on their number alone, so that
// sums are added in one order whatever the number of threads.
inline int segments(int64_t pixels) {
    return pixels <= 16384 ? 1 : (int)std::min<int64_t>(16, (pixels + 32767) / 32768 * 2);
}

// A pairwise kernel: the lattice of its points and the weights, normalisation included.
struct Filter {
    int corners = 0;
    int64_t pixels = 0;
    int64_t vertices = 0;
    float gain = 1;  // what blurring along all axes must be multiplied by
    Array<int32_t> simplex;     // (pixels)
    Array<int32_t> corner;      // (simplices, corners)
    Array<float> in_weight;     // (pixels, corners)
    Array<float> out_weight;    // empty where it equals in_weight
    // Vertices that each segment splats to lie in this range; empty where vertices gather.
    std::vector<Range> reach;
    // Splatting as vertices see it, where they are many; empty where they are few.
    Array<int64_t> start;  // (vertices + 1)
    Array<Share> share;    // by vertex, then by pixel; a few more follow for fetching ahead
    std::vector<Array<int32_t>> order;  // one per axis, see Passes::blur
    // Whether float16 holds all sums; computed where vertices gather.
    bool half = false;
    // True where the normalised kernel matrix is diagonal and symmetric, so that it is the identity.
    bool identity = false;

    int32_t vertex(int64_t pixel, int v) const { return corner[(int64_t)simplex[pixel] * corners + v]; }
    bool gathers() const { return !start.empty(); }
    const float* slicing() const { return (out_weight.empty() ? in_weight : out_weight).data(); }
};

std::shared_ptr<const Filter> build_filter(const Points& points, Normalization normalization,
                                           int threads);

// The filter of pixel positions / (sx, sy); the last few are kept for the next call.
std::shared_ptr<const Filter> position_filter(int height, int width, double sx, double sy,
                                              Normalization normalization, int threads);

}  // namespace densecrf
