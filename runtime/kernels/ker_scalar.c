/* The table of level scalar. */
#include "ker_levels.h"

#define KER(name, args) .name = ker_##name##_scalar,
const ker_table ker_table_scalar = {KER_FAMILIES(KER)};
#undef KER
