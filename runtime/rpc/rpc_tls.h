/* Certificates of a server: read from PEM files, checked, and exchanged while it runs. */
#ifndef RPC_TLS_H
#define RPC_TLS_H

#include <stdbool.h>

#include "err.h"

struct grpc_server_credentials;

/* Paths of PEM files; borrowed. */
typedef struct krpc_tls_files {
    const char *cert;      /* the server's certificate, and the intermediate ones after it */
    const char *key;       /* its private key, without a passphrase */
    const char *client_ca; /* NULL = clients need no certificate; else theirs must come from here */
} krpc_tls_files;

/* Whether a server could start with these. NOT_FOUND, PERMISSION_DENIED: a file cannot be read;
 * INVALID_ARGUMENT: not PEM, or the key belongs to another certificate. The message names it. */
kaena_status krpc_tls_check(const krpc_tls_files *files, kaena_err *err) KAENA_CHECKED;

/* What a server's TLS ports show to clients. */
typedef struct krpc_tls krpc_tls;

/* Fails as krpc_tls_check. */
kaena_status krpc_tls_create(const krpc_tls_files *files, krpc_tls **out,
                             kaena_err *err) KAENA_CHECKED;
/* After the credentials made of it. Accepts NULL and returns it. */
krpc_tls *krpc_tls_destroy(krpc_tls *tls);

/* Handshakes from now on use |files|, connections live on; after a failure everything is as before.
 * FAILED_PRECONDITION: whether clients need a certificate would change, which takes a restart.
 * Thread: any. */
kaena_status krpc_tls_reload(krpc_tls *tls, const krpc_tls_files *files,
                             kaena_err *err) KAENA_CHECKED;

/* Credentials for one port, the caller's to release; NULL: out of memory. */
struct grpc_server_credentials *krpc_tls_credentials(krpc_tls *tls);

#endif
