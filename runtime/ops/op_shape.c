/* Operators about shapes themselves, and those whose data is the input's as it stands. */
#include "ops_impl.h"

kaena_status kop_infer_same(kop_call *call)
{
    call->out[0] = *call->in[0];
    call->out[0].data = NULL;
    return KAENA_OK;
}

/* Copies input 0: Identity, Reshape, Flatten, Squeeze, Unsqueeze. */
kaena_status kop_eval_identity(kop_call *call)
{
    const kop_tensor *in = call->in[0];
    size_t bytes = kop_elements(in) * kaena_dtype_size(in->dtype);
    if (bytes)
        memcpy(call->out[0].data, in->data, bytes);
    return KAENA_OK;
}

/* --- Shape, Size --- */

static int64_t clamp_axis(int64_t axis, int32_t rank)
{
    axis = axis < 0 ? (axis < -(int64_t)rank ? 0 : axis + rank) : axis;
    return axis > rank ? rank : axis;
}

kaena_status kop_infer_shape(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    kaena_shape shape = kop_shape_1d(KAENA_DIM_UNKNOWN);
    if (!x->unranked) {
        int64_t start = clamp_axis(kop_attr_int(call, "start", 0), x->shape.rank);
        int64_t end = clamp_axis(kop_attr_int(call, "end", x->shape.rank), x->shape.rank);
        shape.dim[0] = end > start ? end - start : 0;
    }
    kop_out(call, 0, KAENA_I64, &shape);
    return KAENA_OK;
}

kaena_status kop_eval_shape(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    int64_t start = clamp_axis(kop_attr_int(call, "start", 0), x->shape.rank);
    for (int64_t i = 0; i < call->out[0].shape.dim[0]; i++)
        kop_set_int(&call->out[0], (size_t)i, x->shape.dim[start + i]);
    return KAENA_OK;
}

kaena_status kop_infer_size(kop_call *call)
{
    kop_out(call, 0, KAENA_I64, &(kaena_shape){.rank = 0});
    return KAENA_OK;
}

kaena_status kop_eval_size(kop_call *call)
{
    kop_set_int(&call->out[0], 0, (int64_t)kop_elements(call->in[0]));
    return KAENA_OK;
}

/* --- Reshape, Flatten, Squeeze, Unsqueeze --- */

/* Fills in what 0 and -1 stand for; |wanted| becomes the shape. */
static kaena_status resolve_reshape(const kop_call *call, const kop_tensor *x, kaena_shape *wanted)
{
    bool allow_zero = kop_attr_int(call, "allowzero", 0) != 0;
    int32_t infer_at = -1;
    int64_t have = 0, rest = 1;
    bool x_known = kaena_shape_elements(&x->shape, &have) && !x->unranked, rest_known = true;
    for (int32_t i = 0; i < wanted->rank; i++) {
        int64_t *d = &wanted->dim[i];
        if (*d == -1) {
            if (infer_at >= 0)
                return KOP_BAD(call, "the new shape has more than one -1");
            infer_at = i;
            continue;
        }
        if (*d < -1)
            return KOP_BAD(call, "the new shape has the dimension %" PRId64, *d);
        if (*d == 0 && !allow_zero) {
            if (!x->unranked && i >= x->shape.rank)
                return KOP_BAD(call,
                               "dimension %d of the new shape is to be copied; the data has"
                               " rank %d",
                               i, x->shape.rank);
            *d = x->unranked ? KAENA_DIM_UNKNOWN : x->shape.dim[i];
        }
        if (*d < 0)
            rest_known = false;
        else if (!kaena_mul_i64(rest, *d, &rest))
            return KOP_BAD(call, "the new shape has too many elements");
    }
    if (!x_known || !rest_known)
        return KAENA_OK;
    if (infer_at >= 0 ? (rest == 0 ? have != 0 : have % rest != 0) : have != rest) {
        char a[KAENA_SHAPE_TEXT], b[KAENA_SHAPE_TEXT];
        return KOP_BAD(call, "data of shape %s cannot take the shape %s",
                       kaena_shape_print(&x->shape, a, sizeof a),
                       kaena_shape_print(wanted, b, sizeof b));
    }
    if (infer_at >= 0)
        wanted->dim[infer_at] = rest == 0 ? 0 : have / rest;
    return KAENA_OK;
}

kaena_status kop_infer_reshape(kop_call *call)
{
    const kop_tensor *x = call->in[0], *target = call->in[1];
    int64_t v[KAENA_MAX_RANK];
    uint32_t n;
    kaena_status status;
    if (kop_in_ints(call, 1, v, KAENA_MAX_RANK, &n, &status)) {
        kaena_shape wanted = {.rank = (int32_t)n};
        memcpy(wanted.dim, v, n * sizeof *v);
        KAENA_TRY(resolve_reshape(call, x, &wanted));
        kop_out(call, 0, x->dtype, &wanted);
        return KAENA_OK;
    }
    KAENA_TRY(status);
    if (kop_known(target) && target->shape.rank == 1) {
        if (target->shape.dim[0] > KAENA_MAX_RANK)
            return KOP_BAD(call, "the new shape has rank %" PRId64 "; at most %d is supported",
                           target->shape.dim[0], KAENA_MAX_RANK);
        kaena_shape shape = kop_shape_unknown((int32_t)target->shape.dim[0]);
        kop_out(call, 0, x->dtype, &shape);
        return KAENA_OK;
    }
    kop_out_unranked(call, 0, x->dtype);
    return KAENA_OK;
}

/* Product of dimensions [from, to), unknown when one of them is. */
static int64_t product(const kaena_shape *s, int32_t from, int32_t to)
{
    int64_t n = 1;
    bool zero = false;
    for (int32_t i = from; i < to; i++) {
        if (s->dim[i] < 0)
            return KAENA_DIM_UNKNOWN;
        zero = zero || s->dim[i] == 0;
        if (s->dim[i] > 0 && !kaena_mul_i64(n, s->dim[i], &n))
            return KAENA_DIM_UNKNOWN;
    }
    return zero ? 0 : n;
}

kaena_status kop_infer_flatten(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    kaena_shape shape = kop_shape_unknown(2);
    if (!x->unranked) {
        int64_t axis = kop_attr_int(call, "axis", 1);
        if (axis < -(int64_t)x->shape.rank || axis > x->shape.rank)
            return KOP_BAD(call, "axis %" PRId64 " is not in a shape of rank %d", axis,
                           x->shape.rank);
        int32_t at = (int32_t)(axis < 0 ? axis + x->shape.rank : axis);
        shape.dim[0] = product(&x->shape, 0, at);
        shape.dim[1] = product(&x->shape, at, x->shape.rank);
    }
    kop_out(call, 0, x->dtype, &shape);
    return KAENA_OK;
}

/* Marks the axes that input 1 lists in |set|. False and KAENA_OK: they are not known. */
static bool read_axes(const kop_call *call, int32_t rank, bool set[2 * KAENA_MAX_RANK], uint32_t *n,
                      kaena_status *status)
{
    int64_t v[KAENA_MAX_RANK];
    memset(set, 0, 2 * KAENA_MAX_RANK * sizeof *set);
    if (!kop_in_ints(call, 1, v, KAENA_MAX_RANK, n, status))
        return false;
    /* Unsqueeze counts axes in the result. */
    int32_t of = call->op == KOP_Unsqueeze ? rank + (int32_t)*n : rank;
    for (uint32_t i = 0; i < *n; i++) {
        int32_t axis;
        if (!kop_axis(v[i], of, &axis) || set[axis]) {
            *status = KOP_BAD(call, "axes: %" PRId64 " is %s for rank %d", v[i],
                              kop_axis(v[i], of, &axis) ? "given twice" : "out of range", of);
            return false;
        }
        set[axis] = true;
    }
    return true;
}

kaena_status kop_infer_squeeze(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    bool set[2 * KAENA_MAX_RANK] = {false};
    uint32_t n;
    kaena_status status = KAENA_OK;
    kaena_shape shape = {.rank = 0};
    if (x->unranked || (kop_in(call, 1) && !read_axes(call, x->shape.rank, set, &n, &status))) {
        KAENA_TRY(status);
        kop_out_unranked(call, 0, x->dtype);
        return KAENA_OK;
    }
    bool all = !kop_in(call, 1);
    for (int32_t i = 0; i < x->shape.rank; i++) {
        int64_t d = x->shape.dim[i];
        if (all && d < 0) {
            kop_out_unranked(call, 0, x->dtype);
            return KAENA_OK;
        }
        if (set[i] && d >= 0 && d != 1)
            return KOP_BAD(call, "dimension %d is %" PRId64 " and cannot be squeezed", i, d);
        if (!set[i] && !(all && d == 1))
            shape.dim[shape.rank++] = d;
    }
    kop_out(call, 0, x->dtype, &shape);
    return KAENA_OK;
}

kaena_status kop_infer_unsqueeze(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    bool set[2 * KAENA_MAX_RANK];
    uint32_t n;
    kaena_status status = KAENA_OK;
    if (x->unranked || !read_axes(call, x->shape.rank, set, &n, &status)) {
        KAENA_TRY(status);
        kop_out_unranked(call, 0, x->dtype);
        return KAENA_OK;
    }
    if (x->shape.rank + (int32_t)n > KAENA_MAX_RANK)
        return KOP_BAD(call, "the result has rank %d; at most %d is supported",
                       x->shape.rank + (int32_t)n, KAENA_MAX_RANK);
    kaena_shape shape = {.rank = x->shape.rank + (int32_t)n};
    for (int32_t i = 0, from = 0; i < shape.rank; i++)
        shape.dim[i] = set[i] ? 1 : x->shape.dim[from++];
    kop_out(call, 0, x->dtype, &shape);
    return KAENA_OK;
}

/* --- Expand, Tile --- */

kaena_status kop_infer_expand(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    int64_t v[KAENA_MAX_RANK];
    uint32_t n;
    kaena_status status;
    if (!kop_in_ints(call, 1, v, KAENA_MAX_RANK, &n, &status) || x->unranked) {
        KAENA_TRY(status);
        const kop_tensor *s = call->in[1];
        /* Of a shape that is computed, the length may be known. */
        if (x->unranked || !kop_known(s) || s->shape.rank != 1 ||
            s->shape.dim[0] > KAENA_MAX_RANK) {
            kop_out_unranked(call, 0, x->dtype);
            return KAENA_OK;
        }
        int32_t rank = (int32_t)s->shape.dim[0];
        kaena_shape unknown = kop_shape_unknown(rank > x->shape.rank ? rank : x->shape.rank);
        kop_out(call, 0, x->dtype, &unknown);
        return KAENA_OK;
    }
    kop_tensor target = {.shape = {.rank = (int32_t)n}};
    for (uint32_t i = 0; i < n; i++) {
        if (v[i] < 0)
            return KOP_BAD(call, "the shape has the dimension %" PRId64, v[i]);
        target.shape.dim[i] = v[i];
    }
    const kop_tensor *in[2] = {x, &target};
    kop_call both = {.op = call->op, .in = in, .n_in = 2, .err = call->err};
    kaena_shape shape;
    bool unranked;
    KAENA_TRY(kop_broadcast_shape(&both, 0, 2, &shape, &unranked));
    kop_out(call, 0, x->dtype, &shape);
    return KAENA_OK;
}

kaena_status kop_eval_expand(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    kop_tensor *out = &call->out[0];
    if (kop_elements(out) == 0)
        return KAENA_OK;
    kop_bcast *b = kop_alloc(call, 1, sizeof *b);
    if (!b)
        return KAENA_RESOURCE_EXHAUSTED;
    kop_bcast_init(b, &out->shape, &x, 1);
    return kop_copy_strided(call, out->data, x->data, kaena_dtype_size(x->dtype), b->rank, b->dim,
                            b->stride[0]);
}

kaena_status kop_infer_tile(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    if (x->unranked) {
        kop_out_unranked(call, 0, x->dtype);
        return KAENA_OK;
    }
    int64_t v[KAENA_MAX_RANK];
    uint32_t n;
    kaena_status status;
    kaena_shape shape = kop_shape_unknown(x->shape.rank);
    if (kop_in_ints(call, 1, v, KAENA_MAX_RANK, &n, &status)) {
        if ((int32_t)n != x->shape.rank)
            return KOP_BAD(call, "repeats has %u values for data of rank %d", n, x->shape.rank);
        for (uint32_t i = 0; i < n; i++) {
            if (v[i] < 0)
                return KOP_BAD(call, "repeats has the value %" PRId64, v[i]);
            if (x->shape.dim[i] >= 0 && !kaena_mul_i64(v[i], x->shape.dim[i], &shape.dim[i]))
                return KOP_BAD(call, "dimension %u of the result would be too large", i);
        }
    }
    KAENA_TRY(status);
    kop_out(call, 0, x->dtype, &shape);
    return KAENA_OK;
}

kaena_status kop_eval_tile(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    kop_tensor *out = &call->out[0];
    if (kop_elements(out) == 0)
        return KAENA_OK;
    size_t size = kaena_dtype_size(x->dtype);
    int32_t rank = x->shape.rank;
    int64_t stride[KAENA_MAX_RANK], index[KAENA_MAX_RANK] = {0};
    kaena_shape_strides(&x->shape, stride);
    int64_t line = rank ? x->shape.dim[rank - 1] : 1;
    int64_t repeats = rank ? out->shape.dim[rank - 1] / line : 1;
    char *to = out->data;
    do {
        int64_t from = 0;
        for (int32_t d = 0; d < rank - 1; d++)
            from += index[d] % x->shape.dim[d] * stride[d];
        for (int64_t r = 0; r < repeats; r++, to += (size_t)line * size)
            memcpy(to, (const char *)x->data + (size_t)from * size, (size_t)line * size);
        KAENA_TRY(kop_poll(call));
    } while (rank > 1 && kop_next(index, out->shape.dim, rank - 1));
    return KAENA_OK;
}
