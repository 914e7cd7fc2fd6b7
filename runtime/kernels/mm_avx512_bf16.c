/* Matmul of level avx512_bf16: one instruction does a pair (VDPBF16PS) or four bytes (VPDPBUSD). */
#include "ker_levels.h"
#include "mm_drive.h"
#include "simd.h"
#include "mm_avx512.h"

/* Any NaN becomes 0x7fc00000; everything else stays. */
MM_INLINE vf mm_one_nan(vf y)
{
    const __m512i keep_but_nan = _mm512_set1_epi32(0x11111100);
    return _mm512_fixupimm_ps(v_bits(0x7fc00000), y, keep_but_nan, 0);
}

MM_INLINE void mm_store_bf16_2(uint8_t *p, vf low, vf high)
{
    _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh(mm_one_nan(high), mm_one_nan(low)));
}

/* The element at |p| in the low half of every lane. */
MM_INLINE __m512i mm_first(const uint8_t *p)
{
    short x;
    memcpy(&x, p, sizeof x);
    return _mm512_maskz_set1_epi16(0x55555555, x);
}

#define MM_TILES MM_TILES_512
#define MM_NAME bf16
#define MM_VEC __m512
#define MM_LANES 16
#define MM_OPERAND __m512i
#define MM_PHASES 1
#define MM_PAIR 2
#define MM_W(phase, p) _mm512_loadu_si512(p)
#define MM_X(phase, bits, flip) _mm512_set1_epi32((int)(bits))
#define MM_DOT(acc, x, w) _mm512_dpbf16_ps(acc, (__m512bh)(x), (__m512bh)(w))
#define MM_START(p) _mm512_setzero_ps()
#define MM_LOAD(p) _mm512_loadu_ps(p)
#define MM_STORE(p, v) _mm512_storeu_ps(p, v)
#define MM_VF(v) (*(v))
#define MM_FINISH 2
#define MM_WIDEN(p) vi_as_vf(vi_shl(vh_widen(vh_load(p)), 16))
#define MM_NARROW(p, y) vh_store(p, v_pack_bf16(y))
#define MM_X_FIRST(p) mm_first(p)
#define MM_NARROW2(p, y, z) mm_store_bf16_2(p, y, z)
#include "mm_body.h"

#define MM_TILES MM_TILES_512
#define MM_NAME i8
#define MM_VEC __m512i
#define MM_LANES 16
#define MM_OPERAND __m512i
#define MM_PHASES 1
#define MM_PAIR 4
#define MM_W(phase, p) _mm512_loadu_si512(p)
#define MM_X(phase, bits, flip)                                                                    \
    _mm512_xor_si512(_mm512_set1_epi32((int)(bits)), _mm512_set1_epi32((int)(flip)))
#define MM_DOT(acc, x, w) _mm512_dpbusd_epi32(acc, x, w)
#define MM_START(p) _mm512_loadu_si512(p)
#define MM_LOAD(p) _mm512_loadu_si512(p)
#define MM_STORE(p, v) _mm512_storeu_si512(p, v)
#include "mm_body.h"

MM_KERNEL(bf16, avx512_bf16, 4, MM_ROWS_512, KAENA_BF16, false)
MM_KERNEL(f16, avx512_bf16, 4, MM_ROWS_512, KAENA_F16, false)
MM_KERNEL(f32, avx512_bf16, 4, MM_ROWS_512, KAENA_F32, false)
MM_KERNEL(i8, avx512_bf16, 4, MM_ROWS_512, KAENA_DTYPE_NONE, true)
