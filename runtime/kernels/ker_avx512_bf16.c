/* The table of level avx512_bf16. */
#include "ker_levels.h"

#define KER(name, args) .name = ker_##name##_avx512_bf16,
const ker_table ker_table_avx512_bf16 = {KER_FAMILIES(KER)};
#undef KER
