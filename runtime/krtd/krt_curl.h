/* libcurl, loaded when something wants it: with what it brings along it is a fifth of an idle
 * daemon. */
#ifndef KRT_CURL_H
#define KRT_CURL_H

#include <curl/curl.h>

#include "err.h"

#define KRT_CURL_FUNCTIONS(X)                                                                      \
    X(global_init)                                                                                 \
    X(global_cleanup)                                                                              \
    X(easy_init)                                                                                   \
    X(easy_cleanup)                                                                                \
    X(easy_reset)                                                                                  \
    X(easy_setopt)                                                                                 \
    X(easy_perform)                                                                                \
    X(easy_getinfo)                                                                                \
    X(easy_strerror)                                                                               \
    X(slist_append)                                                                                \
    X(slist_free_all)

typedef struct krt_curl {
#define KRT_CURL_FUNCTION(name) __typeof__(curl_##name) *name;
    KRT_CURL_FUNCTIONS(KRT_CURL_FUNCTION)
#undef KRT_CURL_FUNCTION
} krt_curl;

/* It stays until the process ends, for whoever asks again. FAILED_PRECONDITION: it is not
 * installed, or cannot be used. Thread: any. */
kaena_status krt_curl_load(const krt_curl **out, kaena_err *err) KAENA_CHECKED;

#endif
