/* Rough times of nodes on host and device, for decisions before lowering. Values of unknown shape
 * count as nothing. */
#ifndef KCC_COST_H
#define KCC_COST_H

#include "graph.h"

#define KCC_DEVICE_STEP_US 10.0 /* to start a device step and be told of its end */

/* Additions and multiplications; 0 for what only moves data. */
double kcc_node_flops(const kgr_node *n);
/* Microseconds to evaluate the node on the host, or to run it as part of a device step. */
double kcc_host_us(const kgr_node *n);
double kcc_device_us(const kgr_node *n);
/* Microseconds to bring a tensor from one side to the other. */
double kcc_crossing_us(const kgr_value *v);

#endif
