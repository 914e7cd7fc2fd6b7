/* What the kinds of sinks share; for krt_log*.c. */
#ifndef KRT_LOG_SINK_H
#define KRT_LOG_SINK_H

#include <stdatomic.h>

#include "krt_log_sinks.h"

/* A line in any form but JSON's may be cut; JSON gives up fields that do not fit. */
#define KRT_LOG_BYTES 16384

typedef struct krt_sink krt_sink;
struct krt_sink {
    kaena_log_sink base; /* first */
    char label[160];     /* "file '/var/log/x'" */
    atomic_bool failing;
    _Atomic uint64_t lost; /* lines, since it fails */
    _Atomic uint64_t failed_ns;
    void (*reopen)(krt_sink *s); /* NULL: nothing to open */
    /* Lines wait, or (not |wait|) go to what is opened anew: an older sink writes there still.
     * NULL: that does no harm. */
    void (*hold)(krt_sink *s, bool wait);
    /* Writes what waits and ends the sink's thread; false: not until |deadline_ns|, and the sink
     * must stay. NULL: nothing waits. */
    bool (*finish)(krt_sink *s, uint64_t deadline_ns);
    void (*destroy)(krt_sink *s);
};

/* Sinks of each type; |err| says what cannot be opened. */
kaena_status krt_sink_stderr(const krt_sink_config *c, krt_sink **out, kaena_err *err);
kaena_status krt_sink_journal(const krt_sink_config *c, krt_sink **out, kaena_err *err);
kaena_status krt_sink_syslog(const krt_sink_config *c, krt_sink **out, kaena_err *err);
kaena_status krt_sink_file(const krt_sink_config *c, krt_sink **out, kaena_err *err);
kaena_status krt_sink_cloudwatch(const krt_sink_config *c, krt_sink **out, kaena_err *err);

/* The other sinks are told, unless they know already. Not with a lock of the sink held. */
void krt_sink_failed(krt_sink *s, const char *fmt, ...) KAENA_PRINTF(2, 3);
/* |n| lines of it are gone. */
void krt_sink_lost(krt_sink *s, uint64_t n);
/* A line has been written: ends a failure that is a second old, and tells how much is gone. */
void krt_sink_works(krt_sink *s);

/* Forms of a record, without end of line; give the size. */
size_t krt_log_json(const kaena_log_record *r, char out[KRT_LOG_BYTES]);
size_t krt_log_journal(const kaena_log_record *r, char out[KRT_LOG_BYTES]); /* native protocol */
size_t krt_log_rfc5424(const kaena_log_record *r, const char *host, long pid,
                       char out[KRT_LOG_BYTES]);

uint64_t krt_log_now_ns(void); /* CLOCK_MONOTONIC */

#endif
