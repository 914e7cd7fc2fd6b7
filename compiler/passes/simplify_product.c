/* Products of vectors, and of transposed or scaled computed matrices, become plain products. */
#include "simplify.h"

static kaena_status reshape(kgr_graph *g, kgr_node *before, kgr_value *v, const kaena_shape *shape,
                            kgr_value **out, kaena_err *err)
{
    kgr_value *dims = kgr_const_i64(g, "shape", shape->dim, (uint32_t)shape->rank);
    kgr_node *n;
    if (!dims)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", before->name);
    KAENA_TRY(kcc_insert(g, before, KOP_Reshape, v->name, (kgr_value *[]){v, dims}, 2, &n, err));
    *out = n->out[0];
    return KAENA_OK;
}

/* A vector is a matrix of one row, or of one column. */
kaena_status kcc_rule_vectors(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err)
{
    if (n->n_in != 2 || !kcc_known(n->in[0]) || !kcc_known(n->in[1]) ||
        !kaena_dtype_is_float(n->out[0]->t.dtype) ||
        (n->in[0]->t.shape.rank != 1 && n->in[1]->t.shape.rank != 1))
        return KAENA_OK;
    kgr_value *in[2] = {n->in[0], n->in[1]};
    for (int i = 0; i < 2; i++) {
        int64_t k = in[i]->t.shape.dim[0];
        const kaena_shape row = {2, {1, k}}, column = {2, {k, 1}};
        if (in[i]->t.shape.rank == 1)
            KAENA_TRY(reshape(g, n, in[i], i ? &column : &row, &in[i], err));
    }
    kgr_node *product;
    KAENA_TRY(kcc_insert(g, n, KOP_MatMul, n->name, in, 2, &product, err));
    kgr_value *shape =
        kgr_const_i64(g, "shape", n->out[0]->t.shape.dim, (uint32_t)n->out[0]->t.shape.rank);
    if (!shape)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", n->name);
    kgr_node_set_input(n, 0, product->out[0]);
    kgr_node_set_input(n, 1, shape);
    n->op = KOP_Reshape;
    *changed = true;
    return KAENA_OK;
}

static kaena_status transposed(kgr_graph *g, kgr_node *before, kgr_value **v, kaena_err *err)
{
    static const int64_t perm[2] = {1, 0};
    kgr_node *n;
    KAENA_TRY(kcc_insert(g, before, KOP_Transpose, (*v)->name, v, 1, &n, err));
    if (!kgr_attr_ints(g, n, "perm", perm, 2))
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", n->name);
    KAENA_TRY(kgr_infer_node(n, err));
    bool constant = kgr_is_const(*v);
    *v = n->out[0];
    return constant ? kgr_node_fold(g, n, SIZE_MAX, err) : KAENA_OK;
}

/* Gemm with a transposed computed A, or with a computed B: transpositions, MatMul, Add. */
kaena_status kcc_rule_gemm(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err)
{
    bool turn_a = kgr_attr_get_int(n, "transA", 0) != 0, is_const_b = kgr_is_const(n->in[1]);
    kaena_dtype t = n->out[0]->t.dtype;
    if ((is_const_b && (!turn_a || kgr_is_const(n->in[0]))) || !kaena_dtype_is_float(t) ||
        t == KAENA_F64 || kgr_attr_find(n, "kaena.act"))
        return KAENA_OK;
    kgr_value *in[2] = {n->in[0], n->in[1]};
    if (turn_a)
        KAENA_TRY(transposed(g, n, &in[0], err));
    if (turn_a)
        kgr_node_set_input(n, 0, in[0]);
    kgr_attr_remove(n, "transA");
    *changed = true;
    if (is_const_b)
        return KAENA_OK;
    if (kgr_attr_get_int(n, "transB", 0))
        KAENA_TRY(transposed(g, n, &in[1], err));
    double alpha = (double)kgr_attr_get_float(n, "alpha", 1),
           beta = (double)kgr_attr_get_float(n, "beta", 1);
    kgr_value *c = n->n_in > 2 && beta != 0 ? n->in[2] : NULL;
    kgr_node *product = n, *scaled;
    if (c) {
        KAENA_TRY(kcc_insert(g, n, KOP_MatMul, n->name, in, 2, &product, err));
    } else {
        kgr_node_cut_inputs(n, 2);
        kgr_node_set_input(n, 1, in[1]);
        n->op = KOP_MatMul;
    }
    n->n_attr = 0;
    if (alpha != 1 && !kgr_attr_float(g, product, "kaena.scale", (float)alpha))
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", n->name);
    if (!c)
        return KAENA_OK;
    if (beta != 1) {
        kgr_value *factor = kcc_const_floats(g, "beta", t, &(kaena_shape){0}, &beta);
        KAENA_TRY(kcc_insert(g, n, KOP_Mul, n->name, (kgr_value *[]){c, factor}, 2, &scaled, err));
        c = scaled->out[0];
    }
    kgr_node_cut_inputs(n, 2);
    kgr_node_set_input(n, 0, product->out[0]);
    kgr_node_set_input(n, 1, c);
    n->op = KOP_Add;
    return KAENA_OK;
}
