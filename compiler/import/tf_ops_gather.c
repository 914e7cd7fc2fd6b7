/* Translations: reading and writing by index. */
#include <stdint.h>

#include "tf_xlat.h"

/* --- Reading
 * -------------------------------------------------------------------------------------- */

static kgr_value *gather(tf_xlat *x, kgr_value *v, kgr_value *index, int64_t axis)
{
    kgr_node *n = tf_node_begin(x, KOP_Gather, (kgr_value *[]){v, index}, 2, 1);
    tf_set_int(x, n, "axis", axis);
    return tf_node_end(x, n);
}

static kgr_value *gather_nd(tf_xlat *x, kgr_value *v, kgr_value *index, int64_t batch_dims)
{
    kgr_node *n =
        tf_node_begin(x, KOP_GatherND, (kgr_value *[]){v, tf_cast(x, index, KAENA_I64)}, 2, 1);
    tf_set_int(x, n, "batch_dims", batch_dims);
    return tf_node_end(x, n);
}

kaena_status tf_x_gather_nd(tf_xlat *x)
{
    return tf_done(x, gather_nd(x, x->in[0], x->in[1], 0));
}

/* The first |batch| dimensions of both walk together: the wanted dimension moves behind them, is
 * taken by GatherND, and what stood between moves back. */
static kgr_value *gather_batched(tf_xlat *x, kgr_value *v, kgr_value *index, int32_t axis,
                                 int32_t batch)
{
    int32_t of_index = tf_rank(x, index) - batch, between = axis - batch;
    v = gather_nd(x, tf_move_axis(x, v, axis, batch), tf_unsqueeze(x, index, -1), batch);
    int32_t rank = tf_rank(x, v);
    int64_t perm[KAENA_MAX_RANK];
    for (int32_t i = 0; i < rank; i++)
        perm[i] = i < batch || i >= batch + of_index + between ? i
                  : i < batch + between                        ? i + of_index
                                                               : i - between;
    return rank < 0 ? NULL : tf_transpose(x, v, perm, (uint32_t)rank);
}

kaena_status tf_x_gather(tf_xlat *x)
{
    int64_t said = x->n_in > 2 ? tf_const_int(x, x->in[2], "the dimension") : 0;
    int64_t batch = tf_int(x, "batch_dims", 0);
    int32_t axis = tf_axis(x, said, tf_rank(x, x->in[0])), rank = tf_rank(x, x->in[1]);
    if (batch < 0)
        batch += rank;
    if (batch == 0)
        return tf_done(x, gather(x, x->in[0], x->in[1], axis));
    if (batch < 0 || batch > rank || batch > axis)
        return tf_bad(x, "attribute 'batch_dims' does not fit the operands");
    return tf_done(x, gather_batched(x, x->in[0], x->in[1], axis, (int32_t)batch));
}

/* a x b of vectors of three. */
kaena_status tf_x_cross(tf_xlat *x)
{
    static const int64_t next[] = {1, 2, 0}, after[] = {2, 0, 1};
    kgr_value *n = tf_i64s(x, next, 3), *p = tf_i64s(x, after, 3);
    kgr_value *a = x->in[0], *b = x->in[1];
    kgr_value *left = tf_op2(x, KOP_Mul, gather(x, a, n, -1), gather(x, b, p, -1));
    kgr_value *right = tf_op2(x, KOP_Mul, gather(x, a, p, -1), gather(x, b, n, -1));
    return tf_done(x, tf_op2(x, KOP_Sub, left, right));
}

/* --- Writing
 * -------------------------------------------------------------------------------------- */

static kgr_value *scatter_nd(tf_xlat *x, kgr_value *into, kgr_value *index, kgr_value *v,
                             const char *reduction)
{
    kgr_value *in[] = {into, tf_cast(x, index, KAENA_I64), v};
    kgr_node *n = tf_node_begin(x, KOP_ScatterND, in, 3, 1);
    tf_set_string(x, n, "reduction", reduction);
    return tf_node_end(x, n);
}

/* What an operator does with the present element and the new one. */
typedef enum scatter_kind { SET, ADD, SUB, MUL, DIV, LEAST, GREATEST } scatter_kind;

static kgr_value *scatter_kind_nd(tf_xlat *x, kgr_value *into, kgr_value *index, kgr_value *v,
                                  scatter_kind kind)
{
    static const char *const reduction[] = {"none", "add", "add", "mul", "mul", "min", "max"};
    if (kind == SUB)
        v = tf_op1(x, KOP_Neg, v);
    if (kind == DIV && x->status == KAENA_OK && !kaena_dtype_is_float(v->t.dtype)) {
        (void)tf_lacks(x, "dividing integers in place is not supported");
        return NULL;
    }
    if (kind == DIV)
        v = tf_op1(x, KOP_Reciprocal, v);
    return scatter_nd(x, into, index, v, reduction[kind]);
}

static kaena_status scatter_nd_of(tf_xlat *x, scatter_kind kind)
{
    return tf_done(x, scatter_kind_nd(x, x->in[0], x->in[1], x->in[2], kind));
}

kaena_status tf_x_scatter_nd_update(tf_xlat *x)
{
    return scatter_nd_of(x, SET);
}

kaena_status tf_x_scatter_nd_add(tf_xlat *x)
{
    return scatter_nd_of(x, ADD);
}

kaena_status tf_x_scatter_nd_sub(tf_xlat *x)
{
    return scatter_nd_of(x, SUB);
}

kaena_status tf_x_scatter_nd_min(tf_xlat *x)
{
    return scatter_nd_of(x, LEAST);
}

kaena_status tf_x_scatter_nd_max(tf_xlat *x)
{
    return scatter_nd_of(x, GREATEST);
}

/* Rows of the first operand; one number stands for all. */
static kaena_status scatter_rows(tf_xlat *x, scatter_kind kind)
{
    kgr_value *into = x->in[0], *index = tf_unsqueeze(x, x->in[1], -1), *v = x->in[2];
    if (tf_rank(x, v) == 0 && (tf_rank(x, into) > 1 || tf_rank(x, x->in[1]) > 0)) {
        kgr_value *rows = gather(x, into, x->in[1], 0);
        v = tf_expand(x, v, tf_shape_of(x, rows));
    }
    return tf_done(x, scatter_kind_nd(x, into, index, v, kind));
}

kaena_status tf_x_scatter_update(tf_xlat *x)
{
    return scatter_rows(x, SET);
}

kaena_status tf_x_scatter_add(tf_xlat *x)
{
    return scatter_rows(x, ADD);
}

kaena_status tf_x_scatter_sub(tf_xlat *x)
{
    return scatter_rows(x, SUB);
}

kaena_status tf_x_scatter_mul(tf_xlat *x)
{
    return scatter_rows(x, MUL);
}

kaena_status tf_x_scatter_div(tf_xlat *x)
{
    return scatter_rows(x, DIV);
}

kaena_status tf_x_scatter_min(tf_xlat *x)
{
    return scatter_rows(x, LEAST);
}

kaena_status tf_x_scatter_max(tf_xlat *x)
{
    return scatter_rows(x, GREATEST);
}

static kgr_value *filled(tf_xlat *x, const kgr_value *like, double number, kgr_value *shape)
{
    return tf_expand(x, tf_number(x, like, number), tf_cast(x, shape, KAENA_I64));
}

kaena_status tf_x_scatter_nd(tf_xlat *x)
{
    return tf_done(x, scatter_nd(x, filled(x, x->in[1], 0, x->in[2]), x->in[0], x->in[1], "add"));
}

kaena_status tf_x_sparse_dense_add(tf_xlat *x)
{
    return tf_done(x, scatter_nd(x, x->in[3], x->in[0], x->in[1], "add"));
}

/* 0, 1, ... n-1 as int64. */
static kgr_value *count_to(tf_xlat *x, kgr_value *n)
{
    return tf_op3(x, KOP_Range, tf_i64(x, 0), n, tf_i64(x, 1));
}

kaena_status tf_x_invert_permutation(tf_xlat *x)
{
    kgr_value *v = x->in[0], *n = tf_op1(x, KOP_Size, v);
    if (x->status != KAENA_OK)
        return x->status;
    kgr_value *places = tf_cast(x, count_to(x, n), v->t.dtype);
    return tf_done(x, scatter_nd(x, v, tf_unsqueeze(x, v, -1), places, "none"));
}

/* --- Segments: rows that share a number
 * ------------------------------------------------------------ */

/* The largest number in |v| as int64, rank 0. */
static kgr_value *largest(tf_xlat *x, kgr_value *v)
{
    static const int64_t first = 0, all = -1;
    v = tf_reshape(x, tf_cast(x, v, KAENA_I64), &all, 1);
    return tf_reduce(x, KOP_ReduceMax, v, &first, 1, false);
}

/* [n] and the dimensions of |v| from |from| on. */
static kgr_value *rows_shape(tf_xlat *x, kgr_value *n, kgr_value *v, int32_t from)
{
    kgr_value *shape = tf_shape_of(x, v);
    kgr_value *rest = tf_slice(x, shape, 0, from, INT64_MAX, 1);
    return tf_concat(x, (kgr_value *[]){tf_unsqueeze(x, n, 0), rest}, 2, 0);
}

/* Rows of |v| gathered in |n| segments by |id|, from |start| on; what has a negative id, or one
 * that is too large, counts nowhere. */
static kgr_value *segments(tf_xlat *x, kgr_value *v, kgr_value *id, kgr_value *n, double start,
                           const char *reduction)
{
    static const int64_t first = 0, axis = 0;
    int32_t rank = tf_rank(x, id);
    id = tf_cast(x, id, KAENA_I64);
    n = tf_cast(x, n, KAENA_I64);
    kgr_value *outside = tf_op2(x, KOP_Or, tf_op2(x, KOP_Less, id, tf_i64(x, 0)),
                                tf_op2(x, KOP_GreaterOrEqual, id, n));
    id = tf_op3(x, KOP_Where, outside, n, id);
    kgr_value *more = tf_op2(x, KOP_Add, n, tf_i64(x, 1));
    kgr_value *base = filled(x, v, start, rows_shape(x, more, v, rank));
    kgr_value *r = scatter_nd(x, base, tf_unsqueeze(x, id, -1), v, reduction);
    kgr_value *in[] = {r, tf_i64s(x, &first, 1), tf_unsqueeze(x, n, 0), tf_i64s(x, &axis, 1)};
    return tf_opn(x, KOP_Slice, in, 4);
}

/* The lowest and highest finite number of a type. */
static double limit_of(kaena_dtype t, bool high)
{
    static const struct {
        kaena_dtype dtype;
        double low, high;
    } limits[] = {
        {KAENA_F32, -3.4028234663852886e38, 3.4028234663852886e38},
        {KAENA_F64, -1.7976931348623157e308, 1.7976931348623157e308},
        {KAENA_F16, -65504, 65504},
        {KAENA_BF16, -3.3895313892515355e38, 3.3895313892515355e38},
        {KAENA_I8, INT8_MIN, INT8_MAX},
        {KAENA_I16, INT16_MIN, INT16_MAX},
        {KAENA_I32, INT32_MIN, INT32_MAX},
        {KAENA_I64, -9.223372036854775808e18, 9.223372036854775808e18},
        {KAENA_U8, 0, UINT8_MAX},
        {KAENA_U16, 0, UINT16_MAX},
        {KAENA_U32, 0, UINT32_MAX},
    };
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
        if (limits[i].dtype == t)
            return high ? limits[i].high : limits[i].low;
    return 0;
}

kaena_status tf_x_unsorted_sum(tf_xlat *x)
{
    return tf_done(x, segments(x, x->in[0], x->in[1], x->in[2], 0, "add"));
}

kaena_status tf_x_unsorted_prod(tf_xlat *x)
{
    return tf_done(x, segments(x, x->in[0], x->in[1], x->in[2], 1, "mul"));
}

kaena_status tf_x_unsorted_max(tf_xlat *x)
{
    return tf_done(
        x, segments(x, x->in[0], x->in[1], x->in[2], limit_of(x->in[0]->t.dtype, false), "max"));
}

kaena_status tf_x_unsorted_min(tf_xlat *x)
{
    return tf_done(
        x, segments(x, x->in[0], x->in[1], x->in[2], limit_of(x->in[0]->t.dtype, true), "min"));
}

/* The sorted kind: as many segments as the last id says. */
static kgr_value *sorted(tf_xlat *x, kgr_value *v, double start, const char *reduction)
{
    kgr_value *n = tf_op2(x, KOP_Add, largest(x, x->in[1]), tf_i64(x, 1));
    return segments(x, v, x->in[1], n, start, reduction);
}

kaena_status tf_x_segment_sum(tf_xlat *x)
{
    return tf_done(x, sorted(x, x->in[0], 0, "add"));
}

kaena_status tf_x_segment_prod(tf_xlat *x)
{
    return tf_done(x, sorted(x, x->in[0], 1, "mul"));
}

/* Rows per segment, of the shape of |like|. */
static kgr_value *sizes(tf_xlat *x, kgr_value *v)
{
    return sorted(x, filled(x, v, 1, tf_shape_of(x, v)), 0, "add");
}

kaena_status tf_x_segment_mean(tf_xlat *x)
{
    kgr_value *v = x->in[0];
    kgr_value *n = tf_op2(x, KOP_Max, sizes(x, v), tf_number(x, v, 1));
    return tf_done(x, tf_op2(x, KOP_Div, sorted(x, v, 0, "add"), n));
}

/* An empty segment is 0. */
static kaena_status segment_extreme(tf_xlat *x, bool high)
{
    kgr_value *v = x->in[0];
    kgr_value *r = sorted(x, v, limit_of(v->t.dtype, !high), high ? "max" : "min");
    kgr_value *none = tf_op2(x, KOP_Equal, sizes(x, v), tf_number(x, v, 0));
    return tf_done(x, tf_op3(x, KOP_Where, none, tf_number(x, v, 0), r));
}

kaena_status tf_x_segment_max(tf_xlat *x)
{
    return segment_extreme(x, true);
}

kaena_status tf_x_segment_min(tf_xlat *x)
{
    return segment_extreme(x, false);
}

/* --- Counting
 * --------------------------------------------------------------------------------------- */

kaena_status tf_x_bincount(tf_xlat *x)
{
    static const int64_t all = -1;
    kgr_value *v = tf_reshape(x, x->in[0], &all, 1), *weight = x->in[2];
    int64_t weights = 1;
    const kaena_shape *s = tf_known_shape(x, weight);
    if (x->status == KAENA_OK && kaena_shape_elements(s, &weights) && weights == 0)
        weight = filled(x, weight, 1, tf_shape_of(x, v));
    else
        weight = tf_reshape(x, weight, &all, 1);
    return tf_done(x, segments(x, weight, v, x->in[1], 0, "add"));
}

kaena_status tf_x_histogram(tf_xlat *x)
{
    static const int64_t all = -1;
    kgr_value *v = tf_reshape(x, x->in[0], &all, 1), *n = x->in[2];
    kaena_dtype type = tf_type(x, "dtype", KAENA_I32);
    kgr_value *low = gather(x, x->in[1], tf_i64(x, 0), 0),
              *high = gather(x, x->in[1], tf_i64(x, 1), 0);
    if (x->status != KAENA_OK)
        return x->status;
    kgr_value *bins = tf_cast(x, n, KAENA_F64), *width = tf_op2(x, KOP_Sub, high, low);
    kgr_value *share = tf_op2(x, KOP_Div, tf_cast(x, tf_op2(x, KOP_Sub, v, low), KAENA_F64),
                              tf_cast(x, width, KAENA_F64));
    kgr_value *place = tf_op1(x, KOP_Floor, tf_op2(x, KOP_Mul, share, bins));
    kgr_value *last = tf_op2(x, KOP_Sub, bins, tf_number(x, bins, 1));
    place = tf_op2(x, KOP_Min, tf_op2(x, KOP_Max, place, tf_number(x, bins, 0)), last);
    kgr_value *ones = filled(x, tf_cast(x, n, type), 1, tf_shape_of(x, v));
    return tf_done(x, segments(x, ones, tf_cast(x, place, KAENA_I64), n, 0, "add"));
}

/* Rows of several operands, each to its place; later ones win. */
kaena_status tf_x_dynamic_stitch(tf_xlat *x)
{
    uint32_t n = x->n_in / 2;
    if (x->n_in % 2 || n == 0)
        return tf_bad(x, "%u inputs are no pairs", x->n_in);
    kgr_value *most = largest(x, x->in[0]);
    for (uint32_t i = 1; i < n; i++)
        most = tf_op2(x, KOP_Max, most, largest(x, x->in[i]));
    int32_t rank = tf_rank(x, x->in[0]);
    kgr_value *rows = tf_op2(x, KOP_Add, most, tf_i64(x, 1));
    kgr_value *r = filled(x, x->in[n], 0, rows_shape(x, rows, x->in[n], rank));
    for (uint32_t i = 0; i < n; i++)
        r = scatter_nd(x, r, tf_unsqueeze(x, x->in[i], -1), x->in[n + i], "none");
    return tf_done(x, r);
}

/* Eight comparisons to a byte, the first in its highest bit. */
kaena_status tf_x_compare_and_bitpack(tf_xlat *x)
{
    static const int64_t weight[] = {128, 64, 32, 16, 8, 4, 2, 1}, last = -1;
    kgr_value *v = x->in[0];
    kaena_shape s = *tf_known_shape(x, v);
    if (x->status != KAENA_OK)
        return x->status;
    if (s.rank < 1 || s.rank == KAENA_MAX_RANK || s.dim[s.rank - 1] % 8)
        return tf_bad(x, "the last dimension is no multiple of 8");
    s.dim[s.rank - 1] /= 8;
    s.dim[s.rank] = 8;
    kgr_value *larger = v->t.dtype == KAENA_BOOL ? v : tf_op2(x, KOP_Greater, v, x->in[1]);
    kgr_value *bits = tf_reshape(x, tf_cast(x, larger, KAENA_I64), s.dim, (uint32_t)s.rank + 1);
    kgr_value *sum = tf_reduce(x, KOP_ReduceSum, tf_op2(x, KOP_Mul, bits, tf_i64s(x, weight, 8)),
                               &last, 1, false);
    return tf_done(x, tf_cast(x, sum, KAENA_U8));
}
