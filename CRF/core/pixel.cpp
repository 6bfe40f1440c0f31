// The pass over the pixels of a tile: slice, softmax and splat, one after the other over rows that stay
// in the caches.
#include "row.h"

namespace densecrf {
namespace {

constexpr int kAhead = 6;  // runs between asking for rows and reading them

// Rows of the simplex of a run that comes later.
template <typename T>
DENSECRF_INLINE void fetch_run(const TermView& t, const Run* run, const T* value, int64_t row) {
    if (run + kAhead >= t.run + t.runs) return;
    const int32_t* corner = t.corner + (int64_t)run[kAhead].simplex * t.corners;
    for (int v = 0; v < t.corners; ++v)
        for (int64_t i = 0; i < row; i += 64 / sizeof(T)) DENSECRF_FETCH(value + corner[v] * row + i, 0);
}

// stage += scale * message, run by run: the rows of a simplex are read once for all its pixels.
template <int Corners, int W, int V, bool Whole, typename T>
void slice_runs(Columns<W, V, Whole> columns, const TermView& view, const T* value, int floats,
                int column, float* stage) {
    const TermView t = view;
    const int64_t row = columns.stride(floats);
    const Vec<W> scale = Vec<W>::all(t.scale);
    const float* weight = t.out_weight;
    const uint16_t* place = t.place;
    stage += column;
    for (const Run* run = t.run; run < t.run + t.runs; ++run) {
        fetch_run(t, run, value, row);
        const int32_t* corner = t.corner + (int64_t)run->simplex * Corners;
        Vec<W> at[Corners][V];
        for (int v = 0; v < Corners; ++v)
            for (int b = 0; b < V; ++b) at[v][b] = load<W>(value + corner[v] * row + column + b * W);
        for (int i = run->count; i > 0; --i, weight += Corners) {
            float* to = stage + *place++ * row;
            Vec<W> sum[V];
            for (int v = 0; v < Corners; ++v) {
                const Vec<W> w = Vec<W>::all(weight[v]);
                for (int b = 0; b < V; ++b) sum[b] = v ? sum[b] + w * at[v][b] : w * at[v][b];
            }
            for (int b = 0; b < V; ++b) (Vec<W>::load(to + b * W) + scale * sum[b]).store(to + b * W);
        }
    }
}

// The rows of a simplex are read and written once, with what all its pixels add.
template <int Corners, int W, int V, bool Whole>
void splat_runs(Columns<W, V, Whole> columns, const TermView& view, int floats, int column,
                const float* stage) {
    const TermView t = view;
    const int64_t row = columns.stride(floats);
    const float* weight = t.in_weight;
    const uint16_t* place = t.place;
    float* target = t.sum - t.first * row + column;
    stage += column;
    for (const Run* run = t.run; run < t.run + t.runs; ++run) {
        fetch_run(t, run, target, row);
        const int32_t* corner = t.corner + (int64_t)run->simplex * Corners;
        Vec<W> sum[Corners][V];
        for (int v = 0; v < Corners; ++v)
            for (int b = 0; b < V; ++b) sum[v][b] = Vec<W>::load(target + corner[v] * row + b * W);
        for (int i = run->count; i > 0; --i, weight += Corners) {
            const float* from = stage + *place++ * row;
            Vec<W> q[V];
            for (int b = 0; b < V; ++b) q[b] = Vec<W>::load(from + b * W);
            for (int v = 0; v < Corners; ++v) {
                const Vec<W> w = Vec<W>::all(weight[v]);
                for (int b = 0; b < V; ++b) sum[v][b] = sum[v][b] + w * q[b];
            }
        }
        for (int v = 0; v < Corners; ++v)
            for (int b = 0; b < V; ++b) sum[v][b].store(target + corner[v] * row + b * W);
    }
}

// The same for any number of corners.
template <int W, typename T>
void slice_any(const TermView& t, const T* value, int row, float* stage) {
    const float* weight = t.out_weight;
    const uint16_t* place = t.place;
    for (const Run* run = t.run; run < t.run + t.runs; ++run) {
        fetch_run(t, run, value, row);
        const int32_t* corner = t.corner + (int64_t)run->simplex * t.corners;
        for (int i = run->count; i > 0; --i, weight += t.corners) {
            float* to = stage + (int64_t)*place++ * row;
            for (int c = 0; c < row; c += W) {
                Vec<W> sum = Vec<W>::all(0.0f);
                for (int v = 0; v < t.corners; ++v)
                    sum = sum + Vec<W>::all(weight[v]) * load<W>(value + (int64_t)corner[v] * row + c);
                (Vec<W>::load(to + c) + Vec<W>::all(t.scale) * sum).store(to + c);
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

// Six corners of two vectors each are what the registers hold beside sums and weights.
template <int W, typename T>
DENSECRF_INLINE void slice_term(const TermView& t, const T* value, int row, float* stage) {
    if (t.corners == 3)
        for_vectors<W>(row, [&](auto columns, int column) {
            slice_runs<3>(columns, t, value, row, column, stage);
        });
    else if (t.corners == 6)
        for_vectors<W, 2>(row, [&](auto columns, int column) {
            slice_runs<6>(columns, t, value, row, column, stage);
        });
    else
        slice_any<W>(t, value, row, stage);
}

template <int W>
DENSECRF_INLINE void splat_term(const TermView& t, int row, const float* stage) {
    if (t.corners == 3)
        for_vectors<W>(row, [&](auto columns, int column) {
            splat_runs<3>(columns, t, row, column, stage);
        });
    else if (t.corners == 6)
        for_vectors<W, 2>(row, [&](auto columns, int column) {
            splat_runs<6>(columns, t, row, column, stage);
        });
    else
        splat_any<W>(t, row, stage);
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

// exp(rows) / sum for n rows, in place; memory goes on to a multiple of W rows. `kept`: room for W rows.
// V: vectors of a row, 0 = any number. Exponentials of what networks and kernels give stay in the range of
// floats without taking the largest off; where they do not, that is done.
template <int W, int V>
void softmax_rows(float* rows, float* kept, int n, int floats) {
    const int vectors = V > 0 ? V : floats / W;
    const int64_t row = vectors * W;
    alignas(64) float total[W], factor[W];
    for (int first = 0; first < n; first += W, rows += W * row) {
        Vec<W> sum[W];
        for (int i = 0; i < W; ++i)
            for (int b = 0; b < vectors; ++b) {
                const Vec<W> e = exp_of(Vec<W>::load(rows + i * row + b * W));
                e.store(kept + i * row + b * W);
                sum[i] = b ? sum[i] + e : e;
            }
        const Vec<W> all = totals<W>(sum);
        all.store(total);
        (Vec<W>::all(1.0f) / all).store(factor);
        int odd = 0;
        for (int i = 0; i < W; ++i) odd |= !(total[i] > 1e-20f && total[i] < 1e30f) & (first + i < n);
        if (odd) {
            softmax_long<W>(rows, W, (int)row);
            continue;
        }
        for (int i = 0; i < W; ++i)
            for (int b = 0; b < vectors; ++b)
                (Vec<W>::load(kept + i * row + b * W) * Vec<W>::all(factor[i]))
                    .store(rows + i * row + b * W);
    }
}

template <int W>
DENSECRF_INLINE void softmax(const PixelPass& a) {
    switch (a.row / W) {
        case 1: return softmax_rows<W, 1>(a.stage, a.kept, a.n, a.row);
        case 2: return softmax_rows<W, 2>(a.stage, a.kept, a.n, a.row);
        case 3: return softmax_rows<W, 3>(a.stage, a.kept, a.n, a.row);
        default: return softmax_rows<W, 0>(a.stage, a.kept, a.n, a.row);
    }
}

// stage = logit, or marginals where there are none, + self * marginals. Later rows, those of the next
// tile among them, are asked for.
template <int W>
void begin_rows(const PixelPass& a) {
    constexpr int kLater = 64;
    float* stage = a.stage;
    for (int i = 0; i < a.n; ++i, stage += a.row) {
        const float* marginal = a.marginal_in ? a.marginal_in + (int64_t)i * a.row : nullptr;
        if (!a.logit) {
            for (int c = 0; c < a.row; c += W) Vec<W>::load(marginal + c).store(stage + c);
            continue;
        }
        const float* from = a.logit + (int64_t)i * a.narrow;
        for (int c = 0; c < a.narrow; c += 16) DENSECRF_FETCH(from + (int64_t)kLater * a.narrow + c, 0);
        int c = 0;
        for (; c + W <= a.narrow; c += W) Vec<W>::load(from + c).store(stage + c);
        if (c < a.row) load_half<W>(from + c).store(stage + c);
        if (a.slice && a.self != 0.0f)
            for (int k = 0; k < a.row; k += W)
                (Vec<W>::load(stage + k) + Vec<W>::all(a.self) * Vec<W>::load(marginal + k)).store(stage + k);
    }
}

template <int W>
void pixel_width(const PixelPass& a) {
    begin_rows<W>(a);
    for (int k = 0; a.slice && k < a.terms; ++k) {
        const TermView& t = a.term[k];
        if (t.value) slice_term<W>(t, t.value, a.row, a.stage);
#if defined(DENSECRF_HALF)
        else slice_term<W>(t, t.half_value, a.row, a.stage);
#endif
    }
    if (a.softmax) softmax<W>(a);
    for (int k = 0; a.splat && k < a.terms; ++k)
        if (a.term[k].sum) splat_term<W>(a.term[k], a.row, a.stage);
    const int64_t size = (int64_t)a.n * a.row;
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
