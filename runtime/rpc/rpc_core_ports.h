/* Ports on which the gRPC core accepts by itself, and their connections. The core keeps the
 * descriptors to itself: they are found among those of the process. */
#ifndef RPC_CORE_PORTS_H
#define RPC_CORE_PORTS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define KRPC_MAX_CORE_PORTS 32

typedef struct krpc_core_ports {
    uint16_t port[KRPC_MAX_CORE_PORTS];
    size_t n;
    ino_t *kept; /* the sockets that the last census left, in order */
    size_t n_kept;
} krpc_core_ports;

/* Ends connections beyond |max|, and as many as it takes for the process to have no more than
 * |max_fds| descriptors: the core gives up a port for good when it finds none left. Those that the
 * call before has left stay, then those that have sent most. How many had to go. One thread at a
 * time. */
size_t krpc_core_ports_cap(krpc_core_ports *p, size_t max, size_t max_fds);

void krpc_core_ports_free(krpc_core_ports *p);

/* Has the kernel refuse further connections. */
void krpc_core_ports_stop(const krpc_core_ports *p);

/* Says on every connection that nothing more comes; how many there are. */
size_t krpc_core_ports_hang_up(const krpc_core_ports *p);

#endif
