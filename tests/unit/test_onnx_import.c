/* The ONNX importer: what it makes of models of all ages, and what it says about bad ones. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
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

static fixture begin(int64_t ir_version, int64_t opset)
{
    fixture f = {0};
    kaena_arena_init(&f.a, 0);
    kaena_err_init(&f.err);
    f.m = ob_model(&f.a, ir_version, opset);
    return f;
}

static void end(fixture *f)
{
    kaena_arena_fini(&f->a);
}

static kaena_status import(fixture *f, const kcc_io_config *io)
{
    size_t size;
    void *data = ob_pack(&f->a, f->m, &size);
    return kcc_import_onnx_bytes(&f->a, data, size, NULL, io, &f->g, &f->info, &f->err);
}

/* Imports and evaluates; inputs are float32 in the order of the graph's. */
static void run(fixture *f, float *const *in)
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

static void expect(const kop_tensor *t, size_t n, const float *want)
{
    cr_assert(t->dtype == KAENA_F32 && kop_elements(t) == n, "%s, %zu elements",
              kaena_dtype_name(t->dtype), kop_elements(t));
    for (size_t i = 0; i < n; i++)
        cr_assert(fabsf(((float *)t->data)[i] - want[i]) <= 1e-6f, "element %zu is %g, not %g", i,
                  (double)((float *)t->data)[i], (double)want[i]);
}

/* x -> op -> y */
static Onnx__NodeProto *unary(fixture *f, const char *op, const char *dims)
{
    ob_input(&f->a, f->m, "x", F32, dims);
    ob_output(&f->a, f->m, "y");
    return ob_node(&f->a, f->m, op, "x", "y");
}

/* --- Models that are right ------------------------------------------------------------------- */

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

/* --- Older forms ----------------------------------------------------------------------------- */

KTEST(onnx_legacy, no_operator_set_list_means_the_first)
{
    fixture f = begin(1, 0);
    ob_input(&f.a, f.m, "x", F32, "1 2 2");
    ob_output(&f.a, f.m, "y");
    float w[2] = {10, 20};
    ob_tensor(&f.a, f.m, "w", F32, 2, w, sizeof w);
    Onnx__NodeProto *n = ob_node(&f.a, f.m, "Add", "x w", "y");
    ob_int(&f.a, n, "broadcast", 1);
    ob_int(&f.a, n, "axis", 1);
    ob_ints(&f.a, n, "consumed_inputs", 2, (int64_t[]){0, 0});
    run(&f, (float *[]){(float[]){1, 2, 3, 4}});
    cr_assert(f.info.opset == 1);
    expect(&f.out[0], 4, (float[]){11, 12, 23, 24});
    end(&f);
}

KTEST(onnx_legacy, softmax_was_over_everything_from_the_axis_on)
{
    fixture f = begin(3, 9);
    unary(&f, "Softmax", "1 2 2");
    run(&f, (float *[]){(float[]){0, 0, 0, 0}});
    expect(&f.out[0], 4, (float[]){.25f, .25f, .25f, .25f});
    cr_assert(f.out[0].shape.rank == 3);
    end(&f);
    f = begin(7, 13);
    unary(&f, "Softmax", "1 2 2");
    run(&f, (float *[]){(float[]){0, 0, 0, 0}});
    expect(&f.out[0], 4, (float[]){.5f, .5f, .5f, .5f});
    end(&f);
}

KTEST(onnx_legacy, softmax_over_one_real_axis_needs_no_reshape)
{
    fixture f = begin(3, 9);
    unary(&f, "Softmax", "1 4 1 1");
    run(&f, (float *[]){(float[]){0, 0, 0, 0}});
    expect(&f.out[0], 4, (float[]){.25f, .25f, .25f, .25f});
    cr_assert(f.g->n_nodes == 1);
    end(&f);
}

KTEST(onnx_legacy, attributes_became_inputs)
{
    fixture f = begin(3, 6);
    Onnx__NodeProto *n = unary(&f, "Clip", "3");
    ob_float(&f.a, n, "min", -1.0f);
    ob_float(&f.a, n, "max", 1.0f);
    run(&f, (float *[]){(float[]){-5, .5f, 5}});
    expect(&f.out[0], 3, (float[]){-1, .5f, 1});
    end(&f);

    f = begin(3, 9);
    n = unary(&f, "Slice", "4");
    ob_ints(&f.a, n, "starts", 1, (int64_t[]){1});
    ob_ints(&f.a, n, "ends", 1, (int64_t[]){3});
    run(&f, (float *[]){(float[]){1, 2, 3, 4}});
    expect(&f.out[0], 2, (float[]){2, 3});
    end(&f);

    f = begin(3, 11);
    n = unary(&f, "ReduceSum", "2 2");
    ob_ints(&f.a, n, "axes", 1, (int64_t[]){0});
    ob_int(&f.a, n, "keepdims", 0);
    run(&f, (float *[]){(float[]){1, 2, 3, 4}});
    expect(&f.out[0], 2, (float[]){4, 6});
    end(&f);
}

KTEST(onnx_legacy, upsample_is_resize)
{
    fixture f = begin(3, 7);
    Onnx__NodeProto *n = unary(&f, "Upsample", "1 1 1 2");
    ob_floats(&f.a, n, "scales", 4, (float[]){1, 1, 1, 2});
    run(&f, (float *[]){(float[]){1, 2}});
    expect(&f.out[0], 4, (float[]){1, 1, 2, 2});
    end(&f);
}

KTEST(onnx_legacy, dropout_passes_everything)
{
    fixture f = begin(3, 9);
    ob_input(&f.a, f.m, "x", F32, "2");
    ob_output(&f.a, f.m, "y");
    ob_output(&f.a, f.m, "mask");
    ob_float(&f.a, ob_node(&f.a, f.m, "Dropout", "x", "y mask"), "ratio", 0.5f);
    run(&f, (float *[]){(float[]){1, 2}});
    expect(&f.out[0], 2, (float[]){1, 2});
    expect(&f.out[1], 2, (float[]){1, 1});
    end(&f);
}

KTEST(onnx_legacy, cast_named_its_type)
{
    fixture f = begin(3, 5);
    ob_string(&f.a, unary(&f, "Cast", "2"), "to", "INT64");
    run(&f, (float *[]){(float[]){1.5f, -2.5f}});
    cr_assert(f.out[0].dtype == KAENA_I64 && kop_get_int(&f.out[0], 1) == -2);
    end(&f);
}

KTEST(onnx_legacy, tile_had_one_axis)
{
    fixture f = begin(3, 1);
    int64_t two = 2, axis = 1;
    ob_input(&f.a, f.m, "x", F32, "1 2");
    ob_output(&f.a, f.m, "y");
    ob_tensor(&f.a, f.m, "tiles", I64, 1, &two, sizeof two);
    ob_tensor(&f.a, f.m, "axis", I64, 1, &axis, sizeof axis);
    ob_node(&f.a, f.m, "Tile", "x tiles axis", "y");
    run(&f, (float *[]){(float[]){1, 2}});
    expect(&f.out[0], 4, (float[]){1, 2, 1, 2});
    end(&f);
}

KTEST(onnx_legacy, prelu_had_a_slope_per_channel)
{
    fixture f = begin(3, 6);
    float slope[2] = {.5f, .25f};
    ob_input(&f.a, f.m, "x", F32, "1 2 2");
    ob_output(&f.a, f.m, "y");
    ob_tensor(&f.a, f.m, "slope", F32, 2, slope, sizeof slope);
    ob_node(&f.a, f.m, "PRelu", "x slope", "y");
    run(&f, (float *[]){(float[]){-4, 4, -4, -8}});
    expect(&f.out[0], 4, (float[]){-2, 4, -1, -2});
    end(&f);
}

KTEST(onnx_legacy, operators_that_are_gone_are_made_from_others)
{
    fixture f = begin(3, 1);
    Onnx__NodeProto *n = unary(&f, "ImageScaler", "1 2 1 1");
    ob_float(&f.a, n, "scale", 2.0f);
    ob_floats(&f.a, n, "bias", 2, (float[]){1, -1});
    run(&f, (float *[]){(float[]){3, 4}});
    expect(&f.out[0], 2, (float[]){7, 7});
    end(&f);

    f = begin(3, 1);
    n = unary(&f, "Affine", "2");
    ob_float(&f.a, n, "alpha", 2.0f);
    ob_float(&f.a, n, "beta", 1.0f);
    run(&f, (float *[]){(float[]){3, 4}});
    expect(&f.out[0], 2, (float[]){7, 9});
    end(&f);

    f = begin(3, 1);
    n = unary(&f, "ConstantFill", "2");
    ob_float(&f.a, n, "value", 3.0f);
    run(&f, (float *[]){(float[]){0, 0}});
    expect(&f.out[0], 2, (float[]){3, 3});
    end(&f);
}

/* The shape of Softmax's input is computed by nodes, so the importer has to evaluate these first.
 */
KTEST(onnx_legacy, computed_shapes_are_evaluated_where_a_form_needs_the_rank)
{
    fixture f = begin(3, 9);
    int64_t minus = -1, zero = 0;
    ob_input(&f.a, f.m, "x", F32, "2 1 2");
    ob_output(&f.a, f.m, "y");
    ob_tensor(&f.a, f.m, "minus", I64, 1, &minus, sizeof minus);
    ob_tensor(&f.a, f.m, "zero", I64, 1, &zero, sizeof zero);
    ob_node(&f.a, f.m, "Shape", "x", "s");
    ob_int(&f.a, ob_node(&f.a, f.m, "Gather", "s zero", "n"), "axis", 0);
    ob_int(&f.a, ob_node(&f.a, f.m, "Concat", "n minus", "shape"), "axis", 0);
    ob_node(&f.a, f.m, "Reshape", "x shape", "flat");
    ob_node(&f.a, f.m, "Softmax", "flat", "y");
    run(&f, (float *[]){(float[]){0, 0, 0, 0}});
    expect(&f.out[0], 4, (float[]){.5f, .5f, .5f, .5f});
    cr_assert(f.out[0].shape.rank == 2);
    end(&f);
}

KTEST(onnx_legacy, training_is_refused)
{
    fixture f = begin(3, 9);
    ob_input(&f.a, f.m, "x", F32, "1 2 1 1");
    ob_output(&f.a, f.m, "y");
    ob_output(&f.a, f.m, "mean");
    float w[2] = {1, 1};
    ob_tensor(&f.a, f.m, "w", F32, 2, w, sizeof w);
    ob_node(&f.a, f.m, "BatchNormalization", "x w w w w", "y mean");
    KTEST_FAILS(f.err, UNIMPLEMENTED, "training", import(&f, NULL));
    end(&f);
}

/* --- Functions ------------------------------------------------------------------------------- */

/* Function |name| of domain "local" with one node: y = op(x...). */
static Onnx__FunctionProto *function(fixture *f, const char *name)
{
    Onnx__FunctionProto *fn = OB_APPEND(&f->a, f->m->functions, f->m->n_functions,
                                        Onnx__FunctionProto, ONNX__FUNCTION_PROTO__INIT);
    fn->name = kaena_arena_strdup(&f->a, name);
    fn->domain = kaena_arena_strdup(&f->a, "local");
    fn->input = ob_words(&f->a, "p", &fn->n_input);
    fn->output = ob_words(&f->a, "q", &fn->n_output);
    return fn;
}

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

/* --- Models that are wrong -------------------------------------------------------------------- */

KTEST(onnx_refuse, operators_are_named_with_all_there_is_to_know)
{
    fixture f = begin(7, 13);
    unary(&f, "NoSuchOperator", "2");
    ob_output(&f.a, f.m, "z");
    ob_node(&f.a, f.m, "Other", "x", "z")->domain = kaena_arena_strdup(&f.a, "com.example");
    KTEST_FAILS(f.err, UNIMPLEMENTED,
                "node 'n_y': operator NoSuchOperator (domain 'ai.onnx', operator set 13) is not "
                "supported (2 nodes in all); also unsupported: Other",
                import(&f, NULL));
    cr_assert(strstr(f.err.hint, "list-operators"), "%s", f.err.hint);
    end(&f);
}

KTEST(onnx_refuse, subgraphs)
{
    fixture f = begin(7, 13);
    Onnx__NodeProto *n = unary(&f, "If", "1");
    Onnx__AttributeProto *a = ob_attr(&f.a, n, "then_branch", ONNX__ATTRIBUTE_TYPE__GRAPH);
    a->g = KAENA_NEW(&f.a, Onnx__GraphProto);
    *a->g = (Onnx__GraphProto)ONNX__GRAPH_PROTO__INIT;
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "it has no subgraph 'else_branch'", import(&f, NULL));
    n->op_type = kaena_arena_strdup(&f.a, "Relu");
    KTEST_FAILS(f.err, UNIMPLEMENTED, "it has a subgraph", import(&f, NULL));
    n->op_type = kaena_arena_strdup(&f.a, "Loop");
    n->n_attribute = 0;
    KTEST_FAILS(f.err, UNIMPLEMENTED, "it has no subgraph", import(&f, NULL));
    end(&f);
}

KTEST(onnx_refuse, versions_we_do_not_know)
{
    fixture f = begin(7, 99);
    unary(&f, "Relu", "2");
    KTEST_FAILS(f.err, UNIMPLEMENTED, "operator set 99 is newer than 21", import(&f, NULL));
    f.m->ir_version = 99;
    KTEST_FAILS(f.err, UNIMPLEMENTED, "IR version 99", import(&f, NULL));
    f.m->has_ir_version = 0;
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "no IR version", import(&f, NULL));
    end(&f);
    f = begin(7, 0);
    unary(&f, "Relu", "2");
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "does not say in which version", import(&f, NULL));
    end(&f);
}

KTEST(onnx_refuse, graphs_that_contradict_themselves)
{
    fixture f = begin(7, 13);
    ob_input(&f.a, f.m, "x", F32, "2");
    ob_output(&f.a, f.m, "y");
    ob_node(&f.a, f.m, "Add", "x c", "a");
    ob_node(&f.a, f.m, "Neg", "a", "b");
    ob_node(&f.a, f.m, "Neg", "b", "c");
    ob_node(&f.a, f.m, "Neg", "c", "y");
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "a cycle through node", import(&f, NULL));
    end(&f);

    f = begin(7, 13);
    unary(&f, "Relu", "2");
    ob_node(&f.a, f.m, "Neg", "x", "y");
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "value 'y' is defined twice", import(&f, NULL));
    end(&f);

    f = begin(7, 13);
    unary(&f, "Relu", "2");
    f.m->graph->node[0]->input[0] = kaena_arena_strdup(&f.a, "nowhere");
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "input 'nowhere' is made by no node", import(&f, NULL));
    end(&f);

    f = begin(7, 13);
    unary(&f, "Relu", "2");
    ob_output(&f.a, f.m, "missing");
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "output 'missing' is made by no node", import(&f, NULL));
    end(&f);

    f = begin(7, 13);
    unary(&f, "Add", "2");
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "node 'n_y' (Add): 1 inputs", import(&f, NULL));
    end(&f);
}

KTEST(onnx_refuse, lists_that_are_too_long)
{
    fixture f = begin(8, 13);
    Onnx__NodeProto *n = unary(&f, "Relu", "2");
    for (int i = 0; i < KCC_ONNX_MAX_ATTRIBUTES; i++)
        ob_int(&f.a, n, kaena_arena_printf(&f.a, "a%d", i), i);
    KTEST_OK(f.err, import(&f, NULL));
    ob_int(&f.a, n, "one_more", 1);
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "257 attributes", import(&f, NULL));
    n->n_attribute = 0;
    while (f.m->n_functions < KCC_ONNX_MAX_FUNCTIONS)
        (void)function(&f, "F");
    KTEST_OK(f.err, import(&f, NULL));
    (void)function(&f, "F");
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "4097 functions", import(&f, NULL));
    f.m->n_functions = 0;
    for (size_t i = f.m->n_opset_import; i <= KCC_ONNX_MAX_OPERATOR_SETS; i++) {
        Onnx__OperatorSetIdProto *o =
            OB_APPEND(&f.a, f.m->opset_import, f.m->n_opset_import, Onnx__OperatorSetIdProto,
                      ONNX__OPERATOR_SET_ID_PROTO__INIT);
        o->domain = kaena_arena_printf(&f.a, "d%zu", i);
        o->has_version = 1;
        o->version = 1;
    }
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "257 operator sets", import(&f, NULL));
    f.m->n_opset_import--;
    KTEST_OK(f.err, import(&f, NULL));
    end(&f);
}

KTEST(onnx_refuse, inputs_that_are_no_tensors)
{
    fixture f = begin(7, 13);
    unary(&f, "Relu", "2");
    f.m->graph->input[0]->type->value_case = ONNX__TYPE_PROTO__VALUE_MAP_TYPE;
    f.m->graph->input[0]->type->map_type = (ProtobufCBinaryData){0};
    KTEST_FAILS(f.err, UNIMPLEMENTED, "input 'x': maps are not supported", import(&f, NULL));
    f.m->graph->input[0] = ob_value(&f.a, "x", 14, "2");
    KTEST_FAILS(f.err, UNIMPLEMENTED, "complex64", import(&f, NULL));
    f.m->graph->input[0] = ob_value(&f.a, "x", 77, "2");
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "element type 77 does not exist", import(&f, NULL));
    end(&f);
}

KTEST(onnx_refuse, tensors_whose_data_does_not_fit)
{
    static const struct {
        int64_t dim;
        size_t bytes;
        const char *message;
    } cases[] = {
        {2, 7, "raw_data has 7 bytes, shape and type ask for 8"},
        {(int64_t)1 << 40, 8, "raw_data has 8 bytes"},
        {INT64_MAX, 8, "too many elements"},
        {-2, 8, "dimension 0 is -2"},
        {3, 0, "initializer 'w'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fixture f = begin(7, 13);
        float w[2] = {1, 2};
        ob_input(&f.a, f.m, "x", F32, "2");
        ob_output(&f.a, f.m, "y");
        ob_tensor(&f.a, f.m, "w", F32, cases[i].dim, cases[i].bytes ? w : NULL, cases[i].bytes);
        ob_node(&f.a, f.m, "Add", "x w", "y");
        KTEST_FAILS(f.err, INVALID_ARGUMENT, cases[i].message, import(&f, NULL));
        end(&f);
    }
}

/* --- Bytes that are wrong ----------------------------------------------------------------------
 */

KTEST(onnx_bytes, cut_and_flipped_files_do_no_harm)
{
    fixture f = begin(7, 9);
    float w[2] = {1, 2};
    ob_input(&f.a, f.m, "x", F32, "1 2 2");
    ob_output(&f.a, f.m, "y");
    ob_tensor(&f.a, f.m, "w", F32, 2, w, sizeof w);
    ob_node(&f.a, f.m, "Add", "x w", "s");
    ob_node(&f.a, f.m, "Softmax", "s", "y");
    size_t size;
    uint8_t *good = ob_pack(&f.a, f.m, &size);
    for (size_t i = 0; i < 2 * size; i++) {
        kaena_arena a;
        kaena_arena_init(&a, (size_t)64 << 20);
        uint8_t *bytes = kaena_arena_memdup(&a, good, size);
        if (i >= size)
            bytes[i - size] ^= (uint8_t)(1u << (i % 8));
        kaena_status s = kcc_import_onnx_bytes(&a, bytes, i < size ? i : size, NULL, NULL, &f.g,
                                               &f.info, &f.err);
        cr_assert(s == KAENA_OK || f.err.what[0]);
        kaena_arena_fini(&a);
    }
    end(&f);
}

KTEST(onnx_bytes, deep_nesting_is_refused)
{
    /* graph { node { attribute { g { node ... */
    static const uint8_t tags[3] = {0x0a, 0x2a, 0x32};
    fixture f = begin(7, 13);
    uint8_t *bytes = kaena_arena_alloc(&f.a, 65536), *at = bytes + 65536;
    size_t size = 0;
    for (int level = 0; level < 9999; level++) {
        uint8_t head[8], *h = head;
        *h++ = level == 9998 ? 0x3a : tags[(9997 - level) % 3];
        for (size_t v = size; v || h == head + 1; v >>= 7)
            *h++ = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
        at -= h - head;
        memcpy(at, head, (size_t)(h - head));
        size += (size_t)(h - head);
    }
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "nested more than 100 deep",
                kcc_import_onnx_bytes(&f.a, at, size, NULL, NULL, &f.g, &f.info, &f.err));
    end(&f);
}

KTEST(onnx_bytes, expansion_is_bounded)
{
    /* A graph of four million nodes of two bytes each. */
    fixture f = begin(7, 13);
    size_t n = (size_t)8 << 20;
    uint8_t *bytes = kaena_arena_alloc(&f.a, n + 5);
    memcpy(bytes, (uint8_t[]){0x3a, 0x80, 0x80, 0x80, 0x04}, 5);
    for (size_t i = 0; i < n; i += 2)
        bytes[5 + i] = 0x0a;
    KTEST_FAILS(f.err, RESOURCE_EXHAUSTED, "expands to more than",
                kcc_import_onnx_bytes(&f.a, bytes, n + 5, NULL, NULL, &f.g, &f.info, &f.err));
    end(&f);
}

KTEST(onnx_bytes, names_with_a_nul_byte_are_refused)
{
    fixture f = begin(7, 13);
    unary(&f, "Relu", "2");
    size_t size;
    uint8_t *bytes = ob_pack(&f.a, f.m, &size);
    uint8_t *name = memmem(bytes, size, "n_y", 3);
    cr_assert(name);
    name[1] = 0;
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "field 'name' of NodeProto has a NUL byte",
                kcc_import_onnx_bytes(&f.a, bytes, size, NULL, NULL, &f.g, &f.info, &f.err));
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "no IR version",
                kcc_import_onnx_bytes(&f.a, NULL, 0, NULL, NULL, &f.g, &f.info, &f.err));
    end(&f);
}

/* --- External data -----------------------------------------------------------------------------
 */

/* y = x + w with w in another file; |entries|: key, value, ..., NULL. Imports from |dir|. */
static kaena_status import_external(fixture *f, const char *dir, const char *const *entries)
{
    *f = begin(7, 13);
    ob_input(&f->a, f->m, "x", F32, "2");
    ob_output(&f->a, f->m, "y");
    Onnx__TensorProto *t = ob_tensor(&f->a, f->m, "w", F32, 2, NULL, 0);
    t->has_data_location = 1;
    t->data_location = 1;
    for (; *entries; entries += 2) {
        Onnx__StringStringEntryProto *e =
            OB_APPEND(&f->a, t->external_data, t->n_external_data, Onnx__StringStringEntryProto,
                      ONNX__STRING_STRING_ENTRY_PROTO__INIT);
        e->key = kaena_arena_strdup(&f->a, entries[0]);
        e->value = kaena_arena_strdup(&f->a, entries[1]);
    }
    ob_node(&f->a, f->m, "Add", "x w", "y");
    size_t size;
    void *bytes = ob_pack(&f->a, f->m, &size);
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/model.onnx", dir);
    KTEST_OK(f->err, kaena_file_write(path, bytes, size, &f->err));
    return kcc_import_onnx(&f->a, path, NULL, &f->g, &f->info, &f->err);
}

KTEST(onnx_external, data_lies_beneath_the_model)
{
    char dir[] = "/tmp/kaena-test-XXXXXX", path[4200], model[4200];
    cr_assert(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/model", dir);
    cr_assert(mkdir(path, 0700) == 0);
    (void)snprintf(model, sizeof model, "%s/model", dir);
    fixture f;
    kaena_err err;
    float data[3] = {99, 10, 20};
    kaena_err_init(&err);
    (void)snprintf(path, sizeof path, "%s/model/w.bin", dir);
    KTEST_OK(err, kaena_file_write(path, data, sizeof data, &err));
    (void)snprintf(path, sizeof path, "%s/secret.bin", dir);
    KTEST_OK(err, kaena_file_write(path, data, sizeof data, &err));
    (void)snprintf(path, sizeof path, "%s/model/link.bin", dir);
    cr_assert(symlink("../secret.bin", path) == 0);

    cr_assert(import_external(&f, model,
                              (const char *[]){"location", "w.bin", "offset", "4", "length", "8",
                                               NULL}) == KAENA_OK,
              "%s", f.err.what);
    const kgr_value *w = kgr_value_find(f.g, "w");
    cr_assert(w && ((const float *)w->t.data)[1] == 20);
    end(&f);

    static const struct {
        const char *entries[7];
        kaena_status status;
        const char *message;
    } cases[] = {
        {{"location", "../secret.bin", NULL}, KAENA_INVALID_ARGUMENT, "below the model's"},
        {{"location", "/etc/passwd", NULL}, KAENA_INVALID_ARGUMENT, "below the model's"},
        {{"location", "link.bin", NULL}, KAENA_PERMISSION_DENIED, "symbolic link"},
        {{"location", "none.bin", NULL}, KAENA_NOT_FOUND, "none.bin"},
        {{"location", ".", NULL}, KAENA_INVALID_ARGUMENT, "initializer 'w'"},
        {{"location", "w.bin", "offset", "8", NULL}, KAENA_INVALID_ARGUMENT, "past its end"},
        {{"location", "w.bin", "offset", "18446744073709551615", NULL},
         KAENA_INVALID_ARGUMENT,
         "past its end"},
        {{"location", "w.bin", "offset", "-4", NULL}, KAENA_INVALID_ARGUMENT, "not a number"},
        {{"location", "w.bin", "length", "4", NULL}, KAENA_INVALID_ARGUMENT, "has length 4"},
        {{"offset", "0", NULL}, KAENA_INVALID_ARGUMENT, "without a location"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kaena_status s = import_external(&f, model, cases[i].entries);
        cr_assert(s == cases[i].status && strstr(f.err.what, cases[i].message), "%zu: %s", i,
                  f.err.what);
        end(&f);
    }
    static const char *const made[] = {"model/model.onnx", "model/w.bin", "model/link.bin",
                                       "secret.bin"};
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", dir, made[i]);
        cr_assert(unlink(path) == 0);
    }
    cr_assert(rmdir(model) == 0 && rmdir(dir) == 0);
}
