/* --io-config in both forms. */
#include <string.h>
#include <unistd.h>

#include "file.h"
#include "io_config.h"
#include "ktest.h"

static void check_content(const kcc_io_config *c)
{
    cr_assert(c->n_inputs == 2 && c->n_outputs == 1);
    const kcc_io_input *x = kcc_io_config_input(c, "x:0"), *z = kcc_io_config_input(c, "z");
    cr_assert(x && z && !kcc_io_config_input(c, "y"));
    cr_assert(x->dtype == KAENA_F16 && x->shape.rank == 4 && x->shape.dim[1] == 224);
    cr_assert(z->dtype == KAENA_I64 && z->shape.rank == 0);
    cr_assert_str_eq(c->outputs[0], "y:0");
}

static const char json[] = "{\"inputs\":{\"x:0\":[[1,224,224,3],\"float16\"],\"z\":[[],\"int64\"]},"
                           "\"outputs\":[\"y:0\"]}";
static const char pbtxt[] = "# what goes in and out\n"
                            "inputs { name: \"x:0\" dtype: FLOAT16 shape: 1 shape: 224, shape: 224 "
                            "shape: 3 }\n"
                            "inputs: < dtype: 7; name: 'z' >\n"
                            "outputs: \"y:0\"\n";

KTEST(io_config, both_forms_say_the_same)
{
    kaena_arena a;
    kaena_err err;
    kcc_io_config c;
    kaena_arena_init(&a, 0);
    KTEST_OK(err, kcc_io_config_parse(&a, json, &c, &err));
    check_content(&c);
    KTEST_OK(err, kcc_io_config_parse_pbtxt(&a, pbtxt, sizeof pbtxt - 1, &c, &err));
    check_content(&c);
    static const char lists[] = "inputs{name:\"x\" shape:[2,3]} outputs:[\"a\",\"b\"]";
    KTEST_OK(err, kcc_io_config_parse_pbtxt(&a, lists, sizeof lists - 1, &c, &err));
    cr_assert(c.inputs[0].shape.rank == 2 && c.inputs[0].dtype == KAENA_DTYPE_NONE);
    cr_assert(c.n_outputs == 2);
    kaena_arena_fini(&a);
}

KTEST(io_config, files_are_read_by_path_or_uri)
{
    kaena_arena a;
    kaena_err err;
    kcc_io_config c;
    char path[] = "/tmp/kaena-test-XXXXXX", file[64], uri[80];
    kaena_arena_init(&a, 0);
    cr_assert(mkdtemp(path));
    (void)snprintf(file, sizeof file, "%s/io.json", path);
    (void)snprintf(uri, sizeof uri, "file://%s", file);
    kaena_err_init(&err);
    KTEST_OK(err, kaena_file_write(file, json, sizeof json - 1, &err));
    KTEST_OK(err, kcc_io_config_parse(&a, file, &c, &err));
    check_content(&c);
    KTEST_OK(err, kcc_io_config_parse(&a, uri, &c, &err));
    check_content(&c);
    cr_assert(unlink(file) == 0);
    KTEST_FAILS(err, NOT_FOUND, "io.json", kcc_io_config_parse(&a, file, &c, &err));
    (void)snprintf(file, sizeof file, "%s/io.pbtxt", path);
    KTEST_OK(err, kaena_file_write(file, pbtxt, sizeof pbtxt - 1, &err));
    KTEST_OK(err, kcc_io_config_parse(&a, file, &c, &err));
    check_content(&c);
    KTEST_OK(err, kaena_file_write(file, "", 0, &err));
    KTEST_OK(err, kcc_io_config_parse(&a, file, &c, &err));
    cr_assert(c.n_inputs == 0 && c.n_outputs == 0);
    cr_assert(unlink(file) == 0 && rmdir(path) == 0);
    kaena_arena_fini(&a);
}

typedef struct bad {
    const char *text, *message;
} bad;

KTEST(io_config, bad_json_is_explained)
{
    static const bad cases[] = {
        {"{\"inputs\":{\"x\":[[1,2],\"float32\"]},\n  oops}", "line 2, column 6"},
        {"{", "line 1"},
        {"{\"input\":{}}", "there is no key 'input'"},
        {"{\"inputs\":[]}", "\"inputs\" is not an object"},
        {"{\"inputs\":{\"x\":[1,2]}}", "input 'x': not a pair [shape, dtype]"},
        {"{\"inputs\":{\"x\":[[1]]}}", "input 'x': not a pair"},
        {"{\"inputs\":{\"x\":[[1,-1],\"float32\"]}}", "input 'x': dimension 1 is not a whole"},
        {"{\"inputs\":{\"x\":[[1.5],\"float32\"]}}", "dimension 0"},
        {"{\"inputs\":{\"x\":[[1],\"float33\"]}}", "no element type 'float33'"},
        {"{\"inputs\":{\"x\":[[1,1,1,1,1,1,1,1,1],\"int8\"]}}", "at most 8"},
        {"{\"inputs\":{\"x\":[[1],\"int8\"],\"x\":[[1],\"int8\"]}}", "duplicate"},
        {"{\"outputs\":\"y\"}", "not a list of names"},
        {"{\"outputs\":[1]}", "not a list of names"},
        {"{\"outputs\":[\"y\",\"y\"]}", "output 'y' is named twice"},
    };
    kaena_arena a;
    kaena_err err;
    kcc_io_config c;
    kaena_arena_init(&a, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        KTEST_FAILS(err, INVALID_ARGUMENT, cases[i].message,
                    kcc_io_config_parse(&a, cases[i].text, &c, &err));
    kaena_arena_fini(&a);
}

KTEST(io_config, bad_pbtxt_is_explained)
{
    static const bad cases[] = {
        {"input {}", "line 1, column 1: 'inputs' or 'outputs' expected"},
        {"\ninputs { name: x }", "line 2, column 16: field 'name': a quoted text expected"},
        {"inputs { shape: 1 }", "has no name"},
        {"inputs { name: 'x' shape: -1 }", "a dimension is a whole number"},
        {"inputs { name: 'x' shape: 99999999999999999999 }", "a whole number of 64 bits"},
        {"inputs { name: 'x' shape: [1,2,3,4,5,6,7,8,9] }", "9 dimensions; at most 8"},
        {"inputs { name: 'x' shape: [1,2 }", "',' or ']' expected"},
        {"inputs { name: 'x' dtype: FLOAT33 }", "one of the names of its values"},
        {"inputs { name: 'x' dtype: 77 }", "an element type such as FLOAT32"},
        {"inputs { name: 'x' rank: 2 }", "'name', 'dtype', 'shape', 'kind' or 'any_rank' expected"},
        {"inputs { name: 'x' } inputs { name: 'x' }", "named twice"},
        {"inputs { name: 'x", "does not end on its line"},
        {"inputs { name: 'x' ", "expected"},
        {"inputs { name 'x' }", "':' expected"},
        {"outputs: y", "a quoted text expected"},
        {"outputs: 'y' outputs: 'y'", "named twice"},
        {"outputs: ['y' 'z'", "',' or ']' expected"},
        {"outputs: 'a\\q'", "an escape that does not exist"},
        {"outputs: 'a\\000b'", "a NUL byte inside a name"},
        {"\x01", "'inputs' or 'outputs' expected"},
    };
    kaena_arena a;
    kaena_err err;
    kcc_io_config c;
    kaena_arena_init(&a, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        KTEST_FAILS(err, INVALID_ARGUMENT, cases[i].message,
                    kcc_io_config_parse_pbtxt(&a, cases[i].text, strlen(cases[i].text), &c, &err));
    kaena_arena_fini(&a);
}
