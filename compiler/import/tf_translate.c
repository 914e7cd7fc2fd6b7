#include "tf_translate.h"

#include <string.h>

#include "tf_xlat.h"

#define FOLD_BYTES ((size_t)256 << 20) /* of constants evaluated during the translation */
#define MAX_LISTED 8                   /* unsupported operators named in one message */

/* What a node has become: values by port. */
typedef struct result {
    kgr_value **v; /* NULL entries: the translation made nothing for this port */
    uint32_t n;
} result;

typedef struct translation {
    tf_import imp;
    const tf_boundary *boundary;
    result *results; /* [n_nodes] */
    tf_node **order; /* [n_order] topological, what the outputs need */
    uint32_t n_order;
} translation;

static kaena_status no_memory(const translation *t)
{
    return KAENA_FAIL(t->imp.err, RESOURCE_EXHAUSTED, "no memory for the graph");
}

/* --- Order ------------------------------------------------------------------------------------ */

static bool is_given(const translation *t, tf_edge e)
{
    const result *r = &t->results[e.node->id];
    return e.port < r->n && r->v[e.port];
}

typedef struct frame {
    tf_node *node;
    uint32_t next; /* input */
} frame;

static kaena_status refuse_cycle(const translation *t, const tf_node *n)
{
    (void)KAENA_FAIL(t->imp.err, INVALID_ARGUMENT,
                     "node '%s' (%s) needs its own result: the graph has a cycle", n->name, n->op);
    kaena_err_hint(t->imp.err, "a cycle makes sense only as a loop of Enter, Merge, Switch, "
                               "NextIteration and Exit");
    return KAENA_INVALID_ARGUMENT;
}

/* Appends what |root| needs, and it, to the order. */
static kaena_status visit(translation *t, tf_node *root, uint8_t *state, frame *stack)
{
    uint32_t depth = 0;
    if (state[root->id])
        return KAENA_OK;
    stack[depth++] = (frame){root, 0};
    state[root->id] = 1;
    while (depth) {
        frame *f = &stack[depth - 1];
        if (f->next == f->node->n_in) {
            state[f->node->id] = 2;
            t->order[t->n_order++] = f->node;
            depth--;
            continue;
        }
        tf_edge e = f->node->in[f->next++];
        if (is_given(t, e) || state[e.node->id] == 2)
            continue;
        if (state[e.node->id] == 1)
            return refuse_cycle(t, e.node);
        state[e.node->id] = 1;
        stack[depth++] = (frame){e.node, 0};
    }
    return KAENA_OK;
}

static kaena_status sort(translation *t)
{
    const tf_graph *tf = t->imp.tf;
    uint8_t *state = KAENA_NEW_N(t->imp.arena, uint8_t, tf->n_nodes);
    frame *stack = KAENA_NEW_N(t->imp.arena, frame, tf->n_nodes);
    t->order = KAENA_NEW_N(t->imp.arena, tf_node *, tf->n_nodes);
    if (!state || !stack || !t->order)
        return no_memory(t);
    for (uint32_t i = 0; i < t->boundary->n_out; i++)
        if (!is_given(t, t->boundary->out[i].edge))
            KAENA_TRY(visit(t, t->boundary->out[i].edge.node, state, stack));
    return KAENA_OK;
}

/* --- Operators we do not have ----------------------------------------------------------------- */

static bool is_known(const tf_node *n)
{
    const tf_op_row *row = tf_op_find(n->op);
    return row && row->translate;
}

/* Names the first unsupported node with its operator, then the other operators. */
static kaena_status refuse(const translation *t, const tf_node *first)
{
    const char *listed[MAX_LISTED] = {first->op};
    uint32_t n_listed = 1, n_nodes = 0;
    for (uint32_t i = 0; i < t->n_order; i++) {
        const tf_node *n = t->order[i];
        if (is_known(n))
            continue;
        n_nodes++;
        bool seen = false;
        for (uint32_t k = 0; k < n_listed && !seen; k++)
            seen = strcmp(listed[k], n->op) == 0;
        if (!seen && n_listed < MAX_LISTED)
            listed[n_listed++] = n->op;
    }
    kaena_strbuf others = {0};
    for (uint32_t k = 1; k < n_listed; k++)
        kaena_strbuf_printf(&others, "%s%s", k > 1 ? ", " : "; also unsupported: ", listed[k]);
    (void)KAENA_FAIL(t->imp.err, UNIMPLEMENTED,
                     "node '%s': TensorFlow operator %s is not supported (%u %s in all)%s",
                     first->name, first->op, n_nodes, n_nodes == 1 ? "node" : "nodes",
                     others.data ? others.data : "");
    kaena_strbuf_fini(&others);
    kaena_err_hint(t->imp.err,
                   "'kcc list-operators --framework TENSORFLOW' shows the supported ones; build "
                   "the graph of these, or select outputs before this node with --io-config");
    return KAENA_UNIMPLEMENTED;
}

static kaena_status check_operators(const translation *t)
{
    for (uint32_t i = 0; i < t->n_order; i++)
        if (!is_known(t->order[i]))
            return refuse(t, t->order[i]);
    return KAENA_OK;
}

/* --- Nodes ------------------------------------------------------------------------------------ */

/* The value of |e|, which an earlier node or the boundary has made. */
static kaena_status value_of(const translation *t, tf_edge e, kgr_value **out)
{
    if (!is_given(t, e))
        return KAENA_FAIL(t->imp.err, INVALID_ARGUMENT, "node '%s' (%s) has no result %u",
                          e.node->name, e.node->op, e.port);
    *out = t->results[e.node->id].v[e.port];
    return KAENA_OK;
}

static kaena_status keep_results(translation *t, const tf_node *n, const tf_xlat *x)
{
    result *r = &t->results[n->id];
    if (r->n == 0) {
        *r = (result){x->out, x->n_out};
        return KAENA_OK;
    }
    /* Some of its ports are inputs of the model: these stay. */
    uint32_t n_out = x->n_out > r->n ? x->n_out : r->n;
    kgr_value **v = KAENA_NEW_N(t->imp.arena, kgr_value *, n_out);
    if (!v)
        return no_memory(t);
    for (uint32_t i = 0; i < n_out; i++)
        v[i] = i < r->n && r->v[i] ? r->v[i] : i < x->n_out ? x->out[i] : NULL;
    *r = (result){v, n_out};
    return KAENA_OK;
}

static kaena_status translate_node(translation *t, const tf_node *n)
{
    const tf_op_row *row = tf_op_find(n->op);
    tf_xlat x = {.imp = &t->imp, .node = n, .row = row, .n_in = n->n_in};
    if (n->n_in < row->min_in || n->n_in > row->max_in)
        return KAENA_FAIL(t->imp.err, INVALID_ARGUMENT, "%u inputs; the operator takes %u%s%u",
                          n->n_in, row->min_in, row->min_in == row->max_in - 1 ? " or " : " to ",
                          row->max_in);
    x.in = KAENA_NEW_N(t->imp.arena, kgr_value *, n->n_in);
    if (!x.in)
        return no_memory(t);
    for (uint32_t i = 0; i < n->n_in; i++)
        KAENA_TRY_WRAP(t->imp.err, value_of(t, n->in[i], &x.in[i]), "input %u", i);
    KAENA_TRY(row->translate(&x));
    return keep_results(t, n, &x);
}

/* --- The boundary ----------------------------------------------------------------------------- */

static kaena_status add_inputs(translation *t)
{
    for (uint32_t i = 0; i < t->boundary->n_in; i++) {
        const tf_input *in = &t->boundary->in[i];
        result *r = &t->results[in->edge.node->id];
        if (in->edge.port > TF_MAX_PORTS)
            return KAENA_FAIL(t->imp.err, INVALID_ARGUMENT,
                              "input '%s': no node has that many "
                              "results",
                              in->name);
        if (is_given(t, in->edge))
            return KAENA_FAIL(t->imp.err, INVALID_ARGUMENT, "input '%s' is named twice", in->name);
        kgr_value **v =
            KAENA_NEW_N(t->imp.arena, kgr_value *, in->edge.port < r->n ? r->n : in->edge.port + 1);
        if (!v)
            return no_memory(t);
        if (r->n)
            memcpy(v, r->v, r->n * sizeof(kgr_value *));
        *r = (result){v, in->edge.port < r->n ? r->n : in->edge.port + 1};
        v[in->edge.port] = kgr_value_add(t->imp.g, in->name, in->dtype, &in->shape);
        if (!v[in->edge.port] || !kgr_input_add(t->imp.g, v[in->edge.port]))
            return no_memory(t);
    }
    return KAENA_OK;
}

/* An output is the result of an Identity, so that it has its name and no other output is the same
 * value; the passes take it away again. */
static kaena_status add_outputs(translation *t)
{
    for (uint32_t i = 0; i < t->boundary->n_out; i++) {
        const tf_output *out = &t->boundary->out[i];
        kgr_value *v;
        KAENA_TRY_WRAP(t->imp.err, value_of(t, out->edge, &v), "output '%s'", out->name);
        kgr_node *n = kgr_node_add(t->imp.g, NULL, KOP_Identity, out->edge.node->name,
                                   out->edge.node->op, &v, 1, &out->name, 1);
        if (!n)
            return no_memory(t);
        KAENA_TRY(kgr_infer_node(n, t->imp.err));
        v = n->out[0];
        /* A model may give an input under the same name. */
        if (strcmp(v->name, out->name) != 0)
            v->output_name = kaena_arena_strdup(t->imp.arena, out->name);
        if (!kgr_output_add(t->imp.g, v))
            return no_memory(t);
    }
    return KAENA_OK;
}

kaena_status tf_translate(tf_graph *g, const tf_boundary *boundary, const char *name,
                          kgr_graph **out, kaena_err *err)
{
    translation t = {.imp = {.arena = g->arena, .tf = g, .err = err, .fold_left = FOLD_BYTES},
                     .boundary = boundary};
    t.imp.g = kgr_graph_create(g->arena, name);
    t.results = KAENA_NEW_N(g->arena, result, g->n_nodes);
    if (!t.imp.g || !t.results)
        return no_memory(&t);
    if (boundary->n_out == 0)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "the graph has no outputs");
    KAENA_TRY(add_inputs(&t));
    KAENA_TRY(sort(&t));
    KAENA_TRY(check_operators(&t));
    for (uint32_t i = 0; i < t.n_order; i++)
        KAENA_TRY_WRAP(err, translate_node(&t, t.order[i]), "node '%s' (%s)", t.order[i]->name,
                       t.order[i]->op);
    KAENA_TRY(add_outputs(&t));
    (void)kgr_remove_dead(t.imp.g);
    *out = t.imp.g;
    return KAENA_OK;
}
