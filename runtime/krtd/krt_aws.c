#include "krt_aws.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "krt_curl.h"

#define DEFAULT_REGION "us-east-1"
#define CONNECT_MS 10000

struct krt_aws {
    const krt_curl *lib;
    CURL *curl;
    const char *target;
    char *url, *provider, *credentials, *token, *ca_file;
};

/* One request on its way. */
typedef struct transfer {
    krt_aws_answer *answer;
    size_t size;
    const _Atomic uint64_t *deadline_ns;
} transfer;

static uint64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- settings ---- */

static const char *from(const char *given, const char *variable, const char *other)
{
    const char *value = given ? given : getenv(variable);
    if ((!value || !*value) && other)
        value = getenv(other);
    return value && *value ? value : NULL;
}

static char *text(const char *fmt, const char *a, const char *b)
{
    char *out = NULL;
    return asprintf(&out, fmt, a, b) < 0 ? NULL : out;
}

static bool fill(krt_aws *aws, const krt_aws_options *o, const char *id, const char *secret)
{
    char variable[96];
    (void)snprintf(variable, sizeof variable, "AWS_ENDPOINT_URL_%s", o->environment_name);
    const char *endpoint = from(o->endpoint, variable, "AWS_ENDPOINT_URL");
    const char *region = from(o->region, "AWS_REGION", "AWS_DEFAULT_REGION");
    const char *token = from(o->session_token, "AWS_SESSION_TOKEN", NULL);
    region = region ? region : DEFAULT_REGION;
    aws->target = o->target;
    aws->url = endpoint ? text("%s%s", endpoint, endpoint[strlen(endpoint) - 1] == '/' ? "" : "/")
                        : text("https://%s.%s.amazonaws.com/", o->service, region);
    aws->provider = text("aws:amz:%s:%s", region, o->service);
    aws->credentials = text("%s:%s", id, secret);
    aws->token = token ? text("X-Amz-Security-Token: %s%s", token, "") : NULL;
    aws->ca_file = o->ca_file ? strdup(o->ca_file) : NULL;
    aws->curl = aws->lib->easy_init();
    return aws->url && aws->provider && aws->credentials && (aws->token || !token) &&
           (aws->ca_file || !o->ca_file) && aws->curl;
}

kaena_status krt_aws_open(const krt_aws_options *o, krt_aws **out, kaena_err *err)
{
    const char *id = from(o->access_key_id, "AWS_ACCESS_KEY_ID", NULL);
    const char *secret = from(o->secret_access_key, "AWS_SECRET_ACCESS_KEY", NULL);
    if (!id || !secret) {
        kaena_status st = KAENA_FAIL(err, FAILED_PRECONDITION, "no credentials for AWS");
        kaena_err_hint(err, "set access_key_id and secret_access_key, or the variables "
                            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
        return st;
    }
    const krt_curl *lib;
    KAENA_TRY(krt_curl_load(&lib, err));
    krt_aws *aws = calloc(1, sizeof *aws);
    if (!aws || lib->global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(aws);
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    }
    aws->lib = lib;
    if (!fill(aws, o, id, secret)) {
        (void)krt_aws_close(aws);
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    }
    *out = aws;
    return KAENA_OK;
}

krt_aws *krt_aws_close(krt_aws *aws)
{
    if (!aws)
        return NULL;
    aws->lib->easy_cleanup(aws->curl);
    aws->lib->global_cleanup();
    free(aws->url);
    free(aws->provider);
    free(aws->credentials);
    free(aws->token);
    free(aws->ca_file);
    free(aws);
    return NULL;
}

/* ---- requests ---- */

static size_t on_body(char *data, size_t one, size_t n, void *to)
{
    transfer *t = to;
    n *= one;
    size_t room = sizeof t->answer->body - 1 - t->size, take = n < room ? n : room;
    memcpy(t->answer->body + t->size, data, take);
    t->size += take;
    t->answer->body[t->size] = 0;
    return n;
}

/* The deadline comes closer when the daemon ends. */
static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)a, (void)b, (void)c, (void)d;
    const transfer *t = user;
    return now_ns() >= atomic_load(t->deadline_ns);
}

static void read_error(krt_aws_answer *a)
{
    json_t *root = json_loads(a->body, 0, NULL);
    const char *type = json_string_value(json_object_get(root, "__type"));
    const char *message = json_string_value(json_object_get(root, "message"));
    if (!message)
        message = json_string_value(json_object_get(root, "Message"));
    const char *hash = type ? strrchr(type, '#') : NULL; /* "com.amazonaws...#Name" */
    (void)snprintf(a->type, sizeof a->type, "%s", hash ? hash + 1 : type ? type : "");
    (void)snprintf(a->message, sizeof a->message, "%s", message ? message : "");
    json_decref(root);
}

static struct curl_slist *headers_of(const krt_aws *aws, const char *operation)
{
    char target[128];
    (void)snprintf(target, sizeof target, "X-Amz-Target: %s.%s", aws->target, operation);
    struct curl_slist *list = NULL;
    const char *lines[] = {target, "Content-Type: application/x-amz-json-1.1", aws->token};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct curl_slist *more = lines[i] ? aws->lib->slist_append(list, lines[i]) : list;
        if (!more) {
            aws->lib->slist_free_all(list);
            return NULL;
        }
        list = more;
    }
    return list;
}

bool krt_aws_call(krt_aws *aws, const char *operation, const char *body, size_t size,
                  const _Atomic uint64_t *deadline_ns, krt_aws_answer *out)
{
    const krt_curl *lib = aws->lib;
    CURL *c = aws->curl;
    char detail[CURL_ERROR_SIZE] = "";
    transfer t = {.answer = out, .deadline_ns = deadline_ns};
    *out = (krt_aws_answer){0};
    struct curl_slist *headers = headers_of(aws, operation);
    if (!headers) {
        (void)strcpy(out->message, "out of memory");
        return false;
    }
    lib->easy_reset(c); /* its connection stays */
    (void)lib->easy_setopt(c, CURLOPT_URL, aws->url);
    (void)lib->easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)lib->easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    (void)lib->easy_setopt(c, CURLOPT_AWS_SIGV4, aws->provider);
    (void)lib->easy_setopt(c, CURLOPT_USERPWD, aws->credentials);
    (void)lib->easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    (void)lib->easy_setopt(c, CURLOPT_POST, 1L);
    (void)lib->easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)size);
    (void)lib->easy_setopt(c, CURLOPT_POSTFIELDS, body);
    (void)lib->easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    (void)lib->easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    (void)lib->easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    (void)lib->easy_setopt(c, CURLOPT_XFERINFODATA, &t);
    (void)lib->easy_setopt(c, CURLOPT_ERRORBUFFER, detail);
    (void)lib->easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    (void)lib->easy_setopt(c, CURLOPT_WRITEDATA, &t);
    if (aws->ca_file)
        (void)lib->easy_setopt(c, CURLOPT_CAINFO, aws->ca_file);
    CURLcode code = lib->easy_perform(c);
    (void)lib->easy_getinfo(c, CURLINFO_RESPONSE_CODE, &out->http);
    lib->slist_free_all(headers);
    if (code != CURLE_OK) {
        out->http = 0;
        (void)snprintf(out->message, sizeof out->message, "%s",
                       code == CURLE_ABORTED_BY_CALLBACK ? "no answer in time"
                       : *detail                         ? detail
                                                         : lib->easy_strerror(code));
        return false;
    }
    if (out->http >= 200 && out->http < 300)
        return true;
    read_error(out);
    return false;
}
