/* Failures with a reason that clients can act on. */
#ifndef KRT_REASON_H
#define KRT_REASON_H

#include <stdio.h>
#include <string.h>

#include "err.h"
#include "kaena/v1/runtime.pb-c.h"

typedef Kaena__V1__ErrorDetail__Reason krt_reason;
#define KRT_REASON(name) KAENA__V1__ERROR_DETAIL__REASON__##name

/* Fails with a reason: `return KRT_FAIL(err, NOT_FOUND, MODEL_UNLOADED, "...", ...);` */
#define KRT_FAIL(err, code, why, ...)                                                              \
    krt_fail_set((err), KRT_REASON(why), KAENA_FAIL((err), code, __VA_ARGS__))

static inline kaena_status krt_fail_set(kaena_err *err, krt_reason reason, kaena_status st)
{
    if (err)
        err->reason = (int32_t)reason;
    return st;
}

/* Fails with RESOURCE_EXHAUSTED (LIMIT), saying what would be needed and what there may be. */
#define KRT_FAIL_LIMIT(err, needs, may, ...)                                                       \
    krt_fail_limit((err), (needs), (may), KRT_FAIL((err), RESOURCE_EXHAUSTED, LIMIT, __VA_ARGS__))

static inline kaena_status krt_fail_limit(kaena_err *err, uint64_t needed, uint64_t available,
                                          kaena_status st)
{
    if (err) {
        err->needed = needed;
        err->available = available;
    }
    return st;
}

/* Gives |err| a reason where whoever failed gave none. */
static inline void krt_reason_default(kaena_err *err, krt_reason reason)
{
    if (err->reason == 0)
        err->reason = (int32_t)reason;
}

/* For messages that say what there is: a list of names, "" at first. */
typedef struct krt_name_list {
    char text[300];
} krt_name_list;

/* Adds |name|; false: the list ends here with "...", there is room for no more. */
static inline bool krt_name_list_add(krt_name_list *l, const char *name)
{
    const size_t at = strlen(l->text), room = sizeof l->text - at;
    const bool full = at > 160;
    (void)snprintf(l->text + at, room, "%s%.128s", at ? ", " : "", full ? "..." : name);
    return !full;
}

#endif
