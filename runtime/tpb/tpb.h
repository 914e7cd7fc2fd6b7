/* One emulated TPB: predecode with fusion, execution of chunks, single-step.
 *
 * A program that kisa_verify has accepted is predecoded once per load into operations; runs of
 * LDW/MATMUL with the ACT that drains them become one operation where the conditions of docs/tpb.md
 * hold. Executing is: bind spaces to addresses, then take chunks of
 * operations. The bits do not depend on fusion, chunks, threads or level. */
#ifndef KAENA_TPB_H
#define KAENA_TPB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "err.h"
#include "isa.h"
#include "ker.h"

typedef struct tpb_code tpb_code; /* a predecoded program; immutable, shared by executions */

/* Predecodes one verified program. |fuse| false keeps every instruction an operation of its own.
 * Memory is the arena's; |program| must outlive the code. */
kaena_status tpb_predecode(kaena_arena *arena, const kisa_program *program, bool fuse,
                           tpb_code **out, kaena_err *err) KAENA_CHECKED;
/* How much of it fused, for reports and tests: operations, fused operations, MATMULs inside fused
 * operations, MATMULs in all. */
typedef struct tpb_code_stats {
    uint32_t operations, fused, matmuls_fused, matmuls;
} tpb_code_stats;
tpb_code_stats tpb_code_stats_of(const tpb_code *code);

/* Where the spaces of an execution lie. */
typedef struct tpb_bind {
    uint8_t *sb;   /* of the TPB and model slot, KISA_SB_BYTES or what the model uses */
    uint8_t *psum; /* KISA_PSUM_BYTES */
    const uint8_t *weights;
    uint8_t *scratch;
    uint8_t *const *io; /* [n_io] */
    const ker_table *ker;
    _Atomic uint32_t *error;     /* the context's error flag: set to 1 by an index out of range */
    size_t sb_bytes, psum_bytes; /* zeroed where an execution is stopped; 0 = nothing to zero */
} tpb_bind;

/* --- Whole execution of a group of TPBs by a team of threads
 * ---------------------------------------------------------------------------------
 *
 * A tpb_run is one execution of one device step: program counters, loop turns and semaphores of
 * every TPB, as explicit state; no thread is tied to a TPB. */
typedef struct tpb_run tpb_run;

/* |bind| [n] is borrowed until the run is destroyed. State is made once and reset per execution. */
kaena_status tpb_run_create(const tpb_code *const *code, const tpb_bind *bind, uint32_t n,
                            tpb_run **out, kaena_err *err) KAENA_CHECKED;
tpb_run *tpb_run_destroy(tpb_run *run);
void tpb_run_reset(tpb_run *run);

/* How long a physical TPB has worked: two times the nanoseconds so far, or, with the lowest bit,
 * two times what they lack to the present time. Zero at first; written by the run whose turn it is.
 */
typedef _Atomic uint64_t tpb_clock;
/* Nanoseconds. Thread: any; never goes back. */
uint64_t tpb_clock_read(tpb_clock *clock);

/* Runs that share physical TPBs pass each in turn: a TPB starts when |*now| is |mine|; HALT adds 1
 * to it. */
typedef struct tpb_turn {
    _Atomic uint32_t *now;
    uint32_t mine;
    tpb_clock *clock; /* NULL: nobody counts */
} tpb_turn;

/* One execution in turn. */
typedef struct tpb_order {
    const tpb_turn *turn; /* [TPBs], copied */
    /* NULL, or: soon after it is set every TPB of the run, as its turn comes, stops: it executes
     * nothing more, zeroes its memories where it had begun, and halts. Read until the run is done.
     */
    const atomic_bool *stop;
    /* NULL, or called once, when the first TPB is about to begin; false: none does, nor is anything
     * zeroed. */
    bool (*begin)(void *user);
    void *user;
    /* As many as will help at a time; operations are cut into so many shares, at most 8. More
     * threads may come, or fewer. 0: one. */
    uint32_t threads;
} tpb_order;
void tpb_run_reset_in_turn(tpb_run *run, const tpb_order *order);
/* Of a run that is done: it was stopped, or its beginning refused, before all programs had ended.
 */
bool tpb_run_stopped(const tpb_run *run);
/* Of a run that is done: how long its TPBs were its own, all together; by their clocks. */
uint64_t tpb_run_busy_ns(const tpb_run *run);

/* Called from any thread, often, must be cheap; either may be NULL. |wake(user)|: a TPB may go on
 * that no thread in here looks at. |hint(user)|: another thread would be of use; a call may be
 * without effect. */
typedef struct tpb_watch {
    void (*wake)(void *user);
    void (*hint)(void *user);
    void *user;
} tpb_watch;
/* Before the first execution. */
void tpb_run_on_work(tpb_run *run, const tpb_watch *watch);

typedef enum tpb_help { TPB_DONE, TPB_WORKED, TPB_IDLE } tpb_help;

/* Does some work of the run on this thread: advances a TPB that can go on, or takes chunks of an
 * operation another thread has published. IDLE: nothing to take at the moment (others hold it).
 * |wanting| is NULL, or how many runs there are that want a thread: as long as it is this one alone
 * the thread stays, and looks for some microseconds before it is IDLE.
 * Thread: any number at once. Saves, sets and restores MXCSR. Returns DONE once all TPBs have
 * halted. */
tpb_help tpb_run_help(tpb_run *run, const _Atomic uint32_t *wanting);

/* Runs to the end on the calling thread alone. */
void tpb_run_alone(tpb_run *run);

/* --- Single-step: the reference the fused execution is compared with, and kdb's engine
 * ---------------------------------------------------------- */

typedef struct tpb_step {
    uint32_t pc, turns[KISA_MAX_LOOPS], depth;
    bool halted, waiting;
} tpb_step;

/* Executes the next instruction of TPB |tpb| of a run made from unfused code, on the calling
 * thread; |state| tells where it stands afterwards. */
void tpb_step_one(tpb_run *run, uint32_t tpb, tpb_step *state);

#endif
