// The pass over pixels: slice, softmax and splat, stage by stage over a few rows that stay in the
// first-level cache.
#include "row.h"

namespace densecrf {
namespace {

constexpr int kAhead = 8;  // pixels between asking for rows and reading them

template <typename T>
DENSECRF_INLINE void fetch_rows(const TermView& t, const T* value, int64_t pixel, int row) {
    const int32_t* corner = t.corner + (int64_t)t.simplex[pixel] * t.corners;
    for (int v = 0; v < t.corners; ++v)
        for (int i = 0; i < row; i += 64 / sizeof(T))
            DENSECRF_FETCH(value + (int64_t)corner[v] * row + i, 0);
}

// to = from + scale * message, for n pixels from `first` on. Corners = 0 stands for a number known
// only at run time.
template <int W, int V, int Corners, typename T>
void slice_rows(const TermView& t, const T* value, int64_t first, int n, int row, int column,
                const float* from, float* to) {
    const int corners = Corners > 0 ? Corners : t.corners;
    const Vec<W> scale = Vec<W>::all(t.scale);
    const float* weight = t.out_weight + first * corners;
    for (int i = 0; i < n; ++i, weight += corners) {
        const int32_t* corner = t.corner + (int64_t)t.simplex[first + i] * corners;
        Vec<W> sum[V];
        for (int b = 0; b < V; ++b) sum[b] = Vec<W>::all(0.0f);
        for (int v = 0; v < corners; ++v) {
            const T* at = value + (int64_t)corner[v] * row + column;
            const Vec<W> w = Vec<W>::all(weight[v]);
            for (int b = 0; b < V; ++b) sum[b] = sum[b] + w * load<W>(at + b * W);
        }
        for (int b = 0; b < V; ++b) {
            const int64_t at = (int64_t)i * row + column + b * W;
            (Vec<W>::load(from + at) + scale * sum[b]).store(to + at);
        }
    }
}

template <int W, int V, int Corners>
void splat_rows(const TermView& t, int64_t first, int n, int row, int column, const float* from) {
    const int corners = Corners > 0 ? Corners : t.corners;
    const float* weight = t.in_weight + first * corners;
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

template <int W, int V, typename T>
DENSECRF_INLINE void slice_term(Columns<W, V>, const TermView& t, const T* value, int64_t first, int n,
                                int row, int column, const float* from, float* to) {
    if (t.corners == 3) slice_rows<W, V, 3>(t, value, first, n, row, column, from, to);
    else if (t.corners == 6) slice_rows<W, V, 6>(t, value, first, n, row, column, from, to);
    else slice_rows<W, V, 0>(t, value, first, n, row, column, from, to);
}

template <int W, int V>
DENSECRF_INLINE void splat_term(Columns<W, V>, const TermView& t, int64_t first, int n, int row,
                                int column, const float* from) {
    if (t.corners == 3) splat_rows<W, V, 3>(t, first, n, row, column, from);
    else if (t.corners == 6) splat_rows<W, V, 6>(t, first, n, row, column, from);
    else splat_rows<W, V, 0>(t, first, n, row, column, from);
}

// G pixels at a time: the reductions of one alone are a long chain of dependent instructions.
template <int W, int V, int G>
DENSECRF_INLINE void softmax_group(float* rows) {
    Vec<W> q[G][V], top[G], sum[G];
    for (int g = 0; g < G; ++g) {
        for (int b = 0; b < V; ++b) q[g][b] = Vec<W>::load(rows + (g * V + b) * W);
        top[g] = q[g][0];
        for (int b = 1; b < V; ++b) top[g] = max(top[g], q[g][b]);
    }
    largest_of<W, G>(top);
    for (int g = 0; g < G; ++g) {
        for (int b = 0; b < V; ++b) q[g][b] = exp_nonpositive(q[g][b] - top[g]);
        sum[g] = q[g][0];
        for (int b = 1; b < V; ++b) sum[g] = sum[g] + q[g][b];
    }
    total_of<W, G>(sum);
    for (int g = 0; g < G; ++g) {
        const Vec<W> factor = Vec<W>::all(1.0f) / sum[g];
        for (int b = 0; b < V; ++b) (q[g][b] * factor).store(rows + (g * V + b) * W);
    }
}

template <int W, int V>
void softmax_short(float* rows, int n) {
    constexpr int G = V <= 2 ? 4 : 2;
    int i = 0;
    for (; i + G <= n; i += G) softmax_group<W, V, G>(rows + i * V * W);
    for (; i < n; ++i) softmax_group<W, V, 1>(rows + i * V * W);
}

template <int W>
void softmax_long(float* rows, int n, int row) {
    for (int i = 0; i < n; ++i, rows += row) {
        Vec<W> top = Vec<W>::load(rows), sum = Vec<W>::all(0.0f);
        for (int c = W; c < row; c += W) top = max(top, Vec<W>::load(rows + c));
        largest_of<W, 1>(&top);
        for (int c = 0; c < row; c += W) {
            const Vec<W> e = exp_nonpositive(Vec<W>::load(rows + c) - top);
            e.store(rows + c);
            sum = sum + e;
        }
        total_of<W, 1>(&sum);
        const Vec<W> factor = Vec<W>::all(1.0f) / sum;
        for (int c = 0; c < row; c += W) (Vec<W>::load(rows + c) * factor).store(rows + c);
    }
}

template <int W>
DENSECRF_INLINE void softmax_rows(float* rows, int n, int row) {
    switch (row / W) {
        case 1: return softmax_short<W, 1>(rows, n);
        case 2: return softmax_short<W, 2>(rows, n);
        case 3: return softmax_short<W, 3>(rows, n);
        case 4: return softmax_short<W, 4>(rows, n);
        default: return softmax_long<W>(rows, n, row);
    }
}

template <int W>
DENSECRF_INLINE void add_rows(const float* from, float factor, const float* base, float* to, int size) {
    const Vec<W> f = Vec<W>::all(factor);
    for (int i = 0; i < size; i += W)
        (Vec<W>::load(base + i) + f * Vec<W>::load(from + i)).store(to + i);
}

template <int W, typename T>
DENSECRF_INLINE void copy_rows(const float* from, T* to, int size) {
    for (int i = 0; i < size; i += W) store(load<W>(from + i), to + i);
}

// Rows to planes, W pixels by W labels at a time where there are as many.
template <int W>
void store_planes(const PixelPass& a, const float* rows, int64_t first, int n) {
    for (int c = 0; c < a.labels; c += W)
        for (int i = 0; i < n; i += W) {
            float* to = a.plane_out + c * a.plane + first + i;
            const float* from = rows + i * a.row + c;
            if (c + W <= a.labels && i + W <= n) {
                transpose<W>(from, a.row, to, a.plane);
                continue;
            }
            const int columns = a.labels - c < W ? a.labels - c : W, count = n - i < W ? n - i : W;
            for (int k = 0; k < columns; ++k)
                for (int j = 0; j < count; ++j) to[k * a.plane + j] = from[j * a.row + k];
        }
}

template <int W, typename T>
DENSECRF_INLINE void slice_stage(const PixelPass& a, const TermView& t, const T* value, int64_t first,
                                 int n, const float* from, float* to) {
    for (int i = 0; t.ahead && i < n && first + i + kAhead < a.end; ++i)
        fetch_rows(t, value, first + i + kAhead, a.row);
    for_vectors<W>(a.row, [&](auto columns, int column) {
        slice_term(columns, t, value, first, n, a.row, column, from, to);
    });
}

template <int W>
void pixel_width(const PixelPass& a) {
    const int row = a.row;
    float* stage = a.scratch;
    for (int64_t p = a.begin; p < a.end; p += kStage) {
        const int n = (int)(a.end - p < kStage ? a.end - p : kStage);
        const float* from = (a.logit ? a.logit : a.marginal_in) + p * row;
        if (a.slice) {
            if (a.self != 0.0f) {
                add_rows<W>(a.marginal_in + p * row, a.self, from, stage, n * row);
                from = stage;
            }
            for (int k = 0; k < a.terms; ++k) {
                const TermView& t = a.term[k];
                if (t.value) slice_stage<W>(a, t, t.value, p, n, from, stage);
#if defined(DENSECRF_HALF)
                else slice_stage<W>(a, t, t.half_value, p, n, from, stage);
#endif
                from = stage;
            }
        }
        if (from != stage) copy_rows<W>(from, stage, n * row);
        if (a.softmax) softmax_rows<W>(stage, n, row);
        for (int k = 0; a.splat && k < a.terms; ++k) {
            const TermView& t = a.term[k];
            if (!t.sum) continue;
            for_vectors<W>(row, [&](auto columns, int column) {
                splat_term(columns, t, p, n, row, column, stage);
            });
        }
        if (a.marginal_out) copy_rows<W>(stage, a.marginal_out + p * row, n * row);
#if defined(DENSECRF_HALF)
        if (a.half_out) copy_rows<W>(stage, a.half_out + p * row, n * row);
#endif
        if (a.plane_out) store_planes<W>(a, stage, p, n);
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
