/* The walk over a plan that proves it sound, between plan.c (device and host steps) and plan_flow.c
 * (steps with bodies). */
#ifndef PLAN_CHECK_H
#define PLAN_CHECK_H

#include "neff_file.h"

/* Of a value, at the point where the walk stands. */
enum {
    PLAN_UNMADE,
    PLAN_VISIBLE, /* an input, or made by a step that has surely run */
    PLAN_GONE,    /* made in a body that has ended */
};

typedef struct plan_check {
    const neff_file *f;
    uint8_t *made;   /* [n_values] */
    uint32_t *trail; /* [n_values]: what became visible, in that order */
    size_t n_trail;
    bool *body_used;       /* [n_bodies] */
    int64_t body;          /* whose steps are being checked; -1: the plan's own */
    uint32_t depth;        /* of bodies around them */
    uint64_t instructions; /* of all device steps so far */
    kaena_err *err;
} plan_check;

/* The value may be read here. */
kaena_status neff_plan_use(const plan_check *c, uint32_t value) KAENA_CHECKED;
/* The value is written here, for the first time. */
kaena_status neff_plan_make(plan_check *c, uint32_t value) KAENA_CHECKED;
kaena_status neff_plan_steps(plan_check *c, const Kaena__V1__NeffPlan *plan) KAENA_CHECKED;

kaena_status neff_plan_branch(plan_check *c, const Kaena__V1__NeffIfStep *s) KAENA_CHECKED;
kaena_status neff_plan_loop(plan_check *c, const Kaena__V1__NeffLoopStep *s) KAENA_CHECKED;
kaena_status neff_plan_select(plan_check *c, const Kaena__V1__NeffSelectStep *s) KAENA_CHECKED;
/* With a dynamic batch: these values, standing for the model's inputs and outputs, were compiled
 * for one size of it. */
kaena_status neff_plan_batch(const plan_check *c, const uint32_t *inputs, size_t n_inputs,
                             const uint32_t *outputs, size_t n_outputs) KAENA_CHECKED;

#endif
