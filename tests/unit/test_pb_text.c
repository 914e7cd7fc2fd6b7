/* Protobuf's text form, read by descriptors. */
#include <math.h>
#include <string.h>

#include "ktest.h"
#include "pb_text.h"
#include "tensorflow/graph.pb-c.h"

static kaena_status parse(kaena_arena *a, const char *text, Tensorflow__GraphDef **g,
                          kaena_err *err)
{
    kaena_err_init(err);
    return kcc_pb_text_parse(a, &tensorflow__graph_def__descriptor, text, strlen(text),
                             KCC_PB_SKIP_UNKNOWN, (ProtobufCMessage **)g, err);
}

KTEST(pb_text, a_graph_is_read)
{
    static const char text[] =
        "# a comment\n"
        "node {\n"
        "  name: \"x\" op: 'Const'\n"
        "  input: \"a\" input: [\"b\", '^c']\n"
        "  attr { key: \"value\" value { tensor { dtype: DT_FLOAT tensor_shape { dim { size: 2 } "
        "}\n"
        "    float_val: 1.5e+0 float_val: -inf float_val: nan float_val: 2f float_val: 1e39\n"
        "    int_val: [0x10, -7, 010] string_val: \"a\\001\\x41\\n\" 'b\\u00e9' bool_val: true } } "
        "}\n"
        "  attr < key: 'l', value < list < i: -9223372036854775808; type: [DT_HALF, 3] > > >\n"
        "  experimental_debug_info { names: [ 'x' ] other < a: -1 b: 'p' 'q' > } hint: 'a' 'b'\n"
        "  [some.extension/name] { y: 1 } device: ''\n"
        "}\n"
        "versions { producer: 26 }";
    kaena_arena a;
    kaena_err err;
    Tensorflow__GraphDef *g;
    kaena_arena_init(&a, 0);
    KTEST_OK(err, parse(&a, text, &g, &err));
    cr_assert(g->n_node == 1 && g->versions->producer == 26);
    const Tensorflow__NodeDef *n = g->node[0];
    cr_assert_str_eq(n->name, "x");
    cr_assert_str_eq(n->op, "Const");
    cr_assert(n->n_input == 3 && n->n_attr == 2);
    cr_assert_str_eq(n->input[2], "^c");
    const Tensorflow__TensorProto *t = n->attr[0]->value->tensor;
    cr_assert(n->attr[0]->value->value_case == TENSORFLOW__ATTR_VALUE__VALUE_TENSOR);
    cr_assert(t->dtype == TENSORFLOW__DATA_TYPE__DT_FLOAT && t->tensor_shape->dim[0]->size == 2);
    cr_assert(t->n_float_val == 5 && t->float_val[0] == 1.5f && t->float_val[3] == 2.0f);
    cr_assert(isinf(t->float_val[1]) && isnan(t->float_val[2]) && isinf(t->float_val[4]));
    cr_assert(t->n_int_val == 3 && t->int_val[0] == 16 && t->int_val[1] == -7);
    cr_assert(t->int_val[2] == 8);
    cr_assert(t->n_string_val == 1 && t->string_val[0].len == 7);
    cr_assert(memcmp(t->string_val[0].data, "a\001A\nb\xc3\xa9", 7) == 0);
    cr_assert(t->n_bool_val == 1 && t->bool_val[0]);
    const Tensorflow__AttrValue__ListValue *l = n->attr[1]->value->list;
    cr_assert(l->n_i == 1 && l->i[0] == INT64_MIN);
    cr_assert(l->n_type == 2 && l->type[0] == TENSORFLOW__DATA_TYPE__DT_HALF);
    cr_assert(l->type[1] == TENSORFLOW__DATA_TYPE__DT_INT32);
    kaena_arena_fini(&a);
}

KTEST(pb_text, bad_text_is_explained)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"node", "line 1, column 5: field 'node': '{' expected"},
        {"node {", "'name', 'op', 'input', 'device' or 'attr' expected"},
        {"node { name: 1 }", "field 'name': a quoted text expected"},
        {"node { name: '\\400' }", "an escape that does not exist"},
        {"node { name: '\\q' }", "an escape that does not exist"},
        {"node { name: '\\u12' }", "an escape that does not exist"},
        {"node { name: '\\", "does not end on its line"},
        {"versions { producer: 2147483648 }", "a whole number of 32 bits"},
        {"versions { producer: }", "a whole number of 32 bits"},
        {"versions { producer: 1x }", "a whole number of 32 bits"},
        {"versions { bad_consumers: [1,,2] }", "a whole number of 32 bits"},
        {"version 1", "':' expected"},
        {"unknown", "has no end"},
        {"unknown { a: [ 1 }", "has no end"},
        {"unknown }", "a value expected"},
        {"node { attr { value { type: DT_NONE } } }", "one of the names of its values"},
        {"node { attr { value { b: yes } } }", "true or false"},
    };
    kaena_arena a;
    kaena_err err;
    Tensorflow__GraphDef *g;
    kaena_arena_init(&a, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        KTEST_FAILS(err, INVALID_ARGUMENT, cases[i].message, parse(&a, cases[i].text, &g, &err));
    kaena_arena_fini(&a);
}

KTEST(pb_text, nesting_is_bounded)
{
    char text[4096] = "library { function { node_def { attr { value ";
    static const char more[] = "{ func { attr { value ";
    kaena_arena a;
    kaena_err err;
    Tensorflow__GraphDef *g;
    kaena_arena_init(&a, 0);
    for (int i = 0; i < 100; i++)
        strcat(text, more);
    KTEST_FAILS(err, INVALID_ARGUMENT, "nested too deeply", parse(&a, text, &g, &err));
    strcpy(text, "unknown ");
    for (int i = 0; i < 1000; i++)
        strcat(text, "{ a");
    KTEST_FAILS(err, INVALID_ARGUMENT, "nested too deeply", parse(&a, text, &g, &err));
    kaena_arena_fini(&a);
}
