/* Emulated Inferentia devices: chips, DRAM accounting, model slots, execution contexts, workers.
 *
 * A dev_system is the chips of one daemon and its worker threads. A loaded model holds TPBs (a
 * group of its size; several models may share a group), DRAM for weights, contexts and IO, and a
 * fixed number of execution contexts: that number is the backpressure. A request runs the NEFF's
 * plan: device steps on the TPBs, host steps on a worker. */
#ifndef KAENA_DEV_H
#define KAENA_DEV_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dtype.h"
#include "err.h"
#include "neff.h"
#include "ops.h"
#include "shape.h"

#define DEV_TPBS_PER_CHIP 4
#define DEV_DRAM_BYTES (UINT64_C(8) << 30) /* a chip */
#define DEV_MAX_CHIPS 16

typedef struct dev_system dev_system;
typedef struct dev_model dev_model;

typedef struct dev_config {
    uint32_t n_chips;    /* 1..DEV_MAX_CHIPS */
    uint64_t dram_bytes; /* of a chip; 0 = DEV_DRAM_BYTES */
    uint32_t threads;    /* workers; 0: every request goes through dev_run */
} dev_config;

kaena_status dev_system_create(const dev_config *config, dev_system **out,
                               kaena_err *err) KAENA_CHECKED;
/* All models are unloaded. Joins the workers. */
dev_system *dev_system_destroy(dev_system *sys);

typedef struct dev_chip_info {
    uint64_t dram_bytes, dram_used;
    uint32_t models; /* with TPBs or memory on it */
} dev_chip_info;
dev_chip_info dev_chip_info_of(dev_system *sys, uint32_t chip);

/* A TPB owns an equal part of its chip's DRAM, and borrows. */
typedef struct dev_tpb_info {
    uint64_t dram_bytes; /* its own part */
    uint64_t dram_used;  /* what models on it need for it; more than |dram_bytes|: it borrows */
    uint32_t models;
} dev_tpb_info;
dev_tpb_info dev_tpb_info_of(dev_system *sys, uint32_t chip, uint32_t tpb);

/* How long a TPB has run programs since the system was made, nanoseconds. Cheap. Thread: any. */
uint64_t dev_busy_ns(dev_system *sys, uint32_t chip, uint32_t tpb);

/* A TPB: chip and position on it. */
typedef struct dev_place {
    uint16_t chip, tpb;
} dev_place;

/* TPBs that belong together: models are loaded into them by name, others stay out while there is
 * room elsewhere. No TPB is in two groups. */
typedef struct dev_group dev_group;

/* |n| TPBs of chips with a bit in |chips| (0 = any), idle ones first, next to each other or not.
 * |name| is for messages. INVALID_ARGUMENT: |n| or a chip; RESOURCE_EXHAUSTED (NO_TPBS): so many
 * are not free.
 */
kaena_status dev_group_create(dev_system *sys, const char *name, uint32_t n, uint32_t chips,
                              dev_group **out, kaena_err *err) KAENA_CHECKED;
/* Models in it stay where they are. NULL is fine. */
dev_group *dev_group_destroy(dev_group *group);
/* By chip and position; |n| in all. */
const dev_place *dev_group_places(const dev_group *group, uint32_t *n);

/* Where a model may go. */
typedef struct dev_load_options {
    const char *name;           /* for messages */
    const dev_group *group;     /* NULL: where there is room */
    dev_model *const *replicas; /* [n_replicas]: of the same NEFF, to share no TPB with */
    uint32_t n_replicas;
    bool idle_only; /* only TPBs without models */
} dev_load_options;

/* Loads a verified NEFF: picks the least loaded TPBs, charges DRAM, predecodes, makes the contexts
 * (memory pre-faulted). Takes its own reference of |neff|. Weights stay mapped; nothing is copied
 * or packed. RESOURCE_EXHAUSTED: needed and available are DRAM bytes, the hint names the models
 * that would make room, or the number of TPBs to compile for if it can never fit;
 * FAILED_PRECONDITION: more TPBs than the system, or the group, has, or has left for one replica
 * more; needed and available are TPBs. */
kaena_status dev_model_load_at(dev_system *sys, neff_file *neff, const dev_load_options *options,
                               dev_model **out, kaena_err *err) KAENA_CHECKED;
/* The same, wherever there is room. */
kaena_status dev_model_load(dev_system *sys, const char *name, neff_file *neff, dev_model **out,
                            kaena_err *err) KAENA_CHECKED;
/* No request of the model is in flight. Gives memory back. NULL is fine. Not from |done|. */
dev_model *dev_model_unload(dev_model *model);

const neff_file *dev_model_neff(const dev_model *model);
uint32_t dev_model_contexts(const dev_model *model);
uint64_t dev_model_dram_bytes(const dev_model *model);
/* Of one chip. */
uint64_t dev_model_chip_bytes(const dev_model *model, uint32_t chip);
/* Places of its TPBs; |n| in all. */
const dev_place *dev_model_places(const dev_model *model, uint32_t *n);

/* One inference. Buffers are the caller's until |done| has been called. */
typedef struct dev_request dev_request;
struct dev_request {
    /* In the order of the NEFF's inputs: row-major, type and size as neff_input says. Of a model
     * whose inputs all have a declared size this is enough. */
    const void *const *in;
    /* Instead of |in|: inputs with their shapes, checked by dev_model_check. */
    const kop_tensor *in_tensor;
    /* In the order of its outputs; the caller's buffers of the declared size (dynamic batch: of as
     * many items as the request has), written by the time |done| is called with OK. NULL: not
     * wanted. */
    void *const *out;
    /* NULL, or [outputs]: filled before |done| with type, shape and data of every output; for those
     * without a declared size (dynamic, strings, sequences) the only way to get them: then data is
     * the device's and valid until |done| returns. */
    kop_tensor *out_tensor;
    /* May be NULL; device steps, host steps and loops give up soon after it becomes true:
     * CANCELLED. The TPBs' memories are then zeros, as after the load. */
    const atomic_bool *stop;
    /* May be NULL. Called at most once, when a TPB or the host is about to begin with it, until
     * when it has cost nothing; false: it is not wanted any more, done is called with CANCELLED.
     * From any thread; must be quick. */
    bool (*begin)(dev_request *request);
    /* Called once, from a worker (or from dev_run itself), after which the request is the caller's
     * again. OK; DATA_LOSS: weights or shared memory were damaged; OUT_OF_RANGE: an index in the
     * input was out of range; RESOURCE_EXHAUSTED: host steps or values of unknown size ran into the
     * memory quota; CANCELLED. */
    void (*done)(dev_request *request, kaena_status status, const kaena_err *err);
    void *user;
    /* Set before |done|: of a dynamic batch, how many items the request has and how many its passes
     * had room for; else 0. */
    uint64_t batch_items, batch_slots;
    /* For dev_run: the model is so small that waking a worker would cost more than its help is
     * worth. Workers are called only where the run has to wait for another, when it is false from
     * then on, or takes a millisecond after all: then dev_run leaves it to them. */
    bool alone;
    uint64_t started_ns, finished_ns; /* CLOCK_MONOTONIC, set by the device; begun, ended */
    uint64_t tpb_ns;                  /* how long TPBs were its own, all together */
};

/* Whether the model takes these inputs: types, shapes, and a case compiled for them. |out_items| is
 * the number of items of a dynamic batch, else 0. INVALID_ARGUMENT (BAD_TENSOR): names the tensor,
 * what is wanted and what came; where no case fits it lists the compiled shapes. Thread: any. */
kaena_status dev_model_check(const dev_model *model, const kop_tensor *in, uint64_t *out_items,
                             kaena_err *err) KAENA_CHECKED;

/* Starts the request now if a context is free: true; false when all contexts are busy (then nothing
 * happened: the caller's queue keeps it and offers it again from |done| of another). Thread: any.
 */
bool dev_submit(dev_model *model, dev_request *request);
/* The same, executed on the calling thread (workers may help): for models so small that a hand-over
 * would cost more. |done| is called before it returns, unless the request is |alone|. */
bool dev_run(dev_model *model, dev_request *request);
/* No request runs on any TPB of the model's group. */
bool dev_model_idle(const dev_model *model);
/* The plan has no host step. */
bool dev_model_device_only(const dev_model *model);

#endif
