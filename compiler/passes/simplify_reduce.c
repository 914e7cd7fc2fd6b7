/* Reductions that no engine knows, from those that engines do. */
#include <float.h>

#include "simplify.h"

static kaena_status no_memory(const kgr_node *n, kaena_err *err)
{
    return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", n->name);
}

/* |op| of |x| and |y| (NULL: of |x| alone) before |n|. */
static kaena_status apply(kgr_graph *g, kgr_node *n, kop_op op, kgr_value *x, kgr_value *y,
                          kgr_value **out, kaena_err *err)
{
    kgr_node *made;
    KAENA_TRY(kcc_insert(g, n, op, n->name, (kgr_value *[]){x, y}, y ? 2 : 1, &made, err));
    *out = made->out[0];
    return KAENA_OK;
}

/* A reduction of |x| over |n|'s axes before it; |keep|: as dimensions of 1. */
static kaena_status reduced(kgr_graph *g, kgr_node *n, kop_op op, kgr_value *x, kgr_value *axes,
                            bool keep, kgr_value **out, kaena_err *err)
{
    kgr_node *made;
    KAENA_TRY(kcc_insert(g, n, op, n->name, (kgr_value *[]){x, axes}, axes ? 2 : 1, &made, err));
    if (!kgr_attr_int(g, made, "keepdims", keep))
        return no_memory(n, err);
    KAENA_TRY(kgr_infer_node(made, err));
    *out = made->out[0];
    return KAENA_OK;
}

/* |n| becomes |op| of |x| and, where there is one, |y|. */
static kaena_status become(kgr_graph *g, kgr_node *n, kop_op op, kgr_value *x, kgr_value *y,
                           kaena_err *err)
{
    kgr_node_cut_inputs(n, 1);
    kgr_node_set_input(n, 0, x);
    if (y && !kgr_node_add_input(g, n, y))
        return no_memory(n, err);
    n->op = op;
    n->n_attr = 0;
    return KAENA_OK;
}

/* log(sum(exp(x - m))) + m, m the largest x made finite, so that infinities stay what they are. */
static kaena_status log_sum_exp(kgr_graph *g, kgr_node *n, kgr_value *axes, kaena_err *err)
{
    kgr_value *x = n->in[0], *m, *d, *e, *s, *l;
    kaena_dtype t = x->t.dtype;
    double most = t == KAENA_F16    ? 65504.0
                  : t == KAENA_BF16 ? 3.3e38
                                    : (double)FLT_MAX,
           least = -most;
    kgr_value *low = kcc_const_floats(g, "least", t, &(kaena_shape){0}, &least),
              *high = kcc_const_floats(g, "most", t, &(kaena_shape){0}, &most);
    kgr_node *clip;
    bool keep = kgr_attr_get_int(n, "keepdims", 1) != 0;
    KAENA_TRY(reduced(g, n, KOP_ReduceMax, x, axes, true, &m, err));
    KAENA_TRY(kcc_insert(g, n, KOP_Clip, n->name, (kgr_value *[]){m, low, high}, 3, &clip, err));
    m = clip->out[0];
    KAENA_TRY(apply(g, n, KOP_Sub, x, m, &d, err));
    KAENA_TRY(apply(g, n, KOP_Exp, d, NULL, &e, err));
    KAENA_TRY(reduced(g, n, KOP_ReduceSum, e, axes, true, &s, err));
    KAENA_TRY(apply(g, n, KOP_Log, s, NULL, &l, err));
    if (keep)
        return become(g, n, KOP_Add, l, m, err);
    KAENA_TRY(apply(g, n, KOP_Add, l, m, &s, err));
    kgr_value *shape =
        kgr_const_i64(g, "shape", n->out[0]->t.shape.dim, (uint32_t)n->out[0]->t.shape.rank);
    return shape ? become(g, n, KOP_Reshape, s, shape, err) : no_memory(n, err);
}

/* x less its mean, over its deviation. */
static kaena_status mean_variance(kgr_graph *g, kgr_node *n, kaena_err *err)
{
    static const int64_t usual[3] = {0, 2, 3};
    const kop_attr *a = kgr_attr_find(n, "axes");
    bool given = a && a->type == KOP_ATTR_INTS;
    kgr_value *axes = kgr_const_i64(g, "axes", given ? a->u.ints : usual, given ? a->n : 3);
    kgr_value *x = n->in[0], *m, *d, *v, *root, *sum;
    double tiny = 1e-9;
    kgr_value *epsilon = kcc_const_floats(g, "epsilon", x->t.dtype, &(kaena_shape){0}, &tiny);
    if (!axes)
        return no_memory(n, err);
    KAENA_TRY(reduced(g, n, KOP_ReduceMean, x, axes, true, &m, err));
    KAENA_TRY(apply(g, n, KOP_Sub, x, m, &d, err));
    KAENA_TRY(apply(g, n, KOP_Mul, d, d, &v, err));
    KAENA_TRY(reduced(g, n, KOP_ReduceMean, v, axes, true, &v, err));
    KAENA_TRY(apply(g, n, KOP_Sqrt, v, NULL, &root, err));
    KAENA_TRY(apply(g, n, KOP_Add, root, epsilon, &sum, err));
    return become(g, n, KOP_Div, d, sum, err);
}

/* A vector of channels in the shape that broadcasts along dimension 1. */
static kaena_status per_channel(kgr_graph *g, kgr_node *n, kgr_value *v, kgr_value **out,
                                kaena_err *err)
{
    int32_t rank = n->in[0]->t.shape.rank;
    int64_t dim[KAENA_MAX_RANK];
    for (int32_t d = 0; d < rank; d++)
        dim[d] = d == 1 ? n->in[0]->t.shape.dim[1] : 1;
    kgr_value *shape = kgr_const_i64(g, "channels", dim, (uint32_t)rank);
    if (!shape)
        return no_memory(n, err);
    bool constant = kgr_is_const(v);
    KAENA_TRY(apply(g, n, KOP_Reshape, v, shape, out, err));
    return constant ? kgr_node_fold(g, (*out)->producer, SIZE_MAX, err) : KAENA_OK;
}

/* BatchNormalization by statistics that the model computes: (x - mean) * scale / deviation + bias.
 */
kaena_status kcc_rule_statistics(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err)
{
    kaena_dtype t = n->out[0]->t.dtype;
    bool computed = false;
    for (uint32_t i = 1; i < 5; i++) {
        computed |= !kgr_is_const(n->in[i]);
        if (!kcc_known(n->in[i]) || n->in[i]->t.dtype != t)
            return KAENA_OK;
    }
    if (!computed || n->n_out != 1 || n->device == KGR_HOST || !kcc_known(n->in[0]) ||
        n->in[0]->t.shape.rank < 2 || kgr_attr_get_int(n, "training_mode", 0) ||
        (t != KAENA_F32 && t != KAENA_F16 && t != KAENA_BF16))
        return KAENA_OK;
    double epsilon = (double)kgr_attr_get_float(n, "epsilon", 1e-5f);
    kgr_value *tiny = kcc_const_floats(g, "epsilon", t, &(kaena_shape){0}, &epsilon), *v[5], *x, *s;
    KAENA_TRY(apply(g, n, KOP_Add, n->in[4], tiny, &s, err));
    KAENA_TRY(apply(g, n, KOP_Sqrt, s, NULL, &s, err));
    KAENA_TRY(apply(g, n, KOP_Div, n->in[1], s, &s, err));
    for (uint32_t i = 2; i < 4; i++)
        KAENA_TRY(per_channel(g, n, n->in[i], &v[i], err));
    KAENA_TRY(per_channel(g, n, s, &s, err));
    KAENA_TRY(apply(g, n, KOP_Sub, n->in[0], v[3], &x, err));
    KAENA_TRY(apply(g, n, KOP_Mul, x, s, &x, err));
    *changed = true;
    return become(g, n, KOP_Add, x, v[2], err);
}

kaena_status kcc_rule_norms(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err)
{
    kgr_value *x = n->in[0], *axes = n->n_in > 1 ? n->in[1] : NULL, *sum;
    kaena_dtype t = n->out[0]->t.dtype;
    /* The host computes each of these in double precision at once. */
    if ((t != KAENA_F32 && t != KAENA_F16 && t != KAENA_BF16) || n->device == KGR_HOST ||
        !kcc_known(x) || x->t.shape.rank == 0 || x->t.shape.rank > 4 || kop_elements(&x->t) == 0 ||
        (axes && !kgr_is_const(axes)) || (axes && kop_elements(&axes->t) == 0))
        return KAENA_OK;
    bool keep = kgr_attr_get_int(n, "keepdims", 1) != 0;
    switch ((int)n->op) {
    case KOP_ReduceL2:
        KAENA_TRY(reduced(g, n, KOP_ReduceSumSquare, x, axes, keep, &sum, err));
        *changed = true;
        return become(g, n, KOP_Sqrt, sum, NULL, err);
    case KOP_ReduceLogSum:
        KAENA_TRY(reduced(g, n, KOP_ReduceSum, x, axes, keep, &sum, err));
        *changed = true;
        return become(g, n, KOP_Log, sum, NULL, err);
    case KOP_ReduceLogSumExp:
        *changed = true;
        return log_sum_exp(g, n, axes, err);
    case KOP_MeanVarianceNormalization:
        *changed = true;
        return mean_variance(g, n, err);
    default:
        return KAENA_OK;
    }
}
