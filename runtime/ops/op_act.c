#include "ops_impl.h"

#include <math.h>

static const struct {
    const char *name;
    kop_act value;
} acts[] = {
#define KOP_ACT(name, value, expression) {#name, KOP_ACT_##name},
#include "act.def"
#undef KOP_ACT
};

const char *kop_act_name(kop_act act)
{
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        if (acts[i].value == act)
            return acts[i].name;
    return "(none)";
}

bool kop_act_parse(const char *name, kop_act *out)
{
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        if (strcmp(acts[i].name, name) == 0) {
            *out = acts[i].value;
            return true;
        }
    }
    return false;
}

static double clamp(double x, double low, double high)
{
    x = x < low ? low : x;
    return x > high ? high : x;
}

double kop_act_eval(kop_act act, double x, float alpha, float beta)
{
    double a = (double)alpha, b = (double)beta;
    if (isnan(x))
        return x;
    switch (act) {
    case KOP_ACT_IDENTITY: return x;
    case KOP_ACT_RELU: return x > 0 ? x : 0;
    case KOP_ACT_LEAKY_RELU: return x < 0 ? a * x : x;
    case KOP_ACT_CLIP: return clamp(x, a, b);
    case KOP_ACT_SIGMOID: return 1 / (1 + exp(-x));
    case KOP_ACT_TANH: return tanh(x);
    case KOP_ACT_HARD_SIGMOID: return clamp(a * x + b, 0, 1);
    case KOP_ACT_HARD_SWISH: return x * clamp(x / 6 + 0.5, 0, 1);
    case KOP_ACT_ELU: return x < 0 ? a * expm1(x) : x;
    case KOP_ACT_SELU: return x > 0 ? b * x : b * a * expm1(x);
    case KOP_ACT_SOFTPLUS: return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
    case KOP_ACT_SOFTSIGN: return x / (1 + fabs(x));
    case KOP_ACT_EXP: return exp(x);
    case KOP_ACT_LOG: return log(x);
    case KOP_ACT_SQRT: return sqrt(x);
    case KOP_ACT_RECIPROCAL: return 1 / x;
    case KOP_ACT_ERF: return erf(x);
    case KOP_ACT_GELU: return 0.5 * x * (1 + erf(x * M_SQRT1_2));
    case KOP_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case KOP_ACT_SILU: return x / (1 + exp(-x));
    case KOP_ACT_ABS: return fabs(x);
    case KOP_ACT_NEG: return -x;
    case KOP_ACT_FLOOR: return floor(x);
    case KOP_ACT_CEIL: return ceil(x);
    case KOP_ACT_ROUND: return rint(x);
    case KOP_ACT_SIGN: return (x > 0) - (x < 0);
    case KOP_ACT_SQUARE: return x * x;
    case KOP_ACT_SIN: return sin(x);
    case KOP_ACT_COS: return cos(x);
    case KOP_ACT_THRESHOLDED_RELU: return x > a ? x : 0;
    }
    return x;
}
