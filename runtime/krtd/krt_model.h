/* Model slots: what is loaded under which name, and in which state.
 *
 *     (none) --reserve--> LOADING --ready--> READY --unload--> UNLOADING --idle--> (none)
 *                            |                 |                   ^
 *                            +--fail--> (none) +--damage--> FAILED-+
 */
#ifndef KRT_MODEL_H
#define KRT_MODEL_H

#include "krt.h"
#include "krt_pool.h"
#include "krt_sched.h"
#include "krt_stats.h"

/* Of all outputs of one inference: gRPC counts the bytes of a message in 32 bits, and clients
 * in 31.
 */
#define KRT_MAX_ANSWER_BYTES 2000000000u

/* What a load asks for; texts are borrowed. */
typedef struct krt_load_options {
    uint64_t owner;       /* krt_caller's, or 0 */
    const char *version;  /* "" = the beginning of the digest */
    const char *group;    /* name; "" = wherever there is room */
    uint32_t replicas;    /* 0 = 1, UINT32_MAX = as many as there is room for */
    uint32_t queue_depth; /* 0 = the daemon's */
    uint32_t timeout_ms;  /* of one execution, 0 = the daemon's */
} krt_load_options;

/* Where tensors begin in a pool's buffer; kernels read and write no others. */
#define KRT_TENSOR_ALIGN 64u

#define KRT_VERSION_TEXT 64 /* of a model, with the terminator */

struct krt_model {
    krt_daemon *daemon;
    krt_model *next; /* this and |heirs| under daemon->lock */
    krt_job *heirs;  /* loads that wait for the name */
    _Atomic int refs;
    uint64_t id;
    char *name;
    char version[KRT_VERSION_TEXT];
    uint64_t owner;   /* the session's (krt_caller); 0: it stays until it is unloaded */
    krt_group *group; /* a reference, under daemon->lock; NULL: none was named */
    krt_image *image; /* NULL while LOADING */
    krt_image_info info;
    size_t *in_offset, *out_offset; /* of each tensor in a pool's buffer */
    uint64_t timeout_ns;            /* of one execution, 0 = none */
    krt_lane *lanes;                /* a lane for each replica */
    krt_flow flow;                  /* under daemon->sched_lock */
    krpc_timer resume;              /* sends KRT_RESUME */
    krt_pool *in_pool, *out_pool;
    krt_stats stats;

    pthread_mutex_t lock; /* of all below */
    Kaena__V1__ModelState state;
    unsigned holds; /* who uses the image besides what runs: a background check */
    uint64_t inferences, failures;
    _Atomic uint64_t executions; /* begun; without the lock */
    uint64_t timeouts;           /* executions that were stopped */
    char damage[256];            /* FAILED: what happened */
    krpc_call **waiters;         /* Unload calls, answered when it is gone */
    size_t n_waiters;
    krt_job unload_job;
    krt_job check_job;
};

/* Reserves |name| (checked here) for a load in the name of |owner|. ALREADY_EXISTS;
 * RESOURCE_EXHAUSTED (LIMIT); INVALID_ARGUMENT. The caller gets a reference, or NULL: a model of
 * that name is being unloaded, and |again| is posted to the loaders when it is gone. */
kaena_status krt_model_reserve(krt_daemon *d, const char *name, uint64_t owner, krt_job *again,
                               krt_model **out, kaena_err *err) KAENA_CHECKED;

/* Puts a LOADING model into |group|, whose reference it takes. FAILED_PRECONDITION: the group is
 * being destroyed, the reference is still the caller's. */
kaena_status krt_model_join(krt_model *m, krt_group *group, kaena_err *err) KAENA_CHECKED;

/* LOADING -> READY with a loaded image, which the model takes; on failure the image is still the
 * caller's. Health of "model/NAME" becomes SERVING, a background check of the whole file starts. */
kaena_status krt_model_ready(krt_model *m, krt_image *image, const krt_load_options *options,
                             kaena_err *err) KAENA_CHECKED;

/* LOADING -> gone. */
void krt_model_abandon(krt_model *m);

/* READY -> FAILED: its data is damaged; what waits is answered, health becomes NOT_SERVING. */
void krt_model_damaged(krt_model *m, const char *what);

/* READY or FAILED -> UNLOADING; |call|, which may be NULL, is answered when the model is gone. */
void krt_model_unload(krt_model *m, krpc_call *call);

/* Unloads the models of |owner|, but for those that are being loaded. */
void krt_models_drop(krt_daemon *d, uint64_t owner);

/* A reference to the model of that name, or NULL with NOT_FOUND in |err| naming what is there. */
krt_model *krt_model_find(krt_daemon *d, const char *name, kaena_err *err);
void krt_model_ref(krt_model *m);
krt_model *krt_model_unref(krt_model *m);

/* May |m| accept requests? With m->lock held. UNAVAILABLE (NOT_ACCEPTED), DATA_LOSS. */
kaena_status krt_model_check_state(krt_model *m, kaena_err *err);

/* With m->lock held: may the image be given back now? Posts that job when it may. Call after every
 * change of what runs or holds. */
void krt_model_settle(krt_model *m);

/* Unloads everything at the end; nothing runs, no calls are left. */
void krt_models_clear(krt_daemon *d);

/* Fills |out| for an answer; strings are borrowed from |m|, lists from |arena|. */
void krt_model_describe(krt_model *m, Kaena__V1__Model *out, kaena_arena *arena);

#endif
