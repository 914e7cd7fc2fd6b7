#include "rpc_core_log.h"

#include <grpc/support/log.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define PERIOD_S 60
#define LINES_PER_PERIOD 5

static struct {
    pthread_mutex_t lock;
    void (*warning)(void *user, const char *text);
    void *user;
    int64_t period_start; /* seconds, monotonic */
    unsigned lines;       /* in this period */
    uint64_t left_out;
} state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int64_t now_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

static void on_core_log(gpr_log_func_args *args)
{
    /* A listener that is closed at the end (rpc_core_ports.h) is no trouble. */
    if (args->severity != GPR_LOG_SEVERITY_ERROR ||
        strcmp(args->message, "Failed accept4: Invalid argument") == 0)
        return;
    char text[512], count[64] = "";
    (void)pthread_mutex_lock(&state.lock);
    int64_t now = now_s();
    if (state.lines == 0 || now - state.period_start >= PERIOD_S) {
        state.period_start = now;
        state.lines = 0;
    }
    if (state.lines == LINES_PER_PERIOD) {
        state.left_out++;
        (void)pthread_mutex_unlock(&state.lock);
        return;
    }
    state.lines++;
    if (state.left_out)
        (void)snprintf(count, sizeof count, " (and %llu more since the last)",
                       (unsigned long long)state.left_out);
    state.left_out = 0;
    (void)pthread_mutex_unlock(&state.lock);
    (void)snprintf(text, sizeof text, "gRPC core: %.400s%s%s", args->message, count,
                   state.lines == LINES_PER_PERIOD ? "; more of this minute is left out" : "");
    state.warning(state.user, text);
}

void krpc_core_log_to(void (*warning)(void *user, const char *text), void *user)
{
    state.warning = warning;
    state.user = user;
    gpr_set_log_function(on_core_log);
}
