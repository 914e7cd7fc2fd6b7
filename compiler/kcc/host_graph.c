/* A host step as a graph of its own, for the HOST section. */
#include "host_graph.h"

#include <string.h>

#include "paged.h"

typedef struct copying {
    kgr_graph *to;
    kaena_arena scratch;
    kcc_paged value; /* kgr_value *, by id in the source graph */
} copying;

static kgr_value **copy_of(copying *c, const kgr_value *v)
{
    return kcc_paged_at(&c->value, &c->scratch, v->id, sizeof(kgr_value *));
}

static kgr_value *copy_value(copying *c, const kgr_value *v)
{
    if (!v)
        return NULL;
    kgr_value **copy = copy_of(c, v);
    if (!*copy) {
        *copy = v->t.data ? kgr_const_add(c->to, v->name, v->t.dtype, &v->t.shape, v->t.data)
                          : kgr_value_add(c->to, v->name, v->t.dtype, &v->t.shape);
        (*copy)->t = v->t;
    }
    return *copy;
}

kgr_graph *kcc_host_graph(kaena_arena *arena, const kgr_graph *g, const kcc_step *step)
{
    copying c = {.to = kgr_graph_create(arena, g->name)};
    kaena_arena_init(&c.scratch, 0);
    for (uint32_t i = 0; i < step->n_in; i++)
        kgr_input_add(c.to, copy_value(&c, step->in[i]));
    for (uint32_t i = 0; i < step->n_nodes; i++) {
        const kgr_node *n = step->nodes[i];
        kgr_value **in = KAENA_NEW_N(arena, kgr_value *, n->n_in);
        const char **names = KAENA_NEW_N(arena, const char *, n->n_out);
        for (uint32_t k = 0; k < n->n_in; k++)
            in[k] = copy_value(&c, n->in[k]);
        for (uint32_t k = 0; k < n->n_out; k++)
            names[k] = n->out[k]->name;
        kgr_node *copy =
            kgr_node_add(c.to, NULL, n->op, n->name, n->origin, in, n->n_in, names, n->n_out);
        for (uint32_t k = 0; k < n->n_attr; k++)
            kgr_attr_set(c.to, copy, &n->attr[k]);
        kgr_graph **body = KAENA_NEW_N(arena, kgr_graph *, n->n_body);
        for (uint32_t k = 0; k < n->n_body; k++)
            body[k] = kgr_copy(arena, n->body[k]);
        if (n->n_body)
            kgr_node_set_bodies(c.to, copy, body, n->n_body);
        for (uint32_t k = 0; k < n->n_out; k++) {
            copy->out[k]->t = n->out[k]->t;
            *copy_of(&c, n->out[k]) = copy->out[k];
        }
    }
    for (uint32_t i = 0; i < step->n_out; i++)
        kgr_output_add(c.to, copy_value(&c, step->out[i]));
    kaena_arena_fini(&c.scratch);
    return c.to;
}
