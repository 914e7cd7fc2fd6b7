/* SavedModels: signatures, functions in place of calls, variables, and what is said about models
 * that cannot be compiled. */
#include <limits.h>

#include "tf_fixture.h"

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
