/* The vector kernels of elements and rows: every family on random shapes, strides and types, the
 * same bits on every level and for every cut into chunks, nothing touched outside operands, results
 * near a double reference. */
#include <stdatomic.h>

#include "kerfamily.h"

/* Functions whose value jumps or whose slope is unbounded near some argument are compared between
 * levels only: a reference in double may stand on the other side. */
static bool is_smooth(kaena_act f)
{
    return f != KAENA_ACT_FLOOR && f != KAENA_ACT_CEIL && f != KAENA_ACT_ROUND &&
           f != KAENA_ACT_SIGN && f != KAENA_ACT_THRESHOLDED_RELU && f != KAENA_ACT_RECIPROCAL &&
           f != KAENA_ACT_LOG && f != KAENA_ACT_SQRT;
}

/* How much an error of the argument may grow; exp of at most 40. */
static double act_scale(kaena_act f, double x)
{
    return f == KAENA_ACT_EXP      ? exp(x) * (1 + fabs(x))
           : f == KAENA_ACT_SQUARE ? x * x
                                   : 1 + fabs(x);
}

/* --- act --------------------------------------------------------------------------------- */

static void check_act(kerops_rng *r, bool special)
{
    uint32_t count[4];
    any_count(r, count);
    const uint32_t column[4] = {1, 1, 1, count[3]};
    const kaena_dtype type = any_float(r);
    kerops_operand src =
        kerops_make(r, kerops_below(r, 5) ? any_float(r) : KAENA_I32, count, kerops_any_layout(r),
                    kerops_below(r, 4) ? 0 : kerops_below(r, 8));
    kerops_operand dst = kerops_make(r, type, count, kerops_any_layout(r), 0);
    kerops_operand residual = {0}, scale = {0}, bias = {0};
    ker_act_args a = {.src = src.ap, .dst = dst.ap};
    any_values(r, &src.ap, special);
    if (kerops_below(r, 2)) {
        residual = kerops_make(r, kerops_below(r, 3) ? type : any_float(r), count,
                               kerops_any_layout(r), kerops_below(r, 4) ? 0 : kerops_below(r, 8));
        any_values(r, &residual.ap, special);
        a.residual = residual.ap;
    }
    a.ep.scale_all = kerops_uniform(r, -1, 1);
    a.ep.bias_all = kerops_uniform(r, -1, 1);
    if (kerops_below(r, 2)) {
        scale = kerops_make(r, KAENA_F32, column, KEROPS_PACKED, 0);
        any_values(r, &scale.ap, special);
        a.ep.scale = (const float *)(const void *)scale.ap.p;
    }
    if (kerops_below(r, 2)) {
        bias = kerops_make(r, KAENA_F32, column, KEROPS_PACKED, 0);
        any_values(r, &bias.ap, special);
        a.ep.bias = (const float *)(const void *)bias.ap.p;
    }
    a.ep.func = kerops_below(r, 2) ? (kaena_act)kerops_below(r, 4)
                                   : (kaena_act)kerops_below(r, KAENA_ACT_COUNT);
    a.ep.alpha = kerops_uniform(r, -1, 1);
    a.ep.beta = kerops_uniform(r, 1, 2);
    a.ep.residual_after = kerops_below(r, 2);
    KEROPS_CHECK(r, act, &a, &dst);
    if (!special && is_smooth(a.ep.func) && src.ap.dtype != KAENA_I32)
        KEROPS_EACH(&dst.ap, i)
        {
            const double s = a.ep.scale ? (double)a.ep.scale[i[3]] : (double)a.ep.scale_all;
            const double b = a.ep.bias ? (double)a.ep.bias[i[3]] : (double)a.ep.bias_all;
            const double rest = residual.ap.p ? element(&residual.ap, i) : 0;
            double x = element(&src.ap, i) * s + b;
            if (!a.ep.residual_after)
                x += rest;
            double y = keract(a.ep.func, x, (double)a.ep.alpha, (double)a.ep.beta);
            if (a.ep.residual_after)
                y += rest;
            ASSERT_NEAR(&dst.ap, i, y, act_scale(a.ep.func, x) * 20 + fabs(rest), 2e-6,
                        kaena_act_name(a.ep.func));
        }
    kerops_free(&src);
    kerops_free(&dst);
    kerops_free(&residual);
    kerops_free(&scale);
    kerops_free(&bias);
}

/* --- tt ---------------------------------------------------------------------------------- */

static double tt_reference(int op, double a, double b)
{
    switch (op) {
    case 0:
        return a + b;
    case 1:
        return a - b;
    case 2:
        return a * b;
    case 3:
        return a / b;
    case 4:
        return fmax(a, b);
    case 5:
        return fmin(a, b);
    case 6:
        return a < 0 ? a * b : a;
    default:
        return pow(a, b);
    }
}

static void check_tt(kerops_rng *r, bool special)
{
    uint32_t count[4];
    any_count(r, count);
    const bool ints = kerops_below(r, 5) == 0;
    static const int int_ops[] = {0, 1, 2, 4, 5};
    const kaena_dtype type = ints ? KAENA_I32 : any_float(r);
    const bool mixed = !ints && kerops_below(r, 2);
    kerops_operand a = kerops_make(r, mixed ? any_float(r) : type, count, kerops_any_layout(r),
                                   kerops_below(r, 4) ? 0 : kerops_below(r, 16));
    kerops_operand b = kerops_make(r, mixed ? any_float(r) : type, count, kerops_any_layout(r),
                                   kerops_below(r, 3) ? 0 : kerops_below(r, 16));
    kerops_operand dst = kerops_make(r, type, count, kerops_any_layout(r), 0);
    any_values(r, &a.ap, special);
    any_values(r, &b.ap, special);
    ker_tt_args t = {.a = a.ap,
                     .b = b.ap,
                     .dst = dst.ap,
                     .op = ints ? int_ops[kerops_below(r, 5)] : (int)kerops_below(r, 8),
                     .func = ints || kerops_below(r, 2)
                                 ? KAENA_ACT_IDENTITY
                                 : (kaena_act)kerops_below(r, KAENA_ACT_COUNT),
                     .alpha = 0.5f,
                     .beta = 1.5f};
    KEROPS_CHECK(r, tt, &t, &dst);
    if (!special && t.func == KAENA_ACT_IDENTITY)
        KEROPS_EACH(&dst.ap, i)
        {
            const double x = element(&a.ap, i), y = element(&b.ap, i);
            ASSERT_NEAR(&dst.ap, i, tt_reference(t.op, x, y), tt_reference(t.op, x, y), 1e-6, "tt");
        }
    kerops_free(&a);
    kerops_free(&b);
    kerops_free(&dst);
}

/* --- reduce ------------------------------------------------------------------------------ */

static void check_reduce(kerops_rng *r, bool special)
{
    uint32_t in[4], out[4];
    any_count(r, in);
    in[1] = 1 + kerops_below(r, 8);
    ker_reduce_args a = {.op = (int)kerops_below(r, 6),
                         .axes = kerops_below(r, 3) ? (kerops_below(r, 2) ? 6u : 8u)
                                                    : 1 + kerops_below(r, 15),
                         .scale = 1};
    if (a.op == 0 || a.op == 3)
        a.scale = kerops_uniform(r, 0.1f, 1);
    for (int d = 0; d < 4; d++)
        out[d] = a.axes >> d & 1 ? 1 : in[d];
    const kaena_dtype type = any_float(r);
    kerops_operand src = kerops_make(r, type, in, kerops_any_layout(r), 0);
    kerops_operand dst =
        kerops_make(r, kerops_below(r, 2) ? type : any_float(r), out, kerops_any_layout(r), 0);
    if (special)
        kerops_fill_special(r, &src.ap);
    else if (a.op == 4) /* a product must neither vanish nor grow */
        kerops_fill(r, &src.ap, 0.99f, 1.01f);
    else
        kerops_fill(r, &src.ap, -2, 4);
    a.src = src.ap;
    a.dst = dst.ap;
    KEROPS_CHECK(r, reduce, &a, &dst);
    if (!special)
        KEROPS_EACH(&dst.ap, o)
        {
            double sum = 0, all = 0, max = -INFINITY, min = INFINITY, squares = 0, product = 1;
            double n = 0;
            KEROPS_EACH(&src.ap, i)
            {
                bool mine = true;
                for (int d = 0; d < 4; d++)
                    mine &= (a.axes >> d & 1) || i[d] == o[d];
                if (!mine)
                    continue;
                const double v = element(&src.ap, i);
                n++;
                sum += v;
                all += fabs(v);
                squares += v * v;
                product *= v;
                max = fmax(max, v);
                min = fmin(min, v);
            }
            const double s = (double)a.scale;
            const double want[] = {sum * s, max, min, squares * s, product, all};
            const double scale[] = {all, 1, 1, squares, n * product, all};
            ASSERT_NEAR(&dst.ap, o, want[a.op], scale[a.op], 4e-6, "reduce");
        }
    kerops_free(&src);
    kerops_free(&dst);
}

/* --- softmax, lrn ------------------------------------------------------------------------ */

static void check_softmax(kerops_rng *r, bool special)
{
    uint32_t count[4];
    any_count(r, count);
    if (kerops_below(r, 40) == 0) { /* longer than what is kept of a row */
        count[0] = count[1] = count[2] = 1;
        count[3] = 4090 + kerops_below(r, 30);
    }
    const kaena_dtype type = any_float(r);
    kerops_operand src = kerops_make(r, type, count, kerops_any_layout(r), 0);
    kerops_operand dst =
        kerops_make(r, kerops_below(r, 2) ? type : any_float(r), count, kerops_any_layout(r), 0);
    any_values(r, &src.ap, special);
    ker_softmax_args a = {.src = src.ap, .dst = dst.ap, .kind = (int)kerops_below(r, 2)};
    KEROPS_CHECK(r, softmax, &a, &dst);
    for (uint32_t i0 = 0; !special && i0 < count[0]; i0++)
        for (uint32_t i1 = 0; i1 < count[1]; i1++)
            for (uint32_t i2 = 0; i2 < count[2]; i2++) {
                double sum = 0;
                for (uint32_t c = 0; c < count[3]; c++)
                    sum += exp(kerops_get(&src.ap, i0, i1, i2, c));
                for (uint32_t c = 0; c < count[3]; c++) {
                    const uint32_t i[4] = {i0, i1, i2, c};
                    const double x = element(&src.ap, i);
                    const double want = a.kind ? x - log(sum) : exp(x) / sum;
                    ASSERT_NEAR(&dst.ap, i, want, a.kind ? 20.0 : want, 2e-6, "softmax");
                }
            }
    kerops_free(&src);
    kerops_free(&dst);
}

static void check_norm(kerops_rng *r, bool special)
{
    uint32_t count[4];
    any_count(r, count);
    if (kerops_below(r, 40) == 0) { /* longer than what is kept of a row */
        count[0] = count[1] = 1;
        count[3] = 2040 + kerops_below(r, 30);
    }
    const kaena_dtype type = any_float(r);
    kerops_operand src = kerops_make(r, type, count, kerops_any_layout(r), 0), scale = {0},
                   bias = {0};
    kerops_operand dst =
        kerops_make(r, kerops_below(r, 2) ? type : any_float(r), count, kerops_any_layout(r), 0);
    any_values(r, &src.ap, special);
    ker_norm_args a = {.src = src.ap,
                       .dst = dst.ap,
                       .kind = (int)kerops_below(r, 2),
                       .epsilon = kerops_uniform(r, 0.01f, 1)};
    if (kerops_below(r, 3)) {
        scale = kerops_make(r, KAENA_F32, count, kerops_any_layout(r), kerops_below(r, 16));
        any_values(r, &scale.ap, special);
        a.scale = scale.ap;
    }
    if (kerops_below(r, 3)) {
        bias = kerops_make(r, KAENA_F32, count, kerops_any_layout(r), kerops_below(r, 16));
        any_values(r, &bias.ap, special);
        a.bias = bias.ap;
    }
    KEROPS_CHECK(r, norm, &a, &dst);
    for (uint32_t i0 = 0; !special && i0 < count[0]; i0++)
        for (uint32_t i1 = 0; i1 < count[1]; i1++)
            for (uint32_t i2 = 0; i2 < count[2]; i2++) {
                double mean = 0, square = 0;
                for (uint32_t c = 0; c < count[3] && a.kind == 0; c++)
                    mean += kerops_get(&src.ap, i0, i1, i2, c) / count[3];
                for (uint32_t c = 0; c < count[3]; c++)
                    square += pow(kerops_get(&src.ap, i0, i1, i2, c) - mean, 2) / count[3];
                for (uint32_t c = 0; c < count[3]; c++) {
                    const uint32_t i[4] = {i0, i1, i2, c};
                    const double y =
                        (element(&src.ap, i) - mean) / sqrt(square + (double)a.epsilon);
                    const double want = y * (scale.ap.p ? element(&scale.ap, i) : 1) +
                                        (bias.ap.p ? element(&bias.ap, i) : 0);
                    ASSERT_NEAR(&dst.ap, i, want, 200, 2e-6, "norm");
                }
            }
    kerops_free(&src);
    kerops_free(&scale);
    kerops_free(&bias);
    kerops_free(&dst);
}

static void check_lrn(kerops_rng *r, bool special)
{
    uint32_t count[4];
    any_count(r, count);
    const float betas[] = {0.75f, 0.5f, 1, 0.6f};
    const kaena_dtype type = any_float(r);
    kerops_operand src = kerops_make(r, type, count, kerops_any_layout(r), 0);
    kerops_operand dst = kerops_make(r, type, count, kerops_any_layout(r), 0);
    any_values(r, &src.ap, special);
    ker_lrn_args a = {.src = src.ap,
                      .dst = dst.ap,
                      .size =
                          kerops_below(r, 30) ? 1 + kerops_below(r, 9) : 1 + kerops_below(r, 4096),
                      .alpha = kerops_uniform(r, 0, 2),
                      .beta = betas[kerops_below(r, 4)],
                      .bias = kerops_uniform(r, 0.5f, 2)};
    KEROPS_CHECK(r, lrn, &a, &dst);
    if (!special)
        KEROPS_EACH(&dst.ap, i)
        {
            const int64_t c = i[3];
            double sum = 0;
            for (int64_t k = c - (a.size - 1) / 2; k <= c + a.size / 2; k++)
                if (k >= 0 && k < (int64_t)count[3])
                    sum += pow(kerops_get(&src.ap, i[0], i[1], i[2], (uint32_t)k), 2);
            const double want =
                element(&src.ap, i) /
                pow((double)a.bias + (double)a.alpha / a.size * sum, (double)a.beta);
            ASSERT_NEAR(&dst.ap, i, want, want, 2e-5, "lrn");
        }
    kerops_free(&src);
    kerops_free(&dst);
}

/* --- The tests --------------------------------------------------------------------------- */

FAMILY_TEST(kernels_vec, act, 500)
FAMILY_TEST(kernels_vec, tt, 500)
FAMILY_TEST(kernels_vec, reduce, 400)
FAMILY_TEST(kernels_vec, softmax, 300)
FAMILY_TEST(kernels_vec, norm, 300)
FAMILY_TEST(kernels_vec, lrn, 200)

/* dst may be an operand: each element is read before it is written. */
KTEST(kernels_vec, in_place)
{
    kerops_rng rng = {7};
    const uint32_t count[4] = {2, 3, 5, 77};
    kerops_mode();
    for (int k = 0; k < 3; k++) {
        kerops_operand x = kerops_make(&rng, floats[k], count, KEROPS_PADDED, 0);
        kerops_operand y = kerops_make(&rng, floats[k], count, KEROPS_PACKED, 0);
        kerops_fill(&rng, &x.ap, -3, 3);
        kerops_fill(&rng, &y.ap, -3, 3);
        ker_tt_args tt = {.a = x.ap, .b = y.ap, .dst = x.ap, .func = KAENA_ACT_RELU};
        KEROPS_CHECK(&rng, tt, &tt, &x);
        ker_act_args act = {.src = y.ap, .dst = x.ap, .residual = x.ap, .ep = {.scale_all = 1}};
        KEROPS_CHECK(&rng, act, &act, &x);
        ker_softmax_args softmax = {.src = x.ap, .dst = x.ap};
        KEROPS_CHECK(&rng, softmax, &softmax, &x);
        ker_norm_args norm = {.src = x.ap, .dst = x.ap, .epsilon = 1e-5f};
        KEROPS_CHECK(&rng, norm, &norm, &x);
        kerops_free(&x);
        kerops_free(&y);
    }
}

KTEST(kernels_vec, level_names)
{
    ker_level best;
    unsetenv("KRT_CPU");
    cr_assert(ker_level_detect(&best));
    for (int level = 0; level < KER_LEVEL_COUNT; level++) {
        ker_level got;
        setenv("KRT_CPU", ker_level_name((ker_level)level), 1);
        cr_assert(ker_level_detect(&got));
        cr_assert(got == ((ker_level)level < best ? (ker_level)level : best));
        cr_assert(ker_level_supported((ker_level)level) == ((ker_level)level <= best));
    }
    ker_level kept = KER_AVX2;
    setenv("KRT_CPU", "avx1024", 1);
    cr_assert(!ker_level_detect(&kept) && kept == KER_AVX2);
    setenv("KRT_CPU", "", 1);
    cr_assert(ker_level_detect(&kept) && kept == best);
}
