/* Cast and the quantising operators. */
#include "ops_impl.h"

#include <math.h>

#define CASTABLE KOP_T_ALL

kaena_status kop_infer_cast(kop_call *call)
{
    int64_t to = call->op == KOP_CastLike ? kop_in_type(call, 1) : kop_attr_int(call, "to", -1);
    KAENA_TRY(kop_need(call, 0, CASTABLE));
    if (to < 0)
        return KOP_BAD(call, "the attribute 'to' is required");
    if (to > 31 || (to != KAENA_DTYPE_NONE && !(CASTABLE & KOP_T(to))) ||
        (to == KAENA_DTYPE_NONE && call->op != KOP_CastLike))
        return KAENA_FAIL(call->err, UNIMPLEMENTED,
                          "Cast: to type %s (%" PRId64 ") is not supported",
                          kaena_dtype_name((kaena_dtype)(to & 31)), to);
    call->out[0] = *call->in[0];
    call->out[0].data = NULL;
    call->out[0].dtype = (kaena_dtype)to;
    return KAENA_OK;
}

kaena_status kop_eval_cast(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    kop_tensor *out = &call->out[0];
    size_t n = kop_elements(x), from = kaena_dtype_size(x->dtype),
           to = kaena_dtype_size(out->dtype);
    if (x->dtype == KAENA_STRING && out->dtype != KAENA_STRING)
        return kop_cast_from_text(call);
    if (out->dtype == KAENA_STRING && x->dtype != KAENA_STRING)
        return kop_cast_to_text(call);
    if (out->dtype == KAENA_STRING)
        return kop_eval_identity(call);
    for (size_t at = 0; at < n; at += KOP_CHUNK) {
        size_t m = n - at < KOP_CHUNK ? n - at : KOP_CHUNK;
        kaena_cast((char *)out->data + at * to, out->dtype, (const char *)x->data + at * from,
                   x->dtype, m);
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* --- QuantizeLinear, DequantizeLinear --- */

#define QUANTISED (KOP_T(KAENA_I8) | KOP_T(KAENA_U8) | KOP_T(KAENA_I16) | KOP_T(KAENA_U16))

/* Where the scale of an element stands: one for all, one for each index of an axis, or one for each
 * block of an axis. */
typedef struct scale_map {
    int64_t count, inner, axis_size, block;
} scale_map;

static kaena_status map_of(const kop_call *call, scale_map *out)
{
    const kop_tensor *x = call->in[0], *scale = call->in[1];
    int32_t axis;
    scale_map m = {.count = (int64_t)kop_elements(scale), .inner = 1, .axis_size = 1, .block = 1};
    if (m.count != 1 || scale->shape.rank > 1) {
        KAENA_TRY(kop_attr_axis(call, "axis", 1, x->shape.rank, &axis));
        int64_t block = kop_attr_int(call, "block_size", 0), d = x->shape.dim[axis];
        m.inner = kop_span(&x->shape, axis + 1, x->shape.rank);
        m.axis_size = d;
        bool fits = scale->shape.rank == 1 && scale->shape.dim[0] == d;
        if (block > 0) {
            m.block = block;
            fits = scale->shape.rank == x->shape.rank;
            for (int32_t i = 0; fits && i < x->shape.rank; i++)
                fits = scale->shape.dim[i] ==
                       (i == axis ? (d > 0 ? (d - 1) / block + 1 : 0) : x->shape.dim[i]);
        }
        if (!fits || block < 0)
            return KOP_BAD(call, "the scale does not fit axis %d of the data", axis);
    }
    *out = m;
    return KAENA_OK;
}

/* How many elements from |i| on have one scale. */
static size_t run_at(const scale_map *m, size_t i, size_t n)
{
    if (m->count == 1)
        return n - i;
    return m->block == 1 ? (size_t)m->inner : 1;
}

static size_t scale_at(const scale_map *m, int64_t i)
{
    if (m->count == 1)
        return 0;
    int64_t along = i / m->inner % m->axis_size;
    if (m->block == 1)
        return (size_t)along;
    int64_t blocks = (m->axis_size - 1) / m->block + 1;
    return (size_t)((i / m->inner / m->axis_size * blocks + along / m->block) * m->inner +
                    i % m->inner);
}

static kaena_status check_scales(const kop_call *call)
{
    const kop_tensor *x = call->in[0], *scale = call->in[1], *zero = kop_in(call, 2);
    KAENA_TRY(kop_need(call, 1, KOP_T_FLOAT));
    scale_map m;
    if (kop_known(x) && kop_known(scale))
        KAENA_TRY(map_of(call, &m));
    if (kop_known(scale) && kop_known(zero) && kop_elements(scale) != kop_elements(zero))
        return KOP_BAD(call, "scale and zero point differ in size");
    return KAENA_OK;
}

kaena_status kop_infer_quantize(kop_call *call)
{
    KAENA_TRY(kop_need(call, 0, KOP_T_FLOAT | KOP_T(KAENA_I32)));
    KAENA_TRY(kop_need(call, 2, QUANTISED));
    KAENA_TRY(check_scales(call));
    int64_t type = kop_in(call, 2) ? kop_in_type(call, 2) : kop_attr_int(call, "output_dtype", 0);
    if (type == 0 && !kop_in(call, 2))
        type = KAENA_U8;
    if (type < 0 || type > 31 || (type && !(QUANTISED & KOP_T(type))))
        return KAENA_FAIL(call->err, UNIMPLEMENTED,
                          "QuantizeLinear: output_dtype %" PRId64 " is not supported", type);
    call->out[0] = *call->in[0];
    call->out[0].data = NULL;
    call->out[0].dtype = (kaena_dtype)type;
    return KAENA_OK;
}

kaena_status kop_eval_quantize(kop_call *call)
{
    const kop_tensor *x = call->in[0], *scale = call->in[1], *zero = kop_in(call, 2);
    scale_map m;
    KAENA_TRY(map_of(call, &m));
    size_t n = kop_elements(x);
    for (size_t i = 0, run; i < n; i += run) {
        size_t at = scale_at(&m, (int64_t)i);
        double s = kop_get_float(scale, at), z = zero ? kop_get_float(zero, at) : 0;
        run = run_at(&m, i, n);
        for (size_t k = 0; k < run; k += KOP_CHUNK) {
            double v[KOP_CHUNK];
            size_t c = run - k < KOP_CHUNK ? run - k : KOP_CHUNK;
            kop_load_f64(x, i + k, c, v);
            /* The quotient is rounded in the data's type before it is rounded to an integer. */
            for (size_t j = 0; j < c; j++)
                v[j] =
                    rint(x->dtype == KAENA_F64 ? v[j] / s : (double)((float)v[j] / (float)s)) + z;
            kop_store_f64(&call->out[0], i + k, c, v);
            KAENA_TRY(kop_poll(call));
        }
    }
    return KAENA_OK;
}

kaena_status kop_infer_dequantize(kop_call *call)
{
    KAENA_TRY(kop_need(call, 0, QUANTISED | KOP_T(KAENA_I32)));
    KAENA_TRY(kop_need_same(call, 0, 2));
    KAENA_TRY(check_scales(call));
    call->out[0] = *call->in[0];
    call->out[0].data = NULL;
    call->out[0].dtype = kop_in_type(call, 1);
    return KAENA_OK;
}

kaena_status kop_eval_dequantize(kop_call *call)
{
    const kop_tensor *x = call->in[0], *scale = call->in[1], *zero = kop_in(call, 2);
    scale_map m;
    KAENA_TRY(map_of(call, &m));
    size_t n = kop_elements(x);
    for (size_t i = 0, run; i < n; i += run) {
        size_t at = scale_at(&m, (int64_t)i);
        double s = kop_get_float(scale, at), z = zero ? kop_get_float(zero, at) : 0;
        run = run_at(&m, i, n);
        for (size_t k = 0; k < run; k += KOP_CHUNK) {
            double v[KOP_CHUNK];
            size_t c = run - k < KOP_CHUNK ? run - k : KOP_CHUNK;
            kop_load_f64(x, i + k, c, v);
            for (size_t j = 0; j < c; j++)
                v[j] = (v[j] - z) * s;
            kop_store_f64(&call->out[0], i + k, c, v);
            KAENA_TRY(kop_poll(call));
        }
    }
    return KAENA_OK;
}

/* --- DynamicQuantizeLinear: to uint8, the range is the data's --- */

kaena_status kop_infer_dynamic_quantize(kop_call *call)
{
    KAENA_TRY(kop_need(call, 0, KOP_T(KAENA_F32)));
    call->out[0] = *call->in[0];
    call->out[0].data = NULL;
    call->out[0].dtype = KAENA_U8;
    kop_out(call, 1, KAENA_F32, &(kaena_shape){.rank = 0});
    kop_out(call, 2, KAENA_U8, &(kaena_shape){.rank = 0});
    return KAENA_OK;
}

kaena_status kop_eval_dynamic_quantize(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    const float *v = x->data;
    size_t n = kop_elements(x);
    float low = 0, high = 0;
    for (size_t i = 0; i < n; i++) {
        low = v[i] < low ? v[i] : low;
        high = v[i] > high ? v[i] : high;
    }
    float scale = (high - low) / 255;
    double zero = scale != 0 ? rint((double)(-low / scale)) : 0;
    zero = zero < 0 ? 0 : zero > 255 ? 255 : zero;
    for (size_t i = 0; i < n; i++) {
        kop_set_float(&call->out[0], i, scale != 0 ? rint((double)(v[i] / scale)) + zero : zero);
        if (i % KOP_CHUNK == 0)
            KAENA_TRY(kop_poll(call));
    }
    if (call->n_out > 1)
        kop_set_float(&call->out[1], 0, (double)scale);
    if (call->n_out > 2)
        kop_set_float(&call->out[2], 0, zero);
    return KAENA_OK;
}
