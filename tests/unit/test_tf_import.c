/* TensorFlow's frozen graphs: what they become, and what is said about bad ones. */
#include <stdlib.h>
#include <string.h>

#include "ktest.h"
#include "tf_import.h"
#include "tf_translate.h"

typedef struct fixture {
    kaena_arena a;
    kaena_err err;
    kgr_graph *g;
    kcc_import_info info;
} fixture;

static kaena_status import(fixture *f, const char *text, const char *io_json)
{
    kcc_io_config io;
    kaena_err_init(&f->err);
    if (io_json)
        KAENA_TRY(kcc_io_config_parse(&f->a, io_json, &io, &f->err));
    return kcc_import_tf_bytes(&f->a, text, strlen(text), /* text= */ true, io_json ? &io : NULL,
                               &f->g, &f->info, &f->err);
}

static fixture begin(void)
{
    fixture f = {0};
    kaena_arena_init(&f.a, 0);
    return f;
}

/* The values of the only output for |x| (may be NULL: no input). */
static kop_tensor evaluate(fixture *f, const float *x)
{
    kop_env env = {.arena = &f->a};
    kop_tensor in = f->g->n_inputs ? f->g->inputs[0]->t : (kop_tensor){0}, out;
    in.data = (void *)(uintptr_t)x;
    KTEST_OK(f->err, kgr_infer(f->g, true, &f->err));
    KTEST_OK(f->err, kgr_check(f->g, &f->err));
    KTEST_OK(f->err, kgr_eval(f->g, &in, &out, &env, &f->err));
    return out;
}

#define X(shape)                                                                                   \
    "node{name:'x' op:'Placeholder' attr{key:'dtype' value{type:DT_FLOAT}} "                       \
    "attr{key:'shape' value{shape{" shape "}}}} versions{producer:26} "
#define NODE(name, op, inputs, rest)                                                               \
    "node{name:'" name "' op:'" op "' input:[" inputs "] " rest "} "
#define INTS(name, n, values)                                                                      \
    "node{name:'" name "' op:'Const' attr{key:'value' value{tensor{dtype:"                         \
    "DT_INT32 tensor_shape{dim{size:" n "}} int_val:[" values "]}}}} "
#define LIST(key, values) "attr{key:'" key "' value{list{i:[" values "]}}} "
#define TEXT(key, value) "attr{key:'" key "' value{s:'" value "'}} "

KTEST(tf_import, the_boundary_has_the_frameworks_names)
{
    fixture f = begin();
    static const char text[] = X("dim{size:-1} dim{size:3}") NODE("a", "Relu", "'x'", "")
        NODE("b", "Neg", "'a'", "") NODE("c", "Exp", "'a'", "") NODE("save", "NoOp", "'^b'", "");
    KTEST_OK(f.err, import(&f, text, "{\"inputs\":{\"x\":[[2,3],\"float32\"]}}"));
    cr_assert(f.g->n_inputs == 1 && f.g->n_outputs == 2);
    cr_assert_str_eq(f.g->inputs[0]->name, "x:0");
    cr_assert_str_eq(kgr_output_name(f.g->outputs[0]), "b:0");
    cr_assert_str_eq(kgr_output_name(f.g->outputs[1]), "c:0");
    cr_assert(f.g->inputs[0]->t.shape.dim[0] == 2);
    cr_assert_str_eq(f.info.framework, "TENSORFLOW");
    cr_assert(f.info.n_nodes == 5);
    /* Cut in the middle. */
    KTEST_OK(f.err,
             import(&f, text, "{\"inputs\":{\"a:0\":[[4],\"float32\"]},\"outputs\":[\"c\"]}"));
    cr_assert(f.g->n_inputs == 1 && f.g->n_outputs == 1 && f.g->n_nodes == 2);
    cr_assert_str_eq(f.g->inputs[0]->name, "a:0");
    cr_assert_str_eq(kgr_output_name(f.g->outputs[0]), "c:0");
    kaena_arena_fini(&f.a);
}

KTEST(tf_import, constants_in_all_encodings)
{
    static const struct {
        const char *tensor;
        kaena_dtype dtype;
        double want[4];
    } cases[] = {
        {"dtype:DT_FLOAT float_val:[1,2,3,4]", KAENA_F32, {1, 2, 3, 4}},
        {"dtype:DT_FLOAT float_val:[1,2]", KAENA_F32, {1, 2, 2, 2}},
        {"dtype:DT_FLOAT float_val:7", KAENA_F32, {7, 7, 7, 7}},
        {"dtype:DT_FLOAT", KAENA_F32, {0, 0, 0, 0}},
        {"dtype:DT_DOUBLE double_val:[1,-2.5]", KAENA_F64, {1, -2.5, -2.5, -2.5}},
        {"dtype:DT_HALF half_val:[15360,49152]", KAENA_F16, {1, -2, -2, -2}},
        {"dtype:DT_BFLOAT16 half_val:[16256]", KAENA_BF16, {1, 1, 1, 1}},
        {"dtype:DT_INT8 int_val:[-1,127]", KAENA_I8, {-1, 127, 127, 127}},
        {"dtype:DT_UINT16 int_val:[65535]", KAENA_U16, {65535, 65535, 65535, 65535}},
        {"dtype:DT_INT64 int64_val:[-5]", KAENA_I64, {-5, -5, -5, -5}},
        {"dtype:DT_UINT32 uint32_val:[4294967295]",
         KAENA_U32,
         {4294967295., 4294967295., 4294967295., 4294967295.}},
        {"dtype:DT_BOOL bool_val:[true,false]", KAENA_BOOL, {1, 0, 0, 0}},
        {"dtype:DT_INT16 tensor_content:'\\001\\000\\377\\377\\003\\000\\004\\000'",
         KAENA_I16,
         {1, -1, 3, 4}},
        {"dtype:DT_BOOL tensor_content:'\\000\\007\\001\\000'", KAENA_BOOL, {0, 1, 1, 0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fixture f = begin();
        char text[500];
        (void)snprintf(text, sizeof text,
                       "node{name:'c' op:'Const' attr{key:'value' value{tensor{%s "
                       "tensor_shape{dim{size:4}}}}}} node{name:'y' op:'Identity' input:'c'}",
                       cases[i].tensor);
        KTEST_OK(f.err, import(&f, text, NULL));
        kop_tensor out = evaluate(&f, NULL);
        cr_assert(out.dtype == cases[i].dtype, "%s", cases[i].tensor);
        for (size_t k = 0; k < 4; k++)
            cr_assert(kop_get_float(&out, k) == cases[i].want[k], "%s", cases[i].tensor);
        kaena_arena_fini(&f.a);
    }
}

KTEST(tf_import, strings_are_constants_too)
{
    fixture f = begin();
    KTEST_OK(
        f.err,
        import(
            &f,
            "node{name:'c' op:'Const' attr{key:'value' value{tensor{dtype:DT_STRING "
            "tensor_shape{dim{size:2}} string_val:'ab'}}}} node{name:'y' op:'Identity' input:'c'}",
            NULL));
    kop_tensor out = evaluate(&f, NULL);
    const kaena_string *s = out.data;
    cr_assert(out.dtype == KAENA_STRING && s[1].size == 2 && memcmp(s[1].data, "ab", 2) == 0);
    kaena_arena_fini(&f.a);
}

/* One channel of ones through a filter of ones: each result counts the pixels its window sees. */
KTEST(tf_import, padding_of_convolutions)
{
    static const struct {
        const char *padding;
        int64_t rows;
        float corner;
    } cases[] = {
        {TEXT("padding", "SAME"), 2, 9},
        {TEXT("padding", "VALID"), 1, 9},
        {TEXT("padding", "EXPLICIT") LIST("explicit_paddings", "0,0,1,0,1,0,0,0"), 2, 4},
    };
    static const float ones[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fixture f = begin();
        char text[2000];
        (void)snprintf(
            text, sizeof text,
            X("dim{size:1} dim{size:4} dim{size:4} dim{size:1}") "node{name:'w' op:'Const' "
                                                                 "attr{key:'value' "
                                                                 "value{tensor{dtype:DT_FLOAT "
                                                                 "tensor_shape{dim{size:3} "
                                                                 "dim{size:3} dim{size:1} "
                                                                 "dim{size:1}} "
                                                                 "float_val:1}}}} " NODE(
                                                                     "y", "Conv2D", "'x','w'",
                                                                     LIST("strides",
                                                                          "1,2,2,1") "%s"),
            cases[i].padding);
        KTEST_OK(f.err, import(&f, text, NULL));
        kop_tensor out = evaluate(&f, ones);
        cr_assert(out.shape.rank == 4 && out.shape.dim[3] == 1);
        cr_assert(out.shape.dim[1] == cases[i].rows, "%s", cases[i].padding);
        cr_assert(((const float *)out.data)[0] == cases[i].corner, "%s", cases[i].padding);
        kaena_arena_fini(&f.a);
    }
}

KTEST(tf_import, slices_with_all_masks)
{
    fixture f = begin();
    /* x[..., 1:0:-1, newaxis, -1] of [2,3,4] */
    static const char text[] = X("dim{size:2} dim{size:3} dim{size:4}") INTS("b", "4", "0,1,0,-1")
        INTS("e", "4", "0,0,0,0") INTS("s", "4", "1,-1,1,1")
            NODE("y", "StridedSlice", "'x','b','e','s'",
                 "attr{key:'ellipsis_mask' value{i:1}} attr{key:'new_axis_mask' value{i:4}} "
                 "attr{key:'shrink_axis_mask' value{i:8}}");
    float x[24];
    for (int i = 0; i < 24; i++)
        x[i] = (float)i;
    KTEST_OK(f.err, import(&f, text, NULL));
    kop_tensor out = evaluate(&f, x);
    cr_assert(out.shape.rank == 3 && out.shape.dim[0] == 2 && out.shape.dim[1] == 1);
    cr_assert(((const float *)out.data)[0] == 7 && ((const float *)out.data)[1] == 19);
    kaena_arena_fini(&f.a);
}

KTEST(tf_import, bad_graphs_are_explained)
{
    static const struct {
        const char *text, *io;
        kaena_status status;
        const char *message;
    } cases[] = {
        {"", NULL, KAENA_INVALID_ARGUMENT, "no node in it"},
        {"node{op:'A'}", NULL, KAENA_INVALID_ARGUMENT, "node number 0 has no name"},
        {"node{name:'a' op:'NoOp'} node{name:'a' op:'NoOp'}", NULL, KAENA_INVALID_ARGUMENT,
         "two nodes 'a'"},
        {NODE("a", "Relu", "'b'", ""), NULL, KAENA_INVALID_ARGUMENT,
         "node 'a' (Relu): input 0: the graph has no node 'b'"},
        {NODE("a", "Relu", "'a:99999999'", ""), NULL, KAENA_INVALID_ARGUMENT,
         "is not the name of a tensor"},
        {NODE("a", "Relu", "'b'", "") NODE("b", "Relu", "'a'", ""), "{\"outputs\":[\"a:0\"]}",
         KAENA_INVALID_ARGUMENT, "the graph has a cycle"},
        {X("dim{size:1}") NODE("a", "Relu", "'x'", "") NODE("b", "Relu", "'a:1'", ""), NULL,
         KAENA_INVALID_ARGUMENT, "node 'a' (Relu) has no result 1"},
        {X("dim{size:1}") NODE("a", "Relu", "", ""), NULL, KAENA_INVALID_ARGUMENT,
         "node 'a' (Relu): 0 inputs"},
        {X("dim{size:1}") NODE("a", "Warp", "'x'", "") NODE("b", "Woof", "'a'", ""), NULL,
         KAENA_UNIMPLEMENTED,
         "node 'a': TensorFlow operator Warp is not supported (2 nodes in all); also unsupported: "
         "Woof"},
        {X("dim{size:-1}") NODE("a", "Relu", "'x'", ""), NULL, KAENA_FAILED_PRECONDITION,
         "input 'x:0' has the shape [?]"},
        {X("unknown_rank:true") NODE("a", "Relu", "'x'", ""), NULL, KAENA_FAILED_PRECONDITION,
         "not even its rank"},
        {X("dim{size:2}") NODE("a", "Relu", "'x'", ""), "{\"inputs\":{\"x:0\":[[3],\"float32\"]}}",
         KAENA_INVALID_ARGUMENT, "the model says [2]"},
        {X("dim{size:2}") NODE("a", "Relu", "'x'", ""), "{\"inputs\":{\"x:0\":[[2],\"int32\"]}}",
         KAENA_INVALID_ARGUMENT, "the model says float32"},
        {X("dim{size:2}") NODE("a", "Relu", "'x'", ""), "{\"inputs\":{\"z\":[[2],\"int32\"]}}",
         KAENA_INVALID_ARGUMENT, "names input 'z'; the model's inputs are 'x:0'"},
        {X("dim{size:2}") NODE("a", "Relu", "'x'", ""), "{\"outputs\":[\"q\"]}",
         KAENA_INVALID_ARGUMENT, "names output 'q'"},
        {X("dim{size:2}") NODE("a", "Add", "'x','x'", "")
             NODE("b", "Cast", "'a'", "attr{key:'DstT' value{i:3}}"),
         NULL, KAENA_INVALID_ARGUMENT, "node 'b' (Cast): attribute 'DstT' is not a type"},
        {X("dim{size:2}") NODE("b", "Cast", "'x'", "attr{key:'DstT' value{type:DT_COMPLEX64}}"),
         NULL, KAENA_UNIMPLEMENTED, "complex64"},
        {"node{name:'c' op:'Const' attr{key:'value' value{tensor{dtype:DT_FLOAT "
         "tensor_shape{dim{size:1099511627776}}}}}} " NODE("y", "Identity", "'c'", ""),
         NULL, KAENA_RESOURCE_EXHAUSTED, "node 'c' (Const)"},
        {"node{name:'c' op:'Const' attr{key:'value' value{tensor{dtype:DT_FLOAT "
         "tensor_shape{dim{size:3}} tensor_content:'abcd'}}}} " NODE("y", "Identity", "'c'", ""),
         NULL, KAENA_INVALID_ARGUMENT, "4 bytes of content for 3 elements of 4"},
        {"node{name:'c' op:'Const' attr{key:'value' value{tensor{dtype:DT_FLOAT "
         "tensor_shape{dim{size:1}} float_val:[1,2]}}}} " NODE("y", "Identity", "'c'", ""),
         NULL, KAENA_INVALID_ARGUMENT, "2 values for 1 elements"},
        {"node{name:'c' op:'Const'} " NODE("y", "Identity", "'c'", ""), NULL,
         KAENA_INVALID_ARGUMENT, "attribute 'value' is not a tensor"},
        {X("dim{size:1} dim{size:2} dim{size:2} dim{size:1}")
             NODE("y", "MaxPool", "'x'", LIST("ksize", "1,2,2,1") TEXT("padding", "MOST")),
         NULL, KAENA_INVALID_ARGUMENT, "'padding' is 'MOST'"},
        {X("dim{size:1} dim{size:2} dim{size:2} dim{size:1}")
             NODE("y", "MaxPool", "'x'", LIST("ksize", "1,2,2,3") TEXT("padding", "SAME")),
         NULL, KAENA_UNIMPLEMENTED, "of batch or channels"},
        {X("dim{size:2}") NODE("y", "ExpandDims", "'x','x'", ""), NULL, KAENA_UNIMPLEMENTED,
         "is not known at compile time"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fixture f = begin();
        kaena_status s = import(&f, cases[i].text, cases[i].io);
        cr_assert(s == cases[i].status, "case %zu: %s", i, f.err.what);
        cr_assert(strstr(f.err.what, cases[i].message), "case %zu: %s", i, f.err.what);
        kaena_arena_fini(&f.a);
    }
}

/* A chain that recursion or a search per node would not survive. */
KTEST(tf_import, a_long_chain_is_no_problem)
{
    enum { N = 100000 };
    fixture f = begin();
    kaena_strbuf text = {0};
    kaena_strbuf_printf(&text, "%s", X("dim{size:2}"));
    for (int i = N - 1; i > 0; i--) /* the last node first */
        kaena_strbuf_printf(&text, "node{name:'n%d' op:'Neg' input:'n%d'} ", i, i - 1);
    kaena_strbuf_printf(&text,
                        "node{name:'n0' op:'Neg' input:'x'} "
                        "node{name:'y' op:'Relu' input:'n%d'}",
                        N - 1);
    KTEST_OK(f.err, import(&f, text.data, NULL));
    cr_assert(f.g->n_nodes == N + 2, "%u", f.g->n_nodes);
    kaena_strbuf_fini(&text);
    kaena_arena_fini(&f.a);
}

KTEST(tf_import, the_table_is_sorted_within_families_and_complete)
{
    for (uint32_t i = 0; tf_op_at(i); i++) {
        const tf_op_row *row = tf_op_at(i);
        cr_assert(tf_op_find(row->name) == row, "%s is there twice", row->name);
        cr_assert(row->min_in <= row->max_in, "%s", row->name);
    }
    cr_assert(!tf_op_find("NoSuchOperator"));
}
