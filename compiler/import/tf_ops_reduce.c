/* Translations: reductions, order and sums along a dimension. */
#include "tf_xlat.h"

/* The axes of a reduction: input 1, a constant. */
static kgr_value *reduce(tf_xlat *x, kop_op op, kgr_value *v)
{
    uint32_t n;
    const int64_t *axes = tf_const_ints(x, x->in[1], "the list of dimensions", &n);
    int32_t rank = tf_rank(x, v);
    if (rank < 0)
        return NULL;
    for (uint32_t i = 0; i < n; i++)
        (void)tf_axis(x, axes[i], rank);
    bool keep = tf_bool(x, "keep_dims", tf_bool(x, "keepdims", false));
    return tf_reduce(x, op, v, axes, n, keep);
}

kaena_status tf_x_reduce(tf_xlat *x)
{
    return tf_done(x, reduce(x, x->row->canonical, x->in[0]));
}

/* Bools as numbers: all is the least, any a sum; so are they of nothing. */
kaena_status tf_x_reduce_bool(tf_xlat *x)
{
    kgr_value *v = tf_cast(x, x->in[0], KAENA_I32);
    return tf_done(x, tf_cast(x, reduce(x, x->row->canonical, v), KAENA_BOOL));
}

kaena_status tf_x_l2_loss(tf_xlat *x)
{
    int32_t rank = tf_rank(x, x->in[0]);
    int64_t axes[KAENA_MAX_RANK];
    for (int32_t i = 0; i < rank; i++)
        axes[i] = i;
    kgr_value *sum =
        tf_reduce(x, KOP_ReduceSumSquare, x->in[0], axes, rank > 0 ? (uint32_t)rank : 0, false);
    return tf_done(x, tf_op2(x, KOP_Mul, sum, tf_number(x, x->in[0], 0.5)));
}

kaena_status tf_x_arg(tf_xlat *x)
{
    int64_t axis = x->n_in > 1 ? tf_const_int(x, x->in[1], "the dimension") : 0;
    kgr_value *v = x->in[0];
    if (v->t.dtype == KAENA_BOOL)
        v = tf_cast(x, v, KAENA_I32);
    (void)tf_axis(x, axis, tf_rank(x, v));
    kgr_node *n = tf_node_begin(x, x->row->canonical, &v, 1, 1);
    tf_set_int(x, n, "axis", axis);
    tf_set_int(x, n, "keepdims", 0);
    return tf_done(x, tf_cast(x, tf_node_end(x, n), tf_type(x, "output_type", KAENA_I64)));
}

kaena_status tf_x_cumulate(tf_xlat *x)
{
    int64_t axis = tf_const_int(x, x->in[1], "the dimension");
    kgr_value *in[] = {x->in[0], tf_i64(x, axis)};
    kgr_node *n = tf_node_begin(x, x->row->canonical, in, 2, 1);
    tf_set_int(x, n, "exclusive", tf_bool(x, "exclusive", false));
    tf_set_int(x, n, "reverse", tf_bool(x, "reverse", false));
    return tf_done(x, tf_node_end(x, n));
}

/* Values and indices of the |k| largest of the last dimension. */
static void top_k(tf_xlat *x, kgr_value *v, kgr_value *k, bool largest, kgr_value *out[2])
{
    int64_t one = 1;
    k = tf_op2(x, KOP_Reshape, tf_cast(x, k, KAENA_I64), tf_i64s(x, &one, 1));
    kgr_node *n = tf_node_begin(x, KOP_TopK, (kgr_value *[]){v, k}, 2, 2);
    tf_set_int(x, n, "axis", -1);
    tf_set_int(x, n, "largest", largest);
    tf_node_results(x, n, out, 2);
}

kaena_status tf_x_top_k(tf_xlat *x)
{
    kgr_value *out[2];
    kgr_value *k = x->n_in > 1 ? x->in[1] : tf_i64(x, tf_int(x, "k", 1));
    top_k(x, x->in[0], k, true, out);
    tf_set_out(x, 0, out[0]);
    tf_set_out(x, 1, tf_cast(x, out[1], tf_type(x, "index_type", KAENA_I32)));
    return x->status;
}

/* The n-th smallest (or largest) of the last dimension: the last of n + 1. */
kaena_status tf_x_nth_element(tf_xlat *x)
{
    static const int64_t one = 1, last = -1;
    kgr_value *out[2];
    kgr_value *n = tf_op2(x, KOP_Reshape, tf_cast(x, x->in[1], KAENA_I64), tf_i64s(x, &one, 1));
    kgr_value *k = tf_op2(x, KOP_Add, n, tf_i64(x, 1));
    top_k(x, x->in[0], k, tf_bool(x, "reverse", false), out);
    kgr_value *in[] = {out[0], n, k, tf_i64s(x, &last, 1)};
    return tf_done(x, tf_squeeze(x, tf_opn(x, KOP_Slice, in, 4), -1));
}

/* Whether fewer than k of a row are larger than the target's value, which is finite. */
kaena_status tf_x_in_top_k(tf_xlat *x)
{
    kgr_value *v = x->in[0];
    kgr_value *k = x->n_in > 2 ? x->in[2] : tf_i64(x, tf_int(x, "k", 1));
    kgr_value *target = tf_unsqueeze(x, tf_cast(x, x->in[1], KAENA_I64), -1);
    kgr_node *pick = tf_node_begin(x, KOP_GatherElements, (kgr_value *[]){v, target}, 2, 1);
    tf_set_int(x, pick, "axis", 1);
    kgr_value *larger = tf_op2(x, KOP_Greater, v, tf_node_end(x, pick));
    int64_t axis = 1;
    kgr_value *count = tf_reduce(x, KOP_ReduceSum, tf_cast(x, larger, KAENA_I64), &axis, 1, false);
    return tf_done(x, tf_op2(x, KOP_Less, count, tf_cast(x, k, KAENA_I64)));
}

kaena_status tf_x_unique(tf_xlat *x)
{
    kgr_value *out[4];
    kgr_node *n = tf_node_begin(x, KOP_Unique, x->in, 1, 4);
    kaena_dtype index = tf_type(x, "out_idx", KAENA_I32);
    tf_set_int(x, n, "sorted", 0);
    tf_node_results(x, n, out, 4);
    tf_set_out(x, 0, out[0]);
    tf_set_out(x, 1, tf_cast(x, out[2], index));
    tf_set_out(x, 2, tf_cast(x, out[3], index));
    return x->status;
}

/* Where a condition holds: coordinates by row. */
static kgr_value *non_zero(tf_xlat *x, kgr_value *v)
{
    static const int64_t turn[] = {1, 0};
    return tf_transpose(x, tf_op1(x, KOP_NonZero, v), turn, 2);
}

kaena_status tf_x_where(tf_xlat *x)
{
    return tf_done(x, non_zero(x, x->in[0]));
}

/* Elements of |x| that |y| has not, and where they stood. */
kaena_status tf_x_list_diff(tf_xlat *x)
{
    int64_t axis = 1;
    kgr_value *same =
        tf_op2(x, KOP_Equal, tf_unsqueeze(x, x->in[0], 1), tf_unsqueeze(x, x->in[1], 0));
    kgr_value *found = tf_reduce(x, KOP_ReduceSum, tf_cast(x, same, KAENA_I64), &axis, 1, false);
    kgr_value *keep = tf_op2(x, KOP_Equal, found, tf_number(x, found, 0));
    kgr_value *where = tf_squeeze(x, tf_op1(x, KOP_NonZero, keep), 0);
    tf_set_out(x, 0, tf_op2(x, KOP_Gather, x->in[0], where));
    tf_set_out(x, 1, tf_cast(x, where, tf_type(x, "out_idx", KAENA_I32)));
    return x->status;
}

/* The elements of each partition, in order. */
kaena_status tf_x_dynamic_partition(tf_xlat *x)
{
    int64_t n = tf_int(x, "num_partitions", 0);
    int32_t rank = tf_rank(x, x->in[1]);
    int64_t flat = -1;
    kgr_value *data = x->in[0], *part = x->in[1];
    const kaena_shape *shape = tf_known_shape(x, data);
    if (n < 1 || n > TF_MAX_PORTS)
        return tf_bad(x, "attribute 'num_partitions' is %lld", (long long)n);
    if (rank > shape->rank)
        return tf_bad(x, "there are more dimensions of partitions than of data");
    if (rank > 1) {
        int64_t dims[KAENA_MAX_RANK] = {-1};
        for (int32_t i = rank; i < shape->rank; i++)
            dims[i - rank + 1] = shape->dim[i];
        data = tf_reshape(x, data, dims, (uint32_t)(shape->rank - rank + 1));
        part = tf_reshape(x, part, &flat, 1);
    }
    for (uint32_t i = 0; i < n && x->status == KAENA_OK; i++) {
        kgr_value *mine = tf_op2(x, KOP_Equal, part, tf_number(x, part, i));
        kgr_node *c = tf_node_begin(x, KOP_Compress, (kgr_value *[]){data, mine}, 2, 1);
        tf_set_int(x, c, "axis", 0);
        tf_set_out(x, i, tf_node_end(x, c));
    }
    return x->status;
}
