/* Explicit groups of TPBs, and who owns them.
 *
 *     (none) --create--> OPEN --destroy, or its owner's end--> CLOSING --last model gone--> (none)
 *
 * An open group is in the daemon's list and takes models. A closing one keeps its TPBs until what
 * runs on them has been answered. */
#ifndef KRT_GROUP_H
#define KRT_GROUP_H

#include "krt.h"

#define KRT_GROUP_NAME_MAX 64

struct krt_group {
    krt_daemon *daemon;
    krt_group *next; /* this and all below: under daemon->lock */
    char name[KRT_GROUP_NAME_MAX + 1];
    uint64_t id, owner; /* the owner: as in krt_model */
    uint32_t n_tpbs;
    krt_place places[KRT_MAX_TPBS]; /* [n_tpbs], constant */
    void *of_backend;
    uint32_t refs; /* the list's, and of each model in it or being loaded into it */
    bool closing;
    krpc_call **waiters; /* DestroyGroup calls, answered when it is gone */
    size_t n_waiters;
};

/* What CreateGroup asks for. |devices| are positions in the configuration's chips. */
typedef struct krt_group_options {
    const char *name; /* "" = made up */
    uint32_t n_tpbs;
    const uint32_t *devices;
    size_t n_devices; /* 0 = wherever TPBs are free */
    uint64_t owner;
} krt_group_options;

/* The caller gets a reference. INVALID_ARGUMENT; ALREADY_EXISTS; RESOURCE_EXHAUSTED (NO_TPBS). */
kaena_status krt_group_create(krt_daemon *d, const krt_group_options *options, krt_group **out,
                              kaena_err *err) KAENA_CHECKED;
/* KAENA_TPB_GROUP_SIZES, "1,1,2": groups g0, g1, g2 of so many TPBs, which nobody owns.
 * INVALID_ARGUMENT says what is wrong, and how many TPBs there are. */
kaena_status krt_groups_from_sizes(krt_daemon *d, const char *sizes, kaena_err *err) KAENA_CHECKED;

/* A reference to an open group by name, or (NULL) by id; or NULL with NOT_FOUND, naming those there
 * are. */
krt_group *krt_group_find(krt_daemon *d, const char *name, uint64_t id, kaena_err *err);
/* With the last reference of a closing group its TPBs are free, and who waits is answered. NULL is
 * fine. Not with daemon->lock held. */
krt_group *krt_group_unref(krt_group *g);

/* It takes no more models. */
bool krt_group_closing(krt_group *g);
/* Closes it and unloads its models, as Unload does; |call|, which may be NULL, is answered when it
 * is gone. */
void krt_group_destroy(krt_group *g, krpc_call *call);
/* The same of all groups of |owner|. */
void krt_groups_drop(krt_daemon *d, uint64_t owner);
/* At the end of the daemon: models and calls are gone. */
void krt_groups_clear(krt_daemon *d);

#endif
