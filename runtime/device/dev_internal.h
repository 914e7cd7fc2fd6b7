/* A system, its models and their contexts, between the parts of runtime/device.
 *
 * A context is one inference:
 *
 *   FREE --take--> READY --worker or caller--> HOST  (a host step runs on that thread)
 *                    |                          |
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
#include "graph.h"
#include "placement.h"
#include "tpb.h"

typedef struct dev_context dev_context;

/* One emulated TPB runs one program at a time, in the order in which runs were started. */
typedef struct dev_tpb {
    _Atomic uint32_t now; /* the ticket whose program may run; HALT adds 1 */
    uint32_t next;        /* the next ticket */
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

/* Somebody waits in dev_run. */
typedef struct dev_waiter {
    _Atomic uint32_t done;
} dev_waiter;

struct dev_context {
    dev_model *model;
    dev_context *next; /* in |free| or |ready| */
    dev_request *request;
    dev_waiter *waiter; /* NULL: nobody */
    uint32_t step;      /* of the plan */
    uint32_t helpers;   /* threads inside tpb_run_help or dev_run */
    uint64_t round;     /* of device steps: tells a new one from an old */
    bool on_device, is_free;
    bool alone; /* runs in dev_run without workers, for now */
    /* Of the thread that has the context, without the lock: */
    uint8_t *scratch;
    uint8_t *values;   /* static values that are neither inputs nor outputs */
    kop_tensor *value; /* [values of the NEFF] */
    uint8_t **io;      /* of all device steps, one after another */
    tpb_bind *bind;    /* likewise, [device steps][TPBs] */
    tpb_turn *turn;    /* [TPBs] */
    tpb_run **run;     /* [steps], NULL for host steps */
    kaena_arena arena; /* what host steps make */
    bool keeps_arena;  /* a value lives in it */
    _Atomic uint32_t bad_index;
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
    size_t sb_bytes;
    tpb_code *const **code;  /* [steps][TPBs], NULL for host steps */
    const int64_t *value_at; /* [values]: offset in a context's |values|, -1: elsewhere */
    uint64_t values_bytes;
    uint64_t dram_bytes;
    bool device_only;
    dev_context *context; /* [n_contexts] */
    dev_context *free;
    pthread_cond_t quiet; /* a helper has left */
};

/* --- system.c: threads
 * -------------------------------------------------------------------------------------------------------
 */

/* Wakes a sleeping worker, if there is one. Cheap when there is none. Thread: any. */
void dev_wake(void *system);
/* Counts a context that wants workers, as it begins and ends to; nothing where it does not. With
 * the lock held. */
void dev_want(dev_system *sys, bool wants, bool begin);
/* Puts a context on the list of those whose plan wants a thread. Takes the lock. */
void dev_make_ready(dev_context *c);
/* Works on |c| until |waiter| is done. */
void dev_work_until(dev_context *c, dev_waiter *waiter);
void dev_waiter_signal(dev_waiter *waiter);
uint64_t dev_now_ns(void);

/* --- plan.c: one request
 * ------------------------------------------------------------------------------------------------------
 */

/* Goes through the plan until a device step has started or the request is answered. The context is
 * this thread's. */
void dev_advance(dev_context *c);
/* The running device step is done: the same. */
void dev_step_done(dev_context *c);
/* Starts the request on a context taken from |free|: on this thread as far as a device step. */
void dev_start(dev_context *c, dev_request *request, dev_waiter *waiter);

/* --- memory.c
 * ----------------------------------------------------------------------------------------------------------------
 */

/* Zeroed pages, pre-faulted if |touch|; NULL: none left. */
void *dev_pages(size_t bytes, bool touch);
void dev_pages_free(void *p, size_t bytes);

#endif
