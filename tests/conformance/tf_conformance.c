/* TensorFlow test cases: directories with model.pb (a frozen graph), io.json and .npy files; see
 * conf_run.c for the options. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "conformance.h"
#include "npy.h"
#include "tf_import.h"

static kaena_status read_tensor(kaena_arena *arena, const char *dir, const json_t *entry,
                                kop_tensor *out, kaena_err *err)
{
    const char *file = json_string_value(json_object_get(entry, "file"));
    kaena_npy npy;
    KAENA_TRY(
        kaena_npy_read(kaena_arena_printf(arena, "%s/%s", dir, file ? file : "?"), &npy, err));
    *out = (kop_tensor){.dtype = npy.dtype,
                        .shape = npy.shape,
                        .data = kaena_arena_memdup(arena, npy.data, npy.bytes)};
    kaena_npy_free(&npy);
    return KAENA_OK;
}

static kaena_status load(const char *dir, json_t **out, kaena_err *err)
{
    char path[4200];
    json_error_t e;
    (void)snprintf(path, sizeof path, "%s/io.json", dir);
    *out = json_load_file(path, 0, &e);
    return *out ? KAENA_OK : KAENA_FAIL(err, INVALID_ARGUMENT, "'%s': %s", path, e.text);
}

static kaena_status read_tensors(kaena_arena *arena, const char *dir, const json_t *list,
                                 uint32_t most, kop_tensor *out, uint32_t *n, kaena_err *err)
{
    const json_t *entry;
    size_t i;
    if (json_array_size(list) > most)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "more than %u tensors", most);
    json_array_foreach(list, i, entry) KAENA_TRY(read_tensor(arena, dir, entry, &out[i], err));
    *n = (uint32_t)json_array_size(list);
    return KAENA_OK;
}

static kaena_status read_set(kaena_arena *arena, const char *dir, uint32_t index, conf_set *out,
                             kaena_err *err)
{
    json_t *io;
    if (index > 0)
        return KAENA_FAIL(err, NOT_FOUND, "a graph has one data set");
    *out = (conf_set){0};
    KAENA_TRY(load(dir, &io, err));
    kaena_status s = read_tensors(arena, dir, json_object_get(io, "inputs"), KOP_MAX_INPUTS,
                                  out->in, &out->n_in, err);
    if (s == KAENA_OK)
        s = read_tensors(arena, dir, json_object_get(io, "outputs"), KOP_MAX_OUTPUTS, out->out,
                         &out->n_out, err);
    json_decref(io);
    return s;
}

/* The name of entry |i| as TensorFlow says it: with its port. */
static const char *tensor_name(kaena_arena *arena, const json_t *list, size_t i)
{
    const char *name = json_string_value(json_object_get(json_array_get(list, i), "name"));
    return kaena_arena_printf(arena, "%s%s", name, strchr(name, ':') ? "" : ":0");
}

/* The files hold bfloat16 as the uint16 of its bits. */
static kop_tensor fix_bfloat16(kop_tensor t, const kgr_value *v)
{
    if (t.dtype == KAENA_U16 && v->t.dtype == KAENA_BF16)
        t.dtype = KAENA_BF16;
    return t;
}

/* Some files hold the results of comparisons as int32, which TensorFlow does not give. */
static kop_tensor fix_bool(kaena_arena *arena, kop_tensor t, const kgr_value *v)
{
    kop_tensor b = {.dtype = KAENA_BOOL, .shape = t.shape};
    if (t.dtype != KAENA_I32 || v->t.dtype != KAENA_BOOL)
        return t;
    b.data = kaena_arena_alloc(arena, kop_elements(&t));
    for (size_t i = 0; i < kop_elements(&t); i++)
        kop_set_int(&b, i, kop_get_int(&t, i));
    return b;
}

/* Inputs that no output needs are no inputs of the graph. */
static kaena_status order_inputs(kaena_arena *arena, const kcc_io_config *io, const kgr_graph *g,
                                 conf_set *set, kaena_err *err)
{
    kop_tensor ordered[KOP_MAX_INPUTS];
    for (uint32_t i = 0; i < g->n_inputs; i++) {
        uint32_t k = 0;
        while (k < io->n_inputs && strcmp(io->inputs[k].name, g->inputs[i]->name) != 0)
            k++;
        if (k == io->n_inputs)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "the data has no input '%s'",
                              g->inputs[i]->name);
        ordered[i] = fix_bfloat16(set->in[k], g->inputs[i]);
    }
    for (uint32_t i = 0; i < set->n_out && i < g->n_outputs; i++)
        set->out[i] = fix_bool(arena, fix_bfloat16(set->out[i], g->outputs[i]), g->outputs[i]);
    memcpy(set->in, ordered, g->n_inputs * sizeof ordered[0]);
    set->n_in = g->n_inputs;
    return KAENA_OK;
}

static kaena_status import(kaena_arena *arena, const char *dir, conf_set *set, kgr_graph **out,
                           kaena_err *err)
{
    json_t *json;
    kcc_import_info info;
    KAENA_TRY(load(dir, &json, err));
    const json_t *ins = json_object_get(json, "inputs"), *outs = json_object_get(json, "outputs");
    kcc_io_config io = {.inputs = KAENA_NEW_N(arena, kcc_io_input, set->n_in),
                        .outputs = KAENA_NEW_N(arena, const char *, set->n_out)};
    for (; io.n_inputs < set->n_in; io.n_inputs++)
        io.inputs[io.n_inputs] = (kcc_io_input){.name = tensor_name(arena, ins, io.n_inputs),
                                                .shape = set->in[io.n_inputs].shape};
    for (; io.n_outputs < set->n_out; io.n_outputs++)
        io.outputs[io.n_outputs] = tensor_name(arena, outs, io.n_outputs);
    json_decref(json);
    KAENA_TRY(kcc_import_tf_graph(arena, kaena_arena_printf(arena, "%s/model.pb", dir), &io, out,
                                  &info, err));
    return order_inputs(arena, &io, *out, set, err);
}

/* Types that numpy has and we have not. */
static bool is_unsupported(kaena_arena *arena, const char *dir, kaena_err *err)
{
    (void)arena;
    (void)dir;
    (void)err;
    return false;
}

int main(int argc, char **argv)
{
    static const conf_suite suite = {.model = "model.pb",
                                     .long_names = true,
                                     .by_type = true,
                                     .read_set = read_set,
                                     .import = import,
                                     .is_unsupported = is_unsupported};
    return conf_main(&suite, argc, argv);
}
