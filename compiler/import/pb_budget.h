/* Memory of messages that come from outside: bounded by a multiple of the file's size. */
#ifndef KCC_PB_BUDGET_H
#define KCC_PB_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "err.h"

/* What an unpacked message may take: this multiple of the file's size, plus a base that lets small
 * files have any form. */
#define KCC_PB_EXPANSION 16
#define KCC_PB_EXPANSION_BASE ((size_t)16 << 20)

typedef struct kcc_pb_budget {
    kaena_arena *arena;
    size_t left;    /* bytes */
    bool exhausted; /* an allocation has failed */
    uint8_t *small; /* the rest of the block that small allocations share */
    size_t small_left;
} kcc_pb_budget;

void kcc_pb_budget_init(kcc_pb_budget *b, kaena_arena *arena, size_t file_size);

/* Zeroed memory, aligned to 64 from KCC_PB_SMALL bytes up and to 16 below; NULL when the budget or
 * the arena is exhausted. */
#define KCC_PB_SMALL 256
void *kcc_pb_alloc(kcc_pb_budget *b, size_t size);

/* The failure that belongs to an allocation of NULL. */
kaena_status kcc_pb_exhausted(kaena_err *err);

#endif
