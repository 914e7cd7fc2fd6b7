/* Vector kernels and table of level avx2. */
#define KER_LEVEL avx2
#include "vec_families.inc"

#define KER(name, args) .name = ker_##name##_avx2,
const ker_table ker_table_avx2 = {KER_FAMILIES(KER)};
#undef KER
