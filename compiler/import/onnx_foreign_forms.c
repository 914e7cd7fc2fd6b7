/* Operators of other domains that are not simply those of ops.def. Each function leaves inputs and
 * attributes as the operator of its row takes them, or adds the nodes itself. */
#include <string.h>

#include "onnx_internal.h"

/* A number of the type of |like|. */
static kaena_status number_like(onnx_xlat *x, const char *what, kgr_value *like, double v,
                                kgr_value **out)
{
    KAENA_TRY(onnx_xlat_need_type(x, like));
    if (!kaena_dtype_is_float(like->t.dtype))
        return onnx_xlat_bad(x, "the input is not of a floating-point type");
    void *data = kaena_arena_alloc(x->imp->arena, kaena_dtype_size(like->t.dtype));
    if (data)
        kaena_cast(data, like->t.dtype, &v, KAENA_F64, 1);
    *out = onnx_xlat_const(x, what, like->t.dtype, &(kaena_shape){0}, data);
    return *out ? KAENA_OK : onnx_xlat_no_memory(x);
}

/* --- Gelu and its relatives ------------------------------------------------------------------- */

/* Input 1, where it is there, is added to input 0. */
static kaena_status add_bias(onnx_xlat *x)
{
    if (!onnx_xlat_in(x, 0))
        return onnx_xlat_bad(x, "the input is left out");
    if (onnx_xlat_in(x, 1)) {
        kgr_node *sum;
        KAENA_TRY(onnx_xlat_add(x, KOP_Add, "biased", x->in, 2, &sum));
        x->in[0] = sum->out[0];
    }
    x->n_in = 1;
    return KAENA_OK;
}

kaena_status onnx_foreign_biased_gelu(onnx_xlat *x)
{
    return add_bias(x);
}

kaena_status onnx_foreign_fast_gelu(onnx_xlat *x)
{
    KAENA_TRY(add_bias(x));
    return onnx_xlat_set(
        x, &(kop_attr){.name = "approximate", .type = KOP_ATTR_STRING, .u.s = "tanh"});
}

/* x * sigmoid(alpha * x) */
kaena_status onnx_foreign_quick_gelu(onnx_xlat *x)
{
    kgr_value *in = onnx_xlat_in(x, 0), *alpha;
    kgr_node *scaled, *gate;
    if (!in)
        return onnx_xlat_bad(x, "the input is left out");
    KAENA_TRY(number_like(x, "alpha", in, (double)onnx_xlat_float(x, "alpha", 1.702f), &alpha));
    KAENA_TRY(onnx_xlat_add(x, KOP_Mul, "scaled", (kgr_value *[]){in, alpha}, 2, &scaled));
    KAENA_TRY(onnx_xlat_add(x, KOP_Sigmoid, "gate", scaled->out, 1, &gate));
    x->n_attr = 0;
    return onnx_xlat_set_in(x, 1, gate->out[0]);
}

/* --- FusedMatMul ------------------------------------------------------------------------------ */

/* Input |i| with its last two dimensions exchanged. */
static kaena_status transpose(onnx_xlat *x, uint32_t i, const char *what)
{
    int32_t rank;
    int64_t perm[KAENA_MAX_RANK];
    kgr_node *n;
    KAENA_TRY(onnx_xlat_need_rank(x, x->in[i], &rank));
    if (rank < 2)
        return KAENA_OK; /* ONNX Runtime leaves a vector as it is */
    for (int32_t d = 0; d < rank; d++)
        perm[d] = d < rank - 2 ? d : 2 * rank - 3 - d;
    KAENA_TRY(onnx_xlat_add(x, KOP_Transpose, what, &x->in[i], 1, &n));
    kop_attr a = {.name = "perm", .type = KOP_ATTR_INTS, .n = (uint32_t)rank, .u.ints = perm};
    if (!kgr_attr_set(x->imp->g, n, &a))
        return onnx_xlat_no_memory(x);
    x->in[i] = n->out[0];
    return KAENA_OK;
}

kaena_status onnx_foreign_fused_matmul(onnx_xlat *x)
{
    if (!onnx_xlat_in(x, 0) || !onnx_xlat_in(x, 1))
        return onnx_xlat_bad(x, "an operand is left out");
    if (onnx_xlat_int(x, "transBatchA", 0) || onnx_xlat_int(x, "transBatchB", 0))
        return KAENA_FAIL(x->imp->err, UNIMPLEMENTED, "transBatchA and transBatchB");
    if (onnx_xlat_int(x, "transA", 0))
        KAENA_TRY(transpose(x, 0, "a"));
    if (onnx_xlat_int(x, "transB", 0))
        KAENA_TRY(transpose(x, 1, "b"));
    double alpha = (double)onnx_xlat_float(x, "alpha", 1.0f);
    x->n_attr = 0;
    x->n_in = 2;
    if (alpha == 1)
        return KAENA_OK;
    kgr_value *scale;
    kgr_node *product;
    KAENA_TRY(number_like(x, "alpha", x->in[0], alpha, &scale));
    KAENA_TRY(onnx_xlat_add(x, KOP_MatMul, "product", x->in, 2, &product));
    x->in[0] = product->out[0];
    x->in[1] = scale;
    return onnx_xlat_finish(x, KOP_Mul);
}

/* --- SkipLayerNormalization: (input, skip, scale, [shift], [bias]), without "Layer" no shift ---
 */

kaena_status onnx_foreign_skip_norm(onnx_xlat *x)
{
    bool simplified = strcmp(x->op, "RMSNormalization") == 0;
    kgr_value *shift = simplified ? NULL : onnx_xlat_in(x, 3);
    kgr_value *bias = onnx_xlat_in(x, simplified ? 3 : 4);
    if (!onnx_xlat_in(x, 0) || !onnx_xlat_in(x, 1) || !onnx_xlat_in(x, 2))
        return onnx_xlat_bad(x, "input, skip or scale is left out");
    if (simplified && ((x->n_out > 1 && x->out_names[1]) || (x->n_out > 2 && x->out_names[2])))
        return KAENA_FAIL(x->imp->err, UNIMPLEMENTED, "the mean and the deviation as outputs");
    /* The sum is an output too, the fourth. */
    const char *name = x->n_out > 3 ? x->out_names[3] : NULL;
    kgr_node *sum;
    KAENA_TRY(onnx_xlat_add(x, KOP_Add, "sum", x->in, 2, &sum));
    if (bias) {
        kgr_value *in[2] = {sum->out[0], bias};
        KAENA_TRY(onnx_xlat_add(x, KOP_Add, "biased", in, 2, &sum));
    }
    kgr_value *total = sum->out[0];
    if (name) {
        kgr_node *n =
            kgr_node_add(x->imp->g, NULL, KOP_Identity, NULL, x->pb->op_type, &total, 1, &name, 1);
        if (!n)
            return onnx_xlat_no_memory(x);
        x->out[3] = n->out[0];
    }
    x->in[0] = total;
    x->in[1] = x->in[2];
    x->in[2] = shift;
    x->n_in = 3;
    x->n_out = x->n_out > 3 ? 3 : x->n_out;
    if (!onnx_xlat_attr(x, "epsilon"))
        KAENA_TRY(onnx_xlat_set(
            x, &(kop_attr){.name = "epsilon", .type = KOP_ATTR_FLOAT, .u.f = 1e-12f}));
    if (simplified)
        x->n_out = 1;
    return KAENA_OK;
}

/* --- Quantised operators: dequantise, compute, quantise ----------------------------------------
 */

/* Inputs are (value, scale, zero point) for each operand, then scale and zero point of the result.
 */
kaena_status onnx_foreign_quantised(onnx_xlat *x)
{
    kop_op op = kop_find(x->op);
    uint32_t operands = op == KOP_Add || op == KOP_Mul ? 2 : 1;
    kgr_value *real[2];
    if (onnx_xlat_int(x, "channels_last", 0))
        return KAENA_FAIL(x->imp->err, UNIMPLEMENTED, "channels_last");
    onnx_xlat_drop(x, "channels_last");
    for (uint32_t i = 0; i <= operands; i++) {
        uint32_t at = 3 * i;
        if (!onnx_xlat_in(x, at) || (i < operands && !onnx_xlat_in(x, at + 1)))
            return onnx_xlat_bad(x, "an operand or its scale is left out");
    }
    for (uint32_t i = 0; i < operands; i++) {
        kgr_node *n;
        kgr_value *in[3] = {x->in[3 * i], x->in[3 * i + 1], x->in[3 * i + 2]};
        KAENA_TRY(onnx_xlat_add(x, KOP_DequantizeLinear, i ? "b" : "a", in, in[2] ? 3 : 2, &n));
        real[i] = n->out[0];
    }
    kgr_node *result;
    KAENA_TRY(onnx_xlat_add(x, op, "real", real, operands, &result));
    for (uint32_t i = 0; i < x->n_attr; i++) {
        if (!kgr_attr_set(x->imp->g, result, &x->attr[i]))
            return onnx_xlat_no_memory(x);
    }
    kgr_value *scale = x->in[3 * operands], *zero = onnx_xlat_in(x, 3 * operands + 1);
    x->in[0] = result->out[0];
    x->in[1] = scale;
    x->in[2] = zero;
    x->n_in = zero ? 3 : 2;
    x->n_attr = 0;
    return onnx_xlat_finish(x, KOP_QuantizeLinear);
}

/* --- LabelEncoder ------------------------------------------------------------------------------
 */

/* Its first version had a list of strings, which stand for their places, or the other way. */
kaena_status onnx_foreign_label_encoder(onnx_xlat *x)
{
    const kop_attr *classes = onnx_xlat_attr(x, "classes_strings");
    kgr_value *in = onnx_xlat_in(x, 0);
    if (!in)
        return onnx_xlat_bad(x, "the input is left out");
    if (onnx_xlat_attr(x, "keys_tensor") || onnx_xlat_attr(x, "values_tensor"))
        return KAENA_FAIL(x->imp->err, UNIMPLEMENTED,
                          "keys and values as tensors are not supported, only as lists");
    if (!classes || classes->type != KOP_ATTR_STRINGS)
        return KAENA_OK;
    kop_attr names = *classes;
    int64_t *places = KAENA_NEW_N(x->imp->arena, int64_t, names.n);
    if (!places)
        return onnx_xlat_no_memory(x);
    for (uint32_t i = 0; i < names.n; i++)
        places[i] = i;
    KAENA_TRY(onnx_xlat_need_type(x, in));
    bool from_names = in->t.dtype == KAENA_STRING;
    kop_attr numbers = {.name = from_names ? "values_int64s" : "keys_int64s",
                        .type = KOP_ATTR_INTS,
                        .n = names.n,
                        .u.ints = places};
    names.name = from_names ? "keys_strings" : "values_strings";
    onnx_xlat_drop(x, "classes_strings");
    KAENA_TRY(onnx_xlat_set(x, &names));
    return onnx_xlat_set(x, &numbers);
}
