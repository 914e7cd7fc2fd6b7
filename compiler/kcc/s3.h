/* Objects of S3 as files: s3://bucket/key.
 *
 * Endpoint and credentials come from the usual variables: AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL
 * (the bucket is the first part of the path there; without one it is part of the host's name),
 * AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION or AWS_DEFAULT_REGION.
 * Requests are signed (SigV4) and not redirected. Errors name the object, the HTTP status and what
 * S3 says about it, never a credential.
 *
 * NOT_FOUND            no such bucket or object
 * PERMISSION_DENIED    401 or 403
 * FAILED_PRECONDITION  no credentials in the environment
 * UNAVAILABLE          no connection, or the service cannot now
 * DEADLINE_EXCEEDED    it stopped sending
 * RESOURCE_EXHAUSTED   larger than the limits here */
#ifndef KCC_S3_H
#define KCC_S3_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "err.h"

#define KCC_S3_MAX_OBJECTS 10000                /* below one prefix */
#define KCC_S3_MAX_DOWNLOAD (INT64_C(64) << 30) /* bytes, of all objects together */
#define KCC_S3_MAX_UPLOAD (INT64_C(5) << 30)    /* bytes of one object: what S3 takes at once */
#define KCC_S3_CONNECT_SECONDS 10
#define KCC_S3_STALL_SECONDS 60 /* without a byte */

typedef struct kcc_s3 kcc_s3;

static inline bool kcc_s3_is(const char *path)
{
    return path[0] == 's' && path[1] == '3' && path[2] == ':' && path[3] == '/' && path[4] == '/';
}

/* Reads the environment. Thread: one at a time; no other thread may be starting libcurl. */
kaena_status kcc_s3_open(kcc_s3 **out, kaena_err *err) KAENA_CHECKED;
void kcc_s3_close(kcc_s3 *s3);

/* The object |url| as the file |path|, which is there whole or not at all. */
kaena_status kcc_s3_get(kcc_s3 *s3, const char *url, const char *path,
                        kaena_err *err) KAENA_CHECKED;
/* The keys that begin with that of |url|, in |arena|; |*n| may be 0. */
kaena_status kcc_s3_list(kcc_s3 *s3, kaena_arena *arena, const char *url, const char *const **keys,
                         uint32_t *n, kaena_err *err) KAENA_CHECKED;
/* Every object whose key begins with that of |url| into the directory |dir|, which exists: named by
 * what follows the last '/' of |url|'s key, so "s3://b/m/resnet" gives dir/resnet-symbol.json and
 * "s3://b/m/saved/" gives dir/saved_model.pb. NOT_FOUND when there is none; INVALID_ARGUMENT when a
 * key would leave |dir|. */
kaena_status kcc_s3_get_all(kcc_s3 *s3, const char *url, const char *dir,
                            kaena_err *err) KAENA_CHECKED;

/* A file and where it goes. */
typedef struct kcc_s3_file {
    const char *path, *url;
} kcc_s3_file;

/* Uploads |n| files. The last is what readers look for first: what was there of it is deleted
 * before anything else, and it comes when all others are there. On failure what was uploaded is
 * deleted again. */
kaena_status kcc_s3_put_all(kcc_s3 *s3, const kcc_s3_file *file, uint32_t n,
                            kaena_err *err) KAENA_CHECKED;

#endif
