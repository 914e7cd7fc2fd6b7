/* Inputs of a model, from files or made up. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "npy.h"

void cli_inputs_fini(cli_inputs *inputs)
{
    for (size_t i = 0; i < inputs->count; i++)
        kaena_tensor_free(&inputs->tensors[i]);
    free(inputs->tensors);
    *inputs = (cli_inputs){0};
}

/* The input that "name=file" means, or -1; |*out_file| is the file. */
static int input_of(const kaena_model_info *model, const char *argument, const char **out_file,
                    kaena_err *err)
{
    for (size_t i = 0; i < model->input_count; i++) {
        size_t size = strlen(model->inputs[i].name);
        if (strncmp(argument, model->inputs[i].name, size) == 0 && argument[size] == '=') {
            *out_file = argument + size + 1;
            return (int)i;
        }
    }
    if (model->input_count == 1 && !strchr(argument, '=')) {
        *out_file = argument;
        return 0;
    }
    (void)KAENA_FAIL(err, INVALID_ARGUMENT, "'%s' names no input of model '%s'", argument,
                     model->name);
    char names[sizeof err->hint] = "";
    for (size_t i = 0; i < model->input_count; i++)
        if (strlen(names) + strlen(model->inputs[i].name) + 3 < sizeof names) {
            strcat(names, i ? ", " : "");
            strcat(names, model->inputs[i].name);
        }
    kaena_err_hint(err, "its inputs are: %.200s; write INPUT=FILE.npy", names);
    return -1;
}

bool cli_item_path(const char *path, size_t item, char *buf, size_t size)
{
    size_t stem = strlen(path);
    if (stem > 4 && strcmp(path + stem - 4, ".npy") == 0)
        stem -= 4;
    int n = snprintf(buf, size, "%.*s.%zu.npy", (int)stem, path, item);
    return n > 0 && (size_t)n < size;
}

static kaena_status read_tensor(const kaena_tensor_info *info, const char *file, kaena_tensor *out,
                                kaena_err *err)
{
    kaena_npy npy;
    KAENA_TRY(kaena_npy_read(file, &npy, err));
    if (npy.dtype == KAENA_F32 && info->dtype == KAENA_BF16) {
        size_t n = npy.bytes / sizeof(float);
        void *converted = malloc(n * sizeof(uint16_t) + 1);
        if (!converted) {
            kaena_npy_free(&npy);
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
        }
        kaena_cast(converted, KAENA_BF16, npy.data, KAENA_F32, n);
        free(npy.data);
        npy.data = converted;
        npy.bytes = n * sizeof(uint16_t);
        npy.dtype = KAENA_BF16;
    }
    *out = (kaena_tensor){.name = info->name,
                          .dtype = npy.dtype,
                          .rank = npy.shape.rank,
                          .data = npy.data,
                          .bytes = npy.bytes};
    memcpy(out->shape, npy.shape.dim, sizeof out->shape);
    return KAENA_OK;
}

/* The numbered files of a sequence, as many as there are. */
static kaena_status read_items(const kaena_tensor_info *info, const char *file, kaena_tensor *out,
                               kaena_err *err)
{
    char path[4096];
    kaena_status status = KAENA_OK;
    for (size_t n = 0;; n++) {
        if (!cli_item_path(file, n, path, sizeof path))
            return KAENA_FAIL(err, INVALID_ARGUMENT, "the path '%.200s' is too long", file);
        if (access(path, F_OK) != 0 && n > 0)
            return KAENA_OK;
        kaena_tensor *items = realloc(out->data, (n + 1) * sizeof *items);
        if (!items)
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
        out->data = items;
        items[n] = (kaena_tensor){0};
        status = read_tensor(info, path, &items[n], err);
        if (status != KAENA_OK)
            return status;
        out->bytes += sizeof *items;
    }
}

static kaena_status read_one(const kaena_tensor_info *info, const char *file, kaena_tensor *out,
                             kaena_err *err)
{
    if (info->kind == KAENA_TENSOR)
        return read_tensor(info, file, out, err);
    *out = (kaena_tensor){.name = info->name, .dtype = info->dtype, .kind = info->kind};
    if (info->kind == KAENA_SEQUENCE && *file)
        return read_items(info, file, out, err);
    /* Room for one, so that an empty value is seen to be given. */
    kaena_tensor *items = calloc(1, sizeof *items);
    if (!items)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    out->data = items;
    if (!*file)
        return KAENA_OK;
    if (info->kind == KAENA_OPTIONAL) {
        KAENA_TRY(read_tensor(info, file, items, err));
    } else {
        *items = (kaena_tensor){.dtype = info->dtype, .kind = KAENA_SEQUENCE};
        out->bytes = sizeof *items;
        return read_items(info, file, items, err);
    }
    out->bytes = sizeof *items;
    return KAENA_OK;
}

static kaena_status allocate(const kaena_model_info *model, cli_inputs *out, kaena_err *err)
{
    *out = (cli_inputs){.tensors = calloc(model->input_count + 1, sizeof(kaena_tensor)),
                        .count = model->input_count};
    return out->tensors ? KAENA_OK : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
}

kaena_status cli_inputs_read(const kaena_model_info *model, char *const *arguments, size_t count,
                             cli_inputs *out, kaena_err *err)
{
    cli_inputs inputs;
    KAENA_TRY(allocate(model, &inputs, err));
    kaena_status status = KAENA_OK;
    for (size_t i = 0; i < count && status == KAENA_OK; i++) {
        const char *file;
        int index = input_of(model, arguments[i], &file, err);
        if (index < 0)
            status = KAENA_INVALID_ARGUMENT;
        else if (inputs.tensors[index].data)
            status = KAENA_FAIL(err, INVALID_ARGUMENT, "input '%s' is given twice",
                                model->inputs[index].name);
        else
            status = read_one(&model->inputs[index], file, &inputs.tensors[index], err);
    }
    for (size_t i = 0; i < model->input_count && status == KAENA_OK; i++)
        if (!inputs.tensors[i].data)
            status = KAENA_FAIL(err, INVALID_ARGUMENT, "input '%s' of model '%s' is not given",
                                model->inputs[i].name, model->name);
    if (status == KAENA_OK)
        *out = inputs;
    else
        cli_inputs_fini(&inputs);
    return status;
}

static void fill_random(kaena_tensor *t, unsigned *seed)
{
    size_t size = kaena_dtype_size(t->dtype);
    unsigned char *at = t->data;
    for (size_t i = 0; i < t->bytes / size; i++, at += size) {
        float value = (float)(rand_r(seed) % (1 << 20)) / (1 << 20);
        float whole = (float)(rand_r(seed) % 2);
        bool real = kaena_dtype_is_float(t->dtype);
        kaena_cast(at, t->dtype, real ? &value : &whole, KAENA_F32, 1);
    }
}

kaena_status cli_inputs_random(const kaena_model_info *model, unsigned seed, cli_inputs *out,
                               kaena_err *err)
{
    cli_inputs inputs;
    KAENA_TRY(allocate(model, &inputs, err));
    for (size_t i = 0; i < model->input_count; i++) {
        const kaena_tensor_info *info = &model->inputs[i];
        kaena_tensor *t = &inputs.tensors[i];
        *t = (kaena_tensor){
            .name = info->name, .dtype = info->dtype, .rank = info->rank, .bytes = info->bytes};
        t->data =
            info->bytes > 0 && info->rank <= KAENA_CLIENT_MAX_RANK ? malloc(info->bytes) : NULL;
        if (!t->data) {
            cli_inputs_fini(&inputs);
            (void)KAENA_FAIL(err, INVALID_ARGUMENT,
                             "input '%s' cannot be made up: its size is not known", info->name);
            kaena_err_hint(err, "give it with --input %.100s=FILE.npy", info->name);
            return KAENA_INVALID_ARGUMENT;
        }
        memcpy(t->shape, info->shape, (size_t)info->rank * sizeof *info->shape);
        fill_random(t, &seed);
    }
    *out = inputs;
    return KAENA_OK;
}
