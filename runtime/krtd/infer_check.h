/* Does a request fit its model? Pure. */
#ifndef INFER_CHECK_H
#define INFER_CHECK_H

#include "arena.h"
#include "infer_value.h"
#include "krt_backend.h"
#include "krt_sched.h"
#include "tensor_wire.h"

/* Where the bytes of an input lie: in the message, or in shared memory (|region| is not 0). */
typedef struct krt_source {
    krpc_range data;
    krpc_shared shared;
} krt_source;

/* An output that is wanted: index of the model's, and where to put it (|region| 0: into the
 * answer). */
typedef struct krt_wanted {
    uint32_t index;
    krpc_shared place;
} krt_wanted;

/* What a request chose, in the model's order. */
typedef struct krt_selection {
    krt_source *inputs;  /* [n_in] of the model */
    krt_wanted *outputs; /* in the order of the answer */
    size_t n_outputs;
    size_t input_bytes; /* that the message carries */
    bool shared;        /* some input or output lies in shared memory */
    int32_t priority;
    bool check_finite;
    /* Of a model that takes values (krt_image_info.values): types, shapes and what is not numbers;
     * the numbers are filled in from |inputs|. Memory is |arena|'s. */
    kop_tensor *values; /* [n_in] */
    kaena_arena arena;
} krt_selection;

/* INVALID_ARGUMENT (reason BAD_TENSOR): one message that names the tensor, what was expected and
 * what came; the hint lists the model's tensors. RESOURCE_EXHAUSTED: out of memory. */
kaena_status krt_select(const char *model, const krt_image_info *info, const krpc_message *message,
                        const krpc_infer_request *wire, krt_selection *out,
                        kaena_err *err) KAENA_CHECKED;
void krt_selection_fini(krt_selection *s);

#endif
