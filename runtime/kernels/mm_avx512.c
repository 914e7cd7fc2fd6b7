/* Matmul of level avx512: two FMAs a pair of BF16, sixteen-bit multiply-adds for INT8. */
#include "ker_levels.h"
#include "mm_drive.h"
#include "simd.h"
#include "mm_avx512.h"

MM_INLINE __m512i mm_dot_i8(__m512i acc, __m512i x, __m512i w)
{
    return _mm512_add_epi32(acc, _mm512_madd_epi16(x, w));
}

#define MM_TILES MM_TILES_512
#define MM_NAME bf16
#define MM_VEC __m512
#define MM_LANES 16
#define MM_OPERAND __m512
#define MM_PHASES 2
#define MM_PAIR 2
#define MM_W(phase, p) mm_bf16_half(phase, _mm512_loadu_si512(p))
#define MM_X(phase, bits, flip) mm_bf16_half(phase, _mm512_set1_epi32((int)(bits)))
#define MM_DOT(acc, x, w) _mm512_fmadd_ps(x, w, acc)
#define MM_START(p) _mm512_setzero_ps()
#define MM_LOAD(p) _mm512_loadu_ps(p)
#define MM_STORE(p, v) _mm512_storeu_ps(p, v)
#define MM_VF(v) (*(v))
#define MM_FINISH 2
#define MM_WIDEN(p) vi_as_vf(vi_shl(vh_widen(vh_load(p)), 16))
#define MM_NARROW(p, y) vh_store(p, v_pack_bf16(y))
#include "mm_body.h"

/* Phase 0 multiplies bytes 0 and 2 of each column, phase 1 bytes 1 and 3. */
#define MM_TILES MM_TILES_512
#define MM_NAME i8
#define MM_VEC __m512i
#define MM_LANES 16
#define MM_OPERAND __m512i
#define MM_PHASES 2
#define MM_PAIR 4
#define MM_W(phase, p)                                                                             \
    _mm512_srai_epi16(                                                                             \
        (phase) == 0 ? _mm512_slli_epi16(_mm512_loadu_si512(p), 8) : _mm512_loadu_si512(p), 8)
#define MM_X(phase, bits, flip)                                                                    \
    _mm512_and_si512(_mm512_set1_epi32((int)(((bits) ^ (flip)) >> ((phase)*8))),                   \
                     _mm512_set1_epi32(0x00ff00ff))
#define MM_DOT(acc, x, w) mm_dot_i8(acc, x, w)
#define MM_START(p) _mm512_loadu_si512(p)
#define MM_LOAD(p) _mm512_loadu_si512(p)
#define MM_STORE(p, v) _mm512_storeu_si512(p, v)
#include "mm_body.h"

MM_KERNEL(bf16, avx512, 4, MM_ROWS_512, KAENA_BF16, false)
MM_KERNEL(f16, avx512, 4, MM_ROWS_512, KAENA_F16, false)
MM_KERNEL(f32, avx512, 4, MM_ROWS_512, KAENA_F32, false)
MM_KERNEL(i8, avx512, 4, MM_ROWS_512, KAENA_DTYPE_NONE, true)
