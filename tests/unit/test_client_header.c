/* client.h stands alone: in C99 and C++, and in step with what the rest of the house declares. */
#include <stddef.h>
#include <string.h>

#include "dtype.h"
#include "file.h"
#include "kaena/client.h"
#include "kaena/v1/runtime.pb-c.h"
#include "ktest.h"
#include "shape.h"

/* With base's headers first, client.h takes their declarations; the values it would declare itself
 * are compared as text below. */
_Static_assert(KAENA_CLIENT_MAX_RANK == KAENA_MAX_RANK, "one bound on ranks");

static char *read_text(const char *name)
{
    char path[4096];
    kaena_file file;
    kaena_err err;
    KTEST_OK(err, kaena_file_open(ktest_source(path, sizeof path, name), &file, &err));
    char *text = strndup((const char *)file.data, file.size);
    kaena_file_close(&file);
    return text;
}

/* What stands in |text| between two markers, in its own memory. */
static char *between(const char *text, const char *from, const char *to)
{
    const char *begin = strstr(text, from);
    cr_assert(begin, "'%s' is missing", from);
    const char *end = strstr(begin, to);
    cr_assert(end, "'%s' is missing", to);
    return strndup(begin, (size_t)(end - begin));
}

KTEST(client_header, declares_the_error_record_of_base)
{
    char *client = read_text("client/include/kaena/client.h");
    char *base = read_text("runtime/base/err.h");
    char *ours = between(client, "#ifndef KAENA_ERR_DECLARED", "#endif");
    char *theirs = between(base, "#ifndef KAENA_ERR_DECLARED", "#endif");
    cr_assert_str_eq(ours, theirs);
    free(ours);
    free(theirs);
    free(client);
    free(base);
}

static void expect_row(const char *header, const char *name, int value)
{
    char row[128];
    (void)snprintf(row, sizeof row, " KAENA_%s = %d", name, value);
    const char *at = strstr(header, row);
    cr_assert(at, "client.h lacks '%s'", row);
    cr_assert(strchr(",\n ", at[strlen(row)]), "client.h has another value for '%s'", row);
}

KTEST(client_header, declares_every_status_reason_and_type)
{
    char *header = read_text("client/include/kaena/client.h");
#define KAENA_STATUS_ROW(name, value, when) expect_row(header, #name, value);
#include "status.def"
#undef KAENA_STATUS_ROW
#define KAENA_DTYPE_ROW(NAME, value, bytes, text, kind) expect_row(header, #NAME, value);
#include "dtype.def"
#undef KAENA_DTYPE_ROW
    const ProtobufCEnumDescriptor *reasons = &kaena__v1__error_detail__reason__descriptor;
    for (unsigned i = 0; i < reasons->n_values; i++) {
        const ProtobufCEnumValue *reason = &reasons->values[i];
        char name[128];
        (void)snprintf(name, sizeof name, "REASON_%s", reason->value ? reason->name : "NONE");
        expect_row(header, name, reason->value);
    }
    free(header);
}

KTEST(client_header, compiles_as_c99_and_cpp)
{
    char path[4096], command[8192];
    ktest_source(path, sizeof path, "client/include/kaena/client.h");
    static const char *const compilers[] = {
        "cc -x c -std=c99",
        "c++ -x c++ -std=c++11",
    };
    for (size_t i = 0; i < sizeof compilers / sizeof compilers[0]; i++) {
        (void)snprintf(command, sizeof command,
                       "%s -pedantic-errors -Wall -Wextra -Wconversion -Werror -fsyntax-only "
                       "-include '%s' /dev/null",
                       compilers[i], path);
        cr_assert(system(command) == 0, "%s", command);
    }
}

/* The library says nothing that client.h does not declare. */
KTEST(client_header, library_exports_what_it_declares)
{
    const char *build = getenv("KAENA_BUILD_DIR");
    cr_assert(build && *build, "KAENA_BUILD_DIR is not set: run through meson test");
    char command[8192], line[512];
    (void)snprintf(command, sizeof command, "nm -D --defined-only '%s/client/libkaena.so'", build);
    char *header = read_text("client/include/kaena/client.h");
    FILE *symbols = popen(command, "r");
    cr_assert(symbols);
    unsigned count = 0;
    while (fgets(line, sizeof line, symbols)) {
        char name[256], call[260];
        if (sscanf(line, "%*s %*s %255s", name) != 1)
            continue;
        count++;
        (void)snprintf(call, sizeof call, "%s(", name);
        cr_assert(strstr(header, call), "libkaena exports '%s'", name);
    }
    cr_assert(pclose(symbols) == 0 && count >= 10, "%u symbols", count);
    free(header);
}
