/* Translations: products, biases, normalisation, losses. */
#include <string.h>

#include "tf_xlat.h"

/* --- Products
 * -------------------------------------------------------------------------------------- */

/* |v| with its last two dimensions exchanged. */
static kgr_value *turned(tf_xlat *x, kgr_value *v, bool turn)
{
    int32_t rank = tf_rank(x, v);
    if (turn && rank < 2 && rank >= 0)
        (void)tf_bad(x, "an operand has %d dimensions", rank);
    return turn && rank >= 2 ? tf_move_axis(x, v, rank - 2, rank - 1) : v;
}

kaena_status tf_x_mat_mul(tf_xlat *x)
{
    kgr_value *a = turned(x, x->in[0], tf_bool(x, "transpose_a", false));
    kgr_value *b = turned(x, x->in[1], tf_bool(x, "transpose_b", false));
    return tf_done(x, tf_op2(x, KOP_MatMul, a, b));
}

kaena_status tf_x_batch_mat_mul(tf_xlat *x)
{
    kgr_value *a = turned(x, x->in[0], tf_bool(x, "adj_x", false));
    kgr_value *b = turned(x, x->in[1], tf_bool(x, "adj_y", false));
    return tf_done(x, tf_op2(x, KOP_MatMul, a, b));
}

/* --- Per channel
 * ------------------------------------------------------------------------------------ */

static bool is_channels_second(tf_xlat *x)
{
    return strncmp(tf_string(x, "data_format", "NHWC"), "NC", 2) == 0;
}

kaena_status tf_x_bias_add(tf_xlat *x)
{
    kgr_value *v = x->in[0], *bias = x->in[1];
    if (is_channels_second(x) && tf_rank(x, bias) == 1)
        for (int32_t i = 2; i < tf_rank(x, v); i++)
            bias = tf_unsqueeze(x, bias, i - 1);
    return tf_done(x, tf_op2(x, KOP_Add, v, bias));
}

/* Mean and variance of each channel of |v|, whose channels are second. */
static void batch_moments(tf_xlat *x, kgr_value *v, kgr_value **mean, kgr_value **variance)
{
    int64_t axes[KAENA_MAX_RANK] = {0};
    uint32_t n = 1;
    for (int32_t i = 2; i < tf_rank(x, v); i++)
        axes[n++] = i;
    kgr_value *m = tf_reduce(x, KOP_ReduceMean, v, axes, n, true);
    kgr_value *d = tf_op2(x, KOP_Sub, v, m);
    *variance = tf_reduce(x, KOP_ReduceMean, tf_op2(x, KOP_Mul, d, d), axes, n, false);
    *mean = tf_op2(x, KOP_Squeeze, m, tf_i64s(x, axes, n));
}

/* Variance as a sample's: n / (n - 1) of it. */
static kgr_value *unbiased(tf_xlat *x, const kgr_value *v, kgr_value *variance)
{
    const kaena_shape *s = tf_known_shape(x, v);
    int64_t all = 1;
    if (x->status != KAENA_OK || !kaena_shape_elements(s, &all) || s->dim[1] < 1)
        return variance;
    double n = (double)(all / s->dim[1]);
    return tf_op2(x, KOP_Mul, variance, tf_number(x, variance, n / (n > 1 ? n - 1 : 1)));
}

kaena_status tf_x_fused_batch_norm(tf_xlat *x)
{
    bool second = is_channels_second(x), training = tf_bool(x, "is_training", true);
    kgr_value *v = second ? x->in[0] : tf_channels_second(x, x->in[0]);
    kgr_value *mean = x->in[3], *variance = x->in[4], *sample = variance;
    if (tf_rank(x, v) == 2)
        second = true;
    kaena_dtype type = v ? v->t.dtype : KAENA_DTYPE_NONE;
    if (training) {
        v = tf_cast(x, v, KAENA_F32);
        batch_moments(x, v, &mean, &variance);
        sample = unbiased(x, v, variance);
    }
    kgr_value *in[] = {v, x->in[1], x->in[2], mean, variance};
    for (int i = 1; i < 5; i++) /* a float16 model has float32 parameters */
        in[i] = x->status == KAENA_OK ? tf_cast(x, in[i], v->t.dtype) : NULL;
    kgr_node *n = tf_node_begin(x, KOP_BatchNormalization, in, 5, 1);
    tf_set_float(x, n, "epsilon", tf_float(x, "epsilon", 1e-4f));
    kgr_value *y = tf_cast(x, tf_node_end(x, n), type);
    tf_set_out(x, 0, second ? y : tf_channels_last(x, y));
    tf_set_out(x, 1, mean);
    tf_set_out(x, 2, sample);
    tf_set_out(x, 3, mean);
    tf_set_out(x, 4, variance);
    tf_set_out(x, 5, variance);
    return x->status;
}

kaena_status tf_x_lrn(tf_xlat *x)
{
    int64_t size = 2 * tf_int(x, "depth_radius", 5) + 1;
    if (size < 1 || size > INT32_MAX)
        return tf_bad(x, "attribute 'depth_radius' makes a window of %lld", (long long)size);
    kgr_value *v = tf_channels_second(x, x->in[0]);
    kgr_node *n = tf_node_begin(x, KOP_LRN, &v, 1, 1);
    tf_set_int(x, n, "size", size);
    /* The canonical alpha is divided by the size. */
    tf_set_float(x, n, "alpha", tf_float(x, "alpha", 1) * (float)size);
    tf_set_float(x, n, "beta", tf_float(x, "beta", 0.5f));
    tf_set_float(x, n, "bias", tf_float(x, "bias", 1));
    return tf_done(x, tf_channels_last(x, tf_node_end(x, n)));
}

/* --- Classes: along the last dimension
 * ---------------------------------------------------------------- */

static kgr_value *last_axis(tf_xlat *x, kop_op op, kgr_value *v)
{
    kgr_node *n = tf_node_begin(x, op, &v, 1, 1);
    tf_set_int(x, n, "axis", -1);
    return tf_node_end(x, n);
}

kaena_status tf_x_softmax(tf_xlat *x)
{
    return tf_done(x, last_axis(x, x->row->canonical, x->in[0]));
}

static kgr_value *sum_last(tf_xlat *x, kgr_value *v)
{
    static const int64_t last = -1;
    return tf_reduce(x, KOP_ReduceSum, v, &last, 1, false);
}

/* The loss of each row and its gradient. */
static kaena_status cross_entropy(tf_xlat *x, kgr_value *logits, kgr_value *labels)
{
    kgr_value *log = last_axis(x, KOP_LogSoftmax, logits);
    kgr_value *loss = tf_op1(x, KOP_Neg, sum_last(x, tf_op2(x, KOP_Mul, labels, log)));
    tf_set_out(x, 0, loss);
    tf_set_out(x, 1, tf_op2(x, KOP_Sub, last_axis(x, KOP_Softmax, logits), labels));
    return x->status;
}

kaena_status tf_x_cross_entropy(tf_xlat *x)
{
    return cross_entropy(x, x->in[0], x->in[1]);
}

kaena_status tf_x_sparse_cross_entropy(tf_xlat *x)
{
    kgr_value *logits = x->in[0];
    const kaena_shape *s = tf_known_shape(x, logits);
    if (x->status == KAENA_OK && s->rank != 2)
        return tf_bad(x, "the logits have %d dimensions, not 2", s->rank);
    kgr_value *depth = tf_i64(x, s->dim[1]);
    kgr_value *values[] = {tf_unsqueeze(x, tf_number(x, logits, 0), 0),
                           tf_unsqueeze(x, tf_number(x, logits, 1), 0)};
    kgr_value *in[] = {tf_cast(x, x->in[1], KAENA_I64), depth, tf_concat(x, values, 2, 0)};
    return cross_entropy(x, logits, tf_opn(x, KOP_OneHot, in, 3));
}

/* --- Cells
 * ------------------------------------------------------------------------------------------ */

/* Column block |i| of |n| of the last dimension. */
static kgr_value *block(tf_xlat *x, kgr_value *v, int64_t i, int64_t n)
{
    int32_t rank = tf_rank(x, v);
    if (x->status != KAENA_OK || rank < 1)
        return NULL;
    int64_t size = v->t.shape.dim[rank - 1] / n;
    return tf_slice(x, v, -1, i * size, (i + 1) * size, 1);
}

typedef struct lstm {
    kgr_value *w, *b, *wci, *wcf, *wco;
    bool peephole;
    bool ifco; /* the order of the gates: input, forget, cell, output; else cell before forget */
    double forget_bias, clip;
} lstm;

/* i, cs, f, o, ci, co, h of one step, in this order into |out|. */
static void lstm_step(tf_xlat *x, const lstm *l, kgr_value *v, kgr_value *c, kgr_value *h,
                      kgr_value *out[7])
{
    kgr_value *all = tf_concat(x, (kgr_value *[]){v, h}, 2, 1);
    all = tf_op2(x, KOP_Add, tf_op2(x, KOP_MatMul, all, l->w), l->b);
    kgr_value *i = block(x, all, 0, 4), *g = block(x, all, l->ifco ? 2 : 1, 4);
    kgr_value *f = block(x, all, l->ifco ? 1 : 2, 4), *o = block(x, all, 3, 4);
    f = tf_op2(x, KOP_Add, f, tf_number(x, f, l->forget_bias));
    if (l->peephole) {
        i = tf_op2(x, KOP_Add, i, tf_op2(x, KOP_Mul, c, l->wci));
        f = tf_op2(x, KOP_Add, f, tf_op2(x, KOP_Mul, c, l->wcf));
    }
    i = tf_op1(x, KOP_Sigmoid, i);
    f = tf_op1(x, KOP_Sigmoid, f);
    g = tf_op1(x, KOP_Tanh, g);
    c = tf_op2(x, KOP_Add, tf_op2(x, KOP_Mul, g, i), tf_op2(x, KOP_Mul, c, f));
    if (l->clip > 0)
        c = tf_op3(x, KOP_Clip, c, tf_number(x, c, -l->clip), tf_number(x, c, l->clip));
    if (l->peephole)
        o = tf_op2(x, KOP_Add, o, tf_op2(x, KOP_Mul, c, l->wco));
    o = tf_op1(x, KOP_Sigmoid, o);
    kgr_value *co = tf_op1(x, KOP_Tanh, c);
    kgr_value *results[] = {i, c, f, o, g, co, tf_op2(x, KOP_Mul, co, o)};
    memcpy(out, results, sizeof results);
}

/* The weights begin at input |first|. */
static lstm read_lstm(tf_xlat *x, uint32_t first, double clip)
{
    return (lstm){.w = x->in[first],
                  .wci = x->in[first + 1],
                  .wcf = x->in[first + 2],
                  .wco = x->in[first + 3],
                  .b = x->in[first + 4],
                  .peephole = tf_bool(x, "use_peephole", false),
                  .forget_bias = (double)tf_float(x, "forget_bias", 1),
                  .clip = (double)tf_float(x, "cell_clip", (float)clip)};
}

kaena_status tf_x_lstm_cell(tf_xlat *x)
{
    lstm l = read_lstm(x, 3, 3);
    kgr_value *out[7];
    lstm_step(x, &l, x->in[0], x->in[1], x->in[2], out);
    for (uint32_t i = 0; i < 7; i++)
        tf_set_out(x, i, out[i]);
    return x->status;
}

#define MAX_STEPS 256 /* of a loop that is unrolled */

static kaena_status block_lstm(tf_xlat *x, bool v2)
{
    lstm l = read_lstm(x, 4, v2 ? 0 : 3);
    kgr_value *c = x->in[2], *h = x->in[3], **steps[7];
    const kaena_shape *s = tf_known_shape(x, x->in[1]);
    l.ifco = v2;
    if (v2)
        l.forget_bias = 0;
    int64_t n = s->dim[0];
    if (x->status != KAENA_OK)
        return x->status;
    if (s->rank != 3 || n < 1)
        return tf_bad(x, "the data has %d dimensions, or no steps", s->rank);
    if (n > MAX_STEPS)
        return tf_lacks(x, "%lld steps; at most %d are supported", (long long)n, MAX_STEPS);
    int64_t most = tf_const_int(x, x->in[0], "the number of steps");
    if (x->status == KAENA_OK && most < n)
        return tf_lacks(x, "fewer steps than the data has are not supported");
    for (int k = 0; k < 7; k++) {
        steps[k] = KAENA_NEW_N(x->imp->arena, kgr_value *, (size_t)n);
        if (!steps[k])
            return KAENA_FAIL(x->imp->err, RESOURCE_EXHAUSTED, "no memory for the graph");
    }
    for (int64_t t = 0; t < n && x->status == KAENA_OK; t++) {
        kgr_value *out[7];
        lstm_step(x, &l, tf_squeeze(x, tf_slice(x, x->in[1], 0, t, t + 1, 1), 0), c, h, out);
        c = out[1];
        h = out[6];
        for (int k = 0; k < 7; k++)
            steps[k][t] = tf_unsqueeze(x, out[k], 0);
    }
    for (uint32_t k = 0; k < 7 && x->status == KAENA_OK; k++)
        tf_set_out(x, k, tf_concat(x, steps[k], (uint32_t)n, 0));
    return x->status;
}

kaena_status tf_x_block_lstm(tf_xlat *x)
{
    return block_lstm(x, false);
}

kaena_status tf_x_block_lstm_v2(tf_xlat *x)
{
    return block_lstm(x, true);
}

kaena_status tf_x_gru_cell(tf_xlat *x)
{
    kgr_value *v = x->in[0], *h = x->in[1];
    kgr_value *ru = tf_concat(x, (kgr_value *[]){v, h}, 2, 1);
    ru = tf_op1(x, KOP_Sigmoid, tf_op2(x, KOP_Add, tf_op2(x, KOP_MatMul, ru, x->in[2]), x->in[4]));
    kgr_value *r = block(x, ru, 0, 2), *u = block(x, ru, 1, 2);
    kgr_value *c = tf_concat(x, (kgr_value *[]){v, tf_op2(x, KOP_Mul, r, h)}, 2, 1);
    c = tf_op1(x, KOP_Tanh, tf_op2(x, KOP_Add, tf_op2(x, KOP_MatMul, c, x->in[3]), x->in[5]));
    kgr_value *rest = tf_op2(x, KOP_Sub, tf_number(x, u, 1), u);
    tf_set_out(x, 0, r);
    tf_set_out(x, 1, u);
    tf_set_out(x, 2, c);
    tf_set_out(x, 3, tf_op2(x, KOP_Add, tf_op2(x, KOP_Mul, u, h), tf_op2(x, KOP_Mul, rest, c)));
    return x->status;
}
