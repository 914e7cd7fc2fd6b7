/* A NEFF's plan, a tree, as a flat list of operations with jumps: what an execution context walks.
 *
 * IF and LOOP have no frames: an operation is an index, the state of every loop of the plan lies in
 * the context (loops do not recurse), so a context that waits for its TPBs holds no thread.
 *
 *   branch   IF cond -> else | then ... | HAND results -> outputs | JUMP end | else: ... | HAND |
 * end: loop     LOOP -> end | turn: ... | TURN -> turn | end: select   SELECT -> case i | case 0:
 * ... | HAND | JUMP end | case 1: ... | HAND | JUMP end | end: */
#ifndef FLOW_H
#define FLOW_H

#include "neff.h"

typedef enum flow_kind {
    FLOW_DEVICE,
    FLOW_HOST,
    FLOW_IF,
    FLOW_JUMP,
    FLOW_HAND,
    FLOW_LOOP,
    FLOW_TURN,
    FLOW_SELECT,
    FLOW_END,
} flow_kind;

typedef struct flow_op {
    flow_kind kind;
    uint32_t index;            /* DEVICE: which of the device steps; LOOP and TURN: which loop */
    uint32_t arena;            /* HOST, LOOP, TURN: its first arena, see flow.n_arenas */
    uint32_t target;           /* where IF (false), JUMP, LOOP (no turn) and TURN (again) go on */
    const uint32_t *targets;   /* SELECT: [cases] */
    const uint32_t *from, *to; /* HAND: [n] values */
    uint32_t n;
    union {
        const Kaena__V1__NeffDeviceStep *device;
        const Kaena__V1__NeffHostStep *host;
        const Kaena__V1__NeffIfStep *branch;
        const Kaena__V1__NeffLoopStep *loop;
        const Kaena__V1__NeffSelectStep *select;
    } step;
} flow_op;

typedef struct flow {
    flow_op *op; /* ends with FLOW_END */
    uint32_t n;
    const Kaena__V1__NeffDeviceStep **device; /* [n_device] by index */
    uint32_t n_device, n_host, n_loops;
    /* What a context needs so that values of unknown size have an owner: one arena per host step,
     * and per loop two for each carried value and one for what the turns leave. */
    uint32_t n_arenas;
    /* Where static values that no client brings lie in a context, see flow_value_at. Alternatives
     * share their memory. */
    int64_t *value_at; /* [values] offset; -1: none of its own */
    uint64_t values_bytes;
} flow;

/* Of a verified file; memory is |arena|'s. RESOURCE_EXHAUSTED. */
kaena_status flow_build(kaena_arena *arena, const neff_file *f, flow *out,
                        kaena_err *err) KAENA_CHECKED;

/* A carried value of known size has two buffers, one behind the other: a turn writes the one that
 * the next reads. Bytes from the first to the second. */
uint64_t flow_buffer_bytes(const neff_tensor *t);

#endif
