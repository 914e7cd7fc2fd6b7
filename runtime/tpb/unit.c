/* Execution of units: operands become addresses, fields become kernel arguments. */
#include "tpb_code.h"

#define NEXT_EARLY (128 << 10) /* bytes of weights that a cache takes beside what is in work */

uint8_t *tpb_address(const tpb_bind *bind, const kisa_operand *o, const uint32_t *turns)
{
    uintptr_t base = 0;
    switch ((kisa_space)o->space) {
    case KISA_SB:
        base = (uintptr_t)bind->sb;
        break;
    case KISA_PSUM:
        base = (uintptr_t)bind->psum;
        break;
    case KISA_WEIGHTS:
        base = (uintptr_t)bind->weights;
        break;
    case KISA_SCRATCH:
        base = (uintptr_t)bind->scratch;
        break;
    case KISA_IO:
        base = (uintptr_t)bind->io[o->tensor];
        break;
    case KISA_NONE:
    case KISA_SPACE_COUNT:
        return NULL;
    }
    uint64_t at = o->offset;
    for (int l = 0; l < KISA_MAX_LOOPS; l++)
        at += turns[l] * (uint64_t)o->advance[l];
    return (uint8_t *)(base + at);
}

ker_ap tpb_resolve(const tpb_bind *bind, const kisa_operand *o, const uint32_t *turns)
{
    ker_ap ap = {.p = tpb_address(bind, o, turns), .dtype = (kaena_dtype)o->dtype};
    for (int i = 0; i < KISA_DIMS; i++) {
        /* A stride that is never taken may be any number. */
        ap.count[i] = o->count[i];
        ap.stride[i] = o->count[i] > 1 ? o->stride[i] : 0;
    }
    if (o->count[KISA_DIMS - 1] == 1)
        ap.stride[KISA_DIMS - 1] = (int64_t)kaena_dtype_size((kaena_dtype)o->dtype);
    return ap;
}

void tpb_matmul(const ker_table *ker, const ker_mm_args *a, uint32_t row0, uint32_t row1)
{
    if (a->x.dtype == KAENA_BF16)
        ker->mm_bf16(a, row0, row1);
    else if (a->x.dtype == KAENA_F16)
        ker->mm_f16(a, row0, row1);
    else if (a->x.dtype == KAENA_F32)
        ker->mm_f32(a, row0, row1);
    else
        ker->mm_i8(a, row0, row1);
}

static ker_epilogue epilogue_of(const kisa_act *f, const tpb_bind *bind, const uint32_t *turns)
{
    return (ker_epilogue){
        .scale = (const float *)(const void *)tpb_address(bind, &f->scale, turns),
        .bias = (const float *)(const void *)tpb_address(bind, &f->bias, turns),
        .scale_all = f->scale_all,
        .bias_all = f->bias_all,
        .func = (kaena_act)f->func,
        .alpha = f->alpha,
        .beta = f->beta,
        .residual_after = f->residual_after != 0,
    };
}

static ker_scaling scaling_of(const kisa_quant *f, const tpb_bind *bind, const uint32_t *turns)
{
    return (ker_scaling){
        .scale = (const float *)(const void *)tpb_address(bind, &f->scale, turns),
        .bias = (const int32_t *)(const void *)tpb_address(bind, &f->bias, turns),
        .scale_all = f->scale_all,
        .bias_all = f->bias_all,
        .divide = f->divide != 0,
        .zero = f->zero,
        .low = f->low,
        .high = f->high,
    };
}

#define AP(name) tpb_resolve(bind, &f->name, turns)

static void run_act(const kisa_act *f, const tpb_bind *bind, const uint32_t *turns, uint32_t row0,
                    uint32_t row1)
{
    ker_act_args a = {.src = AP(src),
                      .dst = AP(dst),
                      .residual = AP(residual),
                      .ep = epilogue_of(f, bind, turns)};
    bind->ker->act(&a, row0, row1);
}

static void run_quant(const kisa_quant *f, const tpb_bind *bind, const uint32_t *turns,
                      uint32_t row0, uint32_t row1)
{
    ker_quant_args a = {.src = AP(src), .dst = AP(dst), .scaling = scaling_of(f, bind, turns)};
    bind->ker->quant(&a, row0, row1);
}

static void run_ttt(const kisa_ttt *f, const tpb_bind *bind, const uint32_t *turns, uint32_t row0,
                    uint32_t row1)
{
    ker_ttt_args a = {.a = AP(a),
                      .b = AP(b),
                      .c = AP(c),
                      .dst = AP(dst),
                      .op = f->op,
                      .func = (kaena_act)f->func,
                      .alpha = f->alpha,
                      .beta = f->beta};
    bind->ker->ttt(&a, row0, row1);
}

static void run_tt(const kisa_tt *f, const tpb_bind *bind, const uint32_t *turns, uint32_t row0,
                   uint32_t row1)
{
    ker_tt_args a = {.a = AP(a),
                     .b = AP(b),
                     .dst = AP(dst),
                     .op = f->op,
                     .func = (kaena_act)f->func,
                     .alpha = f->alpha,
                     .beta = f->beta};
    bind->ker->tt(&a, row0, row1);
}

static void run_window(const kisa_window *f, const tpb_bind *bind, const uint32_t *turns,
                       uint32_t row0, uint32_t row1)
{
    ker_window_args a = {.src = AP(src),
                         .dst = AP(dst),
                         .kind = f->kind,
                         .kernel_h = f->kernel_h,
                         .kernel_w = f->kernel_w,
                         .stride_h = f->stride_h,
                         .stride_w = f->stride_w,
                         .dilation_h = f->dilation_h,
                         .dilation_w = f->dilation_w,
                         .y0 = f->y0,
                         .x0 = f->x0,
                         .pad_y0 = f->pad_y0,
                         .pad_y1 = f->pad_y1,
                         .pad_x0 = f->pad_x0,
                         .pad_x1 = f->pad_x1};
    bind->ker->window(&a, row0, row1);
}

static void run_dwconv(const kisa_dwconv *f, const tpb_bind *bind, const uint32_t *turns,
                       uint32_t row0, uint32_t row1)
{
    ker_dwconv_args a = {
        .src = AP(src),
        .weights = AP(weights),
        .dst = AP(dst),
        .residual = AP(residual),
        .stride_h = f->stride_h,
        .stride_w = f->stride_w,
        .dilation_h = f->dilation_h,
        .dilation_w = f->dilation_w,
        .ep = {.bias = (const float *)(const void *)tpb_address(bind, &f->bias, turns),
               .scale_all = 1,
               .func = (kaena_act)f->func,
               .alpha = f->alpha,
               .beta = f->beta,
               .residual_after = f->residual_after != 0}};
    bind->ker->dwconv(&a, row0, row1);
}

static void run_reduce(const kisa_reduce *f, const tpb_bind *bind, const uint32_t *turns,
                       uint32_t row0, uint32_t row1)
{
    ker_reduce_args a = {
        .src = AP(src), .dst = AP(dst), .op = f->op, .axes = f->axes, .scale = f->scale};
    bind->ker->reduce(&a, row0, row1);
}

static void run_softmax(const kisa_softmax *f, const tpb_bind *bind, const uint32_t *turns,
                        uint32_t row0, uint32_t row1)
{
    ker_softmax_args a = {.src = AP(src), .dst = AP(dst), .kind = f->kind};
    bind->ker->softmax(&a, row0, row1);
}

static void run_lrn(const kisa_lrn *f, const tpb_bind *bind, const uint32_t *turns, uint32_t row0,
                    uint32_t row1)
{
    ker_lrn_args a = {.src = AP(src),
                      .dst = AP(dst),
                      .size = f->size,
                      .alpha = f->alpha,
                      .beta = f->beta,
                      .bias = f->bias};
    bind->ker->lrn(&a, row0, row1);
}

static void run_resize(const kisa_resize *f, const tpb_bind *bind, const uint32_t *turns,
                       uint32_t row0, uint32_t row1)
{
    ker_resize_args a = {.src = AP(src),
                         .dst = AP(dst),
                         .y_index = AP(y_index),
                         .y_weight = AP(y_weight),
                         .x_index = AP(x_index),
                         .x_weight = AP(x_weight),
                         .bad_index = bind->error};
    bind->ker->resize(&a, row0, row1);
}

static void run_copy(const kisa_copy *f, const tpb_bind *bind, const uint32_t *turns, uint32_t row0,
                     uint32_t row1)
{
    ker_copy_args a = {.src = AP(src), .dst = AP(dst)};
    bind->ker->copy(&a, row0, row1);
}

static void run_fill(const kisa_fill *f, const tpb_bind *bind, const uint32_t *turns, uint32_t row0,
                     uint32_t row1)
{
    ker_fill_args a = {.dst = AP(dst), .value = f->value};
    bind->ker->fill(&a, row0, row1);
}

static void run_gather(const kisa_gather *f, const tpb_bind *bind, const uint32_t *turns,
                       uint32_t row0, uint32_t row1)
{
    ker_gather_args a = {.table = AP(table),
                         .index = AP(index),
                         .dst = AP(dst),
                         .bound = f->bound,
                         .bad_index = bind->error};
    bind->ker->gather(&a, row0, row1);
}

static void run_norm(const kisa_norm *f, const tpb_bind *bind, const uint32_t *turns, uint32_t row0,
                     uint32_t row1)
{
    ker_norm_args a = {.src = AP(src),
                       .scale = AP(scale),
                       .bias = AP(bias),
                       .dst = AP(dst),
                       .kind = f->kind,
                       .epsilon = f->epsilon};
    bind->ker->norm(&a, row0, row1);
}

static void run_pack(const kisa_pack *f, const tpb_bind *bind, const uint32_t *turns, uint32_t row0,
                     uint32_t row1)
{
    ker_pack_args a = {.src = AP(src), .dst = AP(dst)};
    bind->ker->pack(&a, row0, row1);
}

#undef AP

/* One turn of an instruction. */
static void run_instruction(const kisa_inst *inst, const tpb_bind *bind, const uint32_t *turns,
                            uint32_t row0, uint32_t row1)
{
    switch ((kisa_op)inst->op) {
    case KISA_ACT:
        run_act(&inst->u.act, bind, turns, row0, row1);
        break;
    case KISA_QUANT:
        run_quant(&inst->u.quant, bind, turns, row0, row1);
        break;
    case KISA_TTT:
        run_ttt(&inst->u.ttt, bind, turns, row0, row1);
        break;
    case KISA_TT:
        run_tt(&inst->u.tt, bind, turns, row0, row1);
        break;
    case KISA_WINDOW:
        run_window(&inst->u.window, bind, turns, row0, row1);
        break;
    case KISA_DWCONV:
        run_dwconv(&inst->u.dwconv, bind, turns, row0, row1);
        break;
    case KISA_REDUCE:
        run_reduce(&inst->u.reduce, bind, turns, row0, row1);
        break;
    case KISA_SOFTMAX:
        run_softmax(&inst->u.softmax, bind, turns, row0, row1);
        break;
    case KISA_LRN:
        run_lrn(&inst->u.lrn, bind, turns, row0, row1);
        break;
    case KISA_RESIZE:
        run_resize(&inst->u.resize, bind, turns, row0, row1);
        break;
    case KISA_COPY:
        run_copy(&inst->u.copy, bind, turns, row0, row1);
        break;
    case KISA_FILL:
        run_fill(&inst->u.fill, bind, turns, row0, row1);
        break;
    case KISA_GATHER:
        run_gather(&inst->u.gather, bind, turns, row0, row1);
        break;
    case KISA_NORM:
        run_norm(&inst->u.norm, bind, turns, row0, row1);
        break;
    case KISA_PACK:
        run_pack(&inst->u.pack, bind, turns, row0, row1);
        break;
    case KISA_HALT:
    case KISA_LOOP:
    case KISA_END:
    case KISA_SIGNAL:
    case KISA_WAIT:
    case KISA_LDW:
    case KISA_MATMUL: /* nodes of their own */
        break;
    }
}

/* The weights of the next turn, in the one call of this turn that fetches them ahead: the first,
 * or, where they would take the place of this turn's in the cache, the last. */
static const uint8_t *next_weights(const tpb_unit *u, const ker_mm_args *a, const uint32_t *turns,
                                   uint32_t row0, uint32_t row1)
{
    bool early = a->panels * a->panel_stride <= NEXT_EARLY;
    if (early ? row0 != 0 : row1 != u->rows)
        return NULL;
    for (uint32_t l = u->depth; l-- > u->fixed;)
        if (u->weights->advance[l] && turns[l] + 1 < u->turns[l])
            return a->w + u->weights->advance[l];
    return NULL;
}

/* One turn of a fused run. */
static void run_fused(const tpb_unit *u, const tpb_bind *bind, const uint32_t *turns, uint32_t row0,
                      uint32_t row1)
{
    ker_mm_args a = {.x = tpb_resolve(bind, u->moving, turns),
                     .w = tpb_address(bind, u->weights, turns),
                     .panel_stride = u->weights->count[1] > 1 ? u->weights->stride[1] : 0,
                     .panels = u->weights->count[1],
                     .tile = u->tile,
                     .n_tiles = u->n_tiles};
    if (u->inst->op == KISA_ACT) {
        const kisa_act *act = &u->inst->u.act;
        a.dst = tpb_resolve(bind, &act->dst, turns);
        a.residual = tpb_resolve(bind, &act->residual, turns);
        a.ep = epilogue_of(act, bind, turns);
    } else {
        const kisa_quant *quant = &u->inst->u.quant;
        a.dst = tpb_resolve(bind, &quant->dst, turns);
        a.quantise = true;
        a.scaling = scaling_of(quant, bind, turns);
    }
    a.next_w = next_weights(u, &a, turns, row0, row1);
    tpb_matmul(bind->ker, &a, row0, row1);
}

void tpb_unit_run(const tpb_unit *u, const tpb_bind *bind, const uint32_t *turns, uint32_t chunk,
                  const atomic_bool *stop)
{
    uint32_t at[KISA_MAX_LOOPS] = {0};
    for (uint32_t l = 0; l < u->fixed; l++)
        at[l] = turns[l];
    uint32_t row_part = chunk % u->row_parts;
    chunk /= u->row_parts;
    for (uint32_t i = u->n_outer; i-- > 0;) {
        at[u->outer[i]] = chunk % u->turns[u->outer[i]];
        chunk /= u->turns[u->outer[i]];
    }
    uint32_t row0 = tpb_part_begin(u, row_part), row1 = tpb_part_begin(u, row_part + 1);
    for (;;) {
        if (u->moving)
            run_fused(u, bind, at, row0, row1);
        else
            run_instruction(u->inst, bind, at, row0, row1);
        uint32_t i = u->n_inner;
        while (i > 0 && ++at[u->inner[i - 1]] == u->turns[u->inner[i - 1]])
            at[u->inner[--i]] = 0;
        if (i == 0 || (stop && atomic_load_explicit(stop, memory_order_relaxed)))
            return;
    }
}
