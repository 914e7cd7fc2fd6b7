#include "graph.h"

#include <assert.h>
#include <string.h>

#include "names.h"
#include "uses.h"

kgr_graph *kgr_graph_create(kaena_arena *arena, const char *name)
{
    kgr_graph *g = KAENA_NEW(arena, kgr_graph);
    if (!g)
        return NULL;
    g->arena = arena;
    g->name = kaena_arena_strdup(arena, name);
    g->value_names = kgr_names_create(arena);
    g->node_names = kgr_names_create(arena);
    return g->name && g->value_names && g->node_names ? g : NULL;
}

/* Appends |v| to a list that doubles; the old one stays behind in the arena. */
static bool append(kgr_graph *g, kgr_value ***list, uint32_t *n, uint32_t *cap, kgr_value *v)
{
    if (*n == *cap) {
        uint32_t more = *cap ? *cap * 2 : 8;
        kgr_value **fresh = KAENA_NEW_N(g->arena, kgr_value *, more);
        if (!fresh)
            return false;
        if (*n)
            memcpy(fresh, *list, *n * sizeof(kgr_value *));
        *list = fresh;
        *cap = more;
    }
    (*list)[(*n)++] = v;
    return true;
}

kgr_value *kgr_value_add(kgr_graph *g, const char *name, kaena_dtype dtype,
                         const kaena_shape *shape)
{
    kgr_value *v = KAENA_NEW(g->arena, kgr_value);
    if (!v)
        return NULL;
    v->name =
        name ? kgr_names_add(g->value_names, name, v) : kgr_names_make(g->value_names, "value", v);
    v->t.dtype = dtype;
    if (shape)
        v->t.shape = *shape;
    else
        v->t.unranked = true;
    v->id = g->n_values;
    return v->name && append(g, &g->values, &g->n_values, &g->cap_values, v) ? v : NULL;
}

kgr_value *kgr_const_add(kgr_graph *g, const char *name, kaena_dtype dtype,
                         const kaena_shape *shape, const void *data)
{
    kgr_value *v = kgr_value_add(g, name, dtype, shape);
    if (v)
        v->t.data = data ? (void *)data : kaena_arena_alloc(g->arena, 0);
    return v && v->t.data ? v : NULL;
}

kgr_value *kgr_const_i64(kgr_graph *g, const char *name, const int64_t *v, uint32_t n)
{
    const int64_t *copy = kaena_arena_memdup(g->arena, v, n * sizeof *v);
    return copy ? kgr_const_add(g, name, KAENA_I64, &(kaena_shape){1, {n}}, copy) : NULL;
}

kgr_value *kgr_const_f32(kgr_graph *g, const char *name, float v)
{
    const float *copy = kaena_arena_memdup(g->arena, &v, sizeof v);
    return copy ? kgr_const_add(g, name, KAENA_F32, &(kaena_shape){0}, copy) : NULL;
}

bool kgr_input_add(kgr_graph *g, kgr_value *v)
{
    assert(!v->is_input && !v->producer && !v->t.data);
    v->is_input = append(g, &g->inputs, &g->n_inputs, &g->cap_inputs, v);
    return v->is_input;
}

bool kgr_output_add(kgr_graph *g, kgr_value *v)
{
    assert(!v->is_output);
    v->is_output = append(g, &g->outputs, &g->n_outputs, &g->cap_outputs, v);
    v->n_uses += v->is_output;
    return v->is_output;
}

void kgr_output_set(kgr_graph *g, uint32_t i, kgr_value *v)
{
    kgr_value *old = g->outputs[i];
    assert(!v->is_output && old->is_output);
    old->is_output = false;
    old->n_uses--;
    v->is_output = true;
    v->n_uses++;
    g->outputs[i] = v;
}

kgr_value *kgr_value_find(const kgr_graph *g, const char *name)
{
    return kgr_names_find(g->value_names, name);
}

kgr_node *kgr_node_add(kgr_graph *g, kgr_node *after, kop_op op, const char *name,
                       const char *origin, kgr_value *const *in, uint32_t n_in,
                       const char *const *out_names, uint32_t n_out)
{
    assert(n_in <= KOP_MAX_BODY_OPERANDS && n_out <= KOP_MAX_BODY_OPERANDS);
    const char *op_name = kop_row_of(op)->name;
    kgr_node *n = kaena_arena_alloc(g->arena, sizeof *n + n_in * sizeof(kgr_use) +
                                                  (n_in + n_out) * sizeof(kgr_value *));
    if (!n)
        return NULL;
    n->op = op;
    n->use = (kgr_use *)(n + 1);
    n->in = (kgr_value **)(n->use + n_in);
    n->out = n->in + n_in;
    n->name = name && *name ? kgr_names_add(g->node_names, name, n)
                            : kgr_names_make(g->node_names, op_name, n);
    n->origin =
        origin && strcmp(origin, op_name) != 0 ? kaena_arena_strdup(g->arena, origin) : op_name;
    if (!n->name || !n->origin)
        return NULL;
    for (uint32_t i = 0; i < n_out; i++) {
        const char *out_name = out_names ? out_names[i] : NULL;
        kgr_value *v = kgr_value_add(g, out_name, KAENA_DTYPE_NONE, NULL);
        if (!v)
            return NULL;
        v->producer = n;
        n->out[n->n_out++] = v;
    }
    n->n_in = n_in;
    for (uint32_t i = 0; i < n_in; i++)
        kgr_use_link(n, i, in[i]);
    kgr_node_link(g, n, after);
    return n;
}

bool kgr_node_set_bodies(kgr_graph *g, kgr_node *n, kgr_graph *const *body, uint32_t n_body)
{
    kgr_graph **copy = kaena_arena_memdup(g->arena, body, n_body * sizeof *copy);
    if (!copy)
        return false;
    for (uint32_t i = 0; i < n_body; i++) {
        assert(!body[i]->owner && body[i]->arena == g->arena);
        body[i]->owner = n;
    }
    n->body = copy;
    n->n_body = n_body;
    return true;
}

/* --- Attributes ------------------------------------------------------------------------------ */

static bool copy_strings(kaena_arena *arena, kop_attr *a)
{
    const char **copy = KAENA_NEW_N(arena, const char *, a->n);
    for (uint32_t i = 0; copy && i < a->n; i++)
        if (!(copy[i] = kaena_arena_strdup(arena, a->u.strings[i])))
            return false;
    a->u.strings = copy;
    return copy != NULL;
}

static bool copy_tensor(kaena_arena *arena, kop_attr *a)
{
    kop_tensor *copy = KAENA_NEW(arena, kop_tensor);
    if (!copy || !kop_copy(arena, a->u.tensor, copy))
        return false;
    a->u.tensor = copy;
    return true;
}

static bool copy_attr(kaena_arena *arena, kop_attr *a)
{
    a->name = kaena_arena_strdup(arena, a->name);
    if (!a->name)
        return false;
    switch (a->type) {
    case KOP_ATTR_INT:
    case KOP_ATTR_FLOAT:
        return true;
    case KOP_ATTR_STRING:
        return (a->u.s = kaena_arena_strdup(arena, a->u.s)) != NULL;
    case KOP_ATTR_INTS:
        return (a->u.ints = kaena_arena_memdup(arena, a->u.ints, a->n * sizeof(int64_t))) != NULL;
    case KOP_ATTR_FLOATS:
        return (a->u.floats = kaena_arena_memdup(arena, a->u.floats, a->n * sizeof(float))) != NULL;
    case KOP_ATTR_STRINGS:
        return copy_strings(arena, a);
    case KOP_ATTR_TENSOR:
        return copy_tensor(arena, a);
    }
    return false;
}

bool kgr_attr_set(kgr_graph *g, kgr_node *n, const kop_attr *attr)
{
    kop_attr copy = *attr;
    if (!copy_attr(g->arena, &copy))
        return false;
    for (uint32_t i = 0; i < n->n_attr; i++)
        if (strcmp(n->attr[i].name, attr->name) == 0) {
            n->attr[i] = copy;
            return true;
        }
    /* Room is always a power of two, at least 4, so that the count says when it is full. */
    if (n->n_attr == 0 || (n->n_attr >= 4 && (n->n_attr & (n->n_attr - 1)) == 0)) {
        kop_attr *fresh = KAENA_NEW_N(g->arena, kop_attr, n->n_attr ? n->n_attr * 2 : 4);
        if (!fresh)
            return false;
        if (n->n_attr)
            memcpy(fresh, n->attr, n->n_attr * sizeof *fresh);
        n->attr = fresh;
    }
    n->attr[n->n_attr++] = copy;
    return true;
}

bool kgr_attr_int(kgr_graph *g, kgr_node *n, const char *name, int64_t v)
{
    return kgr_attr_set(g, n, &(kop_attr){.name = name, .type = KOP_ATTR_INT, .u.i = v});
}

bool kgr_attr_float(kgr_graph *g, kgr_node *n, const char *name, float v)
{
    return kgr_attr_set(g, n, &(kop_attr){.name = name, .type = KOP_ATTR_FLOAT, .u.f = v});
}

bool kgr_attr_string(kgr_graph *g, kgr_node *n, const char *name, const char *v)
{
    return kgr_attr_set(g, n, &(kop_attr){.name = name, .type = KOP_ATTR_STRING, .u.s = v});
}

bool kgr_attr_ints(kgr_graph *g, kgr_node *n, const char *name, const int64_t *v, uint32_t count)
{
    return kgr_attr_set(g, n,
                        &(kop_attr){.name = name, .type = KOP_ATTR_INTS, .n = count, .u.ints = v});
}

void kgr_attr_remove(kgr_node *n, const char *name)
{
    for (uint32_t i = 0; i < n->n_attr; i++)
        if (strcmp(n->attr[i].name, name) == 0) {
            memmove(&n->attr[i], &n->attr[i + 1], (n->n_attr - i - 1) * sizeof *n->attr);
            n->n_attr--;
            return;
        }
}

const kop_attr *kgr_attr_find(const kgr_node *n, const char *name)
{
    return kop_attr_find(&(kop_call){.attr = n->attr, .n_attr = n->n_attr}, name);
}

int64_t kgr_attr_get_int(const kgr_node *n, const char *name, int64_t otherwise)
{
    return kop_attr_int(&(kop_call){.attr = n->attr, .n_attr = n->n_attr}, name, otherwise);
}

float kgr_attr_get_float(const kgr_node *n, const char *name, float otherwise)
{
    return kop_attr_float(&(kop_call){.attr = n->attr, .n_attr = n->n_attr}, name, otherwise);
}

const char *kgr_attr_get_string(const kgr_node *n, const char *name, const char *otherwise)
{
    return kop_attr_string(&(kop_call){.attr = n->attr, .n_attr = n->n_attr}, name, otherwise);
}

kop_call kgr_call(const kgr_node *n, const kop_tensor **in, kop_tensor *out, kop_env *env,
                  kaena_err *err)
{
    for (uint32_t i = 0; i < n->n_in; i++)
        in[i] = n->in[i] ? &n->in[i]->t : NULL;
    for (uint32_t i = 0; i < n->n_out; i++)
        out[i] = (kop_tensor){.unranked = true};
    return (kop_call){.op = n->op,
                      .name = n->name,
                      .attr = n->attr,
                      .n_attr = n->n_attr,
                      .n_in = n->n_in,
                      .n_out = n->n_out,
                      .in = in,
                      .out = out,
                      .env = env,
                      .err = err};
}
