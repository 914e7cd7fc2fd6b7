#include "tf_translate.h"

#include <string.h>

#include "tf_xlat.h"

#define FOLD_BYTES ((size_t)256 << 20) /* of constants evaluated during the translation */
#define MAX_LISTED 8                   /* unsupported operators named in one message */
#define MAX_IN_REGIONS (1u << 20)      /* nodes translated inside of regions, again and again */

/* What a node has become: values by port. */
typedef struct result {
    kgr_value **v; /* NULL entries: the translation made nothing for this port */
    uint32_t n;
    uint32_t turn;   /* of the translation this is from: of another one it counts as nothing */
    uint8_t visited; /* by the sort: 1 begun, 2 done */
} result;

/* A result of a translation around, which comes back when the one of a region is over. */
typedef struct kept {
    uint32_t id;
    result r;
} kept;

/* What all translations of one graph have in common. */
typedef struct shared {
    result *results; /* [n_nodes] */
    uint32_t turns, in_regions;
} shared;

/* One translation: of a graph, or of a region on its way into the graph of a body. */
typedef struct translation {
    tf_import imp;
    shared *all;
    uint32_t turn;
    kept *kept;
    uint32_t n_kept, cap_kept;
    tf_node **order; /* [n_order] topological, what the outputs need */
    uint32_t n_order, cap_order;
    struct frame *stack; /* of the sort */
    uint32_t cap_stack;
} translation;

static kaena_status no_memory(const translation *t)
{
    return KAENA_FAIL(t->imp.err, RESOURCE_EXHAUSTED, "no memory for the graph");
}

/* --- Order ------------------------------------------------------------------------------------ */

/* The node's result in this translation, which replaces that of another one; NULL: no memory. */
static result *own(translation *t, const tf_node *n)
{
    result *r = &t->all->results[n->id];
    if (r->turn == t->turn)
        return r;
    if (r->turn) {
        if (t->n_kept == t->cap_kept) {
            uint32_t cap = t->cap_kept ? t->cap_kept * 2 : 64;
            kept *fresh = KAENA_NEW_N(t->imp.arena, kept, cap);
            if (!fresh)
                return NULL;
            if (t->n_kept)
                memcpy(fresh, t->kept, t->n_kept * sizeof *fresh);
            t->kept = fresh;
            t->cap_kept = cap;
        }
        t->kept[t->n_kept++] = (kept){n->id, *r};
    }
    *r = (result){.turn = t->turn};
    return r;
}

static void give_back(translation *t)
{
    while (t->n_kept) {
        const kept *k = &t->kept[--t->n_kept];
        t->all->results[k->id] = k->r;
    }
}

static const result *look(const translation *t, const tf_node *n)
{
    static const result nothing;
    const result *r = &t->all->results[n->id];
    return r->turn == t->turn ? r : &nothing;
}

static bool is_given(const translation *t, tf_edge e)
{
    const result *r = look(t, e.node);
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

static bool push(translation *t, uint32_t *depth, tf_node *n)
{
    result *r = own(t, n);
    if (r && *depth == t->cap_stack) {
        uint32_t cap = t->cap_stack ? t->cap_stack * 2 : 64;
        frame *fresh = KAENA_NEW_N(t->imp.arena, frame, cap);
        if (!fresh)
            return false;
        if (*depth)
            memcpy(fresh, t->stack, *depth * sizeof *fresh);
        t->stack = fresh;
        t->cap_stack = cap;
    }
    if (!r)
        return false;
    r->visited = 1;
    t->stack[(*depth)++] = (frame){n, 0};
    return true;
}

static bool append(translation *t, tf_node *n)
{
    if (t->n_order == t->cap_order) {
        uint32_t cap = t->cap_order ? t->cap_order * 2 : 64;
        tf_node **fresh = KAENA_NEW_N(t->imp.arena, tf_node *, cap);
        if (!fresh)
            return false;
        if (t->n_order)
            memcpy(fresh, t->order, t->n_order * sizeof *fresh);
        t->order = fresh;
        t->cap_order = cap;
    }
    t->order[t->n_order++] = n;
    return true;
}

/* Appends what |root| needs, and it, to the order. */
static kaena_status visit(translation *t, tf_node *root)
{
    uint32_t depth = 0;
    if (look(t, root)->visited)
        return KAENA_OK;
    if (!push(t, &depth, root))
        return no_memory(t);
    while (depth) {
        frame *f = &t->stack[depth - 1];
        if (f->next == f->node->n_in) {
            result *r = own(t, f->node);
            if (!r || !append(t, f->node))
                return no_memory(t);
            r->visited = 2;
            depth--;
            continue;
        }
        tf_edge e = f->node->in[f->next++];
        if (is_given(t, e) || look(t, e.node)->visited == 2)
            continue;
        if (look(t, e.node)->visited == 1)
            return refuse_cycle(t, e.node);
        if (!push(t, &depth, e.node))
            return no_memory(t);
    }
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
    *out = look(t, e.node)->v[e.port];
    return KAENA_OK;
}

static kaena_status keep_results(translation *t, const tf_node *n, const tf_xlat *x)
{
    result *r = own(t, n);
    if (!r)
        return no_memory(t);
    if (r->n == 0) {
        r->v = x->out;
        r->n = x->n_out;
        return KAENA_OK;
    }
    /* Some of its ports are inputs of the model: these stay. */
    uint32_t n_out = x->n_out > r->n ? x->n_out : r->n;
    kgr_value **v = KAENA_NEW_N(t->imp.arena, kgr_value *, n_out);
    if (!v)
        return no_memory(t);
    for (uint32_t i = 0; i < n_out; i++)
        v[i] = i < r->n && r->v[i] ? r->v[i] : i < x->n_out ? x->out[i] : NULL;
    r->v = v;
    r->n = n_out;
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

/* Translates what the |n| roots need that is not given. */
static kaena_status translate_nodes(translation *t, const tf_edge *roots, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (roots[i].node && !is_given(t, roots[i]))
            KAENA_TRY(visit(t, roots[i].node));
    KAENA_TRY(check_operators(t));
    for (uint32_t i = 0; i < t->n_order; i++)
        KAENA_TRY_WRAP(t->imp.err, translate_node(t, t->order[i]), "node '%s' (%s)",
                       t->order[i]->name, t->order[i]->op);
    return KAENA_OK;
}

/* |v| stands for |e| from now on. */
static kaena_status give(translation *t, tf_edge e, kgr_value *v)
{
    result *r = own(t, e.node);
    if (!r)
        return no_memory(t);
    if (e.port >= r->n) {
        kgr_value **list = KAENA_NEW_N(t->imp.arena, kgr_value *, e.port + 1);
        if (!list)
            return no_memory(t);
        if (r->n)
            memcpy(list, r->v, r->n * sizeof(kgr_value *));
        r->v = list;
        r->n = e.port + 1;
    }
    r->v[e.port] = v;
    return KAENA_OK;
}

/* --- Regions ---------------------------------------------------------------------------------- */

static kaena_status region_nodes(translation *t, const tf_region *r, kgr_value *const *in,
                                 kgr_value **out)
{
    for (uint32_t i = 0; i < r->n_in; i++)
        if (r->in[i].node && in[i])
            KAENA_TRY(give(t, r->in[i], in[i]));
    KAENA_TRY(translate_nodes(t, r->out, r->n_out));
    for (uint32_t i = 0; i < r->n_out; i++)
        if (r->out[i].node)
            KAENA_TRY_WRAP(t->imp.err, value_of(t, r->out[i], &out[i]), "result %u", i);
    return KAENA_OK;
}

kaena_status tf_translate_region(tf_xlat *x, const tf_region *r, kgr_graph *g, kgr_value *const *in,
                                 kgr_value **out)
{
    /* The importer of a node is the first member of its translation. */
    translation *around = (translation *)x->imp;
    translation t = {.imp = *x->imp, .all = around->all, .turn = ++around->all->turns};
    t.imp.g = g;
    t.imp.depth++;
    if (t.imp.depth > KGR_MAX_DEPTH)
        return KAENA_FAIL(t.imp.err, UNIMPLEMENTED,
                          "branches and loops are nested more than %d deep", KGR_MAX_DEPTH);
    kaena_status s = region_nodes(&t, r, in, out);
    give_back(&t);
    x->imp->fold_left = t.imp.fold_left;
    around->all->in_regions += t.n_order;
    if (s == KAENA_OK && around->all->in_regions > MAX_IN_REGIONS)
        return KAENA_FAIL(t.imp.err, RESOURCE_EXHAUSTED,
                          "the branches and loops have more than %u nodes", MAX_IN_REGIONS);
    return s;
}

/* --- The boundary ----------------------------------------------------------------------------- */

static kaena_status add_inputs(translation *t, const tf_boundary *b)
{
    for (uint32_t i = 0; i < b->n_in; i++) {
        const tf_input *in = &b->in[i];
        if (in->edge.port > TF_MAX_PORTS)
            return KAENA_FAIL(t->imp.err, INVALID_ARGUMENT,
                              "input '%s': no node has that many "
                              "results",
                              in->name);
        if (is_given(t, in->edge))
            return KAENA_FAIL(t->imp.err, INVALID_ARGUMENT, "input '%s' is named twice", in->name);
        kgr_value *v = kgr_value_add(t->imp.g, in->name, in->dtype, &in->shape);
        if (!v || !kgr_input_add(t->imp.g, v))
            return no_memory(t);
        KAENA_TRY(give(t, in->edge, v));
    }
    return KAENA_OK;
}

/* An output is the result of an Identity, so that it has its name and no other output is the same
 * value; the passes take it away again. */
static kaena_status add_outputs(translation *t, const tf_boundary *b)
{
    for (uint32_t i = 0; i < b->n_out; i++) {
        const tf_output *out = &b->out[i];
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
    shared all = {.turns = 1};
    translation t = {.imp = {.arena = g->arena, .tf = g, .err = err, .fold_left = FOLD_BYTES},
                     .all = &all,
                     .turn = 1};
    t.imp.g = kgr_graph_create(g->arena, name);
    all.results = KAENA_NEW_N(g->arena, result, g->n_nodes);
    tf_edge *roots = KAENA_NEW_N(g->arena, tf_edge, boundary->n_out);
    if (!t.imp.g || !all.results || !roots)
        return no_memory(&t);
    if (boundary->n_out == 0)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "the graph has no outputs");
    for (uint32_t i = 0; i < boundary->n_out; i++)
        roots[i] = boundary->out[i].edge;
    KAENA_TRY(add_inputs(&t, boundary));
    KAENA_TRY(translate_nodes(&t, roots, boundary->n_out));
    KAENA_TRY(add_outputs(&t, boundary));
    (void)kgr_remove_dead(t.imp.g);
    *out = t.imp.g;
    return KAENA_OK;
}
