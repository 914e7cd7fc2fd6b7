/* Subgraphs of ONNX nodes become closed bodies. */
#include <string.h>

#include "ktest.h"
#include "onnx_build.h"
#include "onnx_import.h"

typedef struct fixture {
    kaena_arena a;
    kaena_err err;
    Onnx__ModelProto *m;
    kgr_graph *g;
} fixture;

static fixture begin(int64_t opset)
{
    fixture f;
    memset(&f, 0, sizeof f);
    kaena_arena_init(&f.a, 0);
    kaena_err_init(&f.err);
    f.m = ob_model(&f.a, 8, opset);
    return f;
}

static void end(fixture *f)
{
    kaena_arena_fini(&f->a);
}

static kaena_status import(fixture *f)
{
    size_t size;
    void *data = ob_pack(&f->a, f->m, &size);
    kcc_import_info info;
    KAENA_TRY(kcc_import_onnx_bytes(&f->a, data, size, NULL, NULL, &f->g, &info, &f->err));
    return kgr_check(f->g, &f->err);
}

/* A model of its own, whose graph becomes an attribute. */
static Onnx__ModelProto *subgraph(fixture *f, const char *name)
{
    Onnx__ModelProto *m = ob_model(&f->a, 8, 13);
    m->graph->name = kaena_arena_strdup(&f->a, name);
    return m;
}

static void give(fixture *f, Onnx__NodeProto *n, const char *attr, const Onnx__ModelProto *m)
{
    ob_attr(&f->a, n, attr, ONNX__ATTRIBUTE_TYPE__GRAPH)->g = m->graph;
}

static void expect(fixture *f, const char *want)
{
    kaena_strbuf text = {0};
    KTEST_OK(f->err, import(f));
    kgr_print(f->g, false, &text);
    cr_assert_str_eq(text.data, want);
    kaena_strbuf_fini(&text);
}

/* "h" is captured by both, "k" by one; "t" of the second branch hides the one outside; the constant
 * goes into the bodies. */
KTEST(onnx_control, captures_become_operands)
{
    fixture f = begin(13);
    ob_input(&f.a, f.m, "c", KAENA_BOOL, "");
    ob_input(&f.a, f.m, "x", KAENA_F32, "2");
    Onnx__ModelProto *yes = subgraph(&f, "yes"), *no = subgraph(&f, "no");
    ob_node(&f.a, yes, "Add", "h t", "a");
    ob_node(&f.a, yes, "Add", "a w", "b");
    ob_output(&f.a, yes, "b");
    ob_node(&f.a, no, "Neg", "h", "t");
    ob_node(&f.a, no, "Neg", "t", "b");
    ob_output(&f.a, no, "b");
    Onnx__NodeProto *n = ob_node(&f.a, f.m, "If", "c", "y");
    give(&f, n, "then_branch", yes);
    give(&f, n, "else_branch", no);
    /* Behind the If in the file: the subgraphs' needs sort the nodes. */
    ob_node(&f.a, f.m, "Relu", "x", "h");
    ob_node(&f.a, f.m, "Abs", "x", "t");
    ob_tensor(&f.a, f.m, "w", KAENA_F32, 2, (float[2]){1, 2}, 8);
    ob_output(&f.a, f.m, "y");
    expect(&f, "graph \"test\" {\n"
               "  input %c: bool[]\n"
               "  input %x: float32[2]\n"
               "  %h: float32[2] = Relu(%x) @\"n_h\"\n"
               "  %t: float32[2] = Abs(%x) @\"n_t\"\n"
               "  %y: none[*] = If(%c, %h, %t) @\"n_y\" body \"yes\" {\n"
               "    input %h: float32[2]\n"
               "    input %t: float32[2]\n"
               "    const %w: float32[2] = {1.0, 2.0}\n"
               "    %a: none[*] = Add(%h, %t) @\"n_a\"\n"
               "    %b: none[*] = Add(%a, %w) @\"n_b\"\n"
               "    output %b\n"
               "  } body \"no\" {\n"
               "    input %h: float32[2]\n"
               "    input %t: float32[2]\n"
               "    %t_2: none[*] = Neg(%h) @\"n_t\"\n"
               "    %b: none[*] = Neg(%t_2) @\"n_b\"\n"
               "    output %b\n"
               "  }\n"
               "  output %y\n"
               "}\n");
    end(&f);
}

/* A name of the main graph goes through every level; an output may be a captured value, and listed
 * twice. */
KTEST(onnx_control, captures_go_through_every_level)
{
    fixture f = begin(13);
    ob_input(&f.a, f.m, "c", KAENA_BOOL, "");
    ob_input(&f.a, f.m, "x", KAENA_F32, "2");
    Onnx__ModelProto *outer = subgraph(&f, "outer"), *inner = subgraph(&f, "inner"),
                     *other = subgraph(&f, "other");
    ob_output(&f.a, inner, "x");
    ob_output(&f.a, inner, "x");
    ob_node(&f.a, other, "Neg", "x", "p");
    ob_output(&f.a, other, "p");
    ob_output(&f.a, other, "x");
    Onnx__NodeProto *n = ob_node(&f.a, outer, "If", "c", "u v");
    give(&f, n, "then_branch", inner);
    give(&f, n, "else_branch", other);
    ob_node(&f.a, outer, "Add", "u v", "s");
    ob_output(&f.a, outer, "s");
    n = ob_node(&f.a, f.m, "If", "c", "y");
    give(&f, n, "then_branch", outer);
    give(&f, n, "else_branch", outer);
    ob_output(&f.a, f.m, "y");
    KTEST_OK(f.err, import(&f));
    kgr_node *node = f.g->last;
    cr_assert(node->n_in == 3 && node->in[1]->is_input && node->in[2]->is_input);
    KTEST_OK(f.err, kgr_infer(f.g, true, &f.err));
    cr_assert(kaena_shape_equal(&f.g->outputs[0]->t.shape, &(kaena_shape){1, {2}}));
    bool c = false;
    float x[2] = {1, -2};
    kop_tensor in[2] = {{.dtype = KAENA_BOOL, .data = &c},
                        {.dtype = KAENA_F32, .shape = {1, {2}}, .data = x}},
               out;
    KTEST_OK(f.err, kgr_eval(f.g, in, &out, &(kop_env){.arena = &f.a}, &f.err));
    cr_assert(((float *)out.data)[0] == 0 && ((float *)out.data)[1] == 0);
    c = true;
    KTEST_OK(f.err, kgr_eval(f.g, in, &out, &(kop_env){.arena = &f.a}, &f.err));
    cr_assert(((float *)out.data)[0] == 2 && ((float *)out.data)[1] == -4);
    end(&f);
}

/* Old forms inside of subgraphs are translated: Clip-6 wants the type of what it clips. */
KTEST(onnx_control, old_forms_inside)
{
    fixture f = begin(6);
    ob_input(&f.a, f.m, "c", KAENA_BOOL, "");
    ob_input(&f.a, f.m, "x", KAENA_F64, "2");
    Onnx__ModelProto *yes = subgraph(&f, "yes");
    Onnx__NodeProto *clip = ob_node(&f.a, yes, "Clip", "h", "b");
    ob_float(&f.a, clip, "min", 0.5f);
    ob_output(&f.a, yes, "b");
    ob_node(&f.a, f.m, "Neg", "x", "h");
    Onnx__NodeProto *n = ob_node(&f.a, f.m, "If", "c", "y");
    give(&f, n, "then_branch", yes);
    give(&f, n, "else_branch", yes);
    ob_output(&f.a, f.m, "y");
    KTEST_OK(f.err, import(&f));
    KTEST_OK(f.err, kgr_infer(f.g, true, &f.err));
    cr_assert(f.g->outputs[0]->t.dtype == KAENA_F64);
    end(&f);
}

/* The only subgraph of a chain of |depth| Ifs. */
static void nest(fixture *f, Onnx__ModelProto *m, int depth)
{
    if (depth == 0) {
        ob_node(&f->a, m, "Neg", "x", "y");
        ob_output(&f->a, m, "y");
        return;
    }
    Onnx__ModelProto *inner = subgraph(f, "inner");
    nest(f, inner, depth - 1);
    Onnx__NodeProto *n = ob_node(&f->a, m, "If", "c", "y");
    give(f, n, "then_branch", inner);
    Onnx__ModelProto *other = subgraph(f, "other");
    ob_output(&f->a, other, "x");
    give(f, n, "else_branch", other);
    ob_output(&f->a, m, "y");
}

KTEST(onnx_control, what_is_wrong_is_named)
{
    static const struct {
        const char *op, *attr, *in, *out, *reads, *says;
    } cases[] = {
        {"If", "then_branch", "c", "y", "nowhere",
         "node 'n_y' (If): its subgraph's input 'nowhere' is made by no node"},
        {"If", "then_branch", "c", "y", "y", "the graph has a cycle through node 'n_y' (If)"},
        {"If", "then_branch", "c", "y z", "x", "2 outputs; its subgraph gives 1"},
        {"If", "then_branch", "c x", "y", "x", "it takes one input"},
        {"If", "body", "c", "y", "x", "it has no subgraph 'then_branch'"},
        {"Loop", "body", "x c", "y", "x", "it has 0 inputs, the node gives it 2"},
        {"Scan", "body", "x", "y", "x", "num_scan_inputs is 0 of 1 inputs"},
        {"SequenceMap", "body", "x", "y", "x", "it has 0 inputs, the node gives it 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f = begin(17);
        ob_input(&f.a, f.m, "c", KAENA_BOOL, "");
        ob_input(&f.a, f.m, "x", KAENA_F32, "2");
        Onnx__ModelProto *body = subgraph(&f, "body");
        ob_node(&f.a, body, "Neg", cases[i].reads, "b");
        ob_output(&f.a, body, "b");
        Onnx__NodeProto *n = ob_node(&f.a, f.m, cases[i].op, cases[i].in, cases[i].out);
        give(&f, n, cases[i].attr, body);
        if (strcmp(cases[i].attr, "then_branch") == 0)
            give(&f, n, "else_branch", body);
        ob_output(&f.a, f.m, "y");
        KTEST_FAILS(f.err, INVALID_ARGUMENT, cases[i].says, import(&f));
        end(&f);
    }
}

KTEST(onnx_control, nesting_is_limited)
{
    for (int depth = 31; depth <= 33; depth++) {
        fixture f = begin(13);
        ob_input(&f.a, f.m, "c", KAENA_BOOL, "");
        ob_input(&f.a, f.m, "x", KAENA_F32, "2");
        nest(&f, f.m, depth);
        if (depth <= 31)
            KTEST_OK(f.err, import(&f));
        else
            KTEST_FAILS(f.err, INVALID_ARGUMENT, "nested", import(&f));
        end(&f);
    }
}

/* A batch of two, each with its own state: the state runs along the second dimension. */
KTEST(onnx_control, scan_of_operator_set_8_has_a_batch)
{
    fixture f = begin(8);
    ob_input(&f.a, f.m, "s", KAENA_F32, "2 1");
    ob_input(&f.a, f.m, "x", KAENA_F32, "2 3 1");
    Onnx__ModelProto *body = subgraph(&f, "body");
    ob_input(&f.a, body, "a", KAENA_F32, "1");
    ob_input(&f.a, body, "b", KAENA_F32, "1");
    ob_node(&f.a, body, "Add", "a b", "t");
    ob_node(&f.a, body, "Identity", "t", "u");
    ob_output(&f.a, body, "t");
    ob_output(&f.a, body, "u");
    Onnx__NodeProto *n = ob_node(&f.a, f.m, "Scan", "- s x", "y z");
    n->input[0] = kaena_arena_strdup(&f.a, "");
    give(&f, n, "body", body);
    ob_int(&f.a, n, "num_scan_inputs", 1);
    ob_ints(&f.a, n, "directions", 1, (int64_t[]){1});
    ob_output(&f.a, f.m, "y");
    ob_output(&f.a, f.m, "z");
    KTEST_OK(f.err, import(&f));
    KTEST_OK(f.err, kgr_infer(f.g, true, &f.err));
    cr_assert(kaena_shape_equal(&f.g->outputs[1]->t.shape, &(kaena_shape){3, {2, 3, 1}}));
    float s[2] = {0, 100}, x[6] = {1, 2, 3, 4, 5, 6};
    kop_tensor in[2] = {{.dtype = KAENA_F32, .shape = {2, {2, 1}}, .data = s},
                        {.dtype = KAENA_F32, .shape = {3, {2, 3, 1}}, .data = x}},
               out[2];
    KTEST_OK(f.err, kgr_eval(f.g, in, out, &(kop_env){.arena = &f.a}, &f.err));
    static const float final[2] = {6, 115}, all[6] = {3, 5, 6, 106, 111, 115};
    cr_assert(memcmp(out[0].data, final, sizeof final) == 0);
    cr_assert(memcmp(out[1].data, all, sizeof all) == 0);
    end(&f);
}
