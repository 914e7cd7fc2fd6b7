/* A transposed convolution becomes a convolution whose channels are the phases of its stride, and a
 * rearrangement of them into pixels: y[s * i + p] = sum over t of x[i - t] * w[s * t + p]. */
#include "simplify.h"

/* One spatial dimension. */
typedef struct axis {
    int64_t stride, dilation; /* of the transposed convolution */
    int64_t kernel;           /* its taps */
    int64_t taps;             /* of each phase */
    int64_t step;             /* dilation of the convolution */
    int64_t begin, end;       /* its padding */
    int64_t rows;             /* its result */
    int64_t start, out;       /* what of the pixels is the result */
} axis;

static axis axis_of(const kop_window *w, int32_t i)
{
    axis a = {.stride = w->stride[i],
              .dilation = w->dilation[i],
              .kernel = w->kernel[i],
              .out = w->out[i]};
    bool plain = a.stride == 1;
    int64_t reach = (a.kernel - 1) * a.dilation + 1;
    a.taps = plain ? a.kernel : (reach + a.stride - 1) / a.stride;
    a.step = plain ? a.dilation : 1;
    int64_t whole = (a.taps - 1) * a.step, skip = w->pad_begin[i] / a.stride;
    skip = skip < whole ? skip : whole;
    a.begin = whole - skip;
    a.end = (w->pad_begin[i] + a.out + a.stride - 1) / a.stride - w->in[i];
    a.end = a.end > 0 ? a.end : 0;
    a.rows = w->in[i] + a.end - skip;
    a.start = w->pad_begin[i] - skip * a.stride;
    return a;
}

/* The tap of the transposed kernel at place |u| of phase |p|, or -1. */
static int64_t tap_of(const axis *a, int64_t u, int64_t p)
{
    int64_t q = a->stride * (a->taps - 1 - u) + p;
    if (a->stride == 1)
        return q;
    return q % a->dilation == 0 && q / a->dilation < a->kernel ? q / a->dilation : -1;
}

/* Weights [C][M / group][kernel] as [M * phases][C / group][taps]. */
static kgr_value *phase_weights(kgr_graph *g, const kgr_value *w, const axis a[2], int64_t group)
{
    const int64_t *d = w->t.shape.dim;
    int32_t spatial = w->t.shape.rank - 2;
    int64_t inputs = d[0] / group, outputs = d[1], phases = a[0].stride * a[1].stride;
    kaena_shape shape = {w->t.shape.rank, {group * outputs * phases, inputs, a[0].taps}};
    if (spatial == 2)
        shape.dim[3] = a[1].taps;
    else
        shape.dim[2] = a[1].taps;
    kgr_value *r = kgr_value_add(g, w->name, w->t.dtype, &shape);
    r->t.data = kaena_arena_array(g->arena, kop_elements(&r->t), kaena_dtype_size(w->t.dtype));
    size_t at = 0;
    for (int64_t m = 0; m < group * outputs; m++)
        for (int64_t p = 0; p < phases; p++)
            for (int64_t c = 0; c < inputs; c++)
                for (int64_t y = 0; y < a[0].taps; y++)
                    for (int64_t x = 0; x < a[1].taps; x++, at++) {
                        int64_t ty = tap_of(&a[0], y, p / a[1].stride);
                        int64_t tx = tap_of(&a[1], x, p % a[1].stride);
                        int64_t from = ((m / outputs * inputs + c) * outputs + m % outputs) *
                                           a[0].kernel * a[1].kernel +
                                       ty * a[1].kernel + tx;
                        kop_set_float(&r->t, at,
                                      ty < 0 || tx < 0 ? 0 : kop_get_float(&w->t, (size_t)from));
                    }
    return r;
}

static kaena_status no_memory(const kgr_node *n, kaena_err *err)
{
    return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", n->name);
}

static kaena_status reshape(kgr_graph *g, kgr_node *n, kgr_value **v, const int64_t *dim,
                            uint32_t rank, kaena_err *err)
{
    kgr_value *shape = kgr_const_i64(g, "shape", dim, rank);
    kgr_node *made;
    if (!shape)
        return no_memory(n, err);
    KAENA_TRY(kcc_insert(g, n, KOP_Reshape, n->name, (kgr_value *[]){*v, shape}, 2, &made, err));
    *v = made->out[0];
    return KAENA_OK;
}

/* [N][M * phases][rows] to [N][M][rows * stride]. */
static kaena_status interleave(kgr_graph *g, kgr_node *n, kgr_value **v, const axis a[2],
                               int32_t spatial, kaena_err *err)
{
    static const int64_t perm[2][6] = {{0, 1, 3, 2}, {0, 1, 4, 2, 5, 3}};
    const int64_t *d = n->out[0]->t.shape.dim;
    const int64_t split[2][6] = {{d[0], d[1], a[1].stride, a[1].rows},
                                 {d[0], d[1], a[0].stride, a[1].stride, a[0].rows, a[1].rows}};
    const int64_t joined[2][4] = {{d[0], d[1], a[1].rows * a[1].stride},
                                  {d[0], d[1], a[0].rows * a[0].stride, a[1].rows * a[1].stride}};
    uint32_t k = (uint32_t)spatial - 1, rank = 2 * (uint32_t)spatial + 2;
    kgr_node *turned;
    KAENA_TRY(reshape(g, n, v, split[k], rank, err));
    KAENA_TRY(kcc_insert(g, n, KOP_Transpose, n->name, v, 1, &turned, err));
    if (!kgr_attr_ints(g, turned, "perm", perm[k], rank))
        return no_memory(n, err);
    KAENA_TRY(kgr_infer_node(turned, err));
    *v = turned->out[0];
    return reshape(g, n, v, joined[k], (uint32_t)spatial + 2, err);
}

/* Each channel's bias once for every phase. */
static kgr_value *phase_bias(kgr_graph *g, const kgr_value *b, int64_t phases)
{
    int64_t n = (int64_t)kop_elements(&b->t) * phases;
    kgr_value *r = kgr_value_add(g, b->name, b->t.dtype, &(kaena_shape){1, {n}});
    r->t.data = kaena_arena_array(g->arena, (size_t)n, kaena_dtype_size(b->t.dtype));
    for (int64_t i = 0; i < n; i++)
        kop_set_float(&r->t, (size_t)i, kop_get_float(&b->t, (size_t)(i / phases)));
    return r;
}

kaena_status kcc_rule_conv_transpose(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err)
{
    kaena_dtype t = n->out[0]->t.dtype;
    int32_t rank = n->out[0]->t.shape.rank, spatial = rank - 2;
    if ((t != KAENA_F32 && t != KAENA_F16 && t != KAENA_BF16) || n->device == KGR_HOST ||
        rank < 3 || rank > 4 || !kgr_is_const(n->in[1]) || !kcc_known(n->in[0]) ||
        (n->n_in > 2 && n->in[2] && !kgr_is_const(n->in[2])))
        return KAENA_OK;
    const kop_tensor *in[KOP_MAX_INPUTS];
    kop_tensor result[1];
    kop_call call = kgr_call(n, in, result, NULL, err);
    kop_window w;
    KAENA_TRY(kop_transposed_window_of(&call, &w));
    for (int32_t i = 0; i < spatial; i++)
        if (w.pad_begin[i] < 0 || w.pad_end[i] < 0)
            return KAENA_OK;
    /* One dimension is a plane of one row. */
    axis a[2] = {{1, 1, 1, 1, 1, 0, 0, 1, 0, 1}, axis_of(&w, spatial - 1)};
    if (spatial == 2)
        a[0] = axis_of(&w, 0);
    int64_t phases = a[0].stride * a[1].stride;
    kgr_value *operand[3] = {n->in[0], phase_weights(g, n->in[1], a, w.group), NULL};
    uint32_t n_operands = n->n_in > 2 && n->in[2] ? 3 : 2;
    if (n_operands == 3)
        operand[2] = phase_bias(g, n->in[2], phases);
    kgr_node *before = n->prev ? n->prev : kgr_at_start;
    kgr_node *conv =
        kgr_node_add(g, before, KOP_Conv, n->name, NULL, operand, n_operands, &n->name, 1);
    const axis *first = &a[2 - spatial], *last = &a[1];
    const int64_t pads[4] = {first->begin, spatial == 2 ? last->begin : last->end, first->end,
                             last->end};
    const int64_t steps[2] = {first->step, last->step};
    if (!conv || !kgr_attr_ints(g, conv, "pads", pads, 2 * (uint32_t)spatial) ||
        !kgr_attr_ints(g, conv, "dilations", steps, (uint32_t)spatial) ||
        !kgr_attr_int(g, conv, "group", w.group))
        return no_memory(n, err);
    KAENA_TRY(kgr_infer_node(conv, err));
    kgr_value *v = conv->out[0];
    if (phases > 1)
        KAENA_TRY(interleave(g, n, &v, a, spatial, err));
    int64_t start[2], end[2], axes[2] = {2, 3};
    for (int32_t i = 0; i < spatial; i++) {
        start[i] = first[i].start;
        end[i] = first[i].start + first[i].out;
    }
    kgr_value *cut[4] = {v, kgr_const_i64(g, "start", start, (uint32_t)spatial),
                         kgr_const_i64(g, "end", end, (uint32_t)spatial),
                         kgr_const_i64(g, "axes", axes, (uint32_t)spatial)};
    kgr_node_cut_inputs(n, 1);
    kgr_node_set_input(n, 0, v);
    for (int i = 1; i < 4; i++)
        if (!cut[i] || !kgr_node_add_input(g, n, cut[i]))
            return no_memory(n, err);
    n->op = KOP_Slice;
    n->n_attr = 0;
    *changed = true;
    return KAENA_OK;
}
