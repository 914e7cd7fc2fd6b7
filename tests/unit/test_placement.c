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
    for (uint32_t i = 0; i < DEV_MAX_CHIPS; i++)
        if (r->bytes[i])
            c[i].used += r->bytes[i];
    for (uint32_t t = 0; t < n_tpbs; t++) {
        place_tpb *tpb = &c[r->tpb[t].chip].tpb[r->tpb[t].tpb];
        tpb->models++;
        tpb->used += r->tpb_bytes[t];
    }
}

static void group(place_chip *c, uint64_t tpbs)
{
    for (uint32_t k = 0; k < 64; k++)
        if (tpbs >> k & 1)
            c[k / 4].tpb[k % 4].grouped = true;
}

KTEST(placement, small_models_spread_over_idle_tpbs)
{
    place_chip c[2];
    chips(c, 2);
    place_need need = {.name = "m", .n_tpbs = 1, .shared = GIB};
    kaena_err err;
    for (uint32_t i = 0; i < 8; i++) {
        place_result r;
        KTEST_OK(err, place_model_on(c, 2, &need, NULL, 0, &r, &err));
        cr_assert(r.tpbs == PLACE_BIT(r.tpb[0].chip, r.tpb[0].tpb));
        cr_assert(c[r.tpb[0].chip].tpb[r.tpb[0].tpb].models == 0, "model %u", i);
        add(c, &r, 1);
    }
    cr_assert(c[0].used == 4 * GIB && c[1].used == 4 * GIB);
    for (uint32_t k = 0; k < 8; k++)
        cr_assert(c[k / 4].tpb[k % 4].used == GIB);
}

static uint32_t count_chips(const place_result *r, uint32_t n_tpbs)
{
    uint32_t chip = 0;
    for (uint32_t t = 0; t < n_tpbs; t++)
        chip |= 1u << r->tpb[t].chip;
    return (uint32_t)__builtin_popcount(chip);
}

KTEST(placement, models_take_few_chips_and_need_no_neighbours)
{
    place_chip c[4];
    chips(c, 4);
    c[1].tpb[2].models = 1;
    c[2].tpb[0].models = 1;
    place_need need = {.name = "m", .n_tpbs = 8, .shared = 2 * GIB};
    place_result r;
    kaena_err err;
    KTEST_OK(err, place_model_on(c, 4, &need, NULL, 0, &r, &err));
    for (uint32_t t = 0; t < 8; t++)
        cr_assert(r.tpb[t].chip == (t < 4 ? 0 : 3) && r.tpb[t].tpb == t % 4);
    cr_assert(r.bytes[0] == GIB && r.bytes[1] == 0 && r.bytes[2] == 0 && r.bytes[3] == GIB);
    add(c, &r, 8);
    /* Three of one chip and one of another, none of which works already. */
    need.n_tpbs = 4;
    need.shared = 4;
    KTEST_OK(err, place_model_on(c, 4, &need, NULL, 0, &r, &err));
    cr_assert(count_chips(&r, 4) == 2 && !(r.tpbs & (PLACE_BIT(1, 2) | PLACE_BIT(2, 0))));
    cr_assert(!(r.tpbs & 0xf00f));
}

KTEST(placement, a_group_has_its_models_and_the_least_loaded_of_it)
{
    place_chip c[4];
    chips(c, 4);
    uint64_t g = PLACE_BIT(0, 3) | PLACE_BIT(2, 1) | PLACE_BIT(3, 0);
    group(c, g);
    c[0].tpb[3].models = 2;
    c[2].tpb[1].models = 1;
    place_need need = {.name = "m", .n_tpbs = 2, .shared = 1001, .group = "g", .within = g};
    place_result r;
    kaena_err err;
    KTEST_OK(err, place_model_on(c, 4, &need, NULL, 0, &r, &err));
    cr_assert(r.tpbs == (PLACE_BIT(2, 1) | PLACE_BIT(3, 0)));
    cr_assert(r.tpb_bytes[0] == 501 && r.tpb_bytes[1] == 500);
    need.n_tpbs = 3;
    KTEST_OK(err, place_model_on(c, 4, &need, NULL, 0, &r, &err));
    cr_assert(r.tpbs == g);
    need.n_tpbs = 4;
    KTEST_FAILS(err, FAILED_PRECONDITION, "model 'm' was compiled for 4 TPBs, group 'g' has 3",
                place_model_on(c, 4, &need, NULL, 0, &r, &err));
    cr_assert(err.reason == KAENA__V1__ERROR_DETAIL__REASON__NO_TPBS);
    cr_assert(err.needed == 4 && err.available == 3);
    cr_assert(strstr(err.hint, "larger group, or compile with --num-tpbs 3"), "%s", err.hint);
}

KTEST(placement, models_without_a_group_stay_out_of_groups_while_they_can)
{
    place_chip c[1];
    chips(c, 1);
    group(c, 7);
    place_need need = {.name = "m", .n_tpbs = 1};
    place_result r;
    kaena_err err;
    for (uint32_t i = 0; i < 3; i++) {
        KTEST_OK(err, place_model_on(c, 1, &need, NULL, 0, &r, &err));
        cr_assert(r.tpbs == 8);
        add(c, &r, 1);
    }
    need.n_tpbs = 2;
    c[0].tpb[0].models = 1;
    KTEST_OK(err, place_model_on(c, 1, &need, NULL, 0, &r, &err));
    cr_assert(r.tpbs == (8 | 2));
}

KTEST(placement, groups_are_disjoint_and_of_any_tpbs)
{
    place_chip c[3];
    chips(c, 3);
    c[0].tpb[1].models = 1;
    kaena_err err;
    uint64_t a, b, d;
    KTEST_OK(err, place_group_on(c, 3, "a", 4, 5, &a, &err));
    cr_assert(a == 0xf00, "idle ones of one chip: %llx", (unsigned long long)a);
    group(c, a);
    KTEST_OK(err, place_group_on(c, 3, "b", 5, 7, &b, &err));
    cr_assert(!(a & b) && __builtin_popcountll(b) == 5 && !(b & PLACE_BIT(0, 1)));
    group(c, b);
    KTEST_OK(err, place_group_on(c, 3, "d", 3, 7, &d, &err));
    cr_assert((a | b | d) == 0xfff);
    group(c, d);
    c[1].tpb[0].grouped = false;
    KTEST_FAILS(err, RESOURCE_EXHAUSTED, "group 'e': 2 TPBs are asked for, 1 are in no other group",
                place_group_on(c, 3, "e", 2, 7, &d, &err));
    cr_assert(err.reason == KAENA__V1__ERROR_DETAIL__REASON__NO_TPBS);
    cr_assert(err.needed == 2 && err.available == 1 && err.hint[0]);
    KTEST_FAILS(err, RESOURCE_EXHAUSTED, "0 are in no other group",
                place_group_on(c, 3, "e", 1, 4, &d, &err));
}

KTEST(placement, replicas_share_no_tpb)
{
    place_chip c[1];
    chips(c, 1);
    c[0].tpb[3].models = 1;
    place_need need = {.name = "m", .n_tpbs = 1, .avoid = 1};
    place_result r;
    kaena_err err;
    for (uint32_t i = 1; i < 4; i++) {
        KTEST_OK(err, place_model_on(c, 1, &need, NULL, 0, &r, &err));
        cr_assert(r.tpbs == 1u << i);
        need.avoid |= r.tpbs;
    }
    KTEST_FAILS(err, FAILED_PRECONDITION, "another replica of model 'm' needs 1 TPBs, 0",
                place_model_on(c, 1, &need, NULL, 0, &r, &err));
    cr_assert(err.needed == 1 && err.available == 0);
    need.avoid = 7;
    need.idle_only = true; /* the last one has a model */
    KTEST_FAILS(err, FAILED_PRECONDITION, "0 of the daemon are left",
                place_model_on(c, 1, &need, NULL, 0, &r, &err));
}

KTEST(placement, what_a_chip_lacks_is_borrowed_evenly)
{
    place_chip c[3];
    chips(c, 3);
    c[0].used = 7 * GIB; /* comes last: TPBs 8 to 11 */
    uint64_t offset[12] = {0}, size[12] = {0};
    offset[4] = 100 * GIB;
    offset[8] = 200 * GIB;
    size[0] = size[4] = GIB;
    size[8] = 5 * GIB;
    place_need need = {.name = "m", .n_tpbs = 12, .offset = offset, .size = size};
    place_result r;
    kaena_err err;
    KTEST_OK(err, place_model_on(c, 3, &need, NULL, 0, &r, &err));
    cr_assert(r.tpb[8].chip == 0 && r.tpb_bytes[8] == 5 * GIB && r.tpb_bytes[9] == 0);
    cr_assert(r.bytes[0] == GIB && r.bytes[1] == 3 * GIB && r.bytes[2] == 3 * GIB);
    c[0].used = 8 * GIB;
    c[1].used = 6 * GIB; /* lends 1 GiB and is full */
    KTEST_OK(err, place_model_on(c, 3, &need, NULL, 0, &r, &err));
    cr_assert(r.bytes[0] == 0 && r.bytes[1] == 2 * GIB && r.bytes[2] == 5 * GIB);
}

KTEST(placement, more_chips_where_few_have_no_room)
{
    place_chip c[3];
    chips(c, 3);
    c[0].used = c[1].used = c[2].used = 5 * GIB;
    c[0].tpb[0].models = c[1].tpb[0].models = 1;
    place_need need = {.name = "m", .n_tpbs = 3, .shared = 9 * GIB};
    place_result r;
    kaena_err err;
    KTEST_OK(err, place_model_on(c, 3, &need, NULL, 0, &r, &err));
    cr_assert(r.bytes[0] == 3 * GIB && r.bytes[1] == 3 * GIB && r.bytes[2] == 3 * GIB);
    cr_assert(r.tpb[0].chip == 0 && r.tpb[1].chip == 1 && r.tpb[2].chip == 2);
    /* A TPB that works already, on a chip with room, before none at all. */
    need.n_tpbs = 1;
    need.shared = 4 * GIB;
    c[1].used = 2 * GIB;
    for (int t = 0; t < 4; t++)
        c[1].tpb[t].models = 3;
    KTEST_OK(err, place_model_on(c, 3, &need, NULL, 0, &r, &err));
    cr_assert(r.tpb[0].chip == 1 && r.bytes[1] == 4 * GIB);
}

KTEST(placement, the_last_byte_fits_and_the_next_does_not)
{
    place_chip c[1];
    chips(c, 1);
    place_need need = {.name = "m", .n_tpbs = 4, .shared = 8 * GIB};
    place_result r;
    kaena_err err;
    KTEST_OK(err, place_model_on(c, 1, &need, NULL, 0, &r, &err));
    need.shared++;
    KTEST_FAILS(err, RESOURCE_EXHAUSTED,
                "model 'm' needs 8589934593 bytes of device DRAM on 1 chip, 8589934592 are free",
                place_model_on(c, 1, &need, NULL, 0, &r, &err));
    cr_assert(err.reason == KAENA__V1__ERROR_DETAIL__REASON__NO_MEMORY);
    cr_assert(err.needed == 8 * GIB + 1 && err.available == 8 * GIB);
    cr_assert(strstr(err.hint, "compile it for 8 (--num-tpbs), which takes 2 chips"), "%s",
              err.hint);
    need.shared = 200 * GIB;
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
        place_need need = {.name = have[i].name, .n_tpbs = 4, .shared = have[i].bytes};
        KTEST_OK(err, place_model_on(c, 1, &need, NULL, 0, &at[i], &err));
        add(c, &at[i], 4);
        models[i] = (place_model){have[i].name, &at[i]};
    }
    /* 0.5 GiB left: the smallest that suffices alone is named, else as few as possible. */
    place_need need = {.name = "new", .n_tpbs = 4, .shared = 2 * GIB};
    KTEST_FAILS(err, RESOURCE_EXHAUSTED, "needs", place_model_on(c, 1, &need, models, 3, &r, &err));
    cr_assert_str_eq(err.hint, "unloading 'medium' would make room");
    need.shared = GIB;
    KTEST_FAILS(err, RESOURCE_EXHAUSTED, "needs", place_model_on(c, 1, &need, models, 3, &r, &err));
    cr_assert_str_eq(err.hint, "unloading 'small' would make room");
    need.shared = 7 * GIB;
    KTEST_FAILS(err, RESOURCE_EXHAUSTED, "needs", place_model_on(c, 1, &need, models, 3, &r, &err));
    cr_assert_str_eq(err.hint, "unloading 'large', 'medium' would make room");
    /* The other chip is free. */
    KTEST_OK(err, place_model_on(c, 2, &need, models, 3, &r, &err));
    cr_assert(r.bytes[0] == 0 && r.bytes[1] == 7 * GIB);
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

static uint64_t union_bytes(const uint64_t *offset, const uint64_t *size, uint32_t n)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += place_new_bytes(offset, size, i);
    return sum;
}

KTEST(placement, shared_weights_are_charged_once)
{
    static const uint64_t offset[4] = {0, 0, 50, 200}, size[4] = {100, 100, 100, 10};
    cr_assert(union_bytes(offset, size, 0) == 0);
    cr_assert(union_bytes(offset, size, 2) == 100);
    cr_assert(union_bytes(offset, size, 3) == 150);
    cr_assert(union_bytes(offset, size, 4) == 160);
    static const uint64_t around[2] = {40, 0}, wide[2] = {10, 100};
    cr_assert(union_bytes(around, wide, 2) == 100);
    static const uint64_t three[4] = {10, 30, 0, 5}, parts[4] = {10, 10, 60, 1};
    cr_assert(union_bytes(three, parts, 4) == 60);
    /* By one chip, once; by two, once each. */
    place_chip c[2];
    chips(c, 2);
    place_need need = {.name = "m", .n_tpbs = 4, .offset = offset, .size = size};
    place_result r;
    kaena_err err;
    KTEST_OK(err, place_model_on(c, 2, &need, NULL, 0, &r, &err));
    cr_assert(r.bytes[0] == 160 && r.tpb_bytes[0] == 100 && r.tpb_bytes[1] == 0);
    c[0].tpb[0].models = c[0].tpb[1].models = c[1].tpb[0].models = c[1].tpb[1].models = 1;
    KTEST_OK(err, place_model_on(c, 2, &need, NULL, 0, &r, &err));
    cr_assert(r.bytes[0] == 100 && r.bytes[1] == 110);
}
