#include "krt_log.h"

#include "log.h"

void krt_log_failure(const char *request_id, const char *model, const kaena_err *err)
{
    kaena_log(KAENA_LOG_WARNING, "request %s%s%s failed: %s: %s", request_id,
              model ? " for model " : "", model ? model : "",
              kaena_status_name((kaena_status)err->code), err->what);
}

void krt_fail(krpc_call *call, const char *model, const kaena_err *err)
{
    krt_log_failure(krpc_call_request_id(call), model, err);
    krpc_fail(call, err);
}
