/* Status codes and the error record that travels beside them. */
#ifndef KAENA_BASE_ERR_H
#define KAENA_BASE_ERR_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#define KAENA_CHECKED __attribute__((warn_unused_result))
#define KAENA_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* client.h declares the same; whichever header comes first does it. */
#ifndef KAENA_STATUS_DECLARED
#define KAENA_STATUS_DECLARED
typedef enum kaena_status {
#define KAENA_STATUS_ROW(name, value, when) KAENA_##name = value,
#include "status.def"
#undef KAENA_STATUS_ROW
} kaena_status;
#endif

/* "NOT_FOUND"; a number without a row gives "UNKNOWN". */
const char *kaena_status_name(kaena_status code);

/* What went wrong, in a caller's storage: cannot leak, cannot fail. client.h declares the same
 * record for users of the library; whichever header comes first declares it
 * (tests/unit/test_client_header.c compares the two). */
#ifndef KAENA_ERR_DECLARED
#define KAENA_ERR_DECLARED
typedef struct kaena_err {
    uint32_t size;  /* sizeof(kaena_err) of whoever made it */
    int32_t code;   /* kaena_status */
    int32_t reason; /* kaena.v1.ErrorDetail.Reason, 0 = none */
    int32_t reserved;
    uint64_t needed; /* RESOURCE_EXHAUSTED: what was asked for, in the unit |what| names; else 0 */
    uint64_t available;  /* RESOURCE_EXHAUSTED: what there was */
    char what[512];      /* outer context first: "load 'a.neff': section 3: offset past end" */
    char hint[256];      /* what to do, or "" */
    char request_id[40]; /* of the request, as the daemon's log has it; "" = there was none */
} kaena_err;
#endif

/* Sets |err| (may be NULL) to no error. */
void kaena_err_init(kaena_err *err);

/* Writes a new failure into |err| (may be NULL) and returns |code|. Use through KAENA_FAIL. */
kaena_status kaena_err_set(kaena_err *err, kaena_status code, const char *fmt, ...)
    KAENA_PRINTF(3, 4);

/* Puts "<context>: " before what |err| says; once per noun (file, model, layer), not per call.
 * Returns err->code, or |code| when |err| is NULL. */
kaena_status kaena_err_wrap(kaena_err *err, kaena_status code, const char *fmt, ...)
    KAENA_PRINTF(3, 4);

/* Says what to do about it. */
void kaena_err_hint(kaena_err *err, const char *fmt, ...) KAENA_PRINTF(2, 3);

/* Fails: `return KAENA_FAIL(err, NOT_FOUND, "no model '%s'", name);` */
#define KAENA_FAIL(err, code, ...) kaena_err_set((err), KAENA_##code, __VA_ARGS__)

/* Passes a failure on. */
#define KAENA_TRY(expr)                                                                            \
    do {                                                                                           \
        kaena_status kaena_try_status = (expr);                                                    \
        if (kaena_try_status != KAENA_OK)                                                          \
            return kaena_try_status;                                                               \
    } while (0)

/* Passes a failure on and names the noun it happened to. */
#define KAENA_TRY_WRAP(err, expr, ...)                                                             \
    do {                                                                                           \
        kaena_status kaena_try_status = (expr);                                                    \
        if (kaena_try_status != KAENA_OK)                                                          \
            return kaena_err_wrap((err), kaena_try_status, __VA_ARGS__);                           \
    } while (0)

#endif
