/* What a compilation is asked to do: the options that passes, lowering and scheduling look at. */
#ifndef KCC_OPTIONS_H
#define KCC_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

/* --fp32-cast */
typedef enum kcc_cast {
    KCC_CAST_ALL,    /* activations and weights bfloat16, model outputs and softmax inputs float32 */
    KCC_CAST_MATMUL, /* operands of the PE array bfloat16, everything else float32 */
    KCC_CAST_NONE,   /* float32 throughout */
} kcc_cast;

/* --optimize */
typedef enum kcc_optimize {
    KCC_OPTIMIZE_LATENCY,    /* every layer is split over the TPBs */
    KCC_OPTIMIZE_THROUGHPUT, /* consecutive layers on consecutive TPBs */
} kcc_optimize;

typedef struct kcc_options {
    kcc_cast cast;
    kcc_optimize optimize;
    uint32_t num_tpbs; /* 1..64 */
    bool debug;        /* keep the DEBUG section */
    bool must_compile; /* an operator on the host is an error */
} kcc_options;

#endif
