/* Translations: images (channels last, whatever the graph's layout) and boxes. */
#include <string.h>

#include "tf_xlat.h"

/* --- Sizes
 * ------------------------------------------------------------------------------------------ */

/* Resizes the middle dimensions of |v| to input 1. */
static kaena_status resize(tf_xlat *x, kgr_value *v, const char *mode, const char *place,
                           const char *nearest, bool keys)
{
    kgr_value *second = tf_channels_second(x, v);
    if (x->status == KAENA_OK && tf_rank(x, second) != 4)
        return tf_bad(x, "the images have %d dimensions, not 4", tf_rank(x, second));
    kgr_value *sizes[] = {tf_slice(x, tf_shape_of(x, second), 0, 0, 2, 1),
                          x->status == KAENA_OK ? tf_cast(x, x->in[1], KAENA_I64) : NULL};
    kgr_value *in[] = {second, NULL, NULL, tf_concat(x, sizes, 2, 0)};
    kgr_node *r = tf_node_begin(x, KOP_Resize, in, 4, 1);
    tf_set_string(x, r, "mode", mode);
    tf_set_string(x, r, "coordinate_transformation_mode", place);
    if (nearest)
        tf_set_string(x, r, "nearest_mode", nearest);
    if (strcmp(mode, "cubic") == 0) {
        tf_set_float(x, r, "cubic_coeff_a", keys ? -0.5f : -0.75f);
        tf_set_int(x, r, "exclude_outside", keys);
    }
    return tf_done(x, tf_channels_last(x, tf_node_end(x, r)));
}

static const char *place_of(tf_xlat *x, bool *half, bool *corners)
{
    *half = tf_bool(x, "half_pixel_centers", false);
    *corners = tf_bool(x, "align_corners", false);
    return *corners ? "align_corners" : *half ? "half_pixel" : "asymmetric";
}

kaena_status tf_x_resize_bilinear(tf_xlat *x)
{
    bool half, corners;
    const char *place = place_of(x, &half, &corners);
    return resize(x, tf_cast(x, x->in[0], KAENA_F32), "linear", place, NULL, false);
}

kaena_status tf_x_resize_bicubic(tf_xlat *x)
{
    bool half, corners;
    const char *place = place_of(x, &half, &corners);
    return resize(x, tf_cast(x, x->in[0], KAENA_F32), "cubic", place, NULL, half);
}

kaena_status tf_x_resize_nearest(tf_xlat *x)
{
    bool half, corners;
    const char *place = place_of(x, &half, &corners);
    return resize(x, x->in[0], "nearest", place, half || corners ? "round_prefer_ceil" : "floor",
                  false);
}

/* 0, 1, ... |n| - 1 as float64. */
static kgr_value *places(tf_xlat *x, kgr_value *n)
{
    return tf_cast(x, tf_op3(x, KOP_Range, tf_i64(x, 0), n, tf_i64(x, 1)), KAENA_F64);
}

/* How much of each old pixel a new one covers: [to,from], rows add up to 1. |from| and |to| are
 * int64 of rank 0. Past the last pixel stands the last pixel. */
static kgr_value *area_weights(tf_xlat *x, kgr_value *from, kgr_value *to, bool corners)
{
    kgr_value *new = tf_unsqueeze(x, places(x, to), 1), *old = tf_unsqueeze(x, places(x, from), 0);
    from = tf_cast(x, from, KAENA_F64);
    to = tf_cast(x, to, KAENA_F64);
    kgr_value *one = tf_number(x, to, 1), *last = tf_op2(x, KOP_Sub, from, one);
    kgr_value *scale = tf_op2(x, KOP_Div, from, to);
    if (corners)
        scale = tf_op3(x, KOP_Where, tf_op2(x, KOP_Greater, to, one),
                       tf_op2(x, KOP_Div, last, tf_op2(x, KOP_Sub, to, one)), scale);
    kgr_value *begin = tf_op2(x, KOP_Mul, new, scale), *end = tf_op2(x, KOP_Add, begin, scale);
    kgr_value *edge = tf_op3(x, KOP_Where, tf_op2(x, KOP_Equal, old, last), tf_number(x, to, 1e12),
                             tf_op2(x, KOP_Add, old, one));
    kgr_value *shared =
        tf_op2(x, KOP_Sub, tf_op2(x, KOP_Min, end, edge), tf_op2(x, KOP_Max, begin, old));
    shared = tf_op2(x, KOP_Max, shared, tf_number(x, to, 0));
    return tf_cast(x, tf_op2(x, KOP_Div, shared, scale), KAENA_F32);
}

kaena_status tf_x_resize_area(tf_xlat *x)
{
    kgr_value *size = tf_cast(x, x->in[1], KAENA_I64), *v = tf_cast(x, x->in[0], KAENA_F32);
    kaena_shape s = *tf_known_shape(x, v);
    bool corners = tf_bool(x, "align_corners", false);
    if (x->status != KAENA_OK)
        return x->status;
    if (s.rank != 4)
        return tf_bad(x, "the images have %d dimensions, not 4", s.rank);
    int64_t rows[] = {s.dim[0], s.dim[1], s.dim[2] * s.dim[3]};
    kgr_value *high = tf_op2(x, KOP_Gather, size, tf_i64(x, 0));
    kgr_value *wide = tf_op2(x, KOP_Gather, size, tf_i64(x, 1));
    kgr_value *batch = tf_op2(x, KOP_Mul, high, tf_i64(x, s.dim[0]));
    kgr_value *columns[] = {tf_unsqueeze(x, batch, 0), tf_i64s(x, &s.dim[2], 2)};
    kgr_value *all[] = {tf_i64s(x, &s.dim[0], 1), size, tf_i64s(x, &s.dim[3], 1)};
    v = tf_op2(x, KOP_MatMul, area_weights(x, tf_i64(x, s.dim[1]), high, corners),
               tf_reshape(x, v, rows, 3));
    v = tf_op2(x, KOP_MatMul, area_weights(x, tf_i64(x, s.dim[2]), wide, corners),
               tf_op2(x, KOP_Reshape, v, tf_concat(x, columns, 2, 0)));
    return tf_done(x, tf_op2(x, KOP_Reshape, v, tf_concat(x, all, 3, 0)));
}

/* Boxes of images, resized: RoiAlign samples otherwise, so every pixel is looked up by place. */
kaena_status tf_x_crop_and_resize(tf_xlat *x)
{
    uint32_t n;
    const int64_t *size = tf_const_ints(x, x->in[3], "the crop's size", &n);
    kgr_value *image = tf_cast(x, x->in[0], KAENA_F32), *boxes = x->in[1];
    kaena_shape s = *tf_known_shape(x, image);
    bool nearest = strcmp(tf_string(x, "method", "bilinear"), "nearest") == 0;
    float outside = tf_float(x, "extrapolation_value", 0);
    kgr_value *low[2], *part[2], *inside[2], *next[2];
    if (x->status != KAENA_OK)
        return x->status;
    if (n != 2 || s.rank != 4 || size[0] < 1 || size[1] < 1 || tf_known_shape(x, boxes)->rank != 2)
        return tf_bad(x, "%u sizes, %d dimensions", n, s.rank);
    int64_t n_boxes = boxes->t.shape.dim[0];
    for (int d = 0; d < 2; d++) {
        /* [boxes, size]: where the samples lie, in pixels. */
        kgr_value *from = tf_slice(x, boxes, 1, d, d + 1, 1),
                  *to = tf_slice(x, boxes, 1, d + 2, d + 3, 1);
        kgr_value *last = tf_number(x, boxes, (double)(s.dim[1 + d] - 1)), *at;
        if (size[d] > 1) {
            kgr_value *steps = tf_cast(
                x, tf_op3(x, KOP_Range, tf_i64(x, 0), tf_i64(x, size[d]), tf_i64(x, 1)), KAENA_F32);
            kgr_value *scale =
                tf_op2(x, KOP_Div, tf_op2(x, KOP_Mul, tf_op2(x, KOP_Sub, to, from), last),
                       tf_number(x, boxes, (double)(size[d] - 1)));
            at = tf_op2(x, KOP_Add, tf_op2(x, KOP_Mul, from, last),
                        tf_op2(x, KOP_Mul, steps, scale));
        } else {
            at = tf_op2(x, KOP_Mul, tf_op2(x, KOP_Mul, tf_op2(x, KOP_Add, from, to), last),
                        tf_number(x, boxes, 0.5));
        }
        kgr_value *zero = tf_number(x, boxes, 0);
        inside[d] = tf_op2(x, KOP_And, tf_op2(x, KOP_GreaterOrEqual, at, zero),
                           tf_op2(x, KOP_LessOrEqual, at, last));
        at = tf_op2(x, KOP_Min, tf_op2(x, KOP_Max, at, zero), last);
        if (nearest)
            at = tf_op1(x, KOP_Floor, tf_op2(x, KOP_Add, at, tf_number(x, boxes, 0.5)));
        low[d] = tf_op1(x, KOP_Floor, at);
        part[d] = tf_op2(x, KOP_Sub, at, low[d]);
        next[d] = tf_op2(x, KOP_Min, tf_op2(x, KOP_Add, low[d], tf_number(x, boxes, 1)), last);
    }
    int64_t by_row[] = {n_boxes, size[0], 1}, by_column[] = {n_boxes, 1, size[1]};
    int64_t by_box[] = {n_boxes, 1, 1}, grid[] = {n_boxes, size[0], size[1]};
    kgr_value *which = tf_reshape(x, tf_cast(x, x->in[2], KAENA_I64), by_box, 3);
    kgr_value *weight[2] = {tf_unsqueeze(x, tf_reshape(x, part[0], by_row, 3), -1),
                            tf_unsqueeze(x, tf_reshape(x, part[1], by_column, 3), -1)};
    kgr_value *corner[2][2], *shape = tf_i64s(x, grid, 3);
    for (int a = 0; a < 2; a++)
        for (int b = 0; b < 2; b++) {
            kgr_value *row = tf_cast(x, tf_reshape(x, a ? next[0] : low[0], by_row, 3), KAENA_I64);
            kgr_value *column =
                tf_cast(x, tf_reshape(x, b ? next[1] : low[1], by_column, 3), KAENA_I64);
            kgr_value *place[] = {tf_unsqueeze(x, tf_expand(x, which, shape), -1),
                                  tf_unsqueeze(x, tf_expand(x, row, shape), -1),
                                  tf_unsqueeze(x, tf_expand(x, column, shape), -1)};
            corner[a][b] = tf_op2(x, KOP_GatherND, image, tf_concat(x, place, 3, 3));
        }
    kgr_value *rows[2];
    for (int a = 0; a < 2; a++) {
        kgr_value *d = tf_op2(x, KOP_Sub, corner[a][1], corner[a][0]);
        rows[a] = tf_op2(x, KOP_Add, corner[a][0], tf_op2(x, KOP_Mul, d, weight[1]));
    }
    kgr_value *d = tf_op2(x, KOP_Sub, rows[1], rows[0]);
    kgr_value *r = tf_op2(x, KOP_Add, rows[0], tf_op2(x, KOP_Mul, d, weight[0]));
    kgr_value *in = tf_op2(x, KOP_And, tf_reshape(x, inside[0], by_row, 3),
                           tf_reshape(x, inside[1], by_column, 3));
    return tf_done(
        x, tf_op3(x, KOP_Where, tf_unsqueeze(x, in, -1), r, tf_number(x, image, (double)outside)));
}

/* --- Colours
 * ------------------------------------------------------------------------------------------ */

static kgr_value *channel(tf_xlat *x, kgr_value *v, int64_t i)
{
    return tf_slice(x, v, -1, i, i + 1, 1);
}

static kgr_value *scaled(tf_xlat *x, kgr_value *v, double factor)
{
    return tf_op2(x, KOP_Mul, v, tf_number(x, v, factor));
}

static kgr_value *shifted(tf_xlat *x, kgr_value *v, double by)
{
    return tf_op2(x, KOP_Add, v, tf_number(x, v, by));
}

/* |v| - floor(|v|) */
static kgr_value *fraction(tf_xlat *x, kgr_value *v)
{
    return tf_op2(x, KOP_Sub, v, tf_op1(x, KOP_Floor, v));
}

typedef struct hsv {
    kgr_value *h, *s, *v;
} hsv;

/* Hue in turns, by which of the three is the largest; 0 for grey. */
static hsv to_hsv(tf_xlat *x, kgr_value *rgb)
{
    kgr_value *r = channel(x, rgb, 0), *g = channel(x, rgb, 1), *b = channel(x, rgb, 2);
    kgr_value *most = tf_op2(x, KOP_Max, r, tf_op2(x, KOP_Max, g, b));
    kgr_value *least = tf_op2(x, KOP_Min, r, tf_op2(x, KOP_Min, g, b));
    kgr_value *range = tf_op2(x, KOP_Sub, most, least), *zero = tf_number(x, rgb, 0);
    kgr_value *one = tf_number(x, rgb, 1);
    kgr_value *grey = tf_op2(x, KOP_Equal, range, zero);
    kgr_value *dark = tf_op2(x, KOP_Equal, most, zero);
    kgr_value *width = scaled(x, tf_op3(x, KOP_Where, grey, one, range), 6);
    kgr_value *of_r = tf_op2(x, KOP_Div, tf_op2(x, KOP_Sub, g, b), width);
    kgr_value *of_g = shifted(x, tf_op2(x, KOP_Div, tf_op2(x, KOP_Sub, b, r), width), 1.0 / 3);
    kgr_value *of_b = shifted(x, tf_op2(x, KOP_Div, tf_op2(x, KOP_Sub, r, g), width), 2.0 / 3);
    kgr_value *h = tf_op3(x, KOP_Where, tf_op2(x, KOP_Equal, g, most), of_g, of_b);
    h = tf_op3(x, KOP_Where, tf_op2(x, KOP_Equal, r, most), of_r, h);
    h = tf_op3(x, KOP_Where, tf_op2(x, KOP_Less, h, zero), shifted(x, h, 1), h);
    kgr_value *s = tf_op2(x, KOP_Div, range, tf_op3(x, KOP_Where, dark, one, most));
    return (hsv){tf_op3(x, KOP_Where, grey, zero, h), tf_op3(x, KOP_Where, dark, zero, s), most};
}

/* Each colour is |v| less what hue and saturation take: a trapezoid of the hue. */
static kgr_value *of_hsv(tf_xlat *x, const hsv *c)
{
    kgr_value *six = scaled(x, c->h, 6), *zero = tf_number(x, c->h, 0),
              *one = tf_number(x, c->h, 1);
    kgr_value *share[3] = {
        shifted(x, tf_op1(x, KOP_Abs, shifted(x, six, -3)), -1),
        tf_op2(x, KOP_Sub, tf_number(x, c->h, 2), tf_op1(x, KOP_Abs, shifted(x, six, -2))),
        tf_op2(x, KOP_Sub, tf_number(x, c->h, 2), tf_op1(x, KOP_Abs, shifted(x, six, -4)))};
    kgr_value *out[3];
    for (int i = 0; i < 3; i++) {
        kgr_value *d = tf_op2(x, KOP_Min, tf_op2(x, KOP_Max, share[i], zero), one);
        kgr_value *part = tf_op2(x, KOP_Mul, c->s, d);
        part = tf_op2(x, KOP_Add, tf_op2(x, KOP_Sub, one, c->s), part);
        out[i] = tf_op2(x, KOP_Mul, part, c->v);
    }
    return tf_concat(x, out, 3, -1);
}

kaena_status tf_x_rgb_to_hsv(tf_xlat *x)
{
    hsv c = to_hsv(x, x->in[0]);
    return tf_done(x, tf_concat(x, (kgr_value *[]){c.h, c.s, c.v}, 3, -1));
}

kaena_status tf_x_hsv_to_rgb(tf_xlat *x)
{
    hsv c = {channel(x, x->in[0], 0), channel(x, x->in[0], 1), channel(x, x->in[0], 2)};
    return tf_done(x, of_hsv(x, &c));
}

kaena_status tf_x_adjust_hue(tf_xlat *x)
{
    hsv c = to_hsv(x, x->in[0]);
    c.h = fraction(x, tf_op2(x, KOP_Add, c.h, x->in[1]));
    return tf_done(x, of_hsv(x, &c));
}

kaena_status tf_x_adjust_saturation(tf_xlat *x)
{
    hsv c = to_hsv(x, x->in[0]);
    kgr_value *s = tf_op2(x, KOP_Mul, c.s, x->in[1]);
    c.s = tf_op2(x, KOP_Min, tf_op2(x, KOP_Max, s, tf_number(x, s, 0)), tf_number(x, s, 1));
    return tf_done(x, of_hsv(x, &c));
}

kaena_status tf_x_adjust_contrast(tf_xlat *x)
{
    static const int64_t plane[] = {-3, -2};
    kgr_value *v = x->in[0], *mean = tf_reduce(x, KOP_ReduceMean, v, plane, 2, true);
    kgr_value *d = tf_op2(x, KOP_Mul, tf_op2(x, KOP_Sub, v, mean), x->in[1]);
    return tf_done(x, tf_op2(x, KOP_Add, d, mean));
}

/* --- Boxes
 * --------------------------------------------------------------------------------------------- */

/* The indices of the boxes that are kept, best first, as int64. The canonical operator computes in
 * float32. */
static kgr_value *keep_boxes(tf_xlat *x, kgr_value *most, kgr_value *overlap, kgr_value *score)
{
    static const int64_t one = 1;
    kgr_value *boxes = tf_cast(x, x->in[0], KAENA_F32), *scores = tf_cast(x, x->in[1], KAENA_F32);
    overlap = overlap ? tf_cast(x, overlap, KAENA_F32) : NULL;
    score = score ? tf_cast(x, score, KAENA_F32) : NULL;
    kgr_value *in[] = {tf_unsqueeze(x, boxes, 0), tf_unsqueeze(x, tf_unsqueeze(x, scores, 0), 0),
                       tf_op2(x, KOP_Reshape, tf_cast(x, most, KAENA_I64), tf_i64s(x, &one, 1)),
                       tf_op2(x, KOP_Reshape, overlap, tf_i64s(x, &one, 1)), score};
    if (score)
        in[4] = tf_op2(x, KOP_Reshape, score, tf_i64s(x, &one, 1));
    kgr_value *rows = tf_opn(x, KOP_NonMaxSuppression, in, score ? 5 : 4);
    return tf_squeeze(x, tf_slice(x, rows, 1, 2, 3, 1), 1);
}

kaena_status tf_x_nms(tf_xlat *x)
{
    kgr_value *overlap =
        x->n_in > 3 ? x->in[3] : tf_number(x, x->in[0], (double)tf_float(x, "iou_threshold", 0.5f));
    kgr_value *kept = keep_boxes(x, x->in[2], overlap, x->n_in > 4 ? x->in[4] : NULL);
    return tf_done(x, tf_cast(x, kept, KAENA_I32));
}

/* |v| with zeros behind, up to |n| elements; dimension 0 need not be known. */
static kgr_value *pad_to(tf_xlat *x, kgr_value *v, kgr_value *n)
{
    kgr_value *missing = tf_op2(x, KOP_Sub, n, tf_op1(x, KOP_Size, v));
    kgr_value *pads[] = {tf_i64(x, 0), missing};
    for (int i = 0; i < 2; i++)
        pads[i] = tf_unsqueeze(x, pads[i], 0);
    return tf_op2(x, KOP_Pad, v, tf_concat(x, pads, 2, 0));
}

/* The kept boxes' indices, and how many there are: outputs |index_port| and |count_port|. */
static kaena_status nms_padded(tf_xlat *x, uint32_t count_port, bool with_scores)
{
    kgr_value *kept = keep_boxes(x, x->in[2], x->in[3], x->in[4]), *n = tf_op1(x, KOP_Size, kept);
    kgr_value *scores = tf_op2(x, KOP_Gather, x->in[1], kept);
    if (tf_bool(x, "pad_to_max_output_size", false)) {
        kgr_value *most = tf_cast(x, x->in[2], KAENA_I64);
        kept = pad_to(x, kept, most);
        scores = pad_to(x, scores, most);
    }
    tf_set_out(x, 0, tf_cast(x, kept, KAENA_I32));
    if (with_scores)
        tf_set_out(x, 1, scores);
    tf_set_out(x, count_port, tf_cast(x, n, KAENA_I32));
    return x->status;
}

kaena_status tf_x_nms_v4(tf_xlat *x)
{
    return nms_padded(x, 1, false);
}

kaena_status tf_x_nms_v5(tf_xlat *x)
{
    if (tf_const_float(x, x->in[5], "soft_nms_sigma") != 0)
        return tf_lacks(x, "soft_nms_sigma other than 0 is not supported");
    return nms_padded(x, 2, true);
}
