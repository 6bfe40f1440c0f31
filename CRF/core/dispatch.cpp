#include <cstdlib>
#include <cstring>

#include "pass.h"

#if defined(DENSECRF_X86) && defined(_MSC_VER)
#include <intrin.h>
#include <immintrin.h>
#endif

namespace densecrf {
namespace {

#if defined(DENSECRF_X86)
// 0 = baseline, 1 = AVX2, FMA and F16C, 2 = AVX-512 (F, BW, DQ, VL), the operating system's consent
// included.
int level() {
#if defined(_MSC_VER) && !defined(__clang__)
    int r[4];
    __cpuid(r, 0);
    if (r[0] < 7) return 0;
    __cpuid(r, 1);
    const bool fma = r[2] & (1 << 12), saved = r[2] & (1 << 27), half = r[2] & (1 << 29);
    if (!fma || !saved || !half) return 0;
    const unsigned long long state = _xgetbv(0);
    __cpuidex(r, 7, 0);
    if ((state & 6) != 6 || !(r[1] & (1 << 5))) return 0;
    const unsigned wanted = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31);
    return (state & 0xe0) == 0xe0 && ((unsigned)r[1] & wanted) == wanted ? 2 : 1;
#else
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
        !__builtin_cpu_supports("f16c"))
        return 0;
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
               ? 2
               : 1;
#endif
}
#endif

const Passes& choose() {
#if defined(DENSECRF_X86)
    int best = level();
    if (const char* wish = std::getenv("DENSECRF_ISA")) {
        if (!std::strcmp(wish, "baseline")) best = 0;
        if (!std::strcmp(wish, "avx2") && best > 1) best = 1;
    }
    if (best == 2) return kPassesAvx512;
    if (best == 1) return kPassesAvx2;
#endif
    return kPassesBaseline;
}

}  // namespace

const Passes& passes() {
    static const Passes& chosen = choose();
    return chosen;
}

}  // namespace densecrf
