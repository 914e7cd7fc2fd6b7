/* The scoreboard: when would the hardware be done with one device step.
 *
 * TPBs advance in the order of their clocks. An instruction starts when its engine is free, what it
 * touches is no longer in use, and its chip's DRAM has delivered; weights are asked for ahead. What
 * a TPB has read from DRAM since it last waited for others stays in its state buffer while there is
 * room: reading it again costs no DRAM. Turns of a loop that does not synchronise repeat once the
 * pipeline is full: after WARM_TURNS of them the rest is multiplied. */
#include <stdlib.h>
#include <string.h>

#include "cost.h"

#define TPBS_PER_CHIP 4
#define RECENT 24 /* accesses remembered for dependencies */
#define WARM_TURNS 3
#define STAGED 256                /* stretches of DRAM remembered as staged in the state buffer */
#define FETCHED_AHEAD (512 << 10) /* bytes of weights; few models leave less of a state buffer */
#define RUNS 64                   /* contiguous runs of an operand that are told apart */

typedef struct access {
    uint8_t space;
    bool written;
    uint16_t tensor;
    uint64_t first, end;
    double until; /* seconds */
} access;

/* A stretch of DRAM that lies in the state buffer too. */
typedef struct stretch {
    uint8_t space;
    uint16_t tensor;
    uint64_t first, end;
} stretch;

typedef struct loop_state {
    uint32_t left, count, first; /* first: instruction behind the LOOP */
    bool synchronises;
    double turn_start;
    struct totals {
        double busy[KISA_ENGINE_COUNT], flops, dram;
    } at_start;
} loop_state;

typedef struct stream {
    const kisa_program *p;
    uint32_t pc, depth;
    loop_state loop[KISA_MAX_LOOPS];
    uint32_t turn[KISA_MAX_LOOPS];
    double issue; /* when the next instruction may be looked at */
    double engine_free[KISA_ENGINE_COUNT];
    double last_end;
    access recent[RECENT];
    uint32_t n_recent;
    stretch staged[STAGED];
    uint32_t n_staged; /* oldest first */
    uint64_t staged_bytes;
    uint64_t sem[KISA_SEMAPHORES];
    double sem_time[KISA_SEMAPHORES];
    uint32_t panels;
    double delivered;    /* when DRAM has delivered what was asked for last */
    double matmul_start; /* of the last MATMUL: an LDW hides behind it */
    struct totals total;
    bool halted;
} stream;

typedef struct board {
    stream *s;
    uint32_t n;
    double *dram_free; /* per chip */
} board;

static bool touches(const access *a, const access *b)
{
    return a->space == b->space && a->tensor == b->tensor && (a->written || b->written) &&
           a->first < b->end && b->first < a->end;
}

static uint32_t accesses_of(const stream *s, const kisa_inst *inst, const kisa_op_row *op,
                            access out[9])
{
    uint32_t n = 0;
    size_t fields;
    const kisa_field_row *row = kisa_fields(op->format, &fields);
    for (size_t i = 0; i < fields; i++) {
        const kisa_operand *o = (const void *)((const uint8_t *)&inst->u + row[i].offset);
        if (!row[i].is_operand || o->space == KISA_NONE || o->space == KISA_WEIGHTS)
            continue;
        kisa_operand at = *o;
        for (uint32_t d = 0; d < s->depth; d++)
            at.offset += (uint64_t)at.advance[d] * s->turn[d];
        access *a = &out[n];
        *a = (access){
            .space = o->space, .tensor = o->tensor, .written = row[i].access == KISA_ACCESS_WRITE};
        if (kisa_operand_extent(&at, NULL, 0, &a->first, &a->end))
            n++;
    }
    if (op->format == KISA_FORMAT_matmul) {
        const kisa_operand *m = &inst->u.matmul.moving;
        uint64_t first = (uint64_t)inst->u.matmul.psum_row * KISA_PSUM_ROW_BYTES;
        uint64_t rows = (uint64_t)m->count[0] * m->count[1] * m->count[2];
        out[n++] = (access){.space = KISA_PSUM,
                            .written = true,
                            .first = first,
                            .end = first + rows * KISA_PSUM_ROW_BYTES};
    }
    return n;
}

static double dram_rate(const board *b, const kisa_inst *inst)
{
    /* A group of several chips: what one of them wrote to SCRATCH crosses a link. */
    kisa_operand *o[8];
    kisa_inst copy = *inst;
    size_t n = kisa_operands(&copy, o, NULL);
    for (size_t i = 0; b->n > TPBS_PER_CHIP && i < n; i++)
        if (o[i]->space == KISA_SCRATCH)
            return KISA_LINK_BYTES_PER_S;
    return KISA_DRAM_BYTES_PER_S;
}

static void forget_staged(stream *s)
{
    s->n_staged = 0;
    s->staged_bytes = 0;
}

/* Remembers a stretch together with those that it touches; where there is no room for another, the
 * oldest go. */
static void stage(stream *s, const stretch *x)
{
    stretch all = *x;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->n_staged; i++) {
        const stretch t = s->staged[i];
        if (t.space != x->space || t.tensor != x->tensor || all.first > t.end ||
            t.first > all.end) {
            s->staged[kept++] = t;
            continue;
        }
        s->staged_bytes -= t.end - t.first;
        all.first = t.first < all.first ? t.first : all.first;
        all.end = t.end > all.end ? t.end : all.end;
    }
    s->n_staged = kept;
    uint64_t bytes = all.end - all.first;
    if (s->staged_bytes + bytes > KISA_SB_BYTES) {
        forget_staged(s);
        all = *x;
        bytes = all.end - all.first;
    }
    if (s->n_staged == STAGED) {
        s->staged_bytes -= s->staged[0].end - s->staged[0].first;
        memmove(&s->staged[0], &s->staged[1], --s->n_staged * sizeof s->staged[0]);
    }
    s->staged[s->n_staged++] = all;
    s->staged_bytes += bytes;
}

static uint64_t magnitude(int64_t stride)
{
    return stride < 0 ? 0 - (uint64_t)stride : (uint64_t)stride;
}

/* The contiguous runs of an operand, as many as there is room for; fewer and longer ones where they
 * are more: these hold gaps. */
static uint32_t runs_of(const kisa_operand *o, stretch out[RUNS])
{
    uint64_t run = kaena_dtype_size((kaena_dtype)o->dtype);
    uint32_t d = KISA_DIMS, n = 1;
    while (d > 0 &&
           (o->count[d - 1] == 1 || o->stride[d - 1] == 0 || magnitude(o->stride[d - 1]) <= run)) {
        d--;
        run += magnitude(o->stride[d]) * (o->count[d] - 1);
    }
    out[0] = (stretch){.space = o->space, .tensor = o->tensor, .first = o->offset};
    for (; d > 0; d--) {
        uint64_t step = magnitude(o->stride[d - 1]);
        uint32_t count = step ? o->count[d - 1] : 1;
        if (n * (uint64_t)count > RUNS)
            break;
        for (uint32_t k = n; k < n * count; k++) {
            out[k] = out[k % n];
            out[k].first += k / n * step;
        }
        n *= count;
    }
    for (; d > 0; d--)
        run += magnitude(o->stride[d - 1]) * (o->count[d - 1] - 1);
    for (uint32_t k = 0; k < n; k++)
        out[k].end = out[k].first + run;
    return n;
}

/* The part of a stretch that is not staged yet, 0..1. */
static double missing(const stream *s, const stretch *x)
{
    uint64_t have = 0;
    for (uint32_t i = 0; i < s->n_staged; i++) {
        const stretch *t = &s->staged[i];
        if (t->space != x->space || t->tensor != x->tensor)
            continue;
        uint64_t first = x->first > t->first ? x->first : t->first,
                 end = x->end < t->end ? x->end : t->end;
        have += end > first ? end - first : 0;
    }
    uint64_t all = x->end - x->first;
    return have >= all ? 0 : 1 - (double)have / (double)all;
}

/* DRAM traffic of an instruction: what it writes, and what it reads that is not staged. */
static double dram_bytes(stream *s, const kisa_inst *inst, const kisa_op_row *op)
{
    double sum = 0;
    size_t fields;
    const kisa_field_row *row = kisa_fields(op->format, &fields);
    for (size_t i = 0; i < fields; i++) {
        const kisa_operand *o = (const void *)((const uint8_t *)&inst->u + row[i].offset);
        if (!row[i].is_operand || !kisa_in_dram(o))
            continue;
        kisa_operand at = *o;
        for (uint32_t d = 0; d < s->depth; d++)
            at.offset += (uint64_t)at.advance[d] * s->turn[d];
        stretch run[RUNS];
        uint32_t n = runs_of(&at, run);
        double part = 1;
        if (row[i].access != KISA_ACCESS_WRITE) {
            part = 0;
            for (uint32_t k = 0; k < n; k++)
                part += missing(s, &run[k]) / n;
        }
        sum += kisa_operand_bytes(o) * part;
        for (uint32_t k = 0; k < n; k++)
            if (run[k].first < run[k].end)
                stage(s, &run[k]);
    }
    return sum;
}

/* Executes an instruction that is not control. */
static void execute(board *b, stream *s, const kisa_inst *inst, const kisa_op_row *op)
{
    uint32_t chip = (uint32_t)(s - b->s) / TPBS_PER_CHIP;
    kisa_cost_of cost = kisa_cost_with(inst, s->panels);
    double start = s->issue > s->engine_free[cost.engine] ? s->issue : s->engine_free[cost.engine];
    double seconds = cost.cycles / KISA_CLOCK_HZ;
    if (inst->op == KISA_LDW) {
        s->panels = inst->u.ldw.weights.count[1];
        /* The next tile is loaded while rows still stream through the one before. */
        if (s->matmul_start + seconds < start)
            seconds = 0;
        else
            seconds = s->matmul_start + seconds - start;
    }
    access mine[9];
    uint32_t n = accesses_of(s, inst, op, mine);
    uint32_t known = s->n_recent < RECENT ? s->n_recent : RECENT;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < known; k++)
            if (s->recent[k].until > start && touches(&mine[i], &s->recent[k]))
                start = s->recent[k].until;
    double end = start + seconds;
    /* Of a gather's table only the rows asked for are read. */
    double dram = inst->op == KISA_GATHER ? (double)cost.dram_bytes : dram_bytes(s, inst, op);
    if (dram > 0) {
        /* Nobody writes weights: the DMA engines fetch them ahead of time. */
        bool ahead = inst->op == KISA_LDW && inst->u.ldw.weights.space == KISA_WEIGHTS;
        double from = ahead ? start - FETCHED_AHEAD / KISA_DRAM_BYTES_PER_S : start;
        from = from > s->delivered ? from : s->delivered;
        from = from > b->dram_free[chip] ? from : b->dram_free[chip];
        double done = from + dram / dram_rate(b, inst);
        b->dram_free[chip] = s->delivered = done;
        end = done > end ? done : end;
    }
    if (inst->op == KISA_MATMUL)
        s->matmul_start = start;
    for (uint32_t i = 0; i < n; i++) {
        mine[i].until = end;
        s->recent[s->n_recent++ % RECENT] = mine[i];
        if (s->n_recent == 2 * RECENT)
            s->n_recent = RECENT;
    }
    s->engine_free[cost.engine] = end;
    s->last_end = end > s->last_end ? end : s->last_end;
    s->total.busy[cost.engine] += seconds;
    s->total.dram += dram;
    if (inst->op == KISA_MATMUL)
        s->total.flops += cost.flops;
}

static double clock_of(const stream *s)
{
    double t = s->issue;
    for (int e = 0; e < KISA_ENGINE_COUNT; e++)
        t = s->engine_free[e] > t ? s->engine_free[e] : t;
    return t;
}

static bool synchronises(const kisa_program *p, uint32_t first)
{
    for (uint32_t i = first, depth = 1; i < p->n && depth; i++) {
        if (p->inst[i].op == KISA_SIGNAL || p->inst[i].op == KISA_WAIT)
            return true;
        depth += p->inst[i].op == KISA_LOOP;
        depth -= p->inst[i].op == KISA_END;
    }
    return false;
}

static void begin_loop(stream *s, uint32_t count)
{
    s->turn[s->depth] = 0;
    s->loop[s->depth++] = (loop_state){.left = count,
                                       .count = count,
                                       .first = s->pc + 1,
                                       .synchronises = synchronises(s->p, s->pc + 1),
                                       .turn_start = clock_of(s),
                                       .at_start = s->total};
}

/* The remaining turns are like the last one: moves all clocks and sums on. */
static void skip_turns(stream *s, loop_state *l)
{
    double turns = l->left, turn = clock_of(s) - l->turn_start;
    /* What was fetched ahead before the loop does not last. */
    double fetch = (s->total.dram - l->at_start.dram) / KISA_DRAM_BYTES_PER_S;
    double delta = (fetch > turn ? fetch : turn) * turns;
    s->delivered += delta;
    for (int e = 0; e < KISA_ENGINE_COUNT; e++) {
        s->engine_free[e] += delta;
        s->total.busy[e] += (s->total.busy[e] - l->at_start.busy[e]) * turns;
    }
    s->issue += delta;
    s->last_end += delta;
    s->matmul_start += delta;
    s->total.flops += (s->total.flops - l->at_start.flops) * turns;
    s->total.dram += (s->total.dram - l->at_start.dram) * turns;
    s->turn[s->depth - 1] += l->left;
    l->left = 0;
}

static void end_turn(stream *s)
{
    loop_state *l = &s->loop[s->depth - 1];
    l->left--;
    s->turn[s->depth - 1]++;
    if (l->left && !l->synchronises && l->count - l->left == WARM_TURNS)
        skip_turns(s, l);
    if (l->left) {
        l->turn_start = clock_of(s);
        l->at_start = s->total;
        s->pc = l->first;
    } else {
        s->depth--;
        s->pc++;
    }
}

static void signal_all(board *b, const stream *s, const kisa_signal *sig)
{
    for (uint32_t j = 0; j < b->n; j++)
        if (sig->mask >> j & 1) {
            b->s[j].sem[sig->sem] += sig->amount;
            b->s[j].sem_time[sig->sem] = s->last_end;
        }
}

/* One instruction; false when it has to wait. */
static bool step(board *b, stream *s)
{
    const kisa_inst *inst = &s->p->inst[s->pc];
    const kisa_op_row *op = kisa_op_find(inst->op);
    switch (inst->op) {
    case KISA_HALT:
        s->halted = true;
        return true;
    case KISA_LOOP:
        begin_loop(s, inst->u.loop.count);
        break;
    case KISA_END:
        end_turn(s);
        return true;
    case KISA_SIGNAL:
        signal_all(b, s, &inst->u.signal);
        break;
    case KISA_WAIT: {
        const kisa_wait *w = &inst->u.wait;
        if (s->sem[w->sem] < w->value)
            return false;
        if (s->sem_time[w->sem] > s->issue)
            s->issue = s->sem_time[w->sem];
        forget_staged(s);
        break;
    }
    default:
        execute(b, s, inst, op);
        break;
    }
    s->pc++;
    return true;
}

static void run(board *b)
{
    for (bool moved = true; moved;) {
        moved = false;
        /* The TPB that is furthest behind; if it waits, the next. */
        bool waits[KISA_MAX_TPBS] = {false};
        for (uint32_t tried = 0; tried < b->n && !moved; tried++) {
            stream *next = NULL;
            for (uint32_t i = 0; i < b->n; i++)
                if (!b->s[i].halted && !waits[i] && (!next || clock_of(&b->s[i]) < clock_of(next)))
                    next = &b->s[i];
            if (!next)
                return;
            moved = step(b, next);
            waits[next - b->s] = true;
        }
    }
}

void kisa_estimate_run(const kisa_program *programs, uint32_t n_tpbs, kisa_estimate *out)
{
    *out = (kisa_estimate){0};
    board b = {.n = n_tpbs};
    b.s = calloc(n_tpbs, sizeof *b.s);
    b.dram_free = calloc(n_tpbs / TPBS_PER_CHIP + 1, sizeof *b.dram_free);
    if (b.s && b.dram_free) {
        for (uint32_t i = 0; i < n_tpbs; i++)
            b.s[i].p = &programs[i];
        run(&b);
    }
    double dram = 0;
    for (uint32_t i = 0; b.s && i < n_tpbs; i++) {
        const stream *s = &b.s[i];
        out->latency_s = s->last_end > out->latency_s ? s->last_end : out->latency_s;
        for (int e = 0; e < KISA_ENGINE_COUNT; e++)
            out->busy_s[e] += s->total.busy[e];
        out->pe_flops += s->total.flops;
        dram += s->total.dram;
    }
    out->dram_bytes = (uint64_t)dram;
    /* DRAM is the DMA engines' to wait for. */
    double longest = 0;
    for (int e = 0; e < KISA_ENGINE_COUNT; e++) {
        double busy = out->busy_s[e];
        if (e == KISA_ENGINE_DMA && dram / KISA_DRAM_BYTES_PER_S > busy)
            busy = dram / KISA_DRAM_BYTES_PER_S;
        if (busy > longest) {
            longest = busy;
            out->bottleneck = (kisa_engine)e;
        }
    }
    free(b.s);
    free(b.dram_free);
}
