#include "top_sample.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct source {
    top_sampler *owner;
    const char *address;
    kaena_client *client;
    pthread_t thread;
    bool running;
    /* Under the owner's lock: */
    uint64_t asked, answered; /* counts of questions */
    bool late;                /* there was a new question before the answer */
    kaena_stats *now, *before;
    char problem[256];
} source;

struct top_sampler {
    pthread_mutex_t lock;
    pthread_cond_t asked;
    bool stop;
    int64_t timeout_ms;
    void (*changed)(void *user);
    void *user;
    size_t n;
    source sources[];
};

/* A daemon that has been started anew has counted from 0: there is nothing to compare with. */
static void keep(source *s, kaena_stats *stats)
{
    kaena_stats_free(s->before);
    s->before = s->now;
    s->now = stats;
    if (s->before && s->before->daemons[0].uptime_ns > stats->daemons[0].uptime_ns) {
        kaena_stats_free(s->before);
        s->before = NULL;
    }
    s->problem[0] = 0;
}

static void forget(source *s, const kaena_err *err)
{
    kaena_stats_free(s->before);
    kaena_stats_free(s->now);
    s->before = s->now = NULL;
    (void)snprintf(s->problem, sizeof s->problem, "%.250s",
                   err->what[0] ? err->what : kaena_status_name((kaena_status)err->code));
}

static void *work(void *arg)
{
    source *s = arg;
    top_sampler *o = s->owner;
    (void)pthread_mutex_lock(&o->lock);
    while (!o->stop) {
        if (s->answered == s->asked) {
            (void)pthread_cond_wait(&o->asked, &o->lock);
            continue;
        }
        (void)pthread_mutex_unlock(&o->lock);
        kaena_stats *stats = NULL;
        kaena_err err;
        kaena_status st = kaena_stats_get(s->client, o->timeout_ms, &stats, &err);
        (void)pthread_mutex_lock(&o->lock);
        if (st == KAENA_OK)
            keep(s, stats);
        else
            forget(s, &err);
        s->answered = s->asked;
        s->late = false;
        (void)pthread_mutex_unlock(&o->lock);
        o->changed(o->user);
        (void)pthread_mutex_lock(&o->lock);
    }
    (void)pthread_mutex_unlock(&o->lock);
    return NULL;
}

void top_sampler_destroy(top_sampler *o)
{
    if (!o)
        return;
    (void)pthread_mutex_lock(&o->lock);
    o->stop = true;
    (void)pthread_cond_broadcast(&o->asked);
    (void)pthread_mutex_unlock(&o->lock);
    for (size_t i = 0; i < o->n; i++) {
        source *s = &o->sources[i];
        if (s->running)
            (void)pthread_join(s->thread, NULL);
        kaena_client_close(s->client);
        kaena_stats_free(s->now);
        kaena_stats_free(s->before);
    }
    (void)pthread_cond_destroy(&o->asked);
    (void)pthread_mutex_destroy(&o->lock);
    free(o);
}

top_sampler *top_sampler_create(char *const *addresses, size_t n, int64_t timeout_ms,
                                void (*changed)(void *user), void *user, kaena_err *err)
{
    top_sampler *o = calloc(1, sizeof *o + n * sizeof *o->sources);
    if (!o) {
        (void)snprintf(err->what, sizeof err->what, "out of memory");
        return NULL;
    }
    (void)pthread_mutex_init(&o->lock, NULL);
    (void)pthread_cond_init(&o->asked, NULL);
    o->timeout_ms = timeout_ms;
    o->changed = changed;
    o->user = user;
    for (; o->n < n; o->n++) {
        source *s = &o->sources[o->n];
        kaena_client_options options = {
            .size = sizeof options, .fail_fast = 1, .address = addresses[o->n]};
        s->owner = o;
        s->address = addresses[o->n];
        if (kaena_client_open(&options, &s->client, err) != KAENA_OK) {
            top_sampler_destroy(o);
            return NULL;
        }
        int e = pthread_create(&s->thread, NULL, work, s);
        s->running = e == 0;
        if (e) {
            (void)snprintf(err->what, sizeof err->what, "no thread: %s", strerror(e));
            o->n++;
            top_sampler_destroy(o);
            return NULL;
        }
    }
    return o;
}

void top_sampler_ask(top_sampler *o)
{
    (void)pthread_mutex_lock(&o->lock);
    for (size_t i = 0; i < o->n; i++)
        if (o->sources[i].answered == o->sources[i].asked)
            o->sources[i].asked++;
        else
            o->sources[i].late = true;
    (void)pthread_cond_broadcast(&o->asked);
    (void)pthread_mutex_unlock(&o->lock);
}

bool top_sampler_complete(top_sampler *o)
{
    bool complete = true;
    (void)pthread_mutex_lock(&o->lock);
    for (size_t i = 0; i < o->n; i++)
        complete = complete && o->sources[i].answered == o->sources[i].asked;
    (void)pthread_mutex_unlock(&o->lock);
    return complete;
}

void top_sampler_lock(top_sampler *o)
{
    (void)pthread_mutex_lock(&o->lock);
}

void top_sampler_unlock(top_sampler *o)
{
    (void)pthread_mutex_unlock(&o->lock);
}

size_t top_sampler_count(const top_sampler *o)
{
    return o->n;
}

top_daemon top_sampler_daemon(const top_sampler *o, size_t i)
{
    const source *s = &o->sources[i];
    return (top_daemon){.address = s->address,
                        .now = s->now ? &s->now->daemons[0] : NULL,
                        .before = s->before ? &s->before->daemons[0] : NULL,
                        .problem = s->problem,
                        .late = s->late};
}
