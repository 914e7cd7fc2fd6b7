/* Reductions, indices and order. Indices are numbers of the data's type in MXNet. */
#include <string.h>

#include "mx_ops.h"

static int64_t elements(const kgr_value *v)
{
    int64_t n;
    return kaena_shape_elements(&v->t.shape, &n) ? n : 0;
}

static kgr_value *flat(mx_xlat *x, kgr_value *v)
{
    return mx_reshape(x, MX_TMP, v, &(kaena_shape){1, {elements(v)}});
}

/* Indices as int64, beyond the ends brought to the end, as MXNet's mode "clip" does. */
static kgr_value *clipped(mx_xlat *x, kgr_value *v, int64_t size)
{
    v = mx_as(x, v, KAENA_I64);
    return mx_emit(x, MX_TMP, KOP_Clip,
                   MX_IN(v, mx_scalar(x, KAENA_I64, 0),
                         mx_scalar(x, KAENA_I64, (double)(size > 0 ? size - 1 : 0))),
                   MX_NO_ATTRS);
}

/* --- Reductions ------------------------------------------------------------------------------ */

/* The axes of attribute "axis": all when there are none; |exclude| takes the others. */
static uint32_t axes_of(mx_xlat *x, const kgr_value *v, int64_t *axes)
{
    int64_t said[KAENA_MAX_RANK];
    bool in[KAENA_MAX_RANK] = {false}, exclude = mx_bool(x, "exclude", false);
    uint32_t n = mx_ints(x, "axis", said, KAENA_MAX_RANK), count = 0;
    for (uint32_t i = 0; i < n; i++) {
        int32_t at;
        if (kop_axis(said[i], v->t.shape.rank, &at))
            in[at] = true;
        else if (x->status == KAENA_OK)
            (void)MX_FAIL(x, INVALID_ARGUMENT, "axis %lld does not exist", (long long)said[i]);
    }
    for (int32_t i = 0; i < v->t.shape.rank; i++)
        if (n == 0 || in[i] != exclude)
            axes[count++] = i;
    return count;
}

/* What has no dimension left has one element in one dimension. */
static kgr_value *reduced(mx_xlat *x, kop_op op, kgr_value *v, const int64_t *axes, uint32_t n)
{
    bool keep = mx_bool(x, "keepdims", false);
    bool to_one = !keep && n == (uint32_t)v->t.shape.rank;
    v = mx_reduce(x, to_one ? MX_TMP : 0, op, v, axes, n, keep);
    return to_one ? mx_reshape(x, 0, v, &(kaena_shape){1, {1}}) : v;
}

kaena_status mx_do_reduce(mx_xlat *x)
{
    int64_t axes[KAENA_MAX_RANK];
    kgr_value *v = mx_in(x, 0);
    uint32_t n = axes_of(x, v, axes);
    (void)reduced(x, x->row->op, v, axes, n);
    return KAENA_OK;
}

kaena_status mx_do_norm(mx_xlat *x)
{
    int64_t axes[KAENA_MAX_RANK], order = mx_int(x, "ord", 2);
    kgr_value *v = mx_in(x, 0);
    uint32_t n = axes_of(x, v, axes);
    if (order != 1 && order != 2)
        return MX_FAIL(x, UNIMPLEMENTED, "ord %lld is not supported", (long long)order);
    (void)reduced(x, order == 1 ? KOP_ReduceL1 : KOP_ReduceL2, v, axes, n);
    return KAENA_OK;
}

static kaena_status arg(mx_xlat *x, kgr_value *v, int32_t axis, bool keep, kaena_dtype type)
{
    kgr_value *at = mx_emit(x, MX_TMP, x->row->op, MX_IN(v),
                            MX_ATTRS(MX_ATTR_INT("axis", axis), MX_ATTR_INT("keepdims", keep)));
    (void)mx_cast(x, 0, at, type);
    return KAENA_OK;
}

kaena_status mx_do_arg(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    /* Before 0.9.5, -1 said what None says now. */
    bool all = !mx_text(x, "axis") || (x->imp->symbol->version < 905 && mx_int(x, "axis", 0) == -1);
    if (all)
        return arg(x, flat(x, v), 0, true, v->t.dtype);
    bool keep = mx_bool(x, "keepdims", false) || v->t.shape.rank == 1;
    return arg(x, v, mx_axis(x, "axis", 0, v->t.shape.rank), keep, v->t.dtype);
}

kaena_status mx_do_argmax_channel(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    if (v->t.shape.rank < 2)
        return MX_FAIL(x, INVALID_ARGUMENT, "the data has no channels");
    return arg(x, v, 1, false, v->t.dtype);
}

/* --- Indices --------------------------------------------------------------------------------- */

kaena_status mx_do_embedding(mx_xlat *x)
{
    int64_t n = mx_size(x, "input_dim", mx_need_int(x, "input_dim"));
    int64_t size = mx_size(x, "output_dim", mx_need_int(x, "output_dim"));
    kgr_value *w = mx_want(x, 1, &(kaena_shape){2, {n, size}});
    (void)mx_2(x, 0, KOP_Gather, w, clipped(x, mx_in(x, 0), n));
    return KAENA_OK;
}

kaena_status mx_do_take(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0), *at = mx_in(x, 1);
    const char *mode = mx_string(x, "mode", "clip");
    int32_t axis = mx_axis(x, "axis", 0, v->t.shape.rank);
    int64_t size = v->t.shape.dim[axis];
    if (strcmp(mode, "wrap") == 0)
        at = mx_2(x, MX_TMP, KOP_Mod, mx_as(x, at, KAENA_I64),
                  mx_scalar(x, KAENA_I64, (double)size));
    else if (strcmp(mode, "clip") == 0)
        at = clipped(x, at, size);
    else
        at = mx_as(x, at, KAENA_I64);
    (void)mx_emit(x, 0, KOP_Gather, MX_IN(v, at), MX_ATTRS(MX_ATTR_INT("axis", axis)));
    return KAENA_OK;
}

/* One element along |axis| for each place of the others. */
kaena_status mx_do_pick(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0), *at = mx_in(x, 1);
    int32_t axis = mx_axis(x, "axis", -1, v->t.shape.rank);
    kaena_shape one = v->t.shape;
    int64_t axes[1] = {axis};
    one.dim[axis] = 1;
    if (strcmp(mx_string(x, "mode", "clip"), "clip") != 0)
        return MX_FAIL(x, UNIMPLEMENTED, "only mode 'clip' is supported");
    at = mx_reshape(x, MX_TMP, clipped(x, at, v->t.shape.dim[axis]), &one);
    bool keep = mx_bool(x, "keepdims", false) || v->t.shape.rank == 1;
    v = mx_emit(x, keep ? 0 : MX_TMP, KOP_GatherElements, MX_IN(v, at),
                MX_ATTRS(MX_ATTR_INT("axis", axis)));
    if (!keep)
        (void)mx_squeeze(x, 0, v, axes, 1);
    return KAENA_OK;
}

/* The coordinates of one element stand in a column, ONNX has them in a row. */
kaena_status mx_do_gather_nd(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0), *at = mx_as(x, mx_in(x, 1), KAENA_I64);
    if (at->t.shape.rank < 1)
        return MX_FAIL(x, INVALID_ARGUMENT, "the indices are a scalar");
    at = mx_move_axis(x, MX_TMP, at, 0, at->t.shape.rank - 1);
    (void)mx_2(x, 0, KOP_GatherND, v, at);
    return KAENA_OK;
}

kaena_status mx_do_one_hot(mx_xlat *x)
{
    kaena_dtype type = mx_dtype(x, "dtype", KAENA_F32);
    const float values[2] = {(float)mx_float(x, "off_value", 0), (float)mx_float(x, "on_value", 1)};
    int64_t depth = mx_size(x, "depth", mx_need_int(x, "depth"));
    (void)mx_emit(x, 0, KOP_OneHot,
                  MX_IN(mx_as(x, mx_in(x, 0), KAENA_I64), mx_i64(x, &depth, 1),
                        mx_f32s(x, &(kaena_shape){1, {2}}, values, type)),
                  MX_ATTRS(MX_ATTR_INT("axis", -1)));
    return KAENA_OK;
}

/* --- Order ----------------------------------------------------------------------------------- */

typedef struct order {
    int64_t k; /* 0: all */
    bool ascending;
    int32_t values_at, indices_at; /* outputs, or MX_TMP */
    kaena_dtype index_type;
} order;

static kaena_status sorted(mx_xlat *x, kgr_value *v, const order *o)
{
    kgr_value *found[2];
    /* "None" is written; absent is the last axis. */
    bool all = false;
    for (uint32_t i = 0; i < x->node->n_attr; i++)
        all = all || (strcmp(x->node->attr[i].name, "axis") == 0 &&
                      strcmp(x->node->attr[i].text, "None") == 0);
    if (all)
        v = flat(x, v);
    int32_t axis = all ? 0 : mx_axis(x, "axis", -1, v->t.shape.rank);
    int64_t size = v->t.shape.dim[axis], k = o->k < 1 || o->k > size ? size : o->k;
    mx_emit_many(x, MX_TMP, KOP_TopK, MX_IN(v, mx_i64(x, &k, 1)),
                 MX_ATTRS(MX_ATTR_INT("axis", axis), MX_ATTR_INT("largest", !o->ascending),
                          MX_ATTR_INT("sorted", 1)),
                 found, 2);
    if (o->values_at != MX_TMP)
        (void)mx_1(x, o->values_at, KOP_Identity, found[0]);
    if (o->indices_at != MX_TMP)
        (void)mx_cast(x, o->indices_at, found[1], o->index_type);
    return KAENA_OK;
}

kaena_status mx_do_topk(mx_xlat *x)
{
    const char *kind = mx_string(x, "ret_typ", "indices");
    bool both = strcmp(kind, "both") == 0, value = strcmp(kind, "value") == 0;
    if (!both && !value && strcmp(kind, "indices") != 0)
        return MX_FAIL(x, UNIMPLEMENTED, "ret_typ '%s' is not supported", kind);
    x->n_out = both ? 2 : 1;
    return sorted(x, mx_in(x, 0),
                  &(order){.k = mx_int(x, "k", 1),
                           .ascending = mx_bool(x, "is_ascend", false),
                           .values_at = both || value ? 0 : MX_TMP,
                           .indices_at = both    ? 1
                                         : value ? MX_TMP
                                                 : 0,
                           .index_type = mx_dtype(x, "dtype", KAENA_F32)});
}

kaena_status mx_do_sort(mx_xlat *x)
{
    bool indices = strcmp(x->node->op, "argsort") == 0;
    return sorted(x, mx_in(x, 0),
                  &(order){.ascending = mx_bool(x, "is_ascend", true),
                           .values_at = indices ? MX_TMP : 0,
                           .indices_at = indices ? 0 : MX_TMP,
                           .index_type = mx_dtype(x, "dtype", KAENA_F32)});
}

/* --- Sequences ------------------------------------------------------------------------------- */

/* The data is [time, batch, ...], or with |batch_first| [batch, time, ...]. */
static bool sequence_shape(mx_xlat *x, const kgr_value *v, bool *batch_first)
{
    int64_t axis = mx_int(x, "axis", 0);
    if (x->status == KAENA_OK && ((axis != 0 && axis != 1) || v->t.shape.rank < 2))
        (void)MX_FAIL(x, INVALID_ARGUMENT, "the data is not [time, batch, ...]");
    *batch_first = axis == 1;
    return x->status == KAENA_OK;
}

static kgr_value *lengths_of(mx_xlat *x)
{
    return mx_as(x, mx_in(x, 1), KAENA_I64);
}

kaena_status mx_do_sequence_reverse(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    bool batch_first;
    if (!sequence_shape(x, v, &batch_first))
        return x->status;
    if (mx_bool(x, "use_sequence_length", false)) {
        (void)mx_emit(x, 0, KOP_ReverseSequence, MX_IN(v, lengths_of(x)),
                      MX_ATTRS(MX_ATTR_INT("time_axis", batch_first),
                               MX_ATTR_INT("batch_axis", !batch_first)));
        return KAENA_OK;
    }
    int64_t begin = INT32_MAX, end = INT64_MIN + 1, axis = batch_first, step = -1;
    (void)mx_slice(x, 0, v, &begin, &end, &axis, &step, 1);
    return KAENA_OK;
}

kaena_status mx_do_sequence_last(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    bool batch_first;
    if (!sequence_shape(x, v, &batch_first))
        return x->status;
    if (!mx_bool(x, "use_sequence_length", false)) {
        int64_t last = v->t.shape.dim[batch_first] - 1;
        kgr_value *at = mx_scalar(x, KAENA_I64, (double)last);
        (void)mx_emit(x, 0, KOP_Gather, MX_IN(v, at), MX_ATTRS(MX_ATTR_INT("axis", batch_first)));
        return KAENA_OK;
    }
    kgr_value *at = mx_2(x, MX_TMP, KOP_Sub, lengths_of(x), mx_scalar(x, KAENA_I64, 1));
    if (!batch_first)
        v = mx_move_axis(x, MX_TMP, v, 1, 0);
    (void)mx_emit(x, 0, KOP_GatherND, MX_IN(v, mx_unsqueeze(x, MX_TMP, at, 1)),
                  MX_ATTRS(MX_ATTR_INT("batch_dims", 1)));
    return KAENA_OK;
}

kaena_status mx_do_sequence_mask(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    bool batch_first;
    if (!sequence_shape(x, v, &batch_first))
        return x->status;
    if (!mx_bool(x, "use_sequence_length", false)) {
        (void)mx_alias(x, 0, v);
        return KAENA_OK;
    }
    int64_t time = v->t.shape.dim[batch_first], batch = v->t.shape.dim[!batch_first];
    if (time > KCC_MX_MAX_FILLED)
        return MX_FAIL(x, RESOURCE_EXHAUSTED, "the sequence is too long");
    int64_t *step = KAENA_NEW_N(x->imp->arena, int64_t, (size_t)time);
    if (!step)
        return mx_no_memory(x->imp);
    for (int64_t i = 0; i < time; i++)
        step[i] = i;
    kaena_shape st = {.rank = v->t.shape.rank}, sb = st;
    for (int32_t i = 0; i < st.rank; i++) {
        st.dim[i] = i == batch_first ? time : 1;
        sb.dim[i] = i == !batch_first ? batch : 1;
    }
    kgr_value *steps = mx_reshape(x, MX_TMP, mx_i64(x, step, (uint32_t)time), &st);
    kgr_value *lengths = mx_reshape(x, MX_TMP, lengths_of(x), &sb);
    kgr_value *inside = mx_2(x, MX_TMP, KOP_Less, steps, lengths);
    (void)mx_emit(x, 0, KOP_Where,
                  MX_IN(inside, v, mx_scalar(x, v->t.dtype, mx_float(x, "value", 0))), MX_NO_ATTRS);
    return KAENA_OK;
}

/* --- Regions --------------------------------------------------------------------------------- */

/* Regions are [batch index, x1, y1, x2, y2]. */
kaena_status mx_do_roi_align(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0), *rois = mx_in(x, 1);
    int64_t size[2] = {1, 1}, zero = 0, one = 1, five = 5, axis = 1;
    if (mx_ints(x, "pooled_size", size, 2) != 2 || rois->t.shape.rank != 2)
        return x->status != KAENA_OK
                   ? x->status
                   : MX_FAIL(x, INVALID_ARGUMENT, "pooled_size or the regions' shape is wrong");
    if (mx_bool(x, "position_sensitive", false))
        return MX_FAIL(x, UNIMPLEMENTED, "position_sensitive is not supported");
    int64_t ratio = mx_int(x, "sample_ratio", -1);
    kgr_value *batch = mx_slice(x, MX_TMP, rois, &zero, &one, &axis, &one, 1);
    batch = mx_as(x, mx_squeeze(x, MX_TMP, batch, &axis, 1), KAENA_I64);
    kgr_value *boxes = mx_slice(x, MX_TMP, rois, &one, &five, &axis, &one, 1);
    bool aligned = mx_bool(x, "aligned", false);
    (void)mx_emit(x, 0, KOP_RoiAlign, MX_IN(v, boxes, batch),
                  MX_ATTRS(MX_ATTR_INT("output_height", size[0]),
                           MX_ATTR_INT("output_width", size[1]),
                           MX_ATTR_INT("sampling_ratio", ratio < 0 ? 0 : ratio),
                           MX_ATTR_FLOAT("spatial_scale", mx_float(x, "spatial_scale", 1)),
                           MX_ATTR_STRING("coordinate_transformation_mode",
                                          aligned ? "half_pixel" : "output_half_pixel")));
    return KAENA_OK;
}
