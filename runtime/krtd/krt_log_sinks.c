#include "krt_log_sinks.h"

#include <stdio.h>
#include <string.h>

#include "krt_log_sink.h"

#define SECOND_NS UINT64_C(1000000000)

static krt_sink *sinks[KRT_MAX_SINKS];
static kaena_log_sink *bases[KRT_MAX_SINKS];
static size_t n_sinks;

static const struct {
    kaena_status (*open)(const krt_sink_config *c, krt_sink **out, kaena_err *err);
} types[] = {
    [KRT_SINK_STDERR] = {krt_sink_stderr},         [KRT_SINK_JOURNAL] = {krt_sink_journal},
    [KRT_SINK_SYSLOG] = {krt_sink_syslog},         [KRT_SINK_FILE] = {krt_sink_file},
    [KRT_SINK_CLOUDWATCH] = {krt_sink_cloudwatch},
};

uint64_t krt_log_now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

/* ---- failing and working ---- */

void krt_sink_failed(krt_sink *s, const char *fmt, ...)
{
    char why[400];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    atomic_store(&s->failed_ns, krt_log_now_ns());
    if (!atomic_exchange(&s->failing, true))
        kaena_log_about(&s->base, KAENA_LOG_WARNING, "log to %s: %s; it will try again", s->label,
                        why);
}

void krt_sink_lost(krt_sink *s, uint64_t n)
{
    (void)atomic_fetch_add(&s->lost, n);
}

void krt_sink_works(krt_sink *s)
{
    if (!atomic_load(&s->failing) && atomic_load(&s->lost) == 0)
        return;
    /* A sink that takes every other line is not told about with every line. */
    if (krt_log_now_ns() - atomic_load(&s->failed_ns) < SECOND_NS)
        return;
    bool failed = atomic_exchange(&s->failing, false);
    uint64_t lost = atomic_exchange(&s->lost, 0);
    if (failed || lost)
        kaena_log(KAENA_LOG_WARNING, "log to %s: works%s; %llu lines were lost", s->label,
                  failed ? " again" : "", (unsigned long long)lost);
}

/* ---- opening and closing ---- */

static krt_sink_config sink_of(const krt_log_config *c, size_t i)
{
    krt_sink_config standard_error = {.type = KRT_SINK_STDERR, .json = c->json};
    krt_sink_config s = c->n_sinks ? c->sinks[i] : standard_error;
    if (!s.level)
        s.level = c->level;
    return s;
}

kaena_status krt_log_open(const krt_log_config *c, const char *program, kaena_err *err)
{
    kaena_log_init(program, c->level);
    size_t n = c->n_sinks ? c->n_sinks : 1;
    for (size_t i = 0; i < n; i++) {
        krt_sink_config s = sink_of(c, i);
        kaena_status st = types[s.type].open(&s, &sinks[i], err);
        if (st != KAENA_OK) {
            krt_log_close(0);
            return st;
        }
        sinks[i]->base.level = s.level;
        bases[i] = &sinks[i]->base;
        n_sinks = i + 1;
    }
    kaena_log_set_sinks(bases, n_sinks);
    return KAENA_OK;
}

void krt_log_set_levels(const krt_log_config *c)
{
    for (size_t i = 0; i < n_sinks; i++)
        sinks[i]->base.level = sink_of(c, i).level;
    kaena_log_levels_changed();
}

void krt_log_reopen(void)
{
    for (size_t i = 0; i < n_sinks; i++)
        if (sinks[i]->reopen)
            sinks[i]->reopen(sinks[i]);
}

void krt_log_flush(unsigned ms)
{
    uint64_t deadline = krt_log_now_ns() + ms * UINT64_C(1000000);
    for (size_t i = n_sinks; i-- > 0;)
        if (sinks[i]->finish)
            (void)sinks[i]->finish(sinks[i], deadline);
}

void krt_log_close(unsigned ms)
{
    uint64_t deadline = krt_log_now_ns() + ms * UINT64_C(1000000);
    /* One by one from the last: what a sink has to say about its end, those before it take. */
    while (n_sinks) {
        krt_sink *last = sinks[n_sinks - 1];
        kaena_log_set_sinks(bases, --n_sinks);
        if (!last->finish || last->finish(last, deadline))
            last->destroy(last);
        sinks[n_sinks] = NULL;
    }
}
