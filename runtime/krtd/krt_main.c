/* The daemon as a program: command line, start, end. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fault.h"
#include "krt_clients.h"
#include "krt_drain.h"
#include "krt_group.h"
#include "krt_host.h"
#include "krt_model.h"
#include "krt_reload.h"
#include "krt_sandbox.h"
#include "krt_watchdog.h"
#include "log.h"
#include "rpc_core_log.h"

#define EXIT_USAGE 2
#define N_LOADERS 2
/* A load takes what processor time requests leave, but gets on where they leave none: about a tenth
 * of a processor's time. A check takes 1.5 %. */
#define LOADERS_NICE 10
#define CHECKERS_NICE 19
#define N_STARTERS 1
#define N_CHECKERS 1
/* How long clients that go on sending are still told that the daemon is gone. */
#define FLUSH_MS 1000
/* And how long log lines that wait may take. */
#define LOG_FLUSH_MS 3000

extern const krpc_descriptors krt_descriptors; /* generated */

/* ---- start ---- */

static void on_warning(void *user, const char *text)
{
    (void)user;
    kaena_log(KAENA_LOG_WARNING, "%s", text);
}

static kaena_status socket_access(const krt_daemon_config *c, krpc_access *out, kaena_err *err)
{
    krpc_access a = {.mode = c->socket_mode, .group = (gid_t)-1};
    if (c->socket_group) {
        const struct group *g = getgrnam(c->socket_group);
        if (!g)
            return KAENA_FAIL(err, NOT_FOUND, "socket group: there is no group '%s'",
                              c->socket_group);
        a.group = g->gr_gid;
    }
    *out = a;
    return KAENA_OK;
}

/* Sockets of the service manager take the place of those in the configuration. */
static kaena_status listen_all(krt_daemon *d, kaena_err *err)
{
    size_t activated;
    KAENA_TRY(krpc_server_adopt_activated(d->server, &activated, err));
    if (activated) {
        kaena_log(KAENA_LOG_INFO, "listening on %zu sockets of the service manager", activated);
        return KAENA_OK;
    }
    const krt_daemon_config *c = d->config;
    krpc_access access;
    KAENA_TRY(socket_access(c, &access, err));
    for (size_t i = 0; i < c->n_listen; i++) {
        char bound[256];
        KAENA_TRY(krpc_server_listen(d->server, c->listen[i], access, bound, err));
        bool tls = c->tls.cert && strncmp(bound, "unix:", 5) != 0;
        kaena_log(KAENA_LOG_INFO, "listening on %s%s", bound, tls ? " with TLS" : "");
    }
    return KAENA_OK;
}

static kaena_status start_server(krt_daemon *d, kaena_err *err)
{
    const krt_limits *l = &d->config->limits;
    krpc_options o = {
        .max_message_bytes = (int)l->message_bytes,
        .max_connections = l->connections,
        .max_streams = (int)l->streams,
        .quota_bytes = l->rpc_bytes,
        .beat_ms = krt_watchdog_beat_ms(),
        .tls = d->config->tls.cert ? &d->config->tls : NULL,
        .descriptors = &krt_descriptors,
        .on_warning = on_warning,
        .user = d,
    };
    krpc_core_log_to(on_warning, d);
    KAENA_TRY(krpc_server_create(&o, &d->server, err));
    krpc_server_add_methods(d->server, krt_methods, krt_n_methods);
    KAENA_TRY(listen_all(d, err));
    if (!krpc_health_set(d->server, "", true) ||
        !krpc_health_set(d->server, "kaena.v1.Runtime", true))
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "health: out of memory");
    return krpc_server_start(d->server, err);
}

static kaena_status start_all(krt_daemon *d, uint32_t threads, kaena_err *err)
{
    KAENA_TRY(krt_model_dir_open(d, d->config->model_dir, err));
    KAENA_TRY(d->backend->create((uint32_t)d->config->n_devices, threads, &d->devices, err));
    const char *sizes = getenv("KAENA_TPB_GROUP_SIZES");
    if (sizes && *sizes)
        KAENA_TRY(krt_groups_from_sizes(d, sizes, err));
    KAENA_TRY(krt_jobs_create(N_LOADERS, LOADERS_NICE, &d->loaders, err));
    KAENA_TRY(krt_jobs_create(N_STARTERS, 0, &d->starters, err));
    KAENA_TRY(krt_jobs_create(N_CHECKERS, CHECKERS_NICE, &d->checkers, err));
    KAENA_TRY(krt_clients_create(d, err));
    return start_server(d, err);
}

static void stop_all(krt_daemon *d)
{
    if (d->server) {
        krt_clients_end(d);
        krpc_server_stop(d->server, FLUSH_MS);
    }
    d->starters = krt_jobs_destroy(d->starters);
    d->loaders = krt_jobs_destroy(d->loaders);
    d->checkers = krt_jobs_destroy(d->checkers);
    krt_models_clear(d);
    krt_groups_clear(d);
    krt_clients_destroy(d);
    if (d->devices)
        d->backend->destroy(d->devices);
    d->server = krpc_server_destroy(d->server);
    krt_model_dirs_close(d);
}

/* What the event loop does beside waiting. */
typedef struct housekeeping {
    krt_drain drain;
    krt_reload reload;
    krt_watchdog watchdog;
} housekeeping;

static kaena_status watch(housekeeping *h, krt_daemon *d, krt_settings **s, const krt_arguments *a,
                          const char *rundir, uv_loop_t *loop, kaena_err *err)
{
    KAENA_TRY(krt_drain_init(&h->drain, d, loop, err));
    KAENA_TRY(krt_reload_init(&h->reload, d, s, a, rundir, loop, err));
    return krt_watchdog_init(&h->watchdog, d, loop, err);
}

/* Ends without what still runs: no thread of the daemon is waited for. */
static void cut_off(void)
{
    krt_log_flush(LOG_FLUSH_MS);
    _exit(1);
}

static int run(krt_daemon *d, krt_settings **s, const krt_arguments *a, const char *rundir,
               uint32_t threads)
{
    uv_loop_t loop;
    housekeeping h = {0};
    kaena_err err;
    if (uv_loop_init(&loop) != 0) {
        kaena_log(KAENA_LOG_ERROR, "no event loop: out of descriptors or memory");
        return 1;
    }
    kaena_status st = watch(&h, d, s, a, rundir, &loop, &err);
    if (st == KAENA_OK)
        st = start_all(d, threads, &err);
    if (st == KAENA_OK)
        st = krt_reload_metrics(&h.reload, NULL, d->config->metrics, &err);
    /* Where the kernel has no filters, or a container allows none, there is still its own sandbox.
     */
    kaena_err sandbox;
    if (st == KAENA_OK && !a->no_sandbox && krt_sandbox_enter(&sandbox) != KAENA_OK)
        kaena_log(KAENA_LOG_WARNING, "%s: the daemon runs without it", sandbox.what);
    if (st == KAENA_OK) {
        krt_restarts_serving(rundir, d->config->name, d->restarts);
        kaena_log(KAENA_LOG_INFO, "ready: %zu devices, %" PRIu32 " threads", d->config->n_devices,
                  threads);
        krt_notify("READY=1\nSTATUS=serving %zu devices", d->config->n_devices);
        krt_watchdog_start(&h.watchdog);
        (void)uv_run(&loop, UV_RUN_DEFAULT);
    } else {
        kaena_log(KAENA_LOG_ERROR, "%s%s%s", err.what, err.hint[0] ? "; " : "", err.hint);
        krt_notify("STATUS=%s", err.what);
    }
    if (st == KAENA_OK && h.drain.cut) /* its calls are in nobody's hands any more */
        cut_off();
    h.reload.metrics = krt_metrics_close(h.reload.metrics); /* before what they look at */
    stop_all(d);
    krt_loop_close(&loop);
    if (st == KAENA_OK)
        kaena_log(KAENA_LOG_INFO, "stopped");
    return st == KAENA_OK ? 0 : 1;
}

static uint32_t share_of_processors(const krt_host_config *host)
{
    uint32_t n = krt_cpus("") / (uint32_t)host->n_daemons;
    return n ? n : 1;
}

static int fail_start(const kaena_err *err, int status)
{
    fprintf(stderr, "krtd: %s%s%s\n", err->what, err->hint[0] ? "; " : "", err->hint);
    if (status == EXIT_USAGE && err->code == KAENA_INVALID_ARGUMENT && !err->hint[0])
        fprintf(stderr, "krtd: see krtd --help\n");
    return status;
}

static int serve(krt_settings **settings, const krt_arguments *a, const char *rundir,
                 const krt_backend *backend)
{
    kaena_err err;
    const krt_settings *s = *settings;
    const krt_daemon_config *config = &s->daemon;
    int locks[KRT_MAX_CHIPS];
    size_t n_locks = 0;
    for (; n_locks < config->n_devices; n_locks++)
        if (krt_device_lock(rundir, s->host.chips[config->devices[n_locks]], config->name,
                            &locks[n_locks], &err) != KAENA_OK)
            return fail_start(&err, 1);
    if (!a->no_sandbox && krt_sandbox_capabilities(config, &err) != KAENA_OK)
        return fail_start(&err, 1);
    krt_raise_descriptors();
    kaena_fault_install();
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a file that may not grow fails its write with EFBIG */
    krt_daemon d = {.started_ns = krt_now_ns(),
                    .restarts = krt_restarts_read(rundir, config->name),
                    .config = config,
                    .chips = (const char(*)[KRT_PCI_TEXT])s->host.chips,
                    .backend = backend};
    (void)pthread_mutex_init(&d.lock, NULL);
    (void)pthread_mutex_init(&d.sched_lock, NULL);
    d.watch_ns = UINT64_MAX;
    int status = run(&d, settings, a, rundir,
                     config->threads ? config->threads : share_of_processors(&s->host));
    (void)pthread_mutex_destroy(&d.sched_lock);
    (void)pthread_mutex_destroy(&d.lock);
    if (status == 0)
        krt_restarts_end(rundir, config->name);
    while (n_locks)
        (void)close(locks[--n_locks]);
    return status;
}

int krt_main(int argc, char **argv, const krt_backend *backend)
{
    krt_arguments a = {0};
    kaena_err err;
    char rundir[PATH_MAX];
    if (krt_arguments_parse(argc, argv, &a, &err) != KAENA_OK)
        return fail_start(&err, EXIT_USAGE);
    a.overrides.visible_devices = getenv("KAENA_VISIBLE_DEVICES");
    kaena_status st = krt_rundir(rundir, sizeof rundir, &err);
    if (a.check_config) /* by anybody, also where he could not start a daemon */
        return krt_check_config(&a, st == KAENA_OK ? rundir : KRT_RUNDIR) ? 0 : EXIT_USAGE;
    if (st != KAENA_OK)
        return fail_start(&err, 1);
    krt_settings *settings;
    if (krt_settings_read(&a, rundir, &settings, &err) != KAENA_OK)
        return fail_start(&err, EXIT_USAGE);
    int status = 1;
    if (krt_log_open(&settings->daemon.log, settings->daemon.name, &err) == KAENA_OK)
        status = serve(&settings, &a, rundir, backend);
    else
        (void)fail_start(&err, 1);
    krt_log_close(LOG_FLUSH_MS);
    (void)krt_settings_destroy(settings);
    return status;
}
