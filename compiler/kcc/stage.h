/* A private directory in which a wrapper's inputs and outputs lie until all of them are whole. */
#ifndef KCC_STAGE_H
#define KCC_STAGE_H

#include <limits.h>

#include "s3.h"

typedef struct kcc_stage {
    char dir[PATH_MAX];
    kcc_s3 *s3; /* NULL until wanted */
} kcc_stage;

/* Makes a directory: beside |near|, so that files can be renamed there, or where temporary files go
 * if |near| is in S3. */
kaena_status kcc_stage_open(const char *near, kcc_stage *out, kaena_err *err) KAENA_CHECKED;
/* Removes it with all that is left inside. */
void kcc_stage_close(kcc_stage *s);
/* The connection to S3, made at the first call; |s| owns it. */
kaena_status kcc_stage_s3(kcc_stage *s, kcc_s3 **out, kaena_err *err) KAENA_CHECKED;

/* Moves |n| files of the stage to where they belong (paths, or all of them s3:// URLs), the last,
 * which readers look for first, at the end; what was there of it goes first. */
kaena_status kcc_stage_deliver(kcc_stage *s, const kcc_s3_file *file, uint32_t n,
                               kaena_err *err) KAENA_CHECKED;

#endif
