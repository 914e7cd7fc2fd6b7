/* Clients: their making and their end. */
#include "kaena/client.h"

#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "client_address.h"
#include "client_call.h"
#include "client_keeper.h"
#include "client_loop.h"
#include "client_memory.h"
#include "client_model.h"
#include "client_session.h"

#define DEFAULT_TIMEOUT_MS 30000

static kaena_status make_endpoints(kaena_client *client, const kaena_addresses *addresses,
                                   kaena_err *err)
{
    client->endpoints = calloc(addresses->count, sizeof *client->endpoints);
    if (!client->endpoints)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    for (size_t i = 0; i < addresses->count; i++) {
        KAENA_TRY(kaena_endpoint_init(&client->endpoints[i], addresses->items[i].address,
                                      &client->tls, err));
        client->endpoint_count++;
    }
    client->sessions = kaena_sessions_create(client);
    if (!client->sessions)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    return kaena_router_init(&client->router, addresses->count, err);
}

static kaena_status fill(kaena_client *client, const kaena_client_options *o,
                         const kaena_addresses *addresses, kaena_err *err)
{
    client->timeout_ms = o->timeout_ms > 0 ? o->timeout_ms : DEFAULT_TIMEOUT_MS;
    client->fail_fast = o->fail_fast != 0;
    client->streams = o->streams != 0;
    if (getrandom(&client->id_base, sizeof client->id_base, 0) != sizeof client->id_base)
        client->id_base = (uint64_t)time(NULL) << 20;
    KAENA_TRY(kaena_tls_init(&client->tls, o, err));
    KAENA_TRY(make_endpoints(client, addresses, err));
    return kaena_client_make_pool(client, o, err);
}

/* Of a client in any state of making. */
static void free_client(kaena_client *client)
{
    kaena_pool_close(client->pool);
    kaena_sessions_destroy(client->sessions);
    if (client->router.daemons)
        kaena_router_fini(&client->router);
    for (size_t i = 0; i < client->endpoint_count; i++)
        kaena_endpoint_fini(&client->endpoints[i]);
    free(client->endpoints);
    kaena_tls_fini(&client->tls);
    pthread_mutex_destroy(&client->lock);
    free(client);
    grpc_shutdown();
}

kaena_status kaena_client_open(const kaena_client_options *options, kaena_client **out,
                               kaena_err *err)
{
    static const kaena_client_options none = {.size = sizeof none};
    const kaena_client_options *o = options ? options : &none;
    if (o->size < sizeof *o)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "kaena_client_options: size %u is not %zu",
                          o->size, sizeof *o);
    kaena_addresses addresses;
    KAENA_TRY(kaena_addresses_find(o->address, o->daemon, &addresses, err));
    kaena_client *client = calloc(1, sizeof *client);
    kaena_status status = KAENA_OK;
    if (client) {
        grpc_init();
        pthread_mutex_init(&client->lock, NULL);
        status = fill(client, o, &addresses, err);
        if (status != KAENA_OK)
            free_client(client);
    } else {
        status = KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    }
    kaena_addresses_fini(&addresses);
    if (status == KAENA_OK)
        *out = client;
    return status;
}

void kaena_client_close(kaena_client *client)
{
    if (!client)
        return;
    while (client->models)
        kaena_model_close(client->models);
    kaena_keeper_stop(client);
    kaena_pool_close(client->pool);
    client->pool = NULL;
    kaena_sessions_close(client->sessions);
    kaena_loop_stop(client);
    for (size_t i = 0; i < client->idle_count; i++) {
        grpc_completion_queue_shutdown(client->idle[i]);
        grpc_completion_queue_destroy(client->idle[i]);
    }
    free_client(client);
}
