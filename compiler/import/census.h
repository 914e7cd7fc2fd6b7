/* Which operators a model file has and how often, known to the importer or not. */
#ifndef KCC_CENSUS_H
#define KCC_CENSUS_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "err.h"
#include "name_table.h"

typedef struct kcc_census_row {
    const char *op; /* in the framework's own words */
    uint32_t count;
    bool known; /* the importer has a translation */
} kcc_census_row;

/* All zero but for the arena, which holds everything. */
typedef struct kcc_census {
    kaena_arena *arena;
    kcc_census_row *row; /* in the order of their first appearance */
    uint32_t n, capacity;
    kcc_name_table names;
} kcc_census;

/* Counts one node of operator |op|, which is copied. */
kaena_status kcc_census_add(kcc_census *c, const char *op, bool known,
                            kaena_err *err) KAENA_CHECKED;
/* The row of |op|, or NULL. */
kcc_census_row *kcc_census_find(const kcc_census *c, const char *op);

#endif
