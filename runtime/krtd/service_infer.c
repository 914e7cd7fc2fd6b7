/* Runtime.Infer. */
#include "infer_run.h"
#include "krt_log.h"

static void reply(krt_inference *r, grpc_byte_buffer *answer)
{
    if (r->not_finite)
        krpc_reply_with(r->user, answer, r->not_finite);
    else
        krpc_reply(r->user, answer);
}

static void fail(krt_inference *r, const kaena_err *err)
{
    krpc_call *call = r->user;
    krt_log_failure(krpc_call_request_id(call), r->session, r->m->name, err);
    krpc_fail(call, err);
}

static const krt_asker asker = {reply, fail};

static void on_close(void *arg, bool cancelled)
{
    krt_inference *r = arg;
    if (cancelled)
        krt_run_cancel(r);
    krt_inference_unref(r);
}

static kaena_status create(krt_daemon *d, krpc_call *call, krt_inference **out, kaena_err *err)
{
    krt_caller caller;
    krt_arrival arrival;
    KAENA_TRY(krt_caller_enter(d, call, &caller, err));
    krt_asking asking = {.daemon = d,
                         .call = call,
                         .client = caller.owner,
                         .session = caller.owner,
                         .deadline_ns = krpc_call_deadline_ns(call),
                         .asker = &asker,
                         .user = call};
    kaena_status st = krt_arrival_init(&arrival, krpc_call_take_request(call), err);
    if (st == KAENA_OK) {
        st = krt_inference_create(&asking, &arrival, NULL, out, err);
        if (st != KAENA_OK)
            krt_arrival_fini(&arrival);
    }
    krt_caller_leave(&caller);
    return st;
}

void krt_infer(krpc_call *call, void *user)
{
    krt_daemon *d = user;
    kaena_err err;
    krt_inference *r;
    krpc_call_be_terse(call);
    if (!krt_accept(d, &err)) {
        krt_fail(call, NULL, &err);
        return;
    }
    if (create(d, call, &r, &err) != KAENA_OK) {
        krpc_call_on_close(call, krt_release_on_close, d);
        krt_fail(call, NULL, &err);
        return;
    }
    krt_inference_ref(r); /* on_close's */
    krpc_call_on_close(call, on_close, r);
    krt_run_arrive(r);
}
