/* Turns a verified program into nodes: control as it stands, work as operations. */
#include <string.h>

#include "tpb_code.h"

#define MAX_UNITS 32       /* of one operation */
#define WORTH_SHARING 12e3 /* nanoseconds */

typedef struct builder {
    kaena_arena *arena;
    const kisa_program *p;
    bool fuse;
    tpb_fusion fusion;
    uint32_t *end; /* of each LOOP, its END */
    tpb_node *node;
    uint32_t n;
    uint32_t turns[KISA_MAX_LOOPS], depth;
    tpb_unit open[MAX_UNITS]; /* of the operation that is being gathered */
    uint32_t n_open;
    tpb_code_stats stats;
    bool no_memory;
} builder;

static bool touches_psum(const kisa_inst *inst)
{
    const kisa_operand *src = tpb_drained(inst);
    return src && src->space == KISA_PSUM;
}

static bool is_work(const kisa_inst *inst)
{
    const kisa_op_row *row = kisa_op_find(inst->op);
    return row->engine != KISA_ENGINE_SYNC && row->engine != KISA_ENGINE_PE;
}

static tpb_node *add_node(builder *b, tpb_node_kind kind, const kisa_inst *inst)
{
    tpb_node *n = &b->node[b->n++];
    *n = (tpb_node){.kind = kind, .inst = inst};
    return n;
}

/* Closes the operation that is being gathered. */
static void flush(builder *b)
{
    if (b->n_open == 0)
        return;
    tpb_unit *unit = kaena_arena_memdup(b->arena, b->open, b->n_open * sizeof *unit);
    if (!unit) {
        b->no_memory = true;
        b->n_open = 0;
        return;
    }
    tpb_op op = {.unit = unit, .n_units = b->n_open};
    double cost = 0;
    bool fused = false;
    for (uint32_t i = 0; i < b->n_open; i++) {
        tpb_plan_unit(&unit[i], !b->fuse);
        const double ns = tpb_unit_cost(&unit[i]);
        cost += ns;
        unit[i].chunk_ns = (float)(ns / unit[i].n_chunks);
        unit[i].first_chunk = op.n_chunks;
        op.n_chunks += unit[i].n_chunks;
        fused = fused || unit[i].moving;
        b->stats.matmuls_fused += unit[i].n_matmuls;
    }
    op.ns = (float)cost;
    op.alone = op.n_chunks == 1 || cost < WORTH_SHARING;
    add_node(b, TPB_NODE_OP, unit[0].inst)->op = op;
    b->stats.operations++;
    b->stats.fused += fused;
    b->n_open = 0;
}

/* Adds units that are independent of each other to the operation that is being gathered, or starts
 * the next one with them. */
static void gather(builder *b, const tpb_unit *unit, uint32_t n)
{
    bool join = b->n_open + n <= MAX_UNITS;
    for (uint32_t i = 0; join && i < n; i++)
        for (uint32_t j = 0; join && j < b->n_open; j++)
            join = tpb_units_independent(&unit[i], &b->open[j]);
    if (!join)
        flush(b);
    memcpy(b->open + b->n_open, unit, n * sizeof *unit);
    b->n_open += n;
}

/* The unit at |at| (a fused run or an instruction) with the program's loops below |fixed|. */
static tpb_unit unit_at(const builder *b, uint32_t at, uint32_t fixed)
{
    tpb_unit u = {.inst = &b->p->inst[at]};
    if (b->fuse && b->fusion.run[at])
        u = *b->fusion.run[at];
    u.fixed = fixed;
    u.depth = b->depth;
    memcpy(u.turns, b->turns, sizeof u.turns);
    return u;
}

/* Collects the units of the loop at |at| with all its loops as their own; false when it has
 * anything but units, too many, or turns that depend on each other. */
static bool absorb(builder *b, uint32_t at, tpb_unit *unit, uint32_t *n)
{
    const uint32_t fixed = b->depth, end = b->end[at];
    bool ok = true;
    *n = 0;
    for (uint32_t i = at; ok && i <= end; i++) {
        const kisa_inst *inst = &b->p->inst[i];
        if (inst->op == KISA_LOOP) {
            b->turns[b->depth++] = inst->u.loop.count;
        } else if (inst->op == KISA_END) {
            b->depth--;
        } else if (*n == MAX_UNITS ||
                   (!b->fusion.run[i] && (!is_work(inst) || touches_psum(inst)))) {
            ok = false;
        } else {
            unit[(*n)++] = unit_at(b, i, fixed);
            if (b->fusion.run[i])
                i += b->fusion.length[i] - 1;
        }
    }
    b->depth = fixed;
    for (uint32_t i = 0; ok && i < *n; i++) {
        ok = tpb_unit_independent(&unit[i]);
        for (uint32_t j = 0; ok && j < i; j++)
            ok = tpb_units_independent(&unit[i], &unit[j]);
    }
    return ok && *n > 0;
}

static tpb_node_kind simple_node(const kisa_inst *inst)
{
    return inst->op == KISA_HALT     ? TPB_NODE_HALT
           : inst->op == KISA_SIGNAL ? TPB_NODE_SIGNAL
           : inst->op == KISA_WAIT   ? TPB_NODE_WAIT
           : inst->op == KISA_LDW    ? TPB_NODE_LDW
                                     : TPB_NODE_MATMUL;
}

static void build(builder *b)
{
    tpb_unit unit[MAX_UNITS];
    uint32_t open_loop[KISA_MAX_LOOPS], n;
    for (uint32_t i = 0; i < b->p->n; i++) {
        const kisa_inst *inst = &b->p->inst[i];
        if (b->fuse && b->fusion.run[i]) {
            *unit = unit_at(b, i, b->depth);
            gather(b, unit, 1);
            i += b->fusion.length[i] - 1;
            continue;
        }
        if (is_work(inst)) {
            /* What reads PSUM comes after the MATMULs before it, one by one. */
            bool single = !b->fuse || touches_psum(inst);
            if (single)
                flush(b);
            *unit = unit_at(b, i, b->depth);
            gather(b, unit, 1);
            if (single)
                flush(b);
            continue;
        }
        if (inst->op == KISA_LOOP && b->fuse && absorb(b, i, unit, &n)) {
            gather(b, unit, n);
            i = b->end[i];
            continue;
        }
        flush(b);
        if (inst->op == KISA_LOOP) {
            open_loop[b->depth] = b->n;
            b->turns[b->depth++] = inst->u.loop.count;
            add_node(b, TPB_NODE_LOOP, inst)->count = inst->u.loop.count;
        } else if (inst->op == KISA_END) {
            uint32_t loop = open_loop[--b->depth];
            tpb_node *node = add_node(b, TPB_NODE_END, inst);
            node->target = loop;
            node->count = b->node[loop].count;
        } else {
            add_node(b, simple_node(inst), inst);
            b->stats.operations += inst->op == KISA_MATMUL;
        }
    }
    flush(b);
}

/* For each LOOP the index of its END. */
static void match_loops(const kisa_program *p, uint32_t *end)
{
    uint32_t open[KISA_MAX_LOOPS], depth = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        if (p->inst[i].op == KISA_LOOP)
            open[depth++] = i;
        else if (p->inst[i].op == KISA_END)
            end[open[--depth]] = i;
    }
}

static kaena_status predecode(builder *b, kaena_arena *scratch, tpb_code **out, kaena_err *err)
{
    const kisa_program *p = b->p;
    b->end = KAENA_NEW_N(scratch, uint32_t, p->n);
    b->node = KAENA_NEW_N(scratch, tpb_node, p->n);
    bool fits = b->end && b->node;
    if (fits) {
        match_loops(p, b->end);
        fits = !b->fuse || tpb_find_runs(b->arena, scratch, p, &b->fusion);
    }
    tpb_code *code = NULL;
    if (fits) {
        build(b);
        code = KAENA_NEW(b->arena, tpb_code);
        if (code)
            code->node = kaena_arena_memdup(b->arena, b->node, b->n * sizeof *b->node);
        fits = !b->no_memory && code && code->node;
    }
    if (!fits)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory to predecode %u instructions", p->n);
    code->n = b->n;
    code->fused = b->fuse;
    for (uint32_t i = 0; i < p->n; i++)
        b->stats.matmuls += p->inst[i].op == KISA_MATMUL;
    code->stats = b->stats;
    *out = code;
    return KAENA_OK;
}

kaena_status tpb_predecode(kaena_arena *arena, const kisa_program *program, bool fuse,
                           tpb_code **out, kaena_err *err)
{
    kaena_arena scratch;
    kaena_arena_init(&scratch, SIZE_MAX);
    builder b = {.arena = arena, .p = program, .fuse = fuse};
    kaena_status status = predecode(&b, &scratch, out, err);
    kaena_arena_fini(&scratch);
    return status;
}

tpb_code_stats tpb_code_stats_of(const tpb_code *code)
{
    return code->stats;
}
