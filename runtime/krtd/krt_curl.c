#include "krt_curl.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define LIBRARY "libcurl.so.4"
#define PACKAGE "libcurl4" /* Debian's */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static krt_curl loaded;
static bool ready;

static const struct {
    const char *symbol;
    void *place;
} functions[] = {
#define FUNCTION(name) {"curl_" #name, &loaded.name},
    KRT_CURL_FUNCTIONS(FUNCTION)
#undef FUNCTION
};

static kaena_status missing(kaena_err *err)
{
    const char *why = dlerror();
    kaena_status st =
        KAENA_FAIL(err, FAILED_PRECONDITION, "libcurl: %s", why ? why : "cannot be loaded");
    kaena_err_hint(err, "install " LIBRARY " (Debian: " PACKAGE ")");
    return st;
}

static kaena_status load(kaena_err *err)
{
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return missing(err);
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *at = dlsym(library, functions[i].symbol);
        if (!at) {
            kaena_status st = missing(err);
            (void)dlclose(library);
            return st;
        }
        memcpy(functions[i].place, &at, sizeof at); /* POSIX has data and code pointers alike */
    }
    ready = true;
    return KAENA_OK;
}

kaena_status krt_curl_load(const krt_curl **out, kaena_err *err)
{
    (void)pthread_mutex_lock(&lock);
    kaena_status st = ready ? KAENA_OK : load(err);
    (void)pthread_mutex_unlock(&lock);
    if (st == KAENA_OK)
        *out = &loaded;
    return st;
}
