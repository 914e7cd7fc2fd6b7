/* Sections: neighbouring nodes of a batch that are executed item by item, so that what one layer
 * leaves for the next is small enough to stay in a cache. */
#include <string.h>

#include "schedule.h"

#define CACHE_BYTES (1 << 20) /* what the whole batch must outgrow */
#define LEAST_ROWS 48         /* of an item against a layer's weights, which each item reads anew */
#define WEIGHT_BYTES                                                                               \
    (3 << 20) /* of a section: they stay in a state buffer while its loop turns                    \
               */

static bool is_const(const kgr_value *v)
{
    return v->t.data != NULL;
}

/* The items of the value follow each other and fill its buffer. */
static bool by_item(const kcc_view *v, int64_t items)
{
    return v->buf && v->shape.rank > 1 && v->shape.dim[0] == items &&
           (uint64_t)(v->stride[0] * items) == v->buf->bytes && !v->before[0] && !v->after[0];
}

/* A constant says the same to every item. */
static bool one_for_all(const kgr_node *n, const kgr_value *v)
{
    const kcc_row *row = kcc_row_of(n->op);
    bool broadcast = row->emit == kcc_emit_binary || row->emit == kcc_emit_variadic;
    return !broadcast || v->t.shape.rank < n->out[0]->t.shape.rank || v->t.shape.dim[0] == 1;
}

static bool enough_rows(const kgr_node *n)
{
    int64_t rows = 1;
    for (int32_t d = 2; d < n->out[0]->t.shape.rank; d++)
        rows *= n->out[0]->t.shape.dim[d];
    return kcc_row_of(n->op)->emit != kcc_emit_conv || rows >= LEAST_ROWS;
}

static bool fits(const kcc_module *m, const kgr_node *n, int64_t items)
{
    if (kcc_row_of(n->op)->items != KCC_BY_ITEM || kgr_attr_find(n, KCC_PANELS) || !enough_rows(n))
        return false;
    for (uint32_t k = 0; k < n->n_in + n->n_out; k++) {
        const kgr_value *v = k < n->n_in ? n->in[k] : n->out[k - n->n_in];
        if (!v)
            continue;
        bool constant = k < n->n_in && is_const(v) && !kcc_view_of(m, v)->buf;
        if (constant ? !one_for_all(n, v) : !by_item(kcc_view_of(m, v), items))
            return false;
    }
    /* A rearrangement that copies may not keep the items apart. */
    for (uint32_t k = 0; kcc_row_of(n->op)->kind == KCC_MOVE && k < n->n_out; k++)
        if (kcc_view_of(m, n->out[k])->buf != kcc_view_of(m, n->in[0])->buf)
            return false;
    return true;
}

static uint64_t weight_bytes(const kgr_node *n)
{
    if (kcc_row_of(n->op)->emit != kcc_emit_conv)
        return 0;
    return kop_elements(&n->in[1]->t) * kaena_dtype_size(n->in[1]->t.dtype);
}

/* What the node reads and writes of the whole batch. */
static uint64_t footprint(const kcc_module *m, const kgr_node *n)
{
    uint64_t bytes = kcc_view_of(m, n->out[0])->buf->bytes;
    for (uint32_t k = 0; k < n->n_in; k++) {
        const kcc_buffer *b = n->in[k] ? kcc_view_of(m, n->in[k])->buf : NULL;
        bytes += b ? b->bytes : 0;
    }
    return bytes;
}

/* Buffers that no node outside the section touches have room for one item. */
static void shrink_buffers(kcc_module *m, kcc_section *s)
{
    bool *outside = KAENA_NEW_N(m->arena, bool, m->n_buffers);
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        const kgr_node *n = m->node[i];
        bool inside = i >= s->first && i < s->end;
        for (uint32_t k = 0; !inside && k < n->n_in + n->n_out; k++) {
            const kgr_value *v = k < n->n_in ? n->in[k] : n->out[k - n->n_in];
            const kcc_buffer *b = v ? kcc_view_of(m, v)->buf : NULL;
            if (b)
                outside[b->id] = true;
        }
    }
    for (uint32_t i = s->first; i < s->end; i++)
        for (uint32_t k = 0; k < m->node[i]->n_out; k++) {
            kcc_buffer *b = kcc_view_of(m, m->node[i]->out[k])->buf;
            if (outside[b->id] || b->space != KISA_NONE || b->section)
                continue;
            b->section = s;
            b->bytes /= (uint64_t)s->items;
        }
}

static void add_section(kcc_module *m, uint32_t first, uint32_t end, int64_t items)
{
    kcc_section *s = KAENA_NEW(m->arena, kcc_section);
    *s = (kcc_section){.first = first, .end = end, .items = items};
    kcc_section **last = &m->sections;
    while (*last)
        last = &(*last)->next;
    *last = s;
    shrink_buffers(m, s);
}

void kcc_find_sections(kcc_module *m)
{
    for (uint32_t first = 0, end; first < m->n_nodes; first = end) {
        const kcc_view *out = kcc_view_of(m, m->node[first]->out[0]);
        int64_t items = out->shape.rank > 0 ? out->shape.dim[0] : 1;
        uint64_t most = 0, weights = 0;
        for (end = first; end < m->n_nodes && fits(m, m->node[end], items); end++) {
            weights += weight_bytes(m->node[end]);
            if (weights > WEIGHT_BYTES) {
                weights -= weight_bytes(m->node[end]);
                break;
            }
            uint64_t bytes = footprint(m, m->node[end]);
            most = bytes > most ? bytes : most;
        }
        if (end - first > 1 && weights && most > CACHE_BYTES && items > 1 && items % m->n_tpbs == 0)
            add_section(m, first, end, items);
        end = end > first ? end : first + 1;
    }
}
