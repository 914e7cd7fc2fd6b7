/* Instruction building: programs that grow, operands from views, loop nests. */
#include <string.h>

#include "lower.h"

kcc_buffer *kcc_buffer_add(kcc_module *m, uint64_t bytes)
{
    if (m->n_buffers == m->cap_buffers) {
        uint32_t capacity = m->cap_buffers ? m->cap_buffers * 2 : 64;
        kcc_buffer **grown = KAENA_NEW_N(m->arena, kcc_buffer *, capacity);
        if (m->n_buffers)
            memcpy(grown, m->buffer, m->n_buffers * sizeof *grown);
        m->buffer = grown;
        m->cap_buffers = capacity;
    }
    kcc_buffer *b = KAENA_NEW(m->arena, kcc_buffer);
    *b = (kcc_buffer){.id = m->n_buffers, .bytes = bytes, .first = -1, .last = -1, .tpb = -1};
    m->buffer[m->n_buffers++] = b;
    return b;
}

kcc_buffer *kcc_workspace_add(kcc_module *m, const kgr_node *n, uint64_t bytes)
{
    kcc_workspace *w = KAENA_NEW(m->arena, kcc_workspace);
    *w = (kcc_workspace){n, kcc_buffer_add(m, bytes), m->workspace};
    m->workspace = w;
    return w->buf;
}

const kcc_view *kcc_view_of(const kcc_module *m, const kgr_value *v)
{
    static const kcc_view absent;
    const kcc_view *view = kcc_paged_find(&m->view, v->id, sizeof *view);
    return view ? view : &absent;
}

void kcc_view_set(kcc_module *m, const kgr_value *v, const kcc_view *view)
{
    *(kcc_view *)kcc_paged_at(&m->view, m->arena, v->id, sizeof *view) = *view;
}

kisa_inst *kcc_inst(kcc_module *m, uint32_t tpb, kisa_op op)
{
    kcc_code *c = &m->code[tpb];
    if (c->n == c->capacity) {
        uint32_t capacity = c->capacity ? c->capacity * 2 : 64;
        kisa_inst *grown = KAENA_NEW_N(m->arena, kisa_inst, capacity);
        if (c->n)
            memcpy(grown, c->inst, c->n * sizeof *grown);
        c->inst = grown;
        c->capacity = capacity;
    }
    kisa_inst *inst = &c->inst[c->n++];
    memset(inst, 0, sizeof *inst);
    inst->op = (uint16_t)op;
    return inst;
}

void kcc_loop(kcc_module *m, uint32_t tpb, uint32_t count)
{
    kcc_inst(m, tpb, KISA_LOOP)->u.loop.count = count;
    m->code[tpb].depth++;
}

void kcc_end(kcc_module *m, uint32_t tpb)
{
    kcc_inst(m, tpb, KISA_END);
    m->code[tpb].depth--;
}

kisa_operand kcc_operand(kcc_module *m, uint32_t tpb, const kcc_view *v)
{
    kisa_operand o = {.space = v->buf->space,
                      .dtype = (uint8_t)v->dtype,
                      .tensor = v->buf->tensor,
                      .offset = v->buf->offset + (uint64_t)v->offset,
                      .count = {1, 1, 1, 1},
                      .advance = {v->per_turn}};
    if (v->buf->space == KISA_WEIGHTS) {
        kcc_code *c = &m->code[tpb];
        uint64_t end = v->buf->offset + v->buf->bytes;
        if (c->weights_end == 0 || v->buf->offset < c->weights_first)
            c->weights_first = v->buf->offset;
        if (end > c->weights_end)
            c->weights_end = end;
    }
    return o;
}

void kcc_part(int64_t extent, int64_t unit, uint32_t part, uint32_t parts, int64_t *lo, int64_t *hi)
{
    int64_t units = (extent + unit - 1) / unit;
    *lo = units * part / parts * unit;
    *hi = units * (part + 1) / parts * unit;
    if (*hi > extent)
        *hi = extent;
}

void kcc_nest_init(kcc_nest *nest, const kaena_shape *shape, const kcc_view *const *views,
                   uint32_t n)
{
    *nest = (kcc_nest){.n = n, .rank = shape->rank};
    memcpy(nest->dim, shape->dim, sizeof nest->dim);
    for (uint32_t i = 0; i < n; i++) {
        const kcc_view *v = views[i];
        nest->view[i] = v;
        int32_t skip = shape->rank - v->shape.rank;
        for (int32_t d = 0; d < v->shape.rank; d++)
            if (v->shape.dim[d] != 1)
                nest->stride[i][d + skip] = v->stride[d];
    }
}

static void drop_dim(kcc_nest *nest, int32_t d)
{
    for (int32_t k = d; k + 1 < nest->rank; k++) {
        nest->dim[k] = nest->dim[k + 1];
        for (uint32_t i = 0; i < nest->n; i++)
            nest->stride[i][k] = nest->stride[i][k + 1];
    }
    nest->rank--;
    for (uint32_t i = 0; i < nest->n; i++)
        nest->stride[i][nest->rank] = 0;
}

static void swap_dims(kcc_nest *nest, int32_t a, int32_t b)
{
    int64_t t = nest->dim[a];
    nest->dim[a] = nest->dim[b];
    nest->dim[b] = t;
    for (uint32_t i = 0; i < nest->n; i++) {
        t = nest->stride[i][a];
        nest->stride[i][a] = nest->stride[i][b];
        nest->stride[i][b] = t;
    }
}

/* Dimension d can swallow d + 1 into one walk. */
static bool mergeable(const kcc_nest *nest, int32_t d)
{
    for (uint32_t i = 0; i < nest->n; i++)
        if (nest->stride[i][d] != nest->stride[i][d + 1] * nest->dim[d + 1])
            return false;
    return true;
}

#define MERGE_COLUMNS                                                                              \
    64 /* an innermost dimension this long stays as it is: rows are what chunks are cut from */

void kcc_nest_normalise(kcc_nest *nest, int32_t column_axis)
{
    int64_t magnitude[KAENA_MAX_RANK];
    bool apart = column_axis >= 0;
    if (apart)
        for (int32_t d = column_axis; d + 1 < nest->rank; d++)
            swap_dims(nest, d, d + 1);
    int32_t sortable = apart ? nest->rank - 1 : nest->rank;
    for (int32_t d = sortable; d-- > 0;)
        if (nest->dim[d] == 1) {
            drop_dim(nest, d);
            sortable--;
        }
    for (int32_t a = 1; a < sortable; a++)
        for (int32_t b = a; b > 0; b--) {
            magnitude[b] = nest->stride[0][b] < 0 ? -nest->stride[0][b] : nest->stride[0][b];
            magnitude[b - 1] =
                nest->stride[0][b - 1] < 0 ? -nest->stride[0][b - 1] : nest->stride[0][b - 1];
            if (magnitude[b - 1] >= magnitude[b])
                break;
            swap_dims(nest, b - 1, b);
        }
    for (int32_t d = sortable - 2; d >= 0; d--) {
        bool innermost = !apart && d + 2 == nest->rank;
        if (innermost && nest->dim[d + 1] >= MERGE_COLUMNS)
            continue;
        if (mergeable(nest, d)) {
            for (uint32_t i = 0; i < nest->n; i++)
                nest->stride[i][d] = nest->stride[i][d + 1];
            nest->dim[d] *= nest->dim[d + 1];
            drop_dim(nest, d + 1);
        }
    }
    /* One long walk: cut it into rows, so that it can be shared out. */
    if (!apart && nest->rank == 1 && nest->dim[0] > 1024 && nest->rank < KAENA_MAX_RANK) {
        int64_t columns = 0;
        for (int64_t c = 1024; c >= 64 && !columns; c -= 16)
            if (nest->dim[0] % c == 0)
                columns = c;
        if (columns) {
            nest->rank = 2;
            nest->dim[1] = columns;
            nest->dim[0] /= columns;
            for (uint32_t i = 0; i < nest->n; i++) {
                nest->stride[i][1] = nest->stride[i][0];
                nest->stride[i][0] *= columns;
            }
        }
    }
    if (nest->rank == 0) {
        nest->rank = 1;
        nest->dim[0] = 1;
    }
}

#define SHORT_COLUMNS 16 /* a vector */
#define FAR_LONGER 4

void kcc_nest_lengthen(kcc_nest *nest)
{
    int32_t last = nest->rank - 1, longest = last;
    for (int32_t d = 0; d < last; d++)
        if (nest->dim[d] > nest->dim[longest])
            longest = d;
    if (nest->dim[last] < SHORT_COLUMNS && nest->dim[longest] >= FAR_LONGER * SHORT_COLUMNS)
        swap_dims(nest, longest, last);
}

bool kcc_nest_part(kcc_nest *nest, uint32_t part, uint32_t parts)
{
    if (parts == 1)
        return true;
    int32_t cut = 0;
    for (int32_t d = 0; d + 1 < nest->rank; d++)
        if (nest->dim[d] > nest->dim[cut])
            cut = d;
    if (nest->rank == 1 || nest->dim[cut] < (int64_t)parts) {
        /* Too few rows: the longest dimension, whichever it is. */
        for (int32_t d = 0; d < nest->rank; d++)
            if (nest->dim[d] > nest->dim[cut])
                cut = d;
    }
    int64_t lo, hi;
    kcc_part(nest->dim[cut], cut == nest->rank - 1 ? 16 : 1, part, parts, &lo, &hi);
    if (lo >= hi)
        return false;
    for (uint32_t i = 0; i < nest->n; i++)
        nest->start[i] += lo * nest->stride[i][cut];
    nest->dim[cut] = hi - lo;
    return true;
}

uint32_t kcc_nest_open(kcc_module *m, uint32_t tpb, const kcc_nest *nest, kisa_operand *operand)
{
    int32_t outer = nest->rank > KISA_DIMS ? nest->rank - KISA_DIMS : 0;
    for (uint32_t i = 0; i < nest->n; i++) {
        operand[i] = kcc_operand(m, tpb, nest->view[i]);
        operand[i].offset += (uint64_t)nest->start[i];
    }
    for (int32_t d = 0; d < outer; d++) {
        uint32_t level = m->code[tpb].depth;
        kcc_loop(m, tpb, (uint32_t)nest->dim[d]);
        for (uint32_t i = 0; i < nest->n; i++)
            operand[i].advance[level] = nest->stride[i][d];
    }
    for (int32_t d = outer; d < nest->rank; d++) {
        int32_t at = KISA_DIMS - (nest->rank - d);
        for (uint32_t i = 0; i < nest->n; i++) {
            operand[i].count[at] = (uint32_t)nest->dim[d];
            operand[i].stride[at] = nest->stride[i][d];
        }
    }
    return (uint32_t)outer;
}

void kcc_emit_copy(kcc_module *m, uint32_t tpb, uint32_t part, uint32_t parts, const kcc_view *src,
                   const kcc_view *dst)
{
    kcc_nest nest;
    kcc_nest_init(&nest, &dst->shape, (const kcc_view *const[]){dst, src}, 2);
    kcc_nest_normalise(&nest, -1);
    if (!kcc_nest_part(&nest, part, parts))
        return;
    kisa_operand o[2];
    uint32_t loops = kcc_nest_open(m, tpb, &nest, o);
    kisa_inst *inst = kcc_inst(m, tpb, KISA_COPY);
    inst->u.copy.dst = o[0];
    inst->u.copy.src = o[1];
    while (loops--)
        kcc_end(m, tpb);
}

/* Zeroes a box of the view: in |axis| the range [from, from + n), in axes after it everything with
 * halo, before it the valid range too. */
static void fill_slab(kcc_module *m, uint32_t tpb, const kcc_view *v, int32_t axis, int64_t from,
                      int64_t n)
{
    kcc_view box = *v;
    for (int32_t d = 0; d < v->shape.rank; d++) {
        int64_t lo = d == axis ? from : d > axis ? -v->before[d] : 0;
        box.offset += lo * v->stride[d];
        box.shape.dim[d] = d == axis  ? n
                           : d > axis ? v->shape.dim[d] + v->before[d] + v->after[d]
                                      : v->shape.dim[d];
    }
    kcc_nest nest;
    kcc_nest_init(&nest, &box.shape, (const kcc_view *const[]){&box}, 1);
    kcc_nest_normalise(&nest, -1);
    kisa_operand o;
    uint32_t loops = kcc_nest_open(m, tpb, &nest, &o);
    kcc_inst(m, tpb, KISA_FILL)->u.fill = (kisa_fill){.dst = o, .value = v->fill};
    while (loops--)
        kcc_end(m, tpb);
}

void kcc_fill_halo(kcc_module *m, uint32_t tpb, const kcc_view *v)
{
    bool any = false;
    for (int32_t d = 0; d < v->shape.rank; d++)
        any = any || v->before[d] || v->after[d];
    /* A part of a concatenation has no halo of its own, but its buffer may have one. */
    if (!any || v->buf->halo_done)
        return;
    v->buf->halo_done = true;
    for (int32_t d = 0; d < v->shape.rank; d++) {
        if (v->before[d])
            fill_slab(m, tpb, v, d, -v->before[d], v->before[d]);
        if (v->after[d])
            fill_slab(m, tpb, v, d, v->shape.dim[d], v->after[d]);
    }
}
