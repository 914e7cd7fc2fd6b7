/* ONNX Runtime as the other side of a comparison: loaded at run time through its C interface, never
 * linked. */
#ifndef BENCH_ORT_H
#define BENCH_ORT_H

#include <stddef.h>
#include <stdint.h>

#define ORT_MAX_TENSORS 16

typedef struct ort_session ort_session;

typedef struct ort_input {
    const char *name;
    size_t bytes;
    int type; /* onnx.TensorProto.DataType */
    void *data;
} ort_input;

/* Loads |library| (libonnxruntime.so) and |model|, all optimisations on, |threads| threads that may
 * spin. Ends the process with a message where it can't. */
ort_session *ort_open(const char *library, const char *model, int threads);
void ort_close(ort_session *s);
/* The model's inputs; they have buffers after ort_set_input. */
ort_input *ort_inputs(ort_session *s, size_t *n);
/* Gives input |i| a shape and a buffer of zeros, which is returned and stays. */
void *ort_set_input(ort_session *s, size_t i, const int64_t *dim, size_t rank);
/* One inference. */
void ort_run(ort_session *s);
/* Output |i| of the last inference as floats. */
const float *ort_output(ort_session *s, size_t i, size_t *n);
size_t ort_n_outputs(const ort_session *s);

#endif
