#include "option_values.h"

#include <stdlib.h>
#include <string.h>

#include "isa.h"

typedef struct choice {
    const char *name;
    int value;
} choice;

static const choice casts[] = {
    {"all", KCC_CAST_ALL}, {"matmul", KCC_CAST_MATMUL}, {"none", KCC_CAST_NONE}, {NULL, 0}};
static const choice optimizes[] = {
    {"latency", KCC_OPTIMIZE_LATENCY}, {"throughput", KCC_OPTIMIZE_THROUGHPUT}, {NULL, 0}};

static const choice *find(const choice *c, const char *text)
{
    for (; c->name; c++)
        if (strcmp(c->name, text) == 0)
            return c;
    return NULL;
}

bool kcc_cast_of(const char *text, kcc_cast *out)
{
    const choice *c = find(casts, text);
    if (c)
        *out = (kcc_cast)c->value;
    return c;
}

bool kcc_optimize_of(const char *text, kcc_optimize *out)
{
    const choice *c = find(optimizes, text);
    if (c)
        *out = (kcc_optimize)c->value;
    return c;
}

bool kcc_num_tpbs_of(const char *text, uint32_t *out)
{
    char *end;
    long n = strtol(text, &end, 10);
    if (*end || end == text || n < 1 || n > KISA_MAX_TPBS)
        return false;
    *out = (uint32_t)n;
    return true;
}
