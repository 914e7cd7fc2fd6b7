#include "krt_drain.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>

#include "krt_clients.h"
#include "krt_host.h"
#include "krt_model.h"
#include "log.h"

bool krt_accept(krt_daemon *d, kaena_err *err)
{
    /* Counted first: the drain must not overlook what is just being accepted. */
    (void)atomic_fetch_add(&d->accepted, 1);
    if (!atomic_load(&d->draining))
        return true;
    (void)KRT_FAIL(err, UNAVAILABLE, DRAINING, "daemon '%s' is shutting down", d->config->name);
    kaena_err_hint(err, "the request was not accepted: send it to another daemon");
    krt_release(d);
    return false;
}

void krt_release(krt_daemon *d)
{
    if (atomic_fetch_sub(&d->accepted, 1) == 1 && atomic_load(&d->draining))
        (void)uv_async_send(d->idle);
}

void krt_release_on_close(void *d, bool cancelled)
{
    (void)cancelled;
    krt_release(d);
}

static void stop_if_idle(krt_drain *dr)
{
    if (atomic_load(&dr->daemon->draining) && atomic_load(&dr->daemon->accepted) == 0)
        uv_stop(dr->idle.loop);
}

static void on_idle(uv_async_t *async)
{
    stop_if_idle(async->data);
}

static void on_limit(uv_timer_t *timer)
{
    krt_drain *dr = timer->data;
    kaena_log(KAENA_LOG_ERROR, "drain: %" PRIu64 " seconds are over, %zu requests are cut off",
              dr->daemon->config->limits.drain_seconds, atomic_load(&dr->daemon->accepted));
    dr->cut = true;
    uv_stop(timer->loop);
}

static void not_serving(krt_daemon *d)
{
    krpc_health_set(d->server, "", false);
    krpc_health_set(d->server, "kaena.v1.Runtime", false);
    (void)pthread_mutex_lock(&d->lock);
    for (krt_model *m = d->models; m; m = m->next) {
        char service[256];
        (void)snprintf(service, sizeof service, "model/%s", m->name);
        (void)pthread_mutex_lock(&m->lock);
        if (m->image)
            krpc_health_set(d->server, service, false);
        (void)pthread_mutex_unlock(&m->lock);
    }
    (void)pthread_mutex_unlock(&d->lock);
}

static void on_signal(uv_signal_t *handle, int signum)
{
    krt_drain *dr = handle->data;
    krt_daemon *d = dr->daemon;
    if (atomic_load(&d->draining)) {
        kaena_log(KAENA_LOG_WARNING, "%s again: %zu requests are cut off", strsignal(signum),
                  atomic_load(&d->accepted));
        dr->cut = atomic_load(&d->accepted) != 0;
        uv_stop(handle->loop);
        return;
    }
    atomic_store(&d->draining, true);
    kaena_log(KAENA_LOG_INFO, "%s: draining, %zu requests are in work", strsignal(signum),
              atomic_load(&d->accepted));
    krt_notify("STOPPING=1\nSTATUS=draining, %zu requests are in work", atomic_load(&d->accepted));
    not_serving(d);
    krpc_server_stop_listening(d->server);
    krt_clients_draining(d, (uint32_t)d->config->limits.drain_seconds);
    (void)uv_timer_start(&dr->limit, on_limit, d->config->limits.drain_seconds * 1000, 0);
    stop_if_idle(dr);
}

kaena_status krt_drain_init(krt_drain *dr, krt_daemon *d, uv_loop_t *loop, kaena_err *err)
{
    *dr = (krt_drain){.daemon = d};
    int rc = uv_signal_init(loop, &dr->term);
    if (rc == 0)
        rc = uv_signal_init(loop, &dr->interrupt);
    if (rc == 0)
        rc = uv_timer_init(loop, &dr->limit);
    if (rc == 0)
        rc = uv_async_init(loop, &dr->idle, on_idle);
    dr->term.data = dr->interrupt.data = dr->limit.data = dr->idle.data = dr;
    if (rc == 0)
        rc = uv_signal_start(&dr->term, on_signal, SIGTERM);
    if (rc == 0)
        rc = uv_signal_start(&dr->interrupt, on_signal, SIGINT);
    if (rc != 0)
        return KAENA_FAIL(err, INTERNAL, "signals: %s", uv_strerror(rc));
    d->idle = &dr->idle;
    return KAENA_OK;
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

void krt_loop_close(uv_loop_t *loop)
{
    uv_walk(loop, close_handle, NULL);
    (void)uv_run(loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(loop);
}
