#include "krt_reload.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"
#include "krt_host.h"
#include "log.h"

/* ---- model directory ---- */

kaena_status krt_model_dir_open(krt_daemon *d, const char *path, kaena_err *err)
{
    if (!path) {
        d->model_dir = NULL;
        return KAENA_OK;
    }
    krt_model_dir *dir = calloc(1, sizeof *dir);
    if (!dir)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "model directory: out of memory");
    dir->path = realpath(path, NULL);
    dir->fd = dir->path ? open(dir->path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    if (dir->fd < 0) {
        kaena_status st = kaena_err_set(err, kaena_status_of_errno(errno),
                                        "model directory '%s': %s", path, strerror(errno));
        free(dir->path);
        free(dir);
        return st;
    }
    dir->older = d->model_dirs;
    d->model_dirs = dir;
    d->model_dir = dir;
    return KAENA_OK;
}

void krt_model_dirs_close(krt_daemon *d)
{
    while (d->model_dirs) {
        krt_model_dir *dir = d->model_dirs;
        d->model_dirs = dir->older;
        (void)close(dir->fd);
        free(dir->path);
        free(dir);
    }
}

/* ---- what stays ---- */

static bool same(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_listen(const krt_daemon_config *a, const krt_daemon_config *b)
{
    bool ok = a->n_listen == b->n_listen && a->socket_mode == b->socket_mode &&
              same(a->socket_group, b->socket_group) && !a->tls.cert == !b->tls.cert &&
              !a->tls.client_ca == !b->tls.client_ca;
    for (size_t i = 0; i < a->n_listen && ok; i++)
        ok = same(a->listen[i], b->listen[i]);
    return ok;
}

static void needs_restart(const char *what)
{
    kaena_log(KAENA_LOG_WARNING, "reload: %s changes with a restart only", what);
}

/* What sockets, locks and threads were made of stays, and is named when the file says otherwise. */
static void keep_fixed(const krt_settings *old, krt_settings *new)
{
    const krt_daemon_config *o = &old->daemon;
    krt_daemon_config *n = &new->daemon;
    if (!same_listen(o, n))
        needs_restart("where it listens (listen, socket_mode, socket_group, tls on or off)");
    bool same_devices = o->n_devices == n->n_devices;
    for (size_t i = 0; i < n->n_devices && same_devices; i++)
        same_devices = same(old->host.chips[o->devices[i]], new->host.chips[n->devices[i]]);
    if (!same_devices)
        needs_restart("devices");
    if (o->threads != n->threads)
        needs_restart("threads");
    memcpy(n->listen, o->listen, sizeof n->listen);
    n->n_listen = o->n_listen;
    n->socket_mode = o->socket_mode;
    n->socket_group = o->socket_group;
    memcpy(n->devices, o->devices, sizeof n->devices);
    n->n_devices = o->n_devices;
    n->threads = o->threads;
#define KRT_LIMIT(name, fallback, min, max, what)
#define KRT_LIMIT_FIXED(name, fallback, min, max, what)                                            \
    if (o->limits.name != n->limits.name)                                                          \
        needs_restart("limits." #name);                                                            \
    n->limits.name = o->limits.name;
#include "krt_limits.def"
#undef KRT_LIMIT
}

/* ---- what changes ---- */

static kaena_status open_metrics(krt_reload *r, const char *address, krt_metrics **out,
                                 kaena_err *err)
{
    char bound[256];
    *out = NULL;
    if (!address)
        return KAENA_OK;
    KAENA_TRY(krt_metrics_open(r->daemon, r->hangup.loop, address, bound, out, err));
    kaena_log(KAENA_LOG_INFO, "metrics on %s", bound);
    return KAENA_OK;
}

kaena_status krt_reload_metrics(krt_reload *r, const char *from, const char *to, kaena_err *err)
{
    krt_metrics *new;
    kaena_err again;
    kaena_status st = open_metrics(r, to, &new, err);
    /* Two addresses may be one port, as 127.0.0.1:9400 and 0.0.0.0:9400: the old one is let go
     * first, and taken again where that was of no use. */
    if (st == KAENA_ALREADY_EXISTS && r->metrics) {
        r->metrics = krt_metrics_close(r->metrics);
        st = open_metrics(r, to, &new, err);
        if (st != KAENA_OK && open_metrics(r, from, &r->metrics, &again) != KAENA_OK)
            kaena_log(KAENA_LOG_ERROR, "reload: %s: there are no metrics any more", again.what);
    }
    if (st != KAENA_OK)
        return st;
    (void)krt_metrics_close(r->metrics);
    r->metrics = new;
    return KAENA_OK;
}

/* All that can fail, and only then what is seen. */
static kaena_status apply(krt_reload *r, krt_settings *new, kaena_err *err)
{
    krt_daemon *d = r->daemon;
    const krt_settings *old = *r->settings;
    const krt_daemon_config *o = &old->daemon;
    krt_daemon_config *n = &new->daemon;
    krt_model_dir *now = d->model_dir;
    krt_log_set *log;
    bool moves = !same(o->metrics, n->metrics);
    keep_fixed(old, new);
    KAENA_TRY(krt_log_prepare(&n->log, &log, err));
    kaena_status st = KAENA_OK;
    if (!same(o->model_dir, n->model_dir))
        st = krt_model_dir_open(d, n->model_dir, err);
    if (!o->tls.cert || !n->tls.cert || !o->tls.client_ca != !n->tls.client_ca)
        n->tls = o->tls; /* needs a restart, which has been said */
    if (st == KAENA_OK && moves)
        st = krt_reload_metrics(r, o->metrics, n->metrics, err);
    if (st == KAENA_OK && n->tls.cert) {
        st = krpc_server_reload_tls(d->server, &n->tls, err);
        kaena_err again;
        if (st != KAENA_OK && moves &&
            krt_reload_metrics(r, n->metrics, o->metrics, &again) != KAENA_OK)
            kaena_log(KAENA_LOG_ERROR, "reload: %s", again.what);
    }
    if (st == KAENA_OK) {
        krt_log_use(log);
        return KAENA_OK;
    }
    krt_log_abandon(log);
    d->model_dir = now;
    return st;
}

/* Settings are kept until the end: those of a signal that only rotates files must not add up. */
static bool same_file(const krt_settings *a, const krt_settings *b)
{
    const krt_host_config *x = &a->host, *y = &b->host;
    return x->from_file == y->from_file && x->text_size == y->text_size && !x->text == !y->text &&
           (!x->text || memcmp(x->text, y->text, x->text_size) == 0);
}

static kaena_status reload_certificates(krt_daemon *d, kaena_err *err)
{
    const krt_daemon_config *c = d->config;
    return c->tls.cert ? krpc_server_reload_tls(d->server, &c->tls, err) : KAENA_OK;
}

static void on_hangup(uv_signal_t *handle, int signum)
{
    (void)signum;
    krt_reload *r = handle->data;
    krt_daemon *d = r->daemon;
    krt_log_reopen(); /* also while it ends: who rotates files wants them closed */
    if (atomic_load(&d->draining) || !d->server)
        return;
    krt_notify("RELOADING=1\nMONOTONIC_USEC=%" PRIu64, krt_now_ns() / 1000);
    krt_settings *new = NULL;
    kaena_err err;
    kaena_status st = krt_settings_read(r->arguments, r->rundir, &new, &err);
    bool changed = st == KAENA_OK && !same_file(*r->settings, new);
    if (st == KAENA_OK)
        st = changed ? apply(r, new, &err) : reload_certificates(d, &err);
    if (st == KAENA_OK && changed) {
        new->older = *r->settings;
        *r->settings = new;
        d->config = &new->daemon;
    } else {
        (void)krt_settings_destroy(new);
    }
    if (st == KAENA_OK) {
        kaena_log(KAENA_LOG_INFO, "reload: done%s", changed ? "" : ", the file has not changed");
        krt_notify("READY=1\nSTATUS=serving %zu devices", d->config->n_devices);
        return;
    }
    kaena_log(KAENA_LOG_ERROR, "reload: %s%s%s; the settings stay as they were", err.what,
              err.hint[0] ? "; " : "", err.hint);
    krt_notify("READY=1\nSTATUS=serving %zu devices; the last reload failed: %s",
               d->config->n_devices, err.what);
}

kaena_status krt_reload_init(krt_reload *r, krt_daemon *d, krt_settings **settings,
                             const krt_arguments *arguments, const char *rundir, uv_loop_t *loop,
                             kaena_err *err)
{
    *r = (krt_reload){.daemon = d, .settings = settings, .arguments = arguments, .rundir = rundir};
    int rc = uv_signal_init(loop, &r->hangup);
    r->hangup.data = r;
    if (rc == 0)
        rc = uv_signal_start(&r->hangup, on_hangup, SIGHUP);
    if (rc != 0)
        return KAENA_FAIL(err, INTERNAL, "signals: %s", uv_strerror(rc));
    return KAENA_OK;
}
