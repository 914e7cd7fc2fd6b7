/* Costs for which the stationary tile must be known. */
#ifndef KISA_COST_H
#define KISA_COST_H

#include "isa.h"

/* As kisa_cost, for a MATMUL through a tile of |panels| panels. */
kisa_cost_of kisa_cost_with(const kisa_inst *inst, uint32_t panels);

/* Bytes an operand moves: what a stride of 0 repeats is read once. */
double kisa_operand_bytes(const kisa_operand *o);

/* The operand lies in device DRAM. */
bool kisa_in_dram(const kisa_operand *o);

#endif
