/* Subgraphs of nodes. In the file they may read every name of what surrounds them; here they become
 * closed graphs: what they read is an operand of the node and an input of each of its bodies. */
#include <string.h>

#include "onnx_import.h"
#include "onnx_internal.h"
#include "onnx_io.h"

static kaena_status no_memory(const onnx_import *imp)
{
    return KAENA_FAIL(imp->err, RESOURCE_EXHAUSTED, "no memory for the graph");
}

Onnx__GraphProto *onnx_attr_graph(const Onnx__AttributeProto *a)
{
    bool graph =
        a->type == ONNX__ATTRIBUTE_TYPE__GRAPH || a->type == ONNX__ATTRIBUTE_TYPE__UNDEFINED;
    return graph ? a->g : NULL;
}

/* --- What subgraphs read from outside -------------------------------------------------------- */

/* Names in order of their first appearance. */
typedef struct name_list {
    kcc_name_table seen;
    const char **name;
    uint32_t n, cap;
} name_list;

static kaena_status add_name(const onnx_import *imp, name_list *list, const char *name)
{
    switch (kcc_name_add(&list->seen, name, list->n)) {
    case KCC_NAME_EXISTS:
        return KAENA_OK;
    case KCC_NAME_NO_MEMORY:
        return no_memory(imp);
    case KCC_NAME_ADDED:
        break;
    }
    if (list->n == list->cap) {
        uint32_t cap = list->cap ? list->cap * 2 : 8;
        const char **fresh = KAENA_NEW_N(imp->arena, const char *, cap);
        if (!fresh)
            return no_memory(imp);
        if (list->n)
            memcpy(fresh, list->name, list->n * sizeof *fresh);
        list->name = fresh;
        list->cap = cap;
    }
    list->name[list->n++] = name;
    return KAENA_OK;
}

static kaena_status define(const onnx_import *imp, kcc_name_table *names, const char *name)
{
    if (!*onnx_text(name) || kcc_name_add(names, name, 0) != KCC_NAME_NO_MEMORY)
        return KAENA_OK;
    return no_memory(imp);
}

static kaena_status define_all(const onnx_import *imp, const Onnx__GraphProto *g,
                               kcc_name_table *names)
{
    for (size_t i = 0; i < g->n_input; i++)
        KAENA_TRY(define(imp, names, g->input[i]->name));
    for (size_t i = 0; i < g->n_initializer; i++)
        KAENA_TRY(define(imp, names, g->initializer[i]->name));
    for (size_t i = 0; i < g->n_node; i++)
        for (size_t k = 0; k < g->node[i]->n_output; k++)
            KAENA_TRY(define(imp, names, g->node[i]->output[k]));
    return KAENA_OK;
}

static kaena_status captures_of_node(onnx_import *imp, const Onnx__NodeProto *n, name_list *list,
                                     uint32_t level);

/* Adds to |list| what |g| reads and does not define: a name it defines hides one outside. */
static kaena_status captures_of_graph(onnx_import *imp, const Onnx__GraphProto *g, name_list *list,
                                      uint32_t level)
{
    kcc_name_table own = {.arena = imp->arena};
    name_list read = {.seen = {.arena = imp->arena}};
    if (level > KGR_MAX_DEPTH)
        return KAENA_FAIL(imp->err, INVALID_ARGUMENT, "subgraphs are nested deeper than %d",
                          KGR_MAX_DEPTH);
    KAENA_TRY(define_all(imp, g, &own));
    for (size_t i = 0; i < g->n_node; i++) {
        for (size_t k = 0; k < g->node[i]->n_input; k++)
            if (*onnx_text(g->node[i]->input[k]))
                KAENA_TRY(add_name(imp, &read, g->node[i]->input[k]));
        KAENA_TRY(captures_of_node(imp, g->node[i], &read, level + 1));
    }
    for (size_t i = 0; i < g->n_output; i++)
        if (*onnx_text(g->output[i]->name))
            KAENA_TRY(add_name(imp, &read, g->output[i]->name));
    for (uint32_t i = 0; i < read.n; i++) {
        uint32_t unused;
        if (!kcc_name_find(&own, read.name[i], &unused))
            KAENA_TRY(add_name(imp, list, read.name[i]));
    }
    return KAENA_OK;
}

static kaena_status captures_of_node(onnx_import *imp, const Onnx__NodeProto *n, name_list *list,
                                     uint32_t level)
{
    for (size_t i = 0; i < n->n_attribute; i++) {
        const Onnx__GraphProto *g = onnx_attr_graph(n->attribute[i]);
        if (g)
            KAENA_TRY(captures_of_graph(imp, g, list, level));
    }
    return KAENA_OK;
}

kaena_status onnx_captures_of(onnx_import *imp, const Onnx__NodeProto *n, onnx_captures *out)
{
    name_list list = {.seen = {.arena = imp->arena}};
    KAENA_TRY(captures_of_node(imp, n, &list, 1));
    *out = (onnx_captures){list.name, list.n};
    return KAENA_OK;
}

kaena_status onnx_capture_values(onnx_xlat *x, kgr_value **out)
{
    for (uint32_t i = 0; i < x->captures->n; i++)
        KAENA_TRY(onnx_scope_value(x->scope, x->captures->name[i], &out[i]));
    return KAENA_OK;
}

/* --- The subgraph as a scope ----------------------------------------------------------------- */

static kgr_value *add_input(onnx_import *imp, const char *name, const kop_tensor *type)
{
    kgr_value *v = kgr_value_add(imp->g, name, type->dtype, type->unranked ? NULL : &type->shape);
    if (!v || !kgr_input_add(imp->g, v))
        return NULL;
    v->t.form = type->form;
    return v;
}

static bool has_initializer(const Onnx__GraphProto *pb, const char *name)
{
    for (size_t i = 0; i < pb->n_initializer; i++)
        if (strcmp(onnx_text(pb->initializer[i]->name), name) == 0)
            return true;
    return false;
}

/* The formal inputs. What the file says of their shapes is often wrong, and inference knows better:
 * only form and element type are taken from it. */
static kaena_status add_formals(onnx_scope *s, Onnx__GraphProto *pb, uint32_t n_formal)
{
    onnx_import *imp = s->imp;
    /* Up to IR version 3 initializers stand among the inputs. */
    bool mixed = pb->n_input > n_formal;
    uint32_t n = 0;
    for (size_t i = 0; i < pb->n_input; i++) {
        const char *name = onnx_text(pb->input[i]->name);
        if (mixed && has_initializer(pb, name))
            continue;
        kop_tensor type = {.unranked = true};
        kaena_err unknown;
        kaena_err_init(&unknown);
        if (onnx_type_of_pb(pb->input[i]->type, name, &type, &unknown) == KAENA_UNIMPLEMENTED)
            return onnx_type_of_pb(pb->input[i]->type, name, &type, imp->err);
        type.unranked = true;
        onnx_def *d;
        KAENA_TRY(onnx_scope_define(s, name, &d));
        d->value = add_input(imp, name, &type);
        if (!d->value)
            return no_memory(imp);
        n++;
    }
    if (n != n_formal)
        return KAENA_FAIL(imp->err, INVALID_ARGUMENT, "it has %u inputs, the node gives it %u", n,
                          n_formal);
    return KAENA_OK;
}

static kaena_status add_initializers(onnx_scope *s, Onnx__GraphProto *pb)
{
    if (pb->n_sparse_initializer)
        return KAENA_FAIL(s->imp->err, UNIMPLEMENTED, "sparse initializers are not supported");
    for (size_t i = 0; i < pb->n_initializer; i++) {
        onnx_def *d = onnx_scope_find(s, onnx_text(pb->initializer[i]->name));
        if (d && d->value && d->value->is_input)
            continue; /* a default that always is overridden */
        KAENA_TRY_WRAP(s->imp->err, onnx_scope_define(s, pb->initializer[i]->name, &d),
                       "initializer %zu", i);
        d->init = pb->initializer[i];
    }
    return KAENA_OK;
}

/* Every body of a node gets an input for everything that any of them captures; where a name is
 * hidden by one of the subgraph's own, nothing reads it. */
static kaena_status add_captures(onnx_scope *s, const kcc_name_table *own,
                                 const onnx_captures *captures, kgr_value *const *captured)
{
    onnx_import *imp = s->imp;
    for (uint32_t i = 0; i < captures->n; i++) {
        kgr_value *v = captured[i], *mine = NULL;
        uint32_t unused;
        if (kgr_is_const(v))
            mine = kgr_const_add(imp->g, captures->name[i], v->t.dtype, &v->t.shape, v->t.data);
        else if (v)
            mine = add_input(imp, captures->name[i], &v->t);
        if (v && !mine)
            return no_memory(imp);
        if (kcc_name_find(own, captures->name[i], &unused))
            continue;
        onnx_def *d;
        KAENA_TRY(onnx_scope_define(s, captures->name[i], &d));
        d->value = mine;
    }
    return KAENA_OK;
}

static kaena_status add_outputs(onnx_scope *s, const char *const *names, uint32_t n)
{
    onnx_import *imp = s->imp;
    for (uint32_t i = 0; i < n; i++) {
        kgr_value *v;
        KAENA_TRY(onnx_scope_value(s, names[i], &v));
        if (!v)
            return KAENA_FAIL(imp->err, INVALID_ARGUMENT,
                              "output '%s' is an input that a function's call leaves out",
                              names[i]);
        if (v->is_output) { /* listed twice */
            kgr_node *copy = kgr_node_add(imp->g, NULL, KOP_Identity, NULL, NULL, &v, 1, NULL, 1);
            if (!copy)
                return no_memory(imp);
            v = copy->out[0];
        }
        if (!kgr_output_add(imp->g, v))
            return no_memory(imp);
    }
    return KAENA_OK;
}

static kaena_status fill_body(onnx_scope *s, Onnx__GraphProto *pb, uint32_t n_formal,
                              const onnx_captures *captures, kgr_value *const *captured)
{
    onnx_import *imp = s->imp;
    kcc_name_table own = {.arena = imp->arena};
    const char **outputs = KAENA_NEW_N(imp->arena, const char *, pb->n_output);
    if (!outputs)
        return no_memory(imp);
    for (size_t i = 0; i < pb->n_output; i++)
        outputs[i] = onnx_text(pb->output[i]->name);
    KAENA_TRY(define_all(imp, pb, &own));
    KAENA_TRY(add_formals(s, pb, n_formal));
    KAENA_TRY(add_initializers(s, pb));
    KAENA_TRY(add_captures(s, &own, captures, captured));
    KAENA_TRY(onnx_scope_sort(s));
    KAENA_TRY(onnx_scope_mark(s, outputs, (uint32_t)pb->n_output));
    KAENA_TRY(onnx_import_nodes(s));
    return add_outputs(s, outputs, (uint32_t)pb->n_output);
}

kaena_status onnx_body_import(onnx_xlat *x, Onnx__GraphProto *pb, uint32_t n_formal,
                              kgr_value *const *captured, kgr_graph **out)
{
    onnx_import *imp = x->imp, outer = *imp;
    onnx_scope s = *x->scope;
    if (pb->n_node > INT32_MAX || pb->n_output > KOP_MAX_BODY_OPERANDS)
        return KAENA_FAIL(imp->err, INVALID_ARGUMENT, "too many nodes or outputs");
    s.nodes = pb->node;
    s.n_nodes = (uint32_t)pb->n_node;
    s.captures = NULL;
    s.order = NULL;
    s.needed = NULL;
    s.names = (kcc_name_table){.arena = imp->arena};
    s.defs = NULL;
    s.n_defs = s.cap_defs = 0;
    s.caller = x->scope;
    s.level = x->scope->level + 1;
    if (s.level > KGR_MAX_DEPTH)
        return KAENA_FAIL(imp->err, INVALID_ARGUMENT, "subgraphs are nested deeper than %d",
                          KGR_MAX_DEPTH);
    imp->g = kgr_graph_create(imp->arena, onnx_text(pb->name));
    imp->inferred = NULL;
    imp->untyped = false;
    kaena_status status =
        imp->g ? fill_body(&s, pb, n_formal, x->captures, captured) : no_memory(imp);
    *out = imp->g;
    imp->g = outer.g;
    imp->inferred = outer.inferred;
    imp->untyped = outer.untyped;
    return status == KAENA_OK
               ? KAENA_OK
               : kaena_err_wrap(imp->err, status, "subgraph '%s'", onnx_text(pb->name));
}
