/* Elementwise work: ACT for functions of one tensor, TT for two, COPY for casts, REDUCE. */
#include <math.h>
#include <string.h>

#include "lower.h"

static void close_loops(kcc_module *m, uint32_t tpb, uint32_t loops)
{
    while (loops--)
        kcc_end(m, tpb);
}

kaena_status kcc_emit_unary(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                            uint32_t parts, kaena_err *err)
{
    kcc_view src, dst = *kcc_view_of(m, n->out[0]);
    KAENA_TRY(kcc_input_view(m, n->in[0], &src, err));
    if (part == 0)
        kcc_fill_halo(m, tpb, &dst);
    kaena_act act;
    float alpha, beta;
    if (!kcc_act_of(n, &act, &alpha, &beta))
        return KAENA_FAIL(err, INTERNAL, "no engine function computes %s", kop_row_of(n->op)->name);
    kcc_nest nest;
    kcc_nest_init(&nest, &dst.shape, (const kcc_view *const[]){&dst, &src}, 2);
    kcc_nest_normalise(&nest, -1);
    kcc_nest_lengthen(&nest);
    if (!kcc_nest_part(&nest, part, parts))
        return KAENA_OK;
    kisa_operand o[2];
    uint32_t loops = kcc_nest_open(m, tpb, &nest, o);
    kcc_inst(m, tpb, KISA_ACT)->u.act = (kisa_act){.dst = o[0],
                                                   .src = o[1],
                                                   .scale_all = 1,
                                                   .func = (uint8_t)act,
                                                   .alpha = alpha,
                                                   .beta = beta};
    close_loops(m, tpb, loops);
    return KAENA_OK;
}

/* dst = act(a op b) over dst's shape. */
static void emit_tt(kcc_module *m, uint32_t tpb, uint32_t part, uint32_t parts, const kcc_view *dst,
                    const kcc_view *a, const kcc_view *b, kisa_tt_kind op, const kcc_epilogue *ep)
{
    kcc_nest nest;
    kcc_nest_init(&nest, &dst->shape, (const kcc_view *const[]){dst, a, b}, 3);
    kcc_nest_normalise(&nest, -1);
    kcc_nest_lengthen(&nest);
    if (!kcc_nest_part(&nest, part, parts))
        return;
    kisa_operand o[3];
    uint32_t loops = kcc_nest_open(m, tpb, &nest, o);
    kcc_inst(m, tpb, KISA_TT)->u.tt = (kisa_tt){.dst = o[0],
                                                .a = o[1],
                                                .b = o[2],
                                                .op = (uint8_t)op,
                                                .func = (uint8_t)ep->act,
                                                .alpha = ep->alpha,
                                                .beta = ep->beta};
    close_loops(m, tpb, loops);
}

static const struct {
    kop_op op;
    kisa_tt_kind tt;
} tt_ops[] = {{KOP_Add, KISA_TT_ADD}, {KOP_Sum, KISA_TT_ADD}, {KOP_Sub, KISA_TT_SUB},
              {KOP_Mul, KISA_TT_MUL}, {KOP_Div, KISA_TT_DIV}, {KOP_Max, KISA_TT_MAX},
              {KOP_Min, KISA_TT_MIN}, {KOP_Pow, KISA_TT_POW}, {KOP_PRelu, KISA_TT_PRELU}};

static kisa_tt_kind tt_of(kop_op op)
{
    for (size_t i = 0; i < sizeof tt_ops / sizeof *tt_ops; i++)
        if (tt_ops[i].op == op)
            return tt_ops[i].tt;
    return KISA_TT_ADD;
}

/* An operand of TT: floats as they lie, constants of another type as float32. */
static kaena_status tt_operand(kcc_module *m, const kgr_value *v, kaena_dtype with, kcc_view *out,
                               kaena_err *err)
{
    if (v->t.data && !kcc_view_of(m, v)->buf)
        return kcc_const_view(m, v, with == KAENA_I32 ? KAENA_I32 : KAENA_F32, out, err);
    return kcc_input_view(m, v, out, err);
}

kaena_status kcc_emit_variadic(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                               uint32_t parts, kaena_err *err)
{
    kcc_view a, b, dst = *kcc_view_of(m, n->out[0]);
    kcc_epilogue ep = kcc_epilogue_of(n);
    const kcc_epilogue none = {.act = KAENA_ACT_IDENTITY};
    KAENA_TRY(tt_operand(m, n->in[0], dst.dtype, &a, err));
    if (part == 0)
        kcc_fill_halo(m, tpb, &dst);
    if (ep.n_in == 1) {
        kcc_emit_copy(m, tpb, part, parts, &a, &dst);
        return KAENA_OK;
    }
    if (ep.n_in > 2) {
        /* Each step reads what the one before wrote: one TPB does it all. */
        if (part > 0)
            return KAENA_OK;
        parts = 1;
    }
    for (uint32_t k = 1; k < ep.n_in; k++) {
        KAENA_TRY(tt_operand(m, n->in[k], dst.dtype, &b, err));
        emit_tt(m, tpb, part, parts, &dst, k == 1 ? &a : &dst, &b, tt_of(n->op),
                k + 1 == ep.n_in ? &ep : &none);
    }
    return KAENA_OK;
}

kaena_status kcc_emit_binary(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                             uint32_t parts, kaena_err *err)
{
    return kcc_emit_variadic(m, n, tpb, part, parts, err);
}

/* A vector along axis 1 as a view that broadcasts over |rank| dimensions. */
static kcc_view per_channel(kcc_module *m, const float *data, int64_t channels, int32_t rank)
{
    kcc_view v = {.buf = kcc_weights_add(m, data, (uint64_t)channels * sizeof *data),
                  .dtype = KAENA_F32,
                  .shape = {.rank = rank}};
    for (int32_t d = 0; d < rank; d++)
        v.shape.dim[d] = 1;
    v.shape.dim[1] = channels;
    v.stride[1] = sizeof *data;
    return v;
}

/* Per-column operands have one row. */
static kisa_operand one_row(kisa_operand o)
{
    for (int32_t d = 0; d + 1 < KISA_DIMS; d++) {
        o.count[d] = 1;
        o.stride[d] = 0;
    }
    return o;
}

kaena_status kcc_emit_batch_norm(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                                 uint32_t parts, kaena_err *err)
{
    const kop_tensor *in[KOP_MAX_INPUTS];
    kop_tensor result[KOP_MAX_OUTPUTS];
    kop_call call = kgr_call(n, in, result, NULL, err);
    kcc_view src, dst = *kcc_view_of(m, n->out[0]);
    kcc_epilogue ep = kcc_epilogue_of(n);
    KAENA_TRY(kcc_input_view(m, n->in[0], &src, err));
    if (part == 0)
        kcc_fill_halo(m, tpb, &dst);
    int64_t channels = dst.shape.dim[1];
    double epsilon = (double)kop_attr_float(&call, "epsilon", 1e-5f);
    float *scale = KAENA_NEW_N(m->weights_arena, float, channels),
          *bias = KAENA_NEW_N(m->weights_arena, float, channels);
    for (int64_t c = 0; c < channels; c++) {
        size_t i = (size_t)c;
        double s = kop_get_float(in[1], i) / sqrt(kop_get_float(in[4], i) + epsilon);
        scale[c] = (float)s;
        bias[c] = (float)(kop_get_float(in[2], i) - kop_get_float(in[3], i) * s);
    }
    kcc_view s = per_channel(m, scale, channels, dst.shape.rank),
             b = per_channel(m, bias, channels, dst.shape.rank);
    kcc_nest nest;
    kcc_nest_init(&nest, &dst.shape, (const kcc_view *const[]){&dst, &src, &s, &b}, 4);
    kcc_nest_normalise(&nest, 1);
    if (!kcc_nest_part(&nest, part, parts))
        return KAENA_OK;
    kisa_operand o[4];
    uint32_t loops = kcc_nest_open(m, tpb, &nest, o);
    kcc_inst(m, tpb, KISA_ACT)->u.act = (kisa_act){.dst = o[0],
                                                   .src = o[1],
                                                   .scale = one_row(o[2]),
                                                   .bias = one_row(o[3]),
                                                   .scale_all = 1,
                                                   .func = (uint8_t)ep.act,
                                                   .alpha = ep.alpha,
                                                   .beta = ep.beta};
    close_loops(m, tpb, loops);
    return KAENA_OK;
}

kaena_status kcc_emit_cast(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                           uint32_t parts, kaena_err *err)
{
    if (kgr_attr_find(n, KCC_PANELS))
        return kcc_emit_panels(m, n, tpb, part, parts, err);
    kcc_view src, dst = *kcc_view_of(m, n->out[0]);
    KAENA_TRY(kcc_input_view(m, n->in[0], &src, err));
    if (part == 0)
        kcc_fill_halo(m, tpb, &dst);
    kcc_emit_copy(m, tpb, part, parts, &src, &dst);
    return KAENA_OK;
}

static const struct {
    kop_op op;
    kisa_reduce_kind kind;
} reductions[] = {{KOP_ReduceSum, KISA_REDUCE_SUM},   {KOP_ReduceMean, KISA_REDUCE_SUM},
                  {KOP_ReduceMax, KISA_REDUCE_MAX},   {KOP_ReduceMin, KISA_REDUCE_MIN},
                  {KOP_ReduceProd, KISA_REDUCE_PROD}, {KOP_ReduceSumSquare, KISA_REDUCE_SUM_SQUARE},
                  {KOP_ReduceL1, KISA_REDUCE_SUM_ABS}};

/* src and dst have the same rank; dst has dimension 1 where |reduced|. Kept dimensions are shared
 * out, dimensions go by descending stride of the source. */
void kcc_emit_reduction(kcc_module *m, uint32_t tpb, uint32_t part, uint32_t parts,
                        const kcc_view *src, const kcc_view *dst, const bool *reduced,
                        kisa_reduce_kind kind, float scale)
{
    int32_t rank = src->shape.rank, order[KISA_DIMS], cut = -1;
    for (int32_t d = 0; d < rank; d++) {
        int32_t at = d;
        for (; at > 0 && src->stride[order[at - 1]] < src->stride[d]; at--)
            order[at] = order[at - 1];
        order[at] = d;
        if (!reduced[d] && (cut < 0 || src->shape.dim[d] > src->shape.dim[cut]))
            cut = d;
    }
    int64_t lo = 0, hi = cut < 0 ? (part == 0 ? 1 : 0) : src->shape.dim[cut];
    if (cut >= 0)
        kcc_part(src->shape.dim[cut], 1, part, parts, &lo, &hi);
    if (lo >= hi)
        return;
    kisa_operand in = kcc_operand(m, tpb, src), out = kcc_operand(m, tpb, dst);
    uint8_t axes = 0;
    for (int32_t k = 0; k < rank; k++) {
        int32_t d = order[k], at = KISA_DIMS - rank + k;
        int64_t count = d == cut ? hi - lo : src->shape.dim[d];
        in.count[at] = (uint32_t)count;
        in.stride[at] = src->stride[d];
        out.count[at] = reduced[d] ? 1 : (uint32_t)count;
        out.stride[at] = reduced[d] ? 0 : dst->stride[d];
        if (reduced[d])
            axes |= (uint8_t)(1u << at);
    }
    if (cut >= 0) {
        in.offset += (uint64_t)(lo * src->stride[cut]);
        out.offset += (uint64_t)(lo * dst->stride[cut]);
    }
    kcc_inst(m, tpb, KISA_REDUCE)->u.reduce =
        (kisa_reduce){.src = in, .dst = out, .op = (uint8_t)kind, .axes = axes, .scale = scale};
}

kaena_status kcc_emit_reduce(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                             uint32_t parts, kaena_err *err)
{
    kcc_view src, dst = *kcc_view_of(m, n->out[0]);
    KAENA_TRY(kcc_input_view(m, n->in[0], &src, err));
    int32_t rank = src.shape.rank;
    bool reduced[KISA_DIMS] = {false};
    bool listed = n->n_in > 1 && n->in[1] && kop_elements(&n->in[1]->t);
    for (size_t k = 0; listed && k < kop_elements(&n->in[1]->t); k++) {
        int32_t axis;
        if (!kop_axis(kop_get_int(&n->in[1]->t, k), rank, &axis))
            return KAENA_FAIL(err, INVALID_ARGUMENT, "axis out of range");
        reduced[axis] = true;
    }
    int64_t elements = 1;
    kcc_view out = dst;
    out.shape = src.shape;
    bool kept = dst.shape.rank == rank;
    int32_t next = 0;
    for (int32_t d = 0; d < rank; d++) {
        if (!listed)
            reduced[d] = true;
        if (reduced[d]) {
            elements *= src.shape.dim[d];
            out.shape.dim[d] = 1;
        }
        out.stride[d] = reduced[d] ? 0 : dst.stride[kept ? d : next];
        if (!reduced[d])
            next++;
    }
    if (part == 0)
        kcc_fill_halo(m, tpb, &dst);
    kisa_reduce_kind kind = KISA_REDUCE_SUM;
    for (size_t i = 0; i < sizeof reductions / sizeof *reductions; i++)
        if (reductions[i].op == n->op)
            kind = reductions[i].kind;
    float scale = n->op == KOP_ReduceMean ? (float)(1.0 / (double)elements) : 1;
    kcc_emit_reduction(m, tpb, part, parts, &src, &out, reduced, kind, scale);
    return KAENA_OK;
}
