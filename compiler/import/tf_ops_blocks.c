/* Translations: blocks of pixels that become channels or images. */
#include <string.h>

#include "tf_xlat.h"

kaena_status tf_x_depth_space(tf_xlat *x)
{
    bool nchw = strcmp(tf_string(x, "data_format", "NHWC"), "NCHW") == 0;
    kgr_value *v = nchw ? x->in[0] : tf_channels_second(x, x->in[0]);
    kgr_node *n = tf_node_begin(x, x->row->canonical, &v, 1, 1);
    tf_set_int(x, n, "blocksize", tf_int(x, "block_size", 0));
    v = tf_node_end(x, n);
    return tf_done(x, nchw ? v : tf_channels_last(x, v));
}

/* The sizes of the block, and the pairs of numbers beside them as int64 [n,2]. */
static const int64_t *read_block(tf_xlat *x, kgr_value **pairs, uint32_t *n)
{
    const int64_t *block = tf_const_ints(x, x->in[1], "the block's shape", n);
    int32_t rank = tf_rank(x, x->in[0]);
    *pairs = x->status == KAENA_OK ? tf_cast(x, x->in[2], KAENA_I64) : NULL;
    if (x->status == KAENA_OK &&
        ((int64_t)*n + 1 > rank || rank + (int64_t)*n > KAENA_MAX_RANK ||
         (*pairs)->t.shape.rank != 2 || (*pairs)->t.shape.dim[0] != (int64_t)*n))
        (void)tf_bad(x, "%u dimensions of blocks and what stands beside them do not fit %d of data",
                     *n, rank);
    for (uint32_t i = 0; x->status == KAENA_OK && i < *n; i++)
        if (block[i] < 1 || block[i] > INT32_MAX)
            (void)tf_bad(x, "a block of %lld", (long long)block[i]);
    return block;
}

/* A shape in the making: parts of one element. */
typedef struct dims {
    kgr_value *part[2 * KAENA_MAX_RANK];
    uint32_t n;
} dims;

static void add_dim(tf_xlat *x, dims *d, kgr_value *size)
{
    d->part[d->n++] = tf_unsqueeze(x, size, 0);
}

static kgr_value *reshape(tf_xlat *x, kgr_value *v, const dims *d)
{
    return tf_op2(x, KOP_Reshape, v, tf_concat(x, d->part, d->n, 0));
}

/* Column |i| of pairs as a vector. */
static kgr_value *column(tf_xlat *x, kgr_value *pairs, int64_t i)
{
    return tf_squeeze(x, tf_slice(x, pairs, 1, i, i + 1, 1), 1);
}

static kgr_value *zeros(tf_xlat *x, int64_t n)
{
    static const int64_t none[KAENA_MAX_RANK];
    return tf_i64s(x, none, (uint32_t)n);
}

kaena_status tf_x_space_to_batch(tf_xlat *x)
{
    kgr_value *pairs;
    uint32_t n, k = 0;
    const int64_t *block = read_block(x, &pairs, &n);
    int32_t rank = tf_rank(x, x->in[0]);
    int64_t perm[KAENA_MAX_RANK], product = 1;
    if (x->status != KAENA_OK)
        return x->status;
    kgr_value *pads[] = {zeros(x, 1), column(x, pairs, 0), zeros(x, rank - 1 - (int64_t)n),
                         zeros(x, 1), column(x, pairs, 1), zeros(x, rank - 1 - (int64_t)n)};
    kgr_value *v = tf_op2(x, KOP_Pad, x->in[0], tf_concat(x, pads, 6, 0));
    dims parts = {.n = 0}, whole = {.n = 0};
    add_dim(x, &parts, tf_dim(x, v, 0));
    for (uint32_t i = 0; i < n; i++) {
        add_dim(x, &parts, tf_op2(x, KOP_Div, tf_dim(x, v, 1 + (int32_t)i), tf_i64(x, block[i])));
        add_dim(x, &parts, tf_i64(x, block[i]));
        product *= block[i] < 65536 && product < 65536 ? block[i] : 0;
    }
    add_dim(x, &whole, tf_op2(x, KOP_Mul, tf_dim(x, v, 0), tf_i64(x, product)));
    for (uint32_t i = 0; i < n; i++)
        whole.part[whole.n++] = parts.part[1 + 2 * i];
    for (int32_t i = (int32_t)n + 1; i < rank; i++) {
        add_dim(x, &parts, tf_dim(x, v, i));
        add_dim(x, &whole, tf_dim(x, v, i));
    }
    /* [N, h, bh, w, bw, C] -> [bh, bw, N, h, w, C] */
    for (uint32_t i = 0; i < n; i++)
        perm[k++] = 2 + 2 * i;
    perm[k++] = 0;
    for (uint32_t i = 0; i < n; i++)
        perm[k++] = 1 + 2 * i;
    for (uint32_t i = 2 * n + 1; i < parts.n; i++)
        perm[k++] = i;
    v = tf_transpose(x, reshape(x, v, &parts), perm, parts.n);
    return tf_done(x, reshape(x, v, &whole));
}

kaena_status tf_x_batch_to_space(tf_xlat *x)
{
    kgr_value *pairs;
    uint32_t n, at = 0, k = 0;
    const int64_t *block = read_block(x, &pairs, &n);
    const kaena_shape *s = tf_known_shape(x, x->in[0]);
    int64_t sizes[KAENA_MAX_RANK], perm[KAENA_MAX_RANK], axes[KAENA_MAX_RANK], batch = s->dim[0];
    if (x->status != KAENA_OK)
        return x->status;
    uint32_t rank = (uint32_t)s->rank;
    for (uint32_t i = 0; i < n; i++) {
        if (batch % block[i])
            return tf_bad(x, "the batch is no multiple of the block");
        batch /= block[i];
        sizes[at++] = block[i];
    }
    sizes[at++] = batch;
    for (uint32_t i = 1; i < rank; i++)
        sizes[at++] = s->dim[i];
    /* [bh, bw, N, h, w, C] -> [N, h, bh, w, bw, C] */
    perm[k++] = n;
    for (uint32_t i = 0; i < n; i++) {
        perm[k++] = n + 1 + i;
        perm[k++] = i;
    }
    for (uint32_t i = 2 * n + 1; i < at; i++)
        perm[k++] = i;
    kgr_value *v = tf_transpose(x, tf_reshape(x, x->in[0], sizes, at), perm, at);
    sizes[0] = batch;
    for (uint32_t i = 1; i < rank; i++) {
        axes[i - 1] = i;
        sizes[i] = i > n ? s->dim[i] : s->dim[i] < INT32_MAX ? s->dim[i] * block[i - 1] : 0;
    }
    v = tf_reshape(x, v, sizes, rank);
    kgr_value *end = tf_op2(x, KOP_Sub, tf_i64s(x, sizes + 1, n), column(x, pairs, 1));
    kgr_value *in[] = {v, column(x, pairs, 0), end, tf_i64s(x, axes, n)};
    return tf_done(x, tf_opn(x, KOP_Slice, in, 4));
}
