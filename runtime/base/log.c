#include "log.h"

#include <ctype.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *log_program = "kaena";
static bool log_journal;
static void write_stderr(kaena_log_sink *self, const kaena_log_record *record);
static kaena_log_sink standard_error = {KAENA_LOG_INFO, write_stderr};
static kaena_log_sink *const only_standard_error[] = {&standard_error};
static kaena_log_sink *const *log_sinks = only_standard_error;
static size_t log_n_sinks = 1;
/* Of the two before this one. Whoever changes them does not wait for ever: those who log wait then,
 * but for a sink that has something to say while it writes (its thread has the lock already). */
static pthread_rwlock_t log_lock = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static _Thread_local unsigned log_depth;
static _Atomic kaena_log_level log_level = KAENA_LOG_INFO; /* the most that any sink wants */

static const struct {
    kaena_log_level level;
    const char *name;
} levels[] = {{KAENA_LOG_ERROR, "error"},
              {KAENA_LOG_WARNING, "warning"},
              {KAENA_LOG_INFO, "info"},
              {KAENA_LOG_DEBUG, "debug"}};

bool kaena_log_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat st;
    uintmax_t device, inode;
    return stream && sscanf(stream, "%ju:%ju", &device, &inode) == 2 &&
           fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

void kaena_log_init(const char *program, kaena_log_level level)
{
    log_program = program;
    standard_error.level = level;
    log_level = level;
    log_journal = kaena_log_is_journal();
}

void kaena_log_set_sinks(kaena_log_sink *const *sinks, size_t n)
{
    kaena_log_level most = KAENA_LOG_ERROR;
    (void)pthread_rwlock_wrlock(&log_lock);
    log_sinks = n ? sinks : only_standard_error;
    log_n_sinks = n ? n : 1;
    for (size_t i = 0; i < log_n_sinks; i++)
        if (log_sinks[i]->level > most)
            most = log_sinks[i]->level;
    log_level = most;
    (void)pthread_rwlock_unlock(&log_lock);
}

bool kaena_log_parse_level(const char *text, kaena_log_level *out)
{
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if (strcmp(levels[i].name, text) == 0) {
            *out = levels[i].level;
            return true;
        }
    return false;
}

const char *kaena_log_level_name(kaena_log_level level)
{
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if (levels[i].level == level)
            return levels[i].name;
    return "info";
}

/* ---- the form for people ---- */

/* A bounded line; what does not fit is left out. */
typedef struct line {
    char *to;
    size_t size;
} line;

static void put(line *l, const char *text, size_t n)
{
    if (n > KAENA_LOG_LINE - l->size)
        n = KAENA_LOG_LINE - l->size;
    memcpy(l->to + l->size, text, n);
    l->size += n;
}

/* Control characters would end the line, or speak to the terminal. */
static void put_escaped(line *l, const char *text, bool quoted)
{
    for (const char *s = text; *s; s++) {
        unsigned char c = (unsigned char)*s;
        char escape[8];
        if (c == '\n')
            put(l, "\\n", 2);
        else if (iscntrl(c))
            put(l, escape, (size_t)snprintf(escape, sizeof escape, "\\x%02x", c));
        else if (quoted && (c == '"' || c == '\\'))
            put(l, escape, (size_t)snprintf(escape, sizeof escape, "\\%c", c));
        else
            put(l, s, 1);
    }
}

static bool needs_quotes(const char *value)
{
    if (!*value)
        return true;
    for (const char *s = value; *s; s++)
        if (isspace((unsigned char)*s) || iscntrl((unsigned char)*s) || strchr("\"=\\", *s))
            return true;
    return false;
}

size_t kaena_log_text(const kaena_log_record *r, bool stamp, char out[KAENA_LOG_LINE])
{
    line l = {.to = out};
    if (stamp) {
        char head[64], date[32];
        struct tm tm;
        (void)gmtime_r(&r->time.tv_sec, &tm);
        (void)strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
        int n = snprintf(head, sizeof head, "%s.%03ldZ %s ", date, r->time.tv_nsec / 1000000,
                         kaena_log_level_name(r->level));
        put(&l, head, (size_t)n);
        put(&l, r->program, strlen(r->program));
        put(&l, ": ", 2);
    }
    put_escaped(&l, r->text, false);
    for (size_t i = 0; i < r->n_fields; i++) {
        const kaena_log_field *f = &r->fields[i];
        put(&l, " ", 1);
        put(&l, f->key, strlen(f->key));
        put(&l, "=", 1);
        bool quotes = needs_quotes(f->value);
        put(&l, "\"", quotes);
        put_escaped(&l, f->value, quotes);
        put(&l, "\"", quotes);
    }
    return l.size;
}

static void write_stderr(kaena_log_sink *self, const kaena_log_record *r)
{
    (void)self;
    char text[KAENA_LOG_LINE], out[KAENA_LOG_LINE + 8];
    size_t n = 0, size = kaena_log_text(r, !log_journal, text);
    if (log_journal)
        n = (size_t)snprintf(out, 8, "<%d>", (int)r->level);
    memcpy(out + n, text, size);
    n += size;
    out[n++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, out, n);
    (void)ignored;
}

/* ---- dispatch ---- */

static void dispatch(const kaena_log_sink *but, kaena_log_level level,
                     const kaena_log_field *fields, size_t n_fields, const char *fmt, va_list ap)
{
    char text[1536];
    kaena_log_field set[KAENA_LOG_MAX_FIELDS];
    kaena_log_record r = {.level = level, .program = log_program, .text = text, .fields = set};
    for (size_t i = 0; i < n_fields && r.n_fields < KAENA_LOG_MAX_FIELDS; i++)
        if (fields[i].value)
            set[r.n_fields++] = fields[i];
    (void)clock_gettime(CLOCK_REALTIME, &r.time);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    if (log_depth++ == 0)
        (void)pthread_rwlock_rdlock(&log_lock);
    for (size_t i = 0; i < log_n_sinks; i++)
        if (log_sinks[i] != but && level <= log_sinks[i]->level)
            log_sinks[i]->write(log_sinks[i], &r);
    if (--log_depth == 0)
        (void)pthread_rwlock_unlock(&log_lock);
}

void kaena_log(kaena_log_level level, const char *fmt, ...)
{
    if (level > log_level)
        return;
    va_list ap;
    va_start(ap, fmt);
    dispatch(NULL, level, NULL, 0, fmt, ap);
    va_end(ap);
}

void kaena_log_with(kaena_log_level level, const kaena_log_field *fields, size_t n_fields,
                    const char *fmt, ...)
{
    if (level > log_level)
        return;
    va_list ap;
    va_start(ap, fmt);
    dispatch(NULL, level, fields, n_fields, fmt, ap);
    va_end(ap);
}

void kaena_log_about(const kaena_log_sink *sink, kaena_log_level level, const char *fmt, ...)
{
    if (level > log_level)
        return;
    va_list ap;
    va_start(ap, fmt);
    dispatch(sink, level, NULL, 0, fmt, ap);
    va_end(ap);
}
