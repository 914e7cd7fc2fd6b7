#include "s3.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
#include "s3_internal.h"

#define MAX_LIST ((int64_t)16 << 20) /* bytes of one answer */
#define KEYS_AT_ONCE 1000

/* --- Connection ------------------------------------------------------------------------------ */

static const char *variable(const char *name, const char *other)
{
    const char *v = getenv(name);
    if ((!v || !*v) && other)
        v = getenv(other);
    return v && *v ? v : NULL;
}

static char *copy(const char *s)
{
    return s ? strdup(s) : NULL;
}

static bool is_printable(const char *s)
{
    for (; s && *s; s++)
        if (*s <= ' ' || *s > '~')
            return false;
    return true;
}

static kaena_status read_environment(kcc_s3 *s3, kaena_err *err)
{
    const char *id = variable("AWS_ACCESS_KEY_ID", NULL);
    const char *secret = variable("AWS_SECRET_ACCESS_KEY", NULL);
    const char *endpoint = variable("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL");
    const char *region = variable("AWS_REGION", "AWS_DEFAULT_REGION");
    kaena_strbuf pair = {0};
    if (!id || !secret) {
        (void)KAENA_FAIL(err, FAILED_PRECONDITION, "s3: there are no credentials");
        kaena_err_hint(err, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
        return KAENA_FAILED_PRECONDITION;
    }
    s3->endpoint = copy(endpoint);
    s3->region = copy(region ? region : "us-east-1");
    s3->token = copy(variable("AWS_SESSION_TOKEN", NULL));
    kaena_strbuf_printf(&pair, "%s:%s", id, secret);
    s3->credentials = copy(pair.data);
    kaena_strbuf_fini(&pair);
    if (!s3->region || !s3->credentials)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
    if (strspn(s3->region, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(s3->region))
        return KAENA_FAIL(err, INVALID_ARGUMENT, "s3: '%s' is no region", s3->region);
    if (!is_printable(s3->token) || !is_printable(s3->credentials))
        return KAENA_FAIL(err, INVALID_ARGUMENT, "s3: a credential has spaces in it");
    for (size_t n; s3->endpoint && (n = strlen(s3->endpoint)) > 0 && s3->endpoint[n - 1] == '/';)
        s3->endpoint[n - 1] = 0;
    if (s3->endpoint && strncmp(s3->endpoint, "http://", 7) != 0 &&
        strncmp(s3->endpoint, "https://", 8) != 0)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "s3: the endpoint '%s' is no http URL",
                          s3->endpoint);
    return KAENA_OK;
}

kaena_status kcc_s3_open(kcc_s3 **out, kaena_err *err)
{
    kcc_s3 *s3 = calloc(1, sizeof *s3);
    if (!s3 || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
        !(s3->curl = curl_easy_init())) {
        free(s3);
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "s3: no memory");
    }
    kaena_status s = read_environment(s3, err);
    if (s == KAENA_OK)
        *out = s3;
    else
        kcc_s3_close(s3);
    return s;
}

void kcc_s3_close(kcc_s3 *s3)
{
    if (!s3)
        return;
    curl_easy_cleanup(s3->curl);
    free(s3->endpoint);
    free(s3->region);
    free(s3->credentials);
    free(s3->token);
    free(s3);
    curl_global_cleanup();
}

/* --- Downloads ------------------------------------------------------------------------------- */

static kaena_status get_object(kcc_s3 *s3, const s3_object *o, const char *path, int64_t most,
                               kaena_err *err)
{
    char temp[PATH_MAX];
    int fd;
    KAENA_TRY(kaena_file_temp(path, temp, &fd, err));
    FILE *f = fdopen(fd, "wb");
    kaena_status s = f ? KAENA_OK : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
    if (!f)
        (void)close(fd);
    if (s == KAENA_OK)
        s = s3_send(s3, &(s3_request){.method = S3_GET, .object = o, .to = f, .most = most}, err);
    if (f && fclose(f) != 0 && s == KAENA_OK)
        s = KAENA_FAIL(err, RESOURCE_EXHAUSTED, "'%s': %s", path, strerror(errno));
    if (s == KAENA_OK && rename(temp, path) != 0)
        s = kaena_err_set(err, kaena_status_of_errno(errno), "'%s': %s", path, strerror(errno));
    if (s != KAENA_OK)
        (void)unlink(temp);
    return s;
}

kaena_status kcc_s3_get(kcc_s3 *s3, const char *url, const char *path, kaena_err *err)
{
    s3_object o;
    KAENA_TRY(s3_object_parse(url, &o, err));
    return get_object(s3, &o, path, KCC_S3_MAX_DOWNLOAD, err);
}

static kaena_status list_page(kcc_s3 *s3, kaena_arena *arena, const s3_object *o, s3_list *list,
                              kaena_err *err)
{
    kaena_strbuf query = {0}, text = {0};
    if (list->next) {
        kaena_strbuf_printf(&query, "continuation-token=");
        s3_encode(&query, list->next, false);
        kaena_strbuf_printf(&query, "&");
    }
    kaena_strbuf_printf(&query, "list-type=2&max-keys=%d&prefix=", KEYS_AT_ONCE);
    s3_encode(&query, o->key, false);
    kaena_status s = s3_send(
        s3,
        &(s3_request){
            .method = S3_GET, .object = o, .query = query.data, .text = &text, .most = MAX_LIST},
        err);
    if (s == KAENA_OK)
        s = s3_list_parse(arena, text.data ? text.data : "", text.size, list, err);
    kaena_strbuf_fini(&query);
    kaena_strbuf_fini(&text);
    return s;
}

/* All keys that begin with |o|'s, within the limits. */
static kaena_status list_all(kcc_s3 *s3, kaena_arena *arena, const s3_object *o, s3_list *list,
                             kaena_err *err)
{
    int64_t total = 0;
    do {
        uint32_t before = list->n;
        KAENA_TRY(list_page(s3, arena, o, list, err));
        if (list->n > KCC_S3_MAX_OBJECTS)
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "s3://%s/%s: more than %d objects",
                              o->bucket, o->key, KCC_S3_MAX_OBJECTS);
        for (uint32_t i = before; i < list->n; i++) {
            if (list->size[i] < 0 || list->size[i] > KCC_S3_MAX_DOWNLOAD - total)
                return KAENA_FAIL(err, RESOURCE_EXHAUSTED,
                                  "s3://%s/%s: more than %" PRId64 " bytes in all", o->bucket,
                                  o->key, KCC_S3_MAX_DOWNLOAD);
            total += list->size[i];
        }
        if (list->next && list->n == before)
            return KAENA_FAIL(err, INTERNAL, "s3://%s/%s: its list does not end", o->bucket,
                              o->key);
    } while (list->next);
    return KAENA_OK;
}

kaena_status kcc_s3_list(kcc_s3 *s3, kaena_arena *arena, const char *url, const char *const **keys,
                         uint32_t *n, kaena_err *err)
{
    s3_object o;
    s3_list list = {0};
    KAENA_TRY(s3_object_parse(url, &o, err));
    KAENA_TRY(list_all(s3, arena, &o, &list, err));
    *keys = list.key;
    *n = list.n;
    return KAENA_OK;
}

/* A relative path that stays where it is put. */
static bool is_tame(const char *path)
{
    for (const char *part = path;;) {
        size_t n = strcspn(part, "/");
        bool dots = (n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.');
        if (n == 0 || n > NAME_MAX || dots)
            return false;
        if (!part[n])
            return strlen(path) < PATH_MAX / 2;
        part += n + 1;
    }
}

/* The directories above |path|, which begins with |dir|. */
static kaena_status make_directories(const char *dir, char *path, kaena_err *err)
{
    for (char *bar = path + strlen(dir) + 1; (bar = strchr(bar, '/')); bar++) {
        *bar = 0;
        if (mkdir(path, 0777) != 0 && errno != EEXIST)
            return kaena_err_set(err, kaena_status_of_errno(errno), "'%s': %s", path,
                                 strerror(errno));
        *bar = '/';
    }
    return KAENA_OK;
}

static kaena_status get_listed(kcc_s3 *s3, kaena_arena *arena, const s3_object *o,
                               const s3_list *list, const char *dir, kaena_err *err)
{
    const char *slash = strrchr(o->key, '/');
    size_t cut = slash ? (size_t)(slash + 1 - o->key) : 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < list->n; i++) {
        const char *key = list->key[i];
        size_t size = strlen(key);
        if (strncmp(key, o->key, strlen(o->key)) != 0)
            return KAENA_FAIL(err, INTERNAL, "s3://%s/%s: its list has '%s'", o->bucket, o->key,
                              key);
        if (size == cut || key[size - 1] == '/')
            continue; /* what consoles make to show a folder */
        if (!is_tame(key + cut))
            return KAENA_FAIL(err, INVALID_ARGUMENT, "s3://%s/%s cannot be a file", o->bucket, key);
        char *path = kaena_arena_printf(arena, "%s/%s", dir, key + cut);
        if (!path)
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
        KAENA_TRY(make_directories(dir, path, err));
        s3_object one = {.key = key};
        memcpy(one.bucket, o->bucket, sizeof one.bucket);
        KAENA_TRY(get_object(s3, &one, path, list->size[i] > 0 ? list->size[i] : 1, err));
        n++;
    }
    if (n > 0)
        return KAENA_OK;
    return KAENA_FAIL(err, NOT_FOUND, "there are no objects s3://%s/%s*", o->bucket, o->key);
}

kaena_status kcc_s3_get_all(kcc_s3 *s3, const char *url, const char *dir, kaena_err *err)
{
    s3_object o;
    s3_list list = {0};
    kaena_arena arena;
    KAENA_TRY(s3_object_parse(url, &o, err));
    kaena_arena_init(&arena, (size_t)256 << 20);
    kaena_status s = list_all(s3, &arena, &o, &list, err);
    if (s == KAENA_OK)
        s = get_listed(s3, &arena, &o, &list, dir, err);
    kaena_arena_fini(&arena);
    return s;
}

/* --- Uploads --------------------------------------------------------------------------------- */

static kaena_status put_object(kcc_s3 *s3, const kcc_s3_file *file, kaena_err *err)
{
    s3_object o;
    struct stat st;
    KAENA_TRY(s3_object_parse(file->url, &o, err));
    FILE *f = fopen(file->path, "rbe");
    if (!f)
        return kaena_err_set(err, kaena_status_of_errno(errno), "'%s': %s", file->path,
                             strerror(errno));
    kaena_status s = KAENA_OK;
    if (fstat(fileno(f), &st) != 0 || !S_ISREG(st.st_mode))
        s = KAENA_FAIL(err, INVALID_ARGUMENT, "'%s' is not a file", file->path);
    else if (st.st_size > KCC_S3_MAX_UPLOAD)
        s = KAENA_FAIL(err, RESOURCE_EXHAUSTED,
                       "'%s' has %lld bytes; s3 takes at most %" PRId64 " at once", file->path,
                       (long long)st.st_size, KCC_S3_MAX_UPLOAD);
    if (s == KAENA_OK)
        s = s3_send(
            s3, &(s3_request){.method = S3_PUT, .object = &o, .from = f, .size = st.st_size}, err);
    (void)fclose(f);
    return s;
}

static kaena_status delete_object(kcc_s3 *s3, const char *url, kaena_err *err)
{
    s3_object o;
    KAENA_TRY(s3_object_parse(url, &o, err));
    kaena_status s = s3_send(s3, &(s3_request){.method = S3_DELETE, .object = &o}, err);
    /* A missing object is what was wanted, but a missing bucket is worth a word. */
    return s == KAENA_NOT_FOUND && !strstr(err ? err->what : "", "NoSuchBucket") ? KAENA_OK : s;
}

kaena_status kcc_s3_put_all(kcc_s3 *s3, const kcc_s3_file *file, uint32_t n, kaena_err *err)
{
    uint32_t done = 0;
    KAENA_TRY(delete_object(s3, file[n - 1].url, err));
    kaena_status s = KAENA_OK;
    while (done < n && s == KAENA_OK) {
        s = put_object(s3, &file[done], err);
        done += s == KAENA_OK;
    }
    for (uint32_t i = 0; s != KAENA_OK && i < done; i++) {
        kaena_err ignored;
        kaena_err_init(&ignored);
        (void)delete_object(s3, file[i].url, &ignored);
    }
    return s;
}
