#include "placement.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "kaena/v1/runtime.pb-c.h"

#define MAX_ADVICE 8          /* models named in one hint */
#define IN_A_GROUP (1u << 16) /* added to the load of TPBs that are not for everybody */
#define ANY_LOAD UINT32_MAX

static uint64_t free_of(const place_chip *c)
{
    return c->dram > c->used ? c->dram - c->used : 0;
}

static uint32_t count(uint64_t tpbs)
{
    return (uint32_t)__builtin_popcountll(tpbs);
}

uint64_t place_new_bytes(const uint64_t *offset, const uint64_t *size, uint32_t n)
{
    uint64_t at = offset[n], end = offset[n] + size[n], total = 0;
    while (at < end) {
        uint64_t next = end;
        bool covered = false;
        for (uint32_t k = 0; k < n; k++) {
            uint64_t from = offset[k], to = offset[k] + size[k];
            if (from <= at && at < to) {
                covered = true;
                next = to < end ? to : end;
                break;
            }
            if (from > at && from < next && from < to)
                next = from;
        }
        total += covered ? 0 : next - at;
        at = next;
    }
    return total;
}

/* --- Which TPBs
 * ------------------------------------------------------------------------------------------------------------
 */

/* How a place is looked for. */
typedef enum strategy {
    FEW_CHIPS,  /* the least loaded TPBs, on few chips */
    MOST_ROOM,  /* on few chips, those with the most DRAM left */
    MANY_CHIPS, /* as many chips as there are TPBs, those with the most DRAM left */
    STRATEGIES
} strategy;

typedef struct search {
    const place_chip *chips;
    uint32_t n_chips;
    uint64_t allowed;  /* TPBs */
    bool spare_groups; /* TPBs of groups count as the most loaded */
    uint32_t load;     /* the most that a TPB may carry */
} search;

static uint32_t load_of(const search *s, uint32_t chip, uint32_t t)
{
    const place_tpb *tpb = &s->chips[chip].tpb[t];
    return tpb->models + (s->spare_groups && tpb->grouped ? IN_A_GROUP : 0);
}

/* The least loaded TPB of a chip that may be taken, or -1. */
static int least_loaded(const search *s, uint32_t chip, uint64_t taken)
{
    int best = -1;
    for (uint32_t t = 0; t < DEV_TPBS_PER_CHIP; t++)
        if ((s->allowed & ~taken & PLACE_BIT(chip, t)) && load_of(s, chip, t) <= s->load &&
            (best < 0 || load_of(s, chip, t) < load_of(s, chip, (uint32_t)best)))
            best = (int)t;
    return best;
}

/* Up to |n| TPBs of a chip, the least loaded; |sum|: their load. */
static uint64_t take_from(const search *s, uint32_t chip, uint32_t n, uint64_t taken, uint64_t *sum)
{
    uint64_t got = 0;
    *sum = 0;
    for (int t; count(got) < n && (t = least_loaded(s, chip, taken | got)) >= 0;) {
        got |= PLACE_BIT(chip, (uint32_t)t);
        *sum += load_of(s, chip, (uint32_t)t);
    }
    return got;
}

/* The smallest load with which |n| TPBs can be had. */
static uint32_t least_load(search *s, uint32_t n)
{
    uint32_t best = ANY_LOAD;
    for (uint32_t c = 0; c < s->n_chips; c++)
        for (uint32_t t = 0; t < DEV_TPBS_PER_CHIP; t++) {
            if (!(s->allowed & PLACE_BIT(c, t)) || load_of(s, c, t) >= best)
                continue;
            uint32_t with = 0;
            for (uint32_t k = 0; k < s->n_chips * DEV_TPBS_PER_CHIP; k++)
                with += (s->allowed >> k & 1) && load_of(s, k / DEV_TPBS_PER_CHIP,
                                                         k % DEV_TPBS_PER_CHIP) <= load_of(s, c, t);
            if (with >= n)
                best = load_of(s, c, t);
        }
    return best;
}

/* The next chip to take TPBs from, for |n| more. */
static uint32_t best_chip(const search *s, uint32_t n, uint64_t taken, strategy how, uint64_t *got)
{
    uint32_t best = s->n_chips;
    uint64_t best_sum = 0;
    *got = 0;
    for (uint32_t c = 0; c < s->n_chips; c++) {
        uint64_t sum, from = take_from(s, c, n, taken, &sum);
        if (!from)
            continue;
        uint64_t left = free_of(&s->chips[c]), most = *got ? free_of(&s->chips[best]) : 0;
        bool better;
        if (how == FEW_CHIPS)
            better = count(from) != count(*got) ? count(from) > count(*got)
                     : sum != best_sum          ? sum < best_sum
                                                : left > most;
        else if (how == MOST_ROOM)
            better = count(from) != count(*got) ? count(from) > count(*got) : left > most;
        else
            better = left > most;
        if (!*got || better) {
            best = c;
            best_sum = sum;
            *got = from;
        }
    }
    return best;
}

/* |n| TPBs in the order in which the model's go there; there are so many. */
static uint64_t choose(search *s, uint32_t n, strategy how, dev_place *out)
{
    uint64_t taken = 0, round = 0; /* chips used in this round of MANY_CHIPS */
    uint64_t all = s->allowed;
    s->load = how == FEW_CHIPS ? least_load(s, n) : ANY_LOAD;
    while (count(taken) < n) {
        uint64_t got;
        s->allowed = all & ~round;
        uint32_t c = best_chip(s, how == MANY_CHIPS ? 1 : n - count(taken), taken, how, &got);
        if (!got) {
            round = 0;
            continue;
        }
        taken |= got;
        if (how == MANY_CHIPS)
            for (uint32_t t = 0; t < DEV_TPBS_PER_CHIP; t++)
                round |= PLACE_BIT(c, t);
        for (uint32_t t = 0; t < DEV_TPBS_PER_CHIP && how != MANY_CHIPS; t++)
            if (got & PLACE_BIT(c, t))
                *out++ = (dev_place){.chip = (uint16_t)c, .tpb = (uint16_t)t};
    }
    s->allowed = all;
    for (uint32_t k = 0; k < 64 && how == MANY_CHIPS; k++)
        if (taken >> k & 1)
            *out++ = (dev_place){.chip = (uint16_t)(k / DEV_TPBS_PER_CHIP),
                                 .tpb = (uint16_t)(k % DEV_TPBS_PER_CHIP)};
    return taken;
}

/* --- Whose memory
 * ----------------------------------------------------------------------------------------------------------
 */

/* What each TPB needs: weights that those before it on its chip do not read already, and its share
 * of the rest. Returns the sum. */
static uint64_t need_of_tpbs(const place_need *need, place_result *r, uint64_t *of_chip)
{
    uint64_t sum = 0;
    for (uint32_t i = 0, first = 0; i < need->n_tpbs; i++) {
        if (r->tpb[i].chip != r->tpb[first].chip)
            first = i;
        r->tpb_bytes[i] = need->shared / need->n_tpbs + (i < need->shared % need->n_tpbs);
        if (need->offset)
            r->tpb_bytes[i] += place_new_bytes(need->offset + first, need->size + first, i - first);
        of_chip[r->tpb[i].chip] += r->tpb_bytes[i];
        sum += r->tpb_bytes[i];
    }
    return sum;
}

/* Fills |bytes| from what the chips want; what one lacks goes to the model's |own| others (a bit
 * each), evenly. */
static bool charge(const place_chip *chip, uint32_t n_chips, uint32_t own, const uint64_t *want,
                   uint64_t *bytes)
{
    uint64_t missing = 0;
    for (uint32_t i = 0; i < n_chips; i++) {
        uint64_t room = free_of(&chip[i]);
        bytes[i] = want[i] < room ? want[i] : room;
        missing += want[i] - bytes[i];
    }
    while (missing) {
        uint32_t lenders = 0;
        for (uint32_t i = 0; i < n_chips; i++)
            lenders += (own >> i & 1) && bytes[i] < free_of(&chip[i]);
        if (!lenders)
            return false;
        uint64_t each = missing / lenders + (missing % lenders != 0);
        for (uint32_t i = 0; i < n_chips && missing; i++) {
            if (!(own >> i & 1))
                continue;
            uint64_t room = free_of(&chip[i]) - bytes[i];
            uint64_t lent = room < each ? room : each;
            lent = lent < missing ? lent : missing;
            bytes[i] += lent;
            missing -= lent;
        }
    }
    return true;
}

/* A place that does not suffice. */
typedef struct shortage {
    uint64_t needed, available, capacity; /* bytes, of its chips */
    uint32_t n_chips, chips;              /* a bit each */
} shortage;

static bool try_place(search *s, const place_need *need, strategy how, place_result *out,
                      shortage *lack)
{
    uint64_t want[DEV_MAX_CHIPS] = {0};
    *out = (place_result){0};
    *lack = (shortage){0};
    out->tpbs = choose(s, need->n_tpbs, how, out->tpb);
    lack->needed = need_of_tpbs(need, out, want);
    for (uint32_t i = 0; i < need->n_tpbs; i++) {
        uint32_t c = out->tpb[i].chip;
        if (lack->chips >> c & 1)
            continue;
        lack->chips |= 1u << c;
        lack->n_chips++;
        lack->available += free_of(&s->chips[c]);
        lack->capacity += s->chips[c].dram;
    }
    return charge(s->chips, s->n_chips, lack->chips, want, out->bytes);
}

/* --- Advice
 * ----------------------------------------------------------------------------------------------------------------
 */

/* Bytes that unloading |m| gives back to chips. */
static uint64_t gives_back(const place_model *m, uint32_t chips)
{
    uint64_t sum = 0;
    for (uint32_t c = 0; c < DEV_MAX_CHIPS; c++)
        if (chips >> c & 1)
            sum += m->at->bytes[c];
    return sum;
}

/* The smallest single model that suffices, else the largest ones until they do. */
static void advise_unload(const place_model *models, uint32_t n_models, uint32_t chips,
                          uint64_t missing, kaena_err *err)
{
    char list[200] = "";
    size_t used = 0;
    const place_model *named[MAX_ADVICE];
    uint32_t n = 0;
    while (missing && n < MAX_ADVICE) {
        const place_model *best = NULL;
        for (uint32_t i = 0; i < n_models; i++) {
            uint64_t gives = gives_back(&models[i], chips);
            bool used_before = gives == 0;
            for (uint32_t k = 0; k < n; k++)
                used_before = used_before || named[k] == &models[i];
            if (used_before)
                continue;
            uint64_t has = best ? gives_back(best, chips) : 0;
            bool better = !best || (has < missing ? gives > has : gives >= missing && gives < has);
            if (better)
                best = &models[i];
        }
        if (!best)
            break;
        named[n++] = best;
        uint64_t gives = gives_back(best, chips);
        missing -= gives < missing ? gives : missing;
        int wrote =
            snprintf(list + used, sizeof list - used, "%s'%.40s'", used ? ", " : "", best->name);
        used += wrote > 0 && (size_t)wrote < sizeof list - used ? (size_t)wrote : 0;
    }
    if (n && !missing)
        kaena_err_hint(err, "unloading %s would make room", list);
}

static void give_reason(kaena_err *err, Kaena__V1__ErrorDetail__Reason reason, uint64_t needed,
                        uint64_t available)
{
    if (!err)
        return;
    err->reason = (int32_t)reason;
    err->needed = needed;
    err->available = available;
}

static kaena_status refuse_memory(const search *s, const place_need *need, const shortage *lack,
                                  const place_model *models, uint32_t n_models, kaena_err *err)
{
    (void)KAENA_FAIL(
        err, RESOURCE_EXHAUSTED,
        "model '%s' needs %" PRIu64 " bytes of device DRAM on %u chip%s, %" PRIu64 " are free",
        need->name, lack->needed, lack->n_chips, lack->n_chips == 1 ? "" : "s", lack->available);
    give_reason(err, KAENA__V1__ERROR_DETAIL__REASON__NO_MEMORY, lack->needed, lack->available);
    if (lack->needed <= lack->capacity) {
        advise_unload(models, n_models, lack->chips, lack->needed - lack->available, err);
        return KAENA_RESOURCE_EXHAUSTED;
    }
    uint64_t dram = s->chips[0].dram, wanted = lack->needed / dram + (lack->needed % dram != 0);
    if (wanted * DEV_TPBS_PER_CHIP > KISA_MAX_TPBS)
        kaena_err_hint(err, "it can never fit: %d TPBs are the most a model can have",
                       KISA_MAX_TPBS);
    else
        kaena_err_hint(err,
                       "it can never fit %u TPBs: compile it for %" PRIu64
                       " (--num-tpbs), which takes %" PRIu64 " chips",
                       need->n_tpbs, wanted * DEV_TPBS_PER_CHIP, wanted);
    return KAENA_RESOURCE_EXHAUSTED;
}

/* --- Placing
 * ---------------------------------------------------------------------------------------------------------------
 */

static kaena_status refuse_tpbs(const place_need *need, uint32_t have, kaena_err *err)
{
    if (need->group)
        (void)KAENA_FAIL(err, FAILED_PRECONDITION,
                         "model '%s' was compiled for %u TPBs, group '%s' has %u", need->name,
                         need->n_tpbs, need->group, have);
    else
        (void)KAENA_FAIL(err, FAILED_PRECONDITION,
                         "model '%s' was compiled for %u TPBs, there are %u", need->name,
                         need->n_tpbs, have);
    kaena_err_hint(err,
                   need->group ? "load it into a larger group, or compile with --num-tpbs %u"
                               : "give the daemon more devices, or compile with --num-tpbs %u",
                   have);
    give_reason(err, KAENA__V1__ERROR_DETAIL__REASON__NO_TPBS, need->n_tpbs, have);
    return KAENA_FAILED_PRECONDITION;
}

/* There are enough TPBs, but other replicas, or other models, have them. */
static kaena_status refuse_replica(const place_need *need, uint32_t left, kaena_err *err)
{
    (void)KAENA_FAIL(err, FAILED_PRECONDITION,
                     "another replica of model '%s' needs %u TPBs, %u %s%s%s are left for it",
                     need->name, need->n_tpbs, left, need->group ? "of group '" : "of the daemon",
                     need->group ? need->group : "", need->group ? "'" : "");
    kaena_err_hint(err, "load it with fewer replicas");
    give_reason(err, KAENA__V1__ERROR_DETAIL__REASON__NO_TPBS, need->n_tpbs, left);
    return KAENA_FAILED_PRECONDITION;
}

/* All TPBs, those outside of groups, those without models. */
static void sets_of(const place_chip *chips, uint32_t n_chips, uint64_t *all, uint64_t *open,
                    uint64_t *idle)
{
    *all = *open = *idle = 0;
    for (uint32_t c = 0; c < n_chips; c++)
        for (uint32_t t = 0; t < DEV_TPBS_PER_CHIP; t++) {
            *all |= PLACE_BIT(c, t);
            *open |= chips[c].tpb[t].grouped ? 0 : PLACE_BIT(c, t);
            *idle |= chips[c].tpb[t].models ? 0 : PLACE_BIT(c, t);
        }
}

kaena_status place_model_on(const place_chip *chips, uint32_t n_chips, const place_need *need,
                            const place_model *models, uint32_t n_models, place_result *out,
                            kaena_err *err)
{
    uint64_t all, open, idle;
    sets_of(chips, n_chips, &all, &open, &idle);
    uint64_t within = need->group ? need->within : all;
    if (count(within) < need->n_tpbs)
        return refuse_tpbs(need, count(within), err);
    uint64_t allowed = within & ~need->avoid & (need->idle_only ? idle : all);
    if (count(allowed) < need->n_tpbs)
        return refuse_replica(need, count(allowed), err);
    if (!need->group && count(allowed & open) >= need->n_tpbs)
        allowed &= open;
    search s = {
        .chips = chips, .n_chips = n_chips, .allowed = allowed, .spare_groups = !need->group};
    shortage least = {0};
    for (strategy how = FEW_CHIPS; how < STRATEGIES; how++) {
        place_result r;
        shortage lack;
        if (try_place(&s, need, how, &r, &lack)) {
            *out = r;
            return KAENA_OK;
        }
        if (how == FEW_CHIPS || lack.needed - lack.available < least.needed - least.available)
            least = lack;
    }
    return refuse_memory(&s, need, &least, models, n_models, err);
}

kaena_status place_group_on(const place_chip *chips, uint32_t n_chips, const char *name, uint32_t n,
                            uint32_t on, uint64_t *out, kaena_err *err)
{
    uint64_t all, open, idle;
    dev_place unused[KISA_MAX_TPBS];
    sets_of(chips, n_chips, &all, &open, &idle);
    for (uint32_t c = 0; c < n_chips; c++)
        for (uint32_t t = 0; t < DEV_TPBS_PER_CHIP; t++)
            open &= on >> c & 1 ? UINT64_MAX : ~PLACE_BIT(c, t);
    if (n >= 1 && n <= count(open)) {
        search s = {.chips = chips, .n_chips = n_chips, .allowed = open};
        *out = choose(&s, n, FEW_CHIPS, unused);
        return KAENA_OK;
    }
    (void)KAENA_FAIL(err, RESOURCE_EXHAUSTED,
                     "group '%s': %u TPBs are asked for, %u are in no other group", name, n,
                     count(open));
    kaena_err_hint(err, "destroy a group, name other devices, or ask for fewer TPBs");
    give_reason(err, KAENA__V1__ERROR_DETAIL__REASON__NO_TPBS, n, count(open));
    return KAENA_RESOURCE_EXHAUSTED;
}
