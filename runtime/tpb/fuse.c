/* Finds the runs of LDW and MATMUL that fill one PSUM tile and the ACT or QUANT that drains it, and
 * decides which of them may become one operation (docs/tpb.md).
 *
 * Condition (a), nobody else reads the tile: every read of PSUM in the program (an accumulating
 * MATMUL, an ACT) that does not stand in a run which has overwritten what it reads is a stray
 * read; runs that write a row which a stray read may touch are left as they are. Condition (b) is
 * tpb_run_legal. Condition (c) holds by construction: a run is consecutive instructions. */
#include <string.h>

#include "tpb_code.h"

typedef struct finder {
    const kisa_program *p;
    kaena_arena *arena;
    tpb_fusion *out;
    bool stray[KISA_PSUM_ROWS];
    uint32_t turns[KISA_MAX_LOOPS], depth;
} finder;

static uint32_t rows_of(const kisa_operand *o)
{
    return o->count[0] * o->count[1] * o->count[2];
}

static bool same_rows(const kisa_operand *a, const kisa_operand *b)
{
    return memcmp(a->count, b->count, 3 * sizeof a->count[0]) == 0;
}

/* Differ in nothing but offset and K. */
static bool same_but_offset(const kisa_operand *a, const kisa_operand *b, int first, int end)
{
    if (a->space != b->space || a->dtype != b->dtype || a->tensor != b->tensor ||
        memcmp(a->advance, b->advance, sizeof a->advance) != 0)
        return false;
    for (int i = first; i < end; i++)
        if (a->count[i] != b->count[i] || (a->count[i] > 1 && a->stride[i] != b->stride[i]))
            return false;
    return true;
}

const kisa_operand *tpb_drained(const kisa_inst *inst)
{
    if (inst->op == KISA_ACT)
        return &inst->u.act.src;
    return inst->op == KISA_QUANT ? &inst->u.quant.src : NULL;
}

/* |src| is the tile that the run of |first| (a MATMUL) has filled, row by row. */
static bool drains(const kisa_operand *src, const kisa_matmul *first, const kisa_operand *weights)
{
    if (src->space != KISA_PSUM || src->offset != (uint64_t)first->psum_row * KISA_PSUM_ROW_BYTES ||
        src->dtype != (weights->dtype == KAENA_I8 ? KAENA_I32 : KAENA_F32) ||
        !same_rows(src, &first->moving) || src->count[3] > KISA_PANEL_COLUMNS * weights->count[1])
        return false;
    int64_t row = KISA_PSUM_ROW_BYTES;
    for (int i = 2; i >= 0; i--) {
        if (src->count[i] > 1 && src->stride[i] != row)
            return false;
        row *= src->count[i];
    }
    for (int l = 0; l < KISA_MAX_LOOPS; l++)
        if (src->advance[l] != 0)
            return false;
    return true;
}

/* Instructions of the run that starts with the LDW at |at|, its drain included; 0: no run. */
static uint32_t run_length(const kisa_program *p, uint32_t at)
{
    const kisa_inst *inst = p->inst + at;
    uint32_t left = p->n - at, n = 0;
    if (left < 3 || inst[0].op != KISA_LDW || inst[1].op != KISA_MATMUL)
        return 0;
    const kisa_operand *weights = &inst[0].u.ldw.weights;
    const kisa_matmul *first = &inst[1].u.matmul;
    if (first->accumulate)
        return 0;
    for (; n + 1 < left && inst[n].op == KISA_LDW && inst[n + 1].op == KISA_MATMUL; n += 2) {
        const kisa_matmul *m = &inst[n + 1].u.matmul;
        if (n > 0 && (!m->accumulate || m->psum_row != first->psum_row ||
                      !same_but_offset(&m->moving, &first->moving, 0, 3) ||
                      !same_but_offset(&inst[n].u.ldw.weights, weights, 0, 2)))
            return 0;
    }
    const kisa_operand *src = n < left ? tpb_drained(&inst[n]) : NULL;
    return src && drains(src, first, weights) ? n + 1 : 0;
}

/* The tile that the LDW at |at| and its neighbour name is used by no MATMUL after the run. */
static bool tile_ends(const kisa_program *p, uint32_t after)
{
    for (uint32_t i = after; i < p->n; i++) {
        if (p->inst[i].op == KISA_MATMUL)
            return false;
        if (p->inst[i].op == KISA_LDW || p->inst[i].op == KISA_LOOP || p->inst[i].op == KISA_END)
            return true;
    }
    return true;
}

static void mark_stray(finder *f, uint64_t first_byte, uint64_t end_byte)
{
    uint64_t end = (end_byte + KISA_PSUM_ROW_BYTES - 1) / KISA_PSUM_ROW_BYTES;
    for (uint64_t r = first_byte / KISA_PSUM_ROW_BYTES; r < end && r < KISA_PSUM_ROWS; r++)
        f->stray[r] = true;
}

/* First walk: runs and stray reads. */
static void find(finder *f)
{
    const kisa_program *p = f->p;
    for (uint32_t i = 0; i < p->n;) {
        const kisa_inst *inst = &p->inst[i];
        uint32_t n = run_length(p, i);
        if (n > 0 && tile_ends(p, i + n)) {
            f->out->length[i] = n;
            i += n;
            continue;
        }
        if (inst->op == KISA_LOOP) {
            f->turns[f->depth++] = inst->u.loop.count;
        } else if (inst->op == KISA_END) {
            f->depth--;
        } else if (inst->op == KISA_MATMUL && inst->u.matmul.accumulate) {
            uint64_t row = inst->u.matmul.psum_row;
            mark_stray(f, row * KISA_PSUM_ROW_BYTES,
                       (row + rows_of(&inst->u.matmul.moving)) * KISA_PSUM_ROW_BYTES);
        } else if (tpb_drained(inst) && tpb_drained(inst)->space == KISA_PSUM) {
            uint64_t first = 0, end = KISA_PSUM_BYTES;
            (void)kisa_operand_extent(tpb_drained(inst), f->turns, f->depth, &first, &end);
            mark_stray(f, first, end);
        }
        i++;
    }
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* The K tiles of a run; neighbours in memory become one. */
static bool make_unit(finder *f, uint32_t at, uint32_t length, tpb_unit *u)
{
    const kisa_inst *inst = f->p->inst + at;
    uint32_t n = length / 2;
    ker_mm_tile *tile = KAENA_NEW_N(f->arena, ker_mm_tile, n);
    if (!tile)
        return false;
    *u = (tpb_unit){.inst = &inst[length - 1],
                    .moving = &inst[1].u.matmul.moving,
                    .weights = &inst[0].u.ldw.weights,
                    .tile = tile,
                    .n_matmuls = n,
                    .fixed = f->depth,
                    .depth = f->depth};
    memcpy(u->turns, f->turns, sizeof u->turns);
    uint32_t element = (uint32_t)kaena_dtype_size((kaena_dtype)u->moving->dtype);
    uint32_t pair = 4 / element, k0 = u->moving->count[3], rows0 = (k0 + pair - 1) / pair;
    int64_t x_end = 0, w_end = 0;
    for (uint32_t i = 0; i < n; i++) {
        const kisa_operand *x = &inst[2 * i + 1].u.matmul.moving, *w = &inst[2 * i].u.ldw.weights;
        uint32_t k = x->count[3], panel_rows = (k + pair - 1) / pair;
        int64_t x_offset = (int64_t)(x->offset - u->moving->offset);
        int64_t w_offset = (int64_t)(w->offset - u->weights->offset);
        u->x_low = least(u->x_low, x_offset);
        x_end = most(x_end, x_offset + ((int64_t)k - k0) * element);
        u->w_low = least(u->w_low, w_offset);
        w_end = most(w_end, w_offset + ((int64_t)panel_rows - rows0) * 64);
        u->panel_rows += panel_rows;
        ker_mm_tile *last = u->n_tiles ? &tile[u->n_tiles - 1] : NULL;
        if (last && last->k % pair == 0 &&
            x_offset == last->x_offset + (int64_t)last->k * element &&
            w_offset == last->w_offset + (int64_t)(last->k / pair) * 64)
            last->k += k;
        else
            tile[u->n_tiles++] = (ker_mm_tile){x_offset, w_offset, k};
    }
    u->x_extra = x_end - u->x_low;
    u->w_extra = w_end - u->w_low;
    return true;
}

/* Second walk: the runs that may be fused. */
static bool take(finder *f)
{
    const kisa_program *p = f->p;
    f->depth = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        if (p->inst[i].op == KISA_LOOP)
            f->turns[f->depth++] = p->inst[i].u.loop.count;
        else if (p->inst[i].op == KISA_END)
            f->depth--;
        uint32_t n = f->out->length[i];
        if (n == 0)
            continue;
        const kisa_matmul *m = &p->inst[i + 1].u.matmul;
        bool legal = true;
        for (uint32_t r = 0; r < rows_of(&m->moving); r++)
            legal = legal && !f->stray[m->psum_row + r];
        if (!legal)
            continue;
        tpb_unit *u = KAENA_NEW(f->arena, tpb_unit);
        if (!u || !make_unit(f, i, n, u))
            return false;
        if (!tpb_run_legal(u))
            continue;
        f->out->run[i] = u;
    }
    return true;
}

bool tpb_find_runs(kaena_arena *arena, kaena_arena *scratch, const kisa_program *p, tpb_fusion *out)
{
    *out = (tpb_fusion){.run = KAENA_NEW_N(scratch, tpb_unit *, p->n),
                        .length = KAENA_NEW_N(scratch, uint32_t, p->n)};
    if (!out->run || !out->length)
        return false;
    finder f = {.p = p, .arena = arena, .out = out};
    find(&f);
    return take(&f);
}
