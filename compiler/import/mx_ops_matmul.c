/* Sums of products, and attention made of them. */
#include <math.h>

#include "mx_ops.h"

static int64_t product(const kaena_shape *s, int32_t from, int32_t to)
{
    int64_t n = 1;
    for (int32_t i = from; i < to; i++)
        n *= s->dim[i];
    return n;
}

kaena_status mx_do_fully_connected(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    kaena_shape data = v->t.shape;
    int64_t hidden = mx_size(x, "num_hidden", mx_need_int(x, "num_hidden"));
    bool no_bias = mx_bool(x, "no_bias", false);
    /* Without flatten the last dimension is multiplied and the others stay. */
    bool keep = !mx_bool(x, "flatten", true) && data.rank > 2;
    if (data.rank < 1)
        return MX_FAIL(x, INVALID_ARGUMENT, "the data is a scalar");
    int32_t cut = keep ? data.rank - 1 : 1;
    int64_t n = data.rank == 1 ? 1 : product(&data, cut, data.rank);
    kgr_value *w = mx_want(x, 1, &(kaena_shape){2, {hidden, n}});
    kgr_value *bias = no_bias ? NULL : mx_want_list(x, 2, hidden);
    if (keep) {
        const int64_t perm[2] = {1, 0};
        kgr_value *wt = mx_transpose(x, MX_TMP, w, perm);
        v = mx_2(x, no_bias ? 0 : MX_TMP, KOP_MatMul, v, wt);
        if (!no_bias)
            (void)mx_2(x, 0, KOP_Add, v, bias);
        return KAENA_OK;
    }
    if (data.rank != 2)
        v = mx_reshape(x, MX_TMP, v, &(kaena_shape){2, {data.dim[0], n}});
    kgr_value *in[3] = {v, w, bias};
    (void)mx_emit(x, 0, KOP_Gemm, in, no_bias ? 2 : 3, MX_ATTRS(MX_ATTR_INT("transB", 1)));
    return KAENA_OK;
}

static kgr_value *swap_last_two(mx_xlat *x, kgr_value *v)
{
    int64_t perm[KAENA_MAX_RANK];
    int32_t rank = v->t.shape.rank;
    for (int32_t i = 0; i < rank; i++)
        perm[i] = i < rank - 2 ? i : 2 * rank - 3 - i;
    return mx_transpose(x, MX_TMP, v, perm);
}

/* The last dimension of |a| with the first of |b|; all the others stay. */
kaena_status mx_do_dot(mx_xlat *x)
{
    kgr_value *a = mx_in(x, 0), *b = mx_in(x, 1);
    bool ta = mx_bool(x, "transpose_a", false), tb = mx_bool(x, "transpose_b", false);
    kaena_shape sa = a->t.shape, sb = b->t.shape, out = {0};
    if (sa.rank < 1 || sb.rank < 1 || sa.rank + sb.rank - 2 > KAENA_MAX_RANK)
        return MX_FAIL(x, INVALID_ARGUMENT, "operands of %d and %d dimensions", sa.rank, sb.rank);
    int32_t ka = ta ? 0 : sa.rank - 1, kb = tb ? sb.rank - 1 : 0;
    int64_t k = sa.dim[ka], m = product(&sa, 0, sa.rank) / (k ? k : 1);
    int64_t n = product(&sb, 0, sb.rank) / (k ? k : 1);
    if (k != sb.dim[kb] || k == 0)
        return MX_FAIL(x, INVALID_ARGUMENT, "dimensions of %lld and %lld do not match",
                       (long long)k, (long long)sb.dim[kb]);
    for (int32_t i = 0; i < sa.rank; i++)
        if (i != ka)
            out.dim[out.rank++] = sa.dim[i];
    for (int32_t i = 0; i < sb.rank; i++)
        if (i != kb)
            out.dim[out.rank++] = sb.dim[i];
    if (out.rank == 0)
        out = (kaena_shape){1, {1}};
    a = mx_reshape(x, MX_TMP, a, &(kaena_shape){2, {ta ? k : m, ta ? m : k}});
    b = mx_reshape(x, MX_TMP, b, &(kaena_shape){2, {tb ? n : k, tb ? k : n}});
    if (ta)
        a = swap_last_two(x, a);
    if (tb)
        b = swap_last_two(x, b);
    (void)mx_reshape(x, 0, mx_2(x, MX_TMP, KOP_MatMul, a, b), &out);
    return KAENA_OK;
}

static kaena_status batched(mx_xlat *x, double alpha)
{
    kgr_value *a = mx_in(x, 0), *b = mx_in(x, 1);
    if (a->t.shape.rank < 2 || b->t.shape.rank < 2)
        return x->status != KAENA_OK
                   ? x->status
                   : MX_FAIL(x, INVALID_ARGUMENT, "operands of %d and %d dimensions",
                             a->t.shape.rank, b->t.shape.rank);
    if (mx_bool(x, "transpose_a", false))
        a = swap_last_two(x, a);
    if (mx_bool(x, "transpose_b", false))
        b = swap_last_two(x, b);
    kgr_value *v = mx_2(x, alpha == 1 ? 0 : MX_TMP, KOP_MatMul, a, b);
    if (alpha != 1)
        (void)mx_2(x, 0, KOP_Mul, v, mx_scalar(x, v->t.dtype, alpha));
    return KAENA_OK;
}

kaena_status mx_do_batch_dot(mx_xlat *x)
{
    return batched(x, 1);
}

kaena_status mx_do_linalg_gemm2(mx_xlat *x)
{
    if (mx_int(x, "axis", -2) != -2)
        return MX_FAIL(x, UNIMPLEMENTED, "axis other than -2 is not supported");
    return batched(x, mx_float(x, "alpha", 1));
}

/* --- Attention over interleaved projections --------------------------------------------------- */

/* Part |which| of queries, keys, values, which lie as [time, batch, heads, 3, size]: as [batch *
 * heads, time, size]. */
static kgr_value *projection(mx_xlat *x, kgr_value *v, int64_t heads, int64_t which)
{
    kaena_shape s = v->t.shape;
    int64_t size = s.dim[2] / heads / 3, end = which + 1, axis = 3, step = 1;
    const int64_t perm[4] = {1, 2, 0, 3};
    v = mx_reshape(x, MX_TMP, v, &(kaena_shape){5, {s.dim[0], s.dim[1], heads, 3, size}});
    v = mx_slice(x, MX_TMP, v, &which, &end, &axis, &step, 1);
    v = mx_squeeze(x, MX_TMP, v, &axis, 1);
    v = mx_transpose(x, MX_TMP, v, perm);
    return mx_reshape(x, MX_TMP, v, &(kaena_shape){3, {s.dim[1] * heads, s.dim[0], size}});
}

static bool check_projections(mx_xlat *x, const kgr_value *v, int64_t heads)
{
    if (x->status == KAENA_OK &&
        (v->t.shape.rank != 3 || v->t.shape.dim[2] % (3 * heads) != 0 || v->t.shape.dim[2] == 0))
        (void)MX_FAIL(x, INVALID_ARGUMENT, "the data is not [time, batch, heads * 3 * size]");
    return x->status == KAENA_OK;
}

kaena_status mx_do_selfatt_qk(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    int64_t heads = mx_size(x, "heads", mx_need_int(x, "heads"));
    if (!check_projections(x, v, heads))
        return x->status;
    double scale = 1 / sqrt((double)(v->t.shape.dim[2] / heads / 3));
    kgr_value *q =
        mx_2(x, MX_TMP, KOP_Mul, projection(x, v, heads, 0), mx_scalar(x, v->t.dtype, scale));
    (void)mx_2(x, 0, KOP_MatMul, q, swap_last_two(x, projection(x, v, heads, 1)));
    return KAENA_OK;
}

kaena_status mx_do_selfatt_valatt(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0), *attention = mx_in(x, 1);
    int64_t heads = mx_size(x, "heads", mx_need_int(x, "heads"));
    if (!check_projections(x, v, heads))
        return x->status;
    int64_t t = v->t.shape.dim[0], b = v->t.shape.dim[1], size = v->t.shape.dim[2] / heads / 3;
    const int64_t perm[4] = {2, 0, 1, 3};
    kgr_value *y = mx_2(x, MX_TMP, KOP_MatMul, attention, projection(x, v, heads, 2));
    y = mx_reshape(x, MX_TMP, y, &(kaena_shape){4, {b, heads, t, size}});
    y = mx_transpose(x, MX_TMP, y, perm);
    (void)mx_reshape(x, 0, y, &(kaena_shape){3, {t, b, heads * size}});
    return KAENA_OK;
}
