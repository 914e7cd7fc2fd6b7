#include "krt_report.h"

#include <stdio.h>

void krt_report_error(krt_report *r, const char *hint, const char *fmt, ...)
{
    kaena_err err;
    va_list ap;
    va_start(ap, fmt);
    char what[sizeof err.what];
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    (void)KAENA_FAIL(&err, INVALID_ARGUMENT, "%s", what);
    if (hint && *hint)
        kaena_err_hint(&err, "%s", hint);
    if (r->errors++ == 0)
        r->first = err;
    if (r->tell)
        r->tell(r->user, false, err.what, err.hint);
}

void krt_report_warning(krt_report *r, const char *hint, const char *fmt, ...)
{
    char what[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    r->warnings++;
    if (r->tell)
        r->tell(r->user, true, what, hint ? hint : "");
}
