/* Runtime.Infer. */
#include "infer_run.h"

static void reply(krt_inference *r, grpc_byte_buffer *answer)
{
    krpc_reply(r->user, answer);
}

static void fail(krt_inference *r, const kaena_err *err)
{
    krpc_fail(r->user, err);
}

static const krt_asker asker = {reply, fail};

static void on_close(void *arg, bool cancelled)
{
    krt_inference *r = arg;
    if (cancelled)
        krt_run_cancel(r);
    krt_inference_unref(r);
}

void krt_infer(krpc_call *call, void *user)
{
    krt_daemon *d = user;
    kaena_err err;
    if (!krt_accept(d, &err)) {
        krpc_fail(call, &err);
        return;
    }
    krt_arrival arrival;
    krt_inference *r;
    kaena_status st = krt_arrival_init(&arrival, krpc_call_take_request(call), &err);
    if (st == KAENA_OK) {
        st = krt_inference_create(d, &arrival, krpc_call_deadline_ns(call), &asker, call, &r, &err);
        if (st != KAENA_OK)
            krt_arrival_fini(&arrival);
    }
    if (st != KAENA_OK) {
        krpc_call_on_close(call, krt_release_on_close, d);
        krpc_fail(call, &err);
        return;
    }
    krt_inference_ref(r); /* on_close's */
    krpc_call_on_close(call, on_close, r);
    krt_run_arrive(r);
}
