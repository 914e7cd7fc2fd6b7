/* Vector kernels and table of level avx512. */
#define KER_LEVEL avx512
#include "vec_families.inc"

#define KER(name, args) .name = ker_##name##_avx512,
const ker_table ker_table_avx512 = {KER_FAMILIES(KER)};
#undef KER
