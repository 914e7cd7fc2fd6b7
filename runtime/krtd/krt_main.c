/* The daemon as a program: command line, start, end. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fault.h"
#include "file.h"
#include "krt_drain.h"
#include "krt_host.h"
#include "krt_model.h"
#include "log.h"

#define EXIT_USAGE 2
#define N_LOADERS 2
#define N_STARTERS 1
#define N_CHECKERS 1
/* How long clients that go on sending are still told that the daemon is gone. */
#define FLUSH_MS 1000

extern const krpc_descriptors krt_descriptors; /* generated */

typedef struct arguments {
    krt_overrides overrides;
    const char *config_path;
    kaena_log_level log_level;
    bool check_config;
} arguments;

/* ---- command line ---- */

typedef enum option_id {
    OPT_CONFIG,
    OPT_NAME,
    OPT_LISTEN,
    OPT_DEVICES,
    OPT_THREADS,
    OPT_MODEL_DIR,
    OPT_LOG_LEVEL,
    OPT_QUEUE_DEPTH,
    OPT_DRAIN_TIMEOUT,
    OPT_CHECK_CONFIG,
    OPT_VERSION,
    OPT_HELP,
} option_id;

static const struct {
    const char *name, *argument;
    option_id id;
    const char *help;
} options[] = {
    {"--config", "F", OPT_CONFIG, "configuration of the host, default " KRT_CONFIG_PATH},
    {"--name", "NAME", OPT_NAME, "which daemon of the configuration to be, default the first"},
    {"--listen", "ADDRESS", OPT_LISTEN, "unix:PATH or HOST:PORT; may be repeated"},
    {"--devices", "LIST", OPT_DEVICES, "devices to serve: positions in chips or PCI addresses"},
    {"--threads", "N", OPT_THREADS, "worker threads; 0 = this daemon's share of the processors"},
    {"--model-dir", "D", OPT_MODEL_DIR, "where models may be loaded from by path"},
    {"--log-level", "L", OPT_LOG_LEVEL, "error, warning, info (default) or debug"},
    {"--queue-depth", "N", OPT_QUEUE_DEPTH, "requests that may wait for one model"},
    {"--drain-timeout", "S", OPT_DRAIN_TIMEOUT, "seconds that accepted work may take at the end"},
    {"--check-config", NULL, OPT_CHECK_CONFIG, "check the configuration and exit"},
    {"--version", NULL, OPT_VERSION, "print the version and exit"},
    {"--help", NULL, OPT_HELP, "print this and exit"},
};

static void print_help(void)
{
    printf("usage: krtd [options]\n"
           "Serves emulated Inferentia devices. Without options: one device, on "
           "unix:$RUNDIR/krtd0.sock.\n\n");
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        char left[40];
        (void)snprintf(left, sizeof left, "%s %s", options[i].name,
                       options[i].argument ? options[i].argument : "");
        printf("  %-20s  %s\n", left, options[i].help);
    }
    printf("\nenvironment:\n"
           "  KAENA_VISIBLE_DEVICES  devices this daemon may take, as for --devices\n"
           "  KAENA_RUNDIR           where sockets and locks go, instead of /run/kaena or "
           "$XDG_RUNTIME_DIR/kaena\n");
}

static bool parse_number(const char *text, uint64_t max, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || v > max)
        return false;
    *out = v;
    return true;
}

static kaena_status set_option(arguments *a, option_id id, const char *value, kaena_err *err)
{
    krt_overrides *o = &a->overrides;
    uint64_t n;
    switch (id) {
    case OPT_CONFIG:
        a->config_path = value;
        break;
    case OPT_NAME:
        o->name = value;
        break;
    case OPT_LISTEN:
        if (o->n_listen == KRT_MAX_LISTEN)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "--listen: at most %d addresses",
                              KRT_MAX_LISTEN);
        o->listen[o->n_listen++] = value;
        break;
    case OPT_DEVICES:
        o->devices = value;
        break;
    case OPT_THREADS:
        if (!parse_number(value, 4096, &n))
            return KAENA_FAIL(err, INVALID_ARGUMENT, "--threads '%s': must be 0 to 4096", value);
        o->has_threads = true;
        o->threads = (uint32_t)n;
        break;
    case OPT_MODEL_DIR:
        o->model_dir = value;
        break;
    case OPT_LOG_LEVEL:
        if (!kaena_log_parse_level(value, &a->log_level))
            return KAENA_FAIL(err, INVALID_ARGUMENT,
                              "--log-level '%s': must be error, warning, info or debug", value);
        break;
    case OPT_QUEUE_DEPTH:
        if (!parse_number(value, 65536, &o->queue_depth) || !o->queue_depth)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "--queue-depth '%s': must be 1 to 65536",
                              value);
        break;
    case OPT_DRAIN_TIMEOUT:
        if (!parse_number(value, 86400, &o->drain_seconds))
            return KAENA_FAIL(err, INVALID_ARGUMENT,
                              "--drain-timeout '%s': must be 0 to 86400 seconds", value);
        o->has_drain_seconds = true;
        break;
    case OPT_CHECK_CONFIG:
        a->check_config = true;
        break;
    case OPT_VERSION:
        printf("krtd %s\n", KAENA_VERSION);
        exit(0);
    case OPT_HELP:
        print_help();
        exit(0);
    }
    return KAENA_OK;
}

static kaena_status parse_arguments(int argc, char **argv, arguments *a, kaena_err *err)
{
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i], *equals = strchr(word, '=');
        size_t n = equals ? (size_t)(equals - word) : strlen(word), k = 0;
        while (k < sizeof options / sizeof *options &&
               (strncmp(options[k].name, word, n) != 0 || options[k].name[n]))
            k++;
        if (k == sizeof options / sizeof *options)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "unknown argument '%s'", word);
        const char *value = equals ? equals + 1 : NULL;
        if (!options[k].argument && value)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "%s takes no value", options[k].name);
        if (options[k].argument && !value) {
            if (i + 1 == argc)
                return KAENA_FAIL(err, INVALID_ARGUMENT, "%s needs a value: %s %s", word, word,
                                  options[k].argument);
            value = argv[++i];
        }
        KAENA_TRY(set_option(a, options[k].id, value, err));
    }
    return KAENA_OK;
}

/* ---- start ---- */

static void on_warning(void *user, const char *text)
{
    (void)user;
    kaena_log(KAENA_LOG_WARNING, "%s", text);
}

static kaena_status open_model_dir(krt_daemon *d, kaena_err *err)
{
    const char *dir = d->config->model_dir;
    if (!dir)
        return KAENA_OK;
    d->model_dir = realpath(dir, NULL);
    d->model_dir_fd = d->model_dir ? open(d->model_dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    if (d->model_dir_fd < 0)
        return kaena_err_set(err, kaena_status_of_errno(errno), "model directory '%s': %s", dir,
                             strerror(errno));
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
    for (size_t i = 0; i < d->config->n_listen; i++) {
        char bound[256];
        KAENA_TRY(krpc_server_listen(d->server, d->config->listen[i], d->config->socket_mode, bound,
                                     err));
        kaena_log(KAENA_LOG_INFO, "listening on %s", bound);
    }
    return KAENA_OK;
}

static kaena_status start_server(krt_daemon *d, kaena_err *err)
{
    const krt_limits *l = &d->config->limits;
    krpc_options o = {
        .max_message_bytes = (int)l->message_bytes,
        .max_connections = l->connections,
        .quota_bytes = l->rpc_bytes,
        .descriptors = &krt_descriptors,
        .on_warning = on_warning,
        .user = d,
    };
    KAENA_TRY(krpc_server_create(&o, &d->server, err));
    krpc_server_add_methods(d->server, krt_methods, krt_n_methods);
    KAENA_TRY(listen_all(d, err));
    krpc_health_set(d->server, "", true);
    krpc_health_set(d->server, "kaena.v1.Runtime", true);
    return krpc_server_start(d->server, err);
}

static kaena_status start_all(krt_daemon *d, uint32_t threads, kaena_err *err)
{
    KAENA_TRY(open_model_dir(d, err));
    KAENA_TRY(d->backend->create((uint32_t)d->config->n_devices, threads, &d->devices, err));
    KAENA_TRY(krt_jobs_create(N_LOADERS, &d->loaders, err));
    KAENA_TRY(krt_jobs_create(N_STARTERS, &d->starters, err));
    KAENA_TRY(krt_jobs_create(N_CHECKERS, &d->checkers, err));
    return start_server(d, err);
}

static void stop_all(krt_daemon *d)
{
    if (d->server)
        krpc_server_stop(d->server, FLUSH_MS);
    d->starters = krt_jobs_destroy(d->starters);
    d->loaders = krt_jobs_destroy(d->loaders);
    d->checkers = krt_jobs_destroy(d->checkers);
    krt_models_clear(d);
    if (d->devices)
        d->backend->destroy(d->devices);
    d->server = krpc_server_destroy(d->server);
    if (d->model_dir_fd >= 0)
        (void)close(d->model_dir_fd);
    free(d->model_dir);
}

static int run(krt_daemon *d, uint32_t threads)
{
    uv_loop_t loop;
    krt_drain drain;
    kaena_err err;
    if (uv_loop_init(&loop) != 0) {
        kaena_log(KAENA_LOG_ERROR, "no event loop: out of descriptors or memory");
        return 1;
    }
    kaena_status st = krt_drain_init(&drain, d, &loop, &err);
    if (st == KAENA_OK)
        st = start_all(d, threads, &err);
    if (st == KAENA_OK) {
        kaena_log(KAENA_LOG_INFO, "ready: %zu devices, %" PRIu32 " threads", d->config->n_devices,
                  threads);
        krt_notify("READY=1");
        (void)uv_run(&loop, UV_RUN_DEFAULT);
    } else {
        kaena_log(KAENA_LOG_ERROR, "%s%s%s", err.what, err.hint[0] ? "; " : "", err.hint);
    }
    if (st == KAENA_OK && drain.cut) /* its calls are in nobody's hands any more */
        _exit(1);
    stop_all(d);
    krt_drain_close(&drain);
    (void)uv_loop_close(&loop);
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

static void print_config(const krt_host_config *host, const krt_daemon_config *c)
{
    printf("%s: ok; listens on", c->name);
    for (size_t i = 0; i < c->n_listen; i++)
        printf(" %s", c->listen[i]);
    printf("; devices");
    for (size_t i = 0; i < c->n_devices; i++)
        printf(" %" PRIu32 " (%s)", c->devices[i], host->chips[c->devices[i]]);
    printf("\n");
}

static int serve(krt_host_config *host, const krt_daemon_config *config, const char *rundir,
                 const krt_backend *backend)
{
    kaena_err err;
    int locks[KRT_MAX_CHIPS];
    size_t n_locks = 0;
    for (; n_locks < config->n_devices; n_locks++)
        if (krt_device_lock(rundir, host->chips[config->devices[n_locks]], &locks[n_locks], &err) !=
            KAENA_OK)
            return fail_start(&err, 1);
    kaena_fault_install();
    (void)signal(SIGPIPE, SIG_IGN);
    krt_daemon d = {.config = config,
                    .chips = (const char(*)[KRT_PCI_TEXT])host->chips,
                    .backend = backend,
                    .model_dir_fd = -1};
    (void)pthread_mutex_init(&d.lock, NULL);
    int status = run(&d, config->threads ? config->threads : share_of_processors(host));
    (void)pthread_mutex_destroy(&d.lock);
    while (n_locks)
        (void)close(locks[--n_locks]);
    return status;
}

int krt_main(int argc, char **argv, const krt_backend *backend)
{
    arguments a = {.log_level = KAENA_LOG_INFO};
    kaena_err err;
    char rundir[PATH_MAX];
    if (parse_arguments(argc, argv, &a, &err) != KAENA_OK)
        return fail_start(&err, EXIT_USAGE);
    if (krt_rundir(rundir, sizeof rundir, &err) != KAENA_OK)
        return fail_start(&err, 1);
    a.overrides.visible_devices = getenv("KAENA_VISIBLE_DEVICES");
    krt_host_config *host = malloc(sizeof *host);
    if (!host)
        return 1;
    krt_host_config_init(host, rundir);
    krt_daemon_config config;
    kaena_status st = krt_host_config_read(host, a.config_path ? a.config_path : KRT_CONFIG_PATH,
                                           a.config_path != NULL, &err);
    if (st == KAENA_OK)
        st = krt_config_resolve(host, &a.overrides, rundir, &config, &err);
    int status = 0;
    if (st != KAENA_OK) {
        status = fail_start(&err, EXIT_USAGE);
    } else if (a.check_config) {
        print_config(host, &config);
    } else {
        kaena_log_init(config.name, a.log_level);
        status = serve(host, &config, rundir, backend);
    }
    krt_host_config_fini(host);
    free(host);
    return status;
}
