/* The table of level avx2. */
#include "ker_levels.h"

#define KER(name, args) .name = ker_##name##_avx2,
const ker_table ker_table_avx2 = {KER_FAMILIES(KER)};
#undef KER
