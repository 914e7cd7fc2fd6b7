/* The lists that hold a graph together: uses of a value, order of nodes. Private to this folder. */
#ifndef KGR_USES_H
#define KGR_USES_H

#include "graph.h"

/* Fills an empty operand slot; |v| may be NULL. */
void kgr_use_link(kgr_node *n, uint32_t slot, kgr_value *v);
/* Empties it. */
void kgr_use_unlink(kgr_node *n, uint32_t slot);
/* Puts a node that stands nowhere after |after| (as kgr_node_add). */
void kgr_node_link(kgr_graph *g, kgr_node *n, kgr_node *after);

#endif
