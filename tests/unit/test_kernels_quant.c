/* QUANT and TTT: values, and the same bits on every level. */
#include "kerops.h"

static const kaena_dtype sources[] = {KAENA_I32, KAENA_I8, KAENA_U8, KAENA_F32, KAENA_BF16};
static const kaena_dtype destinations[] = {KAENA_I8,  KAENA_U8,   KAENA_I32,
                                           KAENA_F32, KAENA_BF16, KAENA_F16};

static bool is_int(kaena_dtype t)
{
    return t == KAENA_I32 || t == KAENA_I8 || t == KAENA_U8;
}

/* What isa.def says of one element. */
static double quantised(const ker_scaling *s, double x, bool integer, kaena_dtype to,
                        uint32_t column)
{
    float scale = s->scale ? s->scale[column] : s->scale_all;
    int32_t bias = s->bias ? s->bias[column] : s->bias_all;
    int32_t whole = integer ? (int32_t)((uint32_t)(int32_t)x + (uint32_t)bias) : 0;
    float v = integer ? (float)whole : (float)x;
    v = s->divide ? v / scale : v * scale;
    if (to == KAENA_I32)
        return whole;
    if (!is_int(to))
        return (double)v;
    double y = (double)(rintf(v) + (float)s->zero);
    if (!(y > s->low))
        return s->low;
    return y < s->high ? y : s->high;
}

static void check_quant(kerops_rng *r, kaena_dtype from, kaena_dtype to)
{
    const uint32_t count[4] = {1 + kerops_below(r, 2), 1 + kerops_below(r, 3),
                               1 + kerops_below(r, 4), 1 + kerops_below(r, 70)};
    kerops_operand src = kerops_make(r, from, count, kerops_any_layout(r),
                                     kerops_below(r, 8) == 0 ? 8 : 0),
                   dst = kerops_make(r, to, count, kerops_any_layout(r), 0);
    if (from == KAENA_I32)
        kerops_fill(r, &src.ap, -40000, 40000);
    else if (is_int(from))
        kerops_fill(r, &src.ap, from == KAENA_I8 ? -128 : 0, from == KAENA_I8 ? 127 : 255);
    else
        kerops_fill_special(r, &src.ap);
    float scales[80];
    int32_t biases[80];
    for (int i = 0; i < 80; i++) {
        scales[i] = kerops_below(r, 4) ? kerops_uniform(r, 1e-3f, 0.02f) : 0.5f;
        biases[i] = (int32_t)kerops_below(r, 200) - 100;
    }
    int low = to == KAENA_I8 ? -128 : 0, high = to == KAENA_I8 ? 127 : 255;
    bool bytes = is_int(to) && to != KAENA_I32;
    ker_quant_args a = {.src = src.ap,
                        .dst = dst.ap,
                        .scaling = {.scale = to != KAENA_I32 && kerops_below(r, 2) ? scales : NULL,
                                    .bias = is_int(from) && kerops_below(r, 2) ? biases : NULL,
                                    .scale_all = to == KAENA_I32 ? 1 : 0.5f,
                                    .bias_all = is_int(from) ? -3 : 0,
                                    .divide = to != KAENA_I32 && kerops_below(r, 2),
                                    .zero = bytes ? low + (int)kerops_below(r, 256) : 0,
                                    .low = bytes ? low + (int)kerops_below(r, 2) * 20 : 0,
                                    .high = bytes ? high - (int)kerops_below(r, 2) * 9 : 0}};
    KEROPS_CHECK(r, quant, &a, &dst);
    KEROPS_EACH(&dst.ap, i)
    {
        double x = kerops_get(&src.ap, i[0], i[1], i[2], i[3]);
        double want = quantised(&a.scaling, x, is_int(from), to, i[3]);
        double got = kerops_get(&dst.ap, i[0], i[1], i[2], i[3]);
        if (is_int(to))
            cr_assert(got == want, "%s to %s: %g gives %g, not %g", kaena_dtype_name(from),
                      kaena_dtype_name(to), x, got, want);
        else
            cr_assert(kerops_near(to, got, want, want, 1e-7), "%g gives %g, not %g", x, got, want);
    }
    kerops_free(&src);
    kerops_free(&dst);
}

KTEST(kernels_quant, between_integers_and_floats)
{
    kerops_rng r = {11};
    kerops_mode();
    for (int i = 0; i < 12; i++)
        for (size_t s = 0; s < sizeof sources / sizeof *sources; s++)
            for (size_t d = 0; d < sizeof destinations / sizeof *destinations; d++)
                if (destinations[d] != KAENA_I32 || is_int(sources[s]))
                    check_quant(&r, sources[s], destinations[d]);
}

/* Ties go to the even integer before the zero point is added. */
KTEST(kernels_quant, rounds_before_it_adds_the_zero_point)
{
    kerops_mode();
    int32_t x[4] = {1, 3, 5, -1};
    uint8_t y[4];
    ker_quant_args a = {.src = {(uint8_t *)x, KAENA_I32, {1, 1, 1, 4}, {0, 0, 0, 4}},
                        .dst = {y, KAENA_U8, {1, 1, 1, 4}, {0, 0, 0, 1}},
                        .scaling = {.scale_all = 0.5f, .zero = 1, .high = 255}};
    for (int level = 0; level < KER_LEVEL_COUNT; level++)
        if (ker_level_supported((ker_level)level)) {
            ker_table_of((ker_level)level)->quant(&a, 0, 1);
            cr_assert(y[0] == 1 && y[1] == 3 && y[2] == 3 && y[3] == 1);
        }
}

static double mixed(int op, double a, double b, double c)
{
    if (op == 0)
        return fma(a, b, c);
    if (op == 1)
        return a * b + (c - a * c);
    return a != 0 ? b : c;
}

KTEST(kernels_quant, three_operands)
{
    static const kaena_dtype floats[] = {KAENA_F32, KAENA_BF16, KAENA_F16};
    kerops_rng r = {12};
    kerops_mode();
    for (int n = 0; n < 120; n++) {
        const int op = n % 3;
        const uint32_t count[4] = {1, 1 + kerops_below(&r, 3), 1 + kerops_below(&r, 4),
                                   1 + kerops_below(&r, 70)};
        kerops_operand o[3],
            dst = kerops_make(&r, floats[kerops_below(&r, 3)], count, kerops_any_layout(&r), 0);
        const bool plain = kerops_below(&r, 2), f32 = kerops_below(&r, 2);
        for (int k = 0; k < 3; k++) {
            kaena_dtype t = f32 ? KAENA_F32 : floats[kerops_below(&r, 3)];
            if (op == 2 && k == 0 && kerops_below(&r, 2))
                t = KAENA_BOOL;
            o[k] = kerops_make(&r, t, count, kerops_any_layout(&r), kerops_below(&r, 4) ? 0 : 12);
            if (t == KAENA_BOOL)
                KEROPS_EACH(&o[k].ap, i)
                {
                    *kerops_at(&o[k].ap, i) = (uint8_t)kerops_below(&r, 2);
                }
            else if (plain)
                kerops_fill(&r, &o[k].ap, -1, 1);
            else
                kerops_fill_special(&r, &o[k].ap);
        }
        ker_ttt_args a = {.a = o[0].ap,
                          .b = o[1].ap,
                          .c = o[2].ap,
                          .dst = dst.ap,
                          .op = op,
                          .func = kerops_below(&r, 2) ? KAENA_ACT_TANH : KAENA_ACT_IDENTITY};
        KEROPS_CHECK(&r, ttt, &a, &dst);
        if (plain)
            KEROPS_EACH(&dst.ap, i)
            {
                double v[3];
                for (int k = 0; k < 3; k++)
                    v[k] = kerops_get(&o[k].ap, i[0], i[1], i[2], i[3]);
                double want = mixed(op, v[0], v[1], v[2]);
                want = a.func == KAENA_ACT_TANH ? tanh(want) : want;
                double got = kerops_get(&dst.ap, i[0], i[1], i[2], i[3]);
                cr_assert(kerops_near(dst.ap.dtype, got, want, 1, 1e-6), "%g, not %g", got, want);
            }
        for (int k = 0; k < 3; k++)
            kerops_free(&o[k]);
        kerops_free(&dst);
    }
}
