/* Memory planning: liveness of buffers, and where they lie. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "checked.h"
#include "overlap.h"
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

/* A few ranges that overlap are sorted each time; where there are more, all that have a place are
 * kept in order. */
#define FEW 1024

typedef struct packing {
    kcc_overlap *placed;
    kcc_live **clash;   /* [n + FEW] what overlaps the range in hand, by offset */
    kcc_live **ordered; /* [n] all that have a place, by offset; NULL until it is needed */
    uint32_t n, n_clash, n_ordered;
} packing;

static void *get_list(uint32_t n)
{
    void *list = malloc(((size_t)n + FEW) * sizeof(kcc_live *));
    if (!list)
        abort();
    return list;
}

/* What of all that has a place overlaps |l|. */
static void scan_ordered(packing *p, const kcc_live *l, kcc_live *const *order, uint32_t n_order)
{
    if (!p->ordered) {
        p->ordered = get_list(p->n);
        for (uint32_t i = 0; i < n_order; i++)
            if (order[i]->offset != UINT64_MAX)
                p->ordered[p->n_ordered++] = order[i];
        qsort(p->ordered, p->n_ordered, sizeof(kcc_live *), by_offset);
    }
    p->n_clash = 0;
    for (uint32_t i = 0; i < p->n_ordered; i++)
        if (p->ordered[i]->first <= l->last && l->first <= p->ordered[i]->last)
            p->clash[p->n_clash++] = p->ordered[i];
}

static void note_placed(packing *p, kcc_live *l)
{
    kcc_overlap_add(p->placed, l);
    if (!p->ordered)
        return;
    uint32_t low = 0, high = p->n_ordered;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (p->ordered[middle]->offset < l->offset)
            low = middle + 1;
        else
            high = middle;
    }
    memmove(&p->ordered[low + 1], &p->ordered[low], (p->n_ordered - low) * sizeof(kcc_live *));
    p->ordered[low] = l;
    p->n_ordered++;
}

/* The smallest gap between what overlaps that has room for |bytes|, else the end. */
static uint64_t find_gap(const packing *p, uint64_t bytes)
{
    uint64_t at = 0, best = UINT64_MAX, best_gap = UINT64_MAX;
    for (uint32_t k = 0; k < p->n_clash; k++) {
        const kcc_live *c = p->clash[k];
        if (c->offset >= at && c->offset - at >= bytes && c->offset - at < best_gap) {
            best = at;
            best_gap = c->offset - at;
        }
        uint64_t end = kaena_align_up(c->offset + c->bytes, 64);
        at = end > at ? end : at;
    }
    return best == UINT64_MAX ? at : best;
}

uint64_t kcc_pack_live(kcc_live *live, uint32_t n, uint64_t limit)
{
    kcc_live **order = get_list(n);
    int32_t last = 0;
    uint64_t used = 0;
    for (uint32_t i = 0; i < n; i++) {
        order[i] = &live[i];
        last = live[i].last > last ? live[i].last : last;
    }
    qsort(order, n, sizeof(kcc_live *), by_size);
    packing p = {.placed = kcc_overlap_create(last, n), .clash = get_list(n), .n = n};
    for (uint32_t i = 0; i < n; i++) {
        kcc_live *l = order[i];
        if (p.ordered || !kcc_overlap_find(p.placed, l, p.clash, FEW, &p.n_clash))
            scan_ordered(&p, l, order, i);
        else
            qsort(p.clash, p.n_clash, sizeof(kcc_live *), by_offset);
        uint64_t at = find_gap(&p, l->bytes);
        l->offset = kaena_range_inside(at, l->bytes, limit) ? at : UINT64_MAX;
        if (l->offset == UINT64_MAX)
            continue;
        note_placed(&p, l);
        used = l->offset + l->bytes > used ? l->offset + l->bytes : used;
    }
    kcc_overlap_destroy(p.placed);
    free(p.ordered);
    free(p.clash);
    free(order);
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

/* Node |i|, of section |s| or none, reads or writes |b|. */
static void touch(const kcc_module *m, uint32_t i, const kcc_section *s, kcc_buffer *b, bool *seen)
{
    if (b->space == KISA_WEIGHTS || b->space == KISA_IO)
        return;
    /* In a frame the nodes follow each other; what lies outside is there in every turn. */
    int32_t first = (int32_t)(b->section ? i : m->time[s ? s->first : i]),
            last = (int32_t)(b->section ? i : m->time[s ? s->end - 1 : i]);
    if (b->first < 0 || first < b->first)
        b->first = first;
    if (last > b->last)
        b->last = last;
    b->tpb = !seen[b->id] || b->tpb == m->stage[i] ? m->stage[i] : -1;
    seen[b->id] = true;
}

/* Buffers' lives and, in a pipeline, the only stage that touches them. */
static void find_lives(kcc_module *m)
{
    bool *seen = KAENA_NEW_N(m->arena, bool, m->n_buffers);
    kcc_paged index = {0}; /* 1 + place of the node, at the id of its first result */
    const kcc_section *s = m->sections;
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        const kgr_node *n = m->node[i];
        s = s && i == s->end ? s->next : s;
        for (uint32_t k = 0; k < n->n_in + n->n_out; k++) {
            const kgr_value *v = k < n->n_in ? n->in[k] : n->out[k - n->n_in];
            kcc_buffer *b = v ? kcc_view_of(m, v)->buf : NULL;
            if (b)
                touch(m, i, s && i >= s->first ? s : NULL, b, seen);
        }
        if (n->n_out)
            *(uint32_t *)kcc_paged_at(&index, m->arena, n->out[0]->id, sizeof(uint32_t)) = i + 1;
    }
    for (const kcc_workspace *w = m->workspace; w; w = w->next) {
        const uint32_t *i = kcc_paged_find(&index, w->node->out[0]->id, sizeof *i);
        if (i && *i)
            touch(m, *i - 1, NULL, w->buf, seen);
    }
}

/* Plans what lives for one item of each section into its frame. */
static void plan_frames(kcc_module *m)
{
    kcc_live *live = KAENA_NEW_N(m->arena, kcc_live, m->n_buffers);
    kcc_buffer **of = KAENA_NEW_N(m->arena, kcc_buffer *, m->n_buffers);
    for (kcc_section *s = m->sections; s; s = s->next) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < m->n_buffers; i++)
            if (m->buffer[i]->section == s && m->buffer[i]->first >= 0) {
                const kcc_buffer *b = of[n] = m->buffer[i];
                live[n++] = (kcc_live){b->bytes, b->first, b->last, 0};
            }
        if (n == 0)
            continue;
        s->frame_bytes = kaena_align_up(kcc_pack_live(live, n, INT64_MAX), 64);
        for (uint32_t i = 0; i < n; i++)
            of[i]->offset = live[i].offset;
        s->frame = kcc_buffer_add(m, s->frame_bytes * m->n_tpbs);
        s->frame->first = (int32_t)m->time[s->first];
        s->frame->last = (int32_t)m->time[s->end - 1];
    }
}

/* Frames have their places: their buffers lie in there. */
static void place_in_frames(kcc_module *m)
{
    for (uint32_t i = 0; i < m->n_buffers; i++) {
        kcc_buffer *b = m->buffer[i];
        if (b->section) {
            b->space = b->section->frame->space;
            b->offset += b->section->frame->offset;
        }
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
        if (b->space != KISA_NONE || b->section || b->first < 0 ||
            (space == KISA_SB && b->tpb != tpb))
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
    kcc_write_in_place(m);
    find_lives(m);
    plan_frames(m);
    /* SB belongs to one TPB: what several touch lies in SCRATCH. */
    bool pipeline = m->n_nodes && m->stage[0] >= 0;
    if (pipeline || m->n_tpbs == 1) {
        for (int32_t t = pipeline ? 0 : -1; t < (pipeline ? (int32_t)m->n_tpbs : 0); t++) {
            uint64_t used = plan_space(m, KISA_SB, t, KISA_SB_BYTES);
            m->sb_bytes = used > m->sb_bytes ? used : m->sb_bytes;
        }
    }
    m->scratch_bytes = plan_space(m, KISA_SCRATCH, -1, SCRATCH_LIMIT);
    place_in_frames(m);
    for (uint32_t i = 0; i < m->n_buffers; i++)
        if (m->buffer[i]->space == KISA_NONE && m->buffer[i]->first >= 0)
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED,
                              "activations need more than the %" PRIu64 " GiB of device memory",
                              SCRATCH_LIMIT >> 30);
    return KAENA_OK;
}
