/* Matmul of level avx512_bf16: one instruction does a pair (VDPBF16PS) or four bytes (VPDPBUSD). */
#include "ker_levels.h"
#include "mm_drive.h"
#include "simd.h"
#include "mm_avx512.h"

MM_INLINE __mmask16 mm_store_bf16_2(uint8_t *p, vf low, vf high, __mmask16 ordered)
{
    _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    return _mm512_mask_cmp_ps_mask(ordered, low, high, _CMP_ORD_Q);
}

/* Any NaN becomes 0x7fc0; everything else stays. */
MM_INLINE void mm_mend_bf16_2(uint8_t *p)
{
    const __m512i y = _mm512_loadu_si512(p);
    const __m512i size = _mm512_and_si512(y, _mm512_set1_epi16(0x7fff));
    const __mmask32 nan = _mm512_cmpgt_epu16_mask(size, _mm512_set1_epi16(0x7f80));
    _mm512_storeu_si512(p, _mm512_mask_mov_epi16(y, nan, _mm512_set1_epi16(0x7fc0)));
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
#define MM_NARROW2(p, y, z, ordered) mm_store_bf16_2(p, y, z, ordered)
#define MM_ORDERED __mmask16
#define MM_MEND2(p) mm_mend_bf16_2(p)
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
