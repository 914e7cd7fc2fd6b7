#include "peak.h"

#include <immintrin.h>
#include <time.h>

#include "ker.h"

static double now_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

__attribute__((noinline, target("avx512f,avx512bf16"))) static double bf16_flops(void)
{
    __m512 acc[16];
    __m512bh x = (__m512bh)_mm512_set1_epi32(0x3f803f80);
    UNROLL for (int i = 0; i < 16; i++) acc[i] = _mm512_setzero_ps();
    for (int n = 0; n < 20000; n++) {
        UNROLL for (int i = 0; i < 16; i++)
        {
            acc[i] = _mm512_dpbf16_ps(acc[i], x, x);
            __asm__ volatile("" : "+v"(acc[i]));
        }
    }
    return 20000.0 * 16 * 64;
}

double peak_gflops(void)
{
    if (!ker_level_supported(KER_AVX512_BF16))
        return 0;
    double best = 1e30, flops = 0;
    for (int i = 0; i < 200; i++) {
        double t = now_us();
        flops = bf16_flops();
        t = now_us() - t;
        if (t < best)
            best = t;
    }
    return flops / best * 1e-3;
}
