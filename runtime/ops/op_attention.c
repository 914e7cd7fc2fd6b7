/* Attention and RotaryEmbedding, of operator set 23. */
#include "ops_impl.h"

#include <math.h>

/* --- Attention: (Q, K, V, [mask], [past key], [past value]) ----------------------------------- */

/* Sizes; KAENA_DIM_UNKNOWN where they are not known. */
typedef struct attention {
    bool flat;            /* heads lie in the last dimension: [batch, length, heads * size] */
    int64_t batch, heads; /* of Q */
    int64_t kv_heads;
    int64_t rows;         /* length of Q */
    int64_t now, past;    /* lengths of K, and of what was before */
    int64_t size, v_size; /* of a head of Q and K, and of V */
} attention;

/* Dimensions of Q, K or V as [batch, heads, length, size]. */
static kaena_status split_heads(const kop_call *call, uint32_t i, const char *heads_name,
                                int64_t out[4])
{
    const kop_tensor *t = call->in[i];
    int64_t heads = kop_attr_int(call, heads_name, 0);
    const int64_t *d = t->shape.dim;
    if (t->shape.rank == 4) {
        memcpy(out, d, 4 * sizeof *out);
        return KAENA_OK;
    }
    if (heads < 1 || (d[2] >= 0 && d[2] % heads))
        return KOP_BAD(call, "%s does not divide dimension 2 of input %u", heads_name, i);
    out[0] = d[0];
    out[1] = heads;
    out[2] = d[1];
    out[3] = d[2] < 0 ? KAENA_DIM_UNKNOWN : d[2] / heads;
    return KAENA_OK;
}

/* All three are ranked. */
static kaena_status attention_of(const kop_call *call, attention *out)
{
    int64_t q[4], k[4], v[4];
    const kop_tensor *past = kop_in(call, 4), *past_v = kop_in(call, 5);
    for (uint32_t i = 0; i < 3; i++)
        if (call->in[i]->shape.rank != call->in[0]->shape.rank ||
            (call->in[i]->shape.rank != 3 && call->in[i]->shape.rank != 4))
            return KOP_BAD(call, "Q, K and V must all have rank 3 or all rank 4");
    KAENA_TRY(split_heads(call, 0, "q_num_heads", q));
    KAENA_TRY(split_heads(call, 1, "kv_num_heads", k));
    KAENA_TRY(split_heads(call, 2, "kv_num_heads", v));
    attention a = {.flat = call->in[0]->shape.rank == 3,
                   .batch = q[0],
                   .heads = q[1],
                   .kv_heads = k[1],
                   .rows = q[2],
                   .now = k[2],
                   .size = q[3],
                   .v_size = v[3]};
    bool known = kop_known(call->in[0]) && kop_known(call->in[1]) && kop_known(call->in[2]);
    bool fits = !known || (q[0] == k[0] && q[0] == v[0] && k[1] == v[1] && k[2] == v[2] &&
                           q[3] == k[3] && k[1] > 0 && q[1] % k[1] == 0);
    if (!past != !past_v)
        return KOP_BAD(call, "past key and value must be given together");
    for (uint32_t i = 4; i < 6 && past; i++) {
        const kop_tensor *t = call->in[i];
        KAENA_TRY(kop_need_rank(call, i, 4));
        if (i == 4)
            a.past = t->unranked ? KAENA_DIM_UNKNOWN : t->shape.dim[2];
        if (known && kop_known(t))
            fits &= t->shape.dim[0] == k[0] && t->shape.dim[1] == k[1] &&
                    t->shape.dim[2] == a.past && t->shape.dim[3] == (i == 4 ? k[3] : v[3]);
    }
    if (!fits)
        return KOP_BAD(call, "batches, heads, lengths or sizes of Q, K, V and the past do not fit");
    *out = a;
    return KAENA_OK;
}

/* A length with what was before. */
static int64_t total_of(const attention *a)
{
    int64_t n;
    return a->now < 0 || a->past < 0 || !kaena_add_i64(a->now, a->past, &n) ? KAENA_DIM_UNKNOWN : n;
}

static kaena_status check_mask(const kop_call *call, const attention *a)
{
    const kop_tensor *mask = kop_in(call, 3);
    kaena_shape scores = {.rank = 4, .dim = {a->batch, a->heads, a->rows, total_of(a)}}, both;
    if (!kop_known(mask) || !kaena_shape_known(&scores))
        return KAENA_OK;
    if (!kaena_shape_broadcast(&mask->shape, &scores, &both) || !kaena_shape_equal(&both, &scores))
        return KOP_BAD(call, "the mask does not broadcast to [batch, heads, rows, columns]");
    return KAENA_OK;
}

kaena_status kop_infer_attention(kop_call *call)
{
    int64_t mode = kop_attr_int(call, "qk_matmul_output_mode", 0);
    kaena_dtype type = kop_in_type(call, 0), v_type = kop_in_type(call, 2);
    attention a;
    for (uint32_t i = 0; i < call->n_in; i++)
        KAENA_TRY(kop_need(call, i, i == 3 ? KOP_T_NUM | KOP_T_BOOL : KOP_T_FLOAT));
    KAENA_TRY(kop_need_same(call, 0, 1));
    KAENA_TRY(kop_need_same(call, 1, 4));
    KAENA_TRY(kop_need_same(call, 2, 5));
    if (mode < 0 || mode > 3)
        return KOP_BAD(call, "qk_matmul_output_mode must be 0 to 3");
    for (uint32_t i = 0; i < 3; i++)
        if (call->in[i]->unranked) {
            for (uint32_t k = 0; k < call->n_out; k++)
                kop_out_unranked(call, k, k == 2 ? v_type : type);
            return KAENA_OK;
        }
    KAENA_TRY(attention_of(call, &a));
    KAENA_TRY(check_mask(call, &a));
    kaena_shape y = {.rank = 4, .dim = {a.batch, a.heads, a.rows, a.v_size}};
    kaena_shape key = {.rank = 4, .dim = {a.batch, a.kv_heads, total_of(&a), a.size}};
    kaena_shape value = key, scores = {.rank = 4, .dim = {a.batch, a.heads, a.rows, total_of(&a)}};
    value.dim[3] = a.v_size;
    if (a.flat) {
        y = (kaena_shape){.rank = 3, .dim = {a.batch, a.rows, KAENA_DIM_UNKNOWN}};
        if (a.v_size >= 0 && !kaena_mul_i64(a.heads, a.v_size, &y.dim[2]))
            return KOP_BAD(call, "heads of %" PRId64 " elements are too many", a.v_size);
    }
    kop_out(call, 0, type, &y);
    kop_out(call, 1, type, &key);
    kop_out(call, 2, v_type, &value);
    kop_out(call, 3, type, &scores);
    return KAENA_OK;
}

/* One product of matrices of doubles. */
typedef struct product {
    kop_matrix a, b;
    int64_t k;
    double *c;
    int64_t row; /* stride of C's rows */
} product;

static void pack_a(void *ctx, int64_t m0, int64_t mr, double *dst)
{
    const product *p = ctx;
    kop_pack_rows(&p->a, p->k, m0, mr, dst);
}

static void pack_b(void *ctx, int64_t n0, int64_t nr, double *dst)
{
    const product *p = ctx;
    kop_pack_cols(&p->b, p->k, n0, nr, dst);
}

static void store(void *ctx, int64_t m0, int64_t mr, int64_t n0, int64_t nr, const double *c)
{
    const product *p = ctx;
    for (int64_t i = 0; i < mr; i++)
        memcpy(p->c + (m0 + i) * p->row + n0, c + i * KOP_GEMM_NR, (size_t)nr * sizeof *c);
}

static kaena_status multiply(kop_call *call, int64_t m, int64_t n, product *p)
{
    kop_gemm g = {
        .m = m, .n = n, .k = p->k, .ctx = p, .pack_a = pack_a, .pack_b = pack_b, .store = store};
    return kop_gemm_run(call, &g);
}

/* Input |i| with what input |past| has before it, as [batch][heads][length][size]. */
static double *with_past(kop_call *call, const attention *a, uint32_t i, uint32_t past,
                         int64_t heads, int64_t now, int64_t size)
{
    const kop_tensor *x = call->in[i], *before = past ? kop_in(call, past) : NULL;
    int64_t old = before ? a->past : 0, lines = a->batch * heads;
    double *out = kop_alloc(call, (size_t)(lines * (old + now)), (size_t)size * sizeof *out);
    for (int64_t line = 0; out && line < lines && size > 0; line++) {
        double *to = out + line * (old + now) * size;
        if (old > 0)
            kop_load_f64(before, (size_t)(line * old * size), (size_t)(old * size), to);
        for (int64_t r = 0; r < now; r++) {
            int64_t from =
                a->flat ? (line / heads * now + r) * heads + line % heads : line * now + r;
            kop_load_f64(x, (size_t)(from * size), (size_t)size, to + (old + r) * size);
        }
    }
    return out;
}

/* Adds the mask and, for causal attention, hides what comes later. */
static void apply_mask(const kop_call *call, const attention *a, const kop_bcast *b, int64_t line,
                       double *scores)
{
    const kop_tensor *mask = kop_in(call, 3);
    bool causal = kop_attr_int(call, "is_causal", 0) != 0;
    int64_t columns = total_of(a), n = a->rows * columns, inner = b ? b->dim[b->rank - 1] : 1;
    for (int64_t i = 0; i < n; i++) {
        if (mask) {
            int64_t at = line * n + i;
            double v = kop_get_float(mask, (size_t)(kop_bcast_offset(b, 0, at / inner) +
                                                    at % inner * b->stride[0][b->rank - 1]));
            scores[i] += mask->dtype != KAENA_BOOL ? v : v != 0 ? 0 : -INFINITY;
        }
        if (causal && i % columns > i / columns)
            scores[i] = -INFINITY;
    }
}

/* A row that sees nothing becomes zeros. */
static void softmax(double *row, int64_t n)
{
    double top = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        top = row[i] > top ? row[i] : top;
    for (int64_t i = 0; i < n; i++)
        sum += row[i] = top == -INFINITY ? 0 : exp(row[i] - top);
    for (int64_t i = 0; i < n && sum != 0; i++)
        row[i] /= sum;
}

static kaena_status attend(kop_call *call, const attention *a, const double *q, const double *k,
                           const double *v)
{
    int64_t columns = total_of(a), n, share = a->heads / a->kv_heads;
    int64_t mode = kop_attr_int(call, "qk_matmul_output_mode", 0);
    double softcap = (double)kop_attr_float(call, "softcap", 0);
    double scale = (double)kop_attr_float(call, "scale", 0);
    kop_bcast *b = NULL;
    if (!kaena_mul_i64(a->rows, columns, &n)) /* heads of no elements can be that many */
        return KOP_BAD(call, "%" PRId64 " by %" PRId64 " scores", a->rows, columns);
    if (scale == 0)
        scale = 1 / sqrt((double)a->size);
    double *scores = kop_alloc(call, (size_t)n, sizeof *scores);
    double *y = scores ? kop_alloc(call, (size_t)a->rows, (size_t)a->v_size * sizeof *y) : NULL;
    if (y && kop_in(call, 3) && (b = kop_alloc(call, 1, sizeof *b)) != NULL)
        kop_bcast_init(b, &(kaena_shape){.rank = 4, .dim = {a->batch, a->heads, a->rows, columns}},
                       call->in + 3, 1);
    if (!y || (kop_in(call, 3) && !b))
        return KAENA_RESOURCE_EXHAUSTED;
    for (int64_t line = 0; line < a->batch * a->heads; line++) {
        int64_t kv = line / a->heads * a->kv_heads + line % a->heads / share;
        product qk = {.a = {q + line * a->rows * a->size, true, a->size, 1},
                      .b = {k + kv * columns * a->size, true, 1, a->size},
                      .k = a->size,
                      .c = scores,
                      .row = columns};
        product pv = {.a = {scores, true, columns, 1},
                      .b = {v + kv * columns * a->v_size, true, a->v_size, 1},
                      .k = columns,
                      .c = y,
                      .row = a->v_size};
        KAENA_TRY(multiply(call, a->rows, columns, &qk));
        for (int64_t i = 0; i < n; i++)
            scores[i] *= scale;
        for (int64_t stage = 0; stage <= 3; stage++) {
            if (stage == 1)
                apply_mask(call, a, b, line, scores);
            for (int64_t i = 0; i < n && stage == 2 && softcap != 0; i++)
                scores[i] = softcap * tanh(scores[i] / softcap);
            for (int64_t r = 0; r < a->rows && stage == 3; r++)
                softmax(scores + r * columns, columns);
            if (stage == mode && call->n_out > 3 && n > 0)
                kop_store_f64(&call->out[3], (size_t)(line * n), (size_t)n, scores);
        }
        KAENA_TRY(multiply(call, a->rows, a->v_size, &pv));
        for (int64_t r = 0; r < a->rows && a->v_size > 0; r++) {
            int64_t to = a->flat ? (line / a->heads * a->rows + r) * a->heads + line % a->heads
                                 : line * a->rows + r;
            kop_store_f64(&call->out[0], (size_t)(to * a->v_size), (size_t)a->v_size,
                          y + r * a->v_size);
        }
    }
    return KAENA_OK;
}

kaena_status kop_eval_attention(kop_call *call)
{
    attention a;
    KAENA_TRY(attention_of(call, &a));
    double *q = with_past(call, &a, 0, 0, a.heads, a.rows, a.size);
    double *k = q ? with_past(call, &a, 1, 4, a.kv_heads, a.now, a.size) : NULL;
    double *v = k ? with_past(call, &a, 2, 5, a.kv_heads, a.now, a.v_size) : NULL;
    if (!v)
        return KAENA_RESOURCE_EXHAUSTED;
    for (uint32_t i = 1; i < 3 && i < call->n_out; i++)
        if (kop_elements(&call->out[i]) > 0)
            kop_store_f64(&call->out[i], 0, kop_elements(&call->out[i]), i == 1 ? k : v);
    return attend(call, &a, q, k, v);
}

/* --- RotaryEmbedding: pairs of elements turn by an angle that the position says ----------------
 */

typedef struct rotary {
    int64_t batch, heads, length, size; /* of the input, whatever its layout */
    int64_t half;                       /* pairs that turn */
    bool flat, interleaved;
} rotary;

/* The input's shape is known. */
static kaena_status rotary_of(const kop_call *call, rotary *out)
{
    const kop_tensor *x = call->in[0], *position = kop_in(call, 3);
    rotary r = {.flat = x->shape.rank == 3,
                .interleaved = kop_attr_int(call, "interleaved", 0) != 0};
    int64_t dims[4], turned = kop_attr_int(call, "rotary_embedding_dim", 0);
    if (x->shape.rank != 3 && x->shape.rank != 4)
        return KOP_BAD(call, "the input must have rank 3 or 4");
    KAENA_TRY(split_heads(call, 0, "num_heads", dims));
    r.batch = dims[0];
    r.heads = dims[1];
    r.length = dims[2];
    r.size = dims[3];
    turned = turned ? turned : r.size;
    r.half = turned / 2;
    if (turned < 0 || turned > r.size || turned % 2)
        return KOP_BAD(call, "%" PRId64 " of %" PRId64 " elements cannot turn", turned, r.size);
    for (uint32_t i = 1; i < 3; i++) {
        const kop_tensor *t = call->in[i];
        if (!kop_known(t))
            continue;
        bool fits = position ? t->shape.rank == 2 && t->shape.dim[1] == r.half
                             : t->shape.rank == 3 && t->shape.dim[0] == r.batch &&
                                   t->shape.dim[1] == r.length && t->shape.dim[2] == r.half;
        if (!fits || (i == 2 && kop_known(call->in[1]) &&
                      !kaena_shape_equal(&t->shape, &call->in[1]->shape)))
            return KOP_BAD(call, "input %u does not hold one number for each pair and position", i);
    }
    if (kop_known(position) && (position->shape.rank != 2 || position->shape.dim[0] != r.batch ||
                                position->shape.dim[1] != r.length))
        return KOP_BAD(call, "positions must be [batch, length]");
    *out = r;
    return KAENA_OK;
}

kaena_status kop_infer_rotary(kop_call *call)
{
    rotary r;
    for (uint32_t i = 0; i < 3; i++) {
        KAENA_TRY(kop_need(call, i, KOP_T_FLOAT));
        KAENA_TRY(kop_need_same(call, 0, i));
    }
    KAENA_TRY(kop_need(call, 3, KOP_T(KAENA_I64)));
    if (kop_known(call->in[0]))
        KAENA_TRY(rotary_of(call, &r));
    return kop_infer_same(call);
}

kaena_status kop_eval_rotary(kop_call *call)
{
    const kop_tensor *x = call->in[0], *position = kop_in(call, 3);
    kop_tensor *out = &call->out[0];
    rotary r;
    KAENA_TRY(rotary_of(call, &r));
    KAENA_TRY(kop_eval_identity(call));
    if (kop_elements(x) == 0)
        return KAENA_OK;
    for (int64_t i = 0; i < r.batch * r.heads * r.length; i++) {
        int64_t b = i / (r.heads * r.length), s = r.flat ? i / r.heads % r.length : i % r.length;
        int64_t row = b * r.length + s;
        if (position) {
            row = kop_get_int(position, (size_t)row);
            if (row < 0 || row >= call->in[1]->shape.dim[0])
                return KAENA_FAIL(call->err, OUT_OF_RANGE, "position %" PRId64 " of %" PRId64, row,
                                  call->in[1]->shape.dim[0]);
        }
        for (int64_t k = 0; k < r.half; k++) {
            size_t first = (size_t)(i * r.size + (r.interleaved ? 2 * k : k));
            size_t second = first + (size_t)(r.interleaved ? 1 : r.half);
            double c = kop_get_float(call->in[1], (size_t)(row * r.half + k));
            double sine = kop_get_float(call->in[2], (size_t)(row * r.half + k));
            double re = kop_get_float(x, first), im = kop_get_float(x, second);
            kop_set_float(out, first, c * re - sine * im);
            kop_set_float(out, second, sine * re + c * im);
        }
        if (i % KOP_CHUNK == 0)
            KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}
