#include "overlap.h"

#include <stdlib.h>

/* A range is listed at the largest nodes of the tree that it covers, so all that contain a time are
 * listed on the way to its leaf; those that begin later are found by counting beginnings. */
typedef struct entry {
    kcc_live *live;
    uint32_t next; /* in the same list, 0: none */
} entry;

struct kcc_overlap {
    uint32_t leaves;    /* a power of two; node i has children 2i and 2i+1, the root is 1 */
    uint32_t *covers;   /* [2 leaves] lists */
    uint32_t *begins;   /* [leaves] lists of ranges that begin at that time */
    uint32_t *n_begins; /* [2 leaves] how many begin below */
    entry *entry;       /* from 1 */
    uint32_t n_entry, n_room;
};

static void *get(size_t n, size_t size)
{
    void *p = calloc(n, size);
    if (!p)
        abort();
    return p;
}

kcc_overlap *kcc_overlap_create(int32_t last, uint32_t n)
{
    kcc_overlap *o = get(1, sizeof *o);
    o->leaves = 1;
    while (o->leaves <= (uint32_t)last)
        o->leaves *= 2;
    o->covers = get(2 * (size_t)o->leaves, sizeof *o->covers);
    o->n_begins = get(2 * (size_t)o->leaves, sizeof *o->n_begins);
    o->begins = get(o->leaves, sizeof *o->begins);
    o->n_room = 4 * n + 64;
    o->entry = get(o->n_room, sizeof *o->entry);
    o->n_entry = 1;
    return o;
}

void kcc_overlap_destroy(kcc_overlap *o)
{
    free(o->covers);
    free(o->n_begins);
    free(o->begins);
    free(o->entry);
    free(o);
}

static void push(kcc_overlap *o, uint32_t *list, kcc_live *l)
{
    if (o->n_entry == o->n_room) {
        o->n_room *= 2;
        o->entry = realloc(o->entry, o->n_room * sizeof *o->entry);
        if (!o->entry)
            abort();
    }
    o->entry[o->n_entry] = (entry){l, *list};
    *list = o->n_entry++;
}

void kcc_overlap_add(kcc_overlap *o, kcc_live *l)
{
    uint32_t first = (uint32_t)l->first;
    push(o, &o->begins[first], l);
    for (uint32_t i = first + o->leaves; i; i /= 2)
        o->n_begins[i]++;
    for (uint32_t a = first + o->leaves, b = (uint32_t)l->last + o->leaves + 1; a < b;
         a /= 2, b /= 2) {
        if (a & 1)
            push(o, &o->covers[a++], l);
        if (b & 1)
            push(o, &o->covers[--b], l);
    }
}

/* Appends a list; false where that would be too many. */
static bool take(const kcc_overlap *o, uint32_t list, kcc_live **out, uint32_t most, uint32_t *n)
{
    for (uint32_t i = list; i; i = o->entry[i].next) {
        if (*n == most)
            return false;
        out[(*n)++] = o->entry[i].live;
    }
    return true;
}

/* Ranges that begin in [from, to], below |node|, which stands for [low, high]. */
static bool take_begins(const kcc_overlap *o, uint32_t node, uint32_t low, uint32_t high,
                        uint32_t from, uint32_t to, kcc_live **out, uint32_t most, uint32_t *n)
{
    if (o->n_begins[node] == 0 || high < from || low > to)
        return true;
    if (low == high)
        return take(o, o->begins[low], out, most, n);
    uint32_t middle = low + (high - low) / 2;
    return take_begins(o, 2 * node, low, middle, from, to, out, most, n) &&
           take_begins(o, 2 * node + 1, middle + 1, high, from, to, out, most, n);
}

bool kcc_overlap_find(const kcc_overlap *o, const kcc_live *l, kcc_live **out, uint32_t most,
                      uint32_t *n)
{
    *n = 0;
    for (uint32_t i = (uint32_t)l->first + o->leaves; i; i /= 2)
        if (!take(o, o->covers[i], out, most, n))
            return false;
    return l->first == l->last || take_begins(o, 1, 0, o->leaves - 1, (uint32_t)l->first + 1,
                                              (uint32_t)l->last, out, most, n);
}
