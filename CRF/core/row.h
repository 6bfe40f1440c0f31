// How the passes, compiled once per instruction set, choose vectors for a row of labels. Everything
// that they share lies in namespaces of its own per instruction set, and no standard-library template
// may be used there: the linker could share its code with files for older processors.
#pragma once

#include "pass.h"
#include "simd.h"

#if defined(__GNUC__) || defined(__clang__)
#define DENSECRF_FETCH(address, write) __builtin_prefetch(address, write)
#else
#define DENSECRF_FETCH(address, write) (void)(address)
#endif

namespace densecrf {
namespace DENSECRF_SET {

int row_for(int labels);
void pixel(const PixelPass& pass);
void gather(const GatherPass& pass);
void blur(float* table, int row, const int32_t* order, int64_t begin, int64_t end);
Flaw logits(const float* energy, int64_t plane, int labels, int row, int64_t begin, int64_t end,
            float* logit);
void merge(float* target, float* source, int64_t begin, int64_t end);
void embed_float(int dim, int n, const float* feature, int32_t* base, int32_t* rank, float* weight);
void embed_double(int dim, int n, const double* feature, int32_t* base, int32_t* rank, float* weight);

}  // namespace DENSECRF_SET

namespace {

template <int W, int V>
struct Columns {};  // V vectors of W floats

// Calls job(Columns<W, V>(), column) until all columns of a row are dealt with, at most four vectors
// at a time, which leaves registers free.
template <int W, typename Job>
DENSECRF_INLINE void for_vectors(int row, const Job& job) {
    int column = 0;
    for (; row - column > 4 * W; column += 4 * W) job(Columns<W, 4>(), column);
    switch ((row - column) / W) {
        case 1: return job(Columns<W, 1>(), column);
        case 2: return job(Columns<W, 2>(), column);
        case 3: return job(Columns<W, 3>(), column);
        default: return job(Columns<W, 4>(), column);
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
