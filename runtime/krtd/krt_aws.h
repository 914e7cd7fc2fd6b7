/* Signed requests (SigV4) to one AWS service whose operations are JSON 1.1, or to what speaks its
 * protocol. */
#ifndef KRT_AWS_H
#define KRT_AWS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

typedef struct krt_aws krt_aws;

/* NULL: from the environment: AWS_ENDPOINT_URL_<SERVICE> or AWS_ENDPOINT_URL, else Amazon's;
 * AWS_REGION or AWS_DEFAULT_REGION, else us-east-1; AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
 * AWS_SESSION_TOKEN. Copied. */
typedef struct krt_aws_options {
    const char *service;          /* "logs" */
    const char *target;           /* "Logs_20140328": what stands before an operation's name */
    const char *environment_name; /* "CLOUDWATCH_LOGS" */
    const char *endpoint, *region, *access_key_id, *secret_access_key, *session_token;
    const char *ca_file; /* NULL: the system's */
} krt_aws_options;

/* FAILED_PRECONDITION: no credentials, or no libcurl. Thread: one at a time. */
kaena_status krt_aws_open(const krt_aws_options *options, krt_aws **out,
                          kaena_err *err) KAENA_CHECKED;
/* Accepts NULL and returns it. */
krt_aws *krt_aws_close(krt_aws *aws);

/* What came back. */
typedef struct krt_aws_answer {
    long http;         /* 0: nothing did */
    char type[96];     /* of an error: "ThrottlingException" */
    char message[256]; /* what the service says, or why nothing came back */
    char body[4096];   /* terminated; its beginning where it is longer */
} krt_aws_answer;

/* Sends |body| (JSON) to |operation|; true: accepted (2xx). Takes until |*deadline_ns| of
 * CLOCK_MONOTONIC at most, which may come closer meanwhile. Thread: one at a time. */
bool krt_aws_call(krt_aws *aws, const char *operation, const char *body, size_t size,
                  const _Atomic uint64_t *deadline_ns, krt_aws_answer *out);

#endif
