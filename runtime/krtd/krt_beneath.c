#include "krt_beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_DEPTH 64
#define MAX_LINKS 40 /* the kernel's own bound */
#define FLAGS (O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

/* The directories entered so far: ".." is the one before, wherever it may have been moved to. */
typedef struct walk {
    int root;
    int entered[MAX_DEPTH];
    size_t depth;
    unsigned links;
    char rest[PATH_MAX];
} walk;

static int here(const walk *w)
{
    return w->depth ? w->entered[w->depth - 1] : w->root;
}

static int fail(int e)
{
    errno = e;
    return -1;
}

/* Takes the next name off the path; false at its end. */
static bool next_name(walk *w, char name[NAME_MAX + 1])
{
    size_t skip = strspn(w->rest, "/"), n = strcspn(w->rest + skip, "/");
    if (n == 0)
        return false;
    if (n > NAME_MAX)
        n = NAME_MAX; /* no file has such a name: the kernel says so */
    memcpy(name, w->rest + skip, n);
    name[n] = 0;
    memmove(w->rest, w->rest + skip + n, strlen(w->rest + skip + n) + 1);
    return true;
}

/* Puts what the link says before the rest of the path. */
static int follow(walk *w, int link)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(link, "", target, sizeof target - 1);
    if (n < 0)
        return -1;
    target[n] = 0;
    if (++w->links > MAX_LINKS)
        return fail(ELOOP);
    if (target[0] == '/')
        return fail(EXDEV);
    size_t length = strlen(w->rest);
    if ((size_t)n + 1 + length >= sizeof w->rest)
        return fail(ENAMETOOLONG);
    memmove(w->rest + n + 1, w->rest, length + 1);
    memcpy(w->rest, target, (size_t)n);
    w->rest[n] = '/';
    return 0;
}

static int enter(walk *w, int fd)
{
    if (w->depth == MAX_DEPTH)
        return fail(ENAMETOOLONG);
    w->entered[w->depth++] = fd;
    return 0;
}

/* Goes on by one name: -1 failed, 0 go on, 1 |*out| is the file. */
static int step(walk *w, const char *name, int *out)
{
    if (strcmp(name, ".") == 0)
        return 0;
    if (strcmp(name, "..") == 0) {
        if (w->depth == 0)
            return fail(EXDEV);
        (void)close(w->entered[--w->depth]);
        return 0;
    }
    int fd = openat(here(w), name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0)
        return -1;
    int rc = fstat(fd, &st);
    if (rc == 0 && S_ISDIR(st.st_mode)) {
        rc = enter(w, fd);
        if (rc == 0)
            return 0; /* |fd| is kept */
    } else if (rc == 0 && S_ISLNK(st.st_mode)) {
        rc = follow(w, fd);
    } else if (rc == 0 && w->rest[strspn(w->rest, "/")]) {
        rc = fail(ENOTDIR);
    } else if (rc == 0) {
        *out = openat(here(w), name, FLAGS | O_NOFOLLOW); /* a link by now: ELOOP */
        rc = *out < 0 ? -1 : 1;
    }
    int e = errno;
    (void)close(fd);
    errno = e;
    return rc;
}

int krt_walk_beneath(int dir_fd, const char *path)
{
    walk w = {.root = dir_fd};
    if (*path == '/')
        return fail(EXDEV);
    if ((size_t)snprintf(w.rest, sizeof w.rest, "%s", path) >= sizeof w.rest)
        return fail(ENAMETOOLONG);
    if (!w.rest[0])
        return fail(ENOENT);
    char name[NAME_MAX + 1];
    int out = -1, rc = 0;
    while (rc == 0 && next_name(&w, name))
        rc = step(&w, name, &out);
    if (rc == 0) /* the path ends at a directory */
        out = openat(here(&w), ".", FLAGS);
    int e = errno;
    while (w.depth)
        (void)close(w.entered[--w.depth]);
    errno = e;
    return out;
}

int krt_open_beneath(int dir_fd, const char *path)
{
    struct open_how how = {.flags = FLAGS, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    int fd = (int)syscall(SYS_openat2, dir_fd, path, &how, sizeof how);
    /* EAGAIN: something was moved meanwhile and the kernel cannot be sure */
    if (fd >= 0 || (errno != ENOSYS && errno != EPERM && errno != EAGAIN))
        return fd;
    return krt_walk_beneath(dir_fd, path);
}
