/* GridSample: elements at places that are computed; AffineGrid: places that a matrix says. */
#include "ops_impl.h"

#include <math.h>

/* --- GridSample ------------------------------------------------------------------------------ */

typedef enum padding { PAD_ZEROS, PAD_BORDER, PAD_REFLECTION } padding;

typedef struct sampler {
    int32_t taps; /* of each dimension: 1 nearest, 2 linear, 4 cubic */
    padding pad;
    bool align;
} sampler;

static kaena_status sampler_of(const kop_call *call, sampler *out)
{
    static const struct {
        const char *name;
        int32_t taps;
    } modes[] = {{"nearest", 1}, {"linear", 2}, {"cubic", 4}};
    static const char *const pads[] = {"zeros", "border", "reflection"};
    const char *mode = kop_attr_string(call, "mode", "linear");
    const char *pad = kop_attr_string(call, "padding_mode", "zeros");
    sampler s = {.align = kop_attr_int(call, "align_corners", 0) != 0};
    bool known = false;
    for (unsigned i = 0; i < 3; i++) {
        if (strcmp(mode, modes[i].name) == 0)
            s.taps = modes[i].taps;
        if (strcmp(pad, pads[i]) == 0) {
            s.pad = (padding)i;
            known = true;
        }
    }
    if (!s.taps || !known)
        return KOP_BAD(call, "there is no mode '%s' with padding_mode '%s'", mode, pad);
    *out = s;
    return KAENA_OK;
}

kaena_status kop_infer_grid_sample(kop_call *call)
{
    const kop_tensor *x = call->in[0], *grid = call->in[1];
    sampler s;
    KAENA_TRY(kop_need(call, 0, KOP_T_ALL & ~KOP_T(KAENA_STRING)));
    KAENA_TRY(kop_need(call, 1, KOP_T_FLOAT));
    KAENA_TRY(sampler_of(call, &s));
    if (x->unranked || grid->unranked) {
        kop_out_unranked(call, 0, x->dtype);
        return KAENA_OK;
    }
    int32_t rank = x->shape.rank, spatial = rank - 2;
    if (spatial < 1 || spatial > KOP_MAX_SPATIAL || grid->shape.rank != rank ||
        (grid->shape.dim[rank - 1] >= 0 && grid->shape.dim[rank - 1] != spatial) ||
        (x->shape.dim[0] >= 0 && grid->shape.dim[0] >= 0 && x->shape.dim[0] != grid->shape.dim[0]))
        return KOP_BAD(call,
                       "the grid must be [N,d...,r] for data [N,C,D...] of r dimensions D, "
                       "r from 1 to %d",
                       KOP_MAX_SPATIAL);
    kaena_shape shape = x->shape;
    for (int32_t i = 0; i < spatial; i++) {
        shape.dim[2 + i] = grid->shape.dim[1 + i];
        if (x->shape.dim[2 + i] == 0 || x->shape.dim[2 + i] >= KOP_SIZE_LIMIT)
            return KOP_BAD(call, "data of %" PRId64 " elements cannot be sampled",
                           x->shape.dim[2 + i]);
    }
    kop_out(call, 0, x->dtype, &shape);
    return KAENA_OK;
}

/* |v| folded into [low, high] as if there were mirrors at both ends. */
static double reflect(double v, double low, double high)
{
    double range = high - low, off = v < low ? low - v : v - high;
    if (off <= 0)
        return v;
    if (!(range > 0))
        return low;
    bool even = fmod(floor(off / range), 2) == 0;
    double rest = fmod(off, range);
    return (v < low) == even ? low + rest : high - rest;
}

/* Cubic convolution with a = -0.75, at distances 1 + t, t, 1 - t, 2 - t. */
static void cubic_weights(double t, double *w)
{
    const double a = -0.75;
    double u = 1 - t;
    w[0] = ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a;
    w[1] = ((a + 2) * t - (a + 3)) * t * t + 1;
    w[2] = ((a + 2) * u - (a + 3)) * u * u + 1;
    w[3] = ((a * (u + 1) - 5 * a) * (u + 1) + 8 * a) * (u + 1) - 4 * a;
}

/* Places and weights of one dimension of |size| at grid coordinate |at|; a place of -1 holds 0. */
static void taps_of(const sampler *s, double at, int64_t size, int64_t *place, double *weight)
{
    double low = s->align ? 0 : -0.5, high = s->align ? (double)size - 1 : (double)size - 0.5;
    double v = s->align ? (at + 1) / 2 * ((double)size - 1) : ((at + 1) * (double)size - 1) / 2;
    if (s->taps == 1)
        v = rint(v);
    if (s->pad == PAD_BORDER)
        v = v < low || v > high ? (v < 0 ? 0 : (double)size - 1) : v;
    else if (s->pad == PAD_REFLECTION)
        v = reflect(v, low, high);
    /* What is far outside, or no number, finds nothing and weighs nothing wrong. */
    bool nowhere = !(fabs(v) < 0x1p40);
    double base = nowhere ? -4 : floor(v), t = nowhere ? 0 : v - base;
    weight[0] = 1;
    if (s->taps == 1) {
        base = nowhere ? -4 : rint(v);
    } else if (s->taps == 2) {
        weight[0] = 1 - t;
        weight[1] = t;
    } else {
        cubic_weights(t, weight);
        base -= 1;
    }
    for (int32_t i = 0; i < s->taps; i++) {
        double p = base + i;
        if (s->pad == PAD_REFLECTION)
            p = rint(reflect(p, low, high));
        if (s->pad != PAD_ZEROS)
            p = p < 0 ? 0 : p > (double)size - 1 ? (double)size - 1 : p;
        place[i] = p < 0 || p > (double)size - 1 ? -1 : (int64_t)p;
    }
}

#define MAX_TAPS 4

/* Offsets in a plane of the data, and weights, of all taps of one point of the grid. */
static int32_t combine(const sampler *s, const kop_tensor *x, const double *at, int64_t *offset,
                       double *weight)
{
    int32_t spatial = x->shape.rank - 2, n = 1;
    offset[0] = 0;
    weight[0] = 1;
    for (int32_t d = 0; d < spatial; d++) {
        int64_t place[MAX_TAPS], size = x->shape.dim[2 + d];
        double w[MAX_TAPS];
        /* The grid names the innermost dimension first. */
        taps_of(s, at[spatial - 1 - d], size, place, w);
        for (int32_t i = n * s->taps; i-- > 0;) {
            int64_t before = offset[i / s->taps], p = place[i % s->taps];
            weight[i] = weight[i / s->taps] * w[i % s->taps];
            offset[i] = before < 0 || p < 0 ? -1 : before * size + p;
        }
        n *= s->taps;
    }
    return n;
}

kaena_status kop_eval_grid_sample(kop_call *call)
{
    const kop_tensor *x = call->in[0], *grid = call->in[1];
    kop_tensor *out = &call->out[0];
    sampler s;
    if (kop_elements(out) == 0)
        return KAENA_OK;
    KAENA_TRY(sampler_of(call, &s));
    int32_t rank = x->shape.rank;
    int64_t channels = x->shape.dim[1], plane = kop_span(&x->shape, 2, rank);
    int64_t points = kop_span(&out->shape, 2, rank);
    for (int64_t i = 0; i < x->shape.dim[0] * points; i++) {
        double at[KOP_MAX_SPATIAL], weight[MAX_TAPS * MAX_TAPS * MAX_TAPS];
        int64_t offset[MAX_TAPS * MAX_TAPS * MAX_TAPS], image = i / points * channels;
        kop_load_f64(grid, (size_t)(i * (rank - 2)), (size_t)(rank - 2), at);
        int32_t n = combine(&s, x, at, offset, weight);
        for (int64_t c = 0; c < channels; c++) {
            double sum = 0;
            for (int32_t k = 0; k < n; k++)
                if (offset[k] >= 0)
                    sum += weight[k] * kop_get_float(x, (size_t)((image + c) * plane + offset[k]));
            kop_set_float(out, (size_t)((image + c) * points + i % points), sum);
        }
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* --- AffineGrid ------------------------------------------------------------------------------ */

kaena_status kop_infer_affine_grid(kop_call *call)
{
    const kop_tensor *theta = call->in[0];
    int64_t size[KAENA_MAX_RANK];
    uint32_t n;
    kaena_status status;
    KAENA_TRY(kop_need(call, 0, KOP_T_FLOAT));
    KAENA_TRY(kop_need_rank(call, 0, 3));
    bool known = kop_in_ints(call, 1, size, KAENA_MAX_RANK, &n, &status);
    KAENA_TRY(status);
    if (!known) {
        const kop_tensor *t = call->in[1];
        if (kop_known(t) && t->shape.rank == 1 && (t->shape.dim[0] == 4 || t->shape.dim[0] == 5)) {
            kaena_shape shape = kop_shape_unknown((int32_t)t->shape.dim[0]);
            shape.dim[shape.rank - 1] = shape.rank - 2;
            kop_out(call, 0, theta->dtype, &shape);
        } else {
            kop_out_unranked(call, 0, theta->dtype);
        }
        return KAENA_OK;
    }
    kaena_shape shape = {.rank = (int32_t)n};
    bool fits = n == 4 || n == 5;
    for (uint32_t i = 0; i < n; i++) {
        fits &= size[i] >= 0;
        shape.dim[i ? i - 1 : 0] = size[i]; /* N, and what stands behind the channels */
    }
    if (fits) {
        shape.dim[0] = size[0];
        shape.dim[n - 1] = n - 2;
    }
    if (fits && kop_known(theta))
        fits = theta->shape.dim[0] == size[0] && theta->shape.dim[1] == n - 2 &&
               theta->shape.dim[2] == n - 1;
    if (!fits)
        return KOP_BAD(call, "theta must be [N,r,r+1] for a size [N,C,D...] of r dimensions D, "
                             "2 or 3");
    kop_out(call, 0, theta->dtype, &shape);
    return KAENA_OK;
}

kaena_status kop_eval_affine_grid(kop_call *call)
{
    const kop_tensor *theta = call->in[0];
    kop_tensor *out = &call->out[0];
    int32_t spatial = out->shape.rank - 2;
    bool align = kop_attr_int(call, "align_corners", 0) != 0;
    int64_t index[KOP_MAX_SPATIAL] = {0}, points = kop_span(&out->shape, 1, spatial + 1);
    for (int64_t i = 0; i < out->shape.dim[0] * points; i++) {
        double at[KOP_MAX_SPATIAL + 1];
        for (int32_t d = 0; d < spatial; d++) {
            double n = (double)out->shape.dim[1 + d], k = (double)index[d];
            at[spatial - 1 - d] = !align ? (2 * k + 1) / n - 1 : n > 1 ? 2 * k / (n - 1) - 1 : 0;
        }
        at[spatial] = 1;
        for (int32_t d = 0; d < spatial; d++) {
            double row[KOP_MAX_SPATIAL + 1], sum = 0;
            kop_load_f64(theta, (size_t)((i / points * spatial + d) * (spatial + 1)),
                         (size_t)spatial + 1, row);
            for (int32_t k = 0; k <= spatial; k++)
                sum += row[k] * at[k];
            kop_set_float(out, (size_t)(i * spatial + d), sum);
        }
        (void)kop_next(index, &out->shape.dim[1], spatial);
        if (i % KOP_CHUNK == 0)
            KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}
