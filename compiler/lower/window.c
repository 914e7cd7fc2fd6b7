/* Windows over channels-last planes and operations along one axis: pooling, LRN, softmax, resize.
 */
#include <string.h>

#include "lower.h"

/* A rank-3 view [n][c][w] or rank-4 view [n][c][h][w] as an operand [n][h][w][c], rows [lo, hi) of
 * h. */
static kisa_operand plane(kcc_module *m, uint32_t tpb, const kcc_view *v, int64_t lo, int64_t hi)
{
    bool two = v->shape.rank == 4;
    int32_t x = v->shape.rank - 1;
    kisa_operand o = kcc_operand(m, tpb, v);
    const uint32_t count[4] = {(uint32_t)v->shape.dim[0], (uint32_t)(hi - lo),
                               (uint32_t)v->shape.dim[x], (uint32_t)v->shape.dim[1]};
    const int64_t stride[4] = {v->stride[0], two ? v->stride[2] : 0, v->stride[x], v->stride[1]};
    memcpy(o.count, count, sizeof count);
    memcpy(o.stride, stride, sizeof stride);
    if (two)
        o.offset += (uint64_t)(lo * v->stride[2]);
    return o;
}

static int64_t height(const kcc_view *v)
{
    return v->shape.rank == 4 ? v->shape.dim[2] : 1;
}

kaena_status kcc_emit_pool(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                           uint32_t parts, kaena_err *err)
{
    const kop_tensor *in[KOP_MAX_INPUTS];
    kop_tensor result[KOP_MAX_OUTPUTS];
    kop_call call = kgr_call(n, in, result, NULL, err);
    kop_window w;
    KAENA_TRY(kop_window_of(&call, &w));
    kcc_view src, dst = *kcc_view_of(m, n->out[0]);
    KAENA_TRY(kcc_input_view(m, n->in[0], &src, err));
    if (part == 0)
        kcc_fill_halo(m, tpb, &dst);
    int64_t lo, hi;
    kcc_part(height(&dst), 1, part, parts, &lo, &hi);
    if (lo >= hi)
        return KAENA_OK;
    int32_t x = w.spatial - 1;
    bool two = w.spatial == 2;
    bool padded = kop_attr_int(&call, "count_include_pad", 0) != 0;
    kisa_operand from = plane(m, tpb, &src, 0, height(&src)), to = plane(m, tpb, &dst, lo, hi);
    kisa_window_kind kind = n->op == KOP_MaxPool ? KISA_WINDOW_MAX
                            : padded             ? KISA_WINDOW_AVG_PAD
                                                 : KISA_WINDOW_AVG;
    kcc_inst(m, tpb, KISA_WINDOW)->u.window = (kisa_window){
        .src = from,
        .dst = to,
        .kind = (uint8_t)kind,
        .kernel_h = (uint16_t)(two ? w.kernel[0] : 1),
        .kernel_w = (uint16_t)w.kernel[x],
        .stride_h = (uint16_t)(two ? w.stride[0] : 1),
        .stride_w = (uint16_t)w.stride[x],
        .dilation_h = (uint16_t)(two ? w.dilation[0] : 1),
        .dilation_w = (uint16_t)w.dilation[x],
        .y0 = (int32_t)(two ? lo * w.stride[0] - w.pad_begin[0] : 0),
        .x0 = (int32_t)-w.pad_begin[x],
        .pad_y0 = (int32_t)(two ? -w.pad_begin[0] : 0),
        .pad_y1 = (int32_t)(two ? w.in[0] + w.pad_end[0] : 1),
        .pad_x0 = (int32_t)-w.pad_begin[x],
        .pad_x1 = (int32_t)(w.in[x] + w.pad_end[x]),
    };
    return KAENA_OK;
}

kaena_status kcc_emit_global_pool(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                                  uint32_t parts, kaena_err *err)
{
    kcc_view src, dst = *kcc_view_of(m, n->out[0]);
    KAENA_TRY(kcc_input_view(m, n->in[0], &src, err));
    if (part == 0)
        kcc_fill_halo(m, tpb, &dst);
    bool reduced[KISA_DIMS] = {false, false, true, src.shape.rank == 4};
    int64_t area = height(&src) * src.shape.dim[src.shape.rank - 1];
    bool max = n->op == KOP_GlobalMaxPool;
    kcc_emit_reduction(m, tpb, part, parts, &src, &dst, reduced,
                       max ? KISA_REDUCE_MAX : KISA_REDUCE_SUM,
                       max ? 1 : (float)(1.0 / (double)area));
    return KAENA_OK;
}

kaena_status kcc_emit_lrn(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                          uint32_t parts, kaena_err *err)
{
    const kop_tensor *in[KOP_MAX_INPUTS];
    kop_tensor result[1];
    kop_call call = kgr_call(n, in, result, NULL, err);
    kcc_view src, dst = *kcc_view_of(m, n->out[0]);
    KAENA_TRY(kcc_input_view(m, n->in[0], &src, err));
    if (part == 0)
        kcc_fill_halo(m, tpb, &dst);
    int64_t lo, hi;
    kcc_part(height(&dst), 1, part, parts, &lo, &hi);
    if (lo >= hi)
        return KAENA_OK;
    kisa_operand from = plane(m, tpb, &src, lo, hi), to = plane(m, tpb, &dst, lo, hi);
    kcc_inst(m, tpb, KISA_LRN)->u.lrn = (kisa_lrn){.src = from,
                                                   .dst = to,
                                                   .size = (uint16_t)kop_attr_int(&call, "size", 1),
                                                   .alpha = kop_attr_float(&call, "alpha", 0.0001f),
                                                   .beta = kop_attr_float(&call, "beta", 0.75f),
                                                   .bias = kop_attr_float(&call, "bias", 1.0f)};
    return KAENA_OK;
}

kaena_status kcc_emit_softmax(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                              uint32_t parts, kaena_err *err)
{
    const kop_tensor *in[KOP_MAX_INPUTS];
    kop_tensor result[1];
    kop_call call = kgr_call(n, in, result, NULL, err);
    kcc_view src, dst = *kcc_view_of(m, n->out[0]);
    KAENA_TRY(kcc_input_view(m, n->in[0], &src, err));
    int32_t axis;
    if (!kop_axis(kop_attr_int(&call, "axis", -1), src.shape.rank, &axis))
        return KAENA_FAIL(err, INVALID_ARGUMENT, "axis out of range");
    if (part == 0)
        kcc_fill_halo(m, tpb, &dst);
    kcc_nest nest;
    kcc_nest_init(&nest, &dst.shape, (const kcc_view *const[]){&dst, &src}, 2);
    kcc_nest_normalise(&nest, axis);
    /* Only rows can be shared out. */
    kcc_nest rows = nest;
    if (nest.rank == 1) {
        if (part > 0)
            return KAENA_OK;
    } else {
        int32_t cut = 0;
        for (int32_t d = 0; d + 1 < nest.rank; d++)
            if (nest.dim[d] > nest.dim[cut])
                cut = d;
        int64_t lo, hi;
        kcc_part(nest.dim[cut], 1, part, parts, &lo, &hi);
        if (lo >= hi)
            return KAENA_OK;
        rows.dim[cut] = hi - lo;
        for (uint32_t i = 0; i < rows.n; i++)
            rows.start[i] += lo * rows.stride[i][cut];
    }
    kisa_operand o[2];
    uint32_t loops = kcc_nest_open(m, tpb, &rows, o);
    kcc_inst(m, tpb, KISA_SOFTMAX)->u.softmax =
        (kisa_softmax){.dst = o[0],
                       .src = o[1],
                       .kind = n->op == KOP_LogSoftmax ? KISA_SOFTMAX_LOG : KISA_SOFTMAX_PLAIN};
    while (loops--)
        kcc_end(m, tpb);
    return KAENA_OK;
}

/* The taps of a resize along one axis: resizing is linear in its input, so resizing the unit
 * vectors with the reference evaluation gives the matrix; no coordinate formula is written twice.
 */
static kaena_status axis_taps(kcc_module *m, const kgr_node *n, int32_t axis, kcc_view *index,
                              kcc_view *weight, kaena_err *err)
{
    int64_t in = n->in[0]->t.shape.dim[axis], out = n->out[0]->t.shape.dim[axis];
    const kop_tensor *tensors[KOP_MAX_INPUTS];
    kop_tensor unused[1];
    kop_call call = kgr_call(n, tensors, unused, NULL, err);
    float *unit = KAENA_NEW_N(m->arena, float, (size_t)(in * in));
    for (int64_t i = 0; i < in; i++)
        unit[i * in + i] = 1;
    kop_tensor x = {.dtype = KAENA_F32, .shape = {4, {in, 1, 1, 1}}, .data = unit};
    x.shape.dim[axis] = in;
    /* Scales or sizes of this axis alone. */
    float scales[4] = {1, 1, 1, 1};
    int64_t sizes[4] = {in, 1, 1, 1};
    kop_tensor scales_t = {.dtype = KAENA_F32, .shape = {1, {4}}, .data = scales};
    kop_tensor sizes_t = {.dtype = KAENA_I64, .shape = {1, {4}}, .data = sizes};
    const kop_tensor *operands[4] = {&x, NULL, NULL, NULL};
    bool by_scale = n->n_in > 2 && n->in[2] && kop_elements(&n->in[2]->t) > 0;
    if (by_scale) {
        scales[axis] = (float)kop_get_float(&n->in[2]->t, (size_t)axis);
        operands[2] = &scales_t;
    } else {
        sizes[axis] = out;
        operands[3] = &sizes_t;
    }
    kop_env env = {.arena = m->arena};
    kop_tensor y;
    call.in = operands;
    call.n_in = 4;
    call.out = &y;
    call.env = &env;
    KAENA_TRY(kop_eval(&call));
    const float *matrix = y.data; /* [in][out] */
    int64_t taps = 1;
    for (int64_t o = 0; o < out; o++) {
        int64_t used = 0;
        for (int64_t i = 0; i < in; i++)
            used += matrix[i * out + o] != 0;
        taps = used > taps ? used : taps;
    }
    int32_t *idx = KAENA_NEW_N(m->weights_arena, int32_t, (size_t)(out * taps));
    float *wgt = KAENA_NEW_N(m->weights_arena, float, (size_t)(out * taps));
    for (int64_t o = 0; o < out; o++) {
        int64_t t = 0;
        for (int64_t i = 0; i < in; i++)
            if (matrix[i * out + o] != 0) {
                idx[o * taps + t] = (int32_t)i;
                wgt[o * taps + t++] = matrix[i * out + o];
            }
    }
    uint64_t bytes = (uint64_t)(out * taps) * 4;
    *index = (kcc_view){.buf = kcc_weights_add(m, idx, bytes),
                        .dtype = KAENA_I32,
                        .shape = {2, {out, taps}},
                        .stride = {taps * 4, 4}};
    *weight = (kcc_view){.buf = kcc_weights_add(m, wgt, bytes),
                         .dtype = KAENA_F32,
                         .shape = {2, {out, taps}},
                         .stride = {taps * 4, 4}};
    return KAENA_OK;
}

static kisa_operand table(kcc_module *m, uint32_t tpb, const kcc_view *v, int64_t lo, int64_t hi)
{
    kisa_operand o = kcc_operand(m, tpb, v);
    o.offset += (uint64_t)(lo * v->stride[0]);
    o.count[2] = (uint32_t)(hi - lo);
    o.count[3] = (uint32_t)v->shape.dim[1];
    o.stride[2] = v->stride[0];
    o.stride[3] = v->stride[1];
    return o;
}

kaena_status kcc_emit_resize(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                             uint32_t parts, kaena_err *err)
{
    kcc_view src, dst = *kcc_view_of(m, n->out[0]), yi, yw, xi, xw;
    KAENA_TRY(kcc_input_view(m, n->in[0], &src, err));
    KAENA_TRY(axis_taps(m, n, 2, &yi, &yw, err));
    KAENA_TRY(axis_taps(m, n, 3, &xi, &xw, err));
    if (part == 0)
        kcc_fill_halo(m, tpb, &dst);
    int64_t lo, hi;
    kcc_part(height(&dst), 1, part, parts, &lo, &hi);
    if (lo >= hi)
        return KAENA_OK;
    kisa_operand from = plane(m, tpb, &src, 0, height(&src)), to = plane(m, tpb, &dst, lo, hi);
    kisa_operand y_index = table(m, tpb, &yi, lo, hi), y_weight = table(m, tpb, &yw, lo, hi);
    kisa_operand x_index = table(m, tpb, &xi, 0, xi.shape.dim[0]),
                 x_weight = table(m, tpb, &xw, 0, xw.shape.dim[0]);
    kcc_inst(m, tpb, KISA_RESIZE)->u.resize = (kisa_resize){.src = from,
                                                            .dst = to,
                                                            .y_index = y_index,
                                                            .y_weight = y_weight,
                                                            .x_index = x_index,
                                                            .x_weight = x_weight};
    return KAENA_OK;
}
