/* Translations: branches and loops, onto If and Loop. */
#include <stdlib.h>
#include <string.h>

#include "tf_array.h"
#include "tf_xlat.h"

#define MAX_ROUNDS                                                                                 \
    4 /* of finding the types of what a loop carries, before its rank counts as unknown */

static kaena_status no_memory(tf_xlat *x)
{
    return KAENA_FAIL(x->imp->err, RESOURCE_EXHAUSTED, "no memory for the graph");
}

static kop_tensor type_of(const kgr_value *v)
{
    kop_tensor t = v->t;
    t.data = NULL;
    t.count = 0;
    return t;
}

/* |x| for making values in |g|, with an importer of its own in |imp|. */
static tf_xlat in_graph(tf_xlat *x, kgr_graph *g, tf_import *imp)
{
    *imp = *x->imp;
    imp->g = g;
    return (tf_xlat){.imp = imp, .node = x->node, .row = x->row};
}

/* --- Bodies -------------------------------------------------------------------------------------
 */

static kgr_value *add_input(kgr_graph *g, const char *name, const kop_tensor *type)
{
    kgr_value *v = kgr_value_add(g, name, type->dtype, type->unranked ? NULL : &type->shape);
    if (!v || !kgr_input_add(g, v))
        return NULL;
    v->t = *type;
    return v;
}

/* A result of the body |g|; of an Identity, because one value may be several results, or no node's.
 */
static bool add_output(kgr_graph *g, kgr_value *v)
{
    kgr_node *n = kgr_node_add(g, NULL, KOP_Identity, NULL, NULL, &v, 1, NULL, 1);
    if (!n)
        return false;
    n->out[0]->t = type_of(v);
    return kgr_output_add(g, n->out[0]);
}

/* What the body of |g| reads from outside: constants are its own, the rest its inputs. NULL: no
 * memory. */
static kgr_value *capture(kgr_graph *g, const kgr_value *v)
{
    kop_tensor t = type_of(v);
    if (kgr_is_const(v))
        return kgr_const_add(g, v->name, v->t.dtype, &v->t.shape, v->t.data);
    return add_input(g, v->name, &t);
}

/* --- If ------------------------------------------------------------------------------------------
 */

/* The truth of |v| as TensorFlow sees it: not zero. */
static kgr_value *truth(tf_xlat *x, kgr_value *v)
{
    if (x->status != KAENA_OK || !v)
        return NULL;
    if (v->t.unranked || v->t.shape.rank != 0) {
        (void)tf_lacks(x, "a condition that is no single value");
        return NULL;
    }
    if (v->t.dtype == KAENA_STRING) {
        (void)tf_lacks(x, "a condition that is a string");
        return NULL;
    }
    return tf_cast(x, v, KAENA_BOOL);
}

/* A choice among regions: values outside and, per region, its graph's. */
typedef struct chooser {
    tf_xlat *x;
    const tf_region *regions; /* in the order of the index */
    uint32_t n_in, n_out;
} chooser;

static kaena_status check_regions(tf_xlat *x, uint32_t n_region, uint32_t n_in, uint32_t *n_out)
{
    const tf_node *n = x->node;
    if (n->n_region != n_region)
        return tf_bad(x, "it has no branches");
    for (uint32_t i = 0; i < n_region; i++)
        if (n->region[i].n_in != n_in || n->region[i].n_out != n->region[0].n_out)
            return tf_bad(x, "its branches take or make different numbers of values");
    *n_out = n->region[0].n_out;
    if (*n_out > KOP_MAX_BODY_OPERANDS || n_in + 3 > KOP_MAX_BODY_OPERANDS)
        return tf_lacks(x, "%u operands and %u results are too many", n_in, *n_out);
    return KAENA_OK;
}

/* Fresh arrays of one branch get the elements that the other one's have. */
static kaena_status settle(tf_xlat *x, kgr_graph *const *g, kgr_value **out[2], uint32_t n_out)
{
    for (uint32_t i = 0; i < n_out; i++)
        for (int side = 0; side < 2; side++) {
            kgr_value *mine = out[side][i], *other = out[1 - side][i];
            if (!tf_array_is_fresh(&mine->t) || tf_array_is_fresh(&other->t))
                continue;
            tf_import imp;
            tf_xlat y = in_graph(x, g[side], &imp);
            out[side][i] = tf_array_settle(&y, mine, &other->t);
            KAENA_TRY(y.status);
        }
    return KAENA_OK;
}

static kaena_status choose(chooser *c, kgr_graph *g, kgr_value *index, uint32_t low, uint32_t high,
                           kgr_value *const *in, kgr_value **out);

/* An If in |g|: on |cond| regions [middle, high) or else [low, middle). Of two branches (index
 * NULL) |cond| chooses region 0 or 1. */
static kaena_status add_if(chooser *c, kgr_graph *g, kgr_value *cond, kgr_value *index,
                           uint32_t low, uint32_t middle, uint32_t high, kgr_value *const *in,
                           kgr_value **out)
{
    kaena_arena *arena = g->arena;
    kgr_graph *body[2];
    kgr_value **results[2], **operands = KAENA_NEW_N(arena, kgr_value *, c->n_in + 2);
    uint32_t n_operands = 0;
    if (!operands)
        return no_memory(c->x);
    operands[n_operands++] = cond;
    for (uint32_t i = 0; i < c->n_in + 1; i++) {
        kgr_value *v = i < c->n_in ? in[i] : index;
        if (v && !kgr_is_const(v))
            operands[n_operands++] = v;
    }
    for (int side = 0; side < 2; side++) {
        body[side] = kgr_graph_create(arena, c->x->node->name);
        results[side] = KAENA_NEW_N(arena, kgr_value *, c->n_out);
        kgr_value **inside = KAENA_NEW_N(arena, kgr_value *, c->n_in), *inner_index = NULL;
        if (!body[side] || !results[side] || !inside)
            return no_memory(c->x);
        for (uint32_t i = 0; i < c->n_in; i++) {
            inside[i] = in[i] ? capture(body[side], in[i]) : NULL;
            if (in[i] && !inside[i])
                return no_memory(c->x);
        }
        if (index) {
            inner_index = capture(body[side], index);
            if (!inner_index)
                return no_memory(c->x);
        }
        /* Body 0 is for true. */
        KAENA_TRY(choose(c, body[side], inner_index, side ? low : middle, side ? middle : high,
                         inside, results[side]));
    }
    KAENA_TRY(settle(c->x, body, results, c->n_out));
    for (int side = 0; side < 2; side++)
        for (uint32_t i = 0; i < c->n_out; i++)
            if (!add_output(body[side], results[side][i]))
                return no_memory(c->x);
    kgr_node *n = kgr_node_add(g, NULL, KOP_If, c->x->node->name, c->x->node->op, operands,
                               n_operands, NULL, c->n_out);
    if (!n || !kgr_node_set_bodies(g, n, body, 2))
        return no_memory(c->x);
    KAENA_TRY(kgr_infer_node(n, c->x->imp->err));
    memcpy(out, n->out, c->n_out * sizeof *out);
    return KAENA_OK;
}

/* Regions [low, high) in |g|, chosen by |index|. */
static kaena_status choose(chooser *c, kgr_graph *g, kgr_value *index, uint32_t low, uint32_t high,
                           kgr_value *const *in, kgr_value **out)
{
    if (high - low == 1)
        return tf_translate_region(c->x, &c->regions[low], g, in, out);
    tf_import imp;
    tf_xlat y = in_graph(c->x, g, &imp);
    uint32_t middle = low + (high - low) / 2;
    int64_t first = middle;
    kgr_value *limit = tf_const(&y, KAENA_I64, &(kaena_shape){0},
                                kaena_arena_memdup(g->arena, &first, sizeof first));
    kgr_value *cond = tf_op2(&y, KOP_GreaterOrEqual, index, limit);
    KAENA_TRY(y.status);
    return add_if(c, g, cond, index, low, middle, high, in, out);
}

/* What a region takes of the inputs behind the first; NULL where no region takes it. */
static kgr_value **region_inputs(tf_xlat *x)
{
    const tf_node *n = x->node;
    kgr_value **in = KAENA_NEW_N(x->imp->arena, kgr_value *, x->n_in);
    for (uint32_t i = 1; in && i < x->n_in; i++)
        for (uint32_t r = 0; r < n->n_region; r++)
            if (n->region[r].in[i - 1].node)
                in[i - 1] = x->in[i];
    return in;
}

static kaena_status set_outs(tf_xlat *x, kgr_value **out, uint32_t n_out)
{
    for (uint32_t i = 0; i < n_out; i++)
        tf_set_out(x, i, out[i]);
    return x->status;
}

kaena_status tf_x_if(tf_xlat *x)
{
    uint32_t n_out;
    KAENA_TRY(check_regions(x, 2, x->n_in - 1, &n_out));
    /* Of an If region 0 is for true; add_if counts from false. */
    tf_region regions[2] = {x->node->region[1], x->node->region[0]};
    chooser c = {x, regions, x->n_in - 1, n_out};
    kgr_value *cond = truth(x, x->in[0]), **in = region_inputs(x);
    kgr_value **out = KAENA_NEW_N(x->imp->arena, kgr_value *, n_out);
    KAENA_TRY(x->status);
    if (!in || !out)
        return no_memory(x);
    if (kgr_is_const(cond))
        KAENA_TRY(
            tf_translate_region(x, &regions[kop_get_int(&cond->t, 0) != 0], x->imp->g, in, out));
    else if (n_out > 0)
        KAENA_TRY(add_if(&c, x->imp->g, cond, NULL, 0, 1, 2, in, out));
    return set_outs(x, out, n_out);
}

kaena_status tf_x_case(tf_xlat *x)
{
    uint32_t n_out, n = x->node->n_region;
    if (n == 0)
        return tf_bad(x, "it has no branches");
    KAENA_TRY(check_regions(x, n, x->n_in - 1, &n_out));
    chooser c = {x, x->node->region, x->n_in - 1, n_out};
    kgr_value **in = region_inputs(x), **out = KAENA_NEW_N(x->imp->arena, kgr_value *, n_out);
    if (!in || !out)
        return no_memory(x);
    if (x->in[0]->t.unranked || x->in[0]->t.shape.rank != 0)
        return tf_lacks(x, "an index that is no single value");
    /* An index outside means the last branch. */
    kgr_value *index = tf_cast(x, x->in[0], KAENA_I64);
    kgr_value *zero = tf_i64(x, 0), *last = tf_i64(x, (int64_t)n - 1);
    index = tf_op3(x, KOP_Where, tf_op2(x, KOP_Less, index, zero), last, index);
    KAENA_TRY(x->status);
    if (kgr_is_const(index)) {
        int64_t i = kop_get_int(&index->t, 0);
        KAENA_TRY(tf_translate_region(x, &c.regions[i < n ? i : n - 1], x->imp->g, in, out));
    } else if (n_out > 0) {
        KAENA_TRY(choose(&c, x->imp->g, index, 0, n, in, out));
    }
    return set_outs(x, out, n_out);
}

/* --- While ---------------------------------------------------------------------------------------
 */

typedef enum role {
    ABSENT,  /* no region takes it: a resource */
    READ,    /* every turn passes it on as it is */
    CARRIED, /* a turn makes the next turn's */
} role;

typedef struct looper {
    tf_xlat *x;
    uint32_t n;
    role *roles;
    kgr_value **first; /* values before the loop */
    kop_tensor *types; /* of what is carried, in the body */
    kgr_graph *body;
    kgr_value **inside, **next; /* values in the body: at a turn's begin and end */
    kgr_value *condition;       /* at its end */
} looper;

static bool same_edge(tf_edge a, tf_edge b)
{
    tf_edge from = tf_edge_origin(a), to = tf_edge_origin(b);
    return (a.node == b.node && a.port == b.port) || (from.node == to.node && from.port == to.port);
}

static kaena_status begin_loop(looper *l)
{
    tf_xlat *x = l->x;
    const tf_region *body = &x->node->region[1];
    kaena_arena *arena = x->imp->arena;
    l->n = x->n_in;
    l->roles = KAENA_NEW_N(arena, role, l->n);
    l->first = KAENA_NEW_N(arena, kgr_value *, l->n);
    l->types = KAENA_NEW_N(arena, kop_tensor, l->n);
    l->inside = KAENA_NEW_N(arena, kgr_value *, l->n);
    l->next = KAENA_NEW_N(arena, kgr_value *, l->n);
    if (!l->roles || !l->first || !l->types || !l->inside || !l->next)
        return no_memory(x);
    for (uint32_t i = 0; i < l->n; i++) {
        l->first[i] = x->in[i];
        l->types[i] = type_of(x->in[i]);
        if (!body->in[i].node)
            l->roles[i] = ABSENT;
        else
            l->roles[i] = same_edge(body->out[i], body->in[i]) ? READ : CARRIED;
    }
    return KAENA_OK;
}

/* The body's graph with the carried values as typed now. */
static kaena_status make_body(looper *l)
{
    tf_xlat *x = l->x;
    const kop_tensor count = {.dtype = KAENA_I64}, going = {.dtype = KAENA_BOOL};
    l->body = kgr_graph_create(x->imp->arena, x->node->name);
    if (!l->body || !add_input(l->body, "iteration", &count) ||
        !add_input(l->body, "condition", &going))
        return no_memory(x);
    for (uint32_t i = 0; i < l->n; i++)
        if (l->roles[i] == CARRIED) {
            l->inside[i] = add_input(l->body, l->first[i]->name, &l->types[i]);
            if (!l->inside[i])
                return no_memory(x);
        }
    for (uint32_t i = 0; i < l->n; i++)
        if (l->roles[i] == READ) {
            l->inside[i] = capture(l->body, l->first[i]);
            if (!l->inside[i])
                return no_memory(x);
        }
    memset(l->next, 0, l->n * sizeof *l->next);
    KAENA_TRY(tf_translate_region(x, &x->node->region[1], l->body, l->inside, l->next));
    kgr_value **then = KAENA_NEW_N(x->imp->arena, kgr_value *, l->n);
    if (!then)
        return no_memory(x);
    for (uint32_t i = 0; i < l->n; i++)
        then[i] = l->roles[i] == CARRIED ? l->next[i] : l->inside[i];
    KAENA_TRY(tf_translate_region(x, &x->node->region[0], l->body, then, &l->condition));
    tf_import imp;
    tf_xlat y = in_graph(x, l->body, &imp);
    l->condition = truth(&y, l->condition);
    return y.status;
}

static bool same_type(const kop_tensor *a, const kop_tensor *b)
{
    return a->dtype == b->dtype && a->unranked == b->unranked &&
           (a->unranked || kaena_shape_equal(&a->shape, &b->shape));
}

/* What a turn makes of the carried values goes into their types. */
static kaena_status merge_types(looper *l, int round, bool *changed)
{
    tf_xlat *x = l->x;
    for (uint32_t i = 0; i < l->n; i++) {
        if (l->roles[i] != CARRIED)
            continue;
        const kop_tensor *made = &l->next[i]->t;
        kop_tensor t;
        if (tf_array_is_fresh(&l->types[i]) && !tf_array_is_fresh(made)) {
            l->first[i] = tf_array_settle(x, l->first[i], made);
            KAENA_TRY(x->status);
            l->types[i] = type_of(l->first[i]);
            *changed = true;
            continue;
        }
        if (!kop_join_types(&l->types[i], made, &t))
            return tf_bad(x, "variable %u of the loop is %s and becomes %s", i,
                          kaena_dtype_name(l->types[i].dtype), kaena_dtype_name(made->dtype));
        if (same_type(&t, &l->types[i]))
            continue;
        if (round >= MAX_ROUNDS) {
            t.unranked = true;
            t.shape = (kaena_shape){0};
        }
        l->types[i] = t;
        *changed = true;
    }
    return KAENA_OK;
}

/* The number |v| where it is one whole number known now. */
static bool known_int(const kgr_value *v, int64_t *out)
{
    if (!kgr_is_const(v) || !kaena_dtype_is_int(v->t.dtype) || kop_elements(&v->t) != 1)
        return false;
    *out = kop_get_int(&v->t, 0);
    return true;
}

/* Turns for which "variable < limit" holds, if |v| is that and the variable counts up from a known
 * number in known steps. */
static bool count_less(const looper *l, const kgr_value *v, int64_t *turns)
{
    int64_t limit, begin, step;
    if (!v->producer || v->producer->op != KOP_Less || !known_int(v->producer->in[1], &limit))
        return false;
    for (uint32_t i = 0; i < l->n; i++) {
        const kgr_value *next = l->roles[i] == CARRIED ? l->next[i] : NULL;
        if (!next || v->producer->in[0] != next || !next->producer ||
            next->producer->op != KOP_Add || !known_int(l->first[i], &begin))
            continue;
        kgr_value *const *in = next->producer->in;
        bool counts = (in[0] == l->inside[i] && known_int(in[1], &step)) ||
                      (in[1] == l->inside[i] && known_int(in[0], &step));
        if (!counts || step <= 0 || step > INT32_MAX || begin < -INT32_MAX || begin > INT32_MAX ||
            limit < -INT32_MAX || limit > INT32_MAX)
            return false;
        *turns = begin >= limit ? 0 : (limit - begin + step - 1) / step;
        return true;
    }
    return false;
}

/* Turns of a loop that only counts. */
static bool count_turns(const looper *l, const kgr_value *v, int64_t *turns, int depth)
{
    int64_t a, b;
    while (v->producer && v->producer->op == KOP_Identity)
        v = v->producer->in[0];
    if (kgr_is_const(v) && v->t.dtype == KAENA_BOOL && kop_elements(&v->t) == 1 &&
        kop_get_int(&v->t, 0)) {
        *turns = INT64_MAX;
        return true;
    }
    if (v->producer && v->producer->op == KOP_And && depth < 8) {
        if (!count_turns(l, v->producer->in[0], &a, depth + 1) ||
            !count_turns(l, v->producer->in[1], &b, depth + 1))
            return false;
        *turns = a < b ? a : b;
        return true;
    }
    return count_less(l, v, turns);
}

static kaena_status add_loop(looper *l, kgr_value *starts)
{
    tf_xlat *x = l->x;
    kgr_graph *g = x->imp->g;
    kgr_value **in = KAENA_NEW_N(g->arena, kgr_value *, l->n + 2);
    uint32_t n_in = 2, n_carried = 0, k = 0;
    int64_t turns;
    if (!in)
        return no_memory(x);
    in[1] = starts;
    if (kgr_is_const(starts) && count_turns(l, l->condition, &turns, 0) && turns < INT64_MAX) {
        /* The number of turns says it all: the body need not ask. */
        static const uint8_t yes = 1;
        in[0] = tf_i64(x, turns);
        l->condition = kgr_const_add(l->body, "going", KAENA_BOOL, &(kaena_shape){0}, &yes);
        if (!l->condition)
            return no_memory(x);
    }
    if (!add_output(l->body, l->condition))
        return no_memory(x);
    for (uint32_t i = 0; i < l->n; i++)
        if (l->roles[i] == CARRIED) {
            in[n_in++] = l->first[i];
            n_carried++;
            if (!add_output(l->body, l->next[i]))
                return no_memory(x);
        }
    for (uint32_t i = 0; i < l->n; i++)
        if (l->roles[i] == READ && !kgr_is_const(l->first[i]))
            in[n_in++] = l->first[i];
    KAENA_TRY(x->status);
    kgr_node *n =
        kgr_node_add(g, NULL, KOP_Loop, x->node->name, "While", in, n_in, NULL, n_carried);
    if (!n || !kgr_attr_int(g, n, "kaena.carried", n_carried) ||
        !kgr_node_set_bodies(g, n, &l->body, 1))
        return no_memory(x);
    (void)kgr_remove_dead(l->body);
    KAENA_TRY(kgr_infer_node(n, x->imp->err));
    for (uint32_t i = 0; i < l->n; i++)
        tf_set_out(x, i, l->roles[i] == CARRIED ? n->out[k++] : l->first[i]);
    return x->status;
}

kaena_status tf_x_while(tf_xlat *x)
{
    looper l = {.x = x};
    const tf_node *n = x->node;
    kgr_value *starts = NULL;
    if (n->n_region != 2 || n->region[0].n_in != x->n_in || n->region[1].n_in != x->n_in ||
        n->region[1].n_out != x->n_in || n->region[0].n_out != 1)
        return tf_bad(x, "its condition and body do not fit its inputs");
    if (x->n_in + 2 > KOP_MAX_BODY_OPERANDS)
        return tf_lacks(x, "%u variables are too many", x->n_in);
    KAENA_TRY(begin_loop(&l));
    KAENA_TRY(tf_translate_region(x, &n->region[0], x->imp->g, l.first, &starts));
    starts = truth(x, starts);
    KAENA_TRY(x->status);
    bool never = kgr_is_const(starts) && !kop_get_int(&starts->t, 0);
    bool changed = !never, carries = false;
    for (uint32_t i = 0; i < l.n; i++)
        carries |= l.roles[i] == CARRIED;
    if (never || !carries)
        return set_outs(x, l.first, l.n);
    for (int round = 0; changed; round++) {
        changed = false;
        KAENA_TRY(make_body(&l));
        KAENA_TRY(merge_types(&l, round, &changed));
    }
    return add_loop(&l, starts);
}

/* --- What control flow v1 leaves
 * ------------------------------------------------------------------ */

/* Where the condition is known, or does not matter, both results are the operand. */
kaena_status tf_x_switch(tf_xlat *x)
{
    tf_set_out(x, 0, x->in[0]);
    tf_set_out(x, 1, x->in[0]);
    return x->status;
}

kaena_status tf_x_stray(tf_xlat *x)
{
    return tf_bad(x, "it belongs to no whole loop or branch");
}
