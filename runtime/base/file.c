#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

const char *kaena_path_of_uri(const char *path)
{
    return strncmp(path, "file://", 7) == 0 ? path + 7 : path;
}

kaena_status kaena_status_of_errno(int e)
{
    switch (e) {
    case ENOENT:
    case ENOTDIR:
        return KAENA_NOT_FOUND;
    case EACCES:
    case EPERM:
        return KAENA_PERMISSION_DENIED;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EFBIG:
        return KAENA_RESOURCE_EXHAUSTED;
    default:
        return KAENA_INTERNAL;
    }
}

static kaena_status fail_errno(kaena_err *err, const char *what, const char *path, int e)
{
    return kaena_err_set(err, kaena_status_of_errno(e), "%s '%s': %s", what, path, strerror(e));
}

kaena_status kaena_file_open(const char *path, kaena_file *out, kaena_err *err)
{
    path = kaena_path_of_uri(path);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fail_errno(err, "open", path, errno);
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        (void)close(fd);
        return KAENA_FAIL(err, INVALID_ARGUMENT, "open '%s': not a regular file", path);
    }
    kaena_file f = {.size = (size_t)st.st_size};
    if (f.size) {
        void *p = mmap(NULL, f.size, PROT_READ, MAP_PRIVATE, fd, 0);
        int e = errno;
        (void)close(fd);
        if (p == MAP_FAILED)
            return fail_errno(err, "map", path, e);
        f.data = p;
    } else {
        (void)close(fd);
    }
    *out = f;
    return KAENA_OK;
}

void kaena_file_close(kaena_file *file)
{
    if (file->data)
        (void)munmap((void *)(uintptr_t)file->data, file->size);
    *file = (kaena_file){0};
}

static int write_all(int fd, const uint8_t *data, size_t size)
{
    while (size) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? errno : EIO;
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

kaena_status kaena_file_temp(const char *path, char *temp, int *fd, kaena_err *err)
{
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return KAENA_FAIL(err, INVALID_ARGUMENT, "write '%s': not a regular file", path);
    int n = snprintf(temp, PATH_MAX, "%s.XXXXXX", path);
    if (n < 0 || n >= PATH_MAX)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "write '%.200s...': name too long", path);
    *fd = mkostemp(temp, O_CLOEXEC);
    return *fd < 0 ? fail_errno(err, "write", path, errno) : KAENA_OK;
}

kaena_status kaena_file_write(const char *path, const void *data, size_t size, kaena_err *err)
{
    char temp[PATH_MAX];
    int fd;
    KAENA_TRY(kaena_file_temp(path, temp, &fd, err));
    int e = write_all(fd, data, size);
    if (!e && fchmod(fd, 0644) != 0)
        e = errno;
    if (close(fd) != 0 && !e)
        e = errno;
    if (!e && rename(temp, path) != 0)
        e = errno;
    if (!e)
        return KAENA_OK;
    (void)unlink(temp);
    return fail_errno(err, "write", path, e);
}
