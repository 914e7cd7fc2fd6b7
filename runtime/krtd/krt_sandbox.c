#include "krt_sandbox.h"

#include <errno.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rpc_address.h"

#define FIRST_FREE_PORT 1024

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZER 1
#endif
#endif
#ifndef SANITIZER
#define SANITIZER 0
#endif

/* ---- capabilities ---- */

static uint64_t bit(int capability)
{
    return UINT64_C(1) << capability;
}

/* Leaves |keep| of what this thread has. Where that is nothing less, even asking may be forbidden:
 * by the service manager, who has taken all away. */
static bool set_capabilities(uint64_t keep)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) != 0)
        return false;
    bool less = false;
    for (int i = 0; i < 2; i++) {
        uint32_t part = (uint32_t)(keep >> (32 * i));
        less = less || (data[i].permitted & ~part) || data[i].inheritable;
        data[i].permitted &= part;
        data[i].effective &= part;
        data[i].inheritable = 0;
    }
    return !less || syscall(SYS_capset, &header, data) == 0;
}

static uint64_t needed_to_start(const krt_daemon_config *c)
{
    uint64_t keep = c->socket_group ? bit(CAP_CHOWN) : 0;
    for (size_t i = 0; i < c->n_listen; i++) {
        krpc_address a;
        if (krpc_address_parse(c->listen[i], &a, NULL) == KAENA_OK && !a.is_unix && a.port &&
            a.port < FIRST_FREE_PORT)
            keep |= bit(CAP_NET_BIND_SERVICE);
    }
    return keep;
}

kaena_status krt_sandbox_capabilities(const krt_daemon_config *c, kaena_err *err)
{
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (int i = 0; prctl(PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++)
        (void)prctl(PR_CAPBSET_DROP, i, 0, 0, 0); /* takes CAP_SETPCAP, which a plain user lacks */
    if (!set_capabilities(needed_to_start(c)) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        kaena_status st =
            KAENA_FAIL(err, FAILED_PRECONDITION, "drop capabilities: %s", strerror(errno));
        kaena_err_hint(err, "--no-sandbox keeps them");
        return st;
    }
    return KAENA_OK;
}

/* ---- system calls ---- */

/* A row that the sanitizers' own reports need is left out of their builds. */
static const struct {
    int number;
    bool sanitizers;
} refused[] = {
    /* programs and other processes */
    {SCMP_SYS(execve), true},
    {SCMP_SYS(execveat), true},
    {SCMP_SYS(ptrace), true},
    {SCMP_SYS(process_vm_readv), false},
    {SCMP_SYS(process_vm_writev), false},
    {SCMP_SYS(process_madvise), false},
    {SCMP_SYS(kcmp), false},
    {SCMP_SYS(pidfd_getfd), false},
    {SCMP_SYS(personality), true},
    /* identities and limits of others */
    {SCMP_SYS(setuid), false},
    {SCMP_SYS(setgid), false},
    {SCMP_SYS(setreuid), false},
    {SCMP_SYS(setregid), false},
    {SCMP_SYS(setresuid), false},
    {SCMP_SYS(setresgid), false},
    {SCMP_SYS(setfsuid), false},
    {SCMP_SYS(setfsgid), false},
    {SCMP_SYS(setgroups), false},
    {SCMP_SYS(capset), false},
    {SCMP_SYS(chown), false},
    {SCMP_SYS(fchown), false},
    {SCMP_SYS(lchown), false},
    {SCMP_SYS(fchownat), false},
    /* namespaces and file systems */
    {SCMP_SYS(unshare), false},
    {SCMP_SYS(setns), false},
    {SCMP_SYS(chroot), false},
    {SCMP_SYS(pivot_root), false},
    {SCMP_SYS(mount), false},
    {SCMP_SYS(umount2), false},
    {SCMP_SYS(mount_setattr), false},
    {SCMP_SYS(move_mount), false},
    {SCMP_SYS(open_tree), false},
    {SCMP_SYS(fsopen), false},
    {SCMP_SYS(fsmount), false},
    {SCMP_SYS(fsconfig), false},
    {SCMP_SYS(fspick), false},
    {SCMP_SYS(mknod), false},
    {SCMP_SYS(mknodat), false},
    {SCMP_SYS(open_by_handle_at), false},
    {SCMP_SYS(name_to_handle_at), false},
    {SCMP_SYS(fanotify_init), false},
    {SCMP_SYS(quotactl), false},
    {SCMP_SYS(swapon), false},
    {SCMP_SYS(swapoff), false},
    {SCMP_SYS(acct), false},
    /* the kernel itself */
    {SCMP_SYS(init_module), false},
    {SCMP_SYS(finit_module), false},
    {SCMP_SYS(delete_module), false},
    {SCMP_SYS(kexec_load), false},
    {SCMP_SYS(kexec_file_load), false},
    {SCMP_SYS(reboot), false},
    {SCMP_SYS(bpf), false},
    {SCMP_SYS(perf_event_open), false},
    {SCMP_SYS(userfaultfd), false},
    {SCMP_SYS(io_uring_setup), false},
    {SCMP_SYS(keyctl), false},
    {SCMP_SYS(add_key), false},
    {SCMP_SYS(request_key), false},
    {SCMP_SYS(iopl), false},
    {SCMP_SYS(ioperm), false},
    {SCMP_SYS(modify_ldt), false},
    {SCMP_SYS(syslog), false},
    {SCMP_SYS(vhangup), false},
    {SCMP_SYS(nfsservctl), false},
    {SCMP_SYS(lookup_dcookie), false},
    /* time and names of the machine */
    {SCMP_SYS(settimeofday), false},
    {SCMP_SYS(clock_settime), false},
    {SCMP_SYS(clock_adjtime), false},
    {SCMP_SYS(adjtimex), false},
    {SCMP_SYS(sethostname), false},
    {SCMP_SYS(setdomainname), false},
};

static int add_rules(scmp_filter_ctx filter)
{
    /* Without it every thread pays for a mitigation that is meant for code which krtd never runs;
     * and a tree costs a few comparisons where a list costs one for each row. */
    int rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
    if (rc == 0)
        rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (rc == 0)
        rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    for (size_t i = 0; i < sizeof refused / sizeof *refused && rc == 0; i++)
        if (!SANITIZER || !refused[i].sanitizers)
            rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), refused[i].number, 0);
    return rc;
}

kaena_status krt_sandbox_enter(kaena_err *err)
{
    /* Threads that the start has made may keep what binding needed; there is nothing left that they
     * would be used for. */
    (void)set_capabilities(0);
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    int rc = filter ? add_rules(filter) : -ENOMEM;
    if (rc == 0)
        rc = seccomp_load(filter);
    if (filter)
        seccomp_release(filter);
    if (rc != 0)
        return KAENA_FAIL(err, FAILED_PRECONDITION, "system call filter: %s", strerror(-rc));
    return KAENA_OK;
}
