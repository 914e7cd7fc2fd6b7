#include "mx_artifact.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "mx_params.h"

#define MXNET_VERSION 10500 /* whose form the symbol has */

static int64_t number_of(kaena_dtype t)
{
    for (int64_t i = 0; mx_dtype_of(i) != KAENA_DTYPE_NONE; i++)
        if (mx_dtype_of(i) == t)
            return i;
    return -1;
}

/* "(1, 3)", "(5,)", "()" */
static void write_tuple(const kaena_shape *s, kaena_strbuf *out)
{
    kaena_strbuf_printf(out, "(");
    for (int32_t i = 0; i < s->rank; i++)
        kaena_strbuf_printf(out, "%s%" PRId64, i ? ", " : "", s->dim[i]);
    kaena_strbuf_printf(out, s->rank == 1 ? ",)" : ")");
}

static json_t *variable(const kgr_value *v)
{
    kaena_strbuf shape = {0};
    write_tuple(&v->t.shape, &shape);
    char number[24];
    (void)snprintf(number, sizeof number, "%" PRId64, number_of(v->t.dtype));
    json_t *j = json_pack("{s:s, s:s, s:{s:s, s:s}, s:[]}", "op", "null", "name", v->name, "attrs",
                          "__shape__", shape.data, "__dtype__", number, "inputs");
    kaena_strbuf_fini(&shape);
    return j;
}

/* A list as the text of an attribute; takes |list|. */
static json_t *as_text(json_t *list)
{
    char *text = list ? json_dumps(list, JSON_COMPACT) : NULL;
    json_t *j = text ? json_string(text) : NULL;
    json_decref(list);
    free(text);
    return j;
}

static json_t *shape_list(const kaena_shape *s)
{
    json_t *list = json_array();
    for (int32_t i = 0; i < s->rank; i++)
        (void)json_array_append_new(list, json_integer(s->dim[i]));
    return list;
}

static json_t *the_node(const kcc_compilation *c, const char *name, const char *neff)
{
    const kgr_graph *g = c->graph;
    char tpbs[16];
    json_t *names = json_array(), *shapes = json_array(), *types = json_array();
    json_t *inputs = json_array();
    for (uint32_t i = 0; i < g->n_outputs; i++) {
        const kgr_value *v = g->outputs[i];
        (void)json_array_append_new(names, json_string(kgr_output_name(v)));
        (void)json_array_append_new(shapes, shape_list(&v->t.shape));
        (void)json_array_append_new(types, json_string(kaena_dtype_name(v->t.dtype)));
    }
    for (uint32_t i = 0; i < g->n_inputs; i++)
        (void)json_array_append_new(inputs, json_pack("[i, i, i]", (int)i, 0, 0));
    (void)snprintf(tpbs, sizeof tpbs, "%u", c->opt.num_tpbs);
    return json_pack("{s:s, s:s, s:{s:s, s:s, s:s, s:o, s:o, s:o}, s:o}", "op", "_kaena_neff",
                     "name", name, "attrs", "neff", neff, "compiler", KCC_VERSION_TEXT, "num_tpbs",
                     tpbs, "output_names", as_text(names), "output_shapes", as_text(shapes),
                     "output_dtypes", as_text(types), "inputs", inputs);
}

static json_t *whole_symbol(const kcc_compilation *c, const char *name, const char *neff)
{
    json_t *nodes = json_array(), *arguments = json_array(), *rows = json_array();
    json_t *heads = json_array();
    uint32_t n_in = c->graph->n_inputs, n_out = c->graph->n_outputs;
    for (uint32_t i = 0; i < n_in; i++) {
        (void)json_array_append_new(nodes, variable(c->graph->inputs[i]));
        (void)json_array_append_new(arguments, json_integer(i));
        (void)json_array_append_new(rows, json_integer(i));
    }
    (void)json_array_append_new(nodes, the_node(c, name, neff));
    (void)json_array_append_new(rows, json_integer(n_in));
    (void)json_array_append_new(rows, json_integer(n_in + n_out));
    for (uint32_t i = 0; i < n_out; i++)
        (void)json_array_append_new(heads, json_pack("[i, i, i]", (int)n_in, (int)i, 0));
    return json_pack("{s:o, s:o, s:o, s:o, s:{s:[s, i]}}", "nodes", nodes, "arg_nodes", arguments,
                     "node_row_ptr", rows, "heads", heads, "attrs", "mxnet_version", "int",
                     MXNET_VERSION);
}

kaena_status kcc_mx_write_symbol(const kcc_compilation *c, const char *name, const char *neff,
                                 const char *path, kaena_err *err)
{
    json_t *j = whole_symbol(c, name, neff);
    char *text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;
    json_decref(j);
    if (!text)
        return KAENA_FAIL(err, INTERNAL, "the symbol cannot be written: a name is not UTF-8");
    kaena_status s = kaena_file_write(path, text, strlen(text), err);
    free(text);
    return s;
}

kaena_status kcc_mx_write_no_params(const char *path, kaena_err *err)
{
    /* Magic number, reserved, number of arrays, number of names. */
    static const uint64_t empty[4] = {0x112, 0, 0, 0};
    return kaena_file_write(path, empty, sizeof empty, err);
}
