/* Matmul of level scalar: plain C, a tile is one row of one panel. The order of operations written
 * here is the definition of the bits. */
#include "ker_levels.h"
#include "mm_drive.h"

#define MM_TILES_SCALAR(T) T(1, 1)
#define MM_ROWS_SCALAR                                                                             \
    {                                                                                              \
        0, 1                                                                                       \
    }

/* Element |i| of a pair of two-byte elements. */
MM_INLINE uint16_t mm_half(uint32_t bits, int i)
{
    return (uint16_t)(bits >> (16 * i));
}

MM_INLINE uint32_t mm_word(const uint8_t *p)
{
    uint32_t bits;
    memcpy(&bits, p, sizeof bits);
    return bits;
}

MM_INLINE int32_t mm_dot_i8(int32_t acc, uint32_t x, uint32_t w)
{
    uint32_t sum = (uint32_t)acc;
    for (int i = 0; i < 32; i += 8)
        sum += (uint32_t)((int32_t)(x >> i & 0xff) * (int8_t)(w >> i & 0xff));
    return (int32_t)sum;
}

/* Phase 0 is the odd element of a pair, phase 1 the even one. */
#define MM_TILES MM_TILES_SCALAR
#define MM_NAME bf16
#define MM_VEC float
#define MM_LANES 1
#define MM_OPERAND float
#define MM_PHASES 2
#define MM_PAIR 2
#define MM_W(phase, p) kaena_bf16_to_f32(mm_half(mm_word(p), 1 - (phase)))
#define MM_X(phase, bits, flip) kaena_bf16_to_f32(mm_half(bits, 1 - (phase)))
#define MM_DOT(acc, x, w) fmaf(x, w, acc)
#define MM_START(p) 0.0f
#define MM_LOAD(p) (*(p))
#define MM_STORE(p, v) (*(p) = (v))
#include "mm_body.h"

#define MM_TILES MM_TILES_SCALAR
#define MM_NAME f16
#define MM_VEC float
#define MM_LANES 1
#define MM_OPERAND float
#define MM_PHASES 2
#define MM_PAIR 2
#define MM_W(phase, p) kaena_f16_to_f32(mm_half(mm_word(p), 1 - (phase)))
#define MM_X(phase, bits, flip) kaena_f16_to_f32(mm_half(bits, 1 - (phase)))
#define MM_DOT(acc, x, w) fmaf(x, w, acc)
#define MM_START(p) 0.0f
#define MM_LOAD(p) (*(p))
#define MM_STORE(p, v) (*(p) = (v))
#include "mm_body.h"

#define MM_TILES MM_TILES_SCALAR
#define MM_NAME f32
#define MM_VEC float
#define MM_LANES 1
#define MM_OPERAND float
#define MM_PHASES 1
#define MM_PAIR 1
#define MM_W(phase, p) kaena_f32_from_bits(mm_word(p))
#define MM_X(phase, bits, flip) kaena_f32_from_bits(bits)
#define MM_DOT(acc, x, w) fmaf(x, w, acc)
#define MM_START(p) 0.0f
#define MM_LOAD(p) (*(p))
#define MM_STORE(p, v) (*(p) = (v))
#include "mm_body.h"

#define MM_TILES MM_TILES_SCALAR
#define MM_NAME i8
#define MM_VEC int32_t
#define MM_LANES 1
#define MM_OPERAND uint32_t
#define MM_PHASES 1
#define MM_PAIR 4
#define MM_W(phase, p) mm_word(p)
#define MM_X(phase, bits, flip) ((bits) ^ (flip))
#define MM_DOT(acc, x, w) mm_dot_i8(acc, x, w)
#define MM_START(p) (*(p))
#define MM_LOAD(p) ((int32_t)mm_word((const uint8_t *)(p)))
#define MM_STORE(p, v) memcpy((p), &(int32_t){v}, sizeof(int32_t))
#include "mm_body.h"

MM_KERNEL(bf16, scalar, 1, MM_ROWS_SCALAR, KAENA_DTYPE_NONE, false)
MM_KERNEL(f16, scalar, 1, MM_ROWS_SCALAR, KAENA_DTYPE_NONE, false)
MM_KERNEL(f32, scalar, 1, MM_ROWS_SCALAR, KAENA_DTYPE_NONE, false)
MM_KERNEL(i8, scalar, 1, MM_ROWS_SCALAR, KAENA_DTYPE_NONE, true)
