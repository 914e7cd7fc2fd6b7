/* Translations: convolutions and pooling. Canonical ones have channels second; around those whose
 * channels stand last go transposes, which cancel between neighbours and fold away in the layout.
 */
#include <string.h>

#include "tf_xlat.h"

/* A window of |spatial| dimensions as the attributes say it. */
typedef struct geometry {
    int32_t spatial;
    bool channels_last;
    int64_t stride[KOP_MAX_SPATIAL], dilation[KOP_MAX_SPATIAL], kernel[KOP_MAX_SPATIAL];
    const char *padding;
    const int64_t *explicit; /* [2 * (spatial + 2)] begin and end of every dimension, or NULL */
} geometry;

/* The spatial entries of a list over all dimensions; |otherwise| where it is absent. */
static void spatial_of(tf_xlat *x, const geometry *g, const char *name, const int64_t *list,
                       uint32_t n, int64_t otherwise, int64_t *out)
{
    int32_t first = g->channels_last ? 1 : 2, channel = g->channels_last ? g->spatial + 1 : 1;
    for (int32_t i = 0; i < g->spatial; i++)
        out[i] = otherwise;
    if (n == 0 || x->status != KAENA_OK)
        return;
    if ((int32_t)n != g->spatial + 2) {
        (void)tf_bad(x, "%s has %u entries, not %d", name, n, g->spatial + 2);
        return;
    }
    if (list[0] != 1 || list[channel] != 1) {
        (void)tf_lacks(x, "%s of batch or channels other than 1 is not supported", name);
        return;
    }
    for (int32_t i = 0; i < g->spatial; i++) {
        out[i] = list[first + i];
        if (out[i] < 1 || out[i] > INT32_MAX)
            (void)tf_bad(x, "%s has an entry of %lld", name, (long long)out[i]);
    }
}

static geometry read_geometry(tf_xlat *x, int32_t spatial)
{
    const char *format = tf_string(x, "data_format", spatial == 3 ? "NDHWC" : "NHWC");
    const int64_t *list;
    uint32_t n;
    size_t size = strlen(format);
    geometry g = {.spatial = spatial, .channels_last = size && format[size - 1] == 'C'};
    if (!g.channels_last && strcmp(format, spatial == 3 ? "NCDHW" : "NCHW") != 0)
        (void)tf_lacks(x, "data_format '%s' is not supported", format);
    n = tf_ints(x, "strides", &list);
    spatial_of(x, &g, "attribute 'strides'", list, n, 1, g.stride);
    n = tf_ints(x, "dilations", &list);
    spatial_of(x, &g, "attribute 'dilations'", list, n, 1, g.dilation);
    g.padding = tf_string(x, "padding", "");
    n = tf_ints(x, "explicit_paddings", &list);
    if (strcmp(g.padding, "EXPLICIT") == 0) {
        g.explicit = list;
        if (n != 2 * (uint32_t)(spatial + 2))
            (void)tf_bad(x, "attribute 'explicit_paddings' has %u entries, not %d", n,
                         2 * (spatial + 2));
    } else if (strcmp(g.padding, "SAME") != 0 && strcmp(g.padding, "VALID") != 0) {
        (void)tf_bad(x, "attribute 'padding' is '%s', not SAME, VALID or EXPLICIT", g.padding);
    }
    return g;
}

static kgr_value *enter(tf_xlat *x, const geometry *g, kgr_value *v)
{
    if (tf_rank(x, v) >= 0 && tf_rank(x, v) != g->spatial + 2)
        (void)tf_bad(x, "the data has %d dimensions, not %d", tf_rank(x, v), g->spatial + 2);
    return g->channels_last ? tf_channels_second(x, v) : v;
}

static kgr_value *leave(tf_xlat *x, const geometry *g, kgr_value *v)
{
    return g->channels_last ? tf_channels_last(x, v) : v;
}

static void set_padding(tf_xlat *x, kgr_node *n, const geometry *g)
{
    int32_t first = g->channels_last ? 1 : 2;
    int64_t pads[2 * KOP_MAX_SPATIAL];
    if (strcmp(g->padding, "SAME") == 0)
        tf_set_string(x, n, "auto_pad", "SAME_UPPER");
    if (!g->explicit || x->status != KAENA_OK)
        return;
    for (int32_t i = 0; i < g->spatial; i++) {
        pads[i] = g->explicit[2 * (first + i)];
        pads[g->spatial + i] = g->explicit[2 * (first + i) + 1];
    }
    tf_set_ints(x, n, "pads", pads, 2 * (uint32_t)g->spatial);
}

/* --- Convolutions
 * --------------------------------------------------------------------------------- */

/* A filter [spatial..., in, out] with |out| first. */
static kgr_value *filter_out_in(tf_xlat *x, kgr_value *filter, int32_t spatial)
{
    int64_t perm[KOP_MAX_SPATIAL + 2] = {spatial + 1, spatial};
    if (tf_rank(x, filter) >= 0 && tf_rank(x, filter) != spatial + 2)
        (void)tf_bad(x, "the filter has %d dimensions, not %d", tf_rank(x, filter), spatial + 2);
    for (int32_t i = 0; i < spatial; i++)
        perm[2 + i] = i;
    return tf_transpose(x, filter, perm, (uint32_t)spatial + 2);
}

static kgr_value *conv_node(tf_xlat *x, const geometry *g, kgr_value *v, kgr_value *filter,
                            int64_t group)
{
    kgr_node *n = tf_node_begin(x, KOP_Conv, (kgr_value *[]){v, filter}, 2, 1);
    tf_set_ints(x, n, "strides", g->stride, (uint32_t)g->spatial);
    tf_set_ints(x, n, "dilations", g->dilation, (uint32_t)g->spatial);
    tf_set_int(x, n, "group", group);
    set_padding(x, n, g);
    return tf_node_end(x, n);
}

static kaena_status conv(tf_xlat *x, int32_t spatial)
{
    geometry g = read_geometry(x, spatial);
    kgr_value *v = enter(x, &g, x->in[0]), *filter = filter_out_in(x, x->in[1], spatial);
    const kaena_shape *s = tf_known_shape(x, filter);
    if (x->status != KAENA_OK)
        return x->status;
    int64_t channels = v->t.shape.dim[1], mine = s->dim[1];
    if (mine < 1 || channels < 1 || channels % mine)
        return tf_bad(x, "%lld channels of data for a filter of %lld", (long long)channels,
                      (long long)mine);
    return tf_done(x, leave(x, &g, conv_node(x, &g, v, filter, channels / mine)));
}

kaena_status tf_x_conv2d(tf_xlat *x)
{
    return conv(x, 2);
}

kaena_status tf_x_conv3d(tf_xlat *x)
{
    return conv(x, 3);
}

/* A filter [h, w, channels, multiplier]: each channel is a group. */
kaena_status tf_x_depthwise(tf_xlat *x)
{
    static const int64_t perm[] = {2, 3, 0, 1};
    geometry g = read_geometry(x, 2);
    kgr_value *v = enter(x, &g, x->in[0]);
    const kaena_shape *s = tf_known_shape(x, x->in[1]);
    if (x->status == KAENA_OK && s->rank != 4)
        return tf_bad(x, "the filter has %d dimensions, not 4", s->rank);
    int64_t dims[] = {s->dim[2] * s->dim[3], 1, s->dim[0], s->dim[1]}, group = s->dim[2];
    kgr_value *filter = tf_reshape(x, tf_transpose(x, x->in[1], perm, 4), dims, 4);
    return tf_done(x, leave(x, &g, conv_node(x, &g, v, filter, group)));
}

/* The gradient of a convolution for its data, which is a transposed convolution: its result has the
 * size that input 0 says. */
static kaena_status conv_back(tf_xlat *x, int32_t spatial)
{
    geometry g = read_geometry(x, spatial);
    uint32_t n_size;
    const int64_t *size = tf_const_ints(x, x->in[0], "the size of the result", &n_size);
    kgr_value *v = enter(x, &g, x->in[2]), *filter = filter_out_in(x, x->in[1], spatial);
    const kaena_shape *f = tf_known_shape(x, filter), *s = tf_known_shape(x, v);
    int64_t pads[2 * KOP_MAX_SPATIAL], more[KOP_MAX_SPATIAL];
    int32_t first = g.channels_last ? 1 : 2;
    if (x->status != KAENA_OK)
        return x->status;
    /* Newer graphs give the spatial sizes alone. */
    if ((int32_t)n_size != spatial + 2 && (int32_t)n_size != spatial)
        return tf_bad(x, "the size of the result has %u entries, not %d", n_size, spatial + 2);
    for (int32_t i = 0; i < spatial; i++) {
        int64_t wanted = size[(int32_t)n_size == spatial ? i : first + i];
        if (wanted < 0 || wanted > INT32_MAX || f->dim[2 + i] > INT32_MAX ||
            s->dim[2 + i] > INT32_MAX || s->dim[2 + i] < 1)
            return tf_bad(x, "the size of the result is %lld", (long long)wanted);
        int64_t full = (s->dim[2 + i] - 1) * g.stride[i] + (f->dim[2 + i] - 1) * g.dilation[i] + 1;
        int64_t cut = full > wanted ? full - wanted : 0;
        pads[i] = cut / 2;
        pads[spatial + i] = cut - cut / 2;
        if (g.explicit) {
            pads[i] = g.explicit[2 * (first + i)];
            pads[spatial + i] = g.explicit[2 * (first + i) + 1];
        } else if (cut && strcmp(g.padding, "VALID") == 0) {
            return tf_bad(x, "the result of %lld does not fit the data", (long long)wanted);
        }
        more[i] = wanted - (full - pads[i] - pads[spatial + i]);
        if (more[i] < 0)
            return tf_bad(x, "the result of %lld does not fit the data", (long long)wanted);
    }
    kgr_node *n = tf_node_begin(x, KOP_ConvTranspose, (kgr_value *[]){v, filter}, 2, 1);
    tf_set_ints(x, n, "strides", g.stride, (uint32_t)spatial);
    tf_set_ints(x, n, "dilations", g.dilation, (uint32_t)spatial);
    tf_set_ints(x, n, "pads", pads, 2 * (uint32_t)spatial);
    tf_set_ints(x, n, "output_padding", more, (uint32_t)spatial);
    return tf_done(x, leave(x, &g, tf_node_end(x, n)));
}

kaena_status tf_x_conv2d_back(tf_xlat *x)
{
    return conv_back(x, 2);
}

kaena_status tf_x_conv3d_back(tf_xlat *x)
{
    return conv_back(x, 3);
}

/* --- Pooling
 * --------------------------------------------------------------------------------------- */

static geometry pool_geometry(tf_xlat *x, int32_t spatial)
{
    geometry g = read_geometry(x, spatial);
    const int64_t *list;
    uint32_t n;
    if (x->n_in == 3) { /* MaxPoolV2: sizes are operands */
        list = tf_const_ints(x, x->in[1], "the window's size", &n);
        spatial_of(x, &g, "the window's size", list, n, 1, g.kernel);
        list = tf_const_ints(x, x->in[2], "the window's step", &n);
        spatial_of(x, &g, "the window's step", list, n, 1, g.stride);
    } else {
        n = tf_ints(x, "ksize", &list);
        spatial_of(x, &g, "attribute 'ksize'", list, n, 1, g.kernel);
    }
    return g;
}

static kgr_node *pool_node(tf_xlat *x, const geometry *g, kgr_value *v, uint32_t n_out)
{
    kgr_node *n = tf_node_begin(x, x->row->canonical, &v, 1, n_out);
    tf_set_ints(x, n, "kernel_shape", g->kernel, (uint32_t)g->spatial);
    tf_set_ints(x, n, "strides", g->stride, (uint32_t)g->spatial);
    set_padding(x, n, g);
    return n;
}

static kaena_status pool(tf_xlat *x, int32_t spatial)
{
    geometry g = pool_geometry(x, spatial);
    kgr_node *n = pool_node(x, &g, enter(x, &g, x->in[0]), 1);
    return tf_done(x, leave(x, &g, tf_node_end(x, n)));
}

kaena_status tf_x_pool2d(tf_xlat *x)
{
    return pool(x, 2);
}

kaena_status tf_x_pool3d(tf_xlat *x)
{
    return pool(x, 3);
}

/* Places are counted with channels second, over the whole tensor; here they are with channels
 * last, in one image unless include_batch_in_index. */
kaena_status tf_x_pool_argmax(tf_xlat *x)
{
    geometry g = pool_geometry(x, 2);
    kaena_dtype type = x->in[0]->t.dtype;
    bool wide = kaena_dtype_is_int(type); /* the canonical pooling is of floats */
    kgr_value *out[2], *v = enter(x, &g, wide ? tf_cast(x, x->in[0], KAENA_F64) : x->in[0]);
    kaena_shape s = *tf_known_shape(x, v);
    tf_node_results(x, pool_node(x, &g, v, 2), out, 2);
    if (x->status != KAENA_OK)
        return x->status;
    int64_t plane = s.dim[2] * s.dim[3], c = s.dim[1], by_channel[] = {1, c, 1, 1};
    kgr_value *size = tf_i64(x, plane < 1 ? 1 : plane), *channels = tf_i64(x, c < 1 ? 1 : c);
    kgr_value *place = tf_op2(x, KOP_Mod, out[1], size);
    kgr_value *channel = tf_op3(x, KOP_Range, tf_i64(x, 0), tf_i64(x, c), tf_i64(x, 1));
    place = tf_op2(x, KOP_Add, tf_op2(x, KOP_Mul, place, channels),
                   tf_reshape(x, channel, by_channel, 4));
    if (tf_bool(x, "include_batch_in_index", false)) {
        kgr_value *image = tf_op2(x, KOP_Div, out[1], tf_op2(x, KOP_Mul, size, channels));
        place = tf_op2(x, KOP_Add, place,
                       tf_op2(x, KOP_Mul, image, tf_op2(x, KOP_Mul, size, channels)));
    }
    tf_set_out(x, 0, leave(x, &g, tf_cast(x, out[0], type)));
    tf_set_out(x, 1, tf_cast(x, leave(x, &g, place), tf_type(x, "Targmax", KAENA_I64)));
    return x->status;
}

/* --- Patches: what a window sees, laid along the channels
 * -------------------------------------------- */

kaena_status tf_x_extract_patches(tf_xlat *x)
{
    geometry g = {.spatial = 2, .channels_last = true};
    const int64_t *list;
    uint32_t n = tf_ints(x, "ksizes", &list), count = 0;
    spatial_of(x, &g, "attribute 'ksizes'", list, n, 1, g.kernel);
    n = tf_ints(x, "strides", &list);
    spatial_of(x, &g, "attribute 'strides'", list, n, 1, g.stride);
    n = tf_ints(x, "rates", &list);
    spatial_of(x, &g, "attribute 'rates'", list, n, 1, g.dilation);
    bool same = strcmp(tf_string(x, "padding", "VALID"), "SAME") == 0;
    kgr_value *v = x->in[0];
    const kaena_shape *s = tf_known_shape(x, v);
    int64_t out[2], pads[8] = {0};
    if (x->status != KAENA_OK)
        return x->status;
    if (s->rank != 4 || g.kernel[0] * g.kernel[1] > KOP_MAX_INPUTS)
        return tf_lacks(x, "windows of more than %d elements are not supported", KOP_MAX_INPUTS);
    for (int i = 0; i < 2; i++) {
        int64_t in = s->dim[1 + i], reach = (g.kernel[i] - 1) * g.dilation[i] + 1;
        out[i] = same ? (in + g.stride[i] - 1) / g.stride[i] : (in - reach) / g.stride[i] + 1;
        int64_t need = (out[i] - 1) * g.stride[i] + reach - in;
        if (out[i] < 1)
            return tf_bad(x, "the window is larger than the image");
        pads[1 + i] = same && need > 0 ? need / 2 : 0;
        pads[5 + i] = same && need > 0 ? need - need / 2 : 0;
    }
    if (same)
        v = tf_op2(x, KOP_Pad, v, tf_i64s(x, pads, 8));
    kgr_value *parts[KOP_MAX_INPUTS];
    static const int64_t axes[] = {1, 2};
    for (int64_t a = 0; a < g.kernel[0]; a++)
        for (int64_t b = 0; b < g.kernel[1]; b++) {
            int64_t from[] = {a * g.dilation[0], b * g.dilation[1]};
            int64_t to[] = {from[0] + (out[0] - 1) * g.stride[0] + 1,
                            from[1] + (out[1] - 1) * g.stride[1] + 1};
            kgr_value *in[] = {v, tf_i64s(x, from, 2), tf_i64s(x, to, 2), tf_i64s(x, axes, 2),
                               tf_i64s(x, g.stride, 2)};
            parts[count++] = tf_opn(x, KOP_Slice, in, 5);
        }
    return tf_done(x, tf_concat(x, parts, count, 3));
}
