// Compiled once per instruction set, with contraction to fused multiply-adds off: a point on the
// border of a simplex must fall to the side where the original program puts it, or vertices appear
// or vanish. The same rules as in row.h hold for standard-library templates.
#include <cmath>
#include <cstdint>

#include "pass.h"

namespace densecrf {
namespace DENSECRF_SET {
namespace {

// Where points lie in the lattice A*_d (Adams et al. 2010, section 4).
template <typename T, int D>
void embed_points(int dim, int n, const T* feature, int32_t* base, int32_t* rank, float* weight) {
    constexpr int kStackDims = D > 0 ? D + 1 : 256;
    const int d = D > 0 ? D : dim;
    T lifted[kStackDims][kBlock];
    T sum[kBlock];
    int32_t excess[kBlock];
    const T deviation = (T)(std::sqrt(2.0 / 3.0) * (d + 1));
    // Adding and taking off 1.5 * 2^(mantissa bits) rounds to the nearest integer, ties to even.
    const T magic = sizeof(T) == 4 ? (T)12582912.0 : (T)6755399441055744.0;
    for (int i = 0; i < kBlock; ++i) sum[i] = 0;
    for (int j = d; j > 0; --j) {
        const T scale = (T)(1.0 / std::sqrt((double)j * (j + 1)) * deviation);
        for (int i = 0; i < kBlock; ++i) {
            const T x = feature[(j - 1) * kBlock + i] * scale;
            lifted[j][i] = sum[i] - (T)j * x;
            sum[i] += x;
        }
    }
    for (int i = 0; i < kBlock; ++i) {
        lifted[0][i] = sum[i];
        excess[i] = 0;
    }
    // Nearest point whose coordinates are multiples of d + 1; lifted becomes the offset from it.
    const T down = (T)1 / (T)(d + 1);
    for (int j = 0; j <= d; ++j)
        for (int i = 0; i < kBlock; ++i) {
            const T r = (lifted[j][i] * down + magic) - magic;
            base[j * kBlock + i] = (int32_t)r;
            rank[j * kBlock + i] = 0;
            excess[i] += (int32_t)r;
            lifted[j][i] -= r * (T)(d + 1);
        }
    for (int j = 0; j < d; ++j)
        for (int k = j + 1; k <= d; ++k)
            for (int i = 0; i < kBlock; ++i) {
                const int32_t less = lifted[j][i] < lifted[k][i];
                rank[j * kBlock + i] += less;
                rank[k * kBlock + i] += 1 - less;
            }
    // Rounding may leave the plane of zero sum: the coordinates with most rounding step back.
    for (int j = 0; j <= d; ++j)
        for (int i = 0; i < kBlock; ++i) {
            int32_t r = rank[j * kBlock + i] + excess[i];
            const int32_t turn = (r < 0) - (r > d);
            r += turn * (d + 1);
            rank[j * kBlock + i] = r;
            base[j * kBlock + i] += turn;
            lifted[j][i] = (lifted[j][i] - (T)(turn * (d + 1))) * down;
        }
    for (int i = 0; i < n; ++i) {
        T sorted[kStackDims];
        float* w = weight + (int64_t)i * (d + 1);
        for (int j = 0; j <= d; ++j) sorted[rank[j * kBlock + i]] = lifted[j][i];
        w[0] = (float)((T)1 + sorted[d] - sorted[0]);
        for (int r = 1; r <= d; ++r) w[r] = (float)(sorted[d - r] - sorted[d - r + 1]);
    }
}

template <typename T>
void embed_any(int dim, int n, const T* feature, int32_t* base, int32_t* rank, float* weight) {
    switch (dim) {
        case 2: return embed_points<T, 2>(dim, n, feature, base, rank, weight);
        case 5: return embed_points<T, 5>(dim, n, feature, base, rank, weight);
        default: return embed_points<T, 0>(dim, n, feature, base, rank, weight);
    }
}

}  // namespace

void embed_float(int dim, int n, const float* feature, int32_t* base, int32_t* rank, float* weight) {
    embed_any<float>(dim, n, feature, base, rank, weight);
}

void embed_double(int dim, int n, const double* feature, int32_t* base, int32_t* rank,
                  float* weight) {
    embed_any<double>(dim, n, feature, base, rank, weight);
}

}  // namespace DENSECRF_SET
}  // namespace densecrf
