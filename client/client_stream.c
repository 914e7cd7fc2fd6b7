#include "client_stream.h"

#include <grpc/byte_buffer_reader.h>
#include <grpc/support/alloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client_fields.h"
#include "client_loop.h"
#include "kaena/v1/runtime.pb-c.h"

#define MS INT64_C(1000000)
#define HEAD_BYTES 64 /* more than the fields around a request take */

typedef struct stream stream;

/* A request's place on a stream: until the daemon has answered it, even when nobody wants the
 * answer any more. */
struct kaena_seat {
    stream *stream;
    uint64_t id;
    kaena_passenger *passenger; /* NULL: it has ended */
    grpc_byte_buffer *request;  /* until it is sent */
    bool queued, answered;
    kaena_seat *next_queued;
    kaena_seat *next, **at; /* of the stream's */
};

/* The stream to one daemon:
 *
 *     CLOSED --board--> OPEN --its end, a broken connection--> ENDING --last batch--> CLOSED */
struct stream {
    kaena_tag begun, sent, received, ended; /* batches */
    kaena_streams *all;
    size_t daemon;
    enum { CLOSED, OPEN, ENDING } state;
    bool refused; /* the daemon wants calls */
    unsigned batches;
    kaena_target target;
    kaena_exchange_state exchange;
    grpc_byte_buffer *sending;
    kaena_seat *queue, **queue_tail; /* to be sent */
    kaena_seat *seats;
    size_t seat_count;
    uint64_t next_id;
};

struct kaena_streams {
    kaena_client *client;
    stream *list; /* [endpoint_count] */
    bool stopped, told;
    atomic_bool recalls;
    int64_t look_ns; /* no passenger is late before that */
};

static void on_begun(kaena_tag *tag, bool ok);
static void on_sent(kaena_tag *tag, bool ok);
static void on_received(kaena_tag *tag, bool ok);
static void on_ended(kaena_tag *tag, bool ok);

kaena_streams *kaena_streams_create(kaena_client *client)
{
    kaena_streams *all = calloc(1, sizeof *all);
    stream *list = calloc(client->endpoint_count, sizeof *list);
    if (!all || !list) {
        free(all);
        free(list);
        return NULL;
    }
    *all = (kaena_streams){.client = client, .list = list, .look_ns = INT64_MAX};
    for (size_t i = 0; i < client->endpoint_count; i++)
        list[i] = (stream){.begun.run = on_begun,
                           .sent.run = on_sent,
                           .received.run = on_received,
                           .ended.run = on_ended,
                           .all = all,
                           .daemon = i};
    return all;
}

void kaena_streams_destroy(kaena_streams *all)
{
    if (!all)
        return;
    free(all->list);
    free(all);
}

/* ---- Seats ---- */

static void enqueue(kaena_seat *seat)
{
    stream *s = seat->stream;
    seat->queued = true;
    seat->next_queued = NULL;
    *s->queue_tail = seat;
    s->queue_tail = &seat->next_queued;
}

static kaena_seat *dequeue(stream *s)
{
    kaena_seat *seat = s->queue;
    if (!seat)
        return NULL;
    s->queue = seat->next_queued;
    if (!s->queue)
        s->queue_tail = &s->queue;
    seat->queued = false;
    return seat;
}

/* Frees it as soon as the queue has let go of it, too. */
static void leave(kaena_seat *seat)
{
    stream *s = seat->stream;
    seat->answered = true;
    if (seat->queued)
        return;
    *seat->at = seat->next;
    if (seat->next)
        seat->next->at = seat->at;
    s->seat_count--;
    if (seat->request)
        grpc_byte_buffer_destroy(seat->request);
    free(seat);
}

/* Its passenger, who goes; NULL: he has. */
static kaena_passenger *vacate(kaena_seat *seat)
{
    kaena_passenger *p = seat->passenger;
    seat->passenger = NULL;
    if (p)
        p->seat = NULL;
    return p;
}

/* ---- Messages ---- */

static size_t put_varint(uint8_t *to, uint64_t v)
{
    size_t n = 0;
    for (; v >= 128; v >>= 7)
        to[n++] = (uint8_t)(v | 128);
    to[n++] = (uint8_t)v;
    return n;
}

static size_t put_head(uint8_t *to, int field, int type, uint64_t v)
{
    to[0] = (uint8_t)(field << 3 | type);
    return 1 + put_varint(to + 1, v);
}

/* An InferStreamRequest: the request of |seat| with its id and the time that it has, or its
 * cancellation. */
static grpc_byte_buffer *make_message(kaena_seat *seat)
{
    uint8_t head[HEAD_BYTES];
    size_t n = put_head(head, STREAM_REQUEST_ID, WIRE_VARINT, seat->id);
    if (!seat->request) {
        n += put_head(head + n, STREAM_REQUEST_CANCEL, WIRE_VARINT, 1);
        grpc_slice all = grpc_slice_from_copied_buffer((const char *)head, n);
        grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&all, 1);
        grpc_slice_unref(all);
        return message;
    }
    int64_t left_ms = (seat->passenger->deadline_ns - kaena_now_ns()) / MS;
    uint64_t timeout_ms = left_ms < 1 ? 1 : left_ms < UINT32_MAX ? (uint64_t)left_ms : UINT32_MAX;
    n += put_head(head + n, STREAM_REQUEST_TIMEOUT, WIRE_VARINT, timeout_ms);
    n += put_head(head + n, STREAM_REQUEST_REQUEST, WIRE_BYTES,
                  grpc_byte_buffer_length(seat->request));
    /* Small: one slice of its own costs less than several. */
    size_t size = grpc_byte_buffer_length(seat->request);
    grpc_slice all = grpc_slice_malloc(n + size), part;
    uint8_t *to = GRPC_SLICE_START_PTR(all);
    memcpy(to, head, n);
    grpc_byte_buffer_reader reader;
    size_t at = grpc_byte_buffer_reader_init(&reader, seat->request) ? n : n + size;
    while (at < n + size && grpc_byte_buffer_reader_next(&reader, &part)) {
        memcpy(to + at, GRPC_SLICE_START_PTR(part), GRPC_SLICE_LENGTH(part));
        at += GRPC_SLICE_LENGTH(part);
        grpc_slice_unref(part);
    }
    grpc_byte_buffer_reader_destroy(&reader);
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&all, 1);
    grpc_slice_unref(all);
    return message;
}

/* What an InferStreamResponse says: [from, from + size) of it is its |field|. */
typedef struct said {
    uint64_t id;
    uint32_t field;
    size_t from, size;
} said;

static bool take_varint(const uint8_t *data, size_t size, size_t *at, uint64_t *out)
{
    *out = 0;
    for (unsigned shift = 0; *at < size && shift < 64; shift += 7) {
        uint8_t byte = data[(*at)++];
        *out |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return true;
    }
    return false;
}

static bool parse_response(const uint8_t *data, size_t size, said *out)
{
    *out = (said){0};
    for (size_t at = 0; at < size;) {
        uint64_t key, value;
        if (!take_varint(data, size, &at, &key))
            return false;
        unsigned type = key & 7;
        if (type == WIRE_FIXED64 || type == WIRE_FIXED32)
            value = type == WIRE_FIXED64 ? 8 : 4;
        else if (!take_varint(data, size, &at, &value) || type > WIRE_BYTES)
            return false;
        if (type == WIRE_VARINT) {
            out->id = key >> 3 == STREAM_RESPONSE_ID ? value : out->id;
            continue;
        }
        if (value > size - at)
            return false;
        if (type == WIRE_BYTES &&
            (key >> 3 == STREAM_RESPONSE_RESPONSE || key >> 3 == STREAM_RESPONSE_ERROR))
            *out = (said){out->id, (uint32_t)(key >> 3), at, (size_t)value};
        at += (size_t)value;
    }
    return out->field != 0;
}

/* ---- The stream ---- */

static bool begin_batch(stream *s, const grpc_op *ops, size_t count, kaena_tag *tag)
{
    bool good = grpc_call_start_batch(s->exchange.call, ops, count, tag, NULL) == GRPC_CALL_OK;
    s->batches += good;
    return good;
}

static void receive(stream *s)
{
    const grpc_op op = {.op = GRPC_OP_RECV_MESSAGE,
                        .data.recv_message.recv_message = &s->exchange.answer};
    (void)begin_batch(s, &op, 1, &s->received);
}

/* Nobody boards any more; what is on it ends with its last batch. */
static void give_up(stream *s)
{
    if (s->state != OPEN)
        return;
    s->state = ENDING;
    (void)grpc_call_cancel(s->exchange.call, NULL);
}

static void send_next(stream *s)
{
    kaena_seat *seat;
    while (s->state == OPEN && !s->sending && (seat = dequeue(s))) {
        if (seat->answered || (seat->request && !seat->passenger)) {
            leave(seat); /* the daemon need not hear of it */
            continue;
        }
        s->sending = make_message(seat);
        if (seat->request)
            grpc_byte_buffer_destroy(seat->request);
        seat->request = NULL;
        const grpc_op op = {.op = GRPC_OP_SEND_MESSAGE,
                            .data.send_message.send_message = s->sending};
        if (begin_batch(s, &op, 1, &s->sent))
            return;
        grpc_byte_buffer_destroy(s->sending);
        s->sending = NULL;
        give_up(s);
    }
}

static void tell(kaena_streams *all, const stream *s, const kaena_err *err)
{
    char text[1024];
    if (all->told || !all->client->log)
        return;
    all->told = true;
    (void)snprintf(text, sizeof text, "requests to %s travel in calls of their own: %s",
                   all->client->endpoints[s->daemon].address, err->what);
    all->client->log(all->client->log_user, text);
}

/* How requests end that the daemon has not answered when the stream is over. */
static kaena_outcome fate(stream *s, kaena_status *status, kaena_err *err)
{
    kaena_outcome outcome = KAENA_OUTCOME_FINAL;
    kaena_err_init(err);
    *status = kaena_exchange_finish(&s->exchange, &outcome, err);
    if (outcome == KAENA_OUTCOME_LOST || outcome == KAENA_OUTCOME_DRAINING || s->all->stopped)
        return outcome;
    /* Either happens again. */
    s->refused = true;
    tell(s->all, s, err);
    /* A daemon that has no streams, or no more, has accepted nothing. */
    if (*status == KAENA_UNIMPLEMENTED || outcome == KAENA_OUTCOME_REFUSED)
        return KAENA_OUTCOME_LATER;
    /* What else may end a stream (one message too large, for example) says nothing of the others on
     * it. */
    char text[256];
    (void)snprintf(text, sizeof text, "%.255s", err->what);
    *status =
        kaena_err_set(err, KAENA_UNAVAILABLE, "the stream to %s ended before the answer came (%s)",
                      s->all->client->endpoints[s->daemon].address, text);
    return KAENA_OUTCOME_LOST;
}

/* A batch has ended. With the last one the stream is over, and everything on it. */
static void settle(stream *s)
{
    if (--s->batches)
        return;
    kaena_err err;
    kaena_status status;
    kaena_outcome outcome = fate(s, &status, &err);
    char id[sizeof s->exchange.id];
    memcpy(id, s->exchange.id, sizeof id);
    kaena_seat *list = s->seats;
    s->seats = NULL;
    s->seat_count = 0;
    s->queue = NULL;
    s->state = CLOSED;
    kaena_exchange_end(&s->exchange);
    kaena_target_close(&s->target);
    while (list) {
        kaena_seat *seat = list;
        list = seat->next;
        /* Nothing of it has left us. */
        bool unsent = seat->request != NULL;
        kaena_passenger *p = vacate(seat);
        (void)snprintf(err.request_id, sizeof err.request_id, "%s-%llu", id,
                       (unsigned long long)seat->id);
        if (seat->request)
            grpc_byte_buffer_destroy(seat->request);
        free(seat);
        if (!p)
            continue;
        p->refused = outcome == KAENA_OUTCOME_LATER;
        p->over(p, status, unsent && outcome == KAENA_OUTCOME_LOST ? KAENA_OUTCOME_ABSENT : outcome,
                NULL, &err);
    }
}

static void on_begun(kaena_tag *tag, bool ok)
{
    (void)ok; /* the status says more, as in the following */
    settle((stream *)(void *)((char *)tag - offsetof(stream, begun)));
}

static void on_ended(kaena_tag *tag, bool ok)
{
    stream *s = (stream *)(void *)((char *)tag - offsetof(stream, ended));
    (void)ok;
    if (s->state == OPEN)
        s->state = ENDING;
    settle(s);
}

static void on_sent(kaena_tag *tag, bool ok)
{
    stream *s = (stream *)(void *)((char *)tag - offsetof(stream, sent));
    (void)ok;
    grpc_byte_buffer_destroy(s->sending);
    s->sending = NULL;
    send_next(s);
    settle(s);
}

/* The daemon's error, as a call would have brought it. */
static void take_error(const uint8_t *data, size_t size, kaena_passenger *p)
{
    kaena_err err;
    kaena_outcome outcome = KAENA_OUTCOME_FINAL;
    kaena_status status;
    Kaena__V1__InferError *e = kaena__v1__infer_error__unpack(NULL, size, data);
    if (e) {
        bool known = e->code > KAENA_OK && e->code <= KAENA_UNAUTHENTICATED;
        status = kaena_err_set(&err, known ? (kaena_status)e->code : KAENA_UNKNOWN,
                               "the daemon failed with code %d", (int)e->code);
        kaena_detail_read(e->detail, &err);
        outcome = kaena_outcome_of(&err);
        (void)snprintf(err.request_id, sizeof err.request_id, "%s", e->request_id);
        kaena__v1__infer_error__free_unpacked(e, NULL);
    } else {
        status = KAENA_FAIL(&err, RESOURCE_EXHAUSTED, "out of memory");
    }
    p->over(p, status, outcome, NULL, &err);
}

static void take_answer(stream *s, grpc_slice all)
{
    said what;
    const uint8_t *data = GRPC_SLICE_START_PTR(all);
    kaena_seat *seat = s->seats;
    if (!parse_response(data, GRPC_SLICE_LENGTH(all), &what)) {
        give_up(s);
        return;
    }
    while (seat && seat->id != what.id)
        seat = seat->next;
    if (!seat || seat->answered || seat->request)
        return;
    kaena_passenger *p = vacate(seat);
    leave(seat);
    if (!p)
        return;
    if (what.field == STREAM_RESPONSE_ERROR) {
        take_error(data + what.from, what.size, p);
        return;
    }
    grpc_slice part = grpc_slice_sub(all, what.from, what.from + what.size);
    grpc_byte_buffer *answer = grpc_raw_byte_buffer_create(&part, 1);
    grpc_slice_unref(part);
    p->over(p, KAENA_OK, KAENA_OUTCOME_FINAL, answer, NULL);
    grpc_byte_buffer_destroy(answer);
}

static void on_received(kaena_tag *tag, bool ok)
{
    stream *s = (stream *)(void *)((char *)tag - offsetof(stream, received));
    grpc_byte_buffer_reader reader;
    grpc_byte_buffer *message = s->exchange.answer;
    s->exchange.answer = NULL;
    if (ok && message && grpc_byte_buffer_reader_init(&reader, message)) {
        grpc_slice all = grpc_byte_buffer_reader_readall(&reader);
        grpc_byte_buffer_reader_destroy(&reader);
        if (s->state == OPEN)
            receive(s);
        take_answer(s, all);
        grpc_slice_unref(all);
    }
    if (message)
        grpc_byte_buffer_destroy(message);
    settle(s);
}

/* Whether the stream has begun. Without one the request's call finds out what the daemon has. */
static bool open_stream(stream *s, int64_t deadline_ns)
{
    kaena_outcome outcome;
    kaena_client *client = s->all->client;
    if (kaena_target_open(&s->target, client, s->daemon, deadline_ns, NULL, &outcome, NULL) !=
        KAENA_OK)
        return false;
    s->target.deadline_ns = INT64_MAX;
    if (kaena_exchange_begin(&s->exchange, &s->target, "InferStream", kaena_loop_queue(client),
                             NULL) != KAENA_OK) {
        kaena_target_close(&s->target);
        return false;
    }
    kaena_exchange_state *x = &s->exchange;
    const grpc_op begin[] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA,
         .data.send_initial_metadata = {.count = x->sent_count, .metadata = x->sent}},
        {.op = GRPC_OP_RECV_INITIAL_METADATA,
         .data.recv_initial_metadata.recv_initial_metadata = &x->initial},
    };
    const grpc_op end = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
                         .data.recv_status_on_client = {.trailing_metadata = &x->trailing,
                                                        .status = &x->code,
                                                        .status_details = &x->message}};
    s->state = OPEN;
    s->queue = NULL;
    s->queue_tail = &s->queue;
    (void)begin_batch(s, begin, 2, &s->begun);
    (void)begin_batch(s, &end, 1, &s->ended);
    receive(s);
    return true;
}

bool kaena_stream_has_room(kaena_streams *all, size_t daemon, int64_t deadline_ns,
                           kaena_target *target)
{
    stream *s = &all->list[daemon];
    if (s->refused || all->stopped || s->state == ENDING || s->seat_count >= KAENA_STREAM_SEATS)
        return false;
    if (s->state == OPEN && !kaena_conn_alive(s->target.conn)) {
        give_up(s); /* what has not been sent is not to be lost with it */
        return false;
    }
    if (s->state == CLOSED && !open_stream(s, deadline_ns))
        return false;
    *target = (kaena_target){.client = all->client, .daemon = daemon, .deadline_ns = deadline_ns};
    return true;
}

kaena_status kaena_stream_board(kaena_streams *all, size_t daemon, kaena_passenger *p,
                                grpc_byte_buffer *request, kaena_err *err)
{
    stream *s = &all->list[daemon];
    kaena_seat *seat = calloc(1, sizeof *seat);
    if (!seat) {
        grpc_byte_buffer_destroy(request);
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    }
    *seat = (kaena_seat){.stream = s,
                         .id = ++s->next_id,
                         .passenger = p,
                         .request = request,
                         .next = s->seats,
                         .at = &s->seats};
    if (seat->next)
        seat->next->at = &seat->next;
    s->seats = seat;
    s->seat_count++;
    p->seat = seat;
    if (p->deadline_ns < all->look_ns)
        all->look_ns = p->deadline_ns;
    enqueue(seat);
    send_next(s);
    return KAENA_OK;
}

/* ---- Ends before the answer ---- */

void kaena_stream_recall(kaena_streams *all, kaena_passenger *p)
{
    atomic_store(&p->recalled, true);
    atomic_store(&all->recalls, true);
}

/* |p| of |seat| ends now; the daemon's answer, when it comes, is for nobody. */
static void end_early(stream *s, kaena_seat *seat, bool late)
{
    const char *address = s->all->client->endpoints[s->daemon].address;
    kaena_err err;
    kaena_passenger *p = vacate(seat);
    kaena_status status = late ? KAENA_FAIL(&err, DEADLINE_EXCEEDED,
                                            "the daemon at %s did not answer in time", address)
                               : KAENA_FAIL(&err, CANCELLED, "the request was cancelled");
    (void)snprintf(err.request_id, sizeof err.request_id, "%s-%llu", s->exchange.id,
                   (unsigned long long)seat->id);
    if (!seat->queued) { /* it was sent */
        enqueue(seat);   /* the daemon is to be told */
        send_next(s);
    }
    p->over(p, status, KAENA_OUTCOME_FINAL, NULL, &err);
}

/* A seat whose passenger is recalled or late, or NULL. */
static kaena_seat *find_early(const stream *s, int64_t now_ns, int64_t *next_ns)
{
    for (kaena_seat *seat = s->seats; seat; seat = seat->next) {
        const kaena_passenger *p = seat->passenger;
        if (!p)
            continue;
        if (atomic_load(&p->recalled) || p->deadline_ns <= now_ns)
            return seat;
        *next_ns = p->deadline_ns < *next_ns ? p->deadline_ns : *next_ns;
    }
    return NULL;
}

void kaena_streams_turn(kaena_streams *all)
{
    int64_t now_ns = kaena_now_ns();
    if (!atomic_exchange(&all->recalls, false) && now_ns < all->look_ns)
        return;
    all->look_ns = INT64_MAX;
    int64_t next_ns = INT64_MAX;
    for (size_t i = 0; i < all->client->endpoint_count; i++) {
        stream *s = &all->list[i];
        for (kaena_seat *seat; (seat = find_early(s, now_ns, &next_ns));)
            end_early(s, seat, !atomic_load(&seat->passenger->recalled));
    }
    /* Who boarded meanwhile has lowered |look_ns| himself. */
    all->look_ns = next_ns < all->look_ns ? next_ns : all->look_ns;
}

int64_t kaena_streams_next(const kaena_streams *all)
{
    return all->look_ns;
}

void kaena_streams_stop(kaena_streams *all)
{
    all->stopped = true;
    for (size_t i = 0; i < all->client->endpoint_count; i++)
        give_up(&all->list[i]);
}
