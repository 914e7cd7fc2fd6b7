/* Model-local functions: their bodies take the place of the calls. */
#include <string.h>

#include "onnx_import.h"
#include "onnx_internal.h"

Onnx__FunctionProto *onnx_function_find(const onnx_import *imp, const char *domain,
                                        const char *name)
{
    for (size_t i = 0; i < imp->model->n_functions; i++) {
        Onnx__FunctionProto *f = imp->model->functions[i];
        if (strcmp(onnx_text(f->name), name) == 0 && strcmp(onnx_domain(f->domain), domain) == 0)
            return f;
    }
    return NULL;
}

/* Formal inputs stand for the call's values, the body's outputs get the call's names. */
static kaena_status bind(onnx_scope *body, onnx_xlat *x, const Onnx__FunctionProto *f)
{
    for (uint32_t i = 0; i < f->n_input; i++) {
        onnx_def *d;
        KAENA_TRY(onnx_scope_define(body, f->input[i], &d));
        d->value = onnx_xlat_in(x, i);
    }
    KAENA_TRY(onnx_scope_sort(body));
    const char *wanted[KOP_MAX_OUTPUTS];
    uint32_t n_wanted = 0;
    for (uint32_t i = 0; i < x->n_out; i++) {
        if (x->out_names[i])
            wanted[n_wanted++] = onnx_text(f->output[i]);
    }
    KAENA_TRY(onnx_scope_mark(body, wanted, n_wanted));
    for (uint32_t i = 0; i < x->n_out; i++) {
        if (!x->out_names[i])
            continue;
        onnx_def *d = onnx_scope_find(body, f->output[i]);
        if (!d->out_name)
            d->out_name = x->out_names[i];
    }
    return KAENA_OK;
}

/* An output that is an input of the function, or stands twice among its outputs, is copied so that
 * it has the call's name. */
static kaena_status copy_output(onnx_xlat *x, uint32_t i, kgr_value *v)
{
    kgr_node *n = kgr_node_add(x->imp->g, NULL, KOP_Identity, NULL, x->pb->op_type, &v, 1,
                               &x->out_names[i], 1);
    if (!n)
        return onnx_xlat_no_memory(x);
    x->out[i] = n->out[0];
    return KAENA_OK;
}

static kaena_status collect(onnx_scope *body, onnx_xlat *x, const Onnx__FunctionProto *f)
{
    for (uint32_t i = 0; i < x->n_out; i++) {
        if (!x->out_names[i])
            continue;
        onnx_def *d = onnx_scope_find(body, f->output[i]);
        kgr_value *v;
        KAENA_TRY(onnx_scope_value(body, f->output[i], &v));
        if (!v)
            return KAENA_FAIL(x->imp->err, INVALID_ARGUMENT,
                              "output '%s' is an input that the call leaves out", f->output[i]);
        if (d->out_name == x->out_names[i] && d->producer >= 0)
            x->out[i] = v;
        else
            KAENA_TRY(copy_output(x, i, v));
    }
    return KAENA_OK;
}

static kaena_status inline_body(onnx_xlat *x, Onnx__FunctionProto *f)
{
    onnx_import *imp = x->imp;
    for (const onnx_scope *s = x->scope; s; s = s->caller) {
        if (s->function == f)
            return KAENA_FAIL(imp->err, INVALID_ARGUMENT, "it calls itself");
    }
    if (x->scope->depth + 1 > KCC_ONNX_MAX_CALL_DEPTH)
        return KAENA_FAIL(imp->err, INVALID_ARGUMENT, "calls are nested more than %d deep",
                          KCC_ONNX_MAX_CALL_DEPTH);
    if (f->n_node > KCC_ONNX_MAX_INLINED - imp->n_inlined)
        return KAENA_FAIL(imp->err, RESOURCE_EXHAUSTED, "functions expand to more than %u nodes",
                          KCC_ONNX_MAX_INLINED);
    imp->n_inlined += (uint32_t)f->n_node;
    if (x->n_in > f->n_input || x->n_out > f->n_output)
        return KAENA_FAIL(imp->err, INVALID_ARGUMENT,
                          "the call has %u inputs and %u outputs, the function %zu and %zu",
                          x->n_in, x->n_out, f->n_input, f->n_output);
    onnx_scope body = {.imp = imp,
                       .nodes = f->node,
                       .n_nodes = (uint32_t)f->n_node,
                       .names = {.arena = imp->arena},
                       .function = f,
                       .caller = x->scope,
                       .depth = x->scope->depth + 1};
    body.prefix = kaena_arena_printf(imp->arena, "%s::", x->label);
    onnx_attr *call_attr;
    if (!body.prefix)
        return onnx_xlat_no_memory(x);
    KAENA_TRY(onnx_attrs_resolve(x->scope, x->pb, &call_attr, &body.n_call_attr));
    body.call_attr = call_attr;
    KAENA_TRY(onnx_scope_set_opsets(&body, f->opset_import, f->n_opset_import));
    if (body.n_opsets == 0) {
        body.opsets = x->scope->opsets;
        body.n_opsets = x->scope->n_opsets;
    }
    KAENA_TRY(bind(&body, x, f));
    KAENA_TRY(onnx_import_nodes(&body));
    return collect(&body, x, f);
}

kaena_status onnx_function_inline(onnx_xlat *x, Onnx__FunctionProto *f)
{
    KAENA_TRY_WRAP(x->imp->err, inline_body(x, f), "function '%s'", onnx_text(f->name));
    x->done = true;
    return KAENA_OK;
}
