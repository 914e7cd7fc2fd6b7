#include "stage.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"

#define OPEN_DIRECTORIES 16

kaena_status kcc_stage_open(const char *near, kcc_stage *out, kaena_err *err)
{
    const char *temp = getenv("TMPDIR"), *slash = strrchr(near, '/');
    int n;
    *out = (kcc_stage){0};
    if (kcc_s3_is(near))
        n = snprintf(out->dir, sizeof out->dir, "%s/kaena-XXXXXX", temp && *temp ? temp : "/tmp");
    else
        n = snprintf(out->dir, sizeof out->dir, "%.*s.kaena-XXXXXX",
                     (int)(slash ? slash + 1 - near : 0), near);
    if (n < 0 || (size_t)n >= sizeof out->dir)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "'%s' is too long a path", near);
    if (mkdtemp(out->dir))
        return KAENA_OK;
    kaena_status s =
        kaena_err_set(err, kaena_status_of_errno(errno), "no directory can be made beside '%s': %s",
                      near, strerror(errno));
    out->dir[0] = 0;
    return s;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st;
    (void)kind;
    (void)where;
    return remove(path);
}

void kcc_stage_close(kcc_stage *s)
{
    if (s->dir[0])
        (void)nftw(s->dir, remove_one, OPEN_DIRECTORIES, FTW_DEPTH | FTW_PHYS);
    s->dir[0] = 0;
    kcc_s3_close(s->s3);
    s->s3 = NULL;
}

kaena_status kcc_stage_s3(kcc_stage *s, kcc_s3 **out, kaena_err *err)
{
    if (!s->s3)
        KAENA_TRY(kcc_s3_open(&s->s3, err));
    *out = s->s3;
    return KAENA_OK;
}

static kaena_status move(const char *from, const char *to, kaena_err *err)
{
    if (rename(from, to) == 0)
        return KAENA_OK;
    return kaena_err_set(err, kaena_status_of_errno(errno), "'%s': %s", to, strerror(errno));
}

kaena_status kcc_stage_deliver(kcc_stage *s, const kcc_s3_file *file, uint32_t n, kaena_err *err)
{
    kcc_s3 *s3;
    if (kcc_s3_is(file[0].url)) {
        KAENA_TRY(kcc_stage_s3(s, &s3, err));
        return kcc_s3_put_all(s3, file, n, err);
    }
    if (unlink(file[n - 1].url) != 0 && errno != ENOENT)
        return kaena_err_set(err, kaena_status_of_errno(errno), "'%s': %s", file[n - 1].url,
                             strerror(errno));
    for (uint32_t i = 0; i < n; i++)
        KAENA_TRY(move(file[i].path, file[i].url, err));
    return KAENA_OK;
}
