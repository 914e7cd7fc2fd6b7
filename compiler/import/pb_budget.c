#include "pb_budget.h"

#include "checked.h"

#define GRAIN                                                                                      \
    16 /* of small allocations: messages are many and small, the arena's own grain is 64 */
#define BLOCK ((size_t)16 << 10)

void kcc_pb_budget_init(kcc_pb_budget *b, kaena_arena *arena, size_t file_size)
{
    *b = (kcc_pb_budget){.arena = arena};
    if (__builtin_mul_overflow(file_size, (size_t)KCC_PB_EXPANSION, &b->left) ||
        __builtin_add_overflow(b->left, KCC_PB_EXPANSION_BASE, &b->left))
        b->left = SIZE_MAX;
}

void *kcc_pb_alloc(kcc_pb_budget *b, size_t size)
{
    if (size > b->left) {
        b->exhausted = true;
        return NULL;
    }
    if (size >= KCC_PB_SMALL) {
        void *p = kaena_arena_alloc(b->arena, size);
        b->exhausted |= !p;
        b->left -= p ? size : 0;
        return p;
    }
    size_t held = size ? (size_t)kaena_align_up(size, GRAIN) : GRAIN;
    if (held > b->small_left) {
        b->small = kaena_arena_alloc(b->arena, BLOCK);
        b->small_left = b->small ? BLOCK : 0;
    }
    if (!b->small || held > b->left) {
        b->exhausted = true;
        return NULL;
    }
    void *p = b->small;
    b->small += held;
    b->small_left -= held;
    b->left -= held;
    return p;
}

kaena_status kcc_pb_exhausted(kaena_err *err)
{
    return KAENA_FAIL(err, RESOURCE_EXHAUSTED,
                      "the file expands to more than %d times its size in memory",
                      KCC_PB_EXPANSION);
}
