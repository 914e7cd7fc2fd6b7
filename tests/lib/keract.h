/* The activation functions in double, as base/act.def defines them: what kernels are held to. */
#ifndef KERACT_H
#define KERACT_H

#include <math.h>

#include "act.h"

static inline double keract_unit(double x)
{
    return fmax(0, fmin(1, x));
}

static inline double keract(kaena_act func, double x, double a, double b)
{
    switch (func) {
    case KAENA_ACT_IDENTITY:
        return x;
    case KAENA_ACT_RELU:
        return x < 0 ? 0 : x;
    case KAENA_ACT_LEAKY_RELU:
        return x < 0 ? a * x : x;
    case KAENA_ACT_CLIP:
        return fmin(fmax(x, a), b);
    case KAENA_ACT_SIGMOID:
        return 1 / (1 + exp(-x));
    case KAENA_ACT_TANH:
        return tanh(x);
    case KAENA_ACT_HARD_SIGMOID:
        return keract_unit(a * x + b);
    case KAENA_ACT_HARD_SWISH:
        return x * keract_unit(x / 6 + 0.5);
    case KAENA_ACT_ELU:
        return x < 0 ? a * expm1(x) : x;
    case KAENA_ACT_SELU:
        return x > 0 ? b * x : b * (a * exp(x) - a);
    case KAENA_ACT_SOFTPLUS:
        return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
    case KAENA_ACT_SOFTSIGN:
        return x / (1 + fabs(x));
    case KAENA_ACT_EXP:
        return exp(x);
    case KAENA_ACT_LOG:
        return log(x);
    case KAENA_ACT_SQRT:
        return sqrt(x);
    case KAENA_ACT_RECIPROCAL:
        return 1 / x;
    case KAENA_ACT_ERF:
        return erf(x);
    case KAENA_ACT_GELU:
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    case KAENA_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case KAENA_ACT_SILU:
        return x / (1 + exp(-x));
    case KAENA_ACT_ABS:
        return fabs(x);
    case KAENA_ACT_NEG:
        return -x;
    case KAENA_ACT_FLOOR:
        return floor(x);
    case KAENA_ACT_CEIL:
        return ceil(x);
    case KAENA_ACT_ROUND:
        return nearbyint(x);
    case KAENA_ACT_SIGN:
        return x > 0 ? 1 : x < 0 ? -1 : x;
    case KAENA_ACT_SQUARE:
        return x * x;
    case KAENA_ACT_SIN:
        return sin(x);
    case KAENA_ACT_COS:
        return cos(x);
    case KAENA_ACT_THRESHOLDED_RELU:
        return x > a ? x : 0;
    case KAENA_ACT_COUNT:
        break;
    }
    return NAN;
}

#endif
