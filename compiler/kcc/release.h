/* Memory of constants that passes have replaced. */
#ifndef KCC_RELEASE_H
#define KCC_RELEASE_H

#include "graph.h"

/* Gives the pages of large constants that no node of the graphs and their bodies uses any more back
 * to the system: an arena frees nothing, and packing is about to need as much again. Their values
 * have no data then. Nobody else may hold that data: |graphs| are all that share constants. */
kaena_status kcc_release_constants(kgr_graph *const *graphs, uint32_t n_graphs,
                                   kaena_err *err) KAENA_CHECKED;

#endif
