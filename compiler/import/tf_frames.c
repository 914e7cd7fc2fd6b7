/* Loops of control flow v1 become While nodes.
 *
 * A variable of a loop is Enter -> Merge <- NextIteration; Switch, driven by the loop's only
 * LoopCond, hands it to the body or to Exit. What the loop only reads comes in through an Enter of
 * its own. So the condition is the region from the Merges to LoopCond's operand, the body the one
 * from the Switches to the NextIterations' operands. */
#include <string.h>

#include "tf_rewrite.h"

#define MAX_DEPTH 32                  /* of loops in loops */
#define MAX_STEPS ((uint64_t)1 << 28) /* of all walks together */

typedef struct variable {
    tf_node *enter, *merge, *pass /* Switch */, *next;
} variable;

typedef struct loop {
    tf_node *cond, *node; /* LoopCond; the While */
    variable *v;
    uint32_t n_v, cap_v;
    tf_node **read; /* the Enters of what it only reads */
    uint32_t n_read, cap_read;
    uint8_t state; /* of closing: 1 begun, 2 done */
} loop;

typedef struct framer {
    tf_graph *g;
    loop *loops;
    uint32_t n_loops;
    uint32_t n_nodes;  /* of the graph before the While nodes came */
    tf_node **pass_of; /* by id of a Merge: its Switch */
    uint32_t *loop_of; /* by id of a LoopCond or While: index of its loop + 1; of an Enter that
                          begins a variable: UINT32_MAX */
    uint32_t *stamp;   /* by node id: the walk that saw it last */
    uint32_t walks;
    uint64_t steps; /* inputs that walks have looked at */
    tf_node **stack;
    kaena_err *err;
} framer;

static kaena_status no_memory(const framer *f)
{
    return KAENA_FAIL(f->err, RESOURCE_EXHAUSTED, "no memory for the graph");
}

static bool is_op(const tf_node *n, const char *op)
{
    /* RefEnter, RefSwitch ... do the same with references. */
    return strcmp(n->op, op) == 0 || (strncmp(n->op, "Ref", 3) == 0 && strcmp(n->op + 3, op) == 0);
}

static kaena_status refuse(const framer *f, const tf_node *n, const char *why)
{
    return KAENA_FAIL(f->err, INVALID_ARGUMENT, "node '%s' (%s): %s", n->name, n->op, why);
}

/* Room for one more in a list that doubles. */
static bool grow(kaena_arena *arena, void *list_pointer, uint32_t n, uint32_t *cap, size_t size)
{
    void *list;
    if (n < *cap)
        return true;
    memcpy(&list, list_pointer, sizeof list);
    uint32_t wanted = *cap ? *cap * 2 : 4;
    void *fresh = kaena_arena_array(arena, wanted, size);
    if (!fresh)
        return false;
    if (n)
        memcpy(fresh, list, n * size);
    memcpy(list_pointer, &fresh, sizeof fresh);
    *cap = wanted;
    return true;
}

/* --- Finding the loops ---------------------------------------------------------------------------
 */

static bool is_loop_merge(const tf_node *n)
{
    return is_op(n, "Merge") && n->n_in == 2 &&
           (is_op(n->in[0].node, "NextIteration") || is_op(n->in[1].node, "NextIteration"));
}

/* The LoopCond behind a Switch's predicate. */
static tf_node *loop_cond(const tf_node *pass)
{
    tf_node *n = tf_edge_origin(pass->in[1]).node;
    return is_op(n, "LoopCond") && n->n_in == 1 ? n : NULL;
}

static kaena_status add_variable(framer *f, tf_node *merge)
{
    variable v = {.merge = merge, .pass = f->pass_of[merge->id]};
    for (int i = 0; i < 2; i++) {
        tf_node *n = merge->in[i].node;
        if (is_op(n, "NextIteration") && n->n_in == 1)
            v.next = n;
        if (is_op(n, "Enter") && n->n_in == 1)
            v.enter = n;
    }
    if (!v.enter || !v.next || !v.pass)
        return refuse(f, merge, "a loop's variable needs Enter, NextIteration and Switch");
    tf_node *cond = loop_cond(v.pass);
    if (!cond)
        return refuse(f, v.pass, "a loop's Switch needs a LoopCond");
    uint32_t index = f->loop_of[cond->id];
    if (index == 0) {
        f->loops[f->n_loops].cond = cond;
        index = f->loop_of[cond->id] = ++f->n_loops;
    }
    loop *l = &f->loops[index - 1];
    if (!grow(f->g->arena, &l->v, l->n_v, &l->cap_v, sizeof *l->v))
        return no_memory(f);
    l->v[l->n_v++] = v;
    f->loop_of[v.enter->id] = UINT32_MAX;
    return KAENA_OK;
}

static kaena_status find_loops(framer *f)
{
    uint32_t n_cond = 0;
    for (uint32_t i = 0; i < f->n_nodes; i++) {
        tf_node *n = f->g->nodes[i];
        n_cond += is_op(n, "LoopCond");
        if (is_op(n, "Switch") && n->n_in == 2 && is_loop_merge(n->in[0].node) && loop_cond(n))
            f->pass_of[n->in[0].node->id] = n;
    }
    f->loops = KAENA_NEW_N(f->g->arena, loop, n_cond);
    if (!f->loops)
        return no_memory(f);
    for (uint32_t i = 0; i < f->n_nodes; i++)
        if (is_loop_merge(f->g->nodes[i]))
            KAENA_TRY(add_variable(f, f->g->nodes[i]));
    return KAENA_OK;
}

/* --- Making them nodes
 * ---------------------------------------------------------------------------- */

/* The While, with the variables as inputs; what leaves the loop becomes its results. */
static kaena_status add_node(framer *f, loop *l)
{
    const char *name = kaena_arena_printf(f->g->arena, "%s/While", l->cond->name);
    name = name ? tf_graph_fresh_name(f->g, name) : NULL;
    l->node = name ? tf_node_add(f->g, name, "While") : NULL;
    if (!l->node)
        return no_memory(f);
    for (uint32_t i = 0; i < l->n_v; i++)
        if (!tf_node_add_input(f->g, l->node, l->v[i].enter->in[0]))
            return no_memory(f);
    return KAENA_OK;
}

/* Exit of variable i becomes result i of the While. */
static kaena_status rewrite_exits(framer *f)
{
    uint32_t *place = KAENA_NEW_N(f->g->arena, uint32_t, f->n_nodes); /* of a Switch: variable */
    loop **of = KAENA_NEW_N(f->g->arena, loop *, f->n_nodes);
    if (!place || !of)
        return no_memory(f);
    for (uint32_t k = 0; k < f->n_loops; k++)
        for (uint32_t i = 0; i < f->loops[k].n_v; i++) {
            place[f->loops[k].v[i].pass->id] = i;
            of[f->loops[k].v[i].pass->id] = &f->loops[k];
        }
    for (uint32_t i = 0; i < f->n_nodes; i++) {
        tf_node *n = f->g->nodes[i];
        if (!is_op(n, "Exit") || n->n_in != 1)
            continue;
        tf_edge from = n->in[0];
        if (from.node->id >= f->n_nodes || !of[from.node->id] || from.port != 0)
            return refuse(f, n, "it does not leave a loop");
        if (!tf_node_make_identity(f->g, n,
                                   (tf_edge){of[from.node->id]->node, place[from.node->id]}))
            return no_memory(f);
    }
    return KAENA_OK;
}

/* --- What a loop reads
 * ----------------------------------------------------------------------------- */

static kaena_status close_loop(framer *f, loop *l, int depth);

static bool see(framer *f, uint32_t walk, tf_node *n, uint32_t *depth)
{
    if (f->stamp[n->id] == walk)
        return false;
    f->stamp[n->id] = walk;
    f->stack[(*depth)++] = n;
    return true;
}

/* Finds the Enters that the loop's regions reach; loops inside are closed first, so that the walk
 * sees what they read. */
static kaena_status find_read(framer *f, loop *l, int depth)
{
    /* Once to close inner loops, which walk themselves, then to collect. */
    for (int round = 0; round < 2; round++) {
        uint32_t walk = ++f->walks, n_stack = 0;
        for (uint32_t i = 0; i < l->n_v; i++) {
            f->stamp[l->v[i].merge->id] = walk;
            f->stamp[l->v[i].pass->id] = walk;
        }
        (void)see(f, walk, l->cond->in[0].node, &n_stack);
        for (uint32_t i = 0; i < l->n_v; i++)
            (void)see(f, walk, l->v[i].next->in[0].node, &n_stack);
        loop **inner = NULL;
        uint32_t n_inner = 0, cap_inner = 0;
        while (n_stack) {
            tf_node *n = f->stack[--n_stack];
            f->steps += n->n_in + 1;
            if (f->steps > MAX_STEPS)
                return KAENA_FAIL(f->err, RESOURCE_EXHAUSTED,
                                  "too many loops over too many nodes: what a loop reads must come "
                                  "in through Enter");
            if (is_op(n, "Enter")) {
                if (f->loop_of[n->id] == UINT32_MAX)
                    return refuse(f, n, "it begins a variable and is read besides");
                if (round == 0)
                    continue;
                if (!grow(f->g->arena, &l->read, l->n_read, &l->cap_read, sizeof *l->read))
                    return no_memory(f);
                l->read[l->n_read++] = n;
                continue;
            }
            uint32_t index = f->loop_of[n->id];
            if (index > 0 && f->loops[index - 1].node == n && f->loops[index - 1].state != 2) {
                if (!grow(f->g->arena, &inner, n_inner, &cap_inner, sizeof *inner))
                    return no_memory(f);
                inner[n_inner++] = &f->loops[index - 1];
            }
            for (uint32_t i = 0; i < n->n_in; i++)
                (void)see(f, walk, n->in[i].node, &n_stack);
            for (uint32_t r = 0; r < n->n_region; r++)
                for (uint32_t i = 0; i < n->region[r].n_out; i++)
                    /* A loop's own regions read through its inputs. */
                    if (index == 0 && n->region[r].out[i].node)
                        (void)see(f, walk, n->region[r].out[i].node, &n_stack);
        }
        for (uint32_t i = 0; i < n_inner; i++)
            KAENA_TRY(close_loop(f, inner[i], depth + 1));
    }
    return KAENA_OK;
}

static kaena_status add_region(framer *f, const loop *l, tf_region *r, bool is_body)
{
    kaena_arena *arena = f->g->arena;
    r->n_in = l->n_v + l->n_read;
    r->n_out = is_body ? r->n_in : 1;
    r->in = KAENA_NEW_N(arena, tf_edge, r->n_in);
    r->out = KAENA_NEW_N(arena, tf_edge, r->n_out);
    if (!r->in || !r->out)
        return no_memory(f);
    for (uint32_t i = 0; i < l->n_v; i++) {
        r->in[i] = is_body ? (tf_edge){l->v[i].pass, 1} : (tf_edge){l->v[i].merge, 0};
        if (is_body)
            r->out[i] = l->v[i].next->in[0];
    }
    for (uint32_t i = 0; i < l->n_read; i++) {
        r->in[l->n_v + i] = (tf_edge){l->read[i], 0};
        if (is_body)
            r->out[l->n_v + i] = r->in[l->n_v + i];
    }
    if (!is_body)
        r->out[0] = l->cond->in[0];
    return KAENA_OK;
}

static kaena_status close_loop(framer *f, loop *l, int depth)
{
    if (l->state == 2)
        return KAENA_OK;
    if (l->state == 1)
        return refuse(f, l->cond, "the loop contains itself");
    if (depth > MAX_DEPTH)
        return KAENA_FAIL(f->err, UNIMPLEMENTED, "loops are nested more than %d deep", MAX_DEPTH);
    l->state = 1;
    KAENA_TRY(find_read(f, l, depth));
    for (uint32_t i = 0; i < l->n_read; i++)
        if (l->read[i]->n_in != 1 || !tf_node_add_input(f->g, l->node, l->read[i]->in[0]))
            return l->read[i]->n_in != 1 ? refuse(f, l->read[i], "it has not one input")
                                         : no_memory(f);
    l->node->region = KAENA_NEW_N(f->g->arena, tf_region, 2);
    if (!l->node->region)
        return no_memory(f);
    KAENA_TRY(add_region(f, l, &l->node->region[0], false));
    KAENA_TRY(add_region(f, l, &l->node->region[1], true));
    l->node->n_region = 2;
    l->state = 2;
    return KAENA_OK;
}

kaena_status tf_rewrite_loops(tf_graph *g, kaena_err *err)
{
    framer f = {.g = g, .n_nodes = g->n_nodes, .err = err};
    uint32_t n_cond = 0;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        n_cond += is_op(g->nodes[i], "LoopCond");
    if (n_cond == 0)
        return KAENA_OK;
    uint32_t room = g->n_nodes + n_cond;
    f.pass_of = KAENA_NEW_N(g->arena, tf_node *, room);
    f.loop_of = KAENA_NEW_N(g->arena, uint32_t, room);
    f.stamp = KAENA_NEW_N(g->arena, uint32_t, room);
    f.stack = KAENA_NEW_N(g->arena, tf_node *, room);
    if (!f.pass_of || !f.loop_of || !f.stamp || !f.stack)
        return no_memory(&f);
    KAENA_TRY(find_loops(&f));
    for (uint32_t i = 0; i < f.n_loops; i++) {
        KAENA_TRY(add_node(&f, &f.loops[i]));
        f.loop_of[f.loops[i].node->id] = i + 1;
    }
    KAENA_TRY(rewrite_exits(&f));
    for (uint32_t i = 0; i < f.n_loops; i++)
        KAENA_TRY(close_loop(&f, &f.loops[i], 1));
    return KAENA_OK;
}
