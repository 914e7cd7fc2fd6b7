#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conformance.h"

#define MAX_DEPTH 6 /* of directories */

static bool exists(const char *path)
{
    return access(path, R_OK) == 0;
}

static void add(conf_cases *cases, const conf_suite *suite, const char *root, const char *dir)
{
    if (cases->n == cases->capacity) {
        cases->capacity = cases->capacity ? cases->capacity * 2 : 256;
        cases->list = realloc(cases->list, cases->capacity * sizeof *cases->list);
        if (!cases->list)
            abort();
    }
    const char *name = strrchr(dir, '/');
    while (name && name > dir && *--name != '/') {
    }
    name = name ? name + (*name == '/') : dir;
    if (suite->long_names && strlen(dir) > strlen(root))
        name = dir + strlen(root) + 1;
    conf_case *c = &cases->list[cases->n++];
    c->name = strdup(name);
    c->dir = strdup(dir);
}

static void walk(conf_cases *cases, const conf_suite *suite, const char *root, const char *dir,
                 int depth)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s", dir, suite->model);
    if (exists(path)) {
        add(cases, suite, root, dir);
        return;
    }
    DIR *d = depth < MAX_DEPTH ? opendir(dir) : NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        struct stat st;
        (void)snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (e->d_name[0] != '.' && stat(path, &st) == 0 && S_ISDIR(st.st_mode))
            walk(cases, suite, root, path, depth + 1);
    }
    if (d)
        (void)closedir(d);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const conf_case *)a)->name, ((const conf_case *)b)->name);
}

bool conf_cases_find(conf_cases *cases, const conf_suite *suite, const char *dir)
{
    size_t before = cases->n;
    walk(cases, suite, dir, dir, 0);
    if (cases->n == before) {
        (void)fprintf(stderr, "no test case (%s) at or below '%s'\n", suite->model, dir);
        return false;
    }
    qsort(cases->list, cases->n, sizeof *cases->list, by_name);
    return true;
}

void conf_cases_fini(conf_cases *cases)
{
    for (size_t i = 0; i < cases->n; i++) {
        free(cases->list[i].name);
        free(cases->list[i].dir);
    }
    free(cases->list);
}
