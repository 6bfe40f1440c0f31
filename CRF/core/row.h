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
#endif

#if defined(DENSECRF_HALF)
// `exponential` in fewer instructions: exp(x) = 2^n 2^f with n an integer and f in [-1/2, 1/2], where a
// polynomial of degree 6 is right to 1e-8. Here log2(e) = kLog2 + kLog2Rest.
constexpr float kLog2 = 1.44269504f, kLog2Rest = 1.925963033e-8f;

template <int W>
DENSECRF_INLINE Vec<W> power_of_two(Vec<W> f) {
    Vec<W> p = Vec<W>::all(1.5353362e-4f);
    p = p * f + Vec<W>::all(1.3398874e-3f);
    p = p * f + Vec<W>::all(9.6184370e-3f);
    p = p * f + Vec<W>::all(5.5503324e-2f);
    p = p * f + Vec<W>::all(2.4022648e-1f);
    p = p * f + Vec<W>::all(6.9314720e-1f);
    return p * f + Vec<W>::all(1.0f);
}

// Below -87.4 this gives a denormal number, which the team's threads take for zero.
DENSECRF_INLINE Vec<8> exp_of(Vec<8> x) {
    __m256 y;
    std::memcpy(&y, &x, sizeof(y));
    y = _mm256_max_ps(_mm256_set1_ps(-87.4f), _mm256_min_ps(y, _mm256_set1_ps(80.0f)));
    const __m256 e = _mm256_set1_ps(kLog2), magic = _mm256_set1_ps(12582912.0f);  // see `exponential`
    const __m256 t = _mm256_fmadd_ps(y, e, magic);
    __m256 f = _mm256_fmsub_ps(y, e, _mm256_sub_ps(t, magic));
    f = _mm256_fmadd_ps(y, _mm256_set1_ps(kLog2Rest), f);
    std::memcpy(&x, &f, sizeof(x));
    const Vec<8> p = power_of_two(x);
    __m256i bits;
    std::memcpy(&bits, &p, sizeof(bits));
    bits = _mm256_add_epi32(bits, _mm256_slli_epi32(_mm256_castps_si256(t), 23));
    std::memcpy(&x, &bits, sizeof(x));
    return x;
}

// Additions of neighbours within each half of a vector, which AVX2 shuffles cheaply, and of the halves.
DENSECRF_INLINE Vec<8> row_totals(Vec<8>* a) {
    __m256 r[8];
    std::memcpy(r, a, sizeof(r));
    DENSECRF_UNROLL for (int i = 0; i < 4; ++i) r[i] = _mm256_hadd_ps(r[2 * i], r[2 * i + 1]);
    const __m256 first = _mm256_hadd_ps(r[0], r[1]), second = _mm256_hadd_ps(r[2], r[3]);
    const __m256 sum = _mm256_add_ps(_mm256_permute2f128_ps(first, second, 0x20),
                                     _mm256_permute2f128_ps(first, second, 0x31));
    Vec<8> total;
    std::memcpy(&total, &sum, sizeof(total));
    return total;
}
#endif
#if DENSECRF_WIDTH >= 16
DENSECRF_INLINE Vec<16> exp_of(Vec<16> x) {
    __m512 y;
    std::memcpy(&y, &x, sizeof(y));
    y = _mm512_max_ps(_mm512_set1_ps(-104.0f), _mm512_min_ps(y, _mm512_set1_ps(80.0f)));
    const __m512 e = _mm512_set1_ps(kLog2);
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(y, e), 0);
    __m512 f = _mm512_fmsub_ps(y, e, n);
    f = _mm512_fmadd_ps(y, _mm512_set1_ps(kLog2Rest), f);
    std::memcpy(&x, &f, sizeof(x));
    const Vec<16> p = power_of_two(x);
    std::memcpy(&f, &p, sizeof(f));
    f = _mm512_scalef_ps(f, n);
    std::memcpy(&x, &f, sizeof(x));
    return x;
}
#endif
template <int W>
DENSECRF_INLINE Vec<W> exp_of(Vec<W> x) {
    return exponential(x);
}

// Lane i of the result is the sum of the lanes of a[i], i < W.
template <int W>
DENSECRF_INLINE Vec<W> row_totals(Vec<W>* a) {
    return totals<W>(a);
}

// A number that generic lambdas take as a constant.
template <int N>
struct Constant {
    static constexpr int value = N;
};

// Calls job(Constant<floats>) for rows of 1 to 4 vectors of W floats, as multiplications by a row's length
// take time, and job(Constant<0>) for longer ones.
template <int W, typename Job>
DENSECRF_INLINE void for_row(int row, const Job& job) {
    switch (row / W) {
        case 1: return job(Constant<W>());
        case 2: return job(Constant<2 * W>());
        case 3: return job(Constant<3 * W>());
        case 4: return job(Constant<4 * W>());
        default: return job(Constant<0>());
    }
}

// Calls job(Constant<vectors>, column) until all columns of a row are dealt with, at most `Most` vectors, 2
// to 4, at a time, which leaves registers free. Row: floats of the row as for_row found them.
template <int W, int Most, int Row, int Column = 0, typename Job>
DENSECRF_INLINE void for_vectors(int row, const Job& job) {
    if constexpr (Row > Column) {
        constexpr int left = (Row - Column) / W, count = left < Most ? left : Most;
        job(Constant<count>(), Column);
        for_vectors<W, Most, Row, Column + count * W>(row, job);
    } else if constexpr (Row == 0) {
        int column = 0;
        for (; row - column >= Most * W; column += Most * W) job(Constant<Most>(), column);
        switch ((row - column) / W) {
            case 1: return job(Constant<1>(), column);
            case 2: return job(Constant<Most >= 3 ? 2 : 1>(), column);
            case 3: return job(Constant<Most == 4 ? 3 : 1>(), column);
        }
    }
}

}  // namespace
}  // namespace densecrf
