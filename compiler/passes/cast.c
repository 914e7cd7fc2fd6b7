/* requires: devices decided; fused
 * establishes: every float32 value of the device has the type it is stored in
 *
 * A value has one type. Who computes may write either type whatever it reads, so nothing stands
 * behind a producer but where readers disagree. Who only moves elements (movers) reads what it
 * writes.
 *
 * all:    float32 results of device nodes are bfloat16, except model outputs, what host nodes read,
 * and what Softmax and LogSoftmax read (through movers too), and sums that the PE array does not
 * read: float32. Conv (but depthwise), Gemm and MatMul read bfloat16, through a Cast where the
 * value is float32 (model inputs, results of the host); the other engines read either. matmul: Conv
 * (but depthwise), Gemm and MatMul read bfloat16, all others float32. A result that is read as
 * bfloat16 only is stored so. none:   nothing changes.
 *
 * Constant operands that a node reads as data become bfloat16 where it reads bfloat16: weights of
 * Conv (but depthwise), Gemm and MatMul, tables of Gather, parts of a Concat. All other constants
 * keep their type: biases, scales, bounds, and the constant operand of an Add or Mul. Nothing but
 * float32 is touched: a model whose weights are float16 or bfloat16 runs in its own type. */
#include <stdlib.h>
#include <string.h>

#include "pass_util.h"

/* Operators that move elements and compute nothing; which operands they move. */
static const struct mover {
    kop_op op;
    uint32_t first, count;
} movers[] = {
    {KOP_Identity, 0, 1},      {KOP_Reshape, 0, 1},        {KOP_Transpose, 0, 1},
    {KOP_Slice, 0, 1},         {KOP_Split, 0, 1},          {KOP_Concat, 0, KOP_MAX_INPUTS},
    {KOP_Gather, 0, 1},        {KOP_GatherElements, 0, 1}, {KOP_GatherND, 0, 1},
    {KOP_Pad, 0, 1},           {KOP_Expand, 0, 1},         {KOP_Tile, 0, 1},
    {KOP_DepthToSpace, 0, 1},  {KOP_SpaceToDepth, 0, 1},   {KOP_MaxPool, 0, 1},
    {KOP_GlobalMaxPool, 0, 1}, {KOP_Where, 1, 2},
};

typedef enum demand {
    READS_ANY, /* not float32 data, a parameter, or an engine that takes either type */
    READS_F32,
    READS_BF16,
    READS_LIKE_RESULT, /* a mover */
} demand;

/* What is known of a value while the graph is walked backwards. */
typedef struct wish {
    bool f32, bf16; /* some reader wants it so */
} wish;

static const struct mover *mover_of(const kgr_node *n)
{
    for (size_t i = 0; i < sizeof movers / sizeof *movers; i++)
        if (movers[i].op == n->op)
            return &movers[i];
    return NULL;
}

/* Operands that are weights, biases, scales or bounds of an operator rather than its data. */
static bool is_parameter(const kgr_node *n, uint32_t slot)
{
    if (kgr_attr_find(n, "kaena.residual") && slot == n->n_in - 1)
        return false;
    if (kcc_is_pe(n))
        return slot > 1;
    /* The POOL engine takes the weights of a depthwise convolution as they are: they are few, and
     * rounding them costs accuracy for nothing. */
    if (kcc_is_depthwise(n))
        return slot > 0;
    const kop_row *row = kop_row_of(n->op);
    bool equal_rank = row->max_in > 8 || (row->min_in == 2 && row->max_in == 2); /* Sum, Add */
    return kgr_is_const(n->in[slot]) || (slot > 0 && !equal_rank);
}

static demand demand_of(const kgr_node *n, uint32_t slot, kcc_cast mode)
{
    const kgr_value *v = n->in[slot];
    if (!v || v->t.dtype != KAENA_F32)
        return READS_ANY;
    if (n->device != KGR_DEVICE)
        return READS_F32;
    const struct mover *m = mover_of(n);
    if (m)
        return slot >= m->first && slot - m->first < m->count ? READS_LIKE_RESULT : READS_ANY;
    if (n->op == KOP_Softmax || n->op == KOP_LogSoftmax || n->op == KOP_QuantizeLinear ||
        n->op == KOP_DynamicQuantizeLinear)
        return READS_F32;
    if (kcc_is_recurrent(n)) /* inputs and both weights: what the PE array multiplies */
        return slot < 3 ? READS_BF16 : READS_ANY;
    if (is_parameter(n, slot))
        return READS_ANY;
    bool residual = kgr_attr_find(n, "kaena.residual") && slot == n->n_in - 1;
    if (kcc_is_pe(n) && !residual)
        return READS_BF16;
    return mode == KCC_CAST_ALL ? READS_ANY : READS_F32;
}

/* Which values are sums, or sums that were moved: |sum| [n_values]. */
static void find_sums(const kgr_graph *g, bool *sum)
{
    for (const kgr_node *n = g->first; n; n = n->next) {
        const struct mover *m = mover_of(n);
        bool moved = m && n->n_in > m->first && n->in[m->first] && sum[n->in[m->first]->id];
        for (uint32_t i = 0; i < n->n_out; i++)
            sum[n->out[i]->id] = n->op == KOP_Add || kgr_attr_find(n, "kaena.residual") || moved;
    }
}

/* How a result of a device node is stored, given its readers' wishes. Sums that the PE array does
 * not read are the long way that a network of residual blocks carries its state: rounding them
 * block after block adds up. */
static kaena_dtype stored_as(const kgr_value *v, wish w, bool sum, kcc_cast mode)
{
    if (v->is_output || w.f32 || (sum && !w.bf16))
        return KAENA_F32;
    return mode == KCC_CAST_ALL || w.bf16 ? KAENA_BF16 : KAENA_F32;
}

/* Types of all results, last nodes first: |type| [n_values], NONE where nothing changes. */
static void choose_types(const kgr_graph *g, kcc_cast mode, wish *wishes, const bool *sum,
                         kaena_dtype *type)
{
    for (const kgr_node *n = g->last; n; n = n->prev) {
        kaena_dtype result = KAENA_F32;
        if (n->device == KGR_DEVICE) {
            result = KAENA_BF16;
            for (uint32_t i = 0; i < n->n_out; i++)
                if (stored_as(n->out[i], wishes[n->out[i]->id], sum[n->out[i]->id], mode) ==
                    KAENA_F32)
                    result = KAENA_F32;
        }
        for (uint32_t i = 0; i < n->n_out; i++) {
            kgr_value *v = n->out[i];
            if (v->t.dtype != KAENA_F32)
                continue;
            type[v->id] = n->device != KGR_DEVICE ? KAENA_F32
                          : mover_of(n)           ? result
                                                  : stored_as(v, wishes[v->id], sum[v->id], mode);
        }
        for (uint32_t i = 0; i < n->n_in; i++) {
            demand d = demand_of(n, i, mode);
            if (d == READS_LIKE_RESULT)
                d = result == KAENA_F32 ? READS_F32 : READS_BF16;
            if (d != READS_ANY)
                *(d == READS_F32 ? &wishes[n->in[i]->id].f32 : &wishes[n->in[i]->id].bf16) = true;
        }
    }
}

typedef struct caster {
    kgr_graph *g;
    kcc_cast mode;
    kgr_value **other; /* [n_values] the value in the other type, once made */
    uint32_t n_values;
    kaena_err *err;
} caster;

/* |v|, which is float32 or bfloat16, in the other of the two; a Cast right behind what computes it.
 */
static kaena_status converted(caster *c, kgr_value *v, kaena_dtype to, kgr_value **out)
{
    kgr_graph *g = c->g;
    if (v->id < c->n_values && c->other[v->id]) {
        *out = c->other[v->id];
        return KAENA_OK;
    }
    kgr_value *r;
    if (v->t.data) {
        size_t n = kop_elements(&v->t);
        void *data = kaena_arena_array(g->arena, n, kaena_dtype_size(to));
        r = data ? kgr_const_add(g, v->name, to, &v->t.shape, data) : NULL;
        if (r)
            kaena_cast(data, to, v->t.data, v->t.dtype, n);
    } else {
        kgr_node *after = v->producer ? v->producer : kgr_at_start;
        kgr_node *n = kgr_node_add(g, after, KOP_Cast, v->name, NULL, &v, 1, &v->name, 1);
        r = n && kgr_attr_int(g, n, "to", to) ? n->out[0] : NULL;
        if (r) {
            r->t = (kop_tensor){.dtype = to, .shape = v->t.shape};
            n->device = KGR_DEVICE;
        }
    }
    if (!r)
        return KAENA_FAIL(c->err, RESOURCE_EXHAUSTED, "no memory to cast '%s'", v->name);
    if (v->id < c->n_values)
        c->other[v->id] = r;
    *out = r;
    return KAENA_OK;
}

/* Lets every operand of |n| be of the type that |n| reads. */
static kaena_status cast_operands(caster *c, kgr_node *n)
{
    for (uint32_t i = 0; i < n->n_in; i++) {
        kgr_value *v = n->in[i];
        if (!v || (v->t.dtype != KAENA_F32 && v->t.dtype != KAENA_BF16))
            continue;
        /* The rules speak of the model's types; a value that became bfloat16 was float32. */
        kaena_dtype now = v->t.dtype, want = now;
        v->t.dtype = KAENA_F32;
        demand d = demand_of(n, i, c->mode);
        v->t.dtype = now;
        if (d == READS_LIKE_RESULT)
            want = n->out[0]->t.dtype;
        else if (d != READS_ANY)
            want = d == READS_F32 ? KAENA_F32 : KAENA_BF16;
        if (want == now)
            continue;
        kgr_value *other = NULL;
        KAENA_TRY(converted(c, v, want, &other));
        kgr_node_set_input(n, i, other);
    }
    return KAENA_OK;
}

/* Whether the model itself works in a 16-bit type. */
static bool has_own_type(const kgr_graph *g)
{
    for (const kgr_node *n = g->first; n; n = n->next)
        if (kcc_is_pe(n) && n->in[1]->t.dtype != KAENA_F32 &&
            kaena_dtype_is_float(n->in[1]->t.dtype))
            return true;
    return false;
}

static kaena_status cast_graph(caster *c, wish *wishes, bool *sum, kaena_dtype *type)
{
    kgr_graph *g = c->g;
    find_sums(g, sum);
    choose_types(g, c->mode, wishes, sum, type);
    for (uint32_t i = 0; i < c->n_values; i++)
        if (type[i] != KAENA_DTYPE_NONE)
            g->values[i]->t.dtype = type[i];
    for (kgr_node *n = g->first, *next; n; n = next) {
        next = n->next;
        KAENA_TRY(cast_operands(c, n));
        /* A Cast of the model says in its attribute what it writes. */
        if (n->op == KOP_Cast && n->device == KGR_DEVICE &&
            !kgr_attr_int(g, n, "to", n->out[0]->t.dtype))
            return KAENA_FAIL(c->err, RESOURCE_EXHAUSTED, "no memory for '%s'", n->name);
    }
    return KAENA_OK;
}

kaena_status kcc_pass_cast(kgr_graph *g, const kcc_options *opt, kaena_err *err)
{
    if (opt->cast == KCC_CAST_NONE || has_own_type(g))
        return KAENA_OK;
    size_t n = g->n_values ? g->n_values : 1;
    caster c = {g, opt->cast, calloc(n, sizeof *c.other), g->n_values, err};
    wish *wishes = calloc(n, sizeof *wishes);
    kaena_dtype *type = calloc(n, sizeof *type);
    bool *sum = calloc(n, sizeof *sum);
    kaena_status s =
        c.other && wishes && type && sum
            ? cast_graph(&c, wishes, sum, type)
            : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for %u nodes", g->n_nodes);
    free(c.other);
    free(wishes);
    free(type);
    free(sum);
    return s;
}
