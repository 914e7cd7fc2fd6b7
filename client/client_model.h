/* A handle of a model. */
#ifndef KAENA_CLIENT_MODEL_H
#define KAENA_CLIENT_MODEL_H

#include "client_async.h"
#include "client_keeper.h"
#include "client_load.h"
#include "client_replicas.h"

struct kaena_model {
    kaena_client *client;
    kaena_artifact artifact; /* when |has_artifact| */
    bool has_artifact;
    char *name; /* until |info| says how daemons call it */
    int64_t timeout_ms;
    kaena_model_info *info; /* of the first replica; does not change afterwards */
    kaena_replicas replicas;
    kaena_kept kept;
    kaena_lane lane;            /* without |async| until something was submitted */
    kaena_model *next, *before; /* of the client's, under its lock */
};

kaena_model *kaena_lane_model(kaena_lane *lane);

#endif
