/* Sixteen lanes under one vocabulary, so that one body of a kernel serves every ISA level.
 *
 * The including file names the level by its own flags: __AVX512F__, else __AVX2__, else scalar.
 *
 *   vf, vi, vm   16 floats, 16 int32, a mask of 16
 *   v_...        on vf; vi_... on vi; vm_... on masks
 *   vw           32 elements of two bytes, where KER_HALVES is 1
 *
 * Lanes agree bit for bit between levels under DAZ | FTZ, but for which NaN a NaN is:
 *   v_max(a, b) = a > b ? a : b and v_min(a, b) = a < b ? a : b: of a NaN or of two zeros, b.
 *     A denormal may come out of them as it went in; v_flush makes it a signed zero.
 *   v_load_bf16, v_load_f16 are exact (a denormal BF16 is a denormal float and counts as 0 in
 *     arithmetic); v_pack_bf16 rounds to nearest even, a denormal gives a signed zero and any NaN
 *     0x7fc0; v_pack_f16 rounds to nearest even.
 *   v_upperK(a): lane i is lane i + K of a for i < K; others are unspecified. v_first: lane 0.
 * The _n forms touch only the first n (0..16) elements in memory; lanes from n on load as +0. */
#ifndef KER_SIMD_H
#define KER_SIMD_H

#include <stdint.h>
#include <string.h>

#include "dtype.h"

#define KER_INLINE static inline __attribute__((always_inline, unused))
#define KER_LANES 16
/* Loops specialised by type and shape beside the general ones; the scalar level has only those. */
#if defined(__AVX2__)
#define KER_SPECIALISED 1
#else
#define KER_SPECIALISED 0
#endif
#if !defined(__AVX2__)
#define KER_UNROLL
#elif defined(__clang__)
#define KER_UNROLL _Pragma("unroll")
#else
#define KER_UNROLL _Pragma("GCC unroll 32")
#endif
/* Where the body is large: clang decides for itself, and would warn. */
#if defined(__clang__)
#define KER_UNROLL_LARGE
#else
#define KER_UNROLL_LARGE KER_UNROLL
#endif

/* The compiler must take the pointer |p| as it is from here on: no address of an unrolled loop is
 * made ahead of its use. */
#define KER_OPAQUE(p) __asm__("" : "+r"(p))

#if defined(__AVX512F__)
#include "simd_avx512.h"
#elif defined(__AVX2__)
#include "simd_avx2.h"
#else
#include "simd_scalar.h"
#endif

#if !defined(__AVX512F__)
#define KER_HALVES 0
/* a0 b0 c0 a1 b1 c1 ...: 48 elements. */
KER_INLINE void vh_store_3(void *p, vh a, vh b, vh c)
{
    uint16_t all[3][16], out[48];
    vh_store(all[0], a);
    vh_store(all[1], b);
    vh_store(all[2], c);
    for (int i = 0; i < 48; i++)
        out[i] = all[i % 3][i / 3];
    memcpy(p, out, sizeof out);
}
#endif

/* --- What follows from the level's own part ---------------------------------------------- */

KER_INLINE vf v_zero(void)
{
    return v_set1(0.0f);
}

KER_INLINE vf v_bits(uint32_t bits)
{
    return vi_as_vf(vi_set1((int32_t)bits));
}

KER_INLINE vf v_abs(vf a)
{
    return vi_as_vf(vi_and(vf_as_vi(a), vi_set1(0x7fffffff)));
}

KER_INLINE vf v_neg(vf a)
{
    return vi_as_vf(vi_xor(vf_as_vi(a), vi_set1((int32_t)0x80000000)));
}

/* |low| in the even lanes, |high| in the odd ones. */
KER_INLINE vi vi_set1_pair(uint32_t low, uint32_t high)
{
    uint32_t all[KER_LANES];
    for (int i = 0; i < KER_LANES; i++)
        all[i] = i & 1 ? high : low;
    return vi_load(all);
}

/* |magnitude| with the sign of |sign|; the sign bit of |magnitude| is clear. */
KER_INLINE vf v_with_sign(vf magnitude, vf sign)
{
    return vi_as_vf(
        vi_or(vf_as_vi(magnitude), vi_and(vf_as_vi(sign), vi_set1((int32_t)0x80000000))));
}

/* a > b ? a : b, and NaN when either is. */
KER_INLINE vf v_max_nan(vf a, vf b)
{
    return v_sel(v_unord(a, a), a, v_max(a, b));
}

KER_INLINE vf v_min_nan(vf a, vf b)
{
    return v_sel(v_unord(a, a), a, v_min(a, b));
}

#endif
