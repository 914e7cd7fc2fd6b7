/* Operators that draw numbers. The generator is counter-based: number i of a node depends on its
 * key and on i alone. The key is the attribute 'seed', or where that is absent the node's name: two
 * nodes of a graph differ, and every run gives the same, which ONNX leaves open. */
#include "ops_impl.h"

#include <math.h>

#define TWO_PI 6.283185307179586

/* A bijection of 64 bits in which every bit of |x| reaches every bit of the result. */
static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    x ^= x >> 29;
    x *= UINT64_C(0xa0761d6478bd642f);
    return x ^ (x >> 32);
}

static uint64_t key_of(const kop_call *call)
{
    const kop_attr *seed = kop_attr_find(call, "seed");
    if (seed && seed->type == KOP_ATTR_FLOAT)
        return mix(kaena_f32_bits(seed->u.f));
    if (seed && seed->type == KOP_ATTR_INT)
        return mix((uint64_t)seed->u.i);
    uint64_t key = UINT64_C(0x51ed270b7f3a9c15);
    for (const char *s = call->name ? call->name : ""; *s; s++)
        key = mix(key ^ (unsigned char)*s);
    return key;
}

/* Number |i|, uniform in [0, 1). */
static double uniform(uint64_t key, uint64_t i)
{
    return (double)(mix(key + mix(i + UINT64_C(0x9e3779b97f4a7c15))) >> 11) * 0x1p-53;
}

/* Number |i| of the normal distribution, by Box and Muller. */
static double normal(uint64_t key, uint64_t i)
{
    double radius = sqrt(-2 * log(1 - uniform(key, 2 * i)));
    return radius * cos(TWO_PI * uniform(key, 2 * i + 1));
}

/* --- RandomNormal, RandomUniform and the same with the shape of an input --- */

/* The shape is an attribute. */
static kaena_status shape_of(const kop_call *call, kaena_shape *out)
{
    const int64_t *dims;
    uint32_t n = kop_attr_ints(call, "shape", &dims);
    if (n > KAENA_MAX_RANK || !kop_attr_find(call, "shape"))
        return KOP_BAD(call, "the attribute 'shape' is required, with at most %d dimensions",
                       KAENA_MAX_RANK);
    *out = (kaena_shape){.rank = (int32_t)n};
    for (uint32_t i = 0; i < n; i++) {
        if (dims[i] < 0)
            return KOP_BAD(call, "the shape has the dimension %" PRId64, dims[i]);
        out->dim[i] = dims[i];
    }
    return KAENA_OK;
}

kaena_status kop_infer_random(kop_call *call)
{
    kaena_dtype type;
    kaena_shape shape;
    KAENA_TRY(kop_attr_dtype(call, "dtype", KAENA_F32, KOP_T_FLOAT, &type));
    KAENA_TRY(shape_of(call, &shape));
    kop_out(call, 0, type, &shape);
    return KAENA_OK;
}

kaena_status kop_infer_random_like(kop_call *call)
{
    kaena_dtype type, like = kop_in_type(call, 0);
    if (!kop_attr_find(call, "dtype"))
        KAENA_TRY(kop_need(call, 0, KOP_T_FLOAT));
    KAENA_TRY(kop_attr_dtype(call, "dtype", like, KOP_T_FLOAT, &type));
    call->out[0] = *call->in[0];
    call->out[0].data = NULL;
    call->out[0].dtype = type;
    return KAENA_OK;
}

kaena_status kop_eval_random(kop_call *call)
{
    bool is_normal = call->op == KOP_RandomNormal || call->op == KOP_RandomNormalLike;
    double a = (double)kop_attr_float(call, is_normal ? "mean" : "low", 0);
    double b = (double)kop_attr_float(call, is_normal ? "scale" : "high", 1);
    uint64_t key = key_of(call);
    kop_tensor *out = &call->out[0];
    size_t n = kop_elements(out);
    for (size_t at = 0; at < n; at += KOP_CHUNK) {
        double v[KOP_CHUNK];
        size_t m = n - at < KOP_CHUNK ? n - at : KOP_CHUNK;
        for (size_t i = 0; i < m; i++)
            v[i] = is_normal ? a + b * normal(key, at + i) : a + (b - a) * uniform(key, at + i);
        kop_store_f64(out, at, m, v);
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* --- Bernoulli: 1 with the probability that the input says --- */

kaena_status kop_infer_bernoulli(kop_call *call)
{
    kaena_dtype type;
    KAENA_TRY(kop_need(call, 0, KOP_T_FLOAT));
    KAENA_TRY(kop_attr_dtype(call, "dtype", kop_in_type(call, 0), KOP_T_NUM | KOP_T_BOOL, &type));
    call->out[0] = *call->in[0];
    call->out[0].data = NULL;
    call->out[0].dtype = type;
    return KAENA_OK;
}

kaena_status kop_eval_bernoulli(kop_call *call)
{
    kop_tensor *out = &call->out[0];
    uint64_t key = key_of(call);
    size_t n = kop_elements(out);
    for (size_t at = 0; at < n; at += KOP_CHUNK) {
        double v[KOP_CHUNK];
        size_t m = n - at < KOP_CHUNK ? n - at : KOP_CHUNK;
        kop_load_f64(call->in[0], at, m, v);
        for (size_t i = 0; i < m; i++)
            v[i] = uniform(key, at + i) < v[i];
        kop_store_f64(out, at, m, v);
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* --- Multinomial: classes drawn by their log-probabilities --- */

kaena_status kop_infer_multinomial(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    kaena_dtype type;
    int64_t samples = kop_attr_int(call, "sample_size", 1);
    KAENA_TRY(kop_need(call, 0, KOP_T_FLOAT));
    KAENA_TRY(kop_need_rank(call, 0, 2));
    KAENA_TRY(kop_attr_dtype(call, "dtype", KAENA_I32, KOP_T_INDEX, &type));
    if (samples < 0)
        return KOP_BAD(call, "sample_size %" PRId64 " is not possible", samples);
    if (!x->unranked && x->shape.dim[1] == 0 && x->shape.dim[0] != 0)
        return KOP_BAD(call, "there are no classes to draw from");
    kaena_shape shape = {.rank = 2,
                         .dim = {x->unranked ? KAENA_DIM_UNKNOWN : x->shape.dim[0], samples}};
    kop_out(call, 0, type, &shape);
    return KAENA_OK;
}

kaena_status kop_eval_multinomial(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    kop_tensor *out = &call->out[0];
    size_t classes = (size_t)x->shape.dim[1], samples = (size_t)out->shape.dim[1];
    uint64_t key = key_of(call);
    double *sum = kop_alloc(call, classes, sizeof *sum);
    if (!sum)
        return KAENA_RESOURCE_EXHAUSTED;
    for (size_t row = 0; kop_elements(out) > 0 && row < (size_t)x->shape.dim[0]; row++) {
        double top = -INFINITY, total = 0;
        kop_load_f64(x, row * classes, classes, sum);
        for (size_t i = 0; i < classes; i++)
            top = sum[i] > top ? sum[i] : top;
        for (size_t i = 0; i < classes; i++)
            sum[i] = total += exp(sum[i] - top);
        for (size_t s = 0; s < samples; s++) {
            double at = uniform(key, row * samples + s) * total;
            size_t low = 0, high = classes - 1;
            while (low < high) {
                size_t middle = low + (high - low) / 2;
                if (sum[middle] > at)
                    high = middle;
                else
                    low = middle + 1;
            }
            kop_set_int(out, row * samples + s, (int64_t)low);
            if (s % KOP_CHUNK == 0)
                KAENA_TRY(kop_poll(call));
        }
    }
    return KAENA_OK;
}

/* --- Dropout: without training a copy, and a mask that keeps everything --- */

kaena_status kop_infer_dropout(kop_call *call)
{
    KAENA_TRY(kop_need(call, 0, KOP_T_FLOAT));
    KAENA_TRY(kop_need(call, 1, KOP_T_FLOAT));
    KAENA_TRY(kop_need(call, 2, KOP_T_BOOL));
    for (uint32_t i = 1; i < 3; i++)
        if (kop_known(kop_in(call, i)) && kop_elements(call->in[i]) != 1)
            return KOP_BAD(call, "input %u must have one element", i);
    const kop_tensor *ratio = kop_in(call, 1);
    if (kop_known(ratio) && ratio->data &&
        !(kop_get_float(ratio, 0) >= 0 && kop_get_float(ratio, 0) < 1))
        return KOP_BAD(call, "the ratio must be at least 0 and below 1");
    call->out[0] = *call->in[0];
    call->out[0].data = NULL;
    if (call->n_out > 1) {
        call->out[1] = call->out[0];
        call->out[1].dtype = KAENA_BOOL;
    }
    return KAENA_OK;
}

kaena_status kop_eval_dropout(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    double ratio = kop_in_scalar(call, 2, 0) != 0 ? kop_in_scalar(call, 1, 0.5) : 0;
    uint64_t key = key_of(call);
    size_t n = kop_elements(x);
    uint8_t *mask = call->n_out > 1 ? call->out[1].data : NULL;
    for (size_t at = 0; at < n; at += KOP_CHUNK) {
        double v[KOP_CHUNK];
        size_t m = n - at < KOP_CHUNK ? n - at : KOP_CHUNK;
        kop_load_f64(x, at, m, v);
        for (size_t i = 0; i < m; i++) {
            bool keep = ratio == 0 || uniform(key, at + i) >= ratio;
            v[i] = !keep ? 0 : ratio == 0 ? v[i] : v[i] / (1 - ratio);
            if (mask)
                mask[at + i] = keep;
        }
        kop_store_f64(&call->out[0], at, m, v);
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}
