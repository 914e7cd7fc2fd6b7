/* What the cases of runtime/device have in common: systems, models, requests whose end can be
 * waited for. Everything aborts on failure. */
#ifndef DEVKIT_H
#define DEVKIT_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "dev.h"
#include "kneff.h"

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                  \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#define WIDTH 64
#define F32(at) at ":f32[1,1,1,64]<0,0,0,4>"

extern const int64_t dims[2]; /* {1, WIDTH} */

typedef struct job {
    dev_request request;
    const void *in[2];
    void *out[2];
    float x[WIDTH], y[WIDTH];
    kaena_status status;
    kaena_err err;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
} job;

/* x[i] = start + i */
void job_init(job *j, float start);
kaena_status job_wait(job *j);
void submit(dev_model *m, job *j);

dev_system *make_system(uint32_t chips, uint32_t threads);
/* Finishes |k|. */
dev_model *load(dev_system *sys, kneff *k, const char *name);

/* y = x + weights (weights[i] = i), on one TPB. */
void adder(kneff *k, uint32_t contexts);
void check_added(const job *j, float start);

#endif
