#include "ops_impl.h"

typedef enum pad_mode { PAD_CONSTANT, PAD_REFLECT, PAD_EDGE, PAD_WRAP } pad_mode;

typedef struct pad_plan {
    pad_mode mode;
    int64_t begin[KAENA_MAX_RANK], end[KAENA_MAX_RANK]; /* negative: cut off */
} pad_plan;

/* False and KAENA_OK: pads or axes are not known. */
static bool read_plan(const kop_call *call, int32_t rank, pad_plan *plan, kaena_status *status)
{
    static const char *const modes[] = {"constant", "reflect", "edge", "wrap"};
    int64_t pads[2 * KAENA_MAX_RANK], axes[KAENA_MAX_RANK];
    uint32_t n, n_axes = 0;
    *plan = (pad_plan){.mode = PAD_CONSTANT};
    while (!kop_attr_is(call, "mode", "constant", modes[plan->mode]))
        if (plan->mode++ == PAD_WRAP) {
            *status = KOP_BAD(call, "there is no mode '%s'", kop_attr_string(call, "mode", ""));
            return false;
        }
    if (!kop_in_ints(call, 1, pads, 2 * KAENA_MAX_RANK, &n, status))
        return false;
    if (kop_in(call, 3) && !kop_in_ints(call, 3, axes, KAENA_MAX_RANK, &n_axes, status))
        return false;
    uint32_t padded = kop_in(call, 3) ? n_axes : (uint32_t)rank;
    if (n != 2 * padded) {
        *status = KOP_BAD(call, "pads has %u values where %u are required", n, 2 * padded);
        return false;
    }
    for (uint32_t i = 0; i < padded; i++) {
        int32_t axis = (int32_t)i;
        if (kop_in(call, 3) && !kop_axis(axes[i], rank, &axis)) {
            *status = KOP_BAD(call, "axes: %" PRId64 " is not an axis of rank %d", axes[i], rank);
            return false;
        }
        plan->begin[axis] = pads[i];
        plan->end[axis] = pads[padded + i];
    }
    return true;
}

kaena_status kop_infer_pad(kop_call *call)
{
    const kop_tensor *x = call->in[0], *value = kop_in(call, 2);
    KAENA_TRY(kop_need(call, 1, KOP_T(KAENA_I64)));
    KAENA_TRY(kop_need_same(call, 0, 2));
    if (kop_known(value) && kop_elements(value) > 1)
        return KOP_BAD(call, "the pad value must be one number");
    if (x->unranked) {
        kop_out_unranked(call, 0, x->dtype);
        return KAENA_OK;
    }
    pad_plan plan;
    kaena_status status;
    kaena_shape shape = kop_shape_unknown(x->shape.rank);
    if (read_plan(call, x->shape.rank, &plan, &status)) {
        for (int32_t i = 0; i < shape.rank; i++) {
            int64_t d = x->shape.dim[i], y = d;
            if (d < 0)
                continue;
            if (!kaena_add_i64(y, plan.begin[i], &y) || !kaena_add_i64(y, plan.end[i], &y) || y < 0)
                return KOP_BAD(call,
                               "dimension %d of %" PRId64 " cannot be padded by %" PRId64
                               " and %" PRId64,
                               i, d, plan.begin[i], plan.end[i]);
            if (d == 0 && y > 0 && plan.mode != PAD_CONSTANT)
                return KOP_BAD(call, "dimension %d is empty and has nothing to pad with", i);
            shape.dim[i] = y;
        }
    }
    KAENA_TRY(status);
    kop_out(call, 0, x->dtype, &shape);
    return KAENA_OK;
}

/* The data's place for place |at| of a dimension of |d|, or -1: the pad value. */
static int64_t source(pad_mode mode, int64_t at, int64_t d)
{
    if (at >= 0 && at < d)
        return at;
    switch (mode) {
    case PAD_CONSTANT:
        return -1;
    case PAD_EDGE:
        return at < 0 ? 0 : d - 1;
    case PAD_WRAP:
        return (at % d + d) % d;
    case PAD_REFLECT:
        break;
    }
    if (d == 1)
        return 0;
    int64_t period = 2 * (d - 1), r = (at % period + period) % period;
    return r < d ? r : period - r;
}

kaena_status kop_eval_pad(kop_call *call)
{
    const kop_tensor *x = call->in[0], *value = kop_in(call, 2);
    kop_tensor *out = &call->out[0];
    if (kop_elements(out) == 0)
        return KAENA_OK;
    pad_plan plan;
    kaena_status status;
    int32_t rank = x->shape.rank;
    if (!read_plan(call, rank, &plan, &status))
        return status;
    size_t size = kaena_dtype_size(x->dtype);
    int64_t index[KAENA_MAX_RANK] = {0}, stride[KAENA_MAX_RANK];
    kaena_shape_strides(&x->shape, stride);
    bool fill = value && kop_elements(value) == 1;
    char *to = out->data;
    int64_t line = rank ? out->shape.dim[rank - 1] : 1;
    do {
        int64_t base = 0;
        for (int32_t d = 0; d < rank - 1 && base >= 0; d++) {
            int64_t at = source(plan.mode, index[d] - plan.begin[d], x->shape.dim[d]);
            base = at < 0 ? -1 : base + at * stride[d];
        }
        for (int64_t i = 0; i < line; i++, to += size) {
            int64_t at =
                rank ? source(plan.mode, i - plan.begin[rank - 1], x->shape.dim[rank - 1]) : 0;
            if (base >= 0 && at >= 0)
                memcpy(to, (const char *)x->data + (size_t)(base + at) * size, size);
            else if (fill)
                memcpy(to, value->data, size);
        }
        KAENA_TRY(kop_poll(call));
    } while (rank > 1 && kop_next(index, out->shape.dim, rank - 1));
    return KAENA_OK;
}
