/* The thread that carries a client's asynchronous requests and its sessions over gRPC. There is one
 * as soon as something needs it. */
#ifndef KAENA_CLIENT_LOOP_H
#define KAENA_CLIENT_LOOP_H

#include "client_async.h"
#include "client_call.h"

/* What is begun on the thread's queue has the address of one as its tag; |run| is called in the
 * thread. */
typedef struct kaena_tag {
    void (*run)(struct kaena_tag *tag, bool ok);
} kaena_tag;

/* Starts it unless it runs. RESOURCE_EXHAUSTED: no thread. */
kaena_status kaena_loop_start(kaena_client *client, kaena_err *err) KAENA_CHECKED;
/* Once it was started: */
kaena_async *kaena_loop_async(const kaena_client *client);
grpc_completion_queue *kaena_loop_queue(const kaena_client *client);
/* Whether this is its thread. */
bool kaena_loop_is_here(const kaena_client *client);
/* Ends it; nothing is under way on its queue any more. */
void kaena_loop_stop(kaena_client *client);

#endif
