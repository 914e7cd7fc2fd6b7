/* Activation functions by name: shared by operators, kernels and the instruction set. */
#ifndef KAENA_BASE_ACT_H
#define KAENA_BASE_ACT_H

#include <stdbool.h>

typedef enum kaena_act {
#define KAENA_ACT_ROW(name, value, expression) KAENA_ACT_##name = value,
#include "act.def"
#undef KAENA_ACT_ROW
    KAENA_ACT_COUNT
} kaena_act;

/* "RELU"; NULL for a number without a row. */
const char *kaena_act_name(unsigned act);
/* False when there is none of that name. */
bool kaena_act_parse(const char *name, kaena_act *out);

#endif
