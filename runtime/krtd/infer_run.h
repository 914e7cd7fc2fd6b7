/* The scheduler at work: requests enter it, and what it starts runs.
 *
 * Models that are done in a moment run on the completion-queue thread, one request at a time:
 * handing over to a worker and back costs more than they do. What arrives while one runs elsewhere
 * (at first nobody knows how long it takes) waits until that thread comes by. All others run on the
 * device's workers, as many at a time as the model's replicas have contexts. */
#ifndef INFER_RUN_H
#define INFER_RUN_H

#include "infer_request.h"

/* |r| enters its model's queue, and perhaps runs at once; or is answered with a refusal. Takes the
 * answer's reference. Thread: the completion-queue thread. */
void krt_run_arrive(krt_inference *r);

/* Nobody wants the answer of |r| any more: it leaves the queue, or its execution is told to stop.
 * The caller holds a reference. Thread: any. */
void krt_run_cancel(krt_inference *r);

/* |m| is ready: how its executions are to be scheduled. */
void krt_run_open(krt_model *m);
/* |m| takes no more requests: what waits is answered with |err|, what runs goes on. Thread: any,
 * without locks. */
void krt_run_close(krt_model *m, const kaena_err *err);

#endif
