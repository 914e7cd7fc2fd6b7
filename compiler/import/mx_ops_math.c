/* Element by element: one input, two inputs, an input and a number. */
#include <math.h>
#include <string.h>

#include "mx_ops.h"

/* --- One input ------------------------------------------------------------------------------- */

kaena_status mx_do_same(mx_xlat *x)
{
    (void)mx_alias(x, 0, mx_in(x, 0));
    return KAENA_OK;
}

kaena_status mx_do_unary(mx_xlat *x)
{
    (void)mx_1(x, 0, x->row->op, mx_in(x, 0));
    return KAENA_OK;
}

/* A number of |v|'s type. */
static kgr_value *number(mx_xlat *x, const kgr_value *v, double n)
{
    return mx_scalar(x, v->t.dtype, n);
}

kaena_status mx_do_hard_sigmoid(mx_xlat *x)
{
    (void)mx_emit(x, 0, KOP_HardSigmoid, MX_IN(mx_in(x, 0)),
                  MX_ATTRS(MX_ATTR_FLOAT("alpha", mx_float(x, "alpha", 0.2)),
                           MX_ATTR_FLOAT("beta", mx_float(x, "beta", 0.5))));
    return KAENA_OK;
}

/* log(sigmoid(v)) = -softplus(-v) */
kaena_status mx_do_log_sigmoid(mx_xlat *x)
{
    kgr_value *v = mx_1(x, MX_TMP, KOP_Neg, mx_in(x, 0));
    (void)mx_1(x, 0, KOP_Neg, mx_1(x, MX_TMP, KOP_Softplus, v));
    return KAENA_OK;
}

static kgr_value *signed_floor(mx_xlat *x, kgr_value *v, double bias)
{
    kgr_value *size = mx_1(x, MX_TMP, KOP_Abs, v);
    if (bias != 0)
        size = mx_2(x, MX_TMP, KOP_Add, size, number(x, v, bias));
    kgr_value *sign = mx_1(x, MX_TMP, KOP_Sign, v);
    return mx_2(x, 0, KOP_Mul, sign, mx_1(x, MX_TMP, KOP_Floor, size));
}

/* Half away from zero; ONNX rounds half to even. */
kaena_status mx_do_round(mx_xlat *x)
{
    (void)signed_floor(x, mx_in(x, 0), 0.5);
    return KAENA_OK;
}

kaena_status mx_do_trunc(mx_xlat *x)
{
    (void)signed_floor(x, mx_in(x, 0), 0);
    return KAENA_OK;
}

/* Half down. */
kaena_status mx_do_rint(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    (void)mx_1(x, 0, KOP_Ceil, mx_2(x, MX_TMP, KOP_Sub, v, number(x, v, 0.5)));
    return KAENA_OK;
}

kaena_status mx_do_square(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    (void)mx_2(x, 0, KOP_Mul, v, v);
    return KAENA_OK;
}

kaena_status mx_do_rsqrt(mx_xlat *x)
{
    (void)mx_1(x, 0, KOP_Reciprocal, mx_1(x, MX_TMP, KOP_Sqrt, mx_in(x, 0)));
    return KAENA_OK;
}

static kgr_value *cube_root(mx_xlat *x, int32_t out, kgr_value *v)
{
    kgr_value *size = mx_1(x, MX_TMP, KOP_Abs, v);
    kgr_value *root = mx_2(x, MX_TMP, KOP_Pow, size, number(x, v, 1.0 / 3));
    return mx_2(x, out, KOP_Mul, mx_1(x, MX_TMP, KOP_Sign, v), root);
}

kaena_status mx_do_cbrt(mx_xlat *x)
{
    (void)cube_root(x, 0, mx_in(x, 0));
    return KAENA_OK;
}

kaena_status mx_do_rcbrt(mx_xlat *x)
{
    (void)mx_1(x, 0, KOP_Reciprocal, cube_root(x, MX_TMP, mx_in(x, 0)));
    return KAENA_OK;
}

kaena_status mx_do_expm1(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    (void)mx_2(x, 0, KOP_Sub, mx_1(x, MX_TMP, KOP_Exp, v), number(x, v, 1));
    return KAENA_OK;
}

kaena_status mx_do_log1p(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    (void)mx_1(x, 0, KOP_Log, mx_2(x, MX_TMP, KOP_Add, v, number(x, v, 1)));
    return KAENA_OK;
}

kaena_status mx_do_log_base(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    double base = strcmp(x->node->op, "log2") == 0 ? 2 : 10;
    (void)mx_2(x, 0, KOP_Mul, mx_1(x, MX_TMP, KOP_Log, v), number(x, v, 1 / log(base)));
    return KAENA_OK;
}

kaena_status mx_do_degrees(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    double factor = strcmp(x->node->op, "degrees") == 0 ? 180 / M_PI : M_PI / 180;
    (void)mx_2(x, 0, KOP_Mul, v, number(x, v, factor));
    return KAENA_OK;
}

/* |v| < 1/s^2: (s v)^2 / 2, else |v| - 1/(2 s^2) */
kaena_status mx_do_smooth_l1(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    double s2 = mx_float(x, "scalar", 1);
    s2 *= s2;
    kgr_value *size = mx_1(x, MX_TMP, KOP_Abs, v);
    kgr_value *near =
        mx_2(x, MX_TMP, KOP_Mul, mx_2(x, MX_TMP, KOP_Mul, v, v), number(x, v, s2 / 2));
    kgr_value *far = mx_2(x, MX_TMP, KOP_Sub, size, number(x, v, 0.5 / s2));
    kgr_value *is_near = mx_2(x, MX_TMP, KOP_Less, size, number(x, v, 1 / s2));
    (void)mx_emit(x, 0, KOP_Where, MX_IN(is_near, near, far), MX_NO_ATTRS);
    return KAENA_OK;
}

kaena_status mx_do_clip(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    kgr_value *low = number(x, v, mx_float(x, "a_min", -INFINITY));
    kgr_value *high = number(x, v, mx_float(x, "a_max", INFINITY));
    (void)mx_emit(x, 0, KOP_Clip, MX_IN(v, low, high), MX_NO_ATTRS);
    return KAENA_OK;
}

kaena_status mx_do_cast(mx_xlat *x)
{
    (void)mx_cast(x, 0, mx_in(x, 0), mx_dtype(x, "dtype", KAENA_F32));
    return KAENA_OK;
}

kaena_status mx_do_div_sqrt_dim(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    int32_t rank = v->t.shape.rank;
    int64_t last = rank > 0 ? v->t.shape.dim[rank - 1] : 1;
    (void)mx_2(x, 0, KOP_Mul, v, number(x, v, 1 / sqrt((double)last)));
    return KAENA_OK;
}

/* --- Two inputs ------------------------------------------------------------------------------ */

/* Both operands of an operator that wants one shape; where one is open it gets the other's. */
static void operands(mx_xlat *x, kgr_value **a, kgr_value **b)
{
    char name[32], kind = ' ';
    (void)mx_row_slot(x->row, 0, name, sizeof name, &kind);
    bool left_open = kind == '~' && mx_has_in(x, 0) && !x->in[0]->v;
    if (kind != '~') {
        *a = mx_in(x, 0);
        *b = mx_in(x, 1);
    } else if (left_open) {
        *b = mx_in(x, 1);
        *a = mx_want(x, 0, &(*b)->t.shape);
    } else {
        *a = mx_in(x, 0);
        *b = mx_want(x, 1, &(*a)->t.shape);
    }
}

/* fmod-like Mod for floats: MXNet's result has the divisor's sign, as Python's. */
static kgr_value *modulo(mx_xlat *x, kgr_value *a, kgr_value *b)
{
    if (!kaena_dtype_is_float(a->t.dtype))
        return mx_2(x, 0, KOP_Mod, a, b);
    kgr_value *turns = mx_1(x, MX_TMP, KOP_Floor, mx_2(x, MX_TMP, KOP_Div, a, b));
    return mx_2(x, 0, KOP_Sub, a, mx_2(x, MX_TMP, KOP_Mul, turns, b));
}

static kaena_status binary(mx_xlat *x, kgr_value *a, kgr_value *b)
{
    if (x->row->op == KOP_Mod)
        (void)modulo(x, a, b);
    else
        (void)mx_2(x, 0, x->row->op, a, b);
    return KAENA_OK;
}

kaena_status mx_do_elemwise(mx_xlat *x)
{
    kgr_value *a, *b;
    operands(x, &a, &b);
    return binary(x, a, b);
}

kaena_status mx_do_broadcast(mx_xlat *x)
{
    return binary(x, mx_in(x, 0), mx_in(x, 1));
}

kaena_status mx_do_hypot(mx_xlat *x)
{
    kgr_value *a, *b;
    operands(x, &a, &b);
    kgr_value *sum =
        mx_2(x, MX_TMP, KOP_Add, mx_2(x, MX_TMP, KOP_Mul, a, a), mx_2(x, MX_TMP, KOP_Mul, b, b));
    (void)mx_1(x, 0, KOP_Sqrt, sum);
    return KAENA_OK;
}

kaena_status mx_do_add_n(mx_xlat *x)
{
    kgr_value *in[MX_MAX_INPUTS];
    const kaena_shape *shape = NULL;
    for (uint32_t i = 0; i < x->n_in && !shape; i++)
        shape = x->in[i]->v ? &x->in[i]->v->t.shape : NULL;
    if (!shape)
        return MX_FAIL(x, INVALID_ARGUMENT, "no input has a known shape");
    for (uint32_t i = 0; i < x->n_in; i++)
        in[i] = mx_want(x, i, shape);
    if (x->n_in == 2)
        (void)mx_2(x, 0, KOP_Add, in[0], in[1]);
    else
        (void)mx_emit(x, 0, KOP_Sum, in, x->n_in, MX_NO_ATTRS);
    return KAENA_OK;
}

/* Comparisons give 0 and 1 of the operands' type. */
static kaena_status comparison(mx_xlat *x, kgr_value *a, kgr_value *b, bool negate)
{
    kgr_value *v = mx_2(x, MX_TMP, x->row->op, a, b);
    if (negate)
        v = mx_1(x, MX_TMP, KOP_Not, v);
    (void)mx_cast(x, 0, v, a->t.dtype);
    return KAENA_OK;
}

kaena_status mx_do_compare(mx_xlat *x)
{
    kgr_value *a, *b;
    operands(x, &a, &b);
    return comparison(x, a, b, false);
}

kaena_status mx_do_compare_not(mx_xlat *x)
{
    kgr_value *a, *b;
    operands(x, &a, &b);
    return comparison(x, a, b, true);
}

static kaena_status logical(mx_xlat *x, kgr_value *a, kgr_value *b)
{
    kaena_dtype type = a->t.dtype;
    kgr_value *v = mx_2(x, MX_TMP, x->row->op, mx_as(x, a, KAENA_BOOL), mx_as(x, b, KAENA_BOOL));
    (void)mx_cast(x, 0, v, type);
    return KAENA_OK;
}

kaena_status mx_do_logical(mx_xlat *x)
{
    kgr_value *a, *b;
    operands(x, &a, &b);
    return logical(x, a, b);
}

kaena_status mx_do_logical_not(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    (void)mx_cast(x, 0, mx_1(x, MX_TMP, KOP_Not, mx_as(x, v, KAENA_BOOL)), v->t.dtype);
    return KAENA_OK;
}

/* A condition of rank 1 picks whole rows. */
kaena_status mx_do_where(mx_xlat *x)
{
    kgr_value *c = mx_in(x, 0), *a = mx_in(x, 1), *b = mx_in(x, 2);
    c = mx_as(x, c, KAENA_BOOL);
    if (c->t.shape.rank == 1 && a->t.shape.rank > 1) {
        kaena_shape s = {.rank = a->t.shape.rank, .dim = {c->t.shape.dim[0]}};
        for (int32_t i = 1; i < s.rank; i++)
            s.dim[i] = 1;
        c = mx_reshape(x, MX_TMP, c, &s);
    }
    (void)mx_emit(x, 0, KOP_Where, MX_IN(c, a, b), MX_NO_ATTRS);
    return KAENA_OK;
}

/* --- An input and a number ------------------------------------------------------------------- */

static kgr_value *the_scalar(mx_xlat *x, const kgr_value *v)
{
    return number(x, v, mx_float(x, "scalar", 1));
}

kaena_status mx_do_scalar(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    return binary(x, v, the_scalar(x, v));
}

kaena_status mx_do_scalar_first(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    return binary(x, the_scalar(x, v), v);
}

kaena_status mx_do_hypot_scalar(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    double s = mx_float(x, "scalar", 1);
    kgr_value *sum = mx_2(x, MX_TMP, KOP_Add, mx_2(x, MX_TMP, KOP_Mul, v, v), number(x, v, s * s));
    (void)mx_1(x, 0, KOP_Sqrt, sum);
    return KAENA_OK;
}

kaena_status mx_do_compare_scalar(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    return comparison(x, v, the_scalar(x, v), false);
}

kaena_status mx_do_compare_not_scalar(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    return comparison(x, v, the_scalar(x, v), true);
}

kaena_status mx_do_logical_scalar(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    return logical(x, v, the_scalar(x, v));
}
