/* requires: types and shapes; weights not folded yet
 * establishes: what exporters write as DequantizeLinear, operator, QuantizeLinear is one operator
 * on integers
 *
 * A Conv, or a MatMul or Gemm by a constant matrix, between them becomes a QLinearConv or a
 * QLinearMatMul: the sums are exact, and are rounded once where the float operator's would be
 * rounded more often. A bias becomes int32 in the products' scale, which rounds it to half of what
 * the sum's last bit is worth. A Relu or Clip in between becomes bounds of the result. A MaxPool or
 * what only moves elements, of one scale and zero point on both sides, works on the integers. */
#include <math.h>
#include <string.h>

#include "pass_util.h"

#define FOLD_LIMIT ((size_t)1 << 28) /* elements of weights */

/* A scale and zero point for a whole tensor. */
typedef struct quantiser {
    kgr_value *scale, *zero; /* zero NULL: 0 */
    kaena_dtype type;
} quantiser;

static kgr_value *operand(const kgr_node *n, uint32_t i)
{
    return i < n->n_in ? n->in[i] : NULL;
}

static bool is_byte(kaena_dtype t)
{
    return t == KAENA_I8 || t == KAENA_U8;
}

/* Of |n|, a QuantizeLinear or DequantizeLinear: float32 on one side, constants of one element. */
static bool read_quantiser(const kgr_node *n, quantiser *q)
{
    const kgr_value *whole = n->op == KOP_QuantizeLinear ? n->out[0] : n->in[0],
                    *real = n->op == KOP_QuantizeLinear ? n->in[0] : n->out[0];
    *q = (quantiser){n->in[1], operand(n, 2), whole->t.dtype};
    return is_byte(whole->t.dtype) && real->t.dtype == KAENA_F32 && kgr_is_const(q->scale) &&
           kop_elements(&q->scale->t) == 1 &&
           (!q->zero || (kgr_is_const(q->zero) && kop_elements(&q->zero->t) == 1));
}

static int64_t zero_of(const quantiser *q)
{
    return q->zero ? kop_get_int(&q->zero->t, 0) : 0;
}

static bool same_quantiser(const quantiser *a, const quantiser *b)
{
    return a->type == b->type && zero_of(a) == zero_of(b) &&
           kop_get_float(&a->scale->t, 0) == kop_get_float(&b->scale->t, 0);
}

/* The zero point as an operand. */
static kgr_value *zero_value(kgr_graph *g, const quantiser *q)
{
    if (q->zero)
        return q->zero;
    static const uint8_t none;
    return kgr_const_add(g, "zero_point", q->type, &(kaena_shape){.rank = 0}, &none);
}

/* The node that |v| comes from, where nobody else reads it and the user has not placed the node. */
static kgr_node *sole_maker(const kgr_value *v)
{
    kgr_node *p = v ? v->producer : NULL;
    return p && p->device != KGR_HOST && kgr_only_user(v) ? p : NULL;
}

/* --- Products ---------------------------------------------------------------------------- */

typedef struct pattern {
    kgr_node *product, *quantise, *bias_add;
    kgr_node *x, *w; /* DequantizeLinear */
    quantiser from, to;
    int64_t low, high;
    int32_t axis; /* of the weights: the result's columns */
    bool transposed;
} pattern;

static double rounded(double v, const quantiser *q)
{
    return rint(v / kop_get_float(&q->scale->t, 0)) + (double)zero_of(q);
}

/* A Relu or Clip in front of the QuantizeLinear: bounds of its result. */
static bool read_bounds(const kgr_node *n, pattern *p)
{
    double low = 0, high = INFINITY;
    if (n->op == KOP_Clip) {
        low = -INFINITY;
        if ((operand(n, 1) && !kcc_uniform(n->in[1], &low)) ||
            (operand(n, 2) && !kcc_uniform(n->in[2], &high)))
            return false;
    } else if (n->op != KOP_Relu) {
        return false;
    }
    low = rounded(low, &p->to);
    high = rounded(high, &p->to);
    p->low = low > (double)p->low ? (int64_t)fmin(low, (double)p->high) : p->low;
    p->high = high < (double)p->high ? (int64_t)fmax(high, (double)p->low) : p->high;
    return true;
}

static bool read_product(pattern *p)
{
    const kgr_node *n = p->product;
    if (n->device == KGR_HOST || (n->op != KOP_Conv && n->op != KOP_MatMul && n->op != KOP_Gemm))
        return false;
    p->x = kcc_made_by(n->in[0], KOP_DequantizeLinear);
    p->w = kcc_made_by(n->in[1], KOP_DequantizeLinear);
    if (!p->x || !p->w || !read_quantiser(p->x, &p->from) || kgr_is_const(p->x->in[0]))
        return false;
    const kgr_value *w = p->w->in[0], *scale = p->w->in[1], *zero = operand(p->w, 2);
    if (!kgr_is_const(w) || !is_byte(w->t.dtype) || !kgr_is_const(scale) ||
        (zero && !kgr_is_const(zero)) || scale->t.dtype != KAENA_F32)
        return false;
    p->transposed = n->op == KOP_Gemm && kgr_attr_get_int(n, "transB", 0);
    p->axis = n->op == KOP_Conv || p->transposed ? 0 : 1;
    if (n->op != KOP_Conv &&
        (w->t.shape.rank != 2 || !kcc_known(n->in[0]) || n->in[0]->t.shape.rank < 2))
        return false;
    if (n->op == KOP_Gemm &&
        (kgr_attr_get_int(n, "transA", 0) || kgr_attr_get_float(n, "alpha", 1) != 1 ||
         kgr_attr_get_float(n, "beta", 1) != 1))
        return false;
    int32_t axis = 0;
    int64_t columns = w->t.shape.dim[p->axis];
    bool by_column = kop_elements(&scale->t) > 1;
    if (by_column && (!kop_axis(kgr_attr_get_int(p->w, "axis", 1), w->t.shape.rank, &axis) ||
                      axis != p->axis || (int64_t)kop_elements(&scale->t) != columns))
        return false;
    return !zero || kop_elements(&zero->t) == kop_elements(&scale->t);
}

/* |v|, which is added to every row of the sums, as int32 in the products' scale. */
static bool whole_bias(kgr_graph *g, const pattern *p, const kgr_value *v, int64_t columns,
                       kgr_value **out)
{
    const kgr_node *made = kcc_made_by(v, KOP_DequantizeLinear);
    const kgr_value *whole = NULL, *scale = NULL, *w_scale = p->w->in[1];
    if (made && kgr_is_const(made->in[0]) && made->in[0]->t.dtype == KAENA_I32 &&
        kgr_is_const(made->in[1]) && (!operand(made, 2) || kcc_uniform_is(made->in[2], 0))) {
        whole = made->in[0];
        scale = made->in[1];
    } else if (!kgr_is_const(v)) {
        return false;
    }
    const kop_tensor *t = whole ? &whole->t : &v->t;
    int64_t n = (int64_t)kop_elements(t);
    if (t->shape.rank == 0 || n != columns || t->shape.dim[t->shape.rank - 1] != columns)
        return false;
    int32_t *bias = KAENA_NEW_N(g->arena, int32_t, columns);
    for (int64_t i = 0; bias && i < columns; i++) {
        double unit = kop_get_float(&p->from.scale->t, 0) *
                      kop_get_float(&w_scale->t, kop_elements(&w_scale->t) == 1 ? 0 : (size_t)i);
        double b = kop_get_float(t, (size_t)i);
        if (whole)
            b *= kop_get_float(&scale->t, kop_elements(&scale->t) == 1 ? 0 : (size_t)i);
        b = rint(b / unit);
        if (!(fabs(b) < (double)INT32_MAX))
            return false;
        bias[i] = (int32_t)b;
    }
    *out = bias ? kgr_const_add(g, v->name, KAENA_I32, &(kaena_shape){1, {columns}}, bias) : NULL;
    return *out != NULL;
}

/* Weights as [K][N]. */
static kgr_value *matrix(kgr_graph *g, const pattern *p)
{
    kgr_value *w = p->w->in[0];
    if (!p->transposed)
        return w;
    int64_t n = w->t.shape.dim[0], k = w->t.shape.dim[1];
    const uint8_t *from = w->t.data;
    uint8_t *to = kaena_arena_array(g->arena, (size_t)(n * k), 1);
    for (int64_t i = 0; to && i < n * k; i++)
        to[i % k * n + i / k] = from[i];
    return to ? kgr_const_add(g, w->name, w->t.dtype, &(kaena_shape){2, {k, n}}, to) : NULL;
}

static kaena_status replace_product(kgr_graph *g, pattern *p, bool *done, kaena_err *err)
{
    kgr_node *n = p->product, *q = p->quantise;
    bool conv = n->op == KOP_Conv;
    int64_t columns = p->w->in[0]->t.shape.dim[p->axis];
    kgr_value *bias = NULL, *given = p->bias_add ? NULL : operand(n, 2);
    if (p->bias_add)
        given = p->bias_add->in[p->bias_add->in[0] == n->out[0]];
    if (given && !whole_bias(g, p, given, columns, &bias))
        return KAENA_OK;
    const quantiser weights = {p->w->in[1], operand(p->w, 2), p->w->in[0]->t.dtype};
    kgr_value *in[9] = {p->x->in[0],
                        p->from.scale,
                        zero_value(g, &p->from),
                        conv ? p->w->in[0] : matrix(g, p),
                        weights.scale,
                        zero_value(g, &weights),
                        p->to.scale,
                        zero_value(g, &p->to),
                        bias};
    kgr_node *whole = kgr_node_add(g, q, conv ? KOP_QLinearConv : KOP_QLinearMatMul, n->name,
                                   n->origin, in, bias ? 9 : 8, NULL, 1);
    if (!whole || !in[3])
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory to join '%s'", n->name);
    whole->device = n->device;
    for (uint32_t i = 0; conv && i < n->n_attr; i++)
        (void)kgr_attr_set(g, whole, &n->attr[i]);
    bool is_signed = p->to.type == KAENA_I8;
    if (p->low > (is_signed ? -128 : 0))
        (void)kgr_attr_int(g, whole, "kaena.low", p->low);
    if (p->high < (is_signed ? 127 : 255))
        (void)kgr_attr_int(g, whole, "kaena.high", p->high);
    KAENA_TRY(kgr_infer_node(whole, err));
    if (!kgr_can_replace(q->out[0], whole->out[0])) {
        kgr_node_remove(g, whole);
        return KAENA_OK;
    }
    kgr_replace_uses(g, q->out[0], whole->out[0]);
    *done = true;
    return KAENA_OK;
}

/* What stands in front of QuantizeLinear |q| as a product on integers. */
static kaena_status join_product(kgr_graph *g, kgr_node *q, bool *done, kaena_err *err)
{
    pattern p = {.quantise = q};
    if (!read_quantiser(q, &p.to))
        return KAENA_OK;
    p.low = p.to.type == KAENA_I8 ? -128 : 0;
    p.high = p.to.type == KAENA_I8 ? 127 : 255;
    kgr_node *n = sole_maker(q->in[0]);
    if (n && read_bounds(n, &p))
        n = sole_maker(n->in[0]);
    if (n && n->op == KOP_Add) {
        for (uint32_t i = 0; i < 2; i++) {
            kgr_node *m = sole_maker(n->in[i]);
            if (m && m->op == KOP_MatMul)
                p.product = m;
        }
        p.bias_add = n;
    } else {
        p.product = n;
    }
    return p.product && read_product(&p) ? replace_product(g, &p, done, err) : KAENA_OK;
}

/* --- What moves elements, and the largest ------------------------------------------------ */

static bool moves(kop_op op)
{
    return op == KOP_MaxPool || op == KOP_Reshape || op == KOP_Transpose || op == KOP_Flatten ||
           op == KOP_Squeeze || op == KOP_Unsqueeze || op == KOP_Slice || op == KOP_Concat ||
           op == KOP_Identity;
}

/* Operands that are data; the others are shapes and axes. */
static uint32_t data_operands(const kgr_node *n)
{
    return n->op == KOP_Concat ? n->n_in : 1;
}

static kaena_status join_move(kgr_graph *g, kgr_node *q, bool *done, kaena_err *err)
{
    quantiser to, from;
    kgr_node *n = sole_maker(q->in[0]);
    if (!n || !moves(n->op) || n->n_out != 1 || n->device == KGR_HOST || !read_quantiser(q, &to))
        return KAENA_OK;
    for (uint32_t i = 0; i < data_operands(n); i++) {
        const kgr_node *d = kcc_made_by(n->in[i], KOP_DequantizeLinear);
        if (!d || !read_quantiser(d, &from) || !same_quantiser(&from, &to))
            return KAENA_OK;
    }
    if (!kgr_can_replace(q->out[0], n->out[0]))
        return KAENA_OK;
    for (uint32_t i = 0; i < data_operands(n); i++)
        kgr_node_set_input(n, i, n->in[i]->producer->in[0]);
    n->out[0]->t.dtype = to.type;
    KAENA_TRY(kgr_infer_node(n, err));
    kgr_replace_uses(g, q->out[0], n->out[0]);
    *done = true;
    return KAENA_OK;
}

static bool is_constant(const kgr_node *n)
{
    const kgr_value *out = n->out[0];
    for (uint32_t i = 0; i < n->n_in; i++)
        if (n->in[i] && !kgr_is_const(n->in[i]))
            return false;
    return !out->is_output && kcc_known(out) && kop_elements(&out->t) <= FOLD_LIMIT;
}

kaena_status kcc_pass_quantise(kgr_graph *g, const kcc_options *opt, kaena_err *err)
{
    (void)opt;
    bool any = false;
    for (kgr_node *n = g->first, *next; n; n = next) {
        next = n->next;
        if (n->op != KOP_QuantizeLinear)
            continue;
        bool done = false;
        if (is_constant(n)) { /* weights that exporters kept as floats */
            KAENA_TRY(kgr_node_fold(g, n, 16 * FOLD_LIMIT, err));
            continue;
        }
        if (n->device == KGR_HOST)
            continue;
        KAENA_TRY(join_product(g, n, &done, err));
        if (!done)
            KAENA_TRY(join_move(g, n, &done, err));
        any = any || done;
    }
    if (any)
        (void)kgr_remove_dead(g);
    return KAENA_OK;
}
