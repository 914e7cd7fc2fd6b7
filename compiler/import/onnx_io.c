#include "onnx_io.h"

#include <inttypes.h>
#include <string.h>

#include "strbuf.h"
#include "tensor_pb.h"

#define EXAMPLE_DIM 1 /* in place of an unknown dimension */

static kaena_status no_memory(const onnx_scope *s)
{
    return KAENA_FAIL(s->imp->err, RESOURCE_EXHAUSTED, "no memory for the graph");
}

/* --- Types ----------------------------------------------------------------------------------- */

static const Onnx__TypeTensor *tensor_type(const Onnx__ValueInfoProto *v)
{
    return v->type && v->type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE
               ? v->type->tensor_type
               : NULL;
}

static bool dim_is_symbolic(const Onnx__TensorShapeDimension *d)
{
    return d->value_case != ONNX__TENSOR_SHAPE_DIMENSION__VALUE_DIM_VALUE || d->dim_value < 0;
}

/* The symbol of a dimension; "" where it has none. */
static const char *dim_symbol(const Onnx__TensorShapeDimension *d)
{
    return d->value_case == ONNX__TENSOR_SHAPE_DIMENSION__VALUE_DIM_PARAM ? onnx_text(d->dim_param)
                                                                          : "";
}

/* --- Symbols that --io-config fixes ----------------------------------------------------------- */

#define SYMBOL_AMBIGUOUS (-2)

typedef struct symbols {
    kcc_name_table names;
    int64_t *size; /* [names.n]; SYMBOL_AMBIGUOUS where two inputs disagree */
} symbols;

static kaena_status bind_symbol(const onnx_scope *s, symbols *sym, const char *name, int64_t size)
{
    uint32_t i;
    if (!*name)
        return KAENA_OK;
    if (kcc_name_find(&sym->names, name, &i)) {
        /* Some exporters give one name to dimensions that differ; then it says nothing. */
        if (sym->size[i] != size)
            sym->size[i] = SYMBOL_AMBIGUOUS;
        return KAENA_OK;
    }
    sym->size[sym->names.n] = size;
    return kcc_name_add(&sym->names, name, sym->names.n) == KCC_NAME_ADDED ? KAENA_OK
                                                                           : no_memory(s);
}

static kaena_status bind_symbols(const onnx_scope *s, const Onnx__GraphProto *graph, symbols *sym)
{
    size_t most = 0;
    for (uint32_t i = 0; i < s->imp->io->n_inputs; i++)
        most += (size_t)s->imp->io->inputs[i].shape.rank;
    sym->names.arena = s->imp->arena;
    sym->size = KAENA_NEW_N(s->imp->arena, int64_t, most);
    if (!sym->size)
        return no_memory(s);
    for (size_t i = 0; i < graph->n_input; i++) {
        const Onnx__TypeTensor *t = tensor_type(graph->input[i]);
        const kcc_io_input *said =
            kcc_io_config_input(s->imp->io, onnx_text(graph->input[i]->name));
        if (!t || !t->shape || !said || t->shape->n_dim != (size_t)said->shape.rank)
            continue;
        for (size_t k = 0; k < t->shape->n_dim; k++)
            KAENA_TRY(bind_symbol(s, sym, dim_symbol(t->shape->dim[k]), said->shape.dim[k]));
    }
    return KAENA_OK;
}

/* --- Inputs ---------------------------------------------------------------------------------- */

/* The shape as the model writes it: [1,3,?,height]. */
static void print_shape(const Onnx__TypeTensor *t, kaena_strbuf *out)
{
    kaena_strbuf_printf(out, "[");
    for (size_t i = 0; t->shape && i < t->shape->n_dim; i++) {
        const Onnx__TensorShapeDimension *d = t->shape->dim[i];
        if (i)
            kaena_strbuf_printf(out, ",");
        if (!dim_is_symbolic(d))
            kaena_strbuf_printf(out, "%" PRId64, d->dim_value);
        else
            kaena_strbuf_printf(out, "%s", *dim_symbol(d) ? dim_symbol(d) : "?");
    }
    kaena_strbuf_printf(out, t->shape ? "]" : "any rank]");
}

/* `--io-config '{"inputs":{"x":[[1,3,1,1],"float32"],...}}'` with every input that needs it. */
static void print_example(const onnx_scope *s, const Onnx__GraphProto *graph, kaena_strbuf *out)
{
    const char *comma = "";
    kaena_strbuf_printf(out, "fix it, for example: --io-config '{\"inputs\":{");
    for (size_t i = 0; i < graph->n_input; i++) {
        const Onnx__TypeTensor *t = tensor_type(graph->input[i]);
        bool symbolic = t && !t->shape;
        for (size_t k = 0; t && t->shape && k < t->shape->n_dim; k++)
            symbolic |= dim_is_symbolic(t->shape->dim[k]);
        const onnx_def *d = onnx_scope_find(s, onnx_text(graph->input[i]->name));
        if (!symbolic || (d && d->init))
            continue;
        kaena_strbuf_printf(out, "%s\"%s\":[[", comma, onnx_text(graph->input[i]->name));
        for (size_t k = 0; t->shape && k < t->shape->n_dim; k++) {
            const Onnx__TensorShapeDimension *dim = t->shape->dim[k];
            kaena_strbuf_printf(out, "%s%" PRId64, k ? "," : "",
                                dim_is_symbolic(dim) ? EXAMPLE_DIM : dim->dim_value);
        }
        kaena_strbuf_printf(out, "],\"%s\"]", kaena_dtype_name((kaena_dtype)t->elem_type));
        comma = ",";
    }
    kaena_strbuf_printf(out, "}}'");
}

static kaena_status refuse_symbolic(const onnx_scope *s, const Onnx__GraphProto *graph,
                                    const Onnx__ValueInfoProto *v, size_t dim)
{
    const Onnx__TypeTensor *t = tensor_type(v);
    kaena_strbuf shape = {0}, example = {0};
    print_shape(t, &shape);
    print_example(s, graph, &example);
    if (t->shape)
        (void)KAENA_FAIL(s->imp->err, FAILED_PRECONDITION,
                         "input '%s' has the symbolic shape %s: dimension %zu is not fixed",
                         onnx_text(v->name), shape.data, dim);
    else
        (void)KAENA_FAIL(s->imp->err, FAILED_PRECONDITION,
                         "input '%s' has no shape: not even its rank is fixed", onnx_text(v->name));
    kaena_err_hint(s->imp->err, "%s", example.data);
    kaena_strbuf_fini(&shape);
    kaena_strbuf_fini(&example);
    return KAENA_FAILED_PRECONDITION;
}

static kaena_status check_said(const onnx_scope *s, const Onnx__ValueInfoProto *v,
                               kaena_dtype dtype, const kcc_io_input *said)
{
    const Onnx__TypeTensor *t = tensor_type(v);
    if (said->dtype != KAENA_DTYPE_NONE && said->dtype != dtype)
        return KAENA_FAIL(s->imp->err, INVALID_ARGUMENT,
                          "--io-config says input '%s' is %s, the model says %s", said->name,
                          kaena_dtype_name(said->dtype), kaena_dtype_name(dtype));
    bool fits = !t->shape || t->shape->n_dim == (size_t)said->shape.rank;
    for (size_t k = 0; fits && t->shape && k < t->shape->n_dim; k++) {
        const Onnx__TensorShapeDimension *d = t->shape->dim[k];
        /* Old exporters write 0 for a dimension they do not know. */
        fits = dim_is_symbolic(d) || d->dim_value == 0 || d->dim_value == said->shape.dim[k];
    }
    if (fits)
        return KAENA_OK;
    char buf[KAENA_SHAPE_TEXT];
    kaena_strbuf shape = {0};
    print_shape(t, &shape);
    (void)KAENA_FAIL(s->imp->err, INVALID_ARGUMENT,
                     "--io-config says input '%s' has shape %s, the model says %s", said->name,
                     kaena_shape_print(&said->shape, buf, sizeof buf), shape.data);
    kaena_strbuf_fini(&shape);
    return KAENA_INVALID_ARGUMENT;
}

static kaena_status input_shape(const onnx_scope *s, const Onnx__GraphProto *graph,
                                const Onnx__ValueInfoProto *v, kaena_dtype dtype,
                                const symbols *sym, kaena_shape *out)
{
    const Onnx__TypeTensor *t = tensor_type(v);
    const kcc_io_input *said = kcc_io_config_input(s->imp->io, onnx_text(v->name));
    if (said) {
        KAENA_TRY(check_said(s, v, dtype, said));
        *out = said->shape;
        return KAENA_OK;
    }
    if (!t->shape)
        return refuse_symbolic(s, graph, v, 0);
    if (t->shape->n_dim > KAENA_MAX_RANK)
        return KAENA_FAIL(s->imp->err, UNIMPLEMENTED,
                          "input '%s' has %zu dimensions; at most %d are supported",
                          onnx_text(v->name), t->shape->n_dim, KAENA_MAX_RANK);
    kaena_shape shape = {.rank = (int32_t)t->shape->n_dim};
    for (size_t k = 0; k < t->shape->n_dim; k++) {
        const Onnx__TensorShapeDimension *d = t->shape->dim[k];
        uint32_t i;
        if (!dim_is_symbolic(d))
            shape.dim[k] = d->dim_value;
        else if (kcc_name_find(&sym->names, dim_symbol(d), &i) && sym->size[i] >= 0)
            shape.dim[k] = sym->size[i];
        else
            return refuse_symbolic(s, graph, v, k);
    }
    *out = shape;
    return KAENA_OK;
}

/* A sequence or optional: the plan wants no fixed shapes of what it holds. */
static kaena_status add_composite(onnx_scope *s, const Onnx__ValueInfoProto *v)
{
    kop_tensor t;
    onnx_def *d;
    const char *what = kaena_arena_printf(s->imp->arena, "input '%s'", onnx_text(v->name));
    if (!what)
        return no_memory(s);
    KAENA_TRY(onnx_type_of_pb(v->type, what, &t, s->imp->err));
    KAENA_TRY(onnx_scope_define(s, onnx_text(v->name), &d));
    d->value = kgr_value_add(s->imp->g, d->name, t.dtype, t.unranked ? NULL : &t.shape);
    if (!d->value || !kgr_input_add(s->imp->g, d->value))
        return no_memory(s);
    d->value->t.form = t.form;
    return KAENA_OK;
}

static kaena_status add_input(onnx_scope *s, const Onnx__GraphProto *graph,
                              const Onnx__ValueInfoProto *v, const symbols *sym)
{
    onnx_import *imp = s->imp;
    const Onnx__TypeTensor *t = tensor_type(v);
    if (!t)
        return add_composite(s, v);
    kaena_dtype dtype;
    kaena_shape shape;
    KAENA_TRY_WRAP(imp->err, kcc_dtype_of_pb(t->elem_type, &dtype, imp->err), "input '%s'",
                   onnx_text(v->name));
    KAENA_TRY(input_shape(s, graph, v, dtype, sym, &shape));
    int64_t elements;
    if (!kaena_shape_elements(&shape, &elements))
        return KAENA_FAIL(imp->err, INVALID_ARGUMENT, "input '%s': the shape has too many elements",
                          onnx_text(v->name));
    onnx_def *d;
    KAENA_TRY(onnx_scope_define(s, onnx_text(v->name), &d));
    d->value = kgr_value_add(imp->g, d->name, dtype, &shape);
    return d->value && kgr_input_add(imp->g, d->value) ? KAENA_OK : no_memory(s);
}

/* Up to IR version 3 every initializer is listed as an input too; later that gives a default,
 * which stands. */
static bool is_input(const onnx_scope *s, const Onnx__ValueInfoProto *v)
{
    const onnx_def *d = onnx_scope_find(s, onnx_text(v->name));
    return !d || !d->init;
}

/* An input that --io-config names but the model has not. Initializers are defined. */
static kaena_status check_input_names(const onnx_scope *s, const Onnx__GraphProto *graph)
{
    const kcc_io_config *io = s->imp->io;
    kcc_name_table known = {.arena = s->imp->arena};
    for (size_t k = 0; k < graph->n_input && io->n_inputs; k++)
        if (is_input(s, graph->input[k]) &&
            kcc_name_add(&known, onnx_text(graph->input[k]->name), 0) == KCC_NAME_NO_MEMORY)
            return no_memory(s);
    for (uint32_t i = 0; i < io->n_inputs; i++) {
        uint32_t at;
        if (kcc_name_find(&known, io->inputs[i].name, &at))
            continue;
        kaena_strbuf names = {0};
        for (size_t k = 0; k < graph->n_input; k++)
            if (is_input(s, graph->input[k]))
                kaena_strbuf_printf(&names, "%s'%s'", names.size ? ", " : "",
                                    onnx_text(graph->input[k]->name));
        (void)KAENA_FAIL(s->imp->err, INVALID_ARGUMENT,
                         "--io-config names input '%s'; the model's inputs are %s",
                         io->inputs[i].name, names.data ? names.data : "none");
        kaena_strbuf_fini(&names);
        return KAENA_INVALID_ARGUMENT;
    }
    return KAENA_OK;
}

kaena_status onnx_io_inputs(onnx_scope *s, Onnx__GraphProto *graph)
{
    onnx_def *d;
    if (graph->n_sparse_initializer)
        return KAENA_FAIL(s->imp->err, UNIMPLEMENTED, "sparse initializers are not supported");
    for (size_t i = 0; i < graph->n_initializer; i++) {
        KAENA_TRY_WRAP(s->imp->err, onnx_scope_define(s, graph->initializer[i]->name, &d),
                       "initializer %zu", i);
        d->init = graph->initializer[i];
    }
    KAENA_TRY(check_input_names(s, graph));
    symbols sym = {0};
    KAENA_TRY(bind_symbols(s, graph, &sym));
    for (size_t i = 0; i < graph->n_input; i++)
        if (is_input(s, graph->input[i]))
            KAENA_TRY(add_input(s, graph, graph->input[i], &sym));
    return KAENA_OK;
}

/* --- Outputs --------------------------------------------------------------------------------- */

static kaena_status refuse_output(const onnx_scope *s, const Onnx__GraphProto *graph,
                                  const char *name)
{
    kaena_strbuf names = {0};
    for (size_t k = 0; k < graph->n_output; k++)
        kaena_strbuf_printf(&names, "%s'%s'", k ? ", " : "", onnx_text(graph->output[k]->name));
    (void)KAENA_FAIL(s->imp->err, INVALID_ARGUMENT,
                     "--io-config names output '%s'; the model's outputs are %s", name,
                     names.data ? names.data : "none");
    kaena_strbuf_fini(&names);
    return KAENA_INVALID_ARGUMENT;
}

kaena_status onnx_io_output_names(onnx_scope *s, const Onnx__GraphProto *graph,
                                  const char *const **out, uint32_t *n)
{
    const kcc_io_config *io = s->imp->io;
    for (uint32_t i = 0; i < io->n_outputs; i++) {
        if (!onnx_scope_find(s, io->outputs[i]))
            return refuse_output(s, graph, io->outputs[i]);
    }
    if (io->n_outputs) {
        *out = io->outputs;
        *n = io->n_outputs;
        return KAENA_OK;
    }
    const char **names = KAENA_NEW_N(s->imp->arena, const char *, graph->n_output);
    kcc_name_table seen = {.arena = s->imp->arena};
    if (!names)
        return no_memory(s);
    for (size_t i = 0; i < graph->n_output; i++) {
        names[i] = onnx_text(graph->output[i]->name);
        switch (kcc_name_add(&seen, names[i], 0)) {
        case KCC_NAME_ADDED:
            break;
        case KCC_NAME_EXISTS:
            return KAENA_FAIL(s->imp->err, INVALID_ARGUMENT, "output '%s' is listed twice",
                              names[i]);
        case KCC_NAME_NO_MEMORY:
            return no_memory(s);
        }
    }
    *out = names;
    *n = (uint32_t)graph->n_output;
    return KAENA_OK;
}
