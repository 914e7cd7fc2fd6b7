#include "krt_config.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_PCI "0000:00:1f.0"
#define DEFAULT_NAME "krtd0"
#define DEFAULT_SOCKET_MODE 0660

void krt_limits_init(krt_limits *l)
{
#define KRT_LIMIT(name, fallback, min, max, what) l->name = fallback;
#include "krt_limits.def"
#undef KRT_LIMIT
}

void krt_daemon_config_init(krt_daemon_config *d)
{
    *d = (krt_daemon_config){.socket_mode = DEFAULT_SOCKET_MODE};
    krt_limits_init(&d->limits);
}

void krt_host_config_init(krt_host_config *c, const char *rundir)
{
    *c = (krt_host_config){.n_chips = 1, .n_daemons = 1};
    kaena_arena_init(&c->arena, 0);
    memcpy(c->chips[0], DEFAULT_PCI, sizeof DEFAULT_PCI);
    krt_daemon_config *d = &c->daemons[0];
    krt_daemon_config_init(d);
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

bool krt_name_is_sane(const char *s)
{
    size_t n = strlen(s);
    if (n == 0 || n > KRT_NAME_MAX || s[0] == '.')
        return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && !strchr("._-", *s))
            return false;
    return true;
}

bool krt_parse_mode(const char *text, mode_t *out)
{
    char *end;
    unsigned long mode = strtoul(text, &end, 8);
    if (text[0] < '0' || text[0] > '7' || *end || mode > 0777)
        return false;
    *out = (mode_t)mode;
    return true;
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

/* A certificate of the command line takes the place of the file's, with its key. */
static kaena_status pick_tls(const krt_overrides *o, krt_daemon_config *d, kaena_err *err)
{
    if (!o->tls.cert != !o->tls.key)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "--tls-cert and --tls-key: one without the other");
    if (o->tls.cert)
        d->tls = (krpc_tls_files){.cert = o->tls.cert, .key = o->tls.key};
    if (o->tls.client_ca) {
        if (!d->tls.cert)
            return KAENA_FAIL(err, INVALID_ARGUMENT,
                              "--tls-client-ca needs --tls-cert and --tls-key");
        d->tls.client_ca = o->tls.client_ca;
    }
    return KAENA_OK;
}

kaena_status krt_config_resolve(krt_host_config *c, const krt_overrides *o, const char *rundir,
                                krt_daemon_config *out, kaena_err *err)
{
    krt_daemon_config d = c->daemons[0];
    if (o->name && !krt_name_is_sane(o->name))
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
    if (o->has_socket_mode)
        d.socket_mode = o->socket_mode;
    if (o->socket_group)
        d.socket_group = o->socket_group;
    KAENA_TRY(pick_tls(o, &d, err));
    if (o->model_dir)
        d.model_dir = o->model_dir;
    if (o->metrics)
        d.metrics = o->metrics;
    if (!d.log.given)
        d.log = c->log;
    if (!d.log.has_level || o->has_log_level)
        d.log.level = o->has_log_level ? o->log_level : KAENA_LOG_INFO;
    d.log.json = o->log_json;
    krt_log_config_expand(&d.log, d.name, &c->arena);
    if (o->has_threads)
        d.threads = o->threads;
    if (o->queue_depth)
        d.limits.queue_depth = o->queue_depth;
    if (o->has_drain_seconds)
        d.limits.drain_seconds = o->drain_seconds;
    *out = d;
    return KAENA_OK;
}
