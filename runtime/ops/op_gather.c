#include "ops_impl.h"

static kaena_status bad_index(const kop_call *call, int64_t index, int64_t size)
{
    return KAENA_FAIL(call->err, OUT_OF_RANGE,
                      "index %" PRId64 " is outside a dimension of %" PRId64, index, size);
}

/* Element |i| of the indices, counted from the end where negative. */
static kaena_status read_index(const kop_call *call, const kop_tensor *indices, size_t i,
                               int64_t size, int64_t *out)
{
    int64_t v = kop_get_int(indices, i);
    if (v < -size || v >= size)
        return bad_index(call, v, size);
    *out = v < 0 ? v + size : v;
    return KAENA_OK;
}

/* --- Gather: whole slices along one axis --- */

kaena_status kop_infer_gather(kop_call *call)
{
    const kop_tensor *x = call->in[0], *indices = call->in[1];
    KAENA_TRY(kop_need(call, 1, KOP_T_INDEX));
    if (x->unranked || indices->unranked) {
        kop_out_unranked(call, 0, x->dtype);
        return KAENA_OK;
    }
    int32_t axis;
    KAENA_TRY(kop_attr_axis(call, "axis", 0, x->shape.rank, &axis));
    if (x->shape.rank - 1 + indices->shape.rank > KAENA_MAX_RANK)
        return KOP_BAD(call, "the result has rank %d; at most %d is supported",
                       x->shape.rank - 1 + indices->shape.rank, KAENA_MAX_RANK);
    kaena_shape shape = {.rank = 0};
    for (int32_t i = 0; i < axis; i++)
        shape.dim[shape.rank++] = x->shape.dim[i];
    for (int32_t i = 0; i < indices->shape.rank; i++)
        shape.dim[shape.rank++] = indices->shape.dim[i];
    for (int32_t i = axis + 1; i < x->shape.rank; i++)
        shape.dim[shape.rank++] = x->shape.dim[i];
    kop_out(call, 0, x->dtype, &shape);
    return KAENA_OK;
}

kaena_status kop_eval_gather(kop_call *call)
{
    const kop_tensor *x = call->in[0], *indices = call->in[1];
    kop_tensor *out = &call->out[0];
    if (kop_elements(out) == 0)
        return KAENA_OK;
    int32_t axis;
    KAENA_TRY(kop_attr_axis(call, "axis", 0, x->shape.rank, &axis));
    int64_t outer = kop_span(&x->shape, 0, axis), d = x->shape.dim[axis];
    int64_t inner = kop_span(&x->shape, axis + 1, x->shape.rank);
    size_t n = kop_elements(indices), size = kaena_dtype_size(x->dtype);
    size_t bytes = (size_t)inner * size;
    int64_t *at = kop_alloc(call, n, sizeof *at);
    if (!at)
        return KAENA_RESOURCE_EXHAUSTED;
    for (size_t i = 0; i < n; i++)
        KAENA_TRY(read_index(call, indices, i, d, &at[i]));
    char *to = out->data;
    for (int64_t o = 0; o < outer; o++) {
        const char *from = (const char *)x->data + (size_t)(o * d) * bytes;
        if (inner == 1)
            kop_copiers_of(size)->pick(to, from, at, (int64_t)n);
        for (size_t i = 0; i < n && inner != 1; i++) {
            memcpy(to + i * bytes, from + (size_t)at[i] * bytes, bytes);
            if (i % KOP_CHUNK == 0)
                KAENA_TRY(kop_poll(call));
        }
        to += n * bytes;
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* --- GatherElements, ScatterElements: one index for each element --- */

kaena_status kop_infer_gather_elements(kop_call *call)
{
    const kop_tensor *x = call->in[0], *indices = call->in[1];
    KAENA_TRY(kop_need(call, 1, KOP_T_INDEX));
    if (!x->unranked) {
        int32_t axis;
        KAENA_TRY(kop_attr_axis(call, "axis", 0, x->shape.rank, &axis));
        KAENA_TRY(kop_need_rank(call, 1, x->shape.rank));
        for (int32_t i = 0; i < x->shape.rank && !indices->unranked; i++)
            if (i != axis && x->shape.dim[i] >= 0 && indices->shape.dim[i] > x->shape.dim[i])
                return KOP_BAD(call,
                               "the indices have %" PRId64 " in dimension %d, the data %" PRId64,
                               indices->shape.dim[i], i, x->shape.dim[i]);
    }
    if (indices->unranked)
        kop_out_unranked(call, 0, x->dtype);
    else
        kop_out(call, 0, x->dtype, &indices->shape);
    return KAENA_OK;
}

/* The element of |x| that element |index| of the indices, with value |value| along |axis|, means.
 */
static size_t element_at(const int64_t *index, const int64_t *stride, int32_t rank, int32_t axis,
                         int64_t value)
{
    int64_t at = 0;
    for (int32_t i = 0; i < rank; i++)
        at += (i == axis ? value : index[i]) * stride[i];
    return (size_t)at;
}

kaena_status kop_eval_gather_elements(kop_call *call)
{
    const kop_tensor *x = call->in[0], *indices = call->in[1];
    kop_tensor *out = &call->out[0];
    if (kop_elements(out) == 0)
        return KAENA_OK;
    int32_t axis, rank = x->shape.rank;
    KAENA_TRY(kop_attr_axis(call, "axis", 0, rank, &axis));
    int64_t stride[KAENA_MAX_RANK], index[KAENA_MAX_RANK] = {0};
    kaena_shape_strides(&x->shape, stride);
    size_t size = kaena_dtype_size(x->dtype), i = 0;
    do {
        int64_t v = 0;
        KAENA_TRY(read_index(call, indices, i, x->shape.dim[axis], &v));
        size_t from = element_at(index, stride, rank, axis, v);
        memcpy((char *)out->data + i++ * size, (const char *)x->data + from * size, size);
        KAENA_TRY(kop_poll(call));
    } while (kop_next(index, indices->shape.dim, rank));
    return KAENA_OK;
}

/* --- Scatter's reductions --- */

typedef enum reduction { REDUCE_NONE, REDUCE_ADD, REDUCE_MUL, REDUCE_MAX, REDUCE_MIN } reduction;

static kaena_status reduction_of(const kop_call *call, reduction *out)
{
    static const char *const names[] = {"none", "add", "mul", "max", "min"};
    for (int i = 0; i < 5; i++)
        if (kop_attr_is(call, "reduction", "none", names[i])) {
            *out = (reduction)i;
            if (i != REDUCE_NONE)
                KAENA_TRY(kop_need(call, 0, KOP_T_NUM));
            return KAENA_OK;
        }
    return KOP_BAD(call, "there is no reduction '%s'", kop_attr_string(call, "reduction", ""));
}

/* out[at] = out[at] (+) update[from], |n| elements. */
static void update(kop_tensor *out, size_t at, const kop_tensor *updates, size_t from, size_t n,
                   reduction how)
{
    size_t size = kaena_dtype_size(out->dtype);
    if (how == REDUCE_NONE) {
        memcpy((char *)out->data + at * size, (const char *)updates->data + from * size, n * size);
        return;
    }
    kop_kind kind = kop_kind_of(out->dtype);
    for (size_t i = 0; i < n; i++) {
        if (kind == KOP_KIND_FLOAT) {
            double a = kop_get_float(out, at + i), b = kop_get_float(updates, from + i);
            double y = how == REDUCE_ADD   ? a + b
                       : how == REDUCE_MUL ? a * b
                       : how == REDUCE_MAX ? (b > a ? b : a)
                                           : (b < a ? b : a);
            kop_set_float(out, at + i, y);
        } else {
            uint64_t a = (uint64_t)kop_get_int(out, at + i), b;
            b = (uint64_t)kop_get_int(updates, from + i);
            bool less = kind == KOP_KIND_SIGNED ? (int64_t)b < (int64_t)a : b < a;
            uint64_t y = how == REDUCE_ADD   ? a + b
                         : how == REDUCE_MUL ? a * b
                         : how == REDUCE_MAX ? (less ? a : b)
                                             : (less ? b : a);
            kop_set_int(out, at + i, (int64_t)y);
        }
    }
}

kaena_status kop_infer_scatter_elements(kop_call *call)
{
    const kop_tensor *x = call->in[0], *indices = call->in[1], *updates = call->in[2];
    reduction how;
    KAENA_TRY(kop_need(call, 1, KOP_T_INDEX));
    KAENA_TRY(kop_need_same(call, 0, 2));
    KAENA_TRY(reduction_of(call, &how));
    if (!x->unranked) {
        int32_t axis;
        KAENA_TRY(kop_attr_axis(call, "axis", 0, x->shape.rank, &axis));
        KAENA_TRY(kop_need_rank(call, 1, x->shape.rank));
        for (int32_t i = 0; i < x->shape.rank && !indices->unranked; i++)
            if (i != axis && x->shape.dim[i] >= 0 && indices->shape.dim[i] > x->shape.dim[i])
                return KOP_BAD(call,
                               "the indices have %" PRId64 " in dimension %d, the data %" PRId64,
                               indices->shape.dim[i], i, x->shape.dim[i]);
    }
    if (kop_known(indices) && kop_known(updates) &&
        !kaena_shape_equal(&indices->shape, &updates->shape))
        return KOP_BAD(call, "indices and updates differ in shape");
    return kop_infer_same(call);
}

kaena_status kop_eval_scatter_elements(kop_call *call)
{
    const kop_tensor *x = call->in[0], *indices = call->in[1];
    KAENA_TRY(kop_eval_identity(call));
    if (kop_elements(indices) == 0)
        return KAENA_OK;
    reduction how;
    int32_t axis, rank = x->shape.rank;
    KAENA_TRY(reduction_of(call, &how));
    KAENA_TRY(kop_attr_axis(call, "axis", 0, rank, &axis));
    int64_t stride[KAENA_MAX_RANK], index[KAENA_MAX_RANK] = {0};
    kaena_shape_strides(&x->shape, stride);
    size_t i = 0;
    do {
        int64_t v = 0;
        KAENA_TRY(read_index(call, indices, i, x->shape.dim[axis], &v));
        update(&call->out[0], element_at(index, stride, rank, axis, v), call->in[2], i++, 1, how);
        KAENA_TRY(kop_poll(call));
    } while (kop_next(index, indices->shape.dim, rank));
    return KAENA_OK;
}

/* --- GatherND, ScatterND: tuples of indices --- */

/* Checks ranks; |*tuple| is the length of an index tuple, or unknown. */
static kaena_status check_nd(const kop_call *call, int64_t batch, int64_t *tuple)
{
    const kop_tensor *x = call->in[0], *indices = call->in[1];
    if (indices->shape.rank < 1)
        return KOP_BAD(call, "the indices are a scalar");
    if (batch < 0 || batch >= indices->shape.rank || batch >= x->shape.rank)
        return KOP_BAD(call, "batch_dims %" PRId64 " is not possible", batch);
    *tuple = indices->shape.dim[indices->shape.rank - 1];
    if (*tuple >= 0 && (*tuple < 1 || *tuple > x->shape.rank - batch))
        return KOP_BAD(call, "index tuples of %" PRId64 " for data of rank %d", *tuple,
                       x->shape.rank);
    for (int32_t i = 0; i < batch; i++)
        if (x->shape.dim[i] >= 0 && indices->shape.dim[i] >= 0 &&
            x->shape.dim[i] != indices->shape.dim[i])
            return KOP_BAD(call, "batch dimension %d of data and indices differ", i);
    return KAENA_OK;
}

kaena_status kop_infer_gather_nd(kop_call *call)
{
    const kop_tensor *x = call->in[0], *indices = call->in[1];
    KAENA_TRY(kop_need(call, 1, KOP_T_INDEX));
    if (x->unranked || indices->unranked) {
        kop_out_unranked(call, 0, x->dtype);
        return KAENA_OK;
    }
    int64_t batch = kop_attr_int(call, "batch_dims", 0), tuple;
    KAENA_TRY(check_nd(call, batch, &tuple));
    if (tuple < 0) {
        kop_out_unranked(call, 0, x->dtype);
        return KAENA_OK;
    }
    int32_t slice = x->shape.rank - (int32_t)(batch + tuple);
    if (indices->shape.rank - 1 + slice > KAENA_MAX_RANK)
        return KOP_BAD(call, "the result has a rank above %d", KAENA_MAX_RANK);
    kaena_shape shape = {.rank = 0};
    for (int32_t i = 0; i < indices->shape.rank - 1; i++)
        shape.dim[shape.rank++] = indices->shape.dim[i];
    for (int32_t i = 0; i < slice; i++)
        shape.dim[shape.rank++] = x->shape.dim[batch + tuple + i];
    kop_out(call, 0, x->dtype, &shape);
    return KAENA_OK;
}

/* The first element that tuple |i| of the indices means, in a block of the data after its batch
 * dimensions. */
static kaena_status tuple_offset(const kop_call *call, const kop_tensor *x,
                                 const kop_tensor *indices, int32_t batch, int32_t tuple, size_t i,
                                 int64_t *out)
{
    int64_t stride[KAENA_MAX_RANK], at = 0;
    kaena_shape_strides(&x->shape, stride);
    for (int32_t j = 0; j < tuple; j++) {
        int64_t v = 0;
        KAENA_TRY(
            read_index(call, indices, i * (size_t)tuple + (size_t)j, x->shape.dim[batch + j], &v));
        at += v * stride[batch + j];
    }
    *out = at;
    return KAENA_OK;
}

kaena_status kop_eval_gather_nd(kop_call *call)
{
    const kop_tensor *x = call->in[0], *indices = call->in[1];
    kop_tensor *out = &call->out[0];
    if (kop_elements(out) == 0)
        return KAENA_OK;
    int32_t batch = (int32_t)kop_attr_int(call, "batch_dims", 0);
    int32_t tuple = (int32_t)indices->shape.dim[indices->shape.rank - 1];
    int64_t batches = kop_span(&x->shape, 0, batch),
            block = kop_span(&x->shape, batch, x->shape.rank);
    int64_t tuples = kop_span(&indices->shape, batch, indices->shape.rank - 1);
    size_t bytes =
        (size_t)kop_span(&x->shape, batch + tuple, x->shape.rank) * kaena_dtype_size(x->dtype);
    char *to = out->data;
    for (int64_t b = 0; b < batches; b++)
        for (int64_t i = 0; i < tuples; i++, to += bytes) {
            int64_t at = 0;
            KAENA_TRY(tuple_offset(call, x, indices, batch, tuple, (size_t)(b * tuples + i), &at));
            at = (b * block + at) * (int64_t)kaena_dtype_size(x->dtype);
            memcpy(to, (const char *)x->data + at, bytes);
            KAENA_TRY(kop_poll(call));
        }
    return KAENA_OK;
}

kaena_status kop_infer_scatter_nd(kop_call *call)
{
    const kop_tensor *x = call->in[0], *indices = call->in[1], *updates = call->in[2];
    reduction how;
    KAENA_TRY(kop_need(call, 1, KOP_T_INDEX));
    KAENA_TRY(kop_need_same(call, 0, 2));
    KAENA_TRY(reduction_of(call, &how));
    int64_t tuple;
    if (!x->unranked && !indices->unranked) {
        if (x->shape.rank < 1)
            return KOP_BAD(call, "the data is a scalar");
        KAENA_TRY(check_nd(call, 0, &tuple));
        if (tuple >= 0 && kop_known(updates)) {
            int32_t lead = indices->shape.rank - 1, slice = x->shape.rank - (int32_t)tuple;
            bool fits = updates->shape.rank == lead + slice;
            for (int32_t i = 0; fits && i < updates->shape.rank; i++) {
                int64_t d = i < lead ? indices->shape.dim[i] : x->shape.dim[i - lead + tuple];
                fits = d < 0 || d == updates->shape.dim[i];
            }
            if (!fits)
                return KOP_BAD(call, "the updates do not fit the indices and the data");
        }
    }
    return kop_infer_same(call);
}

kaena_status kop_eval_scatter_nd(kop_call *call)
{
    const kop_tensor *x = call->in[0], *indices = call->in[1], *updates = call->in[2];
    KAENA_TRY(kop_eval_identity(call));
    if (kop_elements(updates) == 0)
        return KAENA_OK;
    reduction how;
    KAENA_TRY(reduction_of(call, &how));
    int32_t tuple = (int32_t)indices->shape.dim[indices->shape.rank - 1];
    int64_t tuples = kop_span(&indices->shape, 0, indices->shape.rank - 1);
    size_t n = (size_t)kop_span(&x->shape, tuple, x->shape.rank);
    for (int64_t i = 0; i < tuples; i++) {
        int64_t at = 0;
        KAENA_TRY(tuple_offset(call, x, indices, 0, tuple, (size_t)i, &at));
        update(&call->out[0], (size_t)at, updates, (size_t)i * n, n, how);
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}
