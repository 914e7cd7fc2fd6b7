/* The NEFF file as it lies on disk. All integers are little-endian.
 *
 *   header | section table | sections, aligned to 64 bytes (WEIGHTS to 4096), ascending
 *
 * Sections: META (protobuf NeffMeta), CODE<i> (the program of TPB i), HOST<i> (graph i of the host
 * steps), WEIGHTS, DEBUG. A reader passes over names it does not know. */
#ifndef NEFF_FORMAT_H
#define NEFF_FORMAT_H

#include <assert.h>
#include <stdint.h>

#define NEFF_MAGIC "\x89NEFF\r\n\x1a" /* not text; damaged by any conversion of line ends */
#define NEFF_TARGET "inf1"
/* Required features: what a reader must understand of the plan. Minor 0 has none of them. */
#define NEFF_FEATURE_CONTROL UINT64_C(1) /* NeffIfStep, NeffLoopStep */
#define NEFF_FEATURE_SELECT UINT64_C(2)  /* NeffSelectStep */
#define NEFF_FEATURE_VALUES UINT64_C(4)  /* sequences, optionals; inputs of unknown shape */
#define NEFF_FEATURE_BATCH UINT64_C(8)   /* NeffDynamicBatch */
#define NEFF_FEATURES                                                                              \
    (NEFF_FEATURE_CONTROL | NEFF_FEATURE_SELECT | NEFF_FEATURE_VALUES | NEFF_FEATURE_BATCH)
#define NEFF_ALIGN 64
#define NEFF_WEIGHTS_ALIGN 4096

/* Limits of one file. */
#define NEFF_MAX_SECTIONS 1024
#define NEFF_MAX_GRAPHS 512
#define NEFF_MAX_META_BYTES (64u << 20)
#define NEFF_MAX_META_MEMORY (256u << 20)   /* what unpacking META may take */
#define NEFF_MAX_MEMORY (UINT64_C(2) << 30) /* programs, graphs and copies of sections */
#define NEFF_MAX_VALUES 65536
#define NEFF_MAX_STEPS 4096 /* of the plan and all bodies together */
#define NEFF_MAX_BODIES 4096
#define NEFF_MAX_NESTING 16                            /* of bodies */
#define NEFF_MAX_STEP_INSTRUCTIONS (UINT64_C(1) << 24) /* of all device steps' slices together */
#define NEFF_MAX_CONTEXTS 64
#define NEFF_MAX_VALUE_BYTES (UINT64_C(1) << 36)
#define NEFF_MAX_NAME 1024

typedef struct neff_disk_header {
    char magic[8];
    uint16_t major, minor;
    uint32_t header_bytes; /* of this struct */
    uint64_t features;     /* required: a reader that lacks one refuses the file */
    char compiler[32];     /* "kcc 0.1.0", padded with zeros */
    /* Up to here the header is the same in every version, so that a refusal can name both sides. */
    char target[16];
    uint32_t n_tpbs;
    uint32_t n_sections;
    uint64_t file_bytes;
    uint64_t xxh64;     /* of header and section table, this field and |digest| zero */
    uint8_t digest[32]; /* SHA-256 of the whole file, this field zero */
} __attribute__((packed)) neff_disk_header;
static_assert(sizeof(neff_disk_header) == 128, "layout of the file");
#define NEFF_PREFIX_BYTES 56

typedef struct neff_disk_section {
    char name[16]; /* padded with zeros */
    uint64_t offset, size;
    uint64_t xxh64; /* of the section's bytes */
} __attribute__((packed)) neff_disk_section;
static_assert(sizeof(neff_disk_section) == 40, "layout of the file");

#endif
