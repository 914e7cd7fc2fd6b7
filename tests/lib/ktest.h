/* Unit tests: Criterion plus a leak check that fails the test it happened in.
 *
 * Criterion runs every test in a process of its own and reports a leak that AddressSanitizer finds
 * at exit as success, so the check stands inside the test. To add a test program see
 * tests/unit/meson.build. */
#ifndef KTEST_H
#define KTEST_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "err.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KTEST_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define KTEST_ASAN 1
#endif

#ifdef KTEST_ASAN
#include <sanitizer/lsan_interface.h>
#define KTEST_NO_LEAK() cr_assert(__lsan_do_recoverable_leak_check() == 0, "memory was leaked")
#else
#define KTEST_NO_LEAK() ((void)0)
#endif

/* A test: KTEST(suite, name) { body }. A body that skips with cr_skip_test leaves before the leak
 * check. */
#define KTEST(suite, name)                                                                         \
    static void ktest_##suite##_##name(void);                                                      \
    Test(suite, name)                                                                              \
    {                                                                                              \
        ktest_##suite##_##name();                                                                  \
        KTEST_NO_LEAK();                                                                           \
    }                                                                                              \
    static void ktest_##suite##_##name(void)

/* The call succeeds; |err| is the kaena_err variable it was given. */
#define KTEST_OK(err, call)                                                                        \
    do {                                                                                           \
        kaena_err_init(&(err));                                                                    \
        kaena_status ktest_status = (call);                                                        \
        cr_assert(ktest_status == KAENA_OK, "%s: %s: %s", #call, kaena_status_name(ktest_status),  \
                  (err).what);                                                                     \
    } while (0)

/* The call fails with KAENA_<code> and a message that contains |text|. */
#define KTEST_FAILS(err, code, text, call)                                                         \
    do {                                                                                           \
        kaena_err_init(&(err));                                                                    \
        kaena_status ktest_status = (call);                                                        \
        cr_assert(ktest_status == KAENA_##code, "%s: %s: %s", #call,                               \
                  kaena_status_name(ktest_status), (err).what);                                    \
        cr_assert(strstr((err).what, (text)) != NULL, "%s: '%s' lacks '%s'", #call, (err).what,    \
                  (text));                                                                         \
    } while (0)

/* Writes the path of |name| below the directory of shared models and data sets (meson option
 * shared_dir) into |buf|; without one the test is skipped, and says so. */
static inline const char *ktest_shared(char *buf, size_t size, const char *name)
{
    const char *dir = getenv("KAENA_SHARED_DIR");
    if (!dir || !*dir) {
        fprintf(stderr, "SKIPPED: needs '%s' of the shared directory (meson option shared_dir)\n",
                name);
        cr_skip_test("shared_dir is not set");
    }
    (void)snprintf(buf, size, "%s/%s", dir, name);
    return buf;
}

/* The same below the source tree. */
static inline const char *ktest_source(char *buf, size_t size, const char *name)
{
    const char *dir = getenv("KAENA_SOURCE_DIR");
    cr_assert(dir && *dir, "KAENA_SOURCE_DIR is not set: run through meson test");
    (void)snprintf(buf, size, "%s/%s", dir, name);
    return buf;
}

#endif
