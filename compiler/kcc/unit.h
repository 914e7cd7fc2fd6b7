/* A graph under compilation: the model for one set of input shapes, or a body that has steps of its
 * own in the plan. */
#ifndef KCC_UNIT_H
#define KCC_UNIT_H

#include "passes.h"
#include "schedule.h"

typedef struct kcc_unit {
    kgr_graph *graph;
    kcc_partition plan;
    kcc_module **module;     /* per step; NULL but for device steps */
    kgr_graph **host;        /* per step; NULL but for host steps */
    struct kcc_unit ***body; /* per step: of a step by plan one unit per body, else NULL */
    uint32_t first_graph, first_device; /* of its host graphs and device steps, counted over all */
    uint32_t *index;       /* value id -> index into NeffMeta.values, plus one; see meta.c */
    struct kcc_unit *next; /* all units of the compilation, each before its bodies */
} kcc_unit;

/* Casts |g| and the bodies that the plan runs, and groups their nodes into steps; a unit for |g|
 * and each of these, appended to the list that |*last| ends. */
kaena_status kcc_unit_create(kaena_arena *arena, kgr_graph *g, const kcc_options *opt,
                             kcc_unit ***last, kcc_unit **out, kaena_err *err) KAENA_CHECKED;
/* Makes the modules of all device steps and lays them out. */
kaena_status kcc_unit_layout(kcc_unit *u, kaena_arena *arena, const kcc_options *opt,
                             kcc_weights *weights, kaena_err *err) KAENA_CHECKED;

#endif
