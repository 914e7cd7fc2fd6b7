/* What the daemon asks of the devices. backend_device.c answers with runtime/device; tests run the
 * daemon over models of their own. */
#ifndef KRT_BACKEND_H
#define KRT_BACKEND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dtype.h"
#include "err.h"
#include "ops.h"
#include "shape.h"

/* One model: opened (verified, described), then perhaps loaded (holds TPBs and memory). */
typedef struct krt_image krt_image;

typedef struct krt_tensor {
    const char *name;
    kaena_dtype dtype;
    kaena_shape shape; /* -1: any size, of a model that takes |values| */
    size_t bytes;      /* 0 where the shape is not known, of strings, sequences, optionals */
    uint8_t form;      /* kop_form */
    bool any_rank;
} krt_tensor;

typedef struct krt_place {
    uint32_t chip, tpb;
} krt_place;

/* Borrowed from the image. */
typedef struct krt_image_info {
    const char *model_name; /* may be "" */
    const char *digest;     /* hexadecimal */
    const char *compiler;
    const krt_tensor *in, *out;
    size_t n_in, n_out;
    double estimated_latency_us;
    /* Some input or output has no fixed size (strings, unknown dimensions, a dynamic batch,
     * sequences, optionals): requests run with in_tensor and out_tensor. */
    bool values;
    bool device_only; /* no host step */
    uint32_t num_tpbs;
    /* Once loaded: */
    uint32_t contexts; /* of each replica */
    uint32_t n_replicas;
    uint64_t dram_bytes;        /* of all replicas */
    const uint64_t *chip_bytes; /* what they take of each chip */
    const krt_place *places;    /* [n_replicas * num_tpbs] */
} krt_image_info;

/* One inference. The buffers are the caller's until |done| has been called. */
typedef struct krt_exec krt_exec;
struct krt_exec {
    const void *const *in; /* n_in, row-major */
    void *const *out;      /* n_out; NULL: not wanted */
    /* Of a model that takes |values|, instead: n_in, which |check| has accepted; n_out, filled
     * before |done| and valid until it returns. */
    const kop_tensor *in_tensor;
    kop_tensor *out_tensor;
    const atomic_bool
        *stop; /* may be NULL; the execution gives up soon after it is set: CANCELLED */
    /* When a TPB or the host is about to begin with it; false: it is not wanted any more, nothing
     * runs, |done| is called with CANCELLED. At most once, on any thread; must be quick. */
    bool (*begin)(krt_exec *exec);
    /* Once, on any thread, perhaps before the start returns. OK; DATA_LOSS: the model's weights are
     * damaged; others: of this request. The context is free again. */
    void (*done)(krt_exec *exec, kaena_status status, const kaena_err *err);
    uint64_t started_ns, finished_ns; /* CLOCK_MONOTONIC, set before |done|: begun, ended */
    uint64_t tpb_ns;                  /* how long TPBs were its own, all together; likewise */
    /* Of a dynamic batch: items of the request, and what all its passes had room for; else 0. Set
     * before |done|. */
    uint64_t batch_items, batch_slots;
    _Alignas(16) unsigned char of_backend[128];
};

typedef struct krt_chip_info {
    uint64_t dram_bytes, dram_used;
} krt_chip_info;

/* The same of a TPB: its own part of the chip's, and what models on it need for it. */
typedef krt_chip_info krt_tpb_info;

/* Where a model is to be placed. */
typedef struct krt_placing {
    const char *name;  /* for messages */
    void *group;       /* NULL: where there is room */
    uint32_t replicas; /* at least 1; UINT32_MAX: as many as there is room for on idle TPBs */
} krt_placing;

typedef struct krt_backend {
    kaena_status (*create)(uint32_t n_chips, uint32_t n_threads, void **out, kaena_err *err);
    void (*destroy)(void *self);
    uint32_t tpbs_per_chip;
    krt_chip_info (*chip)(void *self, uint32_t chip);
    krt_tpb_info (*tpb)(void *self, uint32_t chip, uint32_t tpb);
    /* How long the TPB has run programs so far, nanoseconds. Cheap, takes no lock. */
    uint64_t (*busy_ns)(void *self, uint32_t chip, uint32_t tpb);

    /* |n| TPBs of chips with a bit in |chips|, 0 = any; their |places| [n]. RESOURCE_EXHAUSTED
     * (NO_TPBS): needed and available are TPBs. */
    kaena_status (*group_create)(void *self, const char *name, uint32_t n, uint32_t chips,
                                 krt_place *places, void **out, kaena_err *err);
    /* No model is in it any more. */
    void (*group_destroy)(void *group);

    /* Reads and verifies; blocks. |fd| stays the caller's. */
    kaena_status (*open)(void *self, int fd, const char *label, krt_image **out, kaena_err *err);
    /* Unloads, closes. No request is in flight. */
    void (*close)(krt_image *image);
    /* Places it and its replicas; blocks. After a failure it is to be closed. */
    kaena_status (*load)(krt_image *image, const krt_placing *placing, kaena_err *err);
    krt_image_info (*info)(const krt_image *image);
    /* Reads all of the file and compares checksums; blocks. |go_on(user)| is asked after every
     * mebibyte and may sleep. DATA_LOSS; CANCELLED: |go_on| said no. */
    kaena_status (*verify)(krt_image *image, bool (*go_on)(void *user), void *user, kaena_err *err);

    /* Whether a model that takes |values| takes these: of each type and shape, data need not be
     * there but in sequences and optionals. INVALID_ARGUMENT (BAD_TENSOR). */
    kaena_status (*check)(const krt_image *image, const kop_tensor *in, kaena_err *err);

    /* Starts |exec| where a context of the replica is free, on a worker, or (run) on this thread,
     * which leaves it to the workers when it takes long. */
    bool (*submit)(krt_image *image, uint32_t replica, krt_exec *exec);
    bool (*run)(krt_image *image, uint32_t replica, krt_exec *exec);
    /* None of the replica's TPBs works. */
    bool (*idle)(const krt_image *image, uint32_t replica);
} krt_backend;

/* Emulated Inferentia (runtime/device). */
extern const krt_backend krt_device_backend;

#endif
