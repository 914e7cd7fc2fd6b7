/* Layout: gives every value of a device step a view of a buffer.
 *
 * Orders. Convolutions and poolings read and write channels-last; elementwise nodes follow their
 * inputs or what their consumers want; everything else is row-major. A convolution's input carries
 * a halo as wide as its widest consumer needs. Concat's inputs are written straight into its
 * buffer. Movement nodes become views where strides allow it. Where a consumer cannot read what is
 * there, a copy node (a Cast to the same type) is put in between. */
#include <string.h>

#include "lower.h"
#include "pack.h"
#include "passes.h"

/* What is decided about a value before its view is made; by value id. */
typedef struct plan {
    bool wants_cl;       /* a consumer reads channels-last, directly or through elementwise nodes */
    kcc_order order;     /* ROW, CL, AXIS or PERM */
    int32_t axis;        /* AXIS: the innermost one, the others in their order */
    const int64_t *perm; /* PERM: the dimensions, outermost first */
    int64_t before[KAENA_MAX_RANK], after[KAENA_MAX_RANK];
    uint8_t fill;          /* the halo's */
    const kgr_value *into; /* lies inside this concatenation's output */
    int32_t into_axis;
    int64_t into_at;
    uint32_t users; /* slots of device nodes that read it */
    bool written_by_compute;
    bool is_output;
} plan;

typedef struct layout {
    kcc_module *m;
    kcc_paged of;             /* plans, by value id */
    kcc_paged copies, panels; /* kgr_value *, by the id of what they are made of */
} layout;

static plan *plan_of(layout *l, const kgr_value *v)
{
    return kcc_paged_at(&l->of, l->m->arena, v->id, sizeof(plan));
}

/* What has been made of |v| for some readers, in such a table; to be filled in. */
static kgr_value **made_of(layout *l, kcc_paged *table, const kgr_value *v)
{
    return kcc_paged_at(table, l->m->arena, v->id, sizeof(kgr_value *));
}

static bool is_const(const kgr_value *v)
{
    return v->t.data != NULL;
}

static bool spatial_rank(const kgr_value *v)
{
    return v->t.shape.rank >= 3 && v->t.shape.rank <= 5;
}

/* Backwards: who wants channels-last. */
static void find_wants(layout *l)
{
    kcc_module *m = l->m;
    for (uint32_t i = m->n_nodes; i-- > 0;) {
        const kgr_node *n = m->node[i];
        const kcc_row *row = kcc_row_of(n->op);
        for (uint32_t k = 0; k < n->n_in; k++) {
            const kgr_value *v = n->in[k];
            if (!v || is_const(v))
                continue;
            plan *p = plan_of(l, v);
            p->users++;
            bool through = row->in == KCC_ORDER_ANY && row->kind != KCC_MOVE &&
                           plan_of(l, n->out[0])->wants_cl &&
                           v->t.shape.rank == n->out[0]->t.shape.rank;
            if ((row->in == KCC_ORDER_CL && k == 0) || through)
                plan_of(l, v)->wants_cl = true;
        }
    }
}

/* Forwards: order of every value. */
static void find_orders(layout *l)
{
    kcc_module *m = l->m;
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        const kgr_node *n = m->node[i];
        const kcc_row *row = kcc_row_of(n->op);
        bool any_cl = false;
        for (uint32_t k = 0; k < n->n_in; k++) {
            const kgr_value *v = n->in[k];
            if (!v || is_const(v) || v->t.shape.rank != n->out[0]->t.shape.rank)
                continue;
            if (plan_of(l, v)->order == KCC_ORDER_CL)
                any_cl = true;
        }
        for (uint32_t k = 0; k < n->n_out; k++) {
            plan *p = plan_of(l, n->out[k]);
            p->written_by_compute = row->kind == KCC_COMPUTE;
            p->order = KCC_ORDER_ROW;
            if (!spatial_rank(n->out[k]) || row->out == KCC_ORDER_ROW || row->kind == KCC_MOVE)
                continue;
            if (row->out == KCC_ORDER_CL || any_cl || p->wants_cl)
                p->order = KCC_ORDER_CL;
        }
    }
}

/* A product that only a Transpose reads is written as that hands it on, so that what follows finds
 * it row-major. Its columns stay together. */
static void find_transposed(layout *l)
{
    kcc_module *m = l->m;
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        const kgr_node *n = m->node[i];
        if (n->op != KOP_MatMul && n->op != KOP_Gemm)
            continue;
        plan *p = plan_of(l, n->out[0]);
        const kgr_node *t = kgr_only_user(n->out[0]);
        const kop_attr *perm = t && t->op == KOP_Transpose ? kgr_attr_find(t, "perm") : NULL;
        int32_t last = n->out[0]->t.shape.rank - 1;
        if (!perm || p->order != KCC_ORDER_ROW || perm->u.ints[last] != last ||
            t->device != KGR_DEVICE || plan_of(l, t->out[0])->wants_cl)
            continue;
        p->order = KCC_ORDER_PERM;
        p->perm = perm->u.ints;
    }
}

static bool reads_halo(const kgr_node *n)
{
    return n->op == KOP_Conv || n->op == KOP_QLinearConv || n->op == KOP_ConvInteger;
}

/* The halo a convolution reads around its input. */
static void find_halos(layout *l)
{
    kcc_module *m = l->m;
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        const kgr_node *n = m->node[i];
        if (!reads_halo(n))
            continue;
        const kop_tensor *in[KOP_MAX_INPUTS];
        kop_tensor out[1];
        kop_call call = kgr_call(n, in, out, NULL, NULL);
        kop_window w;
        if (kop_window_of(&call, &w) != KAENA_OK)
            continue;
        plan *p = plan_of(l, n->in[0]);
        /* What is written as dense rows gets its halo in a copy. */
        const kgr_node *maker = n->in[0]->producer;
        const kcc_row *made = maker ? kcc_row_of(maker->op) : NULL;
        if (made && made->in == KCC_ORDER_DENSE)
            continue;
        for (int32_t s = 0; s < w.spatial; s++) {
            if (w.pad_begin[s] > p->before[2 + s])
                p->before[2 + s] = w.pad_begin[s];
            int64_t reach = (w.out[s] - 1) * w.stride[s] + (w.kernel[s] - 1) * w.dilation[s] + 1 -
                            w.pad_begin[s] - w.in[s];
            if (reach > p->after[2 + s])
                p->after[2 + s] = reach;
        }
    }
}

static bool has_halo(const plan *p)
{
    for (int32_t d = 0; d < KAENA_MAX_RANK; d++)
        if (p->before[d] || p->after[d])
            return true;
    return false;
}

/* Backwards, so that outer concatenations come first: which inputs are written into a
 * concatenation's buffer. */
static void find_concats(layout *l)
{
    kcc_module *m = l->m;
    for (uint32_t i = m->n_nodes; i-- > 0;) {
        const kgr_node *n = m->node[i];
        if (kcc_row_of(n->op)->kind != KCC_CONCAT)
            continue;
        const kop_tensor *in[KOP_MAX_INPUTS];
        kop_tensor out[1];
        kop_call call = kgr_call(n, in, out, NULL, NULL);
        int32_t axis;
        if (!kop_axis(kop_attr_int(&call, "axis", 0), n->out[0]->t.shape.rank, &axis))
            continue;
        int64_t at = 0;
        for (uint32_t k = 0; k < n->n_in; k++) {
            const kgr_value *v = n->in[k];
            plan *p = plan_of(l, v);
            /* Inputs of the step have views by now: nothing here writes them. */
            bool made_here = v->producer && !kcc_view_of(m, v)->buf;
            bool here = made_here && p->written_by_compute &&
                        kcc_row_of(v->producer->op)->in != KCC_ORDER_DENSE && !p->into &&
                        !p->is_output && !has_halo(p) && p->order == plan_of(l, n->out[0])->order &&
                        v->t.dtype == n->out[0]->t.dtype;
            /* A concatenation of its own may lie inside too. */
            if (made_here && !p->written_by_compute &&
                kcc_row_of(v->producer->op)->kind == KCC_CONCAT)
                here = !p->into && !p->is_output && !has_halo(p) &&
                       p->order == plan_of(l, n->out[0])->order;
            if (here) {
                p->into = n->out[0];
                p->into_axis = axis;
                p->into_at = at;
            }
            at += v->t.shape.dim[axis];
        }
    }
}

/* Strides of a dense buffer with room for the halo, in the given order. */
static void dense_view(kcc_module *m, const kgr_value *v, const plan *p, kcc_view *out)
{
    kcc_view view = {.dtype = v->t.dtype, .shape = v->t.shape, .fill = p->fill};
    int32_t rank = view.shape.rank, order[KAENA_MAX_RANK];
    for (int32_t d = 0; d < rank; d++)
        order[d] = d;
    if (p->order == KCC_ORDER_CL && rank >= 3) {
        for (int32_t d = 1; d + 1 < rank; d++)
            order[d] = d + 1;
        order[rank - 1] = 1;
    }
    if (p->order == KCC_ORDER_AXIS) {
        for (int32_t d = p->axis; d + 1 < rank; d++)
            order[d] = d + 1;
        order[rank - 1] = p->axis;
    }
    for (int32_t d = 0; p->order == KCC_ORDER_PERM && d < rank; d++)
        order[d] = (int32_t)p->perm[d];
    int64_t stride = (int64_t)kaena_dtype_size(view.dtype);
    for (int32_t k = rank; k-- > 0;) {
        int32_t d = order[k];
        view.before[d] = p->before[d];
        view.after[d] = p->after[d];
        view.stride[d] = stride;
        view.offset += p->before[d] * stride;
        stride *= view.shape.dim[d] + p->before[d] + p->after[d];
    }
    view.buf = kcc_buffer_add(m, (uint64_t)stride);
    *out = view;
}

static void make_view(layout *l, const kgr_value *v);

static void view_inside(layout *l, const kgr_value *v, const plan *p)
{
    make_view(l, p->into);
    kcc_view view = *kcc_view_of(l->m, p->into);
    view.offset += p->into_at * view.stride[p->into_axis];
    view.shape = v->t.shape;
    memset(view.before, 0, sizeof view.before);
    memset(view.after, 0, sizeof view.after);
    kcc_view_set(l->m, v, &view);
}

/* A view for a value that a node writes. */
static void make_view(layout *l, const kgr_value *v)
{
    if (kcc_view_of(l->m, v)->buf)
        return;
    const plan p = *plan_of(l, v);
    if (p.into) {
        view_inside(l, v, &p);
        return;
    }
    kcc_view view;
    dense_view(l->m, v, &p, &view);
    kcc_view_set(l->m, v, &view);
}

/* A tensor of space IO: row-major, as the model boundary says. */
static void io_view(layout *l, const kgr_value *v, uint16_t tensor)
{
    kcc_view view = {.dtype = v->t.dtype, .shape = v->t.shape};
    int64_t n = 0;
    (void)kaena_shape_elements(&view.shape, &n);
    kaena_shape_strides(&view.shape, view.stride);
    for (int32_t d = 0; d < view.shape.rank; d++)
        view.stride[d] *= (int64_t)kaena_dtype_size(view.dtype);
    view.buf = kcc_buffer_add(l->m, (uint64_t)n * kaena_dtype_size(view.dtype));
    view.buf->space = KISA_IO;
    view.buf->tensor = tensor;
    kcc_view_set(l->m, v, &view);
}

static void insert_node(kcc_module *m, uint32_t at, kgr_node *n)
{
    if (m->n_nodes == m->cap_nodes) {
        uint32_t capacity = m->cap_nodes * 2 + 16;
        kgr_node **grown = KAENA_NEW_N(m->arena, kgr_node *, capacity);
        memcpy(grown, m->node, m->n_nodes * sizeof *grown);
        m->node = grown;
        m->cap_nodes = capacity;
    }
    memmove(&m->node[at + 1], &m->node[at], (m->n_nodes - at) * sizeof *m->node);
    m->node[at] = n;
    m->n_nodes++;
}

/* A copy of |v| as |dtype|, made by a node before position |at|; returns the copied value. */
static kgr_value *insert_copy(layout *l, uint32_t at, kgr_value *v, kaena_dtype dtype)
{
    kcc_module *m = l->m;
    kgr_node *before = at < m->n_nodes ? m->node[at]->prev : m->graph->last;
    kgr_value *in[1] = {v};
    kgr_node *n = kgr_node_add(m->graph, before ? before : kgr_at_start, KOP_Cast, NULL, "layout",
                               in, 1, NULL, 1);
    n->device = KGR_DEVICE;
    n->out[0]->t = v->t;
    n->out[0]->t.dtype = dtype;
    kgr_attr_int(m->graph, n, "to", (int64_t)dtype);
    insert_node(m, at, n);
    plan *p = plan_of(l, n->out[0]);
    p->written_by_compute = true;
    return n->out[0];
}

static bool halo_suffices(const kcc_view *view, const plan *p)
{
    for (int32_t d = 0; d < view->shape.rank; d++)
        if (view->before[d] < p->before[d] || view->after[d] < p->after[d] ||
            (view->fill != p->fill && (p->before[d] || p->after[d])))
            return false;
    return true;
}

/* The halo node |n| itself needs of its first input. */
static void own_halo(const kgr_node *n, plan *out)
{
    *out = (plan){0};
    if (!reads_halo(n))
        return;
    out->fill = kcc_halo_fill(n);
    const kop_tensor *in[KOP_MAX_INPUTS];
    kop_tensor t[1];
    kop_call call = kgr_call(n, in, t, NULL, NULL);
    kop_window w;
    if (kop_window_of(&call, &w) != KAENA_OK)
        return;
    for (int32_t s = 0; s < w.spatial; s++) {
        out->before[2 + s] = w.pad_begin[s];
        int64_t reach = (w.out[s] - 1) * w.stride[s] + (w.kernel[s] - 1) * w.dilation[s] + 1 -
                        w.pad_begin[s] - w.in[s];
        out->after[2 + s] = reach > 0 ? reach : 0;
    }
}

int32_t kcc_inner_axis(const kgr_node *n)
{
    int32_t rank = n->in[0]->t.shape.rank, axis;
    switch (kcc_row_of(n->op)->in) {
    case KCC_ORDER_CL:
        return 1;
    case KCC_ORDER_ROW:
    case KCC_ORDER_DENSE:
    case KCC_ORDER_PERM:
        return rank - 1;
    case KCC_ORDER_AXIS: {
        const kop_tensor *in[KOP_MAX_INPUTS];
        kop_tensor out[1];
        kop_call call = kgr_call(n, in, out, NULL, NULL);
        return kop_axis(kop_attr_int(&call, "axis", -1), rank, &axis) ? axis : -1;
    }
    case KCC_ORDER_ANY:
        break;
    }
    return -1;
}

/* What the first input must be stored as: the PE array takes both operands in one type. */
static kaena_dtype operand_type(const kgr_node *n)
{
    return kcc_is_pe(n) ? n->in[1]->t.dtype : n->in[0]->t.dtype;
}

/* Row-major without gaps. */
static bool is_dense(const kcc_view *v)
{
    int64_t stride = (int64_t)kaena_dtype_size(v->dtype);
    for (int32_t d = v->shape.rank; d-- > 0; stride *= v->shape.dim[d])
        if (v->shape.dim[d] != 1 && v->stride[d] != stride)
            return false;
    return true;
}

/* The node can read |view| as its first input. */
static bool readable(const kgr_node *n, const kcc_row *row, const kcc_view *view)
{
    if (view->dtype != operand_type(n))
        return false;
    int32_t axis = kcc_inner_axis(n);
    if (axis >= 0 && view->stride[axis] != (int64_t)kaena_dtype_size(view->dtype) &&
        view->shape.dim[axis] != 1)
        return false;
    if (row->in == KCC_ORDER_DENSE && !is_dense(view))
        return false;
    plan need;
    own_halo(n, &need);
    return halo_suffices(view, &need);
}

/* Puts a copy before node |i| where it cannot read its first input; returns how many nodes came in.
 */
static uint32_t fix_input(layout *l, uint32_t i)
{
    kgr_node *n = l->m->node[i];
    const kcc_row *row = kcc_row_of(n->op);
    if (n->op == KOP_Cast && kgr_attr_find(n, KCC_PANELS))
        return 0;
    if (n->n_in == 0 || !n->in[0] || is_const(n->in[0]) ||
        readable(n, row, kcc_view_of(l->m, n->in[0])))
        return 0;
    kgr_value *v = n->in[0], *copy = *made_of(l, &l->copies, v);
    if (copy && readable(n, row, kcc_view_of(l->m, copy))) {
        kgr_node_set_input(n, 0, copy);
        return 0;
    }
    copy = insert_copy(l, i, v, operand_type(n));
    plan *p = plan_of(l, copy), *from = plan_of(l, v);
    p->order = row->in == KCC_ORDER_CL || row->in == KCC_ORDER_AXIS ? row->in : KCC_ORDER_ROW;
    p->axis = kcc_inner_axis(n);
    if (p->order == KCC_ORDER_CL) {
        plan need;
        own_halo(n, &need);
        p->fill = need.fill;
        for (int32_t d = 0; d < KAENA_MAX_RANK; d++) {
            p->before[d] = from->before[d] > need.before[d] ? from->before[d] : need.before[d];
            p->after[d] = from->after[d] > need.after[d] ? from->after[d] : need.after[d];
        }
    }
    kgr_node_set_input(n, 0, copy);
    make_view(l, copy);
    return 1;
}

/* A computed second operand of a product goes into panels first; an index of a look-up must be
 * dense. Returns how many nodes came in. */
static uint32_t fix_second(layout *l, uint32_t i)
{
    kcc_module *m = l->m;
    kgr_node *n = m->node[i];
    bool product = n->op == KOP_MatMul && !is_const(n->in[1]);
    bool index = n->op == KOP_Gather && !is_const(n->in[1]) && !is_dense(kcc_view_of(m, n->in[1]));
    if (!product && !index)
        return 0;
    kgr_value *v = n->in[1], *made = product ? *made_of(l, &l->panels, v) : NULL;
    if (made) {
        kgr_node_set_input(n, 1, made);
        return 0;
    }
    made = insert_copy(l, i, v, v->t.dtype);
    kgr_node_set_input(n, 1, made);
    if (index) {
        plan_of(l, made)->order = KCC_ORDER_ROW;
        make_view(l, made);
        return 1;
    }
    kcc_view view = {.dtype = v->t.dtype, .shape = v->t.shape};
    view.buf = kcc_buffer_add(m, kcc_packed_bytes(&v->t.shape, v->t.dtype));
    /* Matrices follow each other; inside of one only PACK and LDW know their way. */
    int64_t matrix = (int64_t)view.buf->bytes;
    for (int32_t d = 0; d + 2 < view.shape.rank; d++)
        view.stride[d] = matrix /= view.shape.dim[d] ? view.shape.dim[d] : 1;
    kcc_view_set(m, made, &view);
    kgr_attr_int(m->graph, made->producer, KCC_PANELS, 1);
    *made_of(l, &l->panels, v) = made;
    return 1;
}

static bool works_along_axis(const kgr_node *n, const kcc_row *row)
{
    return row->in == KCC_ORDER_AXIS && n->n_out == 1;
}

/* Softmax and the like have their axis contiguous on both sides. */
static void keep_axis_inside(layout *l, const kgr_node *n)
{
    kcc_view view;
    plan p = *plan_of(l, n->out[0]);
    p.order = KCC_ORDER_AXIS;
    p.axis = kcc_inner_axis(n);
    p.into = NULL;
    dense_view(l->m, n->out[0], &p, &view);
    kcc_view_set(l->m, n->out[0], &view);
    plan_of(l, n->out[0])->into = NULL;
}

static void place_outputs(layout *l, const kgr_node *n)
{
    const kcc_row *row = kcc_row_of(n->op);
    if (row->kind == KCC_MOVE) {
        for (uint32_t k = 0; k < n->n_out; k++) {
            kcc_view view;
            const kcc_view *in = kcc_view_of(l->m, n->in[0]);
            if (!in->buf || !kcc_move_view(n, k, in, &view)) {
                const plan row_major = {.order = KCC_ORDER_ROW};
                dense_view(l->m, n->out[k], &row_major, &view);
            }
            kcc_view_set(l->m, n->out[k], &view);
        }
        return;
    }
    if (works_along_axis(n, row) && !kcc_view_of(l->m, n->out[0])->buf) {
        keep_axis_inside(l, n);
        return;
    }
    for (uint32_t k = 0; k < n->n_out; k++)
        make_view(l, n->out[k]);
}

/* The node can write its output row-major: always, but for those that keep an axis other than the
 * last contiguous. */
static bool keeps_row_major(const kgr_node *n)
{
    const kcc_row *row = kcc_row_of(n->op);
    return row->in != KCC_ORDER_AXIS || kcc_inner_axis(n) == n->out[0]->t.shape.rank - 1;
}

/* Outputs of the step that a node can write straight into the caller's buffer get an IO view now;
 * others are copied at the end. */
static void bind_outputs(layout *l)
{
    kcc_module *m = l->m;
    for (uint32_t i = 0; i < m->n_io; i++) {
        if (!m->io_written[i])
            continue;
        kgr_value *v = m->io[i];
        plan *p = plan_of(l, v);
        bool direct = v->producer && p->written_by_compute && p->users == 0 &&
                      p->order == KCC_ORDER_ROW && !p->is_output && !kcc_view_of(m, v)->buf &&
                      keeps_row_major(v->producer);
        p->is_output = true;
        if (direct) {
            io_view(l, v, (uint16_t)i);
            continue;
        }
        kgr_value *copy = insert_copy(l, m->n_nodes, v, v->t.dtype);
        plan_of(l, v)->users++;
        plan_of(l, copy)->order = KCC_ORDER_ROW;
        plan_of(l, copy)->is_output = true;
        m->io[i] = copy;
        io_view(l, copy, (uint16_t)i);
    }
}

kaena_status kcc_layout(kcc_module *m, kaena_err *err)
{
    KAENA_TRY(kcc_expand_recurrent(m, err));
    kcc_expand_quantised(m);
    layout l = {.m = m};
    for (uint32_t i = 0; i < m->n_io; i++)
        if (!m->io_written[i])
            io_view(&l, m->io[i], (uint16_t)i);
    find_wants(&l);
    find_orders(&l);
    find_transposed(&l);
    find_halos(&l);
    bind_outputs(&l);
    find_concats(&l);
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        kgr_value *wanted = m->node[i]->n_in ? m->node[i]->in[0] : NULL;
        uint32_t added = fix_input(&l, i);
        if (added)
            *made_of(&l, &l.copies, wanted) = m->node[i]->out[0];
        i += added;
        i += fix_second(&l, i);
        place_outputs(&l, m->node[i]);
    }
    return KAENA_OK;
}
