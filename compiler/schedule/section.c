/* Sections: neighbouring nodes that are executed item by item of a batch, or matrix by matrix of
 * products such as attention's, so that what one layer leaves for the next is small enough to stay
 * in a cache. */
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

/* One value of each item: of a batch, whose items follow each other and fill the buffer; of four
 * dimensions where the matrices of one are meant, wherever they lie. */
static bool by_item(const kcc_view *v, int32_t axis, int64_t items)
{
    if (!v->buf || v->shape.dim[axis] != items || v->before[axis] || v->after[axis])
        return false;
    return axis == 0 ? v->shape.rank > 1 && (uint64_t)(v->stride[0] * items) == v->buf->bytes
                     : v->shape.rank == 4 && v->shape.dim[0] == 1;
}

/* |shape| is broadcast along the items. */
static bool one_for_all(const kgr_node *n, const kaena_shape *shape, int32_t axis)
{
    const kcc_row *row = kcc_row_of(n->op);
    bool broadcast = axis == 1 || row->emit == kcc_emit_binary || row->emit == kcc_emit_variadic;
    int32_t at = axis - (n->out[0]->t.shape.rank - shape->rank);
    return !broadcast || at < 0 || shape->dim[at] == 1;
}

static bool enough_rows(const kgr_node *n)
{
    int64_t rows = 1;
    for (int32_t d = 2; d < n->out[0]->t.shape.rank; d++)
        rows *= n->out[0]->t.shape.dim[d];
    return kcc_row_of(n->op)->emit != kcc_emit_conv || rows >= LEAST_ROWS;
}

/* A rearrangement that copies may not keep the items apart. */
static bool copies(const kcc_module *m, const kgr_node *n)
{
    for (uint32_t k = 0; k < n->n_out; k++)
        if (kcc_view_of(m, n->out[k])->buf != kcc_view_of(m, n->in[0])->buf)
            return true;
    return false;
}

static bool fits(const kcc_module *m, const kgr_node *n, int32_t axis, int64_t items)
{
    const kcc_row *row = kcc_row_of(n->op);
    if (row->kind == KCC_MOVE && copies(m, n))
        return false;
    if (row->kind == KCC_MOVE && axis == 1)
        return true;
    if (!(row->items & 1 << axis) || (axis == 0 && kgr_attr_find(n, KCC_PANELS)) ||
        (axis == 1 && kcc_inner_axis(n) == axis) || !enough_rows(n))
        return false;
    for (uint32_t k = 0; k < n->n_in + n->n_out; k++) {
        const kgr_value *v = k < n->n_in ? n->in[k] : n->out[k - n->n_in];
        if (!v)
            continue;
        const kcc_view *view = kcc_view_of(m, v);
        bool constant = k < n->n_in && is_const(v) && !view->buf;
        /* Other operands than the products' two may be there once for all matrices. */
        bool shared = axis == 1 && k < n->n_in && k >= 2 && view->buf && view->shape.rank == 4;
        if (constant || (shared && view->shape.dim[1] == 1)
                ? !one_for_all(n, constant ? &v->t.shape : &view->shape, axis)
                : !by_item(view, axis, items))
            return false;
    }
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

/* Buffers of items that follow each other, and that no node outside the section touches, have room
 * for one. */
static void shrink_buffers(kcc_module *m, kcc_section *s)
{
    bool *outside = KAENA_NEW_N(m->arena, bool, m->n_buffers);
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        const kgr_node *n = m->node[i];
        bool inside = i >= s->first && i < s->end && !kcc_is_silent(s, n);
        for (uint32_t k = 0; !inside && k < n->n_in + n->n_out; k++) {
            const kgr_value *v = k < n->n_in ? n->in[k] : n->out[k - n->n_in];
            const kcc_buffer *b = v ? kcc_view_of(m, v)->buf : NULL;
            if (b)
                outside[b->id] = true;
        }
    }
    for (uint32_t i = s->first; i < s->end; i++)
        for (uint32_t k = 0; k < m->node[i]->n_out; k++) {
            const kcc_view *v = kcc_view_of(m, m->node[i]->out[k]);
            kcc_buffer *b = v->buf;
            if (outside[b->id] || b->space != KISA_NONE || b->section ||
                (uint64_t)(v->stride[s->axis] * s->items) != b->bytes)
                continue;
            b->section = s;
            b->bytes /= (uint64_t)s->items;
        }
}

/* Nodes from |first| on that a section could have. */
typedef struct candidate {
    uint32_t end;
    int64_t items;
    bool worth; /* it has products, and their operands outgrow a cache */
} candidate;

static candidate batch_from(const kcc_module *m, uint32_t first)
{
    const kcc_view *out = kcc_view_of(m, m->node[first]->out[0]);
    candidate c = {.end = first, .items = out->shape.rank > 0 ? out->shape.dim[0] : 1};
    uint64_t most = 0, weights = 0;
    for (; c.end < m->n_nodes && fits(m, m->node[c.end], 0, c.items); c.end++) {
        weights += weight_bytes(m->node[c.end]);
        if (weights > WEIGHT_BYTES) {
            weights -= weight_bytes(m->node[c.end]);
            break;
        }
        uint64_t bytes = footprint(m, m->node[c.end]);
        most = bytes > most ? bytes : most;
    }
    c.worth = c.end - first > 1 && weights && most > CACHE_BYTES;
    return c;
}

/* Of several TPBs each goes through its own heads without a barrier. One TPB would only get small
 * operations, which threads cannot share. */
static candidate matrices_from(const kcc_module *m, uint32_t first)
{
    const kcc_view *out = kcc_view_of(m, m->node[first]->out[0]);
    candidate c = {.end = first, .items = out->shape.rank == 4 ? out->shape.dim[1] : 1};
    uint64_t most = 0;
    uint32_t products = 0;
    if (m->n_tpbs == 1 || kcc_row_of(m->node[first]->op)->kind == KCC_MOVE)
        return c;
    for (uint32_t i = first; i < m->n_nodes && fits(m, m->node[i], 1, c.items); i++) {
        const kgr_node *n = m->node[i];
        if (kcc_row_of(n->op)->kind == KCC_MOVE) /* none at the end: they may be the next one's */
            continue;
        uint64_t bytes = footprint(m, n);
        most = bytes > most ? bytes : most;
        products += n->op == KOP_MatMul;
        c.end = i + 1;
    }
    c.worth = products > 1 && most > CACHE_BYTES;
    return c;
}

static void add_section(kcc_module *m, uint32_t first, int32_t axis, const candidate *c)
{
    kcc_section *s = KAENA_NEW(m->arena, kcc_section), **at = &m->sections;
    while (*at && (*at)->first < first)
        at = &(*at)->next;
    *s = (kcc_section){.first = first, .end = c->end, .axis = axis, .items = c->items, .next = *at};
    *at = s;
    shrink_buffers(m, s);
}

/* What is not worth a section from its first node on is not from a later one: each node is looked
 * at once. */
void kcc_find_sections(kcc_module *m)
{
    static candidate (*const from[])(const kcc_module *m, uint32_t first) = {batch_from,
                                                                             matrices_from};
    for (int32_t axis = 0; axis < 2; axis++)
        for (uint32_t first = 0; first < m->n_nodes;) {
            const candidate c = from[axis](m, first);
            if (c.worth && c.items > 1 && c.items % m->n_tpbs == 0)
                add_section(m, first, axis, &c);
            first = c.end > first ? c.end : first + 1;
        }
}
