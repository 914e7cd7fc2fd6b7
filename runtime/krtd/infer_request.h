/* One inference of a client, from its acceptance to its answer: bytes, buffers, owners.
 *
 * Whoever asked may wait for the answer in different ways (a call, a stream, a posted result): a
 * krt_asker is told, once, what has become of the request.
 *
 * A request has two owners: whoever will answer it (the queue, then the execution), and its asker.
 * Its bytes stay in the slices they came in until a context is free; then they are copied, once,
 * into a buffer of the model. */
#ifndef INFER_REQUEST_H
#define INFER_REQUEST_H

#include "infer_check.h"
#include "krt_clients.h"
#include "krt_model.h"

typedef struct krt_inference krt_inference;

/* Who waits for an answer: one of the two is called, once, on any thread. */
typedef struct krt_asker {
    /* Takes |answer|, an InferResponse. */
    void (*reply)(krt_inference *r, grpc_byte_buffer *answer);
    void (*fail)(krt_inference *r, const kaena_err *err);
} krt_asker;

/* Whose request it is, and what becomes of its answer. */
typedef struct krt_asking {
    krt_daemon *daemon;
    krpc_call *call;  /* that it came with */
    uint64_t client;  /* krt_caller_client; 0: to be asked for when it matters */
    uint64_t session; /* krt_caller.owner */
    uint64_t deadline_ns;
    const krt_asker *asker;
    void *user; /* the asker's */
} krt_asking;

/* Slices of a request that need no list from malloc. */
#define KRT_REQUEST_PIECES 24

/* A request's message as it came. */
typedef struct krt_arrival {
    grpc_byte_buffer *bytes; /* owned */
    krpc_piece pieces[KRT_REQUEST_PIECES];
    krpc_piece *more_pieces; /* owned; NULL: they fit */
    krpc_message message;
} krt_arrival;

/* A range of a region in use by a request. */
typedef struct krt_range {
    krt_region *region; /* a reference */
    uint8_t *data;
    size_t size;
} krt_range;

struct krt_inference {
    krt_item item;
    krt_exec exec;
    krt_job job;
    _Atomic int refs;
    bool refused;     /* answered because its queue did not take it */
    krt_model *m;     /* a reference */
    uint64_t session; /* whose it is; 0: nobody's */
    const krt_asker *asker;
    void *user; /* the asker's */
    krt_arrival arrival;
    uint64_t accepted_ns, copy_ns;
    _Atomic uint64_t begun_ns; /* 0: no TPB has begun with it yet */
    atomic_bool timed_out;     /* it runs for too long; |stop| is set, too */
    krt_block *in, *out;
    krt_selection selection;
    bool framed; /* the answer is an InferStreamResponse of number |frame_id| */
    uint64_t frame_id;
    kaena_err *not_finite; /* a detail for an answer with NaN or infinity, or NULL; from malloc */
    bool begun;            /* its execution has begun; whoever runs it */
    atomic_bool stop;      /* nobody wants the answer any more */
    const void **in_ptr;   /* n_in, n_out: behind this struct, as are the next */
    void **out_ptr;
    /* In shared memory: [n_in] inputs, then [n_outputs] wanted outputs; NULL where they are not. */
    krt_range *shared;
    size_t n_shared;
    kop_tensor *out_tensor; /* n_out, of a model that takes values */
};

/* Takes |bytes|, also on failure. */
kaena_status krt_arrival_init(krt_arrival *a, grpc_byte_buffer *bytes,
                              kaena_err *err) KAENA_CHECKED;
void krt_arrival_fini(krt_arrival *a);
/* |from| is empty then. */
void krt_arrival_move(krt_arrival *to, krt_arrival *from);

/* From the bytes to a request that fits its model, with one reference, which is its answer's; its
 * model is held (krt_model.holds) until krt_run_arrive. |part|: the InferRequest in the message,
 * NULL = all of it. Takes |arrival| on success. The daemon's count of accepted work (krt_accept)
 * goes down with the last reference.
 *
 * INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE, DATA_LOSS, RESOURCE_EXHAUSTED: as the message says */
kaena_status krt_inference_create(const krt_asking *asking, krt_arrival *arrival,
                                  const krpc_range *part, krt_inference **out,
                                  kaena_err *err) KAENA_CHECKED;
/* Gives up one that has never been to krt_run_arrive: no answer. */
void krt_inference_abandon(krt_inference *r);
void krt_inference_ref(krt_inference *r);
void krt_inference_unref(krt_inference *r);

/* Nobody waits for the answer, or too long. Thread: any. */
bool krt_inference_pointless(const krt_inference *r, uint64_t now_ns);

/* Copies its inputs to where the execution reads them, makes room for its outputs. Shared memory is
 * read and written in place, except where a host step works: that trusts what it has read to stay.
 */
kaena_status krt_inference_copy(krt_inference *r, kaena_err *err) KAENA_CHECKED;
/* infer_answer.c: the answer of an execution that has its outputs; NULL: too large for a message,
 * or its shared memory is damaged. */
grpc_byte_buffer *krt_inference_answer(krt_inference *r, kaena_err *err);
/* Its buffers may go to another request. */
void krt_inference_release_buffers(krt_inference *r);

/* Answer |r|, which takes the answer's reference. */
void krt_inference_reply(krt_inference *r, grpc_byte_buffer *answer);
void krt_inference_fail(krt_inference *r, const kaena_err *err);

static inline krt_inference *krt_inference_of_item(krt_item *item)
{
    return (krt_inference *)(void *)((char *)item - offsetof(krt_inference, item));
}

#endif
