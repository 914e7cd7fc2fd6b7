#include "ktest.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "krt_config.h"
#include "krt_host.h"
#include "rpc_address.h"

#define RUNDIR "/run/x"

typedef struct fixture {
    krt_host_config host;
    kaena_err err;
} fixture;

static kaena_status parse(fixture *f, const char *text)
{
    krt_host_config_init(&f->host, RUNDIR);
    return krt_host_config_parse(&f->host, text, strlen(text), NULL, &f->err);
}

KTEST(krt_config, an_absent_file_means_one_chip_and_one_daemon)
{
    fixture f;
    krt_host_config_init(&f.host, RUNDIR);
    KTEST_OK(f.err, krt_host_config_read(&f.host, "/nowhere/krtd.json", false, NULL, &f.err));
    KTEST_FAILS(f.err, NOT_FOUND, "/nowhere/krtd.json",
                krt_host_config_read(&f.host, "/nowhere/krtd.json", true, NULL, &f.err));
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
        {"[]", "the file: must be an object"},
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
        {ONE(",\"a\\nSTOPPING=1\":1"), "daemons[0].a?STOPPING=1: unknown key"},
        {ONE(",\"threads\":-1"), "daemons[0].threads: must be an integer from 0"},
        {ONE(",\"threads\":1.5"), "daemons[0].threads: must be an integer"},
        {ONE(",\"limits\":{\"queue\":1}"), "daemons[0].limits.queue: unknown limit"},
        {ONE(",\"limits\":{\"queue_depth\":0}"), "must be an integer from 1 to 65536"},
        {ONE(",\"limits\":{\"queue_depth\":65537}"), "must be an integer from 1 to 65536"},
        {ONE(",\"socket_mode\":\"rw\""), "must be octal"},
        {ONE(",\"model_dir\":\"\""), "daemons[0].model_dir: must be a text that is not empty"},
        {ONE(",\"model_dir\":\"m\""), "daemons[0].model_dir: 'm' must be an absolute path"},
        {ONE(",\"socket_group\":7"), "daemons[0].socket_group: must be a text"},
        {ONE(",\"tls\":{\"cert\":\"/c\"}"), "daemons[0].tls: 'key' is missing"},
        {ONE(",\"tls\":{\"cert\":\"c\",\"key\":\"/k\"}"),
         "daemons[0].tls.cert: 'c' must be an abs"},
        {ONE(",\"tls\":true"), "daemons[0].tls: must be an object"},
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

/* ---- all that is wrong, at once ---- */

typedef struct told {
    char lines[32][800];
    size_t n;
} told;

static void tell(void *user, bool warning, const char *what, const char *hint)
{
    told *t = user;
    cr_assert(t->n < 32);
    (void)snprintf(t->lines[t->n++], sizeof t->lines[0], "%s%s; %s", warning ? "warning: " : "",
                   what, hint);
}

static bool was_told(const told *t, const char *text)
{
    for (size_t i = 0; i < t->n; i++)
        if (strstr(t->lines[i], text))
            return true;
    return false;
}

KTEST(krt_config, every_problem_is_told)
{
    static const char text[] =
        "{\"version\":1,\"daemon\":1,\"chips\":[{\"pci\":\"00:01.0\"},{\"pci\":\"x\"}],"
        "\"daemons\":[{\"name\":\"a\",\"listen\":[\"unix:/a\",\"nowhere\",\"unix:///a\"],"
        "\"devices\":[0,5],\"thread\":1,\"limits\":{\"queue_dept\":1,\"model\":0,\"models\":0}},"
        "{\"name\":\".b\",\"listen\":[\"unix:b\",\":70\",\"unix:/a\"],\"devices\":[0]},"
        "{\"name\":\"a\",\"listen\":[\"127.0.0.1:70\"],\"devices\":[-1]},{\"zzz\":1}]}";
    static const char *const expected[] = {
        "daemon: unknown key; did you mean 'daemons'? keys here: version, chips, daemons",
        "chips[1].pci: 'x' is not a PCI address",
        "daemons[0].listen[1]: 'nowhere': neither unix:PATH nor HOST:PORT",
        "daemons[0].thread: unknown key; did you mean 'threads'?",
        "daemons[0].limits.queue_dept: unknown limit; did you mean 'queue_depth'?",
        "daemons[0].limits.model: unknown limit; did you mean 'models'?",
        "daemons[0].limits.models: must be an integer from 1 to 4096",
        "daemons[1].name: '.b' must be 1 to 64 of",
        "daemons[1].listen[0]: 'unix:b' must be an absolute path",
        "daemons[2].devices[0]: must be an integer from 0 to 15",
        "daemons[3].zzz: unknown key; keys here: name,",
        "daemons[3]: 'name' is missing",
        "daemons[3]: 'listen' is missing",
        "daemons[3]: 'devices' is missing",
        "daemon 'a': there is no device 5: chips has 2",
        "daemon 'a' listens on 'unix:/a' and 'unix:///a', which are one",
        "device 0 is given to both 'a' and '?'",
        "'a' and '?' both listen on 'unix:/a'",
        "'a' listens on 'unix:///a', which '?' takes by 'unix:/a'",
        "two daemons are named 'a'",
        "'?' listens on ':70', which 'a' takes by '127.0.0.1:70'",
    };
    told *t = calloc(1, sizeof *t);
    fixture f;
    krt_report report = {.tell = tell, .user = t};
    krt_host_config_init(&f.host, RUNDIR);
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "daemon: unknown key",
                krt_host_config_parse(&f.host, text, strlen(text), &report, &f.err));
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        cr_assert(was_told(t, expected[i]), "not told: %s", expected[i]);
    cr_assert(t->n == sizeof expected / sizeof *expected && report.errors == t->n &&
                  report.warnings == 0,
              "%zu lines, the last is '%s'", t->n, t->lines[t->n - 1]);
    free(t);
    krt_host_config_fini(&f.host);
}

KTEST(krt_config, what_the_host_lacks)
{
    told *t = calloc(1, sizeof *t);
    krt_report report = {.tell = tell, .user = t};
    krt_daemon_config d;
    krt_daemon_config_init(&d);
    d.name = "a";
    d.listen[0] = "unix:/nowhere/a.sock";
    d.listen[1] = "unix:/etc/passwd/a.sock";
    d.listen[2] = "0.0.0.0:7";
    d.listen[3] = "127.0.0.1:7";
    d.n_listen = 4;
    d.model_dir = "/nowhere";
    d.socket_group = "no such group";
    d.tls = (krpc_tls_files){"/nowhere/c.pem", "/nowhere/k.pem", NULL};
    krt_daemon_config_survey(&d, &report);
    cr_assert(was_told(t, "warning: daemon 'a': 'unix:/nowhere/a.sock' cannot be made"));
    cr_assert(
        was_told(t, "daemon 'a': 'unix:/etc/passwd/a.sock' cannot be made: '/etc/passwd' is not"));
    cr_assert(was_told(t, "warning: daemon 'a': model directory '/nowhere': No such file"));
    cr_assert(was_told(t, "daemon 'a': there is no group 'no such group'"));
    cr_assert(was_told(t, "daemon 'a': tls: certificate '/nowhere/c.pem': No such file"));
    cr_assert(report.errors == 3 && report.warnings == 2 && t->n == 5);
    t->n = 0;
    d.tls = (krpc_tls_files){0};
    d.socket_group = NULL;
    d.model_dir = "/etc/passwd";
    d.n_listen = 0;
    d.listen[d.n_listen++] = "[::]:9";
    krt_daemon_config_survey(&d, &report);
    cr_assert(was_told(t, "'[::]:9' is open to the network without TLS; set tls"));
    cr_assert(was_told(t, "model directory '/etc/passwd' is not a directory") && t->n == 2);
    free(t);
}

KTEST(krt_config, addresses_that_meet)
{
    static const struct {
        const char *a, *b;
        bool clash;
    } rows[] = {
        {"unix:/a", "unix:///a", true},        {"unix:/a", "unix:/b", false},
        {"unix:/a", "127.0.0.1:1", false},     {"127.0.0.1:1", "127.0.0.1:1", true},
        {"127.0.0.1:1", ":1", true},           {"[::1]:1", "0.0.0.0:1", true},
        {"127.0.0.1:1", "127.0.0.2:1", false}, {"127.0.0.1:0", "127.0.0.1:0", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        krpc_address a, b;
        kaena_err err;
        KTEST_OK(err, krpc_address_parse(rows[i].a, &a, &err));
        KTEST_OK(err, krpc_address_parse(rows[i].b, &b, &err));
        cr_assert(krpc_address_clash(&a, &b) == rows[i].clash &&
                      krpc_address_clash(&b, &a) == rows[i].clash,
                  "%s %s", rows[i].a, rows[i].b);
    }
    char path[120] = "unix:/";
    memset(path + 6, 'x', 106);
    krpc_address a;
    kaena_err err;
    KTEST_OK(err, krpc_address_parse(path, &a, &err));
    cr_assert(strlen(a.path) == 107);
    path[112] = 'x';
    KTEST_FAILS(err, INVALID_ARGUMENT, "the path has 108 bytes: 1 to 107 are possible",
                krpc_address_parse(path, &a, &err));
}

KTEST(krt_config, limits_at_their_bounds)
{
    fixture f;
    KTEST_OK(f.err, parse(&f, ONE(",\"limits\":{\"queue_depth\":65536,\"drain_seconds\":0}")));
    cr_assert(f.host.daemons[0].limits.queue_depth == 65536 &&
              f.host.daemons[0].limits.drain_seconds == 0);
    krt_host_config_fini(&f.host);
    /* every row: its least and most are taken, what lies beyond is not */
    static const struct {
        const char *name;
        uint64_t fallback, min, max;
    } rows[] = {
#define KRT_LIMIT(name, fallback, min, max, what) {#name, fallback, min, max},
#include "krt_limits.def"
#undef KRT_LIMIT
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cr_assert(rows[i].fallback >= rows[i].min && rows[i].fallback <= rows[i].max);
        const uint64_t values[] = {rows[i].min, rows[i].max, rows[i].max + 1, rows[i].min - 1};
        for (int k = 0; k < 4; k++) {
            char text[256];
            if (k == 3 && rows[i].min == 0)
                continue;
            (void)snprintf(text, sizeof text, ONE(",\"limits\":{\"%s\":%" PRIu64 "}"), rows[i].name,
                           values[k]);
            kaena_status st = parse(&f, text);
            cr_assert(st == (k < 2 ? KAENA_OK : KAENA_INVALID_ARGUMENT), "%s = %" PRIu64,
                      rows[i].name, values[k]);
            krt_host_config_fini(&f.host);
        }
    }
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
    KTEST_OK(err, krt_device_lock(dir, "0000:00:1f.0", "x", &first, &err));
    char holder[128];
    (void)snprintf(holder, sizeof holder, "belongs to another daemon: daemon 'x', pid %ld (",
                   (long)getpid());
    KTEST_FAILS(err, FAILED_PRECONDITION, holder,
                krt_device_lock(dir, "0000:00:1f.0", "x", &second, &err));
    KTEST_OK(err, krt_device_lock(dir, "0000:00:1f.1", "x", &other, &err));
    (void)close(first);
    KTEST_OK(err, krt_device_lock(dir, "0000:00:1f.0", "x", &second, &err));
    (void)close(second);
    (void)close(other);
    char command[128];
    (void)snprintf(command, sizeof command, "rm -r %s", dir);
    cr_assert(system(command) == 0);
}
