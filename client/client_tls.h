/* What HOST:PORT connections are encrypted with. */
#ifndef KAENA_CLIENT_TLS_H
#define KAENA_CLIENT_TLS_H

#include <grpc/grpc_security.h>

#include "err.h"
#include "kaena/client.h"

typedef struct kaena_tls {
    grpc_channel_credentials *credentials; /* NULL: connections are plain */
    char *name;                            /* expected in certificates; NULL: the address's host */
} kaena_tls;

/* Reads the files that |options| or the environment name. After grpc_init.
 * NOT_FOUND, PERMISSION_DENIED, INVALID_ARGUMENT  names the file, or what is missing */
kaena_status kaena_tls_init(kaena_tls *tls, const kaena_client_options *options,
                            kaena_err *err) KAENA_CHECKED;
void kaena_tls_fini(kaena_tls *tls);

#endif
