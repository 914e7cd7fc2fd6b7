#include "krt_report.h"

#include <stdio.h>

/* Keys and values may hold anything; a problem is one line, here and for the service manager. */
static void make_one_line(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
}

void krt_report_error(krt_report *r, const char *hint, const char *fmt, ...)
{
    kaena_err err;
    va_list ap;
    va_start(ap, fmt);
    char what[sizeof err.what];
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    make_one_line(what);
    (void)KAENA_FAIL(&err, INVALID_ARGUMENT, "%s", what);
    if (hint && *hint)
        kaena_err_hint(&err, "%s", hint);
    make_one_line(err.hint);
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
    make_one_line(what);
    r->warnings++;
    if (r->tell)
        r->tell(r->user, true, what, hint ? hint : "");
}
