/* Operators whose result's size or order depends on the data: NonZero, Compress, TopK, Unique,
 * ReverseSequence. */
#include "ops_impl.h"

#include <math.h>
#include <stdlib.h>

/* --- NonZero --- */

kaena_status kop_infer_non_zero(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    kaena_shape shape = kop_shape_unknown(2);
    if (!x->unranked)
        shape.dim[0] = x->shape.rank;
    kop_out(call, 0, KAENA_I64, &shape);
    return KAENA_OK;
}

/* A string is something when it is not empty. */
static bool is_something(const kop_tensor *x, size_t i)
{
    if (x->dtype == KAENA_STRING)
        return ((const kaena_string *)x->data)[i].size > 0;
    return kop_get_float(x, i) != 0;
}

kaena_status kop_eval_non_zero(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    size_t total = kop_elements(x), n = 0;
    for (size_t i = 0; i < total; i++)
        n += is_something(x, i);
    int32_t rank = x->shape.rank;
    kaena_shape shape = {.rank = 2, .dim = {rank, (int64_t)n}};
    KAENA_TRY(kop_output(call, 0, KAENA_I64, &shape));
    int64_t index[KAENA_MAX_RANK] = {0}, *out = call->out[0].data;
    size_t at = 0;
    for (size_t i = 0; i < total; i++) {
        if (is_something(x, i)) {
            for (int32_t d = 0; d < rank; d++)
                out[(size_t)d * n + at] = index[d];
            at++;
        }
        (void)kop_next(index, x->shape.dim, rank);
        if (i % KOP_CHUNK == 0)
            KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* --- Compress --- */

kaena_status kop_infer_compress(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    KAENA_TRY(kop_need(call, 1, KOP_T_BOOL));
    KAENA_TRY(kop_need_rank(call, 1, 1));
    if (!kop_attr_find(call, "axis")) {
        kaena_shape flat = kop_shape_1d(KAENA_DIM_UNKNOWN);
        kop_out(call, 0, x->dtype, &flat);
        return KAENA_OK;
    }
    if (x->unranked) {
        kop_out_unranked(call, 0, x->dtype);
        return KAENA_OK;
    }
    int32_t axis;
    KAENA_TRY(kop_attr_axis(call, "axis", 0, x->shape.rank, &axis));
    kaena_shape shape = x->shape;
    shape.dim[axis] = KAENA_DIM_UNKNOWN;
    kop_out(call, 0, x->dtype, &shape);
    return KAENA_OK;
}

kaena_status kop_eval_compress(kop_call *call)
{
    const kop_tensor *x = call->in[0], *condition = call->in[1];
    const uint8_t *keep = condition->data;
    int32_t axis = 0;
    kaena_shape shape = kop_shape_1d((int64_t)kop_elements(x));
    if (kop_attr_find(call, "axis")) {
        KAENA_TRY(kop_attr_axis(call, "axis", 0, x->shape.rank, &axis));
        shape = x->shape;
    }
    int64_t all = shape.dim[axis], kept = 0;
    int64_t n = condition->shape.dim[0] < all ? condition->shape.dim[0] : all;
    for (int64_t i = 0; i < n; i++)
        kept += keep[i] != 0;
    int64_t outer = kop_span(&shape, 0, axis), inner = kop_span(&shape, axis + 1, shape.rank);
    shape.dim[axis] = kept;
    KAENA_TRY(kop_output(call, 0, x->dtype, &shape));
    if (kop_elements(&call->out[0]) == 0)
        return KAENA_OK;
    size_t bytes = (size_t)inner * kaena_dtype_size(x->dtype);
    char *to = call->out[0].data;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < n; i++) {
            if (keep[i]) {
                memcpy(to, (const char *)x->data + (size_t)(o * all + i) * bytes, bytes);
                to += bytes;
            }
            KAENA_TRY(kop_poll(call));
        }
    return KAENA_OK;
}

/* --- Sorting --- */

typedef struct ranked_value {
    double f;
    uint64_t u; /* integers: order of the sign-flipped bits */
    int64_t index;
} ranked_value;

static ranked_value read_value(const kop_tensor *x, size_t at, int64_t index)
{
    ranked_value v = {.index = index};
    kop_kind kind = kop_kind_of(x->dtype);
    if (kind == KOP_KIND_FLOAT)
        v.f = kop_get_float(x, at);
    else
        v.u = (uint64_t)kop_get_int(x, at) ^ (kind == KOP_KIND_SIGNED ? UINT64_C(1) << 63 : 0);
    return v;
}

/* NaN is the largest value; equal values stand in index order. */
static int order(const ranked_value *a, const ranked_value *b)
{
    if (isnan(a->f) || isnan(b->f))
        return isnan(a->f) - isnan(b->f);
    if (a->f != b->f)
        return a->f < b->f ? -1 : 1;
    return (a->u > b->u) - (a->u < b->u);
}

static int ascending(const void *a, const void *b)
{
    const ranked_value *x = a, *y = b;
    int c = order(x, y);
    return c ? c : (x->index > y->index) - (x->index < y->index);
}

static int descending(const void *a, const void *b)
{
    const ranked_value *x = a, *y = b;
    int c = order(y, x);
    return c ? c : (x->index > y->index) - (x->index < y->index);
}

/* --- TopK --- */

kaena_status kop_infer_top_k(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    int64_t k;
    uint32_t n;
    kaena_status status;
    KAENA_TRY(kop_need(call, 0, KOP_T_NUM));
    bool known = kop_in_ints(call, 1, &k, 1, &n, &status);
    KAENA_TRY(status);
    if (x->unranked) {
        kop_out_unranked(call, 0, x->dtype);
        kop_out_unranked(call, 1, KAENA_I64);
        return KAENA_OK;
    }
    int32_t axis;
    KAENA_TRY(kop_attr_axis(call, "axis", -1, x->shape.rank, &axis));
    kaena_shape shape = x->shape;
    if (known && (n != 1 || k < 0 || (shape.dim[axis] >= 0 && k > shape.dim[axis])))
        return KOP_BAD(call, "K must be one number of at most the dimension's %" PRId64,
                       shape.dim[axis]);
    shape.dim[axis] = known ? k : KAENA_DIM_UNKNOWN;
    kop_out(call, 0, x->dtype, &shape);
    kop_out(call, 1, KAENA_I64, &shape);
    return KAENA_OK;
}

kaena_status kop_eval_top_k(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    kop_tensor *out = &call->out[0];
    if (kop_elements(out) == 0)
        return KAENA_OK;
    int32_t axis;
    KAENA_TRY(kop_attr_axis(call, "axis", -1, x->shape.rank, &axis));
    int64_t n = x->shape.dim[axis], k = out->shape.dim[axis];
    int64_t inner = kop_span(&x->shape, axis + 1, x->shape.rank);
    int64_t lines = (int64_t)kop_elements(x) / n;
    size_t size = kaena_dtype_size(x->dtype);
    bool largest = kop_attr_int(call, "largest", 1) != 0;
    ranked_value *v = kop_alloc(call, (size_t)n, sizeof *v);
    if (!v)
        return KAENA_RESOURCE_EXHAUSTED;
    for (int64_t line = 0; line < lines; line++) {
        int64_t from = line / inner * n * inner + line % inner;
        int64_t to = line / inner * k * inner + line % inner;
        for (int64_t i = 0; i < n; i++)
            v[i] = read_value(x, (size_t)(from + i * inner), i);
        qsort(v, (size_t)n, sizeof *v, largest ? descending : ascending);
        for (int64_t i = 0; i < k; i++) {
            memcpy((char *)out->data + (size_t)(to + i * inner) * size,
                   (const char *)x->data + (size_t)(from + v[i].index * inner) * size, size);
            if (call->n_out > 1)
                kop_set_int(&call->out[1], (size_t)(to + i * inner), v[i].index);
        }
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* --- Unique --- */

kaena_status kop_infer_unique(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    kaena_shape list = kop_shape_1d(KAENA_DIM_UNKNOWN);
    for (uint32_t i = 1; i < 4; i++)
        kop_out(call, i, KAENA_I64, &list);
    if (!kop_attr_find(call, "axis")) {
        kop_out(call, 0, x->dtype, &list);
    } else if (x->unranked) {
        kop_out_unranked(call, 0, x->dtype);
    } else {
        int32_t axis;
        KAENA_TRY(kop_attr_axis(call, "axis", 0, x->shape.rank, &axis));
        kaena_shape shape = x->shape;
        shape.dim[axis] = KAENA_DIM_UNKNOWN;
        kop_out(call, 0, x->dtype, &shape);
    }
    return KAENA_OK;
}

/* The subtensors that are compared: |n| of them, each of outer * inner elements. */
typedef struct unique_items {
    const kop_tensor *x;
    int64_t n, outer, inner;
} unique_items;

static int compare_strings(const kaena_string *a, const kaena_string *b)
{
    size_t both = a->size < b->size ? a->size : b->size;
    int c = both ? memcmp(a->data, b->data, both) : 0;
    return c ? c : (a->size > b->size) - (a->size < b->size);
}

/* Elements |a| and |b| of a tensor. */
static int compare_elements(const kop_tensor *t, size_t a, size_t b)
{
    if (t->dtype == KAENA_STRING) {
        const kaena_string *s = t->data;
        return compare_strings(&s[a], &s[b]);
    }
    ranked_value x = read_value(t, a, 0), y = read_value(t, b, 0);
    return order(&x, &y);
}

static int compare_items(const unique_items *u, int64_t a, int64_t b)
{
    for (int64_t o = 0; o < u->outer; o++)
        for (int64_t i = 0; i < u->inner; i++) {
            int c = compare_elements(u->x, (size_t)((o * u->n + a) * u->inner + i),
                                     (size_t)((o * u->n + b) * u->inner + i));
            if (c)
                return c;
        }
    return 0;
}

static int compare_indirect(const void *a, const void *b, void *ctx)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    int c = compare_items(ctx, x, y);
    return c ? c : (x > y) - (x < y);
}

static int compare_first(const void *a, const void *b, void *ctx)
{
    const int64_t *first = ctx;
    int64_t x = first[*(const int64_t *)a], y = first[*(const int64_t *)b];
    return (x > y) - (x < y);
}

kaena_status kop_eval_unique(kop_call *call)
{
    unique_items u = {.x = call->in[0], .outer = 1, .inner = 1};
    kaena_shape shape = kop_shape_1d((int64_t)kop_elements(u.x));
    int32_t axis = 0;
    if (kop_attr_find(call, "axis")) {
        KAENA_TRY(kop_attr_axis(call, "axis", 0, u.x->shape.rank, &axis));
        shape = u.x->shape;
    }
    u.n = shape.dim[axis];
    u.outer = kop_span(&shape, 0, axis);
    u.inner = kop_span(&shape, axis + 1, shape.rank);
    size_t n = (size_t)u.n;
    int64_t *sorted = kop_alloc(call, n, sizeof *sorted),
            *group = kop_alloc(call, n, sizeof *group);
    int64_t *first = kop_alloc(call, n, sizeof *first), *count = kop_alloc(call, n, sizeof *count);
    int64_t *by = kop_alloc(call, n, sizeof *by), *place = kop_alloc(call, n, sizeof *place);
    if (!sorted || !group || !first || !count || !by || !place)
        return KAENA_RESOURCE_EXHAUSTED;
    for (int64_t i = 0; i < u.n; i++)
        sorted[i] = i;
    qsort_r(sorted, n, sizeof *sorted, compare_indirect, &u);
    int64_t groups = 0;
    for (int64_t i = 0; i < u.n; i++) {
        if (i == 0 || compare_items(&u, sorted[i - 1], sorted[i]) != 0)
            first[groups++] = sorted[i];
        group[sorted[i]] = groups - 1;
        count[groups - 1]++;
    }
    for (int64_t i = 0; i < groups; i++)
        by[i] = i;
    if (kop_attr_int(call, "sorted", 1) == 0)
        qsort_r(by, (size_t)groups, sizeof *by, compare_first, first);
    for (int64_t i = 0; i < groups; i++)
        place[by[i]] = i;
    shape.dim[axis] = groups;
    kaena_shape list = kop_shape_1d(groups), all = kop_shape_1d(u.n);
    KAENA_TRY(kop_output(call, 0, u.x->dtype, &shape));
    for (uint32_t i = 1; i < call->n_out; i++)
        KAENA_TRY(kop_output(call, i, KAENA_I64, i == 2 ? &all : &list));
    size_t bytes = (size_t)u.inner * kaena_dtype_size(u.x->dtype);
    for (int64_t i = 0; i < groups; i++) {
        for (int64_t o = 0; o < u.outer && bytes; o++)
            memcpy((char *)call->out[0].data + (size_t)(o * groups + i) * bytes,
                   (const char *)u.x->data + (size_t)(o * u.n + first[by[i]]) * bytes, bytes);
        if (call->n_out > 1)
            kop_set_int(&call->out[1], (size_t)i, first[by[i]]);
        if (call->n_out > 3)
            kop_set_int(&call->out[3], (size_t)i, count[by[i]]);
        KAENA_TRY(kop_poll(call));
    }
    for (int64_t i = 0; i < u.n && call->n_out > 2; i++)
        kop_set_int(&call->out[2], (size_t)i, place[group[i]]);
    return KAENA_OK;
}

/* --- ReverseSequence --- */

static kaena_status sequence_axes(const kop_call *call, int64_t *batch, int64_t *time)
{
    *batch = kop_attr_int(call, "batch_axis", 1);
    *time = kop_attr_int(call, "time_axis", 0);
    if (!((*batch == 0 && *time == 1) || (*batch == 1 && *time == 0)))
        return KOP_BAD(call, "batch_axis and time_axis must be 0 and 1, or 1 and 0");
    return KAENA_OK;
}

kaena_status kop_infer_reverse_sequence(kop_call *call)
{
    const kop_tensor *x = call->in[0], *lengths = call->in[1];
    int64_t batch, time;
    KAENA_TRY(kop_need(call, 1, KOP_T_INDEX));
    KAENA_TRY(kop_need_rank(call, 1, 1));
    KAENA_TRY(sequence_axes(call, &batch, &time));
    if (!x->unranked && x->shape.rank < 2)
        return KOP_BAD(call, "data of rank %d has no sequences", x->shape.rank);
    if (kop_known(x) && kop_known(lengths) && lengths->shape.dim[0] != x->shape.dim[batch])
        return KOP_BAD(call, "there are %" PRId64 " lengths for a batch of %" PRId64,
                       lengths->shape.dim[0], x->shape.dim[batch]);
    return kop_infer_same(call);
}

kaena_status kop_eval_reverse_sequence(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    int64_t batch, time;
    KAENA_TRY(sequence_axes(call, &batch, &time));
    if (kop_elements(x) == 0)
        return KAENA_OK;
    int64_t steps = x->shape.dim[time], strides[KAENA_MAX_RANK];
    kaena_shape_strides(&x->shape, strides);
    size_t size = kaena_dtype_size(x->dtype);
    size_t bytes = (size_t)kop_span(&x->shape, 2, x->shape.rank) * size;
    for (int64_t b = 0; b < x->shape.dim[batch]; b++) {
        int64_t length = kop_get_int(call->in[1], (size_t)b);
        if (length < 0 || length > steps)
            return KAENA_FAIL(call->err, OUT_OF_RANGE,
                              "a length of %" PRId64 " for sequences of %" PRId64, length, steps);
        for (int64_t t = 0; t < steps; t++) {
            int64_t from = t < length ? length - 1 - t : t;
            memcpy(
                (char *)call->out[0].data + (size_t)(b * strides[batch] + t * strides[time]) * size,
                (const char *)x->data + (size_t)(b * strides[batch] + from * strides[time]) * size,
                bytes);
        }
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}
