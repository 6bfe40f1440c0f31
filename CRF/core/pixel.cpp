// The pass over the pixels of a tile: slice, softmax and splat, stage by stage over a few rows that stay
// in the first-level cache.
#include "row.h"

namespace densecrf {
namespace {

constexpr int kAhead = 8;  // pixels between asking for rows and reading them

template <typename T>
DENSECRF_INLINE void fetch_rows(const TermView& t, const T* value, int slot, int row) {
    const int32_t* corner = t.corner + (int64_t)t.simplex[slot] * t.corners;
    for (int v = 0; v < t.corners; ++v)
        for (int i = 0; i < row; i += 64 / sizeof(T))
            DENSECRF_FETCH(value + (int64_t)corner[v] * row + i, 0);
}

// stage += scale * message, for n pixels from slot `first` on. Corners = 0 stands for a number known
// only at run time.
template <int W, int V, int Corners, typename T>
void slice_rows(const TermView& t, const T* value, int first, int n, int row, int column, float* stage) {
    const int corners = Corners > 0 ? Corners : t.corners;
    const Vec<W> scale = Vec<W>::all(t.scale);
    const float* weight = t.out_weight + (int64_t)first * corners;
    for (int i = 0; i < n; ++i, weight += corners) {
        const int32_t* corner = t.corner + (int64_t)t.simplex[first + i] * corners;
        Vec<W> sum[V];
        for (int b = 0; b < V; ++b) sum[b] = Vec<W>::all(0.0f);
        for (int v = 0; v < corners; ++v) {
            const T* at = value + (int64_t)corner[v] * row + column;
            const Vec<W> w = Vec<W>::all(weight[v]);
            for (int b = 0; b < V; ++b) sum[b] = sum[b] + w * load<W>(at + b * W);
        }
        float* to = stage + (int64_t)i * row + column;
        for (int b = 0; b < V; ++b) (Vec<W>::load(to + b * W) + scale * sum[b]).store(to + b * W);
    }
}

template <int W, int V, int Corners>
void splat_rows(const TermView& t, int first, int n, int row, int column, const float* from) {
    const int corners = Corners > 0 ? Corners : t.corners;
    const float* weight = t.in_weight + (int64_t)first * corners;
    for (int i = 0; i < n; ++i, weight += corners) {
        const int32_t* corner = t.corner + (int64_t)t.simplex[first + i] * corners;
        Vec<W> q[V];
        for (int b = 0; b < V; ++b) q[b] = Vec<W>::load(from + (int64_t)i * row + column + b * W);
        for (int v = 0; v < corners; ++v) {
            float* at = t.sum + (int64_t)(corner[v] - t.first) * row + column;
            const Vec<W> w = Vec<W>::all(weight[v]);
            for (int b = 0; b < V; ++b) (Vec<W>::load(at + b * W) + w * q[b]).store(at + b * W);
        }
    }
}

// The same run by run: the rows of a simplex are read and written once for all its pixels.
template <int W, int V, int Corners, typename T>
void slice_runs(const TermView& t, const T* value, const Run* run, int first, int n, int row, int column,
                float* stage) {
    const Vec<W> scale = Vec<W>::all(t.scale);
    const float* weight = t.out_weight + (int64_t)first * Corners;
    stage += column;
    for (const float* end = stage + (int64_t)n * row; stage < end; ++run) {
        const int32_t* corner = t.corner + (int64_t)run->simplex * Corners;
        Vec<W> at[Corners][V];
        for (int v = 0; v < Corners; ++v)
            for (int b = 0; b < V; ++b)
                at[v][b] = scale * load<W>(value + (int64_t)corner[v] * row + column + b * W);
        for (int i = run->count; i > 0; --i, stage += row, weight += Corners) {
            Vec<W> sum[V];
            for (int b = 0; b < V; ++b) sum[b] = Vec<W>::load(stage + b * W);
            for (int v = 0; v < Corners; ++v) {
                const Vec<W> w = Vec<W>::all(weight[v]);
                for (int b = 0; b < V; ++b) sum[b] = sum[b] + w * at[v][b];
            }
            for (int b = 0; b < V; ++b) sum[b].store(stage + b * W);
        }
    }
}

template <int W, int V, int Corners>
void splat_runs(const TermView& t, const Run* run, int first, int n, int row, int column,
                const float* from) {
    const float* weight = t.in_weight + (int64_t)first * Corners;
    from += column;
    for (const float* end = from + (int64_t)n * row; from < end; ++run) {
        Vec<W> sum[Corners][V];
        for (int v = 0; v < Corners; ++v) {
            const Vec<W> w = Vec<W>::all(weight[v]);
            for (int b = 0; b < V; ++b) sum[v][b] = w * Vec<W>::load(from + b * W);
        }
        from += row;
        weight += Corners;
        for (int i = run->count; i > 1; --i, from += row, weight += Corners) {
            Vec<W> q[V];
            for (int b = 0; b < V; ++b) q[b] = Vec<W>::load(from + b * W);
            for (int v = 0; v < Corners; ++v) {
                const Vec<W> w = Vec<W>::all(weight[v]);
                for (int b = 0; b < V; ++b) sum[v][b] = sum[v][b] + w * q[b];
            }
        }
        const int32_t* corner = t.corner + (int64_t)run->simplex * Corners;
        for (int v = 0; v < Corners; ++v) {
            float* at = t.sum + (int64_t)(corner[v] - t.first) * row + column;
            for (int b = 0; b < V; ++b) (Vec<W>::load(at + b * W) + sum[v][b]).store(at + b * W);
        }
    }
}

// Six corners of two vectors each are what the registers hold beside sums and weights.
template <int W, typename T>
DENSECRF_INLINE void slice_term(const TermView& t, const T* value, const Run* run, int first, int n,
                                int row, float* stage) {
    if (run && t.corners == 6)
        return for_vectors<W, 2>(row, [&](auto columns, int column) {
            slice_runs<W, columns.count, 6>(t, value, run, first, n, row, column, stage);
        });
    for_vectors<W>(row, [&](auto columns, int column) {
        constexpr int V = columns.count;
        if (run) slice_runs<W, V, 3>(t, value, run, first, n, row, column, stage);
        else if (t.corners == 3) slice_rows<W, V, 3>(t, value, first, n, row, column, stage);
        else if (t.corners == 6) slice_rows<W, V, 6>(t, value, first, n, row, column, stage);
        else slice_rows<W, V, 0>(t, value, first, n, row, column, stage);
    });
}

template <int W>
DENSECRF_INLINE void splat_term(const TermView& t, const Run* run, int first, int n, int row,
                                const float* from) {
    if (run && t.corners == 6)
        return for_vectors<W, 2>(row, [&](auto columns, int column) {
            splat_runs<W, columns.count, 6>(t, run, first, n, row, column, from);
        });
    for_vectors<W>(row, [&](auto columns, int column) {
        constexpr int V = columns.count;
        if (run) splat_runs<W, V, 3>(t, run, first, n, row, column, from);
        else if (t.corners == 3) splat_rows<W, V, 3>(t, first, n, row, column, from);
        else if (t.corners == 6) splat_rows<W, V, 6>(t, first, n, row, column, from);
        else splat_rows<W, V, 0>(t, first, n, row, column, from);
    });
}

// exp(rows) / sum for W pixels, however large the values.
template <int W>
void softmax_shifted(const float* rows, float* to, int row) {
    for (int i = 0; i < W; ++i, rows += row, to += row) {
        float top = rows[0], sum = 0;
        for (int c = 1; c < row; ++c) top = rows[c] > top ? rows[c] : top;
        for (int c = 0; c < row; c += W)
            exp_of(Vec<W>::load(rows + c) - Vec<W>::all(top)).store(to + c);
        for (int c = 0; c < row; ++c) sum += to[c];
        for (int c = 0; c < row; c += W)
            (Vec<W>::load(to + c) * Vec<W>::all(1.0f / sum)).store(to + c);
    }
}

// exp(rows) / sum for n rows, a multiple of W, of V vectors; V = 0: of any number. Exponentials of what
// networks and kernels give stay in the range of floats without taking the largest off; where they do
// not, that is done. `valid` rows hold pixels.
template <int W, int V>
void softmax_rows(const float* rows, float* to, int n, int valid, int row) {
    const int vectors = V > 0 ? V : row / W;
    for (int first = 0; first < n; first += W, rows += (int64_t)W * row, to += (int64_t)W * row) {
        Vec<W> sum[W];
        for (int i = 0; i < W; ++i) {
            sum[i] = exp_of(Vec<W>::load(rows + i * row));
            sum[i].store(to + i * row);
            for (int b = 1; b < vectors; ++b) {
                const Vec<W> e = exp_of(Vec<W>::load(rows + i * row + b * W));
                e.store(to + i * row + b * W);
                sum[i] = sum[i] + e;
            }
        }
        alignas(64) float total[W], factor[W];
        const Vec<W> all = totals<W>(sum);
        all.store(total);
        (Vec<W>::all(1.0f) / all).store(factor);
        int odd = 0;
        for (int i = 0; i < W; ++i) odd |= !(total[i] > 1e-20f && total[i] < 1e30f) & (first + i < valid);
        if (odd) {
            softmax_shifted<W>(rows, to, row);
            continue;
        }
        for (int i = 0; i < W; ++i)
            for (int b = 0; b < vectors; ++b) {
                float* at = to + i * row + b * W;
                (Vec<W>::load(at) * Vec<W>::all(factor[i])).store(at);
            }
    }
}

template <int W>
DENSECRF_INLINE void softmax(const float* rows, float* to, int n, int row) {
    const int whole = (n + W - 1) / W * W;
    switch (row / W) {
        case 1: return softmax_rows<W, 1>(rows, to, whole, n, row);
        case 2: return softmax_rows<W, 2>(rows, to, whole, n, row);
        case 3: return softmax_rows<W, 3>(rows, to, whole, n, row);
        default: return softmax_rows<W, 0>(rows, to, whole, n, row);
    }
}

template <int W>
DENSECRF_INLINE void copy_row(const float* from, float* to, int row) {
    for (int c = 0; c < row; c += W) Vec<W>::load(from + c).store(to + c);
}

// stage = logit, or marginals where there are none, + self * marginals. The next rows are asked for.
template <int W>
void begin_rows(const PixelPass& a, int first, int n, float* stage) {
    constexpr int kLater = kStage;
    for (int i = 0; i < n; ++i, stage += a.row) {
        const float* marginal = a.marginal_in + (a.marginal_in ? (int64_t)a.place[first + i] * a.row : 0);
        if (!a.logit) {
            copy_row<W>(marginal, stage, a.row);
            continue;
        }
        const float* from = a.logit + (int64_t)(first + i) * a.narrow;
        for (int c = 0; c < a.narrow; c += 16) DENSECRF_FETCH(from + (int64_t)kLater * a.narrow + c, 0);
        int c = 0;
        for (; c + W <= a.narrow; c += W) Vec<W>::load(from + c).store(stage + c);
        if (c < a.row) load_half<W>(from + c).store(stage + c);
        if (a.slice && a.self != 0.0f)
            for (int k = 0; k < a.row; k += W)
                (Vec<W>::load(stage + k) + Vec<W>::all(a.self) * Vec<W>::load(marginal + k)).store(stage + k);
    }
}

template <int W, typename T>
DENSECRF_INLINE void slice_stage(const PixelPass& a, const TermView& t, const T* value, const Run* run,
                                 int first, int n, float* stage) {
    for (int i = 0; t.ahead && i < n && first + i + kAhead < a.n; ++i)
        fetch_rows(t, value, first + i + kAhead, a.row);
    slice_term<W>(t, value, run, first, n, a.row, stage);
}

template <int W>
void pixel_width(const PixelPass& a) {
    const int row = a.row;
    float* stage = a.scratch;
    float* result = a.softmax ? stage + kStage * row : stage;
    const Run* run = nullptr;
    for (int k = 0; k < a.terms; ++k)
        if (a.term[k].run) run = a.term[k].run;
    for (int first = 0; first < a.n; first += kStage) {
        const int n = a.n - first < kStage ? a.n - first : kStage;
        begin_rows<W>(a, first, n, stage);
        for (int k = 0; a.slice && k < a.terms; ++k) {
            const TermView& t = a.term[k];
            const Run* own = t.run ? run : nullptr;
            if (t.value) slice_stage<W>(a, t, t.value, own, first, n, stage);
#if defined(DENSECRF_HALF)
            else slice_stage<W>(a, t, t.half_value, own, first, n, stage);
#endif
        }
        if (a.softmax) softmax<W>(stage, result, n, row);
        for (int k = 0; a.splat && k < a.terms; ++k)
            if (a.term[k].sum)
                splat_term<W>(a.term[k], a.term[k].run ? run : nullptr, first, n, row, result);
        for (int i = 0; a.marginal_out && i < n; ++i)
            copy_row<W>(result + i * row, a.marginal_out + (int64_t)a.place[first + i] * row, row);
#if defined(DENSECRF_HALF)
        for (int i = 0; a.half_out && i < n; ++i)
            for (int c = 0; c < row; c += W)
                store(load<W>(result + i * row + c), a.half_out + (int64_t)a.place[first + i] * row + c);
#endif
        for (int left = n; run && left > 0; ++run) left -= run->count;
    }
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
