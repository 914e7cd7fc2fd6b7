#include "krt_session.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "krt_reason.h"

typedef enum session_state { OPEN, LOST, ENDED } session_state;

struct krt_session {
    krt_sessions *table;
    krt_session *next; /* this and all below under the table's lock */
    session_state state;
    unsigned refs;
    unsigned users; /* calls in its name */
    uint64_t owner, hold;
    char token[KRT_TOKEN_TEXT];
    char client[KRT_CLIENT_TEXT];
};

struct krt_sessions {
    pthread_mutex_t lock;
    size_t n;
    krt_session *list; /* not ENDED */
    uint64_t last_owner;
    krt_drop *drop;
    void *user;
};

krt_sessions *krt_sessions_create(krt_drop *drop, void *user)
{
    krt_sessions *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    (void)pthread_mutex_init(&t->lock, NULL);
    t->drop = drop;
    t->user = user;
    return t;
}

krt_sessions *krt_sessions_destroy(krt_sessions *t)
{
    if (!t)
        return NULL;
    while (t->list) {
        krt_session *s = t->list;
        t->list = s->next;
        t->drop(t->user, s->owner);
        free(s);
    }
    (void)pthread_mutex_destroy(&t->lock);
    free(t);
    return NULL;
}

size_t krt_sessions_count(krt_sessions *t)
{
    (void)pthread_mutex_lock(&t->lock);
    size_t n = t->n;
    (void)pthread_mutex_unlock(&t->lock);
    return n;
}

static bool make_token(char token[KRT_TOKEN_TEXT])
{
    uint8_t bits[16];
    if (getrandom(bits, sizeof bits, 0) != sizeof bits)
        return false;
    for (size_t i = 0; i < sizeof bits; i++)
        (void)snprintf(token + 2 * i, 3, "%02x", bits[i]);
    return true;
}

kaena_status krt_session_open(krt_sessions *t, uint64_t max, const char *client, krt_session **out,
                              kaena_err *err)
{
    krt_session *s = calloc(1, sizeof *s);
    if (!s || !make_token(s->token)) {
        free(s);
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "session: out of memory or randomness");
    }
    (void)snprintf(s->client, sizeof s->client, "%s", client);
    for (char *p = s->client; *p; p++) /* for the log */
        *p = (unsigned char)*p < ' ' ? '?' : *p;
    s->table = t;
    s->refs = 2; /* the list's and the caller's */
    (void)pthread_mutex_lock(&t->lock);
    bool room = t->n < max;
    if (room) {
        s->owner = ++t->last_owner;
        s->next = t->list;
        t->list = s;
        t->n++;
    }
    (void)pthread_mutex_unlock(&t->lock);
    if (room) {
        *out = s;
        return KAENA_OK;
    }
    free(s);
    kaena_status st = KRT_FAIL_LIMIT(
        err, max + 1, max, "%" PRIu64 " sessions are open, the limit of this daemon", max);
    kaena_err_hint(err, "try another daemon, or raise limits.sessions");
    return st;
}

/* Takes as long for every token, so that nobody finds one digit by digit. */
static bool token_is(const krt_session *s, const char *token)
{
    unsigned differ = 0;
    for (size_t i = 0; i < KRT_TOKEN_TEXT - 1; i++)
        differ |= (unsigned)(s->token[i] ^ token[i]);
    return differ == 0;
}

static kaena_status no_session(kaena_err *err)
{
    kaena_status st = KRT_FAIL(err, FAILED_PRECONDITION, NO_SESSION,
                               "no session has that token, or it has ended");
    kaena_err_hint(err, "open a new session, and make again what the old one owned");
    return st;
}

kaena_status krt_session_find(krt_sessions *t, const char *token, krt_session **out, kaena_err *err)
{
    krt_session *s = NULL;
    if (strlen(token) != KRT_TOKEN_TEXT - 1)
        return no_session(err);
    (void)pthread_mutex_lock(&t->lock);
    for (krt_session *i = t->list; i; i = i->next)
        if (token_is(i, token))
            s = i;
    if (s)
        s->refs++;
    (void)pthread_mutex_unlock(&t->lock);
    if (!s)
        return no_session(err);
    *out = s;
    return KAENA_OK;
}

void krt_session_ref(krt_session *s)
{
    (void)pthread_mutex_lock(&s->table->lock);
    s->refs++;
    (void)pthread_mutex_unlock(&s->table->lock);
}

void krt_session_unref(krt_session *s)
{
    krt_sessions *t = s->table;
    (void)pthread_mutex_lock(&t->lock);
    bool last = --s->refs == 0;
    (void)pthread_mutex_unlock(&t->lock);
    if (last)
        free(s);
}

const char *krt_session_token(const krt_session *s)
{
    return s->token;
}

const char *krt_session_client(const krt_session *s)
{
    return s->client;
}

uint64_t krt_session_owner(const krt_session *s)
{
    return s->owner;
}

bool krt_session_ended(krt_session *s)
{
    (void)pthread_mutex_lock(&s->table->lock);
    bool ended = s->state == ENDED;
    (void)pthread_mutex_unlock(&s->table->lock);
    return ended;
}

kaena_status krt_session_hold(krt_session *s, uint64_t *hold, kaena_err *err)
{
    (void)pthread_mutex_lock(&s->table->lock);
    bool ended = s->state == ENDED;
    if (!ended) {
        s->state = OPEN;
        *hold = ++s->hold;
    }
    (void)pthread_mutex_unlock(&s->table->lock);
    return ended ? no_session(err) : KAENA_OK;
}

bool krt_session_lose(krt_session *s, uint64_t hold)
{
    (void)pthread_mutex_lock(&s->table->lock);
    bool lost = s->state == OPEN && s->hold == hold;
    if (lost)
        s->state = LOST;
    (void)pthread_mutex_unlock(&s->table->lock);
    return lost;
}

bool krt_session_end(krt_session *s, uint64_t hold)
{
    krt_sessions *t = s->table;
    (void)pthread_mutex_lock(&t->lock);
    bool ends = s->state != ENDED && s->hold == hold;
    if (ends) {
        s->state = ENDED;
        krt_session **at = &t->list;
        while (*at != s)
            at = &(*at)->next;
        *at = s->next;
        t->n--;
    }
    (void)pthread_mutex_unlock(&t->lock);
    if (!ends)
        return false;
    t->drop(t->user, s->owner);
    krt_session_unref(s);
    return true;
}

kaena_status krt_session_enter(krt_sessions *t, const char *token, krt_session **out,
                               kaena_err *err)
{
    krt_session *s;
    KAENA_TRY(krt_session_find(t, token, &s, err));
    (void)pthread_mutex_lock(&t->lock);
    bool ended = s->state == ENDED;
    s->users += !ended;
    (void)pthread_mutex_unlock(&t->lock);
    if (!ended) {
        *out = s;
        return KAENA_OK;
    }
    krt_session_unref(s);
    return no_session(err);
}

void krt_session_leave(krt_session *s)
{
    krt_sessions *t = s->table;
    (void)pthread_mutex_lock(&t->lock);
    bool drop = --s->users == 0 && s->state == ENDED;
    (void)pthread_mutex_unlock(&t->lock);
    if (drop)
        t->drop(t->user, s->owner);
    krt_session_unref(s);
}
