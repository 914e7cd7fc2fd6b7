#include "ops_impl.h"

#include <math.h>

static kaena_status check_types(kop_call *call)
{
    uint32_t types = KOP_T_FLOAT;
    if (call->op == KOP_MaxPool)
        types |= KOP_T(KAENA_I8) | KOP_T(KAENA_U8);
    KAENA_TRY(kop_need(call, 0, types));
    return KAENA_OK;
}

kaena_status kop_infer_pool(kop_call *call)
{
    KAENA_TRY(check_types(call));
    const kop_tensor *x = call->in[0];
    kaena_dtype type = x->dtype;
    if (call->op == KOP_LpPool && kop_attr_int(call, "p", 2) < 1)
        return KOP_BAD(call, "p must be positive");
    if (x->unranked) {
        kop_out_unranked(call, 0, type);
        kop_out_unranked(call, 1, KAENA_I64);
        return KAENA_OK;
    }
    kaena_shape shape = x->shape;
    if (kop_known(x)) {
        kop_window w;
        KAENA_TRY(kop_window_of(call, &w));
        for (int32_t i = 0; i < w.spatial; i++)
            shape.dim[2 + i] = w.out[i];
    } else {
        for (int32_t i = 2; i < shape.rank; i++)
            shape.dim[i] = KAENA_DIM_UNKNOWN;
    }
    kop_out(call, 0, type, &shape);
    kop_out(call, 1, KAENA_I64, &shape);
    return KAENA_OK;
}

/* One plane (image and channel), dimensions filled up to three. */
typedef struct pool_run {
    const double *x;
    int64_t in[3], out[3], taps[3], stride[3], dilation[3], pad_begin[3], pad_end[3];
    int64_t p;
    bool include_pad, column_major;
} pool_run;

/* What one window gives. */
typedef struct pool_window_result {
    double value;
    int64_t best; /* MaxPool: element of the plane, or -1 */
} pool_window_result;

/* Taps [*from, *to) of dimension |d| that lie inside the data for output |o|. */
static void clip_taps(const pool_run *r, int d, int64_t o, int64_t *from, int64_t *to)
{
    int64_t start = o * r->stride[d] - r->pad_begin[d], step = r->dilation[d];
    *from = start < 0 ? (-start + step - 1) / step : 0;
    int64_t room = r->in[d] - start;
    int64_t end = room <= 0 ? 0 : (room + step - 1) / step;
    *to = end < r->taps[d] ? end : r->taps[d];
}

/* Taps of dimension |d| inside the data and its padding: what count_include_pad counts. */
static int64_t padded_taps(const pool_run *r, int d, int64_t o)
{
    int64_t start = o * r->stride[d] - r->pad_begin[d], step = r->dilation[d];
    int64_t room = r->in[d] + r->pad_end[d] - start;
    int64_t end = room <= 0 ? 0 : (room + step - 1) / step;
    return end < r->taps[d] ? end : r->taps[d];
}

static pool_window_result run_window(kop_op op, const pool_run *r, const int64_t *o)
{
    int64_t from[3], to[3], seen = 0, counted = 1;
    for (int d = 0; d < 3; d++) {
        clip_taps(r, d, o[d], &from[d], &to[d]);
        counted *= padded_taps(r, d, o[d]);
    }
    pool_window_result result = {.value = op == KOP_MaxPool ? -INFINITY : 0, .best = -1};
    for (int64_t kz = from[0]; kz < to[0]; kz++)
        for (int64_t ky = from[1]; ky < to[1]; ky++)
            for (int64_t kx = from[2]; kx < to[2]; kx++) {
                int64_t z = o[0] * r->stride[0] - r->pad_begin[0] + kz * r->dilation[0];
                int64_t y = o[1] * r->stride[1] - r->pad_begin[1] + ky * r->dilation[1];
                int64_t x = o[2] * r->stride[2] - r->pad_begin[2] + kx * r->dilation[2];
                int64_t i = (z * r->in[1] + y) * r->in[2] + x;
                double v = r->x[i];
                seen++;
                if (op == KOP_AveragePool) {
                    result.value += v;
                } else if (op == KOP_LpPool) {
                    result.value += pow(fabs(v), (double)r->p);
                } else if (result.best < 0 || v > result.value ||
                           (isnan(v) && !isnan(result.value))) {
                    result.value = v;
                    result.best = r->column_major ? (x * r->in[1] + y) * r->in[0] + z : i;
                }
            }
    if (op == KOP_AveragePool) {
        int64_t n = r->include_pad ? counted : seen;
        result.value = n ? result.value / (double)n : 0;
    } else if (op == KOP_LpPool) {
        result.value = pow(result.value, 1 / (double)r->p);
    }
    return result;
}

kaena_status kop_eval_pool(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    kop_tensor *out = &call->out[0];
    if (kop_elements(out) == 0)
        return KAENA_OK;
    kop_window w;
    KAENA_TRY(kop_window_of(call, &w));
    pool_run r = {.p = kop_attr_int(call, "p", 2),
                  .include_pad = kop_attr_int(call, "count_include_pad", 0) != 0,
                  .column_major = kop_attr_int(call, "storage_order", 0) != 0};
    for (int32_t d = 0; d < 3; d++) {
        int32_t s = d - (3 - w.spatial);
        r.in[d] = s < 0 ? 1 : w.in[s];
        r.out[d] = s < 0 ? 1 : w.out[s];
        r.taps[d] = s < 0 ? 1 : w.kernel[s];
        r.stride[d] = s < 0 ? 1 : w.stride[s];
        r.dilation[d] = s < 0 ? 1 : w.dilation[s];
        r.pad_begin[d] = s < 0 ? 0 : w.pad_begin[s];
        r.pad_end[d] = s < 0 ? 0 : w.pad_end[s];
    }
    int64_t planes = x->shape.dim[0] * x->shape.dim[1], size = r.in[0] * r.in[1] * r.in[2];
    double *plane = kop_alloc(call, (size_t)size, sizeof *plane);
    if (!plane)
        return KAENA_RESOURCE_EXHAUSTED;
    r.x = plane;
    size_t at = 0;
    for (int64_t p = 0; p < planes; p++) {
        if (size)
            kop_load_f64(x, (size_t)(p * size), (size_t)size, plane);
        int64_t o[3] = {0};
        do {
            pool_window_result y = run_window(call->op, &r, o);
            kop_set_float(out, at, y.value);
            if (call->n_out > 1)
                kop_set_int(&call->out[1], at, y.best < 0 ? -1 : p * size + y.best);
            at++;
            if (o[2] == r.out[2] - 1)
                KAENA_TRY(kop_poll(call));
        } while (kop_next(o, r.out, 3));
    }
    return KAENA_OK;
}

/* --- Global pooling --- */

kaena_status kop_infer_global_pool(kop_call *call)
{
    KAENA_TRY(kop_need(call, 0, KOP_T_FLOAT));
    const kop_tensor *x = call->in[0];
    if (call->op == KOP_GlobalLpPool && kop_attr_int(call, "p", 2) < 1)
        return KOP_BAD(call, "p must be positive");
    if (x->unranked) {
        kop_out_unranked(call, 0, x->dtype);
        return KAENA_OK;
    }
    if (x->shape.rank < 2)
        return KOP_BAD(call, "data of rank %d has no channels", x->shape.rank);
    kaena_shape shape = x->shape;
    for (int32_t i = 2; i < shape.rank; i++) {
        if (shape.dim[i] == 0)
            return KOP_BAD(call, "dimension %d is empty", i);
        shape.dim[i] = 1;
    }
    kop_out(call, 0, x->dtype, &shape);
    return KAENA_OK;
}

kaena_status kop_eval_global_pool(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    int64_t size = kop_span(&x->shape, 2, x->shape.rank);
    double p = (double)kop_attr_int(call, "p", 2);
    size_t planes = kop_elements(&call->out[0]);
    for (size_t plane = 0; plane < planes; plane++) {
        double y = call->op == KOP_GlobalMaxPool ? -INFINITY : 0, v[KOP_CHUNK];
        for (int64_t at = 0; at < size; at += KOP_CHUNK) {
            int64_t n = size - at < KOP_CHUNK ? size - at : KOP_CHUNK;
            kop_load_f64(x, plane * (size_t)size + (size_t)at, (size_t)n, v);
            for (int64_t i = 0; i < n; i++) {
                if (call->op == KOP_GlobalAveragePool)
                    y += v[i];
                else if (call->op == KOP_GlobalLpPool)
                    y += pow(fabs(v[i]), p);
                else if (v[i] > y || isnan(v[i]))
                    y = v[i];
            }
        }
        if (call->op == KOP_GlobalAveragePool)
            y /= (double)size;
        else if (call->op == KOP_GlobalLpPool)
            y = pow(y, 1 / p);
        kop_set_float(&call->out[0], plane, y);
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}
