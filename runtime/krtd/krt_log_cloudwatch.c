/* Lines in Amazon CloudWatch Logs: batches of what has gathered, from a thread of its own. */
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "krt_aws.h"
#include "krt_log_queue.h"
#include "krt_log_sink.h"

#define SECOND_NS UINT64_C(1000000000)
/* What PutLogEvents takes at once. */
#define BATCH_EVENTS 10000
#define BATCH_BYTES 1048576
#define EVENT_OVERHEAD 26 /* counted for every event beside its bytes */
#define BATCH_SPAN_MS (UINT64_C(24) * 3600 * 1000)
/* One attempt takes no longer. */
#define CALL_NS (20 * SECOND_NS)
/* Between attempts: random, up to a bound that doubles. */
#define BACKOFF_NS (SECOND_NS / 4)
#define MAX_BACKOFF_NS (30 * SECOND_NS)

typedef struct event {
    uint64_t time_ms;
    size_t order; /* in which it was logged */
    char *text;   /* terminated */
} event;

typedef struct cloudwatch_sink {
    krt_sink sink;
    char *group, *stream;
    uint64_t flush_ns;
    krt_log_queue *queue;
    krt_aws *aws;
    pthread_t thread;
    _Atomic uint64_t call_deadline_ns; /* of the call under way */
    _Atomic uint64_t end_ns;           /* UINT64_MAX: the daemon does not end */
    /* Of the thread: */
    event *events; /* [BATCH_EVENTS] */
    size_t n_events, bytes;
    bool has_next; /* one that did not fit into the last batch */
    uint64_t next_ms;
    size_t next_size;
    char next[KRT_LOG_BYTES];
} cloudwatch_sink;

static void write_line(kaena_log_sink *base, const kaena_log_record *r)
{
    cloudwatch_sink *s = (cloudwatch_sink *)base;
    char line[KRT_LOG_BYTES];
    size_t n = krt_log_json(r, line);
    uint64_t ms = (uint64_t)r->time.tv_sec * 1000 + (uint64_t)r->time.tv_nsec / 1000000;
    krt_log_queue_put(s->queue, ms, line, n);
}

/* ---- batches ---- */

static bool next_event(cloudwatch_sink *s)
{
    if (!s->has_next) {
        s->next_size = krt_log_queue_get(s->queue, s->next, sizeof s->next, &s->next_ms);
        s->has_next = s->next_size > 0;
    }
    return s->has_next;
}

static int by_time(const void *a, const void *b)
{
    const event *x = a, *y = b;
    if (x->time_ms != y->time_ms)
        return x->time_ms < y->time_ms ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* Takes as many lines as one call may bring. Lines of several threads may be a moment out of order.
 */
static void gather(cloudwatch_sink *s)
{
    uint64_t least = UINT64_MAX, most = 0;
    while (s->n_events < BATCH_EVENTS && next_event(s)) {
        size_t size = s->next_size + EVENT_OVERHEAD;
        uint64_t low = s->next_ms < least ? s->next_ms : least;
        uint64_t high = s->next_ms > most ? s->next_ms : most;
        if (s->n_events && (s->bytes + size > BATCH_BYTES || high - low >= BATCH_SPAN_MS))
            break;
        s->has_next = false;
        char *text = strndup(s->next, s->next_size);
        if (!text) {
            krt_sink_lost(&s->sink, 1);
            continue;
        }
        least = low;
        most = high;
        s->events[s->n_events] = (event){.time_ms = s->next_ms, .order = s->n_events, .text = text};
        s->n_events++;
        s->bytes += size;
    }
    qsort(s->events, s->n_events, sizeof *s->events, by_time);
}

static void forget(cloudwatch_sink *s)
{
    for (size_t i = 0; i < s->n_events; i++)
        free(s->events[i].text);
    s->n_events = s->bytes = 0;
}

static char *put_body(const cloudwatch_sink *s)
{
    json_t *events = json_array();
    for (size_t i = 0; i < s->n_events; i++)
        json_array_append_new(events,
                              json_pack("{s:I, s:s}", "timestamp", (json_int_t)s->events[i].time_ms,
                                        "message", s->events[i].text));
    json_t *root = json_pack("{s:s, s:s, s:o}", "logGroupName", s->group, "logStreamName",
                             s->stream, "logEvents", events);
    char *body = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return body;
}

/* ---- calls ---- */

static bool call(cloudwatch_sink *s, const char *operation, const char *body,
                 krt_aws_answer *answer)
{
    uint64_t deadline = krt_log_now_ns() + CALL_NS, end = atomic_load(&s->end_ns);
    atomic_store(&s->call_deadline_ns, deadline < end ? deadline : end);
    end = atomic_load(&s->end_ns); /* it may have been set since */
    if (end < deadline)
        atomic_store(&s->call_deadline_ns, end);
    return krt_aws_call(s->aws, operation, body, strlen(body), &s->call_deadline_ns, answer);
}

/* Makes group and stream, which may be there: |answer| is that of the last call. */
static bool make_stream(cloudwatch_sink *s, krt_aws_answer *answer)
{
    static const char exists[] = "ResourceAlreadyExistsException";
    json_t *group = json_pack("{s:s}", "logGroupName", s->group);
    json_t *stream = json_pack("{s:s, s:s}", "logGroupName", s->group, "logStreamName", s->stream);
    char *bodies[] = {group ? json_dumps(group, JSON_COMPACT) : NULL,
                      stream ? json_dumps(stream, JSON_COMPACT) : NULL};
    static const char *const operations[] = {"CreateLogGroup", "CreateLogStream"};
    bool ok = true;
    for (int i = 0; i < 2 && ok; i++)
        ok = bodies[i] &&
             (call(s, operations[i], bodies[i], answer) || strcmp(answer->type, exists) == 0);
    free(bodies[0]);
    free(bodies[1]);
    json_decref(group);
    json_decref(stream);
    return ok;
}

/* Events that the service has let fall: their times were not to its liking. */
static size_t count_rejected(const krt_aws_answer *a, size_t n_events)
{
    json_t *root = json_loads(a->body, 0, NULL);
    const json_t *info = json_object_get(root, "rejectedLogEventsInfo");
    json_int_t rejected = 0, value;
    if ((value = json_integer_value(json_object_get(info, "tooOldLogEventEndIndex"))) > rejected)
        rejected = value;
    if ((value = json_integer_value(json_object_get(info, "expiredLogEventEndIndex"))) > rejected)
        rejected = value;
    const json_t *first_new = json_object_get(info, "tooNewLogEventStartIndex");
    if (json_is_integer(first_new) && json_integer_value(first_new) >= 0 &&
        (json_int_t)n_events > json_integer_value(first_new))
        rejected += (json_int_t)n_events - json_integer_value(first_new);
    json_decref(root);
    return rejected < 0 ? 0 : (size_t)rejected < n_events ? (size_t)rejected : n_events;
}

static const char *why(const krt_aws_answer *a, char *buf, size_t size)
{
    if (a->http == 0)
        (void)snprintf(buf, size, "%s", a->message);
    else
        (void)snprintf(buf, size, "HTTP %ld%s%s%s%s", a->http, a->type[0] ? ", " : "", a->type,
                       a->message[0] ? ": " : "", a->message);
    return buf;
}

typedef enum outcome { SENT, AGAIN, HOPELESS } outcome;

static outcome send_once(cloudwatch_sink *s, const char *body, krt_aws_answer *a)
{
    if (call(s, "PutLogEvents", body, a))
        return SENT;
    if (strcmp(a->type, "DataAlreadyAcceptedException") == 0)
        return SENT;
    if (strcmp(a->type, "ResourceNotFoundException") == 0) {
        if (!make_stream(s, a))
            return AGAIN;
        return call(s, "PutLogEvents", body, a) ? SENT : AGAIN;
    }
    /* What is wrong with the request will be wrong with it tomorrow. All else may change, even a
     * refusal: credentials are renewed, rights are given. */
    bool wrong = strcmp(a->type, "InvalidParameterException") == 0 ||
                 strcmp(a->type, "SerializationException") == 0 || a->http == 413;
    return wrong ? HOPELESS : AGAIN;
}

/* A random part of |most|, so that daemons that failed together do not come back together. */
static uint64_t jitter(uint64_t most)
{
    uint64_t r = 0;
    if (getrandom(&r, sizeof r, GRND_NONBLOCK) != (ssize_t)sizeof r)
        r = krt_log_now_ns();
    return most / 2 + r % (most / 2);
}

/* Sends the batch, as often as it takes. */
static void send_batch(cloudwatch_sink *s)
{
    char *body = put_body(s);
    krt_aws_answer a;
    char text[400];
    uint64_t backoff = BACKOFF_NS;
    outcome o = body ? AGAIN : HOPELESS;
    if (!body)
        (void)strcpy(a.message, "out of memory"), a.http = 0;
    while (o == AGAIN && (o = send_once(s, body, &a)) == AGAIN) {
        krt_sink_failed(&s->sink, "%s", why(&a, text, sizeof text));
        uint64_t until = krt_log_now_ns() + jitter(backoff);
        krt_log_queue_pause(s->queue, until);
        uint64_t end = atomic_load(&s->end_ns);
        if (end != UINT64_MAX) { /* the end is near: steadily, not politely */
            if (krt_log_now_ns() + BACKOFF_NS >= end)
                break;
            struct timespec t = {.tv_nsec = (long)(BACKOFF_NS / 4)};
            (void)nanosleep(&t, NULL);
        }
        backoff = backoff * 2 < MAX_BACKOFF_NS ? backoff * 2 : MAX_BACKOFF_NS;
    }
    free(body);
    krt_sink_lost(&s->sink, krt_log_queue_lost(s->queue));
    if (o == SENT) {
        krt_sink_lost(&s->sink, count_rejected(&a, s->n_events));
        krt_sink_works(&s->sink);
    } else {
        krt_sink_lost(&s->sink, s->n_events);
        krt_sink_failed(&s->sink, "%s", why(&a, text, sizeof text));
    }
    forget(s);
}

static void *work(void *arg)
{
    cloudwatch_sink *s = arg;
    for (;;) {
        bool ending = krt_log_queue_deadline(s->queue) != UINT64_MAX;
        if (!s->has_next) {
            if (!ending)
                krt_log_queue_wait(s->queue, 1, UINT64_MAX);
            /* The first line waits for others. */
            uint64_t until = krt_log_now_ns() + s->flush_ns;
            if (!ending && next_event(s))
                krt_log_queue_wait(s->queue, BATCH_BYTES / 2, until);
        }
        gather(s);
        if (s->n_events == 0) {
            if (ending)
                break;
            continue;
        }
        send_batch(s);
    }
    return NULL;
}

/* ---- the sink ---- */

static void destroy(krt_sink *sink)
{
    cloudwatch_sink *s = (cloudwatch_sink *)sink;
    forget(s);
    (void)krt_aws_close(s->aws);
    (void)krt_log_queue_destroy(s->queue);
    free(s->events);
    free(s->group);
    free(s->stream);
    free(s);
}

static bool finish(krt_sink *sink, uint64_t deadline_ns)
{
    cloudwatch_sink *s = (cloudwatch_sink *)sink;
    atomic_store(&s->end_ns, deadline_ns);
    atomic_store(&s->call_deadline_ns, deadline_ns);
    krt_log_queue_stop(s->queue, deadline_ns);
    uint64_t patience = deadline_ns + 2 * SECOND_NS; /* libcurl looks at its clock every second */
    struct timespec t = {.tv_sec = (time_t)(patience / SECOND_NS),
                         .tv_nsec = (long)(patience % SECOND_NS)};
    /* What a resolver holds keeps the thread, and so the sink; the process ends all the same. */
    if (pthread_clockjoin_np(s->thread, NULL, CLOCK_MONOTONIC, &t) != 0)
        return false;
    uint64_t lost = atomic_load(&s->sink.lost) + krt_log_queue_lost(s->queue);
    if (lost)
        kaena_log(KAENA_LOG_WARNING, "log to %s: %" PRIu64 " lines were lost", s->sink.label, lost);
    return true;
}

kaena_status krt_sink_cloudwatch(const krt_sink_config *c, krt_sink **out, kaena_err *err)
{
    krt_aws_options o = {.service = "logs",
                         .target = "Logs_20140328",
                         .environment_name = "CLOUDWATCH_LOGS",
                         .endpoint = c->endpoint,
                         .region = c->region,
                         .access_key_id = c->access_key_id,
                         .secret_access_key = c->secret_access_key,
                         .session_token = c->session_token,
                         .ca_file = c->ca_file};
    cloudwatch_sink *s = calloc(1, sizeof *s);
    if (!s)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "log: out of memory");
    (void)snprintf(s->sink.label, sizeof s->sink.label, "CloudWatch '%.60s/%.60s'", c->group,
                   c->stream);
    s->sink.base.write = write_line;
    s->sink.finish = finish;
    s->sink.destroy = destroy;
    s->flush_ns = c->flush_ms * 1000000;
    s->end_ns = UINT64_MAX;
    s->call_deadline_ns = UINT64_MAX;
    s->group = strdup(c->group);
    s->stream = strdup(c->stream);
    s->events = calloc(BATCH_EVENTS, sizeof *s->events);
    s->queue = krt_log_queue_create((size_t)c->buffer_bytes);
    kaena_status st = s->group && s->stream && s->events && s->queue
                          ? krt_aws_open(&o, &s->aws, err)
                          : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    if (st == KAENA_OK && pthread_create(&s->thread, NULL, work, s) != 0)
        st = KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no thread");
    if (st != KAENA_OK) {
        st = kaena_err_wrap(err, st, "log to %s", s->sink.label);
        destroy(&s->sink);
        return st;
    }
    *out = &s->sink;
    return KAENA_OK;
}
