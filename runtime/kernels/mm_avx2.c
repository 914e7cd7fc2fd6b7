/* Matmul of level avx2: a panel is two vectors, a tile 6 rows of one panel: with 12 accumulators,
 * two vectors of weights and a moving element one register is left. One accumulator that goes
 * through memory makes the loop wait for it, so GCC gets no choice in what needs registers. */
#include "ker_levels.h"
#include "mm_drive.h"
#include "simd.h"

#define MM_TILES_256(T) T(1, 1) T(2, 1) T(3, 1) T(4, 1) T(5, 1) T(6, 1)
/* clang-format off */
#define MM_ROWS_256 {0, 6}
/* clang-format on */

MM_INLINE __m256i mm_load(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

MM_INLINE void mm_store(void *p, __m256i v)
{
    _mm256_storeu_si256((__m256i *)p, v);
}

/* One half of each pair as float: phase 0 the odd element (high half), phase 1 the even one. The
 * mask stays in memory. */
MM_INLINE __m256 mm_bf16_half(int phase, __m256i v)
{
    static const _Alignas(32) uint32_t high[8] = {0xffff0000, 0xffff0000, 0xffff0000, 0xffff0000,
                                                  0xffff0000, 0xffff0000, 0xffff0000, 0xffff0000};
    if (phase == 0)
        __asm__("vpand %1, %0, %0" : "+x"(v) : "m"(*(const __m256i *)(const void *)high));
    else
        v = _mm256_slli_epi32(v, 16);
    return _mm256_castsi256_ps(v);
}

MM_INLINE __m256 mm_f16_panel(int phase, const uint8_t *p)
{
    __m256 a = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
    __m256 b = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 16)));
    __m256 half = phase == 0 ? _mm256_shuffle_ps(a, b, 0xdd) : _mm256_shuffle_ps(a, b, 0x88);
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(half), 0xd8));
}

MM_INLINE __m256 mm_f16_moving(int phase, uint32_t bits)
{
    return _mm256_broadcastss_ps(
        _mm_cvtph_ps(_mm_cvtsi32_si128((int)(phase == 0 ? bits >> 16 : bits))));
}

/* acc + x * w. Left to itself, GCC lets the sum overwrite a factor, and copies. */
MM_INLINE __m256 mm_fma(__m256 acc, __m256 x, __m256 w)
{
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(acc) : "x"(x), "x"(w));
    return acc;
}

MM_INLINE __m256i mm_dot_i8(__m256i acc, __m256i x, __m256i w)
{
    return _mm256_add_epi32(acc, _mm256_madd_epi16(x, w));
}

#define MM_TILES MM_TILES_256
#define MM_NAME bf16
#define MM_VEC __m256
#define MM_LANES 8
#define MM_OPERAND __m256
#define MM_PHASES 2
#define MM_PAIR 2
#define MM_W(phase, p) mm_bf16_half(phase, mm_load(p))
#define MM_X(phase, bits, flip) mm_bf16_half(phase, _mm256_set1_epi32((int)(bits)))
#define MM_DOT(acc, x, w) mm_fma(acc, x, w)
#define MM_START(p) _mm256_setzero_ps()
#define MM_LOAD(p) _mm256_loadu_ps(p)
#define MM_STORE(p, v) _mm256_storeu_ps(p, v)
#define MM_VF(v) ((vf){(v)[0], (v)[1]})
#define MM_FINISH 2
#define MM_WIDEN(p) vi_as_vf(vi_shl(vh_widen(vh_load(p)), 16))
#define MM_NARROW(p, y) vh_store(p, v_pack_bf16(y))
#include "mm_body.h"

#define MM_TILES MM_TILES_256
#define MM_NAME f16
#define MM_VEC __m256
#define MM_LANES 8
#define MM_OPERAND __m256
#define MM_PHASES 2
#define MM_PAIR 2
#define MM_W(phase, p) mm_f16_panel(phase, p)
#define MM_X(phase, bits, flip) mm_f16_moving(phase, bits)
#define MM_DOT(acc, x, w) mm_fma(acc, x, w)
#define MM_START(p) _mm256_setzero_ps()
#define MM_LOAD(p) _mm256_loadu_ps(p)
#define MM_STORE(p, v) _mm256_storeu_ps(p, v)
#define MM_VF(v) ((vf){(v)[0], (v)[1]})
#define MM_FINISH 2
#define MM_WIDEN(p) v_from_f16(vh_load(p))
#define MM_NARROW(p, y) vh_store(p, v_pack_f16(y))
#include "mm_body.h"

#define MM_TILES MM_TILES_256
#define MM_NAME f32
#define MM_VEC __m256
#define MM_LANES 8
#define MM_OPERAND __m256
#define MM_PHASES 1
#define MM_PAIR 1
#define MM_W(phase, p) _mm256_castsi256_ps(mm_load(p))
#define MM_X(phase, bits, flip) _mm256_castsi256_ps(_mm256_set1_epi32((int)(bits)))
#define MM_DOT(acc, x, w) mm_fma(acc, x, w)
#define MM_START(p) _mm256_setzero_ps()
#define MM_LOAD(p) _mm256_loadu_ps(p)
#define MM_STORE(p, v) _mm256_storeu_ps(p, v)
#define MM_VF(v) ((vf){(v)[0], (v)[1]})
#define MM_FINISH 4
#define MM_WIDEN(p) vi_as_vf(vi_load(p))
#define MM_NARROW(p, y) vi_store(p, vf_as_vi(y))
#include "mm_body.h"

/* Phase 0 multiplies bytes 0 and 2 of each column, phase 1 bytes 1 and 3. */
#define MM_TILES MM_TILES_256
#define MM_NAME i8
#define MM_VEC __m256i
#define MM_LANES 8
#define MM_OPERAND __m256i
#define MM_PHASES 2
#define MM_PAIR 4
#define MM_W(phase, p)                                                                             \
    _mm256_srai_epi16((phase) == 0 ? _mm256_slli_epi16(mm_load(p), 8) : mm_load(p), 8)
#define MM_X(phase, bits, flip)                                                                    \
    _mm256_and_si256(_mm256_set1_epi32((int)(((bits) ^ (flip)) >> ((phase)*8))),                   \
                     _mm256_set1_epi32(0x00ff00ff))
#define MM_DOT(acc, x, w) mm_dot_i8(acc, x, w)
#define MM_START(p) mm_load(p)
#define MM_LOAD(p) mm_load(p)
#define MM_STORE(p, v) mm_store(p, v)
#include "mm_body.h"

MM_KERNEL(bf16, avx2, 1, MM_ROWS_256, KAENA_BF16, false)
MM_KERNEL(f16, avx2, 1, MM_ROWS_256, KAENA_F16, false)
MM_KERNEL(f32, avx2, 1, MM_ROWS_256, KAENA_F32, false)
MM_KERNEL(i8, avx2, 1, MM_ROWS_256, KAENA_DTYPE_NONE, true)
