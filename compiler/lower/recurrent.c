/* Recurrent layers before layout: the product of all steps' inputs becomes a node of its own, which
 * the PE array does at once and all TPBs share; what remains is the recurrence. It needs memory of
 * its own: states, gates, masks. */
#include "recurrent.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static kop_recurrent plan_of(const kgr_node *n, bool *ok)
{
    const kop_tensor *in[KOP_MAX_INPUTS];
    kop_tensor out[KOP_MAX_OUTPUTS];
    kop_call call = kgr_call(n, in, out, NULL, NULL);
    kop_recurrent p = {0};
    *ok = kop_recurrent_of(&call, &p) == KAENA_OK;
    return p;
}

static bool is_const(const kgr_node *n, uint32_t i)
{
    return i >= n->n_in || !n->in[i] || n->in[i]->t.data;
}

bool kcc_recurrent_lowerable(const kgr_node *n, const char **reason)
{
    bool ok;
    kop_recurrent p = plan_of(n, &ok);
    *reason = "parameters that do not fit";
    if (!ok)
        return false;
    *reason = "weights are computed at run time";
    if (!is_const(n, 1) || !is_const(n, 2) || !is_const(n, 3) || !is_const(n, 7))
        return false;
    *reason = "element types differ";
    if (n->in[0]->t.dtype != n->in[1]->t.dtype || n->in[1]->t.dtype != n->in[2]->t.dtype)
        return false;
    *reason = "an activation that the ACT engine has not (Affine, ScaledTanh)";
    for (int64_t d = 0; d < p.dirs; d++)
        for (uint32_t i = 0; i < p.n_fns; i++)
            if (p.fn[d][i].act == KAENA_ACT_COUNT)
                return false;
    *reason = NULL;
    return true;
}

/* Memory of [rows][columns] elements for |n| alone. */
static kcc_buffer *workspace(kcc_module *m, const kgr_node *n, int64_t rows, int64_t columns,
                             kaena_dtype type)
{
    return kcc_workspace_add(m, n, (uint64_t)(rows * columns) * kaena_dtype_size(type));
}

static kgr_value *constant(kcc_module *m, const kgr_node *n, const char *what, kaena_dtype type,
                           const kaena_shape *shape, const void *data)
{
    char name[128];
    (void)snprintf(name, sizeof name, "%.90s.%.30s", n->name, what);
    return kgr_const_add(m->graph, name, type, shape, data);
}

/* Both biases of every gate, added; GRU's last recurrent one is inside the reset gate's reach where
 * the product comes first, and stays out. */
static kgr_value *input_bias(kcc_module *m, const kcc_recurrent *r)
{
    const kgr_node *n = r->node;
    const kop_recurrent *p = &r->p;
    if (n->n_in <= 3 || !n->in[3])
        return NULL;
    int64_t rows = p->gates * p->hidden, apart = r->linear_before_reset ? 2 * p->hidden : rows;
    float *sum = KAENA_NEW_N(m->arena, float, (size_t)(p->dirs * rows));
    for (int64_t d = 0; d < p->dirs; d++)
        for (int64_t i = 0; i < rows; i++) {
            double wb = kop_get_float(&n->in[3]->t, (size_t)(2 * d * rows + i)),
                   rb = kop_get_float(&n->in[3]->t, (size_t)((2 * d + 1) * rows + i));
            sum[d * rows + i] = (float)(i < apart ? wb + rb : wb);
        }
    return constant(m, n, "bias", KAENA_F32, &(kaena_shape){1, {p->dirs * rows}}, sum);
}

/* Puts the product of the inputs before node |at|. */
static void split_product(kcc_module *m, uint32_t at, kcc_recurrent *r)
{
    kgr_node *n = m->node[at];
    const kop_recurrent *p = &r->p;
    int64_t columns = p->dirs * p->gates * p->hidden;
    kgr_value *in[3] = {n->in[0], NULL, input_bias(m, r)};
    in[1] = constant(m, n, "w", n->in[1]->t.dtype, &(kaena_shape){2, {columns, p->input}},
                     n->in[1]->t.data);
    char name[128];
    (void)snprintf(name, sizeof name, "%.100s.inputs", n->name);
    const char *out_name = name;
    kgr_node *product = kgr_node_add(m->graph, n->prev ? n->prev : kgr_at_start, KOP_Gemm, name,
                                     n->origin, in, in[2] ? 3 : 2, &out_name, 1);
    product->device = KGR_DEVICE;
    kgr_attr_int(m->graph, product, "transB", 1);
    kgr_value *v = product->out[0];
    v->t.dtype = KAENA_F32;
    v->t.shape = n->in[0]->t.shape;
    v->t.shape.dim[2] = columns;
    memmove(&m->node[at + 1], &m->node[at], (m->n_nodes - at) * sizeof *m->node);
    m->node[at] = product;
    m->n_nodes++;
    kgr_node_set_input(n, 0, v);
    kgr_node_set_input(n, 1, NULL);
    r->product = v;
}

/* Rows of R that one product of a step multiplies. */
static const kgr_value *rows_of_r(kcc_module *m, const kcc_recurrent *r, int64_t d, int64_t first,
                                  int64_t end)
{
    const kop_recurrent *p = &r->p;
    const kgr_value *all = r->node->in[2];
    char what[32];
    (void)snprintf(what, sizeof what, "r%d.%d", (int)d, (int)first);
    size_t skip =
        (size_t)((d * p->gates + first) * p->hidden * p->hidden) * kaena_dtype_size(all->t.dtype);
    return constant(m, r->node, what, all->t.dtype,
                    &(kaena_shape){2, {(end - first) * p->hidden, p->hidden}},
                    (const uint8_t *)all->t.data + skip);
}

/* All sequences have all steps. */
static bool lengths_are_full(const kgr_node *n, int64_t steps)
{
    if (n->n_in <= 4 || !n->in[4])
        return true;
    if (!n->in[4]->t.data)
        return false;
    for (size_t i = 0; i < kop_elements(&n->in[4]->t); i++)
        if (kop_get_int(&n->in[4]->t, i) != steps)
            return false;
    return true;
}

/* Lengths known now: which steps count, as a constant. */
static kcc_buffer *constant_mask(kcc_module *m, const kcc_recurrent *r)
{
    const kop_recurrent *p = &r->p;
    float *mask = KAENA_NEW_N(m->weights_arena, float, (size_t)(p->seq * p->batch));
    for (int64_t t = 0; t < p->seq; t++)
        for (int64_t b = 0; b < p->batch; b++)
            mask[t * p->batch + b] = t < kop_get_int(&r->node->in[4]->t, (size_t)b);
    return kcc_weights_add(m, mask, (uint64_t)(p->seq * p->batch) * sizeof *mask);
}

static void prepare_direction(kcc_module *m, kcc_recurrent *r, int64_t d)
{
    const kgr_node *n = r->node;
    const kop_recurrent *p = &r->p;
    kcc_recurrent_dir *dir = &r->dir[d];
    dir->h = workspace(m, n, p->batch, p->hidden, r->type);
    dir->wide = dir->h;
    if (n->op == KOP_GRU && r->type != KAENA_F32)
        dir->wide = workspace(m, n, p->batch, p->hidden, KAENA_F32);
    if (n->op == KOP_GRU && !r->linear_before_reset)
        dir->reset = workspace(m, n, p->batch, p->hidden, r->type);
    if (n->op == KOP_LSTM)
        dir->c = workspace(m, n, p->batch, p->hidden, KAENA_F32);
    dir->gates = workspace(m, n, p->batch, p->gates * p->hidden, KAENA_F32);
    if (!lengths_are_full(n, p->seq)) {
        if (n->in[4]->t.data) {
            dir->mask = constant_mask(m, r);
        } else {
            dir->mask = workspace(m, n, p->seq, p->batch, KAENA_F32);
            dir->lengths = workspace(m, n, 1, p->batch, KAENA_F32);
        }
    }
    int64_t cut = p->gates - 1; /* the last gate has a function or an operand of its own */
    dir->part[0] = rows_of_r(m, r, d, 0, cut ? cut : 1);
    dir->part[1] = cut ? rows_of_r(m, r, d, cut, p->gates) : NULL;
}

kaena_status kcc_expand_recurrent(kcc_module *m, kaena_err *err)
{
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        kgr_node *n = m->node[i];
        if (n->op != KOP_RNN && n->op != KOP_GRU && n->op != KOP_LSTM)
            continue;
        bool ok;
        kcc_recurrent *r = KAENA_NEW(m->arena, kcc_recurrent);
        *r = (kcc_recurrent){.node = n, .p = plan_of(n, &ok), .type = n->in[2]->t.dtype};
        if (!ok)
            return KAENA_FAIL(err, INTERNAL, "%s '%s' was checked before", kop_row_of(n->op)->name,
                              n->name);
        r->linear_before_reset =
            n->op == KOP_GRU && kgr_attr_get_int(n, "linear_before_reset", 0) != 0;
        r->input_forget = kgr_attr_get_int(n, "input_forget", 0) != 0;
        for (int64_t d = 0; d < r->p.dirs; d++)
            prepare_direction(m, r, d);
        split_product(m, i++, r);
        r->next = m->recurrent;
        m->recurrent = r;
    }
    return KAENA_OK;
}
