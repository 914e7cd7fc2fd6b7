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

#define KRT_CONFIG_PATH "/etc/kaena/krtd.json"
#define KRT_MAX_CHIPS 16
#define KRT_MAX_DAEMONS 64
#define KRT_MAX_LISTEN 8
#define KRT_PCI_TEXT 16 /* "0000:00:1f.0" and its terminator */
#define KRT_NAME_MAX 64 /* of a daemon, without the terminator */

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
    uint32_t threads;      /* 0 = the processors of this daemon's share */
    const char *model_dir; /* NULL = no loads by path */
    mode_t socket_mode;
    krt_limits limits;
} krt_daemon_config;

/* The file. Strings live in |arena|. */
typedef struct krt_host_config {
    kaena_arena arena;
    char chips[KRT_MAX_CHIPS][KRT_PCI_TEXT];
    size_t n_chips;
    krt_daemon_config daemons[KRT_MAX_DAEMONS];
    size_t n_daemons;
    bool from_file;
} krt_host_config;

/* One chip, one daemon krtd0 on unix:|rundir|/krtd0.sock: what an absent file means. */
void krt_host_config_init(krt_host_config *c, const char *rundir);
void krt_host_config_fini(krt_host_config *c);

/* Replaces |c| (initialised) by what |text| says. INVALID_ARGUMENT names the key: unknown keys,
 * wrong types, values out of range, and daemons that share a name, a device or an address. |c| is
 * unusable but for fini after a failure. */
kaena_status krt_host_config_parse(krt_host_config *c, const char *text, size_t size,
                                   kaena_err *err) KAENA_CHECKED;

/* The same of a file; one that does not exist leaves |c| as it is unless |required|. */
kaena_status krt_host_config_read(krt_host_config *c, const char *path, bool required,
                                  kaena_err *err) KAENA_CHECKED;

/* What the command line and the environment change; NULL and 0 are "not given". */
typedef struct krt_overrides {
    const char *name;
    const char *listen[KRT_MAX_LISTEN];
    size_t n_listen;
    const char *devices;         /* "0,1", or PCI addresses */
    const char *visible_devices; /* KAENA_VISIBLE_DEVICES */
    const char *model_dir;
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

/* "0000:00:1f.0" of that or of "00:1F.0"; false when |text| is not a PCI address. */
bool krt_pci_normalise(const char *text, char out[KRT_PCI_TEXT]);

#endif
