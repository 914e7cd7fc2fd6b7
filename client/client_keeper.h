/* The thread that keeps a client's replicas: finds daemons that came back, and brings them their
 * models. There is one as soon as a model was opened. */
#ifndef KAENA_CLIENT_KEEPER_H
#define KAENA_CLIENT_KEEPER_H

#include "client_call.h"
#include "client_replicas.h"

/* A set of replicas in the care of a keeper. */
typedef struct kaena_kept {
    kaena_replicas *replicas;
    struct kaena_kept *next;
    uint64_t round; /* of the keeper, when it looked last */
} kaena_kept;

/* Starts the client's keeper unless it runs. RESOURCE_EXHAUSTED: no thread. */
kaena_status kaena_keeper_start(kaena_client *client, kaena_err *err) KAENA_CHECKED;
/* Ends it, and cancels what it is doing. */
void kaena_keeper_stop(kaena_client *client);

/* From now on the replicas are kept; remove waits until the keeper has let go of them. */
void kaena_keeper_add(kaena_client *client, kaena_kept *kept);
void kaena_keeper_remove(kaena_client *client, kaena_kept *kept);

/* Becomes true when the keeper is to end: for calls that it makes. */
const atomic_bool *kaena_keeper_stopping(const kaena_client *client);

#endif
