#include "client_address.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONFIG_PATH "/etc/kaena/krtd.json"
#define SYSTEM_RUNDIR "/run/kaena"

/* |name| of the daemon may be NULL. */
static kaena_status add(kaena_addresses *a, const char *text, size_t size, const char *name,
                        const char *source, kaena_err *err)
{
    char *item = strndup(text, size);
    char *label = name ? strdup(name) : NULL;
    if (!item || (name && !label)) {
        free(item);
        free(label);
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    }
    const char *colon = strrchr(item, ':');
    bool is_unix = strncmp(item, "unix:", 5) == 0 && item[5];
    bool is_tcp = strncmp(item, "unix:", 5) != 0 && colon && colon != item && colon[1] &&
                  strspn(colon + 1, "0123456789") == strlen(colon + 1);
    kaena_status status = KAENA_OK;
    if (!is_unix && !is_tcp) {
        status = KAENA_FAIL(err, INVALID_ARGUMENT, "'%s' in %s is not an address of a daemon", item,
                            source);
        kaena_err_hint(err, "write unix:PATH or HOST:PORT");
    } else if (a->count == KAENA_MAX_ADDRESSES) {
        status = KAENA_FAIL(err, INVALID_ARGUMENT, "more than %d addresses in %s",
                            KAENA_MAX_ADDRESSES, source);
    }
    kaena_address *items =
        status == KAENA_OK ? realloc(a->items, (a->count + 1) * sizeof *items) : NULL;
    if (!items) {
        free(item);
        free(label);
        return status != KAENA_OK ? status : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    }
    a->items = items;
    a->items[a->count++] = (kaena_address){item, label};
    return KAENA_OK;
}

static kaena_status from_list(kaena_addresses *a, const char *list, const char *source,
                              kaena_err *err)
{
    for (const char *p = list; *p;) {
        p += strspn(p, ", \t");
        size_t size = strcspn(p, ",");
        size_t trimmed = size;
        while (trimmed > 0 && (p[trimmed - 1] == ' ' || p[trimmed - 1] == '\t'))
            trimmed--;
        if (trimmed > 0)
            KAENA_TRY(add(a, p, trimmed, NULL, source, err));
        p += size;
    }
    if (a->count == 0)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "%s names no address of a daemon", source);
    return KAENA_OK;
}

/* The first address of a daemon is the one it prefers for local clients. */
static kaena_status from_json(kaena_addresses *a, const json_t *root, const char *only,
                              const char *path, kaena_err *err)
{
    size_t index;
    json_t *daemon;
    char names[200] = "";
    json_array_foreach(json_object_get(root, "daemons"), index, daemon)
    {
        const char *text = json_string_value(json_array_get(json_object_get(daemon, "listen"), 0));
        const char *name = json_string_value(json_object_get(daemon, "name"));
        size_t used = strlen(names);
        if (name)
            (void)snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", name);
        if (text && (!only || (name && strcmp(name, only) == 0)))
            KAENA_TRY(add(a, text, strlen(text), name, path, err));
    }
    if (a->count == 0 && only) {
        (void)KAENA_FAIL(err, NOT_FOUND, "'%s' has no daemon '%s' with a 'listen' address", path,
                         only);
        kaena_err_hint(err, "its daemons are: %s", names);
        return KAENA_NOT_FOUND;
    }
    if (a->count == 0)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "'%s' has no daemon with a 'listen' address",
                          path);
    return KAENA_OK;
}

static kaena_status from_config(kaena_addresses *a, const char *path, const char *only,
                                kaena_err *err)
{
    json_error_t problem;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &problem);
    if (!root) {
        if (access(path, R_OK) != 0)
            return KAENA_FAIL(err, NOT_FOUND, "cannot read the configuration '%s'", path);
        return KAENA_FAIL(err, INVALID_ARGUMENT, "configuration '%s', line %d: %s", path,
                          problem.line, problem.text);
    }
    kaena_status status = from_json(a, root, only, path, err);
    json_decref(root);
    return status;
}

/* Where a krtd without configuration listens: in $KAENA_RUNDIR, else in /run/kaena where it may
 * write there, else below $XDG_RUNTIME_DIR. The socket that exists tells which of the two it was.
 */
static kaena_status from_default(kaena_addresses *a, kaena_err *err)
{
    const char *given = getenv("KAENA_RUNDIR"), *user = getenv("XDG_RUNTIME_DIR");
    const bool has_given = given && *given, has_user = user && *user;
    char text[512], users[512];
    int n = snprintf(text, sizeof text, "unix:%s/krtd0.sock", has_given ? given : SYSTEM_RUNDIR);
    int m = snprintf(users, sizeof users, "unix:%s/kaena/krtd0.sock", has_user ? user : "");
    if (n < 0 || (size_t)n >= sizeof text || m < 0 || (size_t)m >= sizeof users)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "KAENA_RUNDIR or XDG_RUNTIME_DIR is too long");
    const char *chosen = text;
    if (!has_given && has_user && access(text + strlen("unix:"), F_OK) != 0 &&
        (access(users + strlen("unix:"), F_OK) == 0 || access(SYSTEM_RUNDIR, F_OK) != 0))
        chosen = users;
    return add(a, chosen, strlen(chosen), "krtd0", "the default", err);
}

kaena_status kaena_addresses_find(const char *argument, const char *daemon, kaena_addresses *out,
                                  kaena_err *err)
{
    kaena_addresses a = {0};
    const char *list = getenv("KAENA_KRTD_ADDRESS");
    const char *config = getenv("KAENA_CONFIG");
    bool has_config = config && *config, is_default = !daemon || strcmp(daemon, "krtd0") == 0;
    kaena_status status;
    if (argument && daemon)
        status = KAENA_FAIL(err, INVALID_ARGUMENT,
                            "an address and the name of a daemon are given: one of them is enough");
    else if (argument)
        status = from_list(&a, argument, "the address", err);
    else if (list && *list && !daemon)
        status = from_list(&a, list, "KAENA_KRTD_ADDRESS", err);
    else if (has_config || access(CONFIG_PATH, F_OK) == 0 || !is_default)
        status = from_config(&a, has_config ? config : CONFIG_PATH, daemon, err);
    else
        status = from_default(&a, err);
    if (status != KAENA_OK) {
        kaena_addresses_fini(&a);
        return status;
    }
    *out = a;
    return KAENA_OK;
}

void kaena_addresses_fini(kaena_addresses *a)
{
    for (size_t i = 0; i < a->count; i++) {
        free(a->items[i].address);
        free(a->items[i].name);
    }
    free(a->items);
    *a = (kaena_addresses){0};
}
