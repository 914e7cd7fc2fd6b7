/* The table of level avx512. */
#include "ker_levels.h"

#define KER(name, args) .name = ker_##name##_avx512,
const ker_table ker_table_avx512 = {KER_FAMILIES(KER)};
#undef KER
