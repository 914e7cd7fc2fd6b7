/* A host step as a graph of its own, for the HOST section. */
#ifndef KCC_HOST_GRAPH_H
#define KCC_HOST_GRAPH_H

#include "graph.h"
#include "passes.h"

/* Copies the nodes of |step|; constants are shared with |g|. Inputs and outputs are in the step's
 * order. */
kgr_graph *kcc_host_graph(kaena_arena *arena, const kgr_graph *g, const kcc_step *step);

#endif
