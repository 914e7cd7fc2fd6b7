/* Memory planning: liveness of buffers, and where they lie. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "checked.h"
#include "schedule.h"

static int by_size(const void *a, const void *b)
{
    const kcc_live *x = *(kcc_live *const *)a, *y = *(kcc_live *const *)b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->first != y->first ? (x->first < y->first ? -1 : 1) : 0;
}

static int by_offset(const void *a, const void *b)
{
    const kcc_live *x = *(kcc_live *const *)a, *y = *(kcc_live *const *)b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

uint64_t kcc_pack_live(kcc_live *live, uint32_t n, uint64_t limit)
{
    kcc_live **order = malloc((n + 1) * sizeof(kcc_live *)),
             **clash = malloc((n + 1) * sizeof(kcc_live *));
    uint64_t used = 0;
    if (!order || !clash)
        abort();
    for (uint32_t i = 0; i < n; i++)
        order[i] = &live[i];
    qsort(order, n, sizeof(kcc_live *), by_size);
    for (uint32_t i = 0; i < n; i++) {
        kcc_live *l = order[i];
        uint32_t n_clash = 0;
        for (uint32_t k = 0; k < i; k++)
            if (order[k]->offset != UINT64_MAX && order[k]->first <= l->last &&
                l->first <= order[k]->last)
                clash[n_clash++] = order[k];
        qsort(clash, n_clash, sizeof(kcc_live *), by_offset);
        uint64_t at = 0, best = UINT64_MAX, best_gap = UINT64_MAX;
        for (uint32_t k = 0; k < n_clash; k++) {
            if (clash[k]->offset >= at && clash[k]->offset - at >= l->bytes &&
                clash[k]->offset - at < best_gap) {
                best = at;
                best_gap = clash[k]->offset - at;
            }
            uint64_t end = kaena_align_up(clash[k]->offset + clash[k]->bytes, 64);
            at = end > at ? end : at;
        }
        if (best == UINT64_MAX)
            best = at;
        l->offset = kaena_range_inside(best, l->bytes, limit) ? best : UINT64_MAX;
        if (l->offset != UINT64_MAX && l->offset + l->bytes > used)
            used = l->offset + l->bytes;
    }
    free(order);
    free(clash);
    return used;
}

typedef struct event {
    int32_t time;
    int64_t bytes;
} event;

static int by_time(const void *a, const void *b)
{
    const event *x = a, *y = b;
    if (x->time != y->time)
        return x->time < y->time ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

uint64_t kcc_lower_bound(const kcc_live *live, uint32_t n)
{
    event *events = malloc((2 * (size_t)n + 1) * sizeof *events);
    int64_t now = 0, most = 0;
    if (!events)
        abort();
    for (uint32_t i = 0; i < n; i++) {
        events[2 * i] = (event){live[i].first, (int64_t)live[i].bytes};
        events[2 * i + 1] = (event){live[i].last + 1, -(int64_t)live[i].bytes};
    }
    qsort(events, 2 * (size_t)n, sizeof *events, by_time);
    for (uint32_t i = 0; i < 2 * n; i++) {
        now += events[i].bytes;
        most = now > most ? now : most;
    }
    free(events);
    return (uint64_t)most;
}

/* Node |i| reads or writes |b|. */
static void touch(const kcc_module *m, uint32_t i, kcc_buffer *b, bool *seen)
{
    if (b->space == KISA_WEIGHTS || b->space == KISA_IO)
        return;
    int32_t t = (int32_t)m->time[i];
    if (b->first < 0 || t < b->first)
        b->first = t;
    if (t > b->last)
        b->last = t;
    b->tpb = !seen[b->id] || b->tpb == m->stage[i] ? m->stage[i] : -1;
    seen[b->id] = true;
}

/* Buffers' lives and, in a pipeline, the only stage that touches them. */
static void find_lives(kcc_module *m)
{
    bool *seen = KAENA_NEW_N(m->arena, bool, m->n_buffers);
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        const kgr_node *n = m->node[i];
        for (uint32_t k = 0; k < n->n_in + n->n_out; k++) {
            const kgr_value *v = k < n->n_in ? n->in[k] : n->out[k - n->n_in];
            kcc_buffer *b = v ? kcc_view_of(m, v)->buf : NULL;
            if (b)
                touch(m, i, b, seen);
        }
        for (const kcc_workspace *w = m->workspace; w; w = w->next)
            if (w->node == n)
                touch(m, i, w->buf, seen);
    }
}

/* Plans the buffers for which |tpb| matches into |space|; those that do not fit stay unplaced. */
static uint64_t plan_space(kcc_module *m, uint8_t space, int32_t tpb, uint64_t limit)
{
    kcc_live *live = KAENA_NEW_N(m->arena, kcc_live, m->n_buffers);
    kcc_buffer **of = KAENA_NEW_N(m->arena, kcc_buffer *, m->n_buffers);
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->n_buffers; i++) {
        kcc_buffer *b = m->buffer[i];
        if (b->space != KISA_NONE || b->first < 0 || (space == KISA_SB && b->tpb != tpb))
            continue;
        of[n] = b;
        live[n++] = (kcc_live){b->bytes, b->first, b->last, 0};
    }
    uint64_t bound = kcc_lower_bound(live, n), used = kcc_pack_live(live, n, limit);
    if (bound > m->lower_bound_bytes)
        m->lower_bound_bytes = bound;
    for (uint32_t i = 0; i < n; i++)
        if (live[i].offset != UINT64_MAX) {
            of[i]->space = space;
            of[i]->offset = live[i].offset;
        }
    return used;
}

#define SCRATCH_LIMIT (UINT64_C(8) << 30) /* a chip's DRAM */

kaena_status kcc_plan(kcc_module *m, kaena_err *err)
{
    find_lives(m);
    /* SB belongs to one TPB: what several touch lies in SCRATCH. */
    bool pipeline = m->n_nodes && m->stage[0] >= 0;
    if (pipeline || m->n_tpbs == 1) {
        for (int32_t t = pipeline ? 0 : -1; t < (pipeline ? (int32_t)m->n_tpbs : 0); t++) {
            uint64_t used = plan_space(m, KISA_SB, t, KISA_SB_BYTES);
            m->sb_bytes = used > m->sb_bytes ? used : m->sb_bytes;
        }
    }
    m->scratch_bytes = plan_space(m, KISA_SCRATCH, -1, SCRATCH_LIMIT);
    for (uint32_t i = 0; i < m->n_buffers; i++)
        if (m->buffer[i]->space == KISA_NONE && m->buffer[i]->first >= 0)
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED,
                              "activations need more than the %" PRIu64 " GiB of device memory",
                              SCRATCH_LIMIT >> 30);
    return KAENA_OK;
}
