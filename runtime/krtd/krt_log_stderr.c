/* Lines on standard error: text for people, JSON, or the journal's own protocol. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "krt_log_sink.h"

typedef struct stderr_sink {
    krt_sink sink;
    bool json;
    bool prefix; /* the journal reads lines: "<6>text" */
} stderr_sink;

/* A pipe that nobody empties would hold up whoever logs; one that takes a line takes it whole. */
static bool ready(void)
{
    struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
    return poll(&p, 1, 0) == 1 && (p.revents & POLLOUT);
}

static void write_line(kaena_log_sink *base, const kaena_log_record *r)
{
    stderr_sink *s = (stderr_sink *)base;
    char line[KRT_LOG_BYTES + 8];
    size_t n = 0;
    if (s->prefix) {
        line[n++] = '<';
        line[n++] = (char)('0' + (int)r->level);
        line[n++] = '>';
    }
    n += s->json ? krt_log_json(r, line + n) : kaena_log_text(r, !s->prefix, line + n);
    line[n++] = '\n';
    if (!ready()) {
        krt_sink_lost(&s->sink, 1);
        krt_sink_failed(&s->sink, "nobody reads it");
        return;
    }
    ssize_t done;
    while ((done = write(STDERR_FILENO, line, n)) < 0 && errno == EINTR)
        ;
    if (done == (ssize_t)n) {
        krt_sink_works(&s->sink);
        return;
    }
    krt_sink_lost(&s->sink, 1);
    krt_sink_failed(&s->sink, "%s", done < 0 ? strerror(errno) : "no room for a whole line");
}

static void destroy(krt_sink *s)
{
    free(s);
}

kaena_status krt_sink_stderr(const krt_sink_config *c, krt_sink **out, kaena_err *err)
{
    bool journal = kaena_log_is_journal() && !c->json;
    kaena_err ignored;
    if (journal && krt_sink_journal(c, out, &ignored) == KAENA_OK)
        return KAENA_OK;
    stderr_sink *s = calloc(1, sizeof *s);
    if (!s)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "log: out of memory");
    (void)strcpy(s->sink.label, "standard error");
    s->sink.base.write = write_line;
    s->sink.destroy = destroy;
    s->json = c->json;
    s->prefix = journal;
    *out = &s->sink;
    return KAENA_OK;
}
