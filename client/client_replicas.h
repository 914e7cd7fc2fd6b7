/* The replicas of one model: which daemons should have it, which have it, and what is done about
 * those that have not. Knows no gRPC: what is done is done by a table of functions. */
#ifndef KAENA_CLIENT_REPLICAS_H
#define KAENA_CLIENT_REPLICAS_H

#include <pthread.h>

#include "client_router.h"

/* How the model gets to a daemon. Each sets |*outcome| when it fails. */
typedef struct kaena_replica_ops {
    /* OK: the daemon has the model, the same artifact. MISSING: it has not. */
    kaena_status (*find)(void *user, size_t daemon, kaena_outcome *outcome, kaena_err *err);
    kaena_status (*load)(void *user, size_t daemon, kaena_outcome *outcome, kaena_err *err);
    void (*unload)(void *user, size_t daemon);
} kaena_replica_ops;

typedef struct kaena_slot {
    atomic_ullong answered; /* calls of this handle; any thread */
    bool ours;              /* loaded here, not found */
    bool held;              /* had it once, or perhaps */
    unsigned failures;
    int64_t again_ns;  /* not before */
    kaena_err failure; /* of the last attempt, code OK = none */
} kaena_slot;

/* Any thread; |lock| is held while the model is brought to a daemon, so that one at a time does. */
typedef struct kaena_replicas {
    kaena_router *router;
    kaena_places places;
    uint32_t wanted; /* brought to so many daemons */
    bool look_first; /* it may be there already, loaded by others */
    const kaena_replica_ops *ops;
    void *user;
    pthread_mutex_t lock;
    kaena_slot *slots; /* [router->count], under |lock| */
    bool closed;       /* under |lock| */
} kaena_replicas;

/* |model| is borrowed. |wanted| is cut to the number of daemons. */
kaena_status kaena_replicas_init(kaena_replicas *replicas, kaena_router *router, uint32_t wanted,
                                 const char *model, const kaena_replica_ops *ops, void *user,
                                 kaena_err *err) KAENA_CHECKED;
void kaena_replicas_fini(kaena_replicas *replicas);

/* Daemons that are UP and have it. */
size_t kaena_replicas_count(const kaena_replicas *replicas);

/* Brings the model to daemons until as many as wanted have it or none is left to try now; those
 * that had it come first. Gives the time at which trying again makes sense, INT64_MAX when nothing
 * is missing or nothing but a daemon's return would help. */
int64_t kaena_replicas_mend(kaena_replicas *replicas);

/* The most telling reason why a daemon has it not; OK: there is none. */
kaena_status kaena_replicas_failure(kaena_replicas *replicas, kaena_err *err);

/* No more mending; unloads what was loaded here where |unload|. */
void kaena_replicas_close(kaena_replicas *replicas, bool unload);

#endif
