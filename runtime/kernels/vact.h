/* The activation functions of base/act.def on vectors, and what follows an accumulator.
 *
 * Arguments come out of arithmetic, so no denormal reaches these. NaN in gives NaN out, but for
 * THRESHOLDED_RELU, whose comparison is false for NaN. */
#ifndef KER_VACT_H
#define KER_VACT_H

#include "ker.h"
#include "vmath.h"

KER_INLINE vf v_clip(vf x, vf lo, vf hi)
{
    return v_min(hi, v_max(lo, x));
}

KER_INLINE vf v_sign(vf x)
{
    const vf one = v_set1(1.0f), zero = v_zero();
    vf y = v_sel(v_lt(x, zero), v_neg(one), v_sel(v_lt(zero, x), one, zero));
    return v_sel(v_unord(x, x), x, y);
}

/* x times the normal distribution's integral up to x: h = erfc(c) / 2 = 2^(q(c) - 1), c = |x| /
 * sqrt(2), is that integral below zero, and what it lacks to 1 above. q is a minimax fit to
 * log2(erfc(c)) on [0, 4] for the error of the product; from there on h counts as 0. */
KER_INLINE vf v_gelu(vf x)
{
    const vf most = v_set1(4.0f), magic = v_set1(12582912.0f); /* see v_nearest */
    vf c = v_min(most, v_mul(v_abs(x), v_set1(0.707106781f)));
    vf q = V_POLY(c, 8.955933e-08f, -1.6279155f, -0.91832614f, -0.1488956f, 0.029109616f,
                  -0.0016489181f, -0.0010544175f, 0.00036290853f, -5.1086266e-05f, 2.825721e-06f);
    vf whole = v_add(q, magic), r = v_sub(q, v_sub(whole, magic));
    vf y = V_POLY(r, 0.5f, 0.34657359f, 0.12011323f, 0.027751643f, 0.0048092445f, 0.00066999655f,
                  7.672906e-05f);
    vf h = vi_as_vf(vi_add(vf_as_vi(y), vi_shl(vf_as_vi(whole), 23)));
    h = v_sel(v_lt(c, most), h, v_zero());
    return v_mul(x, v_sel(v_lt(x, v_zero()), h, v_sub(v_set1(1.0f), h)));
}

KER_INLINE vf v_gelu_tanh(vf x)
{
    vf cube = v_mul(v_mul(x, x), x);
    vf inner = v_mul(v_set1(0.797884561f), v_fma(v_set1(0.044715f), cube, x));
    return v_mul(v_mul(v_set1(0.5f), x), v_add(v_set1(1.0f), v_tanh(inner)));
}

/* |func| is a constant where this is called in a loop: the switch is gone by then. */
KER_INLINE vf v_act(kaena_act func, vf x, vf a, vf b)
{
    const vf zero = v_zero(), one = v_set1(1.0f);
    switch (func) {
    case KAENA_ACT_IDENTITY:
        return x;
    case KAENA_ACT_RELU:
        return v_max(zero, x);
    case KAENA_ACT_LEAKY_RELU:
        return v_sel(v_lt(x, zero), v_mul(a, x), x);
    case KAENA_ACT_CLIP:
        return v_clip(x, a, b);
    case KAENA_ACT_SIGMOID:
        return v_sigmoid(x);
    case KAENA_ACT_TANH:
        return v_tanh(x);
    case KAENA_ACT_HARD_SIGMOID:
        return v_clip(v_fma(a, x, b), zero, one);
    case KAENA_ACT_HARD_SWISH:
        return v_mul(x, v_clip(v_fma(x, v_set1(1.0f / 6.0f), v_set1(0.5f)), zero, one));
    case KAENA_ACT_ELU:
        return v_sel(v_lt(x, zero), v_mul(a, v_sub(v_exp(x), one)), x);
    case KAENA_ACT_SELU:
        return v_sel(v_lt(zero, x), v_mul(b, x), v_mul(b, v_fma(a, v_exp(x), v_neg(a))));
    case KAENA_ACT_SOFTPLUS:
        return v_softplus(x);
    case KAENA_ACT_SOFTSIGN:
        return v_div(x, v_add(one, v_abs(x)));
    case KAENA_ACT_EXP:
        return v_exp(x);
    case KAENA_ACT_LOG:
        return v_log(x);
    case KAENA_ACT_SQRT:
        return v_sqrt(x);
    case KAENA_ACT_RECIPROCAL:
        return v_div(one, x);
    case KAENA_ACT_ERF:
        return v_erf(x);
    case KAENA_ACT_GELU:
        return v_gelu(x);
    case KAENA_ACT_GELU_TANH:
        return v_gelu_tanh(x);
    case KAENA_ACT_SILU:
        return v_mul(x, v_sigmoid(x));
    case KAENA_ACT_ABS:
        return v_abs(x);
    case KAENA_ACT_NEG:
        return v_neg(x);
    case KAENA_ACT_FLOOR:
        return v_floor(x);
    case KAENA_ACT_CEIL:
        return v_ceil(x);
    case KAENA_ACT_ROUND:
        return v_rint(x);
    case KAENA_ACT_SIGN:
        return v_sign(x);
    case KAENA_ACT_SQUARE:
        return v_mul(x, x);
    case KAENA_ACT_SIN:
        return v_sin(x);
    case KAENA_ACT_COS:
        return v_cos(x);
    case KAENA_ACT_THRESHOLDED_RELU:
        return v_sel(v_lt(a, x), x, zero);
    case KAENA_ACT_COUNT:
        break;
    }
    return x;
}

/* |n| floats of |x|, a multiple of 16, become func of them. */
__attribute__((unused)) static void act_floats(float *x, uint32_t n, kaena_act func, float alpha,
                                               float beta)
{
    const vf a = v_set1(alpha), b = v_set1(beta);
    switch (func) {
#define KAENA_ACT_ROW(name, value, expression)                                                     \
    case KAENA_ACT_##name:                                                                         \
        for (uint32_t i = 0; i < n; i += KER_LANES)                                                \
            vi_store(x + i, vf_as_vi(v_act(KAENA_ACT_##name, vi_as_vf(vi_load(x + i)), a, b)));    \
        return;
#include "act.def"
#undef KAENA_ACT_ROW
    case KAENA_ACT_COUNT:
        return;
    }
}

/* IDENTITY, RELU and CLIP are one clamp: min(hi, max(lo, x)) with infinite bounds where there are
 * none. False: func is another. */
KER_INLINE bool act_clamp(kaena_act func, float alpha, float beta, float *lo, float *hi)
{
    const float inf = __builtin_inff();
    *lo = func == KAENA_ACT_CLIP ? alpha : func == KAENA_ACT_RELU ? 0.0f : -inf;
    *hi = func == KAENA_ACT_CLIP ? beta : inf;
    return func == KAENA_ACT_IDENTITY || func == KAENA_ACT_RELU || func == KAENA_ACT_CLIP;
}

#endif
