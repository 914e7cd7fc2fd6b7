/* One signed request to S3. */
#include <ctype.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "s3_internal.h"

#define MAX_ERROR_BODY ((size_t)64 << 10)
#define ATTEMPTS 3 /* of what the service says it cannot do now */

kaena_status s3_object_parse(const char *url, s3_object *out, kaena_err *err)
{
    const char *bucket = url + strlen("s3://");
    size_t n = strcspn(bucket, "/");
    bool good = kcc_s3_is(url) && n >= 3 && n < sizeof out->bucket;
    for (size_t i = 0; good && i < n; i++)
        good = islower((unsigned char)bucket[i]) || isdigit((unsigned char)bucket[i]) ||
               (strchr(".-", bucket[i]) && i > 0);
    if (!good) {
        (void)KAENA_FAIL(err, INVALID_ARGUMENT, "'%s' does not name a bucket", url);
        kaena_err_hint(err, "the form is s3://bucket/key");
        return KAENA_INVALID_ARGUMENT;
    }
    memcpy(out->bucket, bucket, n);
    out->bucket[n] = 0;
    out->key = bucket + n + (bucket[n] == '/');
    return KAENA_OK;
}

void s3_encode(kaena_strbuf *out, const char *text, bool slash)
{
    for (const char *s = text; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (isascii(c) && (isalnum(c) || strchr("-._~", c) || (slash && c == '/')))
            kaena_strbuf_printf(out, "%c", c);
        else
            kaena_strbuf_printf(out, "%%%02X", c);
    }
}

/* A bucket whose name can be a host's is one at Amazon; elsewhere it stands in the path. */
static void write_url(const kcc_s3 *s3, const s3_request *r, kaena_strbuf *url)
{
    const s3_object *o = r->object;
    if (s3->endpoint)
        kaena_strbuf_printf(url, "%s/%s/", s3->endpoint, o->bucket);
    else if (strchr(o->bucket, '.'))
        kaena_strbuf_printf(url, "https://s3.%s.amazonaws.com/%s/", s3->region, o->bucket);
    else
        kaena_strbuf_printf(url, "https://%s.s3.%s.amazonaws.com/", o->bucket, s3->region);
    if (r->query)
        kaena_strbuf_printf(url, "?%s", r->query);
    else
        s3_encode(url, o->key, true);
}

/* --- What comes back ------------------------------------------------------------------------- */

typedef struct answer {
    CURL *curl;
    const s3_request *r;
    kaena_strbuf error; /* the body where the status says no */
    int64_t received;
    bool too_large, not_written;
} answer;

static bool accepted(long status)
{
    return status >= 200 && status < 300;
}

static size_t on_body(char *data, size_t one, size_t n, void *to)
{
    answer *a = to;
    long status = 0;
    n *= one;
    (void)curl_easy_getinfo(a->curl, CURLINFO_RESPONSE_CODE, &status);
    if (!accepted(status)) {
        if (a->error.size + n <= MAX_ERROR_BODY)
            kaena_strbuf_add(&a->error, data, n);
        return n;
    }
    a->received += (int64_t)n;
    a->too_large = a->r->most > 0 && a->received > a->r->most;
    if (a->too_large)
        return 0;
    if (a->r->to) {
        a->not_written = fwrite(data, 1, n, a->r->to) != n;
        return a->not_written ? 0 : n;
    }
    if (a->r->text)
        kaena_strbuf_add(a->r->text, data, n);
    return n;
}

static kaena_status of_http(long status)
{
    if (status == 404)
        return KAENA_NOT_FOUND;
    if (status == 401 || status == 403)
        return KAENA_PERMISSION_DENIED;
    if (status == 429 || status >= 500)
        return KAENA_UNAVAILABLE;
    return status >= 300 && status < 400 ? KAENA_FAILED_PRECONDITION : KAENA_INTERNAL;
}

static kaena_status refused(const answer *a, long http, kaena_err *err)
{
    char code[128], message[256];
    s3_error_parse(a->error.data, a->error.size, code, sizeof code, message, sizeof message);
    kaena_status s = kaena_err_set(err, of_http(http), "s3://%s/%s: HTTP %ld%s%s%s%s",
                                   a->r->object->bucket, a->r->object->key, http, *code ? ", " : "",
                                   code, *message ? ": " : "", message);
    if (http >= 300 && http < 400)
        kaena_err_hint(err, "the bucket is elsewhere: set AWS_REGION to its region");
    return s;
}

static kaena_status not_done(const answer *a, CURLcode code, const char *detail, kaena_err *err)
{
    const s3_object *o = a->r->object;
    if (a->too_large)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "s3://%s/%s: more than %lld bytes", o->bucket,
                          o->key, (long long)a->r->most);
    if (a->not_written)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "s3://%s/%s: no room on the disk for it",
                          o->bucket, o->key);
    kaena_status s = code == CURLE_OPERATION_TIMEDOUT ? KAENA_DEADLINE_EXCEEDED : KAENA_UNAVAILABLE;
    return kaena_err_set(err, s, "s3://%s/%s: %s", o->bucket, o->key,
                         *detail ? detail : curl_easy_strerror(code));
}

/* --- What is sent ---------------------------------------------------------------------------- */

/* The header that says what is sent, which the signature covers. */
static kaena_status hash_header(FILE *from, char *out, size_t size, kaena_err *err)
{
    static const char name[] = "x-amz-content-sha256: ";
    uint8_t piece[4096], digest[EVP_MAX_MD_SIZE];
    unsigned n_digest = 0;
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    bool good = sha && EVP_DigestInit_ex(sha, EVP_sha256(), NULL) == 1;
    if (good && from) {
        rewind(from);
        for (size_t n; good && (n = fread(piece, 1, sizeof piece, from)) > 0;)
            good = EVP_DigestUpdate(sha, piece, n) == 1;
        good = good && !ferror(from);
        rewind(from);
    }
    good = good && EVP_DigestFinal_ex(sha, digest, &n_digest) == 1;
    EVP_MD_CTX_free(sha);
    if (!good)
        return KAENA_FAIL(err, INTERNAL, "the file could not be read");
    (void)snprintf(out, size, "%s", name);
    for (unsigned i = 0; i < n_digest; i++)
        (void)snprintf(out + strlen(name) + 2 * (size_t)i, 3, "%02x", digest[i]);
    return KAENA_OK;
}

static size_t on_read(char *to, size_t one, size_t n, void *from)
{
    return fread(to, one, n, from);
}

/* Only headers that are sent: libcurl signs those, too, that it is told to leave out. */
static struct curl_slist *headers_of(const kcc_s3 *s3, const char *hash)
{
    struct curl_slist *list = curl_slist_append(NULL, hash), *more = list;
    if (more && s3->token) {
        kaena_strbuf token = {0};
        kaena_strbuf_printf(&token, "x-amz-security-token: %s", s3->token);
        more = curl_slist_append(list, token.data);
        kaena_strbuf_fini(&token);
    }
    if (!more)
        curl_slist_free_all(list);
    return more;
}

static void set_up(kcc_s3 *s3, const s3_request *r, const char *url, answer *a, char *detail,
                   struct curl_slist *headers)
{
    CURL *c = s3->curl;
    kaena_strbuf provider = {0};
    curl_easy_reset(c);
    kaena_strbuf_printf(&provider, "aws:amz:%s:s3", s3->region);
    (void)curl_easy_setopt(c, CURLOPT_URL, url);
    (void)curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
    (void)curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    (void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(c, CURLOPT_AWS_SIGV4, provider.data);
    (void)curl_easy_setopt(c, CURLOPT_USERPWD, s3->credentials);
    (void)curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)KCC_S3_CONNECT_SECONDS);
    (void)curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    (void)curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)KCC_S3_STALL_SECONDS);
    (void)curl_easy_setopt(c, CURLOPT_ERRORBUFFER, detail);
    (void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(c, CURLOPT_WRITEDATA, a);
    if (r->method == S3_PUT) {
        (void)curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
        (void)curl_easy_setopt(c, CURLOPT_READFUNCTION, on_read);
        (void)curl_easy_setopt(c, CURLOPT_READDATA, r->from);
        (void)curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)r->size);
    } else if (r->method == S3_DELETE) {
        (void)curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, "DELETE");
    }
    kaena_strbuf_fini(&provider);
}

/* Once; |*again|: the service says, or looks as if, it could another time. */
static kaena_status attempt(kcc_s3 *s3, const s3_request *r, const char *url, const char *hash,
                            bool *again, kaena_err *err)
{
    char detail[CURL_ERROR_SIZE] = "";
    answer a = {.curl = s3->curl, .r = r};
    struct curl_slist *headers = headers_of(s3, hash);
    *again = false;
    if (!headers)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
    set_up(s3, r, url, &a, detail, headers);
    CURLcode code = curl_easy_perform(s3->curl);
    long http = 0;
    (void)curl_easy_getinfo(s3->curl, CURLINFO_RESPONSE_CODE, &http);
    kaena_status s = KAENA_OK;
    if (code != CURLE_OK) {
        s = not_done(&a, code, detail, err);
    } else if (!accepted(http)) {
        s = refused(&a, http, err);
        *again = http >= 500 || http == 429;
    }
    curl_slist_free_all(headers);
    kaena_strbuf_fini(&a.error);
    return s;
}

kaena_status s3_send(kcc_s3 *s3, const s3_request *r, kaena_err *err)
{
    char hash[128];
    bool again = true;
    kaena_strbuf url = {0};
    KAENA_TRY_WRAP(err, hash_header(r->from, hash, sizeof hash, err), "s3://%s/%s",
                   r->object->bucket, r->object->key);
    write_url(s3, r, &url);
    kaena_status s = KAENA_OK;
    for (int i = 0; i < ATTEMPTS && again; i++) {
        if (r->from)
            rewind(r->from);
        s = attempt(s3, r, url.data, hash, &again, err);
    }
    kaena_strbuf_fini(&url);
    return s;
}
