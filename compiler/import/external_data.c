#include "external_data.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checked.h"
#include "file.h"

typedef struct place {
    const char *location;
    uint64_t offset, length;
    bool has_length;
} place;

static bool parse_decimal(const char *text, uint64_t *out)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno || *end)
        return false;
    *out = v;
    return true;
}

static kaena_status parse_place(const Onnx__TensorProto *pb, place *out, kaena_err *err)
{
    place p = {0};
    for (size_t i = 0; i < pb->n_external_data; i++) {
        const char *key = pb->external_data[i]->key, *value = pb->external_data[i]->value;
        if (!key || !value)
            continue;
        bool good = true;
        if (strcmp(key, "location") == 0) {
            p.location = value;
        } else if (strcmp(key, "offset") == 0) {
            good = parse_decimal(value, &p.offset);
        } else if (strcmp(key, "length") == 0) {
            good = parse_decimal(value, &p.length);
            p.has_length = true;
        }
        if (!good)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "external data: %s '%s' is not a number", key,
                              value);
    }
    if (!p.location || !*p.location)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "external data without a location");
    *out = p;
    return KAENA_OK;
}

static bool has_parent_component(const char *path)
{
    for (const char *p = path; *p;) {
        size_t n = strcspn(p, "/");
        if (n == 2 && p[0] == '.' && p[1] == '.')
            return true;
        p += n + (p[n] == '/');
    }
    return false;
}

/* The real path of the data file; |path| has PATH_MAX bytes. */
static kaena_status resolve(const char *dir, const char *location, char *path, kaena_err *err)
{
    if (location[0] == '/' || has_parent_component(location))
        return KAENA_FAIL(err, INVALID_ARGUMENT,
                          "external data '%s' must be a path below the model's directory",
                          location);
    char joined[PATH_MAX], base[PATH_MAX];
    int n = snprintf(joined, sizeof joined, "%s/%s", dir, location);
    if (n < 0 || (size_t)n >= sizeof joined)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "external data: the path is too long");
    if (!realpath(dir, base) || !realpath(joined, path)) {
        int e = errno;
        return kaena_err_set(err, kaena_status_of_errno(e), "external data '%s': %s", joined,
                             strerror(e));
    }
    size_t size = strlen(base);
    bool below = strncmp(path, base, size) == 0 &&
                 (path[size] == '/' || path[size] == 0 || strcmp(base, "/") == 0);
    if (!below)
        return KAENA_FAIL(err, PERMISSION_DENIED,
                          "external data '%s' leads out of the model's directory through a "
                          "symbolic link",
                          location);
    return KAENA_OK;
}

static kaena_status read_range(int fd, const char *path, uint64_t offset, void *data, uint64_t size,
                               kaena_err *err)
{
    for (uint64_t done = 0; done < size;) {
        ssize_t n = pread(fd, (uint8_t *)data + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return KAENA_FAIL(err, DATA_LOSS, "external data '%s': %s", path,
                              n < 0 ? strerror(errno) : "it became shorter while it was read");
        done += (uint64_t)n;
    }
    return KAENA_OK;
}

kaena_status kcc_external_read(kaena_arena *arena, const Onnx__TensorProto *pb, const char *dir,
                               uint64_t bytes, kop_tensor *t, kaena_err *err)
{
    place p = {0};
    KAENA_TRY(parse_place(pb, &p, err));
    if (t->dtype == KAENA_STRING)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "strings cannot be external data");
    if (!dir)
        return KAENA_FAIL(err, INVALID_ARGUMENT,
                          "external data '%s', but there is no directory to look in", p.location);
    if (p.has_length && p.length != bytes)
        return KAENA_FAIL(err, INVALID_ARGUMENT,
                          "external data '%s' has length %" PRIu64
                          ", shape and type ask for %" PRIu64,
                          p.location, p.length, bytes);
    char path[PATH_MAX];
    KAENA_TRY(resolve(dir, p.location, path, err));
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        int e = errno;
        if (fd >= 0)
            (void)close(fd);
        return kaena_err_set(err, kaena_status_of_errno(e), "external data '%s': %s", path,
                             strerror(e));
    }
    kaena_status s;
    void *data = NULL;
    if (!S_ISREG(st.st_mode))
        s = KAENA_FAIL(err, INVALID_ARGUMENT, "external data '%s' is not a regular file", path);
    else if (!kaena_range_inside(p.offset, bytes, (uint64_t)st.st_size))
        s = KAENA_FAIL(err, INVALID_ARGUMENT,
                       "external data '%s' has %" PRIu64 " bytes; offset %" PRIu64
                       " and length %" PRIu64 " reach past its end",
                       path, (uint64_t)st.st_size, p.offset, bytes);
    else if (!(data = kaena_arena_alloc(arena, bytes)))
        s = KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for %" PRIu64 " bytes", bytes);
    else
        s = read_range(fd, path, p.offset, data, bytes, err);
    (void)close(fd);
    if (s == KAENA_OK)
        t->data = data;
    return s;
}
