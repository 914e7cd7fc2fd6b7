/* Operators that put elements into another order or join and cut tensors. */
#include "ops_impl.h"

/* --- Transpose --- */

static kaena_status permutation(const kop_call *call, int32_t rank, int32_t perm[KAENA_MAX_RANK])
{
    const int64_t *v;
    uint32_t n = kop_attr_ints(call, "perm", &v);
    bool seen[KAENA_MAX_RANK] = {false};
    if (n != 0 && n != (uint32_t)rank)
        return KOP_BAD(call, "perm has %u values for data of rank %d", n, rank);
    for (int32_t i = 0; i < rank; i++) {
        int64_t p = n ? v[i] : rank - 1 - i;
        if (p < 0 || p >= rank || seen[p])
            return KOP_BAD(call, "perm is not a permutation: %" PRId64 " at place %d", p, i);
        seen[p] = true;
        perm[i] = (int32_t)p;
    }
    return KAENA_OK;
}

kaena_status kop_infer_transpose(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    if (x->unranked) {
        kop_out_unranked(call, 0, x->dtype);
        return KAENA_OK;
    }
    int32_t perm[KAENA_MAX_RANK];
    KAENA_TRY(permutation(call, x->shape.rank, perm));
    kaena_shape shape = {.rank = x->shape.rank};
    for (int32_t i = 0; i < shape.rank; i++)
        shape.dim[i] = x->shape.dim[perm[i]];
    kop_out(call, 0, x->dtype, &shape);
    return KAENA_OK;
}

kaena_status kop_eval_transpose(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    kop_tensor *out = &call->out[0];
    int32_t perm[KAENA_MAX_RANK];
    int64_t strides[KAENA_MAX_RANK], walk[KAENA_MAX_RANK];
    KAENA_TRY(permutation(call, x->shape.rank, perm));
    kaena_shape_strides(&x->shape, strides);
    for (int32_t i = 0; i < x->shape.rank; i++)
        walk[i] = strides[perm[i]];
    return kop_copy_strided(call, out->data, x->data, kaena_dtype_size(x->dtype), x->shape.rank,
                            out->shape.dim, walk);
}

/* --- DepthToSpace, SpaceToDepth --- */

kaena_status kop_infer_depth_space(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    int64_t block = kop_attr_int(call, "blocksize", 0), area;
    KAENA_TRY(kop_need_rank(call, 0, 4));
    if (block < 1 || !kaena_mul_i64(block, block, &area))
        return KOP_BAD(call, "blocksize %" PRId64 " is not possible", block);
    if (!kop_attr_is(call, "mode", "DCR", "DCR") && !kop_attr_is(call, "mode", "DCR", "CRD"))
        return KOP_BAD(call, "mode must be DCR or CRD");
    if (x->unranked) {
        kop_out_unranked(call, 0, x->dtype);
        return KAENA_OK;
    }
    bool to_space = call->op == KOP_DepthToSpace;
    kaena_shape shape = x->shape;
    for (int32_t i = 1; i < 4; i++) {
        int64_t factor = i == 1 ? area : block;
        bool divide = (i == 1) == to_space;
        if (shape.dim[i] < 0)
            continue;
        if (divide && shape.dim[i] % factor != 0)
            return KOP_BAD(call, "dimension %d of %" PRId64 " is no multiple of %" PRId64, i,
                           shape.dim[i], factor);
        if (divide)
            shape.dim[i] /= factor;
        else if (!kaena_mul_i64(shape.dim[i], factor, &shape.dim[i]))
            return KOP_BAD(call, "dimension %d would be too large", i);
    }
    kop_out(call, 0, x->dtype, &shape);
    return KAENA_OK;
}

kaena_status kop_eval_depth_space(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    kop_tensor *out = &call->out[0];
    if (kop_elements(out) == 0)
        return KAENA_OK;
    int64_t b = kop_attr_int(call, "blocksize", 1), s[KAENA_MAX_RANK];
    const int64_t *o = out->shape.dim;
    kaena_shape_strides(&x->shape, s);
    if (call->op == KOP_SpaceToDepth) {
        /* out[n][(by bx) c][y][x] = in[n][c][y b + by][x b + bx] */
        int64_t c = x->shape.dim[1];
        const int64_t dim[] = {o[0], b, b, c, o[2], o[3]};
        const int64_t walk[] = {s[0], s[2], s[3], s[1], s[2] * b, s[3] * b};
        return kop_copy_strided(call, out->data, x->data, kaena_dtype_size(x->dtype), 6, dim, walk);
    }
    /* The block's row and column lie before the channel (DCR) or behind it (CRD). */
    bool crd = kop_attr_is(call, "mode", "DCR", "CRD");
    int64_t channel = crd ? s[1] * b * b : s[1];
    int64_t row = crd ? s[1] * b : s[1] * b * o[1], column = crd ? s[1] : s[1] * o[1];
    const int64_t dim[] = {o[0], o[1], o[2] / b, b, o[3] / b, b};
    const int64_t walk[] = {s[0], channel, s[2], row, s[3], column};
    return kop_copy_strided(call, out->data, x->data, kaena_dtype_size(x->dtype), 6, dim, walk);
}

/* --- Concat --- */

kaena_status kop_infer_concat(kop_call *call)
{
    kaena_dtype type = KAENA_DTYPE_NONE;
    kaena_shape shape = {.rank = -1};
    int32_t axis = 0;
    bool unranked = false, open = false;
    int64_t sum = 0;
    for (uint32_t i = 0; i < call->n_in; i++) {
        const kop_tensor *t = call->in[i];
        if (!t)
            return KOP_BAD(call, "input %u is required", i);
        KAENA_TRY(kop_need_same(call, 0, i));
        type = type ? type : t->dtype;
        if (t->unranked) {
            unranked = true;
            continue;
        }
        if (shape.rank < 0) {
            shape = t->shape;
            if (!kop_attr_find(call, "axis"))
                return KOP_BAD(call, "axis is required");
            KAENA_TRY(kop_attr_axis(call, "axis", 0, shape.rank, &axis));
        }
        if (t->shape.rank != shape.rank)
            return KOP_BAD(call, "input %u has rank %d where others have %d", i, t->shape.rank,
                           shape.rank);
        for (int32_t d = 0; d < shape.rank; d++) {
            int64_t v = t->shape.dim[d];
            if (d == axis) {
                open = open || v < 0;
                if (v > 0 && !kaena_add_i64(sum, v, &sum))
                    return KOP_BAD(call, "the result would be too large");
            } else if (shape.dim[d] < 0) {
                shape.dim[d] = v;
            } else if (v >= 0 && v != shape.dim[d]) {
                return KOP_BAD(call,
                               "input %u has %" PRId64 " in dimension %d where others have "
                               "%" PRId64,
                               i, v, d, shape.dim[d]);
            }
        }
    }
    if (shape.rank < 0) {
        kop_out_unranked(call, 0, type);
        return KAENA_OK;
    }
    shape.dim[axis] = unranked || open ? KAENA_DIM_UNKNOWN : sum;
    kop_out(call, 0, type, &shape);
    return KAENA_OK;
}

kaena_status kop_eval_concat(kop_call *call)
{
    kop_tensor *out = &call->out[0];
    if (kop_elements(out) == 0)
        return KAENA_OK;
    int32_t axis;
    KAENA_TRY(kop_attr_axis(call, "axis", 0, out->shape.rank, &axis));
    size_t size = kaena_dtype_size(out->dtype);
    int64_t outer = kop_span(&out->shape, 0, axis);
    int64_t inner = kop_span(&out->shape, axis + 1, out->shape.rank);
    char *to = out->data;
    for (int64_t o = 0; o < outer; o++) {
        for (uint32_t i = 0; i < call->n_in; i++) {
            size_t bytes = (size_t)(call->in[i]->shape.dim[axis] * inner) * size;
            if (bytes)
                memcpy(to, (const char *)call->in[i]->data + (size_t)o * bytes, bytes);
            to += bytes;
        }
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* --- Split --- */

kaena_status kop_infer_split(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    if (x->unranked) {
        for (uint32_t i = 0; i < call->n_out; i++)
            kop_out_unranked(call, i, x->dtype);
        KAENA_TRY(kop_need(call, 1, KOP_T_INDEX));
        return KAENA_OK;
    }
    int32_t axis;
    KAENA_TRY(kop_attr_axis(call, "axis", 0, x->shape.rank, &axis));
    int64_t sizes[KOP_MAX_OUTPUTS], all = x->shape.dim[axis], sum = 0;
    uint32_t n;
    kaena_status status;
    bool given = kop_in_ints(call, 1, sizes, KOP_MAX_OUTPUTS, &n, &status);
    KAENA_TRY(status);
    if (given && n != call->n_out)
        return KOP_BAD(call, "split has %u values for %u outputs", n, call->n_out);
    int64_t parts = call->n_out, each = (all + parts - 1) / parts;
    for (uint32_t i = 0; i < call->n_out; i++) {
        if (!given && (kop_in(call, 1) || all < 0))
            sizes[i] = KAENA_DIM_UNKNOWN;
        else if (!given) /* the last part may be smaller */
            sizes[i] = all - sum < each ? all - sum : each;
        else if (sizes[i] < 0 || !kaena_add_i64(sum, sizes[i], &sum))
            return KOP_BAD(call, "split has the value %" PRId64, sizes[i]);
        if (!given && sizes[i] >= 0)
            sum += sizes[i];
        kaena_shape shape = x->shape;
        shape.dim[axis] = sizes[i];
        kop_out(call, i, x->dtype, &shape);
    }
    if (given && all >= 0 && sum != all)
        return KOP_BAD(call, "split adds up to %" PRId64 "; the dimension is %" PRId64, sum, all);
    return KAENA_OK;
}

kaena_status kop_eval_split(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    if (kop_elements(x) == 0)
        return KAENA_OK;
    int32_t axis;
    KAENA_TRY(kop_attr_axis(call, "axis", 0, x->shape.rank, &axis));
    size_t size = kaena_dtype_size(x->dtype);
    int64_t outer = kop_span(&x->shape, 0, axis);
    int64_t inner = kop_span(&x->shape, axis + 1, x->shape.rank);
    const char *from = x->data;
    for (int64_t o = 0; o < outer; o++) {
        for (uint32_t i = 0; i < call->n_out; i++) {
            size_t bytes = (size_t)(call->out[i].shape.dim[axis] * inner) * size;
            if (bytes)
                memcpy((char *)call->out[i].data + (size_t)o * bytes, from, bytes);
            from += bytes;
        }
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* --- Slice --- */

typedef struct slice_axis {
    int64_t start, step, count;
} slice_axis;

/* What the inputs say about each dimension; |*unknown| when starts, ends, axes or steps are not
 * known. */
static kaena_status read_slice(const kop_call *call, const kop_tensor *x,
                               slice_axis out[KAENA_MAX_RANK], bool *unknown)
{
    int64_t v[4][KAENA_MAX_RANK];
    uint32_t n[4] = {0};
    int32_t rank = x->shape.rank;
    *unknown = false;
    for (uint32_t i = 0; i < 4; i++) {
        kaena_status status;
        bool have = kop_in_ints(call, i + 1, v[i], KAENA_MAX_RANK, &n[i], &status);
        KAENA_TRY(status);
        if (!have && kop_in(call, i + 1))
            *unknown = true;
        if (i > 0 && have && n[0] != n[i] && !*unknown)
            return KOP_BAD(call, "starts has %u values and input %u has %u", n[0], i + 1, n[i]);
    }
    for (int32_t i = 0; i < rank; i++)
        out[i] = (slice_axis){.step = 1, .count = x->shape.dim[i]};
    if (*unknown)
        return KAENA_OK;
    for (uint32_t i = 0; i < n[0]; i++) {
        int32_t axis;
        if (!kop_axis(n[2] ? v[2][i] : i, rank, &axis))
            return KOP_BAD(call, "axes: %" PRId64 " is not an axis of rank %d",
                           n[2] ? v[2][i] : (int64_t)i, rank);
        int64_t d = x->shape.dim[axis], step = n[3] ? v[3][i] : 1;
        int64_t start = v[0][i], end = v[1][i];
        if (step == 0)
            return KOP_BAD(call, "a step is 0");
        if (d < 0) {
            out[axis] = (slice_axis){.step = step, .count = KAENA_DIM_UNKNOWN};
            continue;
        }
        /* Bounds of what start and end may be after clamping, ONNX Slice. */
        int64_t low = step > 0 ? 0 : -1, high = step > 0 ? d : d - 1;
        start = start < 0 ? (start < -d ? -1 : start + d) : start;
        end = end < 0 ? (end < -d ? -1 : end + d) : end;
        start = start < 0 ? 0 : start > high ? high : start;
        end = end < low ? low : end > d ? d : end;
        int64_t count = 0;
        if (step > 0 && end > start)
            count = (end - start - 1) / step + 1;
        else if (step < 0 && start > end)
            count = (int64_t)((uint64_t)(start - end - 1) / (0 - (uint64_t)step)) + 1;
        out[axis] = (slice_axis){.start = start, .step = step, .count = count};
    }
    return KAENA_OK;
}

kaena_status kop_infer_slice(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    if (x->unranked) {
        kop_out_unranked(call, 0, x->dtype);
        return KAENA_OK;
    }
    slice_axis axes[KAENA_MAX_RANK];
    bool unknown;
    KAENA_TRY(read_slice(call, x, axes, &unknown));
    kaena_shape shape = kop_shape_unknown(x->shape.rank);
    for (int32_t i = 0; i < shape.rank && !unknown; i++)
        shape.dim[i] = axes[i].count;
    kop_out(call, 0, x->dtype, &shape);
    return KAENA_OK;
}

kaena_status kop_eval_slice(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    kop_tensor *out = &call->out[0];
    if (kop_elements(out) == 0)
        return KAENA_OK;
    slice_axis axes[KAENA_MAX_RANK];
    bool unknown;
    KAENA_TRY(read_slice(call, x, axes, &unknown));
    int64_t stride[KAENA_MAX_RANK], start = 0;
    kaena_shape_strides(&x->shape, stride);
    for (int32_t i = 0; i < x->shape.rank; i++) {
        start += axes[i].start * stride[i];
        /* A dimension of one element never steps; its step may be any number. */
        stride[i] = axes[i].count > 1 ? stride[i] * axes[i].step : 0;
    }
    size_t size = kaena_dtype_size(x->dtype);
    return kop_copy_strided(call, out->data, (const char *)x->data + (size_t)start * size, size,
                            x->shape.rank, out->shape.dim, stride);
}

/* --- Trilu --- */

kaena_status kop_infer_trilu(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    KAENA_TRY(kop_need(call, 1, KOP_T(KAENA_I64)));
    if (!x->unranked && x->shape.rank < 2)
        return KOP_BAD(call, "data of rank %d is no matrix", x->shape.rank);
    const kop_tensor *k = kop_in(call, 1);
    if (kop_known(k) && kop_elements(k) != 1)
        return KOP_BAD(call, "k must have one element");
    return kop_infer_same(call);
}

kaena_status kop_eval_trilu(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    size_t total = kop_elements(x), size = kaena_dtype_size(x->dtype);
    if (total == 0)
        return KAENA_OK;
    int64_t rows = x->shape.dim[x->shape.rank - 2], columns = x->shape.dim[x->shape.rank - 1];
    int64_t k = kop_in(call, 1) ? kop_get_int(call->in[1], 0) : 0;
    bool upper = kop_attr_int(call, "upper", 1) != 0;
    for (int64_t line = 0; line < (int64_t)total / columns; line++) {
        int64_t row = line % rows, edge; /* the first column on or above the diagonal k */
        if (!kaena_add_i64(row, k, &edge))
            edge = k > 0 ? columns : 0;
        edge = edge < -1 ? -1 : edge > columns ? columns : edge;
        edge += !upper;
        edge = edge < 0 ? 0 : edge > columns ? columns : edge;
        int64_t from = upper ? edge : 0, n = upper ? columns - edge : edge;
        size_t at = (size_t)(line * columns + from) * size;
        if (n > 0)
            memcpy((char *)call->out[0].data + at, (const char *)x->data + at, (size_t)n * size);
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}
