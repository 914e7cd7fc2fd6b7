#include "krt_watchdog.h"

#include <stdlib.h>
#include <unistd.h>

#include "krt_host.h"
#include "log.h"

/* Looks per watchdog period: one that comes late does not cost the daemon its life. */
#define LOOKS 3

/* 0 = nobody watches, or another process is meant. */
static uint64_t watchdog_usec(void)
{
    const char *pid = getenv("WATCHDOG_PID"), *usec = getenv("WATCHDOG_USEC");
    if (!usec || (pid && strtol(pid, NULL, 10) != (long)getpid()))
        return 0;
    return strtoull(usec, NULL, 10);
}

static unsigned look_ms(void)
{
    uint64_t usec = watchdog_usec();
    if (!usec)
        return 0;
    uint64_t ms = usec / 1000 / LOOKS;
    return ms < 1 ? 1 : ms > 3600000 ? 3600000 : (unsigned)ms;
}

unsigned krt_watchdog_beat_ms(void)
{
    unsigned ms = look_ms();
    return ms ? (ms + 1) / 2 : 0; /* at least one between two looks */
}

static void on_job(krt_job *job)
{
    krt_watchdog *w = (krt_watchdog *)((char *)job - offsetof(krt_watchdog, job));
    atomic_store(&w->job_done, true);
}

static void on_look(uv_timer_t *timer)
{
    krt_watchdog *w = timer->data;
    uint64_t beats = krpc_server_beats(w->daemon->server);
    bool queue = beats != w->beats, starters = atomic_load(&w->job_done);
    if (queue && starters) {
        krt_notify("WATCHDOG=1");
        w->warned = false;
    } else if (!w->warned) {
        kaena_log(KAENA_LOG_ERROR, "watchdog: %s has not come by",
                  queue ? "the thread that copies inputs" : "the completion-queue thread");
        w->warned = true;
    }
    w->beats = beats;
    if (!starters)
        return;
    atomic_store(&w->job_done, false);
    w->job.run = on_job;
    krt_jobs_post(w->daemon->starters, &w->job);
}

kaena_status krt_watchdog_init(krt_watchdog *w, krt_daemon *d, uv_loop_t *loop, kaena_err *err)
{
    *w = (krt_watchdog){.daemon = d};
    atomic_store(&w->job_done, true);
    int rc = uv_timer_init(loop, &w->timer);
    if (rc != 0)
        return KAENA_FAIL(err, INTERNAL, "watchdog: %s", uv_strerror(rc));
    w->timer.data = w;
    return KAENA_OK;
}

void krt_watchdog_start(krt_watchdog *w)
{
    unsigned ms = look_ms();
    if (!ms)
        return;
    /* Before the first look everybody has just been started. */
    w->beats = krpc_server_beats(w->daemon->server) - 1;
    (void)uv_timer_start(&w->timer, on_look, 0, ms);
}
