/* SavedModels: signatures, functions in place of calls, variables, both generations of control
 * flow, and what is said about models that cannot be compiled. Models are written as text. */
#include <limits.h>
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

static fixture begin(void)
{
    fixture f = {0};
    kaena_arena_init(&f.a, 0);
    kaena_err_init(&f.err);
    return f;
}

static void end(fixture *f)
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

/* A model of one graph with tag "serve"; |graph| is the text of a GraphDef, |rest| of signatures
 * and the like. */
static kaena_status import(fixture *f, const char *graph, const char *rest,
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

static void must_import(fixture *f, const char *graph, const char *rest)
{
    KTEST_OK(f->err, import(f, graph, rest, NULL, NULL));
    KTEST_OK(f->err, kgr_infer(f->g, true, &f->err));
    KTEST_OK(f->err, kgr_check(f->g, &f->err));
}

/* Evaluates with scalars or vectors of floats. */
static void eval(fixture *f, float *const *in)
{
    kop_tensor t[4] = {0};
    for (uint32_t i = 0; i < f->g->n_inputs; i++) {
        t[i] = f->g->inputs[i]->t;
        t[i].data = in[i];
    }
    kop_env env = {.arena = &f->a};
    KTEST_OK(f->err, kgr_eval(f->g, t, f->out, &env, &f->err));
}

static void expect(const fixture *f, uint32_t output, size_t n, const float *want)
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

static uint32_t count_nodes(const kgr_graph *g, kop_op op)
{
    uint32_t n = 0;
    for (const kgr_node *at = g->first; at; at = at->next)
        n += at->op == op;
    return n;
}

/* --- Signatures ----------------------------------------------------------------------------------
 */

static const char doubled[] = PLACEHOLDER("x", D(2))
    CONST("node", "two", "2") "node{name:'y' op:'Mul' input:'x' input:'two' " FLOAT "}"
                              "node{name:'z' op:'Neg' input:'y' " FLOAT "}";

KTEST(tf_saved_model, inputs_and_outputs_are_the_signatures_in_the_order_of_their_keys)
{
    fixture f = begin();
    must_import(&f, doubled,
                "signature_def{key:'serving_default' value{" IN("k", "x:0", "DT_FLOAT", D(2))
                    OUT("b", "y:0") OUT("a", "z") OUT("c", "y:0") "}}");
    cr_assert(f.g->n_inputs == 1 && strcmp(f.g->inputs[0]->name, "x:0") == 0);
    cr_assert(f.g->n_outputs == 2, "two keys of one tensor are one output");
    cr_assert_str_eq(kgr_output_name(f.g->outputs[0]), "z:0");
    cr_assert_str_eq(kgr_output_name(f.g->outputs[1]), "y:0");
    cr_assert_str_eq(f.chosen.signature_name, "serving_default");
    eval(&f, (float *[]){(float[]){1, -3}});
    expect(&f, 0, 2, (float[]){-2, 6});
    end(&f);
}

KTEST(tf_saved_model, tags_and_signatures_that_are_not_there_are_answered_with_those_that_are)
{
    fixture f = begin();
    const kcc_tf_choice gpu = {.tags = "serve,gpu"}, other = {.signature = "other"};
    KTEST_FAILS(f.err, NOT_FOUND, "tags 'serve,gpu'; there is 'serve'",
                import(&f, doubled, XY, &gpu, NULL));
    KTEST_FAILS(f.err, NOT_FOUND, "no signature 'other'; there is only 'serving_default'",
                import(&f, doubled, XY, &other, NULL));
    KTEST_FAILS(f.err, NOT_FOUND, "there are none", import(&f, doubled, "", NULL, NULL));
    end(&f);
}

KTEST(tf_saved_model, io_config_may_use_keys_and_select_outputs)
{
    fixture f = begin();
    const char *rest =
        "signature_def{key:'serving_default' value{"
        "inputs{key:'k' value{name:'x:0' dtype:DT_FLOAT tensor_shape{dim{size:-1}}}}" OUT(
            "b", "y:0") OUT("a", "z:0") "}}";
    kcc_io_input in = {.name = "k", .shape = {.rank = 1, .dim = {2}}};
    const char *outputs[] = {"a"};
    kcc_io_config io = {.inputs = &in, .n_inputs = 1, .outputs = outputs, .n_outputs = 1};
    KTEST_FAILS(f.err, FAILED_PRECONDITION, "[?]", import(&f, doubled, rest, NULL, NULL));
    KTEST_OK(f.err, import(&f, doubled, rest, NULL, &io));
    cr_assert(f.g->n_outputs == 1 && strcmp(kgr_output_name(f.g->outputs[0]), "z:0") == 0);
    in.name = "q";
    KTEST_FAILS(f.err, INVALID_ARGUMENT,
                "no input 'q'; the inputs of signature 'serving_default' "
                "are 'x:0'",
                import(&f, doubled, rest, NULL, &io));
    end(&f);
}

/* --- Functions -----------------------------------------------------------------------------------
 */

#define CALL(name, input, function)                                                                \
    "node{name:'" name "' op:'StatefulPartitionedCall' input:'" input "' " FUNC("f", function) "}"

KTEST(tf_saved_model, calls_become_what_they_call)
{
    fixture f = begin();
    /* g(a) = f(f(a)), f(a) = (largest of a, a + n); attributes come from the call. */
    must_import(
        &f,
        PLACEHOLDER("x", D(2)) CALL(
            "c", "x",
            "g") "node{name:'y' op:'Identity' input:'c:1' " FLOAT "}"
                 "library{"
                 "function{signature{name:'g' " ARG("a", "DT_FLOAT") RESULT("r") RESULT(
                     "s") "}"
                          "node_def{name:'c' op:'PartitionedCall' input:'a' attr{key:'Tout' "
                          "value{list{type:DT_FLOAT "
                          "type:DT_FLOAT}}} attr{key:'f' value{func{name:'f' attr{key:'K' "
                          "value{i:1}}}}}}"
                          "node_def{name:'d' op:'f' input:'c:output:1' attr{key:'K' value{i:2}}}"
                          "ret{key:'r' value:'c:output:0'} ret{key:'s' value:'d:sum:0'}}"
                          "function{signature{name:'f' " ARG("a", "DT_FLOAT") RESULT("top") RESULT(
                              "sum") "attr{name:'K' type:'int'}}"
                                     "node_def{name:'t' op:'TopKV2' input:'a' input:'k:output:0' "
                                     "attr{key:'T' value{type:DT_FLOAT}}}" INT("node_def", "k", "1")
                                         CONST("node_def", "n",
                                               "10") "node_def{name:'s' op:'AddV2' "
                                                     "input:'t:values:0' input:'n:output:0' " FLOAT
                                                     "}"
                                                     "node_def{name:'u' op:'AddV2' input:'a' "
                                                     "input:'s:z:0' " FLOAT "}"
                                                     "ret{key:'top' value:'t:values:0'} "
                                                     "ret{key:'sum' value:'u:z:0'}}}",
        XY);
    eval(&f, (float *[]){(float[]){1, 2}});
    /* f(1,2) = (1,2) + 12 = (13,14); f of that = (13,14) + 24 = (37,38) */
    expect(&f, 0, 2, (float[]){37, 38});
    end(&f);
}

KTEST(tf_saved_model, functions_that_call_themselves_or_do_not_exist_are_refused)
{
    fixture f = begin();
    KTEST_FAILS(
        f.err, UNIMPLEMENTED, "function 'f' calls itself",
        import(
            &f,
            PLACEHOLDER("x", D(2)) CALL("y", "x", "f") "library{function{signature{name:'f' " ARG(
                "a", "DT_FLOAT")
                RESULT(
                    "r") "}"
                         "node_def{name:'g' op:'PartitionedCall' input:'a' " FUNC(
                             "f",
                             "g") "}"
                                  "ret{key:'r' value:'g:output:0'}}"
                                  "function{signature{name:'g' " ARG("a", "DT_FLOAT") RESULT(
                                      "r") "}"
                                           "node_def{name:'f' op:'PartitionedCall' input:'a' " FUNC(
                                               "f", "f") "}"
                                                         "ret{key:'r' value:'f:output:0'}}}",
            XY, NULL, NULL));
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "no function 'f'",
                import(&f, PLACEHOLDER("x", D(2)) CALL("y", "x", "f"), XY, NULL, NULL));
    KTEST_FAILS(
        f.err, INVALID_ARGUMENT, "takes more arguments than the 1 it gets",
        import(&f,
               PLACEHOLDER("x", D(2))
                   CALL("y", "x", "f") "library{function{signature{name:'f' " ARG("a", "DT_FLOAT")
                       ARG("b", "DT_FLOAT") RESULT("r") "} ret{key:'r' value:'a'}}}",
               XY, NULL, NULL));
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "nothing called 'q:z:0'",
                import(&f,
                       PLACEHOLDER("x", D(2))
                           CALL("y", "x", "f") "library{function{signature{name:'f' " ARG(
                               "a", "DT_FLOAT") RESULT("r") "} ret{key:'r' value:'q:z:0'}}}",
                       XY, NULL, NULL));
    end(&f);
}

/* f0 calls f1 twice, which calls f2 twice ...: 2^40 bodies. */
KTEST(tf_saved_model, calls_that_multiply_without_end_are_refused)
{
    fixture f = begin();
    kaena_strbuf b = {0};
    kaena_strbuf_printf(&b, "%s", PLACEHOLDER("x", D(2)) CALL("y", "x", "f0") "library{");
    for (int i = 0; i < 40; i++)
        kaena_strbuf_printf(
            &b,
            "function{signature{name:'f%d' " ARG("a", "DT_FLOAT") RESULT(
                "r") "}"
                     "node_def{name:'p' op:'PartitionedCall' input:'a' attr{key:'f' "
                     "value{func{name:'f%d'}}}}"
                     "node_def{name:'q' op:'PartitionedCall' input:'p:output:0' attr{key:'f' "
                     "value{func{name:'f%d'}}}} ret{key:'r' value:'q:output:0'}}",
            i, i + 1, i + 1);
    kaena_strbuf_printf(&b, "function{signature{name:'f40' " ARG("a", "DT_FLOAT")
                                RESULT("r") "} ret{key:'r' value:'a'}}}");
    KTEST_FAILS(f.err, RESOURCE_EXHAUSTED, "bodies have more than",
                import(&f, b.data, XY, NULL, NULL));
    kaena_strbuf_fini(&b);
    end(&f);
}

/* --- Variables -----------------------------------------------------------------------------------
 */

#define VARIABLE(name, dims)                                                                       \
    "node{name:'" name "' op:'VarHandleOp' attr{key:'dtype' value{type:DT_FLOAT}} "                \
    "attr{key:'shape' value{shape{" dims "}}} attr{key:'shared_name' value{s:'" name "'}}}"
#define T_FLOAT TENSORFLOW__DATA_TYPE__DT_FLOAT

KTEST(tf_saved_model, variables_are_read_through_functions)
{
    fixture f = begin();
    bb_header(&f.b, 1, false, 0);
    bb_add(&f.b, "w", T_FLOAT, 1, (int64_t[]){2}, (float[]){3, 4}, 8);
    must_import(&f,
                PLACEHOLDER("x", D(2)) VARIABLE(
                    "w", D(2)) "node{name:'y' op:'StatefulPartitionedCall' input:'x' "
                               "input:'w' " FUNC(
                                   "f", "f") "}"
                                             "library{function{signature{name:'f' " ARG(
                                                 "a", "DT_FLOAT") ARG("v", "DT_RESOURCE")
                                                 RESULT("r") "}"
                                                             "node_def{name:'read' "
                                                             "op:'ReadVariableOp' input:'v'}"
                                                             "node_def{name:'m' op:'Mul' input:'a' "
                                                             "input:'read:value:0' " FLOAT "}"
                                                             "ret{key:'r' value:'m:z:0'}}}",
                XY);
    eval(&f, (float *[]){(float[]){1, 2}});
    expect(&f, 0, 2, (float[]){3, 8});
    end(&f);
}

/* The saver says under which key a variable lies, and which slice of it it is. */
KTEST(tf_saved_model, the_savers_keys_and_slices_are_followed)
{
    fixture f = begin();
    bb_header(&f.b, 1, false, 0);
    bb_add(&f.b, "model/w", T_FLOAT, 2, (int64_t[]){3, 2}, (float[]){1, 2, 3, 4, 5, 6}, 24);
#define STRINGS(name, text)                                                                        \
    "node{name:'" name "' op:'Const' attr{key:'dtype' value{type:DT_STRING}} "                     \
    "attr{key:'value' value{tensor{dtype:DT_STRING tensor_shape{dim{size:1}} string_val:'" text    \
    "'}}}}"
    static const char graph[] = PLACEHOLDER(
        "x",
        D(2)) "node{name:'part' op:'VariableV2' attr{key:'dtype' value{type:DT_FLOAT}} "
              "attr{key:'shape' value{shape{dim{size:1} dim{size:2}}}}}"
              "node{name:'part/read' op:'Identity' input:'part' " FLOAT "}"
              "node{name:'y' op:'Mul' input:'x' input:'part/read' " FLOAT "}"
              "node{name:'file' op:'Const'}" STRINGS("names", "model/w") STRINGS(
                  "slices",
                  "3 2 1,1:-") "node{name:'restore' op:'RestoreV2' input:'file' input:'names' "
                               "input:'slices'}"
                               "node{name:'assign' op:'Assign' input:'part' input:'restore' " FLOAT
                               "}"
                               "node{name:'restore_all' op:'NoOp' input:'^assign'}";
    must_import(&f, graph, "saver_def{restore_op_name:'restore_all'}" XY);
    eval(&f, (float *[]){(float[]){10, 100}});
    expect(&f, 0, 2, (float[]){30, 400});
    end(&f);
}

KTEST(tf_saved_model, variables_without_a_value_or_with_another_shape_are_named)
{
    static const char graph[] = PLACEHOLDER("x", D(2))
        VARIABLE("w", D(2)) "node{name:'r' op:'ReadVariableOp' input:'w'}"
                            "node{name:'y' op:'Mul' input:'x' input:'r' " FLOAT "}";
    fixture f = begin();
    KTEST_FAILS(f.err, NOT_FOUND, "variable 'w': it has no value",
                import(&f, graph, XY, NULL, NULL));
    bb_header(&f.b, 1, false, 0);
    bb_add(&f.b, "v", T_FLOAT, 1, (int64_t[]){2}, (float[]){3, 4}, 8);
    KTEST_FAILS(f.err, NOT_FOUND, "variable 'w': the checkpoint has no value",
                import(&f, graph, XY, NULL, NULL));
    end(&f);
    f = begin();
    bb_header(&f.b, 1, false, 0);
    bb_add(&f.b, "w", T_FLOAT, 1, (int64_t[]){3}, (float[]){3, 4, 5}, 12);
    KTEST_FAILS(f.err, INVALID_ARGUMENT,
                "variable 'w': the checkpoint has shape [3], the graph [2]",
                import(&f, graph, XY, NULL, NULL));
    end(&f);
}

KTEST(tf_saved_model, what_inference_changes_is_refused_by_name)
{
    fixture f = begin();
    static const char graph[] = PLACEHOLDER("x", D(2))
        VARIABLE("count", "") "node{name:'r' op:'ReadVariableOp' input:'count'}"
                              "node{name:'more' op:'AssignAddVariableOp' input:'count' input:'r'}"
                              "node{name:'y' op:'Identity' input:'x' input:'^more' " FLOAT "}";
    KTEST_FAILS(f.err, FAILED_PRECONDITION, "changes variable 'count' (node 'more'",
                import(&f, graph, XY, NULL, NULL));
    /* In a function it happens although nobody takes its result. */
    KTEST_FAILS(
        f.err, FAILED_PRECONDITION, "changes variable 'count' (node 'y/more'",
        import(&f,
               PLACEHOLDER("x", D(2)) VARIABLE(
                   "count", "") "node{name:'y' op:'StatefulPartitionedCall' input:'x' "
                                "input:'count' " FUNC(
                                    "f", "f") "}"
                                              "library{function{signature{name:'f' " ARG(
                                                  "a", "DT_FLOAT") ARG("v", "DT_RESOURCE")
                                                  RESULT("r") "}"
                                                              "node_def{name:'n' "
                                                              "op:'ReadVariableOp' input:'v'}"
                                                              "node_def{name:'more' "
                                                              "op:'AssignAddVariableOp' "
                                                              "input:'v' input:'n:value:0'}"
                                                              "ret{key:'r' value:'a'}}}",
               XY, NULL, NULL));
    KTEST_FAILS(f.err, FAILED_PRECONDITION,
                "'count': a compiled model keeps no state (there is no "
                "signature 'serving_default'",
                import(&f, graph,
                       "signature_def{key:'add' value{" IN("x", "x:0", "DT_FLOAT", D(2))
                           OUT("y", "y:0") "}}",
                       NULL, NULL));
    end(&f);
}

KTEST(tf_saved_model, tables_and_compiled_models_are_refused_clearly)
{
    fixture f = begin();
    KTEST_FAILS(
        f.err, UNIMPLEMENTED, "node 't' (HashTableV2) is a look-up table",
        import(
            &f,
            PLACEHOLDER(
                "x", D(2)) "node{name:'t' op:'HashTableV2'}"
                           "node{name:'find' op:'LookupTableFindV2' input:'t' input:'x' input:'x'}"
                           "node{name:'y' op:'Identity' input:'find' " FLOAT "}",
            XY, NULL, NULL));
    KTEST_FAILS(f.err, FAILED_PRECONDITION, "compiled already",
                import(&f, PLACEHOLDER("x", D(2)) "node{name:'y' op:'KaenaNeff' input:'x'}", XY,
                       NULL, NULL));
    end(&f);
}

/* A model saved without signatures: a function of the object is called by its name. */
KTEST(tf_saved_model, functions_of_the_object_stand_in_for_signatures)
{
    fixture f = begin();
    const char *rest =
        "object_graph_def{nodes{children{node_id:1 local_name:'infer'} user_object{}}"
        "nodes{function{concrete_functions:'__inference_f_1'}}"
        "nodes{variable{dtype:DT_FLOAT shape{dim{size:2}} name:'w'}}"
        "concrete_functions{key:'__inference_f_1' value{bound_inputs:2}}}";
    static const char graph[] =
        "node{name:'nothing' op:'NoOp'}"
        "library{function{signature{name:'__inference_f_1' " ARG("a", "DT_FLOAT")
            ARG("v", "DT_RESOURCE")
                RESULT("r") "}"
                            "node_def{name:'n' op:'ReadVariableOp' input:'v'}"
                            "node_def{name:'m' op:'Mul' input:'a' input:'n:value:0' " FLOAT "}"
                            "ret{key:'r' value:'m:z:0'}}}";
    const kcc_tf_choice choice = {.signature = "infer"};
    kcc_io_input in = {.name = "a", .shape = {.rank = 1, .dim = {2}}};
    kcc_io_config io = {.inputs = &in, .n_inputs = 1};
    bb_header(&f.b, 1, false, 0);
    bb_add(&f.b, "w", T_FLOAT, 1, (int64_t[]){2}, (float[]){3, 4}, 8);
    KTEST_FAILS(f.err, NOT_FOUND, "there are none", import(&f, graph, rest, NULL, &io));
    cr_assert(strstr(f.err.hint, "__inference_f_1"), "%s", f.err.hint);
    KTEST_OK(f.err, import(&f, graph, rest, &choice, &io));
    KTEST_OK(f.err, kgr_infer(f.g, true, &f.err));
    eval(&f, (float *[]){(float[]){1, 2}});
    expect(&f, 0, 2, (float[]){3, 8});
    end(&f);
}

/* --- Control flow v2 -----------------------------------------------------------------------------
 */

/* then(a) = a + a, else(a) = -a */
#define BRANCHES                                                                                   \
    "function{signature{name:'then' " ARG("a", "DT_FLOAT")                                         \
        RESULT("r") "}"                                                                            \
                    "node_def{name:'s' op:'AddV2' input:'a' input:'a' " FLOAT                      \
                    "} ret{key:'r' value:'s:z:0'}}"                                                \
                    "function{signature{name:'else' " ARG("a", "DT_FLOAT")                         \
                        RESULT("r") "}"                                                            \
                                    "node_def{name:'n' op:'Neg' input:'a' " FLOAT                  \
                                    "} ret{key:'r' value:'n:y:0'}}"
#define AXES                                                                                       \
    "node{name:'axes' op:'Const' attr{key:'dtype' value{type:DT_INT32}} "                          \
    "attr{key:'value' value{tensor{dtype:DT_INT32 tensor_shape{dim{size:1}} int_val:0}}}}"

KTEST(tf_saved_model, if_of_functions_chooses_at_run_time)
{
    fixture f = begin();
    must_import(&f,
                PLACEHOLDER("x", D(2))
                    AXES CONST("node", "zero",
                               "0") "node{name:'sum' op:'Sum' input:'x' input:'axes' " FLOAT "}"
                                    "node{name:'c' op:'Greater' input:'sum' input:'zero' " FLOAT "}"
                                    "node{name:'y' op:'StatelessIf' input:'c' input:'x' " FUNC(
                                        "then_branch", "then")
                                        FUNC("else_branch", "else") "} library{" BRANCHES "}",
                XY);
    cr_assert(count_nodes(f.g, KOP_If) == 1);
    eval(&f, (float *[]){(float[]){3, -1}});
    expect(&f, 0, 2, (float[]){6, -2});
    eval(&f, (float *[]){(float[]){-3, 1}});
    expect(&f, 0, 2, (float[]){3, -1});
    end(&f);
}

KTEST(tf_saved_model, if_of_a_constant_is_the_branch_it_takes)
{
    fixture f = begin();
    /* The other branch has an operator that nobody has. */
    must_import(
        &f,
        PLACEHOLDER(
            "x", D(2)) "node{name:'no' op:'Const' attr{key:'value' value{tensor{"
                       "dtype:DT_BOOL tensor_shape{} bool_val:false}}}}"
                       "node{name:'y' op:'If' input:'no' input:'x' " FUNC("then_branch", "odd")
                           FUNC("else_branch",
                                "else") "} library{" BRANCHES
                                        "function{signature{name:'odd' " ARG("a", "DT_FLOAT")
                                            RESULT("r") "}"
                                                        "node_def{name:'q' op:'NobodysOperator' "
                                                        "input:'a'} ret{key:'r' value:'q:r:0'}}}",
        XY);
    cr_assert(count_nodes(f.g, KOP_If) == 0);
    eval(&f, (float *[]){(float[]){3, -1}});
    expect(&f, 0, 2, (float[]){-3, 1});
    end(&f);
}

KTEST(tf_saved_model, case_takes_the_last_branch_for_an_index_outside)
{
    fixture f = begin();
    must_import(&f,
                PLACEHOLDER("x", D(2)) AXES
                "node{name:'sum' op:'Max' input:'x' input:'axes' " FLOAT "}"
                "node{name:'i' op:'Cast' input:'sum' attr{key:'SrcT' value{type:DT_FLOAT}} "
                "attr{key:'DstT' value{type:DT_INT32}}}"
                "node{name:'y' op:'Case' input:'i' input:'x' attr{key:'branches' value{list{"
                "func{name:'then'} func{name:'else'} func{name:'same'}}}}} library{" BRANCHES
                "function{signature{name:'same' " ARG("a", "DT_FLOAT")
                    RESULT("r") "} ret{key:'r' value:'a'}}}",
                XY);
    eval(&f, (float *[]){(float[]){0, -4}});
    expect(&f, 0, 2, (float[]){0, -8});
    eval(&f, (float *[]){(float[]){1, -4}});
    expect(&f, 0, 2, (float[]){-1, 4});
    eval(&f, (float *[]){(float[]){2, -4}});
    expect(&f, 0, 2, (float[]){2, -4});
    eval(&f, (float *[]){(float[]){7, -4}});
    expect(&f, 0, 2, (float[]){7, -4});
    eval(&f, (float *[]){(float[]){-7, -4}});
    expect(&f, 0, 2, (float[]){-7, -4});
    end(&f);
}

/* while (i < 5) { v = v + x * w; i = i + 1 }: a counter, a state, something only read, a variable.
 */
KTEST(tf_saved_model, while_of_functions_is_a_loop_that_counts)
{
    fixture f = begin();
    bb_header(&f.b, 1, false, 0);
    bb_add(&f.b, "w", T_FLOAT, 1, (int64_t[]){2}, (float[]){3, 4}, 8);
    must_import(
        &f,
        PLACEHOLDER("x", D(2)) VARIABLE("w", D(2)) INT("node", "zero", "0") CONST(
            "node", "start",
            "1") "node{name:'v0' op:'Mul' input:'x' input:'start' " FLOAT "}"
                 "node{name:'loop' op:'While' input:'zero' input:'v0' input:'x' input:'w' " FUNC(
                     "cond", "c")
                     FUNC("body",
                          "b") "} node{name:'y' op:'Identity' input:'loop:1' " FLOAT "}"
                               "library{function{signature{name:'c' " ARG("i", "DT_INT32") ARG(
                                   "v", "DT_FLOAT") ARG("x", "DT_FLOAT")
                                   ARG("w", "DT_RESOURCE") "output_arg{name:'r' type:DT_BOOL}}" INT(
                                       "node_def", "five",
                                       "5") "node_def{name:'less' op:'Less' input:'i' "
                                            "input:'five:output:0' attr{key:'T' "
                                            "value{type:DT_INT32}}} ret{key:'r' value:'less:z:0'}}"
                                            "function{signature{name:'b' " ARG("i", "DT_INT32")
                                                ARG("v", "DT_FLOAT") ARG("x", "DT_FLOAT") ARG(
                                                    "w",
                                                    "DT_RESOURCE") "output_arg{name:'j' "
                                                                   "type:DT_INT32}" RESULT("u")
                                                                       RESULT(
                                                                           "x2") "output_arg{"
                                                                                 "name:'w2' "
                                                                                 "type:DT_"
                                                                                 "RESOURCE}}" INT(
                                                                                     "node_def",
                                                                                     "one",
                                                                                     "1") "node_"
                                                                                          "def{"
                                                                                          "name:'"
                                                                                          "add' "
                                                                                          "op:'"
                                                                                          "AddV2'"
                                                                                          " input"
                                                                                          ":'i' "
                                                                                          "input:"
                                                                                          "'one:"
                                                                                          "output"
                                                                                          ":0' "
                                                                                          "attr{"
                                                                                          "key:'"
                                                                                          "T' "
                                                                                          "value{"
                                                                                          "type:"
                                                                                          "DT_"
                                                                                          "INT32}"
                                                                                          "}}"
                                                                                          "node_"
                                                                                          "def{"
                                                                                          "name:'"
                                                                                          "read' "
                                                                                          "op:'"
                                                                                          "ReadVa"
                                                                                          "riable"
                                                                                          "Op' "
                                                                                          "input:"
                                                                                          "'w'}"
                                                                                          "node_"
                                                                                          "def{"
                                                                                          "name:'"
                                                                                          "m' "
                                                                                          "op:'"
                                                                                          "Mul' "
                                                                                          "input:"
                                                                                          "'x' "
                                                                                          "input:"
                                                                                          "'read:"
                                                                                          "value:"
                                                                                          "0'"
                                                                                          " " FLOAT
                                                                                          "}"
                                                                                          "node_"
                                                                                          "def{"
                                                                                          "name:'"
                                                                                          "n' "
                                                                                          "op:'"
                                                                                          "AddV2'"
                                                                                          " input"
                                                                                          ":'v' "
                                                                                          "input:"
                                                                                          "'m:z:"
                                                                                          "0'"
                                                                                          " " FLOAT
                                                                                          "}"
                                                                                          "ret{"
                                                                                          "key:'"
                                                                                          "j' "
                                                                                          "value:"
                                                                                          "'add:"
                                                                                          "z:0'} "
                                                                                          "ret{"
                                                                                          "key:'"
                                                                                          "u' "
                                                                                          "value:"
                                                                                          "'n:z:"
                                                                                          "0'} "
                                                                                          "ret{"
                                                                                          "key:'"
                                                                                          "x2' "
                                                                                          "value:"
                                                                                          "'x'} "
                                                                                          "ret{"
                                                                                          "key:'"
                                                                                          "w2' "
                                                                                          "value:"
                                                                                          "'w'}}"
                                                                                          "}",
        XY);
    cr_assert(count_nodes(f.g, KOP_Loop) == 1);
    for (const kgr_node *n = f.g->first; n; n = n->next)
        if (n->op == KOP_Loop)
            cr_assert(kgr_is_const(n->in[0]) && kop_get_int(&n->in[0]->t, 0) == 5,
                      "the number of turns is known");
    eval(&f, (float *[]){(float[]){1, 2}});
    expect(&f, 0, 2, (float[]){1 + 15, 2 + 40});
    end(&f);
}

/* A list that grows in a loop whose number of turns the input decides. */
KTEST(tf_saved_model, lists_grow_in_loops_of_unknown_length)
{
    fixture f = begin();
    must_import(
        &f,
        PLACEHOLDER("x", D(2)) AXES CONST(
            "node", "zero",
            "0") "node{name:'shape' op:'Const' attr{key:'dtype' value{type:DT_INT32}} "
                 "attr{key:'value' "
                 "value{tensor{dtype:DT_INT32 tensor_shape{} int_val:-1}}}}" INT(
                     "node", "max",
                     "-1") "node{name:'list' op:'EmptyTensorList' input:'shape' input:'max' "
                           "attr{key:'element_dtype' value{type:DT_FLOAT}}}"
                           "node{name:'last' op:'Max' input:'x' input:'axes' " FLOAT "}"
                           "node{name:'loop' op:'StatelessWhile' input:'zero' input:'list' "
                           "input:'last' " FUNC("cond", "c") FUNC(
                               "body",
                               "b") "}"
                                    "node{name:'y' op:'TensorListStack' input:'loop:1' "
                                    "input:'shape' "
                                    "attr{key:'element_dtype' value{type:DT_FLOAT}}}"
                                    "library{function{signature{name:'c' " ARG("i", "DT_FLOAT")
                                        ARG("l", "DT_VARIANT") ARG(
                                            "n",
                                            "DT_FLOAT") "output_arg{name:'r' type:DT_BOOL}}"
                                                        "node_def{name:'less' op:'Less' input:'i' "
                                                        "input:'n' " FLOAT "} ret{key:'r' "
                                                        "value:'less:z:0'}}"
                                                        "function{signature{name:'b' " ARG(
                                                            "i",
                                                            "DT_FLOAT") ARG("l",
                                                                            "DT_VARIANT") ARG("n",
                                                                                              "DT_"
                                                                                              "FLOA"
                                                                                              "T")
                                                            RESULT(
                                                                "j") "output_arg{name:'m' "
                                                                     "type:DT_VARIANT}" RESULT(
                                                                         "n2") "}" CONST("node_"
                                                                                         "def",
                                                                                         "one",
                                                                                         "1") "n"
                                                                                              "o"
                                                                                              "d"
                                                                                              "e"
                                                                                              "_"
                                                                                              "d"
                                                                                              "e"
                                                                                              "f"
                                                                                              "{"
                                                                                              "n"
                                                                                              "a"
                                                                                              "m"
                                                                                              "e"
                                                                                              ":"
                                                                                              "'"
                                                                                              "a"
                                                                                              "d"
                                                                                              "d"
                                                                                              "'"
                                                                                              " "
                                                                                              "o"
                                                                                              "p"
                                                                                              ":"
                                                                                              "'"
                                                                                              "A"
                                                                                              "d"
                                                                                              "d"
                                                                                              "V"
                                                                                              "2"
                                                                                              "'"
                                                                                              " "
                                                                                              "i"
                                                                                              "n"
                                                                                              "p"
                                                                                              "u"
                                                                                              "t"
                                                                                              ":"
                                                                                              "'"
                                                                                              "i"
                                                                                              "'"
                                                                                              " "
                                                                                              "i"
                                                                                              "n"
                                                                                              "p"
                                                                                              "u"
                                                                                              "t"
                                                                                              ":"
                                                                                              "'"
                                                                                              "o"
                                                                                              "n"
                                                                                              "e"
                                                                                              ":"
                                                                                              "o"
                                                                                              "u"
                                                                                              "t"
                                                                                              "p"
                                                                                              "u"
                                                                                              "t"
                                                                                              ":"
                                                                                              "0"
                                                                                              "'"
                                                                                              " " FLOAT
                                                                                              "}"
                                                                                              "n"
                                                                                              "o"
                                                                                              "d"
                                                                                              "e"
                                                                                              "_"
                                                                                              "d"
                                                                                              "e"
                                                                                              "f"
                                                                                              "{"
                                                                                              "n"
                                                                                              "a"
                                                                                              "m"
                                                                                              "e"
                                                                                              ":"
                                                                                              "'"
                                                                                              "s"
                                                                                              "q"
                                                                                              "'"
                                                                                              " "
                                                                                              "o"
                                                                                              "p"
                                                                                              ":"
                                                                                              "'"
                                                                                              "M"
                                                                                              "u"
                                                                                              "l"
                                                                                              "'"
                                                                                              " "
                                                                                              "i"
                                                                                              "n"
                                                                                              "p"
                                                                                              "u"
                                                                                              "t"
                                                                                              ":"
                                                                                              "'"
                                                                                              "i"
                                                                                              "'"
                                                                                              " "
                                                                                              "i"
                                                                                              "n"
                                                                                              "p"
                                                                                              "u"
                                                                                              "t"
                                                                                              ":"
                                                                                              "'"
                                                                                              "i"
                                                                                              "'"
                                                                                              " " FLOAT
                                                                                              "}"
                                                                                              "n"
                                                                                              "o"
                                                                                              "d"
                                                                                              "e"
                                                                                              "_"
                                                                                              "d"
                                                                                              "e"
                                                                                              "f"
                                                                                              "{"
                                                                                              "n"
                                                                                              "a"
                                                                                              "m"
                                                                                              "e"
                                                                                              ":"
                                                                                              "'"
                                                                                              "p"
                                                                                              "u"
                                                                                              "s"
                                                                                              "h"
                                                                                              "'"
                                                                                              " "
                                                                                              "o"
                                                                                              "p"
                                                                                              ":"
                                                                                              "'"
                                                                                              "T"
                                                                                              "e"
                                                                                              "n"
                                                                                              "s"
                                                                                              "o"
                                                                                              "r"
                                                                                              "L"
                                                                                              "i"
                                                                                              "s"
                                                                                              "t"
                                                                                              "P"
                                                                                              "u"
                                                                                              "s"
                                                                                              "h"
                                                                                              "B"
                                                                                              "a"
                                                                                              "c"
                                                                                              "k"
                                                                                              "'"
                                                                                              " "
                                                                                              "i"
                                                                                              "n"
                                                                                              "p"
                                                                                              "u"
                                                                                              "t"
                                                                                              ":"
                                                                                              "'"
                                                                                              "l"
                                                                                              "'"
                                                                                              " "
                                                                                              "i"
                                                                                              "n"
                                                                                              "p"
                                                                                              "u"
                                                                                              "t"
                                                                                              ":"
                                                                                              "'"
                                                                                              "s"
                                                                                              "q"
                                                                                              ":"
                                                                                              "z"
                                                                                              ":"
                                                                                              "0"
                                                                                              "'"
                                                                                              " "
                                                                                              "a"
                                                                                              "t"
                                                                                              "t"
                                                                                              "r"
                                                                                              "{"
                                                                                              "k"
                                                                                              "e"
                                                                                              "y"
                                                                                              ":"
                                                                                              "'"
                                                                                              "e"
                                                                                              "l"
                                                                                              "e"
                                                                                              "m"
                                                                                              "e"
                                                                                              "n"
                                                                                              "t"
                                                                                              "_"
                                                                                              "d"
                                                                                              "t"
                                                                                              "y"
                                                                                              "p"
                                                                                              "e"
                                                                                              "'"
                                                                                              " "
                                                                                              "v"
                                                                                              "a"
                                                                                              "l"
                                                                                              "u"
                                                                                              "e"
                                                                                              "{"
                                                                                              "t"
                                                                                              "y"
                                                                                              "p"
                                                                                              "e"
                                                                                              ":"
                                                                                              "D"
                                                                                              "T"
                                                                                              "_"
                                                                                              "F"
                                                                                              "L"
                                                                                              "O"
                                                                                              "A"
                                                                                              "T"
                                                                                              "}"
                                                                                              "}"
                                                                                              "}"
                                                                                              "r"
                                                                                              "e"
                                                                                              "t"
                                                                                              "{"
                                                                                              "k"
                                                                                              "e"
                                                                                              "y"
                                                                                              ":"
                                                                                              "'"
                                                                                              "j"
                                                                                              "'"
                                                                                              " "
                                                                                              "v"
                                                                                              "a"
                                                                                              "l"
                                                                                              "u"
                                                                                              "e"
                                                                                              ":"
                                                                                              "'"
                                                                                              "a"
                                                                                              "d"
                                                                                              "d"
                                                                                              ":"
                                                                                              "z"
                                                                                              ":"
                                                                                              "0"
                                                                                              "'"
                                                                                              "}"
                                                                                              " "
                                                                                              "r"
                                                                                              "e"
                                                                                              "t"
                                                                                              "{"
                                                                                              "k"
                                                                                              "e"
                                                                                              "y"
                                                                                              ":"
                                                                                              "'"
                                                                                              "m"
                                                                                              "'"
                                                                                              " "
                                                                                              "v"
                                                                                              "a"
                                                                                              "l"
                                                                                              "u"
                                                                                              "e"
                                                                                              ":"
                                                                                              "'"
                                                                                              "p"
                                                                                              "u"
                                                                                              "s"
                                                                                              "h"
                                                                                              ":"
                                                                                              "o"
                                                                                              "u"
                                                                                              "t"
                                                                                              "p"
                                                                                              "u"
                                                                                              "t"
                                                                                              "_"
                                                                                              "h"
                                                                                              "a"
                                                                                              "n"
                                                                                              "d"
                                                                                              "l"
                                                                                              "e"
                                                                                              ":"
                                                                                              "0"
                                                                                              "'"
                                                                                              "}"
                                                                                              " "
                                                                                              "r"
                                                                                              "e"
                                                                                              "t"
                                                                                              "{"
                                                                                              "k"
                                                                                              "e"
                                                                                              "y"
                                                                                              ":"
                                                                                              "'"
                                                                                              "n"
                                                                                              "2"
                                                                                              "'"
                                                                                              " "
                                                                                              "v"
                                                                                              "a"
                                                                                              "l"
                                                                                              "u"
                                                                                              "e"
                                                                                              ":"
                                                                                              "'"
                                                                                              "n"
                                                                                              "'"
                                                                                              "}"
                                                                                              "}"
                                                                                              "}",
        XY);
    eval(&f, (float *[]){(float[]){4, 1}});
    expect(&f, 0, 4, (float[]){0, 1, 4, 9});
    eval(&f, (float *[]){(float[]){-1, 2}});
    expect(&f, 0, 2, (float[]){0, 1});
    end(&f);
}

/* --- Control flow v1 -----------------------------------------------------------------------------
 */

/* Two Merges of one predicate, one inside the other's branch as well, a constant for a branch. */
KTEST(tf_saved_model, switches_and_merges_are_branches)
{
    fixture f = begin();
    must_import(
        &f,
        PLACEHOLDER("x", D(2)) AXES CONST("node", "zero", "0") CONST(
            "node", "ten",
            "10") "node{name:'sum' op:'Sum' input:'x' input:'axes' " FLOAT "}"
                  "node{name:'p' op:'Greater' input:'sum' input:'zero' " FLOAT "}"
                  "node{name:'q' op:'Greater' input:'sum' input:'ten' " FLOAT "}"
                  "node{name:'pid' op:'Identity' input:'p'}"
                  "node{name:'sx' op:'Switch' input:'x' input:'pid' " FLOAT "}"
                  "node{name:'sq' op:'Switch' input:'q' input:'pid' attr{key:'T' "
                  "value{type:DT_BOOL}}}"
                  "node{name:'ssx' op:'Switch' input:'sx:1' input:'sq:1' " FLOAT "}"
                  "node{name:'big' op:'Neg' input:'ssx:1' " FLOAT "}"
                  "node{name:'small' op:'AddV2' input:'ssx' input:'ssx' " FLOAT "}"
                  "node{name:'inner' op:'Merge' input:'small' input:'big' attr{key:'N' "
                  "value{i:2}} " FLOAT "}"
                  "node{name:'c' op:'Const' input:'^sw' attr{key:'dtype' value{type:DT_FLOAT}} "
                  "attr{key:'value' value{tensor{dtype:DT_FLOAT tensor_shape{dim{size:2}} "
                  "float_val:7}}}}"
                  "node{name:'sw' op:'Identity' input:'sx' " FLOAT "}"
                  "node{name:'outer' op:'Merge' input:'c' input:'inner' attr{key:'N' "
                  "value{i:2}} " FLOAT "}"
                  "node{name:'index' op:'Cast' input:'outer:1' attr{key:'SrcT' "
                  "value{type:DT_INT32}} "
                  "attr{key:'DstT' value{type:DT_FLOAT}}}"
                  "node{name:'y' op:'AddV2' input:'outer' input:'index' " FLOAT "}",
        XY);
    cr_assert(count_nodes(f.g, KOP_If) == 1);
    eval(&f, (float *[]){(float[]){-1, -1}});
    expect(&f, 0, 2, (float[]){7, 7});
    eval(&f, (float *[]){(float[]){1, 2}});
    expect(&f, 0, 2, (float[]){3, 5});
    eval(&f, (float *[]){(float[]){10, 20}});
    expect(&f, 0, 2, (float[]){-9, -19});
    end(&f);
}

KTEST(tf_saved_model, branches_that_do_not_meet_are_refused)
{
    fixture f = begin();
#define SWITCHED                                                                                   \
    PLACEHOLDER("x", D(2))                                                                         \
    AXES CONST("node", "zero", "0") "node{name:'sum' op:'Sum' input:'x' input:'axes' " FLOAT "}"   \
                                    "node{name:'p' op:'Greater' input:'sum' input:'zero' " FLOAT   \
                                    "}"                                                            \
                                    "node{name:'s' op:'Switch' input:'x' input:'p' " FLOAT "}"
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "not the two branches of one predicate",
                import(&f, SWITCHED "node{name:'y' op:'Merge' input:'s:1' input:'s:1' " FLOAT "}",
                       XY, NULL, NULL));
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "is there only if 'p' is true",
                import(&f,
                       SWITCHED "node{name:'y' op:'Identity' input:'s:1' " FLOAT "}"
                                "node{name:'m' op:'Merge' input:'s' input:'s:1' " FLOAT "}",
                       XY, NULL, NULL));
    end(&f);
}

/* for (i = 0; i < 3; i++) for (j = 0; j < 2; j++) v = v + x: frames in frames. */
#define FRAME(name, value, frame)                                                                  \
    "node{name:'" name "' op:'Enter' input:'" value "' attr{key:'frame_name' value{s:'" frame "'}" \
    "}}"
#define TURN(name, merge, cond, next)                                                              \
    "node{name:'" name "/m' op:'Merge' input:'" merge "' input:'" next "'}"                        \
    "node{name:'" name "/s' op:'Switch' input:'" name "/m' input:'" cond "'}"                      \
    "node{name:'" name "/exit' op:'Exit' input:'" name "/s'}"
KTEST(tf_saved_model, frames_are_loops_inside_of_loops_too)
{
    fixture f = begin();
    must_import(
        &f,
        PLACEHOLDER("x", D(2)) INT("node", "zero", "0") FRAME("i0", "zero", "a")
            FRAME("v0", "x", "a") FRAME("x1", "x", "a") TURN("i", "i0", "ca", "in")
                TURN("v", "v0", "ca",
                     "vn") "node{name:'la' op:'Less' input:'i/m' input:'three' attr{key:'T' "
                           "value{type:DT_INT32}}}" INT("node", "three_", "3")
                               FRAME("three", "three_", "a") INT("node", "one_", "1")
                                   FRAME("one", "one_",
                                         "a") "node{name:'ca' op:'LoopCond' input:'la'}"
                                              "node{name:'ia' op:'AddV2' input:'i/s:1' input:'one' "
                                              "attr{key:'T' value{type:DT_INT32}}}"
                                              "node{name:'in' op:'NextIteration' input:'ia'}"
        /* inner */
        FRAME("zero2", "zero1", "b") INT("node", "zero1", "0") FRAME("w0", "v/s:1", "b")
            FRAME("x2", "x1", "b") FRAME("one2", "one", "b") INT("node", "two_", "2")
                FRAME("two2", "two_", "b") TURN("j", "zero2", "cb", "jn")
                    TURN("w", "w0", "cb",
                         "wn") "node{name:'lb' op:'Less' input:'j/m' input:'two2' attr{key:'T' "
                               "value{type:DT_INT32}}}"
                               "node{name:'cb' op:'LoopCond' input:'lb'}"
                               "node{name:'jb' op:'AddV2' input:'j/s:1' input:'one2' attr{key:'T' "
                               "value{type:DT_INT32}}}"
                               "node{name:'jn' op:'NextIteration' input:'jb'}"
                               "node{name:'wb' op:'AddV2' input:'w/s:1' input:'x2' " FLOAT "}"
                               "node{name:'wn' op:'NextIteration' input:'wb'}"
                               "node{name:'vn' op:'NextIteration' input:'w/exit'}"
                               "node{name:'y' op:'Identity' input:'v/exit' " FLOAT "}",
        XY);
    cr_assert(count_nodes(f.g, KOP_Loop) == 1);
    eval(&f, (float *[]){(float[]){1, 2}});
    expect(&f, 0, 2, (float[]){7, 14});
    end(&f);
}

KTEST(tf_saved_model, broken_loops_are_refused)
{
    fixture f = begin();
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "Enter, NextIteration and Switch",
                import(&f,
                       PLACEHOLDER("x", D(2)) "node{name:'m' op:'Merge' input:'x' input:'n'}"
                                              "node{name:'c' op:'LoopCond' input:'m'}"
                                              "node{name:'n' op:'NextIteration' input:'m'}"
                                              "node{name:'y' op:'Identity' input:'m' " FLOAT "}",
                       XY, NULL, NULL));
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "does not leave a loop",
                import(&f,
                       PLACEHOLDER("x", D(2)) "node{name:'c' op:'LoopCond' input:'x'}"
                                              "node{name:'y' op:'Exit' input:'x'}",
                       XY, NULL, NULL));
    end(&f);
}

/* Nothing that follows Identity nodes may follow them for ever, or again and again. */
KTEST(tf_saved_model, cycles_and_long_chains_of_identities_end)
{
    fixture f = begin();
    KTEST_FAILS(
        f.err, INVALID_ARGUMENT, "needs its own result",
        import(&f,
               PLACEHOLDER("x", D(2)) "node{name:'a' op:'Identity' input:'b'}"
                                      "node{name:'b' op:'Identity' input:'a'}"
                                      "node{name:'s' op:'Switch' input:'x' input:'a' " FLOAT "}"
                                      "node{name:'m' op:'Merge' input:'s' input:'s:1' " FLOAT "}"
                                      "node{name:'v' op:'VarHandleOp'}"
                                      "node{name:'r' op:'RestoreV2' input:'x' input:'a' input:'a'}"
                                      "node{name:'i' op:'AssignVariableOp' input:'a' input:'r'}"
                                      "node{name:'j' op:'AssignVariableOp' input:'v' input:'r'}"
                                      "node{name:'y' op:'AddV2' input:'m' input:'a' " FLOAT "}",
               XY, NULL, NULL));
    kaena_strbuf b = {0};
    enum { N = 3000 };
    kaena_strbuf_printf(
        &b, "%s",
        PLACEHOLDER("x", D(2)) AXES CONST(
            "node", "zero", "0") "node{name:'sum' op:'Sum' input:'x' input:'axes' " FLOAT "}"
                                 "node{name:'i0' op:'Greater' input:'sum' input:'zero' " FLOAT "}");
    for (int i = 1; i <= N; i++)
        kaena_strbuf_printf(&b, "node{name:'i%d' op:'Identity' input:'i%d'}", i, i - 1);
    for (int i = 0; i < N; i++)
        kaena_strbuf_printf(&b,
                            "node{name:'s%d' op:'Switch' input:'%s%d' input:'i%d' " FLOAT "}"
                            "node{name:'m%d' op:'Merge' input:'s%d' input:'s%d:1' " FLOAT "}",
                            i, i ? "m" : "x", i - 1, N, i, i, i);
    kaena_strbuf_printf(&b, "node{name:'y' op:'Identity' input:'m%d' " FLOAT "}", N - 1);
    char *first = strstr(b.data, "'x-1'");
    memcpy(first, "'x:0'", 5);
    /* Too many branches one after another is no error: it ends, this way or that. */
    (void)import(&f, b.data, XY, NULL, NULL);
    kaena_strbuf_fini(&b);
    end(&f);
}

/* --- Directories ---------------------------------------------------------------------------------
 */

KTEST(tf_saved_model, real_models_are_refused_for_what_they_are)
{
    static const struct {
        const char *dir, *signature;
        kaena_status status;
        const char *what;
    } cases[] = {
        {"serving/bad_half_plus_two/00000123", NULL, KAENA_UNIMPLEMENTED, "session bundle"},
        {"serving/legacy_session_bundle/half_plus_two/00000123", NULL, KAENA_UNIMPLEMENTED,
         "session bundle"},
        {"serving/saved_model_counter/00000123", NULL, KAENA_FAILED_PRECONDITION,
         "variable 'counter'"},
        {"serving/saved_model_counter/00000123", "incr_counter", KAENA_FAILED_PRECONDITION,
         "changes variable 'counter'"},
        {"serving/saved_model_counter/00000123", "get_counter", KAENA_FAILED_PRECONDITION,
         "reads variable 'counter'"},
        {"serving/saved_model_half_plus_two_cpu/00000123", "classify_x_to_y",
         KAENA_FAILED_PRECONDITION, "not even its rank"},
        {"serving", NULL, KAENA_NOT_FOUND, "neither saved_model.pb nor saved_model.pbtxt"},
        {"serving/none", NULL, KAENA_NOT_FOUND, "serving/none"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f = begin();
        char path[PATH_MAX], root[PATH_MAX - 100];
        const kcc_tf_choice choice = {.signature = cases[i].signature};
        (void)snprintf(path, sizeof path, "%s/%s",
                       ktest_shared(root, sizeof root, "models/tensorflow"), cases[i].dir);
        kaena_status s =
            kcc_import_saved_model(&f.a, path, &choice, NULL, &f.g, &f.info, &f.chosen, &f.err);
        cr_assert(s == cases[i].status && strstr(f.err.what, cases[i].what), "%s: %s", cases[i].dir,
                  f.err.what);
        end(&f);
    }
}

KTEST(tf_saved_model, real_models_answer)
{
    fixture f = begin();
    char path[PATH_MAX];
    kcc_io_input in = {.name = "x", .shape = {.rank = 2, .dim = {2, 1}}};
    const kcc_io_config io = {.inputs = &in, .n_inputs = 1};
    KTEST_OK(f.err,
             kcc_import_saved_model(
                 &f.a,
                 ktest_shared(path, sizeof path,
                              "models/tensorflow/serving/saved_model_half_plus_two_cpu/00000123/"),
                 NULL, &io, &f.g, &f.info, &f.chosen, &f.err));
    KTEST_OK(f.err, kgr_infer(f.g, true, &f.err));
    eval(&f, (float *[]){(float[]){3, -4}});
    expect(&f, 0, 2, (float[]){3.5f, 0});
    cr_assert_str_eq(f.info.producer, "TensorFlow 1.14.0");
    end(&f);
}
