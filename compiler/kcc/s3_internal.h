/* The parts of the S3 client to each other: requests, and the XML that S3 answers. */
#ifndef KCC_S3_INTERNAL_H
#define KCC_S3_INTERNAL_H

#include <curl/curl.h>
#include <stdio.h>

#include "s3.h"
#include "strbuf.h"

struct kcc_s3 {
    CURL *curl;
    char *endpoint; /* "http://host:port", or NULL: Amazon's */
    char *region, *credentials, *token;
};

/* An object, from its URL: s3://bucket/key. */
typedef struct s3_object {
    char bucket[64];
    const char *key; /* points into the URL; "" for the bucket itself */
} s3_object;

kaena_status s3_object_parse(const char *url, s3_object *out, kaena_err *err) KAENA_CHECKED;

typedef enum s3_method { S3_GET, S3_PUT, S3_DELETE } s3_method;

/* One request, and where its body goes or comes from. */
typedef struct s3_request {
    s3_method method;
    const s3_object *object;
    const char *query; /* as the signature wants it: names in order, percent-encoded; NULL: none */
    FILE *to;          /* S3_GET: the answer; NULL: into |text| */
    kaena_strbuf *text;
    int64_t most; /* bytes of the answer */
    FILE *from;   /* S3_PUT: from its beginning */
    int64_t size;
} s3_request;

/* Sends it; what S3 refuses, and what does not arrive, is a failure that names the object. */
kaena_status s3_send(kcc_s3 *s3, const s3_request *r, kaena_err *err) KAENA_CHECKED;

/* Appends |text| percent-encoded as SigV4 wants it: only letters, digits and "-._~" stay, and '/'
 * where |slash|. */
void s3_encode(kaena_strbuf *out, const char *text, bool slash);

/* What ListObjectsV2 answers. */
typedef struct s3_list {
    const char **key;
    int64_t *size;
    uint32_t n, capacity;
    const char *next; /* the token to go on with; NULL: that was all */
} s3_list;

/* Appends the keys of one answer; |list|->next is this answer's. */
kaena_status s3_list_parse(kaena_arena *arena, const char *xml, size_t size, s3_list *list,
                           kaena_err *err) KAENA_CHECKED;
/* Code and message of an error's body; empty where it is none. */
void s3_error_parse(const char *xml, size_t size, char *code, size_t code_size, char *message,
                    size_t message_size);

#endif
