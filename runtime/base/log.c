#include "log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *log_program = "kaena";
static kaena_log_level log_level = KAENA_LOG_INFO;
static bool log_journal;

static const struct {
    kaena_log_level level;
    const char *name;
} levels[] = {{KAENA_LOG_ERROR, "error"},
              {KAENA_LOG_WARNING, "warning"},
              {KAENA_LOG_INFO, "info"},
              {KAENA_LOG_DEBUG, "debug"}};

void kaena_log_init(const char *program, kaena_log_level level)
{
    log_program = program;
    log_level = level;
    log_journal = getenv("JOURNAL_STREAM") != NULL;
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

void kaena_log(kaena_log_level level, const char *fmt, ...)
{
    if (level > log_level)
        return;
    char line[1200];
    const char *name = "info";
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if (levels[i].level == level)
            name = levels[i].name;
    int n;
    if (log_journal) {
        n = snprintf(line, sizeof line, "<%d>", (int)level);
    } else {
        struct timespec now;
        struct tm tm;
        (void)clock_gettime(CLOCK_REALTIME, &now);
        (void)gmtime_r(&now.tv_sec, &tm);
        char stamp[32];
        (void)strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &tm);
        n = snprintf(line, sizeof line, "%s.%03ldZ %s %s: ", stamp, now.tv_nsec / 1000000, name,
                     log_program);
    }
    size_t at = n < 0 ? 0 : (size_t)n;
    va_list ap;
    va_start(ap, fmt);
    n = vsnprintf(line + at, sizeof line - at - 1, fmt, ap);
    va_end(ap);
    if (n > 0)
        at += (size_t)n < sizeof line - at - 1 ? (size_t)n : sizeof line - at - 2;
    line[at++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line, at);
    (void)ignored;
}
