#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conformance.h"

bool conf_xfail_read(conf_xfail *x, const char *path)
{
    FILE *f = fopen(path, "re");
    if (!f) {
        perror(path);
        return false;
    }
    char line[1024];
    bool good = true;
    while (good && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        size_t n = strcspn(line, " \t");
        const char *reason = line + n + strspn(line + n, " \t");
        if (n == 0 || line[0] == '#')
            continue;
        good = *reason != 0;
        if (!good) {
            (void)fprintf(stderr, "%s: '%s' has no reason\n", path, line);
            break;
        }
        x->pattern = realloc(x->pattern, (x->n + 1) * sizeof(char *));
        x->reason = realloc(x->reason, (x->n + 1) * sizeof(char *));
        if (!x->pattern || !x->reason)
            abort();
        x->pattern[x->n] = strndup(line, n);
        x->reason[x->n++] = strdup(reason);
    }
    (void)fclose(f);
    return good;
}

const char *conf_xfail_reason(const conf_xfail *x, const char *name)
{
    for (size_t i = 0; i < x->n; i++) {
        if (fnmatch(x->pattern[i], name, 0) == 0)
            return x->reason[i];
    }
    return NULL;
}

void conf_xfail_fini(conf_xfail *x)
{
    for (size_t i = 0; i < x->n; i++) {
        free(x->pattern[i]);
        free(x->reason[i]);
    }
    free(x->pattern);
    free(x->reason);
}
