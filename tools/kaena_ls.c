/* kaena-ls: the devices of this host, and the daemons that own them. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kaena/client.h"
#include "krt_config.h"
#include "krt_host.h"

/* A daemon that hangs does not keep the list. */
#define ANSWER_MS 2000

static const char usage[] =
    "usage: kaena-ls [--config F] [--json]\n"
    "\n"
    "Lists the devices of this host, from its configuration, and the daemon that owns each, from\n"
    "the locks in the run directory; asks that daemon what it holds.\n"
    "\n"
    "  --config F     instead of KAENA_CONFIG or " KRT_CONFIG_PATH "; without a file: one device\n"
    "  --json         one JSON document\n"
    "  -h, --help     prints this\n"
    "  -V, --version  prints the version\n"
    "\n"
    "KAENA_RUNDIR is where the locks are, instead of /run/kaena or $XDG_RUNTIME_DIR/kaena.\n";

/* What is known of one device. */
typedef struct row {
    const char *pci;
    const krt_daemon_config *configured; /* the daemon the file gives it to; may be NULL */
    krt_holder holder;                   /* who has it locked */
    bool owned;
    bool by_configured;      /* the holder is that daemon */
    const char *address;     /* where it was asked; NULL: nobody could be */
    kaena_device_list *list; /* its devices; NULL: it did not answer */
    const kaena_device *device;
} row;

typedef struct listing {
    krt_host_config *host;
    char rundir[PATH_MAX];
    row rows[KRT_MAX_CHIPS];
} listing;

static int fail(const kaena_err *err)
{
    fprintf(stderr, "kaena-ls: %s\n", err->what);
    if (err->hint[0])
        fprintf(stderr, "  %s\n", err->hint);
    return 1;
}

static const krt_daemon_config *configured_for(const krt_host_config *h, uint32_t device)
{
    for (size_t i = 0; i < h->n_daemons; i++)
        for (size_t k = 0; k < h->daemons[i].n_devices; k++)
            if (h->daemons[i].devices[k] == device)
                return &h->daemons[i];
    return NULL;
}

static const krt_daemon_config *by_name(const krt_host_config *h, const char *name)
{
    for (size_t i = 0; i < h->n_daemons; i++)
        if (strcmp(h->daemons[i].name, name) == 0)
            return &h->daemons[i];
    return NULL;
}

/* The addresses that may be the daemon's, best first: its socket in the run directory is what a
 * daemon without a file has. */
static void ask(listing *l, row *r)
{
    char standard[PATH_MAX + 80];
    const krt_daemon_config *d = by_name(l->host, r->holder.name);
    const char *addresses[KRT_MAX_LISTEN + 1];
    size_t n = 0;
    for (size_t i = 0; d && i < d->n_listen; i++)
        addresses[n++] = d->listen[i];
    (void)snprintf(standard, sizeof standard, "unix:%s/%s.sock", l->rundir, r->holder.name);
    addresses[n++] = standard;
    for (size_t i = 0; i < n && !r->device; i++) {
        kaena_client_options o = {
            .size = sizeof o, .fail_fast = 1, .address = addresses[i], .timeout_ms = ANSWER_MS};
        kaena_client *client;
        kaena_device_list *list = NULL;
        if (kaena_client_open(&o, &client, NULL) != KAENA_OK)
            continue;
        if (kaena_device_list_get(client, &list, NULL) == KAENA_OK) {
            for (size_t k = 0; k < list->count && !r->device; k++)
                if (strcmp(list->devices[k]->pci, r->pci) == 0)
                    r->device = list->devices[k];
            if (r->device) {
                r->list = list;
                r->address = r->device->address;
            } else {
                kaena_device_list_free(list);
            }
        }
        kaena_client_close(client);
    }
}

static void look(listing *l, uint32_t device)
{
    row *r = &l->rows[device];
    r->pci = l->host->chips[device];
    r->configured = configured_for(l->host, device);
    r->owned = krt_device_holder(l->rundir, r->pci, &r->holder);
    if (r->owned)
        ask(l, r);
}

/* ---- output ---- */

static const char *bytes_text(uint64_t bytes, char *buf, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    size_t u = 0;
    while (v >= 1024 && u + 1 < sizeof units / sizeof *units) {
        v /= 1024;
        u++;
    }
    (void)snprintf(buf, size, u ? "%.1f %s" : "%.0f %s", v, units[u]);
    return buf;
}

static void print_row(const row *r, uint32_t index)
{
    char memory[64] = "-", used[24], all[24], pid[24] = "-", tpbs[16] = "-";
    const kaena_device *d = r->device;
    if (d) {
        (void)snprintf(memory, sizeof memory, "%s of %s",
                       bytes_text(d->dram_used_bytes, used, sizeof used),
                       bytes_text(d->dram_bytes, all, sizeof all));
        (void)snprintf(tpbs, sizeof tpbs, "%" PRIu32, d->tpbs);
    }
    if (r->owned && r->holder.pid > 0)
        (void)snprintf(pid, sizeof pid, "%ld", r->holder.pid);
    printf("%6" PRIu32 "  %-13s %4s  %-22s %-12s %8s  %-9s ", index, r->pci, tpbs, memory,
           !r->owned         ? "-"
           : *r->holder.name ? r->holder.name
                             : "?",
           pid, d ? d->version : "-");
    if (!r->owned) {
        if (r->configured)
            printf("no daemon runs (%s would serve it)\n", r->configured->name);
        else
            printf("no daemon runs, and none is configured for it\n");
        return;
    }
    if (!d) {
        printf("its daemon does not answer\n");
        return;
    }
    printf("%s  ", r->address);
    for (size_t i = 0; i < d->model_count; i++)
        printf("%s%s", i ? ", " : "", d->models[i]);
    printf("%s\n", d->model_count ? "" : "-");
}

static void print_table(const listing *l)
{
    printf("%6s  %-13s %4s  %-22s %-12s %8s  %-9s %s\n", "DEVICE", "PCI", "TPBS", "MEMORY",
           "DAEMON", "PID", "VERSION", "ADDRESS  MODELS");
    for (uint32_t i = 0; i < l->host->n_chips; i++)
        print_row(&l->rows[i], i);
}

static json_t *text_or_null(const char *text)
{
    return text && *text ? json_string(text) : json_null();
}

static json_t *row_json(const row *r, uint32_t index)
{
    const kaena_device *d = r->device;
    json_t *models = json_array();
    for (size_t i = 0; d && i < d->model_count; i++)
        json_array_append_new(models, json_string(d->models[i]));
    return json_pack(
        "{s:i, s:s, s:o, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "device", (int)index,
        "pci", r->pci, "configured", text_or_null(r->configured ? r->configured->name : NULL),
        "owned", (int)r->owned, "answers", (int)(d != NULL), "daemon",
        text_or_null(r->owned ? r->holder.name : NULL), "pid",
        r->owned && r->holder.pid > 0 ? json_integer(r->holder.pid) : json_null(), "version",
        text_or_null(d ? d->version : NULL), "address", text_or_null(r->address), "tpbs",
        d ? json_integer(d->tpbs) : json_null(), "dram_bytes",
        d ? json_integer((json_int_t)d->dram_bytes) : json_null(), "dram_used_bytes",
        d ? json_integer((json_int_t)d->dram_used_bytes) : json_null(), "models", models);
}

static int print_json(const listing *l)
{
    json_t *devices = json_array();
    for (uint32_t i = 0; i < l->host->n_chips; i++)
        json_array_append_new(devices, row_json(&l->rows[i], i));
    json_t *root = json_pack("{s:o}", "devices", devices);
    int bad = !root || json_dumpf(root, stdout, JSON_INDENT(2)) != 0;
    json_decref(root);
    printf("\n");
    return bad;
}

static int list(const char *config, bool json)
{
    static listing l;
    static krt_host_config host;
    kaena_err err;
    int status = 0;
    krt_rundir_find(l.rundir, sizeof l.rundir);
    krt_host_config_init(&host, l.rundir);
    l.host = &host;
    const char *given = config ? config : getenv("KAENA_CONFIG");
    bool named = given && *given;
    if (krt_host_config_read(&host, named ? given : KRT_CONFIG_PATH, named, NULL, &err) !=
        KAENA_OK) {
        status = fail(&err);
    } else {
        for (uint32_t i = 0; i < host.n_chips; i++)
            look(&l, i);
        if (json)
            status = print_json(&l);
        else
            print_table(&l);
    }
    for (size_t i = 0; i < KRT_MAX_CHIPS; i++)
        kaena_device_list_free(l.rows[i].list);
    krt_host_config_fini(&host);
    if (fflush(stdout) != 0) {
        fprintf(stderr, "kaena-ls: cannot write the output\n");
        status = 1;
    }
    return status;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'V'},
                                            {0}};
    const char *config = NULL;
    bool json = false;
    for (int c; (c = getopt_long(argc, argv, "hV", options, NULL)) != -1;) {
        switch (c) {
        case 'c':
            config = optarg;
            break;
        case 'j':
            json = true;
            break;
        case 'h':
            (void)fputs(usage, stdout);
            return 0;
        case 'V':
            printf("kaena-ls %s\n", KAENA_VERSION);
            return 0;
        default:
            (void)fputs(usage, stderr);
            return 2;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "kaena-ls: takes no arguments, got '%s'\n%s", argv[optind], usage);
        return 2;
    }
    return list(config, json);
}
