#include "census.h"

#include <string.h>

kcc_census_row *kcc_census_find(const kcc_census *c, const char *op)
{
    uint32_t i;
    return kcc_name_find(&c->names, op, &i) ? &c->row[i] : NULL;
}

static bool grow(kcc_census *c)
{
    uint32_t capacity = c->capacity ? c->capacity * 2 : 64;
    kcc_census_row *grown = KAENA_NEW_N(c->arena, kcc_census_row, capacity);
    if (grown && c->n)
        memcpy(grown, c->row, c->n * sizeof *grown);
    c->row = grown ? grown : c->row;
    c->capacity = grown ? capacity : c->capacity;
    return grown;
}

kaena_status kcc_census_add(kcc_census *c, const char *op, bool known, kaena_err *err)
{
    kcc_census_row *row = kcc_census_find(c, op);
    if (row) {
        row->count++;
        return KAENA_OK;
    }
    c->names.arena = c->arena;
    const char *name = kaena_arena_strdup(c->arena, op);
    if (!name || (c->n == c->capacity && !grow(c)) ||
        kcc_name_add(&c->names, name, c->n) == KCC_NAME_NO_MEMORY)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for the list of operators");
    c->row[c->n++] = (kcc_census_row){name, 1, known};
    return KAENA_OK;
}
