/* Matmul tiles of both AVX-512 levels. Include after mm_drive.h and simd.h. */

/* Accumulators fill the 32 registers but for one panel row and a broadcast; tiles of few panels
 * have as many rows as there are general registers for row pointers. Blocks of rows are balanced,
 * so every smaller count occurs. */
/* clang-format off */
#define MM_TILES_512(T)                                                                            \
    T(1, 4) T(2, 4) T(3, 4) T(4, 4) T(5, 4) T(6, 4)                                                \
    T(1, 3) T(2, 3) T(3, 3) T(4, 3) T(5, 3) T(6, 3) T(7, 3) T(8, 3)                                \
    T(1, 2) T(2, 2) T(3, 2) T(4, 2) T(5, 2) T(6, 2) T(7, 2) T(8, 2) T(9, 2) T(10, 2) T(11, 2)      \
    T(12, 2)                                                                                       \
    T(1, 1) T(2, 1) T(3, 1) T(4, 1) T(5, 1) T(6, 1) T(7, 1) T(8, 1) T(9, 1) T(10, 1) T(11, 1)      \
    T(12, 1)
#define MM_ROWS_512 {0, 12, 12, 8, 6}
/* clang-format on */

/* One half of each pair as float: phase 0 the odd element (high half), phase 1 the even one. */
MM_INLINE __m512 mm_bf16_half(int phase, __m512i v)
{
    return _mm512_castsi512_ps(phase == 0 ? _mm512_and_si512(v, _mm512_set1_epi32((int)0xffff0000))
                                          : _mm512_slli_epi32(v, 16));
}

MM_INLINE __m512 mm_f16_panel(int phase, const uint8_t *p)
{
    const __m512i odd =
        _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    const __m512i even = _mm512_sub_epi32(odd, _mm512_set1_epi32(1));
    __m512 a = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
    __m512 b = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p + 32)));
    return _mm512_permutex2var_ps(a, phase == 0 ? odd : even, b);
}

MM_INLINE __m512 mm_f16_moving(int phase, uint32_t bits)
{
    return _mm512_broadcastss_ps(
        _mm_cvtph_ps(_mm_cvtsi32_si128((int)(phase == 0 ? bits >> 16 : bits))));
}

#define MM_TILES MM_TILES_512
#define MM_NAME f16
#define MM_VEC __m512
#define MM_LANES 16
#define MM_OPERAND __m512
#define MM_PHASES 2
#define MM_PAIR 2
#define MM_W(phase, p) mm_f16_panel(phase, p)
#define MM_X(phase, bits, flip) mm_f16_moving(phase, bits)
#define MM_DOT(acc, x, w) _mm512_fmadd_ps(x, w, acc)
#define MM_START(p) _mm512_setzero_ps()
#define MM_LOAD(p) _mm512_loadu_ps(p)
#define MM_STORE(p, v) _mm512_storeu_ps(p, v)
#define MM_VF(v) (*(v))
#define MM_FINISH 2
#define MM_WIDEN(p) v_from_f16(vh_load(p))
#define MM_NARROW(p, y) vh_store(p, v_pack_f16(y))
#include "mm_body.h"

#define MM_TILES MM_TILES_512
#define MM_NAME f32
#define MM_VEC __m512
#define MM_LANES 16
#define MM_OPERAND __m512
#define MM_PHASES 1
#define MM_PAIR 1
#define MM_W(phase, p) _mm512_loadu_ps(p)
#define MM_X(phase, bits, flip) _mm512_castsi512_ps(_mm512_set1_epi32((int)(bits)))
#define MM_DOT(acc, x, w) _mm512_fmadd_ps(x, w, acc)
#define MM_START(p) _mm512_setzero_ps()
#define MM_LOAD(p) _mm512_loadu_ps(p)
#define MM_STORE(p, v) _mm512_storeu_ps(p, v)
#define MM_VF(v) (*(v))
#define MM_FINISH 4
#define MM_WIDEN(p) vi_as_vf(vi_load(p))
#define MM_NARROW(p, y) vi_store(p, vf_as_vi(y))
#include "mm_body.h"
