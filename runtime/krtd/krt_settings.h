/* Where a daemon's settings come from: its command line, and the file, as often as it is read. */
#ifndef KRT_SETTINGS_H
#define KRT_SETTINGS_H

#include "krt_config.h"
#include "log.h"

typedef struct krt_arguments {
    krt_overrides overrides;
    const char *config_path; /* NULL = the host's */
    bool check_config;
    bool no_sandbox;
} krt_arguments;

/* |a| has the defaults. Borrows from |argv|. --help and --version print and end the process.
 * INVALID_ARGUMENT names the option. */
kaena_status krt_arguments_parse(int argc, char **argv, krt_arguments *a,
                                 kaena_err *err) KAENA_CHECKED;

/* The file as it was once, with the command line over it. Kept until the end, since whoever runs
 * may still read it when a newer one is there. */
typedef struct krt_settings {
    krt_host_config host;
    krt_daemon_config daemon;
    struct krt_settings *older;
} krt_settings;

/* Fails as krt_host_config_read and krt_config_resolve. */
kaena_status krt_settings_read(const krt_arguments *a, const char *rundir, krt_settings **out,
                               kaena_err *err) KAENA_CHECKED;
/* With all older ones. Accepts NULL and returns it. */
krt_settings *krt_settings_destroy(krt_settings *s);

/* Tells on standard error all that is wrong with the file and, of the daemon of --name or of all,
 * with what it names on this machine; on standard output one line for each daemon that could start.
 * Whether all could. */
bool krt_check_config(const krt_arguments *a, const char *rundir);

#endif
