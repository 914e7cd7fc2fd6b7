/* Values of the options that kcc and its wrappers share, as the user writes them. */
#ifndef KCC_OPTION_VALUES_H
#define KCC_OPTION_VALUES_H

#include "options.h"

/* False, with nothing written, where |text| is none of them. */
bool kcc_cast_of(const char *text, kcc_cast *out);         /* all, matmul, none */
bool kcc_optimize_of(const char *text, kcc_optimize *out); /* latency, throughput */
bool kcc_num_tpbs_of(const char *text, uint32_t *out);     /* 1 to KISA_MAX_TPBS */

#endif
