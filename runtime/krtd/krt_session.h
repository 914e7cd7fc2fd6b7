/* Sessions: who owns what clients make. Pure: streams, timers and what is owned live elsewhere.
 *
 *     (none) --open--> OPEN --lose--> LOST --end--> ENDED
 *                       ^  \           |              ^
 *                       |   +----------|--end---------+
 *                       +---hold-------+
 *
 * What a session owns carries its number, and goes when it ends: |drop| is called at once, and
 * again by the last call that was under way in its name, which may have made something meanwhile.
 *
 * Threads: any. */
#ifndef KRT_SESSION_H
#define KRT_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

#define KRT_TOKEN_TEXT 33  /* 128 bits as hexadecimal digits, and a terminator */
#define KRT_CLIENT_TEXT 96 /* who a client says it is, cut */

typedef struct krt_session krt_session;
typedef struct krt_sessions krt_sessions;

/* Lets go of everything of |owner|; any thread, perhaps two at a time, and more than once. */
typedef void krt_drop(void *user, uint64_t owner);

/* NULL: out of memory. */
krt_sessions *krt_sessions_create(krt_drop *drop, void *user);
/* Nobody uses a session any more; those that are left end. NULL is fine. */
krt_sessions *krt_sessions_destroy(krt_sessions *t);
size_t krt_sessions_count(krt_sessions *t);

/* A new one, with a reference, when there are fewer than |max|. RESOURCE_EXHAUSTED (LIMIT). */
kaena_status krt_session_open(krt_sessions *t, uint64_t max, const char *client, krt_session **out,
                              kaena_err *err) KAENA_CHECKED;
/* A reference to the one of that token. FAILED_PRECONDITION (NO_SESSION). */
kaena_status krt_session_find(krt_sessions *t, const char *token, krt_session **out,
                              kaena_err *err) KAENA_CHECKED;
void krt_session_ref(krt_session *s);
void krt_session_unref(krt_session *s);

const char *krt_session_token(const krt_session *s);
const char *krt_session_client(const krt_session *s);
/* The number that marks what it owns: from 1, never used again. */
uint64_t krt_session_owner(const krt_session *s);
bool krt_session_ended(krt_session *s);

/* Makes the caller the one whose loss the session notices; |*hold| names it. FAILED_PRECONDITION
 * (NO_SESSION): it has just ended. */
kaena_status krt_session_hold(krt_session *s, uint64_t *hold, kaena_err *err) KAENA_CHECKED;
/* OPEN -> LOST; false when |hold| is not the last one. */
bool krt_session_lose(krt_session *s, uint64_t hold);
/* -> ENDED; false when |hold| is not the last one, or it has ended. */
bool krt_session_end(krt_session *s, uint64_t hold);

/* A call in the name of the session of that token begins, and ends. FAILED_PRECONDITION
 * (NO_SESSION). */
kaena_status krt_session_enter(krt_sessions *t, const char *token, krt_session **out,
                               kaena_err *err) KAENA_CHECKED;
void krt_session_leave(krt_session *s);

#endif
