#include "ktest.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "krt_beneath.h"

/* A directory "in" to be stayed in, beside "secret" and "out". */
typedef struct fixture {
    char dir[64];
    int in;
} fixture;

static void put(const char *name, const char *text)
{
    FILE *f = fopen(name, "w");
    cr_assert(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

static void set_up(fixture *f)
{
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/krt-beneath-XXXXXX");
    cr_assert(mkdtemp(f->dir) && chdir(f->dir) == 0);
    cr_assert(mkdir("in", 0755) == 0 && mkdir("in/sub", 0755) == 0 && mkdir("out", 0755) == 0);
    put("in/file", "yes");
    put("in/sub/file", "yes");
    put("out/file", "no");
    put("secret", "no");
    cr_assert(mkfifo("in/fifo", 0644) == 0);
    static const char *const links[][2] = {
        {"file", "in/link"},          {"sub", "in/dirlink"},
        {"../file", "in/sub/up"},     {"../secret", "in/escape"},
        {"../out", "in/outdir"},      {"/etc/passwd", "in/absolute"},
        {"loop", "in/loop"},          {"sub/../../secret", "in/winding"},
        {"/proc/self/fd/0", "in/fd"},
    };
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        cr_assert(symlink(links[i][0], links[i][1]) == 0);
    f->in = open("in", O_PATH | O_DIRECTORY);
    cr_assert(f->in >= 0);
}

static void tear_down(fixture *f)
{
    (void)close(f->in);
    char command[128];
    (void)snprintf(command, sizeof command, "rm -r %s", f->dir);
    cr_assert(chdir("/") == 0 && system(command) == 0);
}

typedef int opener(int dir_fd, const char *path);
static opener *const openers[] = {krt_open_beneath, krt_walk_beneath};

KTEST(krt_beneath, paths)
{
    static const struct {
        const char *path;
        int expected; /* errno; 0 = "yes" can be read */
    } rows[] = {
        {"file", 0},
        {"sub/file", 0},
        {"./sub/../file", 0},
        {"sub//file", 0},
        {"link", 0},
        {"dirlink/file", 0},
        {"dirlink/../file", 0},
        {"sub/up", 0},
        {"", ENOENT},
        {"absent", ENOENT},
        {"sub/absent", ENOENT},
        {"file/x", ENOTDIR},
        {"..", EXDEV},
        {"../secret", EXDEV},
        {"sub/../../secret", EXDEV},
        {"sub/../../in/file", EXDEV},
        {"/etc/passwd", EXDEV},
        {"escape", EXDEV},
        {"outdir/file", EXDEV},
        {"absolute", EXDEV},
        {"winding", EXDEV},
        {"fd", EXDEV},
        {"loop", ELOOP},
    };
    fixture f;
    set_up(&f);
    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            int fd = openers[k](f.in, rows[i].path);
            char text[8] = "";
            if (fd < 0) {
                cr_assert(errno == rows[i].expected, "%zu '%s': %s", k, rows[i].path,
                          strerror(errno));
                continue;
            }
            cr_assert(rows[i].expected == 0, "%zu '%s' opens", k, rows[i].path);
            cr_assert(read(fd, text, sizeof text) == 3 && strcmp(text, "yes") == 0);
            (void)close(fd);
        }
    for (size_t k = 0; k < 2;
         k++) { /* what is not a file opens, without waiting, for fstat to tell */
        struct stat st;
        static const char *const others[] = {"sub", ".", "fifo", "dirlink"};
        for (size_t i = 0; i < 4; i++) {
            int fd = openers[k](f.in, others[i]);
            cr_assert(fd >= 0 && fstat(fd, &st) == 0 && !S_ISREG(st.st_mode), "%s", others[i]);
            (void)close(fd);
        }
    }
    tear_down(&f);
}

KTEST(krt_beneath, long_and_deep_paths)
{
    fixture f;
    set_up(&f);
    char path[8192];
    for (size_t k = 0; k < 2; k++) {
        memset(path, 'x', 300);
        path[300] = 0;
        cr_assert(openers[k](f.in, path) < 0);
        for (size_t i = 0; i + 8 < sizeof path; i += 7)
            memcpy(path + i, "sub/../", 8);
        cr_assert(openers[k](f.in, path) < 0 && errno == ENAMETOOLONG);
    }
    /* deeper than the walk remembers: refused, and nothing stays open */
    cr_assert(chdir("in") == 0);
    size_t n = 0;
    for (int i = 0; i < 80; i++) {
        n += (size_t)snprintf(path + n, sizeof path - n, "d/");
        cr_assert(mkdir(path, 0755) == 0);
    }
    cr_assert(chdir(f.dir) == 0);
    int before = dup(f.in);
    (void)close(before);
    cr_assert(krt_walk_beneath(f.in, path) < 0 && errno == ENAMETOOLONG);
    int after = dup(f.in);
    cr_assert(after == before, "a descriptor leaks");
    (void)close(after);
    tear_down(&f);
}

/* "in/spot" is now the directory sub, now a link to ../out, now gone. */
static void *swap(void *arg)
{
    const atomic_bool *stop = arg;
    while (!*stop) {
        (void)rename("in/sub", "in/spot");
        (void)rename("in/spot", "in/sub");
        (void)symlink("../out", "in/spot");
        (void)rename("in/spot", "out/link");
        (void)unlink("out/link");
        (void)rename("in/sub", "out/sub"); /* a directory that is left by ".." may have moved out */
        (void)rename("out/sub", "in/sub");
    }
    return NULL;
}

KTEST(krt_beneath, directories_that_are_exchanged_meanwhile)
{
    fixture f;
    set_up(&f);
    atomic_bool stop = false;
    pthread_t thread;
    cr_assert(pthread_create(&thread, NULL, swap, &stop) == 0);
    static const char *const paths[] = {"spot/file", "sub/../file", "sub/../secret",
                                        "spot/../secret"};
    size_t found = 0;
    for (int i = 0; i < 20000; i++) {
        int fd = openers[i & 1](f.in, paths[i / 2 % 4]);
        char text[8] = "";
        if (fd < 0)
            continue;
        cr_assert(read(fd, text, sizeof text) == 3 && strcmp(text, "yes") == 0, "'%s' leads out",
                  paths[i / 2 % 4]);
        (void)close(fd);
        found++;
    }
    stop = true;
    cr_assert(pthread_join(thread, NULL) == 0);
    cr_assert(found > 0);
    tear_down(&f);
}
