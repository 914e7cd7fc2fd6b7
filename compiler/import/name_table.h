/* A map from names to small numbers; insertion only. */
#ifndef KCC_NAME_TABLE_H
#define KCC_NAME_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"

typedef struct kcc_name_slot {
    const char *name; /* NULL: empty */
    uint32_t value;
} kcc_name_slot;

/* Zero is an empty table; memory is the arena's. Names are borrowed. */
typedef struct kcc_name_table {
    kaena_arena *arena;
    kcc_name_slot *slots;
    uint32_t n, capacity; /* capacity is a power of two, or 0 */
} kcc_name_table;

/* The number kept for |name|; false when there is none. */
bool kcc_name_find(const kcc_name_table *t, const char *name, uint32_t *value);

typedef enum kcc_name_result {
    KCC_NAME_ADDED,
    KCC_NAME_EXISTS,
    KCC_NAME_NO_MEMORY
} kcc_name_result;

/* Keeps |value| for |name| unless it is there already. NO_MEMORY only where the arena has a quota.
 */
kcc_name_result kcc_name_add(kcc_name_table *t, const char *name, uint32_t value);

#endif
