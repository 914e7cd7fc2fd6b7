#include "ops_impl.h"

#include <math.h>

/* Each function maps |n| doubles in place; a and b are the operator's parameters. */
typedef void (*map_fn)(double *x, size_t n, double a, double b);

#define MAP(name, expression)                                                                      \
    static void map_##name(double *x_, size_t n, double a, double b)                               \
    {                                                                                              \
        (void)a;                                                                                   \
        (void)b;                                                                                   \
        for (size_t i = 0; i < n; i++) {                                                           \
            double x = x_[i];                                                                      \
            x_[i] = (expression);                                                                  \
        }                                                                                          \
    }

static double hard(double v)
{
    return v < 0 ? 0 : v > 1 ? 1 : v;
}

static double softplus(double x)
{
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

MAP(Abs, fabs(x))
MAP(Acos, acos(x))
MAP(Acosh, acosh(x))
MAP(Asin, asin(x))
MAP(Asinh, asinh(x))
MAP(Atan, atan(x))
MAP(Atanh, atanh(x))
MAP(Ceil, ceil(x))
MAP(Celu, x > 0 ? x : a * expm1(x / a))
MAP(Cos, cos(x))
MAP(Cosh, cosh(x))
MAP(Elu, x < 0 ? a * expm1(x) : x)
MAP(Erf, erf(x))
MAP(Exp, exp(x))
MAP(Floor, floor(x))
MAP(Gelu,
    a != 0 ? kop_act_eval(KAENA_ACT_GELU_TANH, x, 0, 0) : kop_act_eval(KAENA_ACT_GELU, x, 0, 0))
MAP(HardSigmoid, hard(a *x + b))
MAP(HardSwish, x *hard(x / 6 + 0.5))
MAP(IsInf, isinf(x) && ((x < 0 && a != 0) || (x > 0 && b != 0)))
MAP(IsNaN, isnan(x))
MAP(LeakyRelu, x < 0 ? a * x : x)
MAP(Log, log(x))
MAP(Mish, x *tanh(softplus(x)))
MAP(Neg, -x)
MAP(Reciprocal, 1 / x)
MAP(Relu, x < 0 ? 0 : x)
MAP(Round, rint(x))
MAP(Selu, x > 0 ? b * x : b * a * expm1(x))
MAP(Shrink, x<-a ? x + b : x> a ? x - b : 0)
MAP(Sigmoid, 1 / (1 + exp(-x)))
MAP(Sign, isnan(x) ? x : (x > 0) - (x < 0))
MAP(Sin, sin(x))
MAP(Sinh, sinh(x))
MAP(Softplus, softplus(x))
MAP(Softsign, x / (1 + fabs(x)))
MAP(Sqrt, sqrt(x))
MAP(Swish, x / (1 + exp(-a * x)))
MAP(Tan, tan(x))
MAP(Tanh, tanh(x))
MAP(ThresholdedRelu, x > a ? x : 0)

/* How integers go through operators that take them. */
typedef enum int_rule { NO_INTS, INT_ABS, INT_NEG, INT_RELU, INT_SIGN, INT_NOT, BOOL_NOT } int_rule;

static const struct unary_row {
    map_fn map; /* NULL: integers only */
    uint32_t types;
    int_rule ints;
    bool to_bool;
    const char *a_name, *b_name; /* attributes, float or int */
    float a, b;                  /* their defaults */
} table[KOP_COUNT] = {
    [KOP_Abs] = {.map = map_Abs, .types = KOP_T_NUM, .ints = INT_ABS},
    [KOP_Acos] = {.map = map_Acos, .types = KOP_T_FLOAT},
    [KOP_Acosh] = {.map = map_Acosh, .types = KOP_T_FLOAT},
    [KOP_Asin] = {.map = map_Asin, .types = KOP_T_FLOAT},
    [KOP_Asinh] = {.map = map_Asinh, .types = KOP_T_FLOAT},
    [KOP_Atan] = {.map = map_Atan, .types = KOP_T_FLOAT},
    [KOP_Atanh] = {.map = map_Atanh, .types = KOP_T_FLOAT},
    [KOP_BitwiseNot] = {.types = KOP_T_INT, .ints = INT_NOT},
    [KOP_Ceil] = {.map = map_Ceil, .types = KOP_T_FLOAT},
    [KOP_Celu] = {.map = map_Celu, .types = KOP_T_FLOAT, .a_name = "alpha", .a = 1},
    [KOP_Cos] = {.map = map_Cos, .types = KOP_T_FLOAT},
    [KOP_Cosh] = {.map = map_Cosh, .types = KOP_T_FLOAT},
    [KOP_Elu] = {.map = map_Elu, .types = KOP_T_FLOAT, .a_name = "alpha", .a = 1},
    [KOP_Erf] = {.map = map_Erf, .types = KOP_T_NUM},
    [KOP_Exp] = {.map = map_Exp, .types = KOP_T_FLOAT},
    [KOP_Floor] = {.map = map_Floor, .types = KOP_T_FLOAT},
    [KOP_Gelu] = {.map = map_Gelu, .types = KOP_T_FLOAT},
    [KOP_HardSigmoid] = {.map = map_HardSigmoid,
                         .types = KOP_T_FLOAT,
                         .a_name = "alpha",
                         .b_name = "beta",
                         .a = 0.2f,
                         .b = 0.5f},
    [KOP_HardSwish] = {.map = map_HardSwish, .types = KOP_T_FLOAT},
    [KOP_IsInf] = {.map = map_IsInf,
                   .types = KOP_T_FLOAT,
                   .to_bool = true,
                   .a_name = "detect_negative",
                   .b_name = "detect_positive",
                   .a = 1,
                   .b = 1},
    [KOP_IsNaN] = {.map = map_IsNaN, .types = KOP_T_FLOAT, .to_bool = true},
    [KOP_LeakyRelu] = {.map = map_LeakyRelu, .types = KOP_T_FLOAT, .a_name = "alpha", .a = 0.01f},
    [KOP_Log] = {.map = map_Log, .types = KOP_T_FLOAT},
    [KOP_Mish] = {.map = map_Mish, .types = KOP_T_FLOAT},
    [KOP_Neg] = {.map = map_Neg, .types = KOP_T_FLOAT | KOP_T_SIGNED, .ints = INT_NEG},
    [KOP_Not] = {.types = KOP_T_BOOL, .ints = BOOL_NOT},
    [KOP_Reciprocal] = {.map = map_Reciprocal, .types = KOP_T_FLOAT},
    [KOP_Relu] = {.map = map_Relu, .types = KOP_T_FLOAT | KOP_T_SIGNED, .ints = INT_RELU},
    [KOP_Round] = {.map = map_Round, .types = KOP_T_FLOAT},
    [KOP_Selu] = {.map = map_Selu,
                  .types = KOP_T_FLOAT,
                  .a_name = "alpha",
                  .b_name = "gamma",
                  .a = 1.67326319217681884765625f,
                  .b = 1.05070102214813232421875f},
    [KOP_Shrink] = {.map = map_Shrink,
                    .types = KOP_T_NUM,
                    .a_name = "lambd",
                    .b_name = "bias",
                    .a = 0.5f,
                    .b = 0},
    [KOP_Sigmoid] = {.map = map_Sigmoid, .types = KOP_T_FLOAT},
    [KOP_Sign] = {.map = map_Sign, .types = KOP_T_NUM, .ints = INT_SIGN},
    [KOP_Sin] = {.map = map_Sin, .types = KOP_T_FLOAT},
    [KOP_Sinh] = {.map = map_Sinh, .types = KOP_T_FLOAT},
    [KOP_Softplus] = {.map = map_Softplus, .types = KOP_T_FLOAT},
    [KOP_Softsign] = {.map = map_Softsign, .types = KOP_T_FLOAT},
    [KOP_Sqrt] = {.map = map_Sqrt, .types = KOP_T_FLOAT},
    [KOP_Swish] = {.map = map_Swish, .types = KOP_T_FLOAT, .a_name = "alpha", .a = 1},
    [KOP_Tan] = {.map = map_Tan, .types = KOP_T_FLOAT},
    [KOP_Tanh] = {.map = map_Tanh, .types = KOP_T_FLOAT},
    [KOP_ThresholdedRelu] = {.map = map_ThresholdedRelu,
                             .types = KOP_T_FLOAT,
                             .a_name = "alpha",
                             .a = 1},
};

kaena_status kop_infer_unary(kop_call *call)
{
    const struct unary_row *row = &table[call->op];
    KAENA_TRY(kop_need(call, 0, row->types));
    call->out[0] = *call->in[0];
    call->out[0].data = NULL;
    if (row->to_bool)
        call->out[0].dtype = KAENA_BOOL;
    if (call->op == KOP_Gelu && !kop_attr_is(call, "approximate", "none", "none") &&
        !kop_attr_is(call, "approximate", "none", "tanh"))
        return KOP_BAD(call, "approximate must be 'none' or 'tanh'");
    return KAENA_OK;
}

static double parameter(const kop_call *call, const char *name, float otherwise)
{
    const kop_attr *a = name ? kop_attr_find(call, name) : NULL;
    if (a && a->type == KOP_ATTR_INT)
        return (double)a->u.i;
    return (double)(a && a->type == KOP_ATTR_FLOAT ? a->u.f : otherwise);
}

static void map_ints(int_rule rule, bool is_unsigned, int64_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int64_t v = x[i];
        bool negative = v < 0 && !is_unsigned;
        switch (rule) {
        case INT_ABS:
            x[i] = negative ? (int64_t)(0 - (uint64_t)v) : v;
            break;
        case INT_NEG:
            x[i] = (int64_t)(0 - (uint64_t)v);
            break;
        case INT_RELU:
            x[i] = negative ? 0 : v;
            break;
        case INT_SIGN:
            x[i] = negative ? -1 : v != 0;
            break;
        case INT_NOT:
            x[i] = ~v;
            break;
        case BOOL_NOT:
            x[i] = !v;
            break;
        case NO_INTS:
            break;
        }
    }
}

kaena_status kop_eval_unary(kop_call *call)
{
    const struct unary_row *row = &table[call->op];
    const kop_tensor *in = call->in[0];
    kop_tensor *out = &call->out[0];
    size_t n = kop_elements(in);
    bool ints = row->ints != NO_INTS && !kaena_dtype_is_float(in->dtype);
    double a = parameter(call, row->a_name, row->a), b = parameter(call, row->b_name, row->b);
    if (call->op == KOP_Gelu)
        a = kop_attr_is(call, "approximate", "none", "tanh");
    for (size_t at = 0; at < n; at += KOP_CHUNK) {
        size_t m = n - at < KOP_CHUNK ? n - at : KOP_CHUNK;
        if (ints) {
            int64_t x[KOP_CHUNK];
            kop_load_i64(in, at, m, x);
            map_ints(row->ints, kop_kind_of(in->dtype) == KOP_KIND_UNSIGNED, x, m);
            kop_store_i64(out, at, m, x);
        } else {
            double x[KOP_CHUNK];
            kop_load_f64(in, at, m, x);
            row->map(x, m, a, b);
            kop_store_f64(out, at, m, x);
        }
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* --- Clip: bounds are inputs --- */

kaena_status kop_infer_clip(kop_call *call)
{
    KAENA_TRY(kop_need(call, 0, KOP_T_NUM));
    for (uint32_t i = 1; i < 3; i++) {
        KAENA_TRY(kop_need_same(call, 0, i));
        const kop_tensor *t = kop_in(call, i);
        if (kop_known(t) && kop_elements(t) != 1)
            return KOP_BAD(call, "input %u, a bound, must have one element", i);
    }
    call->out[0] = *call->in[0];
    call->out[0].data = NULL;
    return KAENA_OK;
}

kaena_status kop_eval_clip(kop_call *call)
{
    const kop_tensor *in = call->in[0], *low = kop_in(call, 1), *high = kop_in(call, 2);
    kop_tensor *out = &call->out[0];
    size_t n = kop_elements(in);
    kop_kind kind = kop_kind_of(in->dtype);
    double fl = kop_in_scalar(call, 1, -INFINITY), fh = kop_in_scalar(call, 2, INFINITY);
    int64_t il = low ? kop_get_int(low, 0) : 0, ih = high ? kop_get_int(high, 0) : 0;
    for (size_t at = 0; at < n; at += KOP_CHUNK) {
        size_t m = n - at < KOP_CHUNK ? n - at : KOP_CHUNK;
        if (kind == KOP_KIND_FLOAT) {
            double x[KOP_CHUNK];
            kop_load_f64(in, at, m, x);
            for (size_t i = 0; i < m; i++) {
                x[i] = x[i] < fl ? fl : x[i];
                x[i] = x[i] > fh ? fh : x[i];
            }
            kop_store_f64(out, at, m, x);
        } else {
            int64_t x[KOP_CHUNK];
            kop_load_i64(in, at, m, x);
            for (size_t i = 0; i < m; i++) {
                bool u = kind == KOP_KIND_UNSIGNED;
                if (low && (u ? (uint64_t)x[i] < (uint64_t)il : x[i] < il))
                    x[i] = il;
                if (high && (u ? (uint64_t)x[i] > (uint64_t)ih : x[i] > ih))
                    x[i] = ih;
            }
            kop_store_i64(out, at, m, x);
        }
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}
