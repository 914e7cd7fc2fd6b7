/* The sessions of a client: one with each daemon that it needs one with. What is made in the name
 * of a session goes with it, when the client closes or its process dies.
 *
 *     CLOSED --open--> OPENING --SessionOpened--> OPEN --the stream breaks--> CLOSED
 *
 * When an open one breaks, everything the daemon held for it is gone, or will be: the router is
 * told. Streams live on the loop's queue. */
#ifndef KAENA_CLIENT_SESSION_H
#define KAENA_CLIENT_SESSION_H

#include "client_call.h"

#define KAENA_TOKEN_TEXT 64

/* NULL: out of memory. */
kaena_sessions *kaena_sessions_create(kaena_client *client);
/* Ends those that are open; nobody opens one any more. */
void kaena_sessions_close(kaena_sessions *sessions);
/* When the loop's thread has ended, too. */
void kaena_sessions_destroy(kaena_sessions *sessions);

/* The token of the session with |daemon|, which is opened if need be; "": the daemon knows no
 * sessions. |stop| as in kaena_target. On failure |*outcome| is set. */
kaena_status kaena_session_open(kaena_client *client, size_t daemon, int64_t deadline_ns,
                                const atomic_bool *stop, char token[KAENA_TOKEN_TEXT],
                                kaena_outcome *outcome, kaena_err *err) KAENA_CHECKED;

/* The token of the session with |daemon| that is open, and its number: it grows with each. 0: none
 * is open. */
uint64_t kaena_session_current(kaena_client *client, size_t daemon, char token[KAENA_TOKEN_TEXT]);

#endif
