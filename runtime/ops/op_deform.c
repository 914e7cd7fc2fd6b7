/* Windows at places that are data: DeformConv (images only), MaxRoiPool. */
#include "ops_impl.h"

#include <math.h>

/* --- DeformConv: (X, W, offset, [B], [mask]) --- */

typedef struct deform {
    int64_t image[2], kernel[2], stride[2], dilation[2], pad[4], out[2];
    int64_t batch, channels, filters, group, offset_group;
} deform;

static bool has_shape(const kop_tensor *t, int64_t n, int64_t c, const int64_t *size)
{
    const int64_t *d = t->shape.dim;
    return !kop_known(t) || (d[0] == n && d[1] == c && d[2] == size[0] && d[3] == size[1]);
}

static kaena_status deform_of(const kop_call *call, deform *out)
{
    const kop_tensor *x = call->in[0], *w = call->in[1], *bias = kop_in(call, 3);
    const kop_tensor *mask = kop_in(call, 4);
    const int64_t *given;
    deform d = {.batch = x->shape.dim[0],
                .channels = x->shape.dim[1],
                .filters = w->shape.dim[0],
                .group = kop_attr_int(call, "group", 1),
                .offset_group = kop_attr_int(call, "offset_group", 1)};
    KAENA_TRY(kop_attr_sizes(call, "strides", 1, 1, 2, d.stride));
    KAENA_TRY(kop_attr_sizes(call, "dilations", 1, 1, 2, d.dilation));
    KAENA_TRY(kop_attr_sizes(call, "pads", 0, 0, 4, d.pad));
    if (d.group < 1 || d.offset_group < 1 || d.channels % d.group || d.filters % d.group ||
        d.channels % d.offset_group || w->shape.dim[1] != d.channels / d.group)
        return KOP_BAD(call, "channels, weights and groups do not fit");
    uint32_t n_kernel = kop_attr_ints(call, "kernel_shape", &given);
    for (int32_t i = 0; i < 2; i++) {
        d.image[i] = x->shape.dim[2 + i];
        d.kernel[i] = w->shape.dim[2 + i];
        if (d.kernel[i] < 1 || d.kernel[i] >= KOP_SIZE_LIMIT || d.image[i] >= KOP_SIZE_LIMIT ||
            (n_kernel && (n_kernel != 2 || given[i] != d.kernel[i])))
            return KOP_BAD(call, "the kernel's shape is not possible or not that of the weights");
        int64_t room = d.image[i] + d.pad[i] + d.pad[2 + i] - d.dilation[i] * (d.kernel[i] - 1) - 1;
        if (room < 0)
            return KOP_BAD(call, "the window is larger than dimension %d", 2 + i);
        d.out[i] = room / d.stride[i] + 1;
    }
    int64_t places, both;
    if (!kaena_mul_i64(d.offset_group, d.kernel[0], &places) ||
        !kaena_mul_i64(places, d.kernel[1], &places) || !kaena_mul_i64(places, 2, &both) ||
        !has_shape(call->in[2], d.batch, both, d.out) ||
        (mask && !has_shape(mask, d.batch, places, d.out)))
        return KOP_BAD(call, "offsets or masks do not fit: one for each place of a window");
    if (kop_known(bias) && bias->shape.dim[0] != d.filters)
        return KOP_BAD(call, "there must be one bias for each filter");
    *out = d;
    return KAENA_OK;
}

kaena_status kop_infer_deform_conv(kop_call *call)
{
    const kop_tensor *x = call->in[0], *w = call->in[1];
    for (uint32_t i = 0; i < call->n_in; i++) {
        const kop_tensor *t = kop_in(call, i);
        KAENA_TRY(kop_need(call, i, KOP_T_FLOAT));
        KAENA_TRY(kop_need_same(call, 0, i));
        if (t && !t->unranked && i != 3 && t->shape.rank != 4)
            return KAENA_FAIL(call->err, UNIMPLEMENTED,
                              "DeformConv: input %u has rank %d; only images, of rank 4, are "
                              "supported",
                              i, t->shape.rank);
    }
    KAENA_TRY(kop_need_rank(call, 3, 1));
    kaena_shape shape = kop_shape_unknown(4);
    if (kop_known(x) && kop_known(w)) {
        deform d;
        KAENA_TRY(deform_of(call, &d));
        shape = (kaena_shape){.rank = 4, .dim = {d.batch, d.filters, d.out[0], d.out[1]}};
    }
    kop_out(call, 0, x->dtype, &shape);
    return KAENA_OK;
}

/* Between four pixels; outside of the image is 0. */
static double sample(const double *plane, const int64_t *size, double y, double x)
{
    if (!(y > -1 && y < (double)size[0] && x > -1 && x < (double)size[1]))
        return 0;
    int64_t y0 = (int64_t)floor(y), x0 = (int64_t)floor(x);
    double fy = y - (double)y0, fx = x - (double)x0, sum = 0;
    for (int64_t i = 0; i < 2; i++)
        for (int64_t j = 0; j < 2; j++)
            if (y0 + i >= 0 && y0 + i < size[0] && x0 + j >= 0 && x0 + j < size[1])
                sum += (i ? fy : 1 - fy) * (j ? fx : 1 - fx) * plane[(y0 + i) * size[1] + x0 + j];
    return sum;
}

/* The elements that windows at output (y, x) of image |n| see: [channels][kernel]. */
static void gather_window(const kop_call *call, const deform *d, const double *image, int64_t n,
                          int64_t y, int64_t x, double *out)
{
    const kop_tensor *offset = call->in[2], *mask = kop_in(call, 4);
    int64_t kernel = d->kernel[0] * d->kernel[1], plane = d->out[0] * d->out[1];
    int64_t at = y * d->out[1] + x, per_group = d->channels / d->offset_group;
    for (int64_t g = 0; g < d->offset_group; g++) {
        for (int64_t k = 0; k < kernel; k++) {
            int64_t place = (n * d->offset_group + g) * kernel + k;
            double dy = kop_get_float(offset, (size_t)(2 * place * plane + at));
            double dx = kop_get_float(offset, (size_t)((2 * place + 1) * plane + at));
            double weight = mask ? kop_get_float(mask, (size_t)(place * plane + at)) : 1;
            double row =
                (double)(y * d->stride[0] - d->pad[0] + k / d->kernel[1] * d->dilation[0]) + dy;
            double column =
                (double)(x * d->stride[1] - d->pad[1] + k % d->kernel[1] * d->dilation[1]) + dx;
            for (int64_t c = g * per_group; c < (g + 1) * per_group; c++)
                out[c * kernel + k] =
                    weight * sample(image + c * d->image[0] * d->image[1], d->image, row, column);
        }
    }
}

kaena_status kop_eval_deform_conv(kop_call *call)
{
    const kop_tensor *bias = kop_in(call, 3);
    kop_tensor *out = &call->out[0];
    deform d;
    if (kop_elements(out) == 0)
        return KAENA_OK;
    KAENA_TRY(deform_of(call, &d));
    int64_t kernel = d.kernel[0] * d.kernel[1], plane = d.out[0] * d.out[1];
    int64_t in_group = d.channels / d.group, out_group = d.filters / d.group;
    double *image = kop_doubles(call, call->in[0]);
    double *w = image ? kop_doubles(call, call->in[1]) : NULL;
    double *window =
        w ? kop_alloc(call, (size_t)d.channels, (size_t)kernel * sizeof *window) : NULL;
    if (!window)
        return KAENA_RESOURCE_EXHAUSTED;
    for (int64_t n = 0; n < d.batch; n++) {
        for (int64_t at = 0; at < plane; at++) {
            gather_window(call, &d, image + n * d.channels * d.image[0] * d.image[1], n,
                          at / d.out[1], at % d.out[1], window);
            for (int64_t f = 0; f < d.filters; f++) {
                double sum = bias ? kop_get_float(bias, (size_t)f) : 0;
                const double *seen = window + f / out_group * in_group * kernel;
                for (int64_t k = 0; k < in_group * kernel; k++)
                    sum += w[f * in_group * kernel + k] * seen[k];
                kop_set_float(out, (size_t)((n * d.filters + f) * plane + at), sum);
            }
            KAENA_TRY(kop_poll(call));
        }
    }
    return KAENA_OK;
}

/* --- MaxRoiPool: the largest element of each bin of a region --- */

kaena_status kop_infer_max_roi_pool(kop_call *call)
{
    const kop_tensor *x = call->in[0], *rois = call->in[1];
    int64_t size[2];
    KAENA_TRY(kop_need(call, 0, KOP_T_FLOAT));
    KAENA_TRY(kop_need_same(call, 0, 1));
    KAENA_TRY(kop_need_rank(call, 0, 4));
    KAENA_TRY(kop_need_rank(call, 1, 2));
    if (!kop_attr_find(call, "pooled_shape"))
        return KOP_BAD(call, "pooled_shape is required");
    KAENA_TRY(kop_attr_sizes(call, "pooled_shape", 1, 1, 2, size));
    if (kop_known(rois) && rois->shape.dim[1] != 5)
        return KOP_BAD(call, "regions have %" PRId64 " numbers, not 5", rois->shape.dim[1]);
    kaena_shape shape = {.rank = 4,
                         .dim = {rois->unranked ? KAENA_DIM_UNKNOWN : rois->shape.dim[0],
                                 x->unranked ? KAENA_DIM_UNKNOWN : x->shape.dim[1], size[0],
                                 size[1]}};
    kop_out(call, 0, kop_in_type(call, 0), &shape);
    return KAENA_OK;
}

static int64_t clamped(double v, int64_t most)
{
    return !(v > 0) ? 0 : v > (double)most ? most : (int64_t)v;
}

kaena_status kop_eval_max_roi_pool(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    kop_tensor *out = &call->out[0];
    const int64_t *o = out->shape.dim, *in = x->shape.dim;
    double scale = (double)kop_attr_float(call, "spatial_scale", 1);
    for (int64_t r = 0; r < o[0] && kop_elements(out) > 0; r++) {
        double roi[5], low[2], bin[2];
        kop_load_f64(call->in[1], (size_t)(5 * r), 5, roi);
        if (!(roi[0] >= 0 && roi[0] < (double)in[0]))
            return KAENA_FAIL(call->err, OUT_OF_RANGE, "there is no batch element %g", roi[0]);
        for (int32_t i = 0; i < 2; i++) { /* rows, then columns; regions give columns first */
            low[i] = round(roi[2 - i] * scale);
            bin[i] = fmax(round(roi[4 - i] * scale) - low[i] + 1, 1) / (double)o[2 + i];
        }
        for (int64_t at = 0; at < o[1] * o[2] * o[3]; at++) {
            int64_t place[2] = {at / o[3] % o[2], at % o[3]}, from[2], to[2];
            size_t plane = (size_t)(((int64_t)roi[0] * in[1] + at / o[3] / o[2]) * in[2] * in[3]);
            for (int32_t i = 0; i < 2; i++) {
                from[i] = clamped(floor((double)place[i] * bin[i]) + low[i], in[2 + i]);
                to[i] = clamped(ceil((double)(place[i] + 1) * bin[i]) + low[i], in[2 + i]);
            }
            double best = to[0] > from[0] && to[1] > from[1] ? -INFINITY : 0;
            for (int64_t y = from[0]; y < to[0]; y++)
                for (int64_t c = from[1]; c < to[1]; c++)
                    best = fmax(best, kop_get_float(x, plane + (size_t)(y * in[3] + c)));
            kop_set_float(out, (size_t)(r * o[1] * o[2] * o[3] + at), best);
            KAENA_TRY(kop_poll(call));
        }
    }
    return KAENA_OK;
}
