#include "krt_log.h"

#include <inttypes.h>
#include <stdio.h>

#include "krt_clients.h"
#include "log.h"

void krt_log_failure(const char *request_id, uint64_t session, const char *model,
                     const kaena_err *err)
{
    char number[24];
    const char *code = kaena_status_name((kaena_status)err->code);
    (void)snprintf(number, sizeof number, "%" PRIu64, session);
    kaena_log_with(KAENA_LOG_WARNING,
                   KAENA_LOG_FIELDS({"model", model}, {"session", session ? number : NULL},
                                    {"request_id", request_id}, {"code", code}),
                   "request %s failed: %s: %s", request_id, code, err->what);
}

void krt_fail(krpc_call *call, const char *model, const kaena_err *err)
{
    krt_log_failure(krpc_call_request_id(call), krt_caller_session(call), model, err);
    krpc_fail(call, err);
}
