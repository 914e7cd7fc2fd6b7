/* Where a server listens: "unix:PATH" or "HOST:PORT", taken apart. */
#ifndef RPC_ADDRESS_H
#define RPC_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#include "err.h"

/* With its terminator. */
#define KRPC_UNIX_PATH_MAX sizeof(((struct sockaddr_un *)NULL)->sun_path)

typedef struct krpc_address {
    bool is_unix;
    char path[KRPC_UNIX_PATH_MAX]; /* of a unix socket */
    char host[256];                /* without brackets; "" = every address of the machine */
    uint16_t port;                 /* 0 = any that is free */
} krpc_address;

/* Reads "unix:PATH", "unix:///PATH", "HOST:PORT", "[::1]:PORT" or ":PORT"; asks nobody.
 * INVALID_ARGUMENT: neither, or a path longer than a socket's address can hold. */
kaena_status krpc_address_parse(const char *text, krpc_address *out, kaena_err *err) KAENA_CHECKED;

/* Two servers could not both listen there: one file, or one port on addresses that meet. Host names
 * are compared as they are written. */
bool krpc_address_clash(const krpc_address *a, const krpc_address *b);

/* Reached from other machines: TCP, and not bound to the loopback interface. */
bool krpc_address_public(const krpc_address *a);

#endif
