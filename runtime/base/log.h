/* Logging, for programs only: libraries return errors, a failure is logged once, at the edge. */
#ifndef KAENA_BASE_LOG_H
#define KAENA_BASE_LOG_H

#include <stdbool.h>

#include "err.h"

typedef enum kaena_log_level {
    KAENA_LOG_ERROR = 3, /* numbers are syslog's */
    KAENA_LOG_WARNING = 4,
    KAENA_LOG_INFO = 6,
    KAENA_LOG_DEBUG = 7,
} kaena_log_level;

/* Lines go to standard error as "<time> <level> <program>: text"; with journald's prefix "<6>"
 * instead of the time when JOURNAL_STREAM is set. Call once, before threads start. |program| is
 * borrowed for ever. */
void kaena_log_init(const char *program, kaena_log_level level);
/* "error", "warning", "info", "debug"; false when it is none of them. */
bool kaena_log_parse_level(const char *text, kaena_log_level *out);
/* Thread: any. A line is written with one write(2). */
void kaena_log(kaena_log_level level, const char *fmt, ...) KAENA_PRINTF(2, 3);

#endif
