#include "input_shapes.h"

#include <jansson.h>
#include <string.h>

#include "file.h"
#include "npy.h"

#define EXAMPLE "{\"x:0\":[1,224,224,3]}"

static kaena_status from_list(const json_t *dims, kaena_shape *out, kaena_err *err)
{
    kaena_shape s = {.rank = (int32_t)json_array_size(dims)};
    if (json_array_size(dims) > KAENA_MAX_RANK)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "%zu dimensions; at most %d are supported",
                          json_array_size(dims), KAENA_MAX_RANK);
    for (int32_t i = 0; i < s.rank; i++) {
        const json_t *d = json_array_get(dims, (size_t)i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "dimension %d is not a whole number from 0 up",
                              i);
        s.dim[i] = json_integer_value(d);
    }
    *out = s;
    return KAENA_OK;
}

static kaena_status from_file(const char *path, kcc_io_input *out, kaena_err *err)
{
    kaena_npy npy;
    KAENA_TRY(kaena_npy_read(kaena_path_of_uri(path), &npy, err));
    out->shape = npy.shape;
    out->dtype = npy.dtype;
    kaena_npy_free(&npy);
    return KAENA_OK;
}

static kaena_status parse_one(const json_t *value, kcc_io_input *out, kaena_err *err)
{
    if (json_is_array(value))
        return from_list(value, &out->shape, err);
    if (json_is_string(value))
        return from_file(json_string_value(value), out, err);
    (void)KAENA_FAIL(err, INVALID_ARGUMENT, "neither a list of dimensions nor a .npy file");
    kaena_err_hint(err, "the form is %s", EXAMPLE);
    return KAENA_INVALID_ARGUMENT;
}

static kaena_status parse_root(kaena_arena *arena, json_t *root, kcc_io_config *out, kaena_err *err)
{
    const char *name;
    json_t *value;
    if (!json_is_object(root)) {
        (void)KAENA_FAIL(err, INVALID_ARGUMENT, "not a JSON object");
        kaena_err_hint(err, "the form is %s", EXAMPLE);
        return KAENA_INVALID_ARGUMENT;
    }
    *out = (kcc_io_config){0};
    out->inputs = KAENA_NEW_N(arena, kcc_io_input, json_object_size(root));
    json_object_foreach(root, name, value)
    {
        kcc_io_input *in = &out->inputs[out->n_inputs++];
        in->name = kaena_arena_strdup(arena, name);
        KAENA_TRY_WRAP(err, parse_one(value, in, err), "input '%s'", name);
    }
    return KAENA_OK;
}

kaena_status kcc_input_shapes_parse(kaena_arena *arena, const char *text, kcc_io_config *out,
                                    kaena_err *err)
{
    json_error_t e;
    json_t *root;
    const char *at = text + strspn(text, " \t\r\n");
    if (*at == '{') {
        root = json_loads(at, JSON_REJECT_DUPLICATES, &e);
    } else {
        kaena_file file;
        KAENA_TRY(kaena_file_open(text, &file, err));
        root = json_loadb((const char *)file.data, file.size, JSON_REJECT_DUPLICATES, &e);
        kaena_file_close(&file);
    }
    if (!root) {
        (void)KAENA_FAIL(err, INVALID_ARGUMENT, "line %d, column %d: %s", e.line, e.column, e.text);
        kaena_err_hint(err, "the form is %s", EXAMPLE);
        return KAENA_INVALID_ARGUMENT;
    }
    kaena_status s = parse_root(arena, root, out, err);
    json_decref(root);
    return s;
}
