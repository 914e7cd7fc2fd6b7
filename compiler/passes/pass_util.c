#include "pass_util.h"

bool kcc_bypass(kgr_graph *g, kgr_node *n, kgr_value *v)
{
    for (uint32_t i = 1; i < n->n_out; i++)
        if (n->out[i]->n_uses)
            return false;
    if (!kgr_can_replace(n->out[0], v))
        return false;
    kgr_replace_uses(g, n->out[0], v);
    kgr_node_remove(g, n);
    return true;
}

bool kcc_uniform(const kgr_value *v, double *out)
{
    if (!kgr_is_const(v) || v->t.dtype == KAENA_STRING)
        return false;
    size_t n = kop_elements(&v->t);
    for (size_t i = 0; i < n; i++)
        if (kop_get_float(&v->t, i) != kop_get_float(&v->t, 0))
            return false;
    if (n)
        *out = kop_get_float(&v->t, 0);
    return n > 0;
}

bool kcc_uniform_is(const kgr_value *v, double want)
{
    double x;
    return kcc_uniform(v, &x) && x == want;
}

int32_t kcc_const_ints(const kgr_value *v, int64_t *out, int32_t most)
{
    if (!kgr_is_const(v) || !kaena_dtype_is_int(v->t.dtype))
        return -1;
    size_t n = kop_elements(&v->t);
    if (n > (size_t)most)
        return -1;
    for (size_t i = 0; i < n; i++)
        out[i] = kop_get_int(&v->t, i);
    return (int32_t)n;
}

kaena_status kcc_insert(kgr_graph *g, kgr_node *before, kop_op op, const char *name,
                        kgr_value *const *in, uint32_t n_in, kgr_node **out, kaena_err *err)
{
    kgr_node *after = before->prev ? before->prev : kgr_at_start;
    kgr_node *n = kgr_node_add(g, after, op, name, NULL, in, n_in, &name, 1);
    if (!n)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for a node '%s'", name);
    KAENA_TRY(kgr_infer_node(n, err));
    *out = n;
    return KAENA_OK;
}

kgr_value *kcc_const_floats(kgr_graph *g, const char *name, kaena_dtype dtype,
                            const kaena_shape *shape, const double *v)
{
    kgr_value *c = kgr_value_add(g, name, dtype, shape);
    size_t n = kop_elements(&c->t);
    c->t.data = kaena_arena_array(g->arena, n, kaena_dtype_size(dtype));
    for (size_t i = 0; i < n; i++)
        kop_set_float(&c->t, i, v[i]);
    return c;
}

bool kcc_is_depthwise(const kgr_node *n)
{
    return n->op == KOP_Conv && n->in[1]->t.shape.rank >= 3 && n->in[1]->t.shape.dim[1] == 1 &&
           kgr_attr_get_int(n, "group", 1) > 1;
}

bool kcc_is_pe(const kgr_node *n)
{
    return n->op == KOP_Gemm || n->op == KOP_MatMul || (n->op == KOP_Conv && !kcc_is_depthwise(n));
}

bool kcc_is_recurrent(const kgr_node *n)
{
    return n->op == KOP_RNN || n->op == KOP_GRU || n->op == KOP_LSTM;
}
