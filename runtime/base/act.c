#include "act.h"

#include <stddef.h>
#include <string.h>

static const char *const names[KAENA_ACT_COUNT] = {
#define KAENA_ACT_ROW(name, value, expression) [value] = #name,
#include "act.def"
#undef KAENA_ACT_ROW
};

const char *kaena_act_name(unsigned act)
{
    return act < KAENA_ACT_COUNT ? names[act] : NULL;
}

bool kaena_act_parse(const char *name, kaena_act *out)
{
    for (unsigned i = 0; i < KAENA_ACT_COUNT; i++)
        if (names[i] && strcmp(names[i], name) == 0) {
            *out = (kaena_act)i;
            return true;
        }
    return false;
}
