/* Placement: which TPBs, whose DRAM, and what a refusal says. */
#include <string.h>

#include "kaena/v1/runtime.pb-c.h"
#include "ktest.h"
#include "placement.h"

#define GIB (UINT64_C(1) << 30)

static void chips(place_chip *c, uint32_t n)
{
    memset(c, 0, n * sizeof *c);
    for (uint32_t i = 0; i < n; i++)
        c[i].dram = 8 * GIB;
}

static void add(place_chip *c, const place_result *r, uint32_t n_tpbs)
{
    for (uint32_t i = 0; i < r->n_chips; i++)
        c[r->first + i].used += r->bytes[i];
    for (uint32_t t = 0; t < n_tpbs; t++)
        c[r->tpb[t].chip].models[r->tpb[t].tpb]++;
}

KTEST(placement, small_models_spread_over_idle_tpbs)
{
    place_chip c[2];
    chips(c, 2);
    place_need need = {.name = "m", .n_tpbs = 1, .chip = {GIB}};
    kaena_err err;
    for (uint32_t i = 0; i < 8; i++) {
        place_result r;
        KTEST_OK(err, place_model_on(c, 2, &need, NULL, 0, &r, &err));
        cr_assert(r.n_chips == 1 && c[r.tpb[0].chip].models[r.tpb[0].tpb] == 0, "model %u", i);
        add(c, &r, 1);
    }
    cr_assert(c[0].used == 4 * GIB && c[1].used == 4 * GIB);
}

KTEST(placement, a_group_takes_whole_chips_that_are_neighbours)
{
    place_chip c[4];
    chips(c, 4);
    c[0].models[2] = 1;
    place_need need = {.name = "m", .n_tpbs = 6, .chip = {GIB, GIB}};
    place_result r;
    kaena_err err;
    KTEST_OK(err, place_model_on(c, 4, &need, NULL, 0, &r, &err));
    cr_assert(r.first == 1 && r.n_chips == 2);
    for (uint32_t t = 0; t < 6; t++)
        cr_assert(r.tpb[t].chip == 1 + t / 4 && r.tpb[t].tpb == t % 4);
    cr_assert(r.bytes[0] == GIB && r.bytes[1] == GIB);
}

KTEST(placement, what_a_chip_lacks_is_borrowed_evenly)
{
    place_chip c[3];
    chips(c, 3);
    c[0].used = 7 * GIB;
    place_need need = {.name = "m", .n_tpbs = 12, .chip = {5 * GIB, GIB, GIB}};
    place_result r;
    kaena_err err;
    KTEST_OK(err, place_model_on(c, 3, &need, NULL, 0, &r, &err));
    cr_assert(r.bytes[0] == GIB && r.bytes[1] == 3 * GIB && r.bytes[2] == 3 * GIB);
    c[1].used = 6 * GIB; /* lends 1 GiB and is full */
    KTEST_OK(err, place_model_on(c, 3, &need, NULL, 0, &r, &err));
    cr_assert(r.bytes[0] == GIB && r.bytes[1] == 2 * GIB && r.bytes[2] == 4 * GIB);
}

KTEST(placement, the_last_byte_fits_and_the_next_does_not)
{
    place_chip c[1];
    chips(c, 1);
    place_need need = {.name = "m", .n_tpbs = 4, .chip = {8 * GIB}};
    place_result r;
    kaena_err err;
    KTEST_OK(err, place_model_on(c, 1, &need, NULL, 0, &r, &err));
    need.chip[0]++;
    KTEST_FAILS(err, RESOURCE_EXHAUSTED,
                "model 'm' needs 8589934593 bytes of device DRAM on 1 chip, 8589934592 are free",
                place_model_on(c, 1, &need, NULL, 0, &r, &err));
    cr_assert(err.reason == KAENA__V1__ERROR_DETAIL__REASON__NO_MEMORY);
    cr_assert(err.needed == 8 * GIB + 1 && err.available == 8 * GIB);
    cr_assert(strstr(err.hint, "compile it for 8 (--num-tpbs), which takes 2 chips"), "%s",
              err.hint);
    need.chip[0] = 200 * GIB;
    KTEST_FAILS(err, RESOURCE_EXHAUSTED, "needs", place_model_on(c, 1, &need, NULL, 0, &r, &err));
    cr_assert(strstr(err.hint, "64 TPBs are the most"), "%s", err.hint);
}

KTEST(placement, a_refusal_names_models_that_would_make_room)
{
    place_chip c[2];
    chips(c, 2);
    static const struct {
        const char *name;
        uint64_t bytes;
    } have[] = {{"small", GIB / 2}, {"medium", 2 * GIB}, {"large", 5 * GIB}};
    place_result at[3], r;
    place_model models[3];
    kaena_err err;
    for (int i = 0; i < 3; i++) {
        place_need need = {.name = have[i].name, .n_tpbs = 4, .chip = {have[i].bytes}};
        KTEST_OK(err, place_model_on(c, 1, &need, NULL, 0, &at[i], &err));
        add(c, &at[i], 4);
        models[i] = (place_model){have[i].name, &at[i]};
    }
    /* 0.5 GiB left: the smallest that suffices alone is named, else as few as possible. */
    place_need need = {.name = "new", .n_tpbs = 4, .chip = {2 * GIB}};
    KTEST_FAILS(err, RESOURCE_EXHAUSTED, "needs", place_model_on(c, 1, &need, models, 3, &r, &err));
    cr_assert_str_eq(err.hint, "unloading 'medium' would make room");
    need.chip[0] = GIB;
    KTEST_FAILS(err, RESOURCE_EXHAUSTED, "needs", place_model_on(c, 1, &need, models, 3, &r, &err));
    cr_assert_str_eq(err.hint, "unloading 'small' would make room");
    need.chip[0] = 7 * GIB;
    KTEST_FAILS(err, RESOURCE_EXHAUSTED, "needs", place_model_on(c, 1, &need, models, 3, &r, &err));
    cr_assert_str_eq(err.hint, "unloading 'large', 'medium' would make room");
    /* The other chip is free. */
    KTEST_OK(err, place_model_on(c, 2, &need, models, 3, &r, &err));
    cr_assert(r.first == 1);
}

KTEST(placement, more_tpbs_than_there_are)
{
    place_chip c[2];
    chips(c, 2);
    place_need need = {.name = "m", .n_tpbs = 9};
    place_result r;
    kaena_err err;
    KTEST_FAILS(err, FAILED_PRECONDITION, "compiled for 9 TPBs, there are 8",
                place_model_on(c, 2, &need, NULL, 0, &r, &err));
    cr_assert(err.reason == KAENA__V1__ERROR_DETAIL__REASON__NO_TPBS);
    need.n_tpbs = 8;
    KTEST_OK(err, place_model_on(c, 2, &need, NULL, 0, &r, &err));
}

KTEST(placement, shared_weights_are_charged_once)
{
    static const uint64_t offset[4] = {0, 0, 50, 200}, size[4] = {100, 100, 100, 10};
    cr_assert(place_union_bytes(offset, size, 0) == 0);
    cr_assert(place_union_bytes(offset, size, 2) == 100);
    cr_assert(place_union_bytes(offset, size, 3) == 150);
    cr_assert(place_union_bytes(offset, size, 4) == 160);
    static const uint64_t around[2] = {40, 0}, wide[2] = {10, 100};
    cr_assert(place_union_bytes(around, wide, 2) == 100);
    static const uint64_t three[4] = {10, 30, 0, 5}, parts[4] = {10, 10, 60, 1};
    cr_assert(place_union_bytes(three, parts, 4) == 60);
}
