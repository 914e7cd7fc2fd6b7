#include "io_config.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "file.h"

#define EXAMPLE "{\"inputs\":{\"x\":[[1,224,224,3],\"float32\"]},\"outputs\":[\"y\"]}"

const kcc_io_input *kcc_io_config_input(const kcc_io_config *c, const char *name)
{
    for (uint32_t i = 0; i < c->n_inputs; i++) {
        if (strcmp(c->inputs[i].name, name) == 0)
            return &c->inputs[i];
    }
    return NULL;
}

static kaena_status bad(kaena_err *err, const char *what)
{
    (void)KAENA_FAIL(err, INVALID_ARGUMENT, "%s", what);
    kaena_err_hint(err, "the form is %s", EXAMPLE);
    return KAENA_INVALID_ARGUMENT;
}

static kaena_status parse_shape(const json_t *dims, kaena_shape *out, kaena_err *err)
{
    size_t rank = json_array_size(dims);
    if (rank > KAENA_MAX_RANK)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "%zu dimensions; at most %d are supported", rank,
                          KAENA_MAX_RANK);
    kaena_shape s = {.rank = (int32_t)rank};
    for (size_t i = 0; i < rank; i++) {
        const json_t *d = json_array_get(dims, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return KAENA_FAIL(err, INVALID_ARGUMENT,
                              "dimension %zu is not a whole number from 0 up", i);
        s.dim[i] = json_integer_value(d);
    }
    *out = s;
    return KAENA_OK;
}

static kaena_status parse_input(const char *name, const json_t *entry, kcc_io_input *out,
                                kaena_err *err)
{
    if (!json_is_array(entry) || json_array_size(entry) != 2 ||
        !json_is_array(json_array_get(entry, 0)) || !json_is_string(json_array_get(entry, 1)))
        return bad(err, "not a pair [shape, dtype]");
    kcc_io_input in = {.name = name};
    KAENA_TRY(parse_shape(json_array_get(entry, 0), &in.shape, err));
    const char *dtype = json_string_value(json_array_get(entry, 1));
    in.dtype = kaena_dtype_parse(dtype);
    if (in.dtype == KAENA_DTYPE_NONE)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "there is no element type '%s'", dtype);
    *out = in;
    return KAENA_OK;
}

static kaena_status parse_inputs(kaena_arena *arena, json_t *inputs, kcc_io_config *c,
                                 kaena_err *err)
{
    if (!json_is_object(inputs))
        return bad(err, "\"inputs\" is not an object");
    c->inputs = KAENA_NEW_N(arena, kcc_io_input, json_object_size(inputs));
    if (!c->inputs)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
    const char *key;
    json_t *entry;
    json_object_foreach(inputs, key, entry)
    {
        const char *name = kaena_arena_strdup(arena, key);
        if (!name)
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
        KAENA_TRY_WRAP(err, parse_input(name, entry, &c->inputs[c->n_inputs], err), "input '%s'",
                       name);
        c->n_inputs++;
    }
    return KAENA_OK;
}

static kaena_status parse_outputs(kaena_arena *arena, const json_t *outputs, kcc_io_config *c,
                                  kaena_err *err)
{
    if (!json_is_array(outputs))
        return bad(err, "\"outputs\" is not a list of names");
    size_t n = json_array_size(outputs);
    c->outputs = KAENA_NEW_N(arena, const char *, n);
    if (!c->outputs)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(outputs, i));
        if (!name)
            return bad(err, "\"outputs\" is not a list of names");
        for (uint32_t j = 0; j < c->n_outputs; j++) {
            if (strcmp(c->outputs[j], name) == 0)
                return KAENA_FAIL(err, INVALID_ARGUMENT, "output '%s' is named twice", name);
        }
        c->outputs[c->n_outputs] = kaena_arena_strdup(arena, name);
        if (!c->outputs[c->n_outputs++])
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
    }
    return KAENA_OK;
}

static kaena_status parse_root(kaena_arena *arena, json_t *root, kcc_io_config *out, kaena_err *err)
{
    if (!json_is_object(root))
        return bad(err, "not a JSON object");
    kcc_io_config c = {0};
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value)
    {
        if (strcmp(key, "inputs") == 0)
            KAENA_TRY(parse_inputs(arena, value, &c, err));
        else if (strcmp(key, "outputs") == 0)
            KAENA_TRY(parse_outputs(arena, value, &c, err));
        else
            return KAENA_FAIL(err, INVALID_ARGUMENT,
                              "there is no key '%s'; the keys are \"inputs\" and \"outputs\"", key);
    }
    *out = c;
    return KAENA_OK;
}

kaena_status kcc_io_config_parse_json(kaena_arena *arena, const char *text, size_t size,
                                      kcc_io_config *out, kaena_err *err)
{
    json_error_t e;
    json_t *root = json_loadb(size ? text : "", size, JSON_REJECT_DUPLICATES, &e);
    if (!root) {
        (void)KAENA_FAIL(err, INVALID_ARGUMENT, "io-config: line %d, column %d: %s", e.line,
                         e.column, e.text);
        kaena_err_hint(err, "the form is %s", EXAMPLE);
        return KAENA_INVALID_ARGUMENT;
    }
    kaena_status s = parse_root(arena, root, out, err);
    json_decref(root);
    return s == KAENA_OK ? s : kaena_err_wrap(err, s, "io-config");
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

kaena_status kcc_io_config_parse(kaena_arena *arena, const char *text, kcc_io_config *out,
                                 kaena_err *err)
{
    if (text[strspn(text, " \t\r\n")] == '{')
        return kcc_io_config_parse_json(arena, text, strlen(text), out, err);
    kaena_file file;
    KAENA_TRY_WRAP(err, kaena_file_open(text, &file, err), "io-config");
    kaena_status s =
        (ends_with(text, ".pbtxt") ? kcc_io_config_parse_pbtxt : kcc_io_config_parse_json)(
            arena, (const char *)file.data, file.size, out, err);
    kaena_file_close(&file);
    return s == KAENA_OK ? s : kaena_err_wrap(err, s, "'%s'", text);
}
