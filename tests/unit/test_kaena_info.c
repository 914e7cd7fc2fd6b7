/* kaena-info on a small file: what it prints, what it refuses, how it ends. */
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kneff.h"
#include "ktest.h"

static char output[65536];

/* Runs kaena-info with |arguments|; returns its exit status, its output in |output|. */
static int run(const char *arguments)
{
    char command[1024];
    const char *build = getenv("KAENA_BUILD_DIR");
    cr_assert(build && *build, "KAENA_BUILD_DIR is not set: run through meson test");
    (void)snprintf(command, sizeof command, "'%s/tools/kaena-info' %s 2>&1", build, arguments);
    FILE *p = popen(command, "r");
    cr_assert_not_null(p);
    size_t n = fread(output, 1, sizeof output - 1, p);
    output[n] = 0;
    int status = pclose(p);
    cr_assert(WIFEXITED(status), "%s was killed", command);
    return WEXITSTATUS(status);
}

static void expect(const char *text)
{
    cr_assert(strstr(output, text), "'%s' is not in:\n%s", text, output);
}

/* In the working directory of the build, gone with the descriptor's test. */
static void make(char path[64])
{
    static const char *const text[] = {
        "FILL dst=IO0+0:f32[1,1,1,8]<0,0,0,4> value=0x3f800000\nHALT\n", "HALT\n"};
    static const int64_t dims[] = {2, 4};
    kneff k;
    kneff_init(&k, 2, text);
    uint32_t y = kneff_value(&k, "y\xc3\xa9", KAENA_F32, 2, dims);
    kneff_output(&k, y);
    kneff_device(&k, 0, 1, &y, 1);
    kneff_weights(&k, "weights!", 8);
    (void)snprintf(path, 64, "/tmp/kaena-info-XXXXXX");
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    (void)close(fd);
    kaena_err err;
    KTEST_OK(err, neff_write(path, &k.content, &err));
    kneff_fini(&k);
}

KTEST(kaena_info, prints_what_a_file_is)
{
    char path[64], arguments[128];
    make(path);
    cr_assert(run(path) == 0);
    expect("compiler      kcc test");
    expect("format        1.0");
    expect("target        inf1, 2 TPBs");
    expect("  y\xc3\xa9  float32 [2,4]");
    expect("WEIGHTS");
    (void)snprintf(arguments, sizeof arguments, "--json %s", path);
    cr_assert(run(arguments) == 0);
    expect("\"tpbs\": 2");
    expect("\"name\": \"CODE1\"");
    (void)snprintf(arguments, sizeof arguments, "--disassemble %s", path);
    cr_assert(run(arguments) == 0);
    expect(
        "# TPB 0\nFILL dst=IO0+0x0:f32[1,1,1,8]<0,0,0,4> value=0x3f800000\nHALT\n# TPB 1\nHALT\n");
    (void)snprintf(arguments, sizeof arguments, "--disassemble 1 %s", path);
    cr_assert(run(arguments) == 0);
    cr_assert_str_eq(output, "# TPB 1\nHALT\n");
    (void)snprintf(arguments, sizeof arguments, "--disassemble 2 %s", path);
    cr_assert(run(arguments) == 1);
    expect("no TPB 2, the model has 2");
    (void)unlink(path);
}

KTEST(kaena_info, checks_the_whole_file)
{
    char path[64], arguments[128];
    make(path);
    (void)snprintf(arguments, sizeof arguments, "--check %s", path);
    cr_assert(run(arguments) == 0);
    expect("check         OK");
    int fd = open(path, O_RDWR | O_CLOEXEC);
    cr_assert(lseek(fd, -1, SEEK_END) > 0 && write(fd, "?", 1) == 1);
    (void)close(fd);
    cr_assert(run(arguments) == 1);
    expect("WEIGHTS: wrong checksum");
    cr_assert(truncate(path, 100) == 0);
    cr_assert(run(path) == 1);
    expect("kaena-info: '/tmp/kaena-info-");
    expect("cut off at byte 100");
    (void)unlink(path);
    cr_assert(run("") == 2);
    expect("usage: kaena-info");
    cr_assert(run("--nonsense x") == 2);
    cr_assert(run("-V") == 0);
    expect("kaena-info " KAENA_VERSION);
}
