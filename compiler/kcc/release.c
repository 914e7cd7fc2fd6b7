#include "release.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define LEAST_BYTES (1 << 20) /* of a constant: smaller ones are not worth a call */

typedef struct range {
    uintptr_t first, end;
} range;

typedef struct ranges {
    range *list;
    size_t n, room;
} ranges;

typedef struct constants {
    kaena_arena arena; /* of the lists */
    ranges live;
    kgr_value **dead;
    size_t n_dead;
} constants;

static range bytes_of(const kgr_value *v)
{
    uintptr_t first = (uintptr_t)v->t.data;
    return (range){first, first + kop_elements(&v->t) * kaena_dtype_size(v->t.dtype)};
}

static kaena_status count(kgr_graph *g, void *ctx, kaena_err *err)
{
    (void)err;
    ((constants *)ctx)->live.room += g->n_values;
    return KAENA_OK;
}

static kaena_status collect(kgr_graph *g, void *ctx, kaena_err *err)
{
    (void)err;
    constants *c = ctx;
    for (uint32_t i = 0; i < g->n_values; i++) {
        kgr_value *v = g->values[i];
        if (!v->t.data || v->t.dtype == KAENA_STRING)
            continue;
        range bytes = bytes_of(v);
        if (v->n_uses > 0)
            c->live.list[c->live.n++] = bytes;
        else if (bytes.end - bytes.first >= LEAST_BYTES)
            c->dead[c->n_dead++] = v;
    }
    return KAENA_OK;
}

static int by_first(const void *a, const void *b)
{
    const range *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* Sorts, and joins those that overlap. */
static void join(ranges *r)
{
    size_t n = 0;
    if (r->n)
        qsort(r->list, r->n, sizeof *r->list, by_first);
    for (size_t i = 0; i < r->n; i++) {
        if (n > 0 && r->list[i].first <= r->list[n - 1].end) {
            if (r->list[i].end > r->list[n - 1].end)
                r->list[n - 1].end = r->list[i].end;
        } else {
            r->list[n++] = r->list[i];
        }
    }
    r->n = n;
}

static bool overlaps(const ranges *r, range a)
{
    size_t low = 0, high = r->n; /* the first that ends behind the start of |a| */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (r->list[middle].end <= a.first)
            low = middle + 1;
        else
            high = middle;
    }
    return low < r->n && r->list[low].first < a.end;
}

kaena_status kcc_release_constants(kgr_graph *const *graphs, uint32_t n_graphs, kaena_err *err)
{
    constants c = {.n_dead = 0};
    for (uint32_t i = 0; i < n_graphs; i++)
        KAENA_TRY(kgr_each_graph(graphs[i], count, &c, err));
    kaena_arena_init(&c.arena, 0);
    c.live.list = KAENA_NEW_N(&c.arena, range, c.live.room);
    c.dead = KAENA_NEW_N(&c.arena, kgr_value *, c.live.room);
    kaena_status st = KAENA_OK;
    for (uint32_t i = 0; i < n_graphs && st == KAENA_OK; i++)
        st = kgr_each_graph(graphs[i], collect, &c, err);
    join(&c.live);
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; st == KAENA_OK && i < c.n_dead; i++) {
        range bytes = bytes_of(c.dead[i]);
        c.dead[i]->t.data = NULL;
        if (overlaps(&c.live, bytes))
            continue;
        /* Whole pages: what shares the others with it is somebody else's. */
        bytes.first = (bytes.first + page - 1) / page * page;
        bytes.end = bytes.end / page * page;
        (void)madvise((void *)bytes.first, bytes.end - bytes.first, MADV_DONTNEED);
    }
    kaena_arena_fini(&c.arena);
    return st;
}
