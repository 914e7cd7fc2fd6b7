/* Operators of detection networks. */
#include "ops_impl.h"

#include <math.h>
#include <stdlib.h>

/* --- NonMaxSuppression --- */

kaena_status kop_infer_nms(kop_call *call)
{
    KAENA_TRY(kop_need(call, 0, KOP_T(KAENA_F32)));
    KAENA_TRY(kop_need(call, 1, KOP_T(KAENA_F32)));
    KAENA_TRY(kop_need(call, 2, KOP_T(KAENA_I64)));
    KAENA_TRY(kop_need(call, 3, KOP_T(KAENA_F32)));
    KAENA_TRY(kop_need(call, 4, KOP_T(KAENA_F32)));
    KAENA_TRY(kop_need_rank(call, 0, 3));
    KAENA_TRY(kop_need_rank(call, 1, 3));
    const kop_tensor *boxes = call->in[0], *scores = call->in[1];
    if (kop_known(boxes) && boxes->shape.dim[2] != 4)
        return KOP_BAD(call, "boxes have %" PRId64 " coordinates, not 4", boxes->shape.dim[2]);
    if (kop_known(boxes) && kop_known(scores) &&
        (boxes->shape.dim[0] != scores->shape.dim[0] ||
         boxes->shape.dim[1] != scores->shape.dim[2]))
        return KOP_BAD(call, "boxes and scores differ in batch or number");
    kaena_shape shape = {.rank = 2, .dim = {KAENA_DIM_UNKNOWN, 3}};
    kop_out(call, 0, KAENA_I64, &shape);
    return KAENA_OK;
}

typedef struct candidate {
    float score;
    int64_t index;
} candidate;

static int by_score(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

typedef struct rectangle {
    double low[2], high[2];
} rectangle;

static rectangle rectangle_of(const float *box, bool center)
{
    rectangle r;
    for (int i = 0; i < 2; i++) {
        double a = (double)box[i], b = (double)box[i + 2];
        r.low[i] = center ? a - b / 2 : fmin(a, b);
        r.high[i] = center ? a + b / 2 : fmax(a, b);
    }
    return r;
}

static double overlap(const rectangle *a, const rectangle *b)
{
    double both = 1, area_a = 1, area_b = 1;
    for (int i = 0; i < 2; i++) {
        double side = fmin(a->high[i], b->high[i]) - fmax(a->low[i], b->low[i]);
        both *= side > 0 ? side : 0;
        area_a *= a->high[i] - a->low[i];
        area_b *= b->high[i] - b->low[i];
    }
    double all = area_a + area_b - both;
    return all > 0 ? both / all : 0;
}

kaena_status kop_eval_nms(kop_call *call)
{
    const kop_tensor *boxes = call->in[0], *scores = call->in[1];
    int64_t batches = scores->shape.dim[0], classes = scores->shape.dim[1];
    int64_t n = scores->shape.dim[2], most = 0;
    double limit = kop_in_scalar(call, 3, 0), least = kop_in_scalar(call, 4, -INFINITY);
    bool center = kop_attr_int(call, "center_point_box", 0) != 0;
    if (kop_in(call, 2) && kop_elements(call->in[2]) > 0)
        most = kop_get_int(call->in[2], 0);
    most = most < 0 ? 0 : most > n ? n : most;
    candidate *found = kop_alloc(call, (size_t)n, sizeof *found);
    rectangle *kept = kop_alloc(call, (size_t)n, sizeof *kept);
    int64_t *out = kop_alloc(call, kop_elements(scores), 3 * sizeof *out), n_out = 0;
    if (!found || !kept || !out)
        return KAENA_RESOURCE_EXHAUSTED;
    for (int64_t line = 0; n > 0 && line < batches * classes; line++) {
        const float *score = (const float *)scores->data + line * n;
        const float *box = (const float *)boxes->data + line / classes * n * 4;
        int64_t n_found = 0, n_kept = 0;
        for (int64_t i = 0; i < n; i++)
            if ((double)score[i] > least)
                found[n_found++] = (candidate){score[i], i};
        qsort(found, (size_t)n_found, sizeof *found, by_score);
        for (int64_t i = 0; i < n_found && n_kept < most; i++) {
            rectangle r = rectangle_of(box + found[i].index * 4, center);
            bool keep = true;
            for (int64_t j = 0; keep && j < n_kept; j++)
                keep = overlap(&r, &kept[j]) <= limit;
            KAENA_TRY(kop_poll(call));
            if (!keep)
                continue;
            kept[n_kept++] = r;
            out[n_out++] = line / classes;
            out[n_out++] = line % classes;
            out[n_out++] = found[i].index;
        }
    }
    kaena_shape shape = {.rank = 2, .dim = {n_out / 3, 3}};
    KAENA_TRY(kop_output(call, 0, KAENA_I64, &shape));
    if (n_out)
        memcpy(call->out[0].data, out, (size_t)n_out * sizeof *out);
    return KAENA_OK;
}

/* --- RoiAlign --- */

#define MAX_SAMPLES 1024 /* along one side of a bin */

kaena_status kop_infer_roi_align(kop_call *call)
{
    const kop_tensor *x = call->in[0], *rois = call->in[1];
    KAENA_TRY(kop_need(call, 0, KOP_T_FLOAT));
    KAENA_TRY(kop_need_same(call, 0, 1));
    KAENA_TRY(kop_need(call, 2, KOP_T(KAENA_I64)));
    KAENA_TRY(kop_need_rank(call, 0, 4));
    KAENA_TRY(kop_need_rank(call, 1, 2));
    KAENA_TRY(kop_need_rank(call, 2, 1));
    int64_t height = kop_attr_int(call, "output_height", 1);
    int64_t width = kop_attr_int(call, "output_width", 1);
    int64_t ratio = kop_attr_int(call, "sampling_ratio", 0);
    if (height < 1 || width < 1 || ratio < 0 || ratio > MAX_SAMPLES)
        return KOP_BAD(call, "output_height, output_width or sampling_ratio is not possible");
    if (!kop_attr_is(call, "mode", "avg", "avg") && !kop_attr_is(call, "mode", "avg", "max"))
        return KOP_BAD(call, "mode must be avg or max");
    const char *transform = kop_attr_string(call, "coordinate_transformation_mode", "half_pixel");
    if (strcmp(transform, "half_pixel") != 0 && strcmp(transform, "output_half_pixel") != 0)
        return KOP_BAD(call, "there is no coordinate_transformation_mode '%s'", transform);
    if (kop_known(rois) && rois->shape.dim[1] != 4)
        return KOP_BAD(call, "regions have %" PRId64 " coordinates, not 4", rois->shape.dim[1]);
    const kop_tensor *of = call->in[2];
    if (kop_known(rois) && kop_known(of) && of->shape.dim[0] != rois->shape.dim[0])
        return KOP_BAD(call, "there are not as many batch indices as regions");
    if (kop_known(x) && (x->shape.dim[2] == 0 || x->shape.dim[3] == 0))
        return KOP_BAD(call, "the data is empty");
    kaena_shape shape = kop_shape_unknown(4);
    shape.dim[0] = rois->unranked ? KAENA_DIM_UNKNOWN : rois->shape.dim[0];
    shape.dim[1] = x->unranked ? KAENA_DIM_UNKNOWN : x->shape.dim[1];
    shape.dim[2] = height;
    shape.dim[3] = width;
    kop_out(call, 0, kop_in_type(call, 0), &shape);
    return KAENA_OK;
}

/* Two neighbours of |at| in a dimension of |n| and the weight of the second; false: outside. */
static bool neighbours(double at, int64_t n, int64_t *low, int64_t *high, double *part)
{
    if (!(at >= -1 && at <= (double)n))
        return false;
    at = at < 0 ? 0 : at;
    *low = (int64_t)at;
    if (*low >= n - 1) {
        *low = *high = n - 1;
        *part = 0;
    } else {
        *high = *low + 1;
        *part = at - (double)*low;
    }
    return true;
}

/* One output element: samples of one bin. */
static double pool_bin(const kop_tensor *x, int64_t plane, const double *start, const double *size,
                       const int64_t *samples, bool max)
{
    const int64_t *dim = x->shape.dim;
    double sum = 0, best = -INFINITY;
    for (int64_t i = 0; i < samples[0]; i++)
        for (int64_t j = 0; j < samples[1]; j++) {
            int64_t y0, y1, x0, x1;
            double fy, fx, v = 0;
            double at_y = start[0] + ((double)i + 0.5) * size[0] / (double)samples[0];
            double at_x = start[1] + ((double)j + 0.5) * size[1] / (double)samples[1];
            if (neighbours(at_y, dim[2], &y0, &y1, &fy) &&
                neighbours(at_x, dim[3], &x0, &x1, &fx)) {
                size_t base = (size_t)(plane * dim[2] * dim[3]);
                double a =
                    (1 - fy) * (1 - fx) * kop_get_float(x, base + (size_t)(y0 * dim[3] + x0));
                double b = (1 - fy) * fx * kop_get_float(x, base + (size_t)(y0 * dim[3] + x1));
                double c = fy * (1 - fx) * kop_get_float(x, base + (size_t)(y1 * dim[3] + x0));
                double d = fy * fx * kop_get_float(x, base + (size_t)(y1 * dim[3] + x1));
                v = max ? fmax(fmax(a, b), fmax(c, d)) : a + b + c + d;
            }
            sum += v;
            best = v > best ? v : best;
        }
    return max ? best : sum / (double)(samples[0] * samples[1]);
}

kaena_status kop_eval_roi_align(kop_call *call)
{
    const kop_tensor *x = call->in[0], *rois = call->in[1];
    kop_tensor *out = &call->out[0];
    const int64_t *o = out->shape.dim;
    bool max = kop_attr_is(call, "mode", "avg", "max");
    bool half = kop_attr_is(call, "coordinate_transformation_mode", "half_pixel", "half_pixel");
    double scale = (double)kop_attr_float(call, "spatial_scale", 1);
    int64_t ratio = kop_attr_int(call, "sampling_ratio", 0), bin[2];
    size_t at = 0;
    for (int64_t r = 0; r < o[0] && kop_elements(out) > 0; r++) {
        int64_t image = kop_get_int(call->in[2], (size_t)r), samples[2];
        if (image < 0 || image >= x->shape.dim[0])
            return KAENA_FAIL(call->err, OUT_OF_RANGE, "there is no batch element %" PRId64, image);
        double first[2], size[2];
        for (int i = 0; i < 2; i++) { /* rows, then columns; regions give columns first */
            double low = kop_get_float(rois, (size_t)(4 * r + 1 - i)) * scale - (half ? 0.5 : 0);
            double high = kop_get_float(rois, (size_t)(4 * r + 3 - i)) * scale - (half ? 0.5 : 0);
            double extent = half ? high - low : fmax(high - low, 1);
            first[i] = low;
            size[i] = extent / (double)o[2 + i];
            samples[i] = ratio;
            if (ratio == 0) {
                if (!(fabs(size[i]) <= MAX_SAMPLES))
                    return KOP_BAD(call, "region %" PRId64 " is too large", r);
                samples[i] = size[i] > 0 ? (int64_t)ceil(size[i]) : 1;
            }
        }
        for (int64_t c = 0; c < o[1]; c++)
            for (bin[0] = 0; bin[0] < o[2]; bin[0]++)
                for (bin[1] = 0; bin[1] < o[3]; bin[1]++) {
                    double start[2] = {first[0] + (double)bin[0] * size[0],
                                       first[1] + (double)bin[1] * size[1]};
                    kop_set_float(out, at++,
                                  pool_bin(x, image * o[1] + c, start, size, samples, max));
                    KAENA_TRY(kop_poll(call));
                }
    }
    return KAENA_OK;
}
