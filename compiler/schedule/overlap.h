/* Which of many ranges of time overlap another one. Private to this folder. */
#ifndef KCC_OVERLAP_H
#define KCC_OVERLAP_H

#include "schedule.h"

/* Ranges that have been added, in a tree over time. */
typedef struct kcc_overlap kcc_overlap;

/* For ranges within [0, |last|]; at most |n| are added. Running out of memory ends the process. */
kcc_overlap *kcc_overlap_create(int32_t last, uint32_t n);
void kcc_overlap_destroy(kcc_overlap *o);
void kcc_overlap_add(kcc_overlap *o, kcc_live *l);
/* Those that overlap |l|, in no order; false, where they are more than |most|. */
bool kcc_overlap_find(const kcc_overlap *o, const kcc_live *l, kcc_live **out, uint32_t most,
                      uint32_t *n);

#endif
