/* Translations: shapes and copies. */
#include <stdint.h>
#include <string.h>

#include "checked.h"
#include "tf_xlat.h"

static kgr_value *ints64(tf_xlat *x, kgr_value *v)
{
    return tf_cast(x, v, KAENA_I64);
}

/* |v| as a vector, whatever its rank. */
static kgr_value *flat(tf_xlat *x, kgr_value *v)
{
    static const int64_t all = -1;
    return tf_rank(x, v) == 1 ? v : tf_reshape(x, v, &all, 1);
}

/* A shape with a -1 beside a 0, which the canonical operator does not allow: the elements that the
 * -1 stands for are counted without the empty dimensions of both shapes. */
static kgr_value *close_shape(tf_xlat *x, const kgr_value *v, kgr_value *shape)
{
    int64_t dims[KAENA_MAX_RANK], rest = 1;
    bool open = false, empty = false;
    if (x->status != KAENA_OK || !kgr_is_const(shape) || kop_elements(&shape->t) > KAENA_MAX_RANK ||
        v->t.unranked || !kaena_shape_known(&v->t.shape))
        return shape;
    uint32_t n = (uint32_t)kop_elements(&shape->t);
    for (int32_t i = 0; i < v->t.shape.rank; i++)
        if (v->t.shape.dim[i] && !kaena_mul_i64(rest, v->t.shape.dim[i], &rest))
            return shape;
    for (uint32_t i = 0; i < n; i++) {
        dims[i] = kop_get_int(&shape->t, i);
        open |= dims[i] == -1;
        empty |= dims[i] == 0;
        if (dims[i] > 0)
            rest /= dims[i];
    }
    for (uint32_t i = 0; i < n; i++)
        dims[i] = dims[i] == -1 ? rest : dims[i];
    return open && empty ? tf_i64s(x, dims, n) : shape;
}

kaena_status tf_x_reshape(tf_xlat *x)
{
    kgr_value *shape = close_shape(x, x->in[0], ints64(x, x->in[1]));
    kgr_node *n = tf_node_begin(x, KOP_Reshape, (kgr_value *[]){x->in[0], shape}, 2, 1);
    tf_set_int(x, n, "allowzero", 1);
    return tf_done(x, tf_node_end(x, n));
}

kaena_status tf_x_shape(tf_xlat *x)
{
    kaena_dtype type = tf_type(x, "out_type", KAENA_I32);
    for (uint32_t i = 0; i < x->n_in; i++)
        tf_set_out(x, i, tf_cast(x, tf_shape_of(x, x->in[i]), type));
    return x->status;
}

kaena_status tf_x_size(tf_xlat *x)
{
    kaena_dtype type = tf_type(x, "out_type", KAENA_I32);
    return tf_done(x, tf_cast(x, tf_op1(x, KOP_Size, x->in[0]), type));
}

kaena_status tf_x_rank(tf_xlat *x)
{
    return tf_done(x, tf_cast(x, tf_i64(x, tf_rank(x, x->in[0])), KAENA_I32));
}

kaena_status tf_x_expand_dims(tf_xlat *x)
{
    return tf_done(x, tf_unsqueeze(x, x->in[0], tf_const_int(x, x->in[1], "the dimension")));
}

kaena_status tf_x_squeeze(tf_xlat *x)
{
    const int64_t *axes;
    uint32_t n = tf_ints(x, tf_has(x, "squeeze_dims") ? "squeeze_dims" : "axis", &axes);
    if (n == 0)
        return tf_done(x, tf_op1(x, KOP_Squeeze, x->in[0]));
    return tf_done(x, tf_op2(x, KOP_Squeeze, x->in[0], tf_i64s(x, axes, n)));
}

kaena_status tf_x_transpose(tf_xlat *x)
{
    uint32_t n;
    const int64_t *perm = tf_const_ints(x, x->in[1], "the permutation", &n);
    int64_t places[KAENA_MAX_RANK] = {0};
    if (x->status == KAENA_OK && (int32_t)n != tf_rank(x, x->in[0]))
        return tf_bad(x, "the permutation has %u places for %d dimensions", n,
                      tf_rank(x, x->in[0]));
    for (uint32_t i = 0; i < n; i++)
        places[i] = tf_axis(x, perm[i], (int32_t)n);
    return tf_done(x, tf_transpose(x, x->in[0], places, n));
}

/* --- Joining and parting ------------------------------------------------------------------------
 */

kaena_status tf_x_concat(tf_xlat *x)
{
    return tf_done(
        x, tf_concat(x, x->in + 1, x->n_in - 1, tf_const_int(x, x->in[0], "the dimension")));
}

kaena_status tf_x_concat_v2(tf_xlat *x)
{
    return tf_done(
        x, tf_concat(x, x->in, x->n_in - 1, tf_const_int(x, x->in[x->n_in - 1], "the dimension")));
}

kaena_status tf_x_parallel_concat(tf_xlat *x)
{
    return tf_done(x, tf_concat(x, x->in, x->n_in, 0));
}

kaena_status tf_x_pack(tf_xlat *x)
{
    int64_t axis = tf_int(x, "axis", 0);
    kgr_value **parts = KAENA_NEW_N(x->imp->arena, kgr_value *, x->n_in);
    if (!parts)
        return KAENA_FAIL(x->imp->err, RESOURCE_EXHAUSTED, "no memory for the graph");
    for (uint32_t i = 0; i < x->n_in; i++)
        parts[i] = tf_unsqueeze(x, x->in[i], axis);
    return tf_done(x, tf_concat(x, parts, x->n_in, axis));
}

/* Parts of |sizes| along |axis| into the node's results, without that dimension if |squeeze|. */
static kaena_status split(tf_xlat *x, kgr_value *v, int64_t axis, const int64_t *sizes, uint32_t n,
                          bool squeeze)
{
    kgr_value *parts[KOP_MAX_OUTPUTS];
    bool one_node = n > 0 && n <= KOP_MAX_OUTPUTS;
    int64_t at = 0;
    if (one_node) {
        kgr_node *s = tf_node_begin(x, KOP_Split, (kgr_value *[]){v, tf_i64s(x, sizes, n)}, 2, n);
        tf_set_int(x, s, "axis", axis);
        tf_node_results(x, s, parts, n);
    }
    for (uint32_t i = 0; i < n && x->status == KAENA_OK; i++) {
        kgr_value *part = one_node ? parts[i] : tf_slice(x, v, axis, at, at + sizes[i], 1);
        at += sizes[i];
        tf_set_out(x, i, squeeze ? tf_squeeze(x, part, axis) : part);
    }
    return x->status;
}

/* |n| parts of |v| along |axis| of equal size. */
static kaena_status split_evenly(tf_xlat *x, kgr_value *v, int64_t axis, int64_t n, bool squeeze)
{
    int32_t rank = tf_rank(x, v), a = tf_axis(x, axis, rank);
    if (x->status != KAENA_OK)
        return x->status;
    int64_t dim = v->t.shape.dim[a];
    if (n < 1 || n > TF_MAX_PORTS || dim < 0 || dim % n || (squeeze && dim != n))
        return tf_bad(x, "dimension %d has %lld elements; it cannot be split into %lld", a,
                      (long long)dim, (long long)n);
    int64_t *sizes = KAENA_NEW_N(x->imp->arena, int64_t, (size_t)n);
    if (!sizes)
        return KAENA_FAIL(x->imp->err, RESOURCE_EXHAUSTED, "no memory for the graph");
    for (int64_t i = 0; i < n; i++)
        sizes[i] = dim / n;
    return split(x, v, a, sizes, (uint32_t)n, squeeze);
}

kaena_status tf_x_split(tf_xlat *x)
{
    return split_evenly(x, x->in[1], tf_const_int(x, x->in[0], "the dimension"),
                        tf_int(x, "num_split", 1), false);
}

kaena_status tf_x_unpack(tf_xlat *x)
{
    int64_t n = tf_int(x, "num", 0);
    return n == 0 ? x->status : split_evenly(x, x->in[0], tf_int(x, "axis", 0), n, true);
}

kaena_status tf_x_split_v(tf_xlat *x)
{
    uint32_t n;
    const int64_t *said = tf_const_ints(x, x->in[1], "the list of sizes", &n);
    int32_t axis = tf_axis(x, tf_const_int(x, x->in[2], "the dimension"), tf_rank(x, x->in[0]));
    if (x->status != KAENA_OK)
        return x->status;
    int64_t *sizes = KAENA_NEW_N(x->imp->arena, int64_t, n), left = x->in[0]->t.shape.dim[axis];
    if (!sizes)
        return KAENA_FAIL(x->imp->err, RESOURCE_EXHAUSTED, "no memory for the graph");
    for (uint32_t i = 0; i < n; i++)
        left -= said[i] < 0 ? 0 : said[i];
    for (uint32_t i = 0; i < n; i++)
        sizes[i] = said[i] < 0 ? left : said[i];
    if (left < 0)
        return tf_bad(x, "the sizes add up to more than dimension %d has", axis);
    return split(x, x->in[0], axis, sizes, n, false);
}

/* --- Filling and repeating ----------------------------------------------------------------------
 */

kaena_status tf_x_fill(tf_xlat *x)
{
    return tf_done(x, tf_expand(x, x->in[1], ints64(x, x->in[0])));
}

kaena_status tf_x_broadcast_to(tf_xlat *x)
{
    return tf_done(x, tf_expand(x, x->in[0], ints64(x, x->in[1])));
}

/* The shape both shapes broadcast to. */
kaena_status tf_x_broadcast_args(tf_xlat *x)
{
    kgr_value *s[2] = {x->in[0], x->in[1]};
    int64_t n[2];
    for (int i = 0; i < 2; i++) {
        const kaena_shape *shape = tf_known_shape(x, s[i]);
        if (shape->rank != 1)
            return tf_bad(x, "a shape is no vector");
        n[i] = shape->dim[0];
    }
    for (int i = 0; i < 2; i++) {
        int64_t missing = n[1 - i] - n[i];
        if (missing <= 0)
            continue;
        kgr_value *ones = tf_expand(x, tf_number(x, s[i], 1), tf_i64s(x, &missing, 1));
        s[i] = tf_concat(x, (kgr_value *[]){ones, s[i]}, 2, 0);
    }
    kgr_value *one = tf_op2(x, KOP_Equal, s[0], tf_number(x, s[0], 1));
    return tf_done(x, tf_op3(x, KOP_Where, one, s[1], s[0]));
}

kaena_status tf_x_tile(tf_xlat *x)
{
    return tf_done(x, tf_op2(x, KOP_Tile, x->in[0], ints64(x, x->in[1])));
}

kaena_status tf_x_lin_space(tf_xlat *x)
{
    kgr_value *from = x->in[0], *to = x->in[1], *n = ints64(x, x->in[2]);
    kgr_value *steps = tf_op3(x, KOP_Range, tf_i64(x, 0), n, tf_i64(x, 1));
    kgr_value *last = tf_op2(x, KOP_Max, tf_op2(x, KOP_Sub, n, tf_i64(x, 1)), tf_i64(x, 1));
    if (x->status != KAENA_OK)
        return x->status;
    kgr_value *step =
        tf_op2(x, KOP_Div, tf_op2(x, KOP_Sub, to, from), tf_cast(x, last, from->t.dtype));
    kgr_value *way = tf_op2(x, KOP_Mul, tf_cast(x, steps, from->t.dtype), step);
    return tf_done(x, tf_op2(x, KOP_Add, from, way));
}

/* Numbers of their own in each inference, in the shape that the operand says. */
kaena_status tf_x_random(tf_xlat *x)
{
    kaena_dtype type = tf_type(x, "dtype", KAENA_F32);
    kgr_value *like = tf_cast(x, tf_i64(x, 0), type);
    like = tf_expand(x, like, ints64(x, x->in[0]));
    kgr_node *n = tf_node_begin(x, x->row->canonical, &like, 1, 1);
    int64_t seed = tf_int(x, "seed", 0) ^ tf_int(x, "seed2", 0);
    if (seed)
        tf_set_float(x, n, "seed", (float)seed);
    return tf_done(x, tf_node_end(x, n));
}

kaena_status tf_x_one_hot(tf_xlat *x)
{
    kgr_value *index = ints64(x, x->in[0]), *depth = ints64(x, x->in[1]);
    /* A negative index is nowhere, not counted from behind. */
    kgr_value *outside = tf_op2(x, KOP_Less, index, tf_number(x, index, 0));
    index = tf_op3(x, KOP_Where, outside, depth, index);
    kgr_value *values[] = {tf_unsqueeze(x, x->in[3], 0), tf_unsqueeze(x, x->in[2], 0)};
    kgr_value *in[] = {index, depth, tf_concat(x, values, 2, 0)};
    kgr_node *n = tf_node_begin(x, KOP_OneHot, in, 3, 1);
    tf_set_int(x, n, "axis", tf_int(x, "axis", -1));
    return tf_done(x, tf_node_end(x, n));
}

/* [n,2] as the begins of all dimensions, then the ends. */
static kgr_value *pads_of(tf_xlat *x, kgr_value *v)
{
    static const int64_t turn[] = {1, 0};
    return flat(x, tf_transpose(x, ints64(x, v), turn, 2));
}

kaena_status tf_x_pad(tf_xlat *x)
{
    kgr_value *v = x->in[0], *fill = x->n_in > 2 ? x->in[2] : tf_number(x, v, 0);
    if (x->status == KAENA_OK && x->in[1]->t.shape.rank != 2)
        return tf_bad(x, "the paddings are no matrix");
    return tf_done(x, tf_op3(x, KOP_Pad, v, pads_of(x, x->in[1]), fill));
}

/* A mirror that repeats the edge: |before| and |after| (int64 of one element) elements of the
 * reversed tensor around it. */
static kgr_value *pad_symmetric(tf_xlat *x, kgr_value *v, int64_t axis, kgr_value *before,
                                kgr_value *after)
{
    static const int64_t zero = 0, end = INT64_MAX;
    kgr_value *reversed = tf_slice(x, v, axis, INT64_MAX, INT64_MIN, -1);
    kgr_value *from = tf_op2(x, KOP_Sub, tf_dim(x, v, (int32_t)axis), before);
    kgr_value *axes = tf_i64s(x, &axis, 1);
    kgr_value *low[] = {reversed, from, tf_i64s(x, &end, 1), axes};
    kgr_value *high[] = {reversed, tf_i64s(x, &zero, 1), after, axes};
    kgr_value *parts[] = {tf_opn(x, KOP_Slice, low, 4), v, tf_opn(x, KOP_Slice, high, 4)};
    return tf_concat(x, parts, 3, axis);
}

kaena_status tf_x_mirror_pad(tf_xlat *x)
{
    const char *mode = tf_string(x, "mode", "REFLECT");
    kgr_value *v = x->in[0];
    if (strcmp(mode, "REFLECT") == 0) {
        kgr_value *in[] = {v, pads_of(x, x->in[1])};
        kgr_node *n = tf_node_begin(x, KOP_Pad, in, 2, 1);
        tf_set_string(x, n, "mode", "reflect");
        return tf_done(x, tf_node_end(x, n));
    }
    kgr_value *pads = ints64(x, x->in[1]);
    int32_t rank = tf_rank(x, v);
    for (int32_t i = 0; i < rank; i++) {
        kgr_value *row = flat(x, tf_slice(x, pads, 0, i, i + 1, 1));
        v = pad_symmetric(x, v, i, tf_slice(x, row, 0, 0, 1, 1), tf_slice(x, row, 0, 1, 2, 1));
    }
    return tf_done(x, v);
}

/* --- Order ---------------------------------------------------------------------------------------
 */

kaena_status tf_x_reverse_v2(tf_xlat *x)
{
    uint32_t n;
    const int64_t *axes = tf_const_ints(x, x->in[1], "the list of dimensions", &n);
    kgr_value *v = x->in[0];
    for (uint32_t i = 0; i < n; i++)
        v = tf_slice(x, v, axes[i], INT64_MAX, INT64_MIN, -1);
    return tf_done(x, v);
}

/* The second part, then the first. */
static kgr_value *roll(tf_xlat *x, kgr_value *v, kgr_value *shift, int64_t axis)
{
    int32_t a = tf_axis(x, axis, tf_rank(x, v));
    int64_t begin = 0, end = INT64_MAX;
    if (x->status != KAENA_OK || v->t.shape.dim[a] == 0)
        return v;
    kgr_value *size = tf_op2(x, KOP_Gather, tf_shape_of(x, v), tf_i64(x, a));
    /* Moving by n is staying; Mod is never negative here. */
    kgr_value *by = tf_op2(x, KOP_Mod, shift, size);
    kgr_value *cut = tf_unsqueeze(x, tf_op2(x, KOP_Sub, size, by), 0);
    kgr_value *axes = tf_i64s(x, &axis, 1), *parts[2];
    parts[0] = tf_opn(x, KOP_Slice, (kgr_value *[]){v, cut, tf_i64s(x, &end, 1), axes}, 4);
    parts[1] = tf_opn(x, KOP_Slice, (kgr_value *[]){v, tf_i64s(x, &begin, 1), cut, axes}, 4);
    return tf_concat(x, parts, 2, axis);
}

kaena_status tf_x_roll(tf_xlat *x)
{
    uint32_t n;
    const int64_t *axes = tf_const_ints(x, x->in[2], "the list of dimensions", &n);
    kgr_value *v = x->in[0], *shifts = flat(x, ints64(x, x->in[1]));
    for (uint32_t i = 0; i < n; i++)
        v = roll(x, v, tf_op2(x, KOP_Gather, shifts, tf_i64(x, i)), axes[i]);
    return tf_done(x, v);
}

kaena_status tf_x_reverse_sequence(tf_xlat *x)
{
    int32_t rank = tf_rank(x, x->in[0]);
    int32_t time = tf_axis(x, tf_int(x, "seq_dim", 0), rank);
    int32_t batch = tf_axis(x, tf_int(x, "batch_dim", 0), rank);
    kgr_value *v = x->in[0];
    if (rank < 2 || time == batch)
        return tf_bad(x, "dimensions %d and %d of %d", time, batch, rank);
    /* The canonical operator takes the first two dimensions: bring both there and back. */
    int64_t perm[KAENA_MAX_RANK] = {batch, time}, back[KAENA_MAX_RANK];
    uint32_t n = 2;
    for (int32_t i = 0; i < rank; i++)
        if (i != batch && i != time)
            perm[n++] = i;
    for (uint32_t i = 0; i < n; i++)
        back[perm[i]] = i;
    kgr_value *in[] = {tf_transpose(x, v, perm, n), ints64(x, x->in[1])};
    kgr_node *r = tf_node_begin(x, KOP_ReverseSequence, in, 2, 1);
    tf_set_int(x, r, "batch_axis", 0);
    tf_set_int(x, r, "time_axis", 1);
    return tf_done(x, tf_transpose(x, tf_node_end(x, r), back, n));
}
