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

static const char diamond[] = "graph \"d\" {\n"
                              "  input %x: float32[2]\n"
                              "  const %one: float32[] = {1.0}\n"
                              "  %a: float32[2] = Relu(%x) @\"a\"\n"
                              "  %b: float32[2] = Neg(%x) @\"b\" from \"Negative\"\n"
                              "  %c: float32[2] = Add(%a, %b) @\"c\"\n"
                              "  %y: float32[2] = Add(%c, %one) @\"y\"\n"
                              "  output %y\n"
                              "}\n";

KTEST(graph, text_round_trip)
{
    kaena_arena a;
    kaena_arena_init(&a, 0);
    kaena_strbuf b = {0};
    kgr_print(parse(&a, diamond), false, &b);
    cr_assert_str_eq(b.data, diamond);
    kaena_strbuf_fini(&b);
    kaena_arena_fini(&a);
}

static const char everything[] =
    "graph \"all \\\"kinds\\\"\" {\n"
    "  input %x:0: float32[?,3,224,1]\n"
    "  input %\"a b:\": none[*]\n"
    "  const %f: float32[5] = {1.0, -2.5, inf, nan, 1.17549435e-38}\n"
    "  const %h: float16[2] = {65504.0, -5.96046448e-08}\n"
    "  const %d: float64[1] = {0.10000000000000001}\n"
    "  const %u: uint64[2] = {0, 18446744073709551615}\n"
    "  const %t: bool[2] = {true, false}\n"
    "  const %s: string[2] = {\"\\x00\\n\\\"\", \"\"}\n"
    "  const %e: int8[0,4] = {}\n"
    "  const %w: float32[64,3,7,7] = digest 00123456789abcde\n"
    "  %o/1: float32[?,3,224,1] = Clip(%x:0, _, %f) {i=-3, f=1.0, s=\"x\\\\\", is=[1,2], es=[], "
    "fs=[1.5,2.0], ef=floats[], ss=[\"a\",\"\"], t=int32[2,1]{1, 2}, \"odd name\"=1} @\"n 1\" host "
    "\"why not\"\n"
    "  %p: none[*] = Sum(%\"a b:\", %h, %d, %u, %t, %s, %e, %w) @\"n2\" device\n"
    "  %q: none[*] = Neg(%p) @\"n3\" plan\n"
    "  output %o/1\n"
    "  output %q\n"
    "  output %p\n"
    "}\n";

KTEST(graph, every_kind_of_thing_survives_text_and_binary)
{
    kaena_arena a;
    kaena_arena_init(&a, 0);
    kaena_err err;
    kaena_strbuf text = {0}, again = {0}, bytes = {0};
    kgr_graph *g = parse(&a, everything), *h;
    kgr_print(g, false, &text);
    cr_assert_str_eq(text.data, everything);
    kgr_serialise(g, &bytes);
    KTEST_OK(err, kgr_deserialise(&a, bytes.data, bytes.size, &h, &err));
    kgr_print(h, false, &again);
    cr_assert_str_eq(again.data, everything);
    kaena_strbuf_fini(&text);
    kaena_strbuf_fini(&again);
    kaena_strbuf_fini(&bytes);
    kaena_arena_fini(&a);
}

/* Any byte of the binary form damaged, and any length: an error or a graph that passes the check.
 */
KTEST(graph, damaged_binary_is_refused_or_sound)
{
    kaena_arena a;
    kaena_arena_init(&a, 0);
    kaena_strbuf bytes = {0};
    kgr_serialise(parse(&a, everything), &bytes);
    uint32_t refused = 0;
    for (size_t i = 0; i < bytes.size; i++) {
        for (int kind = 0; kind < 4; kind++) {
            size_t size = kind == 3 ? i : bytes.size;
            uint8_t *copy = aligned_alloc(8, (size + 15) / 8 * 8);
            memcpy(copy, bytes.data, size);
            if (kind < 3)
                copy[i] = (uint8_t)(kind == 0 ? copy[i] + 1 : kind == 1 ? 0xff : 0);
            kaena_arena b;
            kaena_arena_init(&b, (size_t)4 << 20);
            kaena_err err;
            kgr_graph *g;
            kaena_err_init(&err);
            if (kgr_deserialise(&b, copy, size, &g, &err) != KAENA_OK) {
                refused++;
                cr_assert(*err.what);
            } else {
                check(g);
            }
            kaena_arena_fini(&b);
            free(copy);
        }
    }
    cr_assert(refused > bytes.size, "%u", refused);
    kaena_strbuf_fini(&bytes);
    kaena_arena_fini(&a);
}

KTEST(graph, text_errors_say_where)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "line 1, column 1: 'graph' expected"},
        {"graph \"g\" {\n  input %x: float99[1]\n}", "line 2, column 20: 'float99'"},
        {"graph \"g\" {\n  input %x: int8[1]\n  input %x: int8[1]}", "a second value 'x'"},
        {"graph \"g\" {\n output %x }", "no value 'x'"},
        {"graph \"g\" {\n %y: none[*] = Foo() }", "'Foo' is not an operator"},
        {"graph \"g\" {\n %y: none[*] = Relu() }", "node 'Relu_0' (Relu): 0 inputs, takes 1"},
        {"graph \"g\" {\n %y: none[*] = Relu(_) }", "input 0 must not be absent"},
        {"graph \"g\" { const %c: int8[2] = {1, 200} }", "'200' is not an element of int8"},
        {"graph \"g\" { const %c: int8[1000000000] = {1} }", "text is too short"},
        {"graph \"g\" { const %c: float32[3000000] = random 1 }", "more than 1048576 generated"},
        {"graph \"g\" { input %x: int8[1,1,1,1,1,1,1,1,1] }", "more than 8 dimensions"},
        {"graph \"g\" { input %x: int8[-1] }", "not negative"},
        {"graph \"g\" { input %x: int8[1] %y: none[*] = Relu(%x) {a=1, a=2} }", "twice"},
        {"graph \"g", "does not end"},
        {"graph \"g\" {", "expected"},
        {"graph \"g\" {} x", "text behind"},
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

KTEST(graph, names_become_unique)
{
    kaena_arena a;
    kaena_arena_init(&a, 0);
    kgr_graph *g = kgr_graph_create(&a, "g");
    kaena_shape s = {1, {2}};
    kgr_value *x = kgr_value_add(g, "x", KAENA_F32, &s), *x2 = kgr_value_add(g, "x", KAENA_F32, &s);
    cr_assert_str_eq(x2->name, "x_2");
    cr_assert(kgr_value_find(g, "x") == x && kgr_value_find(g, "x_2") == x2);
    cr_assert_null(kgr_value_find(g, "y"));
    cr_assert_str_eq(kgr_value_add(g, "x", KAENA_F32, &s)->name, "x_3");
    kaena_arena_fini(&a);
}

KTEST(graph, rewriting_keeps_the_lists_of_uses)
{
    kaena_arena a;
    kaena_arena_init(&a, 0);
    kgr_graph *g = parse(&a, diamond);
    kgr_value *x = kgr_value_find(g, "x"), *va = kgr_value_find(g, "a"),
              *vc = kgr_value_find(g, "c");
    kgr_node *c = vc->producer;
    cr_assert(x->n_uses == 2 && kgr_only_user(x) == NULL && kgr_only_user(va) == c);
    kgr_node_set_input(c, 1, va); /* Add(a, a) */
    check(g);
    cr_assert(va->n_uses == 2 && kgr_only_user(va) == NULL);
    cr_assert(kgr_node_add_input(g, c, va) && kgr_node_add_input(g, c, x));
    kgr_node_cut_inputs(c, 2);
    check(g);
    kgr_replace_uses(g, va, x);
    cr_assert(va->n_uses == 0 && x->n_uses == 4);
    cr_assert(kgr_remove_dead(g) == 2 && g->n_nodes == 2);
    check(g);
    /* The output goes to another value, and the name with it. */
    kgr_value *y = g->outputs[0];
    cr_assert(!kgr_can_replace(y, x) && kgr_can_replace(y, vc));
    kgr_replace_uses(g, y, vc);
    cr_assert(kgr_remove_dead(g) == 1);
    cr_assert_str_eq(g->outputs[0]->name, "y");
    cr_assert(g->outputs[0] == vc && kgr_value_find(g, "y") == vc);
    check(g);
    kaena_arena_fini(&a);
}

KTEST(graph, check_finds_what_is_wrong)
{
    kaena_arena a;
    kaena_arena_init(&a, 0);
    kaena_err err;
    kgr_graph *g = parse(&a, diamond);
    kgr_node *c = kgr_value_find(g, "c")->producer;
    kgr_node_move(g, c, kgr_at_start);
    KTEST_FAILS(err, INVALID_ARGUMENT, "node 'c' (Add): input 'a' is computed by no node before",
                kgr_check(g, &err));
    kgr_node_move(g, c, kgr_value_find(g, "b")->producer);
    check(g);
    kgr_value_find(g, "a")->n_uses++;
    KTEST_FAILS(err, INTERNAL, "value 'a' has 1 uses and counts 2", kgr_check(g, &err));
    kaena_arena_fini(&a);
}

KTEST(graph, evaluates)
{
    kaena_arena a;
    kaena_arena_init(&a, 0);
    kaena_err err;
    kgr_graph *g = parse(&a, diamond);
    float data[2] = {3, -4};
    kop_tensor in = {.dtype = KAENA_F32, .shape = {1, {2}}, .data = data}, out;
    kop_env env = {.arena = &a};
    KTEST_OK(err, kgr_eval(g, &in, &out, &env, &err));
    const float *y = out.data;
    cr_assert(y[0] == 1 && y[1] == 5, "%g %g", (double)y[0], (double)y[1]);
    in.shape.dim[0] = 3;
    KTEST_FAILS(err, INVALID_ARGUMENT, "input 'x' has shape [3], takes [2]",
                kgr_eval(g, &in, &out, &env, &err));
    in = (kop_tensor){.dtype = KAENA_F64, .shape = {1, {2}}, .data = data};
    KTEST_FAILS(err, INVALID_ARGUMENT, "input 'x' is float64, takes float32",
                kgr_eval(g, &in, &out, &env, &err));
    kaena_arena_fini(&a);
}

/* |n| Relus and Negs in a row over |elements| floats. */
static kgr_graph *chain(kaena_arena *a, uint32_t n, int64_t elements)
{
    kgr_graph *g = kgr_graph_create(a, "chain");
    kgr_value *v = kgr_value_add(g, "x", KAENA_F32, &(kaena_shape){1, {elements}});
    (void)kgr_input_add(g, v);
    for (uint32_t i = 0; i < n; i++)
        v = kgr_node_add(g, NULL, i % 2 ? KOP_Relu : KOP_Neg, "n", NULL, &v, 1, NULL, 1)->out[0];
    (void)kgr_output_add(g, v);
    return g;
}

/* 100 tensors of 4 MB would not fit: those whose last use is past are given back. */
KTEST(graph, evaluation_gives_back_and_obeys_the_quota)
{
    kaena_arena a, results;
    kaena_arena_init(&a, 0);
    kaena_err err;
    int64_t n = 1 << 20;
    kgr_graph *g = chain(&a, 100, n);
    kop_tensor in = {.dtype = KAENA_F32,
                     .shape = {1, {n}},
                     .data = kaena_arena_alloc(&a, (size_t)n * sizeof(float))},
               out;
    kaena_arena_init(&results, (size_t)14 << 20);
    KTEST_OK(err, kgr_eval(g, &in, &out, &(kop_env){.arena = &results}, &err));
    kaena_arena_fini(&results);
    kaena_arena_init(&results, (size_t)7 << 20);
    KTEST_FAILS(err, RESOURCE_EXHAUSTED, "node 'n_2' (Relu)",
                kgr_eval(g, &in, &out, &(kop_env){.arena = &results}, &err));
    kaena_arena_fini(&results);
    atomic_bool stop = true;
    kaena_arena_init(&results, 0);
    KTEST_FAILS(err, CANCELLED, "node 'n' (Neg)",
                kgr_eval(g, &in, &out, &(kop_env){.arena = &results, .stop = &stop}, &err));
    kaena_arena_fini(&results);
    kaena_arena_fini(&a);
}

KTEST(graph, digests_cannot_be_evaluated)
{
    kaena_arena a;
    kaena_arena_init(&a, 0);
    kaena_err err;
    kgr_graph *g = parse(&a, "graph \"g\" { const %w: float32[2] = digest 12\n"
                             "%y: float32[2] = Relu(%w) output %y }");
    kop_tensor out;
    KTEST_FAILS(err, FAILED_PRECONDITION, "constant 'w'",
                kgr_eval(g, NULL, &out, &(kop_env){.arena = &a}, &err));
    kaena_arena_fini(&a);
}

KTEST(graph, infer_names_the_node_that_refuses)
{
    kaena_arena a;
    kaena_arena_init(&a, 0);
    kaena_err err;
    kgr_graph *g = parse(&a, "graph \"g\" { input %x: float32[2,3] input %z: float32[4]\n"
                             "%a: none[*] = Relu(%x)\n"
                             "%y: none[*] = Add(%a, %z) @\"sum\" from \"AddV2\" output %y }");
    KTEST_FAILS(err, INVALID_ARGUMENT, "node 'sum' (AddV2)", kgr_infer(g, true, &err));
    cr_assert(kgr_value_find(g, "a")->t.dtype == KAENA_F32);
    kaena_arena_fini(&a);
}

/* What is not near-linear would not end within the test's limit. */
KTEST(graph, fifty_thousand_nodes_are_no_hurdle)
{
    uint32_t n = 50000;
    kaena_arena a;
    kaena_arena_init(&a, 0);
    kaena_err err;
    kaena_strbuf text = {0}, bytes = {0};
    kgr_graph *g = chain(&a, n, 4), *h;
    KTEST_OK(err, kgr_infer(g, true, &err));
    kgr_print(g, true, &text);
    KTEST_OK(err, kgr_parse(&a, text.data, text.size, &h, &err));
    kgr_serialise(h, &bytes);
    KTEST_OK(err, kgr_deserialise(&a, bytes.data, bytes.size, &h, &err));
    float data[4] = {1, -1, 0, 2};
    kop_tensor in = {.dtype = KAENA_F32, .shape = {1, {4}}, .data = data}, out;
    KTEST_OK(err, kgr_eval(h, &in, &out, &(kop_env){.arena = &a}, &err));
    /* Every node's input becomes the graph's: one alone stays alive. */
    for (kgr_node *m = g->first->next; m; m = m->next)
        kgr_replace_uses(g, m->in[0], g->inputs[0]);
    cr_assert(kgr_remove_dead(g) == n - 1);
    kaena_strbuf_fini(&text);
    kaena_strbuf_fini(&bytes);
    kaena_arena_fini(&a);
}
