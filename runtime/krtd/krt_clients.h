/* What clients hold of the daemon beyond a call: sessions, and what is made in their name. */
#ifndef KRT_CLIENTS_H
#define KRT_CLIENTS_H

#include "krt.h"
#include "krt_region.h"
#include "krt_session.h"

typedef struct krt_streams krt_streams; /* service_stream.c */
typedef struct krt_posts krt_posts;     /* service_post.c */
typedef struct krt_session_streams krt_session_streams;

typedef struct krt_clients {
    krt_daemon *daemon;
    krt_sessions *sessions;
    krt_regions *regions;
    krt_jobs *mappers; /* map shared memory: milliseconds */
    krt_session_streams *session_streams;
    krt_streams *streams;
    krt_posts *posts;
    pthread_mutex_t lock; /* of the next two */
    krt_loading *loads;   /* in progress */
    bool sweeping;        /* |sweep| is pending */
    krpc_timer sweep;     /* regions of connections that are gone */
} krt_clients;

kaena_status krt_clients_create(krt_daemon *d, kaena_err *err) KAENA_CHECKED;
/* The daemon drains: sessions are told that accepted work may take |seconds| more. */
void krt_clients_draining(krt_daemon *d, uint32_t seconds);
/* Ends the streams that only clients would end; before the server is stopped. */
void krt_clients_end(krt_daemon *d);
/* The server has stopped, the models are gone. Accepts a daemon without clients. */
void krt_clients_destroy(krt_daemon *d);

/* ---- who calls ---- */

/* In whose name a call is made. */
typedef struct krt_caller {
    krt_session *session; /* NULL: in nobody's */
    uint64_t owner;       /* the session's; 0: what is made is everybody's and stays */
} krt_caller;

/* Reads the call's "kaena-session". Until krt_caller_leave what is made with |owner| is let go of
 * even when the session ends meanwhile. FAILED_PRECONDITION (NO_SESSION). */
kaena_status krt_caller_enter(krt_daemon *d, krpc_call *call, krt_caller *out,
                              kaena_err *err) KAENA_CHECKED;
void krt_caller_leave(krt_caller *c);

/* The number of the session that |call| names; 0: none, or it has ended. */
uint64_t krt_caller_session(krpc_call *call);

/* Whom limits per client count, and to whom regions belong: the session, or else the connection. */
uint64_t krt_caller_client(const krt_caller *c, krpc_call *call);

/* ---- loads in progress ---- */

/* Part of a load. */
struct krt_loading {
    krt_loading *next, **at;
    uint64_t owner;
    krpc_call *call;
    bool abandoned; /* its session has ended */
};

void krt_loading_enter(krt_daemon *d, krt_loading *l);
/* Before its call is answered. */
void krt_loading_leave(krt_daemon *d, krt_loading *l);
bool krt_loading_abandoned(krt_daemon *d, const krt_loading *l);

/* Sees to it that regions of connections that are gone go, too. */
void krt_clients_watch_connections(krt_daemon *d);

/* service_stream.c */
krt_streams *krt_streams_create(krt_daemon *d);
/* Ends those that have nothing under way any more, and the others then. */
void krt_streams_end(krt_streams *t);
krt_streams *krt_streams_destroy(krt_streams *t);

/* service_post.c */
krt_posts *krt_posts_create(krt_daemon *d);
void krt_posts_drop(krt_posts *t, uint64_t owner);
/* Answers that nobody fetches do not keep the daemon from its end for longer than |ns|. */
void krt_posts_draining(krt_posts *t, uint64_t ns);
krt_posts *krt_posts_destroy(krt_posts *t);

/* service_session.c */
krt_session_streams *krt_session_streams_create(krt_daemon *d);
void krt_session_streams_draining(krt_session_streams *t, uint32_t seconds);
void krt_session_streams_end(krt_session_streams *t);
krt_session_streams *krt_session_streams_destroy(krt_session_streams *t);

#endif
