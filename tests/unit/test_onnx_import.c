/* The ONNX importer: what it makes of models, their functions and boundaries. */
#include "onnx_fixture.h"

KTEST(onnx_import, names_and_information_are_the_models)
{
    fixture f = begin(7, 13);
    f.m->producer_name = kaena_arena_strdup(&f.a, "maker");
    f.m->producer_version = kaena_arena_strdup(&f.a, "2");
    unary(&f, "Relu", "2 3");
    KTEST_OK(f.err, import(&f, NULL));
    cr_assert_str_eq(f.info.producer, "maker 2");
    cr_assert_str_eq(f.info.framework, "ONNX");
    cr_assert(f.info.opset == 13 && f.info.ir_version == 7 && f.info.n_nodes == 1);
    cr_assert(f.g->n_inputs == 1 && f.g->n_outputs == 1 && f.g->n_nodes == 1);
    cr_assert_str_eq(f.g->inputs[0]->name, "x");
    cr_assert_str_eq(f.g->outputs[0]->name, "y");
    cr_assert_str_eq(f.g->first->name, "n_y");
    end(&f);
}

KTEST(onnx_import, unsorted_nodes_are_sorted_and_unneeded_ones_left_out)
{
    fixture f = begin(7, 13);
    ob_input(&f.a, f.m, "x", F32, "2");
    ob_output(&f.a, f.m, "y");
    ob_node(&f.a, f.m, "Neg", "b", "y");
    ob_node(&f.a, f.m, "Abs", "a", "b");
    ob_node(&f.a, f.m, "NoSuchOperator", "a", "unneeded");
    ob_node(&f.a, f.m, "Neg", "x", "a");
    run(&f, (float *[]){(float[]){1, -2}});
    expect(&f.out[0], 2, (float[]){-1, -2});
    cr_assert(f.g->n_nodes == 3);
    end(&f);
}

KTEST(onnx_import, initializers_among_the_inputs_are_constants)
{
    fixture f = begin(3, 7);
    float w[2] = {10, 20};
    ob_input(&f.a, f.m, "w", F32, "2");
    ob_input(&f.a, f.m, "x", F32, "2");
    ob_output(&f.a, f.m, "y");
    ob_tensor(&f.a, f.m, "w", F32, 2, w, sizeof w);
    ob_node(&f.a, f.m, "Add", "x w", "y");
    run(&f, (float *[]){(float[]){1, 2}});
    cr_assert(f.g->n_inputs == 1);
    expect(&f.out[0], 2, (float[]){11, 22});
    end(&f);
}

KTEST(onnx_import, an_output_may_be_an_input_or_a_constant)
{
    fixture f = begin(7, 13);
    float w[2] = {10, 20};
    ob_input(&f.a, f.m, "x", F32, "2");
    ob_output(&f.a, f.m, "x");
    ob_output(&f.a, f.m, "w");
    ob_tensor(&f.a, f.m, "w", F32, 2, w, sizeof w);
    run(&f, (float *[]){(float[]){1, 2}});
    expect(&f.out[0], 2, (float[]){1, 2});
    expect(&f.out[1], 2, w);
    end(&f);
}

KTEST(onnx_import, typed_fields_are_read)
{
    fixture f = begin(7, 13);
    ob_input(&f.a, f.m, "x", F32, "2");
    ob_output(&f.a, f.m, "y");
    ob_output(&f.a, f.m, "h");
    Onnx__TensorProto *t = ob_tensor(&f.a, f.m, "w", F32, 2, NULL, 0);
    t->n_float_data = 2;
    t->float_data = (float[]){10, 20};
    t = ob_tensor(&f.a, f.m, "half", KAENA_F16, 2, NULL, 0);
    t->n_int32_data = 2;
    t->int32_data = (int32_t[]){0x3c00, 0xc000};
    ob_node(&f.a, f.m, "Add", "x w", "y");
    ob_int(&f.a, ob_node(&f.a, f.m, "Cast", "half", "h"), "to", F32);
    run(&f, (float *[]){(float[]){1, 2}});
    expect(&f.out[0], 2, (float[]){11, 22});
    expect(&f.out[1], 2, (float[]){1, -2});
    end(&f);
}

KTEST(onnx_import, constants_have_many_forms)
{
    fixture f = begin(7, 13);
    static const char *const names[4] = {"a", "b", "c", "d"};
    Onnx__NodeProto *n[4];
    for (int i = 0; i < 4; i++) {
        n[i] = ob_node(&f.a, f.m, "Constant", "", names[i]);
        ob_output(&f.a, f.m, names[i]);
    }
    ob_float(&f.a, n[0], "value_float", 1.5f);
    ob_floats(&f.a, n[1], "value_floats", 2, (float[]){1, 2});
    ob_int(&f.a, n[2], "value_int", 7);
    ob_string(&f.a, n[3], "value_string", "text");
    run(&f, NULL);
    expect(&f.out[0], 1, (float[]){1.5f});
    cr_assert(f.out[0].shape.rank == 0 && f.out[1].shape.rank == 1);
    cr_assert(f.out[2].dtype == KAENA_I64 && kop_get_int(&f.out[2], 0) == 7);
    cr_assert(f.out[3].dtype == KAENA_STRING && ((kaena_string *)f.out[3].data)->size == 4);
    end(&f);
}

KTEST(onnx_import, an_unused_output_in_the_middle_is_no_name)
{
    fixture f = begin(7, 13);
    ob_input(&f.a, f.m, "x", F32, "4");
    ob_output(&f.a, f.m, "b");
    Onnx__NodeProto *n = ob_node(&f.a, f.m, "Split", "x", "- b");
    ob_int(&f.a, n, "axis", 0);
    run(&f, (float *[]){(float[]){1, 2, 3, 4}});
    expect(&f.out[0], 2, (float[]){3, 4});
    end(&f);
}

/* --- Functions ------------------------------------------------------------------------------- */

static Onnx__NodeProto *body_node(fixture *f, Onnx__FunctionProto *fn, const char *op,
                                  const char *in, const char *out)
{
    Onnx__NodeProto *n =
        OB_APPEND(&f->a, fn->node, fn->n_node, Onnx__NodeProto, ONNX__NODE_PROTO__INIT);
    ob_fill_node(&f->a, n, op, in, out);
    return n;
}

static Onnx__NodeProto *call(fixture *f, const char *name, const char *in, const char *out)
{
    Onnx__NodeProto *n = ob_node(&f->a, f->m, name, in, out);
    n->domain = kaena_arena_strdup(&f->a, "local");
    return n;
}

KTEST(onnx_function, bodies_take_the_place_of_calls)
{
    fixture f = begin(8, 13);
    Onnx__FunctionProto *fn = function(&f, "Leak");
    body_node(&f, fn, "Neg", "p", "t");
    Onnx__NodeProto *leaky = body_node(&f, fn, "LeakyRelu", "t", "q");
    ob_attr(&f.a, leaky, "alpha", ONNX__ATTRIBUTE_TYPE__FLOAT)->ref_attr_name =
        kaena_arena_strdup(&f.a, "slope");
    ob_input(&f.a, f.m, "x", F32, "2");
    ob_output(&f.a, f.m, "y");
    ob_float(&f.a, call(&f, "Leak", "x", "t"), "slope", 0.5f);
    ob_float(&f.a, call(&f, "Leak", "t", "y"), "slope", 0.25f);
    run(&f, (float *[]){(float[]){4, -4}});
    /* Leak(4) = -2, Leak(-2) = 2; Leak(-4) = 4, Leak(4) = -1 */
    expect(&f.out[0], 2, (float[]){2, -1});
    cr_assert(f.g->n_nodes == 4);
    cr_assert_str_eq(f.g->outputs[0]->name, "y");
    end(&f);
}

KTEST(onnx_function, recursion_is_refused)
{
    fixture f = begin(8, 13);
    body_node(&f, function(&f, "Again"), "Again", "p", "q")->domain =
        kaena_arena_strdup(&f.a, "local");
    ob_input(&f.a, f.m, "x", F32, "2");
    ob_output(&f.a, f.m, "y");
    call(&f, "Again", "x", "y");
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "function 'Again': it calls itself", import(&f, NULL));
    end(&f);
}

KTEST(onnx_function, doubling_is_bounded)
{
    fixture f = begin(8, 13);
    /* Level k calls level k + 1 four times: 4^14 nodes if nothing stopped it. */
    for (int k = 0; k < 14; k++) {
        Onnx__FunctionProto *fn = function(&f, kaena_arena_printf(&f.a, "L%d", k));
        const char *next = k == 13 ? "Neg" : kaena_arena_printf(&f.a, "L%d", k + 1);
        static const char *const names[5] = {"p", "a", "b", "c", "q"};
        for (int i = 0; i < 4; i++)
            body_node(&f, fn, next, names[i], names[i + 1])->domain =
                k == 13 ? NULL : kaena_arena_strdup(&f.a, "local");
    }
    ob_input(&f.a, f.m, "x", F32, "2");
    ob_output(&f.a, f.m, "y");
    call(&f, "L0", "x", "y");
    KTEST_FAILS(f.err, RESOURCE_EXHAUSTED, "", import(&f, NULL));
    end(&f);
}

/* --- Shapes and --io-config ------------------------------------------------------------------- */

KTEST(onnx_io, a_symbolic_dimension_needs_a_size)
{
    fixture f = begin(7, 13);
    unary(&f, "Relu", "batch 3 ?");
    KTEST_FAILS(f.err, FAILED_PRECONDITION,
                "input 'x' has the symbolic shape [batch,3,?]: "
                "dimension 0",
                import(&f, NULL));
    cr_assert(strstr(f.err.hint, "--io-config '{\"inputs\":{\"x\":[[1,3,1],\"float32\"]}}'"), "%s",
              f.err.hint);
    kcc_io_config io;
    KTEST_OK(f.err,
             kcc_io_config_parse(&f.a, "{\"inputs\":{\"x\":[[2,3,5],\"float32\"]}}", &io, &f.err));
    KTEST_OK(f.err, import(&f, &io));
    cr_assert(f.g->inputs[0]->t.shape.dim[2] == 5);
    end(&f);
}

KTEST(onnx_io, a_symbol_has_one_size_everywhere)
{
    fixture f = begin(7, 13);
    ob_input(&f.a, f.m, "x", F32, "batch 3");
    ob_input(&f.a, f.m, "z", F32, "batch 3");
    ob_output(&f.a, f.m, "y");
    ob_node(&f.a, f.m, "Add", "x z", "y");
    kcc_io_config io;
    KTEST_OK(f.err,
             kcc_io_config_parse(&f.a, "{\"inputs\":{\"x\":[[4,3],\"float32\"]}}", &io, &f.err));
    KTEST_OK(f.err, import(&f, &io));
    cr_assert(f.g->inputs[1]->t.shape.dim[0] == 4);
    end(&f);
}

KTEST(onnx_io, contradictions_name_both_sides)
{
    static const struct {
        const char *config, *message;
    } cases[] = {
        {"{\"inputs\":{\"x\":[[1,4],\"float32\"]}}", "shape [1,4], the model says [?,3]"},
        {"{\"inputs\":{\"x\":[[1,3,1],\"float32\"]}}", "the model says [?,3]"},
        {"{\"inputs\":{\"x\":[[1,3],\"float16\"]}}", "is float16, the model says float32"},
        {"{\"inputs\":{\"x\":[[1,3],\"float32\"],\"nope\":[[1],\"int8\"]}}",
         "names input 'nope'; the model's inputs are 'x'"},
        {"{\"inputs\":{\"x\":[[1,3],\"float32\"]},\"outputs\":[\"nope\"]}",
         "names output 'nope'; the model's outputs are 'y'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fixture f = begin(7, 13);
        kcc_io_config io;
        unary(&f, "Relu", "? 3");
        KTEST_OK(f.err, kcc_io_config_parse(&f.a, cases[i].config, &io, &f.err));
        KTEST_FAILS(f.err, INVALID_ARGUMENT, cases[i].message, import(&f, &io));
        end(&f);
    }
}

KTEST(onnx_io, outputs_can_be_selected_inside_the_model)
{
    fixture f = begin(7, 13);
    unary(&f, "NoSuchOperator", "2");
    ob_node(&f.a, f.m, "Neg", "x", "inner");
    kcc_io_config io;
    KTEST_OK(f.err, kcc_io_config_parse(&f.a, "{\"outputs\":[\"inner\"]}", &io, &f.err));
    KTEST_OK(f.err, import(&f, &io));
    cr_assert_str_eq(f.g->outputs[0]->name, "inner");
    end(&f);
}
