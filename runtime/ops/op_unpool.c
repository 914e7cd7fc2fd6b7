/* Operators that put windows or images back together: MaxUnpool, Col2Im, CenterCropPad. */
#include "ops_impl.h"

/* --- MaxUnpool: elements return to where MaxPool found them --- */

/* The result's size before |output_shape| extends it: what a MaxPool of these attributes reduces to
 * the input. */
static kaena_status unpooled(const kop_call *call, kaena_shape *out)
{
    const kop_tensor *x = call->in[0];
    int32_t n = x->shape.rank - 2;
    int64_t kernel[KOP_MAX_SPATIAL], stride[KOP_MAX_SPATIAL], pads[2 * KOP_MAX_SPATIAL];
    if (n < 1 || n > KOP_MAX_SPATIAL)
        return KOP_BAD(call, "data of rank %d; 3 to %d are supported", x->shape.rank,
                       KOP_MAX_SPATIAL + 2);
    if (!kop_attr_find(call, "kernel_shape"))
        return KOP_BAD(call, "kernel_shape is required");
    KAENA_TRY(kop_attr_sizes(call, "kernel_shape", 1, 1, n, kernel));
    KAENA_TRY(kop_attr_sizes(call, "strides", 1, 1, n, stride));
    KAENA_TRY(kop_attr_sizes(call, "pads", 0, 0, 2 * n, pads));
    *out = x->shape;
    for (int32_t i = 0; i < n; i++) {
        int64_t *d = &out->dim[2 + i];
        if (*d < 0)
            continue;
        if (*d >= KOP_SIZE_LIMIT)
            return KOP_BAD(call, "dimension %d of %" PRId64 " is too large", 2 + i, *d);
        *d = (*d - 1) * stride[i] + kernel[i] - pads[i] - pads[n + i];
        if (*d < 0)
            return KOP_BAD(call, "dimension %d of the output would be negative", 2 + i);
    }
    return KAENA_OK;
}

kaena_status kop_infer_max_unpool(kop_call *call)
{
    const kop_tensor *x = call->in[0], *index = call->in[1];
    kaena_shape shape;
    int64_t given[KAENA_MAX_RANK];
    uint32_t n;
    kaena_status status;
    KAENA_TRY(kop_need(call, 0, KOP_T_FLOAT));
    KAENA_TRY(kop_need(call, 1, KOP_T(KAENA_I64)));
    if (kop_known(x) && kop_known(index) && !kaena_shape_equal(&x->shape, &index->shape))
        return KOP_BAD(call, "data and indices differ in shape");
    if (x->unranked) {
        kop_out_unranked(call, 0, x->dtype);
        return KAENA_OK;
    }
    KAENA_TRY(unpooled(call, &shape));
    bool known = kop_in_ints(call, 2, given, KAENA_MAX_RANK, &n, &status);
    KAENA_TRY(status);
    if (known && n != (uint32_t)shape.rank)
        return KOP_BAD(call, "output_shape has %u dimensions, not %d", n, shape.rank);
    for (int32_t i = 0; i < shape.rank && kop_in(call, 2); i++) {
        if (known && (given[i] < 0 || (shape.dim[i] >= 0 && given[i] < shape.dim[i])))
            return KOP_BAD(call, "output_shape says %" PRId64 " where %" PRId64 " are needed",
                           given[i], shape.dim[i]);
        shape.dim[i] = known ? given[i] : KAENA_DIM_UNKNOWN;
    }
    kop_out(call, 0, x->dtype, &shape);
    return KAENA_OK;
}

kaena_status kop_eval_max_unpool(kop_call *call)
{
    const kop_tensor *x = call->in[0], *index = call->in[1];
    kop_tensor *out = &call->out[0];
    size_t size = kaena_dtype_size(x->dtype);
    kaena_shape shape;
    int64_t n, stride[KAENA_MAX_RANK];
    KAENA_TRY(unpooled(call, &shape));
    if (!kaena_shape_elements(&shape, &n))
        return KOP_BAD(call, "the result has more elements than can be counted");
    kaena_shape_strides(&out->shape, stride);
    for (size_t i = 0; i < kop_elements(x); i++) {
        int64_t at = kop_get_int(index, i), to = 0;
        if (at < 0 || at >= n)
            return KAENA_FAIL(call->err, OUT_OF_RANGE,
                              "index %" PRId64 " is none of %" PRId64 " elements", at, n);
        /* Indices count in the size before output_shape extends it. */
        for (int32_t d = shape.rank; d-- > 0; at /= shape.dim[d])
            to += at % shape.dim[d] * stride[d];
        memcpy((char *)out->data + (size_t)to * size, (const char *)x->data + i * size, size);
        if (i % KOP_CHUNK == 0)
            KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* --- Col2Im: columns [N, C * block, blocks] are added into images --- */

typedef struct col2im_plan {
    int32_t spatial;
    int64_t image[KOP_MAX_SPATIAL], block[KOP_MAX_SPATIAL], stride[KOP_MAX_SPATIAL];
    int64_t dilation[KOP_MAX_SPATIAL], pads[2 * KOP_MAX_SPATIAL];
    int64_t count[KOP_MAX_SPATIAL]; /* blocks along each dimension */
    int64_t block_elements, blocks;
} col2im_plan;

/* False and KAENA_OK: the shapes are not known. */
static bool col2im_plan_of(const kop_call *call, col2im_plan *out, kaena_status *status)
{
    col2im_plan p = {.block_elements = 1, .blocks = 1};
    uint32_t n, m;
    if (!kop_in_ints(call, 1, p.image, KOP_MAX_SPATIAL, &n, status) ||
        !kop_in_ints(call, 2, p.block, KOP_MAX_SPATIAL, &m, status))
        return false;
    if (n < 1 || n != m) {
        *status = KOP_BAD(call, "image_shape and block_shape must have one length, from 1 to %d",
                          KOP_MAX_SPATIAL);
        return false;
    }
    p.spatial = (int32_t)n;
    *status = kop_attr_sizes(call, "strides", 1, 1, p.spatial, p.stride);
    if (*status == KAENA_OK)
        *status = kop_attr_sizes(call, "dilations", 1, 1, p.spatial, p.dilation);
    if (*status == KAENA_OK)
        *status = kop_attr_sizes(call, "pads", 0, 0, 2 * p.spatial, p.pads);
    for (int32_t i = 0; *status == KAENA_OK && i < p.spatial; i++) {
        if (p.image[i] < 1 || p.image[i] >= KOP_SIZE_LIMIT || p.block[i] < 1 ||
            p.block[i] >= KOP_SIZE_LIMIT) {
            *status = KOP_BAD(call, "a block of %" PRId64 " in an image of %" PRId64, p.block[i],
                              p.image[i]);
            return false;
        }
        int64_t room =
            p.image[i] + p.pads[i] + p.pads[p.spatial + i] - p.dilation[i] * (p.block[i] - 1) - 1;
        p.count[i] = room < 0 ? 0 : room / p.stride[i] + 1;
        if (!kaena_mul_i64(p.block_elements, p.block[i], &p.block_elements) ||
            !kaena_mul_i64(p.blocks, p.count[i], &p.blocks))
            *status = KOP_BAD(call, "more blocks than can be counted");
    }
    *out = p;
    return *status == KAENA_OK;
}

kaena_status kop_infer_col2im(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    col2im_plan p;
    kaena_status status;
    KAENA_TRY(kop_need(call, 0, KOP_T_ALL & ~KOP_T(KAENA_STRING)));
    KAENA_TRY(kop_need_rank(call, 0, 3));
    if (!col2im_plan_of(call, &p, &status)) {
        kop_out_unranked(call, 0, x->dtype);
        return status;
    }
    kaena_shape shape = kop_shape_unknown(p.spatial + 2);
    if (!x->unranked) {
        shape.dim[0] = x->shape.dim[0];
        int64_t rows = x->shape.dim[1], columns = x->shape.dim[2];
        if ((rows >= 0 && rows % p.block_elements) || (columns >= 0 && columns != p.blocks))
            return KOP_BAD(call,
                           "%" PRId64 " rows of %" PRId64 " columns are not blocks of %" PRId64
                           " elements, %" PRId64 " in an image",
                           rows, columns, p.block_elements, p.blocks);
        shape.dim[1] = rows < 0 ? KAENA_DIM_UNKNOWN : rows / p.block_elements;
    }
    for (int32_t i = 0; i < p.spatial; i++)
        shape.dim[2 + i] = p.image[i];
    kop_out(call, 0, x->dtype, &shape);
    return KAENA_OK;
}

kaena_status kop_eval_col2im(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    kop_tensor *out = &call->out[0];
    col2im_plan p;
    kaena_status status;
    if (!col2im_plan_of(call, &p, &status))
        return status;
    if (kop_elements(x) == 0)
        return KAENA_OK;
    int64_t plane = kop_span(&out->shape, 2, out->shape.rank);
    int64_t channels = out->shape.dim[0] * out->shape.dim[1];
    double *sum = kop_alloc(call, (size_t)plane, sizeof *sum);
    if (!sum)
        return KAENA_RESOURCE_EXHAUSTED;
    for (int64_t c = 0; c < channels; c++) {
        memset(sum, 0, (size_t)plane * sizeof *sum);
        int64_t in_block[KOP_MAX_SPATIAL] = {0};
        for (int64_t k = 0; k < p.block_elements; k++) {
            int64_t block[KOP_MAX_SPATIAL] = {0};
            for (int64_t b = 0; b < p.blocks; b++) {
                int64_t to = 0;
                bool inside = true;
                for (int32_t d = 0; d < p.spatial; d++) {
                    int64_t at = block[d] * p.stride[d] + in_block[d] * p.dilation[d] - p.pads[d];
                    inside &= at >= 0 && at < p.image[d];
                    to = inside ? to * p.image[d] + at : 0;
                }
                if (inside)
                    sum[to] +=
                        kop_get_float(x, (size_t)((c * p.block_elements + k) * p.blocks + b));
                (void)kop_next(block, p.count, p.spatial);
            }
            (void)kop_next(in_block, p.block, p.spatial);
            KAENA_TRY(kop_poll(call));
        }
        kop_store_f64(out, (size_t)(c * plane), (size_t)plane, sum);
    }
    return KAENA_OK;
}

/* --- CenterCropPad --- */

kaena_status kop_infer_center_crop_pad(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    const int64_t *axes;
    int64_t size[KAENA_MAX_RANK];
    uint32_t n, n_axes = kop_attr_ints(call, "axes", &axes);
    kaena_status status;
    bool known = kop_in_ints(call, 1, size, KAENA_MAX_RANK, &n, &status);
    KAENA_TRY(status);
    if (x->unranked) {
        kop_out_unranked(call, 0, x->dtype);
        return KAENA_OK;
    }
    kaena_shape shape = x->shape;
    n_axes = axes ? n_axes : (uint32_t)shape.rank;
    if (known && n != n_axes)
        return KOP_BAD(call, "%u sizes for %u axes", n, n_axes);
    for (uint32_t i = 0; i < n_axes; i++) {
        int32_t axis;
        if (!kop_axis(axes ? axes[i] : (int64_t)i, shape.rank, &axis))
            return KOP_BAD(call, "axes: %" PRId64 " is not an axis of rank %d", axes[i],
                           shape.rank);
        if (known && size[i] < 0)
            return KOP_BAD(call, "the size %" PRId64 " is not possible", size[i]);
        shape.dim[axis] = known ? size[i] : KAENA_DIM_UNKNOWN;
    }
    kop_out(call, 0, x->dtype, &shape);
    return KAENA_OK;
}

/* Rows of the innermost dimension are copied; the rest stays 0. */
kaena_status kop_eval_center_crop_pad(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    kop_tensor *out = &call->out[0];
    size_t size = kaena_dtype_size(x->dtype);
    int32_t rank = x->shape.rank;
    int64_t from[KAENA_MAX_RANK], to[KAENA_MAX_RANK], n[KAENA_MAX_RANK];
    int64_t stride_x[KAENA_MAX_RANK], stride_y[KAENA_MAX_RANK], index[KAENA_MAX_RANK] = {0};
    if (kop_elements(x) == 0 || kop_elements(out) == 0)
        return KAENA_OK;
    kaena_shape_strides(&x->shape, stride_x);
    kaena_shape_strides(&out->shape, stride_y);
    for (int32_t i = 0; i < rank; i++) {
        int64_t a = x->shape.dim[i], b = out->shape.dim[i];
        from[i] = a > b ? (a - b) / 2 : 0;
        to[i] = b > a ? (b - a) / 2 : 0;
        n[i] = a < b ? a : b;
    }
    int64_t run = rank ? n[rank - 1] : 1;
    do {
        int64_t at_x = rank ? from[rank - 1] : 0, at_y = rank ? to[rank - 1] : 0;
        for (int32_t i = 0; i < rank - 1; i++) {
            at_x += (from[i] + index[i]) * stride_x[i];
            at_y += (to[i] + index[i]) * stride_y[i];
        }
        memcpy((char *)out->data + (size_t)at_y * size, (const char *)x->data + (size_t)at_x * size,
               (size_t)run * size);
        KAENA_TRY(kop_poll(call));
    } while (rank > 1 && kop_next(index, n, rank - 1));
    return KAENA_OK;
}
