#include "onnx_import.h"

#include <string.h>

#include "file.h"
#include "onnx_internal.h"
#include "onnx_io.h"
#include "pb_unpack.h"

static kaena_status no_memory(const onnx_import *imp)
{
    return KAENA_FAIL(imp->err, RESOURCE_EXHAUSTED, "no memory for the graph");
}

kaena_status onnx_model_set_opsets(onnx_scope *s)
{
    const Onnx__ModelProto *m = s->imp->model;
    if (m->ir_version < 1)
        return KAENA_FAIL(s->imp->err, INVALID_ARGUMENT,
                          "not an ONNX model, or damaged: it has no "
                          "IR version");
    if (m->ir_version > KCC_ONNX_MAX_IR)
        return KAENA_FAIL(s->imp->err, UNIMPLEMENTED,
                          "IR version %lld is newer than %d, the newest that is supported",
                          (long long)m->ir_version, KCC_ONNX_MAX_IR);
    KAENA_TRY(onnx_scope_set_opsets(s, m->opset_import, m->n_opset_import));
    /* Before IR version 3 there was no list of operator sets. */
    if (m->ir_version < 3 && s->n_opsets == 0)
        s->opsets[s->n_opsets++] = (onnx_opset){"", 1};
    int64_t opset = onnx_scope_opset(s, "");
    if (opset <= KCC_ONNX_MAX_OPSET)
        return KAENA_OK;
    (void)KAENA_FAIL(s->imp->err, UNIMPLEMENTED,
                     "operator set %lld is newer than %d, the newest that is supported",
                     (long long)opset, KCC_ONNX_MAX_OPSET);
    kaena_err_hint(s->imp->err, "export the model with opset_version=%d", KCC_ONNX_MAX_OPSET);
    return KAENA_UNIMPLEMENTED;
}

static kaena_status add_outputs(onnx_scope *s, const char *const *names, uint32_t n)
{
    onnx_import *imp = s->imp;
    for (uint32_t i = 0; i < n; i++) {
        kgr_value *v;
        KAENA_TRY(onnx_scope_value(s, names[i], &v));
        if (strcmp(v->name, names[i]) != 0)
            return KAENA_FAIL(imp->err, INVALID_ARGUMENT,
                              "output '%s' has a name that was needed for something made up",
                              names[i]);
        if (!kgr_output_add(imp->g, v))
            return no_memory(imp);
    }
    return KAENA_OK;
}

static kaena_status import_graph(onnx_scope *s, Onnx__GraphProto *graph)
{
    const char *const *outputs;
    uint32_t n_outputs;
    if (graph->n_node > INT32_MAX)
        return KAENA_FAIL(s->imp->err, INVALID_ARGUMENT, "too many nodes");
    s->nodes = graph->node;
    s->n_nodes = (uint32_t)graph->n_node;
    KAENA_TRY(onnx_io_inputs(s, graph));
    KAENA_TRY(onnx_scope_sort(s));
    KAENA_TRY(onnx_io_output_names(s, graph, &outputs, &n_outputs));
    if (n_outputs == 0)
        return KAENA_FAIL(s->imp->err, INVALID_ARGUMENT, "the graph has no outputs");
    KAENA_TRY(onnx_scope_mark(s, outputs, n_outputs));
    KAENA_TRY(onnx_import_nodes(s));
    return add_outputs(s, outputs, n_outputs);
}

static kaena_status fill_info(const onnx_scope *s, kcc_import_info *info)
{
    onnx_import *imp = s->imp;
    const Onnx__ModelProto *m = imp->model;
    *info = (kcc_import_info){
        .framework = "ONNX",
        .model_name = onnx_text(m->graph->name),
        .producer = kaena_arena_printf(imp->arena, "%s%s%s", onnx_text(m->producer_name),
                                       *onnx_text(m->producer_version) ? " " : "",
                                       onnx_text(m->producer_version)),
        .ir_version = m->ir_version,
        .opset = onnx_scope_opset(s, ""),
        .n_nodes = (uint32_t)m->graph->n_node,
    };
    return info->producer ? KAENA_OK : no_memory(imp);
}

static kaena_status import_model(onnx_import *imp, kcc_import_info *info)
{
    Onnx__GraphProto *graph = imp->model->graph;
    onnx_scope s = {.imp = imp, .names = {.arena = imp->arena}, .prefix = ""};
    KAENA_TRY(onnx_model_set_opsets(&s));
    if (!graph)
        return KAENA_FAIL(imp->err, INVALID_ARGUMENT, "the model has no graph");
    if (imp->model->n_functions > KCC_ONNX_MAX_FUNCTIONS)
        return KAENA_FAIL(imp->err, INVALID_ARGUMENT, "%zu functions; at most %d make sense",
                          imp->model->n_functions, KCC_ONNX_MAX_FUNCTIONS);
    imp->g = kgr_graph_create(imp->arena, onnx_text(graph->name));
    if (!imp->g)
        return no_memory(imp);
    KAENA_TRY(import_graph(&s, graph));
    return fill_info(&s, info);
}

/* |data| is not needed any more once it is unpacked: |unmap| (may be NULL) is closed then, so that
 * a large model is not held twice. */
static kaena_status import_bytes(kaena_arena *arena, const void *data, size_t size,
                                 kaena_file *unmap, const char *dir, const kcc_io_config *io,
                                 kgr_graph **out, kcc_import_info *info, kaena_err *err)
{
    static const kcc_io_config nothing_said;
    ProtobufCMessage *m;
    kaena_status s = kcc_pb_unpack(arena, &onnx__model_proto__descriptor, data, size, &m, err);
    if (unmap)
        kaena_file_close(unmap);
    KAENA_TRY(s);
    onnx_import imp = {.arena = arena,
                       .model = (Onnx__ModelProto *)m,
                       .dir = dir,
                       .io = io ? io : &nothing_said,
                       .err = err};
    kcc_import_info learned;
    KAENA_TRY(import_model(&imp, &learned));
    *out = imp.g;
    *info = learned;
    return KAENA_OK;
}

kaena_status kcc_import_onnx_bytes(kaena_arena *arena, const void *data, size_t size,
                                   const char *dir, const kcc_io_config *io, kgr_graph **out,
                                   kcc_import_info *info, kaena_err *err)
{
    return import_bytes(arena, data, size, NULL, dir, io, out, info, err);
}

kaena_status kcc_import_onnx(kaena_arena *arena, const char *path, const kcc_io_config *io,
                             kgr_graph **out, kcc_import_info *info, kaena_err *err)
{
    path = kaena_path_of_uri(path);
    const char *slash = strrchr(path, '/');
    const char *dir =
        slash ? kaena_arena_printf(arena, "%.*s", (int)(slash - path + 1), path) : ".";
    kaena_file file;
    if (!dir)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for the graph");
    KAENA_TRY(kaena_file_open(path, &file, err));
    KAENA_TRY_WRAP(err, import_bytes(arena, file.data, file.size, &file, dir, io, out, info, err),
                   "'%s'", path);
    return KAENA_OK;
}
