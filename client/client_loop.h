/* The thread that carries a client's asynchronous requests over gRPC. There is one as soon as a
 * request was submitted. */
#ifndef KAENA_CLIENT_LOOP_H
#define KAENA_CLIENT_LOOP_H

#include "client_async.h"
#include "client_call.h"

/* Starts it unless it runs. RESOURCE_EXHAUSTED: no thread. */
kaena_status kaena_loop_start(kaena_client *client, kaena_async **out_async,
                              kaena_err *err) KAENA_CHECKED;
/* Ends it; no request is under way any more. */
void kaena_loop_stop(kaena_client *client);

#endif
