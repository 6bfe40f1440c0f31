// The passes over vertices, and the change of layout of the energies.
#include "row.h"

namespace densecrf {
namespace {

constexpr float kImpossible = -1e30f;
constexpr int kBlurAhead = 12;
constexpr int kRowsAhead = 2;  // rows of an image between asking for planes and reaching them

template <int W, int V, int Row, typename T>
void gather_rows(const GatherPass<T>& pass, int column) {
    const GatherPass<T> a = pass;
    const int64_t row = Row > 0 ? Row : a.row;
    const T* rows = a.marginal + column;
    for (int64_t v = a.begin; v < a.end; ++v) {
        Vec<W> sum[V];
        DENSECRF_UNROLL for (int b = 0; b < V; ++b) sum[b] = Vec<W>::all(0.0f);
        const Share* last = a.share + a.start[v + 1];
        for (const Share* s = a.share + a.start[v]; s < last; ++s) {
            // The array goes on beyond its last share.
            const T* later = rows + s[kFetched].pixel * row;
            for (int b = 0; b < V * W; b += 64 / sizeof(T)) DENSECRF_FETCH(later + b, 0);
            const T* at = rows + s->pixel * row;
            const Vec<W> w = Vec<W>::all(s->weight);
            DENSECRF_UNROLL for (int b = 0; b < V; ++b) sum[b] = sum[b] + w * load<W>(at + b * W);
        }
        DENSECRF_UNROLL for (int b = 0; b < V; ++b) store(sum[b], a.table + v * row + column + b * W);
    }
}

// Walks each chain of neighbours once, in place: out = in + (previous + next) / 2.
template <int W, int V, int Row, typename T>
void blur_chains(T* table, int floats, const int32_t* order, int64_t begin, int64_t end) {
    const int64_t row = Row > 0 ? Row : floats;
    typedef Vec<W> F;
    const F half = F::all(0.5f);
    F before[V], here[V], after[V];
    int64_t i = begin;
    while (i < end) {
        T* at = table + order[i] * row;  // a chain has two vertices or more
        DENSECRF_UNROLL for (int b = 0; b < V; ++b) {
            before[b] = F::all(0.0f);
            here[b] = load<W>(at + b * W);
        }
        for (bool last = false; !last;) {
            int32_t next = order[++i];
            last = next < 0;
            next = last ? ~next : next;
            T* to = table + next * row;
            if (i + kBlurAhead < end) {
                const int32_t later = order[i + kBlurAhead];
                const T* there = table + (later < 0 ? ~later : later) * row;
                for (int b = 0; b < V * W; b += 64 / sizeof(T)) DENSECRF_FETCH(there + b, 1);
            }
            DENSECRF_UNROLL for (int b = 0; b < V; ++b) {
                after[b] = load<W>(to + b * W);
                store(here[b] + half * (before[b] + after[b]), at + b * W);
                before[b] = here[b];
                here[b] = after[b];
            }
            at = to;
        }
        DENSECRF_UNROLL for (int b = 0; b < V; ++b) store(here[b] + half * before[b], at + b * W);
        ++i;
    }
}

// Calls job(Constant<W>, Constant<vectors>, Constant<floats>, column), see for_row and for_vectors.
template <int W, typename Job>
void for_columns_of(int row, const Job& job) {
    for_row<W>(row, [&](auto floats) {
        for_vectors<W, 4, decltype(floats)::value>(
            row, [&](auto vectors, int column) { job(Constant<W>(), vectors, floats, column); });
    });
}

template <typename Job>
void for_columns(int row, const Job& job) {
#if DENSECRF_WIDTH >= 16
    if (row % 16 == 0) return for_columns_of<16>(row, job);
#endif
#if DENSECRF_WIDTH >= 8
    if (row % 8 == 0) return for_columns_of<8>(row, job);
#endif
    for_columns_of<4>(row, job);
}

template <typename T>
void gather_all(const GatherPass<T>& pass) {
    for_columns(pass.row, [&](auto width, auto vectors, auto floats, int column) {
        gather_rows<decltype(width)::value, decltype(vectors)::value, decltype(floats)::value>(pass, column);
    });
}

template <typename T>
void blur_all(T* table, int row, const int32_t* order, int64_t begin, int64_t end) {
    for_columns(row, [&](auto width, auto vectors, auto floats, int column) {
        blur_chains<decltype(width)::value, decltype(vectors)::value, decltype(floats)::value>(
            table + column, row, order, begin, end);
    });
}

// W values, of which n exist; the others are `odd`.
template <int W>
DENSECRF_INLINE Vec<W> load_some(const float* p, int n, float odd) {
    if (n >= W) return Vec<W>::load(p);
    float some[W];
    for (int i = 0; i < W; ++i) some[i] = i < n ? p[i] : odd;
    return Vec<W>::load(some);
}

// W pixels by W labels at a time.
template <int W>
Flaw logits_width(const float* energy, const Window& window, int labels, int narrow,
                  float* logit) {
    const Vec<W> low = Vec<W>::all(kImpossible), high = Vec<W>::all(-kImpossible);
    Vec<W> worst = high, odd = Vec<W>::all(0.0f);
    for (int y = 0; y < window.height; ++y)
        for (int x = 0; x < window.width; x += W) {
            const float* from = energy + y * window.stride + x;
            const int n = window.width - x < W ? window.width - x : W;
            Vec<W> best = low, a[W];
            for (int c = 0; c < narrow; c += W) {
                for (int k = 0; k < W; ++k) {
                    if (c + k >= labels) {
                        a[k] = Vec<W>::all(kNoLabelHere);
                        continue;
                    }
                    // NaN passes through this maximum, and infinity becomes NaN in the product.
                    const float* at = from + (c + k) * window.plane;
                    DENSECRF_FETCH(at + kRowsAhead * window.stride, 0);
                    const Vec<W> e = load_some<W>(at, n, 0.0f);
                    const Vec<W> z = max(low, Vec<W>::all(0.0f) - e);
                    odd = odd + Vec<W>::all(0.0f) * z;
                    a[k] = min(z, high);
                    best = max(best, a[k]);
                }
                shuffle_rows<W>(a);
                for (int i = 0; i < n; ++i) {
                    float* to = logit + ((int64_t)y * window.width + x + i) * narrow + c;
                    if (c + W <= narrow) a[i].store(to);
                    else store_half(a[i], to);
                }
            }
            worst = min(worst, best);
        }
    float least[W], flaw[W];
    worst.store(least);
    odd.store(flaw);
    bool number = true, possible = true;
    for (int i = 0; i < W; ++i) {
        number &= flaw[i] == 0.0f;
        possible &= least[i] > kImpossible;
    }
    return !number ? kNotFinite : !possible ? kNoLabel : kFine;
}

template <int W>
void planes_width(const float* rows, int row, int labels, const Window& window, float* plane) {
    for (int y = 0; y < window.height; ++y)
        for (int x = 0; x < window.width; x += W) {
            const float* from = rows + ((int64_t)y * window.width + x) * row;
            float* to = plane + y * window.stride + x;
            const int n = window.width - x < W ? window.width - x : W;
            for (int c = 0; c < labels; c += W) {
                const int count = labels - c < W ? labels - c : W;
                Vec<W> a[W];
                for (int i = 0; i < W; ++i) a[i] = Vec<W>::load(from + (i < n ? i : 0) * row + c);
                shuffle_rows<W>(a);
                for (int k = 0; k < count; ++k) {
                    float* at = to + (c + k) * window.plane;
                    DENSECRF_FETCH(at + kRowsAhead * window.stride, 1);
                    if (n == W) {
                        a[k].store(at);
                        continue;
                    }
                    float some[W];
                    a[k].store(some);
                    for (int i = 0; i < n; ++i) at[i] = some[i];
                }
            }
        }
}

template <int W>
DENSECRF_INLINE void merge_vector(float* target, float* const* source, int sources, int64_t at) {
    const Vec<W> zero = Vec<W>::all(0.0f);
    Vec<W> sum = zero;
    for (int s = 0; s < sources; ++s) {
        sum = sum + Vec<W>::load(source[s] + at);
        zero.store(source[s] + at);
    }
    sum.store(target);
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

int narrow_for(int labels) {
    const int row = row_for(labels), narrow = (labels + 7) / 8 * 8;
    return row % 16 == 0 && DENSECRF_WIDTH >= 16 ? narrow : row;
}

Flaw logits(const float* energy, const Window& window, int labels, float* logit) {
    const int row = row_for(labels), narrow = narrow_for(labels);
#if DENSECRF_WIDTH >= 16
    if (row % 16 == 0) return logits_width<16>(energy, window, labels, narrow, logit);
#endif
#if DENSECRF_WIDTH >= 8
    if (row % 8 == 0) return logits_width<8>(energy, window, labels, narrow, logit);
#endif
    return logits_width<4>(energy, window, labels, narrow, logit);
}

void planes(const float* rows, int row, int labels, const Window& window, float* plane) {
#if DENSECRF_WIDTH >= 16
    if (row % 16 == 0) return planes_width<16>(rows, row, labels, window, plane);
#endif
#if DENSECRF_WIDTH >= 8
    if (row % 8 == 0) return planes_width<8>(rows, row, labels, window, plane);
#endif
    return planes_width<4>(rows, row, labels, window, plane);
}

void merge(float* target, float* const* source, int sources, int64_t size) {
    constexpr int W = DENSECRF_WIDTH;
    int64_t i = 0;
    for (; i + W <= size; i += W) merge_vector<W>(target + i, source, sources, i);
    for (; i < size; i += 4) merge_vector<4>(target + i, source, sources, i);
}

}  // namespace DENSECRF_SET

extern const Passes DENSECRF_TABLE;
const Passes DENSECRF_TABLE = {
    DENSECRF_NAME,
    DENSECRF_SET::row_for,
    DENSECRF_SET::pixel,
    DENSECRF_SET::gather,
    DENSECRF_SET::blur,
#if defined(DENSECRF_HALF)
    DENSECRF_SET::gather_half,
    DENSECRF_SET::blur_half,
#else
    nullptr,
    nullptr,
#endif
    DENSECRF_SET::narrow_for,
    DENSECRF_SET::logits,
    DENSECRF_SET::planes,
    DENSECRF_SET::merge,
    DENSECRF_SET::embed_float,
    DENSECRF_SET::embed_double};

}  // namespace densecrf
