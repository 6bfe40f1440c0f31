#include "lattice.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "number.h"
#include "team.h"

namespace densecrf {
namespace {

// Bounds of base and vertex coordinates follow from those of the features, as the embedding is
// linear.
Geometry plan(const Points& points) {
    const int d = points.dim;
    std::vector<double> low(d + 1), high(d + 1);
    double least = 0, most = 0, extreme = 0;
    for (int j = d; j >= 1; --j) {
        const double scale = std::sqrt(2.0 / 3.0) * (d + 1) / std::sqrt((double)j * (j + 1));
        const double a = points.low[j - 1] * scale, b = points.high[j - 1] * scale;
        low[j] = least - j * b;
        high[j] = most - j * a;
        least += a;
        most += b;
    }
    low[0] = least;
    high[0] = most;
    for (int j = 0; j <= d; ++j)
        extreme = std::max({extreme, std::fabs(low[j]), std::fabs(high[j])});
    if (!(extreme < 1e8))
        throw std::invalid_argument(
            "a kernel width is too small: feature / width reaches " + std::to_string(extreme) +
            " lattice units, more than 1e8; use a larger width");
    Geometry plan;
    plan.precise = extreme > 2e4;
    for (int j = 0; j < d; ++j) {
        const int64_t a = (int64_t)std::floor(low[j] / (d + 1)) - 3;
        const int64_t b = (int64_t)std::ceil(high[j] / (d + 1)) + 3;
        plan.simplex.add(a, b);
        plan.vertex.add((a - 2) * (d + 1), (b + 2) * (d + 1));
    }
    for (int j = 0; j < d; ++j) plan.simplex.add(0, d);
    return plan;
}

// Weights and keys of the simplices of a tile's points.
template <typename T>
void embed_tile(const Points& points, const Layout& layout, const Tile& tile, uint64_t* key,
                float* weight) {
    const int d = points.dim, words = layout.words;
    std::vector<T> feature((size_t)d * kBlock);
    std::vector<int32_t> base((size_t)(d + 1) * kBlock), rank((size_t)(d + 1) * kBlock);
    for (int first = 0; first < tile.pixels(); first += kBlock) {
        const int n = std::min(kBlock, tile.pixels() - first);
        points.fill(tile, first, n, feature.data());
        float* w = weight + (int64_t)first * (d + 1);
        if constexpr (sizeof(T) == 4)
            passes().embed(d, n, feature.data(), base.data(), rank.data(), w);
        else
            passes().embed_precise(d, n, feature.data(), base.data(), rank.data(), w);
        uint64_t* to = key + (int64_t)first * words;
        std::fill(to, to + (int64_t)n * words, 0);
        for (int j = 0; j < d; ++j) {
            const Layout::Field place = layout.field[j], order = layout.field[d + j];
            for (int i = 0; i < n; ++i)
                to[i * words + place.word] |=
                    (uint64_t)((int64_t)base[j * kBlock + i] - place.low) << place.shift;
            for (int i = 0; i < n; ++i)
                to[i * words + order.word] |= (uint64_t)rank[j * kBlock + i] << order.shift;
        }
    }
}

// Tables of so many rows at most stay in the caches while pixels splat to them.
constexpr int64_t kSplatted = 32768;

// Keys of so many vertices stay in the caches.
constexpr int32_t kCached = 16384;

// See Passes::blur.
template <int N>
void chain(const KeyTable<N>& vertices, const uint64_t* step, Array<int32_t>& order) {
    const int32_t count = vertices.size();
    std::vector<uint64_t> at(vertices.words());
    std::vector<int32_t> next(count);
    std::vector<uint8_t> follows(count, 0);
    auto neighbour = [&](int32_t v) {
        for (int w = 0; w < vertices.words(); ++w) at[w] = vertices.key(v)[w] + step[w];
        return at.data();
    };
    for (int32_t v = 0; v < count; ++v) {
        if (count > kCached && v + kAhead < count) vertices.fetch(neighbour(v + kAhead));
        next[v] = vertices.find(neighbour(v));
        if (next[v] >= 0) follows[next[v]] = 1;
    }
    order.reserve(count);
    for (int32_t v = 0; v < count; ++v) {
        if (follows[v] || next[v] < 0) continue;
        int32_t u = v;
        for (; next[u] >= 0; u = next[u]) order.push_back(u);
        order.push_back(~u);
    }
}

// Slots of a tile's pixels: simplices of few pixels first, as loops over so many pixels each are then
// predicted, and pixels of one simplex together.
class Grouping {
public:
    // simplex: (pixels) numbers below `simplices`. Runs are added to `run`, the pixel of each slot is
    // written to `place`.
    void group(const int32_t* simplex, int n, int32_t simplices, Array<Run>& run, uint16_t* place) {
        seen_.resize(simplices, Seen{-1, 0});
        ++tile_;
        int groups = 0;
        for (int i = 0; i < n; ++i) {
            Seen& s = seen_[simplex[i]];
            if (s.tile != tile_) {
                found_[groups] = {simplex[i], 0};
                s = {tile_, groups++};
            }
            ++found_[group_[i] = s.group].count;
        }
        std::fill(next_, next_ + n + 1, 0);
        for (int g = 0; g < groups; ++g) ++next_[found_[g].count];
        int sum = 0;
        for (int size = 1; size <= n; ++size) sum += std::exchange(next_[size], sum);
        const size_t first = run.size();
        run.resize(first + groups);
        for (int g = 0; g < groups; ++g) run[first + (where_[g] = next_[found_[g].count]++)] = found_[g];
        sum = 0;
        for (int g = 0; g < groups; ++g) {
            next_[g] = sum;
            sum += run[first + g].count;
        }
        for (int i = 0; i < n; ++i) place[next_[where_[group_[i]]]++] = (uint16_t)i;
    }

private:
    struct Seen {
        int32_t tile, group;
    };
    Array<Seen> seen_;  // [simplex] where it was seen last
    int32_t tile_ = 0;
    Run found_[kTilePixels];
    int group_[kTilePixels], where_[kTilePixels], next_[kTilePixels + 1];
};

// Each member embeds, numbers and groups its own pixels; then the first takes the others' numbers in.
template <int NS, int NV>
void connect(const Points& points, const Geometry& plan, int threads, Filter& filter) {
    const Tiling& tiling = filter.tiling;
    const int members = filter.pixels() > 4096 ? threads : 1, corners = filter.corners;
    std::vector<Numbers<NS, NV>> part(members, {plan, corners - 1});
    std::vector<Array<int32_t>> number(members);
    std::vector<Array<Run>> runs(members);
    filter.place.resize(filter.pixels());
    filter.in_weight.resize((size_t)filter.pixels() * corners);
    filter.tile_run.resize(tiling.count() + 1);
    run_team(members, [&](int member) {
        Array<uint64_t> keys((size_t)kTilePixels * plan.simplex.words);
        Array<float> weight((size_t)kTilePixels * corners);
        Array<int32_t> simplex(kTilePixels);
        Grouping grouping;
        const Range tiles = portion(tiling.count(), member, members);
        for (int64_t t = tiles.begin; t < tiles.end; ++t) {
            const Tile tile = tiling.tile(t);
            const int n = tile.pixels();
            if (plan.precise) embed_tile<double>(points, plan.simplex, tile, keys.data(), weight.data());
            else embed_tile<float>(points, plan.simplex, tile, keys.data(), weight.data());
            part[member].add_pixels(keys.data(), n, simplex.data());
            uint16_t* place = &filter.place[tile.first];
            grouping.group(simplex.data(), n, part[member].simplices(), runs[member], place);
            filter.tile_run[t + 1] = (int64_t)runs[member].size();
            float* to = &filter.in_weight[(size_t)tile.first * corners];
            for (int s = 0; s < n; ++s, to += corners)
                std::copy_n(&weight[(size_t)place[s] * corners], corners, to);
        }
        part[member].add_vertices();
    });
    std::vector<int64_t> before(members, 0);
    for (int m = 1; m < members; ++m) {
        number[m] = part[0].append(part[m]);
        before[m] = before[m - 1] + (int64_t)runs[m - 1].size();
    }
    filter.run.resize(before.back() + (int64_t)runs.back().size());
    filter.corner = part[0].take_corners();
    filter.vertices = part[0].vertices().size();
    filter.order.resize(corners);
    std::atomic<int> next{0};
    const int crew = filter.pixels() > 4096 ? std::max(members, std::min(threads, corners)) : 1;
    run_team(crew, [&](int member) {
        if (member < members) {
            const Range tiles = portion(tiling.count(), member, members);
            for (int64_t t = tiles.begin; t < tiles.end; ++t) filter.tile_run[t + 1] += before[member];
            Run* to = filter.run.data() + before[member];
            for (const Run& run : runs[member])
                *to++ = {member ? number[member][run.simplex] : run.simplex, run.count};
        }
        for (int axis = next++; axis < corners; axis = next++)
            chain(part[0].vertices(), part[0].step(axis), filter.order[axis]);
    });
}

// out = in + (previous + next) / 2 along a part of the chains of an axis, for one channel.
void blur_ones(const Array<int32_t>& order, Range range, float* table) {
    float before = 0;
    for (int64_t i = range.begin; i < range.end; ++i) {
        const bool last = order[i] < 0;
        float& here = table[last ? ~order[i] : order[i]];
        const float old = here;
        here += 0.5f * (before + (last ? 0.0f : table[order[i + 1] < 0 ? ~order[i + 1] : order[i + 1]]));
        before = last ? 0.0f : old;
    }
}

// Calls job(slot, pixel, corner) for the slots of a range of tiles; corner: vertices of their simplex.
template <typename Job>
void for_slots(const Filter& filter, Range tiles, Job job) {
    for (int64_t t = tiles.begin; t < tiles.end; ++t) {
        const int64_t first = filter.tiling.tile(t).first;
        int64_t slot = first;
        for (int64_t r = filter.tile_run[t]; r < filter.tile_run[t + 1]; ++r) {
            const int32_t* corner = &filter.corner[(int64_t)filter.run[r].simplex * filter.corners];
            for (int i = filter.run[r].count; i > 0; --i, ++slot) job(slot, first + filter.place[slot], corner);
        }
    }
}

// One channel through splat, blur and slice, for the normalisation: job(slot, pixel, sum).
template <typename Job>
void apply_to_ones(const Filter& filter, int threads, Job job) {
    const int corners = filter.corners, count = segments(filter.pixels());
    Array<float> table(filter.vertices, 0.0f);
    std::vector<Array<float>> part;
    for (const Range& reach : filter.reach)
        part.emplace_back(std::max<int64_t>(reach.end - reach.begin, 0), 0.0f);
    Barrier barrier(threads);
    std::atomic<int> splat{0}, slice{0};
    run_team(threads, [&](int member) {
        const Range own = share(filter.vertices, member, threads);
        if (filter.gathers()) {
            for (int64_t v = own.begin; v < own.end; ++v)
                for (int64_t s = filter.start[v]; s < filter.start[v + 1]; ++s)
                    table[v] += filter.share[s].weight;
        } else {
            for (int s = splat++; s < count; s = splat++) {
                float* sum = part[s].data() - filter.reach[s].begin;
                for_slots(filter, segment_tiles(filter.tiling, s), [&](int64_t slot, int64_t, const int32_t* corner) {
                    const float* weight = &filter.in_weight[slot * corners];
                    for (int v = 0; v < corners; ++v) sum[corner[v]] += weight[v];
                });
            }
            barrier.wait();
            for (int s = 0; s < count; ++s) {
                const Range reach = filter.reach[s];
                for (int64_t v = std::max(own.begin, reach.begin); v < std::min(own.end, reach.end); ++v)
                    table[v] += part[s][v - reach.begin];
            }
        }
        for (const auto& order : filter.order) {
            barrier.wait();
            blur_ones(order, share_chains(order, member, threads), table.data());
        }
        barrier.wait();
        for (int s = slice++; s < count; s = slice++) {
            for_slots(filter, segment_tiles(filter.tiling, s), [&](int64_t slot, int64_t pixel,
                                                                   const int32_t* corner) {
                const float* weight = &filter.in_weight[slot * corners];
                float sum = 0;
                for (int v = 0; v < corners; ++v) sum += table[corner[v]] * weight[v];
                job(slot, pixel, sum * filter.gain);
            });
        }
    });
}

// Diagonal exactly if no path of the lattice leads from one pixel to another.
bool is_diagonal(const Filter& filter) {
    Array<int32_t> owner(filter.vertices, -1);  // a run, as a slot stands for a pixel
    int32_t last = -1;
    for (int64_t r = 0; r < (int64_t)filter.run.size(); ++r) {
        if (filter.run[r].count > 1) return false;
        ++last;
        for (int v = 0; v < filter.corners; ++v) {
            int32_t& o = owner[filter.corner[(int64_t)filter.run[r].simplex * filter.corners + v]];
            if (o >= 0) return false;
            o = last;
        }
    }
    for (const auto& order : filter.order)
        for (size_t i = 0; i + 1 < order.size(); ++i)
            if (order[i] >= 0 && owner[order[i]] != owner[order[i + 1] < 0 ? ~order[i + 1] : order[i + 1]])
                return false;
    return true;
}

// Scales the weights; returns what those that splat were multiplied by, (pixels), where lists need it.
Array<float> normalize(Filter& filter, Normalization normalization, int threads) {
    Array<float> factors;
    if (normalization == Normalization::kNone) return factors;
    const bool symmetric = normalization == Normalization::kSymmetric;
    const int corners = filter.corners;
    if (!symmetric) filter.out_weight = filter.in_weight;
    const bool listed = filter.gathers() && normalization != Normalization::kAfter;
    if (listed) factors.resize(filter.pixels());
    // The job is the last to read a slot's weights.
    auto& scaled = normalization == Normalization::kAfter ? filter.out_weight : filter.in_weight;
    apply_to_ones(filter, threads, [&](int64_t slot, int64_t pixel, float sum) {
        const float factor = symmetric ? 1.0f / std::sqrt(sum + 1e-20f) : 1.0f / (sum + 1e-20f);
        for (int v = 0; v < corners; ++v) scaled[slot * corners + v] *= factor;
        if (listed) factors[pixel] = factor;
    });
    filter.identity = symmetric && is_diagonal(filter);
    return factors;
}

// As vertices are numbered in the order of pixels, a segment reaches few more than it needs.
void find_reach(Filter& filter, int threads) {
    const int count = segments(filter.pixels());
    filter.reach.resize(count);
    if (count == 1) {
        filter.reach[0] = {0, filter.vertices};
        return;
    }
    std::atomic<int> next{0};
    run_team(std::min(threads, count), [&](int) {
        for (int s = next++; s < count; s = next++) {
            const Range tiles = segment_tiles(filter.tiling, s);
            Range reach = {filter.vertices, 0};
            for (int64_t r = filter.tile_run[tiles.begin]; r < filter.tile_run[tiles.end]; ++r)
                for (int v = 0; v < filter.corners; ++v) {
                    const int64_t vertex =
                        filter.corner[(int64_t)filter.run[r].simplex * filter.corners + v];
                    reach.begin = std::min(reach.begin, vertex);
                    reach.end = std::max(reach.end, vertex + 1);
                }
            filter.reach[s] = reach;
        }
    });
}

// Lists, for each vertex, the slots that it is a corner of, in their order. Each member lists its own
// slots, where those of the members before it end.
void list_shares(Filter& filter, int threads) {
    const int corners = filter.corners, members = std::min(threads, 4);
    std::vector<Array<int32_t>> count(members, Array<int32_t>(filter.vertices, 0));
    filter.start.resize(filter.vertices + 1);
    filter.share.resize((size_t)filter.pixels() * corners + kFetched);
    Barrier barrier(members);
    run_team(members, [&](int member) {
        const Range tiles = portion(filter.tiling.count(), member, members);
        Array<int32_t>& own = count[member];
        for_slots(filter, tiles, [&](int64_t, int64_t, const int32_t* corner) {
            for (int v = 0; v < corners; ++v) ++own[corner[v]];
        });
        barrier.wait();
        if (member == 0) {
            int64_t sum = 0;
            for (int64_t v = 0; v < filter.vertices; ++v) {
                filter.start[v] = sum;
                int32_t before = 0;
                for (auto& c : count) before += std::exchange(c[v], before);
                sum += before;
            }
            filter.start[filter.vertices] = sum;
        }
        barrier.wait();
        for_slots(filter, tiles, [&](int64_t slot, int64_t pixel, const int32_t* corner) {
            for (int v = 0; v < corners; ++v)
                filter.share[filter.start[corner[v]] + own[corner[v]]++] = {
                    (int32_t)pixel, filter.in_weight[slot * corners + v]};
        });
    });
}

// Normalises the shares, and sees whether float16 holds what they sum up to.
void scale_shares(Filter& filter, const Array<float>& factors, int threads) {
    std::vector<double> most(threads, 0.0);
    run_team(threads, [&](int member) {
        const Range range = share(filter.vertices, member, threads);
        for (int64_t v = range.begin; v < range.end; ++v) {
            double total = 0;
            for (int64_t s = filter.start[v]; s < filter.start[v + 1]; ++s) {
                Share& share = filter.share[s];
                if (!factors.empty()) share.weight *= factors[share.pixel];
                total += share.weight;
            }
            most[member] = std::max(most[member], total);
        }
    });
    // Blurring along an axis can double a value at most; none may pass the largest float16, 65504.
    const double largest = *std::max_element(most.begin(), most.end());
    filter.half = filter.vertices > kSplatted && largest * std::pow(2.0, filter.corners) < 60000;
}

}  // namespace

std::shared_ptr<const Filter> build_filter(const Points& points, Normalization normalization,
                                           int threads) {
    if (points.dim < 1 || points.dim > 255)
        throw std::invalid_argument("a kernel needs 1 to 255 features");
    if (points.count() > std::numeric_limits<int32_t>::max())
        throw std::invalid_argument("an image may have 2^31 - 1 pixels at most");
    auto filter = std::make_shared<Filter>(points.tiling);
    const int d = points.dim;
    filter->corners = d + 1;
    filter->gain = (float)(1.0 / (1.0 + std::pow(2.0, -d)));
    const Geometry geometry = plan(points);
    if (geometry.simplex.words == 1 && geometry.vertex.words == 1)
        connect<1, 1>(points, geometry, threads, *filter);
    else
        connect<0, 0>(points, geometry, threads, *filter);
    const bool gathers = filter->vertices > kSplatted && filter->vertices > filter->pixels() / 8;
    if (gathers) list_shares(*filter, threads);
    else find_reach(*filter, threads);
    const Array<float> factors = normalize(*filter, normalization, threads);
    if (gathers) scale_shares(*filter, factors, threads);
    return filter;
}

}  // namespace densecrf
