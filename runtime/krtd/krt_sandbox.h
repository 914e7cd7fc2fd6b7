/* What a daemon gives up for good: capabilities before its first thread, system calls once it has
 * started. Whoever takes it over through a request finds less to work with. */
#ifndef KRT_SANDBOX_H
#define KRT_SANDBOX_H

#include "krt_config.h"

/* Drops capabilities, from the bounding set too where that is allowed, and forbids new privileges;
 * keeps only what |c| needs to start: ports below 1024, giving sockets to a group. Before any
 * thread. */
kaena_status krt_sandbox_capabilities(const krt_daemon_config *c, kaena_err *err) KAENA_CHECKED;

/* Has the kernel refuse (EPERM) what krtd never calls: programs, tracing, mounts, modules, keys,
 * namespaces, other users' identities, ...; drops what the start still needed. All threads there
 * are and will be. FAILED_PRECONDITION: the kernel, or what krtd runs in, does not let it. */
kaena_status krt_sandbox_enter(kaena_err *err) KAENA_CHECKED;

#endif
