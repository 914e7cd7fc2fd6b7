/* Products of one operand by several constant matrices become one: query, key and value of an
 * attention read their input once, and a Split hands the columns on. */
#include <string.h>

#include "fuse.h"

#define MAX_MERGED 8
#define MIN_COLUMNS 16 /* a panel */

static bool same_attr(const kgr_node *a, const kgr_node *b, const char *name)
{
    return kgr_attr_get_float(a, name, 0) == kgr_attr_get_float(b, name, 0);
}

static int64_t columns_of(const kgr_node *n)
{
    return n->in[1]->t.shape.dim[1];
}

/* Every reader can take its columns where the others' lie between the rows. */
static bool read_in_place(const kgr_value *v)
{
    if (v->is_output)
        return false;
    for (const kgr_use *u = v->first_use; u; u = u->next)
        if (u->node->op != KOP_Reshape && u->node->op != KOP_Transpose &&
            u->node->op != KOP_MatMul && u->node->op != KOP_Mul && u->node->op != KOP_Add)
            return false;
    return v->first_use != NULL;
}

static bool is_mergeable(const kgr_node *n)
{
    return (n->op == KOP_Gemm || n->op == KOP_MatMul) && n->device != KGR_HOST &&
           kcc_known(n->in[1]) && kgr_is_const(n->in[1]) && n->in[1]->t.shape.rank == 2 &&
           kcc_known(n->out[0]) && kaena_dtype_is_float(n->in[1]->t.dtype) &&
           !kgr_is_const(n->in[0]) && n->in[0]->t.shape.rank >= 2 &&
           (n->n_in < 3 || !n->in[2] ||
            (kgr_is_const(n->in[2]) && n->in[2]->t.shape.rank == 1 &&
             n->in[2]->t.shape.dim[0] == columns_of(n))) &&
           n->n_in < 4 && !kgr_attr_find(n, "kaena.residual") && !kgr_attr_find(n, "kaena.scale") &&
           !kgr_attr_find(n, "alpha") && !kgr_attr_find(n, "beta") && !kgr_attr_find(n, "transA") &&
           !kgr_attr_find(n, "transB") && columns_of(n) >= MIN_COLUMNS && read_in_place(n->out[0]);
}

static bool go_together(const kgr_node *a, const kgr_node *b)
{
    return a->op == b->op && a->device == b->device && a->in[1]->t.dtype == b->in[1]->t.dtype &&
           strcmp(kgr_attr_get_string(a, "kaena.act", ""),
                  kgr_attr_get_string(b, "kaena.act", "")) == 0 &&
           same_attr(a, b, "kaena.act_alpha") && same_attr(a, b, "kaena.act_beta");
}

/* Row |r| of all weights beside each other; |slot| 2: the biases, zeros where there is none. */
static kgr_value *beside(kgr_graph *g, kgr_node *const *part, uint32_t n, uint32_t slot,
                         int64_t columns)
{
    const kgr_value *first = part[0]->in[1];
    int64_t rows = slot == 1 ? first->t.shape.dim[0] : 1;
    kaena_shape shape = {2, {rows, columns}};
    if (slot == 2)
        shape = (kaena_shape){1, {columns}};
    size_t size = kaena_dtype_size(first->t.dtype);
    kgr_value *r = kgr_value_add(g, slot == 1 ? first->name : "bias", first->t.dtype, &shape);
    r->t.data = kaena_arena_array(g->arena, (size_t)(rows * columns), size);
    for (int64_t i = 0; i < rows; i++) {
        int64_t at = 0;
        for (uint32_t k = 0; k < n; k++) {
            int64_t wide = columns_of(part[k]);
            const kgr_value *v = slot < part[k]->n_in ? part[k]->in[slot] : NULL;
            char *to = (char *)r->t.data + (size_t)(i * columns + at) * size;
            if (v)
                memcpy(to, (const char *)v->t.data + (size_t)(i * wide) * size,
                       (size_t)wide * size);
            else
                memset(to, 0, (size_t)wide * size);
            at += wide;
        }
    }
    return r;
}

static kaena_status merge(kgr_graph *g, kgr_node *const *part, uint32_t n, kaena_err *err)
{
    int64_t columns = 0, wide[MAX_MERGED];
    bool bias = false;
    for (uint32_t k = 0; k < n; k++) {
        columns += wide[k] = columns_of(part[k]);
        bias |= part[k]->n_in > 2 && part[k]->in[2];
    }
    kgr_node *first = part[0], *all;
    kgr_value *in[3] = {first->in[0], beside(g, part, n, 1, columns), NULL};
    if (bias)
        in[2] = beside(g, part, n, 2, columns);
    KAENA_TRY(kcc_insert(g, first, first->op, first->name, in, bias ? 3 : 2, &all, err));
    all->device = first->device;
    for (uint32_t a = 0; a < first->n_attr; a++)
        if (!kgr_attr_set(g, all, &first->attr[a]))
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", first->name);
    kgr_value *sizes = kgr_const_i64(g, "columns", wide, n);
    const char *names[MAX_MERGED] = {0};
    kgr_node *split = kgr_node_add(g, all, KOP_Split, first->name, NULL,
                                   (kgr_value *[]){all->out[0], sizes}, 2, names, n);
    if (!split || !kgr_attr_int(g, split, "axis", -1))
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", first->name);
    split->device = first->device;
    KAENA_TRY(kgr_infer_node(split, err));
    for (uint32_t k = 0; k < n; k++)
        kgr_replace_uses(g, part[k]->out[0], split->out[k]);
    return KAENA_OK;
}

kaena_status kcc_fuse_siblings(kgr_graph *g, kgr_value *v, kaena_err *err)
{
    kgr_node *part[MAX_MERGED];
    for (const kgr_use *u = v->first_use; u; u = u->next) {
        uint32_t n = 0;
        if (u->slot != 0 || !is_mergeable(u->node))
            continue;
        for (const kgr_use *w = u; w && n < MAX_MERGED; w = w->next)
            if (w->slot == 0 && is_mergeable(w->node) && go_together(u->node, w->node))
                part[n++] = w->node;
        if (n > 1)
            return merge(g, part, n, err);
    }
    return KAENA_OK;
}
