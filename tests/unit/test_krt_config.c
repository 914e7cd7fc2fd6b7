#include "ktest.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "krt_config.h"
#include "krt_host.h"

#define RUNDIR "/run/x"

typedef struct fixture {
    krt_host_config host;
    kaena_err err;
} fixture;

static kaena_status parse(fixture *f, const char *text)
{
    krt_host_config_init(&f->host, RUNDIR);
    return krt_host_config_parse(&f->host, text, strlen(text), &f->err);
}

KTEST(krt_config, an_absent_file_means_one_chip_and_one_daemon)
{
    fixture f;
    krt_host_config_init(&f.host, RUNDIR);
    KTEST_OK(f.err, krt_host_config_read(&f.host, "/nowhere/krtd.json", false, &f.err));
    KTEST_FAILS(f.err, NOT_FOUND, "/nowhere/krtd.json",
                krt_host_config_read(&f.host, "/nowhere/krtd.json", true, &f.err));
    krt_overrides none = {0};
    krt_daemon_config d;
    KTEST_OK(f.err, krt_config_resolve(&f.host, &none, RUNDIR, &d, &f.err));
    cr_assert_str_eq(d.name, "krtd0");
    cr_assert(d.n_listen == 1 && d.n_devices == 1 && d.devices[0] == 0 && d.threads == 0);
    cr_assert_str_eq(d.listen[0], "unix:" RUNDIR "/krtd0.sock");
    cr_assert_str_eq(f.host.chips[0], "0000:00:1f.0");
    cr_assert(!d.model_dir && d.limits.queue_depth == 128);
    /* without a file a name is enough for a daemon of its own */
    krt_overrides named = {.name = "other"};
    KTEST_OK(f.err, krt_config_resolve(&f.host, &named, RUNDIR, &d, &f.err));
    cr_assert_str_eq(d.listen[0], "unix:" RUNDIR "/other.sock");
    krt_host_config_fini(&f.host);
}

#define TWO                                                                                        \
    "{\"version\":1,\"chips\":[{\"pci\":\"00:1d.5\"},{\"pci\":\"0000:00:1D.6\"},{\"pci\":\"00:1d." \
    "7\"}],"                                                                                       \
    "\"daemons\":[{\"name\":\"a\",\"listen\":[\"unix:/a\",\"127.0.0.1:1\"],\"devices\":[2,0],"     \
    "\"threads\":3,\"model_dir\":\"/m\",\"socket_mode\":\"0600\",\"limits\":{\"queue_depth\":7,"   \
    "\"connections\":9}},"                                                                         \
    "{\"name\":\"b\",\"listen\":[\"unix:/b\"],\"devices\":[1],\"model_dir\":null}]}"

KTEST(krt_config, a_file_with_everything)
{
    fixture f;
    KTEST_OK(f.err, parse(&f, TWO));
    krt_daemon_config d;
    krt_overrides o = {0};
    KTEST_OK(f.err, krt_config_resolve(&f.host, &o, RUNDIR, &d, &f.err));
    cr_assert_str_eq(d.name, "a");
    cr_assert(d.n_listen == 2 && d.n_devices == 2 && d.devices[0] == 0 && d.devices[1] == 2);
    cr_assert(d.threads == 3 && d.socket_mode == 0600 && d.limits.queue_depth == 7 &&
              d.limits.connections == 9 && d.limits.models == 256);
    cr_assert_str_eq(d.model_dir, "/m");
    cr_assert_str_eq(f.host.chips[1], "0000:00:1d.6");
    o = (krt_overrides){.name = "b",
                        .listen = {"unix:/c"},
                        .n_listen = 1,
                        .model_dir = "/n",
                        .has_threads = true,
                        .threads = 5,
                        .queue_depth = 11,
                        .has_drain_seconds = true,
                        .drain_seconds = 0};
    KTEST_OK(f.err, krt_config_resolve(&f.host, &o, RUNDIR, &d, &f.err));
    cr_assert_str_eq(d.listen[0], "unix:/c");
    cr_assert(d.devices[0] == 1 && d.threads == 5 && d.limits.queue_depth == 11 &&
              d.limits.drain_seconds == 0);
    o = (krt_overrides){.name = "c"};
    KTEST_FAILS(f.err, NOT_FOUND, "no such daemon, only a, b",
                krt_config_resolve(&f.host, &o, RUNDIR, &d, &f.err));
    krt_host_config_fini(&f.host);
}

KTEST(krt_config, devices_of_environment_and_command_line)
{
    fixture f;
    KTEST_OK(f.err, parse(&f, TWO));
    krt_daemon_config d;
    krt_overrides o = {.visible_devices = "00:1d.5, 00:1d.6"};
    KTEST_OK(f.err, krt_config_resolve(&f.host, &o, RUNDIR, &d, &f.err));
    cr_assert(d.n_devices == 1 && d.devices[0] == 0); /* of its 0 and 2 */
    o.devices = "1,0";
    KTEST_OK(f.err, krt_config_resolve(&f.host, &o, RUNDIR, &d, &f.err));
    cr_assert(d.n_devices == 2 && d.devices[0] == 0 && d.devices[1] == 1);
    o.devices = "2";
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "device 2 is hidden by KAENA_VISIBLE_DEVICES",
                krt_config_resolve(&f.host, &o, RUNDIR, &d, &f.err));
    static const char *const wrong[] = {
        "3", "-1", "x", "", "0,,1", "0,", "1x", "00:1d.4", "99999999999999999999"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        o = (krt_overrides){.devices = wrong[i]};
        KTEST_FAILS(f.err, INVALID_ARGUMENT, "--devices",
                    krt_config_resolve(&f.host, &o, RUNDIR, &d, &f.err));
        o = (krt_overrides){.visible_devices = wrong[i]};
        KTEST_FAILS(f.err, INVALID_ARGUMENT, "KAENA_VISIBLE_DEVICES",
                    krt_config_resolve(&f.host, &o, RUNDIR, &d, &f.err));
    }
    o = (krt_overrides){.visible_devices = "1"};
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "hides every device of daemon 'a'",
                krt_config_resolve(&f.host, &o, RUNDIR, &d, &f.err));
    o = (krt_overrides){.name = "../x"};
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "--name '../x'",
                krt_config_resolve(&f.host, &o, RUNDIR, &d, &f.err));
    krt_host_config_fini(&f.host);
}

#define ONE(rest)                                                                                  \
    "{\"version\":1,\"daemons\":[{\"name\":\"a\",\"listen\":[\"unix:/a\"],\"devices\":[0]" rest    \
    "}]}"
#define PAIR(b)                                                                                    \
    "{\"version\":1,\"chips\":[{\"pci\":\"00:01.0\"},{\"pci\":\"00:02.0\"}],\"daemons\":["         \
    "{\"name\":\"a\",\"listen\":[\"unix:/a\"],\"devices\":[0]}," b "]}"

KTEST(krt_config, mistakes_are_named)
{
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"", "line 1"},
        {"[]", "'version' is missing"},
        {"{}", "'version' is missing"},
        {"{\"version\":2}", "version: must be 1"},
        {"{\"version\":1,\"chip\":[]}", "chip: unknown key"},
        {"{\"version\":1,\"version\":1}", "duplicate"},
        {"{\"version\":1,\"chips\":[]}", "chips: must be a list of 1 to 16"},
        {"{\"version\":1,\"chips\":[{}]}", "chips[0]: 'pci' is missing"},
        {"{\"version\":1,\"chips\":[{\"pci\":\"1f\"}]}", "chips[0].pci: '1f' is not a PCI address"},
        {"{\"version\":1,\"chips\":[{\"pci\":\"00:1.0\"},{\"pci\":\"0000:00:01.0\"}]}",
         "is chips[0] already"},
        {ONE(",\"thread\":1"), "daemons[0].thread: unknown key"},
        {ONE(",\"threads\":-1"), "daemons[0].threads: must be an integer from 0"},
        {ONE(",\"threads\":1.5"), "daemons[0].threads: must be an integer"},
        {ONE(",\"limits\":{\"queue\":1}"), "daemons[0].limits.queue: unknown limit"},
        {ONE(",\"limits\":{\"queue_depth\":0}"), "must be an integer from 1 to 65536"},
        {ONE(",\"limits\":{\"queue_depth\":65537}"), "must be an integer from 1 to 65536"},
        {ONE(",\"socket_mode\":\"rw\""), "must be octal"},
        {ONE(",\"model_dir\":\"\""), "daemons[0].model_dir: must be a text that is not empty"},
        {"{\"version\":1,\"daemons\":[{\"listen\":[\"unix:/a\"],\"devices\":[0]}]}",
         "'name' is missing"},
        {"{\"version\":1,\"daemons\":[{\"name\":\"a\",\"devices\":[0]}]}", "'listen' is missing"},
        {"{\"version\":1,\"daemons\":[{\"name\":\"a/b\"}]}", "daemons[0].name: 'a/b' must be"},
        {"{\"version\":1,\"daemons\":[{\"name\":\"a\",\"listen\":[\"unix:/a\"],\"devices\":[1]}]}",
         "there is no device 1"},
        {"{\"version\":1,\"daemons\":[{\"name\":\"a\",\"listen\":[\"unix:/"
         "a\"],\"devices\":[0,0]}]}",
         "device 0 is named twice"},
        {PAIR("{\"name\":\"a\",\"listen\":[\"unix:/b\"],\"devices\":[1]}"),
         "two daemons are named 'a'"},
        {PAIR("{\"name\":\"b\",\"listen\":[\"unix:/b\"],\"devices\":[0]}"),
         "device 0 is given to both 'a' and 'b'"},
        {PAIR("{\"name\":\"b\",\"listen\":[\"unix:/a\"],\"devices\":[1]}"),
         "both listen on 'unix:/a'"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fixture f;
        KTEST_FAILS(f.err, INVALID_ARGUMENT, rows[i].message, parse(&f, rows[i].text));
        krt_host_config_fini(&f.host);
    }
}

KTEST(krt_config, limits_at_their_bounds)
{
    fixture f;
    KTEST_OK(f.err, parse(&f, ONE(",\"limits\":{\"queue_depth\":65536,\"drain_seconds\":0}")));
    cr_assert(f.host.daemons[0].limits.queue_depth == 65536 &&
              f.host.daemons[0].limits.drain_seconds == 0);
    krt_host_config_fini(&f.host);
}

KTEST(krt_config, pci_addresses)
{
    char out[KRT_PCI_TEXT];
    cr_assert(krt_pci_normalise("00:1F.7", out) && strcmp(out, "0000:00:1f.7") == 0);
    cr_assert(krt_pci_normalise("abcd:ff:00.0", out) && strcmp(out, "abcd:ff:00.0") == 0);
    static const char *const wrong[] = {"",        "0",        "00:20.0",  "00:1f.8",
                                        "00:1f",   "00:1f.0 ", " 00:1f.0", "0000:00:1f.0x",
                                        "-1:00.0", "00:1f.00"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        cr_assert(!krt_pci_normalise(wrong[i], out), "'%s'", wrong[i]);
}

/* ---- processors ---- */

static void put(const char *root, const char *path, const char *text)
{
    char name[512];
    (void)snprintf(name, sizeof name, "%s%s", root, path);
    for (char *p = name + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        (void)mkdir(name, 0755);
        *p = '/';
    }
    FILE *f = fopen(name, "w");
    cr_assert(f);
    (void)fputs(text, f);
    (void)fclose(f);
}

KTEST(krt_config, cpu_quota_of_both_cgroup_versions)
{
    char root[] = "/tmp/krt-cpus-XXXXXX";
    cr_assert(mkdtemp(root));
    uint32_t all = krt_cpus("/nonexistent");
    cr_assert(all >= 1);
    put(root, "/proc/self/cgroup", "0::/a/b\n");
    put(root, "/proc/self/mountinfo",
        "30 1 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n");
    put(root, "/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    cr_assert(krt_cpus(root) == all, "no quota is no bound");
    put(root, "/sys/fs/cgroup/a/cpu.max", "50000 100000\n");
    cr_assert(krt_cpus(root) == 1, "half a processor of the parent group is rounded up");
    put(root, "/sys/fs/cgroup/a/cpu.max", "999900000 100000\n");
    cr_assert(krt_cpus(root) == all);
    put(root, "/proc/self/cgroup", "4:memory:/m\n3:cpu,cpuacct:/g\n0::/\n");
    put(root, "/proc/self/mountinfo",
        "30 1 0:26 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
        "31 1 0:27 / /cg/memory rw - cgroup cgroup rw,memory\n");
    put(root, "/cg/cpu/g/cpu.cfs_quota_us", "-1\n");
    put(root, "/cg/cpu/g/cpu.cfs_period_us", "100000\n");
    cr_assert(krt_cpus(root) == all);
    put(root, "/cg/cpu/g/cpu.cfs_quota_us", "100000\n");
    cr_assert(krt_cpus(root) == 1);
    char command[128];
    (void)snprintf(command, sizeof command, "rm -r %s", root);
    cr_assert(system(command) == 0);
}

KTEST(krt_config, a_device_has_one_owner)
{
    char dir[] = "/tmp/krt-lock-XXXXXX";
    cr_assert(mkdtemp(dir));
    kaena_err err;
    int first = -1, second = -1, other = -1;
    KTEST_OK(err, krt_device_lock(dir, "0000:00:1f.0", &first, &err));
    KTEST_FAILS(err, FAILED_PRECONDITION, "device 0000:00:1f.0 belongs to another daemon",
                krt_device_lock(dir, "0000:00:1f.0", &second, &err));
    KTEST_OK(err, krt_device_lock(dir, "0000:00:1f.1", &other, &err));
    (void)close(first);
    KTEST_OK(err, krt_device_lock(dir, "0000:00:1f.0", &second, &err));
    (void)close(second);
    (void)close(other);
    char command[128];
    (void)snprintf(command, sizeof command, "rm -r %s", dir);
    cr_assert(system(command) == 0);
}
