/* The boundary of a frozen graph. */
#include <inttypes.h>
#include <string.h>

#include "strbuf.h"
#include "tf_translate.h"

#define EXAMPLE_DIM 1
#define MAX_OUTPUTS 4096 /* that are found rather than named */

static kaena_status no_memory(kaena_err *err)
{
    return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for the graph");
}

static bool is_placeholder(const tf_node *n)
{
    return strcmp(n->op, "Placeholder") == 0 || strcmp(n->op, "PlaceholderV2") == 0;
}

/* --- Shapes of inputs ------------------------------------------------------------------------- */

const kcc_io_input *tf_io_find(const kcc_io_config *io, const char *name)
{
    size_t n = strlen(name);
    const kcc_io_input *in = kcc_io_config_input(io, name);
    for (uint32_t i = 0; !in && n > 2 && strcmp(name + n - 2, ":0") == 0 && i < io->n_inputs; i++)
        if (strlen(io->inputs[i].name) == n - 2 && memcmp(io->inputs[i].name, name, n - 2) == 0)
            in = &io->inputs[i];
    return in;
}

static kaena_status refuse_open(const char *name, kaena_dtype dtype, const kaena_shape *shape,
                                bool unranked, kaena_err *err)
{
    char buf[KAENA_SHAPE_TEXT];
    if (unranked)
        (void)KAENA_FAIL(err, FAILED_PRECONDITION,
                         "input '%s' has no shape: not even its rank is fixed", name);
    else
        (void)KAENA_FAIL(err, FAILED_PRECONDITION,
                         "input '%s' has the shape %s, which is not fixed", name,
                         kaena_shape_print(shape, buf, sizeof buf));
    kaena_strbuf example = {0};
    for (int32_t i = 0; !unranked && i < shape->rank; i++)
        kaena_strbuf_printf(&example, "%s%" PRId64, i ? "," : "",
                            shape->dim[i] < 0 ? EXAMPLE_DIM : shape->dim[i]);
    kaena_err_hint(err, "fix it, for example: --io-config '{\"inputs\":{\"%s\":[[%s],\"%s\"]}}'",
                   name, example.data ? example.data : "", kaena_dtype_name(dtype));
    kaena_strbuf_fini(&example);
    return KAENA_FAILED_PRECONDITION;
}

static kaena_status check_said(const kcc_io_input *said, kaena_dtype dtype,
                               const kaena_shape *shape, bool unranked, kaena_err *err)
{
    char mine[KAENA_SHAPE_TEXT], theirs[KAENA_SHAPE_TEXT];
    if (said->dtype != KAENA_DTYPE_NONE && dtype != KAENA_DTYPE_NONE && said->dtype != dtype)
        return KAENA_FAIL(err, INVALID_ARGUMENT,
                          "--io-config says input '%s' is %s, the model says %s", said->name,
                          kaena_dtype_name(said->dtype), kaena_dtype_name(dtype));
    bool fits = unranked || shape->rank == said->shape.rank;
    for (int32_t i = 0; fits && !unranked && i < shape->rank; i++)
        fits = shape->dim[i] < 0 || shape->dim[i] == said->shape.dim[i];
    if (fits)
        return KAENA_OK;
    return KAENA_FAIL(err, INVALID_ARGUMENT,
                      "--io-config says input '%s' has shape %s, the model says %s", said->name,
                      kaena_shape_print(&said->shape, theirs, sizeof theirs),
                      kaena_shape_print(shape, mine, sizeof mine));
}

kaena_status tf_input_shape(const kcc_io_config *io, const char *name, kaena_dtype dtype,
                            const kaena_shape *shape, bool unranked, kaena_shape *out,
                            kaena_err *err)
{
    const kcc_io_input *said = tf_io_find(io, name);
    int64_t elements;
    if (said)
        KAENA_TRY(check_said(said, dtype, shape, unranked, err));
    else if (unranked || !kaena_shape_known(shape))
        return refuse_open(name, dtype, shape, unranked, err);
    if (!kaena_shape_elements(said ? &said->shape : shape, &elements))
        return KAENA_FAIL(err, INVALID_ARGUMENT, "input '%s': the shape has too many elements",
                          name);
    *out = said ? said->shape : *shape;
    return KAENA_OK;
}

/* What a Placeholder says about itself. */
static kaena_status placeholder_type(const tf_graph *g, const tf_node *n, kaena_dtype *dtype,
                                     kaena_shape *shape, bool *unranked, kaena_err *err)
{
    const Tensorflow__AttrValue *t = tf_node_attr(n, "dtype"), *s = tf_node_attr(n, "shape");
    if (!t || t->value_case != TENSORFLOW__ATTR_VALUE__VALUE_TYPE)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "attribute 'dtype' is missing");
    KAENA_TRY(tf_dtype((int)t->type, dtype, err));
    bool has_shape = s && s->value_case == TENSORFLOW__ATTR_VALUE__VALUE_SHAPE;
    KAENA_TRY(tf_shape(has_shape ? s->shape : NULL, shape, unranked, err));
    /* Before version 24 of the format a shape of no dimensions meant that nothing is known. */
    if (has_shape && shape->rank == 0 && g->producer < 24)
        *unranked = true;
    return KAENA_OK;
}

/* --- Inputs ----------------------------------------------------------------------------------- */

/* Nodes that the outputs need, over data edges; |cut|: ports that inputs of the model replace. */
static bool *needed_nodes(tf_graph *g, const tf_boundary *b, const bool *cut)
{
    bool *needed = KAENA_NEW_N(g->arena, bool, g->n_nodes);
    tf_node **stack = KAENA_NEW_N(g->arena, tf_node *, g->n_nodes);
    uint32_t depth = 0;
    if (!needed || !stack)
        return NULL;
    for (uint32_t i = 0; i < b->n_out; i++) {
        tf_node *n = b->out[i].edge.node;
        if (!needed[n->id])
            stack[depth++] = n;
        needed[n->id] = true;
    }
    while (depth) {
        const tf_node *n = stack[--depth];
        for (uint32_t i = 0; !cut[n->id] && i < n->n_in; i++) {
            tf_node *from = n->in[i].node;
            if (!needed[from->id])
                stack[depth++] = from;
            needed[from->id] = true;
        }
    }
    return needed;
}

static const char *tensor_name(kaena_arena *arena, tf_edge e)
{
    return kaena_arena_printf(arena, "%s:%u", e.node->name, e.port);
}

static kaena_status add_placeholder(tf_graph *g, const kcc_io_config *io, tf_node *n,
                                    tf_boundary *b, kaena_err *err)
{
    tf_input in = {.edge = {n, 0}, .name = tensor_name(g->arena, (tf_edge){n, 0})};
    kaena_shape shape;
    bool unranked;
    if (!in.name)
        return no_memory(err);
    KAENA_TRY_WRAP(err, placeholder_type(g, n, &in.dtype, &shape, &unranked, err), "node '%s' (%s)",
                   n->name, n->op);
    KAENA_TRY(tf_input_shape(io, in.name, in.dtype, &shape, unranked, &in.shape, err));
    b->in[b->n_in++] = in;
    return KAENA_OK;
}

/* What --io-config names that is no Placeholder: the graph is cut there. */
static kaena_status add_cut(tf_graph *g, const kcc_io_config *io, const kcc_io_input *said,
                            tf_edge e, tf_boundary *b, kaena_err *err)
{
    tf_input in = {.edge = e, .name = tensor_name(g->arena, e), .dtype = said->dtype};
    const Tensorflow__AttrValue *t = tf_node_attr(e.node, "dtype");
    if (in.dtype == KAENA_DTYPE_NONE && t && t->value_case == TENSORFLOW__ATTR_VALUE__VALUE_TYPE)
        KAENA_TRY(tf_dtype((int)t->type, &in.dtype, err));
    if (!in.name)
        return no_memory(err);
    if (in.dtype == KAENA_DTYPE_NONE)
        return KAENA_FAIL(err, FAILED_PRECONDITION,
                          "--io-config names input '%s', which is no Placeholder, without its type",
                          said->name);
    KAENA_TRY(tf_input_shape(io, in.name, in.dtype, &said->shape, false, &in.shape, err));
    b->in[b->n_in++] = in;
    return KAENA_OK;
}

static kaena_status refuse_input(const tf_graph *g, const kcc_io_input *said, kaena_err *err)
{
    kaena_strbuf names = {0};
    uint32_t listed = 0;
    for (uint32_t i = 0; i < g->n_nodes && listed < 8; i++)
        if (is_placeholder(g->nodes[i]))
            kaena_strbuf_printf(&names, "%s'%s:0'", listed++ ? ", " : "", g->nodes[i]->name);
    (void)KAENA_FAIL(err, INVALID_ARGUMENT,
                     "--io-config names input '%s'; the model's inputs are %s", said->name,
                     names.data ? names.data : "none");
    kaena_strbuf_fini(&names);
    return KAENA_INVALID_ARGUMENT;
}

/* The graph's Placeholders that the outputs need, in its order, then what --io-config adds. */
static kaena_status find_inputs(tf_graph *g, const kcc_io_config *io, tf_boundary *b,
                                kaena_err *err)
{
    bool *cut = KAENA_NEW_N(g->arena, bool, g->n_nodes);
    tf_edge *said = KAENA_NEW_N(g->arena, tf_edge, io->n_inputs);
    if (!cut || !said)
        return no_memory(err);
    for (uint32_t i = 0; i < io->n_inputs; i++) {
        if (tf_graph_find_edge(g, io->inputs[i].name, &said[i], NULL) != KAENA_OK)
            return refuse_input(g, &io->inputs[i], err);
        cut[said[i].node->id] = tf_op_ports(said[i].node) == 1;
    }
    const bool *needed = needed_nodes(g, b, cut);
    uint32_t most = io->n_inputs;
    for (uint32_t i = 0; needed && i < g->n_nodes; i++)
        most += is_placeholder(g->nodes[i]) && needed[i];
    b->in = KAENA_NEW_N(g->arena, tf_input, most);
    if (!needed || !b->in)
        return no_memory(err);
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (is_placeholder(g->nodes[i]) && needed[i])
            KAENA_TRY(add_placeholder(g, io, g->nodes[i], b, err));
    for (uint32_t i = 0; i < io->n_inputs; i++) {
        const tf_node *n = said[i].node;
        if (!is_placeholder(n) || said[i].port != 0)
            KAENA_TRY(add_cut(g, io, &io->inputs[i], said[i], b, err));
        else if (!needed[n->id])
            KAENA_TRY(add_placeholder(g, io, said[i].node, b, err));
    }
    return KAENA_OK;
}

/* --- Outputs ---------------------------------------------------------------------------------- */

static kaena_status said_outputs(tf_graph *g, const kcc_io_config *io, tf_boundary *b,
                                 kaena_err *err)
{
    kcc_name_table seen = {.arena = g->arena};
    b->out = KAENA_NEW_N(g->arena, tf_output, io->n_outputs);
    if (!b->out)
        return no_memory(err);
    for (uint32_t i = 0; i < io->n_outputs; i++) {
        tf_output out;
        KAENA_TRY_WRAP(err, tf_graph_find_edge(g, io->outputs[i], &out.edge, err),
                       "--io-config names output '%s'", io->outputs[i]);
        out.name = tensor_name(g->arena, out.edge);
        if (!out.name)
            return no_memory(err);
        switch (kcc_name_add(&seen, out.name, 0)) {
        case KCC_NAME_ADDED:
            break;
        case KCC_NAME_EXISTS:
            return KAENA_FAIL(err, INVALID_ARGUMENT, "--io-config names output '%s' twice",
                              out.name);
        case KCC_NAME_NO_MEMORY:
            return no_memory(err);
        }
        b->out[b->n_out++] = out;
    }
    return KAENA_OK;
}

/* Operators without a row count: that they are not supported is better said than passed over. */
static bool may_be_output(const tf_node *n)
{
    static const char *const never[] = {"Const", "PlaceholderWithDefault"};
    const tf_op_row *row = tf_op_find(n->op);
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        if (strcmp(n->op, never[i]) == 0)
            return false;
    return !is_placeholder(n) && (!row || row->translate);
}

static kaena_status sink_outputs(tf_graph *g, tf_boundary *b, kaena_err *err)
{
    bool *taken = KAENA_NEW_N(g->arena, bool, g->n_nodes);
    uint64_t most = 0;
    if (!taken)
        return no_memory(err);
    for (uint32_t i = 0; i < g->n_nodes; i++)
        for (uint32_t k = 0; k < g->nodes[i]->n_in; k++)
            taken[g->nodes[i]->in[k].node->id] = true;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (!taken[i] && may_be_output(g->nodes[i]))
            most += tf_op_ports(g->nodes[i]);
    if (most > MAX_OUTPUTS) {
        (void)KAENA_FAIL(err, INVALID_ARGUMENT,
                         "%" PRIu64 " results that no node takes; at most "
                         "%d can be outputs",
                         most, MAX_OUTPUTS);
        kaena_err_hint(err, "select the outputs with --io-config '{\"outputs\":[\"node:0\"]}'");
        return KAENA_INVALID_ARGUMENT;
    }
    b->out = KAENA_NEW_N(g->arena, tf_output, (size_t)most);
    if (!b->out)
        return no_memory(err);
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        tf_node *n = g->nodes[i];
        if (taken[i] || !may_be_output(n))
            continue;
        for (uint32_t port = 0; port < tf_op_ports(n); port++) {
            tf_output out = {.edge = {n, port}, .name = tensor_name(g->arena, (tf_edge){n, port})};
            if (!out.name)
                return no_memory(err);
            if (tf_op_port_wanted(n, port))
                b->out[b->n_out++] = out;
        }
    }
    return KAENA_OK;
}

kaena_status tf_boundary_of(tf_graph *g, const kcc_io_config *io, tf_boundary *out, kaena_err *err)
{
    tf_boundary b = {0};
    KAENA_TRY(io->n_outputs ? said_outputs(g, io, &b, err) : sink_outputs(g, &b, err));
    if (b.n_out == 0) {
        (void)KAENA_FAIL(err, INVALID_ARGUMENT, "the graph has no outputs");
        kaena_err_hint(err, "select some with --io-config '{\"outputs\":[\"node:0\"]}'");
        return KAENA_INVALID_ARGUMENT;
    }
    KAENA_TRY(find_inputs(g, io, &b, err));
    *out = b;
    return KAENA_OK;
}
