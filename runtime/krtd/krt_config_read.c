/* The configuration file: JSON, read by tables of fields. Reading goes on after a mistake, so that
 * one run tells them all. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "krt_config.h"
#include "rpc_address.h"

#define MAX_FILE_BYTES (1u << 20)
#define COUNT(rows) (sizeof(rows) / sizeof *(rows))

typedef struct parser {
    krt_host_config *c;
    krt_report *report;
} parser;

/* Reads |value|, which stands at |where| in the file, into the struct |to|. */
typedef void field_reader(parser *p, const char *where, const json_t *value, void *to);

typedef struct field {
    const char *key;
    field_reader *read;
    bool required;
} field;

/* ---- unknown keys ---- */

/* Letters to be added, taken away or exchanged to make |b| of |a|. */
static size_t distance(const char *a, const char *b)
{
    size_t row[65];
    size_t n = strnlen(b, COUNT(row) - 1);
    for (size_t k = 0; k <= n; k++)
        row[k] = k;
    for (size_t i = 1; *a; a++, i++) {
        size_t corner = row[0];
        row[0] = i;
        for (size_t k = 1; k <= n; k++) {
            size_t best = corner + (*a != b[k - 1]);
            best = row[k] + 1 < best ? row[k] + 1 : best;
            best = row[k - 1] + 1 < best ? row[k - 1] + 1 : best;
            corner = row[k];
            row[k] = best;
        }
    }
    return row[n];
}

static const char *nearest(const char *key, const char *const *known, size_t n)
{
    const char *best = NULL;
    size_t least = strlen(key) / 3 + 2;
    for (size_t i = 0; i < n; i++) {
        size_t d = distance(key, known[i]);
        if (strncmp(key, known[i], strlen(key)) == 0)
            d = 1;
        if (d < least) {
            least = d;
            best = known[i];
        }
    }
    return best;
}

/* An unknown key is most likely a slip of the pen, and would else be a setting without effect. */
static void unknown(parser *p, const char *where, const char *key, const char *kind,
                    const char *const *known, size_t n)
{
    char hint[256] = "";
    const char *near = nearest(key, known, n);
    if (near)
        (void)snprintf(hint, sizeof hint, "did you mean '%s'? ", near);
    for (size_t i = 0; i < n; i++)
        (void)snprintf(hint + strlen(hint), sizeof hint - strlen(hint), "%s%s",
                       i ? ", " : "keys here: ", known[i]);
    krt_report_error(p->report, hint, "%s: unknown %s", where, kind);
}

static void join(char out[256], const char *where, const char *key)
{
    (void)snprintf(out, 256, "%s%s%.100s", where, *where ? "." : "", key);
}

static void read_object(parser *p, const char *where, const json_t *value, const field *fields,
                        size_t n_fields, void *to)
{
    if (!json_is_object(value)) {
        krt_report_error(p->report, NULL, "%s: must be an object", *where ? where : "the file");
        return;
    }
    const char *known[32], *key;
    for (size_t i = 0; i < n_fields; i++)
        known[i] = fields[i].key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)value, key, v)
    {
        char inner[256];
        join(inner, where, key);
        size_t i = 0;
        while (i < n_fields && strcmp(fields[i].key, key) != 0)
            i++;
        if (i == n_fields)
            unknown(p, inner, key, "key", known, n_fields);
        else
            fields[i].read(p, inner, v, to);
    }
    for (size_t i = 0; i < n_fields; i++)
        if (fields[i].required && !json_object_get(value, fields[i].key))
            krt_report_error(p->report, NULL, "%s%s'%s' is missing", where, *where ? ": " : "",
                             fields[i].key);
}

/* ---- values ---- */

static bool read_integer(parser *p, const char *where, const json_t *v, uint64_t min, uint64_t max,
                         uint64_t *out)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0 || (uint64_t)json_integer_value(v) < min ||
        (uint64_t)json_integer_value(v) > max) {
        krt_report_error(p->report, NULL, "%s: must be an integer from %" PRIu64 " to %" PRIu64,
                         where, min, max);
        return false;
    }
    *out = (uint64_t)json_integer_value(v);
    return true;
}

/* NULL, and told, when it is none. */
static const char *read_string(parser *p, const char *where, const json_t *v)
{
    if (json_is_string(v) && json_string_length(v) &&
        json_string_length(v) == strlen(json_string_value(v)))
        return kaena_arena_strdup(&p->c->arena, json_string_value(v));
    krt_report_error(p->report, NULL, "%s: must be a text that is not empty", where);
    return NULL;
}

/* A daemon may be started anywhere: a relative path would mean another file each time. */
static const char *read_path(parser *p, const char *where, const json_t *v)
{
    const char *path = read_string(p, where, v);
    if (path && *path != '/') {
        krt_report_error(p->report, NULL, "%s: '%.200s' must be an absolute path", where, path);
        return NULL;
    }
    return path;
}

/* The number of elements, and told when it is out of bounds (0 then). */
static size_t read_list(parser *p, const char *where, const json_t *v, size_t max)
{
    size_t n = json_array_size(v);
    if (json_is_array(v) && n >= 1 && n <= max)
        return n;
    krt_report_error(p->report, NULL, "%s: must be a list of 1 to %zu", where, max);
    return 0;
}

/* ---- chips ---- */

static void read_pci(parser *p, const char *where, const json_t *v, void *to)
{
    const char *text = read_string(p, where, v);
    if (text && !krt_pci_normalise(text, to))
        krt_report_error(p->report, NULL, "%s: '%.64s' is not a PCI address", where, text);
}

static const field chip_fields[] = {{"pci", read_pci, true}};

static void read_chips(parser *p, const char *where, const json_t *v, void *to)
{
    krt_host_config *c = to;
    size_t n = read_list(p, where, v, KRT_MAX_CHIPS);
    for (size_t i = 0; i < n; i++) {
        char inner[64];
        (void)snprintf(inner, sizeof inner, "chips[%zu]", i);
        c->chips[i][0] = 0;
        read_object(p, inner, json_array_get(v, i), chip_fields, COUNT(chip_fields), c->chips[i]);
    }
    /* What is wrong in the list does not also make devices unknown. */
    c->n_chips = n ? n : KRT_MAX_CHIPS;
}

/* ---- daemons ---- */

static void read_name(parser *p, const char *where, const json_t *v, void *to)
{
    const char *name = read_string(p, where, v);
    if (!name)
        return;
    if (krt_name_is_sane(name))
        ((krt_daemon_config *)to)->name = name;
    else
        krt_report_error(p->report, NULL,
                         "%s: '%.80s' must be 1 to %d of [A-Za-z0-9._-], not starting with a dot",
                         where, name, KRT_NAME_MAX);
}

static void read_listen(parser *p, const char *where, const json_t *v, void *to)
{
    krt_daemon_config *d = to;
    size_t n = read_list(p, where, v, KRT_MAX_LISTEN);
    for (size_t i = 0; i < n; i++) {
        char inner[256];
        (void)snprintf(inner, sizeof inner, "%.200s[%zu]", where, i);
        const char *text = read_string(p, inner, json_array_get(v, i));
        krpc_address address;
        kaena_err err;
        if (!text)
            continue;
        if (krpc_address_parse(text, &address, &err) != KAENA_OK)
            krt_report_error(p->report, NULL, "%s: '%.200s': %s", inner, text, err.what);
        else if (address.is_unix && address.path[0] != '/')
            krt_report_error(p->report, NULL, "%s: '%s' must be an absolute path", inner, text);
        else
            d->listen[d->n_listen++] = text;
    }
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void read_devices(parser *p, const char *where, const json_t *v, void *to)
{
    krt_daemon_config *d = to;
    size_t n = read_list(p, where, v, KRT_MAX_CHIPS);
    for (size_t i = 0; i < n; i++) {
        char inner[256];
        (void)snprintf(inner, sizeof inner, "%.200s[%zu]", where, i);
        uint64_t device;
        if (read_integer(p, inner, json_array_get(v, i), 0, KRT_MAX_CHIPS - 1, &device))
            d->devices[d->n_devices++] = (uint32_t)device;
    }
    qsort(d->devices, d->n_devices, sizeof *d->devices, compare_u32);
}

static void read_threads(parser *p, const char *where, const json_t *v, void *to)
{
    uint64_t n;
    if (read_integer(p, where, v, 0, KRT_MAX_THREADS, &n))
        ((krt_daemon_config *)to)->threads = (uint32_t)n;
}

static void read_model_dir(parser *p, const char *where, const json_t *v, void *to)
{
    if (!json_is_null(v))
        ((krt_daemon_config *)to)->model_dir = read_path(p, where, v);
}

static void read_socket_mode(parser *p, const char *where, const json_t *v, void *to)
{
    const char *text = read_string(p, where, v);
    if (text && !krt_parse_mode(text, &((krt_daemon_config *)to)->socket_mode))
        krt_report_error(p->report, NULL, "%s: must be octal, such as \"0660\"", where);
}

static void read_socket_group(parser *p, const char *where, const json_t *v, void *to)
{
    if (!json_is_null(v))
        ((krt_daemon_config *)to)->socket_group = read_string(p, where, v);
}

static void read_tls_cert(parser *p, const char *where, const json_t *v, void *to)
{
    ((krpc_tls_files *)to)->cert = read_path(p, where, v);
}

static void read_tls_key(parser *p, const char *where, const json_t *v, void *to)
{
    ((krpc_tls_files *)to)->key = read_path(p, where, v);
}

static void read_tls_client_ca(parser *p, const char *where, const json_t *v, void *to)
{
    if (!json_is_null(v))
        ((krpc_tls_files *)to)->client_ca = read_path(p, where, v);
}

static const field tls_fields[] = {{"cert", read_tls_cert, true},
                                   {"key", read_tls_key, true},
                                   {"client_ca", read_tls_client_ca, false}};

static void read_tls(parser *p, const char *where, const json_t *v, void *to)
{
    if (!json_is_null(v))
        read_object(p, where, v, tls_fields, COUNT(tls_fields), &((krt_daemon_config *)to)->tls);
}

static const struct {
    size_t offset;
    uint64_t min, max;
} limit_rows[] = {
#define KRT_LIMIT(name, fallback, min, max, what) {offsetof(krt_limits, name), min, max},
#include "krt_limits.def"
#undef KRT_LIMIT
};

static const char *const limit_names[] = {
#define KRT_LIMIT(name, fallback, min, max, what) #name,
#include "krt_limits.def"
#undef KRT_LIMIT
};

static void read_limits(parser *p, const char *where, const json_t *v, void *to)
{
    krt_limits *limits = &((krt_daemon_config *)to)->limits;
    if (!json_is_object(v)) {
        krt_report_error(p->report, NULL, "%s: must be an object", where);
        return;
    }
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)v, key, value)
    {
        char inner[256];
        join(inner, where, key);
        size_t i = 0;
        while (i < COUNT(limit_rows) && strcmp(limit_names[i], key) != 0)
            i++;
        if (i == COUNT(limit_rows))
            unknown(p, inner, key, "limit", limit_names, COUNT(limit_names));
        else
            (void)read_integer(p, inner, value, limit_rows[i].min, limit_rows[i].max,
                               (uint64_t *)(void *)((char *)limits + limit_rows[i].offset));
    }
}

static void read_metrics(parser *p, const char *where, const json_t *v, void *to)
{
    krpc_address address;
    kaena_err err;
    const char *text = json_is_null(v) ? NULL : read_string(p, where, v);
    if (!text)
        return;
    if (krpc_address_parse(text, &address, &err) != KAENA_OK)
        krt_report_error(p->report, NULL, "%s: '%.200s': %s", where, text, err.what);
    ((krt_daemon_config *)to)->metrics = text;
}

static void read_log(parser *p, const char *where, const json_t *v, void *to)
{
    kaena_err err;
    if (krt_log_config_parse(v, where, &p->c->arena, &((krt_daemon_config *)to)->log, &err) !=
        KAENA_OK)
        krt_report_error(p->report, err.hint, "%s", err.what);
}

static const field daemon_fields[] = {
    {"name", read_name, true},
    {"listen", read_listen, true},
    {"devices", read_devices, true},
    {"threads", read_threads, false},
    {"model_dir", read_model_dir, false},
    {"socket_mode", read_socket_mode, false},
    {"socket_group", read_socket_group, false},
    {"tls", read_tls, false},
    {"metrics", read_metrics, false},
    {"log", read_log, false},
    {"limits", read_limits, false},
};

static void read_daemons(parser *p, const char *where, const json_t *v, void *to)
{
    krt_host_config *c = to;
    c->n_daemons = read_list(p, where, v, KRT_MAX_DAEMONS);
    for (size_t i = 0; i < c->n_daemons; i++) {
        char inner[64];
        (void)snprintf(inner, sizeof inner, "daemons[%zu]", i);
        krt_daemon_config_init(&c->daemons[i]);
        read_object(p, inner, json_array_get(v, i), daemon_fields, COUNT(daemon_fields),
                    &c->daemons[i]);
    }
}

/* ---- the file ---- */

static void read_version(parser *p, const char *where, const json_t *v, void *to)
{
    (void)to;
    if (!json_is_integer(v) || json_integer_value(v) != 1)
        krt_report_error(p->report, NULL, "%s: must be 1, the only version this krtd (%s) knows",
                         where, KAENA_VERSION);
}

static void read_host_log(parser *p, const char *where, const json_t *v, void *to)
{
    kaena_err err;
    if (krt_log_config_parse(v, where, &p->c->arena, &((krt_host_config *)to)->log, &err) !=
        KAENA_OK)
        krt_report_error(p->report, err.hint, "%s", err.what);
}

static const field root_fields[] = {{"version", read_version, true},
                                    {"chips", read_chips, false},
                                    {"daemons", read_daemons, false},
                                    {"log", read_host_log, false}};

kaena_status krt_host_config_parse(krt_host_config *c, const char *text, size_t size,
                                   krt_report *report, kaena_err *err)
{
    krt_report own = {0}, *r = report ? report : &own;
    size_t before = r->errors;
    json_error_t je;
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &je);
    parser p = {.c = c, .report = r};
    if (root) {
        read_object(&p, "", root, root_fields, COUNT(root_fields), c);
        krt_host_config_check(c, r);
    } else {
        krt_report_error(r, NULL, "line %d, column %d: %s", je.line, je.column, je.text);
    }
    json_decref(root);
    c->from_file = true;
    char *copy = kaena_arena_alloc(&c->arena, size ? size : 1);
    if (copy) {
        memcpy(copy, text, size);
        c->text = copy;
        c->text_size = size;
    }
    size_t n = r->errors - before;
    if (n == 0)
        return KAENA_OK;
    if (err)
        *err = r->first;
    if (n > 1 && !r->first.hint[0])
        kaena_err_hint(err, "and %zu more: krtd --check-config tells them", n - 1);
    return KAENA_INVALID_ARGUMENT;
}

kaena_status krt_host_config_read(krt_host_config *c, const char *path, bool required,
                                  krt_report *report, kaena_err *err)
{
    kaena_file f;
    kaena_status st = kaena_file_open(path, &f, err);
    if (st == KAENA_NOT_FOUND && !required)
        return KAENA_OK;
    KAENA_TRY(st);
    st = f.size > MAX_FILE_BYTES
             ? KAENA_FAIL(err, INVALID_ARGUMENT, "larger than %u bytes", MAX_FILE_BYTES)
             : krt_host_config_parse(c, (const char *)f.data, f.size, report, err);
    kaena_file_close(&f);
    return st == KAENA_OK ? st : kaena_err_wrap(err, st, "configuration '%s'", path);
}
