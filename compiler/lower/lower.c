/* The table of lowerings, and what each operator must look like to run on a TPB. */
#include "lower.h"
#include "pack.h"

#include <string.h>

#define LARGEST_DIM INT32_MAX

static bool refuse(const char **reason, const char *why)
{
    *reason = why;
    return false;
}

static bool is_const(const kgr_node *n, uint32_t i)
{
    return i < n->n_in && n->in[i] && n->in[i]->t.data;
}

static bool device_float(kaena_dtype t)
{
    return t == KAENA_F32 || t == KAENA_BF16 || t == KAENA_F16;
}

typedef bool type_test(kaena_dtype t);

static bool is_number(kaena_dtype t)
{
    return t != KAENA_STRING && t != KAENA_DTYPE_NONE;
}

static bool is_arithmetic(kaena_dtype t)
{
    return device_float(t) || t == KAENA_I32;
}

/* Every tensor of the node: known, not empty, of an allowed type. */
static bool tensors_fit(const kgr_node *n, type_test *allowed, const char **reason)
{
    for (uint32_t k = 0; k < n->n_in + n->n_out; k++) {
        const kgr_value *v = k < n->n_in ? n->in[k] : n->out[k - n->n_in];
        if (!v)
            continue;
        int64_t elements;
        if (v->t.unranked || !kaena_shape_elements(&v->t.shape, &elements))
            return refuse(reason, "shape not known at compile time");
        bool scalar_shape = n->op == KOP_Reshape && k == 1;
        if (elements == 0 && !scalar_shape)
            return refuse(reason, "empty tensor");
        for (int32_t d = 0; d < v->t.shape.rank; d++)
            if (v->t.shape.dim[d] > LARGEST_DIM)
                return refuse(reason, "dimension too large");
        if (k < n->n_in && v->t.data)
            continue;
        if (!allowed(v->t.dtype))
            return refuse(reason, "element type the engines do not compute with");
    }
    return true;
}

static bool ok_floats(const kgr_node *n, const char **reason)
{
    return tensors_fit(n, device_float, reason);
}

static bool ok_arithmetic(const kgr_node *n, const char **reason)
{
    return tensors_fit(n, is_arithmetic, reason);
}

static bool ok_numbers(const kgr_node *n, const char **reason)
{
    return tensors_fit(n, is_number, reason);
}

static bool ok_cast(const kgr_node *n, const char **reason)
{
    return ok_numbers(n, reason);
}

static bool ok_move(const kgr_node *n, const char **reason)
{
    for (uint32_t i = 1; i < n->n_in; i++)
        if (n->in[i] && !is_const(n, i))
            return refuse(reason, "shape, start or axis is computed at run time");
    if (is_const(n, 0))
        return refuse(reason, "constant input");
    return ok_numbers(n, reason);
}

static kop_call call_of(const kgr_node *n, const kop_tensor **in, kop_tensor *out)
{
    return kgr_call(n, in, out, NULL, NULL);
}

static bool window_of(const kgr_node *n, kop_window *w)
{
    const kop_tensor *in[KOP_MAX_INPUTS];
    kop_tensor out[KOP_MAX_OUTPUTS];
    kop_call call = call_of(n, in, out);
    if (kop_window_of(&call, w) != KAENA_OK)
        return false;
    for (int32_t s = 0; s < w->spatial; s++)
        if (w->kernel[s] > 4096 || w->stride[s] > 4096 || w->dilation[s] > 4096)
            return false;
    return true;
}

/* Windows that lie on an image or a line, inside what the engines take. */
static bool fits_window(const kgr_node *n, const char **reason)
{
    kop_window w;
    if (n->in[0]->t.shape.rank > 4)
        return refuse(reason, "more than two spatial dimensions");
    if (!window_of(n, &w))
        return refuse(reason, "window larger than the engines take");
    for (int32_t s = 0; s < w.spatial; s++)
        if (w.pad_begin[s] < 0 || w.pad_end[s] < 0)
            return refuse(reason, "negative padding");
    return true;
}

static bool ok_conv(const kgr_node *n, const char **reason)
{
    if (!is_const(n, 1) ||
        (n->n_in > 2 && n->in[2] && kcc_epilogue_of(n).n_in > 2 && !is_const(n, 2)))
        return refuse(reason, "weights are computed at run time");
    return ok_floats(n, reason) && fits_window(n, reason);
}

/* Products of a batch beyond its last two dimensions, each of which has instructions of its own. */
#define MAX_UNROLLED 64

static bool ok_gemm(const kgr_node *n, const char **reason)
{
    const kop_tensor *in[KOP_MAX_INPUTS];
    kop_tensor out[1];
    kop_call call = call_of(n, in, out);
    if (!is_const(n, 1))
        return refuse(reason, "both operands are computed at run time");
    if (!ok_floats(n, reason))
        return false;
    if (kop_attr_int(&call, "transA", 0) || kop_attr_float(&call, "alpha", 1) != 1 ||
        kop_attr_float(&call, "beta", 1) != 1)
        return refuse(reason, "transposed or scaled operand");
    if (kcc_epilogue_of(n).n_in > 2 && n->in[2]) {
        const kaena_shape *c = &n->in[2]->t.shape;
        size_t elements = is_const(n, 2) ? kop_elements(&n->in[2]->t) : 0;
        int64_t columns = n->out[0]->t.shape.dim[1];
        if (!(elements == 1 ||
              ((int64_t)elements == columns && c->rank > 0 && c->dim[c->rank - 1] == columns)))
            return refuse(reason, "bias is not one value per column");
    }
    return true;
}

static bool ok_matmul(const kgr_node *n, const char **reason)
{
    if (!ok_floats(n, reason))
        return false;
    const kaena_shape *a = &n->in[0]->t.shape, *b = &n->in[1]->t.shape;
    if (a->rank < 2 || b->rank < 2)
        return refuse(reason, "one operand is a vector");
    if (b->rank > KISA_MAX_LOOPS + 3 || n->out[0]->t.shape.rank > KISA_MAX_LOOPS + 3)
        return refuse(reason, "operands of more dimensions than the PE array takes");
    int64_t unrolled = 1;
    for (int32_t d = 0; d + 4 < n->out[0]->t.shape.rank; d++)
        unrolled *= n->out[0]->t.shape.dim[d];
    if (unrolled > MAX_UNROLLED)
        return refuse(reason, "more than two batch dimensions");
    if (n->in[1]->t.data == NULL && kcc_packed_bytes(b, n->in[1]->t.dtype) == 0)
        return refuse(reason, "operand too large");
    return true;
}

static bool ok_gather(const kgr_node *n, const char **reason)
{
    if (n->in[0]->t.shape.rank == 0)
        return refuse(reason, "the table is a scalar");
    if (n->in[1]->t.dtype != KAENA_I64 && n->in[1]->t.dtype != KAENA_I32)
        return refuse(reason, "indices of a type the engines do not take");
    return ok_numbers(n, reason);
}

/* A scale or bias has one number, or one for each normalised element. */
static bool covers_rows(const kgr_node *n, const kgr_value *v)
{
    const kaena_shape *s = &n->in[0]->t.shape;
    int32_t axis;
    if (!kop_axis(kgr_attr_get_int(n, "axis", -1), s->rank, &axis))
        return false;
    size_t columns = 1, elements = kop_elements(&v->t);
    for (int32_t d = axis; d < s->rank; d++)
        columns *= (size_t)s->dim[d];
    return elements == 1 || elements == columns;
}

/* Normalisation of rows by their own statistics. */
static bool ok_norm(const kgr_node *n, const char **reason)
{
    if (n->n_out > 1 && (n->out[1]->n_uses || (n->n_out > 2 && n->out[2]->n_uses)))
        return refuse(reason, "mean or deviation are asked for");
    for (uint32_t i = 1; i < n->n_in; i++)
        if (n->in[i] && !is_const(n, i))
            return refuse(reason, "scale or bias are computed at run time");
    int64_t columns = 1;
    for (int32_t d = 0; d < n->in[0]->t.shape.rank; d++)
        columns *= n->in[0]->t.shape.dim[d] > 0 ? n->in[0]->t.shape.dim[d] : 1;
    if (columns > LARGEST_DIM)
        return refuse(reason, "dimension too large");
    if (n->op != KOP_InstanceNormalization)
        for (uint32_t i = 1; i < n->n_in; i++)
            if (n->in[i] && !covers_rows(n, n->in[i]))
                return refuse(reason, "scale or bias broadcasts over normalised dimensions");
    return ok_floats(n, reason);
}

static bool ok_integer_matmul(const kgr_node *n, const char **reason)
{
    return tensors_fit(n, is_number, reason) && kcc_integer_lowerable(n, reason);
}

static bool ok_integer_conv(const kgr_node *n, const char **reason)
{
    return ok_integer_matmul(n, reason) && fits_window(n, reason);
}

static bool ok_scaling(const kgr_node *n, const char **reason)
{
    return tensors_fit(n, is_number, reason) && kcc_scaling_lowerable(n, reason);
}

static bool ok_dynamic_scaling(const kgr_node *n, const char **reason)
{
    return tensors_fit(n, is_number, reason) && kcc_dynamic_scaling_lowerable(n, reason);
}

static bool ok_recurrent(const kgr_node *n, const char **reason)
{
    return tensors_fit(n, is_arithmetic, reason) && kcc_recurrent_lowerable(n, reason);
}

static bool ok_pool(const kgr_node *n, const char **reason)
{
    kop_window w;
    bool bytes = n->in[0]->t.dtype == KAENA_I8 || n->in[0]->t.dtype == KAENA_U8;
    if (!(bytes && n->op == KOP_MaxPool ? ok_numbers(n, reason) : ok_floats(n, reason)))
        return false;
    if (n->n_out > 1 && n->out[1]->n_uses)
        return refuse(reason, "indices are asked for");
    if (n->in[0]->t.shape.rank > 4 || n->in[0]->t.shape.rank < 3)
        return refuse(reason, "more than two spatial dimensions");
    return window_of(n, &w) || refuse(reason, "window larger than the engines take");
}

static bool ok_global_pool(const kgr_node *n, const char **reason)
{
    if (n->in[0]->t.shape.rank > 4 || n->in[0]->t.shape.rank < 3)
        return refuse(reason, "more than two spatial dimensions");
    return ok_floats(n, reason);
}

static bool ok_lrn(const kgr_node *n, const char **reason)
{
    if (n->in[0]->t.shape.rank > 4 || n->in[0]->t.shape.rank < 3)
        return refuse(reason, "more than two spatial dimensions");
    return ok_floats(n, reason);
}

static bool ok_resize(const kgr_node *n, const char **reason)
{
    const kop_tensor *in[KOP_MAX_INPUTS];
    kop_tensor out[1];
    kop_call call = call_of(n, in, out);
    const kaena_shape *a = &n->in[0]->t.shape, *b = &n->out[0]->t.shape;
    if (!ok_floats(n, reason))
        return false;
    for (uint32_t i = 1; i < n->n_in; i++)
        if (n->in[i] && !is_const(n, i))
            return refuse(reason, "sizes are computed at run time");
    if (a->rank != 4 || a->dim[0] != b->dim[0] || a->dim[1] != b->dim[1])
        return refuse(reason, "resizes more than height and width");
    if (strcmp(kop_attr_string(&call, "coordinate_transformation_mode", "half_pixel"),
               "tf_crop_and_resize") == 0)
        return refuse(reason, "crops while it resizes");
    if (kop_attr_int(&call, "antialias", 0) || kop_attr_find(&call, "axes") ||
        strcmp(kop_attr_string(&call, "keep_aspect_ratio_policy", "stretch"), "stretch") != 0)
        return refuse(reason, "antialias, axes or keep_aspect_ratio_policy");
    return true;
}

static bool ok_batch_norm(const kgr_node *n, const char **reason)
{
    if (kgr_attr_get_int(n, "training_mode", 0))
        return refuse(reason, "statistics are the batch's own");
    for (uint32_t i = 1; i < 5; i++)
        if (!is_const(n, i))
            return refuse(reason, "statistics are computed at run time");
    if (n->in[0]->t.shape.rank < 2 || n->in[0]->t.shape.rank > 5)
        return refuse(reason, "input is not a batch of channels");
    return ok_floats(n, reason);
}

static bool ok_reduce(const kgr_node *n, const char **reason)
{
    if (n->n_in > 1 && n->in[1] && !is_const(n, 1))
        return refuse(reason, "axes are computed at run time");
    if (n->in[0]->t.shape.rank > KISA_DIMS || n->in[0]->t.shape.rank == 0)
        return refuse(reason, "more than four dimensions");
    if (n->in[0]->t.shape.rank == n->out[0]->t.shape.rank && n->in[0]->t.shape.rank > 0 &&
        n->n_in > 1 && n->in[1] && kop_elements(&n->in[1]->t) == 0)
        return refuse(reason, "reduces nothing");
    return ok_floats(n, reason);
}

static bool ok_unary(const kgr_node *n, const char **reason)
{
    kaena_act act;
    float a, b;
    if (!kcc_act_of(n, &act, &a, &b))
        return refuse(reason, "parameters are computed at run time");
    return ok_floats(n, reason);
}

static bool ok_pad(const kgr_node *n, const char **reason)
{
    const kop_tensor *in[KOP_MAX_INPUTS];
    kop_tensor out[1];
    kop_call call = call_of(n, in, out);
    if (!ok_move(n, reason))
        return false;
    if (strcmp(kop_attr_string(&call, "mode", "constant"), "constant") != 0)
        return refuse(reason, "pads by reflection or repetition");
    for (size_t i = 0; i < kop_elements(&n->in[1]->t); i++)
        if (kop_get_int(&n->in[1]->t, i) < 0)
            return refuse(reason, "negative padding");
    return ok_floats(n, reason);
}

static bool ok_blocks(const kgr_node *n, const char **reason)
{
    if (n->in[0]->t.shape.rank != 4)
        return refuse(reason, "not four dimensions");
    return ok_numbers(n, reason);
}

static const kcc_row rows[KOP_COUNT] = {
#define KCC_ROW(op_, kind_, in_, out_, ok_fn, emit_fn, items_)                                     \
    [KOP_##op_] = {.op = KOP_##op_,                                                                \
                   .kind = KCC_##kind_,                                                            \
                   .in = KCC_ORDER_##in_,                                                          \
                   .out = KCC_ORDER_##out_,                                                        \
                   .lowerable = ok_##ok_fn,                                                        \
                   .emit = kcc_emit_##emit_fn,                                                     \
                   .items = KCC_##items_},
#include "lower.def"
#undef KCC_ROW
};

const kcc_row *kcc_row_of(kop_op op)
{
    return op < KOP_COUNT && rows[op].emit ? &rows[op] : NULL;
}

bool kcc_lowerable(const kgr_node *n, const char **reason)
{
    const kcc_row *row = kcc_row_of(n->op);
    if (!row)
        return refuse(reason, "no lowering for this operator");
    if (n->n_in == 0 || !n->in[0])
        return refuse(reason, "no input");
    return row->lowerable(n, reason);
}

kcc_epilogue kcc_epilogue_of(const kgr_node *n)
{
    const kop_tensor *in[KOP_MAX_INPUTS];
    kop_tensor out[KOP_MAX_OUTPUTS];
    kop_call call = call_of(n, in, out);
    kcc_epilogue e = {.act = KAENA_ACT_IDENTITY, .n_in = n->n_in};
    (void)kaena_act_parse(kop_attr_string(&call, "kaena.act", "IDENTITY"), &e.act);
    e.alpha = kop_attr_float(&call, "kaena.act_alpha", 0);
    e.beta = kop_attr_float(&call, "kaena.act_beta", 0);
    e.scale = kop_attr_float(&call, "kaena.scale", 1);
    int64_t residual = kop_attr_int(&call, "kaena.residual", 0);
    if (residual) {
        e.n_in = n->n_in - 1;
        e.residual = n->in[e.n_in];
        e.residual_after = residual == 2;
    }
    return e;
}

/* Operators that are one ACT function; alpha and beta come from attributes with these defaults. */
static const struct act_row {
    kop_op op;
    kaena_act act;
    const char *alpha, *beta; /* NULL: the default alone */
    float alpha_default, beta_default;
} acts[] = {
    {KOP_Relu, KAENA_ACT_RELU, NULL, NULL, 0, 0},
    {KOP_LeakyRelu, KAENA_ACT_LEAKY_RELU, "alpha", NULL, 0.01f, 0},
    {KOP_Sigmoid, KAENA_ACT_SIGMOID, NULL, NULL, 0, 0},
    {KOP_Tanh, KAENA_ACT_TANH, NULL, NULL, 0, 0},
    {KOP_HardSigmoid, KAENA_ACT_HARD_SIGMOID, "alpha", "beta", 0.2f, 0.5f},
    {KOP_HardSwish, KAENA_ACT_HARD_SWISH, NULL, NULL, 0, 0},
    {KOP_Elu, KAENA_ACT_ELU, "alpha", NULL, 1, 0},
    {KOP_Selu, KAENA_ACT_SELU, "alpha", "gamma", 1.67326319217681884765625f,
     1.05070102214813232421875f},
    {KOP_Softplus, KAENA_ACT_SOFTPLUS, NULL, NULL, 0, 0},
    {KOP_Softsign, KAENA_ACT_SOFTSIGN, NULL, NULL, 0, 0},
    {KOP_Exp, KAENA_ACT_EXP, NULL, NULL, 0, 0},
    {KOP_Log, KAENA_ACT_LOG, NULL, NULL, 0, 0},
    {KOP_Sqrt, KAENA_ACT_SQRT, NULL, NULL, 0, 0},
    {KOP_Reciprocal, KAENA_ACT_RECIPROCAL, NULL, NULL, 0, 0},
    {KOP_Erf, KAENA_ACT_ERF, NULL, NULL, 0, 0},
    {KOP_Abs, KAENA_ACT_ABS, NULL, NULL, 0, 0},
    {KOP_Neg, KAENA_ACT_NEG, NULL, NULL, 0, 0},
    {KOP_Floor, KAENA_ACT_FLOOR, NULL, NULL, 0, 0},
    {KOP_Ceil, KAENA_ACT_CEIL, NULL, NULL, 0, 0},
    {KOP_Round, KAENA_ACT_ROUND, NULL, NULL, 0, 0},
    {KOP_Sign, KAENA_ACT_SIGN, NULL, NULL, 0, 0},
    {KOP_Sin, KAENA_ACT_SIN, NULL, NULL, 0, 0},
    {KOP_Cos, KAENA_ACT_COS, NULL, NULL, 0, 0},
    {KOP_ThresholdedRelu, KAENA_ACT_THRESHOLDED_RELU, "alpha", NULL, 1, 0},
};

bool kcc_act_of(const kgr_node *n, kaena_act *act, float *alpha, float *beta)
{
    const kop_tensor *in[KOP_MAX_INPUTS];
    kop_tensor out[1];
    kop_call call = call_of(n, in, out);
    if (n->op == KOP_Clip) {
        for (uint32_t i = 1; i < n->n_in; i++)
            if (n->in[i] && !is_const(n, i))
                return false;
        *act = KAENA_ACT_CLIP;
        *alpha = is_const(n, 1) ? (float)kop_get_float(&n->in[1]->t, 0) : -__builtin_inff();
        *beta = is_const(n, 2) ? (float)kop_get_float(&n->in[2]->t, 0) : __builtin_inff();
        return true;
    }
    if (n->op == KOP_Gelu) {
        *act = strcmp(kop_attr_string(&call, "approximate", "none"), "tanh") == 0
                   ? KAENA_ACT_GELU_TANH
                   : KAENA_ACT_GELU;
        *alpha = *beta = 0;
        return true;
    }
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        if (acts[i].op == n->op) {
            *act = acts[i].act;
            *alpha = acts[i].alpha ? kop_attr_float(&call, acts[i].alpha, acts[i].alpha_default)
                                   : acts[i].alpha_default;
            *beta = acts[i].beta ? kop_attr_float(&call, acts[i].beta, acts[i].beta_default)
                                 : acts[i].beta_default;
            return true;
        }
    return false;
}
