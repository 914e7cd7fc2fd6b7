#include "client_tls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_BYTES (1 << 20)

/* The option, else the environment, else NULL. */
static const char *path_of(const char *option, const char *variable)
{
    const char *value = option ? option : getenv(variable);
    return value && *value ? value : NULL;
}

/* The text of a PEM file, in its own memory; NULL of NULL. */
static kaena_status read_pem(const char *path, char **out, kaena_err *err)
{
    *out = NULL;
    if (!path)
        return KAENA_OK;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        kaena_status code = errno == ENOENT   ? KAENA_NOT_FOUND
                            : errno == EACCES ? KAENA_PERMISSION_DENIED
                                              : KAENA_INVALID_ARGUMENT;
        return kaena_err_set(err, code, "cannot open '%s' for TLS: %s", path, strerror(errno));
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > MOST_BYTES) {
        close(fd);
        return KAENA_FAIL(err, INVALID_ARGUMENT, "'%s' is not a file of certificates or keys",
                          path);
    }
    char *text = calloc(1, (size_t)st.st_size + 1);
    ssize_t got = text ? read(fd, text, (size_t)st.st_size) : -1;
    close(fd);
    if (got == st.st_size && strstr(text, "-----BEGIN ")) {
        *out = text;
        return KAENA_OK;
    }
    free(text);
    return text ? KAENA_FAIL(err, INVALID_ARGUMENT, "'%s' is not in PEM form", path)
                : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
}

static kaena_status make(kaena_tls *tls, const char *name, char *pem[3], kaena_err *err)
{
    if (name && !(tls->name = strdup(name)))
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    grpc_ssl_pem_key_cert_pair pair = {.private_key = pem[2], .cert_chain = pem[1]};
    tls->credentials = grpc_ssl_credentials_create(pem[0], pem[1] ? &pair : NULL, NULL, NULL);
    if (!tls->credentials)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "the files for TLS cannot be used");
    return KAENA_OK;
}

kaena_status kaena_tls_init(kaena_tls *tls, const kaena_client_options *o, kaena_err *err)
{
    const char *paths[3] = {path_of(o->tls_ca, "KAENA_TLS_CA"),
                            path_of(o->tls_cert, "KAENA_TLS_CERT"),
                            path_of(o->tls_key, "KAENA_TLS_KEY")};
    char *pem[3] = {NULL};
    *tls = (kaena_tls){0};
    if (!paths[0] && (paths[1] || paths[2]))
        return KAENA_FAIL(err, INVALID_ARGUMENT,
                          "a certificate or key is given but no CA (tls_ca) to trust daemons by");
    if (!paths[1] != !paths[2])
        return KAENA_FAIL(err, INVALID_ARGUMENT, "tls_cert and tls_key belong together");
    if (!paths[0])
        return KAENA_OK;
    kaena_status status = KAENA_OK;
    for (size_t i = 0; i < 3 && status == KAENA_OK; i++)
        status = read_pem(paths[i], &pem[i], err);
    if (status == KAENA_OK)
        status = make(tls, o->tls_name, pem, err);
    for (size_t i = 0; i < 3; i++)
        free(pem[i]);
    if (status != KAENA_OK)
        kaena_tls_fini(tls);
    return status;
}

void kaena_tls_fini(kaena_tls *tls)
{
    if (tls->credentials)
        grpc_channel_credentials_release(tls->credentials);
    free(tls->name);
    *tls = (kaena_tls){0};
}
