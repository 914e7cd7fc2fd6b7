/* Texts and numbers of the command line. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

bool cli_number(const char *text, long least, long *out)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < least)
        return false;
    *out = value;
    return true;
}

const char *cli_tensor_text(const kaena_tensor_info *t, char *buf, size_t size)
{
    static const char *const kinds[] = {"", "sequence of ", "optional ", "optional sequence of "};
    const char *kind = (unsigned)t->kind < sizeof kinds / sizeof *kinds ? kinds[t->kind] : "";
    char shape_text[KAENA_SHAPE_TEXT] = "[...]";
    if (!t->any_rank && t->rank <= KAENA_MAX_RANK) {
        kaena_shape shape = {.rank = t->rank};
        memcpy(shape.dim, t->shape, (size_t)t->rank * sizeof *t->shape);
        (void)kaena_shape_print(&shape, shape_text, sizeof shape_text);
    }
    (void)snprintf(buf, size, "%s%s%s", kind, kaena_dtype_name(t->dtype),
                   t->kind ? "" : shape_text);
    return buf;
}

const char *cli_bytes_text(unsigned long long bytes, char *buf, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1024;
        unit++;
    }
    (void)snprintf(buf, size, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return buf;
}

const char *cli_state_text(kaena_model_state state)
{
    switch (state) {
    case KAENA_MODEL_LOADING:
        return "loading";
    case KAENA_MODEL_READY:
        return "ready";
    case KAENA_MODEL_UNLOADING:
        return "unloading";
    case KAENA_MODEL_FAILED:
        return "failed";
    }
    return "unknown";
}
