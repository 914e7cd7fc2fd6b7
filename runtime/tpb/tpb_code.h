/* A predecoded program: nodes in program order, operations of units, units cut into chunks. Inside
 * runtime/tpb, and for benchmarks/bench_layers. */
#ifndef KAENA_TPB_CODE_H
#define KAENA_TPB_CODE_H

#include "tpb.h"

/* The least that is executed at once: one instruction or one fused run, with the loops around it
 * that its operation has taken over. */
typedef struct tpb_unit {
    const kisa_inst *inst; /* a fused run's ACT or QUANT, else the instruction */
    /* A fused run: */
    const kisa_operand *moving, *weights; /* of its first MATMUL and LDW; NULL: not fused */
    const ker_mm_tile *tile;              /* all K tiles, offsets from those two */
    uint32_t n_tiles;
    uint32_t n_matmuls;
    uint32_t panel_rows; /* of one panel, all tiles together */
    /* All tiles lie in [low, low + extra] behind the first one's operands, bytes. */
    int64_t x_low, x_extra, w_low, w_extra;
    /* Loops: [0, fixed) are the program's, [fixed, depth) the unit's own. */
    uint32_t fixed, depth;
    uint32_t turns[KISA_MAX_LOOPS];
    /* Chunks: every combination of turns of the |outer| loops (last fastest) and row part is one;
     * inside a chunk all turns of the |inner| loops are run. */
    uint8_t outer[KISA_MAX_LOOPS], inner[KISA_MAX_LOOPS];
    uint8_t n_outer, n_inner;
    uint32_t rows, row_parts;
    uint32_t row_unit; /* rows that stay in one part */
    uint32_t first_chunk, n_chunks;
    float chunk_ns; /* roughly, of one chunk on one thread */
} tpb_unit;

/* Units that depend on each other in no turn: their chunks may run in any order and at once. */
typedef struct tpb_op {
    const tpb_unit *unit;
    uint32_t n_units, n_chunks;
    float ns;   /* of all chunks, on one thread */
    bool alone; /* too small to be worth another thread */
} tpb_op;

typedef enum tpb_node_kind {
    TPB_NODE_HALT,
    TPB_NODE_LOOP,   /* |count| turns */
    TPB_NODE_END,    /* back to the node after |target| */
    TPB_NODE_SIGNAL, /* inst */
    TPB_NODE_WAIT,   /* inst */
    TPB_NODE_LDW,    /* inst */
    TPB_NODE_MATMUL, /* inst, into PSUM */
    TPB_NODE_OP      /* op */
} tpb_node_kind;

typedef struct tpb_node {
    tpb_node_kind kind;
    uint32_t count, target;
    const kisa_inst *inst;
    tpb_op op;
} tpb_node;

struct tpb_code {
    const tpb_node *node;
    uint32_t n;
    bool fused;
    tpb_code_stats stats;
};

/* --- fuse.c ------------------------------------------------------------------------------------
 */

/* The source of an instruction that may drain PSUM (ACT, QUANT); NULL: another instruction. */
const kisa_operand *tpb_drained(const kisa_inst *inst);

/* For every instruction of the program: the unit of the fused run that starts there, or NULL, and
 * the run's instructions. Loops are not yet looked at. */
typedef struct tpb_fusion {
    tpb_unit **run;
    uint32_t *length; /* runs that were found but not fused have a length too */
} tpb_fusion;

/* Units live in |arena|, the rest in |scratch|. False: no memory. */
bool tpb_find_runs(kaena_arena *arena, kaena_arena *scratch, const kisa_program *p,
                   tpb_fusion *out);

/* --- depend.c ----------------------------------------------------------------------------------
 */

/* Turns of a unit's own loops do not depend on each other. */
bool tpb_unit_independent(const tpb_unit *u);
/* Neither unit depends on the other, in any turn of their own loops. */
bool tpb_units_independent(const tpb_unit *a, const tpb_unit *b);
/* The run's destination overlaps none of its sources (but its residual, element for element). */
bool tpb_run_legal(const tpb_unit *u);

/* --- plan.c ------------------------------------------------------------------------------------
 */

/* Cuts the unit into chunks, or, if |whole|, into one. */
void tpb_plan_unit(tpb_unit *u, bool whole);
/* The first row of row part |part|, 0..row_parts. */
static inline uint32_t tpb_part_begin(const tpb_unit *u, uint32_t part)
{
    return (uint32_t)((uint64_t)(u->rows / u->row_unit) * part / u->row_parts) * u->row_unit;
}
/* Rough time of all turns on one thread, nanoseconds. */
double tpb_unit_cost(const tpb_unit *u);

/* --- unit.c ------------------------------------------------------------------------------------
 */

/* Runs chunk |chunk| of the unit; |turns| are those of the program's loops around it. Leaves the
 * rest undone once |stop| (may be NULL) is set. */
void tpb_unit_run(const tpb_unit *u, const tpb_bind *bind, const uint32_t *turns, uint32_t chunk,
                  const atomic_bool *stop);

/* The address of an operand in the given turns. */
uint8_t *tpb_address(const tpb_bind *bind, const kisa_operand *o, const uint32_t *turns);
ker_ap tpb_resolve(const tpb_bind *bind, const kisa_operand *o, const uint32_t *turns);
/* The matmul kernel of a moving operand's type. */
void tpb_matmul(const ker_table *ker, const ker_mm_args *a, uint32_t row0, uint32_t row1);

#endif
