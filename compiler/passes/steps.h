/* Numbering of steps, for the partition pass and the grouping after it. Private to this folder. */
#ifndef KCC_STEPS_H
#define KCC_STEPS_H

#include "passes.h"

/* Writes each node's step to |step_of| [n_values], at the id of its first result; gives the number
 * of steps, counting a first one that may be empty. Even steps are of the kind that comes first. */
uint32_t kcc_steps_assign(const kgr_graph *g, bool device_first, uint32_t *step_of);

#endif
