/* Where a model goes: which TPBs, and which chips' DRAM pays. Pure: no memory, no threads, no
 * clock. */
#ifndef DEV_PLACEMENT_H
#define DEV_PLACEMENT_H

#include "dev.h"
#include "isa.h"

/* What one chip has and carries. */
typedef struct place_chip {
    uint64_t dram, used;                /* bytes */
    uint32_t models[DEV_TPBS_PER_CHIP]; /* placed on each TPB */
} place_chip;

/* What a model asks for. Its TPBs go in fours: four to a chip, the rest on one more. */
typedef struct place_need {
    const char *name;
    uint32_t n_tpbs;              /* 1..KISA_MAX_TPBS */
    uint64_t chip[DEV_MAX_CHIPS]; /* bytes, by chip of the model */
} place_need;

/* Where it went: chips [first, first + n_chips) pay |bytes|. */
typedef struct place_result {
    uint32_t first, n_chips;
    dev_place tpb[KISA_MAX_TPBS]; /* [n_tpbs] */
    uint64_t bytes[DEV_MAX_CHIPS];
} place_result;

/* A model already placed, for the advice of what to unload. */
typedef struct place_model {
    const char *name;
    const place_result *at;
} place_model;

/* Neighbouring chips whose busiest TPB has the fewest models, then those with the most DRAM left.
 * What a chip lacks is borrowed from the model's other chips, evenly.
 *
 * FAILED_PRECONDITION (NO_TPBS): more TPBs than there are. RESOURCE_EXHAUSTED (NO_MEMORY): |needed|
 * and |available| are bytes of the chips that come closest; the hint names models that would make
 * room, or the number of TPBs to compile for. */
kaena_status place_model_on(const place_chip *chips, uint32_t n_chips, const place_need *need,
                            const place_model *models, uint32_t n_models, place_result *out,
                            kaena_err *err) KAENA_CHECKED;

/* Bytes of the union of weight ranges, for the TPBs of one chip. */
uint64_t place_union_bytes(const uint64_t *offset, const uint64_t *size, uint32_t n);

#endif
