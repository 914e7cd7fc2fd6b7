/* Lines in a file, rotated by size: path, path.1 (older), ... path.N. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
#include "krt_log_queue.h"
#include "krt_log_sink.h"

#define SECOND_NS UINT64_C(1000000000)
#define BATCH_BYTES 65536

typedef struct file_sink {
    krt_sink sink;
    char *path;
    uint64_t max_bytes, keep;
    bool json;
    krt_log_queue *queue;
    pthread_t thread;
    atomic_bool reopen;
    /* Of the thread: */
    int fd; /* -1: not open */
    uint64_t size;
    size_t n_batch, written;
    char batch[BATCH_BYTES];
} file_sink;

static void write_line(kaena_log_sink *base, const kaena_log_record *r)
{
    file_sink *s = (file_sink *)base;
    char line[KRT_LOG_BYTES + 1];
    size_t n = s->json ? krt_log_json(r, line) : kaena_log_text(r, true, line);
    line[n++] = '\n';
    krt_log_queue_put(s->queue, 0, line, n);
}

/* ---- the file ---- */

static int open_file(file_sink *s)
{
    struct stat st;
    int fd = open(s->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
    if (fd < 0)
        return errno;
    if (fstat(fd, &st) != 0 || S_ISDIR(st.st_mode)) {
        (void)close(fd);
        return EISDIR;
    }
    s->fd = fd;
    s->size = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    return 0;
}

static void close_file(file_sink *s)
{
    if (s->fd >= 0)
        (void)close(s->fd);
    s->fd = -1;
}

/* Moves path.N-1 to path.N, ..., path to path.1; gives an error number. */
static int rotate(file_sink *s)
{
    char from[PATH_MAX], to[PATH_MAX];
    if (s->keep == 0)
        return ftruncate(s->fd, 0) == 0 ? (s->size = 0, 0) : errno;
    for (uint64_t i = s->keep; i > 0; i--) {
        (void)snprintf(to, sizeof to, "%s.%llu", s->path, (unsigned long long)i);
        if (i == 1)
            (void)snprintf(from, sizeof from, "%s", s->path);
        else
            (void)snprintf(from, sizeof from, "%s.%llu", s->path, (unsigned long long)(i - 1));
        if (rename(from, to) != 0 && errno != ENOENT)
            return errno;
    }
    close_file(s);
    return open_file(s);
}

/* Writes the batch, or what is left of it; gives an error number. */
static int flush(file_sink *s)
{
    if (atomic_exchange(&s->reopen, false))
        close_file(s);
    int e = s->fd < 0 && s->n_batch ? open_file(s) : 0;
    if (e == 0 && s->max_bytes && s->size && s->size + s->n_batch > s->max_bytes && !s->written)
        e = rotate(s);
    while (e == 0 && s->written < s->n_batch) {
        ssize_t n = write(s->fd, s->batch + s->written, s->n_batch - s->written);
        if (n >= 0) {
            s->written += (size_t)n;
            s->size += (uint64_t)n;
        } else if (errno != EINTR) {
            e = errno;
        }
    }
    if (e == 0)
        s->n_batch = s->written = 0;
    return e;
}

/* Takes lines for as long as they fit into the batch and the file. */
static void gather(file_sink *s)
{
    uint64_t left = s->size < s->max_bytes ? s->max_bytes - s->size : s->max_bytes, ignored;
    uint64_t room = s->max_bytes && left < BATCH_BYTES ? left : BATCH_BYTES;
    for (size_t n;
         s->n_batch < room && (n = krt_log_queue_get(s->queue, s->batch + s->n_batch,
                                                     (size_t)room - s->n_batch, &ignored)) > 0;)
        s->n_batch += n;
    /* A line that does not fit any more begins the next file. */
    if (s->n_batch == 0)
        s->n_batch = krt_log_queue_get(s->queue, s->batch, KRT_LOG_BYTES + 1, &ignored);
}

static void *work(void *arg)
{
    file_sink *s = arg;
    for (;;) {
        uint64_t deadline = krt_log_queue_deadline(s->queue);
        gather(s);
        if (s->n_batch == 0 && !atomic_load(&s->reopen)) {
            if (deadline != UINT64_MAX)
                break;
            krt_log_queue_wait(s->queue, 1, UINT64_MAX);
            continue;
        }
        int e = flush(s);
        krt_sink_lost(&s->sink, krt_log_queue_lost(s->queue));
        if (e == 0) {
            krt_sink_works(&s->sink);
            continue;
        }
        krt_sink_failed(&s->sink, "%s", strerror(e));
        if (deadline != UINT64_MAX) /* at the end there is no waiting for room */
            break;
        krt_log_queue_pause(s->queue, krt_log_now_ns() + SECOND_NS);
    }
    close_file(s);
    return NULL;
}

/* ---- the sink ---- */

static void reopen_sink(krt_sink *sink)
{
    file_sink *s = (file_sink *)sink;
    atomic_store(&s->reopen, true);
    krt_log_queue_kick(s->queue);
}

static void hold(krt_sink *sink, bool wait)
{
    file_sink *s = (file_sink *)sink;
    if (wait) {
        krt_log_queue_hold(s->queue);
        return;
    }
    atomic_store(&s->reopen, true); /* the older one may have rotated */
    krt_log_queue_release(s->queue);
}

static void destroy(krt_sink *sink)
{
    file_sink *s = (file_sink *)sink;
    (void)krt_log_queue_destroy(s->queue);
    close_file(s);
    free(s->path);
    free(s);
}

static bool finish(krt_sink *sink, uint64_t deadline_ns)
{
    file_sink *s = (file_sink *)sink;
    krt_log_queue_stop(s->queue, deadline_ns);
    struct timespec t = {.tv_sec = (time_t)(deadline_ns / SECOND_NS),
                         .tv_nsec = (long)(deadline_ns % SECOND_NS)};
    /* A disk that hangs keeps the thread, and so the sink; the process ends all the same. */
    return pthread_clockjoin_np(s->thread, NULL, CLOCK_MONOTONIC, &t) == 0;
}

kaena_status krt_sink_file(const krt_sink_config *c, krt_sink **out, kaena_err *err)
{
    file_sink *s = calloc(1, sizeof *s);
    if (!s)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "log: out of memory");
    (void)snprintf(s->sink.label, sizeof s->sink.label, "file '%.140s'", c->path);
    s->sink.base.write = write_line;
    s->sink.reopen = reopen_sink;
    s->sink.hold = hold;
    s->sink.finish = finish;
    s->sink.destroy = destroy;
    s->fd = -1;
    s->path = strdup(c->path);
    s->max_bytes = c->max_bytes;
    s->keep = c->keep;
    s->json = c->json;
    s->queue = krt_log_queue_create((size_t)c->buffer_bytes);
    if (!s->path || !s->queue) {
        destroy(&s->sink);
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "log: out of memory");
    }
    int e = open_file(s);
    if (e == 0)
        e = pthread_create(&s->thread, NULL, work, s);
    if (e) {
        kaena_status st = kaena_err_set(err, kaena_status_of_errno(e), "log to %s: %s",
                                        s->sink.label, strerror(e));
        destroy(&s->sink);
        return st;
    }
    *out = &s->sink;
    return KAENA_OK;
}
