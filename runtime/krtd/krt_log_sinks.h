/* The daemon's log: sinks as the configuration names them.
 *
 *     "log": {"level": "info", "sinks": [{"type": "stderr"},
 *             {"type": "file", "path": "/var/log/kaena/{daemon}.log", "max_bytes": 10000000,
 * "keep": 4}]}
 *
 * No sink makes whoever logs wait: what must wait (disks, networks) has a bounded queue and a
 * thread. A sink that fails is told to the others once, and once more when it works again with what
 * it lost; it tries again by itself. */
#ifndef KRT_LOG_SINKS_H
#define KRT_LOG_SINKS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "log.h"

#define KRT_MAX_SINKS 8

typedef enum krt_sink_type {
    KRT_SINK_STDERR,     /* the journal's own protocol where standard error is the journal's */
    KRT_SINK_JOURNAL,    /* systemd's, natively */
    KRT_SINK_SYSLOG,     /* RFC 5424 */
    KRT_SINK_FILE,       /* rotated */
    KRT_SINK_CLOUDWATCH, /* Amazon CloudWatch Logs, or what speaks its protocol */
} krt_sink_type;

/* One sink; krt_log_config.c has the keys, their defaults and bounds. Strings live in the arena of
 * the configuration; "{daemon}" in them has been replaced. */
typedef struct krt_sink_config {
    krt_sink_type type;
    kaena_log_level level;
    bool json;           /* stderr, file: lines of JSON */
    const char *address; /* syslog: a socket's path or HOST:PORT; journal: a socket's path */
    const char *path;    /* file */
    uint64_t max_bytes;  /* of one file; 0 = any number */
    uint64_t keep;       /* older files: path.1 ... path.N */
    uint64_t buffer_bytes;
    /* cloudwatch; NULL: as the environment says (AWS_*) */
    const char *group, *stream, *endpoint, *region;
    const char *access_key_id, *secret_access_key, *session_token;
    const char *ca_file;
    uint64_t flush_ms; /* a line waits no longer for others */
} krt_sink_config;

typedef struct krt_log_config {
    bool given;
    bool has_level;
    kaena_log_level level; /* of sinks that name none */
    bool json;             /* of standard error, where there are no sinks */
    krt_sink_config sinks[KRT_MAX_SINKS];
    size_t n_sinks; /* 0: standard error */
} krt_log_config;

/* Reads the object |value|, which stands at |where|. INVALID_ARGUMENT names the key. */
kaena_status krt_log_config_parse(const json_t *value, const char *where, kaena_arena *arena,
                                  krt_log_config *out, kaena_err *err) KAENA_CHECKED;
/* "{daemon}" in texts becomes |daemon|. */
void krt_log_config_expand(krt_log_config *c, const char *daemon, kaena_arena *arena);

/* The same sinks, but perhaps for their levels. */
bool krt_sink_config_same(const krt_sink_config *a, const krt_sink_config *b);

/* All that follows: one thread at a time. */

/* Opens the sinks of |c| for the daemon |program|; from here on lines go there. Before threads
 * start. The status says which sink cannot be opened; lines then go to standard error. |c| is
 * borrowed until the sinks change or close. */
kaena_status krt_log_open(const krt_log_config *c, const char *program,
                          kaena_err *err) KAENA_CHECKED;

/* Other sinks for a daemon that runs, in two steps: the first can fail, and is not seen. */
typedef struct krt_log_set krt_log_set;
/* Opens those of |c| that are not open. */
kaena_status krt_log_prepare(const krt_log_config *c, krt_log_set **out,
                             kaena_err *err) KAENA_CHECKED;
/* From here on lines go to |set|, which is the log's; each line to the sinks before or to these.
 * What waits in those that are none of |set| is written in the background. */
void krt_log_use(krt_log_set *set);
/* Closes what has been opened for |set|. Accepts NULL. */
void krt_log_abandon(krt_log_set *set);

/* Files are opened anew, sockets connected anew. */
void krt_log_reopen(void);
/* Writes what waits, for at most |ms| milliseconds; later lines may be lost. For a process that is
 * about to end while others still log. */
void krt_log_flush(unsigned ms);
/* Writes what waits, for at most |ms| milliseconds, and closes; later lines go to standard error.
 * No other thread logs any more. */
void krt_log_close(unsigned ms);

#endif
