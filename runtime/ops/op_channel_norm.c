/* Normalisation by channels: BatchNormalization, InstanceNormalization, GroupNormalization. */
#include "ops_impl.h"

#include <math.h>

static kaena_status need_channels(const kop_call *call, uint32_t i, int64_t channels)
{
    const kop_tensor *t = kop_in(call, i);
    KAENA_TRY(kop_need(call, i, KOP_T_FLOAT));
    KAENA_TRY(kop_need_rank(call, i, 1));
    if (!kop_known(t) || channels < 0 || t->shape.dim[0] == channels)
        return KAENA_OK;
    return KOP_BAD(call, "input %u has %" PRId64 " elements for %" PRId64 " channels", i,
                   t->shape.dim[0], channels);
}

static bool is_training(const kop_call *call)
{
    return call->op == KOP_BatchNormalization && kop_attr_int(call, "training_mode", 0) != 0;
}

kaena_status kop_infer_channel_norm(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    KAENA_TRY(kop_need(call, 0, KOP_T_FLOAT));
    if (!x->unranked && x->shape.rank < (call->op == KOP_BatchNormalization   ? 1
                                         : call->op == KOP_GroupNormalization ? 2
                                                                              : 3))
        return KOP_BAD(call, "data of rank %d cannot be normalised by channels", x->shape.rank);
    if (call->n_out > 1 && !is_training(call))
        return KOP_BAD(call, "without training_mode there is one output");
    int64_t channels = x->unranked ? KAENA_DIM_UNKNOWN : x->shape.rank > 1 ? x->shape.dim[1] : 1;
    for (uint32_t i = 1; i < call->n_in; i++)
        KAENA_TRY(need_channels(call, i, channels));
    int64_t groups = kop_attr_int(call, "num_groups", 0);
    if (call->op == KOP_GroupNormalization &&
        (groups < 1 || (channels >= 0 && (channels == 0 || channels % groups))))
        return KOP_BAD(call, "%" PRId64 " groups do not divide the channels", groups);
    for (uint32_t i = 1; i < call->n_out; i++)
        kop_out(call, i, kop_in_type(call, i + 2), &(kaena_shape){.rank = 1, .dim = {channels}});
    return kop_infer_same(call);
}

/* y = (x - mean) * factor + shift over |n| elements from |at| on. */
static void scale_run(const kop_tensor *x, kop_tensor *y, size_t at, size_t n, double mean,
                      double factor, double shift)
{
    for (size_t i = 0; i < n; i += KOP_CHUNK) {
        double v[KOP_CHUNK];
        size_t m = n - i < KOP_CHUNK ? n - i : KOP_CHUNK;
        kop_load_f64(x, at + i, m, v);
        for (size_t j = 0; j < m; j++)
            v[j] = (v[j] - mean) * factor + shift;
        kop_store_f64(y, at + i, m, v);
    }
}

/* Mean and variance of channel |c| over all images. */
static void channel_moments(const kop_tensor *x, size_t channels, size_t size, size_t c,
                            double *mean, double *variance)
{
    size_t images = kop_elements(x) / channels / size;
    double sum = 0, squares = 0;
    for (size_t i = 0; i < images; i++) {
        double m, v;
        kop_moments(x, (i * channels + c) * size, size, &m, &v);
        sum += m;
        squares += v;
    }
    *mean = sum / (double)images;
    *variance = squares / (double)images;
    for (size_t i = 0; i < images; i++) {
        double m, v;
        kop_moments(x, (i * channels + c) * size, size, &m, &v);
        *variance += (m - *mean) * (m - *mean) / (double)images;
    }
}

/* Mean and variance of each channel: given, or those of the data, which then also move the running
 * ones. [channels] each. */
static void batch_moments(kop_call *call, size_t channels, size_t size, double *mean,
                          double *variance)
{
    double keep = (double)kop_attr_float(call, "momentum", 0.9f);
    for (size_t c = 0; c < channels; c++) {
        double *const now[] = {&mean[c], &variance[c]};
        if (is_training(call))
            channel_moments(call->in[0], channels, size, c, &mean[c], &variance[c]);
        for (uint32_t i = 0; i < 2; i++) {
            double given = kop_get_float(call->in[3 + i], c);
            if (!is_training(call))
                *now[i] = given;
            else if (call->n_out > 1 + i)
                kop_set_float(&call->out[1 + i], c, given * keep + *now[i] * (1 - keep));
        }
    }
}

kaena_status kop_eval_channel_norm(kop_call *call)
{
    const kop_tensor *x = call->in[0], *scale = call->in[1], *bias = call->in[2];
    size_t total = kop_elements(x), group = 1;
    if (total == 0) {
        for (uint32_t i = 1; i < call->n_out; i++) /* nothing moves the running values */
            memcpy(call->out[i].data, call->in[i + 2]->data,
                   kop_elements(&call->out[i]) * kaena_dtype_size(call->out[i].dtype));
        return KAENA_OK;
    }
    bool has_channels = x->shape.rank > 1, batch = call->op == KOP_BatchNormalization;
    size_t channels = has_channels ? (size_t)x->shape.dim[1] : 1;
    size_t size = has_channels ? (size_t)kop_span(&x->shape, 2, x->shape.rank) : total;
    double epsilon = (double)kop_attr_float(call, "epsilon", 1e-5f);
    if (call->op == KOP_GroupNormalization)
        group = channels / (size_t)kop_attr_int(call, "num_groups", 1);
    double *mean = kop_alloc(call, channels, 2 * sizeof *mean), *variance = mean + channels;
    if (!mean)
        return KAENA_RESOURCE_EXHAUSTED;
    if (batch)
        batch_moments(call, channels, size, mean, variance);
    for (size_t at = 0, c = 0; at < total; at += size, c = (c + 1) % channels) {
        if (!batch && c % group == 0)
            kop_moments(x, at, group * size, &mean[c], &variance[c]);
        size_t of = batch ? c : c - c % group;
        double factor = kop_get_float(scale, c) / sqrt(variance[of] + epsilon);
        scale_run(x, &call->out[0], at, size, mean[of], factor, kop_get_float(bias, c));
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}
