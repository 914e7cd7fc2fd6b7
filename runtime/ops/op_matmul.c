#include "ops_impl.h"

#include <math.h>

/* Where the operands of MatMul, MatMulInteger and QLinearMatMul stand. */
static uint32_t second(kop_op op)
{
    return op == KOP_QLinearMatMul ? 3 : 1;
}

/* Shapes as matrices in a batch: a vector gains a dimension of 1, which the result then loses. */
typedef struct product {
    kaena_shape a, b, out; /* ranks of 2 and more; |out| has both 1s still */
    bool vector_a, vector_b;
} product;

static kaena_status shapes_of(const kop_call *call, product *p)
{
    const kop_tensor *a = call->in[0], *b = call->in[second(call->op)];
    if (a->shape.rank < 1 || b->shape.rank < 1)
        return KOP_BAD(call, "a scalar is no matrix");
    *p = (product){.a = a->shape,
                   .b = b->shape,
                   .vector_a = a->shape.rank == 1,
                   .vector_b = b->shape.rank == 1};
    if (p->vector_a)
        p->a = (kaena_shape){.rank = 2, .dim = {1, a->shape.dim[0]}};
    if (p->vector_b)
        p->b = (kaena_shape){.rank = 2, .dim = {b->shape.dim[0], 1}};
    int64_t ka = p->a.dim[p->a.rank - 1], kb = p->b.dim[p->b.rank - 2];
    if (ka >= 0 && kb >= 0 && ka != kb) {
        char x[KAENA_SHAPE_TEXT], y[KAENA_SHAPE_TEXT];
        return KOP_BAD(call, "matrices of shapes %s and %s do not fit",
                       kaena_shape_print(&a->shape, x, sizeof x),
                       kaena_shape_print(&b->shape, y, sizeof y));
    }
    kop_tensor batch_a = {.shape = p->a}, batch_b = {.shape = p->b};
    batch_a.shape.rank -= 2;
    batch_b.shape.rank -= 2;
    const kop_tensor *in[2] = {&batch_a, &batch_b};
    kop_call batches = {.op = call->op, .in = in, .n_in = 2, .err = call->err};
    bool unranked;
    KAENA_TRY(kop_broadcast_shape(&batches, 0, 2, &p->out, &unranked));
    p->out.dim[p->out.rank++] = p->a.dim[p->a.rank - 2];
    p->out.dim[p->out.rank++] = p->b.dim[p->b.rank - 1];
    return KAENA_OK;
}

static kaena_status check_types(kop_call *call, kaena_dtype *out)
{
    uint32_t bytes = KOP_T(KAENA_I8) | KOP_T(KAENA_U8);
    if (call->op == KOP_MatMul) {
        KAENA_TRY(kop_need(call, 0, KOP_T_NUM));
        KAENA_TRY(kop_need_same(call, 0, 1));
        if (kop_in(call, 2))
            KAENA_TRY(kop_need_same(call, 0, 2));
        *out = kop_in_type(call, 0) ? kop_in_type(call, 0) : kop_in_type(call, 1);
        return KAENA_OK;
    }
    uint32_t b = second(call->op);
    KAENA_TRY(kop_need(call, 0, bytes));
    KAENA_TRY(kop_need(call, b, bytes));
    KAENA_TRY(kop_need_same(call, 0, 2));
    KAENA_TRY(kop_need_same(call, b, b == 1 ? 3 : 5));
    *out = KAENA_I32;
    if (call->op == KOP_QLinearMatMul) {
        KAENA_TRY(kop_need(call, 1, KOP_T_FLOAT));
        KAENA_TRY(kop_need(call, 4, KOP_T_FLOAT));
        KAENA_TRY(kop_need(call, 6, KOP_T_FLOAT));
        KAENA_TRY(kop_need(call, 7, bytes));
        *out = kop_in_type(call, 7);
    }
    return KAENA_OK;
}

kaena_status kop_infer_matmul(kop_call *call)
{
    kaena_dtype type;
    KAENA_TRY(check_types(call, &type));
    if (call->in[0]->unranked || call->in[second(call->op)]->unranked) {
        kop_out_unranked(call, 0, type);
        return KAENA_OK;
    }
    product p;
    KAENA_TRY(shapes_of(call, &p));
    kaena_shape out = p.out;
    const kop_tensor *bias = call->op == KOP_MatMul ? kop_in(call, 2) : NULL;
    if (bias && kop_known(bias) && out.dim[out.rank - 1] >= 0 &&
        (int64_t)kop_elements(bias) != out.dim[out.rank - 1])
        return KOP_BAD(call, "a bias of %zu elements for %" PRId64 " columns", kop_elements(bias),
                       out.dim[out.rank - 1]);
    int64_t n = out.dim[--out.rank], m = out.dim[--out.rank];
    if (!p.vector_a)
        out.dim[out.rank++] = m;
    if (!p.vector_b)
        out.dim[out.rank++] = n;
    kop_out(call, 0, type, &out);
    return KAENA_OK;
}

typedef struct matmul_run {
    kop_matrix a, b;
    int64_t k;
    kop_tensor *out;
    int64_t out_at, out_row;
    const float *row_scale, *col_scale; /* quantised: factors of the accumulator, or NULL */
    float y_scale;                      /* its divisor */
    kop_quantised to;
    /* Gemm: y = alpha * product + beta * c. */
    double alpha, beta;
    const double *c;
    int64_t c_row, c_col;
} matmul_run;

static void pack_a(void *ctx, int64_t m0, int64_t mr, double *dst)
{
    const matmul_run *r = ctx;
    kop_pack_rows(&r->a, r->k, m0, mr, dst);
}

static void pack_b(void *ctx, int64_t n0, int64_t nr, double *dst)
{
    const matmul_run *r = ctx;
    kop_pack_cols(&r->b, r->k, n0, nr, dst);
}

static void store(void *ctx, int64_t m0, int64_t mr, int64_t n0, int64_t nr, const double *c)
{
    const matmul_run *r = ctx;
    for (int64_t i = m0; i < m0 + mr; i++) {
        double y[KOP_GEMM_NR];
        for (int64_t j = 0; j < nr; j++) {
            y[j] = r->alpha * c[(i - m0) * KOP_GEMM_NR + j];
            if (r->c)
                y[j] += r->beta * r->c[i * r->c_row + (n0 + j) * r->c_col];
            if (r->row_scale)
                y[j] = kop_requantise(&r->to, y[j],
                                      r->row_scale[i] * r->col_scale[n0 + j] / r->y_scale);
        }
        kop_store_f64(r->out, (size_t)(r->out_at + i * r->out_row + n0), (size_t)nr, y);
    }
}

static int64_t int_at(const kop_tensor *t, int64_t i)
{
    return kop_get_int(t, (size_t)i);
}

/* Integers: exact, wrapping at 64 bits; |a| and |b| give strides and, in |at|, first elements. */
static kaena_status multiply_ints(kop_call *call, const kop_tensor *a, int64_t a_at,
                                  const kop_tensor *b, int64_t b_at, const kop_gemm *g)
{
    matmul_run *r = g->ctx;
    for (int64_t i = 0; i < g->m; i++) {
        for (int64_t j = 0; j < g->n; j++) {
            uint64_t sum = 0;
            for (int64_t p = 0; p < g->k; p++)
                sum += (uint64_t)int_at(a, a_at + i * r->a.row + p * r->a.col) *
                       (uint64_t)int_at(b, b_at + p * r->b.row + j * r->b.col);
            kop_set_int(r->out, (size_t)(r->out_at + i * r->out_row + j), (int64_t)sum);
        }
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* Element |i| of the scales that input |index| gives: one, or one for each of |n| rows or columns.
 */
static kaena_status scales_of(kop_call *call, uint32_t index, int64_t n, const float **out)
{
    const kop_tensor *t = call->in[index];
    int64_t count = (int64_t)kop_elements(t);
    if (count != 1 && count != n)
        return KOP_BAD(call,
                       "input %u has %" PRId64 " elements where 1 or %" PRId64 " are possible",
                       index, count, n);
    float *v = kop_alloc(call, (size_t)n, sizeof *v);
    if (!v)
        return KAENA_RESOURCE_EXHAUSTED;
    for (int64_t i = 0; i < n; i++)
        v[i] = (float)kop_get_float(t, count == 1 ? 0 : (size_t)i);
    *out = v;
    return KAENA_OK;
}

static kaena_status read_operands(kop_call *call, const product *p, matmul_run *r)
{
    const kop_tensor *a = call->in[0], *b = call->in[second(call->op)];
    if (call->op == KOP_MatMul) {
        bool ok = kop_kind_of(a->dtype) != KOP_KIND_FLOAT ||
                  (kop_matrix_of(call, a, &r->a) && kop_matrix_of(call, b, &r->b));
        return ok ? KAENA_OK : KAENA_RESOURCE_EXHAUSTED;
    }
    const kop_tensor *a_zero = kop_in(call, 2),
                     *b_zero = kop_in(call, second(call->op) == 1 ? 3 : 5);
    int64_t m = p->a.dim[p->a.rank - 2], n = p->b.dim[p->b.rank - 1];
    int64_t na = a_zero ? (int64_t)kop_elements(a_zero) : 1;
    int64_t nb = b_zero ? (int64_t)kop_elements(b_zero) : 1;
    if ((na != 1 && na != m) || (nb != 1 && nb != n))
        return KOP_BAD(call, "zero points must be one, or one for each row of A or column of B");
    kop_tensor as = *a, bs = *b;
    as.shape = p->a;
    bs.shape = p->b;
    if (!kop_matrix_of_quantised(call, &as, a_zero, as.shape.rank - 2, &r->a) ||
        !kop_matrix_of_quantised(call, &bs, b_zero, bs.shape.rank - 1, &r->b))
        return KAENA_RESOURCE_EXHAUSTED;
    if (call->op == KOP_QLinearMatMul) {
        r->to = kop_quantised_of(call, 7);
        r->y_scale = (float)kop_in_scalar(call, 6, 1);
        KAENA_TRY(scales_of(call, 1, m, &r->row_scale));
        KAENA_TRY(scales_of(call, 4, n, &r->col_scale));
        if (kop_in(call, 8)) {
            if ((int64_t)kop_elements(call->in[8]) != n)
                return KOP_BAD(call, "the bias is not one value per column");
            if (!(r->c = kop_doubles(call, call->in[8])))
                return KAENA_RESOURCE_EXHAUSTED;
            r->beta = 1;
            r->c_col = 1;
        }
    }
    return KAENA_OK;
}

kaena_status kop_eval_matmul(kop_call *call)
{
    const kop_tensor *a = call->in[0], *b = call->in[second(call->op)];
    if (kop_elements(&call->out[0]) == 0)
        return KAENA_OK;
    product p;
    KAENA_TRY(shapes_of(call, &p));
    matmul_run r = {
        .out = &call->out[0], .alpha = (double)kop_attr_float(call, "kaena.scale", 1), .beta = 1};
    KAENA_TRY(read_operands(call, &p, &r));
    const kop_tensor *bias = call->op == KOP_MatMul ? kop_in(call, 2) : NULL;
    if (bias) {
        r.c = kop_doubles(call, bias);
        r.c_col = 1;
        if (!r.c)
            return KAENA_RESOURCE_EXHAUSTED;
    }
    int64_t m = p.out.dim[p.out.rank - 2], n = p.out.dim[p.out.rank - 1];
    r.k = p.a.dim[p.a.rank - 1];
    r.out_row = n;
    r.a.row = r.k;
    r.a.col = r.b.col = 1;
    r.b.row = n;
    kaena_shape batch = p.out;
    batch.rank -= 2;
    kop_tensor batch_a = {.shape = p.a}, batch_b = {.shape = p.b};
    batch_a.shape.rank -= 2;
    batch_b.shape.rank -= 2;
    const kop_tensor *in[2] = {&batch_a, &batch_b};
    kop_bcast *walk = kop_alloc(call, 1, sizeof *walk);
    if (!walk)
        return KAENA_RESOURCE_EXHAUSTED;
    kop_bcast_init(walk, &batch, in, 2);
    kop_gemm g = {
        .m = m, .n = n, .k = r.k, .ctx = &r, .pack_a = pack_a, .pack_b = pack_b, .store = store};
    const void *a_data = r.a.data, *b_data = r.b.data;
    size_t a_size = r.a.is_f64 ? sizeof(double) : sizeof(float);
    size_t b_size = r.b.is_f64 ? sizeof(double) : sizeof(float);
    int64_t inner = walk->dim[walk->rank - 1], batches = kop_span(&batch, 0, batch.rank);
    for (int64_t i = 0; i < batches; i++) {
        int64_t a_at =
            kop_bcast_offset(walk, 0, i / inner) + i % inner * walk->stride[0][walk->rank - 1];
        int64_t b_at =
            kop_bcast_offset(walk, 1, i / inner) + i % inner * walk->stride[1][walk->rank - 1];
        r.out_at = i * m * n;
        a_at *= m * r.k;
        b_at *= r.k * n;
        if (call->op == KOP_MatMul && kop_kind_of(a->dtype) != KOP_KIND_FLOAT) {
            KAENA_TRY(multiply_ints(call, a, a_at, b, b_at, &g));
            continue;
        }
        r.a.data = (const char *)a_data + (size_t)a_at * a_size;
        r.b.data = (const char *)b_data + (size_t)b_at * b_size;
        KAENA_TRY(kop_gemm_run(call, &g));
    }
    return KAENA_OK;
}

/* --- Gemm --- */

kaena_status kop_infer_gemm(kop_call *call)
{
    KAENA_TRY(kop_need(call, 0, KOP_T_FLOAT | KOP_T_INT));
    KAENA_TRY(kop_need_same(call, 0, 1));
    KAENA_TRY(kop_need_same(call, 0, 2));
    KAENA_TRY(kop_need_rank(call, 0, 2));
    KAENA_TRY(kop_need_rank(call, 1, 2));
    const kop_tensor *a = call->in[0], *b = call->in[1], *c = kop_in(call, 2);
    bool ta = kop_attr_int(call, "transA", 0) != 0, tb = kop_attr_int(call, "transB", 0) != 0;
    kaena_shape out = kop_shape_unknown(2);
    if (!a->unranked)
        out.dim[0] = a->shape.dim[ta];
    if (!b->unranked)
        out.dim[1] = b->shape.dim[!tb];
    if (!a->unranked && !b->unranked) {
        int64_t ka = a->shape.dim[!ta], kb = b->shape.dim[tb];
        if (ka >= 0 && kb >= 0 && ka != kb)
            return KOP_BAD(call, "A has %" PRId64 " columns and B %" PRId64 " rows", ka, kb);
    }
    if (kop_known(c) && kaena_shape_known(&out)) {
        kaena_shape both;
        if (c->shape.rank > 2 || !kaena_shape_broadcast(&c->shape, &out, &both) ||
            !kaena_shape_equal(&both, &out)) {
            char text[KAENA_SHAPE_TEXT];
            return KOP_BAD(call, "C of shape %s does not broadcast to [%" PRId64 ",%" PRId64 "]",
                           kaena_shape_print(&c->shape, text, sizeof text), out.dim[0], out.dim[1]);
        }
    }
    kop_out(call, 0, kop_in_type(call, 0), &out);
    return KAENA_OK;
}

kaena_status kop_eval_gemm(kop_call *call)
{
    const kop_tensor *a = call->in[0], *b = call->in[1], *c = kop_in(call, 2);
    bool ta = kop_attr_int(call, "transA", 0) != 0, tb = kop_attr_int(call, "transB", 0) != 0;
    kop_tensor *out = &call->out[0];
    matmul_run r = {.out = out,
                    .k = a->shape.dim[!ta],
                    .out_row = out->shape.dim[1],
                    .alpha = (double)kop_attr_float(call, "alpha", 1),
                    .beta = (double)kop_attr_float(call, "beta", 1)};
    bool ints = kop_kind_of(a->dtype) != KOP_KIND_FLOAT;
    if (!ints && (!kop_matrix_of(call, a, &r.a) || !kop_matrix_of(call, b, &r.b)))
        return KAENA_RESOURCE_EXHAUSTED;
    r.a.row = ta ? 1 : a->shape.dim[1];
    r.a.col = ta ? a->shape.dim[1] : 1;
    r.b.row = tb ? 1 : b->shape.dim[1];
    r.b.col = tb ? b->shape.dim[1] : 1;
    if (c && kop_elements(out) > 0) {
        if (!(r.c = kop_doubles(call, c)))
            return KAENA_RESOURCE_EXHAUSTED;
        int32_t rank = c->shape.rank;
        r.c_col = rank >= 1 && c->shape.dim[rank - 1] != 1 ? 1 : 0;
        r.c_row = rank == 2 && c->shape.dim[0] != 1 ? c->shape.dim[1] : 0;
    }
    kop_gemm g = {.m = out->shape.dim[0],
                  .n = out->shape.dim[1],
                  .k = r.k,
                  .ctx = &r,
                  .pack_a = pack_a,
                  .pack_b = pack_b,
                  .store = store};
    if (!ints)
        return kop_gemm_run(call, &g);
    if (r.alpha != 1 || (c && r.beta != 1))
        return KAENA_FAIL(call->err, UNIMPLEMENTED,
                          "Gemm of type %s with alpha or beta other than 1 is not supported",
                          kaena_dtype_name(a->dtype));
    KAENA_TRY(multiply_ints(call, a, 0, b, 0, &g));
    for (int64_t i = 0; r.c && i < g.m * g.n; i++) {
        int64_t at = i / g.n * r.c_row + i % g.n * r.c_col;
        kop_set_int(out, (size_t)i, (int64_t)((uint64_t)int_at(out, i) + (uint64_t)int_at(c, at)));
    }
    return KAENA_OK;
}
