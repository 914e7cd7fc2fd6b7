#include "arena.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "checked.h"

#define ARENA_ALIGN 64
#define ARENA_BLOCK ((size_t)64 << 10)
#define ARENA_BLOCK_MAX ((size_t)32 << 20)
#define HUGE_PAGE ((size_t)2 << 20)
#define SPARES 4

struct kaena_arena_block {
    kaena_arena_block *next;
    size_t size; /* bytes of data */
    size_t used;
    _Alignas(ARENA_ALIGN) unsigned char data[];
};

/* What arenas without a quota, whose users count on memory, get when there is none: enough for a
 * server to tell its clients about a shortage that passes. */
static _Alignas(ARENA_ALIGN) unsigned char spare[SPARES][sizeof(kaena_arena_block) + ARENA_BLOCK];
static atomic_bool spare_taken[SPARES];

static kaena_arena_block *spare_alloc(size_t bytes)
{
    for (size_t i = 0; i < SPARES && bytes <= sizeof *spare; i++)
        if (!atomic_exchange(&spare_taken[i], true))
            return (kaena_arena_block *)(void *)spare[i];
    return NULL;
}

static void block_free(kaena_arena_block *b)
{
    for (size_t i = 0; i < SPARES; i++)
        if ((unsigned char *)b == spare[i]) {
            atomic_store(&spare_taken[i], false);
            return;
        }
    free(b);
}

void kaena_arena_init(kaena_arena *arena, size_t quota)
{
    *arena = (kaena_arena){.quota = quota};
}

void kaena_arena_fini(kaena_arena *arena)
{
    for (kaena_arena_block *b = arena->head; b;) {
        kaena_arena_block *next = b->next;
        block_free(b);
        b = next;
    }
    arena->head = NULL;
    arena->used = 0;
}

void kaena_arena_rewind(kaena_arena *arena)
{
    kaena_arena_block *kept = NULL;
    for (kaena_arena_block *b = arena->head; b;) {
        kaena_arena_block *next = b->next;
        if (!kept && b->size <= ARENA_BLOCK)
            kept = b;
        else
            block_free(b);
        b = next;
    }
    arena->head = kept;
    arena->used = 0;
    if (kept) {
        kept->next = NULL;
        kept->used = 0;
        arena->used = sizeof *kept + kept->size;
    }
}

bool kaena_arena_empty(const kaena_arena *arena)
{
    return !arena->head || (!arena->head->next && arena->head->used == 0);
}

void kaena_arena_join(kaena_arena *to, kaena_arena *from)
{
    kaena_arena_block *last = from->head;
    while (last && last->next)
        last = last->next;
    if (!last)
        return;
    /* Behind the head, whose rest stays usable. */
    kaena_arena_block **at = to->head ? &to->head->next : &to->head;
    last->next = *at;
    *at = from->head;
    to->used += from->used;
    from->head = NULL;
    from->used = 0;
}

static void *out_of_memory(const kaena_arena *arena, size_t size)
{
    if (arena->quota == 0) {
        (void)fprintf(stderr, "kaena: out of memory (%zu bytes asked for, %zu in use)\n", size,
                      arena->used);
        exit(70);
    }
    return NULL;
}

/* Large blocks ask for huge pages: on virtual machines a page fault can cost more than filling the
 * page, and weights are hundreds of megabytes. */
static kaena_arena_block *block_alloc(size_t bytes)
{
    if (bytes < 2 * HUGE_PAGE)
        return aligned_alloc(ARENA_ALIGN, bytes);
    bytes = (size_t)kaena_align_up(bytes, HUGE_PAGE);
    kaena_arena_block *b = aligned_alloc(HUGE_PAGE, bytes);
    if (b)
        (void)madvise(b, bytes, MADV_HUGEPAGE); /* advice: works without */
    return b;
}

/* Blocks grow with what the arena holds, so that many tensors of a few megabytes share them. */
static size_t block_size(const kaena_arena *arena, size_t need)
{
    size_t size = arena->used / 8;
    size = size < ARENA_BLOCK ? ARENA_BLOCK : size > ARENA_BLOCK_MAX ? ARENA_BLOCK_MAX : size;
    return need > size ? need : (size_t)kaena_align_up(size, ARENA_ALIGN);
}

void *kaena_arena_alloc(kaena_arena *arena, size_t size)
{
    if (size > SIZE_MAX / 2)
        return out_of_memory(arena, size);
    size_t need = (size_t)kaena_align_up(size ? size : 1, ARENA_ALIGN);
    kaena_arena_block *b = arena->head;
    if (!b || b->size - b->used < need) {
        size_t data = block_size(arena, need);
        if (arena->quota) {
            size_t left = arena->quota > arena->used ? arena->quota - arena->used : 0;
            if (left < sizeof *b + need)
                return NULL;
            if (left < sizeof *b + data)
                data = need;
        }
        kaena_arena_block *fresh = block_alloc(sizeof *fresh + data);
        if (!fresh && !arena->quota)
            fresh = spare_alloc(sizeof *fresh + data);
        if (!fresh)
            return out_of_memory(arena, size);
        fresh->size = data;
        fresh->used = 0;
        arena->used += sizeof *fresh + data;
        if (b && data == need && b->size - b->used > 0) {
            /* A large one goes behind the head, whose rest stays usable. */
            fresh->next = b->next;
            b->next = fresh;
        } else {
            fresh->next = b;
            arena->head = fresh;
        }
        b = fresh;
    }
    void *p = b->data + b->used;
    b->used += need;
    memset(p, 0, size);
    return p;
}

void *kaena_arena_array(kaena_arena *arena, size_t n, size_t size)
{
    uint64_t bytes;
    if (!kaena_mul_u64(n, size, &bytes))
        return out_of_memory(arena, SIZE_MAX);
    return kaena_arena_alloc(arena, (size_t)bytes);
}

void *kaena_arena_memdup(kaena_arena *arena, const void *p, size_t size)
{
    void *copy = kaena_arena_alloc(arena, size);
    if (copy && size)
        memcpy(copy, p, size);
    return copy;
}

char *kaena_arena_strdup(kaena_arena *arena, const char *s)
{
    return kaena_arena_memdup(arena, s, strlen(s) + 1);
}

char *kaena_arena_printf(kaena_arena *arena, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *s = n < 0 ? NULL : kaena_arena_alloc(arena, (size_t)n + 1);
    if (s)
        (void)vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    return s;
}
