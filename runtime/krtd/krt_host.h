/* What the daemon asks of the host it runs on: run directory, device locks, processors, systemd. */
#ifndef KRT_HOST_H
#define KRT_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

#define KRT_RUNDIR "/run/kaena"

/* The directory of sockets and locks: KAENA_RUNDIR, else /run/kaena where it can be written, else
 * $XDG_RUNTIME_DIR/kaena; made when absent. FAILED_PRECONDITION: none of them. */
kaena_status krt_rundir(char *out, size_t size, kaena_err *err) KAENA_CHECKED;

/* The same directory for those who only look: nothing is made, and it need not be there. */
void krt_rundir_find(char *out, size_t size);

/* The process that has a device locked. */
typedef struct krt_holder {
    char name[80]; /* of the daemon; "" = not known */
    long pid;      /* 0 = not known */
} krt_holder;

/* Whether the device |pci| is locked, and by whom. */
bool krt_device_holder(const char *rundir, const char *pci, krt_holder *out);

/* Takes |rundir|/devices/|pci|.lock for this process: |*fd_out| holds it until closed, or until the
 * process is gone, however it went. |name| of the daemon and its process are written into the file
 * for whoever finds it locked. FAILED_PRECONDITION: another daemon has it; the message names the
 * device and that daemon. */
kaena_status krt_device_lock(const char *rundir, const char *pci, const char *name, int *fd_out,
                             kaena_err *err) KAENA_CHECKED;

/* As many file descriptors as this process is allowed: connections take one each. */
void krt_raise_descriptors(void);

/* Processors that this process may use: its CPU set, and the CPU quota of its control groups (v1
 * and v2, rounded up), at least 1. |root| is "" but in tests: it stands before /proc and the mount
 * points. */
uint32_t krt_cpus(const char *root);

/* Tells systemd, when it has asked to be told ("READY=1"). */
void krt_notify(const char *fmt, ...) KAENA_PRINTF(1, 2);

#endif
