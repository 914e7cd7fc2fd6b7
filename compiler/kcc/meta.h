/* META under construction: values and layers grow, plans name values by their index. Private to
 * this folder. */
#ifndef KCC_META_H
#define KCC_META_H

#include "compile.h"
#include "name_table.h"

typedef struct kcc_meta {
    kcc_compilation *c;
    kaena_arena *a;
    Kaena__V1__NeffMeta *meta;
    uint32_t cap_values, cap_layers, cap_host, cap_bodies;
    kcc_name_table names; /* of values */
    uint32_t **entry; /* per device step, in the order of the units: first instruction per TPB */
    kaena_err *err;
} kcc_meta;

/* The index of |v|, a value of |u|'s graph, which is added unless it is there. |prefix| goes before
 * its name, which others may have: "" at the model's boundary. */
uint32_t kcc_meta_value(kcc_meta *b, kcc_unit *u, const kgr_value *v, const char *prefix);
/* |t| as a value of its own. */
uint32_t kcc_meta_add_value(kcc_meta *b, const char *name, const kop_tensor *t);

/* meta_plan.c: fills meta->plan and meta->bodies; inputs and outputs are values already. */
kaena_status kcc_meta_plan(kcc_meta *b) KAENA_CHECKED;

/* Items a run of the model's |variant| (a set of shapes) takes: axis 0 of all inputs and outputs;
 * 1 where they differ there or input 0 has no other axis. */
uint32_t kcc_meta_items(const kcc_compilation *c, uint32_t variant);

/* estimate.c: a layer for every node that takes time; then estimates per instance size. */
void kcc_meta_layers(kcc_meta *b, const kcc_unit *u);
void kcc_meta_estimates(kcc_meta *b);

/* Time and traffic of one run of a plan. */
typedef struct kcc_run_time {
    double latency_s, host_s, busy_s[KISA_ENGINE_COUNT];
    double steady_s;        /* latency once weights lie where they stay */
    double slowest_stage_s; /* of the modules that are pipelines; 0: none is */
    double dram_bytes;      /* weights included each time they are read */
    double io_bytes;
    double weight_bytes;     /* that the TPBs name, each its own */
    double streamed_bytes;   /* of these, what does not stay in state buffers from run to run */
    double activation_bytes; /* alive at the worst moment */
    bool sharded;            /* a module is split over TPBs */
} kcc_run_time;

/* advice.c: weighs values of --num-tpbs for a model that runs like |t|. */
void kcc_meta_advice(kcc_meta *b, const kcc_run_time *t);

#endif
