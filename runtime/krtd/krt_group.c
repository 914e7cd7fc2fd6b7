#include "krt_group.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "krt_log.h"
#include "krt_model.h"
#include "log.h"
#include "rpc_pb.h"

static uint32_t capacity(const krt_daemon *d)
{
    return (uint32_t)d->config->n_devices * d->backend->tpbs_per_chip;
}

/* --- What is asked for
 * ---------------------------------------------------------------------------------------------------------
 */

static kaena_status check_name(const char *name, kaena_err *err)
{
    size_t n = strlen(name);
    bool ok = n <= KRT_GROUP_NAME_MAX;
    for (size_t i = 0; i < n && ok; i++)
        ok = isalnum((unsigned char)name[i]) || strchr("._-/:@+", name[i]);
    if (ok)
        return KAENA_OK;
    return KAENA_FAIL(err, INVALID_ARGUMENT,
                      "group name '%.100s': must be at most %d of [A-Za-z0-9._-/:@+]", name,
                      KRT_GROUP_NAME_MAX);
}

/* The daemon's chips, a bit each, from positions in the configuration. */
static kaena_status find_chips(const krt_daemon *d, const krt_group_options *o, uint32_t *out,
                               kaena_err *err)
{
    *out = 0;
    for (size_t i = 0; i < o->n_devices; i++) {
        uint32_t c = 0;
        while (c < d->config->n_devices && d->config->devices[c] != o->devices[i])
            c++;
        if (c == d->config->n_devices) {
            kaena_status st =
                KAENA_FAIL(err, NOT_FOUND, "group: daemon '%s' has no device %" PRIu32,
                           d->config->name, o->devices[i]);
            kaena_err_hint(err, "ListDevices (kaena-cli devices) says which it has");
            return st;
        }
        *out |= 1u << c;
    }
    return KAENA_OK;
}

/* With the lock held. */
static krt_group *by_name(const krt_daemon *d, const char *name)
{
    krt_group *g = d->groups;
    while (g && strcmp(g->name, name) != 0)
        g = g->next;
    return g;
}

/* Names the group, and puts it into the list; with the lock held. */
static kaena_status enter(krt_daemon *d, krt_group *g, const char *name, kaena_err *err)
{
    if (*name && by_name(d, name)) {
        kaena_status st = KAENA_FAIL(err, ALREADY_EXISTS, "there is a group '%s' already", name);
        kaena_err_hint(err, "destroy it first, or give this one another name");
        return st;
    }
    g->id = ++d->next_group;
    (void)snprintf(g->name, sizeof g->name, "%s", name);
    for (uint64_t n = g->id; !*name && (!g->name[0] || by_name(d, g->name)); n++)
        (void)snprintf(g->name, sizeof g->name, "group-%" PRIu64, n);
    krt_group **at = &d->groups;
    while (*at)
        at = &(*at)->next;
    *at = g;
    return KAENA_OK;
}

kaena_status krt_group_create(krt_daemon *d, const krt_group_options *o, krt_group **out,
                              kaena_err *err)
{
    uint32_t chips;
    KAENA_TRY(check_name(o->name, err));
    KAENA_TRY(find_chips(d, o, &chips, err));
    if (o->n_tpbs < 1 || o->n_tpbs > KRT_MAX_TPBS)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "group: %" PRIu32 " TPBs, not 1 to %d", o->n_tpbs,
                          KRT_MAX_TPBS);
    krt_group *g = calloc(1, sizeof *g);
    if (!g)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    g->daemon = d;
    g->owner = o->owner;
    g->n_tpbs = o->n_tpbs;
    g->refs = 2; /* the list's and the caller's */
    kaena_status st = d->backend->group_create(d->devices, *o->name ? o->name : "(no name)",
                                               o->n_tpbs, chips, g->places, &g->of_backend, err);
    if (st == KAENA_OK) {
        (void)pthread_mutex_lock(&d->lock);
        st = enter(d, g, o->name, err);
        (void)pthread_mutex_unlock(&d->lock);
        if (st != KAENA_OK)
            d->backend->group_destroy(g->of_backend);
    }
    if (st != KAENA_OK) {
        free(g);
        return st;
    }
    kaena_log(KAENA_LOG_INFO, "group '%s' (%" PRIu64 "): %" PRIu32 " TPBs", g->name, g->id,
              g->n_tpbs);
    *out = g;
    return KAENA_OK;
}

/* --- From the environment
 * ------------------------------------------------------------------------------------------------------
 */

static kaena_status bad_sizes(const krt_daemon *d, const char *sizes, const char *what,
                              kaena_err *err)
{
    kaena_status st =
        KAENA_FAIL(err, INVALID_ARGUMENT, "KAENA_TPB_GROUP_SIZES='%.80s': %s", sizes, what);
    kaena_err_hint(err,
                   "it wants numbers of TPBs, like \"1,1,2\"; this daemon has %" PRIu32
                   " TPBs on %zu device%s",
                   capacity(d), d->config->n_devices, d->config->n_devices == 1 ? "" : "s");
    return st;
}

kaena_status krt_groups_from_sizes(krt_daemon *d, const char *sizes, kaena_err *err)
{
    char what[120];
    uint32_t all = 0;
    const char *at = sizes;
    for (uint32_t i = 0;; i++) {
        char *end;
        at += strspn(at, " \t");
        errno = 0;
        unsigned long n = strtoul(at, &end, 10);
        size_t digits = (size_t)(end - at);
        end += strspn(end, " \t");
        if (!isdigit((unsigned char)*at) || !digits || (*end && *end != ',')) {
            (void)snprintf(what, sizeof what, "'%.*s' is not a number", (int)strcspn(at, ","), at);
            return bad_sizes(d, sizes, what, err);
        }
        if (errno || n < 1 || n > KRT_MAX_TPBS)
            return bad_sizes(d, sizes, "a group has 1 to 64 TPBs", err);
        all += (uint32_t)n;
        if (all > capacity(d))
            return bad_sizes(d, sizes, "that is more than there are", err);
        char name[16];
        (void)snprintf(name, sizeof name, "g%" PRIu32, i);
        krt_group *g;
        KAENA_TRY_WRAP(
            err,
            krt_group_create(d, &(krt_group_options){.name = name, .n_tpbs = (uint32_t)n}, &g, err),
            "KAENA_TPB_GROUP_SIZES='%.80s'", sizes);
        (void)krt_group_unref(g);
        if (!*end)
            return KAENA_OK;
        at = end + 1;
    }
}

/* --- Life
 * ------------------------------------------------------------------------------------------------------------------
 */

krt_group *krt_group_find(krt_daemon *d, const char *name, uint64_t id, kaena_err *err)
{
    krt_name_list known = {""};
    (void)pthread_mutex_lock(&d->lock);
    krt_group *g = d->groups;
    while (g && (name ? strcmp(g->name, name) != 0 : g->id != id))
        g = g->next;
    if (g)
        g->refs++;
    const krt_group *k = g ? NULL : d->groups;
    while (k && krt_name_list_add(&known, k->name))
        k = k->next;
    (void)pthread_mutex_unlock(&d->lock);
    if (g)
        return g;
    char which[KRT_GROUP_NAME_MAX + 40];
    if (name)
        (void)snprintf(which, sizeof which, "'%.*s'", KRT_GROUP_NAME_MAX, name);
    else
        (void)snprintf(which, sizeof which, "number %" PRIu64, id);
    (void)KAENA_FAIL(err, NOT_FOUND,
                     *known.text ? "no group %s; there are: %s" : "no group %s; there is none",
                     which, known.text);
    kaena_err_hint(err, "CreateGroup (kaena-cli groups) makes one");
    return NULL;
}

krt_group *krt_group_unref(krt_group *g)
{
    if (!g)
        return NULL;
    krt_daemon *d = g->daemon;
    (void)pthread_mutex_lock(&d->lock);
    bool last = --g->refs == 0;
    (void)pthread_mutex_unlock(&d->lock);
    if (!last)
        return NULL;
    d->backend->group_destroy(g->of_backend);
    kaena_log(KAENA_LOG_INFO, "group '%s' (%" PRIu64 ") destroyed", g->name, g->id);
    Kaena__V1__DestroyGroupResponse empty = KAENA__V1__DESTROY_GROUP_RESPONSE__INIT;
    for (size_t i = 0; i < g->n_waiters; i++)
        krpc_reply(g->waiters[i], krpc_pb_pack(&empty.base));
    free(g->waiters);
    free(g);
    return NULL;
}

/* A model in the group that is neither gone nor known to |call_off|'s earlier turns; a reference.
 */
static krt_model *next_model(krt_daemon *d, const krt_group *g, uint64_t after)
{
    krt_model *next = NULL;
    (void)pthread_mutex_lock(&d->lock);
    for (krt_model *m = d->models; m; m = m->next)
        if (m->group == g && m->id > after && (!next || m->id < next->id))
            next = m;
    if (next)
        krt_model_ref(next);
    (void)pthread_mutex_unlock(&d->lock);
    return next;
}

void krt_group_destroy(krt_group *g, krpc_call *call)
{
    krt_daemon *d = g->daemon;
    kaena_err err;
    (void)pthread_mutex_lock(&d->lock);
    krpc_call **grown = call ? realloc(g->waiters, (g->n_waiters + 1) * sizeof *grown) : NULL;
    if (grown) {
        g->waiters = grown;
        g->waiters[g->n_waiters++] = call;
    }
    bool close = (grown || !call) && !g->closing;
    if (close) {
        krt_group **at = &d->groups;
        while (*at != g)
            at = &(*at)->next;
        *at = g->next;
        g->closing = true; /* the list's reference is ours */
    }
    (void)pthread_mutex_unlock(&d->lock);
    if (call && !grown) {
        (void)KAENA_FAIL(&err, RESOURCE_EXHAUSTED, "out of memory");
        krt_fail(call, NULL, &err);
        return;
    }
    if (!close)
        return;
    krt_model *m;
    for (uint64_t after = 0; (m = next_model(d, g, after)); (void)krt_model_unref(m)) {
        after = m->id;
        krt_model_unload(m, NULL);
    }
    (void)krt_group_unref(g);
}

bool krt_group_closing(krt_group *g)
{
    (void)pthread_mutex_lock(&g->daemon->lock);
    bool closing = g->closing;
    (void)pthread_mutex_unlock(&g->daemon->lock);
    return closing;
}

void krt_groups_drop(krt_daemon *d, uint64_t owner)
{
    for (;;) {
        (void)pthread_mutex_lock(&d->lock);
        krt_group *g = d->groups;
        while (g && g->owner != owner)
            g = g->next;
        if (g)
            g->refs++;
        (void)pthread_mutex_unlock(&d->lock);
        if (!g)
            return;
        krt_group_destroy(g, NULL);
        (void)krt_group_unref(g);
    }
}

void krt_groups_clear(krt_daemon *d)
{
    while (d->groups)
        krt_group_destroy(d->groups, NULL);
}
