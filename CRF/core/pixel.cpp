// The pass over the pixels of a tile: slice, softmax and splat, one after the other over rows that stay
// in the caches.
#include "row.h"

namespace densecrf {
namespace {

constexpr int kAhead = 6;  // runs between asking for rows and reading them

// Vectors of a row dealt with at a time: so many of all corners, of sums and of weights fit the registers.
constexpr int kOfThree = DENSECRF_WIDTH >= 16 ? 4 : 3, kOfSix = 2;

// Rows of the simplex of a run that comes later.
template <typename T>
DENSECRF_INLINE void fetch_run(const TermView& t, int corners, const Run* run, const T* value, int64_t row) {
    if (run + kAhead >= t.run + t.runs) return;
    const int32_t* corner = t.corner + (int64_t)run[kAhead].simplex * corners;
    for (int v = 0; v < corners; ++v)
        for (int64_t i = 0; i < row; i += 64 / sizeof(T)) DENSECRF_FETCH(value + corner[v] * row + i, 0);
}

// stage = scale * message, or += where `Add`, run by run: the rows of a simplex are read once for all its
// pixels.
template <int Corners, int W, int Row, bool Add, typename T>
void slice_runs(const TermView& view, const T* value, int floats, float* stage) {
    const TermView t = view;
    const int64_t row = Row > 0 ? Row : floats;
    const Vec<W> scale = Vec<W>::all(t.scale);
    const float* weights = t.out_weight;
    const uint16_t* place = t.place;
    for (const Run* run = t.run; run < t.run + t.runs; ++run) {
        fetch_run(t, Corners, run, value, row);
        const int32_t* corner = t.corner + (int64_t)run->simplex * Corners;
        const int count = run->count;
        const T* source[Corners];
        DENSECRF_UNROLL for (int v = 0; v < Corners; ++v) source[v] = value + corner[v] * row;
        for_vectors<W, Corners == 3 ? kOfThree : kOfSix, Row>(floats, [&](auto vectors, int column) {
            constexpr int V = decltype(vectors)::value;
            Vec<W> at[Corners][V];
            DENSECRF_UNROLL for (int v = 0; v < Corners; ++v)
                DENSECRF_UNROLL for (int b = 0; b < V; ++b) at[v][b] = load<W>(source[v] + column + b * W);
            int i = 0;
            do {
                float* to = stage + place[i] * row + column;
                const float* weight = weights + i * Corners;
                Vec<W> sum[V];
                DENSECRF_UNROLL for (int v = 0; v < Corners; ++v) {
                    const Vec<W> w = Vec<W>::all(weight[v]);
                    DENSECRF_UNROLL for (int b = 0; b < V; ++b)
                        sum[b] = v ? sum[b] + w * at[v][b] : w * at[v][b];
                }
                DENSECRF_UNROLL for (int b = 0; b < V; ++b) {
                    sum[b] = scale * sum[b];
                    if (Add) sum[b] = sum[b] + Vec<W>::load(to + b * W);
                    sum[b].store(to + b * W);
                }
            } while (++i < count);
        });
        weights += count * Corners;
        place += count;
    }
}

// The rows of a simplex are read and written once, with what all its pixels add.
template <int Corners, int W, int Row>
void splat_runs(const TermView& view, int floats, const float* stage) {
    const TermView t = view;
    const int64_t row = Row > 0 ? Row : floats;
    const float* weights = t.in_weight;
    const uint16_t* place = t.place;
    float* first = t.sum - t.first * row;
    for (const Run* run = t.run; run < t.run + t.runs; ++run) {
        fetch_run(t, Corners, run, first, row);
        const int32_t* corner = t.corner + (int64_t)run->simplex * Corners;
        const int count = run->count;
        float* target[Corners];
        DENSECRF_UNROLL for (int v = 0; v < Corners; ++v) target[v] = first + corner[v] * row;
        for_vectors<W, Corners == 3 ? kOfThree : kOfSix, Row>(floats, [&](auto vectors, int column) {
            constexpr int V = decltype(vectors)::value;
            Vec<W> sum[Corners][V];
            DENSECRF_UNROLL for (int v = 0; v < Corners; ++v)
                DENSECRF_UNROLL for (int b = 0; b < V; ++b) sum[v][b] = Vec<W>::load(target[v] + column + b * W);
            int i = 0;
            do {
                const float* from = stage + place[i] * row + column;
                const float* weight = weights + i * Corners;
                Vec<W> q[V];
                DENSECRF_UNROLL for (int b = 0; b < V; ++b) q[b] = Vec<W>::load(from + b * W);
                DENSECRF_UNROLL for (int v = 0; v < Corners; ++v) {
                    const Vec<W> w = Vec<W>::all(weight[v]);
                    DENSECRF_UNROLL for (int b = 0; b < V; ++b) sum[v][b] = sum[v][b] + w * q[b];
                }
            } while (++i < count);
            DENSECRF_UNROLL for (int v = 0; v < Corners; ++v)
                DENSECRF_UNROLL for (int b = 0; b < V; ++b) sum[v][b].store(target[v] + column + b * W);
        });
        weights += count * Corners;
        place += count;
    }
}

// The same for any number of corners.
template <int W, typename T>
void slice_any(const TermView& t, const T* value, int row, bool add, float* stage) {
    const float* weight = t.out_weight;
    const uint16_t* place = t.place;
    for (const Run* run = t.run; run < t.run + t.runs; ++run) {
        fetch_run(t, t.corners, run, value, row);
        const int32_t* corner = t.corner + (int64_t)run->simplex * t.corners;
        for (int i = run->count; i > 0; --i, weight += t.corners) {
            float* to = stage + (int64_t)*place++ * row;
            for (int c = 0; c < row; c += W) {
                Vec<W> sum = Vec<W>::all(0.0f);
                for (int v = 0; v < t.corners; ++v)
                    sum = sum + Vec<W>::all(weight[v]) * load<W>(value + (int64_t)corner[v] * row + c);
                sum = Vec<W>::all(t.scale) * sum;
                if (add) sum = sum + Vec<W>::load(to + c);
                sum.store(to + c);
            }
        }
    }
}

template <int W>
void splat_any(const TermView& t, int row, const float* stage) {
    const float* weight = t.in_weight;
    const uint16_t* place = t.place;
    for (const Run* run = t.run; run < t.run + t.runs; ++run) {
        const int32_t* corner = t.corner + (int64_t)run->simplex * t.corners;
        for (int i = run->count; i > 0; --i, weight += t.corners) {
            const float* from = stage + (int64_t)*place++ * row;
            for (int v = 0; v < t.corners; ++v) {
                float* at = t.sum + (int64_t)(corner[v] - t.first) * row;
                for (int c = 0; c < row; c += W)
                    (Vec<W>::load(at + c) + Vec<W>::all(weight[v]) * Vec<W>::load(from + c)).store(at + c);
            }
        }
    }
}

template <int W, bool Add, typename T>
DENSECRF_INLINE void slice_rows(const TermView& t, const T* value, int row, float* stage) {
    for_row<W>(row, [&](auto floats) {
        constexpr int Row = decltype(floats)::value;
        if (t.corners == 3) slice_runs<3, W, Row, Add>(t, value, row, stage);
        else slice_runs<6, W, Row, Add>(t, value, row, stage);
    });
}

template <int W, typename T>
DENSECRF_INLINE void slice_term(const TermView& t, const T* value, int row, bool add, float* stage) {
    if (t.corners != 3 && t.corners != 6) slice_any<W>(t, value, row, add, stage);
    else if (add) slice_rows<W, true>(t, value, row, stage);
    else slice_rows<W, false>(t, value, row, stage);
}

template <int W>
DENSECRF_INLINE void splat_term(const TermView& t, int row, const float* stage) {
    if (t.corners != 3 && t.corners != 6) return splat_any<W>(t, row, stage);
    for_row<W>(row, [&](auto floats) {
        constexpr int Row = decltype(floats)::value;
        if (t.corners == 3) splat_runs<3, W, Row>(t, row, stage);
        else splat_runs<6, W, Row>(t, row, stage);
    });
}

template <int W, typename Join>
DENSECRF_INLINE float fold(Vec<W> a, Join join) {
    float lane[W];
    a.store(lane);
    for (int i = 1; i < W; ++i) lane[0] = join(lane[0], lane[i]);
    return lane[0];
}

// exp(rows) / sum for n rows, in place, however many and large the values.
template <int W>
void softmax_long(float* rows, int n, int row) {
    for (int i = 0; i < n; ++i, rows += row) {
        Vec<W> top = Vec<W>::load(rows), sum = Vec<W>::all(0.0f);
        for (int c = W; c < row; c += W) top = max(top, Vec<W>::load(rows + c));
        const Vec<W> largest = Vec<W>::all(fold<W>(top, [](float a, float b) { return a > b ? a : b; }));
        for (int c = 0; c < row; c += W) {
            const Vec<W> e = exp_of(Vec<W>::load(rows + c) - largest);
            e.store(rows + c);
            sum = sum + e;
        }
        const Vec<W> factor = Vec<W>::all(1.0f / fold<W>(sum, [](float a, float b) { return a + b; }));
        for (int c = 0; c < row; c += W) (Vec<W>::load(rows + c) * factor).store(rows + c);
    }
}

template <int W>
DENSECRF_INLINE bool all_within(Vec<W> x, float low, float high) {
    alignas(64) float lane[W];
    x.store(lane);
    int odd = 0;
    for (int i = 0; i < W; ++i) odd |= !(lane[i] > low && lane[i] < high);
    return !odd;
}
#if DENSECRF_WIDTH >= 8
DENSECRF_INLINE bool all_within(Vec<8> x, float low, float high) {
    __m256 y;
    std::memcpy(&y, &x, sizeof(y));
    return _mm256_movemask_ps(_mm256_and_ps(_mm256_cmp_ps(y, _mm256_set1_ps(low), _CMP_GT_OQ),
                                            _mm256_cmp_ps(y, _mm256_set1_ps(high), _CMP_LT_OQ))) == 0xff;
}
#endif

// W floats from column c of a row of logits. Whole: no row ends within them.
template <int W, bool Whole>
DENSECRF_INLINE Vec<W> load_logit(const float* row, int c, int narrow) {
    if (Whole || c + W <= narrow) return Vec<W>::load(row + c);
    return load_half<W>(row + c);
}

// stage += logit + self * marginals, or marginals alone where there is no logit, for pixels first ..
// first + n - 1.
template <int W>
void add_rows(const PixelPass& a, int first, int n) {
    for (int i = first; i < first + n; ++i) {
        float* stage = a.stage + (int64_t)i * a.row;
        const float* marginal = a.marginal_in ? a.marginal_in + (int64_t)i * a.row : nullptr;
        const float* logit = a.logit ? a.logit + (int64_t)i * a.narrow : nullptr;
        for (int c = 0; c < a.row; c += W) {
            Vec<W> sum = Vec<W>::load(stage + c);
            if (logit) sum = sum + load_logit<W, false>(logit, c, a.narrow);
            if (!logit) sum = sum + Vec<W>::load(marginal + c);
            else if (a.slice && a.self != 0.0f) sum = sum + Vec<W>::all(a.self) * Vec<W>::load(marginal + c);
            sum.store(stage + c);
        }
    }
}

// Softmax of stage + logit + self * marginals, in place. V: vectors of a row, 0 = any number; Whole: rows
// of logits are as long. Exponentials of what networks and kernels give stay in the range of floats
// without taking the largest off; where they do not, that is done. Rows that follow are asked for.
template <int W, int V, bool Whole>
void softmax_rows(const PixelPass& a) {
    constexpr int kLater = 64;
    const int vectors = V > 0 ? V : a.row / W, narrow = Whole ? vectors * W : a.narrow;
    const int64_t row = vectors * W;
    const bool self = a.slice && a.self != 0.0f;
    const Vec<W> factor_self = Vec<W>::all(a.self);
    float *rows = a.stage, *kept = a.kept;
    const float *logit = a.logit, *marginal = a.marginal_in;
    alignas(64) float factor[W];
    for (int first = 0; first < a.n; first += W, rows += W * row, logit += W * narrow) {
        const int n = a.n - first < W ? a.n - first : W;
        Vec<W> sum[W];
        for (int i = 0; i < W; ++i) {
            const int pixel = i < n ? i : 0;
            const float* from = logit + (int64_t)pixel * narrow;
            for (int c = 0; c < narrow; c += 16) DENSECRF_FETCH(from + (int64_t)kLater * narrow + c, 0);
            DENSECRF_UNROLL for (int b = 0; b < vectors; ++b) {
                Vec<W> x = Vec<W>::load(rows + pixel * row + b * W) + load_logit<W, Whole>(from, b * W, narrow);
                if (self) x = x + factor_self * Vec<W>::load(marginal + (first + pixel) * row + b * W);
                const Vec<W> e = exp_of(x);
                e.store(kept + i * row + b * W);
                sum[i] = b ? sum[i] + e : e;
            }
        }
        const Vec<W> all = row_totals(sum);
        (Vec<W>::all(1.0f) / all).store(factor);
        const bool odd = !all_within(all, 1e-20f, 1e30f);
        if (odd) {
            add_rows<W>(a, first, n);
            softmax_long<W>(rows, n, (int)row);
            continue;
        }
        for (int i = 0; i < n; ++i)
            DENSECRF_UNROLL for (int b = 0; b < vectors; ++b)
                (Vec<W>::load(kept + i * row + b * W) * Vec<W>::all(factor[i]))
                    .store(rows + i * row + b * W);
    }
}

template <int W>
DENSECRF_INLINE void softmax(const PixelPass& a) {
    const bool whole = a.narrow == a.row;
    switch (a.row / W) {
        case 1: return softmax_rows<W, 1, true>(a);
        case 2: return whole ? softmax_rows<W, 2, true>(a) : softmax_rows<W, 2, false>(a);
        case 3: return whole ? softmax_rows<W, 3, true>(a) : softmax_rows<W, 3, false>(a);
        default: return softmax_rows<W, 0, false>(a);
    }
}

template <int W>
void pixel_width(const PixelPass& a) {
    const int64_t size = (int64_t)a.n * a.row;
    const bool slice = a.slice && a.terms > 0;
    for (int64_t i = 0; !slice && i < size; i += W) Vec<W>::all(0.0f).store(a.stage + i);
    for (int k = 0; slice && k < a.terms; ++k) {
        const TermView& t = a.term[k];
        if (t.value) slice_term<W>(t, t.value, a.row, k > 0, a.stage);
#if defined(DENSECRF_HALF)
        else slice_term<W>(t, t.half_value, a.row, k > 0, a.stage);
#endif
    }
    if (a.softmax) softmax<W>(a);
    else add_rows<W>(a, 0, a.n);
    for (int k = 0; a.splat && k < a.terms; ++k)
        if (a.term[k].sum) splat_term<W>(a.term[k], a.row, a.stage);
    for (int64_t i = 0; a.marginal_out && i < size; i += W)
        Vec<W>::load(a.stage + i).store(a.marginal_out + i);
#if defined(DENSECRF_HALF)
    for (int64_t i = 0; a.half_out && i < size; i += W) store(load<W>(a.stage + i), a.half_out + i);
#endif
}

}  // namespace

void DENSECRF_SET::pixel(const PixelPass& pass) {
#if DENSECRF_WIDTH >= 16
    if (pass.row % 16 == 0) return pixel_width<16>(pass);
#endif
#if DENSECRF_WIDTH >= 8
    if (pass.row % 8 == 0) return pixel_width<8>(pass);
#endif
    pixel_width<4>(pass);
}

}  // namespace densecrf
