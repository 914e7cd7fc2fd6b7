/* From a NodeProto to nodes of the graph. */
#include <string.h>

#include "onnx_import.h"
#include "onnx_internal.h"
#include "tensor_pb.h"

#define MAX_LISTED 8 /* unsupported operators named in one message */

/* --- Operators we do not have ---------------------------------------------------------------- */

static int64_t opset_of(const onnx_scope *s, const Onnx__NodeProto *n)
{
    return onnx_scope_opset(s, onnx_domain(n->domain));
}

static bool has_graph(const Onnx__NodeProto *n)
{
    for (size_t i = 0; i < n->n_attribute; i++) {
        const Onnx__AttributeProto *a = n->attribute[i];
        if (a->g || a->type == ONNX__ATTRIBUTE_TYPE__GRAPH ||
            a->type == ONNX__ATTRIBUTE_TYPE__GRAPHS)
            return true;
    }
    return false;
}

bool onnx_operator_known(const onnx_scope *s, const char *domain, const char *op)
{
    if (onnx_function_find(s->imp, domain, op))
        return true;
    if (*domain)
        return onnx_foreign_knows(domain, op);
    return onnx_has_bodies(op) || kop_find(op) != KOP_NONE ||
           onnx_legacy_knows(op, onnx_scope_opset(s, domain));
}

static bool is_known(const onnx_scope *s, const Onnx__NodeProto *n)
{
    const char *domain = onnx_domain(n->domain), *op = onnx_text(n->op_type);
    bool fits = has_graph(n) == (!*domain && onnx_has_bodies(op));
    return (fits || onnx_function_find(s->imp, domain, op)) && onnx_operator_known(s, domain, op);
}

/* Names the first unsupported node with everything about it, then the other operators. */
static kaena_status refuse(const onnx_scope *s, const Onnx__NodeProto *first)
{
    const char *listed[MAX_LISTED] = {onnx_text(first->op_type)};
    uint32_t n_listed = 1, n_nodes = 0;
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        if (!s->needed[i] || is_known(s, s->nodes[i]))
            continue;
        n_nodes++;
        const char *op = onnx_text(s->nodes[i]->op_type);
        bool seen = false;
        for (uint32_t k = 0; k < n_listed && !seen; k++)
            seen = strcmp(listed[k], op) == 0;
        if (!seen && n_listed < MAX_LISTED)
            listed[n_listed++] = op;
    }
    kaena_strbuf others = {0};
    for (uint32_t k = 1; k < n_listed; k++)
        kaena_strbuf_printf(&others, "%s%s", k > 1 ? ", " : "; also unsupported: ", listed[k]);
    const char *domain = onnx_domain(first->domain);
    (void)KAENA_FAIL(s->imp->err, UNIMPLEMENTED,
                     "node '%s': operator %s (domain '%s', operator set %lld) is not supported%s "
                     "(%u %s in all)%s",
                     onnx_node_label(first), onnx_text(first->op_type),
                     *domain ? domain : "ai.onnx", (long long)opset_of(s, first),
                     has_graph(first)                             ? ": it has a subgraph"
                     : onnx_has_bodies(onnx_text(first->op_type)) ? ": it has no subgraph"
                                                                  : "",
                     n_nodes, n_nodes == 1 ? "node" : "nodes", others.data ? others.data : "");
    kaena_strbuf_fini(&others);
    kaena_err_hint(s->imp->err, "'kcc list-operators --framework ONNX' shows the supported ones; "
                                "export the model with these, or select outputs before this node "
                                "with --io-config");
    return KAENA_UNIMPLEMENTED;
}

static kaena_status check_operators(const onnx_scope *s)
{
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        const Onnx__NodeProto *n = s->nodes[s->order[i]];
        if (!s->needed[s->order[i]])
            continue;
        const char *domain = onnx_domain(n->domain);
        if (!*domain && !opset_of(s, n))
            return KAENA_FAIL(s->imp->err, INVALID_ARGUMENT,
                              "node '%s' (%s) is of the default operator set, but the %s does not "
                              "say in which version",
                              onnx_node_label(n), onnx_text(n->op_type),
                              s->function ? "function" : "model");
        if (!is_known(s, n))
            return refuse(s, n);
    }
    return KAENA_OK;
}

/* --- Attributes ------------------------------------------------------------------------------ */

kaena_status onnx_attrs_resolve(onnx_scope *s, const Onnx__NodeProto *node, onnx_attr **out,
                                uint32_t *n_out)
{
    if (node->n_attribute > KCC_ONNX_MAX_ATTRIBUTES)
        return KAENA_FAIL(s->imp->err, INVALID_ARGUMENT, "%zu attributes; at most %d make sense",
                          node->n_attribute, KCC_ONNX_MAX_ATTRIBUTES);
    onnx_attr *list = KAENA_NEW_N(s->imp->arena, onnx_attr, node->n_attribute);
    if (!list)
        return KAENA_FAIL(s->imp->err, RESOURCE_EXHAUSTED, "no memory for the graph");
    uint32_t n = 0;
    for (size_t i = 0; i < node->n_attribute; i++) {
        Onnx__AttributeProto *a = node->attribute[i];
        const char *ref = onnx_text(a->ref_attr_name);
        if (!*ref) {
            list[n++] = (onnx_attr){onnx_text(a->name), a};
            continue;
        }
        Onnx__AttributeProto *found = NULL;
        for (uint32_t k = 0; k < s->n_call_attr && !found; k++) {
            if (strcmp(s->call_attr[k].name, ref) == 0)
                found = s->call_attr[k].pb;
        }
        for (size_t k = 0; s->function && k < s->function->n_attribute_proto && !found; k++) {
            if (strcmp(onnx_text(s->function->attribute_proto[k]->name), ref) == 0)
                found = s->function->attribute_proto[k];
        }
        /* Given neither by the call nor by default: the node is as if it had no such attribute. */
        if (found)
            list[n++] = (onnx_attr){onnx_text(a->name), found};
    }
    *out = list;
    *n_out = n;
    return KAENA_OK;
}

/* Files before IR version 2 do not say the type. */
static int32_t attr_type(const Onnx__AttributeProto *a)
{
    if (a->type != ONNX__ATTRIBUTE_TYPE__UNDEFINED)
        return a->type;
    if (a->has_f)
        return ONNX__ATTRIBUTE_TYPE__FLOAT;
    if (a->has_i)
        return ONNX__ATTRIBUTE_TYPE__INT;
    if (a->has_s)
        return ONNX__ATTRIBUTE_TYPE__STRING;
    if (a->t)
        return ONNX__ATTRIBUTE_TYPE__TENSOR;
    if (a->g)
        return ONNX__ATTRIBUTE_TYPE__GRAPH;
    if (a->n_floats)
        return ONNX__ATTRIBUTE_TYPE__FLOATS;
    if (a->n_strings)
        return ONNX__ATTRIBUTE_TYPE__STRINGS;
    if (a->sparse_tensor)
        return ONNX__ATTRIBUTE_TYPE__SPARSE_TENSOR;
    if (a->tp)
        return ONNX__ATTRIBUTE_TYPE__TYPE_PROTO;
    return ONNX__ATTRIBUTE_TYPE__INTS;
}

static kaena_status copy_string(onnx_xlat *x, const ProtobufCBinaryData *s, const char **out)
{
    if (s->len && memchr(s->data, 0, s->len))
        return KAENA_FAIL(x->imp->err, INVALID_ARGUMENT, "a string with a NUL byte inside");
    char *copy = kaena_arena_alloc(x->imp->arena, s->len + 1);
    if (!copy)
        return onnx_xlat_no_memory(x);
    if (s->len)
        memcpy(copy, s->data, s->len);
    *out = copy;
    return KAENA_OK;
}

static kaena_status copy_strings(onnx_xlat *x, const Onnx__AttributeProto *pb, kop_attr *a)
{
    const char **list = KAENA_NEW_N(x->imp->arena, const char *, pb->n_strings);
    if (!list)
        return onnx_xlat_no_memory(x);
    for (size_t i = 0; i < pb->n_strings; i++)
        KAENA_TRY(copy_string(x, &pb->strings[i], &list[i]));
    a->u.strings = list;
    return KAENA_OK;
}

/* Optional's `type`, of the element that is not there: kaena.form and kaena.dtype. */
static kaena_status type_attr(onnx_xlat *x, const Onnx__AttributeProto *pb, kop_attr *a)
{
    kop_tensor t;
    if (strcmp(x->op, "Optional") != 0 || !pb->tp)
        return KAENA_FAIL(x->imp->err, UNIMPLEMENTED, "a type is not supported");
    KAENA_TRY(onnx_type_of_pb(pb->tp, "the element", &t, x->imp->err));
    if (t.form != KOP_FORM_TENSOR && t.form != KOP_FORM_SEQUENCE)
        return KAENA_FAIL(x->imp->err, UNIMPLEMENTED, "optionals of optionals are not supported");
    *a = (kop_attr){.name = "kaena.dtype", .type = KOP_ATTR_INT, .u.i = (int64_t)t.dtype};
    return onnx_xlat_set(x, &(kop_attr){.name = "kaena.form",
                                        .type = KOP_ATTR_INT,
                                        .u.i = t.form == KOP_FORM_TENSOR
                                                   ? KOP_FORM_OPTIONAL
                                                   : KOP_FORM_OPTIONAL_SEQUENCE});
}

static kaena_status convert_attr(onnx_xlat *x, Onnx__AttributeProto *pb, kop_attr *a)
{
    switch (attr_type(pb)) {
    case ONNX__ATTRIBUTE_TYPE__FLOAT:
        a->type = KOP_ATTR_FLOAT;
        a->u.f = pb->f;
        return KAENA_OK;
    case ONNX__ATTRIBUTE_TYPE__INT:
        a->type = KOP_ATTR_INT;
        a->u.i = pb->i;
        return KAENA_OK;
    case ONNX__ATTRIBUTE_TYPE__STRING:
        a->type = KOP_ATTR_STRING;
        return copy_string(x, &pb->s, &a->u.s);
    case ONNX__ATTRIBUTE_TYPE__FLOATS:
        a->type = KOP_ATTR_FLOATS;
        a->n = (uint32_t)pb->n_floats;
        a->u.floats = pb->floats;
        return KAENA_OK;
    case ONNX__ATTRIBUTE_TYPE__INTS:
        a->type = KOP_ATTR_INTS;
        a->n = (uint32_t)pb->n_ints;
        a->u.ints = pb->ints;
        return KAENA_OK;
    case ONNX__ATTRIBUTE_TYPE__STRINGS:
        a->type = KOP_ATTR_STRINGS;
        a->n = (uint32_t)pb->n_strings;
        return copy_strings(x, pb, a);
    case ONNX__ATTRIBUTE_TYPE__TENSOR: {
        kop_tensor *t = KAENA_NEW(x->imp->arena, kop_tensor);
        if (!t)
            return onnx_xlat_no_memory(x);
        if (!pb->t)
            return KAENA_FAIL(x->imp->err, INVALID_ARGUMENT, "the tensor is missing");
        a->type = KOP_ATTR_TENSOR;
        a->u.tensor = t;
        return kcc_tensor_of_pb(x->imp->arena, pb->t, x->imp->dir, t, x->imp->err);
    }
    case ONNX__ATTRIBUTE_TYPE__SPARSE_TENSOR:
        return KAENA_FAIL(x->imp->err, UNIMPLEMENTED, "sparse tensors are not supported");
    case ONNX__ATTRIBUTE_TYPE__TYPE_PROTO:
        return type_attr(x, pb, a);
    default:
        return KAENA_FAIL(x->imp->err, UNIMPLEMENTED, "attributes of type %d are not supported",
                          pb->type);
    }
}

static kaena_status convert_attrs(onnx_xlat *x)
{
    onnx_attr *list;
    uint32_t n;
    KAENA_TRY(onnx_attrs_resolve(x->scope, x->pb, &list, &n));
    for (uint32_t i = 0; i < n; i++) {
        kop_attr a = {.name = list[i].name};
        if (onnx_attr_graph(list[i].pb) && onnx_has_bodies(x->op))
            continue;
        if (onnx_xlat_attr(x, a.name))
            return KAENA_FAIL(x->imp->err, INVALID_ARGUMENT, "attribute '%s' stands twice", a.name);
        KAENA_TRY_WRAP(x->imp->err, convert_attr(x, list[i].pb, &a), "attribute '%s'", a.name);
        KAENA_TRY(onnx_xlat_set(x, &a));
    }
    return KAENA_OK;
}

/* --- Nodes ----------------------------------------------------------------------------------- */

static kaena_status bind_operands(onnx_xlat *x)
{
    const Onnx__NodeProto *pb = x->pb;
    if (pb->n_input > KOP_MAX_INPUTS || pb->n_output > KOP_MAX_OUTPUTS)
        return KAENA_FAIL(x->imp->err, UNIMPLEMENTED,
                          "%zu inputs and %zu outputs; at most %d and %d are supported",
                          pb->n_input, pb->n_output, KOP_MAX_INPUTS, KOP_MAX_OUTPUTS);
    for (size_t i = 0; i < pb->n_input; i++) {
        x->in[i] = NULL;
        if (*onnx_text(pb->input[i]))
            KAENA_TRY(onnx_scope_value(x->scope, pb->input[i], &x->in[i]));
    }
    x->n_in = (uint32_t)pb->n_input;
    for (size_t i = 0; i < pb->n_output; i++) {
        if (!*onnx_text(pb->output[i]))
            continue;
        const onnx_def *d = onnx_scope_find(x->scope, pb->output[i]);
        if (d->n_uses == 0)
            continue;
        x->out_names[i] = d->out_name ? d->out_name
                                      : kaena_arena_printf(x->imp->arena, "%s%s", x->scope->prefix,
                                                           pb->output[i]);
        if (!x->out_names[i])
            return onnx_xlat_no_memory(x);
    }
    x->n_out = (uint32_t)pb->n_output;
    return KAENA_OK;
}

static kaena_status translate(onnx_xlat *x)
{
    KAENA_TRY(bind_operands(x));
    Onnx__FunctionProto *f =
        onnx_function_find(x->imp, onnx_domain(x->pb->domain), onnx_text(x->pb->op_type));
    if (f)
        return onnx_function_inline(x, f);
    KAENA_TRY(convert_attrs(x));
    if (*onnx_domain(x->pb->domain))
        return onnx_foreign(x, onnx_domain(x->pb->domain));
    if (onnx_has_bodies(x->op))
        return onnx_control(x);
    KAENA_TRY(onnx_legacy(x));
    if (x->done)
        return KAENA_OK;
    kop_op op = kop_find(x->op);
    if (op == KOP_NONE)
        return KAENA_FAIL(x->imp->err, UNIMPLEMENTED, "becomes operator %s, which is not supported",
                          x->op);
    return onnx_xlat_finish(x, op);
}

static kaena_status import_node(onnx_scope *s, uint32_t node)
{
    const Onnx__NodeProto *pb = s->nodes[node];
    onnx_import *imp = s->imp;
    onnx_xlat x = {.imp = imp,
                   .scope = s,
                   .pb = pb,
                   .op = onnx_text(pb->op_type),
                   .opset = opset_of(s, pb),
                   .captures = &s->captures[node]};
    const char *name = onnx_text(pb->name);
    x.label = kaena_arena_printf(imp->arena, "%s%s", s->prefix, onnx_node_label(pb));
    x.name = *name ? x.label : "";
    if (!x.label)
        return onnx_xlat_no_memory(&x);
    KAENA_TRY_WRAP(imp->err, translate(&x), "node '%s' (%s)", x.label, onnx_text(pb->op_type));
    for (size_t i = 0; i < pb->n_output; i++) {
        onnx_def *d = *onnx_text(pb->output[i]) ? onnx_scope_find(s, pb->output[i]) : NULL;
        if (!d || d->n_uses == 0)
            continue;
        if (!x.out[i])
            return KAENA_FAIL(imp->err, UNIMPLEMENTED,
                              "node '%s' (%s): its output %zu, '%s', is not supported", x.label,
                              onnx_text(pb->op_type), i, pb->output[i]);
        d->value = x.out[i];
    }
    return KAENA_OK;
}

kaena_status onnx_import_nodes(onnx_scope *s)
{
    KAENA_TRY(check_operators(s));
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        if (s->needed[s->order[i]])
            KAENA_TRY(import_node(s, s->order[i]));
    }
    return KAENA_OK;
}
