#include "names.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <xxhash.h>

/* Open addressing; nothing is ever taken out. */
typedef struct entry {
    const char *name; /* NULL: free */
    void *owner;
    uint64_t hash;
    uint32_t next_suffix; /* where the search for a free "name_N" goes on */
} entry;

struct kgr_names {
    kaena_arena *arena;
    entry *table;
    size_t capacity, used; /* capacity is a power of two, at most 3/4 used */
    uint32_t made;
    entry few[4]; /* the first table: most bodies have few names */
};

kgr_names *kgr_names_create(kaena_arena *arena)
{
    kgr_names *names = KAENA_NEW(arena, kgr_names);
    if (!names)
        return NULL;
    names->arena = arena;
    names->table = names->few;
    names->capacity = sizeof names->few / sizeof *names->few;
    return names;
}

static entry *slot_of(entry *table, size_t capacity, const char *name, uint64_t hash)
{
    size_t i = (size_t)hash & (capacity - 1);
    while (table[i].name && (table[i].hash != hash || strcmp(table[i].name, name) != 0))
        i = (i + 1) & (capacity - 1);
    return &table[i];
}

static uint64_t hash_of(const char *name)
{
    return XXH3_64bits(name, strlen(name));
}

static bool grow(kgr_names *names)
{
    size_t capacity = names->capacity * 2;
    entry *table = KAENA_NEW_N(names->arena, entry, capacity);
    if (!table)
        return false;
    for (size_t i = 0; i < names->capacity; i++)
        if (names->table[i].name)
            *slot_of(table, capacity, names->table[i].name, names->table[i].hash) = names->table[i];
    names->table = table;
    names->capacity = capacity;
    return true;
}

/* |copy| belongs to the arena already. */
static const char *enter(kgr_names *names, char *copy, void *owner)
{
    if (!copy || (names->used + 1 > names->capacity / 4 * 3 && !grow(names)))
        return NULL;
    uint64_t hash = hash_of(copy);
    *slot_of(names->table, names->capacity, copy, hash) = (entry){copy, owner, hash, 2};
    names->used++;
    return copy;
}

const char *kgr_names_add(kgr_names *names, const char *name, void *owner)
{
    entry *taken = slot_of(names->table, names->capacity, name, hash_of(name));
    if (!taken->name)
        return enter(names, kaena_arena_strdup(names->arena, name), owner);
    for (;;) {
        char *copy = kaena_arena_printf(names->arena, "%s_%" PRIu32, name, taken->next_suffix++);
        if (!copy)
            return NULL;
        if (!kgr_names_find(names, copy))
            return enter(names, copy, owner);
    }
}

const char *kgr_names_make(kgr_names *names, const char *stem, void *owner)
{
    for (;;) {
        char *copy = kaena_arena_printf(names->arena, "%s_%" PRIu32, stem, names->made++);
        if (!copy)
            return NULL;
        if (!kgr_names_find(names, copy))
            return enter(names, copy, owner);
    }
}

void *kgr_names_find(const kgr_names *names, const char *name)
{
    return slot_of(names->table, names->capacity, name, hash_of(name))->owner;
}

void kgr_names_reown(kgr_names *names, const char *name, void *owner)
{
    slot_of(names->table, names->capacity, name, hash_of(name))->owner = owner;
}
