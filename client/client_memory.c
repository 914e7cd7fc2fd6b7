#include "client_memory.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client_ask.h"
#include "client_session.h"
#include "kaena/v1/runtime.pb-c.h"

#define DEFAULT_BYTES (UINT64_C(256) << 20)
#define MAP_NS (INT64_C(5000) * 1000000)

static bool is_local(const kaena_client *client, size_t daemon)
{
    return strncmp(client->endpoints[daemon].address, "unix:", 5) == 0;
}

static bool usable(void *user, size_t daemon)
{
    kaena_client *client = user;
    return is_local(client, daemon) && kaena_router_is_up(&client->router, daemon);
}

static uint64_t epoch(void *user, size_t daemon)
{
    kaena_client *client = user;
    char token[KAENA_TOKEN_TEXT];
    return is_local(client, daemon) ? kaena_session_current(client, daemon, token) : 0;
}

static kaena_status take_mapped(const ProtobufCMessage *answer, const char *address, void *to,
                                kaena_err *err)
{
    uint64_t *region = to;
    *region = ((const Kaena__V1__MapSharedMemoryResponse *)answer)->region;
    if (*region == 0)
        return KAENA_FAIL(err, INTERNAL, "the daemon at %s mapped region 0", address);
    return KAENA_OK;
}

/* Asks in the name of the session, whose epoch is given. */
static kaena_status ask(kaena_client *client, size_t daemon, kaena_ask *what, uint64_t *out_epoch,
                        kaena_err *err)
{
    kaena_outcome outcome;
    const int64_t deadline_ns = kaena_now_ns() + MAP_NS;
    char token[KAENA_TOKEN_TEXT];
    KAENA_TRY(kaena_session_open(client, daemon, deadline_ns, NULL, token, &outcome, err));
    *out_epoch = kaena_session_current(client, daemon, token);
    if (*out_epoch == 0)
        return KAENA_FAIL(err, UNAVAILABLE, "the daemon at %s has no sessions",
                          client->endpoints[daemon].address);
    kaena_target target;
    KAENA_TRY(kaena_target_open(&target, client, daemon, deadline_ns, NULL, &outcome, err));
    target.session = token;
    kaena_status status = kaena_attempt_ask(&target, what, &outcome, err);
    kaena_target_close(&target);
    return status;
}

/* A daemon that runs under another user can open the object when that belongs to the group of the
 * daemon's socket, as who may use the socket may arrange; its name is gone as soon as it is mapped.
 * Where that cannot be, the daemon says so. */
static void lend(const char *address, const char *name)
{
    const char *path = strncmp(address, "unix:///", 8) == 0 ? address + 7 : address + 5;
    struct stat st;
    if (stat(path, &st) != 0 || st.st_uid == geteuid())
        return;
    int fd = shm_open(name, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (fchown(fd, (uid_t)-1, st.st_gid) == 0)
        (void)fchmod(fd, 0660);
    (void)close(fd);
}

static kaena_status map(void *user, size_t daemon, const char *name, uint64_t size,
                        uint64_t *out_region, uint64_t *out_epoch, kaena_err *err)
{
    Kaena__V1__MapSharedMemoryRequest request = KAENA__V1__MAP_SHARED_MEMORY_REQUEST__INIT;
    request.name = (char *)name;
    request.size = size;
    lend(((const kaena_client *)user)->endpoints[daemon].address, name);
    kaena_ask what = {"MapSharedMemory", &request.base,
                      &kaena__v1__map_shared_memory_response__descriptor, take_mapped, out_region};
    return ask(user, daemon, &what, out_epoch, err);
}

static void unmap(void *user, size_t daemon, uint64_t region, uint64_t in_epoch)
{
    Kaena__V1__UnmapSharedMemoryRequest request = KAENA__V1__UNMAP_SHARED_MEMORY_REQUEST__INIT;
    request.region = region;
    kaena_ask what = {"UnmapSharedMemory", &request.base,
                      &kaena__v1__unmap_shared_memory_response__descriptor, NULL, NULL};
    if (epoch(user, daemon) == in_epoch)
        (void)!ask(user, daemon, &what, &in_epoch, NULL);
}

static void say(void *user, const char *text)
{
    const kaena_client *client = user;
    if (client->log)
        client->log(client->log_user, text);
}

static const kaena_pool_ops ops = {usable, epoch, map, unmap, say};

kaena_status kaena_client_make_pool(kaena_client *client, const kaena_client_options *options,
                                    kaena_err *err)
{
    bool any = false;
    for (size_t i = 0; i < client->endpoint_count; i++)
        any = any || is_local(client, i);
    client->log = options->log;
    client->log_user = options->log_user;
    if (!any || options->no_shared_memory)
        return KAENA_OK;
    uint64_t limit = options->shared_memory_bytes ? options->shared_memory_bytes : DEFAULT_BYTES;
    client->pool = kaena_pool_create(client->endpoint_count, limit, &ops, client);
    return client->pool ? KAENA_OK : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
}

kaena_status kaena_tensor_alloc(kaena_client *client, size_t bytes, kaena_tensor *tensor,
                                kaena_err *err)
{
    kaena_memory *memory = client->pool && bytes >= KAENA_POOL_LEAST_BYTES
                               ? kaena_pool_take(client->pool, bytes, true)
                               : NULL;
    void *data = memory ? kaena_memory_data(memory) : malloc(bytes ? bytes : 1);
    if (!data)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for a tensor of %zu bytes", bytes);
    tensor->data = data;
    tensor->bytes = bytes;
    tensor->memory = memory;
    return KAENA_OK;
}

void kaena_tensor_free(kaena_tensor *tensor)
{
    if (!tensor)
        return;
    kaena_tensor *items = tensor->kind == KAENA_TENSOR ? NULL : tensor->data;
    for (size_t i = 0; items && i < tensor->bytes / sizeof *items; i++)
        kaena_tensor_free(&items[i]);
    if (tensor->memory)
        kaena_pool_give(tensor->memory, false);
    else
        free(tensor->data);
    *tensor = (kaena_tensor){0};
}
