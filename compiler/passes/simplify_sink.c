/* Elementwise work behind a Reshape of a product's rows goes before it: frameworks that multiply
 * matrices only, of two dimensions, reshape around each product, and a bias or an activation there
 * would stay a node of its own. */
#include <string.h>

#include "simplify.h"

static int64_t last_dim(const kgr_value *v)
{
    return v->t.shape.rank ? v->t.shape.dim[v->t.shape.rank - 1] : 0;
}

/* A Reshape that only |n| reads and that leaves a product's columns alone. */
static kgr_node *reshaped_product(const kgr_value *v)
{
    kgr_node *r = v && v->n_uses == 1 && !v->is_output ? kcc_made_by(v, KOP_Reshape) : NULL;
    const kgr_node *p = r ? kcc_made_by(r->in[0], KOP_MatMul) : NULL;
    if (r && !p)
        p = kcc_made_by(r->in[0], KOP_Gemm);
    /* What has been sunk before. */
    for (const kgr_value *x = r ? r->in[0] : NULL; x && !p && x->n_uses == 1 && x->producer &&
                                                   x->producer->n_in <= 2 &&
                                                   x->producer->n_in > 0;) {
        const kgr_node *e = x->producer;
        if (e->op != KOP_Add && e->op != KOP_Sub && e->op != KOP_Mul && e->op != KOP_Div)
            break;
        x = e->in[kgr_is_const(e->in[0])];
        p = kcc_made_by(x, KOP_MatMul);
        p = p ? p : kcc_made_by(x, KOP_Gemm);
    }
    return p && kcc_known(r->in[0]) && r->in[0]->t.shape.rank >= 1 &&
                   last_dim(r->in[0]) == last_dim(r->out[0])
               ? r
               : NULL;
}

/* |c| as a number, or one for each column; NULL where it varies along the rows. */
static kgr_value *for_columns(kgr_graph *g, const kgr_value *c, int64_t columns)
{
    const kaena_shape *s = &c->t.shape;
    for (int32_t d = 0; d + 1 < s->rank; d++)
        if (s->dim[d] != 1)
            return NULL;
    int64_t n = s->rank ? s->dim[s->rank - 1] : 1;
    if (n != 1 && n != columns)
        return NULL;
    const kaena_shape flat = {n == 1 ? 0 : 1, {n}};
    return kgr_const_add(g, c->name, c->t.dtype, &flat, c->t.data);
}

kaena_status kcc_rule_sink(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err)
{
    for (uint32_t i = 0; i < n->n_in && i < 2; i++) {
        kgr_node *r = reshaped_product(n->in[i]);
        if (!r || !kcc_same_shape(r->out[0], n->out[0]) || n->device == KGR_HOST ||
            !kaena_dtype_is_float(n->out[0]->t.dtype))
            continue;
        kgr_value *in[2] = {NULL, NULL};
        if (n->n_in == 2) {
            if (!kgr_is_const(n->in[1 - i]))
                continue;
            in[1 - i] = for_columns(g, n->in[1 - i], last_dim(r->out[0]));
            if (!in[1 - i])
                continue;
        }
        in[i] = r->in[0];
        kgr_node *moved;
        KAENA_TRY(kcc_insert(g, n, n->op, n->name, in, n->n_in, &moved, err));
        for (uint32_t a = 0; a < n->n_attr; a++)
            if (!kgr_attr_set(g, moved, &n->attr[a]))
                return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", n->name);
        kgr_value *shape =
            kgr_const_i64(g, "shape", n->out[0]->t.shape.dim, (uint32_t)n->out[0]->t.shape.rank);
        if (!shape)
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", n->name);
        kgr_node_set_input(n, 0, moved->out[0]);
        if (n->n_in == 2)
            kgr_node_set_input(n, 1, shape);
        else if (!kgr_node_add_input(g, n, shape))
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", n->name);
        n->op = KOP_Reshape;
        n->n_attr = 0;
        *changed = true;
        return KAENA_OK;
    }
    return KAENA_OK;
}
