#include "ops_impl.h"

#include <math.h>

/* Where the operands of Conv, ConvInteger and QLinearConv stand. */
typedef struct conv_inputs {
    uint32_t w, bias, x_zero, w_zero; /* 0: has none */
} conv_inputs;

static conv_inputs inputs_of(kop_op op)
{
    if (op == KOP_ConvInteger)
        return (conv_inputs){.w = 1, .x_zero = 2, .w_zero = 3};
    if (op == KOP_QLinearConv)
        return (conv_inputs){.w = 3, .bias = 8, .x_zero = 2, .w_zero = 5};
    return (conv_inputs){.w = 1, .bias = 2};
}

static kaena_status check_types(kop_call *call, kaena_dtype *out)
{
    uint32_t bytes = KOP_T(KAENA_I8) | KOP_T(KAENA_U8);
    if (call->op == KOP_Conv) {
        KAENA_TRY(kop_need(call, 0, KOP_T_FLOAT));
        KAENA_TRY(kop_need_same(call, 0, 1));
        KAENA_TRY(kop_need_same(call, 0, 2));
        *out = kop_in_type(call, 0);
        return KAENA_OK;
    }
    conv_inputs at = inputs_of(call->op);
    KAENA_TRY(kop_need(call, 0, bytes));
    KAENA_TRY(kop_need(call, at.w, bytes));
    KAENA_TRY(kop_need_same(call, 0, at.x_zero));
    KAENA_TRY(kop_need_same(call, at.w, at.w_zero));
    *out = KAENA_I32;
    if (call->op == KOP_QLinearConv) {
        KAENA_TRY(kop_need(call, 1, KOP_T_FLOAT));
        KAENA_TRY(kop_need(call, 4, KOP_T_FLOAT));
        KAENA_TRY(kop_need(call, 6, KOP_T_FLOAT));
        KAENA_TRY(kop_need(call, 7, bytes));
        KAENA_TRY(kop_need(call, 8, KOP_T(KAENA_I32)));
        *out = kop_in_type(call, 7);
    }
    return KAENA_OK;
}

/* A parameter of one element, or of one for each output channel. */
static kaena_status need_per_channel(const kop_call *call, uint32_t i, int64_t channels, bool one)
{
    const kop_tensor *t = kop_in(call, i);
    if (!kop_known(t) || i == 0)
        return KAENA_OK;
    int64_t n = (int64_t)kop_elements(t);
    if (t->shape.rank <= 1 && (n == channels || (one && n == 1)))
        return KAENA_OK;
    return KOP_BAD(call, "input %u must have %" PRId64 " elements, one for each output channel", i,
                   channels);
}

kaena_status kop_infer_conv(kop_call *call)
{
    kaena_dtype type;
    KAENA_TRY(check_types(call, &type));
    conv_inputs at = inputs_of(call->op);
    const kop_tensor *x = call->in[0], *f = call->in[at.w];
    if (x->unranked || f->unranked) {
        kop_out_unranked(call, 0, type);
        return KAENA_OK;
    }
    if (x->shape.rank != f->shape.rank)
        return KOP_BAD(call, "the data has rank %d and the weights %d", x->shape.rank,
                       f->shape.rank);
    if (x->shape.rank < 3 || x->shape.rank > 2 + KOP_MAX_SPATIAL)
        return KOP_BAD(call, "data of rank %d; 3 to %d are supported", x->shape.rank,
                       KOP_MAX_SPATIAL + 2);
    int64_t group = kop_attr_int(call, "group", 1), channels = x->shape.dim[1];
    int64_t m = f->shape.dim[0], per_group = f->shape.dim[1];
    if (channels == 0 || per_group == 0)
        return KOP_BAD(call, "there are no input channels");
    if (group < 1 || (m >= 0 && m % group != 0))
        return KOP_BAD(call, "group %" PRId64 " does not divide %" PRId64 " output channels", group,
                       m);
    if (channels >= 0 && per_group >= 0 && (channels % group != 0 || channels / group != per_group))
        return KOP_BAD(call,
                       "the data has %" PRId64 " channels; weights of %" PRId64
                       " channels in %" PRId64 " groups do not fit",
                       channels, per_group, group);
    if (m >= 0) {
        KAENA_TRY(need_per_channel(call, at.bias, m, false));
        KAENA_TRY(need_per_channel(call, at.w_zero, m, true));
    }
    kaena_shape shape = kop_shape_unknown(x->shape.rank);
    if (kop_known(x) && kop_known(f)) {
        kop_window w;
        KAENA_TRY(kop_window_of(call, &w));
        for (int32_t i = 0; i < w.spatial; i++)
            shape.dim[2 + i] = w.out[i];
    }
    shape.dim[0] = x->shape.dim[0];
    shape.dim[1] = m;
    kop_out(call, 0, type, &shape);
    return KAENA_OK;
}

typedef struct conv_run {
    kop_matrix x, w;
    kop_tensor *out;
    const double *bias; /* per output channel, or NULL */
    const float *scale; /* QLinearConv: per output channel, or NULL */
    kop_quantised to;
    int64_t out_at; /* element of this image's and group's first output channel */
    int64_t x_at;   /* of this image's and group's first input channel */
    int64_t first;  /* this group's first output channel */
    int64_t channels, positions;
    /* Three dimensions each, leading ones filled up with 1. */
    int64_t in[3], taps[3], stride[3], dilation[3], pad[3], size[3];
} conv_run;

static void pack_weights(void *ctx, int64_t m0, int64_t mr, double *dst)
{
    const conv_run *r = ctx;
    kop_pack_rows(&r->w, r->channels * r->taps[0] * r->taps[1] * r->taps[2], r->first + m0, mr,
                  dst);
}

static void pack_patches(void *ctx, int64_t n0, int64_t nr, double *dst)
{
    const conv_run *r = ctx;
    int64_t at[3][KOP_GEMM_NR];
    for (int64_t j = 0; j < nr; j++) {
        int64_t position = n0 + j;
        for (int d = 3; d-- > 0;) {
            at[d][j] = position % r->size[d] * r->stride[d] - r->pad[d];
            position /= r->size[d];
        }
    }
    int64_t plane = r->x_at, plane_size = r->in[0] * r->in[1] * r->in[2];
    for (int64_t c = 0; c < r->channels; c++, plane += plane_size)
        for (int64_t kz = 0; kz < r->taps[0]; kz++)
            for (int64_t ky = 0; ky < r->taps[1]; ky++)
                for (int64_t kx = 0; kx < r->taps[2]; kx++, dst += KOP_GEMM_NR)
                    for (int64_t j = 0; j < nr; j++) {
                        int64_t z = at[0][j] + kz * r->dilation[0];
                        int64_t y = at[1][j] + ky * r->dilation[1];
                        int64_t x = at[2][j] + kx * r->dilation[2];
                        bool inside = (uint64_t)z < (uint64_t)r->in[0] &&
                                      (uint64_t)y < (uint64_t)r->in[1] &&
                                      (uint64_t)x < (uint64_t)r->in[2];
                        dst[j] =
                            inside ? kop_matrix_at(&r->x, plane + (z * r->in[1] + y) * r->in[2] + x)
                                   : 0;
                    }
}

static void store_outputs(void *ctx, int64_t m0, int64_t mr, int64_t n0, int64_t nr,
                          const double *c)
{
    const conv_run *r = ctx;
    for (int64_t i = 0; i < mr; i++) {
        double y[KOP_GEMM_NR], bias = r->bias ? r->bias[r->first + m0 + i] : 0;
        for (int64_t j = 0; j < nr; j++) {
            y[j] = c[i * KOP_GEMM_NR + j] + bias;
            if (r->scale)
                y[j] = kop_requantise(&r->to, y[j], r->scale[r->first + m0 + i]);
        }
        kop_store_f64(r->out, (size_t)(r->out_at + (m0 + i) * r->positions + n0), (size_t)nr, y);
    }
}

/* QLinearConv: what an accumulator of each output channel is multiplied with. */
static float *output_scales(kop_call *call, int64_t m)
{
    float *scale = kop_alloc(call, (size_t)m, sizeof *scale);
    size_t n = kop_elements(call->in[4]);
    for (int64_t i = 0; scale && i < m; i++)
        scale[i] = (float)kop_in_scalar(call, 1, 1) *
                   (float)kop_get_float(call->in[4], n == 1 ? 0 : (size_t)i) /
                   (float)kop_in_scalar(call, 6, 1);
    return scale;
}

kaena_status kop_eval_conv(kop_call *call)
{
    conv_inputs at = inputs_of(call->op);
    const kop_tensor *x = call->in[0], *f = call->in[at.w];
    kop_tensor *out = &call->out[0];
    if (kop_elements(out) == 0)
        return KAENA_OK;
    kop_window w;
    KAENA_TRY(kop_window_of(call, &w));
    conv_run r = {.out = out};
    if (call->op == KOP_QLinearConv)
        r.to = kop_quantised_of(call, 7);
    int64_t m = f->shape.dim[0];
    bool ok;
    if (call->op == KOP_Conv)
        ok = kop_matrix_of(call, x, &r.x) && kop_matrix_of(call, f, &r.w);
    else
        ok = kop_matrix_of_quantised(call, x, kop_in(call, at.x_zero), 0, &r.x) &&
             kop_matrix_of_quantised(call, f, kop_in(call, at.w_zero), 0, &r.w);
    if (!ok)
        return KAENA_RESOURCE_EXHAUSTED;
    if (at.bias && kop_in(call, at.bias) && !(r.bias = kop_doubles(call, call->in[at.bias])))
        return KAENA_RESOURCE_EXHAUSTED;
    if (call->op == KOP_QLinearConv) {
        KAENA_TRY(need_per_channel(call, 4, m, true));
        if (!(r.scale = output_scales(call, m)))
            return KAENA_RESOURCE_EXHAUSTED;
    }
    r.channels = f->shape.dim[1];
    r.positions = kop_span(&out->shape, 2, out->shape.rank);
    int64_t k = r.channels;
    for (int32_t d = 0; d < 3; d++) {
        int32_t s = d - (3 - w.spatial);
        r.in[d] = s < 0 ? 1 : w.in[s];
        r.taps[d] = s < 0 ? 1 : w.kernel[s];
        r.stride[d] = s < 0 ? 1 : w.stride[s];
        r.dilation[d] = s < 0 ? 1 : w.dilation[s];
        r.pad[d] = s < 0 ? 0 : w.pad_begin[s];
        r.size[d] = s < 0 ? 1 : w.out[s];
        k *= r.taps[d];
    }
    r.w.row = k;
    r.w.col = 1;
    kop_gemm g = {.m = m / w.group,
                  .n = r.positions,
                  .k = k,
                  .ctx = &r,
                  .pack_a = pack_weights,
                  .pack_b = pack_patches,
                  .store = store_outputs};
    int64_t plane = r.in[0] * r.in[1] * r.in[2];
    for (int64_t image = 0; image < x->shape.dim[0]; image++)
        for (int64_t group = 0; group < w.group; group++) {
            r.first = group * g.m;
            r.out_at = (image * m + r.first) * r.positions;
            r.x_at = (image * x->shape.dim[1] + group * r.channels) * plane;
            KAENA_TRY(kop_gemm_run(call, &g));
        }
    return KAENA_OK;
}
