/* What the daemon logs about requests. */
#ifndef KRT_LOG_H
#define KRT_LOG_H

#include "err.h"
#include "rpc.h"

/* One line for a failed request. |request_id| is what its client sees, too; |session|: whose it is,
 * as krt_session_owner, 0 = nobody's; |model| may be NULL. */
void krt_log_failure(const char *request_id, uint64_t session, const char *model,
                     const kaena_err *err);

/* Fails |call|, with a line in the log, which names the session that the call names. */
void krt_fail(krpc_call *call, const char *model, const kaena_err *err);

#endif
