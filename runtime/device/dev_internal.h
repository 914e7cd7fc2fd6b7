/* A system, its models and their contexts, between the parts of runtime/device.
 *
 * A context is one inference:
 *
 *   FREE --take--> READY --worker or caller--> HOST  (host steps run on that thread,
 *                    |                          |   and so do branches and turns of loops)
 *                    +------> ON_DEVICE <-------+  (in system.active: any thread helps)
 *                                 |
 *                                 +--> HOST, ON_DEVICE ... after the last step: done(), FREE
 *
 * The thread that finds a device step done takes the context out of |active| and goes on with its
 * plan. Everything here is guarded by system.lock, unless said otherwise; steps run without it. */
#ifndef DEV_INTERNAL_H
#define DEV_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "dev.h"
#include "flow.h"
#include "graph.h"
#include "placement.h"
#include "tpb.h"

#define DEV_ALONE_NS 1000000 /* a caller of dev_run that wants no help works for so long */

typedef struct dev_context dev_context;

/* One emulated TPB runs one program at a time, in the order in which runs were started. */
typedef struct dev_tpb {
    _Atomic uint32_t now; /* the ticket whose program may run; HALT adds 1 */
    uint32_t next;        /* the next ticket */
    tpb_clock clock;      /* how long it has worked */
} dev_tpb;

struct dev_system {
    dev_config config;
    const ker_table *ker;
    pthread_mutex_t lock;
    place_chip chips[DEV_MAX_CHIPS];
    dev_tpb tpb[DEV_MAX_CHIPS * DEV_TPBS_PER_CHIP];
    dev_model *models;    /* list */
    dev_context **active; /* running device steps */
    uint32_t n_active, cap_active, cursor;
    dev_context *ready_first, *ready_last; /* contexts whose plan wants a thread */
    uint32_t n_contexts;                   /* of all models: what |active| must hold */
    pthread_t *threads;
    bool stop;
    /* Contexts, running or ready, that want workers; written with the lock. */
    _Atomic uint32_t wanting;
    /* Sleeping workers; without the lock. */
    _Atomic uint32_t sleepers, alarm;
};

/* Somebody waits in dev_run. Asleep, he has to be woken; on call, he sleeps as a worker does. */
enum { DEV_WAITER_BUSY, DEV_WAITER_ASLEEP, DEV_WAITER_ON_CALL, DEV_WAITER_DONE };
typedef struct dev_waiter {
    _Atomic uint32_t state;
} dev_waiter;

/* A loop of the plan while it runs. */
typedef struct dev_loop {
    int64_t turn, limit; /* turns finished; most of them */
    kop_tensor **part;   /* [scans]: what the turns left, where the result's size is not declared */
    size_t cap;          /* of each part[i] */
    kop_tensor *carried; /* [carried]: copies of unknown size, before they change hands */
} dev_loop;

/* A request whose items are not as many as the plan was compiled for: it runs the plan in passes.
 */
typedef struct dev_batch {
    bool on;                   /* inputs are slices, outputs are joined */
    int64_t items, done, size; /* in all; in earlier passes; of the plan (case) of this pass */
    uint32_t select;           /* the case of this pass */
    kaena_arena arena;         /* padded inputs, joined outputs */
    kop_tensor *joined;        /* [outputs] */
} dev_batch;

struct dev_context {
    dev_model *model;
    dev_context *next; /* in |free| or |ready| */
    dev_request *request;
    dev_waiter *waiter; /* NULL: nobody */
    uint32_t pc;        /* operation of model->flow */
    uint32_t helpers;   /* threads inside tpb_run_help or dev_run */
    uint64_t round;     /* of device steps: tells a new one from an old */
    bool on_device, is_free;
    bool begun; /* request->begin has been asked; of the thread that has the context or its TPB */
    bool alone; /* runs in dev_run without workers, for now */
    /* Of the thread that has the context, without the lock: */
    uint8_t *scratch;
    uint8_t *values;    /* static values that are neither inputs nor outputs */
    kop_tensor *value;  /* [values of the NEFF] */
    uint8_t **io;       /* of all device steps, one after another */
    tpb_bind *bind;     /* likewise, [device steps][TPBs] */
    tpb_turn *turn;     /* [TPBs] */
    tpb_run **run;      /* [device steps] */
    tpb_run *running;   /* the one that is on the TPBs */
    kaena_arena *arena; /* [flow.n_arenas]: what host steps make, what loops hand on */
    size_t arena_bytes; /* of all of them; at most |quota| */
    size_t quota;   /* the NEFF's, and a multiple of what the request brought in unknown sizes */
    dev_loop *loop; /* [flow.n_loops] */
    dev_batch batch;
    kaena_status refused; /* what began the request has failed: |refusal| says how */
    kaena_err refusal;
    _Atomic uint32_t bad_index;
};

struct dev_group {
    dev_system *sys;
    char *name;
    uint64_t tpbs;
    dev_place place[DEV_MAX_CHIPS * DEV_TPBS_PER_CHIP]; /* [n] */
    uint32_t n;
};

struct dev_model {
    dev_system *sys;
    dev_model *next;
    char *name;
    neff_file *neff;
    place_result place;
    kaena_arena arena; /* predecoded programs and all arrays */
    uint32_t n_tpbs, n_contexts;
    uint8_t *sb[KISA_MAX_TPBS], *psum[KISA_MAX_TPBS];
    bool psum_used[KISA_MAX_TPBS];
    size_t sb_bytes[KISA_MAX_TPBS]; /* what the TPB's program touches */
    flow flow;
    tpb_code *const **code; /* [device steps][TPBs] */
    size_t quota;           /* bytes that host steps and values of unknown size may take */
    uint64_t dram_bytes;
    dev_context *context; /* [n_contexts] */
    dev_context *free;
    pthread_cond_t quiet; /* a helper has left */
};

/* --- system.c: threads
 * -------------------------------------------------------------------------------------------------------
 */

/* Wakes a sleeping worker, if there is one. Cheap when there is none. Thread: any. */
void dev_wake(void *system);
/* The same where the work is not lost if nobody comes: one that is just falling asleep may not
 * hear it. */
void dev_hint(void *system);
/* Counts a context that wants workers, as it begins and ends to; nothing where it does not. With
 * the lock held. */
void dev_want(dev_system *sys, bool wants, bool begin);
/* Puts a context on the list of those whose plan wants a thread. Takes the lock. */
void dev_make_ready(dev_context *c);
/* Works on |c| until |waiter| is done; while there is nothing to do, on whatever else there is. If
 * |alone| on nothing else, and for no longer than DEV_ALONE_NS: then |c| has no waiter. */
void dev_work_until(dev_context *c, dev_waiter *waiter, bool alone);
void dev_waiter_signal(dev_system *sys, dev_waiter *waiter);
uint64_t dev_now_ns(void);

/* --- plan.c: one request
 * ------------------------------------------------------------------------------------------------------
 */

/* Goes through the plan until a device step has started or the request is answered. The context is
 * this thread's. */
void dev_advance(dev_context *c);
/* The running device step is done: the same. */
void dev_step_done(dev_context *c);
/* Arena |i| of the context, emptied unless |keep|, with what is left of the quota. */
kaena_arena *dev_arena_open(dev_context *c, uint32_t i, bool keep);
/* Nothing is added to it from here on. */
void dev_arena_close(dev_context *c, uint32_t i);

/* --- control.c: operations that run on the thread that walks the plan
 * -----------------------------------------------------------------------------------------------------
 */

/* Does FLOW_IF, JUMP, HAND, LOOP, TURN or SELECT and sets c->pc. CANCELLED; RESOURCE_EXHAUSTED: the
 * quota; DATA_LOSS: a dynamic value is not what the plan needs. */
kaena_status dev_control(dev_context *c, const flow_op *op, kaena_err *err) KAENA_CHECKED;

/* --- batch.c: the inputs of a request
 * -----------------------------------------------------------------------------------------------------
 */

/* Sets the values of the model's inputs for the first or the next pass. */
kaena_status dev_pass_begin(dev_context *c, kaena_err *err) KAENA_CHECKED;
/* The plan has run: its outputs go to the caller's buffers or, where there are several passes,
 * behind those of earlier ones. |again|: there is another. */
kaena_status dev_pass_end(dev_context *c, bool *again, kaena_err *err) KAENA_CHECKED;
/* The buffer that the caller gave for output |i| and steps may write themselves; or NULL. */
void *dev_out_buffer(const dev_context *c, uint32_t i);

/* --- memory.c
 * ----------------------------------------------------------------------------------------------------------------
 */

/* Zeroed pages, pre-faulted if |touch|; NULL: none left. */
void *dev_pages(size_t bytes, bool touch);
/* Has the pages of a mapped file read, as far as they are there; |p| is aligned to the page. */
void dev_pages_read(const void *p, size_t bytes);
void dev_pages_free(void *p, size_t bytes);

#endif
