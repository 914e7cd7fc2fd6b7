/* Resize: each axis by itself, as a weighted sum of a few places of the axis. */
#include "ops_impl.h"

#include <math.h>

typedef enum coordinates {
    HALF_PIXEL,
    HALF_PIXEL_SYMMETRIC,
    PYTORCH_HALF_PIXEL,
    ALIGN_CORNERS,
    ASYMMETRIC,
    TF_CROP_AND_RESIZE,
    TF_HALF_PIXEL_FOR_NN,
    N_COORDINATES,
} coordinates;

static const char *const coordinate_names[N_COORDINATES] = {
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel",   "align_corners",
    "asymmetric", "tf_crop_and_resize",   "tf_half_pixel_for_nn",
};

typedef enum nearest_mode { PREFER_FLOOR, PREFER_CEIL, FLOOR, CEIL, N_NEAREST } nearest_mode;

static const char *const nearest_names[N_NEAREST] = {"round_prefer_floor", "round_prefer_ceil",
                                                     "floor", "ceil"};

typedef enum filter { NEAREST, LINEAR, CUBIC, N_FILTERS } filter;

static const char *const filter_names[N_FILTERS] = {"nearest", "linear", "cubic"};

typedef struct resize_plan {
    filter filter;
    coordinates coordinates;
    nearest_mode nearest;
    double scale[KAENA_MAX_RANK];
    double length[KAENA_MAX_RANK];                     /* scale * dimension, before rounding */
    double start[KAENA_MAX_RANK], end[KAENA_MAX_RANK]; /* region of interest */
    int64_t out[KAENA_MAX_RANK];
} resize_plan;

static bool choose(const kop_call *call, const char *name, const char *const *names, int n,
                   unsigned *out)
{
    for (int i = 0; i < n; i++)
        if (kop_attr_is(call, name, names[0], names[i])) {
            *out = (unsigned)i;
            return true;
        }
    return false;
}

static kaena_status read_modes(const kop_call *call, resize_plan *plan)
{
    unsigned f, c, n;
    if (!choose(call, "mode", filter_names, N_FILTERS, &f))
        return KOP_BAD(call, "there is no mode '%s'", kop_attr_string(call, "mode", ""));
    if (!choose(call, "coordinate_transformation_mode", coordinate_names, N_COORDINATES, &c))
        return KOP_BAD(call, "there is no coordinate_transformation_mode '%s'",
                       kop_attr_string(call, "coordinate_transformation_mode", ""));
    if (!choose(call, "nearest_mode", nearest_names, N_NEAREST, &n))
        return KOP_BAD(call, "there is no nearest_mode '%s'",
                       kop_attr_string(call, "nearest_mode", ""));
    plan->filter = (filter)f;
    plan->coordinates = (coordinates)c;
    plan->nearest = (nearest_mode)n;
    return KAENA_OK;
}

/* An input that is given and not empty: older models pass an empty tensor for an absent one. */
static const kop_tensor *given(const kop_call *call, uint32_t i)
{
    const kop_tensor *t = kop_in(call, i);
    return t && kop_known(t) && kop_elements(t) == 0 ? NULL : t;
}

/* The axes the other inputs speak about. */
static kaena_status read_axes(const kop_call *call, int32_t rank, int32_t axes[KAENA_MAX_RANK],
                              int32_t *n)
{
    const int64_t *v;
    uint32_t count = kop_attr_ints(call, "axes", &v);
    bool seen[KAENA_MAX_RANK] = {false};
    *n = v ? (int32_t)(count < KAENA_MAX_RANK ? count : KAENA_MAX_RANK + 1) : rank;
    if (*n > rank)
        return KOP_BAD(call, "axes has %u values for data of rank %d", count, rank);
    for (int32_t i = 0; i < *n; i++) {
        if (!kop_axis(v ? v[i] : i, rank, &axes[i]) || seen[axes[i]])
            return KOP_BAD(call, "axes: %" PRId64 " is not possible for rank %d",
                           v ? v[i] : (int64_t)i, rank);
        seen[axes[i]] = true;
    }
    return KAENA_OK;
}

static kaena_status read_sizes(const kop_call *call, const kaena_shape *x, const int32_t *axes,
                               int32_t n, resize_plan *plan)
{
    int64_t sizes[KAENA_MAX_RANK];
    uint32_t count;
    kaena_status status;
    if (!kop_in_ints(call, 3, sizes, KAENA_MAX_RANK, &count, &status))
        return status;
    if ((int32_t)count != n)
        return KOP_BAD(call, "sizes has %u values where %d are required", count, n);
    bool larger = kop_attr_is(call, "keep_aspect_ratio_policy", "stretch", "not_smaller");
    bool smaller = kop_attr_is(call, "keep_aspect_ratio_policy", "stretch", "not_larger");
    double common = larger ? 0 : INFINITY;
    for (int32_t i = 0; i < n; i++) {
        int64_t d = x->dim[axes[i]];
        if (sizes[i] < 1 || d < 1)
            return KOP_BAD(call, "a dimension of %" PRId64 " cannot become %" PRId64, d, sizes[i]);
        double s = (double)sizes[i] / (double)d;
        common = larger ? fmax(common, s) : fmin(common, s);
    }
    for (int32_t i = 0; i < n; i++) {
        int32_t axis = axes[i];
        double d = (double)x->dim[axis];
        plan->out[axis] = sizes[i];
        if (larger || smaller) {
            double y = floor(common * d + 0.5);
            if (y > 0x1p61)
                return KOP_BAD(call, "dimension %d would be too large", axis);
            plan->out[axis] = (int64_t)y;
        }
        plan->scale[axis] = (larger || smaller) ? common : (double)sizes[i] / d;
        plan->length[axis] = (double)plan->out[axis];
    }
    return KAENA_OK;
}

static kaena_status read_scales(const kop_call *call, const kaena_shape *x, const int32_t *axes,
                                int32_t n, resize_plan *plan)
{
    const kop_tensor *t = kop_in(call, 2);
    if ((int32_t)kop_elements(t) != n || t->shape.rank != 1)
        return KOP_BAD(call, "scales has %zu values where %d are required", kop_elements(t), n);
    for (int32_t i = 0; i < n; i++) {
        int32_t axis = axes[i];
        double s = kop_get_float(t, (size_t)i), y = floor((double)x->dim[axis] * s);
        if (!isfinite(s) || s <= 0 || y > 0x1p61)
            return KOP_BAD(call, "the scale %g is not possible", s);
        plan->scale[axis] = s;
        plan->length[axis] = (double)x->dim[axis] * s;
        plan->out[axis] = (int64_t)y;
    }
    return KAENA_OK;
}

/* False and KAENA_OK: the result's shape cannot be known yet. */
static bool read_plan(const kop_call *call, resize_plan *plan, kaena_status *status)
{
    const kop_tensor *x = call->in[0], *roi = given(call, 1);
    const kop_tensor *scales = given(call, 2), *sizes = given(call, 3);
    int32_t axes[KAENA_MAX_RANK], n = 0;
    *plan = (resize_plan){.filter = NEAREST};
    *status = read_modes(call, plan);
    if (*status == KAENA_OK && !scales == !sizes && !call->env)
        *status = scales && (!kop_known(scales) || !kop_known(sizes))
                      ? KAENA_OK
                      : KOP_BAD(call, "exactly one of scales and sizes must be given");
    else if (*status == KAENA_OK && !scales == !sizes)
        *status = KOP_BAD(call, "exactly one of scales and sizes must be given");
    if (*status == KAENA_OK && !x->unranked)
        *status = read_axes(call, x->shape.rank, axes, &n);
    if (*status != KAENA_OK || !kop_known(x) || (scales && sizes))
        return false;
    const kop_tensor *source = scales ? scales : sizes;
    if (!kop_known(source) || !source->data)
        return false;
    for (int32_t i = 0; i < x->shape.rank; i++) {
        plan->scale[i] = plan->end[i] = 1;
        plan->out[i] = x->shape.dim[i];
        plan->length[i] = (double)x->shape.dim[i];
    }
    *status = scales ? read_scales(call, &x->shape, axes, n, plan)
                     : read_sizes(call, &x->shape, axes, n, plan);
    if (*status == KAENA_OK && plan->coordinates == TF_CROP_AND_RESIZE) {
        if (!roi || (kop_known(roi) && (int64_t)kop_elements(roi) != 2 * n)) {
            *status =
                KOP_BAD(call, "tf_crop_and_resize needs a region of interest of %d values", 2 * n);
        } else if (roi->data) {
            for (int32_t i = 0; i < n; i++) {
                plan->start[axes[i]] = kop_get_float(roi, (size_t)i);
                plan->end[axes[i]] = kop_get_float(roi, (size_t)(n + i));
            }
        }
    }
    return *status == KAENA_OK;
}

kaena_status kop_infer_resize(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    KAENA_TRY(
        kop_need(call, 0, kop_attr_is(call, "mode", "nearest", "nearest") ? KOP_T_ALL : KOP_T_NUM));
    KAENA_TRY(kop_need(call, 1, KOP_T_FLOAT));
    KAENA_TRY(kop_need(call, 2, KOP_T_FLOAT));
    KAENA_TRY(kop_need(call, 3, KOP_T_INDEX));
    resize_plan plan;
    kaena_status status;
    bool known = read_plan(call, &plan, &status);
    KAENA_TRY(status);
    if (x->unranked) {
        kop_out_unranked(call, 0, x->dtype);
        return KAENA_OK;
    }
    kaena_shape shape = kop_shape_unknown(x->shape.rank);
    for (int32_t i = 0; known && i < shape.rank; i++)
        shape.dim[i] = plan.out[i];
    kop_out(call, 0, x->dtype, &shape);
    return KAENA_OK;
}

/* --- Coordinates and weights of one axis --- */

static double original(const resize_plan *p, int32_t axis, int64_t in, double o)
{
    double scale = p->scale[axis], n = (double)in, length = p->length[axis];
    double half = (o + 0.5) / scale - 0.5;
    switch (p->coordinates) {
    case HALF_PIXEL:
    case N_COORDINATES:
        break;
    case HALF_PIXEL_SYMMETRIC:
        return n / 2 * (1 - (double)p->out[axis] / length) + half;
    case PYTORCH_HALF_PIXEL:
        return length > 1 ? half : 0;
    case ALIGN_CORNERS:
        return length == 1 ? 0 : o * (n - 1) / (length - 1);
    case ASYMMETRIC:
        return o / scale;
    case TF_HALF_PIXEL_FOR_NN:
        return (o + 0.5) / scale;
    case TF_CROP_AND_RESIZE:
        return length > 1 ? p->start[axis] * (n - 1) +
                                o * (p->end[axis] - p->start[axis]) * (n - 1) / (length - 1)
                          : 0.5 * (p->start[axis] + p->end[axis]) * (n - 1);
    }
    return half;
}

static double rounded(nearest_mode mode, double x)
{
    switch (mode) {
    case PREFER_CEIL:
        return floor(x + 0.5);
    case FLOOR:
        return floor(x);
    case CEIL:
        return ceil(x);
    case PREFER_FLOOR:
    case N_NEAREST:
        break;
    }
    return ceil(x - 0.5);
}

/* Also of what is not finite: regions of interest come from data. */
static int64_t to_place(double x)
{
    return (int64_t)(!(x > -1e15) ? -1e15 : x < 1e15 ? x : 1e15);
}

static double cubic_weight(double x, double a)
{
    x = fabs(x);
    if (x <= 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

/* |taps| places and weights for each output place of an axis. */
typedef struct axis_taps {
    int64_t taps;
    int64_t *place;
    double *weight;
    bool *outside; /* extrapolated */
} axis_taps;

static kaena_status make_taps(kop_call *call, const resize_plan *p, int32_t axis, int64_t in,
                              axis_taps *t)
{
    bool antialias = kop_attr_int(call, "antialias", 0) != 0;
    double shrink = antialias && p->scale[axis] < 1 ? p->scale[axis] : 1;
    double reach = p->filter == CUBIC ? 2 : 1, a = -0.75;
    int64_t first = 0, n = p->out[axis];
    a = (double)kop_attr_float(call, "cubic_coeff_a", (float)a);
    t->taps = 1;
    if (p->filter != NEAREST) {
        first = (int64_t)floor(-reach / shrink) + 1;
        t->taps = 2 - 2 * first;
    }
    int64_t total;
    if (!kaena_mul_i64(n, t->taps, &total))
        return KOP_BAD(call, "axis %d needs too many weights", axis);
    t->place = kop_alloc(call, (size_t)total, sizeof *t->place);
    t->weight = t->place ? kop_alloc(call, (size_t)total, sizeof *t->weight) : NULL;
    t->outside = t->weight ? kop_alloc(call, (size_t)n, sizeof *t->outside) : NULL;
    if (!t->outside)
        return KAENA_RESOURCE_EXHAUSTED;
    bool exclude = kop_attr_int(call, "exclude_outside", 0) != 0;
    for (int64_t o = 0; o < n; o++) {
        double x = original(p, axis, in, (double)o), sum = 0;
        int64_t *place = t->place + o * t->taps;
        double *weight = t->weight + o * t->taps;
        t->outside[o] = p->coordinates == TF_CROP_AND_RESIZE && !(x >= 0 && x <= (double)in - 1);
        double base = p->filter == NEAREST ? rounded(p->nearest, x) : floor(x);
        for (int64_t i = 0; i < t->taps; i++) {
            int64_t at = to_place(base) + first + i;
            double distance = ((double)(first + i) - (x - base)) * shrink;
            weight[i] = p->filter == NEAREST  ? 1
                        : p->filter == LINEAR ? fmax(0, 1 - fabs(distance))
                                              : cubic_weight(distance, a);
            if (exclude && p->filter != NEAREST && (at < 0 || at >= in))
                weight[i] = 0;
            place[i] = at < 0 ? 0 : at >= in ? in - 1 : at;
            sum += weight[i];
        }
        for (int64_t i = 0; i < t->taps && sum != 0; i++)
            weight[i] /= sum;
    }
    return KAENA_OK;
}

/* --- Evaluation --- */

/* Nearest: copies elements of any type. */
static kaena_status copy_nearest(kop_call *call, const axis_taps *taps)
{
    const kop_tensor *x = call->in[0];
    kop_tensor *out = &call->out[0];
    int32_t rank = x->shape.rank;
    int64_t index[KAENA_MAX_RANK] = {0}, stride[KAENA_MAX_RANK];
    kaena_shape_strides(&x->shape, stride);
    size_t size = kaena_dtype_size(x->dtype), at = 0;
    double beyond = (double)kop_attr_float(call, "extrapolation_value", 0);
    do {
        int64_t from = 0;
        bool outside = false;
        for (int32_t d = 0; d < rank; d++) {
            from += taps[d].place[index[d]] * stride[d];
            outside = outside || taps[d].outside[index[d]];
        }
        if (!outside)
            memcpy((char *)out->data + at * size, (const char *)x->data + (size_t)from * size,
                   size);
        else if (x->dtype != KAENA_STRING)
            kop_set_float(out, at, beyond);
        at++;
        KAENA_TRY(kop_poll(call));
    } while (kop_next(index, out->shape.dim, rank));
    return KAENA_OK;
}

/* One axis of |x| (shape |s|) through its weights; |s| becomes the result's shape. */
static kaena_status filter_axis(kop_call *call, kaena_shape *s, int32_t axis, int64_t n,
                                const axis_taps *t, double **x)
{
    int64_t outer = kop_span(s, 0, axis), inner = kop_span(s, axis + 1, s->rank);
    int64_t in = s->dim[axis], total;
    s->dim[axis] = n;
    if (!kaena_shape_elements(s, &total))
        return KOP_BAD(call, "an intermediate tensor would be too large");
    double *y = kop_alloc(call, (size_t)total, sizeof *y), *to = y;
    if (!y)
        return KAENA_RESOURCE_EXHAUSTED;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < n; i++, to += inner) {
            for (int64_t k = 0; k < t->taps; k++) {
                const double *from = *x + (o * in + t->place[i * t->taps + k]) * inner;
                double w = t->weight[i * t->taps + k];
                for (int64_t j = 0; j < inner && w != 0; j++)
                    to[j] += w * from[j];
            }
            KAENA_TRY(kop_poll(call));
        }
    *x = y;
    return KAENA_OK;
}

kaena_status kop_eval_resize(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    kop_tensor *out = &call->out[0];
    if (kop_elements(out) == 0)
        return KAENA_OK;
    resize_plan plan;
    kaena_status status;
    if (!read_plan(call, &plan, &status))
        return status;
    axis_taps taps[KAENA_MAX_RANK];
    int32_t rank = x->shape.rank;
    for (int32_t i = 0; i < rank; i++)
        KAENA_TRY(make_taps(call, &plan, i, x->shape.dim[i], &taps[i]));
    if (plan.filter == NEAREST)
        return copy_nearest(call, taps);
    double *v = kop_doubles(call, x);
    if (!v)
        return KAENA_RESOURCE_EXHAUSTED;
    kaena_shape s = x->shape;
    for (int32_t i = 0; i < rank; i++)
        if (plan.scale[i] != 1 || plan.out[i] != x->shape.dim[i] ||
            plan.coordinates == TF_CROP_AND_RESIZE)
            KAENA_TRY(filter_axis(call, &s, i, plan.out[i], &taps[i], &v));
    double beyond = (double)kop_attr_float(call, "extrapolation_value", 0);
    int64_t index[KAENA_MAX_RANK] = {0};
    size_t at = 0;
    do {
        for (int32_t d = 0; d < rank; d++)
            if (taps[d].outside[index[d]])
                v[at] = beyond;
        at++;
    } while (kop_next(index, out->shape.dim, rank));
    kop_store_f64(out, 0, at, v);
    return KAENA_OK;
}
