// The passes over vertices, and the change of layout of the energies.
#include "row.h"

namespace densecrf {
namespace {

constexpr float kImpossible = -1e30f;
constexpr float kLargest = 3.4028235e38f;
constexpr int kBlurAhead = 12;

template <int W, int V, typename T>
void gather_rows(Columns<W, V>, const GatherPass<T>& a, int column) {
    const T* rows = a.marginal + column;
    for (int64_t v = a.begin; v < a.end; ++v) {
        Vec<W> sum[V];
        for (int b = 0; b < V; ++b) sum[b] = Vec<W>::all(0.0f);
        const Share* last = a.share + a.start[v + 1];
        for (const Share* s = a.share + a.start[v]; s < last; ++s) {
            // The array goes on beyond its last share.
            const T* later = rows + (int64_t)s[kFetched].pixel * a.row;
            for (int b = 0; b < V * W; b += 64 / sizeof(T)) DENSECRF_FETCH(later + b, 0);
            const T* at = rows + (int64_t)s->pixel * a.row;
            const Vec<W> w = Vec<W>::all(s->weight);
            for (int b = 0; b < V; ++b) sum[b] = sum[b] + w * load<W>(at + b * W);
        }
        for (int b = 0; b < V; ++b) store(sum[b], a.table + v * a.row + column + b * W);
    }
}

// Walks each chain of neighbours once, in place: out = in + (previous + next) / 2.
template <int W, int V, typename T>
void blur_chains(Columns<W, V>, T* table, int row, const int32_t* order, int64_t begin,
                 int64_t end) {
    typedef Vec<W> F;
    const F half = F::all(0.5f);
    F before[V], here[V], after[V];
    int64_t i = begin;
    while (i < end) {
        T* at = table + (int64_t)order[i] * row;  // a chain has two vertices or more
        for (int b = 0; b < V; ++b) {
            before[b] = F::all(0.0f);
            here[b] = load<W>(at + b * W);
        }
        for (bool last = false; !last;) {
            int32_t next = order[++i];
            last = next < 0;
            next = last ? ~next : next;
            T* to = table + (int64_t)next * row;
            if (i + kBlurAhead < end) {
                const int32_t later = order[i + kBlurAhead];
                const T* there = table + (int64_t)(later < 0 ? ~later : later) * row;
                for (int b = 0; b < V * W; b += 64 / sizeof(T)) DENSECRF_FETCH(there + b, 1);
            }
            for (int b = 0; b < V; ++b) {
                after[b] = load<W>(to + b * W);
                store(here[b] + half * (before[b] + after[b]), at + b * W);
                before[b] = here[b];
                here[b] = after[b];
            }
            at = to;
        }
        for (int b = 0; b < V; ++b) store(here[b] + half * before[b], at + b * W);
        ++i;
    }
}

template <typename T>
void gather_all(const GatherPass<T>& pass) {
    for_columns(pass.row, [&](auto columns, int column) { gather_rows(columns, pass, column); });
}

template <typename T>
void blur_all(T* table, int row, const int32_t* order, int64_t begin, int64_t end) {
    for_columns(row, [&](auto columns, int column) {
        blur_chains(columns, table + column, row, order, begin, end);
    });
}

// W planes of n negative energies, and in `best` the largest of each pixel so far. Returns whether
// all are numbers.
template <int W>
DENSECRF_INLINE bool read_planes(const float* energy, int64_t plane, int planes, int n, float* best,
                                 float* tile) {
    int flawed = 0;
    for (int c = 0; c < W; ++c) {
        float* to = tile + c * kBlock;
        if (c >= planes) {
            for (int i = 0; i < kBlock; ++i) to[i] = 2.0f * kImpossible;
            continue;
        }
        const float* from = energy + c * plane;
        for (int i = 0; i < n; ++i) {
            const float x = -from[i];
            flawed |= !(x <= kLargest);
            const float y = x > kImpossible ? (x < -kImpossible ? x : -kImpossible) : kImpossible;
            best[i] = best[i] > y ? best[i] : y;
            to[i] = y;
        }
    }
    return !flawed;
}

template <int W>
Flaw logits_width(const float* energy, int64_t plane, int labels, int row, int64_t begin, int64_t end,
                  float* logit) {
    alignas(64) float tile[W * kBlock], best[kBlock];
    bool number = true, possible = true;
    for (int i = 0; i < W * kBlock; ++i) tile[i] = 0.0f;
    for (int64_t first = begin; first < end; first += kBlock) {
        const int n = (int)(end - first < kBlock ? end - first : kBlock);
        for (int i = 0; i < n; ++i) best[i] = kImpossible;
        for (int c = 0; c < row; c += W) {
            number &= read_planes<W>(energy + c * plane + first, plane, labels - c, n, best, tile);
            float* to = logit + first * row + c;
            int i = 0;
            for (; i + W <= n; i += W) transpose<W>(tile + i, kBlock, to + (int64_t)i * row, row);
            for (; i < n; ++i)
                for (int k = 0; k < W; ++k) to[(int64_t)i * row + k] = tile[k * kBlock + i];
        }
        for (int i = 0; i < n; ++i) possible &= best[i] > kImpossible;
    }
    return !number ? kNotFinite : !possible ? kNoLabel : kFine;
}

}  // namespace

namespace DENSECRF_SET {

int row_for(int labels) {
    int width = 4;
    while (width < DENSECRF_WIDTH && width < labels) width *= 2;
    return (labels + width - 1) / width * width;
}

void gather(const GatherPass<float>& pass) { gather_all(pass); }
void blur(float* table, int row, const int32_t* order, int64_t begin, int64_t end) {
    blur_all(table, row, order, begin, end);
}
#if defined(DENSECRF_HALF)
void gather_half(const GatherPass<Half>& pass) { gather_all(pass); }
void blur_half(Half* table, int row, const int32_t* order, int64_t begin, int64_t end) {
    blur_all(table, row, order, begin, end);
}
#endif

Flaw logits(const float* energy, int64_t plane, int labels, int row, int64_t begin, int64_t end,
            float* logit) {
#if DENSECRF_WIDTH >= 16
    if (row % 16 == 0) return logits_width<16>(energy, plane, labels, row, begin, end, logit);
#endif
#if DENSECRF_WIDTH >= 8
    if (row % 8 == 0) return logits_width<8>(energy, plane, labels, row, begin, end, logit);
#endif
    return logits_width<4>(energy, plane, labels, row, begin, end, logit);
}

void merge(float* target, float* source, int64_t size) {
    float* DENSECRF_RESTRICT to = target;
    float* DENSECRF_RESTRICT from = source;
    for (int64_t i = 0; i < size; ++i) {
        to[i] += from[i];
        from[i] = 0.0f;
    }
}

}  // namespace DENSECRF_SET

extern const Passes DENSECRF_TABLE;
const Passes DENSECRF_TABLE = {
    DENSECRF_NAME,        DENSECRF_SET::row_for,     DENSECRF_SET::pixel,
    DENSECRF_SET::gather, DENSECRF_SET::blur,
#if defined(DENSECRF_HALF)
    DENSECRF_SET::gather_half, DENSECRF_SET::blur_half,
#else
    nullptr, nullptr,
#endif
    DENSECRF_SET::logits,
    DENSECRF_SET::merge,  DENSECRF_SET::embed_float, DENSECRF_SET::embed_double};

}  // namespace densecrf
