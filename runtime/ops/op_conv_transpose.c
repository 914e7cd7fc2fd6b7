#include "ops_impl.h"

kaena_status kop_transposed_window_of(const kop_call *call, kop_window *w)
{
    const kop_tensor *x = call->in[0], *f = call->in[1];
    int32_t n = w->spatial = x->shape.rank - 2;
    w->group = kop_attr_int(call, "group", 1);
    int64_t pads[2 * KOP_MAX_SPATIAL], extra[KOP_MAX_SPATIAL], wanted[KOP_MAX_SPATIAL];
    KAENA_TRY(kop_attr_sizes(call, "strides", 1, 1, n, w->stride));
    KAENA_TRY(kop_attr_sizes(call, "dilations", 1, 1, n, w->dilation));
    KAENA_TRY(kop_attr_sizes(call, "pads", 0, 0, 2 * n, pads));
    KAENA_TRY(kop_attr_sizes(call, "output_padding", 0, 0, n, extra));
    KAENA_TRY(kop_attr_sizes(call, "kernel_shape", 0, 0, n, w->kernel));
    const int64_t *shape;
    uint32_t n_shape = kop_attr_ints(call, "output_shape", &shape);
    if (n_shape == (uint32_t)n + 2) { /* some exporters give all dimensions */
        shape += 2;
        n_shape -= 2;
    }
    if (n_shape != 0 && n_shape != (uint32_t)n)
        return KOP_BAD(call, "output_shape has %u values where %d are required", n_shape, n);
    const char *auto_pad = kop_attr_string(call, "auto_pad", "NOTSET");
    bool same = strncmp(auto_pad, "SAME_", 5) == 0;
    for (int32_t i = 0; i < n; i++) {
        int64_t in = w->in[i] = x->shape.dim[2 + i], d = f->shape.dim[2 + i];
        if (in < 1 || in >= KOP_SIZE_LIMIT || d < 1 || d >= KOP_SIZE_LIMIT ||
            (w->kernel[i] && w->kernel[i] != d))
            return KOP_BAD(call,
                           "a kernel of %" PRId64 " on a dimension of %" PRId64 " is not possible",
                           d, in);
        w->kernel[i] = d;
        int64_t reach = (d - 1) * w->dilation[i] + 1;
        int64_t full = w->stride[i] * (in - 1) + reach + extra[i];
        wanted[i] = n_shape ? shape[i] : same ? w->stride[i] * in : 1;
        w->pad_begin[i] = pads[i];
        w->pad_end[i] = pads[n + i];
        if (wanted[i] < 1 || wanted[i] >= KOP_SIZE_LIMIT)
            return KOP_BAD(call, "dimension %d of the output would be %" PRId64, i, wanted[i]);
        if (n_shape || same) {
            int64_t total = wanted[i] < full ? full - wanted[i] : 0;
            bool upper = strcmp(auto_pad, "SAME_UPPER") == 0;
            w->pad_begin[i] = upper ? total / 2 : total - total / 2;
            w->pad_end[i] = total - w->pad_begin[i];
            w->out[i] = wanted[i];
        } else {
            if (strcmp(auto_pad, "VALID") == 0)
                w->pad_begin[i] = w->pad_end[i] = 0;
            w->out[i] = full - w->pad_begin[i] - w->pad_end[i];
        }
        if (w->out[i] < 1 || w->out[i] >= KOP_SIZE_LIMIT)
            return KOP_BAD(call, "dimension %d of the output would be %" PRId64, i, w->out[i]);
    }
    return KAENA_OK;
}

kaena_status kop_infer_conv_transpose(kop_call *call)
{
    KAENA_TRY(kop_need(call, 0, KOP_T_FLOAT));
    KAENA_TRY(kop_need_same(call, 0, 1));
    KAENA_TRY(kop_need_same(call, 0, 2));
    const kop_tensor *x = call->in[0], *f = call->in[1], *bias = kop_in(call, 2);
    kaena_dtype type = kop_in_type(call, 0);
    if (x->unranked || f->unranked) {
        kop_out_unranked(call, 0, type);
        return KAENA_OK;
    }
    if (x->shape.rank != f->shape.rank || x->shape.rank < 3 || x->shape.rank > 2 + KOP_MAX_SPATIAL)
        return KOP_BAD(call, "data of rank %d and weights of rank %d; 3 to %d are supported",
                       x->shape.rank, f->shape.rank, KOP_MAX_SPATIAL + 2);
    int64_t group = kop_attr_int(call, "group", 1), channels = x->shape.dim[1], m;
    if (channels == 0 || f->shape.dim[0] == 0)
        return KOP_BAD(call, "there are no input channels");
    if (group < 1 || (channels >= 0 && channels % group != 0))
        return KOP_BAD(call, "group %" PRId64 " does not divide %" PRId64 " channels", group,
                       channels);
    if (channels >= 0 && f->shape.dim[0] >= 0 && channels != f->shape.dim[0])
        return KOP_BAD(call, "the data has %" PRId64 " channels, the weights %" PRId64, channels,
                       f->shape.dim[0]);
    kaena_shape shape = kop_shape_unknown(x->shape.rank);
    shape.dim[0] = x->shape.dim[0];
    if (f->shape.dim[1] >= 0) {
        if (!kaena_mul_i64(f->shape.dim[1], group, &m))
            return KOP_BAD(call, "too many output channels");
        shape.dim[1] = m;
        if (kop_known(bias) && (int64_t)kop_elements(bias) != m)
            return KOP_BAD(call, "the bias has %zu elements for %" PRId64 " output channels",
                           kop_elements(bias), m);
    }
    if (kop_known(x) && kop_known(f)) {
        kop_window w;
        KAENA_TRY(kop_transposed_window_of(call, &w));
        for (int32_t i = 0; i < w.spatial; i++)
            shape.dim[2 + i] = w.out[i];
    }
    kop_out(call, 0, type, &shape);
    return KAENA_OK;
}

typedef struct transpose_run {
    kop_matrix x, w;
    int64_t k;   /* input channels of a group */
    double *sum; /* one group's output of one image */
    int64_t taps[3], stride[3], dilation[3], pad[3], in[3], out[3];
} transpose_run;

static void pack_a(void *ctx, int64_t m0, int64_t mr, double *dst)
{
    const transpose_run *r = ctx;
    kop_pack_rows(&r->w, r->k, m0, mr, dst);
}

static void pack_b(void *ctx, int64_t n0, int64_t nr, double *dst)
{
    const transpose_run *r = ctx;
    kop_pack_cols(&r->x, r->k, n0, nr, dst);
}

/* Adds products of one (output channel, tap) row to where each input position sends them. */
static void scatter(void *ctx, int64_t m0, int64_t mr, int64_t n0, int64_t nr, const double *c)
{
    const transpose_run *r = ctx;
    for (int64_t i = 0; i < mr; i++) {
        int64_t tap[3], row = m0 + i;
        for (int d = 3; d-- > 0;) {
            tap[d] = row % r->taps[d] * r->dilation[d] - r->pad[d];
            row /= r->taps[d];
        }
        double *plane = r->sum + row * r->out[0] * r->out[1] * r->out[2];
        for (int64_t j = 0; j < nr; j++) {
            int64_t at[3], position = n0 + j;
            bool inside = true;
            for (int d = 3; d-- > 0;) {
                at[d] = position % r->in[d] * r->stride[d] + tap[d];
                position /= r->in[d];
                inside = inside && (uint64_t)at[d] < (uint64_t)r->out[d];
            }
            if (inside)
                plane[(at[0] * r->out[1] + at[1]) * r->out[2] + at[2]] += c[i * KOP_GEMM_NR + j];
        }
    }
}

kaena_status kop_eval_conv_transpose(kop_call *call)
{
    const kop_tensor *x = call->in[0], *f = call->in[1], *bias = kop_in(call, 2);
    kop_tensor *out = &call->out[0];
    if (kop_elements(out) == 0)
        return KAENA_OK;
    kop_window w;
    KAENA_TRY(kop_transposed_window_of(call, &w));
    transpose_run r = {.k = f->shape.dim[0] / w.group};
    int64_t m = f->shape.dim[1], taps = kop_span(&f->shape, 2, f->shape.rank);
    int64_t positions = kop_span(&x->shape, 2, x->shape.rank);
    int64_t result = kop_span(&out->shape, 2, out->shape.rank);
    kop_matrix data, weights;
    if (!kop_matrix_of(call, x, &data) || !kop_matrix_of(call, f, &weights) ||
        !(r.sum = kop_alloc(call, (size_t)(m * result), sizeof *r.sum)))
        return KAENA_RESOURCE_EXHAUSTED;
    for (int32_t d = 0; d < 3; d++) {
        int32_t s = d - (3 - w.spatial);
        r.taps[d] = s < 0 ? 1 : w.kernel[s];
        r.stride[d] = s < 0 ? 1 : w.stride[s];
        r.dilation[d] = s < 0 ? 1 : w.dilation[s];
        r.pad[d] = s < 0 ? 0 : w.pad_begin[s];
        r.in[d] = s < 0 ? 1 : w.in[s];
        r.out[d] = s < 0 ? 1 : w.out[s];
    }
    kop_gemm g = {.m = m * taps,
                  .n = positions,
                  .k = r.k,
                  .ctx = &r,
                  .pack_a = pack_a,
                  .pack_b = pack_b,
                  .store = scatter};
    size_t element = data.is_f64 ? sizeof(double) : sizeof(float);
    for (int64_t image = 0; image < x->shape.dim[0]; image++)
        for (int64_t group = 0; group < w.group; group++) {
            int64_t x_at = (image * x->shape.dim[1] + group * r.k) * positions;
            int64_t w_at = group * r.k * m * taps;
            r.x = (kop_matrix){(const char *)data.data + (size_t)x_at * element, data.is_f64,
                               positions, 1};
            r.w = (kop_matrix){(const char *)weights.data + (size_t)w_at * element, weights.is_f64,
                               1, m * taps};
            for (int64_t c = 0; c < m; c++) {
                double b = bias ? kop_get_float(bias, (size_t)(group * m + c)) : 0;
                for (int64_t i = 0; i < result; i++)
                    r.sum[c * result + i] = b;
            }
            KAENA_TRY(kop_gemm_run(call, &g));
            size_t at = (size_t)((image * w.group + group) * m * result);
            kop_store_f64(out, at, (size_t)(m * result), r.sum);
        }
    return KAENA_OK;
}
