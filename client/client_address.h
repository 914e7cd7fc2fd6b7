/* Where the daemons listen: argument, environment, configuration file, default. */
#ifndef KAENA_CLIENT_ADDRESS_H
#define KAENA_CLIENT_ADDRESS_H

#include <stddef.h>

#include "err.h"

#define KAENA_MAX_ADDRESSES 256

typedef struct kaena_address {
    char *address; /* "unix:PATH" or "HOST:PORT" */
    char *name;    /* of the daemon, NULL where only an address is known */
} kaena_address;

typedef struct kaena_addresses {
    kaena_address *items; /* [count] */
    size_t count;
} kaena_addresses;

/* Finds the addresses to use: |argument| (may be NULL), else $KAENA_KRTD_ADDRESS, else the
 * configuration file (the first listening address of each daemon), else the default socket. With
 * |daemon| (may be NULL) only the configuration file is asked, and only for the daemon of that
 * name. The caller calls fini.
 *
 * INVALID_ARGUMENT, NOT_FOUND  names the source that cannot be used, or the daemon */
kaena_status kaena_addresses_find(const char *argument, const char *daemon, kaena_addresses *out,
                                  kaena_err *err) KAENA_CHECKED;
void kaena_addresses_fini(kaena_addresses *addresses);

#endif
