#include "tf_graph.h"

#include <string.h>

tf_graph *tf_graph_create(kaena_arena *arena)
{
    tf_graph *g = KAENA_NEW(arena, tf_graph);
    if (!g)
        return NULL;
    g->arena = arena;
    g->names.arena = arena;
    return g;
}

/* Room for one more element of |size| bytes in a list that doubles. */
static bool grow(kaena_arena *arena, void **list, uint32_t n, uint32_t *cap, size_t size)
{
    if (n < *cap)
        return true;
    uint32_t wanted = *cap ? *cap * 2 : 2;
    void *fresh = kaena_arena_array(arena, wanted, size);
    if (!fresh)
        return false;
    if (n)
        memcpy(fresh, *list, n * size);
    *list = fresh;
    *cap = wanted;
    return true;
}

/* --- Building and rewriting ------------------------------------------------------------------- */

tf_node *tf_node_add(tf_graph *g, const char *name, const char *op)
{
    if (g->n_nodes == INT32_MAX || kcc_name_add(&g->names, name, g->n_nodes) != KCC_NAME_ADDED)
        return NULL;
    tf_node *n = KAENA_NEW(g->arena, tf_node);
    if (!n || !grow(g->arena, (void **)&g->nodes, g->n_nodes, &g->cap_nodes, sizeof(tf_node *)))
        return NULL;
    n->id = g->n_nodes;
    n->name = name;
    n->op = op;
    g->nodes[g->n_nodes++] = n;
    return n;
}

const char *tf_graph_fresh_name(tf_graph *g, const char *name)
{
    uint32_t ignored;
    if (!kcc_name_find(&g->names, name, &ignored))
        return name;
    /* The number of nodes makes the first try a hit nearly always: no search through all of
     * "name_1", "name_2", ... */
    for (uint32_t i = g->n_nodes;; i++) {
        const char *fresh = kaena_arena_printf(g->arena, "%s_%u", name, i);
        if (!fresh || !kcc_name_find(&g->names, fresh, &ignored))
            return fresh;
    }
}

bool tf_node_add_input(tf_graph *g, tf_node *n, tf_edge e)
{
    if (!grow(g->arena, (void **)&n->in, n->n_in, &n->cap_in, sizeof e))
        return false;
    n->in[n->n_in++] = e;
    return true;
}

void tf_node_set_input(tf_node *n, uint32_t i, tf_edge e)
{
    n->in[i] = e;
}

bool tf_node_add_control(tf_graph *g, tf_node *n, tf_node *before)
{
    if (!grow(g->arena, (void **)&n->control, n->n_control, &n->cap_control, sizeof before))
        return false;
    n->control[n->n_control++] = before;
    return true;
}

bool tf_node_set_attr(tf_graph *g, tf_node *n, const char *name, const Tensorflow__AttrValue *value)
{
    for (uint32_t i = 0; i < n->n_attr; i++)
        if (strcmp(n->attr[i].name, name) == 0) {
            n->attr[i].value = value;
            return true;
        }
    if (!grow(g->arena, (void **)&n->attr, n->n_attr, &n->cap_attr, sizeof *n->attr))
        return false;
    n->attr[n->n_attr++] = (tf_attr){name, value};
    return true;
}

void tf_node_reset(tf_node *n, const char *op)
{
    n->op = op;
    n->n_in = 0;
    n->n_control = 0;
    n->n_attr = 0;
    n->tensor = NULL;
    n->region = NULL;
    n->n_region = 0;
}

void tf_node_make_const(tf_node *n, const kop_tensor *t)
{
    tf_node_reset(n, "Const");
    n->tensor = t;
}

bool tf_node_make_identity(tf_graph *g, tf_node *n, tf_edge e)
{
    tf_node_reset(n, "Identity");
    return tf_node_add_input(g, n, e);
}

/* --- Looking ---------------------------------------------------------------------------------- */

tf_node *tf_graph_find(const tf_graph *g, const char *name)
{
    uint32_t i;
    return kcc_name_find(&g->names, name, &i) ? g->nodes[i] : NULL;
}

bool tf_split_name(kaena_arena *arena, const char *name, const char **node, uint32_t *port)
{
    const char *colon = strrchr(name, ':');
    uint32_t number = 0;
    if (*name == '^' || !*name)
        return false;
    for (const char *c = colon ? colon + 1 : ""; *c; c++) {
        if (*c < '0' || *c > '9' || number > TF_MAX_PORTS)
            return false;
        number = number * 10 + (uint32_t)(*c - '0');
    }
    if (number > TF_MAX_PORTS || (colon && !colon[1]))
        return false;
    const char *copy = colon ? kaena_arena_printf(arena, "%.*s", (int)(colon - name), name) : name;
    if (!copy)
        return false;
    *node = copy;
    *port = number;
    return true;
}

kaena_status tf_graph_find_edge(const tf_graph *g, const char *name, tf_edge *out, kaena_err *err)
{
    const char *node;
    uint32_t port;
    if (!tf_split_name(g->arena, name, &node, &port))
        return KAENA_FAIL(err, INVALID_ARGUMENT,
                          "'%s' is not the name of a tensor; these look like \"node:0\"", name);
    tf_node *n = tf_graph_find(g, node);
    if (!n)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "the graph has no node '%s'", node);
    *out = (tf_edge){n, port};
    return KAENA_OK;
}

tf_edge tf_edge_origin(tf_edge e)
{
    for (int i = 0; i < 64 && e.node && strcmp(e.node->op, "Identity") == 0 && e.node->n_in == 1;
         i++)
        e = e.node->in[0];
    return e;
}

const Tensorflow__AttrValue *tf_node_attr(const tf_node *n, const char *name)
{
    for (uint32_t i = 0; i < n->n_attr; i++)
        if (strcmp(n->attr[i].name, name) == 0)
            return n->attr[i].value;
    return NULL;
}

/* --- Reading ---------------------------------------------------------------------------------- */

#define MAX_ATTRIBUTES 256 /* of one node; they are searched one by one */

static kaena_status no_memory(kaena_err *err)
{
    return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for the graph");
}

static kaena_status read_inputs(tf_graph *g, tf_node *n, const Tensorflow__NodeDef *pb,
                                kaena_err *err)
{
    /* An exact size: most nodes of a large graph have few inputs. */
    n->in = KAENA_NEW_N(g->arena, tf_edge, pb->n_input);
    if (!n->in)
        return no_memory(err);
    n->cap_in = (uint32_t)pb->n_input;
    for (size_t i = 0; i < pb->n_input; i++) {
        const char *name = pb->input[i];
        if (*name == '^') {
            tf_node *before = tf_graph_find(g, name + 1);
            if (!before)
                return KAENA_FAIL(err, INVALID_ARGUMENT, "input %zu: the graph has no node '%s'", i,
                                  name + 1);
            if (!tf_node_add_control(g, n, before))
                return no_memory(err);
            continue;
        }
        tf_edge e;
        KAENA_TRY_WRAP(err, tf_graph_find_edge(g, name, &e, err), "input %zu", i);
        if (n->n_control)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "input '%s' stands behind control inputs",
                              name);
        n->in[n->n_in++] = e;
    }
    return KAENA_OK;
}

static kaena_status read_attrs(tf_graph *g, tf_node *n, const Tensorflow__NodeDef *pb,
                               kaena_err *err)
{
    if (pb->n_attr > MAX_ATTRIBUTES)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "%zu attributes; at most %d make sense",
                          pb->n_attr, MAX_ATTRIBUTES);
    n->attr = KAENA_NEW_N(g->arena, tf_attr, pb->n_attr);
    if (!n->attr)
        return no_memory(err);
    n->cap_attr = (uint32_t)pb->n_attr;
    for (size_t i = 0; i < pb->n_attr; i++)
        if (pb->attr[i]->value && !tf_node_set_attr(g, n, pb->attr[i]->key, pb->attr[i]->value))
            return no_memory(err);
    return KAENA_OK;
}

kaena_status tf_graph_of_pb(kaena_arena *arena, const Tensorflow__GraphDef *pb, tf_graph **out,
                            kaena_err *err)
{
    tf_graph *g = tf_graph_create(arena);
    if (!g)
        return no_memory(err);
    if (pb->n_node >= INT32_MAX)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "too many nodes");
    g->library = pb->library;
    g->producer = pb->versions ? pb->versions->producer : pb->version;
    for (size_t i = 0; i < pb->n_node; i++) {
        const Tensorflow__NodeDef *n = pb->node[i];
        if (!*n->name || !*n->op)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "node number %zu has no %s", i,
                              *n->name ? "operator" : "name");
        if (tf_graph_find(g, n->name))
            return KAENA_FAIL(err, INVALID_ARGUMENT, "there are two nodes '%s'", n->name);
        if (!tf_node_add(g, n->name, n->op))
            return no_memory(err);
    }
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        tf_node *n = g->nodes[i];
        KAENA_TRY_WRAP(err, read_inputs(g, n, pb->node[i], err), "node '%s' (%s)", n->name, n->op);
        KAENA_TRY_WRAP(err, read_attrs(g, n, pb->node[i], err), "node '%s' (%s)", n->name, n->op);
    }
    *out = g;
    return KAENA_OK;
}
