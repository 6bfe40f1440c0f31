// How the passes, compiled once per instruction set, choose vectors for a row of labels. Everything
// that they share lies in namespaces of its own per instruction set, and no standard-library template
// may be used there: the linker could share its code with files for older processors.
#pragma once

#include "pass.h"
#include "simd.h"

#if DENSECRF_WIDTH >= 8  // x86 with AVX2, which no processor has without F16C
#define DENSECRF_HALF
#include <immintrin.h>
#endif

#if defined(__GNUC__) || defined(__clang__)
#define DENSECRF_FETCH(address, write) __builtin_prefetch(address, write)
#else
#define DENSECRF_FETCH(address, write) (void)(address)
#endif

namespace densecrf {
namespace DENSECRF_SET {

int row_for(int labels);
int narrow_for(int labels);
void pixel(const PixelPass& pass);
void gather(const GatherPass<float>& pass);
void gather_half(const GatherPass<Half>& pass);
void blur(float* table, int row, const int32_t* order, int64_t begin, int64_t end);
void blur_half(Half* table, int row, const int32_t* order, int64_t begin, int64_t end);
Flaw logits(const float* energy, const Window& window, int labels, float* logit);
void planes(const float* rows, int row, int labels, const Window& window, float* plane);
void merge(float* target, float* const* source, int sources, int64_t size);
void embed_float(int dim, int n, const float* feature, int32_t* base, int32_t* rank, float* weight);
void embed_double(int dim, int n, const double* feature, int32_t* base, int32_t* rank, float* weight);

}  // namespace DENSECRF_SET

namespace {

template <int W>
DENSECRF_INLINE Vec<W> load(const float* p) {
    return Vec<W>::load(p);
}
template <int W>
DENSECRF_INLINE void store(Vec<W> x, float* p) {
    x.store(p);
}

#if defined(DENSECRF_HALF)
template <int W>
DENSECRF_INLINE Vec<W> load(const Half* p) {
    Vec<W> r;
#if DENSECRF_WIDTH >= 16
    if constexpr (W == 16) {
        const __m512 x = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
        std::memcpy(&r, &x, sizeof(r));
    }
#endif
    if constexpr (W == 8) {
        const __m256 x = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
        std::memcpy(&r, &x, sizeof(r));
    }
    if constexpr (W == 4) {
        const __m128 x = _mm_cvtph_ps(_mm_loadl_epi64((const __m128i*)p));
        std::memcpy(&r, &x, sizeof(r));
    }
    return r;
}
template <int W>
DENSECRF_INLINE void store(Vec<W> x, Half* p) {
#if DENSECRF_WIDTH >= 16
    if constexpr (W == 16) {
        __m512 y;
        std::memcpy(&y, &x, sizeof(y));
        _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(y, _MM_FROUND_TO_NEAREST_INT));
    }
#endif
    if constexpr (W == 8) {
        __m256 y;
        std::memcpy(&y, &x, sizeof(y));
        _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(y, _MM_FROUND_TO_NEAREST_INT));
    }
    if constexpr (W == 4) {
        __m128 y;
        std::memcpy(&y, &x, sizeof(y));
        _mm_storel_epi64((__m128i*)p, _mm_cvtps_ph(y, _MM_FROUND_TO_NEAREST_INT));
    }
}
#endif

// What stands in the padding of `logit`: its exponential is 0.
constexpr float kNoLabelHere = -2e30f;

// The first half of a vector, from and to memory that ends there.
template <int W>
DENSECRF_INLINE Vec<W> load_half(const float* p) {
    Vec<W> r = Vec<W>::all(kNoLabelHere);
    std::memcpy(&r, p, sizeof(float) * W / 2);
    return r;
}
template <int W>
DENSECRF_INLINE void store_half(Vec<W> x, float* p) {
    std::memcpy(p, &x, sizeof(float) * W / 2);
}
#if DENSECRF_WIDTH >= 16
template <>
DENSECRF_INLINE Vec<16> load_half<16>(const float* p) {
    Vec<16> r;
    const __m512 x = _mm512_insertf32x8(_mm512_set1_ps(kNoLabelHere), _mm256_loadu_ps(p), 0);
    std::memcpy(&r, &x, sizeof(r));
    return r;
}
template <>
DENSECRF_INLINE void store_half<16>(Vec<16> x, float* p) {
    __m512 y;
    std::memcpy(&y, &x, sizeof(y));
    _mm256_storeu_ps(p, _mm512_castps512_ps256(y));
}

// `exponential` in fewer instructions: exp(x) = 2^n 2^f with n an integer and f in [-1/2, 1/2], where a
// polynomial of degree 6 is right to 1e-8.
DENSECRF_INLINE Vec<16> exp_of(Vec<16> x) {
    __m512 y;
    const __m512 e = _mm512_set1_ps(1.44269504f);
    std::memcpy(&y, &x, sizeof(y));
    y = _mm512_max_ps(_mm512_set1_ps(-104.0f), _mm512_min_ps(y, _mm512_set1_ps(80.0f)));
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(y, e), 0);
    __m512 f = _mm512_fmsub_ps(y, e, n);
    f = _mm512_fmadd_ps(y, _mm512_set1_ps(1.925963033e-8f), f);
    __m512 p = _mm512_set1_ps(1.5353362e-4f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.3398874e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.6184370e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.5503324e-2f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.4022648e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.9314720e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
    p = _mm512_scalef_ps(p, n);
    std::memcpy(&x, &p, sizeof(x));
    return x;
}
#endif
template <int W>
DENSECRF_INLINE Vec<W> exp_of(Vec<W> x) {
    return exponential(x);
}

// V vectors of W floats; `whole`: a row has no more.
template <int W, int V, bool Whole>
struct Columns {
    static constexpr int count = V;
    // Floats between rows: a constant where it can be, as multiplications take time.
    static DENSECRF_INLINE int64_t stride(int row) { return Whole ? W * V : row; }
};

// Calls job(Columns, column) until all columns of a row are dealt with, at most `Most` vectors, 2 or 4,
// at a time, which leaves registers free.
template <int W, int Most = 4, typename Job>
DENSECRF_INLINE void for_vectors(int row, const Job& job) {
    if (row == W) return job(Columns<W, 1, true>(), 0);
    if (row == 2 * W) return job(Columns<W, 2, true>(), 0);
    if (Most == 4 && row == 3 * W) return job(Columns<W, Most == 4 ? 3 : 2, true>(), 0);
    int column = 0;
    for (; row - column >= Most * W; column += Most * W) job(Columns<W, Most, false>(), column);
    switch ((row - column) / W) {
        case 1: return job(Columns<W, 1, false>(), column);
        case 2: return job(Columns<W, 2, false>(), column);
        case 3: return job(Columns<W, Most == 4 ? 3 : 2, false>(), column);
    }
}

template <typename Job>
DENSECRF_INLINE void for_columns(int row, const Job& job) {
#if DENSECRF_WIDTH >= 16
    if (row % 16 == 0) return for_vectors<16>(row, job);
#endif
#if DENSECRF_WIDTH >= 8
    if (row % 8 == 0) return for_vectors<8>(row, job);
#endif
    for_vectors<4>(row, job);
}

}  // namespace
}  // namespace densecrf
