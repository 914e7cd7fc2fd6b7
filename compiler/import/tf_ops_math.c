/* Translations: element by element. */
#include <math.h>

#include "tf_xlat.h"

kaena_status tf_x_same(tf_xlat *x)
{
    return tf_done(x, tf_opn(x, x->row->canonical, x->in, x->n_in));
}

kaena_status tf_x_relu6(tf_xlat *x)
{
    kgr_value *v = x->in[0];
    return tf_done(x, tf_op3(x, KOP_Clip, v, tf_number(x, v, 0), tf_number(x, v, 6)));
}

kaena_status tf_x_clip_by_value(tf_xlat *x)
{
    return tf_done(x, tf_op2(x, KOP_Min, tf_op2(x, KOP_Max, x->in[0], x->in[1]), x->in[2]));
}

kaena_status tf_x_leaky_relu(tf_xlat *x)
{
    kgr_node *n = tf_node_begin(x, KOP_LeakyRelu, x->in, 1, 1);
    tf_set_float(x, n, "alpha", tf_float(x, "alpha", 0.2f));
    return tf_done(x, tf_node_end(x, n));
}

kaena_status tf_x_rsqrt(tf_xlat *x)
{
    return tf_done(x, tf_op1(x, KOP_Reciprocal, tf_op1(x, KOP_Sqrt, x->in[0])));
}

kaena_status tf_x_square(tf_xlat *x)
{
    return tf_done(x, tf_op2(x, KOP_Mul, x->in[0], x->in[0]));
}

kaena_status tf_x_squared_difference(tf_xlat *x)
{
    kgr_value *d = tf_op2(x, KOP_Sub, x->in[0], x->in[1]);
    return tf_done(x, tf_op2(x, KOP_Mul, d, d));
}

kaena_status tf_x_log1p(tf_xlat *x)
{
    return tf_done(x, tf_op1(x, KOP_Log, tf_op2(x, KOP_Add, x->in[0], tf_number(x, x->in[0], 1))));
}

kaena_status tf_x_expm1(tf_xlat *x)
{
    return tf_done(x, tf_op2(x, KOP_Sub, tf_op1(x, KOP_Exp, x->in[0]), tf_number(x, x->in[0], 1)));
}

kaena_status tf_x_erfc(tf_xlat *x)
{
    return tf_done(x, tf_op2(x, KOP_Sub, tf_number(x, x->in[0], 1), tf_op1(x, KOP_Erf, x->in[0])));
}

kaena_status tf_x_is_finite(tf_xlat *x)
{
    kgr_value *bad =
        tf_op2(x, KOP_Or, tf_op1(x, KOP_IsInf, x->in[0]), tf_op1(x, KOP_IsNaN, x->in[0]));
    return tf_done(x, tf_op1(x, KOP_Not, bad));
}

kaena_status tf_x_not_equal(tf_xlat *x)
{
    return tf_done(x, tf_op1(x, KOP_Not, tf_op2(x, KOP_Equal, x->in[0], x->in[1])));
}

/* --- Division: TensorFlow's names say how it rounds --------------------------------------------
 */

static bool is_float(const kgr_value *v)
{
    return v && kaena_dtype_is_float(v->t.dtype);
}

static kgr_value *mod_node(tf_xlat *x, kgr_value *a, kgr_value *b, int64_t fmod)
{
    kgr_node *n = tf_node_begin(x, KOP_Mod, (kgr_value *[]){a, b}, 2, 1);
    tf_set_int(x, n, "fmod", fmod);
    return tf_node_end(x, n);
}

kaena_status tf_x_truncate_mod(tf_xlat *x)
{
    return tf_done(x, mod_node(x, x->in[0], x->in[1], 1));
}

static kgr_value *floor_mod(tf_xlat *x, kgr_value *a, kgr_value *b)
{
    if (!is_float(a))
        return mod_node(x, a, b, 0);
    kgr_value *whole = tf_op1(x, KOP_Floor, tf_op2(x, KOP_Div, a, b));
    return tf_op2(x, KOP_Sub, a, tf_op2(x, KOP_Mul, whole, b));
}

kaena_status tf_x_floor_mod(tf_xlat *x)
{
    return tf_done(x, floor_mod(x, x->in[0], x->in[1]));
}

kaena_status tf_x_floor_div(tf_xlat *x)
{
    kgr_value *a = x->in[0], *b = x->in[1];
    if (is_float(a))
        return tf_done(x, tf_op1(x, KOP_Floor, tf_op2(x, KOP_Div, a, b)));
    kgr_value *exact = tf_op2(x, KOP_Sub, a, floor_mod(x, a, b));
    return tf_done(x, tf_op2(x, KOP_Div, exact, b));
}

/* |v| where |a| is 0, else |otherwise|. */
static kgr_value *where_zero(tf_xlat *x, kgr_value *a, kgr_value *v, kgr_value *otherwise)
{
    return tf_op3(x, KOP_Where, tf_op2(x, KOP_Equal, a, tf_number(x, a, 0)), v, otherwise);
}

kaena_status tf_x_div_no_nan(tf_xlat *x)
{
    kgr_value *q = tf_op2(x, KOP_Div, x->in[0], x->in[1]);
    return tf_done(x, where_zero(x, x->in[1], tf_number(x, q, 0), q));
}

kaena_status tf_x_mul_no_nan(tf_xlat *x)
{
    kgr_value *p = tf_op2(x, KOP_Mul, x->in[0], x->in[1]);
    return tf_done(x, where_zero(x, x->in[1], tf_number(x, p, 0), p));
}

kaena_status tf_x_xdivy(tf_xlat *x)
{
    kgr_value *q = tf_op2(x, KOP_Div, x->in[0], x->in[1]);
    return tf_done(x, where_zero(x, x->in[0], tf_number(x, q, 0), q));
}

kaena_status tf_x_xlogy(tf_xlat *x)
{
    kgr_value *p = tf_op2(x, KOP_Mul, x->in[0], tf_op1(x, KOP_Log, x->in[1]));
    return tf_done(x, where_zero(x, x->in[0], tf_number(x, p, 0), p));
}

kaena_status tf_x_xlog1py(tf_xlat *x)
{
    kgr_value *y = tf_op2(x, KOP_Add, x->in[1], tf_number(x, x->in[1], 1));
    kgr_value *p = tf_op2(x, KOP_Mul, x->in[0], tf_op1(x, KOP_Log, y));
    return tf_done(x, where_zero(x, x->in[0], tf_number(x, p, 0), p));
}

/* The angle of (x, y): Atan of the slope, which is 0/0 in the origin, plus half a turn on the left.
 */
kaena_status tf_x_atan2(tf_xlat *x)
{
    kgr_value *b = x->in[0], *a = x->in[1], *zero = tf_number(x, a, 0);
    kgr_value *angle = tf_op1(x, KOP_Atan, tf_op2(x, KOP_Div, b, a));
    kgr_value *turn = tf_op3(x, KOP_Where, tf_op2(x, KOP_Less, b, zero), tf_number(x, a, -M_PI),
                             tf_number(x, a, M_PI));
    kgr_value *left = tf_op3(x, KOP_Where, tf_op2(x, KOP_Less, a, zero), turn, zero);
    kgr_value *origin =
        tf_op2(x, KOP_And, tf_op2(x, KOP_Equal, a, zero), tf_op2(x, KOP_Equal, b, zero));
    return tf_done(x, tf_op3(x, KOP_Where, origin, zero, tf_op2(x, KOP_Add, angle, left)));
}

/* --- Bits --------------------------------------------------------------------------------------
 */

static kaena_dtype unsigned_of(kaena_dtype t)
{
    switch (kaena_dtype_size(t)) {
    case 1:
        return KAENA_U8;
    case 2:
        return KAENA_U16;
    case 4:
        return KAENA_U32;
    default:
        return KAENA_U64;
    }
}

/* The canonical shift is of unsigned numbers; a conversion between integers keeps the bits. */
static kgr_value *shift(tf_xlat *x, kgr_value *a, kgr_value *by, const char *direction)
{
    if (x->status != KAENA_OK)
        return NULL;
    kaena_dtype type = a->t.dtype, bits = unsigned_of(type);
    kgr_node *n = tf_node_begin(x, KOP_BitShift,
                                (kgr_value *[]){tf_cast(x, a, bits), tf_cast(x, by, bits)}, 2, 1);
    tf_set_string(x, n, "direction", direction);
    return tf_cast(x, tf_node_end(x, n), type);
}

kaena_status tf_x_left_shift(tf_xlat *x)
{
    return tf_done(x, shift(x, x->in[0], x->in[1], "LEFT"));
}

/* Negative numbers are filled with ones: the complement of the shifted complement. */
kaena_status tf_x_right_shift(tf_xlat *x)
{
    kgr_value *a = x->in[0];
    if (!kaena_dtype_is_signed(a->t.dtype))
        return tf_done(x, shift(x, a, x->in[1], "RIGHT"));
    kgr_value *negative = tf_op2(x, KOP_Less, a, tf_number(x, a, 0));
    kgr_value *positive = tf_op3(x, KOP_Where, negative, tf_op1(x, KOP_BitwiseNot, a), a);
    kgr_value *r = shift(x, positive, x->in[1], "RIGHT");
    return tf_done(x, tf_op3(x, KOP_Where, negative, tf_op1(x, KOP_BitwiseNot, r), r));
}

kaena_status tf_x_bitcast(tf_xlat *x)
{
    kgr_node *n = tf_node_begin(x, KOP_BitCast, x->in, 1, 1);
    tf_set_int(x, n, "to", tf_type(x, "type", KAENA_DTYPE_NONE));
    return tf_done(x, tf_node_end(x, n));
}

/* --- Types and sums -----------------------------------------------------------------------------
 */

kaena_status tf_x_cast(tf_xlat *x)
{
    kaena_dtype to = tf_type(x, "DstT", KAENA_DTYPE_NONE);
    if (to == KAENA_DTYPE_NONE)
        return tf_bad(x, "attribute 'DstT' is missing");
    return tf_done(x, tf_cast(x, x->in[0], to));
}

kaena_status tf_x_add_n(tf_xlat *x)
{
    kgr_value *sum = x->in[0];
    for (uint32_t i = 1; i < x->n_in; i++)
        sum = tf_op2(x, KOP_Add, sum, x->in[i]);
    return tf_done(x, sum);
}

static kaena_status like(tf_xlat *x, double number)
{
    kgr_value *v = x->in[0];
    return tf_done(x, tf_expand(x, tf_number(x, v, number), tf_shape_of(x, v)));
}

kaena_status tf_x_zeros_like(tf_xlat *x)
{
    return like(x, 0);
}

kaena_status tf_x_ones_like(tf_xlat *x)
{
    return like(x, 1);
}

/* --- Choices ------------------------------------------------------------------------------------
 */

/* The old form: a vector chooses rows. */
kaena_status tf_x_select(tf_xlat *x)
{
    kgr_value *condition = x->in[0];
    int32_t rank = tf_rank(x, x->in[1]);
    if (rank > 1 && tf_rank(x, condition) == 1)
        for (int32_t i = 1; i < rank; i++)
            condition = tf_unsqueeze(x, condition, i);
    return tf_done(x, tf_op3(x, KOP_Where, condition, x->in[1], x->in[2]));
}

/* --- Quantisation in training, which inference repeats -------------------------------------------
 */

/* Rounds |v| to the steps of a range that is moved so that 0 is one of them. All three are of one
 * shape or scalars. */
static kgr_value *fake_quant(tf_xlat *x, kgr_value *v, kgr_value *low, kgr_value *high)
{
    int64_t bits = tf_int(x, "num_bits", 8);
    if (bits < 2 || bits > 16) {
        (void)tf_bad(x, "attribute 'num_bits' is %lld, not 2 to 16", (long long)bits);
        return NULL;
    }
    double first = tf_bool(x, "narrow_range", false), last = (double)((1 << bits) - 1);
    kgr_value *qmin = tf_number(x, v, first), *qmax = tf_number(x, v, last);
    kgr_value *scale =
        tf_op2(x, KOP_Div, tf_op2(x, KOP_Sub, high, low), tf_number(x, v, last - first));
    kgr_value *zero = tf_op2(x, KOP_Sub, qmin, tf_op2(x, KOP_Div, low, scale));
    /* Halves up, which Round does not do. */
    zero = tf_op1(x, KOP_Floor, tf_op2(x, KOP_Add, zero, tf_number(x, v, 0.5)));
    zero = tf_op2(x, KOP_Min, tf_op2(x, KOP_Max, zero, qmin), qmax);
    kgr_value *from = tf_op2(x, KOP_Mul, tf_op2(x, KOP_Sub, qmin, zero), scale);
    kgr_value *to = tf_op2(x, KOP_Mul, tf_op2(x, KOP_Sub, qmax, zero), scale);
    kgr_value *clamped = tf_op2(x, KOP_Min, tf_op2(x, KOP_Max, v, from), to);
    kgr_value *steps = tf_op2(x, KOP_Div, tf_op2(x, KOP_Sub, clamped, from), scale);
    steps = tf_op1(x, KOP_Floor, tf_op2(x, KOP_Add, steps, tf_number(x, v, 0.5)));
    return tf_op2(x, KOP_Add, tf_op2(x, KOP_Mul, steps, scale), from);
}

kaena_status tf_x_fake_quant_args(tf_xlat *x)
{
    kgr_value *v = x->in[0];
    return tf_done(x, fake_quant(x, v, tf_number(x, v, (double)tf_float(x, "min", -6)),
                                 tf_number(x, v, (double)tf_float(x, "max", 6))));
}

kaena_status tf_x_fake_quant_vars(tf_xlat *x)
{
    return tf_done(x, fake_quant(x, x->in[0], x->in[1], x->in[2]));
}
