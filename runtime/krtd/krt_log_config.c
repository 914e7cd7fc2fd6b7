/* The object "log" of the configuration. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "krt_log_sinks.h"

#define BIT(type) (1u << (type))
#define ALL_TYPES                                                                                  \
    (BIT(KRT_SINK_STDERR) | BIT(KRT_SINK_JOURNAL) | BIT(KRT_SINK_SYSLOG) | BIT(KRT_SINK_FILE) |    \
     BIT(KRT_SINK_CLOUDWATCH))
#define QUEUED (BIT(KRT_SINK_FILE) | BIT(KRT_SINK_CLOUDWATCH))

static const struct {
    const char *name;
    krt_sink_type type;
} types[] = {{"stderr", KRT_SINK_STDERR},
             {"journal", KRT_SINK_JOURNAL},
             {"syslog", KRT_SINK_SYSLOG},
             {"file", KRT_SINK_FILE},
             {"cloudwatch", KRT_SINK_CLOUDWATCH}};

typedef enum key_kind { KEY_LEVEL, KEY_FORMAT, KEY_TEXT, KEY_NUMBER } key_kind;

/* Of one sink: which types have the key, where its value goes, and its default and bounds. */
static const struct {
    const char *name;
    key_kind kind;
    unsigned types;
    size_t offset;
    bool required;
    uint64_t fallback, min, max;
} keys[] = {
#define TEXT(name, types, required)                                                                \
    {                                                                                              \
#name, KEY_TEXT, types, offsetof(krt_sink_config, name), required, 0, 0, 0                 \
    }
#define NUMBER(name, types, fallback, min, max)                                                    \
    {                                                                                              \
#name, KEY_NUMBER, types, offsetof(krt_sink_config, name), false, fallback, min, max       \
    }
    {"level", KEY_LEVEL, ALL_TYPES, offsetof(krt_sink_config, level), false, 0, 0, 0},
    {"format", KEY_FORMAT, BIT(KRT_SINK_STDERR) | BIT(KRT_SINK_FILE),
     offsetof(krt_sink_config, json), false, 0, 0, 0},
    TEXT(address, BIT(KRT_SINK_SYSLOG) | BIT(KRT_SINK_JOURNAL), false),
    TEXT(path, BIT(KRT_SINK_FILE), true),
    NUMBER(max_bytes, BIT(KRT_SINK_FILE), 10000000, 0, UINT64_C(1) << 50),
    NUMBER(keep, BIT(KRT_SINK_FILE), 4, 0, 1000),
    NUMBER(buffer_bytes, QUEUED, UINT64_C(1) << 20, 65536, UINT64_C(1) << 30),
    TEXT(group, BIT(KRT_SINK_CLOUDWATCH), true),
    TEXT(stream, BIT(KRT_SINK_CLOUDWATCH), false),
    TEXT(endpoint, BIT(KRT_SINK_CLOUDWATCH), false),
    TEXT(region, BIT(KRT_SINK_CLOUDWATCH), false),
    TEXT(access_key_id, BIT(KRT_SINK_CLOUDWATCH), false),
    TEXT(secret_access_key, BIT(KRT_SINK_CLOUDWATCH), false),
    TEXT(session_token, BIT(KRT_SINK_CLOUDWATCH), false),
    TEXT(ca_file, BIT(KRT_SINK_CLOUDWATCH), false),
    NUMBER(flush_ms, BIT(KRT_SINK_CLOUDWATCH), 5000, 0, 3600000),
#undef TEXT
#undef NUMBER
};
#define N_KEYS (sizeof keys / sizeof *keys)

static void *place(krt_sink_config *s, size_t key)
{
    return (char *)s + keys[key].offset;
}

static const char *text_of(const json_t *v)
{
    const char *text = json_string_value(v);
    return text && *text && strlen(text) == json_string_length(v) ? text : NULL;
}

static kaena_status read_level(const json_t *v, const char *where, kaena_log_level *out,
                               kaena_err *err)
{
    const char *text = text_of(v);
    if (text && kaena_log_parse_level(text, out))
        return KAENA_OK;
    return KAENA_FAIL(err, INVALID_ARGUMENT, "%s: must be error, warning, info or debug", where);
}

static kaena_status read_key(size_t key, const json_t *v, const char *where, kaena_arena *arena,
                             krt_sink_config *s, kaena_err *err)
{
    const char *text = text_of(v);
    switch (keys[key].kind) {
    case KEY_LEVEL:
        return read_level(v, where, place(s, key), err);
    case KEY_FORMAT:
        if (!text || (strcmp(text, "text") != 0 && strcmp(text, "json") != 0))
            return KAENA_FAIL(err, INVALID_ARGUMENT, "%s: must be \"text\" or \"json\"", where);
        *(bool *)place(s, key) = *text == 'j';
        return KAENA_OK;
    case KEY_TEXT:
        if (!text)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "%s: must be a text that is not empty", where);
        *(const char **)place(s, key) = kaena_arena_strdup(arena, text);
        return KAENA_OK;
    case KEY_NUMBER:
        break;
    }
    json_int_t n = json_integer_value(v);
    if (!json_is_integer(v) || n < 0 || (uint64_t)n < keys[key].min || (uint64_t)n > keys[key].max)
        return KAENA_FAIL(err, INVALID_ARGUMENT,
                          "%s: must be an integer from %" PRIu64 " to %" PRIu64, where,
                          keys[key].min, keys[key].max);
    *(uint64_t *)place(s, key) = (uint64_t)n;
    return KAENA_OK;
}

static kaena_status unknown_key(const char *where, const char *key, const krt_sink_config *s,
                                kaena_err *err)
{
    char known[256] = "type";
    for (size_t i = 0; i < N_KEYS; i++)
        if (keys[i].types & BIT(s->type))
            (void)snprintf(known + strlen(known), sizeof known - strlen(known), ", %s",
                           keys[i].name);
    kaena_status st = KAENA_FAIL(err, INVALID_ARGUMENT, "%s.%.100s: unknown key", where, key);
    kaena_err_hint(err, "keys here: %s", known);
    return st;
}

static kaena_status read_type(const json_t *v, const char *where, krt_sink_type *out,
                              kaena_err *err)
{
    const char *text = text_of(v);
    for (size_t i = 0; text && i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].name, text) == 0) {
            *out = types[i].type;
            return KAENA_OK;
        }
    return KAENA_FAIL(err, INVALID_ARGUMENT,
                      "%s.type: must be stderr, journal, syslog, file or cloudwatch", where);
}

static kaena_status read_sink(const json_t *value, const char *where, kaena_arena *arena,
                              krt_sink_config *s, kaena_err *err)
{
    if (!json_is_object(value))
        return KAENA_FAIL(err, INVALID_ARGUMENT, "%s: must be an object", where);
    *s = (krt_sink_config){0};
    KAENA_TRY(read_type(json_object_get(value, "type"), where, &s->type, err));
    for (size_t i = 0; i < N_KEYS; i++)
        if (keys[i].kind == KEY_NUMBER)
            *(uint64_t *)place(s, i) = keys[i].fallback;
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)value, key, v)
    {
        char inner[400];
        size_t i = 0;
        (void)snprintf(inner, sizeof inner, "%.250s.%.100s", where, key);
        if (strcmp(key, "type") == 0)
            continue;
        while (i < N_KEYS && (strcmp(keys[i].name, key) != 0 || !(keys[i].types & BIT(s->type))))
            i++;
        if (i == N_KEYS)
            return unknown_key(where, key, s, err);
        KAENA_TRY(read_key(i, v, inner, arena, s, err));
    }
    for (size_t i = 0; i < N_KEYS; i++)
        if (keys[i].required && (keys[i].types & BIT(s->type)) && !*(const char **)place(s, i))
            return KAENA_FAIL(err, INVALID_ARGUMENT, "%s: '%s' is missing", where, keys[i].name);
    if (s->type == KRT_SINK_CLOUDWATCH && !s->stream)
        s->stream = "{daemon}";
    /* Less than a line would be a new file for every line. */
    if (s->max_bytes && s->max_bytes < KAENA_LOG_LINE)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "%s.max_bytes: must be 0 (no end) or at least %d",
                          where, KAENA_LOG_LINE);
    return KAENA_OK;
}

kaena_status krt_log_config_parse(const json_t *value, const char *where, kaena_arena *arena,
                                  krt_log_config *out, kaena_err *err)
{
    krt_log_config c = {.given = true};
    if (!json_is_object(value))
        return KAENA_FAIL(err, INVALID_ARGUMENT, "%s: must be an object", where);
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)value, key, v)
    {
        char inner[256];
        (void)snprintf(inner, sizeof inner, "%.100s.%.100s", where, key);
        if (strcmp(key, "level") == 0) {
            KAENA_TRY(read_level(v, inner, &c.level, err));
            c.has_level = true;
        } else if (strcmp(key, "sinks") == 0) {
            if (!json_is_array(v) || !json_array_size(v) || json_array_size(v) > KRT_MAX_SINKS)
                return KAENA_FAIL(err, INVALID_ARGUMENT, "%s: must be a list of 1 to %d", inner,
                                  KRT_MAX_SINKS);
            for (; c.n_sinks < json_array_size(v); c.n_sinks++) {
                (void)snprintf(inner, sizeof inner, "%.100s.sinks[%zu]", where, c.n_sinks);
                KAENA_TRY(read_sink(json_array_get(v, c.n_sinks), inner, arena, &c.sinks[c.n_sinks],
                                    err));
            }
        } else {
            kaena_status st = KAENA_FAIL(err, INVALID_ARGUMENT, "%s: unknown key", inner);
            kaena_err_hint(err, "keys here: level, sinks");
            return st;
        }
    }
    *out = c;
    return KAENA_OK;
}

bool krt_sink_config_same(const krt_sink_config *a, const krt_sink_config *b)
{
    krt_sink_config x = *a, y = *b;
    bool same = x.type == y.type && x.json == y.json;
    for (size_t k = 0; k < N_KEYS && same; k++) {
        const void *p = place(&x, k), *q = place(&y, k);
        if (keys[k].kind == KEY_NUMBER)
            same = *(const uint64_t *)p == *(const uint64_t *)q;
        else if (keys[k].kind == KEY_TEXT)
            same = *(char *const *)p == *(char *const *)q ||
                   (*(char *const *)p && *(char *const *)q &&
                    strcmp(*(char *const *)p, *(char *const *)q) == 0);
    }
    return same;
}

void krt_log_config_expand(krt_log_config *c, const char *daemon, kaena_arena *arena)
{
    static const char mark[] = "{daemon}";
    for (size_t i = 0; i < c->n_sinks; i++)
        for (size_t k = 0; k < N_KEYS; k++) {
            const char **text = keys[k].kind == KEY_TEXT ? place(&c->sinks[i], k) : NULL;
            for (const char *at; text && *text && (at = strstr(*text, mark));)
                *text = kaena_arena_printf(arena, "%.*s%s%s", (int)(at - *text), *text, daemon,
                                           at + strlen(mark));
        }
}
