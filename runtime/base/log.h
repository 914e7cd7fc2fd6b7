/* Logging, for programs only: libraries return errors, a failure is logged once, at the edge.
 *
 * A line is a text and fields. It goes to standard error unless the program has set sinks. */
#ifndef KAENA_BASE_LOG_H
#define KAENA_BASE_LOG_H

#include <stdbool.h>
#include <time.h>

#include "err.h"

typedef enum kaena_log_level {
    KAENA_LOG_ERROR = 3, /* numbers are syslog's */
    KAENA_LOG_WARNING = 4,
    KAENA_LOG_INFO = 6,
    KAENA_LOG_DEBUG = 7,
} kaena_log_level;

/* |key|: lower case letters, digits and '_'. |value| NULL: the field is left out. */
typedef struct kaena_log_field {
    const char *key, *value;
} kaena_log_field;

/* Everything is borrowed for the duration of the call that gets it. */
typedef struct kaena_log_record {
    struct timespec time; /* CLOCK_REALTIME */
    kaena_log_level level;
    const char *program, *text;
    const kaena_log_field *fields; /* [n_fields], values set */
    size_t n_fields;
} kaena_log_record;

/* Where lines go. |write| may be called by several threads at once and must not block for long. */
typedef struct kaena_log_sink kaena_log_sink;
struct kaena_log_sink {
    _Atomic kaena_log_level level; /* this and what is more severe */
    void (*write)(kaena_log_sink *self, const kaena_log_record *record);
};

/* Lines of one record take at most so many bytes in any form; what is longer is cut. */
#define KAENA_LOG_LINE 4096
#define KAENA_LOG_MAX_FIELDS 16

/* Lines go to standard error as "<time> <level> <program>: text key=value"; with journald's prefix
 * "<6>" instead of the time when standard error is the journal's (JOURNAL_STREAM names it). Call
 * once, before threads start. |program| is borrowed for ever. */
void kaena_log_init(const char *program, kaena_log_level level);
/* Standard error is a stream of the journal, by JOURNAL_STREAM. */
bool kaena_log_is_journal(void);

/* From now on lines go to |sinks| [n], which stay borrowed until the next call; 0 = to standard
 * error again. Lines of other threads go to the sinks before or to these: on return no thread is in
 * one of those before. Not from within a sink. Thread: one at a time. */
void kaena_log_set_sinks(kaena_log_sink *const *sinks, size_t n);

/* "error", "warning", "info", "debug"; false when it is none of them. */
bool kaena_log_parse_level(const char *text, kaena_log_level *out);
const char *kaena_log_level_name(kaena_log_level level);

/* Thread: any. */
void kaena_log(kaena_log_level level, const char *fmt, ...) KAENA_PRINTF(2, 3);
void kaena_log_with(kaena_log_level level, const kaena_log_field *fields, size_t n_fields,
                    const char *fmt, ...) KAENA_PRINTF(4, 5);
/* To all sinks but |sink|, about which it speaks. */
void kaena_log_about(const kaena_log_sink *sink, kaena_log_level level, const char *fmt, ...)
    KAENA_PRINTF(3, 4);

/* `kaena_log_with(KAENA_LOG_INFO, KAENA_LOG_FIELDS({"model", name}, {"code", code}), "...", ...);`
 */
#define KAENA_LOG_FIELDS(...)                                                                      \
    (const kaena_log_field[]){__VA_ARGS__},                                                        \
        sizeof((const kaena_log_field[]){__VA_ARGS__}) / sizeof(kaena_log_field)

/* The form for people: " key=value" after the text, values quoted where that is needed, control
 * characters escaped, so that a record is a line. |stamp|: begins with time and level. Gives the
 * length, without a terminator or an end of line. */
size_t kaena_log_text(const kaena_log_record *record, bool stamp, char out[KAENA_LOG_LINE]);

#endif
