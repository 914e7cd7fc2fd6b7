/* Queues of the models, and running what they hand out.
 *
 * Models that are done in a moment run on the completion-queue thread, one request at a time:
 * handing over to a worker and back costs more than they do. What arrives while one runs elsewhere
 * (at first nobody knows how long it takes) waits until that thread comes by. All others run on the
 * device's workers, as many at a time as the model has contexts. */
#ifndef INFER_RUN_H
#define INFER_RUN_H

#include "infer_request.h"

/* |r| enters its model's queue, and perhaps runs at once; or is answered with a refusal. Takes the
 * answer's reference. Thread: the completion-queue thread. */
void krt_run_arrive(krt_inference *r);

/* Nobody wants the answer of |r| any more: it leaves the queue, or its execution is told to stop.
 * The caller holds a reference. Thread: any. */
void krt_run_cancel(krt_inference *r);

#endif
