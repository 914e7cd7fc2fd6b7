/* Operators that are not in ops.def because others say the same, and the families of Resize and
 * Constant. */
#include <string.h>

#include "onnx_internal.h"

/* A number of the type of |like|, whose type is known. */
static kaena_status number_like(onnx_xlat *x, const char *what, const kgr_value *like, double v,
                                kgr_value **out)
{
    if (like->t.dtype == KAENA_DTYPE_NONE || like->t.dtype == KAENA_STRING)
        return onnx_xlat_bad(x, "the input is not numeric");
    void *data = kaena_arena_alloc(x->imp->arena, kaena_dtype_size(like->t.dtype));
    if (data)
        kaena_cast(data, like->t.dtype, &v, KAENA_F64, 1);
    *out = onnx_xlat_const(x, what, like->t.dtype, &(kaena_shape){0}, data);
    return *out ? KAENA_OK : onnx_xlat_no_memory(x);
}

/* y = x * |scale| + |bias| */
static kaena_status scale_and_add(onnx_xlat *x, kgr_value *in, kgr_value *scale, kgr_value *bias)
{
    kgr_node *scaled;
    KAENA_TRY(onnx_xlat_add(x, KOP_Mul, "scaled", (kgr_value *[]){in, scale}, 2, &scaled));
    KAENA_TRY(onnx_xlat_set_in(x, 0, scaled->out[0]));
    KAENA_TRY(onnx_xlat_set_in(x, 1, bias));
    x->n_attr = 0;
    return onnx_xlat_finish(x, KOP_Add);
}

kaena_status onnx_legacy_affine(onnx_xlat *x)
{
    kgr_value *in = onnx_xlat_in(x, 0), *scale, *bias;
    if (!in)
        return onnx_xlat_bad(x, "the input is left out");
    KAENA_TRY(onnx_xlat_need_type(x, in));
    KAENA_TRY(number_like(x, "alpha", in, (double)onnx_xlat_float(x, "alpha", 1.0f), &scale));
    KAENA_TRY(number_like(x, "beta", in, (double)onnx_xlat_float(x, "beta", 0.0f), &bias));
    return scale_and_add(x, in, scale, bias);
}

/* y = x * scale + bias[channel] over images. */
kaena_status onnx_legacy_image_scaler(onnx_xlat *x)
{
    kgr_value *in = onnx_xlat_in(x, 0), *scale, *bias;
    const kop_attr *b = onnx_xlat_attr(x, "bias");
    if (!in || !b || b->type != KOP_ATTR_FLOATS)
        return onnx_xlat_bad(x, "the input or attribute 'bias' is left out");
    KAENA_TRY(onnx_xlat_need_type(x, in));
    KAENA_TRY(number_like(x, "scale", in, (double)onnx_xlat_float(x, "scale", 1.0f), &scale));
    void *data = kaena_arena_array(x->imp->arena, b->n, kaena_dtype_size(in->t.dtype));
    if (!data)
        return onnx_xlat_no_memory(x);
    kaena_cast(data, in->t.dtype, b->u.floats, KAENA_F32, b->n);
    bias = onnx_xlat_const(x, "bias", in->t.dtype, &(kaena_shape){3, {b->n, 1, 1}}, data);
    return bias ? scale_and_add(x, in, scale, bias) : onnx_xlat_no_memory(x);
}

kaena_status onnx_legacy_cast_like(onnx_xlat *x)
{
    kgr_value *like = onnx_xlat_in(x, 1);
    if (!like)
        return onnx_xlat_bad(x, "input 1 is left out");
    KAENA_TRY(onnx_xlat_need_type(x, like));
    if (like->t.dtype == KAENA_DTYPE_NONE)
        return KAENA_FAIL(x->imp->err, UNIMPLEMENTED, "the type of '%s' is not known", like->name);
    KAENA_TRY(onnx_xlat_set(
        x, &(kop_attr){.name = "to", .type = KOP_ATTR_INT, .u.i = (int64_t)like->t.dtype}));
    x->n_in = 1;
    x->op = "Cast";
    return KAENA_OK;
}

/* --- Constants ------------------------------------------------------------------------------- */

/* The tensor that an attribute of Constant says. */
static kaena_status constant_of(onnx_xlat *x, const kop_attr *a, kop_tensor *t)
{
    kaena_arena *arena = x->imp->arena;
    const char *const *strings = NULL;
    t->shape = (kaena_shape){0};
    switch (a->type) {
    case KOP_ATTR_TENSOR:
        *t = *a->u.tensor;
        return KAENA_OK;
    case KOP_ATTR_INT:
        t->dtype = KAENA_I64;
        t->data = kaena_arena_memdup(arena, &a->u.i, sizeof a->u.i);
        break;
    case KOP_ATTR_FLOAT:
        t->dtype = KAENA_F32;
        t->data = kaena_arena_memdup(arena, &a->u.f, sizeof a->u.f);
        break;
    case KOP_ATTR_INTS:
        t->dtype = KAENA_I64;
        t->shape = (kaena_shape){1, {a->n}};
        t->data = kaena_arena_memdup(arena, a->u.ints, a->n * sizeof(int64_t));
        break;
    case KOP_ATTR_FLOATS:
        t->dtype = KAENA_F32;
        t->shape = (kaena_shape){1, {a->n}};
        t->data = kaena_arena_memdup(arena, a->u.floats, a->n * sizeof(float));
        break;
    case KOP_ATTR_STRING:
        strings = &a->u.s;
        break;
    case KOP_ATTR_STRINGS:
        t->shape = (kaena_shape){1, {a->n}};
        strings = a->u.strings;
        break;
    }
    if (strings) {
        size_t n = a->type == KOP_ATTR_STRING ? 1 : a->n;
        kaena_string *s = KAENA_NEW_N(arena, kaena_string, n);
        for (size_t i = 0; s && i < n; i++)
            s[i] = (kaena_string){strings[i], strlen(strings[i])};
        t->dtype = KAENA_STRING;
        t->data = s;
    }
    return t->data ? KAENA_OK : onnx_xlat_no_memory(x);
}

kaena_status onnx_legacy_constant(onnx_xlat *x)
{
    if (x->n_attr != 1 || strncmp(x->attr[0].name, "value", 5) != 0)
        return onnx_xlat_bad(x, "a constant has exactly one attribute, its value");
    if (x->n_out == 0 || !x->out_names[0])
        return onnx_xlat_bad(x, "a constant without an output");
    kop_tensor t = {0};
    KAENA_TRY(constant_of(x, &x->attr[0], &t));
    x->out[0] = kgr_const_add(x->imp->g, x->out_names[0], t.dtype, &t.shape, t.data);
    x->done = true;
    return x->out[0] ? KAENA_OK : onnx_xlat_no_memory(x);
}

/* One value in a shape that is an attribute, an input, or another tensor's. */
kaena_status onnx_legacy_constant_fill(onnx_xlat *x)
{
    kaena_dtype dtype = (kaena_dtype)onnx_xlat_int(x, "dtype", KAENA_F32);
    const kop_attr *shape = onnx_xlat_attr(x, "shape");
    kgr_value *in = onnx_xlat_in(x, 0);
    if (kaena_dtype_size(dtype) == 0 || dtype == KAENA_STRING)
        return onnx_xlat_bad(x, "attribute 'dtype' is not a numeric type");
    if (onnx_xlat_attr(x, "extra_shape"))
        return onnx_legacy_refuse_form(x);
    if (shape && shape->type == KOP_ATTR_INTS) {
        KAENA_TRY(onnx_xlat_set_in(x, 0, onnx_xlat_i64(x, "shape", shape->u.ints, shape->n)));
    } else if (in && !onnx_xlat_int(x, "input_as_shape", 0)) {
        kgr_node *n;
        KAENA_TRY(onnx_xlat_add(x, KOP_Shape, "shape", &in, 1, &n));
        KAENA_TRY(onnx_xlat_set_in(x, 0, n->out[0]));
    }
    double v = (double)onnx_xlat_float(x, "value", 0.0f);
    kop_tensor *t = KAENA_NEW(x->imp->arena, kop_tensor);
    void *data = kaena_arena_alloc(x->imp->arena, kaena_dtype_size(dtype));
    if (!t || !data)
        return onnx_xlat_no_memory(x);
    kaena_cast(data, dtype, &v, KAENA_F64, 1);
    *t = (kop_tensor){.dtype = dtype, .shape = {1, {1}}, .data = data};
    x->n_attr = 0;
    KAENA_TRY(
        onnx_xlat_set(x, &(kop_attr){.name = "value", .type = KOP_ATTR_TENSOR, .u.tensor = t}));
    return onnx_xlat_finish(x, KOP_ConstantOfShape);
}

/* --- Dropout: without training everything passes
 * -------------------------------------------------- */

/* The mask: true (before operator set 10: 1 of the input's type) everywhere. */
static kaena_status dropout_mask(onnx_xlat *x, kgr_value *in)
{
    kgr_node *shape;
    kaena_dtype dtype = KAENA_BOOL;
    if (x->opset < 10) {
        KAENA_TRY(onnx_xlat_need_type(x, in));
        dtype = in->t.dtype;
    }
    double one = 1.0;
    void *data = kaena_arena_alloc(x->imp->arena, 8);
    if (!data || kaena_dtype_size(dtype) == 0 || dtype == KAENA_STRING)
        return onnx_xlat_bad(x, "the input is not numeric");
    kaena_cast(data, dtype, &one, KAENA_F64, 1);
    kop_tensor value = {.dtype = dtype, .shape = {1, {1}}, .data = data};
    KAENA_TRY(onnx_xlat_add(x, KOP_Shape, "shape", &in, 1, &shape));
    kgr_node *n = kgr_node_add(x->imp->g, NULL, KOP_ConstantOfShape, NULL, x->pb->op_type,
                               &shape->out[0], 1, &x->out_names[1], 1);
    if (!n ||
        !kgr_attr_set(x->imp->g, n,
                      &(kop_attr){.name = "value", .type = KOP_ATTR_TENSOR, .u.tensor = &value}))
        return onnx_xlat_no_memory(x);
    x->out[1] = n->out[0];
    return KAENA_OK;
}

kaena_status onnx_legacy_dropout(onnx_xlat *x)
{
    kgr_value *in = onnx_xlat_in(x, 0), *training = onnx_xlat_in(x, 2);
    if (!in)
        return onnx_xlat_bad(x, "the input is left out");
    if (training && (!kgr_is_const(training) || kop_elements(&training->t) != 1 ||
                     kop_get_int(&training->t, 0) != 0))
        return onnx_xlat_finish(x, KOP_Dropout);
    if (x->n_out > 1 && x->out_names[1])
        KAENA_TRY(dropout_mask(x, in));
    x->n_in = 1;
    x->n_out = 1;
    x->n_attr = 0;
    return onnx_xlat_finish(x, KOP_Identity);
}

/* --- Resize and what came before it ----------------------------------------------------------- */

static kaena_status set_string(onnx_xlat *x, const char *name, const char *value)
{
    return onnx_xlat_set(x, &(kop_attr){.name = name, .type = KOP_ATTR_STRING, .u.s = value});
}

/* (X, scales) with implied coordinates. */
kaena_status onnx_legacy_old_resize(onnx_xlat *x)
{
    kgr_value *scales = onnx_xlat_in(x, 1);
    if (!scales)
        return onnx_xlat_bad(x, "input 1, the scales, is left out");
    KAENA_TRY(onnx_xlat_set_in(x, 2, scales));
    x->in[1] = NULL;
    KAENA_TRY(set_string(x, "coordinate_transformation_mode", "asymmetric"));
    return set_string(x, "nearest_mode", "floor");
}

/* Empty constants were placeholders before inputs could be left out. */
kaena_status onnx_legacy_resize(onnx_xlat *x)
{
    for (uint32_t i = 1; i <= 3; i++) {
        kgr_value *v = onnx_xlat_in(x, i);
        if (kgr_is_const(v) && kop_elements(&v->t) == 0)
            x->in[i] = NULL;
    }
    return KAENA_OK;
}

kaena_status onnx_legacy_upsample(onnx_xlat *x)
{
    const char *mode = onnx_xlat_string(x, "mode", "nearest");
    if (!onnx_xlat_in(x, 1)) {
        /* Operator set 1: images, one attribute for each direction. */
        float scales[4] = {1.0f, 1.0f, onnx_xlat_float(x, "height_scale", 0.0f),
                           onnx_xlat_float(x, "width_scale", 0.0f)};
        if (!(scales[2] >= 1.0f && scales[3] >= 1.0f))
            return onnx_xlat_bad(x, "the scales are left out or below 1");
        const float *copy = kaena_arena_memdup(x->imp->arena, scales, sizeof scales);
        KAENA_TRY(onnx_xlat_set_in(
            x, 1, onnx_xlat_const(x, "scales", KAENA_F32, &(kaena_shape){1, {4}}, copy)));
        onnx_xlat_drop(x, "height_scale");
        onnx_xlat_drop(x, "width_scale");
    }
    KAENA_TRY(set_string(x, "mode", strcmp(mode, "bilinear") == 0 ? "linear" : mode));
    x->op = "Resize";
    return onnx_legacy_old_resize(x);
}
