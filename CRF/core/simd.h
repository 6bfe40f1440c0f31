// A vector of W floats with the few operations the passes need. GCC and Clang compile their vector
// extension to whatever the target has; other compilers get plain loops.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__GNUC__) || defined(__clang__)
#define DENSECRF_INLINE inline __attribute__((always_inline))
#else
#define DENSECRF_INLINE __forceinline
#endif

// Before a loop over a few vectors that registers shall hold: GCC leaves an array in memory where it
// does not unroll all loops over it, and of itself it does not where they run three times.
#if defined(__GNUC__) && !defined(__clang__)
#define DENSECRF_UNROLL _Pragma("GCC unroll 16")
#else
#define DENSECRF_UNROLL
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
// The second where one is NaN, as the processors have it.
template <int W>
DENSECRF_INLINE Vec<W> max(Vec<W> a, Vec<W> b) { return {a.v > b.v ? a.v : b.v}; }
template <int W>
DENSECRF_INLINE Vec<W> min(Vec<W> a, Vec<W> b) { return {a.v < b.v ? a.v : b.v}; }

// exp(min(x, 80)), and 0 below -86.
template <int W>
DENSECRF_INLINE Vec<W> exponential(Vec<W> x) {
    typedef typename Vec<W>::F F;
    typedef typename Vec<W>::I I;
    // Adding 1.5 * 2^23 rounds to an integer that stands in the low mantissa bits.
    const F magic = F{} + 12582912.0f;
    const I alive = x.v > -86.0f;
    const F z = alive ? x.v : F{} - 86.0f;
    const F y = z < 80.0f ? z : F{} + 80.0f;
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

// Sums of neighbouring lanes of a, then of b.
template <int W>
DENSECRF_INLINE Vec<W> sum_pairs(Vec<W> a, Vec<W> b) {
#if defined(__clang__)
    Vec<W> even, odd;
    for (int i = 0; i < W; ++i) {
        even.v[i] = i < W / 2 ? a.v[2 * i] : b.v[2 * i - W];
        odd.v[i] = i < W / 2 ? a.v[2 * i + 1] : b.v[2 * i + 1 - W];
    }
    return even + odd;
#else
    typename Native<W>::I even, odd;
    for (int i = 0; i < W; ++i) even[i] = 2 * i, odd[i] = 2 * i + 1;
    return {__builtin_shuffle(a.v, b.v, even) + __builtin_shuffle(a.v, b.v, odd)};
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
DENSECRF_INLINE Vec<W> min(Vec<W> a, Vec<W> b) {
    for (int i = 0; i < W; ++i) a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
    return a;
}

template <int W>
DENSECRF_INLINE Vec<W> exponential(Vec<W> x) {
    for (int i = 0; i < W; ++i) {
        const float z = x.v[i] > -86.0f ? x.v[i] : -86.0f, y = z < 80.0f ? z : 80.0f;
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

template <int W>
DENSECRF_INLINE Vec<W> sum_pairs(Vec<W> a, Vec<W> b) {
    Vec<W> r;
    for (int i = 0; i < W / 2; ++i) {
        r.v[i] = a.v[2 * i] + a.v[2 * i + 1];
        r.v[W / 2 + i] = b.v[2 * i] + b.v[2 * i + 1];
    }
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

// Lane i of the result is the sum of the lanes of a[i], i < W.
template <int W, int N = W>
DENSECRF_INLINE Vec<W> totals(Vec<W>* a) {
    if constexpr (N > 1) {
        for (int i = 0; i < N / 2; ++i) a[i] = sum_pairs(a[2 * i], a[2 * i + 1]);
        return totals<W, N / 2>(a);
    } else {
        return a[0];
    }
}

}  // namespace
