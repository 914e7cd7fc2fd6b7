/* Where the daemons listen: argument, environment, configuration file, default. */
#ifndef KAENA_CLIENT_ADDRESS_H
#define KAENA_CLIENT_ADDRESS_H

#include <stddef.h>

#include "err.h"

#define KAENA_MAX_ADDRESSES 256

/* [count] strings "unix:PATH" or "HOST:PORT". */
typedef struct kaena_addresses {
    char **items;
    size_t count;
} kaena_addresses;

/* Finds the addresses to use: |argument| (may be NULL), else $KAENA_KRTD_ADDRESS, else the
 * configuration file (the first listening address of each daemon), else the default socket. The
 * caller calls fini. INVALID_ARGUMENT, NOT_FOUND  names the source that cannot be used. */
kaena_status kaena_addresses_find(const char *argument, kaena_addresses *out,
                                  kaena_err *err) KAENA_CHECKED;
void kaena_addresses_fini(kaena_addresses *addresses);

#endif
