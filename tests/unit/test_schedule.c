/* Scheduling's pure parts: memory packing and even cuts. */
#include <stdlib.h>

#include "ktest.h"
#include "schedule.h"

static bool clash(const kcc_live *a, const kcc_live *b)
{
    bool time = a->first <= b->last && b->first <= a->last;
    return time && a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

KTEST(schedule, packed_lives_never_overlap)
{
    uint32_t seed = 1;
    for (int round = 0; round < 50; round++) {
        kcc_live live[100];
        uint64_t used, bound;
        for (int i = 0; i < 100; i++) {
            seed = seed * 1664525 + 1013904223;
            live[i] = (kcc_live){.bytes = seed >> 20, .first = (int32_t)(seed >> 8 & 63)};
            live[i].last = live[i].first + (int32_t)(seed & 15);
        }
        used = kcc_pack_live(live, 100, UINT64_MAX / 2);
        bound = kcc_lower_bound(live, 100);
        cr_assert(used >= bound, "%lu below the bound %lu", used, bound);
        cr_assert(used <= bound * 2, "%lu is far above the bound %lu", used, bound);
        for (int a = 0; a < 100; a++)
            for (int b = a + 1; b < 100; b++)
                cr_assert(!live[a].bytes || !live[b].bytes || !clash(&live[a], &live[b]),
                          "%d and %d overlap", a, b);
    }
}

/* Where more ranges overlap than are sorted each time, they find the same places: the many are all
 * of one size, so that each lies behind the other. */
KTEST(schedule, very_many_lives_at_once)
{
    enum { MANY = 3000, CHAIN = 2000 };
    kcc_live *live = calloc(MANY + CHAIN, sizeof *live);
    for (int i = 0; i < MANY; i++)
        live[i] = (kcc_live){.bytes = 100, .first = i, .last = 10000};
    for (int i = 0; i < CHAIN; i++) /* two at a time, while all of the many live */
        live[MANY + i] = (kcc_live){.bytes = 64, .first = 4000 + i, .last = 4001 + i};
    uint64_t used = kcc_pack_live(live, MANY + CHAIN, UINT64_MAX / 2);
    cr_assert_eq(used, UINT64_C(128) * MANY + 128);
    for (int i = 0; i < MANY; i++)
        cr_assert_eq(live[i].offset, UINT64_C(128) * (uint64_t)i);
    for (int i = 0; i < CHAIN; i++)
        cr_assert_eq(live[MANY + i].offset, UINT64_C(128) * MANY + (i % 2 ? 64 : 0));
    free(live);
}

KTEST(schedule, what_does_not_fit_is_left_out)
{
    kcc_live live[2] = {{.bytes = 100, .first = 0, .last = 3},
                        {.bytes = 60, .first = 2, .last = 4}};
    cr_assert_eq(kcc_pack_live(live, 2, 128), 100);
    cr_assert_eq(live[0].offset, 0);
    cr_assert_eq(live[1].offset, UINT64_MAX);
    cr_assert_eq(kcc_pack_live(live, 2, 188), 188);
    cr_assert_eq(live[1].offset, 128);
}

KTEST(schedule, cuts_are_even)
{
    const double cost[6] = {5, 1, 1, 5, 2, 4};
    int32_t part[6];
    kcc_cut_evenly(cost, 6, 3, part);
    const int32_t want[6] = {0, 0, 1, 1, 2, 2};
    for (int i = 0; i < 6; i++)
        cr_assert_eq(part[i], want[i], "part of %d is %d", i, part[i]);
    kcc_cut_evenly(cost, 2, 4, part);
    cr_assert(part[0] == 0 && part[1] == 1);
}
