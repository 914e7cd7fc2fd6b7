/* Costs for which the stationary tile must be known. */
#ifndef KISA_COST_H
#define KISA_COST_H

#include "isa.h"

/* As kisa_cost, for a MATMUL through a tile of |panels| panels. */
kisa_cost_of kisa_cost_with(const kisa_inst *inst, uint32_t panels);

#endif
