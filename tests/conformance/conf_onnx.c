/* ONNX test cases on disk: model.onnx and test_data_set_*. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "conformance.h"
#include "file.h"
#include "onnx/onnx.pb-c.h"
#include "onnx_import.h"
#include "onnx_internal.h"
#include "pb_unpack.h"
#include "tensor_pb.h"

static bool exists(const char *path)
{
    return access(path, R_OK) == 0;
}

static bool is_initializer(const Onnx__GraphProto *g, const char *name)
{
    for (size_t i = 0; i < g->n_initializer; i++) {
        if (g->initializer[i]->name && strcmp(g->initializer[i]->name, name) == 0)
            return true;
    }
    return false;
}

static kaena_status read_model(kaena_arena *arena, const char *dir, const Onnx__ModelProto **out,
                               kaena_err *err)
{
    const char *path = kaena_arena_printf(arena, "%s/model.onnx", dir);
    kaena_file file;
    ProtobufCMessage *m;
    KAENA_TRY(kaena_file_open(path, &file, err));
    kaena_status s =
        kcc_pb_unpack(arena, &onnx__model_proto__descriptor, file.data, file.size, &m, err);
    kaena_file_close(&file);
    KAENA_TRY(s);
    *out = (const Onnx__ModelProto *)m;
    return KAENA_OK;
}

/* The form of input or output |index| of the model in |dir|. */
static uint8_t form_of(kaena_arena *arena, const char *dir, bool input, uint32_t index)
{
    const Onnx__ModelProto *m;
    kaena_err err;
    kaena_err_init(&err);
    if (read_model(arena, dir, &m, &err) != KAENA_OK || !m->graph)
        return KOP_FORM_TENSOR;
    const Onnx__GraphProto *g = m->graph;
    uint32_t k = 0;
    for (size_t i = 0; i < (input ? g->n_input : g->n_output); i++) {
        const Onnx__ValueInfoProto *v = input ? g->input[i] : g->output[i];
        kop_tensor t;
        if (input && is_initializer(g, v->name ? v->name : ""))
            continue;
        if (k++ == index)
            return onnx_type_of_pb(v->type, "it", &t, &err) == KAENA_OK ? t.form : KOP_FORM_TENSOR;
    }
    return KOP_FORM_TENSOR;
}

/* The model says what a file holds, but is large, and most hold tensors: these cannot be taken for
 * anything else. */
static kaena_status read_value(kaena_arena *arena, const char *dir, const char *path, bool input,
                               uint32_t index, kop_tensor *out, const char **name, kaena_err *err)
{
    if (kcc_tensor_read(arena, path, out, name, err) == KAENA_OK)
        return KAENA_OK;
    kaena_err_init(err);
    return kcc_value_read(arena, path, form_of(arena, dir, input, index), out, name, err);
}

kaena_status conf_onnx_set(kaena_arena *arena, const char *dir, uint32_t index, conf_set *out,
                           kaena_err *err)
{
    char base[4096], path[4200];
    (void)snprintf(base, sizeof base, "%s/test_data_set_%u", dir, index);
    if (!exists(base))
        return KAENA_FAIL(err, NOT_FOUND, "there is no '%s'", base);
    *out = (conf_set){0};
    for (; out->n_in < KOP_MAX_INPUTS; out->n_in++) {
        (void)snprintf(path, sizeof path, "%s/input_%u.pb", base, out->n_in);
        if (!exists(path))
            break;
        KAENA_TRY(read_value(arena, dir, path, true, out->n_in, &out->in[out->n_in],
                             &out->in_name[out->n_in], err));
    }
    for (; out->n_out < KOP_MAX_OUTPUTS; out->n_out++) {
        (void)snprintf(path, sizeof path, "%s/output_%u.pb", base, out->n_out);
        if (!exists(path))
            break;
        KAENA_TRY(
            read_value(arena, dir, path, false, out->n_out, &out->out[out->n_out], NULL, err));
    }
    return KAENA_OK;
}

/* The data generator of ONNX 1.12 stores bfloat16 as the uint16 of its bits. */
static void fix_bfloat16(kop_tensor *t, const Onnx__ValueInfoProto *v)
{
    if (t->dtype == KAENA_U16 && v->type &&
        v->type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE &&
        v->type->tensor_type->elem_type == KAENA_BF16)
        t->dtype = KAENA_BF16;
}

/* Brings |set| into the order of the graph's inputs (by name where all tensors have one that is an
 * input's) and says its shapes in |io|. */
static kaena_status match_inputs(kaena_arena *arena, const Onnx__GraphProto *g, conf_set *set,
                                 kcc_io_config *io, kaena_err *err)
{
    const char *names[KOP_MAX_INPUTS];
    const Onnx__ValueInfoProto *inputs[KOP_MAX_INPUTS];
    uint32_t n = 0;
    for (size_t i = 0; i < g->n_input && n < KOP_MAX_INPUTS; i++) {
        if (!g->input[i]->name || is_initializer(g, g->input[i]->name))
            continue;
        inputs[n] = g->input[i];
        names[n++] = g->input[i]->name;
    }
    if (set->n_in != n)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "the model has %u inputs, the data set %u", n,
                          set->n_in);
    conf_set ordered = *set;
    uint32_t n_named = 0;
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < n; k++) {
            if (strcmp(set->in_name[k], names[i]) == 0) {
                ordered.in[i] = set->in[k];
                n_named++;
                break;
            }
        }
    }
    if (n_named == n)
        *set = ordered;
    for (uint32_t i = 0; i < n; i++)
        fix_bfloat16(&set->in[i], inputs[i]);
    for (uint32_t i = 0; i < set->n_out && i < g->n_output; i++)
        fix_bfloat16(&set->out[i], g->output[i]);
    io->inputs = KAENA_NEW_N(arena, kcc_io_input, n);
    for (uint32_t i = 0; i < n; i++)
        if (set->in[i].form == KOP_FORM_TENSOR)
            io->inputs[io->n_inputs++] = (kcc_io_input){
                .name = names[i], .shape = set->in[i].shape, .dtype = set->in[i].dtype};
    return KAENA_OK;
}

kaena_status conf_onnx_import(kaena_arena *arena, const char *dir, conf_set *set, kgr_graph **out,
                              kaena_err *err)
{
    const char *path = kaena_arena_printf(arena, "%s/model.onnx", dir);
    const Onnx__ModelProto *model = NULL;
    KAENA_TRY(read_model(arena, dir, &model, err));
    kcc_io_config io = {0};
    kcc_import_info info;
    if (model->graph)
        KAENA_TRY(match_inputs(arena, model->graph, set, &io, err));
    return kcc_import_onnx(arena, path, &io, out, &info, err);
}
