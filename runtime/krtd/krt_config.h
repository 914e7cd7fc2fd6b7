/* The daemon's configuration: the host's file, the environment, the command line; pure but for
 * krt_host_config_read. */
#ifndef KRT_CONFIG_H
#define KRT_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "arena.h"
#include "err.h"
#include "krt_log_sinks.h"
#include "krt_report.h"
#include "rpc_tls.h"

#define KRT_CONFIG_PATH "/etc/kaena/krtd.json"
#define KRT_MAX_CHIPS 16
#define KRT_MAX_DAEMONS 64
#define KRT_MAX_LISTEN 8
#define KRT_PCI_TEXT 16 /* "0000:00:1f.0" and its terminator */
#define KRT_NAME_MAX 64 /* of a daemon, without the terminator */
#define KRT_MAX_THREADS 4096

/* What a client can make the daemon hold. krt_limits.def has names, defaults and bounds. */
typedef struct krt_limits {
#define KRT_LIMIT(name, fallback, min, max, what) uint64_t name;
#include "krt_limits.def"
#undef KRT_LIMIT
} krt_limits;

typedef struct krt_daemon_config {
    const char *name;
    const char *listen[KRT_MAX_LISTEN];
    size_t n_listen;
    uint32_t devices[KRT_MAX_CHIPS]; /* positions in chips, ascending */
    size_t n_devices;
    uint32_t threads;         /* 0 = the processors of this daemon's share */
    const char *model_dir;    /* NULL = no loads by path */
    mode_t socket_mode;       /* of unix sockets */
    const char *socket_group; /* NULL = the daemon's own */
    krpc_tls_files tls;       /* of every TCP address; cert NULL = plain TCP */
    const char *metrics;      /* where Prometheus gets its metrics, NULL = nowhere */
    krt_log_config log;
    krt_limits limits;
} krt_daemon_config;

/* The file. Strings live in |arena|. */
typedef struct krt_host_config {
    kaena_arena arena;
    char chips[KRT_MAX_CHIPS][KRT_PCI_TEXT];
    size_t n_chips;
    krt_daemon_config daemons[KRT_MAX_DAEMONS];
    size_t n_daemons;
    krt_log_config log; /* of daemons that have none of their own */
    bool from_file;
    const char *text; /* of the file */
    size_t text_size;
} krt_host_config;

/* One chip, one daemon krtd0 on unix:|rundir|/krtd0.sock: what an absent file means. */
void krt_host_config_init(krt_host_config *c, const char *rundir);
void krt_host_config_fini(krt_host_config *c);

/* Replaces |c| (initialised) by what |text| says. Every problem is told to |report| (may be NULL):
 * unknown keys, wrong types, values out of range, devices that are not there, daemons that share a
 * name, a device or an address. INVALID_ARGUMENT: the first of them; |c| is unusable then but for
 * fini. */
kaena_status krt_host_config_parse(krt_host_config *c, const char *text, size_t size,
                                   krt_report *report, kaena_err *err) KAENA_CHECKED;

/* The same of a file; one that does not exist leaves |c| as it is unless |required|. */
kaena_status krt_host_config_read(krt_host_config *c, const char *path, bool required,
                                  krt_report *report, kaena_err *err) KAENA_CHECKED;

/* Tells |report| what does not fit together: devices, names and addresses. Part of parse. */
void krt_host_config_check(const krt_host_config *c, krt_report *report);

/* Tells |report| about what the settings of one daemon name on this machine and a start would fail
 * on, or its clients: directories, groups, TLS files. */
void krt_daemon_config_survey(const krt_daemon_config *d, krt_report *report);

/* What the command line and the environment change; NULL and 0 are "not given". */
typedef struct krt_overrides {
    const char *name;
    const char *listen[KRT_MAX_LISTEN];
    size_t n_listen;
    const char *devices;         /* "0,1", or PCI addresses */
    const char *visible_devices; /* KAENA_VISIBLE_DEVICES */
    const char *model_dir;
    bool has_socket_mode;
    mode_t socket_mode;
    const char *socket_group;
    krpc_tls_files tls; /* members that are NULL are not given */
    const char *metrics;
    bool has_log_level;
    kaena_log_level log_level;
    bool log_json;
    bool has_threads;
    uint32_t threads;
    uint64_t queue_depth;
    bool has_drain_seconds;
    uint64_t drain_seconds;
} krt_overrides;

/* The settings of one daemon: |out| borrows from |c| and |o|. NOT_FOUND: no daemon of that name;
 * INVALID_ARGUMENT: the message says which option or variable is wrong. */
kaena_status krt_config_resolve(krt_host_config *c, const krt_overrides *o, const char *rundir,
                                krt_daemon_config *out, kaena_err *err) KAENA_CHECKED;

/* Daemon names become file names, unit names and log prefixes. */
bool krt_name_is_sane(const char *name);

/* "0660" of a file's mode; false when |text| is none. */
bool krt_parse_mode(const char *text, mode_t *out);

/* Defaults. */
void krt_limits_init(krt_limits *l);
void krt_daemon_config_init(krt_daemon_config *d);

/* "0000:00:1f.0" of that or of "00:1F.0"; false when |text| is not a PCI address. */
bool krt_pci_normalise(const char *text, char out[KRT_PCI_TEXT]);

#endif
