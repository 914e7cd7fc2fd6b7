/* Scheduling: which TPB does what when, and where buffers lie. */
#ifndef KCC_SCHEDULE_H
#define KCC_SCHEDULE_H

#include "lower.h"

/* Requires: laid out. Establishes: m->stage, m->time, m->sections. */
kaena_status kcc_place(kcc_module *m, kaena_err *err) KAENA_CHECKED;

/* Requires: laid out, sharded. Establishes: m->sections; buffers of one item are smaller. */
void kcc_find_sections(kcc_module *m);

/* Requires: placed. Residuals that nobody needs any more share their buffer with the sum. Bits do
 * not depend on it. */
void kcc_write_in_place(kcc_module *m);

/* Requires: placed. Establishes: space and offset of every buffer, m->sb_bytes, m->scratch_bytes.
 * Bits do not depend on it. */
kaena_status kcc_plan(kcc_module *m, kaena_err *err) KAENA_CHECKED;

/* --- Pure parts, tested alone
 * -------------------------------------------------------------------------------------------------------------
 */

/* Cuts |n| costs in order into |parts| runs so that the dearest run is as cheap as can be; part[i]
 * becomes the run of cost i. Near linear. */
void kcc_cut_evenly(const double *cost, uint32_t n, uint32_t parts, int32_t *part);

/* A request for memory during [first, last] of time, ends included. */
typedef struct kcc_live {
    uint64_t bytes;
    int32_t first, last;
    uint64_t offset; /* out; UINT64_MAX: did not fit below the limit */
} kcc_live;

/* Gives each live range an offset so that those alive at one time do not overlap; largest first, at
 * the lowest place that is free. Ranges that would end above |limit| are left out. Returns the
 * bytes used. */
uint64_t kcc_pack_live(kcc_live *live, uint32_t n, uint64_t limit);
/* Bytes alive at the worst moment: no packing can use less. */
uint64_t kcc_lower_bound(const kcc_live *live, uint32_t n);

#endif
