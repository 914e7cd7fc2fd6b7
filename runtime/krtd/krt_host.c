#include "krt_host.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "file.h"

/* ---- run directory and locks ---- */

static bool usable_directory(const char *path, mode_t mode)
{
    if (mkdir(path, mode) != 0 && errno != EEXIST)
        return false;
    return access(path, W_OK | X_OK) == 0;
}

kaena_status krt_rundir(char *out, size_t size, kaena_err *err)
{
    const char *given = getenv("KAENA_RUNDIR"), *xdg = getenv("XDG_RUNTIME_DIR");
    if (given && *given) {
        if ((size_t)snprintf(out, size, "%s", given) >= size || !usable_directory(out, 0755))
            return KAENA_FAIL(err, FAILED_PRECONDITION,
                              "KAENA_RUNDIR='%.200s' is not a directory that can be written",
                              given);
        return KAENA_OK;
    }
    (void)snprintf(out, size, KRT_RUNDIR);
    if (usable_directory(out, 0755))
        return KAENA_OK;
    if (xdg && *xdg && (size_t)snprintf(out, size, "%s/kaena", xdg) < size &&
        usable_directory(out, 0700))
        return KAENA_OK;
    return KAENA_FAIL(err, FAILED_PRECONDITION,
                      "no directory for sockets and locks: make /run/kaena writable, or set "
                      "XDG_RUNTIME_DIR or KAENA_RUNDIR");
}

void krt_rundir_find(char *out, size_t size)
{
    const char *given = getenv("KAENA_RUNDIR"), *xdg = getenv("XDG_RUNTIME_DIR");
    if (given && *given)
        (void)snprintf(out, size, "%s", given);
    else if (access("/run/kaena", X_OK) == 0 || !xdg || !*xdg)
        (void)snprintf(out, size, "/run/kaena");
    else
        (void)snprintf(out, size, "%s/kaena", xdg);
}

/* Only information: who has died may still be named in a file that is not locked. */
static void read_holder(int fd, char *out, size_t size)
{
    ssize_t n = pread(fd, out, size - 1, 0);
    out[n > 0 ? n : 0] = 0;
    out[strcspn(out, "\n")] = 0;
    for (char *p = out; *p; p++)
        if (*p < ' ' || *p > '~')
            *p = '?';
}

static void write_holder(int fd, const char *name)
{
    char text[128];
    int n = snprintf(text, sizeof text, "daemon '%s', pid %ld\n", name, (long)getpid());
    if (ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)n, 0) != n)
        (void)ftruncate(fd, 0); /* a full disk costs the name, not the lock */
}

kaena_status krt_device_lock(const char *rundir, const char *pci, const char *name, int *fd_out,
                             kaena_err *err)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/devices", rundir);
    if (n > 0 && (size_t)n < sizeof path - 32 && (mkdir(path, 0755) == 0 || errno == EEXIST))
        (void)snprintf(path + n, sizeof path - (size_t)n, "/%s.lock", pci);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return kaena_err_set(err, kaena_status_of_errno(errno), "device %s: lock '%.300s': %s", pci,
                             path, strerror(errno));
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &lock) != 0) {
        char holder[128];
        read_holder(fd, holder, sizeof holder);
        (void)close(fd);
        kaena_status st = KAENA_FAIL(err, FAILED_PRECONDITION,
                                     "device %s belongs to another daemon%s%s ('%.250s' is locked)",
                                     pci, holder[0] ? ": " : "", holder, path);
        kaena_err_hint(err, "stop that daemon, or give this one other devices");
        return st;
    }
    write_holder(fd, name);
    *fd_out = fd;
    return KAENA_OK;
}

void krt_raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

bool krt_device_holder(const char *rundir, const char *pci, krt_holder *out)
{
    char path[PATH_MAX], text[128];
    *out = (krt_holder){0};
    (void)snprintf(path, sizeof path, "%s/devices/%s.lock", rundir, pci);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    bool held = fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    if (held) {
        read_holder(fd, text, sizeof text);
        if (sscanf(text, "daemon '%79[^']', pid %ld", out->name, &out->pid) != 2)
            *out = (krt_holder){0};
    }
    (void)close(fd);
    return held;
}

/* ---- processors ---- */

/* Reads a small file; false when it is not there. */
static bool slurp(const char *path, char *buf, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    size_t at = 0;
    for (ssize_t n; at < size - 1 && (n = read(fd, buf + at, size - 1 - at)) > 0;)
        at += (size_t)n;
    (void)close(fd);
    buf[at] = 0;
    return true;
}

/* Quota of one directory in processors, rounded up; 0 = none. */
static uint64_t quota_at(const char *dir, bool v2)
{
    char path[PATH_MAX + 32], text[64];
    long long quota = -1, period = 0;
    if (v2) {
        (void)snprintf(path, sizeof path, "%s/cpu.max", dir);
        if (!slurp(path, text, sizeof text) || sscanf(text, "%lld %lld", &quota, &period) != 2)
            return 0; /* "max 100000" */
    } else {
        (void)snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", dir);
        if (!slurp(path, text, sizeof text) || sscanf(text, "%lld", &quota) != 1)
            return 0;
        (void)snprintf(path, sizeof path, "%s/cpu.cfs_period_us", dir);
        if (!slurp(path, text, sizeof text) || sscanf(text, "%lld", &period) != 1)
            return 0;
    }
    return quota > 0 && period > 0 ? ((uint64_t)quota + (uint64_t)period - 1) / (uint64_t)period
                                   : 0;
}

/* The least quota from |mount||group| up to the mount point; a group bounds all below it. In a
 * container the group's path may be the host's and not exist: the mount point then is our group. */
static uint64_t least_quota(const char *mount, const char *group, bool v2)
{
    char dir[PATH_MAX];
    size_t stem = strlen(mount);
    if ((size_t)snprintf(dir, sizeof dir, "%s%s", mount, strcmp(group, "/") ? group : "") >=
        sizeof dir)
        return 0;
    uint64_t least = 0;
    for (;;) {
        uint64_t q = quota_at(dir, v2);
        if (q && (!least || q < least))
            least = q;
        if (strlen(dir) <= stem)
            return least;
        *strrchr(dir, '/') = 0;
    }
}

static bool has_word(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; (p = strstr(p, word)); p += n)
        if ((p == list || p[-1] == ',') && (p[n] == ',' || p[n] == 0))
            return true;
    return false;
}

/* The group of the hierarchy in /proc/self/cgroup: "0::/path" (v2) or "4:cpu,cpuacct:/path". */
static bool find_group(const char *cgroups, bool v2, char *out, size_t size)
{
    char text[16384];
    (void)snprintf(text, sizeof text, "%s", cgroups);
    char *rest;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = 0;
        if (v2 ? controllers[1] == 0 : has_word(controllers + 1, "cpu")) {
            (void)snprintf(out, size, "%s", path);
            return true;
        }
    }
    return false;
}

static uint64_t cgroup_quota(const char *root)
{
    static char mounts[1 << 18], cgroups[16384]; /* called once, before threads */
    char path[PATH_MAX], group[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/proc/self/mountinfo", root);
    if (!slurp(path, mounts, sizeof mounts))
        return 0;
    (void)snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    if (!slurp(path, cgroups, sizeof cgroups))
        return 0;
    uint64_t least = 0;
    char *rest;
    for (char *line = strtok_r(mounts, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        /* "36 35 0:30 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct" */
        char mount[1024], type[32], options[512];
        char *dash = strstr(line, " - ");
        if (!dash || sscanf(line, "%*s %*s %*s %*s %1023s", mount) != 1 ||
            sscanf(dash, " - %31s %*s %511s", type, options) != 2)
            continue;
        bool v2 = strcmp(type, "cgroup2") == 0;
        if (!v2 && (strcmp(type, "cgroup") != 0 || !has_word(options, "cpu")))
            continue;
        if (!find_group(cgroups, v2, group, sizeof group))
            continue;
        (void)snprintf(path, sizeof path, "%s%s", root, mount);
        uint64_t q = least_quota(path, group, v2);
        if (q && (!least || q < least))
            least = q;
    }
    return least;
}

uint32_t krt_cpus(const char *root)
{
    uint64_t n = 1;
    cpu_set_t *set = CPU_ALLOC(8192);
    if (set && sched_getaffinity(0, CPU_ALLOC_SIZE(8192), set) == 0)
        n = (uint64_t)CPU_COUNT_S(CPU_ALLOC_SIZE(8192), set);
    CPU_FREE(set);
    uint64_t quota = cgroup_quota(root);
    if (quota && quota < n)
        n = quota;
    return n ? (uint32_t)n : 1;
}

/* ---- systemd ---- */

void krt_notify(const char *fmt, ...)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t n = path ? strlen(path) : 0;
    if (n < 2 || n >= sizeof addr.sun_path || (path[0] != '/' && path[0] != '@'))
        return;
    char state[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(state, sizeof state, fmt, ap);
    va_end(ap);
    memcpy(addr.sun_path, path, n);
    if (path[0] == '@') /* an abstract address */
        addr.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&addr,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    (void)close(fd);
}
