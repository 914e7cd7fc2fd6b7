/* Where a model goes: which TPBs, and which chips' DRAM pays. Pure: no memory, no threads, no
 * clock.
 *
 * A set of TPBs is 64 bits: bit PLACE_BIT(chip, position on it). A TPB owns an equal part of its
 * chip's DRAM. What a model needs of one more than that it borrows from the others of the chip, and
 * where the chip is full, from the model's other chips. */
#ifndef DEV_PLACEMENT_H
#define DEV_PLACEMENT_H

#include "dev.h"
#include "isa.h"

#define PLACE_BIT(chip, tpb) (UINT64_C(1) << ((chip)*DEV_TPBS_PER_CHIP + (tpb)))

typedef struct place_tpb {
    uint32_t models; /* placed on it */
    uint64_t used;   /* bytes that they need for it, wherever they lie */
    bool grouped;    /* belongs to an explicit group */
} place_tpb;

/* What one chip has and carries. */
typedef struct place_chip {
    uint64_t dram, used; /* bytes */
    place_tpb tpb[DEV_TPBS_PER_CHIP];
} place_chip;

/* What a model asks for. */
typedef struct place_need {
    const char *name;
    uint32_t n_tpbs; /* 1..KISA_MAX_TPBS */
    /* Weights that each TPB reads, [n_tpbs] or NULL; what several on one chip read lies there once.
     */
    const uint64_t *offset, *size;
    uint64_t shared;   /* bytes besides, shared out evenly among the TPBs */
    const char *group; /* its TPBs are |within|; NULL: no group */
    uint64_t within;
    uint64_t avoid; /* TPBs of its other replicas */
    bool idle_only; /* only TPBs without models */
} place_need;

/* Where it went. */
typedef struct place_result {
    dev_place tpb[KISA_MAX_TPBS];      /* [n_tpbs]; those on one chip one after another */
    uint64_t tpb_bytes[KISA_MAX_TPBS]; /* [n_tpbs]: what each needs */
    uint64_t bytes[DEV_MAX_CHIPS];     /* what each chip of the system pays */
    uint64_t tpbs;                     /* as a set */
} place_result;

/* A model already placed, for the advice of what to unload. */
typedef struct place_model {
    const char *name;
    const place_result *at;
} place_model;

/* TPBs that few models use, on as few chips as possible, next to each other or not; chips with more
 * DRAM left before others. A model without a group gets TPBs outside of groups as long as there are
 * enough. Where the memory of those chips does not suffice, other TPBs and more chips are tried.
 *
 * FAILED_PRECONDITION (NO_TPBS): more TPBs than there are; |needed| and |available| are TPBs.
 * RESOURCE_EXHAUSTED (NO_MEMORY): |needed| and |available| are bytes of the chips that come
 * closest; the hint names models that would make room, or the number of TPBs to compile for. */
kaena_status place_model_on(const place_chip *chips, uint32_t n_chips, const place_need *need,
                            const place_model *models, uint32_t n_models, place_result *out,
                            kaena_err *err) KAENA_CHECKED;

/* |n| TPBs of no group, on the chips with a bit in |on|: idle ones first, on few chips.
 * RESOURCE_EXHAUSTED (NO_TPBS): so many are not free; |needed| and |available| are TPBs. */
kaena_status place_group_on(const place_chip *chips, uint32_t n_chips, const char *name, uint32_t n,
                            uint32_t on, uint64_t *out, kaena_err *err) KAENA_CHECKED;

/* Bytes of [offset, offset + size) that are in none of the |n| ranges before it. */
uint64_t place_new_bytes(const uint64_t *offset, const uint64_t *size, uint32_t n);

#endif
