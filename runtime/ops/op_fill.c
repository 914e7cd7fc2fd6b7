/* Operators that make tensors out of few values. */
#include "ops_impl.h"

#include <math.h>

/* --- ConstantOfShape --- */

static const kop_tensor *fill_value(const kop_call *call)
{
    const kop_attr *a = kop_attr_find(call, "value");
    return a && a->type == KOP_ATTR_TENSOR ? a->u.tensor : NULL;
}

kaena_status kop_infer_constant_of_shape(kop_call *call)
{
    const kop_tensor *value = fill_value(call), *target = call->in[0];
    if (value && (!kop_known(value) || kop_elements(value) != 1 || !value->data ||
                  kaena_dtype_size(value->dtype) == 0))
        return KOP_BAD(call, "value must be a tensor of one element");
    kaena_dtype type = value ? value->dtype : KAENA_F32;
    int64_t v[KAENA_MAX_RANK];
    uint32_t n;
    kaena_status status;
    if (kop_in_ints(call, 0, v, KAENA_MAX_RANK, &n, &status)) {
        kaena_shape shape = {.rank = (int32_t)n};
        for (uint32_t i = 0; i < n; i++) {
            if (v[i] < 0)
                return KOP_BAD(call, "the shape has the dimension %" PRId64, v[i]);
            shape.dim[i] = v[i];
        }
        kop_out(call, 0, type, &shape);
        return KAENA_OK;
    }
    KAENA_TRY(status);
    if (kop_known(target) && target->shape.rank == 1 && target->shape.dim[0] <= KAENA_MAX_RANK) {
        kaena_shape shape = kop_shape_unknown((int32_t)target->shape.dim[0]);
        kop_out(call, 0, type, &shape);
    } else {
        kop_out_unranked(call, 0, type);
    }
    return KAENA_OK;
}

kaena_status kop_eval_constant_of_shape(kop_call *call)
{
    const kop_tensor *value = fill_value(call);
    kop_tensor *out = &call->out[0];
    size_t n = kop_elements(out), size = kaena_dtype_size(out->dtype);
    for (size_t i = 0; value && i < n; i++) {
        memcpy((char *)out->data + i * size, value->data, size);
        if (i % KOP_CHUNK == 0)
            KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* --- Range --- */

/* Number of values, 0 for a step of the wrong sign. */
static kaena_status range_count(const kop_call *call, int64_t *out)
{
    double n;
    if (kop_kind_of(call->in[0]->dtype) == KOP_KIND_FLOAT) {
        double start = kop_get_float(call->in[0], 0), limit = kop_get_float(call->in[1], 0);
        n = ceil((limit - start) / kop_get_float(call->in[2], 0));
        if (kop_get_float(call->in[2], 0) == 0 || isnan(n))
            return KOP_BAD(call, "there is no range with this step");
    } else {
        int64_t start = kop_get_int(call->in[0], 0), limit = kop_get_int(call->in[1], 0);
        int64_t step = kop_get_int(call->in[2], 0);
        if (step == 0)
            return KOP_BAD(call, "there is no range with a step of 0");
        uint64_t span =
            step > 0 ? (uint64_t)limit - (uint64_t)start : (uint64_t)start - (uint64_t)limit;
        uint64_t by = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
        bool none = step > 0 ? limit <= start : limit >= start;
        n = none ? 0 : (double)((span - 1) / by + 1);
    }
    if (n > 0x1p61)
        return KOP_BAD(call, "the range has too many values");
    *out = n > 0 ? (int64_t)n : 0;
    return KAENA_OK;
}

kaena_status kop_infer_range(kop_call *call)
{
    bool known = true;
    for (uint32_t i = 0; i < 3; i++) {
        const kop_tensor *t = call->in[i];
        KAENA_TRY(kop_need(call, i, KOP_T_FLOAT | KOP_T_SIGNED));
        KAENA_TRY(kop_need_same(call, 0, i));
        if (kop_known(t) && kop_elements(t) != 1)
            return KOP_BAD(call, "input %u must have one element", i);
        known = known && kop_known(t) && t->data;
    }
    kaena_shape shape = kop_shape_1d(KAENA_DIM_UNKNOWN);
    if (known)
        KAENA_TRY(range_count(call, &shape.dim[0]));
    kop_out(call, 0, kop_in_type(call, 0), &shape);
    return KAENA_OK;
}

kaena_status kop_eval_range(kop_call *call)
{
    kop_tensor *out = &call->out[0];
    size_t n = kop_elements(out);
    bool real = kop_kind_of(out->dtype) == KOP_KIND_FLOAT;
    double start = kop_get_float(call->in[0], 0), step = kop_get_float(call->in[2], 0);
    uint64_t istart = (uint64_t)kop_get_int(call->in[0], 0);
    uint64_t istep = (uint64_t)kop_get_int(call->in[2], 0);
    for (size_t i = 0; i < n; i++) {
        if (real)
            kop_set_float(out, i, start + (double)i * step);
        else
            kop_set_int(out, i, (int64_t)(istart + i * istep));
        if (i % KOP_CHUNK == 0)
            KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* --- EyeLike --- */

kaena_status kop_infer_eye_like(kop_call *call)
{
    KAENA_TRY(kop_need(call, 0, KOP_T_NUM | KOP_T_BOOL));
    KAENA_TRY(kop_need_rank(call, 0, 2));
    int64_t type = kop_attr_int(call, "dtype", call->in[0]->dtype);
    if (type < 0 || type > 31 ||
        (type != KAENA_DTYPE_NONE && !((KOP_T_NUM | KOP_T_BOOL) & KOP_T(type))))
        return KOP_BAD(call, "dtype %" PRId64 " is not supported", type);
    call->out[0] = *call->in[0];
    call->out[0].dtype = (kaena_dtype)type;
    call->out[0].data = NULL;
    return KAENA_OK;
}

kaena_status kop_eval_eye_like(kop_call *call)
{
    kop_tensor *out = &call->out[0];
    int64_t k = kop_attr_int(call, "k", 0), rows = out->shape.dim[0], columns = out->shape.dim[1];
    for (int64_t i = 0; i < rows; i++) {
        int64_t at;
        if (kaena_add_i64(i, k, &at) && at >= 0 && at < columns)
            kop_set_int(out, (size_t)(i * columns + at), 1);
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* --- OneHot --- */

kaena_status kop_infer_one_hot(kop_call *call)
{
    const kop_tensor *indices = call->in[0], *depth = call->in[1], *values = call->in[2];
    KAENA_TRY(kop_need(call, 0, KOP_T_NUM));
    KAENA_TRY(kop_need(call, 1, KOP_T_NUM));
    if ((kop_known(values) && kop_elements(values) != 2) ||
        (kop_known(depth) && kop_elements(depth) != 1))
        return KOP_BAD(call, "depth must have one element and values two");
    if (indices->unranked) {
        kop_out_unranked(call, 0, values->dtype);
        return KAENA_OK;
    }
    int32_t axis, rank = indices->shape.rank + 1;
    if (rank > KAENA_MAX_RANK)
        return KOP_BAD(call, "the result has rank %d; at most %d is supported", rank,
                       KAENA_MAX_RANK);
    KAENA_TRY(kop_attr_axis(call, "axis", -1, rank, &axis));
    int64_t n = KAENA_DIM_UNKNOWN;
    if (kop_known(depth) && depth->data) {
        n = kop_get_int(depth, 0);
        if (n < 1)
            return KOP_BAD(call, "depth %" PRId64 " is not possible", n);
    }
    kaena_shape shape = {.rank = rank};
    for (int32_t i = 0; i < rank; i++)
        shape.dim[i] = i == axis ? n : indices->shape.dim[i - (i > axis)];
    kop_out(call, 0, values->dtype, &shape);
    return KAENA_OK;
}

kaena_status kop_eval_one_hot(kop_call *call)
{
    const kop_tensor *indices = call->in[0], *values = call->in[2];
    kop_tensor *out = &call->out[0];
    if (kop_elements(out) == 0)
        return KAENA_OK;
    int32_t axis;
    KAENA_TRY(kop_attr_axis(call, "axis", -1, out->shape.rank, &axis));
    int64_t depth = out->shape.dim[axis];
    int64_t inner = kop_span(&out->shape, axis + 1, out->shape.rank);
    size_t size = kaena_dtype_size(out->dtype), total = kop_elements(out);
    for (size_t i = 0; i < total; i++)
        memcpy((char *)out->data + i * size, values->data, size);
    for (size_t i = 0; i < kop_elements(indices); i++) {
        int64_t v = kop_get_int(indices, i);
        v = v < 0 ? v + depth : v;
        /* An index outside gives a row of off values, ONNX OneHot. */
        if (v >= 0 && v < depth) {
            size_t at = (size_t)(((int64_t)i / inner * depth + v) * inner + (int64_t)i % inner);
            memcpy((char *)out->data + at * size, (const char *)values->data + size, size);
        }
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}
