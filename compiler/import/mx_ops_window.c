/* Convolutions, pooling, resizing. */
#include <string.h>

#include "checked.h"
#include "mx_ops.h"

#define MAX_SPATIAL KOP_MAX_SPATIAL

/* --- Layouts --------------------------------------------------------------------------------- */

/* "NHWC" and its kin: channels stand last. */
static bool channels_last(mx_xlat *x)
{
    const char *layout = mx_string(x, "layout", "NCHW");
    size_t n = strlen(layout);
    if (n >= 3 && layout[0] == 'N' && layout[1] == 'C')
        return false;
    if (n >= 3 && layout[0] == 'N' && layout[n - 1] == 'C')
        return true;
    if (x->status == KAENA_OK)
        (void)MX_FAIL(x, UNIMPLEMENTED, "layout '%s' is not supported", layout);
    return false;
}

static kgr_value *channels_first(mx_xlat *x, kgr_value *v, bool last)
{
    return last ? mx_move_axis(x, MX_TMP, v, v->t.shape.rank - 1, 1) : v;
}

/* The end of a handler that worked channels-first in |v|. */
static kaena_status finish(mx_xlat *x, kgr_value *v, bool last)
{
    if (last)
        (void)mx_move_axis(x, 0, v, 1, v->t.shape.rank - 1);
    return KAENA_OK;
}

/* |n| whole numbers, |otherwise| where the attribute is absent or "()", and where anything has
 * failed. */
static void spatial(mx_xlat *x, const char *name, int64_t otherwise, int32_t n, int64_t *out)
{
    uint32_t count = mx_ints(x, name, out, MAX_SPATIAL);
    for (int32_t i = 0; count == 0 && i < n; i++)
        out[i] = otherwise;
    if (count != 0 && count != (uint32_t)n && x->status == KAENA_OK)
        (void)MX_FAIL(x, INVALID_ARGUMENT, "%s has %u values where %d are required", name, count,
                      n);
    for (int32_t i = 0; i < n && x->status == KAENA_OK; i++)
        if (out[i] < 0 || out[i] > INT32_MAX)
            (void)MX_FAIL(x, INVALID_ARGUMENT, "%s has the value %lld", name, (long long)out[i]);
    for (int32_t i = 0; i < n && x->status != KAENA_OK; i++)
        out[i] = otherwise;
}

/* The kernel's dimensions, as many as the data has behind batch and channels; one of 1 where
 * anything has failed. */
static int32_t kernel_of(mx_xlat *x, const kgr_value *v, int64_t *kernel)
{
    int32_t n = (int32_t)mx_ints(x, "kernel", kernel, MAX_SPATIAL);
    if (x->status == KAENA_OK && (n == 0 || v->t.shape.rank != n + 2))
        (void)MX_FAIL(x, INVALID_ARGUMENT, "a kernel of %d dimensions does not fit data of %d", n,
                      v->t.shape.rank);
    for (int32_t i = 0; i < n; i++)
        kernel[i] = mx_size(x, "a kernel's dimension", kernel[i]);
    if (x->status == KAENA_OK)
        return n;
    kernel[0] = 1;
    return 1;
}

/* --- Convolutions ---------------------------------------------------------------------------- */

/* The weights as [first, second, kernel...]; with channels last they lie as [first, kernel...,
 * second]. */
static kgr_value *weights_of(mx_xlat *x, int64_t first, int64_t second, const int64_t *kernel,
                             int32_t n, bool last)
{
    kaena_shape s = {.rank = n + 2, .dim = {first}};
    for (int32_t i = 0; i < n; i++)
        s.dim[(last ? 1 : 2) + i] = kernel[i];
    s.dim[last ? n + 1 : 1] = second;
    return channels_first(x, mx_want(x, 1, &s), last);
}

kaena_status mx_do_convolution(mx_xlat *x)
{
    int64_t kernel[MAX_SPATIAL], stride[MAX_SPATIAL], dilate[MAX_SPATIAL], pad[2 * MAX_SPATIAL];
    bool last = channels_last(x), no_bias = mx_bool(x, "no_bias", false);
    kgr_value *v = channels_first(x, mx_in(x, 0), last);
    int32_t n = kernel_of(x, v, kernel);
    int64_t filters = mx_size(x, "num_filter", mx_need_int(x, "num_filter"));
    int64_t group = mx_size(x, "num_group", mx_int(x, "num_group", 1));
    int64_t channels = v->t.shape.dim[1];
    spatial(x, "stride", 1, n, stride);
    spatial(x, "dilate", 1, n, dilate);
    spatial(x, "pad", 0, n, pad);
    memcpy(pad + n, pad, (size_t)n * sizeof *pad);
    if (x->status == KAENA_OK && (channels % group != 0 || filters % group != 0))
        return MX_FAIL(x, INVALID_ARGUMENT,
                       "%lld channels and %lld filters do not divide into %lld groups",
                       (long long)channels, (long long)filters, (long long)group);
    kgr_value *in[3] = {v, weights_of(x, filters, channels / group, kernel, n, last)};
    if (!no_bias)
        in[2] = mx_want_list(x, 2, filters);
    v = mx_emit(x, last ? MX_TMP : 0, KOP_Conv, in, no_bias ? 2 : 3,
                MX_ATTRS(MX_ATTR_INTS("strides", stride, n), MX_ATTR_INTS("dilations", dilate, n),
                         MX_ATTR_INTS("pads", pad, 2 * n), MX_ATTR_INT("group", group)));
    return finish(x, v, last);
}

/* target_shape says the result's size; padding follows, what is odd goes to the end. */
static void target_pads(mx_xlat *x, const kgr_value *v, int32_t n, const int64_t *kernel,
                        const int64_t *stride, const int64_t *dilate, int64_t *pad, int64_t *adjust)
{
    int64_t target[MAX_SPATIAL];
    bool said = false;
    spatial(x, "target_shape", 0, n, target);
    for (int32_t i = 0; i < n; i++)
        said = said || target[i] != 0;
    for (int32_t i = 0; i < n && said && x->status == KAENA_OK; i++) {
        const int64_t last = v->t.shape.dim[2 + i] - 1;
        uint64_t steps, reach, whole;
        if (last < 0 || !kaena_mul_u64((uint64_t)stride[i], (uint64_t)last, &steps) ||
            !kaena_mul_u64((uint64_t)kernel[i] - 1, (uint64_t)dilate[i], &reach) ||
            !kaena_add_u64(steps, reach + 1, &whole) || whole > INT32_MAX)
            (void)MX_FAIL(x, INVALID_ARGUMENT, "a result of %lld steps of %lld is too large",
                          (long long)last, (long long)stride[i]);
        else if (whole < (uint64_t)target[i])
            (void)MX_FAIL(x, INVALID_ARGUMENT, "target_shape %lld is larger than %llu",
                          (long long)target[i], (unsigned long long)whole);
        else {
            adjust[i] = ((int64_t)whole - target[i]) % 2;
            pad[i] = ((int64_t)whole - target[i] + 1) / 2;
        }
    }
}

kaena_status mx_do_deconvolution(mx_xlat *x)
{
    int64_t kernel[MAX_SPATIAL], stride[MAX_SPATIAL], dilate[MAX_SPATIAL], pad[2 * MAX_SPATIAL];
    int64_t adjust[MAX_SPATIAL];
    bool last = channels_last(x), no_bias = mx_bool(x, "no_bias", true);
    kgr_value *v = channels_first(x, mx_in(x, 0), last);
    int32_t n = kernel_of(x, v, kernel);
    int64_t filters = mx_size(x, "num_filter", mx_need_int(x, "num_filter"));
    int64_t group = mx_size(x, "num_group", mx_int(x, "num_group", 1));
    spatial(x, "stride", 1, n, stride);
    spatial(x, "dilate", 1, n, dilate);
    spatial(x, "pad", 0, n, pad);
    spatial(x, "adj", 0, n, adjust);
    target_pads(x, v, n, kernel, stride, dilate, pad, adjust);
    memcpy(pad + n, pad, (size_t)n * sizeof *pad);
    if (x->status == KAENA_OK && filters % group != 0)
        return MX_FAIL(x, INVALID_ARGUMENT, "%lld filters do not divide into %lld groups",
                       (long long)filters, (long long)group);
    kgr_value *in[3] = {v, weights_of(x, v->t.shape.dim[1], filters / group, kernel, n, last)};
    if (!no_bias)
        in[2] = mx_want_list(x, 2, filters);
    v = mx_emit(x, last ? MX_TMP : 0, KOP_ConvTranspose, in, no_bias ? 2 : 3,
                MX_ATTRS(MX_ATTR_INTS("strides", stride, n), MX_ATTR_INTS("dilations", dilate, n),
                         MX_ATTR_INTS("pads", pad, 2 * n),
                         MX_ATTR_INTS("output_padding", adjust, n), MX_ATTR_INT("group", group)));
    return finish(x, v, last);
}

/* --- Pooling --------------------------------------------------------------------------------- */

typedef struct pooling {
    int32_t n;
    int64_t kernel[MAX_SPATIAL], stride[MAX_SPATIAL];
    int64_t pad[2 * MAX_SPATIAL]; /* the end is as far as the last window reaches */
    int64_t said[MAX_SPATIAL];    /* the padding of the attribute */
    int64_t in[MAX_SPATIAL], out[MAX_SPATIAL];
} pooling;

/* The convention says how the number of windows is rounded: "valid" down, "full" up. "same" (one
 * dimension, no padding) rounds up the number of strides. */
static void place_windows(mx_xlat *x, const kgr_value *v, pooling *p)
{
    const char *convention = mx_string(x, "pooling_convention", "valid");
    bool full = strcmp(convention, "full") == 0, same = strcmp(convention, "same") == 0;
    if (!full && !same && strcmp(convention, "valid") != 0 && x->status == KAENA_OK)
        (void)MX_FAIL(x, UNIMPLEMENTED, "pooling_convention '%s' is not supported", convention);
    for (int32_t i = 0; i < p->n && x->status == KAENA_OK; i++) {
        int64_t stride = mx_size(x, "stride", p->stride[i]), before = p->said[i];
        int64_t room = v->t.shape.dim[2 + i] + 2 * before - p->kernel[i];
        if (room < 0 && !same) {
            (void)MX_FAIL(x, INVALID_ARGUMENT, "the window is larger than dimension %d", 2 + i);
            return;
        }
        p->in[i] = v->t.shape.dim[2 + i];
        p->out[i] = same ? (p->in[i] + 2 * before + stride - 1) / stride
                         : (room + (full ? stride - 1 : 0)) / stride + 1;
        int64_t after = (p->out[i] - 1) * stride + p->kernel[i] - p->in[i] - before;
        p->pad[i] = before;
        p->pad[p->n + i] = after > 0 ? after : 0;
    }
}

/* Windows that reach past the padding count only what lies inside it: 1 / count for each, where the
 * average over whole windows divides by the kernel's size. */
static kgr_value *correct_average(mx_xlat *x, int32_t out, kgr_value *v, const pooling *p,
                                  bool is_sum)
{
    int64_t size = 1, total = 1;
    kaena_shape s = {.rank = p->n + 2, .dim = {1, 1}};
    for (int32_t i = 0; i < p->n; i++) {
        size *= p->kernel[i];
        total *= p->out[i];
        s.dim[2 + i] = p->out[i];
    }
    if (is_sum)
        return mx_2(x, out, KOP_Mul, v, mx_scalar(x, v->t.dtype, (double)size));
    float *factor =
        total <= KCC_MX_MAX_FILLED ? KAENA_NEW_N(x->imp->arena, float, (size_t)total) : NULL;
    if (!factor && x->status == KAENA_OK)
        (void)MX_FAIL(x, RESOURCE_EXHAUSTED, "its output is too large");
    for (int64_t k = 0; k < total && factor; k++) {
        int64_t count = 1, rest = k;
        for (int32_t i = p->n; i-- > 0; rest /= p->out[i]) {
            int64_t begin = rest % p->out[i] * p->stride[i] - p->pad[i];
            int64_t end = begin + p->kernel[i], limit = p->in[i] + p->said[i];
            count *= (end < limit ? end : limit) - begin;
        }
        factor[k] = count > 0 ? (float)size / (float)count : 0;
    }
    return mx_2(x, out, KOP_Mul, v, factor ? mx_f32s(x, &s, factor, v->t.dtype) : &x->nothing);
}

static kaena_status global_pool(mx_xlat *x, kgr_value *v, const char *type, bool last)
{
    int64_t axes[KAENA_MAX_RANK];
    uint32_t n = 0;
    for (int32_t i = 2; i < v->t.shape.rank; i++)
        axes[n++] = i;
    int32_t out = last ? MX_TMP : 0;
    if (strcmp(type, "max") == 0)
        v = mx_1(x, out, KOP_GlobalMaxPool, v);
    else if (strcmp(type, "avg") == 0)
        v = mx_1(x, out, KOP_GlobalAveragePool, v);
    else if (strcmp(type, "sum") == 0)
        v = mx_reduce(x, out, KOP_ReduceSum, v, axes, n, true);
    else
        v = mx_emit(x, out, KOP_GlobalLpPool, MX_IN(v),
                    MX_ATTRS(MX_ATTR_INT("p", mx_need_int(x, "p_value"))));
    return finish(x, v, last);
}

kaena_status mx_do_pooling(mx_xlat *x)
{
    pooling p = {0};
    bool last = channels_last(x), count_pad = mx_bool(x, "count_include_pad", true);
    const char *type = mx_string(x, "pool_type", "max");
    bool is_max = strcmp(type, "max") == 0, is_sum = strcmp(type, "sum") == 0;
    bool is_lp = strcmp(type, "lp") == 0;
    if (!is_max && !is_sum && !is_lp && strcmp(type, "avg") != 0)
        return MX_FAIL(x, UNIMPLEMENTED, "pool_type '%s' is not supported", type);
    kgr_value *v = channels_first(x, mx_in(x, 0), last);
    if (x->status == KAENA_OK && (v->t.shape.rank < 3 || v->t.shape.rank > 5))
        return MX_FAIL(x, INVALID_ARGUMENT, "data of %d dimensions", v->t.shape.rank);
    if (mx_bool(x, "global_pool", false))
        return global_pool(x, v, type, last);
    p.n = kernel_of(x, v, p.kernel);
    spatial(x, "stride", 1, p.n, p.stride);
    spatial(x, "pad", 0, p.n, p.said);
    place_windows(x, v, &p);
    bool beyond = false;
    for (int32_t i = 0; i < p.n; i++)
        beyond = beyond || p.pad[p.n + i] > p.said[i];
    kop_attr attr[5] = {MX_ATTR_INTS("kernel_shape", p.kernel, p.n),
                        MX_ATTR_INTS("strides", p.stride, p.n),
                        MX_ATTR_INTS("pads", p.pad, 2 * p.n),
                        MX_ATTR_INT("count_include_pad", is_sum || count_pad)};
    int32_t out = last ? MX_TMP : 0;
    if (is_max || is_lp) {
        attr[3] = MX_ATTR_INT("p", is_lp ? mx_need_int(x, "p_value") : 0);
        v = mx_emit(x, out, is_lp ? KOP_LpPool : KOP_MaxPool, MX_IN(v), attr, is_lp ? 4 : 3);
        return finish(x, v, last);
    }
    bool correct = is_sum || (count_pad && beyond);
    v = mx_emit(x, correct ? MX_TMP : out, KOP_AveragePool, MX_IN(v), attr, 4);
    if (correct)
        v = correct_average(x, out, v, &p, is_sum);
    return finish(x, v, last);
}

/* A matrix [to, from] that averages the elements each result covers. */
static kgr_value *averages(mx_xlat *x, int64_t from, int64_t to, kaena_dtype type, bool transposed)
{
    kaena_shape s = {2, {transposed ? from : to, transposed ? to : from}};
    float *m =
        from <= 4096 && to <= 4096 ? KAENA_NEW_N(x->imp->arena, float, (size_t)(from * to)) : NULL;
    if (!m) {
        if (x->status == KAENA_OK)
            (void)MX_FAIL(x, RESOURCE_EXHAUSTED, "a dimension is too large");
        return &x->nothing;
    }
    for (int64_t i = 0; i < to; i++) {
        int64_t begin = i * from / to, end = ((i + 1) * from + to - 1) / to;
        for (int64_t k = begin; k < end; k++)
            m[transposed ? k * to + i : i * from + k] = 1.0f / (float)(end - begin);
    }
    return mx_f32s(x, &s, m, type);
}

kaena_status mx_do_adaptive_pooling(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    int64_t out[2] = {1, 1};
    uint32_t n = mx_ints(x, "output_size", out, 2);
    if (n == 1)
        out[1] = out[0];
    if (x->status == KAENA_OK && v->t.shape.rank != 4)
        return MX_FAIL(x, INVALID_ARGUMENT, "the data is not [batch, channels, height, width]");
    int64_t h = v->t.shape.dim[2], w = v->t.shape.dim[3];
    out[0] = mx_size(x, "output_size", out[0]);
    out[1] = mx_size(x, "output_size", out[1]);
    if (out[0] == 1 && out[1] == 1) {
        (void)mx_1(x, 0, KOP_GlobalAveragePool, v);
    } else if (h % out[0] == 0 && w % out[1] == 0) {
        int64_t kernel[2] = {h / out[0], w / out[1]};
        (void)mx_emit(
            x, 0, KOP_AveragePool, MX_IN(v),
            MX_ATTRS(MX_ATTR_INTS("kernel_shape", kernel, 2), MX_ATTR_INTS("strides", kernel, 2)));
    } else {
        kgr_value *rows = averages(x, h, out[0], v->t.dtype, false);
        kgr_value *columns = averages(x, w, out[1], v->t.dtype, true);
        (void)mx_2(x, 0, KOP_MatMul, mx_2(x, MX_TMP, KOP_MatMul, rows, v), columns);
    }
    return KAENA_OK;
}

/* --- Resizing -------------------------------------------------------------------------------- */

static kgr_value *resize(mx_xlat *x, int32_t out, kgr_value *v, int64_t h, int64_t w,
                         const char *mode, const char *transform)
{
    const int64_t sizes[4] = {v->t.shape.dim[0], v->t.shape.dim[1], h, w};
    if (x->status != KAENA_OK)
        return &x->nothing;
    return mx_emit(x, out, KOP_Resize, MX_IN(v, NULL, NULL, mx_i64(x, sizes, 4)),
                   MX_ATTRS(MX_ATTR_STRING("mode", mode), MX_ATTR_STRING("nearest_mode", "floor"),
                            MX_ATTR_STRING("coordinate_transformation_mode", transform)));
}

/* A deconvolution of each channel by itself; the weights are a parameter. */
static kaena_status up_sample_bilinear(mx_xlat *x, kgr_value *v, int64_t scale)
{
    int64_t k = 2 * scale - scale % 2, pad = scale / 2, c = v->t.shape.dim[1];
    const int64_t stride[2] = {scale, scale}, pads[4] = {pad, pad, pad, pad};
    kgr_value *w = mx_want(x, 1, &(kaena_shape){4, {c, 1, k, k}});
    (void)mx_emit(x, 0, KOP_ConvTranspose, MX_IN(v, w),
                  MX_ATTRS(MX_ATTR_INTS("strides", stride, 2), MX_ATTR_INTS("pads", pads, 4),
                           MX_ATTR_INT("group", c)));
    return KAENA_OK;
}

kaena_status mx_do_up_sampling(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0), *in[MX_MAX_INPUTS];
    int64_t scale = mx_size(x, "scale", mx_need_int(x, "scale"));
    if (x->status == KAENA_OK && v->t.shape.rank != 4)
        return MX_FAIL(x, INVALID_ARGUMENT, "the data is not [batch, channels, height, width]");
    if (scale > 4096)
        return MX_FAIL(x, INVALID_ARGUMENT, "scale is %lld", (long long)scale);
    if (strcmp(mx_string(x, "sample_type", "nearest"), "bilinear") == 0)
        return up_sample_bilinear(x, v, scale);
    int64_t h = v->t.shape.dim[2] * scale, w = v->t.shape.dim[3] * scale;
    bool many = x->n_in > 1;
    for (uint32_t i = 0; i < x->n_in; i++)
        in[i] = resize(x, many ? MX_TMP : 0, mx_in(x, i), h, w, "nearest", "asymmetric");
    if (many && strcmp(mx_string(x, "multi_input_mode", "concat"), "sum") == 0)
        (void)mx_emit(x, 0, KOP_Sum, in, x->n_in, MX_NO_ATTRS);
    else if (many)
        (void)mx_concat(x, 0, in, x->n_in, 1);
    return KAENA_OK;
}

static int64_t scaled(mx_xlat *x, const char *name, const char *size, int64_t dim)
{
    if (mx_text(x, name))
        return (int64_t)(mx_float(x, name, 1) * (double)dim);
    return mx_need_int(x, size);
}

kaena_status mx_do_bilinear_resize(mx_xlat *x)
{
    kgr_value *v = mx_in(x, 0);
    const char *mode = mx_string(x, "mode", "size");
    bool align = mx_bool(x, "align_corners", true);
    int64_t h, w;
    if (x->status == KAENA_OK && v->t.shape.rank != 4)
        return MX_FAIL(x, INVALID_ARGUMENT, "the data is not [batch, channels, height, width]");
    if (strcmp(mode, "like") == 0) {
        kgr_value *like = mx_in(x, 1);
        h = like->t.shape.dim[2];
        w = like->t.shape.dim[3];
    } else if (strcmp(mode, "size") == 0) {
        h = scaled(x, "scale_height", "height", v->t.shape.dim[2]);
        w = scaled(x, "scale_width", "width", v->t.shape.dim[3]);
    } else {
        return MX_FAIL(x, UNIMPLEMENTED, "mode '%s' is not supported", mode);
    }
    (void)resize(x, 0, v, mx_size(x, "height", h), mx_size(x, "width", w), "linear",
                 align ? "align_corners" : "half_pixel");
    return KAENA_OK;
}
