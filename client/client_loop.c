#include "client_loop.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "client_infer.h"
#include "client_stream.h"

#define MS INT64_C(1000000)
/* How long gRPC may keep pieces of the caller's tensors before the connection is cut. */
#define PIN_GRACE_NS (50 * MS)
#define PIN_LOOK_NS (1 * MS)

/* One attempt under way: in a call of its own, or with others on a stream. */
typedef struct flight {
    kaena_tag tag;
    kaena_loop *loop;
    bool streamed;
    kaena_passenger passenger;     /* when |streamed|, */
    kaena_exchange_state exchange; /* otherwise */
    kaena_target target;
    kaena_request *request;
    kaena_inference *inference;
    kaena_wire_pin pin;
    grpc_byte_buffer *sent;
    /* When it has landed: */
    kaena_status status;
    kaena_outcome outcome;
    kaena_err err;
    int64_t cut_ns;
    struct flight *next;
} flight;

struct kaena_loop {
    kaena_tag bell_rang;
    kaena_client *client;
    kaena_async *async;
    kaena_streams *streams;
    pthread_t thread;
    grpc_completion_queue *queue;
    /* A batch without operations, on a call that goes nowhere, completes at once: it wakes the
     * thread. */
    grpc_channel *nowhere;
    grpc_call *bell;
    atomic_bool rung, stop;
    flight *lingering; /* landed, but gRPC holds the caller's memory; the thread's */
};

/* ---- Flights ---- */

/* The memory is the caller's again: the request goes on. */
static void arrive(flight *f)
{
    kaena_async_ended(f->request, f->status, f->outcome, &f->err);
    kaena_target_close(&f->target);
    free(f);
}

static void land(kaena_tag *tag, bool ok)
{
    flight *f = (flight *)tag;
    kaena_loop *loop = f->loop;
    (void)ok; /* the status says more */
    kaena_async_landed(f->request);
    kaena_err_init(&f->err);
    grpc_byte_buffer_destroy(f->sent);
    f->status = kaena_exchange_finish(&f->exchange, &f->outcome, &f->err);
    if (f->status == KAENA_OK) {
        f->outcome = KAENA_OUTCOME_FINAL;
        f->status = kaena_inference_decode(f->inference, &f->target, f->exchange.answer, &f->err);
    }
    kaena_inference_over(f->inference, &f->target, f->status, &f->outcome, &f->err);
    kaena_exchange_end(&f->exchange);
    if (atomic_load(&f->pin.slices) == 0) {
        arrive(f);
        return;
    }
    f->cut_ns = kaena_now_ns() + PIN_GRACE_NS;
    f->next = loop->lingering;
    loop->lingering = f;
}

static void step_off(kaena_passenger *passenger, kaena_status status, kaena_outcome outcome,
                     grpc_byte_buffer *answer, const kaena_err *err)
{
    flight *f = (flight *)(void *)((char *)passenger - offsetof(flight, passenger));
    kaena_request *request = f->request;
    kaena_async_landed(request);
    if (passenger->refused) {
        free(f);
        kaena_async_again(request);
        return;
    }
    kaena_err_init(&f->err);
    if (err)
        f->err = *err;
    f->status = status;
    f->outcome = outcome;
    if (status == KAENA_OK)
        f->status = kaena_inference_decode(f->inference, &f->target, answer, &f->err);
    kaena_inference_over(f->inference, &f->target, f->status, &f->outcome, &f->err);
    arrive(f);
}

/* The flight goes on the daemon's stream, which has room. */
static kaena_status board(flight *f, kaena_request *request, kaena_err *err)
{
    kaena_outcome outcome = KAENA_OUTCOME_FINAL;
    f->streamed = true;
    f->passenger.over = step_off;
    f->passenger.deadline_ns = request->deadline_ns;
    request->flight = f;
    kaena_status status = kaena_inference_encode(f->inference, &f->target, NULL, &f->sent, err);
    if (status == KAENA_OK)
        status =
            kaena_stream_board(f->loop->streams, f->target.daemon, &f->passenger, f->sent, err);
    if (status != KAENA_OK) {
        kaena_inference_over(f->inference, &f->target, status, &outcome, err);
        free(f);
    }
    return status;
}

static kaena_status take_off(void *self, kaena_request *request, size_t daemon,
                             kaena_outcome *outcome, kaena_err *err)
{
    kaena_loop *loop = self;
    flight *f = calloc(1, sizeof *f);
    *outcome = KAENA_OUTCOME_FINAL;
    if (!f)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    f->tag.run = land;
    f->loop = loop;
    f->request = request;
    f->inference = request->load;
    if (loop->client->streams && kaena_inference_is_small(f->inference, KAENA_STREAM_BYTES) &&
        kaena_stream_has_room(loop->streams, daemon, request->deadline_ns, &f->target))
        return board(f, request, err);
    kaena_status status = kaena_target_open(&f->target, loop->client, daemon, request->deadline_ns,
                                            NULL, outcome, err);
    if (status == KAENA_OK) {
        status = kaena_inference_encode(f->inference, &f->target, &f->pin, &f->sent, err);
        if (status == KAENA_OK)
            status = kaena_exchange_begin(&f->exchange, &f->target, "Infer", loop->queue, err);
        if (status != KAENA_OK) {
            kaena_inference_over(f->inference, &f->target, status, outcome, err);
            if (f->sent)
                grpc_byte_buffer_destroy(f->sent);
        }
    }
    if (status != KAENA_OK) {
        kaena_target_close(&f->target);
        free(f);
        return status;
    }
    request->flight = f;
    grpc_op ops[KAENA_EXCHANGE_OPS];
    kaena_exchange_ops(&f->exchange, f->sent, ops);
    (void)grpc_call_start_batch(f->exchange.call, ops, KAENA_EXCHANGE_OPS, &f->tag, NULL);
    return KAENA_OK;
}

static void wake(void *self)
{
    kaena_loop *loop = self;
    if (!atomic_exchange(&loop->rung, true))
        (void)grpc_call_start_batch(loop->bell, NULL, 0, &loop->bell_rang, NULL);
}

static void recall(void *self, kaena_request *request)
{
    kaena_loop *loop = self;
    flight *f = request->flight;
    if (f->streamed) {
        kaena_stream_recall(loop->streams, &f->passenger);
        wake(loop);
    } else {
        (void)grpc_call_cancel(f->exchange.call, NULL);
    }
}

static void unload(void *self, kaena_request *request)
{
    (void)self;
    kaena_inference_fini(request->load);
    free(request->load);
    request->load = NULL;
}

/* Looks whether gRPC has let go of what landed flights sent; cuts the connection of a daemon that
 * does not take it. */
static void look_at_lingering(kaena_loop *loop)
{
    flight *list = loop->lingering;
    loop->lingering = NULL;
    while (list) {
        flight *f = list;
        list = f->next;
        if (atomic_load(&f->pin.slices) == 0) {
            arrive(f);
            continue;
        }
        if (kaena_now_ns() > f->cut_ns)
            kaena_conn_cut(f->target.conn);
        f->next = loop->lingering;
        loop->lingering = f;
    }
}

/* ---- The thread ---- */

static void bell_rang(kaena_tag *tag, bool ok)
{
    kaena_loop *loop = (kaena_loop *)tag;
    (void)ok;
    atomic_store(&loop->rung, false);
    if (!atomic_load(&loop->stop))
        return;
    kaena_streams_stop(loop->streams);
    grpc_completion_queue_shutdown(loop->queue);
}

static void *loop_main(void *user)
{
    kaena_loop *loop = user;
    for (;;) {
        /* First what may leave requests to be moved on. */
        look_at_lingering(loop);
        kaena_streams_turn(loop->streams);
        int64_t next_ns = kaena_async_turn(loop->async);
        int64_t look_ns = kaena_streams_next(loop->streams);
        next_ns = look_ns < next_ns ? look_ns : next_ns;
        look_ns = kaena_now_ns() + PIN_LOOK_NS;
        if (loop->lingering && look_ns < next_ns)
            next_ns = look_ns;
        gpr_timespec until =
            next_ns == INT64_MAX ? gpr_inf_future(GPR_CLOCK_REALTIME) : kaena_gpr_time(next_ns);
        grpc_event event = grpc_completion_queue_next(loop->queue, until, NULL);
        if (event.type == GRPC_QUEUE_SHUTDOWN)
            return NULL;
        if (event.type != GRPC_OP_COMPLETE)
            continue;
        kaena_tag *tag = event.tag;
        tag->run(tag, event.success != 0);
    }
}

static const kaena_carrier carrier = {take_off, recall, unload, wake};

static void free_loop(kaena_loop *loop)
{
    if (loop->bell)
        grpc_call_unref(loop->bell);
    if (loop->queue)
        grpc_completion_queue_destroy(loop->queue);
    if (loop->nowhere)
        grpc_channel_destroy(loop->nowhere);
    kaena_async_unref(loop->async);
    kaena_streams_destroy(loop->streams);
    free(loop);
}

static kaena_status create(kaena_client *client, kaena_loop **out, kaena_err *err)
{
    kaena_loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    loop->bell_rang.run = bell_rang;
    loop->client = client;
    loop->async = kaena_async_create(&client->router, &carrier, loop);
    loop->streams = kaena_streams_create(client);
    if (!loop->async || !loop->streams) {
        free_loop(loop);
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    }
    loop->queue = grpc_completion_queue_create_for_next(NULL);
    loop->nowhere = grpc_lame_client_channel_create("nowhere", GRPC_STATUS_UNAVAILABLE, "nowhere");
    loop->bell = grpc_channel_create_call(loop->nowhere, NULL, GRPC_PROPAGATE_DEFAULTS, loop->queue,
                                          grpc_slice_from_static_string("/bell"), NULL,
                                          gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int e = pthread_create(&loop->thread, NULL, loop_main, loop);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (e) {
        grpc_completion_queue_shutdown(loop->queue);
        free_loop(loop);
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no thread for the client: %s", strerror(e));
    }
    *out = loop;
    return KAENA_OK;
}

kaena_status kaena_loop_start(kaena_client *client, kaena_err *err)
{
    kaena_status status = KAENA_OK;
    kaena_loop *loop = NULL;
    pthread_mutex_lock(&client->lock);
    if (!client->loop)
        status = create(client, &loop, err);
    if (loop)
        client->loop = loop;
    pthread_mutex_unlock(&client->lock);
    return status;
}

kaena_async *kaena_loop_async(const kaena_client *client)
{
    return client->loop->async;
}

grpc_completion_queue *kaena_loop_queue(const kaena_client *client)
{
    return client->loop->queue;
}

bool kaena_loop_is_here(const kaena_client *client)
{
    return pthread_equal(pthread_self(), client->loop->thread) != 0;
}

void kaena_loop_stop(kaena_client *client)
{
    kaena_loop *loop = client->loop;
    if (!loop)
        return;
    atomic_store(&loop->stop, true);
    wake(loop);
    pthread_join(loop->thread, NULL);
    free_loop(loop);
    client->loop = NULL;
}
