/* Vector kernels and table of level avx512_bf16. */
#define KER_LEVEL avx512_bf16
#include "vec_families.inc"

#define KER(name, args) .name = ker_##name##_avx512_bf16,
const ker_table ker_table_avx512_bf16 = {KER_FAMILIES(KER)};
#undef KER
