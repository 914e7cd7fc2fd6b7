/* MXNet's checkpoints: files of all eras, what they leave out, and files that are wrong. */
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include "ktest.h"
#include "mx_import.h"
#include "mx_params.h"
#include "mx_symbol.h"

/* --- Writing symbols and parameters ---------------------------------------------------------- */

#define VARIABLE(name) "{\"op\":\"null\",\"name\":\"" name "\",\"inputs\":[]},"
#define SHAPED(name, shape)                                                                        \
    "{\"op\":\"null\",\"name\":\"" name "\",\"inputs\":[],\"attrs\":{\"__shape__\":\"" shape "\"}" \
    "},"
#define NODE(op, name, inputs, attrs)                                                              \
    "{\"op\":\"" op "\",\"name\":\"" name "\",\"inputs\":[" inputs "],\"attrs\":{" attrs "}}"
#define SYMBOL(nodes, heads) "{\"nodes\":[" nodes "],\"heads\":[" heads "]}"

typedef struct import {
    kaena_arena arena;
    kgr_graph *g;
    kcc_import_info info;
    kaena_err err;
} import;

static kaena_status read_model(import *i, const char *symbol, const void *params, size_t size,
                               const kcc_io_config *io)
{
    kaena_arena_init(&i->arena, (size_t)1 << 30);
    kaena_err_init(&i->err);
    return kcc_import_mx_bytes(&i->arena, symbol, strlen(symbol), params, size, io, &i->g, &i->info,
                               &i->err);
}

static void end(import *i)
{
    kaena_arena_fini(&i->arena);
}

#define READS(i, symbol) KTEST_OK((i).err, read_model(&(i), (symbol), NULL, 0, NULL))
#define REFUSED(code, text, symbol)                                                                \
    do {                                                                                           \
import refused;                                                                            \
        KTEST_FAILS(refused.err, code, text, read_model(&refused, (symbol), NULL, 0, NULL));       \
        end(&refused);                                                                             \
    } while (0)

static void expect_shape(const import *i, const char *value, int32_t rank, ...)
{
    const kgr_value *v = kgr_value_find(i->g, value);
    va_list list;
    cr_assert_not_null(v, "no value '%s'", value);
    cr_assert_eq(v->t.shape.rank, rank, "'%s' has rank %d", value, v->t.shape.rank);
    va_start(list, rank);
    for (int32_t k = 0; k < rank; k++) {
        int64_t want = va_arg(list, int);
        cr_assert_eq(v->t.shape.dim[k], want, "'%s': dimension %d is %lld", value, k,
                     (long long)v->t.shape.dim[k]);
    }
    va_end(list);
}

typedef struct bytes {
    uint8_t data[1024];
    size_t size;
} bytes;

static void put(bytes *b, const void *p, size_t n)
{
    memcpy(b->data + b->size, p, n);
    b->size += n;
}

static void put32(bytes *b, uint32_t v)
{
    put(b, &v, 4);
}

static void put64(bytes *b, uint64_t v)
{
    put(b, &v, 8);
}

static void put_array(bytes *b, int version, int32_t type, uint32_t n, const void *data,
                      size_t size)
{
    if (version > 0)
        put32(b, 0xF993FAC7u + (uint32_t)version);
    if (version > 1)
        put32(b, 0);
    put32(b, 1);
    if (version == 0)
        put32(b, n);
    else
        put64(b, n);
    put32(b, 1);
    put32(b, 0);
    put32(b, (uint32_t)type);
    put(b, data, size);
}

static void put_name(bytes *b, const char *name)
{
    put64(b, strlen(name));
    put(b, name, strlen(name));
}

static void put_head(bytes *b, uint64_t n)
{
    b->size = 0;
    put64(b, 0x112);
    put64(b, 0);
    put64(b, n);
}

/* --- Parameters ------------------------------------------------------------------------------ */

KTEST(mx_params, every_version)
{
    const float v[2] = {1.5f, -2};
    for (int version = 0; version <= 3; version++) {
        kaena_arena arena;
        kaena_err err;
        mx_params p;
        bytes b;
        put_head(&b, 2);
        put_array(&b, version, 0, 2, v, sizeof v);
        put_array(&b, version, 6, 1, &(int64_t){7}, 8);
        put64(&b, 2);
        put_name(&b, "arg:w");
        put_name(&b, "aux:count");
        kaena_arena_init(&arena, 1 << 20);
        KTEST_OK(err, mx_params_parse(&arena, b.data, b.size, &p, &err));
        const mx_param *w = mx_params_find(&p, "w"), *count = mx_params_find(&p, "count");
        cr_assert(w && count && p.named);
        cr_assert_eq(w->dtype, KAENA_F32);
        cr_assert_eq(w->shape.dim[0], 2);
        cr_assert_eq(memcmp(w->data, v, sizeof v), 0);
        cr_assert_eq(count->dtype, KAENA_I64);
        kaena_arena_fini(&arena);
        for (size_t cut = 0; cut < b.size; cut++) {
            uint8_t *exact = malloc(cut + 1);
            cr_assert_not_null(exact);
            memcpy(exact, b.data, cut);
            kaena_arena_init(&arena, 1 << 20);
            cr_assert_neq(mx_params_parse(&arena, exact, cut, &p, &err), KAENA_OK);
            kaena_arena_fini(&arena);
            free(exact);
        }
    }
}

static void expect_refusal(const bytes *b, kaena_status code, const char *text)
{
    kaena_arena arena;
    kaena_err err;
    mx_params p;
    kaena_arena_init(&arena, 1 << 20);
    kaena_err_init(&err);
    cr_assert_eq(mx_params_parse(&arena, b->data, b->size, &p, &err), code, "%s", err.what);
    cr_assert_not_null(strstr(err.what, text), "'%s' lacks '%s'", err.what, text);
    cr_assert_lt(arena.used, 100 * 1024);
    kaena_arena_fini(&arena);
}

KTEST(mx_params, refusals)
{
    bytes b;
    put_head(&b, UINT64_C(1) << 40);
    expect_refusal(&b, KAENA_INVALID_ARGUMENT, "arrays do not fit");
    put_head(&b, 1);
    put32(&b, 0xF993FAC9u);
    put32(&b, 2);
    put64(&b, 0);
    expect_refusal(&b, KAENA_UNIMPLEMENTED, "sparse (csr)");
    put_head(&b, 1);
    put_array(&b, 2, 0, UINT32_MAX, "", 0);
    put64(&b, 0);
    expect_refusal(&b, KAENA_INVALID_ARGUMENT, "more elements than the file has bytes");
    put_head(&b, 1);
    put_array(&b, 2, 99, 0, "", 0);
    put64(&b, 0);
    expect_refusal(&b, KAENA_UNIMPLEMENTED, "element type 99");
    put_head(&b, 1);
    put32(&b, 12345);
    put64(&b, 0);
    expect_refusal(&b, KAENA_INVALID_ARGUMENT, "neither a number of dimensions");
    put_head(&b, 2);
    put_array(&b, 0, 0, 0, "", 0);
    put_array(&b, 0, 0, 0, "", 0);
    put64(&b, 2);
    put_name(&b, "arg:w");
    put_name(&b, "aux:w");
    expect_refusal(&b, KAENA_INVALID_ARGUMENT, "'w' stands twice");
    put_head(&b, 1);
    put_array(&b, 0, 0, 0, "", 0);
    put64(&b, 1);
    put64(&b, UINT64_MAX);
    expect_refusal(&b, KAENA_INVALID_ARGUMENT, "ends too early");
}

/* What MXNet's own tests keep of the first format. */
KTEST(mx_params, legacy_file)
{
    char path[512];
    kaena_arena arena;
    kaena_err err;
    mx_params p;
    static uint8_t data[1 << 14];
    FILE *f = fopen(ktest_shared(path, sizeof path, "models/mxnet/params_format/legacy_ndarray.v0"),
                    "rb");
    cr_assert_not_null(f);
    size_t size = fread(data, 1, sizeof data, f);
    (void)fclose(f);
    kaena_arena_init(&arena, 1 << 20);
    KTEST_OK(err, mx_params_parse(&arena, data, size, &p, &err));
    cr_assert_gt(p.n, 0);
    cr_assert_not(p.named);
    for (uint32_t i = 0; i < p.n; i++) {
        float v;
        cr_assert_eq(p.list[i].dtype, KAENA_F32);
        for (size_t k = 0; k < p.list[i].bytes / sizeof v; k++) {
            memcpy(&v, (const uint8_t *)p.list[i].data + k * sizeof v, sizeof v);
            cr_assert_float_eq(v, (float)k, 0, "array %u, element %zu is %g", i, k, (double)v);
        }
    }
    kaena_arena_fini(&arena);
}

/* --- Symbols --------------------------------------------------------------------------------- */

KTEST(mx_symbol, attributes_of_every_era)
{
    static const char *const keys[] = {"param", "attr", "attrs"};
    for (size_t k = 0; k < 3; k++) {
        char text[512];
import i;
        (void)snprintf(text, sizeof text,
                       "{\"nodes\":[{\"op\":\"null\",\"name\":\"x\",\"inputs\":[],"
                       "\"%s\":{\"__shape__\":\"(2, 6)\"},\"backward_source_id\":-1},"
                       "{\"op\":\"Reshape\",\"name\":\"r\",\"inputs\":[[0,0]],"
                       "\"%s\":{\"shape\":\"(3,4)\"},\"backward_source_id\":-1}],"
                       "\"arg_nodes\":[0],\"heads\":[[1,0]]}",
                       keys[k], keys[k]);
        READS(i, text);
        expect_shape(&i, "r_output", 2, 3, 4);
        cr_assert_str_eq(i.info.producer, "MXNet 0.8.0");
        end(&i);
    }
}

/* In 0.8, `param` holds the parameters and `attr` what later has underscores around it; the
 * statistics of BatchNorm are not in the file. */
KTEST(mx_symbol, upgrades_0_8)
{
    static const char text[] =
        "{\"nodes\":[{\"op\":\"null\",\"param\":{},\"name\":\"x\",\"inputs\":[],"
        "\"attr\":{\"ctx_group\":\"a\",\"lr_mult\":\"0.2\"}},"
        "{\"op\":\"null\",\"param\":{},\"name\":\"bn_gamma\",\"inputs\":[]},"
        "{\"op\":\"null\",\"param\":{},\"name\":\"bn_beta\",\"inputs\":[]},"
        "{\"op\":\"BatchNorm\",\"param\":{\"eps\":\"0.001\",\"fix_gamma\":\"True\"},\"name\":"
        "\"bn\","
        "\"inputs\":[[0,0],[1,0],[2,0]],\"attr\":{\"ctx_group\":\"b\",\"weight_lr_mult\":\"1\"}}],"
        "\"heads\":[[3,0]]}";
    kcc_io_input in = {.name = "x", .shape = {2, {3, 2}}};
    const kcc_io_config io = {.inputs = &in, .n_inputs = 1};
    const float v[2] = {1, 2};
    static const char *const names[] = {"arg:bn_gamma", "arg:bn_beta", "aux:bn_moving_mean",
                                        "aux:bn_moving_var"};
    bytes b;
import i;
    put_head(&b, 4);
    for (int k = 0; k < 4; k++)
        put_array(&b, 0, 0, 2, v, sizeof v);
    put64(&b, 4);
    for (int k = 0; k < 4; k++)
        put_name(&b, names[k]);
    KTEST_OK(i.err, read_model(&i, text, b.data, b.size, &io));
    expect_shape(&i, "bn_output", 2, 3, 2);
    cr_assert_eq(i.g->n_inputs, 1);
    end(&i);
    KTEST_FAILS(i.err, FAILED_PRECONDITION, "'bn_moving_mean'", read_model(&i, text, NULL, 0, &io));
    end(&i);
}

KTEST(mx_symbol, shapes_follow_from_use)
{
import i;
    READS(i, SYMBOL(SHAPED("x", "(2, 3, 8, 8)") VARIABLE("w") VARIABLE("b") VARIABLE("fw")
                        NODE("Convolution", "c", "[0,0],[1,0],[2,0]",
                             "\"kernel\":\"(3, "
                             "3)\",\"num_filter\":\"6\",\"num_group\":"
                             "\"3\"") "," NODE("FullyConnected", "f", "[4,0],[3,0]",
                                               "\"num_hidden\":\"5\","
                                               "\"no_bias\":\"True\""),
                    "[5,0]"));
    expect_shape(&i, "w", 4, 6, 1, 3, 3);
    expect_shape(&i, "b", 1, 6);
    expect_shape(&i, "fw", 2, 5, 216);
    cr_assert_eq(i.g->n_inputs, 4);
    cr_assert_str_eq(i.g->inputs[0]->name, "x");
    end(&i);
    REFUSED(FAILED_PRECONDITION, "the shape of input 'x' is not known",
            SYMBOL(VARIABLE("x") NODE("relu", "r", "[0,0]", ""), "[1,0]"));
    REFUSED(INVALID_ARGUMENT, "'w' is [4,4], but [5,6] is needed",
            SYMBOL(SHAPED("x", "(2, 6)") SHAPED("w", "(4, 4)")
                       NODE("FullyConnected", "f", "[0,0],[1,0]",
                            "\"num_hidden\":\"5\",\"no_bias\":\"1\""),
                   "[2,0]"));
}

/* The first state of an unrolled network: zeros for as many rows as the data has. */
KTEST(mx_symbol, open_zeros)
{
import i;
    READS(
        i,
        SYMBOL(
            SHAPED("x", "(3, 5)") NODE("_zeros", "z", "",
                                       "\"shape\":\"(0, 4)\"") "," VARIABLE("w") VARIABLE("u")
                NODE("FullyConnected", "i2h", "[0,0],[2,0]", "\"num_hidden\":\"4\",\"no_bias\":\"1\"") "," NODE(
                    "FullyConnected", "h2h", "[1,0],[3,0]",
                    "\"num_hidden\":\"4\",\"no_bias\":\"1\"") "," NODE("_Plus", "h", "[4,0],[5,0]",
                                                                       "") "," NODE("elemwise_mul",
                                                                                    "c",
                                                                                    "[6,0],[1,0]",
                                                                                    ""),
            "[6,0],[7,0]"));
    expect_shape(&i, "h_output", 2, 3, 4);
    expect_shape(&i, "u", 2, 4, 4);
    end(&i);
    REFUSED(
        UNIMPLEMENTED, "zeros of a shape that nothing says",
        SYMBOL(NODE("_zeros", "z", "", "\"shape\":\"(0, 4)\"") "," NODE("relu", "r", "[0,0]", ""),
               "[1,0]"));
}

KTEST(mx_symbol, labels_are_dropped)
{
import i;
    READS(i, SYMBOL(SHAPED("x", "(2, 6)") VARIABLE("softmax_label")
                        NODE("SoftmaxOutput", "softmax", "[0,0],[1,0]", ""),
                    "[2,0]"));
    cr_assert_eq(i.g->n_inputs, 1);
    cr_assert_str_eq(kgr_output_name(i.g->outputs[0]), "softmax_output");
    end(&i);
}

KTEST(mx_symbol, outputs_by_name)
{
    static const char text[] = SYMBOL(
        SHAPED("x", "(2, 6)") NODE("SliceChannel", "s", "[0,0]",
                                   "\"num_outputs\":\"3\"") "," NODE("relu", "r", "[1,1]", ""),
        "[2,0]");
    const char *outputs[] = {"s_output2", "r_output"};
    kcc_io_config io = {.outputs = outputs, .n_outputs = 2};
import i;
    KTEST_OK(i.err, read_model(&i, text, NULL, 0, &io));
    cr_assert_eq(i.g->n_outputs, 2);
    cr_assert_str_eq(kgr_output_name(i.g->outputs[0]), "s_output2");
    end(&i);
    outputs[0] = "t_output";
    KTEST_FAILS(i.err, INVALID_ARGUMENT, "there is no output 't_output'",
                read_model(&i, text, NULL, 0, &io));
    end(&i);
    kcc_io_input in = {.name = "y", .shape = {1, {1}}};
    io = (kcc_io_config){.inputs = &in, .n_inputs = 1};
    KTEST_FAILS(i.err, INVALID_ARGUMENT, "no input 'y'", read_model(&i, text, NULL, 0, &io));
    end(&i);
}

/* An output that is an input, one that stands twice. */
KTEST(mx_symbol, odd_outputs)
{
import i;
    READS(i, SYMBOL(SHAPED("x", "(2, 6)") NODE("Dropout", "d", "[0,0]", ""), "[0,0],[1,0],[1,0]"));
    cr_assert_eq(i.g->n_outputs, 3);
    cr_assert_str_eq(kgr_output_name(i.g->outputs[0]), "x");
    cr_assert_str_eq(kgr_output_name(i.g->outputs[1]), "d_output");
    cr_assert_eq(kgr_check(i.g, &i.err), KAENA_OK, "%s", i.err.what);
    end(&i);
}

KTEST(mx_symbol, refusals)
{
    REFUSED(INVALID_ARGUMENT, "line 1", "{\"nodes\":");
    REFUSED(INVALID_ARGUMENT, "lacks the lists", "{}");
    REFUSED(INVALID_ARGUMENT, "nest deeper", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[");
    REFUSED(INVALID_ARGUMENT, "no node 7",
            SYMBOL(VARIABLE("x") NODE("relu", "r", "[0,0]", ""), "[7,0]"));
    REFUSED(INVALID_ARGUMENT, "needs its own result",
            SYMBOL(NODE("relu", "a", "[1,0]", "") "," NODE("relu", "b", "[0,0]", ""), "[0,0]"));
    REFUSED(UNIMPLEMENTED, "node 'a': operator Frobnicate is not supported (1 node in all)",
            SYMBOL(SHAPED("x", "(1,)") NODE("Frobnicate", "a", "[0,0]", ""), "[1,0]"));
    REFUSED(UNIMPLEMENTED, "output 3 of node 'x'",
            SYMBOL(SHAPED("x", "(1,)") NODE("relu", "a", "[0,3]", ""), "[1,0]"));
    REFUSED(INVALID_ARGUMENT, "attribute 'kernel' is '(3, ', not a list",
            SYMBOL(SHAPED("x", "(1, 1, 4, 4)") NODE("Pooling", "p", "[0,0]", "\"kernel\":\"(3, \""),
                   "[1,0]"));
    REFUSED(INVALID_ARGUMENT, "attribute 'num_hidden' is missing",
            SYMBOL(SHAPED("x", "(1, 4)") NODE("FullyConnected", "f", "[0,0]", ""), "[1,0]"));
    REFUSED(UNIMPLEMENTED, "act_type 'wave' is not supported",
            SYMBOL(SHAPED("x", "(1, 4)") NODE("Activation", "a", "[0,0]", "\"act_type\":\"wave\""),
                   "[1,0]"));
    REFUSED(RESOURCE_EXHAUSTED, "more than 16777216 elements",
            SYMBOL(NODE("_zeros", "z", "", "\"shape\":\"(100000, 100000)\""), "[0,0]"));
}

/* A chain of as many nodes as a hostile file may have, backwards, and one that is a circle. */
KTEST(mx_symbol, long_chains)
{
    enum { N = 20000 };
    kaena_strbuf text = {0};
    for (int circle = 0; circle < 2; circle++) {
import i;
        text.size = 0;
        kaena_strbuf_printf(&text, "{\"nodes\":[");
        for (int k = 0; k < N; k++)
            kaena_strbuf_printf(&text, "{\"op\":\"relu\",\"name\":\"n%d\",\"inputs\":[[%d,0]]},", k,
                                circle ? (k + 1) % N : k + 1);
        kaena_strbuf_printf(&text, "{\"op\":\"null\",\"name\":\"x\",\"inputs\":[],\"attrs\":"
                                   "{\"__shape__\":\"(1, 2)\"}}],\"heads\":[[0,0]]}");
        if (circle) {
            KTEST_FAILS(i.err, INVALID_ARGUMENT, "needs its own result",
                        read_model(&i, text.data, NULL, 0, NULL));
        } else {
            READS(i, text.data);
            cr_assert_eq(i.g->n_nodes, N);
            cr_assert_lt(i.arena.used, 200 * text.size);
        }
        end(&i);
    }
    kaena_strbuf_fini(&text);
}
