/* Nodes with bodies and values that are no tensors: text, binary, check, inference, evaluation. */
#include <string.h>

#include "graph.h"
#include "ktest.h"

static kgr_graph *parse(kaena_arena *a, const char *text)
{
    kgr_graph *g = NULL;
    kaena_err err;
    KTEST_OK(err, kgr_parse(a, text, strlen(text), &g, &err));
    return g;
}

static void check(const kgr_graph *g)
{
    kaena_err err;
    KTEST_OK(err, kgr_check(g, &err));
}

static const char branches[] = "graph \"g\" {\n"
                               "  input %c: bool[]\n"
                               "  input %x: float32[2]\n"
                               "  input %s: sequence(float32[?])\n"
                               "  input %o: optional_sequence(int8[*])\n"
                               "  %y: float32[2] = If(%c, %x) @\"if\" host \"why\" body \"yes\" {\n"
                               "    input %x: float32[2]\n"
                               "    const %k: float32[2] = {1.0, 2.0}\n"
                               "    %z: float32[2] = Add(%x, %k) @\"add\"\n"
                               "    output %z\n"
                               "  } body \"no\" {\n"
                               "    input %x: float32[2]\n"
                               "    output %x\n"
                               "  }\n"
                               "  %n: int64[] = SequenceLength(%s) @\"n\"\n"
                               "  output %y\n"
                               "  output %n\n"
                               "  output %o\n"
                               "}\n";

/* Sums x while the sum is below 10, at most %m times; collects the sums. */
static const char loop[] = "graph \"g\" {\n"
                           "  input %m: int64[]\n"
                           "  input %x: float32[]\n"
                           "  input %z: float32[]\n"
                           "  const %t: bool[] = {true}\n"
                           "  %s: none[*], %all: none[*] = Loop(%m, %t, %z, %x) "
                           "{kaena.carried=1} @\"loop\" body \"b\" {\n"
                           "    input %i: none[*]\n"
                           "    input %t: none[*]\n"
                           "    input %s: none[*]\n"
                           "    input %x: none[*]\n"
                           "    const %ten: float32[] = {10.0}\n"
                           "    %s2: none[*] = Add(%s, %x) @\"add\"\n"
                           "    %c: none[*] = Less(%s2, %ten) @\"less\"\n"
                           "    %copy: none[*] = Identity(%s2) @\"copy\"\n"
                           "    output %c\n"
                           "    output %s2\n"
                           "    output %copy\n"
                           "  }\n"
                           "  output %s\n"
                           "  output %all\n"
                           "}\n";

KTEST(graph_body, text_and_binary_round_trip)
{
    kaena_arena a;
    kaena_arena_init(&a, 0);
    kaena_err err;
    static const char *const texts[] = {branches, loop};
    for (size_t i = 0; i < 2; i++) {
        kaena_strbuf text = {0}, again = {0}, copied = {0}, bytes = {0};
        kgr_graph *g = parse(&a, texts[i]), *h;
        kgr_print(g, false, &text);
        cr_assert_str_eq(text.data, texts[i]);
        kgr_serialise(g, &bytes);
        KTEST_OK(err, kgr_deserialise(&a, bytes.data, bytes.size, &h, &err));
        kgr_print(h, false, &again);
        cr_assert_str_eq(again.data, texts[i]);
        h = kgr_copy(&a, g);
        check(h);
        kgr_print(h, false, &copied);
        cr_assert_str_eq(copied.data, texts[i]);
        kaena_strbuf_fini(&text);
        kaena_strbuf_fini(&again);
        kaena_strbuf_fini(&copied);
        kaena_strbuf_fini(&bytes);
    }
    kaena_arena_fini(&a);
}

KTEST(graph_body, damaged_binary_is_refused_or_sound)
{
    kaena_arena a;
    kaena_arena_init(&a, 0);
    kaena_strbuf bytes = {0};
    kgr_serialise(parse(&a, branches), &bytes);
    for (size_t i = 0; i < bytes.size; i++) {
        for (int kind = 0; kind < 3; kind++) {
            size_t size = kind == 2 ? i : bytes.size;
            uint8_t *copy = aligned_alloc(8, (size + 15) / 8 * 8);
            memcpy(copy, bytes.data, size);
            if (kind < 2)
                copy[i] = (uint8_t)(kind == 0 ? copy[i] + 1 : 0xff);
            kaena_arena b;
            kaena_arena_init(&b, (size_t)4 << 20);
            kaena_err err;
            kgr_graph *g;
            kaena_err_init(&err);
            if (kgr_deserialise(&b, copy, size, &g, &err) == KAENA_OK)
                check(g);
            else
                cr_assert(*err.what);
            kaena_arena_fini(&b);
            free(copy);
        }
    }
    kaena_strbuf_fini(&bytes);
    kaena_arena_fini(&a);
}

KTEST(graph_body, check_says_what_is_wrong)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"graph \"g\" { input %c: bool[] %y: none[*] = If(%c) body \"b\" { input %c: bool[] } }",
         "node 'If_0' (If): 1 bodies, takes 2"},
        {"graph \"g\" { input %c: bool[] %y: none[*] = If(%c) body \"b\" {} body \"c\" {} }",
         "body 'b' has 0 inputs and 0 outputs, must have 0 and 1"},
        {"graph \"g\" { input %c: bool[] %y: none[*] = Relu(%c) body \"b\" { } }",
         "1 bodies, takes 0"},
        {"graph \"g\" { input %c: bool[] %y: none[*] = Loop(%c, %c) {kaena.carried=1} body \"b\" "
         "{} }",
         "kaena.carried is 1 with 2 operands"},
        {"graph \"g\" { input %c: bool[] %y: none[*] = Scan(%c) body \"b\" {} }",
         "num_scan_inputs is 0"},
        {"graph \"g\" { input %c: bool[] %y: none[*] = If(%c) body \"b\" { %y: none[*] = "
         "Relu(%c) } }",
         "line 1, column 83: no value 'c' is defined before"},
        {"graph \"g\" { input %c: bool[] %y: none[*] = If(%c) body \"b\" {} body \"c\" {} body "
         "\"d\" {} }",
         "more than 2 bodies"},
        {"graph \"g\" { const %c: sequence(bool[]) = {true} }", "constants are tensors"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kaena_arena a;
        kaena_arena_init(&a, 0);
        kaena_err err;
        kgr_graph *g;
        KTEST_FAILS(err, INVALID_ARGUMENT, cases[i].says,
                    kgr_parse(&a, cases[i].text, strlen(cases[i].text), &g, &err));
        kaena_arena_fini(&a);
    }
}

KTEST(graph_body, evaluates_branches_and_sequences)
{
    kaena_arena a;
    kaena_arena_init(&a, 0);
    kaena_err err;
    kgr_graph *g = parse(&a, branches);
    bool yes = true;
    float x[2] = {3, -4};
    kop_tensor items[2] = {{.dtype = KAENA_F32, .shape = {1, {2}}, .data = x},
                           {.dtype = KAENA_F32, .shape = {1, {1}}, .data = x}};
    kop_tensor in[4] = {
        {.dtype = KAENA_BOOL, .data = &yes},
        items[0],
        {.form = KOP_FORM_SEQUENCE,
         .dtype = KAENA_F32,
         .unranked = true,
         .data = items,
         .count = 2},
        {.form = KOP_FORM_OPTIONAL_SEQUENCE, .dtype = KAENA_I8, .unranked = true, .data = items},
    };
    kop_tensor out[3];
    kop_env env = {.arena = &a};
    KTEST_OK(err, kgr_eval(g, in, out, &env, &err));
    const float *y = out[0].data;
    cr_assert(y[0] == 4 && y[1] == -2 && *(int64_t *)out[1].data == 2);
    cr_assert(out[2].form == KOP_FORM_OPTIONAL_SEQUENCE && out[2].count == 0);
    yes = false;
    KTEST_OK(err, kgr_eval(g, in, out, &env, &err));
    y = out[0].data;
    cr_assert(y[0] == 3 && y[1] == -4);
    in[2] = in[1];
    KTEST_FAILS(err, INVALID_ARGUMENT, "input 's' is of type tensor, takes sequence",
                kgr_eval(g, in, out, &env, &err));
    kaena_arena_fini(&a);
}

KTEST(graph_body, evaluates_a_loop)
{
    kaena_arena a;
    kaena_arena_init(&a, 0);
    kaena_err err;
    kgr_graph *g = parse(&a, loop);
    KTEST_OK(err, kgr_infer(g, false, &err));
    static const struct {
        int64_t most;
        float x, sum;
        int64_t turns;
    } cases[] = {{100, 3, 12, 4}, {2, 3, 6, 2}, {0, 3, 0, 0}, {-1, 1, 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t most = cases[i].most;
        float x = cases[i].x, zero = 0;
        kop_tensor in[3] = {{.dtype = KAENA_I64, .data = &most},
                            {.dtype = KAENA_F32, .data = &x},
                            {.dtype = KAENA_F32, .data = &zero}},
                   out[2];
        kop_env env = {.arena = &a};
        KTEST_OK(err, kgr_eval(g, in, out, &env, &err));
        cr_assert(*(float *)out[0].data == cases[i].sum);
        cr_assert(out[1].shape.rank == 1 && out[1].shape.dim[0] == cases[i].turns);
        for (int64_t t = 0; t < cases[i].turns; t++)
            cr_assert(((float *)out[1].data)[t] == x * (float)(t + 1));
    }
    kaena_arena_fini(&a);
}

/* An endless loop ends at the stop flag, and one that collects at the quota. */
KTEST(graph_body, loops_are_bounded)
{
    kaena_arena a, results;
    kaena_arena_init(&a, 0);
    kaena_arena_init(&results, (size_t)1 << 20);
    kaena_err err;
    kgr_graph *g = parse(&a, loop);
    int64_t most = INT64_MAX;
    float x = 0, zero = 0;
    kop_tensor in[3] = {{.dtype = KAENA_I64, .data = &most},
                        {.dtype = KAENA_F32, .data = &x},
                        {.dtype = KAENA_F32, .data = &zero}},
               out[2];
    kop_env env = {.arena = &results};
    KTEST_FAILS(err, RESOURCE_EXHAUSTED, "node 'loop' (Loop)", kgr_eval(g, in, out, &env, &err));
    atomic_bool stop = true;
    env.stop = &stop;
    KTEST_FAILS(err, CANCELLED, "told to stop", kgr_eval(g, in, out, &env, &err));
    kaena_arena_fini(&results);
    kaena_arena_fini(&a);
}

KTEST(graph_body, evaluates_a_scan_along_any_axis_backward)
{
    kaena_arena a;
    kaena_arena_init(&a, 0);
    kaena_err err;
    kgr_graph *g = parse(&a, "graph \"g\" { input %s: float32[2] input %x: float32[2,3]\n"
                             "%f: none[*], %y: none[*] = Scan(%s, %x) {kaena.carried=1, "
                             "num_scan_inputs=1, scan_input_axes=[-1], scan_input_directions=[1],\n"
                             "scan_output_axes=[1], scan_output_directions=[1]} body \"b\" {\n"
                             "input %s: none[*] input %x: none[*] %t: none[*] = Add(%s, %x)\n"
                             "%y: none[*] = Identity(%t) output %t output %y }\n"
                             "output %f output %y }");
    KTEST_OK(err, kgr_infer(g, true, &err));
    cr_assert(kaena_shape_equal(&g->outputs[0]->t.shape, &(kaena_shape){1, {2}}));
    cr_assert(kaena_shape_equal(&g->outputs[1]->t.shape, &(kaena_shape){2, {2, 3}}));
    float s[2] = {0, 100}, x[6] = {1, 2, 3, 4, 5, 6};
    kop_tensor in[2] = {{.dtype = KAENA_F32, .shape = {1, {2}}, .data = s},
                        {.dtype = KAENA_F32, .shape = {2, {2, 3}}, .data = x}},
               out[2];
    KTEST_OK(err, kgr_eval(g, in, out, &(kop_env){.arena = &a}, &err));
    static const float final[2] = {6, 115}, all[6] = {6, 5, 3, 115, 111, 106};
    cr_assert(memcmp(out[0].data, final, sizeof final) == 0);
    cr_assert(memcmp(out[1].data, all, sizeof all) == 0);
    kaena_arena_fini(&a);
}

/* The first dimension grows from turn to turn, the second stays. */
KTEST(graph_body, inference_finds_what_stays)
{
    kaena_arena a;
    kaena_arena_init(&a, 0);
    kaena_err err;
    kgr_graph *g = parse(&a, "graph \"g\" { input %m: int64[] input %c: bool[]\n"
                             "input %x: float32[1,4] input %n: float32[1,4]\n"
                             "%y: none[*], %same: none[*] = Loop(%m, %c, %x, %n, %n) "
                             "{kaena.carried=2} body \"b\" {\n"
                             "input %i: none[*] input %c: none[*] input %x: none[*]\n"
                             "input %k: none[*] input %n: none[*]\n"
                             "%z: none[*] = Concat(%x, %n) {axis=0}\n"
                             "%l: none[*] = Neg(%k) output %c output %z output %l }\n"
                             "output %y output %same }");
    KTEST_OK(err, kgr_infer(g, true, &err));
    cr_assert(kaena_shape_equal(&g->outputs[0]->t.shape, &(kaena_shape){2, {-1, 4}}));
    cr_assert(kaena_shape_equal(&g->outputs[1]->t.shape, &(kaena_shape){2, {1, 4}}));
    cr_assert(g->outputs[1]->t.dtype == KAENA_F32);
    kaena_arena_fini(&a);
}

KTEST(graph_body, a_constant_condition_leaves_its_branch)
{
    kaena_arena a;
    kaena_arena_init(&a, 0);
    kaena_err err;
    kgr_graph *g = parse(&a, "graph \"g\" { input %x: float32[2] const %c: bool[] = {false}\n"
                             "%y: none[*], %z: none[*] = If(%c, %x) body \"yes\" {\n"
                             "input %x: none[*] %y: none[*] = Transpose(%x) {perm=[1,0]}\n"
                             "output %y output %x } body \"no\" { input %x: none[*]\n"
                             "%y: none[*] = Neg(%x) @\"neg\" output %y output %x }\n"
                             "output %y output %z }");
    KTEST_OK(err, kgr_infer(g, true, &err));
    check(g);
    kaena_strbuf text = {0};
    kgr_print(g, false, &text);
    cr_assert_str_eq(text.data, "graph \"g\" {\n"
                                "  input %x: float32[2]\n"
                                "  %y: float32[2] = Neg(%x) @\"neg\"\n"
                                "  %z: float32[2] = Identity(%x) @\"Identity_1\"\n"
                                "  output %y\n"
                                "  output %z\n"
                                "}\n");
    kaena_strbuf_fini(&text);
    kaena_arena_fini(&a);
}

/* What no body reads any more is no operand either. */
KTEST(graph_body, dead_captures_go)
{
    kaena_arena a;
    kaena_arena_init(&a, 0);
    kgr_graph *g = parse(&a, "graph \"g\" { input %c: bool[] input %x: float32[2]\n"
                             "%a: none[*] = Neg(%x) @\"a\" %b: none[*] = Abs(%x) @\"b\"\n"
                             "%y: none[*] = If(%c, %a, %b) @\"if\" body \"yes\" {\n"
                             "input %a: none[*] input %b: none[*]\n"
                             "%dead: none[*] = Neg(%a) @\"dead\" %z: none[*] = Neg(%b) @\"z\"\n"
                             "output %z } body \"no\" {\n"
                             "input %a: none[*] input %b: none[*] output %b } output %y }");
    cr_assert_eq(kgr_remove_dead(g), 2);
    check(g);
    kaena_strbuf text = {0};
    kgr_print(g, false, &text);
    cr_assert_str_eq(text.data, "graph \"g\" {\n"
                                "  input %c: bool[]\n"
                                "  input %x: float32[2]\n"
                                "  %b: none[*] = Abs(%x) @\"b\"\n"
                                "  %y: none[*] = If(%c, %b) @\"if\" body \"yes\" {\n"
                                "    input %b: none[*]\n"
                                "    %z: none[*] = Neg(%b) @\"z\"\n"
                                "    output %z\n"
                                "  } body \"no\" {\n"
                                "    input %b: none[*]\n"
                                "    output %b\n"
                                "  }\n"
                                "  output %y\n"
                                "}\n");
    kaena_strbuf_fini(&text);
    kaena_arena_fini(&a);
}

/* Strings and elements of sequences that later nodes hand on outlive what made them. */
KTEST(graph_body, shared_data_lives_long_enough)
{
    kaena_arena a;
    kaena_arena_init(&a, 0);
    kaena_err err;
    kgr_graph *g = parse(&a, "graph \"g\" { input %x: int64[2] const %zero: int64[] = {0}\n"
                             "const %n: string[2] = {\"12345678901234567\", \"b\"}\n"
                             "const %i: int64[2] = {0, 1}\n"
                             "%t: none[*] = Gather(%n, %i) %u: none[*] = Identity(%t)\n"
                             "%a: none[*] = Neg(%x) %s: none[*] = SequenceConstruct(%a)\n"
                             "%s2: none[*] = SequenceInsert(%s, %x)\n"
                             "%s3: none[*] = SequenceErase(%s2)\n"
                             "%e: none[*] = SequenceAt(%s3, %zero) %f: none[*] = Neg(%e)\n"
                             "output %u output %e output %f }");
    int64_t x[2] = {7, -2};
    kop_tensor in = {.dtype = KAENA_I64, .shape = {1, {2}}, .data = x}, out[3];
    KTEST_OK(err, kgr_eval(g, &in, out, &(kop_env){.arena = &a}, &err));
    const kaena_string *s = out[0].data;
    cr_assert(s[0].size == 17 && memcmp(s[0].data, "12345678901234567", 17) == 0);
    cr_assert(((int64_t *)out[1].data)[1] == 2 && ((int64_t *)out[2].data)[1] == -2);
    kaena_arena_fini(&a);
}

/* Bodies in bodies up to the limit; one more is refused. */
KTEST(graph_body, depth_is_limited)
{
    for (int depth = KGR_MAX_DEPTH; depth <= KGR_MAX_DEPTH + 1; depth++) {
        kaena_arena a;
        kaena_arena_init(&a, 0);
        kaena_err err;
        kgr_graph *g;
        kaena_strbuf text = {0};
        const char *boundary = "input %i: int64[] input %c: bool[] input %x: float32[1]";
        kaena_strbuf_printf(&text, "graph \"g\" { %s ", boundary);
        for (int i = 0; i < depth; i++)
            kaena_strbuf_printf(&text,
                                "%%y: none[*] = Loop(%%i, %%c, %%x) {kaena.carried=1} body \"b\" "
                                "{ %s ",
                                boundary);
        kaena_strbuf_printf(&text,
                            "%%y: none[*] = Concat(%%x, %%x) {axis=0} output %%c output %%y }");
        for (int i = 1; i < depth; i++)
            kaena_strbuf_printf(&text, " output %%c output %%y }");
        kaena_strbuf_printf(&text, " output %%y }");
        if (depth <= KGR_MAX_DEPTH) {
            g = parse(&a, text.data);
            KTEST_OK(err, kgr_infer(g, true, &err));
            cr_assert(kaena_shape_equal(&g->outputs[0]->t.shape, &(kaena_shape){1, {-1}}));
        } else {
            KTEST_FAILS(err, INVALID_ARGUMENT, "nested deeper than 32",
                        kgr_parse(&a, text.data, text.size, &g, &err));
        }
        kaena_strbuf_fini(&text);
        kaena_arena_fini(&a);
    }
}
