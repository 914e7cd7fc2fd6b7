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

#endif
