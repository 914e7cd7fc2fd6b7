/* Arena: many small allocations, freed together. */
#ifndef KAENA_BASE_ARENA_H
#define KAENA_BASE_ARENA_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

typedef struct kaena_arena_block kaena_arena_block;

/* |quota| bounds what the arena may hold; with quota 0 running out of memory ends the process
 * (compiler use), with a quota alloc returns NULL. Thread: one at a time. */
typedef struct kaena_arena {
    kaena_arena_block *head;
    size_t used;  /* bytes held, block headers included */
    size_t quota; /* 0 = none */
} kaena_arena;

void kaena_arena_init(kaena_arena *arena, size_t quota);
void kaena_arena_fini(kaena_arena *arena);

/* Ends all allocations, but keeps a block of usual size for the next ones. */
void kaena_arena_rewind(kaena_arena *arena);

/* Nothing is allocated. */
bool kaena_arena_empty(const kaena_arena *arena);

/* Zeroed memory, aligned to 64; NULL only where the arena has a quota. A size of 0 gives a unique
 * pointer. */
void *kaena_arena_alloc(kaena_arena *arena, size_t size);

/* |n| zeroed elements of |size|; NULL on overflow too. */
void *kaena_arena_array(kaena_arena *arena, size_t n, size_t size);

/* |to|, which has no quota, takes over all that |from| holds; |from| is empty then. */
void kaena_arena_join(kaena_arena *to, kaena_arena *from);

char *kaena_arena_strdup(kaena_arena *arena, const char *s);
void *kaena_arena_memdup(kaena_arena *arena, const void *p, size_t size);
char *kaena_arena_printf(kaena_arena *arena, const char *fmt, ...) KAENA_PRINTF(2, 3);

#define KAENA_NEW(arena, type) ((type *)kaena_arena_alloc((arena), sizeof(type)))
#define KAENA_NEW_N(arena, type, n) ((type *)kaena_arena_array((arena), (n), sizeof(type)))

#endif
