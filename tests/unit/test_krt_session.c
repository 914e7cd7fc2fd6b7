#include "ktest.h"

#include "kaena/v1/runtime.pb-c.h"
#include "krt_session.h"

#define NO_SESSION KAENA__V1__ERROR_DETAIL__REASON__NO_SESSION

static int drops;
static uint64_t dropped;

static void drop(void *user, uint64_t owner)
{
    (void)user;
    drops++;
    dropped = owner;
}

KTEST(krt_session, lost_resumed_ended)
{
    kaena_err err;
    krt_session *s, *back;
    uint64_t first, second;
    krt_sessions *t = krt_sessions_create(drop, NULL);
    drops = 0;
    KTEST_OK(err, krt_session_open(t, 1, "me\n", &s, &err));
    cr_assert(strlen(krt_session_token(s)) == 32 && strcmp(krt_session_client(s), "me?") == 0);
    cr_assert(krt_session_owner(s) == 1 && krt_sessions_count(t) == 1);
    KTEST_OK(err, krt_session_hold(s, &first, &err));
    cr_assert(krt_session_lose(s, first) && !krt_session_lose(s, first));
    KTEST_OK(err, krt_session_find(t, krt_session_token(s), &back, &err));
    cr_assert(back == s);
    KTEST_OK(err, krt_session_hold(back, &second, &err));
    cr_assert(second != first);
    cr_assert(!krt_session_end(s, first), "whoever has lost it does not end it");
    cr_assert(!krt_session_ended(s) && drops == 0);
    cr_assert(krt_session_lose(back, second) && krt_session_end(back, second));
    cr_assert(krt_session_ended(s) && drops == 1 && dropped == 1 && krt_sessions_count(t) == 0);
    cr_assert(!krt_session_end(back, second));
    KTEST_FAILS(err, FAILED_PRECONDITION, "no session has that token",
                krt_session_hold(s, &first, &err));
    cr_assert(err.reason == NO_SESSION && err.hint[0]);
    krt_session_unref(back);
    krt_session_unref(s);
    (void)krt_sessions_destroy(t);
}

KTEST(krt_session, calls_that_outlast_it)
{
    kaena_err err;
    krt_session *s, *a, *b;
    uint64_t hold;
    krt_sessions *t = krt_sessions_create(drop, NULL);
    drops = 0;
    KTEST_OK(err, krt_session_open(t, 1, "", &s, &err));
    KTEST_OK(err, krt_session_hold(s, &hold, &err));
    KTEST_OK(err, krt_session_enter(t, krt_session_token(s), &a, &err));
    KTEST_OK(err, krt_session_enter(t, krt_session_token(s), &b, &err));
    cr_assert(krt_session_end(s, hold) && drops == 1, "at once");
    KTEST_FAILS(err, FAILED_PRECONDITION, "", krt_session_enter(t, krt_session_token(s), &a, &err));
    krt_session_leave(a);
    cr_assert(drops == 1);
    krt_session_leave(b);
    cr_assert(drops == 2, "and what its last call has made since");
    krt_session_unref(s);
    KTEST_OK(err, krt_session_open(t, 1, "", &s, &err));
    KTEST_OK(err, krt_session_enter(t, krt_session_token(s), &a, &err));
    krt_session_leave(a);
    cr_assert(drops == 2 && krt_session_owner(s) == 2, "numbers are never used again");
    krt_session_unref(s);
    (void)krt_sessions_destroy(t);
    cr_assert(drops == 3 && dropped == 2);
}

KTEST(krt_session, limit_and_tokens)
{
    kaena_err err;
    krt_session *s[3], *found;
    krt_sessions *t = krt_sessions_create(drop, NULL);
    for (int i = 0; i < 2; i++)
        KTEST_OK(err, krt_session_open(t, 2, "", &s[i], &err));
    KTEST_FAILS(err, RESOURCE_EXHAUSTED, "2 sessions", krt_session_open(t, 2, "", &s[2], &err));
    cr_assert(err.needed == 3 && err.available == 2);
    cr_assert(strcmp(krt_session_token(s[0]), krt_session_token(s[1])) != 0);
    char token[KRT_TOKEN_TEXT + 1];
    for (size_t i = 0; i < KRT_TOKEN_TEXT - 1; i++) {
        (void)snprintf(token, sizeof token, "%s", krt_session_token(s[0]));
        token[i] ^= 1;
        KTEST_FAILS(err, FAILED_PRECONDITION, "", krt_session_find(t, token, &found, &err));
    }
    static const char *const wrong[] = {"", "0", "00000000000000000000000000000000",
                                        "000000000000000000000000000000000"};
    for (size_t i = 0; i < 4; i++)
        KTEST_FAILS(err, FAILED_PRECONDITION, "", krt_session_find(t, wrong[i], &found, &err));
    KTEST_OK(err, krt_session_find(t, krt_session_token(s[1]), &found, &err));
    cr_assert(found == s[1]);
    krt_session_unref(found);
    for (int i = 0; i < 2; i++)
        krt_session_unref(s[i]);
    (void)krt_sessions_destroy(t);
}
