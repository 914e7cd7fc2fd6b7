#include "krt_config.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"

#define DEFAULT_PCI "0000:00:1f.0"
#define DEFAULT_NAME "krtd0"
#define DEFAULT_SOCKET_MODE 0660
#define MAX_FILE_BYTES (1u << 20)
#define MAX_THREADS 4096

static const struct {
    const char *name;
    size_t offset;
    uint64_t fallback, min, max;
} limit_rows[] = {
#define KRT_LIMIT(name, fallback, min, max, what)                                                  \
    {#name, offsetof(krt_limits, name), fallback, min, max},
#include "krt_limits.def"
#undef KRT_LIMIT
};

#define N_LIMITS (sizeof limit_rows / sizeof *limit_rows)

static uint64_t *limit_of(krt_limits *l, size_t row)
{
    return (uint64_t *)(void *)((char *)l + limit_rows[row].offset);
}

static void default_daemon(krt_daemon_config *d)
{
    *d = (krt_daemon_config){.socket_mode = DEFAULT_SOCKET_MODE};
    for (size_t i = 0; i < N_LIMITS; i++)
        *limit_of(&d->limits, i) = limit_rows[i].fallback;
}

void krt_host_config_init(krt_host_config *c, const char *rundir)
{
    *c = (krt_host_config){.n_chips = 1, .n_daemons = 1};
    kaena_arena_init(&c->arena, 0);
    memcpy(c->chips[0], DEFAULT_PCI, sizeof DEFAULT_PCI);
    krt_daemon_config *d = &c->daemons[0];
    default_daemon(d);
    d->name = DEFAULT_NAME;
    d->listen[d->n_listen++] =
        kaena_arena_printf(&c->arena, "unix:%s/" DEFAULT_NAME ".sock", rundir);
    d->n_devices = 1;
}

void krt_host_config_fini(krt_host_config *c)
{
    kaena_arena_fini(&c->arena);
}

bool krt_pci_normalise(const char *text, char out[KRT_PCI_TEXT])
{
    unsigned domain = 0, bus, device, function;
    int end = -1;
    if (sscanf(text, "%4x:%2x:%2x.%1x%n", &domain, &bus, &device, &function, &end) != 4 ||
        end < 0 || text[end]) {
        domain = 0;
        end = -1;
        if (sscanf(text, "%2x:%2x.%1x%n", &bus, &device, &function, &end) != 3 || end < 0 ||
            text[end])
            return false;
    }
    for (const char *p = text; *p; p++)
        if (!isxdigit((unsigned char)*p) && *p != ':' && *p != '.')
            return false;
    if (device > 0x1f || function > 7)
        return false;
    (void)snprintf(out, KRT_PCI_TEXT, "%04x:%02x:%02x.%x", domain & 0xffff, bus & 0xff, device,
                   function);
    return true;
}

/* Daemon names become file names and log prefixes. */
static bool sane_name(const char *s)
{
    size_t n = strlen(s);
    if (n == 0 || n > KRT_NAME_MAX || s[0] == '.')
        return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && !strchr("._-", *s))
            return false;
    return true;
}

/* ---- JSON ---- */

typedef struct parser {
    krt_host_config *c;
    kaena_err *err;
} parser;

typedef kaena_status field_reader(parser *p, const char *where, const json_t *value, void *to);

typedef struct field {
    const char *key;
    field_reader *read;
} field;

/* Reads the keys of an object by a table: an unknown key is most likely a slip of the pen, and
 * would otherwise be a setting without effect. */
static kaena_status read_object(parser *p, const char *where, const json_t *value,
                                const field *fields, size_t n_fields, void *to)
{
    if (!json_is_object(value))
        return KAENA_FAIL(p->err, INVALID_ARGUMENT, "%s: must be an object", where);
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)value, key, v)
    {
        char inner[256];
        (void)snprintf(inner, sizeof inner, "%s%s%.100s", where, *where ? "." : "", key);
        const field *f = fields;
        while (f < fields + n_fields && strcmp(f->key, key) != 0)
            f++;
        if (f == fields + n_fields) {
            char known[256] = "";
            for (size_t i = 0; i < n_fields; i++)
                (void)snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s",
                               i ? ", " : "", fields[i].key);
            kaena_status st = KAENA_FAIL(p->err, INVALID_ARGUMENT, "%s: unknown key", inner);
            kaena_err_hint(p->err, "keys here: %s", known);
            return st;
        }
        KAENA_TRY(f->read(p, inner, v, to));
    }
    return KAENA_OK;
}

static kaena_status read_integer(parser *p, const char *where, const json_t *v, uint64_t min,
                                 uint64_t max, uint64_t *out)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0 || (uint64_t)json_integer_value(v) < min ||
        (uint64_t)json_integer_value(v) > max)
        return KAENA_FAIL(p->err, INVALID_ARGUMENT,
                          "%s: must be an integer from %" PRIu64 " to %" PRIu64, where, min, max);
    *out = (uint64_t)json_integer_value(v);
    return KAENA_OK;
}

static kaena_status read_string(parser *p, const char *where, const json_t *v, const char **out)
{
    if (!json_is_string(v) || json_string_length(v) != strlen(json_string_value(v)) ||
        !json_string_length(v))
        return KAENA_FAIL(p->err, INVALID_ARGUMENT, "%s: must be a text that is not empty", where);
    *out = kaena_arena_strdup(&p->c->arena, json_string_value(v));
    return KAENA_OK;
}

static kaena_status read_version(parser *p, const char *where, const json_t *v, void *to)
{
    (void)to;
    if (!json_is_integer(v) || json_integer_value(v) != 1)
        return KAENA_FAIL(p->err, INVALID_ARGUMENT,
                          "%s: must be 1, the only version this krtd (%s) knows", where,
                          KAENA_VERSION);
    return KAENA_OK;
}

static kaena_status read_pci(parser *p, const char *where, const json_t *v, void *to)
{
    const char *text;
    KAENA_TRY(read_string(p, where, v, &text));
    if (!krt_pci_normalise(text, to))
        return KAENA_FAIL(p->err, INVALID_ARGUMENT, "%s: '%.64s' is not a PCI address", where,
                          text);
    return KAENA_OK;
}

static const field chip_fields[] = {{"pci", read_pci}};

/* The elements of a list, each by |read| into place |i| of |to|. */
static kaena_status check_list(parser *p, const char *where, const json_t *v, size_t min,
                               size_t max)
{
    if (!json_is_array(v) || json_array_size(v) < min || json_array_size(v) > max)
        return KAENA_FAIL(p->err, INVALID_ARGUMENT, "%s: must be a list of %zu to %zu", where, min,
                          max);
    return KAENA_OK;
}

static kaena_status read_chips(parser *p, const char *where, const json_t *v, void *to)
{
    krt_host_config *c = to;
    KAENA_TRY(check_list(p, where, v, 1, KRT_MAX_CHIPS));
    c->n_chips = json_array_size(v);
    for (size_t i = 0; i < c->n_chips; i++) {
        char inner[64];
        (void)snprintf(inner, sizeof inner, "chips[%zu]", i);
        c->chips[i][0] = 0;
        KAENA_TRY(read_object(p, inner, json_array_get(v, i), chip_fields, 1, c->chips[i]));
        if (!c->chips[i][0])
            return KAENA_FAIL(p->err, INVALID_ARGUMENT, "%s: 'pci' is missing", inner);
        for (size_t k = 0; k < i; k++)
            if (strcmp(c->chips[k], c->chips[i]) == 0)
                return KAENA_FAIL(p->err, INVALID_ARGUMENT, "%s: %s is chips[%zu] already", inner,
                                  c->chips[i], k);
    }
    return KAENA_OK;
}

static kaena_status read_name(parser *p, const char *where, const json_t *v, void *to)
{
    krt_daemon_config *d = to;
    KAENA_TRY(read_string(p, where, v, &d->name));
    if (!sane_name(d->name))
        return KAENA_FAIL(p->err, INVALID_ARGUMENT,
                          "%s: '%.80s' must be 1 to %d of [A-Za-z0-9._-], not starting with a dot",
                          where, d->name, KRT_NAME_MAX);
    return KAENA_OK;
}

static kaena_status read_listen(parser *p, const char *where, const json_t *v, void *to)
{
    krt_daemon_config *d = to;
    KAENA_TRY(check_list(p, where, v, 1, KRT_MAX_LISTEN));
    d->n_listen = json_array_size(v);
    for (size_t i = 0; i < d->n_listen; i++)
        KAENA_TRY(read_string(p, where, json_array_get(v, i), &d->listen[i]));
    return KAENA_OK;
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static kaena_status read_devices(parser *p, const char *where, const json_t *v, void *to)
{
    krt_daemon_config *d = to;
    KAENA_TRY(check_list(p, where, v, 1, KRT_MAX_CHIPS));
    d->n_devices = json_array_size(v);
    for (size_t i = 0; i < d->n_devices; i++) {
        uint64_t device = 0;
        KAENA_TRY(read_integer(p, where, json_array_get(v, i), 0, KRT_MAX_CHIPS - 1, &device));
        d->devices[i] = (uint32_t)device;
    }
    qsort(d->devices, d->n_devices, sizeof *d->devices, compare_u32);
    return KAENA_OK;
}

static kaena_status read_threads(parser *p, const char *where, const json_t *v, void *to)
{
    uint64_t n = 0;
    KAENA_TRY(read_integer(p, where, v, 0, MAX_THREADS, &n));
    ((krt_daemon_config *)to)->threads = (uint32_t)n;
    return KAENA_OK;
}

static kaena_status read_model_dir(parser *p, const char *where, const json_t *v, void *to)
{
    if (json_is_null(v))
        return KAENA_OK;
    return read_string(p, where, v, &((krt_daemon_config *)to)->model_dir);
}

static kaena_status read_socket_mode(parser *p, const char *where, const json_t *v, void *to)
{
    const char *text;
    KAENA_TRY(read_string(p, where, v, &text));
    char *end;
    unsigned long mode = strtoul(text, &end, 8);
    if (*end || mode > 0777)
        return KAENA_FAIL(p->err, INVALID_ARGUMENT, "%s: must be octal, such as \"0660\"", where);
    ((krt_daemon_config *)to)->socket_mode = (mode_t)mode;
    return KAENA_OK;
}

static kaena_status read_limits(parser *p, const char *where, const json_t *v, void *to);

static const field daemon_fields[] = {
    {"name", read_name},       {"listen", read_listen},       {"devices", read_devices},
    {"threads", read_threads}, {"model_dir", read_model_dir}, {"socket_mode", read_socket_mode},
    {"limits", read_limits},
};

static kaena_status read_limits(parser *p, const char *where, const json_t *v, void *to)
{
    krt_daemon_config *d = to;
    if (!json_is_object(v))
        return KAENA_FAIL(p->err, INVALID_ARGUMENT, "%s: must be an object", where);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)v, key, value)
    {
        size_t i = 0;
        while (i < N_LIMITS && strcmp(limit_rows[i].name, key) != 0)
            i++;
        char inner[256];
        (void)snprintf(inner, sizeof inner, "%s.%.100s", where, key);
        if (i == N_LIMITS)
            return KAENA_FAIL(p->err, INVALID_ARGUMENT, "%s: unknown limit", inner);
        KAENA_TRY(read_integer(p, inner, value, limit_rows[i].min, limit_rows[i].max,
                               limit_of(&d->limits, i)));
    }
    return KAENA_OK;
}

static kaena_status read_daemons(parser *p, const char *where, const json_t *v, void *to)
{
    krt_host_config *c = to;
    KAENA_TRY(check_list(p, where, v, 1, KRT_MAX_DAEMONS));
    c->n_daemons = json_array_size(v);
    for (size_t i = 0; i < c->n_daemons; i++) {
        char inner[64];
        (void)snprintf(inner, sizeof inner, "daemons[%zu]", i);
        krt_daemon_config *d = &c->daemons[i];
        default_daemon(d);
        KAENA_TRY(read_object(p, inner, json_array_get(v, i), daemon_fields,
                              sizeof daemon_fields / sizeof *daemon_fields, d));
        const char *missing = !d->name        ? "name"
                              : !d->n_listen  ? "listen"
                              : !d->n_devices ? "devices"
                                              : NULL;
        if (missing)
            return KAENA_FAIL(p->err, INVALID_ARGUMENT, "%s: '%s' is missing", inner, missing);
    }
    return KAENA_OK;
}

static const field root_fields[] = {
    {"version", read_version}, {"chips", read_chips}, {"daemons", read_daemons}};

/* ---- what no single key can tell ---- */

static kaena_status check_pair(const krt_daemon_config *a, const krt_daemon_config *b,
                               kaena_err *err)
{
    if (strcmp(a->name, b->name) == 0)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "two daemons are named '%s'", a->name);
    for (size_t i = 0; i < a->n_devices; i++)
        for (size_t k = 0; k < b->n_devices; k++)
            if (a->devices[i] == b->devices[k])
                return KAENA_FAIL(err, INVALID_ARGUMENT,
                                  "device %" PRIu32 " is given to both '%s' and '%s'",
                                  a->devices[i], a->name, b->name);
    for (size_t i = 0; i < a->n_listen; i++)
        for (size_t k = 0; k < b->n_listen; k++)
            if (strcmp(a->listen[i], b->listen[k]) == 0)
                return KAENA_FAIL(err, INVALID_ARGUMENT, "'%s' and '%s' both listen on '%s'",
                                  a->name, b->name, a->listen[i]);
    return KAENA_OK;
}

static kaena_status check_host(const krt_host_config *c, kaena_err *err)
{
    for (size_t i = 0; i < c->n_daemons; i++) {
        const krt_daemon_config *d = &c->daemons[i];
        for (size_t k = 0; k < d->n_devices; k++) {
            if (d->devices[k] >= c->n_chips)
                return KAENA_FAIL(err, INVALID_ARGUMENT,
                                  "daemon '%s': there is no device %" PRIu32 ": chips has %zu",
                                  d->name, d->devices[k], c->n_chips);
            if (k && d->devices[k] == d->devices[k - 1])
                return KAENA_FAIL(err, INVALID_ARGUMENT,
                                  "daemon '%s': device %" PRIu32 " is named twice", d->name,
                                  d->devices[k]);
        }
        for (size_t k = 0; k < i; k++)
            KAENA_TRY(check_pair(&c->daemons[k], d, err));
    }
    return KAENA_OK;
}

kaena_status krt_host_config_parse(krt_host_config *c, const char *text, size_t size,
                                   kaena_err *err)
{
    json_error_t je;
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &je);
    if (!root)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "line %d, column %d: %s", je.line, je.column,
                          je.text);
    parser p = {.c = c, .err = err};
    kaena_status st =
        json_object_get(root, "version")
            ? KAENA_OK
            : KAENA_FAIL(err, INVALID_ARGUMENT, "'version' is missing; write \"version\": 1");
    if (st == KAENA_OK)
        st = read_object(&p, "", root, root_fields, 3, c);
    json_decref(root);
    KAENA_TRY(st);
    c->from_file = true;
    return check_host(c, err);
}

kaena_status krt_host_config_read(krt_host_config *c, const char *path, bool required,
                                  kaena_err *err)
{
    kaena_file f;
    kaena_status st = kaena_file_open(path, &f, err);
    if (st == KAENA_NOT_FOUND && !required)
        return KAENA_OK;
    KAENA_TRY(st);
    st = f.size > MAX_FILE_BYTES
             ? KAENA_FAIL(err, INVALID_ARGUMENT, "larger than %u bytes", MAX_FILE_BYTES)
             : krt_host_config_parse(c, (const char *)f.data, f.size, err);
    kaena_file_close(&f);
    return st == KAENA_OK ? st : kaena_err_wrap(err, st, "configuration '%s'", path);
}

/* ---- one daemon ---- */

/* Sets mask[i] for every chip that |text| names, by position or PCI address. */
static kaena_status parse_devices(const krt_host_config *c, const char *origin, const char *text,
                                  bool mask[KRT_MAX_CHIPS], kaena_err *err)
{
    memset(mask, 0, KRT_MAX_CHIPS * sizeof *mask);
    for (const char *p = text;;) {
        p += strspn(p, " \t");
        size_t n = strcspn(p, ",");
        char word[32];
        if (n >= sizeof word)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "%s '%.100s': not a list of devices", origin,
                              text);
        memcpy(word, p, n);
        word[n] = 0;
        for (size_t k = n; k && isspace((unsigned char)word[k - 1]);)
            word[--k] = 0;
        char pci[KRT_PCI_TEXT], *end;
        size_t found = c->n_chips;
        if (krt_pci_normalise(word, pci)) {
            for (found = 0; found < c->n_chips && strcmp(c->chips[found], pci) != 0;)
                found++;
        } else if (word[0] >= '0' && word[0] <= '9') {
            unsigned long v = strtoul(word, &end, 10);
            found = *end ? c->n_chips : v < c->n_chips ? (size_t)v : c->n_chips;
        }
        if (found == c->n_chips) {
            kaena_status st =
                KAENA_FAIL(err, INVALID_ARGUMENT,
                           "%s '%.100s': no device '%s'; this host has 0 to %zu (%s to %s)", origin,
                           text, word, c->n_chips - 1, c->chips[0], c->chips[c->n_chips - 1]);
            kaena_err_hint(err, "name more chips in " KRT_CONFIG_PATH);
            return st;
        }
        mask[found] = true;
        p += n;
        if (!*p)
            return KAENA_OK;
        p++;
    }
}

static kaena_status pick_devices(const krt_host_config *c, const krt_overrides *o,
                                 krt_daemon_config *d, kaena_err *err)
{
    bool visible[KRT_MAX_CHIPS], wanted[KRT_MAX_CHIPS] = {false};
    memset(visible, 1, sizeof visible);
    if (o->visible_devices)
        KAENA_TRY(parse_devices(c, "KAENA_VISIBLE_DEVICES", o->visible_devices, visible, err));
    if (o->devices)
        KAENA_TRY(parse_devices(c, "--devices", o->devices, wanted, err));
    for (size_t i = 0; i < d->n_devices && !o->devices; i++)
        wanted[d->devices[i]] = true;
    d->n_devices = 0;
    for (uint32_t i = 0; i < c->n_chips; i++) {
        if (o->devices && wanted[i] && !visible[i])
            return KAENA_FAIL(err, INVALID_ARGUMENT,
                              "--devices '%s': device %" PRIu32
                              " is hidden by KAENA_VISIBLE_DEVICES='%s'",
                              o->devices, i, o->visible_devices);
        if (wanted[i] && visible[i])
            d->devices[d->n_devices++] = i;
    }
    if (!d->n_devices)
        return KAENA_FAIL(err, INVALID_ARGUMENT,
                          "KAENA_VISIBLE_DEVICES='%s' hides every device of daemon '%s'",
                          o->visible_devices, d->name);
    return KAENA_OK;
}

kaena_status krt_config_resolve(krt_host_config *c, const krt_overrides *o, const char *rundir,
                                krt_daemon_config *out, kaena_err *err)
{
    krt_daemon_config d = c->daemons[0];
    if (o->name && !sane_name(o->name))
        return KAENA_FAIL(err, INVALID_ARGUMENT,
                          "--name '%.80s': must be 1 to %d of [A-Za-z0-9._-], not starting with a "
                          "dot",
                          o->name, KRT_NAME_MAX);
    if (o->name && c->from_file) {
        size_t i = 0;
        while (i < c->n_daemons && strcmp(c->daemons[i].name, o->name) != 0)
            i++;
        if (i == c->n_daemons) {
            char known[200] = "";
            for (size_t k = 0; k < c->n_daemons && strlen(known) < 120; k++)
                (void)snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s",
                               k ? ", " : "", c->daemons[k].name);
            return KAENA_FAIL(err, NOT_FOUND,
                              "--name '%s': the configuration has no such daemon, only %s", o->name,
                              known);
        }
        d = c->daemons[i];
    } else if (o->name) {
        d.name = o->name;
        d.listen[0] = kaena_arena_printf(&c->arena, "unix:%s/%s.sock", rundir, o->name);
    }
    if (o->n_listen) {
        memcpy(d.listen, o->listen, sizeof d.listen);
        d.n_listen = o->n_listen;
    }
    KAENA_TRY(pick_devices(c, o, &d, err));
    if (o->model_dir)
        d.model_dir = o->model_dir;
    if (o->has_threads)
        d.threads = o->threads;
    if (o->queue_depth)
        d.limits.queue_depth = o->queue_depth;
    if (o->has_drain_seconds)
        d.limits.drain_seconds = o->drain_seconds;
    *out = d;
    return KAENA_OK;
}
