/* Bodies of nodes: what of a node belongs to what of a body, and copying. */
#include <stdlib.h>
#include <string.h>

#include "graph.h"

static uint32_t at_most(int64_t n, uint32_t most)
{
    return n < 0 ? 0 : n > most ? most : (uint32_t)n;
}

uint32_t kgr_carried(const kgr_node *n)
{
    uint32_t formal = n->op == KOP_Loop ? 2 : 0;
    if (n->n_body == 0 || n->n_in < formal || n->op == KOP_If)
        return 0;
    return at_most(kgr_attr_get_int(n, "kaena.carried", 0), n->n_in - formal);
}

uint32_t kgr_own_inputs(const kgr_node *n)
{
    if (n->n_body == 0)
        return n->n_in;
    uint32_t carried = kgr_carried(n);
    int64_t more = n->op == KOP_If     ? 1
                   : n->op == KOP_Loop ? 2
                                       : kgr_attr_get_int(n, "num_scan_inputs", 0);
    return carried + at_most(more, n->n_in - carried);
}

kgr_value *kgr_body_input(const kgr_node *n, uint32_t b, uint32_t i)
{
    uint32_t skip = n->op == KOP_If ? 1 : 0;
    return i < skip ? NULL : n->body[b]->inputs[i - skip];
}

static kaena_status each_body(kgr_graph *g, kgr_graph_fn fn, void *ctx, kaena_err *err)
{
    for (kgr_node *n = g->first; n; n = n->next)
        for (uint32_t i = 0; i < n->n_body; i++)
            KAENA_TRY_WRAP(err, kgr_each_graph(n->body[i], fn, ctx, err), "body '%s' of '%s'",
                           n->body[i]->name, n->name);
    return KAENA_OK;
}

kaena_status kgr_each_graph(kgr_graph *g, kgr_graph_fn fn, void *ctx, kaena_err *err)
{
    KAENA_TRY(fn(g, ctx, err));
    return each_body(g, fn, ctx, err);
}

/* --- Copying --------------------------------------------------------------------------------- */

typedef struct copying {
    kgr_graph *to;
    kgr_value **value; /* [from->n_values] what they have become; constants at their first use */
} copying;

static bool copy_value(const copying *c, const kgr_value *v, kgr_value **out)
{
    *out = NULL;
    if (!v)
        return true;
    if (!c->value[v->id]) {
        kgr_value *copy =
            kgr_value_add(c->to, v->name, v->t.dtype, v->t.unranked ? NULL : &v->t.shape);
        if (!copy)
            return false;
        copy->t = v->t;
        copy->digest = v->digest;
        c->value[v->id] = copy;
    }
    *out = c->value[v->id];
    return true;
}

static bool copy_bodies(kgr_graph *to, kgr_node *copy, const kgr_node *n)
{
    kgr_graph **body = KAENA_NEW_N(to->arena, kgr_graph *, n->n_body);
    if (!body)
        return false;
    for (uint32_t i = 0; i < n->n_body; i++)
        if (!(body[i] = kgr_copy(to->arena, n->body[i])))
            return false;
    return kgr_node_set_bodies(to, copy, body, n->n_body);
}

static bool copy_node(const copying *c, kgr_node *after, const kgr_node *n, kgr_node **out)
{
    kaena_arena *arena = c->to->arena;
    kgr_value **in = KAENA_NEW_N(arena, kgr_value *, n->n_in);
    const char **names = KAENA_NEW_N(arena, const char *, n->n_out);
    if (!in || !names)
        return false;
    for (uint32_t i = 0; i < n->n_in; i++)
        if (!copy_value(c, n->in[i], &in[i]))
            return false;
    for (uint32_t i = 0; i < n->n_out; i++)
        names[i] = n->out[i]->name;
    kgr_node *copy =
        kgr_node_add(c->to, after, n->op, n->name, n->origin, in, n->n_in, names, n->n_out);
    if (!copy)
        return false;
    for (uint32_t i = 0; i < n->n_attr; i++)
        if (!kgr_attr_set(c->to, copy, &n->attr[i]))
            return false;
    for (uint32_t i = 0; i < n->n_out; i++) {
        copy->out[i]->t = n->out[i]->t;
        c->value[n->out[i]->id] = copy->out[i];
    }
    copy->device = n->device;
    copy->reason = n->reason;
    *out = copy;
    return n->n_body == 0 || copy_bodies(c->to, copy, n);
}

static bool copy_nodes(const copying *c, kgr_node *after, const kgr_graph *from, kgr_value **out)
{
    for (const kgr_node *n = from->first; n; n = n->next) {
        kgr_node *copy = NULL;
        if (!copy_node(c, after, n, &copy))
            return false;
        after = after ? copy : NULL;
    }
    for (uint32_t i = 0; i < from->n_outputs; i++)
        if (!copy_value(c, from->outputs[i], &out[i]))
            return false;
    return true;
}

bool kgr_copy_nodes(kgr_graph *to, kgr_node *after, const kgr_graph *from, kgr_value *const *in,
                    kgr_value **out)
{
    copying c = {to, calloc(from->n_values ? from->n_values : 1, sizeof(kgr_value *))};
    for (uint32_t i = 0; c.value && i < from->n_inputs; i++)
        c.value[from->inputs[i]->id] = in[i];
    bool done = c.value && copy_nodes(&c, after, from, out);
    free(c.value);
    return done;
}

static bool copy_boundary(kgr_graph *to, const kgr_graph *g, kgr_value **in, kgr_value **out)
{
    for (uint32_t i = 0; i < g->n_inputs; i++) {
        const kgr_value *v = g->inputs[i];
        in[i] = kgr_value_add(to, v->name, v->t.dtype, v->t.unranked ? NULL : &v->t.shape);
        if (!in[i] || !kgr_input_add(to, in[i]))
            return false;
        in[i]->t = v->t;
    }
    if (!kgr_copy_nodes(to, NULL, g, in, out))
        return false;
    for (uint32_t i = 0; i < g->n_outputs; i++) {
        out[i]->output_name = g->outputs[i]->output_name;
        if (!kgr_output_add(to, out[i]))
            return false;
    }
    return true;
}

kgr_graph *kgr_copy(kaena_arena *arena, const kgr_graph *g)
{
    kgr_graph *to = kgr_graph_create(arena, g->name);
    kgr_value **in = KAENA_NEW_N(arena, kgr_value *, g->n_inputs),
              **out = KAENA_NEW_N(arena, kgr_value *, g->n_outputs);
    return to && in && out && copy_boundary(to, g, in, out) ? to : NULL;
}

bool kgr_inline_body(kgr_graph *g, kgr_node *n, uint32_t b)
{
    kgr_node *behind = n->next;
    kgr_value **out = KAENA_NEW_N(g->arena, kgr_value *, n->n_out);
    if (!out || !kgr_copy_nodes(g, n, n->body[b], n->in + 1, out))
        return false;
    for (uint32_t i = 0; i < n->n_out; i++) {
        kgr_value *from = n->out[i], *to = out[i];
        /* What the model gives out keeps its name, which an input, constant or other output cannot
         * take over. */
        if (!kgr_can_replace(from, to)) {
            kgr_node *copy = kgr_node_add(g, behind ? behind->prev : g->last, KOP_Identity, NULL,
                                          NULL, &to, 1, NULL, 1);
            if (!copy)
                return false;
            copy->out[0]->t = to->t;
            copy->out[0]->t.data = NULL;
            to = copy->out[0];
        }
        kgr_replace_uses(g, from, to);
    }
    kgr_node_remove(g, n);
    return true;
}
