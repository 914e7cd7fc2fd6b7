/* Loading an artifact: the file, and how it goes to a daemon. */
#ifndef KAENA_CLIENT_LOAD_H
#define KAENA_CLIENT_LOAD_H

#include "client_call.h"

/* An artifact that can be loaded any number of times. The file stays open, so that what is loaded
 * later is what was loaded first even when somebody puts another in its place. */
typedef struct kaena_artifact {
    kaena_load_options options; /* its strings are copies */
    char *path, *name, *group, *version;
    int fd; /* -1: the daemon reads |path| itself */
    uint64_t size;
} kaena_artifact;

/* |options| may be NULL. NOT_FOUND, PERMISSION_DENIED, INVALID_ARGUMENT: the file. */
kaena_status kaena_artifact_open(const char *path, const kaena_load_options *options,
                                 kaena_artifact *out, kaena_err *err) KAENA_CHECKED;
void kaena_artifact_close(kaena_artifact *artifact);

/* When a load that begins now has to be done. */
int64_t kaena_artifact_deadline(const kaena_artifact *artifact);

/* One load: a kaena_attempt; |user| is a kaena_load. */
typedef struct kaena_load {
    const kaena_artifact *artifact;
    bool persistent;
    kaena_model_info **to; /* may be NULL */
    uint64_t sent;         /* private, as the next */
    bool began;
} kaena_load;
kaena_status kaena_attempt_load(const kaena_target *target, void *user, kaena_outcome *outcome,
                                kaena_err *err) KAENA_CHECKED;

#endif
