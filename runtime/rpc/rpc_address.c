#include "rpc_address.h"

#include <stdlib.h>
#include <string.h>

kaena_status krpc_address_parse(const char *text, krpc_address *out, kaena_err *err)
{
    krpc_address a = {.is_unix = strncmp(text, "unix:", 5) == 0};
    if (a.is_unix) {
        /* unix:///path is how other languages' gRPC writes it */
        const char *path = strncmp(text, "unix:///", 8) == 0 ? text + 7 : text + 5;
        size_t n = strlen(path);
        if (n == 0 || n >= sizeof a.path)
            return KAENA_FAIL(err, INVALID_ARGUMENT,
                              "the path has %zu bytes: 1 to %zu are possible", n,
                              sizeof a.path - 1);
        memcpy(a.path, path, n + 1);
        *out = a;
        return KAENA_OK;
    }
    const char *colon = strrchr(text, ':'), *first = text;
    size_t n = colon ? (size_t)(colon - text) : 0;
    char *end;
    unsigned long port = colon ? strtoul(colon + 1, &end, 10) : 0;
    if (!colon || colon[1] < '0' || colon[1] > '9' || *end || port > 65535 || n >= sizeof a.host)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "neither unix:PATH nor HOST:PORT");
    if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
        first++;
        n -= 2;
    }
    memcpy(a.host, first, n);
    a.port = (uint16_t)port;
    *out = a;
    return KAENA_OK;
}

static bool any_host(const krpc_address *a)
{
    return !a->host[0] || strcmp(a->host, "0.0.0.0") == 0 || strcmp(a->host, "::") == 0;
}

bool krpc_address_clash(const krpc_address *a, const krpc_address *b)
{
    if (a->is_unix || b->is_unix)
        return a->is_unix && b->is_unix && strcmp(a->path, b->path) == 0;
    return a->port && a->port == b->port &&
           (any_host(a) || any_host(b) || strcmp(a->host, b->host) == 0);
}

bool krpc_address_public(const krpc_address *a)
{
    return !a->is_unix && strncmp(a->host, "127.", 4) != 0 && strcmp(a->host, "::1") != 0 &&
           strcmp(a->host, "localhost") != 0;
}
