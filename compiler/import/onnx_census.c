/* Operators of an ONNX file, those inside of subgraphs and functions too. */
#include <string.h>

#include "file.h"
#include "onnx_import.h"
#include "onnx_internal.h"
#include "pb_unpack.h"

typedef struct counting {
    onnx_scope scope; /* of the model: its operator sets */
    kcc_census *census;
    kaena_err *err;
} counting;

static kaena_status count_nodes(counting *c, Onnx__NodeProto *const *node, size_t n);

static kaena_status count_subgraphs(counting *c, const Onnx__NodeProto *n)
{
    for (size_t i = 0; i < n->n_attribute; i++)
        if (n->attribute[i]->g)
            KAENA_TRY(count_nodes(c, n->attribute[i]->g->node, n->attribute[i]->g->n_node));
    return KAENA_OK;
}

/* Recursion is bounded by kcc_pb_unpack. */
static kaena_status count_nodes(counting *c, Onnx__NodeProto *const *node, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *domain = onnx_domain(node[i]->domain), *op = onnx_text(node[i]->op_type);
        bool known = onnx_operator_known(&c->scope, domain, op);
        const char *name = *domain ? kaena_arena_printf(c->census->arena, "%s.%s", domain, op) : op;
        if (!name)
            return KAENA_FAIL(c->err, RESOURCE_EXHAUSTED, "no memory for the list of operators");
        KAENA_TRY(kcc_census_add(c->census, name, known, c->err));
        KAENA_TRY(count_subgraphs(c, node[i]));
    }
    return KAENA_OK;
}

kaena_status kcc_onnx_census(const char *path, kcc_census *out, kaena_err *err)
{
    kaena_file file;
    ProtobufCMessage *message;
    path = kaena_path_of_uri(path);
    KAENA_TRY(kaena_file_open(path, &file, err));
    kaena_status s = kcc_pb_unpack(out->arena, &onnx__model_proto__descriptor, file.data, file.size,
                                   &message, err);
    kaena_file_close(&file);
    KAENA_TRY_WRAP(err, s, "'%s'", path);
    Onnx__ModelProto *m = (Onnx__ModelProto *)message;
    if (!m->graph)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "'%s': the model has no graph", path);
    onnx_import imp = {.arena = out->arena, .model = m, .err = err};
    counting c = {.scope = {.imp = &imp, .names = {.arena = out->arena}, .prefix = ""},
                  .census = out,
                  .err = err};
    KAENA_TRY_WRAP(err, onnx_model_set_opsets(&c.scope), "'%s'", path);
    KAENA_TRY(count_nodes(&c, m->graph->node, m->graph->n_node));
    for (size_t i = 0; i < m->n_functions; i++)
        KAENA_TRY(count_nodes(&c, m->functions[i]->node, m->functions[i]->n_node));
    return KAENA_OK;
}
