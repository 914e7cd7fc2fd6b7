/* The handlers that mx_ops.def names: mx_do_<handler>(x) adds what its node computes. */
#ifndef KCC_MX_OPS_H
#define KCC_MX_OPS_H

#include "mx_internal.h"

#define MX_OP(name, handler, op, inputs, outputs) kaena_status mx_do_##handler(mx_xlat *x);
#include "mx_ops.def"
#undef MX_OP

#endif
