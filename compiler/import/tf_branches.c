/* Switch and Merge of control flow v1 become If nodes.
 *
 * A result of Switch is there only if the predicate says so, and so is all that is made from it,
 * until Merge takes whichever of its operands is there. Every node gets the condition it runs
 * under, a chain of predicates with their sides; a Merge ends the last one of its operands' chains.
 * The Merges of one predicate under one condition are the results of one If, unless one of them
 * needs another. */
#include <string.h>

#include "tf_rewrite.h"
#include "tf_translate.h"

/* "This predicate is |side|, and what |outer| says." */
typedef struct condition {
    const struct condition *outer; /* NULL: always */
    tf_edge predicate;
    bool side;
    uint32_t depth, number; /* depth 1 is the outermost */
} condition;

/* An If in the making. */
typedef struct branch {
    tf_node *node;
    const condition *under; /* what the If itself runs under */
    const condition *in[2]; /* what its regions run under: false, true; NULL: nothing does */
    tf_edge *out[2];        /* [n_out] of the regions */
    uint32_t n_out, cap_out;
    kcc_name_table inputs; /* texts of what it reads */
    uint32_t cap_in;
} branch;

/* What is known of a node. */
typedef struct known {
    const condition *under;
    uint32_t level; /* Merges on the way here, at most */
    uint8_t state;  /* of the walk: 1 begun, 2 done */
    bool source;    /* a region's input: what is behind it is not this region's */
} known;

typedef struct brancher {
    tf_graph *g;
    known *of;         /* by node id */
    bool *index_taken; /* by node id: a Merge whose second result is used */
    uint32_t room;
    kcc_name_table conditions, branches; /* texts of their parts -> index */
    condition **condition;
    uint32_t n_conditions, cap_conditions;
    branch *branch;
    uint32_t n_branches, cap_branches;
    uint32_t *stamp, walks;
    tf_node **stack;
    kaena_err *err;
} brancher;

static kaena_status no_memory(const brancher *b)
{
    return KAENA_FAIL(b->err, RESOURCE_EXHAUSTED, "no memory for the graph");
}

static bool is_op(const tf_node *n, const char *op)
{
    return strcmp(n->op, op) == 0 || (strncmp(n->op, "Ref", 3) == 0 && strcmp(n->op + 3, op) == 0);
}

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

/* --- Conditions
 * ------------------------------------------------------------------------------------ */

/* |outer| and the predicate being |side|: the same parts give the same object. */
static kaena_status add_condition(brancher *b, const condition *outer, tf_edge p, bool side,
                                  const condition **out)
{
    p = tf_edge_origin(p);
    /* The same question asked again inside of its own answer. */
    for (const condition *c = outer; c; c = c->outer)
        if (c->predicate.node == p.node && c->predicate.port == p.port && c->side == side) {
            *out = outer;
            return KAENA_OK;
        }
    const char *text = kaena_arena_printf(b->g->arena, "%u %u %u %d", outer ? outer->number + 1 : 0,
                                          p.node->id, p.port, side);
    uint32_t i;
    if (!text)
        return no_memory(b);
    if (kcc_name_find(&b->conditions, text, &i)) {
        *out = b->condition[i];
        return KAENA_OK;
    }
    condition *c = KAENA_NEW(b->g->arena, condition);
    if (!c ||
        !grow(b->g->arena, &b->condition, b->n_conditions, &b->cap_conditions,
              sizeof(condition *)) ||
        kcc_name_add(&b->conditions, text, b->n_conditions) == KCC_NAME_NO_MEMORY)
        return no_memory(b);
    *c = (condition){outer, p, side, outer ? outer->depth + 1 : 1, b->n_conditions};
    if (c->depth > 256)
        return KAENA_FAIL(b->err, UNIMPLEMENTED, "branches are nested more than 256 deep");
    b->condition[b->n_conditions++] = c;
    *out = c;
    return KAENA_OK;
}

static bool inside(const condition *c, const condition *of)
{
    while (c && (!of || c->depth > of->depth))
        c = c->outer;
    return !of || c == of;
}

/* Both. */
static kaena_status join(brancher *b, const condition *x, const condition *y, const condition **out)
{
    if (inside(x, y)) {
        *out = x;
        return KAENA_OK;
    }
    if (inside(y, x)) {
        *out = y;
        return KAENA_OK;
    }
    /* |y|'s own part goes behind |x|, outermost first. */
    const condition *own[256];
    uint32_t n = 0;
    for (; y && !inside(x, y); y = y->outer)
        own[n++] = y;
    while (n) {
        const condition *c = own[--n];
        KAENA_TRY(add_condition(b, x, c->predicate, c->side, &x));
    }
    *out = x;
    return KAENA_OK;
}

/* --- Merges
 * ----------------------------------------------------------------------------------------- */

static kaena_status edge_condition(brancher *b, tf_edge e, const condition **out)
{
    const known *k = &b->of[e.node->id];
    if (!k->source && is_op(e.node, "Switch") && e.node->n_in == 2)
        return add_condition(b, k->under, e.node->in[1], e.port == 1, out);
    *out = k->under;
    return KAENA_OK;
}

static kaena_status refuse(const brancher *b, const tf_node *n, const char *why)
{
    return KAENA_FAIL(b->err, INVALID_ARGUMENT, "node '%s' (%s): %s", n->name, n->op, why);
}

/* The If of that predicate, condition and level. */
static kaena_status find_branch(brancher *b, const tf_node *merge, const condition *yes,
                                uint32_t level, branch **out)
{
    kaena_arena *arena = b->g->arena;
    const char *text = kaena_arena_printf(arena, "%u %u", yes->number, level);
    uint32_t i;
    if (!text)
        return no_memory(b);
    if (kcc_name_find(&b->branches, text, &i)) {
        *out = &b->branch[i];
        return KAENA_OK;
    }
    const char *name = kaena_arena_printf(arena, "%s/If", merge->name);
    name = name ? tf_graph_fresh_name(b->g, name) : NULL;
    tf_node *n = name ? tf_node_add(b->g, name, "If") : NULL;
    if (!n || !grow(arena, &b->branch, b->n_branches, &b->cap_branches, sizeof(branch)) ||
        kcc_name_add(&b->branches, text, b->n_branches) == KCC_NAME_NO_MEMORY ||
        !tf_node_add_input(b->g, n, yes->predicate))
        return no_memory(b);
    b->of[n->id] = (known){.under = yes->outer, .level = level + 1, .state = 2};
    b->branch[b->n_branches] = (branch){.node = n, .under = yes->outer};
    *out = &b->branch[b->n_branches++];
    return KAENA_OK;
}

static kaena_status add_out(brancher *b, branch *br, tf_edge no, tf_edge yes)
{
    uint32_t cap = br->cap_out;
    if (!grow(b->g->arena, &br->out[0], br->n_out, &cap, sizeof(tf_edge)))
        return no_memory(b);
    cap = br->cap_out;
    if (!grow(b->g->arena, &br->out[1], br->n_out, &cap, sizeof(tf_edge)))
        return no_memory(b);
    br->cap_out = cap;
    br->out[0][br->n_out] = no;
    br->out[1][br->n_out++] = yes;
    return KAENA_OK;
}

/* A constant for "operand |i| was there". */
static kaena_status add_index(brancher *b, const tf_node *merge, int32_t i, tf_edge *out)
{
    kaena_arena *arena = b->g->arena;
    const char *name = kaena_arena_printf(arena, "%s/value_index", merge->name);
    name = name ? tf_graph_fresh_name(b->g, name) : NULL;
    tf_node *n = name ? tf_node_add(b->g, name, "Const") : NULL;
    kop_tensor *t = KAENA_NEW(arena, kop_tensor);
    int32_t *data = KAENA_NEW(arena, int32_t);
    if (!n || !t || !data)
        return no_memory(b);
    *data = i;
    *t = (kop_tensor){.dtype = KAENA_I32, .data = data};
    tf_node_make_const(n, t);
    b->of[n->id] = (known){.state = 2};
    *out = (tf_edge){n, 0};
    return KAENA_OK;
}

static kaena_status rewrite_merge(brancher *b, tf_node *n, uint32_t level)
{
    const condition *c[2];
    if (n->n_in != 2)
        return KAENA_FAIL(b->err, UNIMPLEMENTED,
                          "node '%s' (%s): only two operands are supported, not %u", n->name, n->op,
                          n->n_in);
    for (int i = 0; i < 2; i++)
        KAENA_TRY(edge_condition(b, n->in[i], &c[i]));
    if (!c[0] || !c[1] || c[0]->outer != c[1]->outer || c[0]->side == c[1]->side ||
        c[0]->predicate.node != c[1]->predicate.node ||
        c[0]->predicate.port != c[1]->predicate.port)
        return refuse(b, n, "its operands are not the two branches of one predicate");
    int yes = c[1]->side ? 1 : 0;
    branch *br = NULL;
    KAENA_TRY(find_branch(b, n, c[yes], level, &br));
    br->in[0] = c[1 - yes];
    br->in[1] = c[yes];
    tf_edge results[2] = {{br->node, br->n_out}, {br->node, br->n_out + 1}};
    KAENA_TRY(add_out(b, br, n->in[1 - yes], n->in[yes]));
    if (b->index_taken[n->id]) {
        tf_edge index[2];
        for (int i = 0; i < 2; i++)
            KAENA_TRY(add_index(b, n, i, &index[i]));
        KAENA_TRY(add_out(b, br, index[1 - yes], index[yes]));
    }
    tf_node_reset(n, "IdentityN");
    n->cap_in = 0;
    for (int i = 0; i < 1 + b->index_taken[n->id]; i++)
        if (!tf_node_add_input(b->g, n, results[i]))
            return no_memory(b);
    b->of[n->id].under = br->under;
    b->of[n->id].level = level + 1;
    return KAENA_OK;
}

/* --- Walking
 * ------------------------------------------------------------------------------------------ */

/* All inputs of |n| are done. */
static kaena_status finish(brancher *b, tf_node *n)
{
    known *k = &b->of[n->id];
    uint32_t level = 0;
    const condition *under = NULL;
    bool merge = is_op(n, "Merge");
    for (uint32_t i = 0; i < n->n_in; i++) {
        const condition *c;
        if (b->of[n->in[i].node->id].level > level)
            level = b->of[n->in[i].node->id].level;
        KAENA_TRY(edge_condition(b, n->in[i], &c));
        if (!merge)
            KAENA_TRY(join(b, under, c, &under));
    }
    if (merge)
        return rewrite_merge(b, n, level);
    for (uint32_t i = 0; i < n->n_control; i++)
        KAENA_TRY(join(b, under, b->of[n->control[i]->id].under, &under));
    k->under = under;
    k->level = level;
    return KAENA_OK;
}

/* The |i|-th thing that |n| needs: inputs, control inputs, its regions' results; NULL behind the
 * last. */
static tf_node *needs(const tf_node *n, uint32_t i, bool *none)
{
    *none = false;
    if (i < n->n_in)
        return n->in[i].node;
    i -= n->n_in;
    if (i < n->n_control)
        return n->control[i];
    i -= n->n_control;
    for (uint32_t r = 0; r < n->n_region; r++) {
        if (i < n->region[r].n_out)
            return n->region[r].out[i].node;
        i -= n->region[r].n_out;
    }
    *none = true;
    return NULL;
}

typedef struct frame {
    tf_node *node;
    uint32_t next;
} frame;

static kaena_status visit(brancher *b, tf_node *root, frame *stack)
{
    uint32_t depth = 0;
    if (b->of[root->id].state || b->of[root->id].source)
        return KAENA_OK;
    b->of[root->id].state = 1;
    stack[depth++] = (frame){root, 0};
    while (depth) {
        frame *f = &stack[depth - 1];
        bool none;
        tf_node *n = needs(f->node, f->next++, &none);
        if (none) {
            KAENA_TRY(finish(b, f->node));
            b->of[f->node->id].state = 2;
            depth--;
            continue;
        }
        /* A cycle is the translation's to refuse, which knows what is needed. */
        if (!n || b->of[n->id].state)
            continue;
        b->of[n->id].state = 1;
        if (b->of[n->id].source) {
            b->of[n->id].state = 2;
            continue;
        }
        stack[depth++] = (frame){n, 0};
    }
    return KAENA_OK;
}

/* --- Regions
 * ------------------------------------------------------------------------------------------- */

/* Whether |n| asks the predicate of |c| about what comes from outside. */
static bool is_switch_of(const tf_node *n, const condition *c)
{
    if (!is_op(n, "Switch") || n->n_in != 2)
        return false;
    tf_edge p = tf_edge_origin(n->in[1]);
    return p.node == c->predicate.node && p.port == c->predicate.port;
}

/* Makes |e|, which both regions may read, an input of the If; of a Switch each region has its own
 * result, and both stand for what it takes. */
static kaena_status add_input(brancher *b, branch *br, tf_edge e, bool is_switch)
{
    tf_region *r = br->node->region;
    uint32_t ignored, cap = br->cap_in;
    const char *text = is_switch ? kaena_arena_printf(b->g->arena, "%u switch", e.node->id)
                                 : kaena_arena_printf(b->g->arena, "%u %u", e.node->id, e.port);
    if (!text)
        return no_memory(b);
    if (kcc_name_find(&br->inputs, text, &ignored))
        return KAENA_OK;
    for (uint32_t i = 0; i < 2; i++) {
        cap = br->cap_in;
        if (!grow(b->g->arena, &r[i].in, r[i].n_in, &cap, sizeof(tf_edge)))
            return no_memory(b);
        r[i].in[r[i].n_in] = e;
        if (is_switch)
            r[i].in[r[i].n_in].port = 1 - i;
        r[i].n_in++;
    }
    br->cap_in = cap;
    if (kcc_name_add(&br->inputs, text, 0) == KCC_NAME_NO_MEMORY ||
        !tf_node_add_input(b->g, br->node, is_switch ? e.node->in[0] : e))
        return no_memory(b);
    return KAENA_OK;
}

/* |e| is read in the region that runs under |c|. */
static kaena_status reach(brancher *b, branch *br, const condition *c, tf_edge e, uint32_t *depth)
{
    const known *k = &b->of[e.node->id];
    if (!k->source && k->under && inside(k->under, c)) {
        if (b->stamp[e.node->id] != b->walks)
            b->stack[(*depth)++] = e.node;
        b->stamp[e.node->id] = b->walks;
        return KAENA_OK;
    }
    return add_input(b, br, e, !k->source && is_switch_of(e.node, c));
}

/* Finds what the region of |side| reads from outside. */
static kaena_status find_inputs(brancher *b, branch *br, int side)
{
    uint32_t depth = 0;
    b->walks++;
    for (uint32_t i = 0; i < br->n_out; i++)
        KAENA_TRY(reach(b, br, br->in[side], br->out[side][i], &depth));
    while (depth) {
        const tf_node *n = b->stack[--depth];
        for (uint32_t i = 0; i < n->n_in; i++)
            KAENA_TRY(reach(b, br, br->in[side], n->in[i], &depth));
    }
    return KAENA_OK;
}

static kaena_status add_regions(brancher *b, branch *br)
{
    br->node->region = KAENA_NEW_N(b->g->arena, tf_region, 2);
    if (!br->node->region)
        return no_memory(b);
    br->inputs = (kcc_name_table){.arena = b->g->arena};
    /* Region 0 is the one for true. */
    for (int side = 0; side < 2; side++) {
        br->node->region[1 - side].out = br->out[side];
        br->node->region[1 - side].n_out = br->n_out;
    }
    for (int side = 0; side < 2; side++)
        KAENA_TRY(find_inputs(b, br, side));
    br->node->n_region = 2;
    return KAENA_OK;
}

/* --- The graph
 * ------------------------------------------------------------------------------------------ */

static kaena_status prepare(brancher *b, uint32_t n_merges)
{
    kaena_arena *arena = b->g->arena;
    /* Of each Merge an If and two constants. */
    b->room = b->g->n_nodes + 3 * n_merges;
    b->of = KAENA_NEW_N(arena, known, b->room);
    b->index_taken = KAENA_NEW_N(arena, bool, b->room);
    b->stamp = KAENA_NEW_N(arena, uint32_t, b->room);
    b->stack = KAENA_NEW_N(arena, tf_node *, b->room);
    if (!b->of || !b->index_taken || !b->stamp || !b->stack)
        return no_memory(b);
    b->walks = 1;
    for (uint32_t i = 0; i < b->g->n_nodes; i++) {
        const tf_node *n = b->g->nodes[i];
        for (uint32_t k = 0; k < n->n_in; k++)
            if (n->in[k].port == 1 && is_op(n->in[k].node, "Merge"))
                b->index_taken[n->in[k].node->id] = true;
        for (uint32_t r = 0; r < n->n_region; r++)
            for (uint32_t k = 0; k < n->region[r].n_in; k++)
                if (n->region[r].in[k].node)
                    b->of[n->region[r].in[k].node->id].source = true;
    }
    return KAENA_OK;
}

kaena_status tf_rewrite_branches(tf_graph *g, const tf_edge *roots, uint32_t n_roots,
                                 const tf_edge *cuts, uint32_t n_cuts, kaena_err *err)
{
    brancher b = {.g = g, .err = err};
    uint32_t n_merges = 0;
    b.conditions.arena = b.branches.arena = g->arena;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        n_merges += is_op(g->nodes[i], "Merge");
    if (n_merges == 0)
        return KAENA_OK;
    KAENA_TRY(prepare(&b, n_merges));
    frame *stack = KAENA_NEW_N(g->arena, frame, g->n_nodes);
    if (!stack)
        return no_memory(&b);
    for (uint32_t i = 0; i < n_cuts; i++)
        if (tf_op_ports(cuts[i].node) == 1)
            b.of[cuts[i].node->id].source = true;
    for (uint32_t i = 0; i < n_roots; i++) {
        const condition *c;
        KAENA_TRY(visit(&b, roots[i].node, stack));
        KAENA_TRY(edge_condition(&b, roots[i], &c));
        if (c)
            return KAENA_FAIL(
                err, INVALID_ARGUMENT,
                "output '%s:%u' is there only if '%s' is %s: no Merge makes a value of "
                "both branches",
                roots[i].node->name, roots[i].port, c->predicate.node->name,
                c->side ? "true" : "false");
    }
    /* Inner ones first: what they read, the outer ones read too. */
    uint32_t deepest = 0;
    for (uint32_t i = 0; i < b.n_branches; i++) {
        uint32_t depth = b.branch[i].under ? b.branch[i].under->depth : 0;
        deepest = depth > deepest ? depth : deepest;
    }
    for (uint32_t depth = deepest + 1; depth-- > 0;)
        for (uint32_t i = 0; i < b.n_branches; i++)
            if ((b.branch[i].under ? b.branch[i].under->depth : 0) == depth)
                KAENA_TRY(add_regions(&b, &b.branch[i]));
    return KAENA_OK;
}
