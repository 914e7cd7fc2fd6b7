/* What the files of this folder share. */
#ifndef RPC_INTERNAL_H
#define RPC_INTERNAL_H

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <pthread.h>
#include <stdatomic.h>

#include "rpc.h"
#include "rpc_health.h"
#include "rpc_listen.h"

/* The completion queue orders what was done before a batch was started and what is done when its
 * tag comes out. ThreadSanitizer does not see into the core and has to be told. */
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#define KRPC_HANDED_OVER(tag) __tsan_release(tag)
#define KRPC_TAKEN_OVER(tag) __tsan_acquire(tag)
#else
#define KRPC_HANDED_OVER(tag) ((void)(tag))
#define KRPC_TAKEN_OVER(tag) ((void)(tag))
#endif

#define KRPC_CONTAINER(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* A row of a server's own method table. */
typedef struct krpc_entry {
    krpc_method method;
    void *registered;         /* the core's handle */
    void *user;               /* of the handler */
    bool endless;             /* a stream that only its client ends: nobody waits for it */
    _Atomic unsigned missing; /* calls that should be armed but, without memory, are not */
} krpc_entry;

typedef struct krpc_clock krpc_clock;

#define KRPC_MAX_METHODS 64

/* Answers on their way to clients that do not fetch them. Peers share counters by the hash of their
 * name. */
#define KRPC_PEERS 1024
typedef struct krpc_unsent {
    _Atomic size_t total; /* bytes */
    _Atomic size_t of_peer[KRPC_PEERS];
} krpc_unsent;

struct krpc_server {
    krpc_options options;
    grpc_server *core;
    grpc_completion_queue *cq;
    grpc_server_credentials *insecure;
    krpc_tls *tls; /* NULL = plain TCP */
    krpc_entry entries[KRPC_MAX_METHODS];
    size_t n_entries;
    _Atomic unsigned unknown_missing; /* the same of methods that are not in the table */
    krpc_listeners *listeners;
    krpc_health *health;
    krpc_clock *clock;
    uint64_t id_base; /* request ids: random per process, then counted */
    _Atomic uint64_t id_next;
    krpc_unsent unsent;
    bool started;
    pthread_t thread;
    _Atomic uint64_t beats;
    krpc_tag shutdown_tag;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* one of the next got 0 or true */
    size_t live;      /* calls that have arrived and are not yet answered and sent; under lock */
    size_t due;       /* those of them that are not endless; under lock */
    uint64_t arrived; /* all that ever came; under lock */
    bool shut_down;   /* the core has let go of every channel; under lock */
};

/* rpc_call.c */

/* Asks the core for one more call of |entry|; NULL: of methods that are not in the table. */
void krpc_call_arm(krpc_server *s, krpc_entry *entry);

krpc_server *krpc_call_server(krpc_call *call);

/* rpc_timer.c */

krpc_clock *krpc_clock_create(krpc_server *s);
void krpc_clock_start(krpc_clock *c);
/* When the first timer is due, for the queue's thread; and calls what is. */
gpr_timespec krpc_clock_next(krpc_clock *c);
void krpc_clock_run(krpc_clock *c);
/* Cancels all timers, also those that are started later; true when none is under way. */
bool krpc_clock_end(krpc_clock *c);
/* None is under way, and none will be started. */
void krpc_clock_stop(krpc_clock *c);
krpc_clock *krpc_clock_destroy(krpc_clock *c);

/* rpc_reflect.c */
extern const krpc_method krpc_reflect_methods[2];

#endif
