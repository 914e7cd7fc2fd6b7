/* What the user of the compiler asked for. */
#ifndef KCC_OPTIONS_H
#define KCC_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

/* Which float32 tensors are stored as bfloat16. */
typedef enum kcc_cast {
    KCC_CAST_ALL,    /* activations and weights; model outputs and the inputs of softmax stay */
    KCC_CAST_MATMUL, /* only the operands of the PE array */
    KCC_CAST_NONE,   /* the exact mode */
} kcc_cast;

typedef enum kcc_optimize {
    KCC_OPTIMIZE_LATENCY,    /* shard: every layer over all TPBs */
    KCC_OPTIMIZE_THROUGHPUT, /* pipeline: consecutive layers on consecutive TPBs */
} kcc_optimize;

typedef struct kcc_options {
    kcc_cast cast;
    kcc_optimize optimize;
    uint32_t num_tpbs; /* 1..64 */
    bool debug;        /* keep the DEBUG section */
    bool must_compile; /* an operator for the host is an error */
    /* Operators (the framework's name or the canonical one) and nodes that the user placed. */
    const char *const *host_ops, *const *device_ops;
    uint32_t n_host_ops, n_device_ops;
} kcc_options;

#endif
