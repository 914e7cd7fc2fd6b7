/* The recurrence: a LOOP over the steps whose operands advance, or go back. A step is the product
 * of the state with R, drained by the gates' functions onto the inputs' product, and a few
 * elementwise instructions. One direction is one TPB's. */
#include <math.h>

#include "pack.h"
#include "recurrent.h"

/* Where emission stands: one direction of one layer. */
typedef struct walk {
    kcc_module *m;
    uint32_t tpb;
    const kcc_recurrent *r;
    const kcc_recurrent_dir *dir;
    int64_t d;
    int64_t batch, hidden, steps;
    bool backwards, masked, clipped;
    uint32_t level; /* of the loop over steps */
} walk;

/* [batch][columns] of a buffer. */
static kisa_operand box(const walk *w, kcc_buffer *buf, kaena_dtype type, int64_t offset,
                        int64_t row, int64_t columns, int64_t column)
{
    const kcc_view v = {.buf = buf, .dtype = type, .offset = offset};
    kisa_operand o = kcc_operand(w->m, w->tpb, &v);
    o.count[2] = (uint32_t)w->batch;
    o.stride[2] = row;
    o.count[3] = (uint32_t)columns;
    o.stride[3] = column;
    return o;
}

static kisa_operand state(const walk *w, kcc_buffer *buf, kaena_dtype type)
{
    int64_t element = (int64_t)kaena_dtype_size(type);
    return box(w, buf, type, 0, w->hidden * element, w->hidden, element);
}

static kisa_operand state_h(const walk *w)
{
    return state(w, w->dir->h, w->r->type);
}

static kisa_operand state_wide(const walk *w)
{
    return state(w, w->dir->wide, KAENA_F32);
}

/* Gates [first, end). */
static kisa_operand gates(const walk *w, int64_t first, int64_t end)
{
    return box(w, w->dir->gates, KAENA_F32, first * w->hidden * 4, w->r->p.gates * w->hidden * 4,
               (end - first) * w->hidden, 4);
}

static kisa_operand gate(const walk *w, int64_t k)
{
    return gates(w, k, k + 1);
}

/* Lets an operand of step 0 walk with the steps, |step| bytes each. */
static kisa_operand with_steps(const walk *w, kisa_operand o, int64_t step)
{
    if (w->backwards)
        o.offset += (uint64_t)((w->steps - 1) * step);
    o.advance[w->level] = w->backwards ? -step : step;
    return o;
}

/* The inputs' product of the step, gates [first, end). */
static kisa_operand inputs(const walk *w, int64_t first, int64_t end)
{
    const kcc_view *v = kcc_view_of(w->m, w->r->product);
    int32_t t = w->r->p.batch_first ? 1 : 0;
    int64_t column = (w->d * w->r->p.gates + first) * w->hidden;
    kisa_operand o = box(w, v->buf, KAENA_F32, v->offset + column * v->stride[2], v->stride[1 - t],
                         (end - first) * w->hidden, v->stride[2]);
    return with_steps(w, o, v->stride[t]);
}

/* Y of the step. */
static kisa_operand output(const walk *w)
{
    const kcc_view *v = kcc_view_of(w->m, w->r->node->out[0]);
    bool first = w->r->p.batch_first;
    int32_t t = first ? 1 : 0, b = first ? 0 : 2, d = first ? 2 : 1;
    kisa_operand o = box(w, v->buf, v->dtype, v->offset + w->d * v->stride[d], v->stride[b],
                         w->hidden, v->stride[3]);
    return with_steps(w, o, v->stride[t]);
}

/* The direction's part of a state that comes in or goes out. */
static kisa_operand boundary(const walk *w, const kcc_view *v)
{
    int32_t d = w->r->p.batch_first ? 1 : 0;
    return box(w, v->buf, v->dtype, v->offset + w->d * v->stride[d], v->stride[1 - d], w->hidden,
               v->stride[2]);
}

static kisa_operand mask(const walk *w)
{
    kisa_operand o = box(w, w->dir->mask, KAENA_F32, 0, 4, w->hidden, 0);
    return with_steps(w, o, w->batch * 4);
}

/* --- Instructions ------------------------------------------------------------------------ */

typedef struct function {
    kaena_act act;
    float alpha, beta;
} function;

static const function plain = {KAENA_ACT_IDENTITY, 0, 0};

static function fn_of(const walk *w, uint32_t i)
{
    const kop_recurrent_fn *f = &w->r->p.fn[w->d][i];
    return (function){f->act, f->alpha, f->beta};
}

static function clip_of(const walk *w)
{
    float c = (float)w->r->p.clip;
    return (function){KAENA_ACT_CLIP, -c, c};
}

/* The function of a sum that is a gate's argument: where it is clipped, that comes first and |act|
 * of its own. */
static function drained_by(const walk *w, function f)
{
    return w->clipped ? clip_of(w) : f;
}

static void act(const walk *w, function f, kisa_operand src, kisa_operand dst)
{
    kcc_inst(w->m, w->tpb, KISA_ACT)->u.act = (kisa_act){.src = src,
                                                         .dst = dst,
                                                         .scale_all = 1,
                                                         .func = (uint8_t)f.act,
                                                         .alpha = f.alpha,
                                                         .beta = f.beta};
}

static void after_clip(const walk *w, function f, kisa_operand gate)
{
    if (w->clipped)
        act(w, f, gate, gate);
}

static void multiply(const walk *w, kisa_operand a, kisa_operand b, kisa_operand dst)
{
    kcc_inst(w->m, w->tpb, KISA_TT)->u.tt =
        (kisa_tt){.a = a, .b = b, .dst = dst, .op = KISA_TT_MUL};
}

static void mix(const walk *w, kisa_ttt_kind op, function f, kisa_operand a, kisa_operand b,
                kisa_operand c, kisa_operand dst)
{
    kcc_inst(w->m, w->tpb, KISA_TTT)->u.ttt = (kisa_ttt){.a = a,
                                                         .b = b,
                                                         .c = c,
                                                         .dst = dst,
                                                         .op = (uint8_t)op,
                                                         .func = (uint8_t)f.act,
                                                         .alpha = f.alpha,
                                                         .beta = f.beta};
}

static void copy(const walk *w, kisa_operand src, kisa_operand dst)
{
    kcc_inst(w->m, w->tpb, KISA_COPY)->u.copy = (kisa_copy){.src = src, .dst = dst};
}

/* --- The product of a step --------------------------------------------------------------- */

typedef struct product {
    kisa_operand x;        /* the state */
    kisa_operand dst, add; /* gates; what is added to the sums, or absent */
    const kcc_packed *weights;
    kcc_view bias; /* buf NULL: none */
    int64_t columns;
    function f;
} product;

/* Rows [row, row + rows) and columns from |column| on; a loop over groups of panels is open where
 * |looped|. */
static void emit_tile(const walk *w, const product *p, int64_t row, int64_t rows, int64_t column,
                      int64_t columns, bool looped)
{
    kcc_module *m = w->m;
    uint32_t element = (uint32_t)kaena_dtype_size((kaena_dtype)p->x.dtype), pair = 4 / element,
             inner = w->level + 1;
    int64_t panels = (columns + KISA_PANEL_COLUMNS - 1) / KISA_PANEL_COLUMNS,
            group = KISA_TILE_PANELS * KISA_PANEL_COLUMNS;
    uint16_t psum_row = (uint16_t)((m->code[w->tpb].n / 2 % 4) * KISA_TILE_ROWS);
    const kcc_view weights = {.buf = p->weights->buf, .dtype = (kaena_dtype)p->x.dtype};
    for (uint32_t t = 0; t < p->weights->n_tiles; t++) {
        const kcc_tile *tile = &p->weights->tile[t];
        kisa_operand o = kcc_operand(m, w->tpb, &weights);
        o.offset +=
            (uint64_t)(column / KISA_PANEL_COLUMNS * p->weights->panel_stride + tile->w_offset);
        o.count[1] = (uint32_t)panels;
        o.count[2] = (tile->k + pair - 1) / pair;
        o.count[3] = KISA_PANEL_COLUMNS * pair;
        o.stride[1] = p->weights->panel_stride;
        o.stride[2] = 64;
        o.stride[3] = element;
        if (looped)
            o.advance[inner] = KISA_TILE_PANELS * p->weights->panel_stride;
        kisa_ldw *ldw = &kcc_inst(m, w->tpb, KISA_LDW)->u.ldw;
        *ldw = (kisa_ldw){.weights = o, .k = (uint16_t)tile->k};
        o = p->x;
        o.offset += (uint64_t)(row * o.stride[2] + tile->x_offset);
        o.count[2] = (uint32_t)rows;
        o.count[3] = tile->k;
        kisa_matmul *matmul = &kcc_inst(m, w->tpb, KISA_MATMUL)->u.matmul;
        *matmul = (kisa_matmul){.moving = o, .psum_row = psum_row, .accumulate = t > 0};
    }
    kisa_operand side[3] = {p->dst, p->add, {0}};
    for (int i = 0; i < 2; i++) {
        if (side[i].space == KISA_NONE)
            continue;
        side[i].offset += (uint64_t)(row * side[i].stride[2] + column * side[i].stride[3]);
        side[i].count[2] = (uint32_t)rows;
        side[i].count[3] = (uint32_t)columns;
        if (looped)
            side[i].advance[inner] = group * side[i].stride[3];
    }
    if (p->bias.buf) {
        side[2] = kcc_operand(m, w->tpb, &p->bias);
        side[2].offset += (uint64_t)column * 4;
        side[2].count[3] = (uint32_t)columns;
        side[2].stride[3] = 4;
        if (looped)
            side[2].advance[inner] = group * 4;
    }
    kisa_act *a = &kcc_inst(m, w->tpb, KISA_ACT)->u.act;
    *a = (kisa_act){.dst = side[0],
                    .residual = side[1],
                    .bias = side[2],
                    .scale_all = 1,
                    .func = (uint8_t)p->f.act,
                    .alpha = p->f.alpha,
                    .beta = p->f.beta};
    a->src = (kisa_operand){.space = KISA_PSUM,
                            .dtype = KAENA_F32,
                            .count = {1, 1, (uint32_t)rows, (uint32_t)columns},
                            .offset = (uint64_t)psum_row * KISA_PSUM_ROW_BYTES,
                            .stride = {0, 0, KISA_PSUM_ROW_BYTES, 4}};
}

static void emit_product(const walk *w, const product *p)
{
    const int64_t group = KISA_TILE_PANELS * KISA_PANEL_COLUMNS;
    for (int64_t row = 0; row < w->batch; row += KISA_TILE_ROWS) {
        int64_t rows = w->batch - row < KISA_TILE_ROWS ? w->batch - row : KISA_TILE_ROWS,
                whole = p->columns / group, rest = p->columns % group;
        if (whole > 1)
            kcc_loop(w->m, w->tpb, (uint32_t)whole);
        if (whole)
            emit_tile(w, p, row, rows, 0, group, whole > 1);
        if (whole > 1)
            kcc_end(w->m, w->tpb);
        if (rest)
            emit_tile(w, p, row, rows, whole * group, rest, false);
    }
}

/* R's part |part| times |x|, plus |add|, through |f| into gates from |first| on. */
static kaena_status multiply_state(const walk *w, int part, kisa_operand x, int64_t first,
                                   kisa_operand add, const kcc_view *bias, function f,
                                   kaena_err *err)
{
    const kgr_value *r = w->dir->part[part];
    product p = {.x = x, .add = add, .columns = r->t.shape.dim[0], .f = f};
    p.dst = gates(w, first, first + p.columns / w->hidden);
    if (bias)
        p.bias = *bias;
    KAENA_TRY(kcc_pack_matrix(w->m, r, w->r->type, /* transposed= */ true, &p.weights, err));
    emit_product(w, &p);
    return KAENA_OK;
}

/* --- Steps ------------------------------------------------------------------------------- */

static bool wants_output(const walk *w)
{
    return w->r->node->out[0]->n_uses > 0;
}

/* A new state that lies in a gate's columns goes where it belongs: |into| and, if it differs, the
 * product's operand; and out. Steps past a sequence's end leave states alone and put out 0. */
static kaena_status finish_step(const walk *w, kisa_operand fresh, kisa_operand into,
                                kaena_err *err)
{
    (void)err;
    if (w->masked)
        mix(w, KISA_TTT_SELECT, plain, mask(w), fresh, into, into);
    else
        copy(w, fresh, into);
    if (wants_output(w) && w->masked) {
        static const float zero;
        kcc_buffer *buf = kcc_weights_add(w->m, &zero, sizeof zero);
        mix(w, KISA_TTT_SELECT, plain, mask(w), fresh, box(w, buf, KAENA_F32, 0, 0, w->hidden, 0),
            output(w));
    } else if (wants_output(w)) {
        copy(w, fresh, output(w));
    }
    return KAENA_OK;
}

static kaena_status step_rnn(const walk *w, kaena_err *err)
{
    function f = fn_of(w, 0);
    KAENA_TRY(multiply_state(w, 0, state_h(w), 0, inputs(w, 0, 1), NULL, drained_by(w, f), err));
    after_clip(w, f, gate(w, 0));
    return finish_step(w, gate(w, 0), state_h(w), err);
}

/* GRU's last recurrent bias, which stays inside the reset gate's reach. */
static kaena_status last_bias(const walk *w, kcc_view *out, kaena_err *err)
{
    const kgr_node *n = w->r->node;
    *out = (kcc_view){0};
    if (n->n_in <= 3 || !n->in[3])
        return KAENA_OK;
    KAENA_TRY(kcc_const_view(w->m, n->in[3], KAENA_F32, out, err));
    out->offset += ((2 * w->d + 1) * 3 + 2) * w->hidden * 4;
    return KAENA_OK;
}

/* Gates in ONNX's order: update, reset, hidden. */
static kaena_status step_gru(const walk *w, kaena_err *err)
{
    enum { UPDATE, RESET, HIDDEN };
    function f = fn_of(w, 0), g = fn_of(w, 1);
    KAENA_TRY(multiply_state(w, 0, state_h(w), UPDATE, inputs(w, UPDATE, HIDDEN), NULL,
                             drained_by(w, f), err));
    if (w->r->linear_before_reset) {
        kcc_view bias;
        KAENA_TRY(last_bias(w, &bias, err));
        KAENA_TRY(multiply_state(w, 1, state_h(w), HIDDEN, (kisa_operand){0}, &bias, plain, err));
        after_clip(w, f, gates(w, UPDATE, HIDDEN));
        mix(w, KISA_TTT_FMA, drained_by(w, g), gate(w, RESET), gate(w, HIDDEN),
            inputs(w, HIDDEN, HIDDEN + 1), gate(w, HIDDEN));
    } else {
        after_clip(w, f, gates(w, UPDATE, HIDDEN));
        kisa_operand reset = state(w, w->dir->reset, w->r->type);
        multiply(w, gate(w, RESET), state_wide(w), reset);
        KAENA_TRY(multiply_state(w, 1, reset, HIDDEN, inputs(w, HIDDEN, HIDDEN + 1), NULL,
                                 drained_by(w, g), err));
    }
    after_clip(w, g, gate(w, HIDDEN));
    mix(w, KISA_TTT_BLEND, plain, gate(w, UPDATE), state_wide(w), gate(w, HIDDEN), gate(w, HIDDEN));
    KAENA_TRY(finish_step(w, gate(w, HIDDEN), state_wide(w), err));
    if (w->dir->h != w->dir->wide)
        copy(w, state_wide(w), state_h(w));
    return KAENA_OK;
}

enum { INPUT, OUTPUT, FORGET, CELL }; /* LSTM's gates in ONNX's order */

/* Adds the peephole's product with |cell| to a gate's argument and applies its function. */
static kaena_status activate(const walk *w, int64_t k, function f, const kisa_operand *cell,
                             kaena_err *err)
{
    const kgr_node *n = w->r->node;
    if (cell) {
        kcc_view p;
        KAENA_TRY(kcc_const_view(w->m, n->in[7], KAENA_F32, &p, err));
        kisa_operand o =
            box(w, p.buf, KAENA_F32, p.offset + (w->d * 3 + k) * w->hidden * 4, 0, w->hidden, 4);
        mix(w, KISA_TTT_FMA, drained_by(w, f), o, *cell, gate(w, k), gate(w, k));
        after_clip(w, f, gate(w, k));
        return KAENA_OK;
    }
    if (w->clipped)
        act(w, clip_of(w), gate(w, k), gate(w, k));
    act(w, f, gate(w, k), gate(w, k));
    return KAENA_OK;
}

static kaena_status step_lstm(const walk *w, kaena_err *err)
{
    const kgr_node *n = w->r->node;
    function f = fn_of(w, 0), g = fn_of(w, 1), h = fn_of(w, 2);
    bool peephole = n->n_in > 7 && n->in[7], fused = !peephole && !w->clipped;
    kisa_operand c = state(w, w->dir->c, KAENA_F32), fresh = w->masked ? gate(w, FORGET) : c;
    KAENA_TRY(multiply_state(w, 0, state_h(w), INPUT, inputs(w, INPUT, CELL), NULL,
                             fused ? f : plain, err));
    KAENA_TRY(multiply_state(w, 1, state_h(w), CELL, inputs(w, CELL, CELL + 1), NULL,
                             fused ? g : plain, err));
    if (!fused) {
        KAENA_TRY(activate(w, INPUT, f, peephole ? &c : NULL, err));
        KAENA_TRY(activate(w, FORGET, f, peephole ? &c : NULL, err));
        KAENA_TRY(activate(w, CELL, g, NULL, err));
    }
    if (w->r->input_forget) {
        mix(w, KISA_TTT_BLEND, plain, gate(w, INPUT), gate(w, CELL), c, fresh);
    } else {
        multiply(w, gate(w, INPUT), gate(w, CELL), gate(w, CELL));
        mix(w, KISA_TTT_FMA, plain, gate(w, FORGET), c, gate(w, CELL), fresh);
    }
    if (!fused)
        KAENA_TRY(activate(w, OUTPUT, f, peephole ? &fresh : NULL, err));
    act(w, h, fresh, gate(w, CELL));
    if (w->masked) {
        mix(w, KISA_TTT_SELECT, plain, mask(w), fresh, c, c);
        multiply(w, gate(w, OUTPUT), gate(w, CELL), gate(w, CELL));
        return finish_step(w, gate(w, CELL), state_h(w), err);
    }
    multiply(w, gate(w, OUTPUT), gate(w, CELL), state_h(w));
    if (wants_output(w))
        multiply(w, gate(w, OUTPUT), gate(w, CELL), output(w));
    return KAENA_OK;
}

/* --- Before and after -------------------------------------------------------------------- */

static kaena_status initial(const walk *w, uint32_t at, kisa_operand dst, kaena_err *err)
{
    const kgr_node *n = w->r->node;
    if (n->n_in <= at || !n->in[at]) {
        kcc_inst(w->m, w->tpb, KISA_FILL)->u.fill.dst = dst;
        return KAENA_OK;
    }
    kcc_view v;
    KAENA_TRY(kcc_input_view(w->m, n->in[at], &v, err));
    copy(w, boundary(w, &v), dst);
    return KAENA_OK;
}

/* Lengths known at run time only: 1 where the step's number is less. */
static kaena_status make_mask(const walk *w, kaena_err *err)
{
    kcc_view v;
    KAENA_TRY(kcc_input_view(w->m, w->r->node->in[4], &v, err));
    kisa_operand from = box(w, v.buf, v.dtype, v.offset, v.stride[0], 1, 0),
                 lengths = box(w, w->dir->lengths, KAENA_F32, 0, 4, 1, 0);
    copy(w, from, lengths);
    float *number = KAENA_NEW_N(w->m->weights_arena, float, (size_t)w->steps);
    for (int64_t t = 0; t < w->steps; t++)
        number[t] = (float)t;
    kcc_buffer *numbers = kcc_weights_add(w->m, number, (uint64_t)w->steps * sizeof *number);
    kisa_operand dst = box(w, w->dir->mask, KAENA_F32, 0, 4, 1, 0), a = lengths,
                 b = box(w, numbers, KAENA_F32, 0, 0, 1, 0);
    kisa_operand *const all[] = {&dst, &a, &b};
    const int64_t by_step[] = {w->batch * 4, 0, 4}, by_row[] = {4, 4, 0};
    for (int i = 0; i < 3; i++) {
        all[i]->count[2] = (uint32_t)w->steps;
        all[i]->stride[2] = by_step[i];
        all[i]->count[3] = (uint32_t)w->batch;
        all[i]->stride[3] = by_row[i];
    }
    kcc_inst(w->m, w->tpb, KISA_TT)->u.tt = (kisa_tt){.a = a,
                                                      .b = b,
                                                      .dst = dst,
                                                      .op = KISA_TT_SUB,
                                                      .func = KAENA_ACT_CLIP,
                                                      .alpha = 0,
                                                      .beta = 1};
    return KAENA_OK;
}

static bool wants_state(const kgr_node *n, uint32_t i)
{
    return n->n_out > i && n->out[i]->n_uses > 0;
}

static void final_states(const walk *w)
{
    const kgr_node *n = w->r->node;
    if (wants_state(n, 1)) {
        kisa_operand dst = boundary(w, kcc_view_of(w->m, n->out[1]));
        if (n->op == KOP_LSTM && !w->masked) /* as wide as Y's last step */
            multiply(w, gate(w, OUTPUT), gate(w, CELL), dst);
        else if (n->op == KOP_RNN && !w->masked)
            copy(w, gate(w, 0), dst);
        else
            copy(w, n->op == KOP_GRU ? state_wide(w) : state_h(w), dst);
    }
    if (wants_state(n, 2))
        copy(w, state(w, w->dir->c, KAENA_F32), boundary(w, kcc_view_of(w->m, n->out[2])));
}

static kaena_status emit_direction(const walk *w, kaena_err *err)
{
    const kgr_node *n = w->r->node;
    KAENA_TRY(initial(w, 5, state_h(w), err));
    if (w->dir->wide != w->dir->h)
        KAENA_TRY(initial(w, 5, state_wide(w), err));
    if (n->op == KOP_LSTM)
        KAENA_TRY(initial(w, 6, state(w, w->dir->c, KAENA_F32), err));
    if (w->dir->lengths)
        KAENA_TRY(make_mask(w, err));
    kcc_loop(w->m, w->tpb, (uint32_t)w->steps);
    KAENA_TRY(n->op == KOP_RNN   ? step_rnn(w, err)
              : n->op == KOP_GRU ? step_gru(w, err)
                                 : step_lstm(w, err));
    kcc_end(w->m, w->tpb);
    final_states(w);
    return KAENA_OK;
}

kaena_status kcc_emit_recurrent(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                                uint32_t parts, kaena_err *err)
{
    const kcc_recurrent *r = m->recurrent;
    while (r->node != n)
        r = r->next;
    if (part == 0)
        kcc_fill_halo(m, tpb, kcc_view_of(m, n->out[0]));
    for (int64_t d = part; d < r->p.dirs; d += parts) {
        const walk w = {.m = m,
                        .tpb = tpb,
                        .r = r,
                        .dir = &r->dir[d],
                        .d = d,
                        .batch = r->p.batch,
                        .hidden = r->p.hidden,
                        .steps = r->p.seq,
                        .backwards = r->p.reverse_first || d == 1,
                        .masked = r->dir[d].mask != NULL,
                        .clipped = isfinite(r->p.clip),
                        .level = m->code[tpb].depth};
        KAENA_TRY(emit_direction(&w, err));
    }
    return KAENA_OK;
}
