/* The memory that a client shares with its daemons, over gRPC. */
#ifndef KAENA_CLIENT_MEMORY_H
#define KAENA_CLIENT_MEMORY_H

#include "client_call.h"
#include "client_pool.h"

/* Makes client->pool where there is a daemon to share memory with. */
kaena_status kaena_client_make_pool(kaena_client *client, const kaena_client_options *options,
                                    kaena_err *err) KAENA_CHECKED;

#endif
