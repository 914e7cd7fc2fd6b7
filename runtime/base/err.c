#include "err.h"

#include <stdio.h>
#include <string.h>

const char *kaena_status_name(kaena_status code)
{
    switch (code) {
#define KAENA_STATUS_ROW(name, value, when)                                                        \
    case KAENA_##name:                                                                             \
        return #name;
#include "status.def"
#undef KAENA_STATUS_ROW
    }
    return "UNKNOWN";
}

void kaena_err_init(kaena_err *err)
{
    if (err)
        *err = (kaena_err){.size = sizeof *err};
}

kaena_status kaena_err_set(kaena_err *err, kaena_status code, const char *fmt, ...)
{
    if (err) {
        kaena_err_init(err);
        err->code = (int32_t)code;
        va_list ap;
        va_start(ap, fmt);
        (void)vsnprintf(err->what, sizeof err->what, fmt, ap);
        va_end(ap);
    }
    return code;
}

kaena_status kaena_err_wrap(kaena_err *err, kaena_status code, const char *fmt, ...)
{
    if (!err)
        return code;
    char inner[sizeof err->what];
    memcpy(inner, err->what, sizeof inner);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->what, sizeof err->what, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof err->what)
        (void)snprintf(err->what + n, sizeof err->what - (size_t)n, ": %s", inner);
    return code;
}

void kaena_err_hint(kaena_err *err, const char *fmt, ...)
{
    if (!err)
        return;
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(err->hint, sizeof err->hint, fmt, ap);
    va_end(ap);
}
