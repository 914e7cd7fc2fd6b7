/* Activations, normalisation, and what ends a network. */
#include <string.h>

#include "mx_ops.h"

/* --- Activations ----------------------------------------------------------------------------- */

static const struct {
    const char *name;
    kop_op op;
} activations[] = {
    {"relu", KOP_Relu},         {"sigmoid", KOP_Sigmoid},   {"tanh", KOP_Tanh},
    {"softrelu", KOP_Softplus}, {"softsign", KOP_Softsign}, {"mish", KOP_Mish},
};

kaena_status mx_do_activation(mx_xlat *x)
{
    const char *type = mx_string(x, "act_type", "");
    for (size_t i = 0; i < sizeof activations / sizeof *activations; i++) {
        if (strcmp(activations[i].name, type) == 0) {
            (void)mx_1(x, 0, activations[i].op, mx_in(x, 0));
            return KAENA_OK;
        }
    }
    if (strcmp(type, "log_sigmoid") == 0)
        return mx_do_log_sigmoid(x);
    return MX_FAIL(x, UNIMPLEMENTED, "act_type '%s' is not supported", type);
}

/* One slope for all, or one for each channel, whose axis is 1. */
static void prelu(mx_xlat *x, kgr_value *v)
{
    kaena_shape data = v->t.shape;
    int64_t channels = data.rank > 1 ? data.dim[1] : 1;
    bool one = mx_has_in(x, 1) && x->in[1]->v && x->in[1]->v->t.shape.rank == 1 &&
               x->in[1]->v->t.shape.dim[0] == 1;
    kgr_value *slope = mx_want_list(x, 1, one ? 1 : channels);
    kaena_shape s = {.rank = one || data.rank < 2 ? 1 : data.rank - 1, .dim = {one ? 1 : channels}};
    for (int32_t i = 1; i < s.rank; i++)
        s.dim[i] = 1;
    (void)mx_2(x, 0, KOP_PRelu, v, mx_reshape(x, MX_TMP, slope, &s));
}

kaena_status mx_do_leaky_relu(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    const char *type = mx_string(x, "act_type", "leaky");
    double slope = mx_float(x, "slope", 0.25);
    if (strcmp(type, "rrelu") == 0)
        /* Inference takes the middle of the range. */
        slope = (mx_float(x, "lower_bound", 0.125) + mx_float(x, "upper_bound", 0.334)) / 2;
    if (strcmp(type, "leaky") == 0 || strcmp(type, "rrelu") == 0)
        (void)mx_emit(x, 0, KOP_LeakyRelu, MX_IN(v), MX_ATTRS(MX_ATTR_FLOAT("alpha", slope)));
    else if (strcmp(type, "elu") == 0)
        (void)mx_emit(x, 0, KOP_Elu, MX_IN(v), MX_ATTRS(MX_ATTR_FLOAT("alpha", slope)));
    else if (strcmp(type, "selu") == 0)
        (void)mx_1(x, 0, KOP_Selu, v);
    else if (strcmp(type, "gelu") == 0 || strcmp(type, "gelu_erf") == 0)
        (void)mx_1(x, 0, KOP_Gelu, v);
    else if (strcmp(type, "gelu_tanh") == 0)
        (void)mx_emit(x, 0, KOP_Gelu, MX_IN(v), MX_ATTRS(MX_ATTR_STRING("approximate", "tanh")));
    else if (strcmp(type, "prelu") == 0)
        prelu(x, v);
    else
        return MX_FAIL(x, UNIMPLEMENTED, "act_type '%s' is not supported", type);
    return KAENA_OK;
}

/* --- Softmax --------------------------------------------------------------------------------- */

static kgr_value *softmax_on(mx_xlat *x, int32_t out, kop_op op, kgr_value *v, int32_t axis)
{
    return mx_emit(x, out, op, MX_IN(v), MX_ATTRS(MX_ATTR_INT("axis", axis)));
}

/* Over everything but the batch, in the data's own shape. */
static void softmax_flat(mx_xlat *x, kgr_value *v)
{
    kaena_shape s = v->t.shape;
    int64_t n = 1;
    if (s.rank <= 2) {
        (void)softmax_on(x, 0, KOP_Softmax, v, -1);
        return;
    }
    for (int32_t i = 1; i < s.rank; i++)
        n *= s.dim[i];
    kgr_value *flat = mx_reshape(x, MX_TMP, v, &(kaena_shape){2, {s.dim[0], n}});
    (void)mx_reshape(x, 0, softmax_on(x, MX_TMP, KOP_Softmax, flat, 1), &s);
}

static kaena_status softmax_of(mx_xlat *x, kgr_value *v, bool by_channel)
{
    if (by_channel && v->t.shape.rank < 2)
        return MX_FAIL(x, INVALID_ARGUMENT, "the data has no channels");
    if (by_channel)
        (void)softmax_on(x, 0, KOP_Softmax, v, 1);
    else
        softmax_flat(x, v);
    return KAENA_OK;
}

kaena_status mx_do_softmax_output(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    if (mx_bool(x, "preserve_shape", false)) {
        (void)softmax_on(x, 0, KOP_Softmax, v, -1);
        return KAENA_OK;
    }
    return softmax_of(x, v, mx_bool(x, "multi_output", false));
}

kaena_status mx_do_softmax_activation(mx_xlat *x)
{
    return softmax_of(x, mx_in(x, 0), strcmp(mx_string(x, "mode", "instance"), "channel") == 0);
}

kaena_status mx_do_softmax(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    double temperature = mx_float(x, "temperature", 1);
    int32_t axis = mx_axis(x, "axis", -1, v->t.shape.rank);
    kaena_dtype type = mx_dtype(x, "dtype", v->t.dtype);
    if (mx_bool(x, "use_length", false))
        return MX_FAIL(x, UNIMPLEMENTED, "use_length is not supported");
    v = mx_as(x, v, type);
    if (temperature != 1)
        v = mx_2(x, MX_TMP, KOP_Div, v, mx_scalar(x, type, temperature));
    (void)softmax_on(x, 0, x->row->op, v, axis);
    return KAENA_OK;
}

kaena_status mx_do_softmin(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    int32_t axis = mx_axis(x, "axis", -1, v->t.shape.rank);
    kgr_value *low =
        mx_2(x, MX_TMP, KOP_Div, v, mx_scalar(x, v->t.dtype, -mx_float(x, "temperature", 1)));
    (void)softmax_on(x, 0, KOP_Softmax, low, axis);
    return KAENA_OK;
}

/* --- Normalisation --------------------------------------------------------------------------- */

kaena_status mx_do_batch_norm(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    int32_t rank = v->t.shape.rank, axis = mx_axis(x, "axis", 1, rank);
    int64_t channels = v->t.shape.dim[axis];
    if (mx_bool(x, "output_mean_var", false))
        return MX_FAIL(x, UNIMPLEMENTED, "output_mean_var is not supported");
    kgr_value *gamma = mx_want_list(x, 1, channels), *beta = mx_want_list(x, 2, channels);
    kgr_value *mean = mx_want_list(x, 3, channels), *variance = mx_want_list(x, 4, channels);
    if (mx_bool(x, "fix_gamma", true))
        gamma = mx_filled(x, gamma->t.dtype, &gamma->t.shape, 1);
    kop_attr eps = MX_ATTR_FLOAT("epsilon", mx_float(x, "eps", 1e-3));
    bool moved = axis != 1 && rank > 2;
    if (moved)
        v = mx_move_axis(x, MX_TMP, v, axis, 1);
    v = mx_emit(x, moved ? MX_TMP : 0, KOP_BatchNormalization,
                MX_IN(v, gamma, beta, mean, variance), &eps, 1);
    if (moved)
        (void)mx_move_axis(x, 0, v, 1, axis);
    return KAENA_OK;
}

kaena_status mx_do_instance_norm(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    int64_t channels = v->t.shape.rank > 1 ? v->t.shape.dim[1] : 1;
    kgr_value *gamma = mx_want_list(x, 1, channels), *beta = mx_want_list(x, 2, channels);
    (void)mx_emit(x, 0, KOP_InstanceNormalization, MX_IN(v, gamma, beta),
                  MX_ATTRS(MX_ATTR_FLOAT("epsilon", mx_float(x, "eps", 1e-3))));
    return KAENA_OK;
}

kaena_status mx_do_layer_norm(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    int32_t rank = v->t.shape.rank, axis = mx_axis(x, "axis", -1, rank);
    int64_t n = v->t.shape.dim[axis];
    kgr_value *gamma = mx_want_list(x, 1, n), *beta = mx_want_list(x, 2, n);
    if (mx_bool(x, "output_mean_var", false))
        return MX_FAIL(x, UNIMPLEMENTED, "output_mean_var is not supported");
    bool moved = axis != rank - 1;
    if (moved)
        v = mx_move_axis(x, MX_TMP, v, axis, rank - 1);
    v = mx_emit(
        x, moved ? MX_TMP : 0, KOP_LayerNormalization, MX_IN(v, gamma, beta),
        MX_ATTRS(MX_ATTR_INT("axis", -1), MX_ATTR_FLOAT("epsilon", mx_float(x, "eps", 1e-5))));
    if (moved)
        (void)mx_move_axis(x, 0, v, rank - 1, axis);
    return KAENA_OK;
}

/* Instance normalisation of groups of channels; scale and shift are each group's in MXNet 1.6, each
 * channel's later. */
kaena_status mx_do_group_norm(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    kaena_shape data = v->t.shape;
    int64_t groups = mx_size(x, "num_groups", mx_int(x, "num_groups", 1)), inner = 1;
    if (data.rank < 3 || data.dim[1] % groups != 0)
        return MX_FAIL(x, INVALID_ARGUMENT, "the channels do not divide into %lld groups",
                       (long long)groups);
    for (int32_t i = 2; i < data.rank; i++)
        inner *= data.dim[i];
    bool by_group = mx_has_in(x, 1) && x->in[1]->v && x->in[1]->v->t.shape.dim[0] == groups;
    int64_t n = by_group ? groups : data.dim[1];
    kgr_value *gamma = mx_want_list(x, 1, n), *beta = mx_want_list(x, 2, n);
    kaena_shape list = {1, {groups}},
                flat = {3, {data.dim[0], groups, data.dim[1] / groups * inner}};
    kgr_value *ones = mx_filled(x, v->t.dtype, &list, 1);
    kgr_value *zeros = mx_filled(x, v->t.dtype, &list, 0);
    v = mx_reshape(x, MX_TMP, v, &flat);
    v = mx_emit(x, MX_TMP, KOP_InstanceNormalization,
                MX_IN(v, by_group ? gamma : ones, by_group ? beta : zeros),
                MX_ATTRS(MX_ATTR_FLOAT("epsilon", mx_float(x, "eps", 1e-5))));
    v = mx_reshape(x, by_group ? 0 : MX_TMP, v, &data);
    if (by_group)
        return KAENA_OK;
    kaena_shape s = {.rank = data.rank - 1, .dim = {n}};
    for (int32_t i = 1; i < s.rank; i++)
        s.dim[i] = 1;
    v = mx_2(x, MX_TMP, KOP_Mul, v, mx_reshape(x, MX_TMP, gamma, &s));
    (void)mx_2(x, 0, KOP_Add, v, mx_reshape(x, MX_TMP, beta, &s));
    return KAENA_OK;
}

kaena_status mx_do_l2_normalization(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    const char *mode = mx_string(x, "mode", "instance");
    bool instance = strcmp(mode, "instance") == 0, spatial = strcmp(mode, "spatial") == 0;
    int64_t axes[KAENA_MAX_RANK];
    uint32_t n = 0;
    if (!instance && !spatial && strcmp(mode, "channel") != 0)
        return MX_FAIL(x, UNIMPLEMENTED, "mode '%s' is not supported", mode);
    for (int32_t i = spatial ? 2 : 1; i < v->t.shape.rank; i++)
        if (instance || spatial || i == 1)
            axes[n++] = i;
    kgr_value *sum = mx_reduce(x, MX_TMP, KOP_ReduceSumSquare, v, axes, n, true);
    sum = mx_2(x, MX_TMP, KOP_Add, sum, mx_scalar(x, v->t.dtype, mx_float(x, "eps", 1e-10)));
    (void)mx_2(x, 0, KOP_Div, v, mx_1(x, MX_TMP, KOP_Sqrt, sum));
    return KAENA_OK;
}

kaena_status mx_do_lrn(mx_xlat *x)
{
    (void)mx_emit(x, 0, KOP_LRN, MX_IN(mx_in(x, 0)),
                  MX_ATTRS(MX_ATTR_INT("size", mx_need_int(x, "nsize")),
                           MX_ATTR_FLOAT("alpha", mx_float(x, "alpha", 1e-4)),
                           MX_ATTR_FLOAT("beta", mx_float(x, "beta", 0.75)),
                           MX_ATTR_FLOAT("bias", mx_float(x, "knorm", 2))));
    return KAENA_OK;
}
