#include "ktest.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "krt_sandbox.h"

/* Each test is a process of its own: what it gives up it gives up alone. */

static void give_up(const krt_daemon_config *c)
{
    kaena_err err;
    KTEST_OK(err, krt_sandbox_capabilities(c, &err));
    KTEST_OK(err, krt_sandbox_enter(&err));
}

static bool is_refused(long result)
{
    return result == -1 && errno == EPERM;
}

static void *try_from_a_thread(void *arg)
{
    (void)arg;
    return is_refused(syscall(SYS_unshare, 0)) ? arg : NULL;
}

static void *wait_then_try(void *arg)
{
    (void)pthread_barrier_wait(arg);
    return try_from_a_thread(arg);
}

KTEST(krt_sandbox, what_a_daemon_never_does_is_refused)
{
    krt_daemon_config c;
    krt_daemon_config_init(&c);
    pthread_barrier_t entered;
    pthread_t older;
    (void)pthread_barrier_init(&entered, NULL, 2);
    cr_assert(pthread_create(&older, NULL, wait_then_try, &entered) == 0);
    give_up(&c);
    char dir[] = "/tmp";
    cr_assert(is_refused(mount("none", dir, "tmpfs", 0, NULL)));
    cr_assert(is_refused(syscall(SYS_setuid, getuid())));
    cr_assert(is_refused(syscall(SYS_chown, dir, -1, -1)));
    cr_assert(is_refused(syscall(SYS_setns, -1, 0)));
    cr_assert(is_refused(syscall(SYS_bpf, 0, NULL, 0)));
    cr_assert(is_refused(syscall(SYS_keyctl, 0, 0)));
    cr_assert(is_refused(syscall(SYS_init_module, NULL, 0, "")));
    cr_assert(is_refused(syscall(SYS_process_vm_readv, getpid(), NULL, 0, NULL, 0, 0)));
    cr_assert(is_refused(syscall(SYS_io_uring_setup, 1, NULL)));
    void *refused;
    (void)pthread_barrier_wait(&entered);
    cr_assert(pthread_join(older, &refused) == 0 && refused, "a thread from before");
    pthread_t younger;
    cr_assert(pthread_create(&younger, NULL, try_from_a_thread, &entered) == 0);
    cr_assert(pthread_join(younger, &refused) == 0 && refused, "a thread from after");
    cr_assert(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
}

KTEST(krt_sandbox, what_a_daemon_does_goes_on)
{
    krt_daemon_config c;
    krt_daemon_config_init(&c);
    give_up(&c);
    char name[] = "/tmp/krt-sandbox-XXXXXX";
    int fd = mkstemp(name);
    cr_assert(fd >= 0 && ftruncate(fd, 4096) == 0);
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    cr_assert(p != MAP_FAILED && munmap(p, 4096) == 0);
    cr_assert(unlink(name) == 0 && close(fd) == 0);
    int memory = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    cr_assert(memory >= 0 && fcntl(memory, F_ADD_SEALS, F_SEAL_SEAL) == 0 && close(memory) == 0);
    int pair[2];
    cr_assert(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    (void)close(pair[0]);
    (void)close(pair[1]);
    cpu_set_t set;
    cr_assert(sched_getaffinity(0, sizeof set, &set) == 0);
}

static bool has_capability(int number)
{
    FILE *f = fopen("/proc/thread-self/status", "r");
    char line[256];
    unsigned long long mask = 0;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "CapEff: %llx", &mask) == 1)
            break;
    if (f)
        (void)fclose(f);
    return mask >> number & 1;
}

#define CHOWN 0
#define NET_BIND_SERVICE 10
#define SYS_ADMIN 21

KTEST(krt_sandbox, what_the_start_needs_is_kept_until_then)
{
    if (!has_capability(CHOWN) || !has_capability(NET_BIND_SERVICE))
        cr_skip("this user has no capabilities to give up");
    krt_daemon_config c;
    krt_daemon_config_init(&c);
    c.listen[c.n_listen++] = "127.0.0.1:1023";
    c.socket_group = "x";
    kaena_err err;
    KTEST_OK(err, krt_sandbox_capabilities(&c, &err));
    cr_assert(has_capability(CHOWN) && has_capability(NET_BIND_SERVICE));
    cr_assert(!has_capability(SYS_ADMIN));
    c.listen[0] = "127.0.0.1:1024";
    KTEST_OK(err, krt_sandbox_capabilities(&c, &err));
    cr_assert(has_capability(CHOWN) && !has_capability(NET_BIND_SERVICE));
    KTEST_OK(err, krt_sandbox_enter(&err));
    cr_assert(!has_capability(CHOWN));
}
