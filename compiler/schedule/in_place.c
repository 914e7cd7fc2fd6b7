/* Results that take the place of the residual they are added to: the sum is written where the
 * residual is read, element for element, so that a cache holds one of them instead of two. */
#include <string.h>

#include "schedule.h"

#define NOBODY UINT32_MAX

/* The last nodes that touch a buffer, by place. */
typedef struct uses {
    uint32_t first, last, before; /* |before|: the last but one; NOBODY: there is none */
} uses;

static void note(uses *u, uint32_t i)
{
    if (u->first == NOBODY)
        u->first = i;
    if (u->last == i)
        return;
    u->before = u->last;
    u->last = i;
}

static uses *find_uses(const kcc_module *m)
{
    uses *of = KAENA_NEW_N(m->arena, uses, m->n_buffers);
    memset(of, 0xff, m->n_buffers * sizeof *of);
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        const kgr_node *n = m->node[i];
        for (uint32_t k = 0; k < n->n_in + n->n_out; k++) {
            const kgr_value *v = k < n->n_in ? n->in[k] : n->out[k - n->n_in];
            const kcc_buffer *b = v ? kcc_view_of(m, v)->buf : NULL;
            if (b)
                note(&of[b->id], i);
        }
    }
    return of;
}

static bool same_picture(const kcc_view *a, const kcc_view *b)
{
    if (a->dtype != b->dtype || a->offset != b->offset || a->fill != b->fill ||
        a->buf->bytes != b->buf->bytes || a->shape.rank != b->shape.rank)
        return false;
    for (int32_t d = 0; d < a->shape.rank; d++)
        if (a->shape.dim[d] != b->shape.dim[d] || a->before[d] != b->before[d] ||
            a->after[d] != b->after[d] || (a->shape.dim[d] > 1 && a->stride[d] != b->stride[d]))
            return false;
    return true;
}

/* No TPB may still want what lies in |residual| when another writes node |i|'s sum there: all who
 * touched it have done so before a barrier, or are ahead of |i| in a section, whose items do not
 * mix. */
static bool all_done(const kcc_module *m, const uses *residual, uint32_t i)
{
    if (residual->last != i)
        return false;
    if (residual->before == NOBODY || m->time[residual->before] < m->time[i])
        return true;
    const kcc_section *s = m->sections;
    while (s && s->end <= i)
        s = s->next;
    return s && residual->before >= s->first;
}

/* Whether node |i| is the only one to read its residual from where that lies, as the last of all.
 */
static bool may_replace(const kcc_module *m, uint32_t i, const kgr_value *residual,
                        kcc_buffer *const *home, const uses *of)
{
    const kgr_node *n = m->node[i];
    const kcc_view *from = kcc_view_of(m, residual), *to = kcc_view_of(m, n->out[0]);
    if (!from->buf || !to->buf || from->buf->space != KISA_NONE || to->buf->space != KISA_NONE ||
        home[from->buf->id] == home[to->buf->id] || from->buf->section != to->buf->section)
        return false;
    for (uint32_t k = 0; k + 1 < n->n_in; k++) {
        const kcc_buffer *b = n->in[k] ? kcc_view_of(m, n->in[k])->buf : NULL;
        if (b && home[b->id] == home[from->buf->id])
            return false;
    }
    return same_picture(from, to) && of[to->buf->id].first == i &&
           all_done(m, &of[home[from->buf->id]->id], i);
}

void kcc_write_in_place(kcc_module *m)
{
    uses *of = find_uses(m);
    kcc_buffer **home = KAENA_NEW_N(m->arena, kcc_buffer *, m->n_buffers); /* by buffer id */
    memcpy(home, m->buffer, m->n_buffers * sizeof *home);
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        const kgr_node *n = m->node[i];
        const kgr_value *residual = kcc_epilogue_of(n).residual;
        if (!residual || !may_replace(m, i, residual, home, of))
            continue;
        kcc_buffer *sum = kcc_view_of(m, n->out[0])->buf,
                   *place = home[kcc_view_of(m, residual)->buf->id];
        const uses *later = &of[sum->id];
        uses *now = &of[place->id];
        home[sum->id] = place;
        if (later->last != i) {
            now->before = later->before;
            now->last = later->last;
        }
    }
    for (uint32_t i = 0; i < m->n_nodes; i++)
        for (uint32_t k = 0; k < m->node[i]->n_in + m->node[i]->n_out; k++) {
            const kgr_node *n = m->node[i];
            const kgr_value *v = k < n->n_in ? n->in[k] : n->out[k - n->n_in];
            kcc_view view = v ? *kcc_view_of(m, v) : (kcc_view){0};
            if (!view.buf || home[view.buf->id] == view.buf)
                continue;
            view.buf = home[view.buf->id];
            kcc_view_set(m, v, &view);
        }
}
