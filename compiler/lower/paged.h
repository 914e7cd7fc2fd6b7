/* A sparse array over the ids of a graph's values: a step of a plan that has a thousand steps must
 * not pay for the values of the others. */
#ifndef KCC_PAGED_H
#define KCC_PAGED_H

#include <stddef.h>
#include <stdint.h>

#include "arena.h"

/* Zero is an empty one. Entries do not move. */
typedef struct kcc_paged {
    void **page;
    uint32_t n_pages;
} kcc_paged;

/* Entry |id| of |size| bytes, the same for all of an array; zeroed at first. |arena| has no quota.
 */
void *kcc_paged_at(kcc_paged *p, kaena_arena *arena, uint32_t id, size_t size);
/* The entry, or NULL where there never was one near it. */
void *kcc_paged_find(const kcc_paged *p, uint32_t id, size_t size);

#endif
