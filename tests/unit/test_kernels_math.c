/* Vector functions of the kernels: accuracy against double, special values, the same bits on every
 * level for any input. */
#include <float.h>

#include "keract.h"
#include "kerops.h"

enum { SAMPLES = 1 << 12 };

/* func of |n| floats on |level|: an ACT that adds -0 changes nothing else. */
static void apply(ker_level level, kaena_act func, float a, float b, const float *x, float *y,
                  uint32_t n)
{
    const ker_ap ap = {.p = (uint8_t *)(uintptr_t)x,
                       .dtype = KAENA_F32,
                       .count = {1, 1, 1, n},
                       .stride = {0, 0, 0, 4}};
    ker_act_args args = {
        .src = ap,
        .dst = ap,
        .ep = {.scale_all = 1, .bias_all = -0.0f, .func = func, .alpha = a, .beta = b}};
    args.dst.p = (uint8_t *)y;
    ker_table_of(level)->act(&args, 0, 1);
}

/* a^b on |level|. */
static void apply_pow(ker_level level, const float *a, const float *b, float *y, uint32_t n)
{
    const ker_ap ap = {.dtype = KAENA_F32, .count = {1, 1, 1, n}, .stride = {0, 0, 0, 4}};
    ker_tt_args args = {.a = ap, .b = ap, .dst = ap, .op = 7};
    args.a.p = (uint8_t *)(uintptr_t)a;
    args.b.p = (uint8_t *)(uintptr_t)b;
    args.dst.p = (uint8_t *)y;
    ker_table_of(level)->tt(&args, 0, 1);
}

/* Distance in units of the last place of |want|; what lies below the normal range counts as 0. */
static double ulps(double got, double want)
{
    if (isnan(want) || isinf(want) || fabs(want) > FLT_MAX)
        return (isnan(want) ? isnan(got) : got == (double)(float)want) ? 0 : INFINITY;
    if (fabs(want) < FLT_MIN && fabs(got) <= (double)FLT_MIN)
        return 0;
    int e;
    frexp(want, &e);
    return fabs(got - want) / ldexp(1, e - 24);
}

static const struct accuracy {
    kaena_act func;
    float lo, hi;
    double ulps, absolute; /* either bound may be kept */
} accuracies[] = {
    {KAENA_ACT_EXP, -104, 90, 2, 0},
    {KAENA_ACT_EXP, -1, 1, 2, 0},
    {KAENA_ACT_LOG, 0, 4, 2, 0},
    {KAENA_ACT_LOG, 0, 3e38f, 2, 0},
    {KAENA_ACT_TANH, -12, 12, 3, 0},
    {KAENA_ACT_TANH, -0.7f, 0.7f, 3, 0},
    {KAENA_ACT_ERF, -5, 5, 3, 0},
    {KAENA_ACT_ERF, -0.01f, 0.01f, 3, 0},
    {KAENA_ACT_SIGMOID, -87, 87, 3, 0},
    {KAENA_ACT_SOFTPLUS, -87, 87, 3, 0},
    {KAENA_ACT_SIN, -8, 8, 2, 0},
    {KAENA_ACT_COS, -8, 8, 2, 0},
    {KAENA_ACT_SIN, -5000, 5000, 2, 0},
    {KAENA_ACT_COS, -5000, 5000, 2, 0},
    {KAENA_ACT_SIN, -3e38f, 3e38f, 2, 0},
    {KAENA_ACT_COS, 4000, 1e9f, 2, 0},
    {KAENA_ACT_SQRT, 0, 1e30f, 0.5, 0},
    {KAENA_ACT_RECIPROCAL, -100, 100, 0.5, 0},
    {KAENA_ACT_SOFTSIGN, -100, 100, 1.5, 0},
    {KAENA_ACT_SILU, -80, 80, 4, 0},
    {KAENA_ACT_GELU, -8, 8, 4, 4e-7},
    {KAENA_ACT_GELU_TANH, -8, 8, 4, 4e-7},
    {KAENA_ACT_ELU, -20, 20, 2, 2e-7},
    {KAENA_ACT_SELU, -20, 20, 2, 4e-7},
    {KAENA_ACT_HARD_SWISH, -5, 5, 2, 2e-7},
    {KAENA_ACT_HARD_SIGMOID, -5, 5, 1, 1e-7},
};

KTEST(kernels_math, accuracy)
{
    static float x[SAMPLES], y[SAMPLES];
    kerops_rng rng = {1};
    for (size_t k = 0; k < sizeof accuracies / sizeof *accuracies; k++) {
        const struct accuracy *t = &accuracies[k];
        for (int i = 0; i < SAMPLES; i++)
            x[i] = kerops_uniform(&rng, t->lo, t->hi);
        kerops_mode();
        apply(KER_SCALAR, t->func, 0.7f, 1.3f, x, y, SAMPLES);
        _mm_setcsr(0x1f80);
        double worst = 0, at = 0;
        for (int i = 0; i < SAMPLES; i++) {
            double want = keract(t->func, (double)x[i], (double)0.7f, (double)1.3f);
            double u = fabs((double)y[i] - want) <= t->absolute ? 0 : ulps((double)y[i], want);
            if (u > worst) {
                worst = u;
                at = (double)x[i];
            }
        }
        cr_assert(worst <= t->ulps, "%s: %.2f ulp at %.9g, not %.2f", kaena_act_name(t->func),
                  worst, at, t->ulps);
    }
}

KTEST(kernels_math, pow_accuracy)
{
    static float a[SAMPLES], b[SAMPLES], y[SAMPLES];
    kerops_rng rng = {2};
    for (int i = 0; i < SAMPLES; i++) {
        a[i] = expf(kerops_uniform(&rng, -20, 20));
        b[i] = kerops_uniform(&rng, -5, 5);
        if (i % 3 == 0)
            b[i] = rintf(b[i]);
        if (i % 6 == 0)
            a[i] = -a[i];
        if (i % 5 == 0)
            a[i] = kerops_uniform(&rng, 0.9f, 1.1f), b[i] *= 100;
    }
    kerops_mode();
    apply_pow(KER_SCALAR, a, b, y, SAMPLES);
    _mm_setcsr(0x1f80);
    for (int i = 0; i < SAMPLES; i++) {
        double u = ulps((double)y[i], pow((double)a[i], (double)b[i]));
        cr_assert(u <= 4, "pow(%.9g, %.9g) = %.9g: %.2f ulp", (double)a[i], (double)b[i],
                  (double)y[i], u);
    }
}

KTEST(kernels_math, pow_special_values)
{
    static const float values[] = {0.0f,        -0.0f, 1.0f,  -1.0f,     0.5f,     -0.5f,
                                   2.0f,        -2.0f, 3.0f,  -3.0f,     INFINITY, NAN,
                                   16777216.0f, 2.5f,  -2.5f, -INFINITY, 1e30f};
    enum { N = sizeof values / sizeof *values };
    float a[N * N], b[N * N], y[N * N];
    for (int i = 0; i < N * N; i++) {
        a[i] = values[i / N];
        b[i] = values[i % N];
    }
    kerops_mode();
    apply_pow(KER_SCALAR, a, b, y, N * N);
    _mm_setcsr(0x1f80);
    for (int i = 0; i < N * N; i++) {
        const float want = powf(a[i], b[i]);
        if (fabsf(want) > 0 && fabsf(want) < FLT_MIN)
            continue;
        cr_assert(ulps((double)y[i], (double)want) <= 4 &&
                      (isnan(want) || !signbit(y[i]) == !signbit(want)),
                  "pow(%g, %g) = %g, not %g", (double)a[i], (double)b[i], (double)y[i],
                  (double)want);
    }
}

/* Expected results of values that formulas leave to convention. */
KTEST(kernels_math, special_values)
{
    static const struct {
        kaena_act func;
        float x, want;
    } cases[] = {
        {KAENA_ACT_EXP, INFINITY, INFINITY},
        {KAENA_ACT_EXP, -INFINITY, 0},
        {KAENA_ACT_EXP, 0, 1},
        {KAENA_ACT_LOG, 0, -INFINITY},
        {KAENA_ACT_LOG, -0.0f, -INFINITY},
        {KAENA_ACT_LOG, -1, NAN},
        {KAENA_ACT_LOG, INFINITY, INFINITY},
        {KAENA_ACT_LOG, 1, 0},
        {KAENA_ACT_TANH, INFINITY, 1},
        {KAENA_ACT_TANH, -INFINITY, -1},
        {KAENA_ACT_TANH, -0.0f, -0.0f},
        {KAENA_ACT_ERF, INFINITY, 1},
        {KAENA_ACT_ERF, -INFINITY, -1},
        {KAENA_ACT_SIGMOID, INFINITY, 1},
        {KAENA_ACT_SIGMOID, -INFINITY, 0},
        {KAENA_ACT_SOFTPLUS, INFINITY, INFINITY},
        {KAENA_ACT_SOFTPLUS, -INFINITY, 0},
        {KAENA_ACT_SIN, INFINITY, NAN},
        {KAENA_ACT_COS, -INFINITY, NAN},
        {KAENA_ACT_RELU, -0.0f, -0.0f},
        {KAENA_ACT_RELU, -INFINITY, 0},
        {KAENA_ACT_SQRT, -1, NAN},
        {KAENA_ACT_SQRT, -0.0f, -0.0f},
        {KAENA_ACT_RECIPROCAL, -0.0f, -INFINITY},
        {KAENA_ACT_ROUND, 2.5f, 2},
        {KAENA_ACT_ROUND, -3.5f, -4},
        {KAENA_ACT_FLOOR, -0.5f, -1},
        {KAENA_ACT_CEIL, 0.5f, 1},
        {KAENA_ACT_SIGN, -INFINITY, -1},
        {KAENA_ACT_SIGN, 0, 0},
    };
    for (int level = 0; level < KER_LEVEL_COUNT; level++) {
        if (!ker_level_supported((ker_level)level))
            continue;
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            float y;
            kerops_mode();
            apply((ker_level)level, cases[i].func, 1, 1, &cases[i].x, &y, 1);
            _mm_setcsr(0x1f80);
            cr_assert(isnan(cases[i].want) ? isnan(y)
                                           : kaena_f32_bits(y) == kaena_f32_bits(cases[i].want),
                      "%s(%g) = %g on %s, not %g", kaena_act_name(cases[i].func),
                      (double)cases[i].x, (double)y, ker_level_name((ker_level)level),
                      (double)cases[i].want);
        }
        for (unsigned func = 0; func < KAENA_ACT_COUNT; func++) {
            float x = NAN, y;
            kerops_mode();
            apply((ker_level)level, (kaena_act)func, 0.5f, 1, &x, &y, 1);
            _mm_setcsr(0x1f80);
            cr_assert(isnan(y) || func == KAENA_ACT_THRESHOLDED_RELU, "%s(NaN) is not NaN",
                      kaena_act_name(func));
        }
    }
}

/* Bits drawn from the whole range of floats, and a walk through all exponents. */
KTEST(kernels_math, same_bits_on_every_level)
{
    static float x[SAMPLES], want[SAMPLES], got[SAMPLES];
    kerops_rng rng = {3};
    for (unsigned func = 0; func < KAENA_ACT_COUNT; func++) {
        for (int i = 0; i < SAMPLES; i++) {
            uint32_t bits = kerops_next(&rng);
            if (i % 2)
                bits = (bits & 0x807fffff) | (0x3f800000 + ((bits >> 24) % 16 - 8) * 0x800000);
            x[i] = kaena_f32_from_bits(bits);
        }
        kerops_mode();
        apply(KER_SCALAR, (kaena_act)func, 0.3f, 1.7f, x, want, SAMPLES);
        for (int level = KER_SCALAR + 1; level < KER_LEVEL_COUNT; level++) {
            if (!ker_level_supported((ker_level)level))
                continue;
            apply((ker_level)level, (kaena_act)func, 0.3f, 1.7f, x, got, SAMPLES);
            for (int i = 0; i < SAMPLES; i++)
                cr_assert((isnan(got[i]) && isnan(want[i])) ||
                              kaena_f32_bits(got[i]) == kaena_f32_bits(want[i]),
                          "%s(%a) is %a on %s, %a on scalar", kaena_act_name(func), (double)x[i],
                          (double)got[i], ker_level_name((ker_level)level), (double)want[i]);
        }
    }
}

KTEST(kernels_math, pow_has_the_same_bits_on_every_level)
{
    static float a[SAMPLES], b[SAMPLES], want[SAMPLES], got[SAMPLES];
    kerops_rng rng = {4};
    for (int i = 0; i < SAMPLES; i++) {
        a[i] = kaena_f32_from_bits(kerops_next(&rng));
        b[i] = i % 2 ? kerops_uniform(&rng, -4, 4) : kaena_f32_from_bits(kerops_next(&rng));
    }
    kerops_mode();
    apply_pow(KER_SCALAR, a, b, want, SAMPLES);
    for (int level = KER_SCALAR + 1; level < KER_LEVEL_COUNT; level++) {
        if (!ker_level_supported((ker_level)level))
            continue;
        apply_pow((ker_level)level, a, b, got, SAMPLES);
        for (int i = 0; i < SAMPLES; i++)
            cr_assert((isnan(got[i]) && isnan(want[i])) ||
                          kaena_f32_bits(got[i]) == kaena_f32_bits(want[i]),
                      "pow(%a, %a) is %a on %s, %a on scalar", (double)a[i], (double)b[i],
                      (double)got[i], ker_level_name((ker_level)level), (double)want[i]);
    }
}

/* Every float16, and float32 around every rounding step of BF16 and F16. */
KTEST(kernels_math, casts)
{
    enum { N = 1 << 16 };
    static uint16_t half[N], want[N], got[N];
    static float wide[N], want_wide[N], got_wide[N];
    for (int i = 0; i < N; i++) {
        half[i] = (uint16_t)i;
        wide[i] = kaena_f32_from_bits((uint32_t)i << 16 | (i % 4 == 0   ? 0x8000
                                                           : i % 4 == 1 ? 0x7fff
                                                           : i % 4 == 2 ? 0x8001
                                                                        : 0x1000));
    }
    const kaena_dtype narrow[] = {KAENA_BF16, KAENA_F16};
    for (int level = 0; level < KER_LEVEL_COUNT; level++)
        for (int k = 0; k < 2 && ker_level_supported((ker_level)level); k++) {
            ker_copy_args args = {
                .src = {.dtype = narrow[k], .count = {1, 1, 1, N}, .stride = {0, 0, 0, 2}},
                .dst = {.dtype = KAENA_F32, .count = {1, 1, 1, N}, .stride = {0, 0, 0, 4}}};
            args.src.p = (uint8_t *)half;
            args.dst.p = (uint8_t *)got_wide;
            kaena_cast(want_wide, KAENA_F32, half, narrow[k], N);
            kerops_mode();
            ker_table_of((ker_level)level)->copy(&args, 0, 1);
            ker_copy_args back = {.src = args.dst, .dst = args.src};
            back.src.p = (uint8_t *)wide;
            back.dst.p = (uint8_t *)got;
            ker_table_of((ker_level)level)->copy(&back, 0, 1);
            _mm_setcsr(0x1f80);
            for (int i = 0; i < N; i++) {
                cr_assert(isnan(want_wide[i])
                              ? isnan(got_wide[i])
                              : kaena_f32_bits(got_wide[i]) == kaena_f32_bits(want_wide[i]));
                float x = wide[i];
                if (!(kaena_f32_bits(x) & 0x7f800000)) /* a denormal counts as zero */
                    x = copysignf(0, x);
                want[i] = k ? kaena_f16_from_f32(x) : kaena_bf16_from_f32(x);
                if (k && isnan(x))
                    cr_assert((got[i] & 0x7fff) > 0x7c00);
                else
                    cr_assert(got[i] == want[i], "%a to %s: %#x, not %#x on %s", (double)wide[i],
                              kaena_dtype_name(narrow[k]), got[i], want[i],
                              ker_level_name((ker_level)level));
            }
        }
}
