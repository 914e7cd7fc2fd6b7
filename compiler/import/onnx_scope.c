/* Names of a graph or function body, and the order of its nodes. */
#include <string.h>

#include "onnx_import.h"
#include "onnx_internal.h"
#include "tensor_pb.h"

static kaena_status no_memory(const onnx_scope *s)
{
    return KAENA_FAIL(s->imp->err, RESOURCE_EXHAUSTED, "no memory for the graph");
}

static kaena_status grow_defs(onnx_scope *s)
{
    uint32_t cap = s->cap_defs ? s->cap_defs * 2 : 64;
    onnx_def *defs = KAENA_NEW_N(s->imp->arena, onnx_def, cap);
    if (!defs)
        return no_memory(s);
    if (s->n_defs)
        memcpy(defs, s->defs, s->n_defs * sizeof *defs);
    s->defs = defs;
    s->cap_defs = cap;
    return KAENA_OK;
}

kaena_status onnx_scope_define(onnx_scope *s, const char *name, onnx_def **out)
{
    if (!name || !*name)
        return KAENA_FAIL(s->imp->err, INVALID_ARGUMENT, "a value without a name");
    if (s->n_defs == s->cap_defs)
        KAENA_TRY(grow_defs(s));
    switch (kcc_name_add(&s->names, name, s->n_defs)) {
    case KCC_NAME_ADDED:
        break;
    case KCC_NAME_EXISTS:
        return KAENA_FAIL(s->imp->err, INVALID_ARGUMENT, "value '%s' is defined twice", name);
    case KCC_NAME_NO_MEMORY:
        return no_memory(s);
    }
    onnx_def *d = &s->defs[s->n_defs++];
    *d = (onnx_def){.name = name, .producer = -1};
    *out = d;
    return KAENA_OK;
}

onnx_def *onnx_scope_find(const onnx_scope *s, const char *name)
{
    uint32_t i;
    return kcc_name_find(&s->names, name, &i) ? &s->defs[i] : NULL;
}

static kaena_status define_outputs(onnx_scope *s)
{
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        const Onnx__NodeProto *n = s->nodes[i];
        for (size_t k = 0; k < n->n_output; k++) {
            onnx_def *d;
            if (!*onnx_text(n->output[k]))
                continue;
            KAENA_TRY_WRAP(s->imp->err, onnx_scope_define(s, n->output[k], &d), "node '%s' (%s)",
                           onnx_node_label(n), onnx_text(n->op_type));
            d->producer = (int32_t)i;
        }
    }
    return KAENA_OK;
}

/* What node |i| reads: its inputs, then what its subgraphs capture. */
static size_t n_operands(const onnx_scope *s, uint32_t i)
{
    return s->nodes[i]->n_input + s->captures[i].n;
}

static const char *operand(const onnx_scope *s, uint32_t i, size_t k)
{
    const Onnx__NodeProto *n = s->nodes[i];
    return k < n->n_input ? onnx_text(n->input[k]) : s->captures[i].name[k - n->n_input];
}

static kaena_status find_captures(onnx_scope *s)
{
    s->captures = KAENA_NEW_N(s->imp->arena, onnx_captures, s->n_nodes);
    if (!s->captures)
        return no_memory(s);
    for (uint32_t i = 0; i < s->n_nodes; i++)
        KAENA_TRY_WRAP(s->imp->err, onnx_captures_of(s->imp, s->nodes[i], &s->captures[i]),
                       "node '%s' (%s)", onnx_node_label(s->nodes[i]),
                       onnx_text(s->nodes[i]->op_type));
    return KAENA_OK;
}

/* The node that makes operand |k| of node |i|; -1: none does, the name is a graph input or a
 * constant. */
static int32_t producer_of(const onnx_scope *s, uint32_t i, size_t k)
{
    const char *name = operand(s, i, k);
    return *name ? onnx_scope_find(s, name)->producer : -1;
}

static kaena_status check_inputs(const onnx_scope *s)
{
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        const Onnx__NodeProto *n = s->nodes[i];
        for (size_t k = 0; k < n_operands(s, i); k++) {
            const char *name = operand(s, i, k);
            if (*name && !onnx_scope_find(s, name))
                return KAENA_FAIL(s->imp->err, INVALID_ARGUMENT,
                                  "node '%s' (%s): %s '%s' is made by no node and is neither "
                                  "graph input nor initializer",
                                  onnx_node_label(n), onnx_text(n->op_type),
                                  k < n->n_input ? "input" : "its subgraph's input", name);
        }
    }
    return KAENA_OK;
}

typedef struct visit {
    uint32_t node;
    size_t next_input;
} visit;

/* Depth first with the file's order among equals: a file that is sorted stays as it is. */
static kaena_status sort_nodes(onnx_scope *s)
{
    enum { UNSEEN, OPEN, DONE };
    kaena_arena *arena = s->imp->arena;
    uint8_t *state = KAENA_NEW_N(arena, uint8_t, s->n_nodes);
    visit *stack = KAENA_NEW_N(arena, visit, s->n_nodes);
    s->order = KAENA_NEW_N(arena, uint32_t, s->n_nodes);
    if (!state || !stack || !s->order)
        return no_memory(s);
    uint32_t n_done = 0;
    for (uint32_t first = 0; first < s->n_nodes; first++) {
        if (state[first] != UNSEEN)
            continue;
        uint32_t depth = 0;
        stack[depth++] = (visit){.node = first};
        state[first] = OPEN;
        while (depth > 0) {
            visit *top = &stack[depth - 1];
            if (top->next_input == n_operands(s, top->node)) {
                state[top->node] = DONE;
                s->order[n_done++] = top->node;
                depth--;
                continue;
            }
            int32_t p = producer_of(s, top->node, top->next_input++);
            if (p < 0 || state[p] == DONE)
                continue;
            if (state[p] == OPEN)
                return KAENA_FAIL(s->imp->err, INVALID_ARGUMENT,
                                  "the graph has a cycle through node '%s' (%s), which makes '%s'",
                                  onnx_node_label(s->nodes[p]), onnx_text(s->nodes[p]->op_type),
                                  operand(s, top->node, top->next_input - 1));
            state[p] = OPEN;
            stack[depth++] = (visit){.node = (uint32_t)p};
        }
    }
    return KAENA_OK;
}

static void mark_needed(onnx_scope *s, const char *name)
{
    onnx_def *d = onnx_scope_find(s, name);
    d->n_uses++;
    if (d->producer >= 0)
        s->needed[d->producer] = true;
}

kaena_status onnx_scope_sort(onnx_scope *s)
{
    if (s->n_nodes > INT32_MAX)
        return KAENA_FAIL(s->imp->err, INVALID_ARGUMENT, "too many nodes");
    KAENA_TRY(define_outputs(s));
    KAENA_TRY(find_captures(s));
    KAENA_TRY(check_inputs(s));
    return sort_nodes(s);
}

kaena_status onnx_scope_mark(onnx_scope *s, const char *const *outputs, uint32_t n_outputs)
{
    s->needed = KAENA_NEW_N(s->imp->arena, bool, s->n_nodes);
    if (!s->needed)
        return no_memory(s);
    for (uint32_t i = 0; i < n_outputs; i++) {
        if (!onnx_scope_find(s, outputs[i]))
            return KAENA_FAIL(s->imp->err, INVALID_ARGUMENT, "output '%s' is made by no node",
                              outputs[i]);
        mark_needed(s, outputs[i]);
    }
    for (uint32_t i = s->n_nodes; i-- > 0;) {
        uint32_t node = s->order[i];
        for (size_t k = 0; s->needed[node] && k < n_operands(s, node); k++) {
            if (*operand(s, node, k))
                mark_needed(s, operand(s, node, k));
        }
    }
    return KAENA_OK;
}

static kaena_status make_constant(onnx_scope *s, onnx_def *d)
{
    onnx_import *imp = s->imp;
    kop_tensor t;
    KAENA_TRY_WRAP(imp->err, kcc_tensor_of_pb(imp->arena, d->init, imp->dir, &t, imp->err),
                   "initializer '%s'", d->name);
    d->value = kgr_const_add(imp->g, d->name, t.dtype, &t.shape, t.data);
    return d->value ? KAENA_OK : no_memory(s);
}

kaena_status onnx_scope_value(onnx_scope *s, const char *name, kgr_value **out)
{
    onnx_def *d = onnx_scope_find(s, name);
    if (!d->value && d->init)
        KAENA_TRY(make_constant(s, d));
    *out = d->value;
    return KAENA_OK;
}

const char *onnx_node_label(const Onnx__NodeProto *n)
{
    return *onnx_text(n->name) || n->n_output == 0 ? onnx_text(n->name) : onnx_text(n->output[0]);
}

const char *onnx_domain(const char *domain)
{
    return !domain || strcmp(domain, "ai.onnx") == 0 ? "" : domain;
}

int64_t onnx_scope_opset(const onnx_scope *s, const char *domain)
{
    for (uint32_t i = 0; i < s->n_opsets; i++) {
        if (strcmp(s->opsets[i].domain, domain) == 0)
            return s->opsets[i].version;
    }
    return 0;
}

kaena_status onnx_scope_set_opsets(onnx_scope *s, Onnx__OperatorSetIdProto **list, size_t n)
{
    if (n > KCC_ONNX_MAX_OPERATOR_SETS)
        return KAENA_FAIL(s->imp->err, INVALID_ARGUMENT, "%zu operator sets; at most %d make sense",
                          n, KCC_ONNX_MAX_OPERATOR_SETS);
    s->opsets = KAENA_NEW_N(s->imp->arena, onnx_opset, n + 1);
    if (!s->opsets)
        return no_memory(s);
    for (size_t i = 0; i < n; i++) {
        const char *domain = onnx_domain(list[i]->domain);
        int64_t before = onnx_scope_opset(s, domain);
        if (list[i]->version < 1 || (before && before != list[i]->version))
            return KAENA_FAIL(s->imp->err, INVALID_ARGUMENT,
                              "operator set '%s' is imported in version %lld%s", domain,
                              (long long)list[i]->version,
                              before ? " and in another one" : ", which does not exist");
        if (!before)
            s->opsets[s->n_opsets++] = (onnx_opset){domain, list[i]->version};
    }
    return KAENA_OK;
}
