/* Models built in memory, imported and run, for the tests of the ONNX importer. */
#ifndef ONNX_FIXTURE_H
#define ONNX_FIXTURE_H

#include <math.h>

#include "ktest.h"
#include "onnx_build.h"
#include "onnx_import.h"

enum { F32 = KAENA_F32, I64 = KAENA_I64 };

/* A test's arena, model and results. */
typedef struct fixture {
    kaena_arena a;
    kaena_err err;
    Onnx__ModelProto *m;
    kgr_graph *g;
    kcc_import_info info;
    kop_tensor out[4];
} fixture;

static inline fixture begin(int64_t ir_version, int64_t opset)
{
    fixture f = {0};
    kaena_arena_init(&f.a, 0);
    kaena_err_init(&f.err);
    f.m = ob_model(&f.a, ir_version, opset);
    return f;
}

static inline void end(fixture *f)
{
    kaena_arena_fini(&f->a);
}

static inline kaena_status import(fixture *f, const kcc_io_config *io)
{
    size_t size;
    void *data = ob_pack(&f->a, f->m, &size);
    return kcc_import_onnx_bytes(&f->a, data, size, NULL, io, &f->g, &f->info, &f->err);
}

/* Imports and evaluates; inputs are float32 in the order of the graph's. */
static inline void run(fixture *f, float *const *in)
{
    kop_tensor t[4] = {0};
    KTEST_OK(f->err, import(f, NULL));
    KTEST_OK(f->err, kgr_infer(f->g, true, &f->err));
    KTEST_OK(f->err, kgr_check(f->g, &f->err));
    for (uint32_t i = 0; i < f->g->n_inputs; i++) {
        t[i] = f->g->inputs[i]->t;
        t[i].data = in[i];
    }
    kop_env env = {.arena = &f->a};
    KTEST_OK(f->err, kgr_eval(f->g, t, f->out, &env, &f->err));
}

static inline void expect(const kop_tensor *t, size_t n, const float *want)
{
    cr_assert(t->dtype == KAENA_F32 && kop_elements(t) == n, "%s, %zu elements",
              kaena_dtype_name(t->dtype), kop_elements(t));
    for (size_t i = 0; i < n; i++)
        cr_assert(fabsf(((float *)t->data)[i] - want[i]) <= 1e-6f, "element %zu is %g, not %g", i,
                  (double)((float *)t->data)[i], (double)want[i]);
}

/* x -> op -> y */
static inline Onnx__NodeProto *unary(fixture *f, const char *op, const char *dims)
{
    ob_input(&f->a, f->m, "x", F32, dims);
    ob_output(&f->a, f->m, "y");
    return ob_node(&f->a, f->m, op, "x", "y");
}

/* Function |name| of domain "local" with one node: y = op(x...). */
static inline Onnx__FunctionProto *function(fixture *f, const char *name)
{
    Onnx__FunctionProto *fn = OB_APPEND(&f->a, f->m->functions, f->m->n_functions,
                                        Onnx__FunctionProto, ONNX__FUNCTION_PROTO__INIT);
    fn->name = kaena_arena_strdup(&f->a, name);
    fn->domain = kaena_arena_strdup(&f->a, "local");
    fn->input = ob_words(&f->a, "p", &fn->n_input);
    fn->output = ob_words(&f->a, "q", &fn->n_output);
    return fn;
}

#endif
