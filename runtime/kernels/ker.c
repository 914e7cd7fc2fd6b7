/* Which levels this processor has, which one is wanted, and their tables. */
#include "ker.h"

#include <cpuid.h>
#include <stdlib.h>
#include <string.h>

#include "ker_levels.h"

static const struct level_row {
    const char *name;
    const ker_table *table;
} levels[KER_LEVEL_COUNT] = {
#define KER_LEVEL_ROW(name, NAME) [KER_##NAME] = {#name, &ker_table_##name},
    KER_LEVELS(KER_LEVEL_ROW)
#undef KER_LEVEL_ROW
};

/* State components the operating system saves: bits of XCR0. */
static uint64_t enabled_state(void)
{
    uint32_t lo, hi;
    __asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static ker_level best_level(void)
{
    enum {
        XCR0_AVX = 0x6,
        XCR0_AVX512 = 0xe6,
        /* leaf 1, ecx */
        FMA = 1 << 12,
        OSXSAVE = 1 << 27,
        F16C = 1 << 29,
        /* leaf 7, ebx */
        AVX2 = 1 << 5,
        AVX512F = 1 << 16,
        AVX512DQ = 1 << 17,
        AVX512BW = 1 << 30,
        /* leaf 7, ecx */
        AVX512VNNI = 1 << 11,
        /* leaf 7.1, eax */
        AVX512BF16 = 1 << 5
    };
    const uint32_t avx512vl = UINT32_C(1) << 31; /* leaf 7, ebx */
    uint32_t a, b, c, d, a1, b1, c1, d1;
    if (!__get_cpuid(1, &a1, &b1, &c1, &d1) || !(c1 & OSXSAVE) ||
        !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return KER_SCALAR;
    uint64_t state = enabled_state();
    if ((state & XCR0_AVX) != XCR0_AVX || !(c1 & FMA) || !(c1 & F16C) || !(b & AVX2))
        return KER_SCALAR;
    const uint32_t avx512 = AVX512F | AVX512DQ | AVX512BW | avx512vl;
    if ((state & XCR0_AVX512) != XCR0_AVX512 || (b & avx512) != avx512)
        return KER_AVX2;
    if (a < 1 || !(c & AVX512VNNI) || !__get_cpuid_count(7, 1, &a1, &b1, &c1, &d1) ||
        !(a1 & AVX512BF16))
        return KER_AVX512;
    return KER_AVX512_BF16;
}

bool ker_level_supported(ker_level level)
{
    return level <= best_level();
}

bool ker_level_detect(ker_level *out)
{
    ker_level best = best_level();
    const char *cap = getenv("KRT_CPU");
    if (cap && *cap) {
        int i = 0;
        while (i < KER_LEVEL_COUNT && strcmp(levels[i].name, cap) != 0)
            i++;
        if (i == KER_LEVEL_COUNT)
            return false;
        if ((ker_level)i < best)
            best = (ker_level)i;
    }
    *out = best;
    return true;
}

const char *ker_level_name(ker_level level)
{
    return (unsigned)level < KER_LEVEL_COUNT ? levels[level].name : NULL;
}

const ker_table *ker_table_of(ker_level level)
{
    return levels[level].table;
}
