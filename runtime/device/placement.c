#include "placement.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "kaena/v1/runtime.pb-c.h"

#define MAX_ADVICE 8 /* models named in one hint */

static uint32_t chips_for(uint32_t n_tpbs)
{
    return (n_tpbs + DEV_TPBS_PER_CHIP - 1) / DEV_TPBS_PER_CHIP;
}

static uint64_t free_of(const place_chip *c)
{
    return c->dram > c->used ? c->dram - c->used : 0;
}

uint64_t place_union_bytes(const uint64_t *offset, const uint64_t *size, uint32_t n)
{
    /* At most four ranges: each contributes what lies in none before it. */
    uint64_t total = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t at = offset[i], end = offset[i] + size[i];
        while (at < end) {
            uint64_t next = end;
            bool covered = false;
            for (uint32_t k = 0; k < i; k++) {
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
    }
    return total;
}

/* Fills |bytes| from what the chips want; what one lacks goes to those with room, evenly. */
static bool charge(const place_chip *chip, const place_need *need, uint32_t n, uint64_t *bytes)
{
    uint64_t missing = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t room = free_of(&chip[i]);
        bytes[i] = need->chip[i] < room ? need->chip[i] : room;
        missing += need->chip[i] - bytes[i];
    }
    while (missing) {
        uint32_t lenders = 0;
        for (uint32_t i = 0; i < n; i++)
            lenders += bytes[i] < free_of(&chip[i]);
        if (!lenders)
            return false;
        uint64_t each = missing / lenders + (missing % lenders != 0);
        for (uint32_t i = 0; i < n && missing; i++) {
            uint64_t room = free_of(&chip[i]) - bytes[i];
            uint64_t lent = room < each ? room : each;
            lent = lent < missing ? lent : missing;
            bytes[i] += lent;
            missing -= lent;
        }
    }
    return true;
}

/* TPBs of one chip, least loaded first; returns the load of the busiest one taken. */
static uint32_t take_tpbs(const place_chip *chip, uint32_t index, uint32_t n, dev_place *out)
{
    bool taken[DEV_TPBS_PER_CHIP] = {false};
    uint32_t busiest = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t best = DEV_TPBS_PER_CHIP;
        for (uint32_t t = 0; t < DEV_TPBS_PER_CHIP; t++)
            if (!taken[t] && (best == DEV_TPBS_PER_CHIP || chip->models[t] < chip->models[best]))
                best = t;
        taken[best] = true;
        busiest = chip->models[best] > busiest ? chip->models[best] : busiest;
    }
    for (uint32_t t = 0; t < DEV_TPBS_PER_CHIP; t++)
        if (taken[t])
            *out++ = (dev_place){.chip = (uint16_t)index, .tpb = (uint16_t)t};
    return busiest;
}

/* Places it on the chips from |first| on; false where the memory does not suffice. */
static bool try_at(const place_chip *chips, uint32_t first, const place_need *need,
                   place_result *out, uint32_t *load, uint64_t *left)
{
    uint32_t n = chips_for(need->n_tpbs), tpbs = 0;
    *out = (place_result){.first = first, .n_chips = n};
    *load = 0;
    *left = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t want = need->n_tpbs - tpbs;
        want = want < DEV_TPBS_PER_CHIP ? want : DEV_TPBS_PER_CHIP;
        uint32_t busiest = take_tpbs(&chips[first + i], first + i, want, out->tpb + tpbs);
        tpbs += want;
        *load = busiest > *load ? busiest : *load;
        *left += free_of(&chips[first + i]);
    }
    return charge(chips + first, need, n, out->bytes);
}

/* --- Advice
 * ----------------------------------------------------------------------------------------------------------------
 */

static uint64_t total(const uint64_t *bytes, uint32_t n)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += bytes[i];
    return sum;
}

/* Bytes that unloading |m| gives back to chips [first, first + n). */
static uint64_t gives_back(const place_model *m, uint32_t first, uint32_t n)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < m->at->n_chips; i++)
        if (m->at->first + i >= first && m->at->first + i < first + n)
            sum += m->at->bytes[i];
    return sum;
}

/* The smallest single model that suffices, else the largest ones until they do. */
static void advise_unload(const place_model *models, uint32_t n_models, uint32_t first, uint32_t n,
                          uint64_t missing, kaena_err *err)
{
    char list[200] = "";
    size_t used = 0;
    const place_model *named[MAX_ADVICE];
    uint32_t count = 0;
    while (missing && count < MAX_ADVICE) {
        const place_model *best = NULL;
        for (uint32_t i = 0; i < n_models; i++) {
            uint64_t gives = gives_back(&models[i], first, n);
            bool used_before = gives == 0;
            for (uint32_t k = 0; k < count; k++)
                used_before = used_before || named[k] == &models[i];
            if (used_before)
                continue;
            uint64_t has = best ? gives_back(best, first, n) : 0;
            bool better = !best || (has < missing ? gives > has : gives >= missing && gives < has);
            if (better)
                best = &models[i];
        }
        if (!best)
            break;
        named[count++] = best;
        uint64_t gives = gives_back(best, first, n);
        missing -= gives < missing ? gives : missing;
        int wrote =
            snprintf(list + used, sizeof list - used, "%s'%.40s'", used ? ", " : "", best->name);
        used += wrote > 0 && (size_t)wrote < sizeof list - used ? (size_t)wrote : 0;
    }
    if (count && !missing)
        kaena_err_hint(err, "unloading %s would make room", list);
}

static kaena_status refuse(const place_chip *chips, uint32_t n_chips, const place_need *need,
                           const place_model *models, uint32_t n_models, kaena_err *err)
{
    uint32_t n = chips_for(need->n_tpbs), first = 0;
    uint64_t needed = total(need->chip, n), most = 0, capacity = 0;
    for (uint32_t at = 0; at + n <= n_chips; at++) {
        uint64_t left = 0, all = 0;
        for (uint32_t i = 0; i < n; i++) {
            left += free_of(&chips[at + i]);
            all += chips[at + i].dram;
        }
        capacity = all > capacity ? all : capacity;
        if (left > most) {
            most = left;
            first = at;
        }
    }
    (void)KAENA_FAIL(err, RESOURCE_EXHAUSTED,
                     "model '%s' needs %" PRIu64 " bytes of device DRAM on %u chip%s, %" PRIu64
                     " are free",
                     need->name, needed, n, n == 1 ? "" : "s", most);
    if (!err)
        return KAENA_RESOURCE_EXHAUSTED;
    err->reason = KAENA__V1__ERROR_DETAIL__REASON__NO_MEMORY;
    err->needed = needed;
    err->available = most;
    if (needed <= capacity) {
        advise_unload(models, n_models, first, n, needed - most, err);
        return KAENA_RESOURCE_EXHAUSTED;
    }
    uint64_t chips_wanted = needed / chips[0].dram + (needed % chips[0].dram != 0);
    if (chips_wanted * DEV_TPBS_PER_CHIP > KISA_MAX_TPBS)
        kaena_err_hint(err, "it can never fit: %d TPBs are the most a model can have",
                       KISA_MAX_TPBS);
    else
        kaena_err_hint(err,
                       "it can never fit %u TPBs: compile it for %" PRIu64
                       " (--num-tpbs), which takes %" PRIu64 " chips",
                       need->n_tpbs, chips_wanted * DEV_TPBS_PER_CHIP, chips_wanted);
    return KAENA_RESOURCE_EXHAUSTED;
}

kaena_status place_model_on(const place_chip *chips, uint32_t n_chips, const place_need *need,
                            const place_model *models, uint32_t n_models, place_result *out,
                            kaena_err *err)
{
    uint32_t n = chips_for(need->n_tpbs);
    if (n > n_chips) {
        (void)KAENA_FAIL(err, FAILED_PRECONDITION,
                         "model '%s' was compiled for %u TPBs, there are %u", need->name,
                         need->n_tpbs, n_chips * DEV_TPBS_PER_CHIP);
        kaena_err_hint(err, "give the daemon more devices, or compile with --num-tpbs %u",
                       n_chips * DEV_TPBS_PER_CHIP);
        if (err)
            err->reason = KAENA__V1__ERROR_DETAIL__REASON__NO_TPBS;
        return KAENA_FAILED_PRECONDITION;
    }
    bool found = false;
    uint32_t best_load = 0;
    uint64_t best_left = 0;
    for (uint32_t first = 0; first + n <= n_chips; first++) {
        place_result r;
        uint32_t load;
        uint64_t left;
        if (!try_at(chips, first, need, &r, &load, &left))
            continue;
        if (!found || load < best_load || (load == best_load && left > best_left)) {
            found = true;
            best_load = load;
            best_left = left;
            *out = r;
        }
    }
    return found ? KAENA_OK : refuse(chips, n_chips, need, models, n_models, err);
}
