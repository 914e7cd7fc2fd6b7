/* Everything that is wrong with a configuration, told line by line. */
#ifndef KRT_REPORT_H
#define KRT_REPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "err.h"

typedef struct krt_report {
    /* May be NULL. |hint| may be "". A |warning| is something a daemon starts with all the same. */
    void (*tell)(void *user, bool warning, const char *what, const char *hint);
    void *user;
    size_t errors, warnings;
    kaena_err first; /* of the errors */
} krt_report;

/* |hint| may be NULL. */
void krt_report_error(krt_report *r, const char *hint, const char *fmt, ...) KAENA_PRINTF(3, 4);
void krt_report_warning(krt_report *r, const char *hint, const char *fmt, ...) KAENA_PRINTF(3, 4);

#endif
