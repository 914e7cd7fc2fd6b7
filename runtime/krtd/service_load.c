/* Runtime.Load: a NEFF as a stream of chunks into a sealed memory file, or by path below the model
 * directory. Reading, verifying and placing happen on the loaders' threads.
 *
 *     options --path--> open -----------------------------> place -> answer
 *        |                                                    ^
 *        +--size--> chunk -> write -> chunk -> ... -> seal ---+
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
#include "krt_beneath.h"
#include "krt_clients.h"
#include "krt_group.h"
#include "krt_log.h"
#include "krt_model.h"
#include "log.h"
#include "rpc_pb.h"

/* Pieces of one chunk message that need no list from malloc. */
#define CHUNK_PIECES 64
/* Of LoadOptions.file: messages have to say more than a name. */
#define MAX_FILE_TEXT 100

typedef struct load {
    krt_daemon *daemon;
    krpc_call *call;
    krt_job job;
    grpc_byte_buffer *message; /* the chunk to be written */
    int fd;
    krt_caller caller;
    krt_loading loading;
    kaena_arena arena;              /* of |name|, |path|, |file|, |options| */
    const char *name, *path, *file; /* "" = not given */
    uint64_t size, written;
    krt_load_options options;
} load;

static void next_message(load *l, krpc_read_done *done)
{
    krpc_call_read(l->call, done, l);
}

/* Answers with |reply|, or (NULL) with |err|: last, so that whoever has his answer finds
 * descriptors and places for loads free again. */
static void end(load *l, grpc_byte_buffer *reply, const kaena_err *err)
{
    krt_daemon *d = l->daemon;
    krpc_call *call = l->call;
    if (!reply)
        krt_log_failure(krpc_call_request_id(call), l->caller.owner, *l->name ? l->name : NULL,
                        err);
    grpc_byte_buffer_destroy(l->message);
    if (l->fd >= 0)
        (void)close(l->fd);
    (void)pthread_mutex_lock(&d->lock);
    d->n_loads--;
    (void)pthread_mutex_unlock(&d->lock);
    krt_loading_leave(d, &l->loading);
    krt_caller_leave(&l->caller);
    kaena_arena_fini(&l->arena);
    free(l);
    if (reply)
        krpc_reply(call, reply);
    else
        krpc_fail(call, err);
}

/* A load whose session has ended, or whose caller has stopped waiting for it, is of no use to
 * anybody. */
static kaena_status check_wanted(load *l, kaena_err *err)
{
    if (krt_loading_abandoned(l->daemon, &l->loading))
        return KRT_FAIL(err, ABORTED, NO_SESSION, "load: its session has ended");
    if (krpc_call_cancelled(l->call))
        return KAENA_FAIL(err, CANCELLED, "load: its caller has stopped waiting for it");
    return KAENA_OK;
}

/* Finds the model's TPBs, in the group that is named. */
static kaena_status find_room(load *l, krt_model *m, krt_image *image, kaena_err *err)
{
    krt_daemon *d = l->daemon;
    krt_placing placing = {.name = m->name,
                           .replicas = l->options.replicas ? l->options.replicas : 1};
    if (*l->options.group) {
        krt_group *group = krt_group_find(d, l->options.group, 0, err);
        if (!group)
            return KAENA_NOT_FOUND;
        kaena_status st = krt_model_join(m, group, err);
        if (st != KAENA_OK) {
            (void)krt_group_unref(group);
            return st;
        }
        placing.group = group->of_backend;
    }
    kaena_status st = d->backend->load(image, &placing, err);
    if (st == KAENA_RESOURCE_EXHAUSTED)
        krt_reason_default(err, KRT_REASON(NO_MEMORY));
    else if (st == KAENA_FAILED_PRECONDITION)
        krt_reason_default(err, KRT_REASON(NO_TPBS));
    return st;
}

/* A group that is destroyed unloads its models, but could not unload one that was being loaded. */
static kaena_status check_group(krt_model *m, kaena_err *err)
{
    krt_group *group = m->group;
    if (!group || !krt_group_closing(group))
        return KAENA_OK;
    (void)KAENA_FAIL(err, ABORTED, "load '%s': group '%s' has been destroyed meanwhile", m->name,
                     group->name);
    krt_model_unload(m, NULL);
    (void)krt_model_unref(m);
    return KAENA_ABORTED;
}

/* What messages call the artifact: what its client knows it by. */
static const char *label_of(const load *l)
{
    const char *names[] = {l->path, l->name, l->file, "unnamed"};
    size_t i = 0;
    while (!*names[i])
        i++;
    return names[i];
}

static void load_from_fd(krt_job *job);

/* NULL in |*out|: the load begins again when a model of that name has been unloaded, and |l| is
 * another thread's. */
static kaena_status place(load *l, krt_model **out, kaena_err *err)
{
    krt_daemon *d = l->daemon;
    krt_image *image;
    const char *label = label_of(l);
    kaena_status st = d->backend->open(d->devices, l->fd, label, &image, err);
    if (st != KAENA_OK) {
        krt_reason_default(err, KRT_REASON(BAD_ARTIFACT));
        return st;
    }
    krt_image_info info = d->backend->info(image);
    krt_model *m = NULL;
    const char *name = *l->name ? l->name : info.model_name;
    if (info.n_in > KRPC_MAX_TENSORS || info.n_out > KRPC_MAX_TENSORS)
        st = KRT_FAIL(err, INVALID_ARGUMENT, LIMIT,
                      "'%s' has %zu inputs and %zu outputs: at most %d of each are served", label,
                      info.n_in, info.n_out, KRPC_MAX_TENSORS);
    l->job.run = load_from_fd;
    if (st == KAENA_OK)
        st = krt_model_reserve(d, name, l->options.owner, &l->job, &m, err);
    if (st == KAENA_OK && m) {
        st = find_room(l, m, image, err);
        if (st == KAENA_OK)
            st = krt_model_ready(m, image, &l->options, err);
    }
    if (st != KAENA_OK) {
        d->backend->close(image);
        if (m)
            krt_model_abandon(m);
        (void)krt_model_unref(m);
        return kaena_err_wrap(err, st, "load '%s'", label);
    }
    *out = m;
    if (!m)
        d->backend->close(image);
    return m ? check_group(m, err) : KAENA_OK;
}

static load *load_of_job(krt_job *job)
{
    return (load *)((char *)job - offsetof(load, job));
}

static void load_from_fd(krt_job *job)
{
    load *l = load_of_job(job);
    kaena_err err;
    krt_model *m = NULL;
    if (check_wanted(l, &err) != KAENA_OK || place(l, &m, &err) != KAENA_OK) {
        end(l, NULL, &err);
        return;
    }
    if (!m)
        return;
    if (check_wanted(l, &err) !=
        KAENA_OK) { /* whoever let go of the session's models saw it loading */
        krt_model_unload(m, NULL);
        (void)krt_model_unref(m);
        end(l, NULL, &err);
        return;
    }
    kaena_arena arena;
    kaena_arena_init(&arena, 0);
    Kaena__V1__LoadResponse r = KAENA__V1__LOAD_RESPONSE__INIT;
    Kaena__V1__Model description;
    krt_model_describe(m, &description, &arena);
    r.model = &description;
    struct ucred peer;
    char who[64] = "over TCP";
    if (krpc_call_peer(l->call, &peer))
        (void)snprintf(who, sizeof who, "by uid %ld, pid %ld", (long)peer.uid, (long)peer.pid);
    kaena_log(KAENA_LOG_INFO,
              "model '%s' loaded %s: %zu TPBs, %" PRIu64 " bytes of device memory, request %s",
              m->name, who, description.n_tpbs, description.dram_bytes,
              krpc_call_request_id(l->call));
    grpc_byte_buffer *reply = krpc_pb_pack(&r.base);
    kaena_arena_fini(&arena);
    (void)krt_model_unref(m);
    end(l, reply, NULL);
}

/* ---- by path ---- */

/* The path below the model directory; a client on this host may give it whole. */
static const char *relative(const krt_model_dir *dir, const char *path)
{
    size_t n = strlen(dir->path);
    if (strncmp(path, dir->path, n) == 0 && path[n] == '/')
        path += n;
    else if (*path == '/')
        return path; /* leads out, and is refused */
    while (*path == '/')
        path++;
    return path;
}

static kaena_status open_path(load *l, kaena_err *err)
{
    const krt_model_dir *dir = l->daemon->model_dir;
    if (!dir) {
        kaena_status st =
            KAENA_FAIL(err, PERMISSION_DENIED,
                       "load '%s' by path: this daemon has no model directory", l->path);
        kaena_err_hint(err, "start krtd with --model-dir, or stream the file");
        return st;
    }
    int fd = krt_open_beneath(dir->fd, relative(dir, l->path));
    if (fd < 0 && (errno == EXDEV || errno == ELOOP)) {
        kaena_status st =
            KAENA_FAIL(err, PERMISSION_DENIED, "load '%s': leads out of the model directory '%s'",
                       l->path, dir->path);
        kaena_err_hint(err,
                       "only files below the model directory are loaded by path; stream others");
        return st;
    }
    if (fd < 0)
        return kaena_err_set(err, kaena_status_of_errno(errno), "load '%s' below '%s': %s", l->path,
                             dir->path, strerror(errno));
    struct stat meta;
    if (fstat(fd, &meta) != 0 || !S_ISREG(meta.st_mode)) {
        (void)close(fd);
        return KAENA_FAIL(err, INVALID_ARGUMENT, "load '%s': not a regular file", l->path);
    }
    l->fd = fd;
    return KAENA_OK;
}

static void load_path(krt_job *job)
{
    load *l = load_of_job(job);
    kaena_err err;
    if (open_path(l, &err) == KAENA_OK)
        load_from_fd(job);
    else
        end(l, NULL, &err);
}

/* ---- streamed ---- */

/* Nobody, not even we, can change the file from here on: what was verified is what runs. */
static kaena_status seal(load *l, kaena_err *err)
{
    if (fcntl(l->fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        return KAENA_OK;
    return KAENA_FAIL(err, INTERNAL, "load: seal: %s", strerror(errno));
}

static void load_stream(krt_job *job)
{
    load *l = load_of_job(job);
    kaena_err err;
    if (seal(l, &err) == KAENA_OK)
        load_from_fd(job);
    else
        end(l, NULL, &err);
}

static kaena_status write_piece(load *l, const uint8_t *data, size_t size, kaena_err *err)
{
    while (size) {
        ssize_t n = pwrite(l->fd, data, size, (off_t)l->written);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return kaena_err_set(err, kaena_status_of_errno(n ? errno : ENOSPC),
                                 "load: write byte %" PRIu64 " of %" PRIu64 ": %s", l->written,
                                 l->size, strerror(n ? errno : ENOSPC));
        data += n;
        size -= (size_t)n;
        l->written += (uint64_t)n;
    }
    return KAENA_OK;
}

static kaena_status write_chunk(load *l, kaena_err *err)
{
    krpc_piece pieces[CHUNK_PIECES], *made;
    krpc_message m;
    KAENA_TRY(krpc_message_of(l->message, pieces, CHUNK_PIECES, &m, &made, err));
    krpc_load_part part;
    krpc_range range;
    kaena_status st = krpc_read_load_request(&m, &part, &range, err);
    if (st == KAENA_OK && part != KRPC_LOAD_CHUNK)
        st = KAENA_FAIL(err, INVALID_ARGUMENT, "load: expected a chunk, got %s",
                        part == KRPC_LOAD_OPTIONS ? "options again" : "an empty message");
    if (st == KAENA_OK && range.size > l->size - l->written)
        st = KAENA_FAIL(err, INVALID_ARGUMENT,
                        "load: more than the %" PRIu64 " bytes that options.size announced",
                        l->size);
    size_t left = st == KAENA_OK ? range.size : 0;
    for (size_t at = range.at, i = range.piece; left && st == KAENA_OK; i++, at = 0) {
        size_t n = m.pieces[i].size - at;
        n = n < left ? n : left;
        st = write_piece(l, m.pieces[i].data + at, n, err);
        left -= n;
    }
    free(made);
    return st;
}

static void on_chunk(krpc_call *call, grpc_byte_buffer *message, void *arg);

static void write_job(krt_job *job)
{
    load *l = load_of_job(job);
    kaena_err err;
    kaena_status st = write_chunk(l, &err);
    grpc_byte_buffer_destroy(l->message);
    l->message = NULL;
    if (st == KAENA_OK)
        next_message(l, on_chunk);
    else
        end(l, NULL, &err);
}

static void on_chunk(krpc_call *call, grpc_byte_buffer *message, void *arg)
{
    load *l = arg;
    l->message = message;
    if (message) {
        l->job.run = write_job;
    } else if (l->written == l->size && !krpc_call_cancelled(call)) {
        l->job.run = load_stream;
    } else {
        kaena_err err;
        (void)KAENA_FAIL(&err, INVALID_ARGUMENT,
                         "load: the stream ended after %" PRIu64 " of %" PRIu64 " bytes",
                         l->written, l->size);
        end(l, NULL, &err);
        return;
    }
    krt_jobs_post(l->daemon->loaders, &l->job);
}

static kaena_status begin_stream(load *l, kaena_err *err)
{
    uint64_t most = l->daemon->config->limits.model_bytes;
    if (l->size == 0) {
        kaena_status st = KAENA_FAIL(err, INVALID_ARGUMENT, "load: neither path nor size is given");
        kaena_err_hint(err, "the first message's options carry one of them");
        return st;
    }
    if (l->size > most) {
        kaena_status st = KRT_FAIL(err, RESOURCE_EXHAUSTED, LIMIT,
                                   "load: %" PRIu64 " bytes, the limit of this daemon is %" PRIu64,
                                   l->size, most);
        err->needed = l->size;
        err->available = most;
        return st;
    }
    l->fd = memfd_create("kaena-neff", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (l->fd < 0 || ftruncate(l->fd, (off_t)l->size) != 0)
        return kaena_err_set(err, kaena_status_of_errno(errno), "load: %" PRIu64 " bytes: %s",
                             l->size, strerror(errno));
    return KAENA_OK;
}

/* ---- options ---- */

/* The end of a path says more than its beginning. */
static const char *file_text(const ProtobufCBinaryData *file, kaena_arena *arena)
{
    size_t n = file->len < MAX_FILE_TEXT ? file->len : MAX_FILE_TEXT;
    if (!n)
        return "";
    const char *end = (const char *)file->data + file->len - n;
    const char *text = kaena_arena_printf(arena, "%.*s", (int)n, end);
    return text ? text : "";
}

static kaena_status read_options(load *l, grpc_byte_buffer *message, kaena_err *err)
{
    ProtobufCMessage *m;
    kaena_status st =
        krpc_pb_parse(message, &kaena__v1__load_request__descriptor, &l->arena, &m, err);
    const Kaena__V1__LoadRequest *q = st == KAENA_OK ? (Kaena__V1__LoadRequest *)m : NULL;
    if (q && q->part_case != KAENA__V1__LOAD_REQUEST__PART_OPTIONS)
        st = KAENA_FAIL(err, INVALID_ARGUMENT, "load: the first message must carry options");
    if (st == KAENA_OK) {
        const Kaena__V1__LoadOptions *o = q->options;
        l->name = o->name;
        l->path = o->path;
        l->file = file_text(&o->file, &l->arena);
        l->size = o->size;
        l->options = (krt_load_options){.owner = o->persistent ? 0 : l->caller.owner,
                                        .version = o->version,
                                        .group = o->group,
                                        .replicas = o->replicas,
                                        .queue_depth = o->queue_depth,
                                        .timeout_ms = o->timeout_ms};
        if (strlen(o->version) >= KRT_VERSION_TEXT)
            st = KAENA_FAIL(err, INVALID_ARGUMENT, "load: version of %zu bytes: at most %d",
                            strlen(o->version), KRT_VERSION_TEXT - 1);
        else if (o->queue_depth > l->daemon->config->limits.queue_depth)
            st = KRT_FAIL(err, INVALID_ARGUMENT, LIMIT,
                          "load: queue_depth %" PRIu32 ", the limit of this daemon is %" PRIu64,
                          o->queue_depth, l->daemon->config->limits.queue_depth);
        else if (*o->path && o->size)
            st = KAENA_FAIL(err, INVALID_ARGUMENT, "load: give path or size, not both");
    }
    return st;
}

static void on_options(krpc_call *call, grpc_byte_buffer *message, void *arg)
{
    (void)call;
    load *l = arg;
    kaena_err err;
    kaena_status st =
        message ? read_options(l, message, &err)
                : KAENA_FAIL(&err, INVALID_ARGUMENT, "load: the stream ended before the options");
    grpc_byte_buffer_destroy(message);
    if (st == KAENA_OK && !*l->path)
        st = begin_stream(l, &err);
    if (st != KAENA_OK) {
        end(l, NULL, &err);
    } else if (*l->path) {
        l->job.run = load_path;
        krt_jobs_post(l->daemon->loaders, &l->job);
    } else {
        next_message(l, on_chunk);
    }
}

/* A place among the loads in progress. */
static kaena_status begin(krt_daemon *d, krpc_call *call, load **out, kaena_err *err)
{
    krt_caller caller;
    uint64_t most = d->config->limits.loads;
    KAENA_TRY(krt_caller_enter(d, call, &caller, err));
    (void)pthread_mutex_lock(&d->lock);
    bool room = d->n_loads < most;
    load *l = room ? calloc(1, sizeof *l) : NULL;
    d->n_loads += l != NULL;
    (void)pthread_mutex_unlock(&d->lock);
    if (!l) {
        krt_caller_leave(&caller);
        if (room)
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "load: out of memory");
        kaena_status st =
            KRT_FAIL_LIMIT(err, most + 1, most,
                           "%" PRIu64 " loads are in progress, the limit of this daemon", most);
        kaena_err_hint(err, "try again when one has ended");
        return st;
    }
    l->daemon = d;
    l->call = call;
    l->fd = -1;
    l->name = l->path = l->file = "";
    l->caller = caller;
    kaena_arena_init(&l->arena, KRPC_PB_QUOTA);
    l->loading = (krt_loading){.owner = caller.owner, .call = call};
    krt_loading_enter(d, &l->loading);
    *out = l;
    return KAENA_OK;
}

void krt_load(krpc_call *call, void *user)
{
    krt_daemon *d = user;
    kaena_err err;
    load *l = NULL;
    if (!krt_accept(d, &err)) {
        krt_fail(call, NULL, &err);
        return;
    }
    krpc_call_on_close(call, krt_release_on_close, d);
    if (begin(d, call, &l, &err) == KAENA_OK)
        next_message(l, on_options);
    else
        krt_fail(call, NULL, &err);
}
