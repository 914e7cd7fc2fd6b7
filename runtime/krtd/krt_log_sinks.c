#include "krt_log_sinks.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "krt_log_sink.h"

#define SECOND_NS UINT64_C(1000000000)

/* What waits in sinks that the configuration names no more. */
#define RETIRE_NS (30 * SECOND_NS)
/* Nothing waits in a sink that has been of no use. */
#define ABANDON_NS SECOND_NS

struct krt_log_set {
    size_t n;
    krt_sink *sinks[KRT_MAX_SINKS];
    kaena_log_sink *bases[KRT_MAX_SINKS];
    krt_sink_config configs[KRT_MAX_SINKS]; /* strings are borrowed */
    bool kept[KRT_MAX_SINKS];               /* was open before */
};

/* A sink on its way out. */
typedef struct leaver {
    krt_sink *sink;
    const char *path; /* of its file, or NULL; borrowed from a configuration */
    krt_sink *after;  /* writes there, too, and waits for this one; or NULL */
    bool gone;
} leaver;

/* Leavers of one change, and the thread that waits for them. */
typedef struct retirement {
    struct retirement *next; /* older */
    pthread_t thread;
    size_t n;
    leaver leavers[KRT_MAX_SINKS];
} retirement;

static krt_log_set *current; /* NULL: standard error */
static retirement *retirements;
static pthread_mutex_t leaving = PTHREAD_MUTEX_INITIALIZER; /* of |after| and |gone| */

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

/* ---- opening ---- */

static krt_sink_config sink_of(const krt_log_config *c, size_t i)
{
    krt_sink_config standard_error = {.type = KRT_SINK_STDERR, .json = c->json};
    krt_sink_config s = c->n_sinks ? c->sinks[i] : standard_error;
    if (!s.level)
        s.level = c->level;
    return s;
}

static bool has(const krt_log_set *set, const krt_sink *s)
{
    for (size_t i = 0; set && i < set->n; i++)
        if (set->sinks[i] == s)
            return true;
    return false;
}

/* One that is open and not in |set| yet, or NULL. */
static krt_sink *open_already(const krt_log_set *set, const krt_sink_config *c)
{
    for (size_t i = 0; current && i < current->n; i++)
        if (krt_sink_config_same(&current->configs[i], c) && !has(set, current->sinks[i]))
            return current->sinks[i];
    return NULL;
}

kaena_status krt_log_prepare(const krt_log_config *c, krt_log_set **out, kaena_err *err)
{
    krt_log_set *set = calloc(1, sizeof *set);
    if (!set)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "log: out of memory");
    size_t n = c->n_sinks ? c->n_sinks : 1;
    for (; set->n < n; set->n++) {
        size_t i = set->n;
        set->configs[i] = sink_of(c, i);
        set->sinks[i] = open_already(set, &set->configs[i]);
        set->kept[i] = set->sinks[i] != NULL;
        if (!set->kept[i]) {
            const krt_sink_config *config = &set->configs[i];
            kaena_status st = types[config->type].open(config, &set->sinks[i], err);
            if (st != KAENA_OK) {
                krt_log_abandon(set);
                return st;
            }
        }
        set->bases[i] = &set->sinks[i]->base;
    }
    *out = set;
    return KAENA_OK;
}

kaena_status krt_log_open(const krt_log_config *c, const char *program, kaena_err *err)
{
    krt_log_set *set;
    kaena_log_init(program, c->level);
    KAENA_TRY(krt_log_prepare(c, &set, err));
    krt_log_use(set);
    return KAENA_OK;
}

/* ---- closing ---- */

/* A sink that does not end in time stays. */
static void end_sink(krt_sink *s, uint64_t deadline_ns)
{
    if (!s->finish || s->finish(s, deadline_ns))
        s->destroy(s);
}

void krt_log_abandon(krt_log_set *set)
{
    if (!set)
        return;
    for (size_t i = 0; i < set->n; i++)
        if (!set->kept[i])
            end_sink(set->sinks[i], krt_log_now_ns() + ABANDON_NS);
    free(set);
}

static void leave(leaver *l, uint64_t deadline_ns)
{
    end_sink(l->sink, deadline_ns);
    (void)pthread_mutex_lock(&leaving);
    l->gone = true;
    krt_sink *after = l->after;
    (void)pthread_mutex_unlock(&leaving);
    if (after)
        after->hold(after, false);
}

static void *retire(void *arg)
{
    retirement *r = arg;
    uint64_t deadline = krt_log_now_ns() + RETIRE_NS;
    for (size_t i = 0; i < r->n; i++)
        leave(&r->leavers[i], deadline);
    return NULL;
}

/* Waits until |deadline_ns| for the threads of earlier changes; 0: looks who has ended. */
static void reap(uint64_t deadline_ns)
{
    struct timespec t = {.tv_sec = (time_t)(deadline_ns / SECOND_NS),
                         .tv_nsec = (long)(deadline_ns % SECOND_NS)};
    for (retirement **at = &retirements; *at;) {
        retirement *r = *at;
        if (pthread_clockjoin_np(r->thread, NULL, CLOCK_MONOTONIC, &t) != 0) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        free(r);
    }
}

/* Has |s|, which is new, wait for the newest of |r| and the older ones that writes to the same
 * file; that one waits for those before it. */
static void follow(krt_sink *s, const char *path, retirement *r)
{
    bool found = false;
    (void)pthread_mutex_lock(&leaving);
    for (; r && !found; r = r->next)
        for (size_t i = 0; i < r->n && !found; i++) {
            leaver *l = &r->leavers[i];
            found = l->path && strcmp(l->path, path) == 0;
            if (found && !l->gone) {
                s->hold(s, true);
                l->after = s;
            }
        }
    (void)pthread_mutex_unlock(&leaving);
}

void krt_log_use(krt_log_set *set)
{
    krt_log_set *old = current;
    reap(0);
    retirement *r = old ? calloc(1, sizeof *r) : NULL, none = {0};
    retirement *all = r ? r : &none;
    all->next = retirements;
    for (size_t i = 0; old && i < old->n; i++)
        if (!has(set, old->sinks[i]))
            all->leavers[all->n++] = (leaver){.sink = old->sinks[i], .path = old->configs[i].path};
    for (size_t i = 0; i < set->n; i++) {
        if (!set->kept[i] && set->sinks[i]->hold)
            follow(set->sinks[i], set->configs[i].path, all);
        set->sinks[i]->base.level = set->configs[i].level;
    }
    current = set;
    kaena_log_set_sinks(set->bases, set->n);
    free(old);
    if (r && r->n && pthread_create(&r->thread, NULL, retire, r) == 0) {
        retirements = r;
        return;
    }
    for (size_t i = 0; i < all->n; i++) /* in nobody's background, and so not for long */
        leave(&all->leavers[i], krt_log_now_ns() + ABANDON_NS);
    free(r);
}

void krt_log_reopen(void)
{
    for (size_t i = 0; current && i < current->n; i++)
        if (current->sinks[i]->reopen)
            current->sinks[i]->reopen(current->sinks[i]);
}

void krt_log_flush(unsigned ms)
{
    uint64_t deadline = krt_log_now_ns() + ms * UINT64_C(1000000);
    reap(deadline);
    for (size_t i = current ? current->n : 0; i-- > 0;)
        if (current->sinks[i]->finish)
            (void)current->sinks[i]->finish(current->sinks[i], deadline);
}

void krt_log_close(unsigned ms)
{
    uint64_t deadline = krt_log_now_ns() + ms * UINT64_C(1000000);
    reap(deadline);
    for (const retirement *r = retirements; r; r = r->next)
        kaena_log(KAENA_LOG_WARNING,
                  "log: what waits in a sink of an earlier configuration is lost");
    /* One by one from the last: what a sink has to say about its end, those before it take. */
    while (current && current->n) {
        krt_sink *last = current->sinks[--current->n];
        kaena_log_set_sinks(current->bases, current->n);
        end_sink(last, deadline);
    }
    free(current);
    current = NULL;
}
