#include "rpc_tls.h"

#include <errno.h>
#include <fcntl.h>
#include <grpc/grpc_security.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"

#define MAX_PEM_BYTES (1 << 20)

/* Contents of the files, terminated. */
typedef struct pem_set {
    char *cert, *key, *client_ca;
} pem_set;

/* Each port asks by itself whether there is something new. */
typedef struct port {
    krpc_tls *tls;
    struct port *next;
    uint64_t seen; /* generation */
} port;

struct krpc_tls {
    pthread_mutex_t lock;
    pem_set pem;
    uint64_t generation;
    bool client_auth;
    port *ports;
};

static void pem_fini(pem_set *p)
{
    if (p->key)
        OPENSSL_cleanse(p->key, strlen(p->key));
    free(p->cert);
    free(p->key);
    free(p->client_ca);
    *p = (pem_set){0};
}

/* ---- reading ---- */

/* Not mapped: the file may be replaced or cut while it is in use. */
static kaena_status read_text(const char *what, const char *path, char **out, kaena_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return kaena_err_set(err, kaena_status_of_errno(errno), "%s '%s': %s", what, path,
                             strerror(errno));
    struct stat st;
    char *text = NULL;
    kaena_status status = KAENA_OK;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        status = KAENA_FAIL(err, INVALID_ARGUMENT, "%s '%s': not a regular file", what, path);
    else if (st.st_size > MAX_PEM_BYTES)
        status = KAENA_FAIL(err, INVALID_ARGUMENT, "%s '%s': larger than %d bytes", what, path,
                            MAX_PEM_BYTES);
    else if (!(text = calloc(1, (size_t)st.st_size + 1)))
        status = KAENA_FAIL(err, RESOURCE_EXHAUSTED, "%s '%s': out of memory", what, path);
    else
        for (off_t at = 0; at < st.st_size && status == KAENA_OK;) {
            ssize_t n = read(fd, text + at, (size_t)(st.st_size - at));
            if (n < 0 && errno == EINTR)
                continue;
            if (n <= 0)
                status = KAENA_FAIL(err, DATA_LOSS, "%s '%s': %s", what, path,
                                    n ? strerror(errno) : "cut while it was read");
            else
                at += n;
        }
    (void)close(fd);
    if (status == KAENA_OK)
        *out = text;
    else
        free(text);
    return status;
}

/* ---- checking ---- */

/* A key with a passphrase must not make a daemon ask for it on the terminal. */
static int no_passphrase(char *buf, int size, int writing, void *user)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)user;
    return -1;
}

static X509 *first_certificate(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *x = bio ? PEM_read_bio_X509(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    return x;
}

static kaena_status check_pair(const krpc_tls_files *f, X509 *cert, EVP_PKEY *key, kaena_err *err)
{
    if (!cert)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "certificate '%s': no certificate in PEM form",
                          f->cert);
    if (!key)
        return KAENA_FAIL(err, INVALID_ARGUMENT,
                          "key '%s': no private key in PEM form without a passphrase", f->key);
    if (X509_check_private_key(cert, key) != 1)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "key '%s' does not belong to certificate '%s'",
                          f->key, f->cert);
    return KAENA_OK;
}

static kaena_status check(const krpc_tls_files *f, const pem_set *p, kaena_err *err)
{
    X509 *cert = first_certificate(p->cert);
    BIO *bio = BIO_new_mem_buf(p->key, -1);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    kaena_status st = check_pair(f, cert, key, err);
    EVP_PKEY_free(key);
    X509_free(cert);
    if (st == KAENA_OK && p->client_ca) {
        X509 *ca = first_certificate(p->client_ca);
        if (!ca)
            st = KAENA_FAIL(err, INVALID_ARGUMENT, "client CA '%s': no certificate in PEM form",
                            f->client_ca);
        X509_free(ca);
    }
    ERR_clear_error(); /* of this thread: said in our words above */
    return st;
}

static kaena_status load(const krpc_tls_files *f, pem_set *out, kaena_err *err)
{
    pem_set p = {0};
    kaena_status st = read_text("certificate", f->cert, &p.cert, err);
    if (st == KAENA_OK)
        st = read_text("key", f->key, &p.key, err);
    if (st == KAENA_OK && f->client_ca)
        st = read_text("client CA", f->client_ca, &p.client_ca, err);
    if (st == KAENA_OK)
        st = check(f, &p, err);
    if (st == KAENA_OK)
        *out = p;
    else
        pem_fini(&p);
    return st;
}

kaena_status krpc_tls_check(const krpc_tls_files *files, kaena_err *err)
{
    pem_set p;
    KAENA_TRY(load(files, &p, err));
    pem_fini(&p);
    return KAENA_OK;
}

/* ---- life ---- */

kaena_status krpc_tls_create(const krpc_tls_files *files, krpc_tls **out, kaena_err *err)
{
    krpc_tls *tls = calloc(1, sizeof *tls);
    if (!tls)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "tls: out of memory");
    kaena_status st = load(files, &tls->pem, err);
    if (st != KAENA_OK) {
        free(tls);
        return st;
    }
    (void)pthread_mutex_init(&tls->lock, NULL);
    tls->generation = 1;
    tls->client_auth = files->client_ca != NULL;
    *out = tls;
    return KAENA_OK;
}

krpc_tls *krpc_tls_destroy(krpc_tls *tls)
{
    if (!tls)
        return NULL;
    while (tls->ports) {
        port *p = tls->ports;
        tls->ports = p->next;
        free(p);
    }
    pem_fini(&tls->pem);
    (void)pthread_mutex_destroy(&tls->lock);
    free(tls);
    return NULL;
}

kaena_status krpc_tls_reload(krpc_tls *tls, const krpc_tls_files *files, kaena_err *err)
{
    if (tls->client_auth != (files->client_ca != NULL))
        return KAENA_FAIL(err, FAILED_PRECONDITION,
                          "whether clients need a certificate changes with a restart only");
    pem_set p;
    KAENA_TRY(load(files, &p, err));
    (void)pthread_mutex_lock(&tls->lock);
    pem_set old = tls->pem;
    tls->pem = p;
    tls->generation++;
    (void)pthread_mutex_unlock(&tls->lock);
    pem_fini(&old);
    return KAENA_OK;
}

/* The core asks before each handshake. */
static grpc_ssl_certificate_config_reload_status fetch(void *user,
                                                       grpc_ssl_server_certificate_config **out)
{
    port *p = user;
    krpc_tls *tls = p->tls;
    (void)pthread_mutex_lock(&tls->lock);
    bool fresh = p->seen != tls->generation;
    if (fresh) {
        grpc_ssl_pem_key_cert_pair pair = {.private_key = tls->pem.key,
                                           .cert_chain = tls->pem.cert};
        /* The core wants roots, also where no client is asked for a certificate. */
        const char *roots = tls->pem.client_ca ? tls->pem.client_ca : tls->pem.cert;
        *out = grpc_ssl_server_certificate_config_create(roots, &pair, 1);
        p->seen = tls->generation;
    }
    (void)pthread_mutex_unlock(&tls->lock);
    return fresh ? GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW
                 : GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
}

grpc_server_credentials *krpc_tls_credentials(krpc_tls *tls)
{
    port *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    *p = (port){.tls = tls, .next = tls->ports};
    tls->ports = p;
    return grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(
            tls->client_auth ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                             : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
            fetch, p));
}
