#include "krt_log.h"

#include "log.h"

void krt_log_failure(const char *request_id, const char *model, const kaena_err *err)
{
    const char *code = kaena_status_name((kaena_status)err->code);
    kaena_log_with(KAENA_LOG_WARNING,
                   KAENA_LOG_FIELDS({"model", model}, {"request_id", request_id}, {"code", code}),
                   "request %s failed: %s: %s", request_id, code, err->what);
}

void krt_fail(krpc_call *call, const char *model, const kaena_err *err)
{
    krt_log_failure(krpc_call_request_id(call), model, err);
    krpc_fail(call, err);
}
