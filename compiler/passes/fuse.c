/* requires: shapes and types; simplified
 * establishes: what passes.h says of fuse */
#include "fuse.h"

#include <stdlib.h>

/* Where a node stands: an index per producer, looked up by the id of its first result. */
typedef struct order {
    uint32_t *of;
} order;

static bool stands_before(const order *o, const kgr_value *v, const kgr_node *n)
{
    return v->is_input || (v->producer && o->of[v->producer->out[0]->id] < o->of[n->out[0]->id]);
}

/* Takes in whatever follows |n|, as far as it goes. */
static kaena_status absorb_followers(kgr_graph *g, order *o, kgr_node *n, kaena_err *err)
{
    for (bool done = true; done;) {
        done = false;
        kgr_node *user = kgr_only_user(n->out[0]);
        if (user)
            KAENA_TRY(kcc_fuse_affine(g, n, user, &done, err));
        if (!done)
            done = kcc_fuse_scale(g, n);
        if (!done && user && kcc_can_fuse_residual(n, user)) {
            const kgr_value *r = user->in[user->in[0] == n->out[0]];
            if (stands_before(o, r, n)) {
                kcc_fuse_residual(g, n, user);
                done = true;
            }
        }
        if (!done)
            done = kcc_fuse_act(g, n);
    }
    return KAENA_OK;
}

/* An Add that no operand's producer could take in where it stood: one moves here and does. */
static kaena_status pull_down(kgr_graph *g, order *o, kgr_node *add, bool *done, kaena_err *err)
{
    for (uint32_t i = 0; i < 2; i++) {
        kgr_node *p = add->in[i] ? add->in[i]->producer : NULL;
        if (!p || kgr_only_user(p->out[0]) != add || !kcc_can_fuse_residual(p, add))
            continue;
        if (add->prev != p)
            kgr_node_move(g, p, add->prev);
        o->of[p->out[0]->id] = o->of[add->out[0]->id];
        kcc_fuse_residual(g, p, add);
        *done = true;
        return absorb_followers(g, o, p, err);
    }
    return KAENA_OK;
}

static kaena_status fuse_all(kgr_graph *g, order *o, kaena_err *err)
{
    for (kgr_node *n = g->first; n;) {
        kgr_node *before = n->prev;
        bool gone = false;
        if (n->op == KOP_Add)
            KAENA_TRY(pull_down(g, o, n, &gone, err));
        if (!gone && kcc_takes_act(n))
            KAENA_TRY(absorb_followers(g, o, n, err));
        if (!gone)
            n = n->next;
        else
            n = before ? before->next : g->first;
    }
    return KAENA_OK;
}

kaena_status kcc_pass_fuse(kgr_graph *g, const kcc_options *opt, kaena_err *err)
{
    (void)opt;
    for (kgr_node *n = g->first, *next; n; n = next) {
        next = n->next;
        KAENA_TRY(kcc_fuse_gemm(g, n, err));
    }
    order o = {calloc(g->n_values ? g->n_values : 1, sizeof(uint32_t))};
    if (!o.of)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory to fuse %u nodes", g->n_nodes);
    uint32_t at = 0;
    for (const kgr_node *n = g->first; n; n = n->next)
        o.of[n->out[0]->id] = at++;
    kaena_status s = fuse_all(g, &o, err);
    free(o.of);
    (void)kgr_remove_dead(g);
    uint32_t n_values = g->n_values;
    for (uint32_t i = 0; s == KAENA_OK && i < n_values; i++)
        if (g->values[i]->n_uses > 1)
            s = kcc_fuse_siblings(g, g->values[i], err);
    (void)kgr_remove_dead(g);
    return s;
}
