/* Small NEFFs for tests: programs as assembler text, values and steps one call each. */
#ifndef KNEFF_H
#define KNEFF_H

#include "neff.h"

#define KNEFF_MAX 40
#define KNEFF_BODIES 12

/* What neff_write takes, and what it is made of; |meta| may be changed before writing. */
typedef struct kneff {
    kaena_arena arena;
    Kaena__V1__NeffMeta meta;
    Kaena__V1__NeffPlan plan;
    Kaena__V1__NeffValue *values[KNEFF_MAX];
    uint32_t inputs[KNEFF_MAX], outputs[KNEFF_MAX];
    Kaena__V1__NeffStep *steps[KNEFF_MAX];
    Kaena__V1__NeffPlan bodies[KNEFF_BODIES], *body_list[KNEFF_BODIES];
    Kaena__V1__NeffStep *body_steps[KNEFF_BODIES][KNEFF_MAX];
    Kaena__V1__NeffPlan *open[KNEFF_BODIES + 1]; /* the plan and the bodies being filled */
    uint32_t depth;
    kisa_program programs[KISA_MAX_TPBS];
    const kgr_graph *graphs[KNEFF_MAX];
    struct neff_piece weights;
    neff_content content;
} kneff;

/* |text| has a program per TPB. Fails the test when it does not assemble. */
void kneff_init(kneff *k, uint32_t n_tpbs, const char *const *text);
void kneff_fini(kneff *k);
/* Returns the value's index. */
uint32_t kneff_value(kneff *k, const char *name, kaena_dtype dtype, int rank, const int64_t *dims);
void kneff_input(kneff *k, uint32_t value);
void kneff_output(kneff *k, uint32_t value);
/* A device step; |entry| in every program. |written| is a bit per io. */
void kneff_device(kneff *k, uint32_t entry, uint32_t n_io, const uint32_t *io, uint32_t written);
/* A host step with a graph of its own, given in text form. */
void kneff_host(kneff *k, const char *graph, uint32_t n_in, const uint32_t *in, uint32_t n_out,
                const uint32_t *out);
/* Opens a body: steps go there until it is closed. Returns its number. */
uint32_t kneff_body(kneff *k);
void kneff_close(kneff *k);
/* A choice between two closed bodies. */
Kaena__V1__NeffIfStep *kneff_if(kneff *k, uint32_t condition, uint32_t then_body,
                                uint32_t else_body, uint32_t n, const uint32_t *then_results,
                                const uint32_t *else_results, const uint32_t *outputs);
/* A loop over a closed body; the caller sets the rest. */
Kaena__V1__NeffLoopStep *kneff_loop(kneff *k, uint32_t body);
void kneff_carry(kneff *k, Kaena__V1__NeffLoopStep *s, uint32_t initial, uint32_t in, uint32_t next,
                 uint32_t final);
void kneff_scan(kneff *k, Kaena__V1__NeffLoopStep *s, uint32_t element, uint32_t output);
/* The choice of a case, and its cases, which take closed bodies. */
Kaena__V1__NeffSelectStep *kneff_select(kneff *k, uint32_t n, const uint32_t *outputs);
void kneff_case(kneff *k, Kaena__V1__NeffSelectStep *s, uint32_t body, const uint32_t *inputs,
                const uint32_t *results);
/* Makes a value one of unknown shape; |any_rank|: not even the rank. */
void kneff_dynamic(kneff *k, uint32_t value, bool any_rank);
/* Borrowed until kneff_fini. */
void kneff_weights(kneff *k, const void *data, uint64_t size);

/* A descriptor of the written file, which has no name any more. */
int kneff_write_fd(kneff *k);
/* Written, opened, verified. */
neff_file *kneff_open(kneff *k);

#endif
