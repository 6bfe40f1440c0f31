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

template <typename T>
void embed_range(const Points& points, const Layout& layout, Range range, uint64_t* key,
                 float* weight) {
    const int d = points.dim;
    std::vector<T> feature((size_t)d * kBlock);
    std::vector<int32_t> base((size_t)(d + 1) * kBlock), rank((size_t)(d + 1) * kBlock);
    const int words = layout.words;
    for (int64_t first = range.begin; first < range.end; first += kBlock) {
        const int n = (int)std::min<int64_t>(kBlock, range.end - first);
        points.fill(first, n, feature.data());
        float* w = weight + first * (d + 1);
        if constexpr (sizeof(T) == 4)
            passes().embed(d, n, feature.data(), base.data(), rank.data(), w);
        else
            passes().embed_precise(d, n, feature.data(), base.data(), rank.data(), w);
        uint64_t* to = key + first * words;
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
        if (v + kAhead < count) vertices.fetch(neighbour(v + kAhead));
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

// Each member numbers its own pixels; then the first takes the others' numbers in.
template <int NS, int NV>
void connect(const Geometry& plan, const Array<uint64_t>& keys, int threads, Filter& filter) {
    const int members = filter.pixels > 16384 ? threads : 1;
    std::vector<Numbers<NS, NV>> part(members, {plan, filter.corners - 1});
    std::vector<Array<int32_t>> number(members);
    filter.simplex.resize(filter.pixels);
    run_team(members, [&](int member) {
        const Range range = share(filter.pixels, member, members);
        part[member].add_pixels(keys.data(), range, filter.simplex.data());
    });
    for (int m = 1; m < members; ++m) number[m] = part[0].append(part[m]);
    filter.corner = part[0].take_corners();
    filter.vertices = part[0].vertices().size();
    filter.order.resize(filter.corners);
    std::atomic<int> next{0};
    run_team(std::max(members, std::min(threads, filter.corners)), [&](int member) {
        if (member > 0 && member < members) {
            const Range range = share(filter.pixels, member, members);
            for (int64_t p = range.begin; p < range.end; ++p)
                filter.simplex[p] = number[member][filter.simplex[p]];
        }
        for (int axis = next++; axis < filter.corners; axis = next++)
            chain(part[0].vertices(), part[0].step(axis), filter.order[axis]);
    });
}

// One channel through splat, blur and slice, for the normalisation.
std::vector<float> apply_to_ones(const Filter& filter, int threads) {
    const int corners = filter.corners;
    std::vector<float> table(filter.vertices, 0.0f), result(filter.pixels);
    for (int64_t p = 0; p < filter.pixels; ++p)
        for (int v = 0; v < corners; ++v)
            table[filter.vertex(p, v)] += filter.in_weight[p * corners + v];
    for (const auto& order : filter.order) {
        float before = 0;
        for (size_t i = 0; i < order.size(); ++i) {
            const bool last = order[i] < 0;
            float& here = table[last ? ~order[i] : order[i]];
            const float old = here;
            here += 0.5f * (before + (last ? 0.0f : table[order[i + 1] < 0 ? ~order[i + 1] : order[i + 1]]));
            before = last ? 0.0f : old;
        }
    }
    run_team(threads, [&](int member) {
        const Range range = share(filter.pixels, member, threads);
        for (int64_t p = range.begin; p < range.end; ++p) {
            float sum = 0;
            for (int v = 0; v < corners; ++v)
                sum += table[filter.vertex(p, v)] * filter.in_weight[p * corners + v];
            result[p] = sum * filter.gain;
        }
    });
    return result;
}

// Diagonal exactly if no path of the lattice leads from one pixel to another.
bool is_diagonal(const Filter& filter) {
    std::vector<int64_t> owner(filter.vertices, -1);
    for (int64_t p = 0; p < filter.pixels; ++p)
        for (int v = 0; v < filter.corners; ++v) {
            int64_t& o = owner[filter.vertex(p, v)];
            if (o >= 0 && o != p) return false;
            o = p;
        }
    for (const auto& order : filter.order)
        for (size_t i = 0; i + 1 < order.size(); ++i)
            if (order[i] >= 0 && owner[order[i]] != owner[order[i + 1] < 0 ? ~order[i + 1] : order[i + 1]])
                return false;
    return true;
}

void normalize(Filter& filter, Normalization normalization, int threads) {
    if (normalization == Normalization::kNone) return;
    std::vector<float> factor = apply_to_ones(filter, threads);
    const bool symmetric = normalization == Normalization::kSymmetric;
    for (float& x : factor) x = symmetric ? 1.0f / std::sqrt(x + 1e-20f) : 1.0f / (x + 1e-20f);
    if (!symmetric) filter.out_weight = filter.in_weight;
    auto& scaled = normalization == Normalization::kAfter ? filter.out_weight : filter.in_weight;
    run_team(threads, [&](int member) {
        const Range range = share(filter.pixels, member, threads);
        for (int64_t p = range.begin; p < range.end; ++p)
            for (int v = 0; v < filter.corners; ++v) scaled[p * filter.corners + v] *= factor[p];
    });
    filter.identity = symmetric && is_diagonal(filter);
}

// As vertices are numbered in the order of pixels, a segment reaches few more than it needs.
void find_reach(Filter& filter, int threads) {
    const int count = segments(filter.pixels);
    filter.reach.resize(count);
    std::atomic<int> next{0};
    run_team(std::min(threads, count), [&](int) {
        for (int s = next++; s < count; s = next++) {
            const Range range = share(filter.pixels, s, count);
            Range reach = {filter.vertices, 0};
            for (int64_t p = range.begin; p < range.end; ++p) {
                if (p > range.begin && filter.simplex[p] == filter.simplex[p - 1]) continue;
                for (int v = 0; v < filter.corners; ++v) {
                    const int64_t vertex = filter.vertex(p, v);
                    reach.begin = std::min(reach.begin, vertex);
                    reach.end = std::max(reach.end, vertex + 1);
                }
            }
            filter.reach[s] = reach;
        }
    });
}

// Lists, for each vertex, the pixels that it is a corner of. Each member fills the lists of its own
// vertices.
void list_shares(Filter& filter, int threads) {
    filter.start.assign(filter.vertices + 1, 0);
    auto for_own = [&](int member, auto job) {
        const Range range = share(filter.vertices, member, threads);
        for (int64_t p = 0; p < filter.pixels; ++p)
            for (int v = 0; v < filter.corners; ++v) {
                const int32_t vertex = filter.vertex(p, v);
                if (vertex >= range.begin && vertex < range.end) job(vertex, p, v);
            }
    };
    run_team(threads, [&](int member) {
        for_own(member, [&](int32_t vertex, int64_t, int) { ++filter.start[vertex]; });
    });
    int64_t sum = 0;
    for (int64_t& s : filter.start) sum += std::exchange(s, sum);
    std::vector<int64_t> end(filter.start.begin(), filter.start.end());
    std::vector<double> most(threads, 0.0);
    filter.share.resize(sum + kFetched);
    run_team(threads, [&](int member) {
        for_own(member, [&](int32_t vertex, int64_t p, int v) {
            filter.share[end[vertex]++] = {(int32_t)p, filter.in_weight[p * filter.corners + v]};
        });
        const Range range = share(filter.vertices, member, threads);
        for (int64_t v = range.begin; v < range.end; ++v) {
            double total = 0;
            for (int64_t s = filter.start[v]; s < filter.start[v + 1]; ++s)
                total += filter.share[s].weight;
            most[member] = std::max(most[member], total);
        }
    });
    // Blurring along an axis can double a value at most; none may pass the largest float16, 65504.
    const double largest = *std::max_element(most.begin(), most.end());
    filter.half = largest * std::pow(2.0, filter.corners) < 60000;
}

}  // namespace

std::shared_ptr<const Filter> build_filter(const Points& points, Normalization normalization,
                                           int threads) {
    if (points.dim < 1 || points.dim > 255)
        throw std::invalid_argument("a kernel needs 1 to 255 features");
    if (points.count > std::numeric_limits<int32_t>::max())
        throw std::invalid_argument("an image may have 2^31 - 1 pixels at most");
    auto filter = std::make_shared<Filter>();
    const int d = points.dim;
    filter->corners = d + 1;
    filter->pixels = points.count;
    filter->gain = (float)(1.0 / (1.0 + std::pow(2.0, -d)));
    filter->in_weight.resize((size_t)points.count * (d + 1));
    const Geometry geometry = plan(points);
    Array<uint64_t> keys((size_t)points.count * geometry.simplex.words);
    run_team(threads, [&](int member) {
        const Range range = share(points.count, member, threads);
        float* weight = filter->in_weight.data();
        if (geometry.precise)
            embed_range<double>(points, geometry.simplex, range, keys.data(), weight);
        else
            embed_range<float>(points, geometry.simplex, range, keys.data(), weight);
    });
    if (geometry.simplex.words == 1 && geometry.vertex.words == 1)
        connect<1, 1>(geometry, keys, threads, *filter);
    else
        connect<0, 0>(geometry, keys, threads, *filter);
    normalize(*filter, normalization, threads);
    if (filter->vertices > kSplatted && filter->vertices > filter->pixels / 8)
        list_shares(*filter, threads);
    else
        find_reach(*filter, threads);
    return filter;
}

}  // namespace densecrf
