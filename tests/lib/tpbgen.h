/* Random programs for TPBs that verify, in memory that is small enough for them to meet in it. */
#ifndef TPBGEN_H
#define TPBGEN_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "isa.h"
#include "tpb.h"

#define TPBGEN_BUFFERS 6 /* of SB; the last two hold F32, the others BF16 */
#define TPBGEN_BUFFER_BYTES (192u << 10)
#define TPBGEN_BYTE_BUFFERS 2 /* behind them, of I8 and U8 */
#define TPBGEN_SB_BYTES ((TPBGEN_BUFFERS + TPBGEN_BYTE_BUFFERS) * TPBGEN_BUFFER_BYTES)
#define TPBGEN_WEIGHT_BYTES (512u << 10)
#define TPBGEN_SCRATCH_PART (16u << 10) /* written by one TPB, read by all after a barrier */
#define TPBGEN_IO_BYTES (64u << 10)
#define TPBGEN_MAX_TPBS 4

/* A group of programs and what they run on. */
typedef struct tpbgen {
    kaena_arena *arena;
    uint64_t seed;
    uint32_t n_tpbs;
    kisa_program program[TPBGEN_MAX_TPBS];
    kisa_limits limits;
    uint64_t io_bytes[2];
    bool io_written[2];
} tpbgen;

/* Memory of one execution: of every TPB its SB and PSUM, and what they share. */
typedef struct tpbgen_memory {
    uint8_t *sb[TPBGEN_MAX_TPBS], *psum[TPBGEN_MAX_TPBS];
    uint8_t *weights, *scratch, *io[2];
    _Atomic uint32_t error;
    tpb_bind bind[TPBGEN_MAX_TPBS];
} tpbgen_memory;

uint32_t tpbgen_random(tpbgen *g, uint32_t n);

/* |steps| things to do per TPB and phase, with barriers in between; |large| sizes make operations
 * that are worth sharing. */
void tpbgen_make(tpbgen *g, kaena_arena *arena, uint64_t seed, uint32_t n_tpbs, uint32_t steps,
                 bool large);

/* The same content for the same seed. */
void tpbgen_memory_init(tpbgen_memory *m, const tpbgen *g, const ker_table *ker);
void tpbgen_memory_fini(tpbgen_memory *m);
/* Bytes that a program can write (but PSUM) are the same; a NaN is a NaN only by its bytes. */
bool tpbgen_memory_same(const tpbgen_memory *a, const tpbgen_memory *b, uint32_t n_tpbs);

#endif
