/* Which bytes access patterns touch: proofs that two of them do not meet. "false" always means
 * "not proven". */
#ifndef KAENA_TPB_OVERLAP_H
#define KAENA_TPB_OVERLAP_H

#include "isa.h"

/* An operand of an instruction inside loops. Loops below |fixed| have the same turn for whoever it
 * is compared with; loops [fixed, depth) run through all their turns. |shift| is added to the
 * offset, |extra| bytes are touched behind every element: a union of patterns that differ in their
 * offset only. */
typedef struct tpb_touch {
    const kisa_operand *operand;
    const uint32_t *turns; /* [depth] */
    uint32_t fixed, depth;
    int64_t shift, extra;
} tpb_touch;

/* No byte of |a| in any of its turns is a byte of |b| in any of its own. */
bool tpb_disjoint(const tpb_touch *a, const tpb_touch *b);

/* No byte is touched twice, in all turns together. */
bool tpb_distinct(const tpb_touch *a);

/* Element i of both is at the same place in every turn. */
bool tpb_same_pattern(const kisa_operand *a, const kisa_operand *b);

#endif
