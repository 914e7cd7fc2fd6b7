/* Small models that tests of several layers run. */
#ifndef KMODELS_H
#define KMODELS_H

#include "kneff.h"

#define KM_WIDTH 64 /* of x and y, float32 [1, KM_WIDTH] */

/* Two TPBs, two contexts. y = what its SB holds + x, which stays there: y = x after a load. Where
 * the second input (bool [1]) is set it adds for days, while its second TPB waits. */
void km_moody(kneff *k);

/* A loop of |n| (int64 [1], the first input) turns of a host step: y = -x or x. */
void km_turns(kneff *k);

#endif
