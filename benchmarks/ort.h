/* ONNX Runtime as the other side of a comparison: loaded at run time through its C interface, never
 * linked. */
#ifndef BENCH_ORT_H
#define BENCH_ORT_H

#include <stddef.h>
#include <stdint.h>

#define ORT_MAX_TENSORS 16

typedef struct ort_session ort_session;

/* An input as the model declares it, dimensions that are not fixed taken as 1. */
typedef struct ort_input {
    const char *name;
    int64_t dim[8];
    size_t rank, bytes;
    int type; /* onnx.TensorProto.DataType */
    void *data;
} ort_input;

/* Loads |library| (libonnxruntime.so) and |model|, all optimisations on, |threads| threads that may
 * spin. Ends the process with a message where it can't. */
ort_session *ort_open(const char *library, const char *model, int threads);
void ort_close(ort_session *s);
/* Buffers of the inputs, to be filled by the caller; they stay. */
ort_input *ort_inputs(ort_session *s, size_t *n);
/* One inference. */
void ort_run(ort_session *s);
/* Output |i| of the last inference as floats. */
const float *ort_output(ort_session *s, size_t i, size_t *n);
size_t ort_n_outputs(const ort_session *s);

#endif
