#include "name_table.h"

#include <string.h>
#include <xxhash.h>

#define FIRST_CAPACITY 64u

static kcc_name_slot *find_slot(kcc_name_slot *slots, uint32_t capacity, const char *name)
{
    uint32_t mask = capacity - 1;
    uint32_t i = (uint32_t)XXH3_64bits(name, strlen(name)) & mask;
    while (slots[i].name && strcmp(slots[i].name, name) != 0)
        i = (i + 1) & mask;
    return &slots[i];
}

bool kcc_name_find(const kcc_name_table *t, const char *name, uint32_t *value)
{
    if (t->capacity == 0)
        return false;
    const kcc_name_slot *s = find_slot(t->slots, t->capacity, name);
    if (!s->name)
        return false;
    *value = s->value;
    return true;
}

static bool grow(kcc_name_table *t)
{
    uint32_t capacity = t->capacity ? t->capacity * 2 : FIRST_CAPACITY;
    kcc_name_slot *slots = KAENA_NEW_N(t->arena, kcc_name_slot, capacity);
    if (!slots)
        return false;
    for (uint32_t i = 0; i < t->capacity; i++) {
        if (t->slots[i].name)
            *find_slot(slots, capacity, t->slots[i].name) = t->slots[i];
    }
    t->slots = slots;
    t->capacity = capacity;
    return true;
}

kcc_name_result kcc_name_add(kcc_name_table *t, const char *name, uint32_t value)
{
    if ((uint64_t)t->n * 4 >= (uint64_t)t->capacity * 3 && !grow(t))
        return KCC_NAME_NO_MEMORY;
    kcc_name_slot *s = find_slot(t->slots, t->capacity, name);
    if (s->name)
        return KCC_NAME_EXISTS;
    *s = (kcc_name_slot){.name = name, .value = value};
    t->n++;
    return KCC_NAME_ADDED;
}
