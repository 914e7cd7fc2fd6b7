/* Host steps of a plan: evaluates a graph for one request.
 *
 * A step's results and temporaries live in an arena with the quota that the NEFF names; it is the
 * request's and goes with it. */
#ifndef KAENA_HOST_H
#define KAENA_HOST_H

#include <stdatomic.h>

#include "graph.h"
#include "neff.h"

/* Evaluates |graph|. |in| and |out| are in the graph's order; |out| has what is declared of each
 * result (dynamic: any shape), data in |arena|. The floating-point environment is the default one
 * while it runs. |stop| may be NULL.
 *
 * RESOURCE_EXHAUSTED: the arena's quota; CANCELLED: |stop| became true; DATA_LOSS: a result is not
 * of the declared type or shape; others as operators report them. */
kaena_status host_run(const kgr_graph *graph, const kop_tensor *in, const neff_tensor *declared,
                      kop_tensor *out, kaena_arena *arena, const atomic_bool *stop,
                      kaena_err *err) KAENA_CHECKED;

#endif
