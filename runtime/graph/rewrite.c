#include <assert.h>
#include <string.h>

#include "graph.h"
#include "names.h"
#include "uses.h"

void kgr_use_link(kgr_node *n, uint32_t slot, kgr_value *v)
{
    n->in[slot] = v;
    if (!v)
        return;
    kgr_use *u = &n->use[slot];
    *u = (kgr_use){.node = n, .slot = slot, .prev = v->last_use};
    if (v->last_use)
        v->last_use->next = u;
    else
        v->first_use = u;
    v->last_use = u;
    v->n_uses++;
}

void kgr_use_unlink(kgr_node *n, uint32_t slot)
{
    kgr_value *v = n->in[slot];
    if (!v)
        return;
    kgr_use *u = &n->use[slot];
    if (u->prev)
        u->prev->next = u->next;
    else
        v->first_use = u->next;
    if (u->next)
        u->next->prev = u->prev;
    else
        v->last_use = u->prev;
    v->n_uses--;
    n->in[slot] = NULL;
}

void kgr_node_link(kgr_graph *g, kgr_node *n, kgr_node *after)
{
    n->prev = after == kgr_at_start ? NULL : after ? after : g->last;
    n->next = n->prev ? n->prev->next : g->first;
    if (n->prev)
        n->prev->next = n;
    else
        g->first = n;
    if (n->next)
        n->next->prev = n;
    else
        g->last = n;
    g->n_nodes++;
}

static void unlink_node(kgr_graph *g, kgr_node *n)
{
    if (n->prev)
        n->prev->next = n->next;
    else
        g->first = n->next;
    if (n->next)
        n->next->prev = n->prev;
    else
        g->last = n->prev;
    n->prev = n->next = NULL;
    g->n_nodes--;
}

void kgr_node_set_input(kgr_node *n, uint32_t i, kgr_value *v)
{
    assert(i < n->n_in);
    kgr_use_unlink(n, i);
    kgr_use_link(n, i, v);
}

bool kgr_node_add_input(kgr_graph *g, kgr_node *n, kgr_value *v)
{
    uint32_t n_in = n->n_in;
    kgr_use *use = KAENA_NEW_N(g->arena, kgr_use, n_in + 1);
    kgr_value **in = KAENA_NEW_N(g->arena, kgr_value *, n_in + 1);
    if (!use || !in)
        return false;
    if (n_in) {
        memcpy(in, n->in, n_in * sizeof(kgr_value *));
        memcpy(use, n->use, n_in * sizeof *use);
    }
    /* The entries moved: their neighbours in the lists must follow. */
    for (uint32_t i = 0; i < n_in; i++) {
        if (!in[i])
            continue;
        for (uint32_t j = 0; j < n_in; j++) {
            if (use[i].prev == &n->use[j])
                use[i].prev = &use[j];
            if (use[i].next == &n->use[j])
                use[i].next = &use[j];
        }
        *(use[i].prev ? &use[i].prev->next : &in[i]->first_use) = &use[i];
        *(use[i].next ? &use[i].next->prev : &in[i]->last_use) = &use[i];
    }
    n->use = use;
    n->in = in;
    n->n_in = n_in + 1;
    kgr_use_link(n, n_in, v);
    return true;
}

void kgr_node_cut_inputs(kgr_node *n, uint32_t n_in)
{
    while (n->n_in > n_in) {
        kgr_use_unlink(n, n->n_in - 1);
        n->n_in--;
    }
}

void kgr_node_drop_inputs(kgr_node *n, const bool *drop)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n->n_in; i++) {
        kgr_value *v = n->in[i];
        if (!drop[i] && i == kept) {
            kept++;
            continue;
        }
        kgr_use_unlink(n, i);
        if (!drop[i])
            kgr_use_link(n, kept++, v);
    }
    n->n_in = kept;
}

void kgr_inputs_drop(kgr_graph *g, const bool *drop)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < g->n_inputs; i++) {
        if (!drop[i]) {
            g->inputs[kept++] = g->inputs[i];
            continue;
        }
        assert(g->inputs[i]->n_uses == 0);
        g->inputs[i]->is_input = false;
    }
    g->n_inputs = kept;
}

bool kgr_can_replace(const kgr_value *from, const kgr_value *to)
{
    return !from->is_output || (to->producer && !to->is_output);
}

/* |to| takes over |from|'s place among the graph's outputs, and with it the name. */
static void take_output(kgr_graph *g, kgr_value *from, kgr_value *to)
{
    for (uint32_t i = 0; i < g->n_outputs; i++)
        if (g->outputs[i] == from)
            g->outputs[i] = to;
    from->is_output = false;
    from->n_uses--;
    to->is_output = true;
    to->n_uses++;
    const char *name = from->name;
    from->name = to->name;
    to->name = name;
    kgr_names_reown(g->value_names, from->name, from);
    kgr_names_reown(g->value_names, to->name, to);
}

void kgr_replace_uses(kgr_graph *g, kgr_value *from, kgr_value *to)
{
    assert(from != to && kgr_can_replace(from, to));
    while (from->first_use)
        kgr_node_set_input(from->first_use->node, from->first_use->slot, to);
    if (from->is_output)
        take_output(g, from, to);
}

bool kgr_value_make_const(kgr_graph *g, kgr_value *v, void *data)
{
    assert(data && !v->is_input);
    kgr_node *p = v->producer;
    /* The node keeps an output in the slot, as every node does: a nameless one without uses. */
    kgr_value *rest = p ? kgr_value_add(g, NULL, v->t.dtype, &v->t.shape) : NULL;
    if (p && !rest)
        return false;
    for (uint32_t i = 0; p && i < p->n_out; i++)
        if (p->out[i] == v) {
            p->out[i] = rest;
            rest->producer = p;
        }
    v->producer = NULL;
    v->t.data = data;
    return true;
}

void kgr_node_remove(kgr_graph *g, kgr_node *n)
{
    for (uint32_t i = 0; i < n->n_out; i++) {
        assert(n->out[i]->n_uses == 0);
        n->out[i]->producer = NULL;
    }
    kgr_node_cut_inputs(n, 0);
    unlink_node(g, n);
}

void kgr_node_move(kgr_graph *g, kgr_node *n, kgr_node *after)
{
    assert(n != after);
    unlink_node(g, n);
    kgr_node_link(g, n, after);
}

/* Captured operand |i| of |n| is read by none of the bodies. */
static bool is_unread(const kgr_node *n, uint32_t i)
{
    for (uint32_t b = 0; b < n->n_body; b++)
        if (kgr_body_input(n, b, i)->n_uses)
            return false;
    return true;
}

static void drop_unread(kgr_graph *g, kgr_node *n)
{
    uint32_t own = kgr_own_inputs(n), skip = n->n_in - n->body[0]->n_inputs, n_drop = 0;
    bool *drop = KAENA_NEW_N(g->arena, bool, n->n_in);
    for (uint32_t i = own; drop && i < n->n_in; i++)
        n_drop += drop[i] = is_unread(n, i);
    if (!n_drop)
        return;
    for (uint32_t b = 0; b < n->n_body; b++)
        kgr_inputs_drop(n->body[b], drop + skip);
    kgr_node_drop_inputs(n, drop);
}

uint32_t kgr_remove_dead(kgr_graph *g)
{
    uint32_t removed = 0;
    for (kgr_node *n = g->last; n;) {
        kgr_node *before = n->prev;
        bool used = false;
        for (uint32_t i = 0; i < n->n_out; i++)
            used |= n->out[i]->n_uses > 0;
        for (uint32_t i = 0; used && i < n->n_body; i++)
            removed += kgr_remove_dead(n->body[i]);
        if (used && n->n_body)
            drop_unread(g, n);
        if (!used) {
            kgr_node_remove(g, n);
            removed++;
        }
        n = before;
    }
    return removed;
}

kgr_node *kgr_only_user(const kgr_value *v)
{
    kgr_node *n = v->n_uses == 1 && v->first_use ? v->first_use->node : NULL;
    return n && n->device != KGR_HOST ? n : NULL;
}
