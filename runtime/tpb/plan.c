/* Cuts units into chunks: large enough to hide the hand-over, small enough to share; and chooses
 * whether weights or rows stay in the cache while the others stream through it. */
#include "tpb_code.h"

/* Nanoseconds of the fastest level on one thread; they only size chunks. */
#define NS_PANEL_ROW 0.145 /* 64 bytes of weights against one row: the same for every type */
#define NS_PANEL_READ 0.7  /* the least it takes to have them: fewer rows wait for memory */
#define NS_PANEL_OUT 4.0   /* sixteen columns of one row into the destination */
#define NS_CALL 60.0       /* per turn: addresses, kernel entry */
#define CHUNK_LEAST 8e3
#define CHUNK_MOST 25e3
#define CHUNKS_WANTED 8
#define GROUP_MOST 50e3 /* one turn's panels: their rows are cut above, and weights read again */
#define CACHED_WEIGHTS (384 << 10) /* stay in L2 beside rows and destination */
#define MAX_CHUNKS (1 << 20)
#define LEAST_ROWS 6 /* of a chunk of a fused run: a register tile */

/* Per element of the destination, and per tap where there are taps. */
static double element_ns(const kisa_inst *inst)
{
    switch ((kisa_op)inst->op) {
    case KISA_ACT:
    case KISA_QUANT:
        return 0.3;
    case KISA_WINDOW:
        return 0.1 + 0.04 * inst->u.window.kernel_h * inst->u.window.kernel_w;
    case KISA_DWCONV:
        return 0.1 +
               0.04 * (double)inst->u.dwconv.weights.count[1] * inst->u.dwconv.weights.count[2];
    case KISA_REDUCE: {
        double taps = 1;
        for (int i = 0; i < KISA_DIMS; i++)
            taps *= (double)inst->u.reduce.src.count[i] / inst->u.reduce.dst.count[i];
        return 0.1 + 0.06 * taps;
    }
    case KISA_RESIZE:
        return 0.2 * inst->u.resize.y_index.count[3] * inst->u.resize.x_index.count[3];
    case KISA_SOFTMAX:
    case KISA_LRN:
    case KISA_NORM:
        return 0.6;
    case KISA_TT:
    case KISA_TTT:
    case KISA_COPY:
    case KISA_FILL:
    case KISA_GATHER:
    case KISA_PACK:
        return 0.2;
    case KISA_HALT:
    case KISA_LOOP:
    case KISA_END:
    case KISA_SIGNAL:
    case KISA_WAIT:
    case KISA_LDW:
    case KISA_MATMUL:
        break;
    }
    return 0;
}

static const kisa_operand *destination(const tpb_unit *u)
{
    kisa_operand *operand[8];
    kisa_access access[8];
    size_t n = kisa_operands((kisa_inst *)(uintptr_t)u->inst, operand, access);
    for (size_t i = 0; i < n; i++)
        if (access[i] == KISA_ACCESS_WRITE)
            return operand[i];
    return NULL; /* every instruction of a unit writes something */
}

/* All rows of one turn. */
static double turn_cost(const tpb_unit *u)
{
    if (!u->moving)
        return element_ns(u->inst) * destination(u)->count[3] * u->rows;
    double each = NS_PANEL_ROW * u->rows;
    each = each > NS_PANEL_READ ? each : NS_PANEL_READ;
    return (each * u->panel_rows + NS_PANEL_OUT * u->rows) * u->weights->count[1];
}

static double all_turns(const tpb_unit *u)
{
    double turns = 1;
    for (uint32_t l = u->fixed; l < u->depth; l++)
        turns *= u->turns[l];
    return turns;
}

double tpb_unit_cost(const tpb_unit *u)
{
    return all_turns(u) * (NS_CALL + turn_cost(u));
}

/* Row parts that bring |cost| down to |target|. */
static uint32_t parts_for(double cost, double target, uint32_t rows, uint32_t least_rows)
{
    double parts = cost / target + 0.5, most = rows / least_rows;
    if (parts > most)
        parts = most;
    return parts < 1 ? 1 : (uint32_t)parts;
}

static void add_outer(tpb_unit *u, uint32_t l)
{
    u->outer[u->n_outer++] = (uint8_t)l;
}

static void add_inner(tpb_unit *u, uint32_t l)
{
    u->inner[u->n_inner++] = (uint8_t)l;
}

/* Loops fall into those over panels (only weights advance), over rows (only moving rows do) and
 * the rest, over problems. */
static void plan_run(tpb_unit *u, double target)
{
    uint8_t panels[KISA_MAX_LOOPS], rows[KISA_MAX_LOOPS];
    uint32_t n_panels = 0, n_rows = 0;
    double panel_turns = 1, row_turns = 1;
    for (uint32_t l = u->fixed; l < u->depth; l++) {
        bool w = u->weights->advance[l] != 0, x = u->moving->advance[l] != 0;
        if (w && !x) {
            panels[n_panels++] = (uint8_t)l;
            panel_turns *= u->turns[l];
        } else if (x && !w) {
            rows[n_rows++] = (uint8_t)l;
            row_turns *= u->turns[l];
        } else {
            add_outer(u, l);
        }
    }
    double turn = turn_cost(u);
    double weights = 64.0 * u->panel_rows * u->weights->count[1] * panel_turns;
    double moving = 4.0 * u->panel_rows * u->rows * row_turns;
    if (weights <= CACHED_WEIGHTS && weights <= moving) {
        for (uint32_t i = 0; i < n_rows; i++)
            add_outer(u, rows[i]);
        for (uint32_t i = 0; i < n_panels; i++)
            add_inner(u, panels[i]);
        u->row_parts = parts_for(turn * panel_turns, target, u->rows, LEAST_ROWS);
        return;
    }
    for (uint32_t i = 0; i < n_panels; i++)
        add_outer(u, panels[i]);
    if (turn * row_turns <= GROUP_MOST) {
        for (uint32_t i = 0; i < n_rows; i++)
            add_inner(u, rows[i]);
    } else {
        for (uint32_t i = 0; i < n_rows; i++)
            add_outer(u, rows[i]);
        u->row_parts = parts_for(turn, GROUP_MOST, u->rows, 2 * LEAST_ROWS);
    }
}

/* Innermost loops run inside a chunk until it is worth one. */
static void plan_instruction(tpb_unit *u, double target)
{
    double turn = NS_CALL + turn_cost(u);
    uint32_t l = u->depth;
    double chunk = turn;
    while (l > u->fixed && chunk * u->turns[l - 1] <= target)
        chunk *= u->turns[--l];
    for (uint32_t i = u->fixed; i < l; i++)
        add_outer(u, i);
    for (uint32_t i = l; i < u->depth; i++)
        add_inner(u, i);
    if (l < u->depth)
        return;
    u->row_parts = parts_for(turn, target, u->rows, 1);
    /* Image rows of a depthwise convolution share what is loaded for them: they are not cut where
     * there are enough of them. */
    uint32_t width = destination(u)->count[2];
    if (u->inst->op == KISA_DWCONV && (uint64_t)u->row_parts * width <= u->rows)
        u->row_unit = width;
}

void tpb_plan_unit(tpb_unit *u, bool whole)
{
    const kisa_operand *rows = u->moving ? u->moving : destination(u);
    u->rows = rows->count[0] * rows->count[1] * rows->count[2];
    u->row_parts = u->row_unit = 1;
    u->n_outer = u->n_inner = 0;
    double target = tpb_unit_cost(u) / CHUNKS_WANTED;
    if (target < CHUNK_LEAST)
        target = CHUNK_LEAST;
    if (target > CHUNK_MOST)
        target = CHUNK_MOST;
    if (whole) {
        for (uint32_t l = u->fixed; l < u->depth; l++)
            add_inner(u, l);
    } else if (u->moving) {
        plan_run(u, target);
    } else {
        plan_instruction(u, target);
    }
    uint64_t chunks = u->row_parts;
    for (uint32_t i = 0; i < u->n_outer && chunks <= MAX_CHUNKS; i++)
        chunks *= u->turns[u->outer[i]];
    if (chunks > MAX_CHUNKS)
        tpb_plan_unit(u, true);
    else
        u->n_chunks = (uint32_t)chunks;
}
