/* Ports on which the gRPC core accepts by itself, and their connections. The core keeps the
 * descriptors to itself: they are found among those of the process. */
#ifndef RPC_CORE_PORTS_H
#define RPC_CORE_PORTS_H

#include <stddef.h>
#include <stdint.h>

#define KRPC_MAX_CORE_PORTS 32

typedef struct krpc_core_ports {
    uint16_t port[KRPC_MAX_CORE_PORTS];
    size_t n;
} krpc_core_ports;

/* Ends the newest connections beyond |max|, and as many as it takes for the process to have no more
 * than |max_fds| descriptors: the core gives up a port for good when it finds none left. How many
 * that were. Thread: any. */
size_t krpc_core_ports_cap(const krpc_core_ports *p, size_t max, size_t max_fds);

/* Has the kernel refuse further connections. */
void krpc_core_ports_stop(const krpc_core_ports *p);

/* Says on every connection that nothing more comes; how many there are. */
size_t krpc_core_ports_hang_up(const krpc_core_ports *p);

#endif
