/* Older forms of operators that ops.def has under the same name. */
#include <math.h>
#include <string.h>

#include "onnx_internal.h"

kaena_status onnx_legacy_refuse_form(onnx_xlat *x)
{
    return KAENA_FAIL(x->imp->err, UNIMPLEMENTED,
                      "the form of operator set %lld is not supported; export the model with a "
                      "newer one",
                      (long long)x->opset);
}

/* Before operator set 7 the second operand aligned with the first at |axis|, and only if asked to.
 */
kaena_status onnx_legacy_old_broadcast(onnx_xlat *x)
{
    const kop_attr *axis = onnx_xlat_attr(x, "axis");
    bool broadcast = onnx_xlat_int(x, "broadcast", 0) != 0;
    kgr_value *a = onnx_xlat_in(x, 0), *b = onnx_xlat_in(x, 1);
    if (broadcast && axis && a && b) {
        int32_t rank_a, rank_b;
        KAENA_TRY(onnx_xlat_need_rank(x, a, &rank_a));
        KAENA_TRY(onnx_xlat_need_rank(x, b, &rank_b));
        int32_t at;
        if (!kop_axis(axis->u.i, rank_a, &at) || at + rank_b > rank_a)
            return onnx_xlat_bad(x,
                                 "the second operand does not fit the first at attribute 'axis'");
        if (at + rank_b < rank_a) {
            KAENA_TRY(onnx_xlat_append_ones(x, b, rank_a - at - rank_b, &b));
            KAENA_TRY(onnx_xlat_set_in(x, 1, b));
        }
    }
    onnx_xlat_drop(x, "axis");
    onnx_xlat_drop(x, "broadcast");
    return KAENA_OK;
}

/* Before operator set 7 the slope was one number or one per channel, whatever the rank. */
kaena_status onnx_legacy_old_prelu(onnx_xlat *x)
{
    kgr_value *data = onnx_xlat_in(x, 0), *slope = onnx_xlat_in(x, 1);
    int32_t rank, rank_slope;
    if (!data || !slope)
        return onnx_xlat_bad(x, "an input is left out");
    KAENA_TRY(onnx_xlat_need_rank(x, data, &rank));
    KAENA_TRY(onnx_xlat_need_rank(x, slope, &rank_slope));
    if (rank_slope != 1 || slope->t.shape.dim[0] == 1 || rank <= 2)
        return KAENA_OK;
    KAENA_TRY(onnx_xlat_append_ones(x, slope, rank - 2, &slope));
    return onnx_xlat_set_in(x, 1, slope);
}

/* The shape of |v| as a constant where it is known, else computed. */
static kaena_status shape_of(onnx_xlat *x, kgr_value *v, kgr_value **out)
{
    if (kaena_shape_known(&v->t.shape)) {
        *out = onnx_xlat_i64(x, "shape", v->t.shape.dim, (uint32_t)v->t.shape.rank);
        return *out ? KAENA_OK : onnx_xlat_no_memory(x);
    }
    kgr_node *n;
    KAENA_TRY(onnx_xlat_add(x, KOP_Shape, "shape", &v, 1, &n));
    *out = n->out[0];
    return KAENA_OK;
}

/* Before operator set 13 everything from |axis| on was one dimension. */
kaena_status onnx_legacy_flat_softmax(onnx_xlat *x)
{
    kgr_value *v = onnx_xlat_in(x, 0);
    kop_op op = kop_find(x->op);
    int32_t rank, axis;
    if (op == KOP_NONE)
        return onnx_legacy_refuse_form(x);
    if (!v)
        return onnx_xlat_bad(x, "the input is left out");
    KAENA_TRY(onnx_xlat_need_rank(x, v, &rank));
    if (!kop_axis(onnx_xlat_int(x, "axis", 1), rank, &axis))
        return onnx_xlat_bad(x, "attribute 'axis' is outside of the input's rank");
    /* Where at most one of the dimensions is not 1, it alone is the flat one. */
    int32_t only = rank - 1, n_large = 0;
    for (int32_t i = axis; i < rank; i++) {
        if (v->t.shape.dim[i] != 1) {
            only = i;
            n_large++;
        }
    }
    kop_attr attr = {.name = "axis", .type = KOP_ATTR_INT, .u.i = n_large <= 1 ? only : -1};
    if (n_large <= 1)
        return onnx_xlat_set(x, &attr);
    kgr_node *flat, *soft;
    KAENA_TRY(onnx_xlat_add(x, KOP_Flatten, "flat", &v, 1, &flat));
    KAENA_TRY(onnx_xlat_add(x, op, "rows", &flat->out[0], 1, &soft));
    if (!kgr_attr_int(x->imp->g, flat, "axis", axis) || !kgr_attr_set(x->imp->g, soft, &attr))
        return onnx_xlat_no_memory(x);
    kgr_value *shape;
    KAENA_TRY(shape_of(x, v, &shape));
    KAENA_TRY(onnx_xlat_set_in(x, 0, soft->out[0]));
    KAENA_TRY(onnx_xlat_set_in(x, 1, shape));
    x->n_attr = 0;
    return onnx_xlat_finish(x, KOP_Reshape);
}

kaena_status onnx_legacy_batch_norm(onnx_xlat *x)
{
    if (onnx_xlat_int(x, "spatial", 1) == 0)
        return KAENA_FAIL(x->imp->err, UNIMPLEMENTED,
                          "normalising every position by itself (spatial = 0) is not supported");
    /* Before operator set 14 other outputs than the first said that this is training. */
    bool training = false;
    for (uint32_t i = 1; i < x->n_out && x->opset < 14; i++)
        training |= x->out_names[i] != NULL;
    if (training)
        return KAENA_FAIL(x->imp->err, UNIMPLEMENTED,
                          "training is not supported in this operator set; export the model for "
                          "inference, or with operator set 14 or newer");
    onnx_xlat_drop(x, "spatial");
    onnx_xlat_drop(x, "is_test");
    if (onnx_xlat_int(x, "training_mode", 0) == 0)
        onnx_xlat_drop(x, "training_mode");
    return KAENA_OK;
}

/* Before operator set 6 the type had its name. */
kaena_status onnx_legacy_cast_to_name(onnx_xlat *x)
{
    /* In the order of their numbers, from 1. */
    static const char *const names[] = {"FLOAT",  "UINT8",  "INT8",   "UINT16", "INT16",
                                        "INT32",  "INT64",  "STRING", "BOOL",   "FLOAT16",
                                        "DOUBLE", "UINT32", "UINT64"};
    const char *to = onnx_xlat_string(x, "to", "");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i], to) == 0)
            return onnx_xlat_set(
                x, &(kop_attr){.name = "to", .type = KOP_ATTR_INT, .u.i = (int64_t)i + 1});
    }
    return KAENA_FAIL(x->imp->err, INVALID_ARGUMENT, "there is no element type '%s'", to);
}

/* The exponent was a float. */
kaena_status onnx_legacy_float_p(onnx_xlat *x)
{
    float p = onnx_xlat_float(x, "p", 2.0f);
    if (!(p >= 1.0f && p <= 1e6f) || floorf(p) != p)
        return KAENA_FAIL(x->imp->err, UNIMPLEMENTED, "p = %g is not a whole number from 1 up",
                          (double)p);
    return onnx_xlat_set(x, &(kop_attr){.name = "p", .type = KOP_ATTR_INT, .u.i = (int64_t)p});
}

/* Modes got the names that Resize has. */
kaena_status onnx_legacy_grid_sample(onnx_xlat *x)
{
    const char *mode = onnx_xlat_string(x, "mode", "bilinear");
    if (strcmp(mode, "bilinear") == 0)
        mode = "linear";
    else if (strcmp(mode, "bicubic") == 0)
        mode = "cubic";
    return onnx_xlat_set(x, &(kop_attr){.name = "mode", .type = KOP_ATTR_STRING, .u.s = mode});
}

/* Scale and bias were one per group; now they are one per channel. */
kaena_status onnx_legacy_group_norm(onnx_xlat *x)
{
    kgr_value *data = onnx_xlat_in(x, 0);
    int64_t groups = onnx_xlat_int(x, "num_groups", 0);
    int32_t rank;
    if (!data || groups < 1)
        return onnx_xlat_bad(x, "the input is left out or attribute 'num_groups' is not from 1 up");
    KAENA_TRY(onnx_xlat_need_rank(x, data, &rank));
    int64_t channels = rank >= 2 ? data->t.shape.dim[1] : 0;
    if (channels < 1 || channels % groups)
        return onnx_xlat_bad(x, "the channels are not a known multiple of attribute 'num_groups'");
    for (uint32_t i = 1; i <= 2; i++) {
        kgr_node *n;
        kgr_value *in[2] = {onnx_xlat_in(x, i)};
        int64_t column[2] = {groups, 1}, wide[2] = {groups, channels / groups};
        in[1] = onnx_xlat_i64(x, "column_shape", column, 2);
        if (!in[0] || !in[1])
            return onnx_xlat_bad(x, "scale or bias is left out");
        KAENA_TRY(onnx_xlat_add(x, KOP_Reshape, "column", in, 2, &n));
        in[0] = n->out[0];
        if (!(in[1] = onnx_xlat_i64(x, "wide_shape", wide, 2)))
            return onnx_xlat_no_memory(x);
        KAENA_TRY(onnx_xlat_add(x, KOP_Expand, "wide", in, 2, &n));
        in[0] = n->out[0];
        if (!(in[1] = onnx_xlat_i64(x, "channels", &channels, 1)))
            return onnx_xlat_no_memory(x);
        KAENA_TRY(onnx_xlat_add(x, KOP_Reshape, "per_channel", in, 2, &n));
        KAENA_TRY(onnx_xlat_set_in(x, i, n->out[0]));
    }
    return KAENA_OK;
}

/* All parts have to exist, wanted or not: their number decides the sizes where no input gives them.
 */
kaena_status onnx_legacy_split(onnx_xlat *x)
{
    for (uint32_t i = 0; i < x->n_out; i++) {
        if (!x->out_names[i] &&
            !(x->out_names[i] = kaena_arena_printf(x->imp->arena, "%s::part%u", x->label, i)))
            return onnx_xlat_no_memory(x);
    }
    if (onnx_xlat_in(x, 1) || onnx_xlat_attr(x, "num_outputs"))
        return KAENA_OK;
    return onnx_xlat_set(x,
                         &(kop_attr){.name = "num_outputs", .type = KOP_ATTR_INT, .u.i = x->n_out});
}

/* One number of repeats and one axis became a number for each axis. */
kaena_status onnx_legacy_old_tile(onnx_xlat *x)
{
    kgr_value *data = onnx_xlat_in(x, 0), *tiles = onnx_xlat_in(x, 1), *axis = onnx_xlat_in(x, 2);
    if (!data || !kgr_is_const(tiles) || !kgr_is_const(axis) || kop_elements(&tiles->t) != 1 ||
        kop_elements(&axis->t) != 1)
        return KAENA_FAIL(
            x->imp->err, UNIMPLEMENTED,
            "in operator set %lld 'tiles' and 'axis' must be constants of one element",
            (long long)x->opset);
    int32_t rank, at;
    KAENA_TRY(onnx_xlat_need_rank(x, data, &rank));
    int64_t repeats[KAENA_MAX_RANK];
    for (int32_t i = 0; i < rank; i++)
        repeats[i] = 1;
    if (!kop_axis(kop_get_int(&axis->t, 0), rank, &at))
        return onnx_xlat_bad(x, "'axis' is outside of the input's rank");
    repeats[at] = kop_get_int(&tiles->t, 0);
    KAENA_TRY(onnx_xlat_set_in(x, 1, onnx_xlat_i64(x, "repeats", repeats, (uint32_t)rank)));
    x->n_in = 2;
    return KAENA_OK;
}
