/* The vector kernels that look around or move: windows, depthwise convolution, resize, copies; on
 * random shapes, strides and types, as test_kernels_vec.c does it for elements and rows. */
#include <stdatomic.h>

#include "kerfamily.h"

/* --- window ------------------------------------------------------------------------------ */

static double window_reference(const ker_window_args *a, const uint32_t i[4])
{
    double sum = 0, max = -INFINITY;
    uint32_t taps = 0, padded = 0;
    for (int64_t ky = 0; ky < a->kernel_h; ky++)
        for (int64_t kx = 0; kx < a->kernel_w; kx++) {
            const int64_t y = a->y0 + (int64_t)i[1] * a->stride_h + ky * a->dilation_h;
            const int64_t x = a->x0 + (int64_t)i[2] * a->stride_w + kx * a->dilation_w;
            padded += y >= a->pad_y0 && y < a->pad_y1 && x >= a->pad_x0 && x < a->pad_x1;
            if (y < 0 || y >= a->src.count[1] || x < 0 || x >= a->src.count[2])
                continue;
            const double v = kerops_get(&a->src, i[0], (uint32_t)y, (uint32_t)x, i[3]);
            taps++;
            sum += v;
            max = fmax(max, v);
        }
    if (a->kind == 0)
        return max;
    return taps ? sum / (a->kind == 1 ? taps : padded) : 0;
}

/* As after RELU, but for a few. */
static void clear_signs(kerops_rng *r, const ker_ap *ap)
{
    const uint32_t few = kerops_below(r, 2) ? 0 : 1 + kerops_below(r, 200);
    KEROPS_EACH(ap, i)
    {
        uint8_t *last = kerops_at(ap, i) + kaena_dtype_size(ap->dtype) - 1;
        if (few == 0 || kerops_below(r, few) != 0)
            *last &= 0x7f;
    }
}

static void check_window(kerops_rng *r, bool special)
{
    uint32_t in[4], out[4];
    any_count(r, in);
    in[1] = 1 + kerops_below(r, 9);
    in[2] = 1 + kerops_below(r, 9);
    memcpy(out, in, sizeof out);
    out[1] = 1 + kerops_below(r, 5);
    out[2] = 1 + kerops_below(r, 5);
    const kaena_dtype type = any_float(r);
    kerops_operand src = kerops_make(r, type, in, kerops_any_layout(r), 0);
    kerops_operand dst =
        kerops_make(r, kerops_below(r, 3) ? type : any_float(r), out, kerops_any_layout(r), 0);
    any_values(r, &src.ap, special);
    if (kerops_below(r, 2))
        clear_signs(r, &src.ap);
    ker_window_args a = {.src = src.ap,
                         .dst = dst.ap,
                         .kind = (int)kerops_below(r, 3),
                         .kernel_h = 1 + kerops_below(r, 4),
                         .kernel_w = 1 + kerops_below(r, 4),
                         .stride_h = 1 + kerops_below(r, 3),
                         .stride_w = 1 + kerops_below(r, 3),
                         .dilation_h = 1 + kerops_below(r, 2),
                         .dilation_w = 1 + kerops_below(r, 2),
                         .y0 = (int32_t)kerops_below(r, 6) - 4,
                         .x0 = (int32_t)kerops_below(r, 6) - 4};
    a.pad_y0 = -(int32_t)kerops_below(r, 3);
    a.pad_x0 = -(int32_t)kerops_below(r, 3);
    a.pad_y1 = (int32_t)(in[1] + kerops_below(r, 3));
    a.pad_x1 = (int32_t)(in[2] + kerops_below(r, 3));
    KEROPS_CHECK(r, window, &a, &dst);
    if (!special)
        KEROPS_EACH(&dst.ap, i)
        {
            ASSERT_NEAR(&dst.ap, i, window_reference(&a, i), 4.0, 2e-6, "window");
        }
    kerops_free(&src);
    kerops_free(&dst);
}

/* --- dwconv ------------------------------------------------------------------------------ */

static void check_dwconv(kerops_rng *r, bool special)
{
    const uint32_t sizes[] = {1, 2, 3, 3, 3, 4, 5, 5, 7, 9};
    const kaena_dtype type = any_float(r);
    const bool usual = kerops_below(r, 2);
    uint32_t out[4], in[4], kernel[4] = {1, 1, 1, 1};
    any_count(r, out);
    out[2] = 1 + kerops_below(r, 20);
    /* Now and then more than the image rows that share their weights may take. */
    out[3] = 1 + kerops_below(r, kerops_below(r, 20) ? 70 : 900);
    kernel[1] = sizes[kerops_below(r, 10)];
    kernel[2] = usual ? kernel[1] : sizes[kerops_below(r, 10)];
    kernel[3] = out[3];
    ker_dwconv_args a = {.stride_h = 1 + kerops_below(r, 2),
                         .stride_w = 1 + kerops_below(r, 2),
                         .dilation_h = usual ? 1 : 1 + kerops_below(r, 2),
                         .dilation_w = usual ? 1 : 1 + kerops_below(r, 2)};
    memcpy(in, out, sizeof in);
    in[1] = (out[1] - 1) * a.stride_h + (kernel[1] - 1) * a.dilation_h + 1;
    in[2] = (out[2] - 1) * a.stride_w + (kernel[2] - 1) * a.dilation_w + 1;
    const uint32_t column[4] = {1, 1, 1, out[3]};
    kerops_operand src = kerops_make(r, type, in, usual ? KEROPS_PACKED : kerops_any_layout(r), 0);
    kerops_operand weights = kerops_make(r, usual ? type : any_float(r), kernel, KEROPS_PACKED, 0);
    kerops_operand bias = kerops_make(r, KAENA_F32, column, KEROPS_PACKED, 0);
    kerops_operand dst = kerops_make(r, usual ? type : any_float(r), out,
                                     usual ? KEROPS_PADDED : kerops_any_layout(r), 0);
    kerops_operand residual = {0};
    any_values(r, &src.ap, special);
    any_values(r, &weights.ap, special);
    any_values(r, &bias.ap, special);
    a.src = src.ap;
    a.weights = weights.ap;
    a.dst = dst.ap;
    a.ep = (ker_epilogue){.scale_all = 1,
                          .bias_all = 0,
                          .func = kerops_below(r, 3) ? KAENA_ACT_CLIP : KAENA_ACT_HARD_SWISH,
                          .alpha = 0,
                          .beta = 6,
                          .residual_after = kerops_below(r, 2)};
    if (kerops_below(r, 3))
        a.ep.bias = (const float *)(const void *)bias.ap.p;
    if (kerops_below(r, 3) == 0) {
        residual = kerops_make(r, any_float(r), out, kerops_any_layout(r), 0);
        any_values(r, &residual.ap, special);
        a.residual = residual.ap;
    }
    KEROPS_CHECK(r, dwconv, &a, &dst);
    if (!special)
        KEROPS_EACH(&dst.ap, i)
        {
            double sum = 0, scale = 0;
            for (uint32_t y = 0; y < kernel[1]; y++)
                for (uint32_t x = 0; x < kernel[2]; x++) {
                    const double t = kerops_get(&src.ap, i[0], i[1] * a.stride_h + y * a.dilation_h,
                                                i[2] * a.stride_w + x * a.dilation_w, i[3]) *
                                     kerops_get(&weights.ap, 0, y, x, i[3]);
                    sum += t;
                    scale += fabs(t);
                }
            sum += a.ep.bias ? (double)a.ep.bias[i[3]] : 0;
            const double rest = residual.ap.p ? element(&residual.ap, i) : 0;
            double want = keract(a.ep.func, sum + (a.ep.residual_after ? 0 : rest), 0, 6);
            want += a.ep.residual_after ? rest : 0;
            ASSERT_NEAR(&dst.ap, i, want, scale + 10, 4e-6, "dwconv");
        }
    kerops_free(&src);
    kerops_free(&weights);
    kerops_free(&bias);
    kerops_free(&dst);
    kerops_free(&residual);
}

/* --- resize ------------------------------------------------------------------------------ */

static void check_resize(kerops_rng *r, bool special)
{
    uint32_t in[4], out[4];
    any_count(r, in);
    memcpy(out, in, sizeof out);
    out[1] = 1 + kerops_below(r, 5);
    out[2] = 1 + kerops_below(r, 5);
    const uint32_t ny[4] = {1, 1, out[1], 1 + kerops_below(r, 4)};
    const uint32_t nx[4] = {1, 1, out[2], 1 + kerops_below(r, 4)};
    const kaena_dtype type = any_float(r);
    kerops_operand src = kerops_make(r, type, in, kerops_any_layout(r), 0);
    kerops_operand dst =
        kerops_make(r, kerops_below(r, 3) ? type : any_float(r), out, kerops_any_layout(r), 0);
    kerops_operand t[4];
    for (int k = 0; k < 4; k++) {
        t[k] =
            kerops_make(r, k & 1 ? KAENA_F32 : KAENA_I32, k & 2 ? nx : ny, kerops_any_layout(r), 0);
        KEROPS_EACH(&t[k].ap, i)
        {
            /* With special values an index may miss the source on either side. */
            const uint32_t n = in[k & 2 ? 2 : 1];
            const double index = special ? (double)kerops_below(r, n + 4) - 2 : kerops_below(r, n);
            kerops_set(&t[k].ap, i, k & 1 ? (double)kerops_uniform(r, -1, 1) : index);
        }
    }
    any_values(r, &src.ap, special);
    _Atomic uint32_t bad = 0;
    ker_resize_args a = {.src = src.ap,
                         .dst = dst.ap,
                         .y_index = t[0].ap,
                         .y_weight = t[1].ap,
                         .x_index = t[2].ap,
                         .x_weight = t[3].ap,
                         .bad_index = &bad};
    KEROPS_CHECK(r, resize, &a, &dst);
    bool outside = false;
    for (int k = 0; k < 4; k += 2)
        KEROPS_EACH(&t[k].ap, i)
        {
            const double index = element(&t[k].ap, i);
            outside |= index < 0 || index >= in[k ? 2 : 1];
        }
    cr_assert(outside == (atomic_load(&bad) != 0), "the flag of a bad index");
    if (!special)
        KEROPS_EACH(&dst.ap, i)
        {
            double sum = 0;
            for (uint32_t y = 0; y < ny[3]; y++)
                for (uint32_t x = 0; x < nx[3]; x++)
                    sum += kerops_get(&t[1].ap, 0, 0, i[1], y) *
                           kerops_get(&t[3].ap, 0, 0, i[2], x) *
                           kerops_get(&src.ap, i[0], (uint32_t)kerops_get(&t[0].ap, 0, 0, i[1], y),
                                      (uint32_t)kerops_get(&t[2].ap, 0, 0, i[2], x), i[3]);
            ASSERT_NEAR(&dst.ap, i, sum, 64.0, 1e-6, "resize");
        }
    kerops_free(&src);
    kerops_free(&dst);
    for (int k = 0; k < 4; k++)
        kerops_free(&t[k]);
}

/* --- copy, fill, gather ------------------------------------------------------------------ */

static const kaena_dtype numbers[] = {KAENA_F32, KAENA_BF16, KAENA_F16, KAENA_F32,  KAENA_BF16,
                                      KAENA_U8,  KAENA_I8,   KAENA_U16, KAENA_I16,  KAENA_I32,
                                      KAENA_I64, KAENA_F64,  KAENA_U32, KAENA_BOOL, KAENA_U64};

static kaena_dtype any_number(kerops_rng *r)
{
    return numbers[kerops_below(r, sizeof numbers / sizeof *numbers)];
}

static void check_copy(kerops_rng *r, bool special)
{
    uint32_t count[4];
    any_count(r, count);
    if (kerops_below(r, 2))
        count[2] = 1 + kerops_below(r, 40);
    const kaena_dtype from = any_number(r), to = kerops_below(r, 3) ? any_number(r) : from;
    kerops_operand src = kerops_make(r, from, count, kerops_any_layout(r),
                                     kerops_below(r, 5) ? 0 : kerops_below(r, 16));
    kerops_operand dst = kerops_make(r, to, count, kerops_any_layout(r), 0);
    if (special)
        kerops_fill_special(r, &src.ap);
    else
        kerops_fill(r, &src.ap, 0, 100);
    ker_copy_args a = {.src = src.ap, .dst = dst.ap};
    KEROPS_CHECK(r, copy, &a, &dst);
    if (!special || from == to)
        KEROPS_EACH(&dst.ap, i)
        {
            uint64_t want = 0, got = 0;
            const void *at = kerops_at(&src.ap, i);
            uint64_t raw = 0;
            memcpy(&raw, at, kaena_dtype_size(from));
            kaena_cast(&want, to, &raw, from, 1);
            memcpy(&got, kerops_at(&dst.ap, i), kaena_dtype_size(to));
            cr_assert(want == got, "%s to %s: %#llx gives %#llx, not %#llx", kaena_dtype_name(from),
                      kaena_dtype_name(to), (unsigned long long)raw, (unsigned long long)got,
                      (unsigned long long)want);
        }
    kerops_free(&src);
    kerops_free(&dst);
}

/* Planes become channels that lie side by side, as images come in. */
static void check_planes(kerops_rng *r, bool special)
{
    const uint32_t channels = 1 + kerops_below(r, 5);
    const uint32_t in[4] = {1, 1 + kerops_below(r, 3), channels, 1 + kerops_below(r, 70)};
    const uint32_t out[4] = {1, in[1], in[3], channels};
    const kaena_dtype from = any_float(r), to = kerops_below(r, 2) ? KAENA_BF16 : any_float(r);
    kerops_operand src = kerops_make(r, from, in, KEROPS_PACKED, 0);
    const int64_t stride = src.ap.stride[2];
    src.ap.stride[2] = src.ap.stride[3];
    src.ap.stride[3] = stride;
    memcpy(src.ap.count, out, sizeof out);
    kerops_operand dst = kerops_make(r, to, out, KEROPS_PACKED, 0);
    any_values(r, &src.ap, special);
    ker_copy_args a = {.src = src.ap, .dst = dst.ap};
    KEROPS_CHECK(r, copy, &a, &dst);
    if (!special)
        KEROPS_EACH(&dst.ap, i)
        {
            ASSERT_NEAR(&dst.ap, i, element(&src.ap, i), 4.0, 1e-9, "copy of planes");
        }
    kerops_free(&src);
    kerops_free(&dst);
}

static void check_fill(kerops_rng *r, bool special)
{
    uint32_t count[4];
    any_count(r, count);
    kerops_operand dst = kerops_make(r, any_number(r), count, kerops_any_layout(r), 0);
    ker_fill_args a = {.dst = dst.ap,
                       .value = special ? UINT64_C(0x0123456789abcdef) : kerops_below(r, 2)};
    KEROPS_CHECK(r, fill, &a, &dst);
    KEROPS_EACH(&dst.ap, i)
    {
        cr_assert(memcmp(kerops_at(&dst.ap, i), &a.value, kaena_dtype_size(dst.ap.dtype)) == 0);
    }
    kerops_free(&dst);
}

static void check_gather(kerops_rng *r, bool special)
{
    uint32_t out[4], table_count[4];
    any_count(r, out);
    const uint32_t bound = 1 + kerops_below(r, 9);
    const uint32_t index_count[4] = {1, 1, 1, out[1]};
    memcpy(table_count, out, sizeof out);
    table_count[1] = bound;
    const kaena_dtype type = any_number(r);
    kerops_operand table = kerops_make(r, type, table_count, kerops_any_layout(r), 0);
    kerops_operand dst = kerops_make(r, type, out, kerops_any_layout(r), 0);
    kerops_operand index =
        kerops_make(r, kerops_below(r, 2) ? KAENA_I32 : KAENA_I64, index_count, KEROPS_STRIDED, 0);
    any_values(r, &table.ap, special);
    const double low = -(double)bound - (special ? 2 : 0), span = 2.0 * bound + (special ? 4 : 0);
    KEROPS_EACH(&index.ap, i)
    {
        kerops_set(&index.ap, i, low + kerops_below(r, (uint32_t)span));
    }
    _Atomic uint32_t bad = 0;
    ker_gather_args a = {
        .table = table.ap, .index = index.ap, .dst = dst.ap, .bound = bound, .bad_index = &bad};
    KEROPS_CHECK(r, gather, &a, &dst);
    bool outside = false;
    KEROPS_EACH(&dst.ap, i)
    {
        double row = kerops_get(&index.ap, 0, 0, 0, i[1]);
        row += row < 0 ? bound : 0;
        const bool bad_row = row < 0 || row >= bound;
        outside |= bad_row;
        const uint32_t from[4] = {i[0], bad_row ? 0 : (uint32_t)row, i[2], i[3]};
        cr_assert(
            memcmp(kerops_at(&dst.ap, i), kerops_at(&table.ap, from), kaena_dtype_size(type)) == 0);
    }
    cr_assert(outside == (atomic_load(&bad) != 0), "the flag of a bad index");
    kerops_free(&table);
    kerops_free(&dst);
    kerops_free(&index);
}

/* --- pack -------------------------------------------------------------------------------- */

static void check_pack(kerops_rng *r, bool special)
{
    const kaena_dtype type = kerops_below(r, 6) ? any_float(r) : KAENA_I8;
    const kaena_dtype from = type == KAENA_I8 || kerops_below(r, 2) ? type : any_float(r);
    const uint32_t pair = 4 / (uint32_t)kaena_dtype_size(type);
    const uint32_t in[4] = {1 + kerops_below(r, 3), 1, 1 + kerops_below(r, 80),
                            1 + kerops_below(r, 40)};
    const uint32_t out[4] = {in[0], (in[3] + 15) / 16, (in[2] + pair - 1) / pair, 16 * pair};
    kerops_operand src = kerops_make(r, from, in, kerops_any_layout(r), 0);
    if (kerops_below(r, 2)) { /* the other way round: K contiguous */
        kerops_free(&src);
        const uint32_t turned[4] = {in[0], 1, in[3], in[2]};
        src = kerops_make(r, from, turned, kerops_any_layout(r), 0);
        const int64_t stride = src.ap.stride[2];
        src.ap.stride[2] = src.ap.stride[3];
        src.ap.stride[3] = stride;
        memcpy(src.ap.count, in, sizeof in);
    }
    kerops_operand dst = kerops_make(r, type, out, KEROPS_PACKED, 0);
    if (type == KAENA_I8)
        kerops_fill(r, &src.ap, -128, 127);
    else
        any_values(r, &src.ap, special);
    ker_pack_args a = {.src = src.ap, .dst = dst.ap};
    KEROPS_CHECK(r, pack, &a, &dst);
    if (!special || from == type)
        KEROPS_EACH(&dst.ap, i)
        {
            const uint32_t k = i[2] * pair + i[3] % pair, c = i[1] * 16 + i[3] / pair;
            const double want = k < in[2] && c < in[3] ? kerops_get(&src.ap, i[0], 0, k, c) : 0,
                         got = element(&dst.ap, i);
            cr_assert(got == want || (got != got && want != want) ||
                          kerops_near(type, got, want, 4, 1e-9),
                      "pack: %g, not %g at k %u, column %u", got, want, k, c);
        }
    kerops_free(&src);
    kerops_free(&dst);
}

/* --- The tests --------------------------------------------------------------------------- */

FAMILY_TEST(kernels_space, window, 800)
FAMILY_TEST(kernels_space, dwconv, 300)
FAMILY_TEST(kernels_space, resize, 300)
FAMILY_TEST(kernels_space, copy, 800)
FAMILY_TEST(kernels_space, planes, 300)
FAMILY_TEST(kernels_space, fill, 200)
FAMILY_TEST(kernels_space, gather, 200)
FAMILY_TEST(kernels_space, pack, 400)
