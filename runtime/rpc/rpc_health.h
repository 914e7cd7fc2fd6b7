/* grpc.health.v1: what each service's state is, and who watches it. */
#ifndef RPC_HEALTH_H
#define RPC_HEALTH_H

#include "rpc.h"

typedef struct krpc_health krpc_health;

krpc_health *krpc_health_create(void);
/* The last watch has ended. Accepts NULL and returns it. */
krpc_health *krpc_health_destroy(krpc_health *h);

/* Ends every watch with UNAVAILABLE, and those that come later. */
void krpc_health_stop(krpc_health *h);

/* Check and Watch; their handlers' user is the krpc_health. */
extern const krpc_method krpc_health_methods[2];

#endif
