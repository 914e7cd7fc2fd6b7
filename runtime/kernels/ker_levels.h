/* The levels and the names of their functions: family F of level L is ker_F_L, its table
 * ker_table_L. Inside the kernels only; others use ker_table_of. */
#ifndef KER_LEVELS_H
#define KER_LEVELS_H

#include "ker.h"

/* ROW(name, NAME), lowest first; a level runs wherever a later one does. */
#define KER_LEVELS(ROW)                                                                            \
    ROW(scalar, SCALAR)                                                                            \
    ROW(avx2, AVX2)                                                                                \
    ROW(avx512, AVX512)                                                                            \
    ROW(avx512_bf16, AVX512_BF16)

#define KER_LEVEL_ROW(name, NAME) extern const ker_table ker_table_##name;
KER_LEVELS(KER_LEVEL_ROW)
#undef KER_LEVEL_ROW

#define KER(name, args)                                                                            \
    void ker_##name##_scalar(const args *a, uint32_t row0, uint32_t row1);                         \
    void ker_##name##_avx2(const args *a, uint32_t row0, uint32_t row1);                           \
    void ker_##name##_avx512(const args *a, uint32_t row0, uint32_t row1);                         \
    void ker_##name##_avx512_bf16(const args *a, uint32_t row0, uint32_t row1);
KER_FAMILIES(KER)
#undef KER

/* A tile of accumulators, rows 64 elements apart (FP32, or INT32 if |integer|), and where
 * its rows go: dst = cast(func(fma(c, scale, bias) [+ residual]) [+ residual]). */
typedef struct ker_drain_args {
    const float *c;
    uint32_t rows, columns; /* at most 56 and 64; the tile has whole vectors of them */
    bool integer;
    ker_epilogue ep;
    uint8_t *dst;
    const uint8_t *residual;             /* or NULL */
    const int64_t *dst_at, *residual_at; /* bytes, of each row */
    kaena_dtype dst_type, residual_type;
    int64_t dst_stride, residual_stride; /* bytes between columns */
} ker_drain_args;

#define KER_TILE_ROWS 56
#define KER_TILE_COLUMNS 64

#define KER_LEVEL_ROW(name, NAME) void ker_drain_##name(const ker_drain_args *a);
KER_LEVELS(KER_LEVEL_ROW)
#undef KER_LEVEL_ROW

#endif
