#include "ort.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The interface is an append-only table of functions; these are the positions of those used here,
 * of version 13 and later. */
enum ort_function {
    ORT_GET_ERROR_MESSAGE = 2,
    ORT_CREATE_ENV = 3,
    ORT_CREATE_SESSION = 7,
    ORT_RUN = 9,
    ORT_CREATE_SESSION_OPTIONS = 10,
    ORT_SET_LOG_SEVERITY = 22,
    ORT_SET_OPTIMIZATION_LEVEL = 23,
    ORT_SET_INTRA_THREADS = 24,
    ORT_SET_INTER_THREADS = 25,
    ORT_INPUT_COUNT = 30,
    ORT_OUTPUT_COUNT = 31,
    ORT_INPUT_TYPE = 33,
    ORT_INPUT_NAME = 36,
    ORT_OUTPUT_NAME = 37,
    ORT_TENSOR_WITH_DATA = 49,
    ORT_TENSOR_DATA = 51,
    ORT_CAST_TO_TENSOR_INFO = 55,
    ORT_ELEMENT_TYPE = 60,
    ORT_ELEMENT_COUNT = 64,
    ORT_TENSOR_TYPE_AND_SHAPE = 65,
    ORT_CPU_MEMORY_INFO = 69,
    ORT_DEFAULT_ALLOCATOR = 78,
    ORT_RELEASE_SESSION = 95,
    ORT_RELEASE_VALUE = 96,
};

#define ORT_API_VERSION 13
#define ORT_ENABLE_ALL 99
#define ORT_LOG_ERROR 3

typedef void *handle;
typedef void (*function)(void);
typedef struct api_base {
    const function *(*get_api)(uint32_t version);
    const char *(*version)(void);
} api_base;

struct ort_session {
    const function *api;
    handle library, env, session;
    size_t n_in, n_out;
    ort_input in[ORT_MAX_TENSORS];
    const char *in_name[ORT_MAX_TENSORS], *out_name[ORT_MAX_TENSORS];
    handle in_value[ORT_MAX_TENSORS], out_value[ORT_MAX_TENSORS];
};

#define CALL(s, index, types, ...) check((s), ((handle(*) types)(s)->api[index])(__VA_ARGS__))

static void check(const ort_session *s, handle status)
{
    if (status) {
        (void)fprintf(stderr, "benchmark: ONNX Runtime: %s\n",
                      ((const char *(*)(handle))s->api[ORT_GET_ERROR_MESSAGE])(status));
        exit(1);
    }
}

static size_t element_bytes(int type)
{
    return type == 7 || type == 11 || type == 13 ? 8
           : type == 2 || type == 3 || type == 9 ? 1
           : type == 10 || type == 16            ? 2
                                                 : 4;
}

/* What the model says about input |i|. */
static void describe_input(ort_session *s, size_t i)
{
    ort_input *in = &s->in[i];
    char *name;
    handle info, tensor, allocator;
    CALL(s, ORT_DEFAULT_ALLOCATOR, (handle *), &allocator);
    CALL(s, ORT_INPUT_NAME, (handle, size_t, handle, char **), s->session, i, allocator, &name);
    CALL(s, ORT_INPUT_TYPE, (handle, size_t, handle *), s->session, i, &info);
    CALL(s, ORT_CAST_TO_TENSOR_INFO, (handle, handle *), info, &tensor);
    CALL(s, ORT_ELEMENT_TYPE, (handle, int *), tensor, &in->type);
    in->name = s->in_name[i] = name;
}

void *ort_set_input(ort_session *s, size_t i, const int64_t *dim, size_t rank)
{
    ort_input *in = &s->in[i];
    handle memory;
    size_t elements = 1;
    for (size_t d = 0; d < rank; d++)
        elements *= (size_t)dim[d];
    in->bytes = elements * element_bytes(in->type);
    in->data = aligned_alloc(64, (in->bytes / 64 + 1) * 64);
    if (!in->data)
        exit(1);
    memset(in->data, 0, in->bytes);
    CALL(s, ORT_CPU_MEMORY_INFO, (int, int, handle *), 1, 0, &memory);
    CALL(s, ORT_TENSOR_WITH_DATA, (handle, void *, size_t, const int64_t *, size_t, int, handle *),
         memory, in->data, in->bytes, dim, rank, in->type, &s->in_value[i]);
    return in->data;
}

ort_session *ort_open(const char *library, const char *model, int threads)
{
    ort_session *s = calloc(1, sizeof *s);
    if (!s)
        exit(1);
    s->library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!s->library) {
        (void)fprintf(stderr, "benchmark: %s; scripts/setup --bench installs it\n", dlerror());
        exit(1);
    }
    const api_base *(*get_base)(void);
    *(void **)&get_base = dlsym(s->library, "OrtGetApiBase");
    s->api = get_base ? get_base()->get_api(ORT_API_VERSION) : NULL;
    if (!s->api) {
        (void)fprintf(stderr, "benchmark: '%s' is not a libonnxruntime of version 1.%d or later\n",
                      library, ORT_API_VERSION);
        exit(1);
    }
    handle options, allocator;
    CALL(s, ORT_CREATE_ENV, (int, const char *, handle *), ORT_LOG_ERROR, "benchmark", &s->env);
    CALL(s, ORT_CREATE_SESSION_OPTIONS, (handle *), &options);
    CALL(s, ORT_SET_OPTIMIZATION_LEVEL, (handle, int), options, ORT_ENABLE_ALL);
    CALL(s, ORT_SET_INTRA_THREADS, (handle, int), options, threads);
    CALL(s, ORT_SET_INTER_THREADS, (handle, int), options, 1);
    CALL(s, ORT_SET_LOG_SEVERITY, (handle, int), options, ORT_LOG_ERROR);
    CALL(s, ORT_CREATE_SESSION, (handle, const char *, handle, handle *), s->env, model, options,
         &s->session);
    CALL(s, ORT_DEFAULT_ALLOCATOR, (handle *), &allocator);
    CALL(s, ORT_INPUT_COUNT, (handle, size_t *), s->session, &s->n_in);
    CALL(s, ORT_OUTPUT_COUNT, (handle, size_t *), s->session, &s->n_out);
    if (s->n_in > ORT_MAX_TENSORS || s->n_out > ORT_MAX_TENSORS) {
        (void)fprintf(stderr, "benchmark: '%s' has more than %d inputs or outputs\n", model,
                      ORT_MAX_TENSORS);
        exit(1);
    }
    for (size_t i = 0; i < s->n_in; i++)
        describe_input(s, i);
    for (size_t i = 0; i < s->n_out; i++) {
        char *name;
        CALL(s, ORT_OUTPUT_NAME, (handle, size_t, handle, char **), s->session, i, allocator,
             &name);
        s->out_name[i] = name;
    }
    return s;
}

static void release_outputs(ort_session *s)
{
    for (size_t i = 0; i < s->n_out; i++) {
        if (s->out_value[i])
            ((void (*)(handle))s->api[ORT_RELEASE_VALUE])(s->out_value[i]);
        s->out_value[i] = NULL;
    }
}

void ort_close(ort_session *s)
{
    release_outputs(s);
    ((void (*)(handle))s->api[ORT_RELEASE_SESSION])(s->session);
    for (size_t i = 0; i < s->n_in; i++)
        free(s->in[i].data);
    free(s);
}

ort_input *ort_inputs(ort_session *s, size_t *n)
{
    *n = s->n_in;
    return s->in;
}

void ort_run(ort_session *s)
{
    release_outputs(s);
    CALL(s, ORT_RUN,
         (handle, handle, const char *const *, const handle *, size_t, const char *const *, size_t,
          handle *),
         s->session, NULL, s->in_name, s->in_value, s->n_in, s->out_name, s->n_out, s->out_value);
}

const float *ort_output(ort_session *s, size_t i, size_t *n)
{
    handle info;
    float *data;
    CALL(s, ORT_TENSOR_DATA, (handle, void **), s->out_value[i], (void **)&data);
    CALL(s, ORT_TENSOR_TYPE_AND_SHAPE, (handle, handle *), s->out_value[i], &info);
    CALL(s, ORT_ELEMENT_COUNT, (handle, size_t *), info, n);
    return data;
}

size_t ort_n_outputs(const ort_session *s)
{
    return s->n_out;
}
