#include "fuse.h"

#define BLOCK 64

/* BLOCK elements of row |i| of |to|, or as many as there are, from column |j0| on. */
static void copy_row(kop_tensor *to, const kop_tensor *from, int64_t i, int64_t j0, bool transpose,
                     double alpha)
{
    int64_t rows = to->shape.dim[0], columns = to->shape.dim[1];
    int64_t end = j0 + BLOCK < columns ? j0 + BLOCK : columns;
    int64_t step = transpose ? rows : 1, first = transpose ? i : i * columns;
    if (from->dtype == KAENA_F32 && alpha == 1) {
        const float *x = from->data;
        float *y = to->data;
        for (int64_t j = j0; j < end; j++)
            y[i * columns + j] = x[first + j * step];
        return;
    }
    for (int64_t j = j0; j < end; j++)
        kop_set_float(to, (size_t)(i * columns + j),
                      alpha * kop_get_float(from, (size_t)(first + j * step)));
}

/* alpha * transpose?(b) as a constant [K, N]. */
static kgr_value *plain_matrix(kgr_graph *g, const kgr_value *b, bool transpose, double alpha)
{
    int64_t rows = b->t.shape.dim[transpose], columns = b->t.shape.dim[!transpose];
    kgr_value *c = kgr_value_add(g, b->name, b->t.dtype, &(kaena_shape){2, {rows, columns}});
    c->t.data = kaena_arena_array(g->arena, (size_t)(rows * columns), kaena_dtype_size(b->t.dtype));
    /* Square blocks, so that neither side strides through memory: these matrices are large. */
    for (int64_t i0 = 0; i0 < rows; i0 += BLOCK)
        for (int64_t j0 = 0; j0 < columns; j0 += BLOCK)
            for (int64_t i = i0; i < i0 + BLOCK && i < rows; i++)
                copy_row(&c->t, &b->t, i, j0, transpose, alpha);
    return c;
}

/* beta * c as a constant [N], or NULL where it differs from row to row. */
static kgr_value *plain_bias(kgr_graph *g, const kgr_value *c, int64_t columns, double beta)
{
    const kaena_shape *s = &c->t.shape;
    int64_t width = s->rank ? s->dim[s->rank - 1] : 1;
    if (!kgr_is_const(c) || (s->rank == 2 && s->dim[0] != 1) || (width != 1 && width != columns))
        return NULL;
    kgr_value *b = kgr_value_add(g, c->name, c->t.dtype, &(kaena_shape){1, {columns}});
    b->t.data = kaena_arena_array(g->arena, (size_t)columns, kaena_dtype_size(c->t.dtype));
    for (int64_t i = 0; i < columns; i++)
        kop_set_float(&b->t, (size_t)i, beta * kop_get_float(&c->t, width == 1 ? 0 : (size_t)i));
    return b;
}

/* |n| was a Gemm with a C that cannot be a bias: the product comes first, |n| adds beta * C. */
static kaena_status split_sum(kgr_graph *g, kgr_node *n, double beta, kaena_err *err)
{
    kgr_node *product, *scaled;
    kgr_value *c = n->in[2];
    KAENA_TRY(kcc_insert(g, n, KOP_Gemm, n->name, n->in, 2, &product, err));
    if (kgr_attr_get_int(n, "transA", 0)) {
        (void)kgr_attr_int(g, product, "transA", 1);
        KAENA_TRY(kgr_infer_node(product, err));
    }
    if (beta != 1) {
        kgr_value *factor = kcc_const_floats(g, "beta", c->t.dtype, &(kaena_shape){0}, &beta);
        KAENA_TRY(kcc_insert(g, n, KOP_Mul, n->name, (kgr_value *[]){c, factor}, 2, &scaled, err));
        c = scaled->out[0];
    }
    kgr_node_cut_inputs(n, 2);
    kgr_node_set_input(n, 0, product->out[0]);
    kgr_node_set_input(n, 1, c);
    n->op = KOP_Add;
    n->n_attr = 0;
    return KAENA_OK;
}

kaena_status kcc_fuse_gemm(kgr_graph *g, kgr_node *n, kaena_err *err)
{
    if ((n->op != KOP_Gemm && n->op != KOP_MatMul) || !kcc_known(n->out[0]))
        return KAENA_OK;
    kgr_value *a = n->in[0], *b = n->in[1];
    if (!kgr_is_const(b) || kgr_is_const(a) || !kaena_dtype_is_float(b->t.dtype) ||
        a->t.shape.rank != 2 || b->t.shape.rank != 2)
        return KAENA_OK;
    if (n->op == KOP_MatMul) {
        n->op = KOP_Gemm;
        return KAENA_OK;
    }
    double alpha = (double)kgr_attr_get_float(n, "alpha", 1),
           beta = (double)kgr_attr_get_float(n, "beta", 1);
    bool transpose = kgr_attr_get_int(n, "transB", 0) != 0;
    if (transpose || alpha != 1)
        kgr_node_set_input(n, 1, plain_matrix(g, b, transpose, alpha));
    kgr_attr_remove(n, "alpha");
    kgr_attr_remove(n, "transB");
    if (n->n_in > 2 && n->in[2] && beta != 0) {
        kgr_value *bias = plain_bias(g, n->in[2], n->out[0]->t.shape.dim[1], beta);
        if (!bias)
            return split_sum(g, n, beta, err);
        kgr_node_set_input(n, 2, bias);
    } else {
        kgr_node_cut_inputs(n, 2);
    }
    kgr_attr_remove(n, "beta");
    if (!kgr_attr_get_int(n, "transA", 0))
        kgr_attr_remove(n, "transA");
    return KAENA_OK;
}
