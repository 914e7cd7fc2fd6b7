/* What the gRPC core says by itself. */
#ifndef RPC_CORE_LOG_H
#define RPC_CORE_LOG_H

/* From now on errors that the core reports (failed handshakes, mostly) go to |warning| instead of
 * standard error: a few a minute, then a count of those left out, since any stranger can cause
 * them. For programs, once; |warning| may be called on any thread. */
void krpc_core_log_to(void (*warning)(void *user, const char *text), void *user);

#endif
