/* SavedModels written as text, imported and run, for the tests of the TensorFlow importer. */
#ifndef TF_FIXTURE_H
#define TF_FIXTURE_H

#include <math.h>
#include <string.h>

#include "bundle_build.h"
#include "ktest.h"
#include "strbuf.h"
#include "tf_saved_model.h"

typedef struct fixture {
    kaena_arena a;
    kaena_err err;
    bb_bundle b;
    kcc_tf_bundle *bundle;
    kgr_graph *g;
    kcc_import_info info;
    kcc_tf_chosen chosen;
    kop_tensor out[4];
} fixture;

static inline fixture begin(void)
{
    fixture f = {0};
    kaena_arena_init(&f.a, 0);
    kaena_err_init(&f.err);
    return f;
}

static inline void end(fixture *f)
{
    kcc_tf_bundle_close(f->bundle);
    bb_fini(&f->b);
    kaena_arena_fini(&f->a);
}

/* Text of nodes. */
#define FLOAT "attr{key:'T' value{type:DT_FLOAT}}"
#define PLACEHOLDER(name, dims)                                                                    \
    "node{name:'" name "' op:'Placeholder' attr{key:'dtype' value{type:DT_FLOAT}} "                \
    "attr{key:'shape' value{shape{" dims "}}}}"
#define D(n) "dim{size:" #n "}"
#define CONST(kind, name, number)                                                                  \
    kind "{name:'" name "' op:'Const' attr{key:'dtype' value{type:DT_FLOAT}} "                     \
         "attr{key:'value' value{tensor{dtype:DT_FLOAT tensor_shape{} float_val:" number "}}}}"
#define INT(kind, name, number)                                                                    \
    kind "{name:'" name "' op:'Const' attr{key:'dtype' value{type:DT_INT32}} "                     \
         "attr{key:'value' value{tensor{dtype:DT_INT32 tensor_shape{} int_val:" number "}}}}"
#define IN(key, name, type, dims)                                                                  \
    "inputs{key:'" key "' value{name:'" name "' dtype:" type " tensor_shape{" dims "}}}"
#define OUT(key, name) "outputs{key:'" key "' value{name:'" name "' dtype:DT_FLOAT}}"
#define ARG(name, type) "input_arg{name:'" name "' type:" type "}"
#define RESULT(name) "output_arg{name:'" name "' type:DT_FLOAT}"
#define FUNC(attr_name, function) "attr{key:'" attr_name "' value{func{name:'" function "'}}}"

#define VARIABLE(name, dims)                                                                       \
    "node{name:'" name "' op:'VarHandleOp' attr{key:'dtype' value{type:DT_FLOAT}} "                \
    "attr{key:'shape' value{shape{" dims "}}} attr{key:'shared_name' value{s:'" name "'}}}"
#define T_FLOAT TENSORFLOW__DATA_TYPE__DT_FLOAT

/* A model of one graph with tag "serve"; |graph| is the text of a GraphDef, |rest| of signatures
 * and the like. */
static inline kaena_status import(fixture *f, const char *graph, const char *rest,
                                  const kcc_tf_choice *choice, const kcc_io_config *io)
{
    const char *text = kaena_arena_printf(
        &f->a, "meta_graphs{meta_info_def{tags:'serve'} graph_def{%s} %s}", graph, rest);
    if (f->b.n > 0 && !f->bundle) {
        bb_finish(&f->b, 8, 4, false);
        KTEST_OK(f->err,
                 kcc_tf_bundle_open_bytes(&f->a, f->b.index.data, f->b.index.size, f->b.data.data,
                                          f->b.data.size, &f->bundle, &f->err));
    }
    return kcc_import_saved_model_bytes(&f->a, text, strlen(text), /* text= */ true, f->bundle,
                                        choice, io, &f->g, &f->info, &f->chosen, &f->err);
}

static inline void must_import(fixture *f, const char *graph, const char *rest)
{
    KTEST_OK(f->err, import(f, graph, rest, NULL, NULL));
    KTEST_OK(f->err, kgr_infer(f->g, true, &f->err));
    KTEST_OK(f->err, kgr_check(f->g, &f->err));
}

/* Evaluates with scalars or vectors of floats. */
static inline void eval(fixture *f, float *const *in)
{
    kop_tensor t[4] = {0};
    for (uint32_t i = 0; i < f->g->n_inputs; i++) {
        t[i] = f->g->inputs[i]->t;
        t[i].data = in[i];
    }
    kop_env env = {.arena = &f->a};
    KTEST_OK(f->err, kgr_eval(f->g, t, f->out, &env, &f->err));
}

static inline void expect(const fixture *f, uint32_t output, size_t n, const float *want)
{
    const kop_tensor *t = &f->out[output];
    cr_assert(t->dtype == KAENA_F32 && kop_elements(t) == n, "%zu elements of %s", kop_elements(t),
              kaena_dtype_name(t->dtype));
    for (size_t i = 0; i < n; i++)
        cr_assert(fabsf(((float *)t->data)[i] - want[i]) <= 1e-5f, "element %zu is %g, not %g", i,
                  (double)((float *)t->data)[i], (double)want[i]);
}

#define XY                                                                                         \
    "signature_def{key:'serving_default' value{" IN("x", "x:0", "DT_FLOAT", D(2))                  \
        OUT("y", "y:0") " method_name:'tensorflow/serving/predict'}}"

static inline uint32_t count_nodes(const kgr_graph *g, kop_op op)
{
    uint32_t n = 0;
    for (const kgr_node *at = g->first; at; at = at->next)
        n += at->op == op;
    return n;
}

#endif
