/* Vector kernels and table of level scalar. */
#define KER_LEVEL scalar
#include "vec_families.inc"

#define KER(name, args) .name = ker_##name##_scalar,
const ker_table ker_table_scalar = {KER_FAMILIES(KER)};
#undef KER
