#include "ops_impl.h"

#include <math.h>

/* --- LayerNormalization, RMSNormalization: over the axes from |axis| on --- */

kaena_status kop_infer_layer_norm(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    KAENA_TRY(kop_need(call, 0, KOP_T_FLOAT));
    for (uint32_t i = 1; i < call->n_in; i++)
        KAENA_TRY(kop_need(call, i, KOP_T_FLOAT));
    int64_t stash = kop_attr_int(call, "stash_type", KAENA_F32);
    if (!kaena_dtype_is_float((kaena_dtype)(stash & 31)) || stash != (stash & 31))
        return KOP_BAD(call, "stash_type %" PRId64 " is no floating-point type", stash);
    if (x->unranked) {
        kop_out_unranked(call, 0, x->dtype);
        kop_out_unranked(call, 1, (kaena_dtype)stash);
        kop_out_unranked(call, 2, (kaena_dtype)stash);
        return KAENA_OK;
    }
    int32_t axis;
    KAENA_TRY(kop_attr_axis(call, "axis", -1, x->shape.rank, &axis));
    kaena_shape normal = {.rank = x->shape.rank - axis}, reduced = x->shape;
    for (int32_t i = axis; i < x->shape.rank; i++) {
        normal.dim[i - axis] = x->shape.dim[i];
        reduced.dim[i] = 1;
    }
    for (uint32_t i = 1; i < call->n_in; i++) {
        const kop_tensor *t = kop_in(call, i);
        kaena_shape both;
        if (kop_known(t) && kaena_shape_known(&normal) &&
            (!kaena_shape_broadcast(&t->shape, &normal, &both) ||
             !kaena_shape_equal(&both, &normal)))
            return KOP_BAD(call, "input %u does not broadcast to the normalised dimensions", i);
    }
    kop_out(call, 0, x->dtype, &x->shape);
    kop_out(call, 1, (kaena_dtype)stash, &reduced);
    kop_out(call, 2, (kaena_dtype)stash, &reduced);
    return KAENA_OK;
}

/* |t| broadcast to |shape|, as doubles; NULL: the error is set. */
static double *expand(kop_call *call, const kop_tensor *t, const kaena_shape *shape)
{
    kop_tensor whole = {.dtype = KAENA_F64, .shape = *shape};
    kop_bcast *b = kop_alloc(call, 1, sizeof *b);
    double *v = kop_alloc(call, kop_elements(&whole), sizeof *v);
    if (!b || !v)
        return NULL;
    const kop_tensor *in[1] = {t};
    kop_bcast_init(b, shape, in, 1);
    int64_t inner = b->dim[b->rank - 1], n = (int64_t)kop_elements(&whole);
    for (int64_t i = 0; i < n; i++)
        v[i] = kop_get_float(
            t, (size_t)(kop_bcast_offset(b, 0, i / inner) + i % inner * b->stride[0][b->rank - 1]));
    return v;
}

kaena_status kop_eval_layer_norm(kop_call *call)
{
    const kop_tensor *x = call->in[0], *bias = kop_in(call, 2);
    if (kop_elements(x) == 0)
        return KAENA_OK;
    int32_t axis;
    KAENA_TRY(kop_attr_axis(call, "axis", -1, x->shape.rank, &axis));
    kaena_shape normal = {.rank = x->shape.rank - axis};
    for (int32_t i = axis; i < x->shape.rank; i++)
        normal.dim[i - axis] = x->shape.dim[i];
    size_t size = (size_t)kop_span(&normal, 0, normal.rank), rows = kop_elements(x) / size;
    double *scale = expand(call, call->in[1], &normal);
    double *shift = bias && scale ? expand(call, bias, &normal) : NULL;
    double *row = kop_alloc(call, size, sizeof *row);
    if (!scale || (bias && !shift) || !row)
        return KAENA_RESOURCE_EXHAUSTED;
    double epsilon = (double)kop_attr_float(call, "epsilon", 1e-5f);
    for (size_t r = 0; r < rows; r++) {
        double mean, variance;
        kop_moments(x, r * size, size, &mean, &variance);
        if (call->op == KOP_RMSNormalization) { /* about 0, not about the mean */
            variance += mean * mean;
            mean = 0;
        }
        double factor = 1 / sqrt(variance + epsilon);
        kop_load_f64(x, r * size, size, row);
        for (size_t i = 0; i < size; i++)
            row[i] = (row[i] - mean) * factor * scale[i] + (shift ? shift[i] : 0);
        kop_store_f64(&call->out[0], r * size, size, row);
        if (call->n_out > 1)
            kop_set_float(&call->out[1], r, mean);
        if (call->n_out > 2)
            kop_set_float(&call->out[2], r, factor);
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* --- LRN: across channels --- */

kaena_status kop_infer_lrn(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    KAENA_TRY(kop_need(call, 0, KOP_T_FLOAT));
    if (!x->unranked && x->shape.rank < 2)
        return KOP_BAD(call, "data of rank %d has no channels", x->shape.rank);
    if (kop_attr_int(call, "size", 0) < 1)
        return KOP_BAD(call, "size must be positive");
    return kop_infer_same(call);
}

kaena_status kop_eval_lrn(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    if (kop_elements(x) == 0)
        return KAENA_OK;
    int64_t channels = x->shape.dim[1], plane = kop_span(&x->shape, 2, x->shape.rank);
    int64_t size = kop_attr_int(call, "size", 1);
    double alpha = (double)kop_attr_float(call, "alpha", 1e-4f) / (double)size;
    double beta = (double)kop_attr_float(call, "beta", 0.75f);
    double bias = (double)kop_attr_float(call, "bias", 1);
    double *v = kop_alloc(call, (size_t)(channels * plane), sizeof *v);
    double *y = kop_alloc(call, (size_t)plane, sizeof *y);
    if (!v || !y)
        return KAENA_RESOURCE_EXHAUSTED;
    for (int64_t image = 0; image < x->shape.dim[0]; image++) {
        kop_load_f64(x, (size_t)(image * channels * plane), (size_t)(channels * plane), v);
        for (int64_t c = 0; c < channels; c++) {
            int64_t before = (size - 1) / 2, after = size / 2;
            int64_t from = c < before ? 0 : c - before;
            int64_t to = after < channels - 1 - c ? c + after : channels - 1;
            for (int64_t i = 0; i < plane; i++) {
                double sum = 0;
                for (int64_t j = from; j <= to; j++)
                    sum += v[j * plane + i] * v[j * plane + i];
                y[i] = v[c * plane + i] / pow(bias + alpha * sum, beta);
            }
            kop_store_f64(&call->out[0], (size_t)((image * channels + c) * plane), (size_t)plane,
                          y);
            KAENA_TRY(kop_poll(call));
        }
    }
    return KAENA_OK;
}

/* --- LpNormalization: along one axis; MeanVarianceNormalization: over any --- */

kaena_status kop_infer_lp_norm(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    int32_t axis;
    int64_t p = kop_attr_int(call, "p", 2);
    KAENA_TRY(kop_need(call, 0, KOP_T_FLOAT));
    if (p != 1 && p != 2)
        return KOP_BAD(call, "p must be 1 or 2");
    if (!x->unranked)
        KAENA_TRY(kop_attr_axis(call, "axis", -1, x->shape.rank, &axis));
    return kop_infer_same(call);
}

kaena_status kop_eval_lp_norm(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    if (kop_elements(x) == 0)
        return KAENA_OK;
    int32_t axis;
    KAENA_TRY(kop_attr_axis(call, "axis", -1, x->shape.rank, &axis));
    int64_t n = x->shape.dim[axis], inner = kop_span(&x->shape, axis + 1, x->shape.rank);
    int64_t lines = (int64_t)kop_elements(x) / n;
    bool absolute = kop_attr_int(call, "p", 2) == 1;
    for (int64_t line = 0; line < lines; line++) {
        size_t at = (size_t)(line / inner * n * inner + line % inner);
        double norm = 0;
        for (int64_t i = 0; i < n; i++) {
            double v = kop_get_float(x, at + (size_t)(i * inner));
            norm += absolute ? fabs(v) : v * v;
        }
        norm = absolute ? norm : sqrt(norm);
        for (int64_t i = 0; i < n; i++) {
            double v = kop_get_float(x, at + (size_t)(i * inner));
            kop_set_float(&call->out[0], at + (size_t)(i * inner), norm != 0 ? v / norm : 0);
        }
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

static kaena_status mvn_axes(const kop_call *call, int32_t rank, bool reduced[KAENA_MAX_RANK])
{
    static const int64_t otherwise[] = {0, 2, 3};
    const int64_t *axes;
    uint32_t n = kop_attr_ints(call, "axes", &axes);
    if (!axes) {
        axes = otherwise;
        n = 3;
    }
    memset(reduced, 0, KAENA_MAX_RANK * sizeof *reduced);
    for (uint32_t i = 0; i < n; i++) {
        int32_t axis;
        if (!kop_axis(axes[i], rank, &axis))
            return KOP_BAD(call, "axes: %" PRId64 " is not an axis of rank %d", axes[i], rank);
        reduced[axis] = true;
    }
    return KAENA_OK;
}

kaena_status kop_infer_mvn(kop_call *call)
{
    bool reduced[KAENA_MAX_RANK];
    KAENA_TRY(kop_need(call, 0, KOP_T_FLOAT));
    if (!call->in[0]->unranked)
        KAENA_TRY(mvn_axes(call, call->in[0]->shape.rank, reduced));
    return kop_infer_same(call);
}

kaena_status kop_eval_mvn(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    size_t total = kop_elements(x);
    if (total == 0)
        return KAENA_OK;
    bool reduced[KAENA_MAX_RANK];
    int32_t rank = x->shape.rank;
    KAENA_TRY(mvn_axes(call, rank, reduced));
    int64_t group_dim[KAENA_MAX_RANK], stride[KAENA_MAX_RANK], groups = 1;
    for (int32_t i = 0; i < rank; i++) {
        group_dim[i] = reduced[i] ? 1 : x->shape.dim[i];
        groups *= group_dim[i];
    }
    kaena_shape kept = {.rank = rank};
    memcpy(kept.dim, group_dim, sizeof group_dim);
    kaena_shape_strides(&kept, stride);
    double *sum = kop_alloc(call, (size_t)groups, 2 * sizeof *sum), *squares = sum + groups;
    if (!sum)
        return KAENA_RESOURCE_EXHAUSTED;
    double n = (double)total / (double)groups;
    for (int pass = 0; pass < 3; pass++) {
        int64_t index[KAENA_MAX_RANK] = {0};
        for (size_t i = 0; i < total; i++) {
            int64_t g = 0;
            for (int32_t d = 0; d < rank; d++)
                g += reduced[d] ? 0 : index[d] * stride[d];
            double v = kop_get_float(x, i);
            if (pass == 0)
                sum[g] += v;
            else if (pass == 1)
                squares[g] += (v - sum[g] / n) * (v - sum[g] / n);
            else
                kop_set_float(&call->out[0], i, (v - sum[g] / n) / (sqrt(squares[g] / n) + 1e-9));
            (void)kop_next(index, x->shape.dim, rank);
        }
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}
