/* Shapes, copies, and constants of a given shape. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "mx_ops.h"

/* --- Reshape --------------------------------------------------------------------------------- */

static kaena_status bad_shape(mx_xlat *x)
{
    return x->status != KAENA_OK
               ? x->status
               : MX_FAIL(x, INVALID_ARGUMENT, "shape '%s' does not fit the data",
                         mx_string(x, "shape", mx_string(x, "target_shape", "()")));
}

static void turn_around(int64_t *v, uint32_t n)
{
    for (uint32_t i = 0; i < n / 2; i++) {
        int64_t t = v[i];
        v[i] = v[n - 1 - i];
        v[n - 1 - i] = t;
    }
}

/* The codes of Reshape: 0 copies a dimension, -1 follows from the rest, -2 copies all that are
 * left, -3 multiplies two, -4 splits one into the two that follow. */
static bool apply_codes(const kaena_shape *from, const int64_t *code, uint32_t n, kaena_shape *out)
{
    kaena_shape s = {0};
    int32_t at = 0, open = -1;
    for (uint32_t i = 0; i < n; i++) {
        bool has = at < from->rank;
        if (s.rank == KAENA_MAX_RANK && code[i] != -2)
            return false;
        if (code[i] == 0 && has) {
            s.dim[s.rank++] = from->dim[at++];
        } else if (code[i] == -1 && open < 0) {
            open = s.rank;
            s.dim[s.rank++] = 1;
            at++;
        } else if (code[i] == -2) {
            for (; at < from->rank; at++) {
                if (s.rank == KAENA_MAX_RANK)
                    return false;
                s.dim[s.rank++] = from->dim[at];
            }
        } else if (code[i] == -3 && at + 1 < from->rank) {
            s.dim[s.rank++] = from->dim[at] * from->dim[at + 1];
            at += 2;
        } else if (code[i] == -4 && has && i + 2 < n && s.rank + 2 <= KAENA_MAX_RANK) {
            int64_t whole = from->dim[at++], a = code[++i], b = code[++i];
            if ((a == -1 && b == -1) || a == 0 || b == 0 || a < -1 || b < -1)
                return false;
            a = a == -1 ? whole / b : a;
            b = b == -1 ? whole / a : b;
            if (a > INT32_MAX || b > INT32_MAX || a * b != whole)
                return false;
            s.dim[s.rank++] = a;
            s.dim[s.rank++] = b;
        } else if (code[i] > 0 && code[i] <= INT32_MAX) {
            s.dim[s.rank++] = code[i];
            at++;
        } else {
            return false;
        }
    }
    int64_t have, need;
    if (!kaena_shape_elements(from, &have) || !kaena_shape_elements(&s, &need))
        return false;
    if (open >= 0 && need > 0)
        s.dim[open] = have / need;
    *out = s;
    return kaena_shape_elements(&s, &need) && have == need;
}

static bool reshaped(mx_xlat *x, const kaena_shape *from, kaena_shape *out)
{
    int64_t code[3 * KAENA_MAX_RANK];
    kaena_shape source = *from;
    uint32_t n = mx_ints(x, "shape", code, 3 * KAENA_MAX_RANK);
    bool reverse = mx_bool(x, "reverse", false);
    if (n == 0) {
        /* Before 0.9: all dimensions, 0 follows from the rest. */
        n = mx_ints(x, "target_shape", code, KAENA_MAX_RANK);
        for (uint32_t i = 0; i < n; i++)
            code[i] = code[i] == 0 ? -1 : code[i];
        if (n > 0 && mx_bool(x, "keep_highest", false))
            code[0] = 0;
    }
    if (n == 0 || x->status != KAENA_OK)
        return false;
    if (reverse) {
        turn_around(code, n);
        turn_around(source.dim, (uint32_t)source.rank);
    }
    if (!apply_codes(&source, code, n, out))
        return false;
    if (reverse)
        turn_around(out->dim, (uint32_t)out->rank);
    return true;
}

kaena_status mx_do_reshape(mx_xlat *x)
{
    kaena_shape s;
    if (mx_has_in(x, 0) && !x->in[0]->v && x->in[0]->is_fill) {
        /* Zeros of an open shape stay open: whoever reads them says. */
        x->out[0] = *x->in[0];
        x->out[0].has_hint = false;
        return KAENA_OK;
    }
    kgr_value *v = mx_in(x, 0);
    if (x->status != KAENA_OK || !reshaped(x, &v->t.shape, &s))
        return bad_shape(x);
    (void)mx_reshape(x, 0, v, &s);
    return KAENA_OK;
}

kaena_status mx_do_reshape_like(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0), *like = mx_in(x, 1);
    kaena_shape s = like->t.shape;
    int32_t a = v->t.shape.rank, b = s.rank;
    int64_t l0 = mx_int(x, "lhs_begin", 0), l1 = mx_int(x, "lhs_end", a);
    int64_t r0 = mx_int(x, "rhs_begin", 0), r1 = mx_int(x, "rhs_end", b);
    l0 += l0 < 0 ? a : 0;
    l1 += l1 < 0 ? a : 0;
    r0 += r0 < 0 ? b : 0;
    r1 += r1 < 0 ? b : 0;
    if (l0 < 0 || l0 > l1 || l1 > a || r0 < 0 || r0 > r1 || r1 > b ||
        a - (l1 - l0) + (r1 - r0) > KAENA_MAX_RANK)
        return MX_FAIL(x, INVALID_ARGUMENT, "its ranges of dimensions do not exist");
    kaena_shape out = {0};
    for (int64_t i = 0; i < l0; i++)
        out.dim[out.rank++] = v->t.shape.dim[i];
    for (int64_t i = r0; i < r1; i++)
        out.dim[out.rank++] = s.dim[i];
    for (int64_t i = l1; i < a; i++)
        out.dim[out.rank++] = v->t.shape.dim[i];
    (void)mx_reshape(x, 0, v, &out);
    return KAENA_OK;
}

kaena_status mx_do_flatten(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    if (v->t.shape.rank == 0)
        return MX_FAIL(x, INVALID_ARGUMENT, "a scalar cannot be flattened");
    (void)mx_emit(x, 0, KOP_Flatten, MX_IN(v), MX_ATTRS(MX_ATTR_INT("axis", 1)));
    return KAENA_OK;
}

kaena_status mx_do_expand_dims(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    if (v->t.shape.rank == KAENA_MAX_RANK)
        return MX_FAIL(x, UNIMPLEMENTED, "more than %d dimensions", KAENA_MAX_RANK);
    (void)mx_unsqueeze(x, 0, v, mx_axis(x, "axis", 0, v->t.shape.rank + 1));
    return KAENA_OK;
}

kaena_status mx_do_squeeze(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    int64_t axes[KAENA_MAX_RANK];
    uint32_t n = mx_ints(x, "axis", axes, KAENA_MAX_RANK);
    for (int32_t i = 0; n == 0 && !mx_text(x, "axis") && i < v->t.shape.rank; i++)
        if (v->t.shape.dim[i] == 1)
            axes[n++] = i;
    if (n == 0)
        (void)mx_alias(x, 0, v);
    else
        (void)mx_squeeze(x, 0, v, axes, n);
    return KAENA_OK;
}

/* --- Order of dimensions --------------------------------------------------------------------- */

kaena_status mx_do_transpose(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    int64_t axes[KAENA_MAX_RANK];
    int32_t rank = v->t.shape.rank, axis;
    uint32_t n = mx_ints(x, "axes", axes, KAENA_MAX_RANK);
    for (int32_t i = 0; n == 0 && i < rank; i++)
        axes[i] = rank - 1 - i;
    if (n != 0 && n != (uint32_t)rank)
        return MX_FAIL(x, INVALID_ARGUMENT, "%u axes for %d dimensions", n, rank);
    for (int32_t i = 0; i < rank; i++) {
        if (!kop_axis(axes[i], rank, &axis))
            return MX_FAIL(x, INVALID_ARGUMENT, "axis %" PRId64 " does not exist", axes[i]);
        axes[i] = axis;
    }
    (void)mx_transpose(x, 0, v, axes);
    return KAENA_OK;
}

kaena_status mx_do_swap_axis(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    int64_t axes[KAENA_MAX_RANK];
    int32_t a = mx_axis(x, "dim1", 0, v->t.shape.rank), b = mx_axis(x, "dim2", 0, v->t.shape.rank);
    for (int32_t i = 0; i < KAENA_MAX_RANK; i++)
        axes[i] = i == a ? b : i == b ? a : i;
    (void)mx_transpose(x, 0, v, axes);
    return KAENA_OK;
}

/* --- Joining and cutting --------------------------------------------------------------------- */

kaena_status mx_do_concat(mx_xlat *x)
{
    kgr_value *in[MX_MAX_INPUTS];
    for (uint32_t i = 0; i < x->n_in; i++)
        in[i] = mx_in(x, i);
    if (x->n_in == 0)
        return MX_FAIL(x, INVALID_ARGUMENT, "it has no inputs");
    if (x->n_in == 1) {
        (void)mx_alias(x, 0, in[0]);
        return KAENA_OK;
    }
    /* The packed parameters of RNN are one list. */
    int64_t dim = strcmp(x->node->op, "_rnn_param_concat") == 0 ? 0 : 1;
    (void)mx_concat(x, 0, in, x->n_in, mx_axis(x, "dim", dim, in[0]->t.shape.rank));
    return KAENA_OK;
}

kaena_status mx_do_stack(mx_xlat *x)
{
    kgr_value *in[MX_MAX_INPUTS];
    if (x->n_in == 0 || mx_in(x, 0)->t.shape.rank == KAENA_MAX_RANK)
        return MX_FAIL(x, INVALID_ARGUMENT, "nothing to stack, or too many dimensions");
    int32_t axis = mx_axis(x, "axis", 0, mx_in(x, 0)->t.shape.rank + 1);
    for (uint32_t i = 0; i < x->n_in; i++)
        in[i] = mx_unsqueeze(x, MX_TMP, mx_in(x, i), axis);
    (void)mx_concat(x, 0, in, x->n_in, axis);
    return KAENA_OK;
}

/* One range of Slice in its form: None is everything on that side. */
static void range(int64_t *begin, int64_t *end, int64_t step)
{
    if (*begin == MX_NONE)
        *begin = step > 0 ? 0 : INT32_MAX;
    if (*end == MX_NONE)
        *end = step > 0 ? INT32_MAX : INT64_MIN + 1;
}

kaena_status mx_do_slice(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    int64_t begin[KAENA_MAX_RANK], end[KAENA_MAX_RANK], step[KAENA_MAX_RANK], axes[KAENA_MAX_RANK];
    uint32_t n = mx_ints(x, "begin", begin, KAENA_MAX_RANK);
    uint32_t n_end = mx_ints(x, "end", end, KAENA_MAX_RANK);
    uint32_t n_step = mx_ints(x, "step", step, KAENA_MAX_RANK);
    if (n == 0 || n != n_end || n_step > n || n > (uint32_t)v->t.shape.rank)
        return x->status != KAENA_OK
                   ? x->status
                   : MX_FAIL(x, INVALID_ARGUMENT, "begin, end and step do not fit the data");
    for (uint32_t i = 0; i < n; i++) {
        axes[i] = i;
        if (i >= n_step || step[i] == MX_NONE || step[i] == 0)
            step[i] = 1;
        range(&begin[i], &end[i], step[i]);
    }
    (void)mx_slice(x, 0, v, begin, end, axes, step, n);
    return KAENA_OK;
}

kaena_status mx_do_slice_axis(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    int64_t axis = mx_axis(x, "axis", 0, v->t.shape.rank), step = 1;
    int64_t begin = mx_int(x, "begin", 0), end = mx_int(x, "end", MX_NONE);
    range(&begin, &end, step);
    (void)mx_slice(x, 0, v, &begin, &end, &axis, &step, 1);
    return KAENA_OK;
}

kaena_status mx_do_slice_like(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0), *like = mx_in(x, 1);
    int64_t begin[KAENA_MAX_RANK] = {0}, end[KAENA_MAX_RANK], step[KAENA_MAX_RANK];
    int64_t axes[KAENA_MAX_RANK];
    uint32_t n = mx_ints(x, "axes", axes, KAENA_MAX_RANK);
    int32_t rank = v->t.shape.rank, at;
    for (int32_t i = 0; n == 0 && i < rank; i++)
        axes[i] = i;
    n = n ? n : (uint32_t)rank;
    for (uint32_t i = 0; i < n; i++) {
        if (!kop_axis(axes[i], rank, &at) || at >= like->t.shape.rank)
            return MX_FAIL(x, INVALID_ARGUMENT, "axis %" PRId64 " does not exist", axes[i]);
        end[i] = like->t.shape.dim[at];
        step[i] = 1;
    }
    (void)mx_slice(x, 0, v, begin, end, axes, step, n);
    return KAENA_OK;
}

/* |sizes| of |n| parts along |axis|, each without that dimension if |squeeze|. */
static kaena_status split(mx_xlat *x, kgr_value *v, int32_t axis, const int64_t *sizes, uint32_t n,
                          bool squeeze)
{
    kgr_value *part[MX_MAX_OUTPUTS];
    const int64_t at = axis;
    x->n_out = n;
    mx_emit_many(x, squeeze ? MX_TMP : 0, KOP_Split, MX_IN(v, mx_i64(x, sizes, n)),
                 MX_ATTRS(MX_ATTR_INT("axis", axis)), part, n);
    for (uint32_t i = 0; squeeze && i < n; i++)
        (void)mx_squeeze(x, (int32_t)i, part[i], &at, 1);
    return KAENA_OK;
}

static kaena_status split_evenly(mx_xlat *x, int64_t n, int64_t default_axis)
{
    kgr_value *v = mx_in(x, 0);
    int64_t sizes[MX_MAX_OUTPUTS];
    int32_t axis = mx_axis(x, "axis", default_axis, v->t.shape.rank);
    if (x->status == KAENA_OK && (n < 1 || n > MX_MAX_OUTPUTS || v->t.shape.dim[axis] % n != 0))
        return MX_FAIL(x, INVALID_ARGUMENT,
                       "dimension %d of %" PRId64 " does not split into %" PRId64
                       " equal parts (at most %d)",
                       axis, v->t.shape.dim[axis], n, MX_MAX_OUTPUTS);
    for (int64_t i = 0; x->status == KAENA_OK && i < n; i++)
        sizes[i] = v->t.shape.dim[axis] / n;
    if (x->status == KAENA_OK)
        return split(x, v, axis, sizes, (uint32_t)n, mx_bool(x, "squeeze_axis", false));
    return x->status;
}

kaena_status mx_do_slice_channel(mx_xlat *x)
{
    return split_evenly(x, mx_need_int(x, "num_outputs"), 1);
}

/* Equal |sections|, or parts that begin at |indices|. */
kaena_status mx_do_split_v2(mx_xlat *x)
{
    int64_t begin[MX_MAX_OUTPUTS + 1] = {0}, sections = mx_int(x, "sections", 0);
    if (sections > 0)
        return split_evenly(x, sections, 0);
    kgr_value *v = mx_in(x, 0);
    int32_t axis = mx_axis(x, "axis", 0, v->t.shape.rank);
    uint32_t n = mx_ints(x, "indices", begin, MX_MAX_OUTPUTS);
    if (n == 0)
        return MX_FAIL(x, INVALID_ARGUMENT, "neither sections nor indices");
    begin[n] = v->t.shape.dim[axis];
    for (uint32_t i = 0; i < n; i++) {
        if (begin[i] < 0 || begin[i] > begin[i + 1])
            return MX_FAIL(x, INVALID_ARGUMENT, "its indices do not ascend inside the dimension");
        begin[i] = begin[i + 1] - begin[i];
    }
    return split(x, v, axis, begin, n, mx_bool(x, "squeeze_axis", false));
}

kaena_status mx_do_crop(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    int64_t begin[2] = {0}, size[2] = {0}, end[2];
    const int64_t axes[2] = {2, 3}, step[2] = {1, 1};
    if (v->t.shape.rank != 4)
        return MX_FAIL(x, INVALID_ARGUMENT, "the data is not [batch, channels, height, width]");
    (void)mx_ints(x, "offset", begin, 2);
    if (mx_has_in(x, 1))
        memcpy(size, &mx_in(x, 1)->t.shape.dim[2], sizeof size);
    else if (mx_ints(x, "h_w", size, 2) != 2)
        return MX_FAIL(x, INVALID_ARGUMENT, "neither a second input nor h_w says the size");
    for (int i = 0; i < 2; i++) {
        int64_t room = v->t.shape.dim[2 + i] - size[i];
        if (mx_bool(x, "center_crop", false))
            begin[i] = room / 2;
        end[i] = begin[i] + size[i];
        if (room < 0 || begin[i] < 0 || begin[i] > room)
            return MX_FAIL(x, INVALID_ARGUMENT, "it crops more than there is");
    }
    (void)mx_slice(x, 0, v, begin, end, axes, step, 2);
    return KAENA_OK;
}

kaena_status mx_do_pad(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    int64_t width[2 * KAENA_MAX_RANK], pads[2 * KAENA_MAX_RANK];
    uint32_t n = mx_ints(x, "pad_width", width, 2 * KAENA_MAX_RANK);
    uint32_t rank = (uint32_t)v->t.shape.rank;
    if (n != 2 * rank)
        return x->status != KAENA_OK
                   ? x->status
                   : MX_FAIL(x, INVALID_ARGUMENT, "%u widths for %u dimensions", n, rank);
    for (uint32_t i = 0; i < rank; i++) {
        pads[i] = width[2 * i];
        pads[rank + i] = width[2 * i + 1];
    }
    kgr_value *value = mx_scalar(x, v->t.dtype, mx_float(x, "constant_value", 0));
    (void)mx_emit(x, 0, KOP_Pad, MX_IN(v, mx_i64(x, pads, n), value),
                  MX_ATTRS(MX_ATTR_STRING("mode", mx_string(x, "mode", "constant"))));
    return KAENA_OK;
}

kaena_status mx_do_reverse(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    int64_t axes[KAENA_MAX_RANK], begin[KAENA_MAX_RANK], end[KAENA_MAX_RANK], step[KAENA_MAX_RANK];
    uint32_t n = mx_ints(x, "axis", axes, KAENA_MAX_RANK);
    for (uint32_t i = 0; i < n; i++) {
        begin[i] = end[i] = MX_NONE;
        step[i] = -1;
        range(&begin[i], &end[i], step[i]);
    }
    (void)mx_slice(x, 0, v, begin, end, axes, step, n);
    return KAENA_OK;
}

/* --- Repeating ------------------------------------------------------------------------------- */

/* |v| with dimensions of 1 before until it has |rank|. */
static kgr_value *to_rank(mx_xlat *x, kgr_value *v, int32_t rank)
{
    kaena_shape s = {.rank = rank};
    int32_t more = rank - v->t.shape.rank;
    for (int32_t i = 0; i < rank; i++)
        s.dim[i] = i < more ? 1 : v->t.shape.dim[i - more];
    return more > 0 ? mx_reshape(x, MX_TMP, v, &s) : v;
}

kaena_status mx_do_tile(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    int64_t reps[KAENA_MAX_RANK], whole[KAENA_MAX_RANK];
    int32_t n = (int32_t)mx_ints(x, "reps", reps, KAENA_MAX_RANK), rank = v->t.shape.rank;
    int32_t most = n > rank ? n : rank;
    for (int32_t i = 0; i < most; i++)
        whole[i] = i < most - n ? 1 : mx_size(x, "reps", reps[i - (most - n)]);
    v = to_rank(x, v, most);
    (void)mx_2(x, 0, KOP_Tile, v, mx_i64(x, whole, (uint32_t)most));
    return KAENA_OK;
}

static kgr_value *expand(mx_xlat *x, int32_t out, kgr_value *v, const kaena_shape *s)
{
    return mx_2(x, out, KOP_Expand, v, mx_i64(x, s->dim, (uint32_t)s->rank));
}

/* Each element several times in a row: a new dimension, expanded and merged. */
kaena_status mx_do_repeat(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    int64_t times = mx_size(x, "repeats", mx_need_int(x, "repeats")), n = 1;
    if (!mx_text(x, "axis")) {
        for (int32_t i = 0; i < v->t.shape.rank; i++)
            n *= v->t.shape.dim[i];
        v = mx_reshape(x, MX_TMP, v, &(kaena_shape){1, {n}});
    }
    int32_t axis = mx_axis(x, "axis", 0, v->t.shape.rank);
    kaena_shape merged = v->t.shape, wide = {0};
    if (merged.rank == KAENA_MAX_RANK || merged.dim[axis] > INT32_MAX)
        return MX_FAIL(x, UNIMPLEMENTED, "more than %d dimensions", KAENA_MAX_RANK - 1);
    for (int32_t i = 0; i < merged.rank; i++) {
        wide.dim[wide.rank++] = merged.dim[i];
        if (i == axis)
            wide.dim[wide.rank++] = times;
    }
    merged.dim[axis] *= times;
    v = mx_unsqueeze(x, MX_TMP, v, axis + 1);
    (void)mx_reshape(x, 0, expand(x, MX_TMP, v, &wide), &merged);
    return KAENA_OK;
}

kaena_status mx_do_broadcast_to(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    kaena_shape s = {0};
    s.rank = (int32_t)mx_ints(x, "shape", s.dim, KAENA_MAX_RANK);
    int32_t more = s.rank - v->t.shape.rank;
    for (int32_t i = 0; i < s.rank; i++)
        if (s.dim[i] == 0 && i >= more && more >= 0)
            s.dim[i] = v->t.shape.dim[i - more];
    (void)expand(x, 0, v, &s);
    return KAENA_OK;
}

kaena_status mx_do_broadcast_axis(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    int64_t axes[KAENA_MAX_RANK], sizes[KAENA_MAX_RANK];
    uint32_t n = mx_ints(x, "axis", axes, KAENA_MAX_RANK);
    kaena_shape s = v->t.shape;
    if (mx_ints(x, "size", sizes, KAENA_MAX_RANK) != n)
        return MX_FAIL(x, INVALID_ARGUMENT, "axis and size have not as many values");
    for (uint32_t i = 0; i < n; i++) {
        int32_t at;
        if (!kop_axis(axes[i], s.rank, &at))
            return MX_FAIL(x, INVALID_ARGUMENT, "axis %" PRId64 " does not exist", axes[i]);
        s.dim[at] = mx_size(x, "size", sizes[i]);
    }
    (void)expand(x, 0, v, &s);
    return KAENA_OK;
}

kaena_status mx_do_broadcast_like(mx_xlat *x)
{
    kgr_value *like = mx_in(x, 1);
    if (mx_text(x, "lhs_axes") || mx_text(x, "rhs_axes"))
        return MX_FAIL(x, UNIMPLEMENTED, "lhs_axes and rhs_axes are not supported");
    (void)expand(x, 0, mx_in(x, 0), &like->t.shape);
    return KAENA_OK;
}

kaena_status mx_do_depth_space(mx_xlat *x)
{
    int64_t block = mx_size(x, "block_size", mx_need_int(x, "block_size"));
    (void)mx_emit(x, 0, x->row->op, MX_IN(mx_in(x, 0)), MX_ATTRS(MX_ATTR_INT("blocksize", block)));
    return KAENA_OK;
}

/* --- Constants ------------------------------------------------------------------------------- */

/* Zeros and the like; where dimensions are 0 the shape follows from the use. */
kaena_status mx_do_fill(mx_xlat *x)
{
    mx_value *out = &x->out[0];
    double v = strcmp(x->node->op, "_ones") == 0 ? 1 : 0;
    *out = (mx_value){.variable = MX_NO_NODE, .is_fill = true, .has_hint = true};
    out->fill = (float)mx_float(x, "value", v);
    out->dtype = mx_dtype(x, "dtype", x->imp->float_type);
    out->hint.rank = (int32_t)mx_ints(x, "shape", out->hint.dim, KAENA_MAX_RANK);
    bool open = out->hint.rank == 0;
    for (int32_t i = 0; i < out->hint.rank; i++)
        open = open || out->hint.dim[i] <= 0;
    if (out->hint.rank == 0)
        out->has_hint = false;
    return x->status != KAENA_OK || open ? x->status : mx_resolve(x->imp, out, &out->hint);
}

kaena_status mx_do_fill_like(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    (void)mx_alias(
        x, 0, mx_filled(x, v->t.dtype, &v->t.shape, strcmp(x->node->op, "ones_like") == 0 ? 1 : 0));
    return KAENA_OK;
}

static kaena_status count_up(mx_xlat *x, double start, double step, int64_t n, int64_t repeat,
                             kaena_dtype type, const kaena_shape *shape)
{
    float *v =
        n >= 0 && n <= KCC_MX_MAX_FILLED ? KAENA_NEW_N(x->imp->arena, float, (size_t)n) : NULL;
    if (!v)
        return MX_FAIL(x, RESOURCE_EXHAUSTED, "%" PRId64 " elements are too many", n);
    for (int64_t i = 0; i < n; i++)
        v[i] = (float)(start + step * (double)(i / repeat));
    (void)mx_alias(x, 0, mx_f32s(x, shape, v, type));
    return KAENA_OK;
}

kaena_status mx_do_arange(mx_xlat *x)
{
    double start = mx_float(x, "start", 0), step = mx_float(x, "step", 1);
    double stop = mx_float(x, "stop", NAN);
    int64_t repeat = mx_size(x, "repeat", mx_int(x, "repeat", 1));
    if (isnan(stop)) {
        stop = start;
        start = 0;
    }
    double n = ceil((stop - start) / step);
    if (!(n >= 0 && n * (double)repeat <= (double)KCC_MX_MAX_FILLED))
        return MX_FAIL(x, UNIMPLEMENTED, "a range of that length is not supported");
    int64_t total = (int64_t)n * repeat;
    return count_up(x, start, step, total, repeat, mx_dtype(x, "dtype", KAENA_F32),
                    &(kaena_shape){1, {total}});
}

kaena_status mx_do_arange_like(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    double start = mx_float(x, "start", 0), step = mx_float(x, "step", 1);
    int64_t repeat = mx_size(x, "repeat", mx_int(x, "repeat", 1)), n;
    kaena_shape s = v->t.shape;
    if (mx_text(x, "axis"))
        s = (kaena_shape){1, {v->t.shape.dim[mx_axis(x, "axis", 0, v->t.shape.rank)]}};
    if (x->status != KAENA_OK || !kaena_shape_elements(&s, &n))
        return x->status;
    return count_up(x, start, step, n, repeat, v->t.dtype, &s);
}

kaena_status mx_do_shape_array(mx_xlat *x)
{
    (void)mx_1(x, 0, x->row->op, mx_in(x, 0));
    return KAENA_OK;
}
