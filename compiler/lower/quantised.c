/* Quantised operators: products of bytes on the PE array, summed in int32, and the ways between
 * integers and floats.
 *
 * Zero points never meet the PE array. Weights are packed with theirs subtracted, as one set of
 * int8 or, where the difference needs a ninth bit, as several whose products are added; the
 * input's goes into a bias per column, minus zero point times column sum. What a convolution reads
 * around its input is its zero point. */
#include <math.h>
#include <string.h>

#include "product.h"

#define MAX_SETS 3       /* of int8 that add up to any weight less its zero point */
#define MAX_UNROLLED 256 /* instructions for channels with zero points of their own */

/* Which inputs an operator has where; 0: has none. */
static const struct slots {
    kop_op op;
    uint32_t w, x_zero, w_zero, x_scale, w_scale, y_scale, y_zero, bias;
    bool conv;
} slots[] = {
    {KOP_QLinearConv, 3, 2, 5, 1, 4, 6, 7, 8, true},
    {KOP_ConvInteger, 1, 2, 3, 0, 0, 0, 0, 0, true},
    {KOP_QLinearMatMul, 3, 2, 5, 1, 4, 6, 7, 8, false},
    {KOP_MatMulInteger, 1, 2, 3, 0, 0, 0, 0, 0, false},
};

static const struct slots *slots_of(kop_op op)
{
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++)
        if (slots[i].op == op)
            return &slots[i];
    return NULL;
}

static const kgr_value *input(const kgr_node *n, uint32_t i)
{
    return i && i < n->n_in ? n->in[i] : NULL;
}

static bool constant(const kgr_node *n, uint32_t i)
{
    return !input(n, i) || n->in[i]->t.data;
}

static size_t elements(const kgr_node *n, uint32_t i)
{
    return input(n, i) ? kop_elements(&n->in[i]->t) : 1;
}

static int64_t int_at(const kgr_node *n, uint32_t i, int64_t at)
{
    if (!input(n, i))
        return 0;
    return kop_get_int(&n->in[i]->t, elements(n, i) == 1 ? 0 : (size_t)at);
}

static float float_at(const kgr_node *n, uint32_t i, int64_t at)
{
    return (float)kop_get_float(&n->in[i]->t, elements(n, i) == 1 ? 0 : (size_t)at);
}

static bool is_byte(kaena_dtype t)
{
    return t == KAENA_I8 || t == KAENA_U8;
}

/* --- What can run ------------------------------------------------------------------------ */

bool kcc_integer_lowerable(const kgr_node *n, const char **reason)
{
    const struct slots *s = slots_of(n->op);
    const kgr_value *x = n->in[0], *w = n->in[s->w];
    *reason = "weights or their zero points are computed at run time";
    if (!w->t.data || !constant(n, s->w_zero) || !constant(n, s->bias))
        return false;
    *reason = "scales are computed at run time";
    if (!constant(n, s->x_scale) || !constant(n, s->w_scale) || !constant(n, s->y_scale) ||
        !constant(n, s->y_zero) || (s->y_scale && !constant(n, s->x_zero)))
        return false;
    *reason = "element type the engines do not compute with";
    if (!is_byte(x->t.dtype) || !is_byte(w->t.dtype) ||
        (n->out[0]->t.dtype != KAENA_I32 && !is_byte(n->out[0]->t.dtype)))
        return false;
    *reason = "rows have scales or zero points of their own";
    if (elements(n, s->x_zero) != 1 || elements(n, s->x_scale) != 1 ||
        elements(n, s->y_scale) != 1 || elements(n, s->y_zero) != 1)
        return false;
    if (!s->conv) {
        *reason = "operands of more dimensions than the PE array takes";
        return w->t.shape.rank == 2 && x->t.shape.rank >= 2 && x->t.shape.rank <= 4;
    }
    *reason = "the zero point of what is around the input is computed at run time";
    if (!constant(n, s->x_zero))
        return false;
    *reason = NULL;
    return true;
}

uint8_t kcc_halo_fill(const kgr_node *n)
{
    const struct slots *s = slots_of(n->op);
    return s && constant(n, s->x_zero) ? (uint8_t)int_at(n, s->x_zero, 0) : 0;
}

/* The axis that scales go along, where they are several. */
static int32_t scale_axis(const kgr_node *n)
{
    int32_t axis = 0;
    (void)kop_axis(kgr_attr_get_int(n, "axis", 1), n->in[0]->t.shape.rank, &axis);
    return axis;
}

static bool same_zeros(const kgr_node *n)
{
    for (size_t i = 1; i < elements(n, 2); i++)
        if (int_at(n, 2, (int64_t)i) != int_at(n, 2, 0))
            return false;
    return true;
}

bool kcc_scaling_lowerable(const kgr_node *n, const char **reason)
{
    bool to = n->op == KOP_QuantizeLinear;
    kaena_dtype whole = to ? n->out[0]->t.dtype : n->in[0]->t.dtype,
                real = to ? n->in[0]->t.dtype : n->out[0]->t.dtype;
    *reason = "scale or zero point are computed at run time";
    if (!constant(n, 1) || !constant(n, 2))
        return false;
    *reason = "element type the engines do not compute with";
    if (!is_byte(whole) && (to || whole != KAENA_I32))
        return false;
    if (real != KAENA_F32 && real != KAENA_BF16 && real != KAENA_F16)
        return false;
    *reason = "blocks with scales of their own";
    if (kgr_attr_get_int(n, "block_size", 0) != 0 ||
        (elements(n, 1) != 1 && n->in[1]->t.shape.rank != 1))
        return false;
    *reason = "too many zero points of their own";
    if (to && !same_zeros(n) && elements(n, 1) > MAX_UNROLLED)
        return false;
    *reason = NULL;
    return true;
}

bool kcc_dynamic_scaling_lowerable(const kgr_node *n, const char **reason)
{
    *reason = "more than four dimensions";
    return n->in[0]->t.shape.rank <= KISA_DIMS;
}

/* --- Products ---------------------------------------------------------------------------- */

/* What the TPBs of one node share: made by the first. */
typedef struct kcc_integer {
    const kgr_node *node;
    const kgr_value *set[MAX_SETS];
    uint32_t n_sets;
    int32_t *column_sum; /* of weights less zero points, [columns] */
    kcc_scaling scaling;
    struct kcc_integer *next;
} kcc_integer;

static int64_t columns_of(const kgr_node *n, const struct slots *s)
{
    const kaena_shape *w = &n->in[s->w]->t.shape;
    return s->conv ? w->dim[0] : w->dim[1];
}

/* Weights less their zero points as sets of int8, and the sums of their columns. */
static void split_weights(kcc_module *m, const struct slots *s, kcc_integer *q)
{
    const kgr_node *n = q->node;
    const kgr_value *w = n->in[s->w];
    int64_t columns = columns_of(n, s), all = (int64_t)kop_elements(&w->t), each = all / columns;
    q->column_sum = KAENA_NEW_N(m->arena, int32_t, columns);
    int16_t *left = KAENA_NEW_N(m->arena, int16_t, all);
    for (int64_t i = 0; i < all; i++) {
        int64_t c = s->conv ? i / each : i % columns;
        left[i] = (int16_t)(kop_get_int(&w->t, (size_t)i) - int_at(n, s->w_zero, c));
        q->column_sum[c] = (int32_t)((uint32_t)q->column_sum[c] + (uint32_t)left[i]);
    }
    for (bool more = true; more; q->n_sets++) {
        int8_t *set = KAENA_NEW_N(m->arena, int8_t, all);
        more = false;
        for (int64_t i = 0; i < all; i++) {
            set[i] = (int8_t)(left[i] < -128 ? -128 : left[i] > 127 ? 127 : left[i]);
            left[i] = (int16_t)(left[i] - set[i]);
            more = more || left[i];
        }
        q->set[q->n_sets] = kgr_const_add(m->graph, w->name, KAENA_I8, &w->t.shape, set);
    }
}

static kcc_view vector(kcc_module *m, const void *data, int64_t n, kaena_dtype type)
{
    return (kcc_view){.buf = kcc_weights_add(m, data, (uint64_t)n * 4),
                      .dtype = type,
                      .shape = {1, {n}},
                      .stride = {4}};
}

static void scale_sums(kcc_module *m, const struct slots *s, kcc_integer *q)
{
    const kgr_node *n = q->node;
    int64_t columns = columns_of(n, s);
    int32_t *bias = KAENA_NEW_N(m->weights_arena, int32_t, columns);
    float *scale = KAENA_NEW_N(m->weights_arena, float, columns);
    int64_t x_zero = constant(n, s->x_zero) ? int_at(n, s->x_zero, 0) : 0;
    for (int64_t c = 0; c < columns; c++)
        bias[c] = (int32_t)((uint32_t)int_at(n, s->bias, c) -
                            (uint32_t)x_zero * (uint32_t)q->column_sum[c]);
    q->scaling = (kcc_scaling){.bias = vector(m, bias, columns, KAENA_I32), .scale_all = 1};
    if (!s->y_scale)
        return;
    for (int64_t c = 0; c < columns; c++)
        scale[c] =
            float_at(n, s->x_scale, 0) * float_at(n, s->w_scale, c) / float_at(n, s->y_scale, 0);
    q->scaling.scale = vector(m, scale, columns, KAENA_F32);
    bool is_signed = n->out[0]->t.dtype == KAENA_I8;
    q->scaling.zero = (int16_t)int_at(n, s->y_zero, 0);
    q->scaling.low = (int16_t)kgr_attr_get_int(n, "kaena.low", is_signed ? -128 : 0);
    q->scaling.high = (int16_t)kgr_attr_get_int(n, "kaena.high", is_signed ? 127 : 255);
}

static const kcc_integer *prepare(kcc_module *m, const kgr_node *n, const struct slots *s)
{
    for (const kcc_integer *q = m->integer; q; q = q->next)
        if (q->node == n)
            return q;
    kcc_integer *q = KAENA_NEW(m->arena, kcc_integer);
    *q = (kcc_integer){.node = n, .next = m->integer};
    split_weights(m, s, q);
    scale_sums(m, s, q);
    m->integer = q;
    return q;
}

/* A zero point of run time: minus itself times the columns' sums, by the TPB into memory of its
 * own, is the bias. */
static kaena_status dynamic_bias(kcc_module *m, const kgr_node *n, const struct slots *s,
                                 const kcc_integer *q, uint32_t tpb, kcc_view *out, kaena_err *err)
{
    int64_t columns = columns_of(n, s);
    const kcc_workspace *w = m->workspace;
    while (w->node != n)
        w = w->next;
    int32_t *minus = KAENA_NEW_N(m->weights_arena, int32_t, columns);
    for (int64_t c = 0; c < columns; c++)
        minus[c] = (int32_t)(0u - (uint32_t)q->column_sum[c]);
    kcc_view zero, sums = vector(m, minus, columns, KAENA_I32);
    KAENA_TRY(kcc_input_view(m, n->in[s->x_zero], &zero, err));
    *out = (kcc_view){.buf = w->buf, .dtype = KAENA_I32, .offset = (columns + 1) * 4 * tpb};
    kisa_operand dst = kcc_operand(m, tpb, out), from = kcc_operand(m, tpb, &zero), a = dst,
                 b = kcc_operand(m, tpb, &sums);
    a.offset += (uint64_t)columns * 4;
    kcc_inst(m, tpb, KISA_COPY)->u.copy = (kisa_copy){.src = from, .dst = a};
    dst.count[3] = a.count[3] = b.count[3] = (uint32_t)columns;
    dst.stride[3] = b.stride[3] = 4;
    kcc_inst(m, tpb, KISA_TT)->u.tt = (kisa_tt){.a = a, .b = b, .dst = dst, .op = KISA_TT_MUL};
    return KAENA_OK;
}

void kcc_expand_quantised(kcc_module *m)
{
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        const kgr_node *n = m->node[i];
        const struct slots *s = slots_of(n->op);
        if (s && !constant(n, s->x_zero))
            (void)kcc_workspace_add(m, n,
                                    (uint64_t)(columns_of(n, s) + 1) * 4 * (uint64_t)m->n_tpbs);
        if (n->op == KOP_DynamicQuantizeLinear)
            (void)kcc_workspace_add(m, n, (kop_elements(&n->in[0]->t) + 8) * 4);
    }
}

static kaena_status prepare_product(kcc_module *m, const kgr_node *n, const struct slots *s,
                                    const kcc_integer *q, uint32_t tpb, kcc_product *p,
                                    kaena_err *err)
{
    *p = (kcc_product){
        .dst = *kcc_view_of(m, n->out[0]), .batch = {1, 1}, .integer = true, .scaling = q->scaling};
    KAENA_TRY(kcc_input_view(m, n->in[0], &p->x, err));
    if (!constant(n, s->x_zero))
        KAENA_TRY(dynamic_bias(m, n, s, q, tpb, &p->scaling.bias, err));
    return KAENA_OK;
}

kaena_status kcc_emit_integer_conv(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                                   uint32_t parts, kaena_err *err)
{
    const struct slots *s = slots_of(n->op);
    const kop_tensor *in[KOP_MAX_INPUTS];
    kop_tensor out[1];
    kop_call call = kgr_call(n, in, out, NULL, err);
    kop_window w;
    kcc_product p;
    KAENA_TRY(kop_window_of(&call, &w));
    const kcc_integer *q = prepare(m, n, s);
    KAENA_TRY(prepare_product(m, n, s, q, tpb, &p, err));
    if (part == 0)
        kcc_fill_halo(m, tpb, &p.dst);
    return kcc_emit_conv_product(m, n, &w, q->set, q->n_sets, &p, tpb, part, parts, err);
}

kaena_status kcc_emit_integer_matmul(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                                     uint32_t parts, kaena_err *err)
{
    const struct slots *s = slots_of(n->op);
    const kcc_integer *q = prepare(m, n, s);
    kcc_product p;
    KAENA_TRY(prepare_product(m, n, s, q, tpb, &p, err));
    if (part == 0)
        kcc_fill_halo(m, tpb, &p.dst);
    for (uint32_t i = 0; i < q->n_sets; i++) {
        const kcc_packed *packed;
        KAENA_TRY(kcc_pack_matrix(m, q->set[i], KAENA_I8, /* transposed= */ false, &packed, err));
        p.w = i ? kcc_packed_join(m, p.w, packed) : packed;
    }
    int32_t rank = p.x.shape.rank;
    p.columns = columns_of(n, s);
    for (int32_t d = 0; d < 3; d++) {
        int32_t from = d - (4 - rank);
        p.rows[d] = from < 0 ? 1 : p.x.shape.dim[from];
        p.x_stride[d] = from < 0 ? 0 : p.x.stride[from];
        p.dst_stride[d] = from < 0 ? 0 : p.dst.stride[from];
    }
    p.dst_column = p.dst.stride[rank - 1];
    kcc_emit_products(m, &p, (uint64_t)p.columns * (uint64_t)p.x.shape.dim[rank - 1], tpb, part,
                      parts);
    return KAENA_OK;
}

/* --- Between floats and integers --------------------------------------------------------- */

/* QuantizeLinear or DequantizeLinear of what |src| and |dst| show, with the scale and zero point of
 * channel |c|, or with a vector of either along |axis|. */
static void emit_scaling(kcc_module *m, const kgr_node *n, const kcc_view *src, const kcc_view *dst,
                         int64_t c, int32_t axis, uint32_t tpb, uint32_t part, uint32_t parts)
{
    bool to = n->op == KOP_QuantizeLinear, is_signed = dst->dtype == KAENA_I8;
    kcc_scaling s = {.scale_all = float_at(n, 1, c), .divide = to};
    if (to) {
        s.zero = (int16_t)int_at(n, 2, c);
        s.low = is_signed ? -128 : 0;
        s.high = is_signed ? 127 : 255;
    } else {
        s.bias_all = (int32_t)(0u - (uint32_t)int_at(n, 2, c));
    }
    kcc_view scale = {.shape = {.rank = 0}}, bias = scale;
    const kcc_view *views[4] = {dst, src};
    uint32_t count = 2;
    if (axis >= 0) {
        int64_t channels = dst->shape.dim[axis];
        float *scales = KAENA_NEW_N(m->weights_arena, float, channels);
        int32_t *biases = KAENA_NEW_N(m->weights_arena, int32_t, channels);
        for (int64_t i = 0; i < channels; i++) {
            scales[i] = float_at(n, 1, i);
            biases[i] = (int32_t)(0u - (uint32_t)int_at(n, 2, i));
        }
        kcc_view *const both[2] = {&scale, &bias};
        scale = vector(m, scales, channels, KAENA_F32);
        bias = vector(m, biases, channels, KAENA_I32);
        for (int i = 0; i < 2; i++) {
            both[i]->shape = (kaena_shape){.rank = dst->shape.rank};
            for (int32_t d = 0; d < dst->shape.rank; d++)
                both[i]->shape.dim[d] = d == axis ? channels : 1;
            both[i]->stride[0] = 0;
            both[i]->stride[axis] = 4;
        }
        views[count++] = &scale;
        if (!to)
            views[count++] = &bias;
    }
    kcc_nest nest;
    kcc_nest_init(&nest, &dst->shape, views, count);
    kcc_nest_normalise(&nest, axis);
    if (!kcc_nest_part(&nest, part, parts))
        return;
    kisa_operand o[4];
    uint32_t loops = kcc_nest_open(m, tpb, &nest, o);
    kcc_emit_scaling(m, tpb, &s, &o[1], &o[0]);
    kisa_quant *q = &m->code[tpb].inst[m->code[tpb].n - 1].u.quant;
    kisa_operand *const vectors[2] = {&q->scale, &q->bias};
    for (uint32_t i = 2; i < count; i++) {
        *vectors[i - 2] = o[i];
        for (int32_t d = 0; d + 1 < KISA_DIMS; d++) {
            vectors[i - 2]->count[d] = 1;
            vectors[i - 2]->stride[d] = 0;
        }
    }
    if (count == 4)
        q->bias_all = 0;
    while (loops--)
        kcc_end(m, tpb);
}

kaena_status kcc_emit_quantise(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                               uint32_t parts, kaena_err *err)
{
    kcc_view src, dst = *kcc_view_of(m, n->out[0]);
    KAENA_TRY(kcc_input_view(m, n->in[0], &src, err));
    if (part == 0)
        kcc_fill_halo(m, tpb, &dst);
    int32_t axis = elements(n, 1) > 1 ? scale_axis(n) : -1;
    if (axis < 0 || n->op == KOP_DequantizeLinear || same_zeros(n)) {
        emit_scaling(m, n, &src, &dst, 0, axis, tpb, part, parts);
        return KAENA_OK;
    }
    int64_t channels = dst.shape.dim[axis];
    for (int64_t c = 0; c < channels; c++) {
        kcc_view from = src, to = dst;
        from.offset += c * src.stride[axis];
        to.offset += c * dst.stride[axis];
        from.shape.dim[axis] = to.shape.dim[axis] = 1;
        emit_scaling(m, n, &from, &to, c, -1, tpb, part, parts);
    }
    return KAENA_OK;
}

/* A float32 of the node's own memory, broadcast like |as|. */
static kisa_operand scalar(kcc_module *m, uint32_t tpb, kcc_buffer *buf, int64_t at,
                           kaena_dtype type, const kisa_operand *as)
{
    kisa_operand o = kcc_operand(m, tpb, &(kcc_view){.buf = buf, .dtype = type, .offset = at * 4});
    for (int d = 0; as && d < KISA_DIMS; d++)
        o.count[d] = as->count[d];
    return o;
}

static void tt(kcc_module *m, uint32_t tpb, kisa_tt_kind op, kaena_act func, kisa_operand a,
               kisa_operand b, kisa_operand dst)
{
    kcc_inst(m, tpb, KISA_TT)->u.tt =
        (kisa_tt){.a = a, .b = b, .dst = dst, .op = (uint8_t)op, .func = (uint8_t)func};
}

/* The range of all elements decides scale and zero point: one TPB does it all. */
kaena_status kcc_emit_dynamic_quantise(kcc_module *m, const kgr_node *n, uint32_t tpb,
                                       uint32_t part, uint32_t parts, kaena_err *err)
{
    (void)parts;
    if (part)
        return KAENA_OK;
    enum { LEAST, MOST, SCALE, ZERO, BYTE, TEMPORARY = 8 }; /* places in the node's memory */
    const kcc_workspace *w = m->workspace;
    while (w->node != n)
        w = w->next;
    kcc_view x, dst = *kcc_view_of(m, n->out[0]);
    KAENA_TRY(kcc_input_view(m, n->in[0], &x, err));
    kcc_fill_halo(m, tpb, &dst);
    kcc_view flat = {.buf = w->buf, .dtype = KAENA_F32, .offset = TEMPORARY * 4, .shape = x.shape};
    kaena_shape_strides(&flat.shape, flat.stride);
    for (int32_t d = 0; d < flat.shape.rank; d++)
        flat.stride[d] *= 4;
    kcc_nest nest;
    kcc_nest_init(&nest, &x.shape, (const kcc_view *const[]){&dst, &x, &flat}, 3);
    kcc_nest_normalise(&nest, -1);
    kisa_operand o[3];
    (void)kcc_nest_open(m, tpb, &nest, o);
#define AT(at) scalar(m, tpb, w->buf, at, KAENA_F32, NULL)
    static const float zero, steps = 255;
    const kcc_view zeros = {.buf = kcc_weights_add(m, &zero, 4), .dtype = KAENA_F32},
                   ranges = {.buf = kcc_weights_add(m, &steps, 4), .dtype = KAENA_F32};
    for (int most = 0; most < 2; most++) {
        kcc_inst(m, tpb, KISA_REDUCE)->u.reduce =
            (kisa_reduce){.src = o[1],
                          .dst = AT(most ? MOST : LEAST),
                          .op = most ? KISA_REDUCE_MAX : KISA_REDUCE_MIN,
                          .axes = 15,
                          .scale = 1};
        tt(m, tpb, most ? KISA_TT_MAX : KISA_TT_MIN, KAENA_ACT_IDENTITY, AT(most ? MOST : LEAST),
           kcc_operand(m, tpb, &zeros), AT(most ? MOST : LEAST));
    }
    tt(m, tpb, KISA_TT_SUB, KAENA_ACT_IDENTITY, AT(MOST), AT(LEAST), AT(SCALE));
    tt(m, tpb, KISA_TT_DIV, KAENA_ACT_IDENTITY, AT(SCALE), kcc_operand(m, tpb, &ranges), AT(SCALE));
    tt(m, tpb, KISA_TT_DIV, KAENA_ACT_NEG, AT(LEAST), AT(SCALE), AT(ZERO));
    const kcc_scaling to_byte = {.scale_all = 1, .high = 255};
    kisa_operand from = AT(ZERO), byte = scalar(m, tpb, w->buf, BYTE, KAENA_U8, NULL);
    kcc_emit_scaling(m, tpb, &to_byte, &from, &byte);
    kcc_inst(m, tpb, KISA_COPY)->u.copy = (kisa_copy){.src = byte, .dst = from};
    for (uint32_t i = 1; i < n->n_out; i++) {
        if (!n->out[i]->n_uses)
            continue;
        kisa_operand to = kcc_operand(m, tpb, kcc_view_of(m, n->out[i]));
        kcc_inst(m, tpb, KISA_COPY)->u.copy =
            (kisa_copy){.src = i == 1 ? AT(SCALE) : byte, .dst = to};
    }
    tt(m, tpb, KISA_TT_DIV, KAENA_ACT_ROUND, o[1], scalar(m, tpb, w->buf, SCALE, KAENA_F32, &o[2]),
       o[2]);
    tt(m, tpb, KISA_TT_ADD, KAENA_ACT_IDENTITY, o[2],
       scalar(m, tpb, w->buf, ZERO, KAENA_F32, &o[2]), o[2]);
#undef AT
    kcc_emit_scaling(m, tpb, &to_byte, &o[2], &o[0]);
    return KAENA_OK;
}
