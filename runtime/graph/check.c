#include <stdlib.h>
#include <string.h>

#include "graph.h"
#include "names.h"

/* What check knows about a value while it walks the nodes. */
enum { DEFINED = 1, LISTED_OUTPUT = 2 };

typedef struct checker {
    const kgr_graph *g;
    uint32_t depth;
    uint8_t *seen;  /* [n_values] */
    uint32_t *uses; /* [n_values] */
    kaena_err *err;
} checker;

static kaena_status check_value(const checker *c, const kgr_value *v, const char *where)
{
    if (!v || v->id >= c->g->n_values || c->g->values[v->id] != v)
        return KAENA_FAIL(c->err, INTERNAL, "%s: a value that is not of this graph", where);
    if (kgr_names_find(c->g->value_names, v->name) != v)
        return KAENA_FAIL(c->err, INTERNAL, "%s: value '%s' does not own its name", where, v->name);
    return KAENA_OK;
}

static kaena_status check_operands(const checker *c, const kgr_node *n)
{
    const kop_row *row = kop_row_of(n->op);
    uint32_t n_in = n->n_in;
    if (kgr_attr_get_int(n, "kaena.residual", 0)) {
        if (n_in == 0 || !n->in[n_in - 1])
            return KAENA_FAIL(c->err, INVALID_ARGUMENT, "kaena.residual without an operand");
        n_in--;
    }
    if (n_in < row->min_in || n_in > row->max_in)
        return KAENA_FAIL(c->err, INVALID_ARGUMENT, "%u inputs, takes %u to %u", n_in, row->min_in,
                          row->max_in);
    if (n->n_out < row->min_out || n->n_out > row->max_out)
        return KAENA_FAIL(c->err, INVALID_ARGUMENT, "%u outputs, gives %u to %u", n->n_out,
                          row->min_out, row->max_out);
    for (uint32_t i = 0; i < n->n_in; i++) {
        const kgr_value *v = n->in[i];
        if (!v) {
            bool loop_bound = n->op == KOP_Loop && i < 2;
            if (!loop_bound && (i < row->min_in || n->n_body))
                return KAENA_FAIL(c->err, INVALID_ARGUMENT, "input %u must not be absent", i);
            continue;
        }
        KAENA_TRY(check_value(c, v, "input"));
        if (!(c->seen[v->id] & DEFINED))
            return KAENA_FAIL(c->err, INVALID_ARGUMENT, "input '%s' is computed by no node before",
                              v->name);
        if (n->use[i].node != n || n->use[i].slot != i ||
            (n->use[i].prev ? n->use[i].prev->next : v->first_use) != &n->use[i])
            return KAENA_FAIL(c->err, INTERNAL, "input '%s': the list of uses is broken", v->name);
        c->uses[v->id]++;
    }
    return KAENA_OK;
}

static kaena_status check_graph(const kgr_graph *g, uint32_t depth, kaena_err *err);

/* How many bodies a node of that operator has, what it takes and gives for what they take and give.
 */
static kaena_status check_signature(const checker *c, const kgr_node *n)
{
    bool branches = n->op == KOP_If;
    uint32_t want = branches ? 2 : n->op == KOP_Loop || n->op == KOP_Scan, carried = kgr_carried(n),
             own = kgr_own_inputs(n), n_captured = n->n_in - own;
    if (n->n_body != want)
        return KAENA_FAIL(c->err, INVALID_ARGUMENT, "%u bodies, takes %u", n->n_body, want);
    if (want == 0)
        return KAENA_OK;
    int64_t said = kgr_attr_get_int(n, "kaena.carried", 0);
    if (!branches && (said < 0 || said > n->n_out || said != (int64_t)carried))
        return KAENA_FAIL(c->err, INVALID_ARGUMENT,
                          "kaena.carried is %lld with %u operands and %u results", (long long)said,
                          n->n_in, n->n_out);
    int64_t scans = kgr_attr_get_int(n, "num_scan_inputs", 0);
    if (n->op == KOP_Scan && (scans < 1 || scans != (int64_t)(own - carried)))
        return KAENA_FAIL(c->err, INVALID_ARGUMENT,
                          "num_scan_inputs is %lld with %u operands behind the states",
                          (long long)scans, n->n_in - carried);
    uint32_t takes = branches ? n_captured : n->n_in, gives = n->n_out + (n->op == KOP_Loop);
    for (uint32_t i = 0; i < n->n_body; i++) {
        const kgr_graph *b = n->body[i];
        if (b->n_inputs != takes || b->n_outputs != gives)
            return KAENA_FAIL(c->err, INVALID_ARGUMENT,
                              "body '%s' has %u inputs and %u outputs, must have %u and %u",
                              b->name, b->n_inputs, b->n_outputs, takes, gives);
    }
    return KAENA_OK;
}

static kaena_status check_bodies(const checker *c, const kgr_node *n)
{
    KAENA_TRY(check_signature(c, n));
    if (n->n_body && c->depth == KGR_MAX_DEPTH)
        return KAENA_FAIL(c->err, INVALID_ARGUMENT, "bodies are nested deeper than %d",
                          KGR_MAX_DEPTH);
    for (uint32_t i = 0; i < n->n_body; i++) {
        if (n->body[i]->owner != n || n->body[i]->arena != c->g->arena)
            return KAENA_FAIL(c->err, INTERNAL, "body '%s' belongs to another node",
                              n->body[i]->name);
        KAENA_TRY(check_graph(n->body[i], c->depth + 1, c->err));
    }
    return KAENA_OK;
}

static kaena_status check_node(const checker *c, const kgr_node *n)
{
    if (n->op <= KOP_NONE || n->op >= KOP_COUNT)
        return KAENA_FAIL(c->err, INTERNAL, "operator number %d", (int)n->op);
    if (kgr_names_find(c->g->node_names, n->name) != n)
        return KAENA_FAIL(c->err, INTERNAL, "the node does not own its name");
    KAENA_TRY(check_operands(c, n));
    KAENA_TRY(check_bodies(c, n));
    for (uint32_t i = 0; i < n->n_out; i++) {
        KAENA_TRY(check_value(c, n->out[i], "output"));
        if (c->seen[n->out[i]->id] & DEFINED || n->out[i]->producer != n)
            return KAENA_FAIL(c->err, INTERNAL, "output '%s' has another definition",
                              n->out[i]->name);
        c->seen[n->out[i]->id] |= DEFINED;
    }
    return KAENA_OK;
}

static kaena_status check_boundary(const checker *c)
{
    const kgr_graph *g = c->g;
    for (uint32_t i = 0; i < g->n_inputs; i++) {
        const kgr_value *v = g->inputs[i];
        KAENA_TRY(check_value(c, v, "graph input"));
        if (!v->is_input || v->producer || v->t.data || c->seen[v->id] & DEFINED)
            return KAENA_FAIL(c->err, INTERNAL, "graph input '%s' has another definition", v->name);
        c->seen[v->id] |= DEFINED;
    }
    for (uint32_t i = 0; i < g->n_values; i++) {
        const kgr_value *v = g->values[i];
        if (v->t.data && (v->producer || v->is_input))
            return KAENA_FAIL(c->err, INTERNAL, "constant '%s' has another definition", v->name);
        if ((v->t.data || v->digest) && v->t.form != KOP_FORM_TENSOR)
            return KAENA_FAIL(c->err, INVALID_ARGUMENT, "constant '%s' is no tensor", v->name);
        if (v->t.data || v->digest)
            c->seen[v->id] |= DEFINED;
    }
    return KAENA_OK;
}

static kaena_status check_outputs(const checker *c)
{
    const kgr_graph *g = c->g;
    for (uint32_t i = 0; i < g->n_outputs; i++) {
        const kgr_value *v = g->outputs[i];
        KAENA_TRY(check_value(c, v, "graph output"));
        if (!(c->seen[v->id] & DEFINED))
            return KAENA_FAIL(c->err, INVALID_ARGUMENT, "graph output '%s' is computed by no node",
                              v->name);
        if (!v->is_output || c->seen[v->id] & LISTED_OUTPUT)
            return KAENA_FAIL(c->err, INTERNAL, "graph output '%s' is listed twice", v->name);
        c->seen[v->id] |= LISTED_OUTPUT;
        c->uses[v->id]++;
    }
    for (uint32_t i = 0; i < g->n_values; i++)
        if (c->uses[i] != g->values[i]->n_uses)
            return KAENA_FAIL(c->err, INTERNAL, "value '%s' has %u uses and counts %u",
                              g->values[i]->name, c->uses[i], g->values[i]->n_uses);
    return KAENA_OK;
}

static kaena_status check_all(const checker *c)
{
    KAENA_TRY(check_boundary(c));
    uint32_t count = 0;
    const kgr_node *before = NULL;
    for (const kgr_node *n = c->g->first; n; before = n, n = n->next) {
        if (n->prev != before || ++count > c->g->n_nodes)
            return KAENA_FAIL(c->err, INTERNAL, "the list of nodes is broken at '%s'", n->name);
        KAENA_TRY_WRAP(c->err, check_node(c, n), "node '%s' (%s)", n->name, n->origin);
    }
    if (count != c->g->n_nodes || c->g->last != before)
        return KAENA_FAIL(c->err, INTERNAL, "%u nodes, %u counted", count, c->g->n_nodes);
    return check_outputs(c);
}

static kaena_status check_graph(const kgr_graph *g, uint32_t depth, kaena_err *err)
{
    size_t n = g->n_values ? g->n_values : 1;
    checker c = {g, depth, calloc(n, 1), calloc(n, sizeof(uint32_t)), err};
    kaena_status s =
        c.seen && c.uses ? check_all(&c) : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
    free(c.seen);
    free(c.uses);
    return s == KAENA_OK ? s : kaena_err_wrap(err, s, "%s '%s'", depth ? "body" : "graph", g->name);
}

kaena_status kgr_check(const kgr_graph *g, kaena_err *err)
{
    return check_graph(g, 0, err);
}
