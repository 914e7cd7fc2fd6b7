/* The daemon's own state, shared by its services. */
#ifndef KRT_H
#define KRT_H

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "kaena/v1/runtime.pb-c.h"
#include "krt_backend.h"
#include "krt_config.h"
#include "krt_jobs.h"
#include "krt_reason.h"
#include "krt_sched.h"
#include "krt_stats.h"
#include "rpc.h"

typedef struct krt_model krt_model;
typedef struct krt_clients krt_clients; /* krt_clients.h */
typedef struct krt_loading krt_loading;
typedef struct krt_group krt_group; /* krt_group.h */

/* Where models may be loaded from by path; lives as long as the daemon. */
typedef struct krt_model_dir {
    int fd;     /* O_PATH */
    char *path; /* resolved */
    struct krt_model_dir *older;
} krt_model_dir;

typedef struct krt_daemon {
    const krt_daemon_config *_Atomic config; /* a reload puts another in its place */
    const char (*chips)[KRT_PCI_TEXT];       /* of the host */
    const krt_backend *backend;
    void *devices; /* the backend's */
    krpc_server *server;
    krt_jobs *loaders;  /* read, verify, place, unload: seconds */
    krt_jobs *starters; /* copy large inputs: milliseconds */
    krt_jobs *checkers; /* compare checksums of whole files: seconds, and more when others work */
    krt_model_dir *_Atomic model_dir; /* NULL = no loads by path */
    krt_model_dir *model_dirs;        /* all there ever were; of the event loop */

    krt_clients *clients;

    pthread_mutex_t lock; /* of the next six */
    krt_group *groups;
    uint64_t next_group;
    krt_model *models;
    size_t n_models;
    size_t n_loads; /* in progress */
    uint64_t next_id;

    pthread_mutex_t sched_lock; /* of the next four; inside of all other locks */
    krt_sched sched;            /* of all models' requests */
    krpc_timer watch;           /* stops executions that take too long */
    uint64_t watch_ns;          /* when it is due, UINT64_MAX = it does not wait */
    bool watch_moved;           /* it is to be set to |watch_ns| anew */

    _Atomic bool draining;
    _Atomic size_t accepted; /* inferences, loads and unloads whose answer has not left */
    uv_async_t *idle;        /* told when |accepted| gets 0 while draining */

    uint64_t started_ns;     /* CLOCK_MONOTONIC */
    uint32_t restarts;       /* after ends that were none of its own */
    krt_stats without_model; /* requests that named no model that could take them */
} krt_daemon;

/* Enters work that must be answered before the daemon ends; false, with |err| saying so, while it
 * drains. Released when the answer has left, which is when the call is closed: an answer that still
 * lies in the core would be lost with its connection. Thread: any. */
bool krt_accept(krt_daemon *d, kaena_err *err);
void krt_release(krt_daemon *d);
/* For krpc_call_on_close: releases the krt_daemon |d|. */
void krt_release_on_close(void *d, bool cancelled);

/* The methods of kaena.v1.Runtime; handlers' user is the krt_daemon. */
extern const krpc_method krt_methods[];
extern const size_t krt_n_methods;

krpc_handler krt_list_devices; /* service_devices.c */
krpc_handler krt_create_group; /* service_groups.c */
krpc_handler krt_destroy_group;
krpc_handler krt_list_groups;
krpc_handler krt_load;   /* service_load.c */
krpc_handler krt_unload; /* service_models.c */
krpc_handler krt_list_models;
krpc_handler krt_get_model;
krpc_handler krt_infer;        /* service_infer.c */
krpc_handler krt_infer_stream; /* service_stream.c */
krpc_handler krt_infer_post;   /* service_post.c */
krpc_handler krt_infer_wait;
krpc_handler krt_session_stream;    /* service_session.c */
krpc_handler krt_map_shared_memory; /* service_memory.c */
krpc_handler krt_unmap_shared_memory;
krpc_handler krt_get_stats; /* service_stats.c */

/* The daemon's devices [config->n_devices], for an answer, in |arena|. */
Kaena__V1__Device **krt_describe_devices(krt_daemon *d, kaena_arena *arena);
/* All counters; |arena| must outlive |out|. Thread: any. */
void krt_describe_stats(krt_daemon *d, Kaena__V1__GetStatsResponse *out, kaena_arena *arena);

/* Parses the request of |call| as |type| into |arena| (to be finished by the caller); NULL: the
 * call has been answered. */
ProtobufCMessage *krt_request(krpc_call *call, const ProtobufCMessageDescriptor *type,
                              kaena_arena *arena);

/* CLOCK_MONOTONIC. */
uint64_t krt_now_ns(void);

/* The daemon as a program: argv in, exit status out. */
int krt_main(int argc, char **argv, const krt_backend *backend);

#endif
