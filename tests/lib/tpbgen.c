#include "tpbgen.h"

#include <stdlib.h>
#include <string.h>

#define MAX_INSTRUCTIONS 4096
#define PHASES 3
#define INTEGER_BANK 3 /* of PSUM: sums of bytes, which are no floats, lie apart */

/* What is being generated: one program. */
typedef struct writer {
    tpbgen *g;
    kisa_inst *inst;
    uint32_t n, depth, tpb;
} writer;

uint32_t tpbgen_random(tpbgen *g, uint32_t n)
{
    g->seed = g->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(g->seed >> 33) % n;
}

#define RANDOM(w, n) tpbgen_random((w)->g, (n))

static kisa_inst *add(writer *w, kisa_op op)
{
    kisa_inst *inst = &w->inst[w->n++];
    memset(inst, 0, sizeof *inst);
    inst->op = (uint16_t)op;
    return inst;
}

static void open_loop(writer *w, uint32_t turns)
{
    add(w, KISA_LOOP)->u.loop.count = turns;
    w->depth++;
}

static void close_loop(writer *w)
{
    add(w, KISA_END);
    w->depth--;
}

static kaena_dtype buffer_type(uint32_t b)
{
    return b >= TPBGEN_BUFFERS - 2 ? KAENA_F32 : KAENA_BF16;
}

/* [1][lines][rows][columns] in a buffer of SB, columns contiguous. */
static kisa_operand in_sb(uint32_t buffer, uint64_t at, uint32_t lines, uint32_t rows,
                          uint32_t columns, int64_t line, int64_t row)
{
    kaena_dtype t = buffer_type(buffer);
    int64_t element = (int64_t)kaena_dtype_size(t);
    return (kisa_operand){.space = KISA_SB,
                          .dtype = (uint8_t)t,
                          .count = {1, lines, rows, columns},
                          .offset = (uint64_t)buffer * TPBGEN_BUFFER_BYTES + at * (uint64_t)element,
                          .stride = {0, line * element, row * element, element}};
}

/* The same of bytes. */
static kisa_operand bytes_in_sb(writer *w, uint64_t at, uint32_t lines, uint32_t rows,
                                uint32_t columns, int64_t line, int64_t row)
{
    uint32_t buffer = TPBGEN_BUFFERS + RANDOM(w, TPBGEN_BYTE_BUFFERS);
    return (kisa_operand){.space = KISA_SB,
                          .dtype = RANDOM(w, 2) ? KAENA_I8 : KAENA_U8,
                          .count = {1, lines, rows, columns},
                          .offset = (uint64_t)buffer * TPBGEN_BUFFER_BYTES + at,
                          .stride = {0, line, row, 1}};
}

static void advance(kisa_operand *o, uint32_t loop, int64_t elements)
{
    o->advance[loop] = elements * (int64_t)kaena_dtype_size((kaena_dtype)o->dtype);
}

static void set_function(writer *w, kisa_act *a)
{
    static const uint8_t funcs[] = {KAENA_ACT_IDENTITY, KAENA_ACT_RELU, KAENA_ACT_CLIP,
                                    KAENA_ACT_SIGMOID, KAENA_ACT_TANH};
    a->func = funcs[RANDOM(w, 5)];
    a->scale_all = RANDOM(w, 2) ? 0.0625f : 0.125f;
    a->bias_all = 0.25f;
    a->alpha = -2.0f;
    a->beta = 2.0f;
    a->residual_after = RANDOM(w, 4) == 0;
}

/* A loop over panels of a loop over rows of a run, with a rest of rows now and then; sometimes the
 * destination lies where the sources are, sometimes turns write the same place, sometimes the run
 * lacks its first overwrite or its tile is read twice. */
static void product(writer *w, bool large)
{
    uint32_t panels = 1 + RANDOM(w, 4), panel_turns = 1 + RANDOM(w, 3),
             row_turns = 1 + RANDOM(w, 3);
    uint32_t lines = 1 + RANDOM(w, 3), rows = 1 + RANDOM(w, large ? 160 : 12);
    uint32_t n_tiles = 1 + RANDOM(w, 3), k[3], k_sum = 0, panel_rows = 0;
    while (lines * rows > 500)
        rows /= 2;
    for (uint32_t t = 0; t < n_tiles; t++) {
        k[t] = 1 + RANDOM(w, large ? 128 : 40);
        k_sum += k[t];
        panel_rows += (k[t] + 1) / 2;
    }
    uint32_t xb = RANDOM(w, TPBGEN_BUFFERS - 2), db = RANDOM(w, 5) ? RANDOM(w, TPBGEN_BUFFERS) : xb;
    uint32_t columns = 16 * panels - (RANDOM(w, 3) ? 0 : RANDOM(w, 16));
    int64_t x_row = k_sum + RANDOM(w, 9), x_line = x_row * rows + RANDOM(w, 9);
    int64_t d_row = (int64_t)panels * 16 * panel_turns + RANDOM(w, 9), d_line = d_row * rows;
    uint64_t x_at = RANDOM(w, 3) * 512, d_at = RANDOM(w, 3) * 256;
    uint64_t w_at = 64 * (uint64_t)RANDOM(w, 512);
    uint16_t psum_row = (uint16_t)(RANDOM(w, INTEGER_BANK) * KISA_TILE_ROWS);
    int64_t d_turn = RANDOM(w, 12) ? d_line * lines : 0; /* 0: turns write the same rows */
    /* Weights in SB may have been packed there, or are what happens to lie there. */
    bool near = RANDOM(w, 3) == 0;
    uint64_t w_base = near ? RANDOM(w, TPBGEN_BUFFERS - 2) * TPBGEN_BUFFER_BYTES : 0;
    bool stray = RANDOM(w, 12) == 0, twice = RANDOM(w, 12) == 0;
    int residual = (int)RANDOM(w, 4); /* 1: in place, 2: another buffer */

    uint32_t panel_loop = w->depth, row_loop = w->depth + 1;
    open_loop(w, panel_turns);
    for (int rest = 0; rest < 2; rest++) {
        if (rest && RANDOM(w, 2))
            break;
        uint32_t part = rest ? (rows + 1) / 2 : rows;
        int64_t base = rest ? (int64_t)row_turns : 0;
        if (!rest)
            open_loop(w, row_turns);
        uint32_t x_offset = 0, w_offset = 0;
        for (uint32_t t = 0; t < n_tiles; t++) {
            kisa_operand weights = {.space = near ? KISA_SB : KISA_WEIGHTS,
                                    .dtype = KAENA_BF16,
                                    .count = {1, panels, (k[t] + 1) / 2, 32},
                                    .offset = w_base + w_at + w_offset,
                                    .stride = {0, (int64_t)panel_rows * 64, 64, 2}};
            weights.advance[panel_loop] = (int64_t)panel_rows * 64 * panels;
            kisa_inst *ldw = add(w, KISA_LDW);
            ldw->u.ldw.weights = weights;
            ldw->u.ldw.k = (uint16_t)k[t];
            kisa_operand x = in_sb(xb, x_at + x_offset, lines, part, k[t], x_line, x_row);
            x.offset += (uint64_t)(base * x_line * lines * 2);
            if (!rest)
                advance(&x, row_loop, x_line * lines);
            kisa_inst *mm = add(w, KISA_MATMUL);
            mm->u.matmul.moving = x;
            mm->u.matmul.psum_row = psum_row;
            mm->u.matmul.accumulate = t > 0 || stray;
            x_offset += k[t];
            w_offset += (k[t] + 1) / 2 * 64;
        }
        for (int again = 0; again <= twice; again++) {
            kisa_operand d = in_sb(db, d_at, lines, part, columns, d_line, d_row);
            d.offset += (uint64_t)(base * d_turn) * kaena_dtype_size((kaena_dtype)d.dtype);
            advance(&d, panel_loop, 16 * panels);
            if (!rest)
                advance(&d, row_loop, d_turn);
            kisa_operand src = {
                .space = KISA_PSUM,
                .dtype = KAENA_F32,
                .count = {1, lines, part, columns},
                .offset = (uint64_t)psum_row * KISA_PSUM_ROW_BYTES,
                .stride = {0, (int64_t)KISA_PSUM_ROW_BYTES * part, KISA_PSUM_ROW_BYTES, 4}};
            kisa_inst *act = add(w, KISA_ACT);
            act->u.act.src = src;
            act->u.act.dst = d;
            if (residual == 1)
                act->u.act.residual = d;
            if (residual == 2)
                act->u.act.residual =
                    in_sb(RANDOM(w, TPBGEN_BUFFERS), 64, lines, part, columns, d_line, d_row);
            set_function(w, &act->u.act);
        }
        if (!rest)
            close_loop(w);
    }
    close_loop(w);
}

static void set_scaling(writer *w, kisa_quant *q)
{
    bool bytes = q->dst.dtype == KAENA_I8 || q->dst.dtype == KAENA_U8;
    q->scale_all = RANDOM(w, 2) ? 0.0078125f : 0.3f;
    q->bias_all = q->src.dtype == KAENA_F32 ? 0 : (int32_t)RANDOM(w, 100) - 50;
    q->divide = bytes && q->src.dtype == KAENA_F32;
    if (bytes) {
        q->low = q->dst.dtype == KAENA_I8 ? -128 : 0;
        q->high = (int16_t)(q->low + 255 - (int16_t)RANDOM(w, 20));
        q->zero = (int16_t)(q->low + (int16_t)RANDOM(w, 256));
    } else
        q->scale_all = 1e-5f; /* sums of floats stay finite: of two NaNs the bytes may differ */
    if (RANDOM(w, 2) && bytes && q->src.dtype != KAENA_F32)
        q->bias = (kisa_operand){.space = KISA_WEIGHTS,
                                 .dtype = KAENA_I32,
                                 .count = {1, 1, 1, q->dst.count[3]},
                                 .offset = 4096,
                                 .stride = {0, 0, 0, 4}};
}

/* A product of bytes in loops over panels and rows, drained into bytes or floats. */
static void integer_product(writer *w, bool large)
{
    uint32_t panels = 1 + RANDOM(w, 4), panel_turns = 1 + RANDOM(w, 2),
             row_turns = 1 + RANDOM(w, 3), rows = 1 + RANDOM(w, large ? 300 : 20);
    uint32_t n_tiles = 1 + RANDOM(w, 3), k[3], k_sum = 0, panel_rows = 0;
    for (uint32_t t = 0; t < n_tiles; t++) {
        k[t] = 1 + RANDOM(w, 128);
        k_sum += k[t];
        panel_rows += (k[t] + 3) / 4;
    }
    uint32_t columns = 16 * panels - (RANDOM(w, 3) ? 0 : RANDOM(w, 16));
    int64_t x_row = k_sum + RANDOM(w, 9), d_row = (int64_t)panels * 16 * panel_turns;
    uint64_t w_at = 64 * (uint64_t)RANDOM(w, 512);
    uint16_t psum_row = INTEGER_BANK * KISA_TILE_ROWS;
    kisa_operand x = bytes_in_sb(w, RANDOM(w, 1000), 1, rows, 1, 0, x_row),
                 d = RANDOM(w, 2)
                         ? bytes_in_sb(w, 60000 + RANDOM(w, 1000), 1, rows, columns, 0, d_row)
                         : in_sb(RANDOM(w, TPBGEN_BUFFERS), 0, 1, rows, columns, 0, d_row);
    uint32_t panel_loop = w->depth, row_loop = w->depth + 1;
    open_loop(w, panel_turns);
    open_loop(w, row_turns);
    uint32_t x_offset = 0, w_offset = 0;
    for (uint32_t t = 0; t < n_tiles; t++) {
        kisa_operand weights = {.space = KISA_WEIGHTS,
                                .dtype = KAENA_I8,
                                .count = {1, panels, (k[t] + 3) / 4, 64},
                                .offset = w_at + w_offset,
                                .stride = {0, (int64_t)panel_rows * 64, 64, 1}};
        weights.advance[panel_loop] = (int64_t)panel_rows * 64 * panels;
        add(w, KISA_LDW)->u.ldw = (kisa_ldw){.weights = weights, .k = (uint16_t)k[t]};
        kisa_operand m = x;
        m.count[3] = k[t];
        m.offset += x_offset;
        m.advance[row_loop] = x_row * rows;
        add(w, KISA_MATMUL)->u.matmul =
            (kisa_matmul){.moving = m, .psum_row = psum_row, .accumulate = t > 0};
        x_offset += k[t];
        w_offset += (k[t] + 3) / 4 * 64;
    }
    advance(&d, panel_loop, 16 * panels);
    advance(&d, row_loop, d_row * rows);
    kisa_quant *q = &add(w, KISA_QUANT)->u.quant;
    *q = (kisa_quant){.dst = d};
    q->src = (kisa_operand){.space = KISA_PSUM,
                            .dtype = KAENA_I32,
                            .count = {1, 1, rows, columns},
                            .offset = (uint64_t)psum_row * KISA_PSUM_ROW_BYTES,
                            .stride = {0, 0, KISA_PSUM_ROW_BYTES, 4}};
    set_scaling(w, q);
    close_loop(w);
    close_loop(w);
}

/* Between floats and bytes, or bytes of other scales. */
static void rescale(writer *w)
{
    uint32_t rows = 1 + RANDOM(w, 60), columns = 1 + RANDOM(w, 150);
    kisa_quant *q = &add(w, KISA_QUANT)->u.quant;
    q->src = RANDOM(w, 2) ? bytes_in_sb(w, RANDOM(w, 500), 1, rows, columns, 0, columns)
                          : in_sb(TPBGEN_BUFFERS - 1, RANDOM(w, 500), 1, rows, columns, 0, columns);
    q->dst = RANDOM(w, 2) ? bytes_in_sb(w, RANDOM(w, 90000), 1, rows, columns, 0, columns)
                          : in_sb(RANDOM(w, TPBGEN_BUFFERS), 9000, 1, rows, columns, 0, columns);
    set_scaling(w, q);
}

/* A destination and up to two sources of one shape, in loops. */
static void elementwise(writer *w, bool large)
{
    uint32_t rows = 1 + RANDOM(w, large ? 200 : 20), columns = 1 + RANDOM(w, large ? 150 : 30);
    uint32_t turns = 1 + RANDOM(w, 3), loop = w->depth;
    uint32_t db = RANDOM(w, TPBGEN_BUFFERS);
    uint64_t at = RANDOM(w, 1000);
    kisa_operand d = in_sb(db, at, 1, rows, columns, 0, columns), s[2];
    open_loop(w, turns);
    int64_t step = RANDOM(w, 8) ? (int64_t)rows * columns : 0;
    advance(&d, loop, step);
    for (int i = 0; i < 2; i++) {
        s[i] = d;
        if (RANDOM(w, 3)) {
            s[i] = in_sb(RANDOM(w, TPBGEN_BUFFERS), RANDOM(w, 1000), 1, rows, columns, 0, columns);
            advance(&s[i], loop, step);
        }
    }
    uint32_t kind = RANDOM(w, 7);
    if (kind == 6) {
        add(w, KISA_TTT)->u.ttt = (kisa_ttt){.a = s[0],
                                             .b = s[1],
                                             .c = s[RANDOM(w, 2)],
                                             .dst = d,
                                             .op = (uint8_t)RANDOM(w, KISA_TTT_COUNT),
                                             .func = KAENA_ACT_TANH};
    } else if (kind == 5) {
        kisa_norm *f = &add(w, KISA_NORM)->u.norm;
        *f = (kisa_norm){.src = s[0], .dst = d, .kind = (uint8_t)RANDOM(w, 2), .epsilon = 0.5f};
    } else if (kind == 0) {
        kisa_tt *f = &add(w, KISA_TT)->u.tt;
        *f = (kisa_tt){.a = s[0], .b = s[1], .dst = d, .op = (uint8_t)RANDOM(w, 3)};
        f->func = KAENA_ACT_TANH;
    } else if (kind == 1) {
        add(w, KISA_COPY)->u.copy = (kisa_copy){.src = s[0], .dst = d};
    } else if (kind == 2) {
        add(w, KISA_SOFTMAX)->u.softmax = (kisa_softmax){.src = s[0], .dst = d};
    } else if (kind == 3) {
        add(w, KISA_FILL)->u.fill = (kisa_fill){.dst = d, .value = 0x3e80};
    } else {
        kisa_act *f = &add(w, KISA_ACT)->u.act;
        *f = (kisa_act){.src = s[0], .dst = d};
        if (RANDOM(w, 2))
            f->residual = s[1];
        set_function(w, f);
    }
    close_loop(w);
}

/* Panels where products take them from. */
static void packing(writer *w)
{
    uint32_t k = 1 + RANDOM(w, 60), columns = 1 + RANDOM(w, 60), panels = (columns + 15) / 16;
    uint32_t batch = 1 + RANDOM(w, 3), turns = 1 + RANDOM(w, 3), loop = w->depth;
    kisa_operand s = in_sb(RANDOM(w, TPBGEN_BUFFERS), RANDOM(w, 500), 1, k, columns, 0, columns);
    int64_t element = (int64_t)kaena_dtype_size((kaena_dtype)s.dtype), panel = (k + 1) / 2 * 64;
    s.count[0] = batch;
    s.stride[0] = k * columns * element;
    if (RANDOM(w, 2)) {
        s.stride[2] = element;
        s.stride[3] = k * element;
    }
    kisa_operand d = {.space = KISA_SB,
                      .dtype = KAENA_BF16,
                      .count = {batch, panels, (k + 1) / 2, 32},
                      .offset = RANDOM(w, TPBGEN_BUFFERS - 2) * TPBGEN_BUFFER_BYTES +
                                64 * (uint64_t)RANDOM(w, 512),
                      .stride = {panel * panels, panel, 64, 2}};
    open_loop(w, turns);
    s.advance[loop] = s.stride[0] * batch;
    d.advance[loop] = RANDOM(w, 4) ? d.stride[0] * batch : 0;
    add(w, KISA_PACK)->u.pack = (kisa_pack){.src = s, .dst = d};
    close_loop(w);
}

static void pooling(writer *w)
{
    uint32_t channels = 1 + RANDOM(w, 40), side = 4 + RANDOM(w, 6);
    kisa_operand s = in_sb(RANDOM(w, 4), 0, side, side, channels, side * channels, channels);
    kisa_operand d =
        in_sb(RANDOM(w, 6), 7000, side / 2, side / 2, channels, side / 2 * channels, channels);
    kisa_window *f = &add(w, KISA_WINDOW)->u.window;
    *f = (kisa_window){.src = s, .dst = d, .kind = (uint8_t)RANDOM(w, 2)};
    f->kernel_h = f->kernel_w = 3;
    f->stride_h = f->stride_w = 2;
    f->dilation_h = f->dilation_w = 1;
    f->y0 = f->x0 = -1;
}

/* Between SB and what all share: the own part of SCRATCH is written, any is read. */
static void exchange(writer *w, bool out)
{
    uint32_t n = 256 + RANDOM(w, 2000), part = out ? w->tpb : RANDOM(w, w->g->n_tpbs);
    kisa_operand far = {.space = KISA_SCRATCH,
                        .dtype = KAENA_BF16,
                        .count = {1, 1, 1, n},
                        .offset = (uint64_t)part * TPBGEN_SCRATCH_PART,
                        .stride = {0, 0, 0, 2}};
    if (!out && RANDOM(w, 4) == 0) {
        far.space = KISA_IO;
        far.offset = 0;
    }
    kisa_operand near = in_sb(RANDOM(w, TPBGEN_BUFFERS), RANDOM(w, 500), 1, 1, n, 0, 0);
    add(w, KISA_COPY)->u.copy = (kisa_copy){.src = out ? near : far, .dst = out ? far : near};
}

static bool inside_buffers(const kisa_operand *o)
{
    uint32_t turns[KISA_MAX_LOOPS] = {3, 3, 3, 3};
    uint64_t first, end;
    if (o->space != KISA_SB)
        return true;
    return kisa_operand_extent(o, turns, KISA_MAX_LOOPS, &first, &end) && end <= TPBGEN_SB_BYTES &&
           first / TPBGEN_BUFFER_BYTES == (end - 1) / TPBGEN_BUFFER_BYTES;
}

/* Takes back what was written since |from| if it does not verify or leaves its buffers. */
static void keep_if_valid(writer *w, uint32_t from)
{
    bool inside = true;
    for (uint32_t i = from; i < w->n; i++) {
        kisa_operand *operand[8];
        size_t n = kisa_operands(&w->inst[i], operand, NULL);
        for (size_t k = 0; k < n; k++)
            inside = inside && inside_buffers(operand[k]);
    }
    uint32_t n = w->n;
    add(w, KISA_HALT);
    kisa_program alone = {.inst = w->inst + from, .n = w->n - from};
    w->n = n;
    if (!inside || kisa_verify(&alone, 1, &w->g->limits, NULL) != KAENA_OK)
        w->n = from;
}

static void barrier(writer *w, uint32_t *passed)
{
    if (w->g->n_tpbs == 1)
        return;
    kisa_signal *s = &add(w, KISA_SIGNAL)->u.signal;
    s->mask = (UINT64_C(1) << w->g->n_tpbs) - 1;
    s->sem = 3;
    s->amount = 1;
    kisa_wait *f = &add(w, KISA_WAIT)->u.wait;
    f->sem = 3;
    f->value = ++*passed * w->g->n_tpbs;
}

static void write_program(tpbgen *g, uint32_t tpb, uint32_t steps, bool large)
{
    writer w = {.g = g, .tpb = tpb};
    uint32_t passed = 0;
    w.inst = KAENA_NEW_N(g->arena, kisa_inst, MAX_INSTRUCTIONS);
    for (uint32_t phase = 0; phase < PHASES; phase++) {
        for (uint32_t i = 0; i < steps; i++) {
            uint32_t from = w.n, kind = RANDOM(&w, 12);
            if (kind == 8)
                packing(&w);
            else if (kind == 9)
                rescale(&w);
            else if (kind > 9)
                integer_product(&w, large);
            else if (kind < 4)
                product(&w, large);
            else if (kind < 7)
                elementwise(&w, large);
            else
                pooling(&w);
            keep_if_valid(&w, from);
        }
        exchange(&w, true);
        barrier(&w, &passed);
        exchange(&w, false);
        barrier(&w, &passed);
    }
    add(&w, KISA_HALT);
    g->program[tpb] = (kisa_program){.inst = w.inst, .n = w.n};
}

void tpbgen_make(tpbgen *g, kaena_arena *arena, uint64_t seed, uint32_t n_tpbs, uint32_t steps,
                 bool large)
{
    *g = (tpbgen){.arena = arena, .seed = seed, .n_tpbs = n_tpbs};
    g->io_bytes[0] = g->io_bytes[1] = TPBGEN_IO_BYTES;
    g->io_written[1] = true;
    g->limits = (kisa_limits){.sb_bytes = TPBGEN_SB_BYTES,
                              .weights_bytes = TPBGEN_WEIGHT_BYTES,
                              .scratch_bytes = TPBGEN_MAX_TPBS * TPBGEN_SCRATCH_PART,
                              .n_io = 2,
                              .io_bytes = g->io_bytes,
                              .io_written = g->io_written};
    for (uint32_t i = 0; i < n_tpbs; i++)
        write_program(g, i, steps, large);
}

/* --- Memory ------------------------------------------------------------------------------------
 */

static uint8_t *filled(uint64_t seed, size_t bytes, bool f32)
{
    tpbgen g = {.seed = seed};
    uint8_t *p = aligned_alloc(64, bytes);
    for (size_t i = 0; i < bytes; i += f32 ? 4 : 2) {
        float v = (float)((int32_t)tpbgen_random(&g, 2001) - 1000) * 1e-3f;
        uint16_t b = kaena_bf16_from_f32(v);
        if (f32)
            memcpy(p + i, &v, sizeof v);
        else
            memcpy(p + i, &b, sizeof b);
    }
    return p;
}

void tpbgen_memory_init(tpbgen_memory *m, const tpbgen *g, const ker_table *ker)
{
    *m = (tpbgen_memory){0};
    m->weights = filled(1, TPBGEN_WEIGHT_BYTES, false);
    m->scratch = filled(2, TPBGEN_MAX_TPBS * TPBGEN_SCRATCH_PART, false);
    m->io[0] = filled(3, TPBGEN_IO_BYTES, false);
    m->io[1] = filled(4, TPBGEN_IO_BYTES, false);
    for (uint32_t i = 0; i < g->n_tpbs; i++) {
        m->sb[i] = filled(5 + i, TPBGEN_SB_BYTES, false);
        uint8_t *f32 = filled(9 + i, 2 * TPBGEN_BUFFER_BYTES, true);
        memcpy(m->sb[i] + (TPBGEN_BUFFERS - 2) * TPBGEN_BUFFER_BYTES, f32, 2 * TPBGEN_BUFFER_BYTES);
        free(f32);
        m->psum[i] = aligned_alloc(64, KISA_PSUM_BYTES);
        memset(m->psum[i], 0, KISA_PSUM_BYTES);
        m->bind[i] = (tpb_bind){.sb = m->sb[i],
                                .psum = m->psum[i],
                                .weights = m->weights,
                                .scratch = m->scratch,
                                .io = m->io,
                                .ker = ker,
                                .error = &m->error};
    }
}

void tpbgen_memory_fini(tpbgen_memory *m)
{
    free(m->weights);
    free(m->scratch);
    free(m->io[0]);
    free(m->io[1]);
    for (uint32_t i = 0; i < TPBGEN_MAX_TPBS; i++) {
        free(m->sb[i]);
        free(m->psum[i]);
    }
}

bool tpbgen_memory_same(const tpbgen_memory *a, const tpbgen_memory *b, uint32_t n_tpbs)
{
    bool same = memcmp(a->scratch, b->scratch, TPBGEN_MAX_TPBS * TPBGEN_SCRATCH_PART) == 0 &&
                memcmp(a->io[1], b->io[1], TPBGEN_IO_BYTES) == 0;
    for (uint32_t i = 0; i < n_tpbs; i++)
        same = same && memcmp(a->sb[i], b->sb[i], TPBGEN_SB_BYTES) == 0;
    return same;
}
