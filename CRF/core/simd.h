// A vector of W floats with the few operations the passes need. GCC and Clang compile their vector
// extension to whatever the target has; other compilers get plain loops.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__GNUC__) || defined(__clang__)
#define DENSECRF_INLINE inline __attribute__((always_inline))
#define DENSECRF_RESTRICT __restrict__
#else
#define DENSECRF_INLINE __forceinline
#define DENSECRF_RESTRICT __restrict
#endif

// Everything here has internal linkage: each instruction set compiles its own copy, and the linker
// must never hand the AVX-512 copy of an inline function to a machine without it.
namespace {

#if (defined(__GNUC__) || defined(__clang__)) && !defined(DENSECRF_PLAIN_LOOPS)

template <int W>
struct Native;
template <>
struct Native<4> {
    typedef float F __attribute__((vector_size(16)));
    typedef int32_t I __attribute__((vector_size(16)));
};
template <>
struct Native<8> {
    typedef float F __attribute__((vector_size(32)));
    typedef int32_t I __attribute__((vector_size(32)));
};
template <>
struct Native<16> {
    typedef float F __attribute__((vector_size(64)));
    typedef int32_t I __attribute__((vector_size(64)));
};

template <int W>
struct Vec {
    typedef typename Native<W>::F F;
    typedef typename Native<W>::I I;
    F v;

    // x - 0 is x for every x, so that the compiler emits a broadcast; x + 0 is not, for x = -0.
    static DENSECRF_INLINE Vec all(float x) { return {x - F{}}; }
    static DENSECRF_INLINE Vec load(const float* p) {
        Vec r;
        std::memcpy(&r.v, p, sizeof(F));
        return r;
    }
    DENSECRF_INLINE void store(float* p) const { std::memcpy(p, &v, sizeof(F)); }
};

template <int W>
DENSECRF_INLINE Vec<W> operator+(Vec<W> a, Vec<W> b) { return {a.v + b.v}; }
template <int W>
DENSECRF_INLINE Vec<W> operator-(Vec<W> a, Vec<W> b) { return {a.v - b.v}; }
template <int W>
DENSECRF_INLINE Vec<W> operator*(Vec<W> a, Vec<W> b) { return {a.v * b.v}; }
template <int W>
DENSECRF_INLINE Vec<W> operator/(Vec<W> a, Vec<W> b) { return {a.v / b.v}; }
template <int W>
DENSECRF_INLINE Vec<W> max(Vec<W> a, Vec<W> b) { return {a.v > b.v ? a.v : b.v}; }

template <int W>
DENSECRF_INLINE Vec<W> exp_nonpositive(Vec<W> x) {
    typedef typename Vec<W>::F F;
    typedef typename Vec<W>::I I;
    // Adding 1.5 * 2^23 rounds to an integer that stands in the low mantissa bits.
    const F magic = F{} + 12582912.0f;
    const I alive = x.v > -86.0f;
    const F y = alive ? x.v : F{} - 86.0f;
    const F t = y * 1.44269504f + magic;
    const F n = t - magic;
    const F r = (y - n * 0.693359375f) + n * 2.12194440e-4f;
    F p = F{} + 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + (r + 1.0f);
    const I scaled = (I)p + ((I)t << 23);
    return {(F)(scaled & alive)};
}

// Lane i of the result is lane i ^ Half: folding with it leaves the result in every lane.
template <int W, int Half>
DENSECRF_INLINE Vec<W> swap_lanes(Vec<W> a) {
#if defined(__clang__)
    Vec<W> r;
    for (int i = 0; i < W; ++i) r.v[i] = a.v[i ^ Half];
    return r;
#else
    typename Native<W>::I index;
    for (int i = 0; i < W; ++i) index[i] = i ^ Half;
    return {__builtin_shuffle(a.v, index)};
#endif
}

// The lanes of two vectors in turn: a0 b0 a1 b1 ...; `low` takes the first half, `high` the rest.
template <int W>
DENSECRF_INLINE void interleave(Vec<W> a, Vec<W> b, Vec<W>* low, Vec<W>* high) {
#if defined(__clang__)
    for (int i = 0; i < W; ++i) {
        low->v[i] = i % 2 ? b.v[i / 2] : a.v[i / 2];
        high->v[i] = i % 2 ? b.v[(W + i) / 2] : a.v[(W + i) / 2];
    }
#else
    typename Native<W>::I first, second;
    for (int i = 0; i < W; ++i) {
        first[i] = i / 2 + (i % 2) * W;
        second[i] = first[i] + W / 2;
    }
    low->v = __builtin_shuffle(a.v, b.v, first);
    high->v = __builtin_shuffle(a.v, b.v, second);
#endif
}

#else

template <int W>
struct Vec {
    float v[W];

    static DENSECRF_INLINE Vec all(float x) {
        Vec r;
        for (int i = 0; i < W; ++i) r.v[i] = x;
        return r;
    }
    static DENSECRF_INLINE Vec load(const float* p) {
        Vec r;
        std::memcpy(r.v, p, sizeof(r.v));
        return r;
    }
    DENSECRF_INLINE void store(float* p) const { std::memcpy(p, v, sizeof(v)); }
};

template <int W>
DENSECRF_INLINE Vec<W> operator+(Vec<W> a, Vec<W> b) {
    for (int i = 0; i < W; ++i) a.v[i] += b.v[i];
    return a;
}
template <int W>
DENSECRF_INLINE Vec<W> operator-(Vec<W> a, Vec<W> b) {
    for (int i = 0; i < W; ++i) a.v[i] -= b.v[i];
    return a;
}
template <int W>
DENSECRF_INLINE Vec<W> operator*(Vec<W> a, Vec<W> b) {
    for (int i = 0; i < W; ++i) a.v[i] *= b.v[i];
    return a;
}
template <int W>
DENSECRF_INLINE Vec<W> operator/(Vec<W> a, Vec<W> b) {
    for (int i = 0; i < W; ++i) a.v[i] /= b.v[i];
    return a;
}
template <int W>
DENSECRF_INLINE Vec<W> max(Vec<W> a, Vec<W> b) {
    for (int i = 0; i < W; ++i) a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
    return a;
}

template <int W>
DENSECRF_INLINE Vec<W> exp_nonpositive(Vec<W> x) {
    for (int i = 0; i < W; ++i) {
        const float y = x.v[i] > -86.0f ? x.v[i] : -86.0f;
        const float t = y * 1.44269504f + 12582912.0f;
        const float n = t - 12582912.0f;
        const float r = (y - n * 0.693359375f) + n * 2.12194440e-4f;
        float p = 1.9875691500e-4f;
        p = p * r + 1.3981999507e-3f;
        p = p * r + 8.3334519073e-3f;
        p = p * r + 4.1665795894e-2f;
        p = p * r + 1.6666665459e-1f;
        p = p * r + 5.0000001201e-1f;
        p = p * (r * r) + (r + 1.0f);
        uint32_t bits, shift;
        std::memcpy(&bits, &p, 4);
        std::memcpy(&shift, &t, 4);
        bits += shift << 23;
        std::memcpy(&p, &bits, 4);
        x.v[i] = x.v[i] > -86.0f ? p : 0.0f;
    }
    return x;
}

template <int W, int Half>
DENSECRF_INLINE Vec<W> swap_lanes(Vec<W> a) {
    Vec<W> r;
    for (int i = 0; i < W; ++i) r.v[i] = a.v[i ^ Half];
    return r;
}

template <int W>
DENSECRF_INLINE void interleave(Vec<W> a, Vec<W> b, Vec<W>* low, Vec<W>* high) {
    for (int i = 0; i < W; ++i) {
        low->v[i] = i % 2 ? b.v[i / 2] : a.v[i / 2];
        high->v[i] = i % 2 ? b.v[(W + i) / 2] : a.v[(W + i) / 2];
    }
}

#endif

// Interleaving the two halves of W rows log2(W) times transposes them.
template <int W, int Done = 1>
DENSECRF_INLINE void shuffle_rows(Vec<W>* a) {
    if constexpr (Done < W) {
        Vec<W> b[W];
        for (int i = 0; i < W / 2; ++i) interleave(a[i], a[i + W / 2], &b[2 * i], &b[2 * i + 1]);
        for (int i = 0; i < W; ++i) a[i] = b[i];
        shuffle_rows<W, Done * 2>(a);
    }
}

// Transposes W x W floats whose rows are `from_row` and `to_row` floats apart.
template <int W>
DENSECRF_INLINE void transpose(const float* from, int64_t from_row, float* to, int64_t to_row) {
    Vec<W> a[W];
    for (int i = 0; i < W; ++i) a[i] = Vec<W>::load(from + i * from_row);
    shuffle_rows<W>(a);
    for (int i = 0; i < W; ++i) a[i].store(to + i * to_row);
}

// The largest lane, or the sum of lanes, of each of G vectors, in every lane.
template <int W, int G, int Half = W / 2>
DENSECRF_INLINE void largest_of(Vec<W>* a) {
    if constexpr (Half > 0) {
        for (int g = 0; g < G; ++g) a[g] = max(a[g], swap_lanes<W, Half>(a[g]));
        largest_of<W, G, Half / 2>(a);
    }
}
template <int W, int G, int Half = W / 2>
DENSECRF_INLINE void total_of(Vec<W>* a) {
    if constexpr (Half > 0) {
        for (int g = 0; g < G; ++g) a[g] = a[g] + swap_lanes<W, Half>(a[g]);
        total_of<W, G, Half / 2>(a);
    }
}

}  // namespace
