// Compiled once per instruction set with DENSECRF_TABLE and DENSECRF_WIDTH set. No standard-library
// template may be used here: the linker could share its code with files for older processors.
#include "pass.h"

#include "simd.h"

namespace densecrf {

// In embed.cpp, compiled for the same instruction set.
namespace DENSECRF_EMBED {
void embed_float(int, int, const float*, int32_t*, int32_t*, float*);
void embed_double(int, int, const double*, int32_t*, int32_t*, float*);
}  // namespace DENSECRF_EMBED

namespace {

constexpr float kImpossible = -1e30f;

int width_for(int labels) {
    int width = 4;
    while (width < DENSECRF_WIDTH && width < labels) width *= 2;
    return width;
}

int row_for(int labels) {
    const int width = width_for(labels);
    return (labels + width - 1) / width * width;
}

// A row of V vectors of W floats, in registers if V is known and small.
template <int W, int V>
struct Row {
    Vec<W> v[V];
    DENSECRF_INLINE void attach(const PixelPass&, int) {}
    static DENSECRF_INLINE int vectors() { return V; }
    DENSECRF_INLINE Vec<W> get(int b) const { return v[b]; }
    DENSECRF_INLINE void put(int b, Vec<W> x) { v[b] = x; }
};
template <int W>
struct Row<W, 0> {
    float* v;
    int n;
    DENSECRF_INLINE void attach(const PixelPass& a, int) {
        v = a.scratch;
        n = a.row / W;
    }
    DENSECRF_INLINE int vectors() const { return n; }
    DENSECRF_INLINE Vec<W> get(int b) const { return Vec<W>::load(v + b * W); }
    DENSECRF_INLINE void put(int b, Vec<W> x) { x.store(v + b * W); }
};

template <int W, int V>
DENSECRF_INLINE void add_row(Row<W, V>& q, const float* from, float weight) {
    const Vec<W> w = Vec<W>::all(weight);
    for (int b = 0; b < q.vectors(); ++b) q.put(b, q.get(b) + w * Vec<W>::load(from + b * W));
}

template <int W, int V>
DENSECRF_INLINE void store_row(const Row<W, V>& q, float* to) {
    for (int b = 0; b < q.vectors(); ++b) q.get(b).store(to + b * W);
}

// Corners = 0 stands for a number known only at run time.
template <int W, int V, int Corners>
DENSECRF_INLINE void slice_row(Row<W, V>& q, const TermView& t, int64_t p) {
    const int corners = Corners > 0 ? Corners : t.corners;
    const int row = q.vectors() * W;
    const int32_t* corner = t.corner + (int64_t)t.simplex[p] * corners;
    const float* weight = t.out_weight + p * corners;
    for (int v = 0; v < corners; ++v)
        add_row(q, t.value + (int64_t)corner[v] * row, weight[v]);
}

template <int W, int V, int Corners>
DENSECRF_INLINE void splat_row(const Row<W, V>& q, const TermView& t, int64_t p) {
    const int corners = Corners > 0 ? Corners : t.corners;
    const int row = q.vectors() * W;
    const int32_t* corner = t.corner + (int64_t)t.simplex[p] * corners;
    const float* weight = t.in_weight + p * corners;
    for (int v = 0; v < corners; ++v) {
        float* to = t.sum + (int64_t)corner[v] * row;
        const Vec<W> w = Vec<W>::all(weight[v]);
        for (int b = 0; b < q.vectors(); ++b)
            (Vec<W>::load(to + b * W) + w * q.get(b)).store(to + b * W);
    }
}

// Stage by stage over all G pixels: one pixel alone is a long chain of dependent instructions.
template <int W, int V, int G>
DENSECRF_INLINE void softmax_rows(Row<W, V>* q) {
    Vec<W> top[G], sum[G];
    const int vectors = q[0].vectors();
    for (int g = 0; g < G; ++g) {
        top[g] = q[g].get(0);
        for (int b = 1; b < vectors; ++b) top[g] = max(top[g], q[g].get(b));
    }
    largest_of<W, G>(top);
    for (int g = 0; g < G; ++g) sum[g] = Vec<W>::all(0.0f);
    for (int b = 0; b < vectors; ++b)
        for (int g = 0; g < G; ++g) {
            const Vec<W> e = exp_nonpositive(q[g].get(b) - top[g]);
            q[g].put(b, e);
            sum[g] = sum[g] + e;
        }
    total_of<W, G>(sum);
    for (int g = 0; g < G; ++g) {
        const Vec<W> factor = Vec<W>::all(1.0f) / sum[g];
        for (int b = 0; b < vectors; ++b) q[g].put(b, q[g].get(b) * factor);
    }
}

// Fetches the rows that the pixel will read and add to.
DENSECRF_INLINE void fetch_ahead(const PixelPass& a, int64_t p) {
#if defined(__GNUC__) || defined(__clang__)
    for (int k = 0; k < a.terms; ++k) {
        const TermView& t = a.term[k];
        if (!t.ahead) continue;
        const int32_t* corner = t.corner + (int64_t)t.simplex[p] * t.corners;
        for (int v = 0; v < t.corners; ++v) {
            const int64_t at = (int64_t)corner[v] * a.row;
            for (int i = 0; i < a.row; i += 16) {
                if (a.slice) __builtin_prefetch(t.value + at + i, 0);
                if (a.splat) __builtin_prefetch(t.sum + at + i, 1);
            }
        }
    }
#else
    (void)a;
    (void)p;
#endif
}

template <int W, int V, int G>
DENSECRF_INLINE void pixels_at(const PixelPass& a, int64_t p, float* stage) {
    Row<W, V> q[G];
    for (int g = 0; g < G; ++g) q[g].attach(a, g);
    const int vectors = q[0].vectors(), row = vectors * W;
    const float* first = a.logit ? a.logit : a.marginal_in;
    for (int g = 0; g < G; ++g)
        for (int b = 0; b < vectors; ++b) q[g].put(b, Vec<W>::load(first + (p + g) * row + b * W));
    if (a.slice) {
        if (a.self != 0.0f)
            for (int g = 0; g < G; ++g) add_row(q[g], a.marginal_in + (p + g) * row, a.self);
        for (int k = 0; k < a.terms; ++k) {
            const TermView& t = a.term[k];
            for (int g = 0; g < G; ++g) {
                if (t.corners == 3) slice_row<W, V, 3>(q[g], t, p + g);
                else if (t.corners == 6) slice_row<W, V, 6>(q[g], t, p + g);
                else slice_row<W, V, 0>(q[g], t, p + g);
            }
        }
    }
    if (a.softmax) softmax_rows<W, V, G>(q);
    if (a.splat) {
        for (int k = 0; k < a.terms; ++k) {
            const TermView& t = a.term[k];
            for (int g = 0; g < G; ++g) {
                if (t.corners == 3) splat_row<W, V, 3>(q[g], t, p + g);
                else if (t.corners == 6) splat_row<W, V, 6>(q[g], t, p + g);
                else splat_row<W, V, 0>(q[g], t, p + g);
            }
        }
    }
    if (a.marginal_out)
        for (int g = 0; g < G; ++g) store_row(q[g], a.marginal_out + (p + g) * row);
    if (a.plane_out)
        for (int g = 0; g < G; ++g) store_row(q[g], stage + g * row);
}

template <int W, int V>
void pixel_pass(const PixelPass& a) {
    constexpr int G = V == 0 ? 1 : V <= 2 ? 4 : 2;
    constexpr int kStage = V > 0 ? 16 : 1;  // pixels whose results wait to be written plane by plane
    alignas(64) float space[kStage * (V > 0 ? V * W : 1)];
    float* stage = V > 0 ? space : a.scratch;
    constexpr int kAhead = 8;
    bool ahead = false;
    for (int k = 0; k < a.terms; ++k) ahead |= a.term[k].ahead;
    for (int64_t p = a.begin; p < a.end;) {
        const int n = (int)(a.end - p < kStage ? a.end - p : kStage);
        int i = 0;
        for (; i + G <= n; i += G) {
            for (int g = 0; ahead && g < G; ++g)
                if (p + i + g + kAhead < a.end) fetch_ahead(a, p + i + g + kAhead);
            pixels_at<W, V, G>(a, p + i, stage + i * a.row);
        }
        for (; i < n; ++i) pixels_at<W, V, 1>(a, p + i, stage + i * a.row);
        if (a.plane_out)
            for (int c = 0; c < a.labels; ++c)
                for (int j = 0; j < n; ++j) a.plane_out[c * a.plane + p + j] = stage[j * a.row + c];
        p += n;
    }
}

template <int W>
void pixel_width(const PixelPass& a) {
    switch (a.row / W) {
        case 1: return pixel_pass<W, 1>(a);
        case 2: return pixel_pass<W, 2>(a);
        case 3: return pixel_pass<W, 3>(a);
        case 4: return pixel_pass<W, 4>(a);
        default: return pixel_pass<W, 0>(a);
    }
}

void pixel(const PixelPass& a) {
    switch (width_for(a.labels)) {
        case 4: return pixel_width<4>(a);
#if DENSECRF_WIDTH >= 8
        case 8: return pixel_width<8>(a);
#endif
#if DENSECRF_WIDTH >= 16
        case 16: return pixel_width<16>(a);
#endif
        default: return;
    }
}

constexpr int kBlurAhead = 12;

// Walks each chain of neighbours once, in place: out = in + (previous + next) / 2.
template <int W, int V>
void blur_chains(float* table, int row, const int32_t* order, int64_t begin, int64_t end) {
    typedef Vec<W> F;
    const F half = F::all(0.5f);
    F before[V], here[V], after[V];
    int64_t i = begin;
    while (i < end) {
        float* at = table + (int64_t)order[i] * row;  // a chain has two vertices or more
        for (int b = 0; b < V; ++b) {
            before[b] = F::all(0.0f);
            here[b] = F::load(at + b * W);
        }
        for (bool last = false; !last;) {
            int32_t next = order[++i];
            last = next < 0;
            next = last ? ~next : next;
            float* to = table + (int64_t)next * row;
#if defined(__GNUC__) || defined(__clang__)
            if (i + kBlurAhead < end) {
                const int32_t later = order[i + kBlurAhead];
                const float* there = table + (int64_t)(later < 0 ? ~later : later) * row;
                for (int b = 0; b < V * W; b += 16) __builtin_prefetch(there + b, 1);
            }
#endif
            for (int b = 0; b < V; ++b) {
                after[b] = F::load(to + b * W);
                (here[b] + half * (before[b] + after[b])).store(at + b * W);
                before[b] = here[b];
                here[b] = after[b];
            }
            at = to;
        }
        for (int b = 0; b < V; ++b) (here[b] + half * before[b]).store(at + b * W);
        ++i;
    }
}

template <int W>
void blur_width(float* table, int row, const int32_t* order, int64_t begin, int64_t end) {
    int b = row / W;
    for (; b > 4; b -= 4, table += 4 * W) blur_chains<W, 4>(table, row, order, begin, end);
    switch (b) {
        case 1: return blur_chains<W, 1>(table, row, order, begin, end);
        case 2: return blur_chains<W, 2>(table, row, order, begin, end);
        case 3: return blur_chains<W, 3>(table, row, order, begin, end);
        default: return blur_chains<W, 4>(table, row, order, begin, end);
    }
}

void blur(float* table, int row, const int32_t* order, int64_t begin, int64_t end) {
#if DENSECRF_WIDTH >= 16
    if (row % 16 == 0) return blur_width<16>(table, row, order, begin, end);
#endif
#if DENSECRF_WIDTH >= 8
    if (row % 8 == 0) return blur_width<8>(table, row, order, begin, end);
#endif
    blur_width<4>(table, row, order, begin, end);
}

Flaw logits(const float* energy, int64_t plane, int labels, int row, int64_t begin, int64_t end,
            float* logit) {
    float best[kBlock];
    bool number = true, possible = true;
    for (int64_t first = begin; first < end; first += kBlock) {
        const int n = (int)(end - first < kBlock ? end - first : kBlock);
        for (int i = 0; i < n; ++i) best[i] = kImpossible;
        for (int c = 0; c < labels; ++c) {
            const float* from = energy + c * plane + first;
            float* to = logit + first * row + c;
            for (int i = 0; i < n; ++i) {
                const float x = -from[i];
                number &= x <= 3.4028235e38f;  // false for NaN and for an energy of -inf
                const float y = x > kImpossible ? (x < -kImpossible ? x : -kImpossible) : kImpossible;
                best[i] = best[i] > y ? best[i] : y;
                to[(int64_t)i * row] = y;
            }
        }
        for (int i = 0; i < n; ++i) {
            possible &= best[i] > kImpossible;
            for (int c = labels; c < row; ++c) logit[(first + i) * row + c] = 2.0f * kImpossible;
        }
    }
    return !number ? kNotFinite : !possible ? kNoLabel : kFine;
}

void merge(float* target, float* const* table, int tables, float scale, int64_t begin, int64_t end) {
    float* DENSECRF_RESTRICT to = target;
    for (int k = 0; k < tables; ++k) {
        float* DENSECRF_RESTRICT from = table[k];
        if (k == 0)
            for (int64_t i = begin; i < end; ++i) to[i] = from[i] * scale;
        else
            for (int64_t i = begin; i < end; ++i) to[i] += from[i] * scale;
        for (int64_t i = begin; i < end; ++i) from[i] = 0.0f;
    }
}

}  // namespace

extern const Passes DENSECRF_TABLE;
const Passes DENSECRF_TABLE = {
    DENSECRF_NAME, row_for, pixel, blur, logits, merge,
    DENSECRF_EMBED::embed_float, DENSECRF_EMBED::embed_double};

}  // namespace densecrf
