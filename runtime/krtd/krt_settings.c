/* The command line of krtd. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "krt_settings.h"

typedef enum option_id {
    OPT_CONFIG,
    OPT_NAME,
    OPT_LISTEN,
    OPT_DEVICES,
    OPT_THREADS,
    OPT_MODEL_DIR,
    OPT_SOCKET_MODE,
    OPT_SOCKET_GROUP,
    OPT_TLS_CERT,
    OPT_TLS_KEY,
    OPT_TLS_CLIENT_CA,
    OPT_METRICS,
    OPT_LOG_LEVEL,
    OPT_LOG_FORMAT,
    OPT_QUEUE_DEPTH,
    OPT_DRAIN_TIMEOUT,
    OPT_NO_SANDBOX,
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
    {"--socket-mode", "MODE", OPT_SOCKET_MODE, "of unix sockets, octal, default 0660"},
    {"--socket-group", "GROUP", OPT_SOCKET_GROUP, "of unix sockets, default the daemon's own"},
    {"--tls-cert", "F", OPT_TLS_CERT,
     "certificate (PEM, with its chain): all TCP addresses speak TLS"},
    {"--tls-key", "F", OPT_TLS_KEY, "its private key (PEM, no passphrase)"},
    {"--tls-client-ca", "F", OPT_TLS_CLIENT_CA, "clients must show a certificate of these (PEM)"},
    {"--metrics", "ADDRESS", OPT_METRICS,
     "HOST:PORT or unix:PATH: metrics for Prometheus over HTTP, default none"},
    {"--log-level", "L", OPT_LOG_LEVEL, "error, warning, info (default) or debug"},
    {"--log-format", "F", OPT_LOG_FORMAT,
     "text (default) or json, of standard error; the configuration has other sinks"},
    {"--queue-depth", "N", OPT_QUEUE_DEPTH, "requests that may wait for one model"},
    {"--drain-timeout", "S", OPT_DRAIN_TIMEOUT, "seconds that accepted work may take at the end"},
    {"--no-sandbox", NULL, OPT_NO_SANDBOX, "keep capabilities and system calls, for debugging"},
    {"--check-config", NULL, OPT_CHECK_CONFIG,
     "tell all that is wrong with the configuration; exit 0 or 2"},
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
        printf("  %-23s  %s\n", left, options[i].help);
    }
    printf(
        "\nsignals: SIGTERM, SIGINT end it when accepted work is answered (twice: at once); SIGHUP "
        "reads the\nconfiguration again: limits, log, model directory, certificates.\n");
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

static kaena_status set_option(krt_arguments *a, option_id id, const char *value, kaena_err *err)
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
        if (!parse_number(value, KRT_MAX_THREADS, &n))
            return KAENA_FAIL(err, INVALID_ARGUMENT, "--threads '%s': must be 0 to %d", value,
                              KRT_MAX_THREADS);
        o->has_threads = true;
        o->threads = (uint32_t)n;
        break;
    case OPT_MODEL_DIR:
        o->model_dir = value;
        break;
    case OPT_SOCKET_MODE:
        if (!krt_parse_mode(value, &o->socket_mode))
            return KAENA_FAIL(err, INVALID_ARGUMENT,
                              "--socket-mode '%s': must be octal, such as 0660", value);
        o->has_socket_mode = true;
        break;
    case OPT_SOCKET_GROUP:
        o->socket_group = value;
        break;
    case OPT_TLS_CERT:
        o->tls.cert = value;
        break;
    case OPT_TLS_KEY:
        o->tls.key = value;
        break;
    case OPT_TLS_CLIENT_CA:
        o->tls.client_ca = value;
        break;
    case OPT_LOG_LEVEL:
        if (!kaena_log_parse_level(value, &o->log_level))
            return KAENA_FAIL(err, INVALID_ARGUMENT,
                              "--log-level '%s': must be error, warning, info or debug", value);
        o->has_log_level = true;
        break;
    case OPT_LOG_FORMAT:
        o->log_json = strcmp(value, "json") == 0;
        if (!o->log_json && strcmp(value, "text") != 0)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "--log-format '%s': must be text or json",
                              value);
        break;
    case OPT_METRICS:
        o->metrics = value;
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
    case OPT_NO_SANDBOX:
        a->no_sandbox = true;
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

kaena_status krt_arguments_parse(int argc, char **argv, krt_arguments *a, kaena_err *err)
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

/* ---- settings ---- */

kaena_status krt_settings_read(const krt_arguments *a, const char *rundir, krt_settings **out,
                               kaena_err *err)
{
    krt_settings *s = calloc(1, sizeof *s);
    if (!s)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "configuration: out of memory");
    krt_host_config_init(&s->host, rundir);
    kaena_status st =
        krt_host_config_read(&s->host, a->config_path ? a->config_path : KRT_CONFIG_PATH,
                             a->config_path != NULL, NULL, err);
    if (st == KAENA_OK)
        st = krt_config_resolve(&s->host, &a->overrides, rundir, &s->daemon, err);
    if (st == KAENA_OK)
        *out = s;
    else
        (void)krt_settings_destroy(s);
    return st;
}

krt_settings *krt_settings_destroy(krt_settings *s)
{
    while (s) {
        krt_settings *older = s->older;
        krt_host_config_fini(&s->host);
        free(s);
        s = older;
    }
    return NULL;
}

/* ---- --check-config ---- */

typedef struct checking {
    const char *path; /* NULL = there is no file */
} checking;

static void tell(void *user, bool warning, const char *what, const char *hint)
{
    const checking *c = user;
    fprintf(stderr, "krtd: %s%s%s%s%s%s\n", warning ? "warning: " : "", c->path ? c->path : "",
            c->path ? ": " : "", what, *hint ? "; " : "", hint);
}

static void print_config(const krt_host_config *host, const krt_daemon_config *c)
{
    printf("%s: ok; listens on", c->name);
    for (size_t i = 0; i < c->n_listen; i++)
        printf(" %s%s", c->listen[i],
               c->tls.cert && strncmp(c->listen[i], "unix:", 5) != 0 ? " (TLS)" : "");
    printf("; devices");
    for (size_t i = 0; i < c->n_devices; i++)
        printf(" %" PRIu32 " (%s)", c->devices[i], host->chips[c->devices[i]]);
    printf("\n");
}

bool krt_check_config(const krt_arguments *a, const char *rundir)
{
    checking c = {.path = a->config_path ? a->config_path : KRT_CONFIG_PATH};
    krt_report report = {.tell = tell, .user = &c};
    krt_host_config *host = calloc(1, sizeof *host);
    if (!host)
        return false;
    krt_host_config_init(host, rundir);
    kaena_err err;
    kaena_status st = krt_host_config_read(host, c.path, a->config_path != NULL, &report, &err);
    if (st != KAENA_OK && !report.errors) {
        c.path = NULL; /* the message names it */
        tell(&c, false, err.what, err.hint);
    }
    if (!host->from_file)
        c.path = NULL;
    bool ok = st == KAENA_OK;
    /* Options are of one daemon: the one named, or the first, which a start would be. */
    size_t n = a->overrides.name ? 1 : host->n_daemons;
    for (size_t i = 0; i < n && st == KAENA_OK; i++) {
        krt_overrides plain = {.name = host->daemons[i].name};
        krt_daemon_config d;
        if (krt_config_resolve(host, i == 0 ? &a->overrides : &plain, rundir, &d, &err) !=
            KAENA_OK) {
            tell(&(checking){0}, false, err.what, err.hint);
            ok = false;
            continue;
        }
        size_t before = report.errors;
        krt_daemon_config_survey(&d, &report);
        if (report.errors == before)
            print_config(host, &d);
        else
            ok = false;
    }
    krt_host_config_fini(host);
    free(host);
    return ok;
}
