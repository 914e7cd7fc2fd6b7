/* What no single key of the configuration can tell: how daemons go together, and with their host.
 */
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "krt_config.h"
#include "rpc_address.h"

/* Daemons with mistakes of their own may lack a name. */
static const char *name_of(const krt_daemon_config *d)
{
    return d->name ? d->name : "?";
}

static void check_addresses(const krt_daemon_config *a, const krt_daemon_config *b, krt_report *r)
{
    for (size_t i = 0; i < a->n_listen; i++)
        for (size_t k = a == b ? i + 1 : 0; k < b->n_listen; k++) {
            krpc_address x, y;
            if (krpc_address_parse(a->listen[i], &x, NULL) != KAENA_OK ||
                krpc_address_parse(b->listen[k], &y, NULL) != KAENA_OK ||
                !krpc_address_clash(&x, &y))
                continue;
            if (a == b)
                krt_report_error(r, NULL, "daemon '%s' listens on '%s' and '%s', which are one",
                                 name_of(a), a->listen[i], b->listen[k]);
            else if (strcmp(a->listen[i], b->listen[k]) == 0)
                krt_report_error(r, NULL, "'%s' and '%s' both listen on '%s'", name_of(a),
                                 name_of(b), a->listen[i]);
            else
                krt_report_error(r, NULL, "'%s' listens on '%s', which '%s' takes by '%s'",
                                 name_of(a), a->listen[i], name_of(b), b->listen[k]);
        }
}

static void check_pair(const krt_daemon_config *a, const krt_daemon_config *b, krt_report *r)
{
    if (a->name && b->name && strcmp(a->name, b->name) == 0)
        krt_report_error(r, NULL, "two daemons are named '%s'", a->name);
    for (size_t i = 0; i < a->n_devices; i++)
        for (size_t k = 0; k < b->n_devices; k++)
            if (a->devices[i] == b->devices[k] && (k == 0 || b->devices[k] != b->devices[k - 1]) &&
                (i == 0 || a->devices[i] != a->devices[i - 1]))
                krt_report_error(r, NULL, "device %" PRIu32 " is given to both '%s' and '%s'",
                                 a->devices[i], name_of(a), name_of(b));
    check_addresses(a, b, r);
    krpc_address x, y;
    if (a->metrics && b->metrics && krpc_address_parse(a->metrics, &x, NULL) == KAENA_OK &&
        krpc_address_parse(b->metrics, &y, NULL) == KAENA_OK && krpc_address_clash(&x, &y))
        krt_report_error(r, NULL, "'%s' and '%s' both have their metrics on '%s'", name_of(a),
                         name_of(b), b->metrics);
}

void krt_host_config_check(const krt_host_config *c, krt_report *r)
{
    for (size_t i = 0; i < c->n_chips; i++)
        for (size_t k = 0; k < i && c->chips[i][0]; k++)
            if (strcmp(c->chips[k], c->chips[i]) == 0)
                krt_report_error(r, NULL, "chips[%zu]: %s is chips[%zu] already", i, c->chips[k],
                                 k);
    for (size_t i = 0; i < c->n_daemons; i++) {
        const krt_daemon_config *d = &c->daemons[i];
        for (size_t k = 0; k < d->n_devices; k++) {
            if (k && d->devices[k] == d->devices[k - 1])
                krt_report_error(r, NULL, "daemon '%s': device %" PRIu32 " is named twice",
                                 name_of(d), d->devices[k]);
            else if (d->devices[k] >= c->n_chips)
                krt_report_error(r, NULL,
                                 "daemon '%s': there is no device %" PRIu32 ": chips has %zu",
                                 name_of(d), d->devices[k], c->n_chips);
        }
        check_addresses(d, d, r);
        for (size_t k = 0; k < i; k++)
            check_pair(&c->daemons[k], d, r);
    }
}

/* ---- on this machine ---- */

static void survey_address(const krt_daemon_config *d, const char *text, krt_report *r)
{
    krpc_address a;
    kaena_err err;
    if (krpc_address_parse(text, &a, &err) != KAENA_OK) {
        krt_report_error(r, NULL, "daemon '%s': listen on '%s': %s", d->name, text, err.what);
        return;
    }
    if (krpc_address_public(&a) && !d->tls.cert)
        krt_report_warning(r, "set tls, or listen on 127.0.0.1 or a unix socket",
                           "daemon '%s': '%s' is open to the network without TLS", d->name, text);
    char *slash = a.is_unix ? strrchr(a.path, '/') : NULL;
    if (!slash || slash == a.path)
        return;
    *slash = 0;
    struct stat st;
    if (stat(a.path, &st) != 0)
        krt_report_warning(r, "systemd's RuntimeDirectory= or tmpfiles make it at start",
                           "daemon '%s': '%s' cannot be made: directory '%s': %s", d->name, text,
                           a.path, strerror(errno));
    else if (!S_ISDIR(st.st_mode))
        krt_report_error(r, NULL, "daemon '%s': '%s' cannot be made: '%s' is not a directory",
                         d->name, text, a.path);
}

void krt_daemon_config_survey(const krt_daemon_config *d, krt_report *r)
{
    for (size_t i = 0; i < d->n_listen; i++)
        survey_address(d, d->listen[i], r);
    struct stat st;
    if (d->model_dir && stat(d->model_dir, &st) != 0)
        krt_report_warning(r, "krtd does not start without it",
                           "daemon '%s': model directory '%s': %s", d->name, d->model_dir,
                           strerror(errno));
    else if (d->model_dir && !S_ISDIR(st.st_mode))
        krt_report_error(r, NULL, "daemon '%s': model directory '%s' is not a directory", d->name,
                         d->model_dir);
    if (d->socket_group && !getgrnam(d->socket_group))
        krt_report_error(r, "make it with systemd-sysusers or groupadd",
                         "daemon '%s': there is no group '%s'", d->name, d->socket_group);
    kaena_err err;
    if (d->tls.cert && krpc_tls_check(&d->tls, &err) != KAENA_OK)
        krt_report_error(r, err.hint, "daemon '%s': tls: %s", d->name, err.what);
}
