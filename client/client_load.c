#include "client_load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client_ask.h"
#include "kaena/v1/runtime.pb-c.h"

#define DEFAULT_LOAD_TIMEOUT_MS 300000
#define CHUNK_BYTES (1u << 20)

static kaena_status open_file(const char *path, int *out_fd, uint64_t *out_size, kaena_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        kaena_status code = errno == ENOENT                      ? KAENA_NOT_FOUND
                            : errno == EACCES                    ? KAENA_PERMISSION_DENIED
                            : errno == EMFILE || errno == ENFILE ? KAENA_RESOURCE_EXHAUSTED
                                                                 : KAENA_INVALID_ARGUMENT;
        return kaena_err_set(err, code, "cannot open '%s': %s", path, strerror(errno));
    }
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size == 0) {
        close(fd);
        return KAENA_FAIL(err, INVALID_ARGUMENT, "'%s' is not a file, or is empty", path);
    }
    *out_fd = fd;
    *out_size = (uint64_t)st.st_size;
    return KAENA_OK;
}

/* |*out| is a copy of |text|, NULL of NULL. */
static bool copy_text(char **out, const char *text)
{
    *out = text ? strdup(text) : NULL;
    return !text || *out;
}

kaena_status kaena_artifact_open(const char *path, const kaena_load_options *options,
                                 kaena_artifact *out, kaena_err *err)
{
    if (options && options->size < sizeof *options)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "kaena_load_options: size %u is not %zu",
                          options->size, sizeof *options);
    kaena_artifact a = {.fd = -1};
    if (options)
        a.options = *options;
    if (!a.options.by_path)
        KAENA_TRY(open_file(path, &a.fd, &a.size, err));
    if (!copy_text(&a.path, path) || !copy_text(&a.name, a.options.name) ||
        !copy_text(&a.group, a.options.group) || !copy_text(&a.version, a.options.version)) {
        kaena_artifact_close(&a);
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    }
    a.options.name = a.name;
    a.options.group = a.group;
    a.options.version = a.version;
    *out = a;
    return KAENA_OK;
}

void kaena_artifact_close(kaena_artifact *a)
{
    if (a->fd >= 0)
        close(a->fd);
    free(a->path);
    free(a->name);
    free(a->group);
    free(a->version);
    *a = (kaena_artifact){.fd = -1};
}

int64_t kaena_artifact_deadline(const kaena_artifact *a)
{
    return kaena_deadline(a->options.timeout_ms, DEFAULT_LOAD_TIMEOUT_MS);
}

static grpc_byte_buffer *options_message(const kaena_load *load)
{
    const kaena_artifact *a = load->artifact;
    Kaena__V1__LoadOptions options = KAENA__V1__LOAD_OPTIONS__INIT;
    Kaena__V1__LoadRequest request = KAENA__V1__LOAD_REQUEST__INIT;
    if (a->name)
        options.name = a->name;
    if (a->group)
        options.group = a->group;
    if (a->version)
        options.version = a->version;
    if (a->fd < 0)
        options.path = a->path;
    else
        options.file = (ProtobufCBinaryData){.len = strlen(a->path), .data = (uint8_t *)a->path};
    options.size = a->size;
    options.queue_depth = a->options.queue_depth;
    options.persistent = load->persistent;
    options.timeout_ms = a->options.execution_timeout_ms;
    options.replicas = a->options.replicas;
    request.part_case = KAENA__V1__LOAD_REQUEST__PART_OPTIONS;
    request.options = &options;
    return kaena_pack(&request.base);
}

/* The file is read, not mapped: who shortens it meanwhile gets an error, not a signal. */
static kaena_status next_message(void *user, grpc_byte_buffer **out, kaena_err *err)
{
    kaena_load *load = user;
    const kaena_artifact *a = load->artifact;
    if (!load->began) {
        load->began = true;
        *out = options_message(load);
        return KAENA_OK;
    }
    if (a->fd < 0 || load->sent == a->size) {
        *out = NULL;
        return KAENA_OK;
    }
    size_t want = a->size - load->sent < CHUNK_BYTES ? (size_t)(a->size - load->sent) : CHUNK_BYTES;
    /* LoadRequest.chunk, field 2, by hand: the bytes are read to where they are sent from. */
    uint8_t head[8] = {2 << 3 | 2};
    size_t head_size = 1;
    for (size_t v = want;; v >>= 7) {
        head[head_size++] = (uint8_t)(v < 0x80 ? v : v | 0x80);
        if (v < 0x80)
            break;
    }
    grpc_slice slice = grpc_slice_malloc_large(head_size + want);
    uint8_t *to = GRPC_SLICE_START_PTR(slice);
    memcpy(to, head, head_size);
    ssize_t got = 0;
    for (size_t have = 0; have < want; have += (size_t)got) {
        got = pread(a->fd, to + head_size + have, want - have, (off_t)(load->sent + have));
        if (got <= 0) {
            grpc_slice_unref(slice);
            return KAENA_FAIL(err, DATA_LOSS, "'%s' cannot be read at byte %llu: %s", a->path,
                              (unsigned long long)(load->sent + have),
                              got < 0 ? strerror(errno) : "it became shorter");
        }
    }
    load->sent += want;
    *out = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return KAENA_OK;
}

kaena_status kaena_attempt_load(const kaena_target *target, void *user, kaena_outcome *outcome,
                                kaena_err *err)
{
    kaena_load *load = user;
    const kaena_ask ask = {.method = "Load",
                           .answer_type = &kaena__v1__load_response__descriptor,
                           .take = kaena_take_loaded_model,
                           .to = load->to};
    grpc_byte_buffer *answer;
    load->sent = 0;
    load->began = false;
    KAENA_TRY(kaena_exchange_stream(target, ask.method, next_message, load, &answer, outcome, err));
    *outcome = KAENA_OUTCOME_FINAL;
    return kaena_take_answer(&ask, answer, kaena_conn_address(target->conn), err);
}

kaena_status kaena_model_load(kaena_client *client, const char *path,
                              const kaena_load_options *options, kaena_model_info **out,
                              kaena_err *err)
{
    kaena_artifact artifact;
    KAENA_TRY(kaena_artifact_open(path, options, &artifact, err));
    kaena_load load = {.artifact = &artifact, .persistent = true, .to = out};
    kaena_status status = kaena_route_call(client, NULL, kaena_attempt_load, &load, false,
                                           kaena_artifact_deadline(&artifact), err);
    kaena_artifact_close(&artifact);
    return status;
}
