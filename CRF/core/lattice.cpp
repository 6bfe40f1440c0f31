#include "lattice.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "team.h"

namespace densecrf {
namespace {

// ---- points ----

class ImagePoints : public Points {
public:
    ImagePoints(int height, int width, double sx, double sy, const uint8_t* image, const double* srgb)
        : width_(width),
          // A width that float32 rounds to zero would make 0 / 0 of the first row and column.
          sx_(std::max(sx, 1e-30)),
          sy_(std::max(sy, 1e-30)),
          image_(image) {
        dim = image ? 5 : 2;
        count = (int64_t)height * width;
        low.assign(dim, 0.0);
        high = {(width - 1) / sx, (height - 1) / sy};
        for (int c = 0; image && c < 3; ++c) {
            srgb_[c] = srgb[c];
            high.push_back(255 / srgb[c]);
        }
    }
    void fill(int64_t first, int n, float* feature) const override { fill_as(first, n, feature); }
    void fill(int64_t first, int n, double* feature) const override { fill_as(first, n, feature); }

private:
    template <typename T>
    void fill_as(int64_t first, int n, T* feature) const {
        int64_t y = first / width_, x = first % width_;
        for (int i = 0; i < n; ++i) {
            feature[i] = (T)x / (T)sx_;
            feature[kBlock + i] = (T)y / (T)sy_;
            if (++x == width_) x = 0, ++y;
        }
        for (int c = 0; c + 2 < dim; ++c)
            for (int i = 0; i < n; ++i)
                feature[(c + 2) * kBlock + i] = (T)image_[(first + i) * 3 + c] / (T)srgb_[c];
    }
    int width_;
    double sx_, sy_, srgb_[3] = {};
    const uint8_t* image_;
};

class FeaturePoints : public Points {
public:
    FeaturePoints(int d, int64_t n, const float* feature) : feature_(feature) {
        dim = d;
        count = n;
        for (int j = 0; j < d; ++j) {
            float least = n ? feature[j * n] : 0, most = least;
            for (int64_t i = 0; i < n; ++i) {
                const float x = feature[j * n + i];
                if (!std::isfinite(x))
                    throw std::invalid_argument("a feature is NaN or infinite; features must be finite");
                least = std::min(least, x);
                most = std::max(most, x);
            }
            low.push_back(least);
            high.push_back(most);
        }
    }
    void fill(int64_t first, int n, float* feature) const override { fill_as(first, n, feature); }
    void fill(int64_t first, int n, double* feature) const override { fill_as(first, n, feature); }

private:
    template <typename T>
    void fill_as(int64_t first, int n, T* feature) const {
        for (int j = 0; j < dim; ++j)
            for (int i = 0; i < n; ++i) feature[j * kBlock + i] = (T)feature_[j * count + first + i];
    }
    const float* feature_;
};

// ---- packed keys ----

// Coordinates of a vertex, or base and ranks of a simplex, as bit fields of 64-bit words. No field
// crosses a word, so that keys can be added word by word.
struct Layout {
    struct Field {
        int word, shift;
        int64_t low;
    };
    std::vector<Field> field;
    int words = 1;
    int used = 0;

    void add(int64_t low, int64_t high) {
        int bits = 1;
        while (((uint64_t)(high - low) >> bits) != 0) ++bits;
        if (used + bits > 64) ++words, used = 0;
        field.push_back({words - 1, used, low});
        used += bits;
    }
};

// Open addressing; N words a key, 0 = as many as the layout says.
template <int N>
class KeyTable {
public:
    explicit KeyTable(int words) : words_(N > 0 ? N : words) { resize(1 << 12); }

    int words() const { return N > 0 ? N : words_; }
    int32_t size() const { return size_; }
    const uint64_t* key(int32_t id) const { return keys_.data() + (size_t)id * words(); }

    int32_t insert(const uint64_t* key, bool* fresh) {
        size_t at = hash(key) & mask_;
        for (; slot_[at].id >= 0; at = (at + 1) & mask_)
            if (same(slot_[at], key)) return *fresh = false, slot_[at].id;
        if (size_ == std::numeric_limits<int32_t>::max())
            throw std::invalid_argument("the lattice has more than 2^31 vertices; use wider kernels");
        const int32_t id = size_++;
        slot_[at] = {key[0], id};
        keys_.insert(keys_.end(), key, key + words());
        *fresh = true;
        if ((size_t)size_ * 2 > slot_.size()) resize(slot_.size() * 2);
        return id;
    }

    int32_t find(const uint64_t* key) const {
        size_t at = hash(key) & mask_;
        for (; slot_[at].id >= 0; at = (at + 1) & mask_)
            if (same(slot_[at], key)) return slot_[at].id;
        return -1;
    }

    void fetch(const uint64_t* key) const {
#if defined(__GNUC__) || defined(__clang__)
        __builtin_prefetch(&slot_[hash(key) & mask_]);
#else
        (void)key;
#endif
    }

private:
    struct Slot {
        uint64_t first;
        int32_t id;
    };
    bool same(const Slot& slot, const uint64_t* key) const {
        if (slot.first != key[0]) return false;
        for (int w = 1; w < words(); ++w)
            if (keys_[(size_t)slot.id * words() + w] != key[w]) return false;
        return true;
    }
    size_t hash(const uint64_t* key) const {
        uint64_t h = 0;
        for (int w = 0; w < words(); ++w) {
            h = (h ^ key[w]) * 0x9E3779B97F4A7C15ull;
            h ^= h >> 29;
        }
        return (size_t)(h ^ (h >> 17));
    }
    void resize(size_t slots) {
        slot_.assign(slots, Slot{0, -1});
        mask_ = slots - 1;
        for (int32_t id = 0; id < size_; ++id) {
            size_t at = hash(key(id)) & mask_;
            while (slot_[at].id >= 0) at = (at + 1) & mask_;
            slot_[at] = {key(id)[0], id};
        }
    }
    int words_;
    int32_t size_ = 0;
    size_t mask_ = 0;
    Array<Slot> slot_;
    Array<uint64_t> keys_;
};

// ---- construction ----

struct Geometry {
    Layout simplex, vertex;
    bool precise = false;
};

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

// The share [begin, end) of member `member` of `members`, in whole blocks.
void share(int64_t count, int member, int members, int64_t* begin, int64_t* end) {
    const int64_t blocks = (count + kBlock - 1) / kBlock;
    *begin = blocks * member / members * kBlock;
    *end = std::min(count, blocks * (member + 1) / members * kBlock);
}

template <typename T>
void embed_range(const Points& points, const Layout& layout, int64_t begin, int64_t end,
                 uint64_t* key, float* weight) {
    const int d = points.dim;
    std::vector<T> feature((size_t)d * kBlock);
    std::vector<int32_t> base((size_t)(d + 1) * kBlock), rank((size_t)(d + 1) * kBlock);
    const int words = layout.words;
    for (int64_t first = begin; first < end; first += kBlock) {
        const int n = (int)std::min<int64_t>(kBlock, end - first);
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

uint64_t field_of(const Layout& layout, int index, const uint64_t* key) {
    const Layout::Field& f = layout.field[index];
    const bool last = index + 1 == (int)layout.field.size() || layout.field[index + 1].word != f.word;
    const int bits = last ? 64 - f.shift : layout.field[index + 1].shift - f.shift;
    const uint64_t mask = bits >= 64 ? ~0ull : (1ull << bits) - 1;
    return (key[f.word] >> f.shift) & mask;
}

constexpr int kAhead = 16;  // lookups whose memory is asked for before it is needed

template <int NS, int NV>
void connect(const Geometry& plan, const Array<uint64_t>& keys, int d, Filter& filter) {
    KeyTable<NS> simplices(plan.simplex.words);
    KeyTable<NV> vertices(plan.vertex.words);
    const int sw = simplices.words(), vw = vertices.words();
    bool fresh;

    // step[j]: what takes a vertex to its neighbour along axis j: +1 everywhere, -d at j.
    std::vector<uint64_t> step((size_t)(d + 1) * vw, 0);
    for (int j = 0; j <= d; ++j)
        for (int i = 0; i < d; ++i) {
            const Layout::Field& f = plan.vertex.field[i];
            step[j * vw + f.word] += (uint64_t)(int64_t)(i == j ? -d : 1) << f.shift;
        }

    std::vector<int> axis(d + 1);
    std::vector<uint64_t> at(vw), around((size_t)(d + 1) * vw);
    filter.simplex.resize(filter.pixels);
    for (int64_t p = 0; p < filter.pixels; ++p) {
        const uint64_t* key = &keys[p * sw];
        if (p + kAhead < filter.pixels) simplices.fetch(key + kAhead * sw);
        if (p > 0 && std::equal(key, key + sw, key - sw)) {
            filter.simplex[p] = filter.simplex[p - 1];
            continue;
        }
        filter.simplex[p] = simplices.insert(key, &fresh);
        if (!fresh) continue;
        std::fill(at.begin(), at.end(), 0);
        int missing = d * (d + 1) / 2;
        for (int i = 0; i < d; ++i) {
            const Layout::Field& f = plan.vertex.field[i];
            const int64_t base = (int64_t)field_of(plan.simplex, i, key) + plan.simplex.field[i].low;
            const int rank = (int)field_of(plan.simplex, d + i, key);
            at[f.word] += (uint64_t)(base * (d + 1) - f.low) << f.shift;
            axis[rank] = i;
            missing -= rank;
        }
        axis[missing] = d;
        for (int r = 0; r <= d; ++r) {
            std::copy(at.begin(), at.end(), around.begin() + r * vw);
            vertices.fetch(at.data());
            // From the vertex of remainder r to that of r + 1.
            for (int w = 0; w < vw; ++w) at[w] += step[axis[d - r] * vw + w];
        }
        for (int r = 0; r <= d; ++r)
            filter.corner.push_back(vertices.insert(&around[r * vw], &fresh));
    }
    filter.vertices = vertices.size();

    filter.order.resize(d + 1);
    std::vector<int32_t> next(vertices.size());
    std::vector<uint8_t> follows(vertices.size());
    for (int j = 0; j <= d; ++j) {
        std::fill(follows.begin(), follows.end(), 0);
        for (int32_t v = 0; v < vertices.size(); ++v) {
            if (v + kAhead < vertices.size()) {
                for (int w = 0; w < vw; ++w) at[w] = vertices.key(v + kAhead)[w] + step[j * vw + w];
                vertices.fetch(at.data());
            }
            for (int w = 0; w < vw; ++w) at[w] = vertices.key(v)[w] + step[j * vw + w];
            next[v] = vertices.find(at.data());
            if (next[v] >= 0) follows[next[v]] = 1;
        }
        auto& order = filter.order[j];
        for (int32_t v = 0; v < vertices.size(); ++v) {
            if (follows[v] || next[v] < 0) continue;
            int32_t u = v;
            for (; next[u] >= 0; u = next[u]) order.push_back(u);
            order.push_back(~u);
        }
    }
}

// One channel through splat, blur and slice, for the normalisation.
std::vector<float> apply_to_ones(const Filter& filter) {
    const int corners = filter.corners;
    std::vector<float> table(filter.vertices, 0.0f), result(filter.pixels);
    for (int64_t p = 0; p < filter.pixels; ++p)
        for (int v = 0; v < corners; ++v)
            table[filter.corner[(int64_t)filter.simplex[p] * corners + v]] +=
                filter.in_weight[p * corners + v];
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
    for (int64_t p = 0; p < filter.pixels; ++p) {
        float sum = 0;
        for (int v = 0; v < corners; ++v)
            sum += table[filter.corner[(int64_t)filter.simplex[p] * corners + v]] *
                   filter.in_weight[p * corners + v];
        result[p] = sum * filter.gain;
    }
    return result;
}

// Diagonal exactly if no path of the lattice leads from one pixel to another.
bool is_diagonal(const Filter& filter) {
    std::vector<int64_t> owner(filter.vertices, -1);
    for (int64_t p = 0; p < filter.pixels; ++p)
        for (int v = 0; v < filter.corners; ++v) {
            int64_t& o = owner[filter.corner[(int64_t)filter.simplex[p] * filter.corners + v]];
            if (o >= 0 && o != p) return false;
            o = p;
        }
    for (const auto& order : filter.order)
        for (size_t i = 0; i + 1 < order.size(); ++i)
            if (order[i] >= 0 && owner[order[i]] != owner[order[i + 1] < 0 ? ~order[i + 1] : order[i + 1]])
                return false;
    return true;
}

void normalize(Filter& filter, Normalization normalization) {
    if (normalization == Normalization::kNone) return;
    std::vector<float> factor = apply_to_ones(filter);
    const bool symmetric = normalization == Normalization::kSymmetric;
    for (float& x : factor) x = symmetric ? 1.0f / std::sqrt(x + 1e-20f) : 1.0f / (x + 1e-20f);
    if (!symmetric) filter.out_weight = filter.in_weight;
    auto& scaled = normalization == Normalization::kAfter ? filter.out_weight : filter.in_weight;
    for (int64_t p = 0; p < filter.pixels; ++p)
        for (int v = 0; v < filter.corners; ++v) scaled[p * filter.corners + v] *= factor[p];
    filter.identity = symmetric && is_diagonal(filter);
}

// Lists, for each vertex, the pixels that it is a corner of.
void list_shares(Filter& filter) {
    const int64_t count = filter.pixels * filter.corners;
    filter.start.assign(filter.vertices + 1, 0);
    auto vertex = [&](int64_t p, int v) {
        return filter.corner[(int64_t)filter.simplex[p] * filter.corners + v];
    };
    for (int64_t p = 0; p < filter.pixels; ++p)
        for (int v = 0; v < filter.corners; ++v) ++filter.start[vertex(p, v)];
    int64_t sum = 0;
    for (int64_t& s : filter.start) {
        sum += s;
        s = sum;
    }
    // Counting down from the ends leaves the starts, and each list in the order of pixels.
    filter.share.resize(count + kFetched);
    for (int64_t p = filter.pixels; p-- > 0;)
        for (int v = 0; v < filter.corners; ++v)
            filter.share[--filter.start[vertex(p, v)]] = {(int32_t)p,
                                                          filter.in_weight[p * filter.corners + v]};
    // Blurring along an axis can double a value at most; none may pass the largest float16, 65504.
    double most = 0;
    for (int64_t v = 0; v < filter.vertices; ++v) {
        double total = 0;
        for (int64_t s = filter.start[v]; s < filter.start[v + 1]; ++s) total += filter.share[s].weight;
        most = std::max(most, total);
    }
    filter.half = most * std::pow(2.0, filter.corners) < 60000;
}

}  // namespace

std::unique_ptr<Points> image_points(int height, int width, double sx, double sy,
                                     const uint8_t* image, const double* srgb) {
    return std::make_unique<ImagePoints>(height, width, sx, sy, image, srgb);
}

std::unique_ptr<Points> feature_points(int dim, int64_t count, const float* feature) {
    return std::make_unique<FeaturePoints>(dim, count, feature);
}

std::shared_ptr<const Filter> build_filter(const Points& points, Normalization normalization,
                                           int threads) {
    if (points.dim < 1 || points.dim > 255)
        throw std::invalid_argument("a kernel needs 1 to 255 features");
    auto filter = std::make_shared<Filter>();
    const int d = points.dim;
    filter->corners = d + 1;
    filter->pixels = points.count;
    filter->gain = (float)(1.0 / (1.0 + std::pow(2.0, -d)));
    filter->in_weight.resize((size_t)points.count * (d + 1));
    const Geometry geometry = plan(points);
    Array<uint64_t> keys((size_t)points.count * geometry.simplex.words);
    run_team(threads, [&](int member) {
        int64_t begin, end;
        share(points.count, member, threads, &begin, &end);
        if (geometry.precise)
            embed_range<double>(points, geometry.simplex, begin, end, keys.data(), filter->in_weight.data());
        else
            embed_range<float>(points, geometry.simplex, begin, end, keys.data(), filter->in_weight.data());
    });
    if (geometry.simplex.words == 1 && geometry.vertex.words == 1)
        connect<1, 1>(geometry, keys, d, *filter);
    else
        connect<0, 0>(geometry, keys, d, *filter);
    normalize(*filter, normalization);
    static double limit = getenv("GL") ? atof(getenv("GL")) : 0.125;
    if (filter->vertices > limit * filter->pixels) list_shares(*filter);
    return filter;
}

}  // namespace densecrf
