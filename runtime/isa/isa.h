/* Instructions of the emulated TPB: types, encode, decode, print, assemble, verify, cost. isa.def
 * is the table behind all of it.
 *
 * A program is one in-order stream per TPB that ends with HALT. In memory an instruction is a typed
 * struct; in the CODE section it is u16 opcode, u16 bytes of the whole instruction, then the
 * format's fields in order, packed and little-endian. */
#ifndef KISA_ISA_H
#define KISA_ISA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "act.h"
#include "arena.h"
#include "dtype.h"
#include "err.h"
#include "strbuf.h"

#define KISA_MAX_TPBS 64
#define KISA_SEMAPHORES 32
#define KISA_MAX_LOOPS 4   /* nesting */
#define KISA_DIMS 4        /* of an operand */
#define KISA_TILE_K 128    /* rows of the PE array */
#define KISA_TILE_PANELS 4 /* of 16 columns */
#define KISA_PANEL_COLUMNS 16
#define KISA_TILE_ROWS 512  /* moving rows of one MATMUL: a PSUM bank */
#define KISA_PSUM_ROWS 2048 /* 4 banks of 512 rows */
#define KISA_PSUM_COLUMNS 64
#define KISA_PSUM_ROW_BYTES (KISA_PSUM_COLUMNS * 4)
#define KISA_PSUM_BYTES (KISA_PSUM_ROWS * KISA_PSUM_ROW_BYTES)
#define KISA_SB_BYTES (12u << 20)
#define KISA_MAX_INSTRUCTIONS (1u << 22) /* of one program */
#define KISA_MAX_SEM_EVENTS (1u << 22)   /* SIGNALs and WAITs all TPBs of a step may run */
#define KISA_MAX_WORK                                                                              \
    (UINT64_C(1) << 46) /* elementary steps one program may take, loops multiplied out */

typedef enum kisa_space {
    KISA_NONE = 0, /* operand absent */
    KISA_SB = 1,
    KISA_PSUM = 2,
    KISA_WEIGHTS = 3, /* read-only */
    KISA_SCRATCH = 4, /* of the execution context, shared by its TPBs */
    KISA_IO = 5,      /* tensors bound per inference; the operand names one */
    KISA_SPACE_COUNT
} kisa_space;

typedef enum kisa_engine {
    KISA_ENGINE_SYNC,
    KISA_ENGINE_PE,
    KISA_ENGINE_ACT,
    KISA_ENGINE_POOL,
    KISA_ENGINE_DMA,
    KISA_ENGINE_COUNT
} kisa_engine;

typedef enum kisa_tt_kind {
#define KISA_TT_KIND(name, value, text) KISA_TT_##name = value,
#include "isa_kinds.def"
    KISA_TT_COUNT
} kisa_tt_kind;

typedef enum kisa_ttt_kind {
#define KISA_TTT_KIND(name, value, text) KISA_TTT_##name = value,
#include "isa_kinds.def"
    KISA_TTT_COUNT
} kisa_ttt_kind;

typedef enum kisa_reduce_kind {
#define KISA_REDUCE_KIND(name, value, text) KISA_REDUCE_##name = value,
#include "isa_kinds.def"
    KISA_REDUCE_COUNT
} kisa_reduce_kind;

typedef enum kisa_window_kind {
#define KISA_WINDOW_KIND(name, value, text) KISA_WINDOW_##name = value,
#include "isa_kinds.def"
    KISA_WINDOW_COUNT
} kisa_window_kind;

typedef enum kisa_softmax_kind {
#define KISA_SOFTMAX_KIND(name, value, text) KISA_SOFTMAX_##name = value,
#include "isa_kinds.def"
    KISA_SOFTMAX_COUNT
} kisa_softmax_kind;

typedef enum kisa_norm_kind {
#define KISA_NORM_KIND(name, value, text) KISA_NORM_##name = value,
#include "isa_kinds.def"
    KISA_NORM_COUNT
} kisa_norm_kind;

/* An access pattern: element (i0..i3) in turn (t0..t3) of the enclosing loops is at
 *   offset + sum of i * stride + sum of t * advance
 * bytes into the space. Unused dimensions come first and have count 1. */
typedef struct kisa_operand {
    uint8_t space;                   /* kisa_space */
    uint8_t dtype;                   /* kaena_dtype */
    uint16_t tensor;                 /* IO: which bound tensor; else 0 */
    uint32_t count[KISA_DIMS];       /* >= 1, outermost first */
    uint64_t offset;                 /* bytes */
    int64_t stride[KISA_DIMS];       /* bytes */
    int64_t advance[KISA_MAX_LOOPS]; /* bytes per turn, outermost enclosing loop first; 0 for loops
                                        that do not exist */
} kisa_operand;
#define KISA_OPERAND_BYTES                                                                         \
    (4 + 4 * KISA_DIMS + 8 + 8 * KISA_DIMS + 8 * KISA_MAX_LOOPS) /* encoded, in the order above */

#define KISA_FORMAT_BEGIN(format) typedef struct kisa_##format {
#define KISA_OPERAND(name, access, types, text) kisa_operand name;
#define KISA_FIELD(ctype, name, kind, least, most, text) ctype name;
#define KISA_FORMAT_END(format)                                                                    \
    uint8_t end; /* no format is an empty struct; not encoded */                                   \
    }                                                                                              \
    kisa_##format;
#include "isa.def"

typedef enum kisa_format {
#define KISA_FORMAT_BEGIN(format) KISA_FORMAT_##format,
#include "isa.def"
    KISA_FORMAT_COUNT
} kisa_format;

typedef enum kisa_op {
#define KISA_OP(name, opcode, engine, format, text) KISA_##name = opcode,
#include "isa.def"
} kisa_op;

typedef struct kisa_inst {
    uint16_t op; /* kisa_op */
    union {
#define KISA_FORMAT_BEGIN(format) kisa_##format format;
#include "isa.def"
    } u;
} kisa_inst;

typedef struct kisa_program {
    kisa_inst *inst;
    uint32_t n;
} kisa_program;

/* --- The table
 * ------------------------------------------------------------------------------------------------------------------------
 */

typedef enum kisa_access {
    KISA_ACCESS_READ,
    KISA_ACCESS_READ_OPT,
    KISA_ACCESS_READ_PSUM,
    KISA_ACCESS_WRITE
} kisa_access;

/* How a scalar field is checked and printed. */
typedef enum kisa_kind {
    KISA_KIND_NUMBER, /* decimal */
    KISA_KIND_REAL,   /* float, any */
    KISA_KIND_BITS,   /* hexadecimal */
    KISA_KIND_ACT,    /* names of base/act.def */
    KISA_KIND_TT,     /* names of isa_kinds.def, also the following */
    KISA_KIND_TTT,
    KISA_KIND_REDUCE,
    KISA_KIND_WINDOW,
    KISA_KIND_SOFTMAX,
    KISA_KIND_NORM
} kisa_kind;

typedef struct kisa_field_row {
    const char *name;
    uint16_t offset; /* in the format's struct */
    uint8_t bytes;   /* encoded: KISA_OPERAND_BYTES for an operand */
    bool is_operand;
    uint8_t access;      /* kisa_access, operands */
    uint32_t types;      /* bit per kaena_dtype, operands */
    uint8_t kind;        /* kisa_kind, scalars */
    bool is_signed;      /* scalars */
    int64_t least, most; /* scalars but REAL; of BITS compared as unsigned, -1 = all ones */
    const char *text;
} kisa_field_row;

typedef struct kisa_op_row {
    const char *name;
    uint16_t op;
    kisa_engine engine;
    kisa_format format;
    const char *text;
} kisa_op_row;

const kisa_op_row *kisa_op_find(uint16_t op); /* NULL: no such opcode */
const kisa_op_row *kisa_op_rows(size_t *n);
const kisa_field_row *kisa_fields(kisa_format format, size_t *n);
const char *kisa_engine_name(kisa_engine e);
const char *kisa_space_name(kisa_space s); /* "SB"; NULL for a number that is none */
/* The name of a value of an enumerated field: NULL where the kind has no names or the value none.
 */
const char *kisa_kind_name(kisa_kind kind, uint64_t value);
/* The bits of a scalar field, sign-extended to 64. */
uint64_t kisa_field_bits(const kisa_inst *inst, const kisa_field_row *row);

/* The operands of an instruction in table order; returns how many (at most 8). |access| may be
 * NULL. */
size_t kisa_operands(kisa_inst *inst, kisa_operand *out[8], kisa_access access[8]);

/* --- Encode, decode, print, assemble
 * -----------------------------------------------------------------------------------------------------
 */

/* Appends the program to |out|. The program is well-formed (opcodes known). */
void kisa_encode(const kisa_program *p, kaena_strbuf *out);
/* Decodes a whole CODE section; instructions live in |arena|. DATA_LOSS: unknown opcode, length
 * that does not fit, trailing bytes. Field values are not judged: that is kisa_verify's. */
kaena_status kisa_decode(kaena_arena *arena, const void *code, size_t size, kisa_program *out,
                         kaena_err *err) KAENA_CHECKED;
/* One instruction as text, without a newline:
 *   MATMUL moving=SB+0x100:bf16[1,8,56,64]<0,7424,128,2>{64} psum_row=0 accumulate=1
 * An operand is space (IO with the tensor's number: IO3), offset, type, counts, strides and, where
 * it advances with loops, in braces the advances, trailing zeros left out. Absent operands are left
 * out. Parses back with kisa_assemble. */
void kisa_print(const kisa_inst *inst, kaena_strbuf *out);
/* The whole program, indented by loops. */
void kisa_print_program(const kisa_program *p, kaena_strbuf *out);
/* Assembles text: an instruction a line, fields in any order, scalars left out are 0, '#' starts a
 * comment. INVALID_ARGUMENT: the message has line and column. Tests and kdb use it. */
kaena_status kisa_assemble(kaena_arena *arena, const char *text, kisa_program *out,
                           kaena_err *err) KAENA_CHECKED;

/* --- Verify
 * -------------------------------------------------------------------------------------------------------------------------------
 */

/* What a device step's programs may touch. */
typedef struct kisa_limits {
    uint64_t sb_bytes, weights_bytes, scratch_bytes;
    uint32_t n_io;
    const uint64_t *io_bytes; /* [n_io] */
    const bool *io_written;   /* [n_io]: may be written, and then not read: what they hold before
                                 may be another client's */
} kisa_limits;

/* Proves that the programs (one per TPB, each from its entry through HALT, the slice the step runs)
 * never leave their spaces, whatever memory holds: every operand of every instruction, loops
 * multiplied out; field ranges; counts that must agree; types; loop nesting; LDW before MATMUL in
 * the same straight line; PSUM rows; all semaphore waits end (symbolic run, at most
 * KISA_MAX_SEM_EVENTS); work at most KISA_MAX_WORK. After it, execution checks only indices.
 * DATA_LOSS: "tpb 2: instruction 17: MATMUL: moving: reads past the end of SB (12583040 >
 * 12582912)". */
kaena_status kisa_verify(const kisa_program *programs, uint32_t n_tpbs, const kisa_limits *limits,
                         kaena_err *err) KAENA_CHECKED;

/* Elementary steps (multiply-adds, taps, elements moved) of one turn of the instruction, saturated
 * at UINT64_MAX; |panels| of the stationary tile for MATMUL. The counts are valid. */
uint64_t kisa_work(const kisa_inst *inst, uint32_t panels);

/* First and one past the last byte the operand can touch in its space, given the turns of the
 * enclosing loops; false on overflow or a negative address. */
bool kisa_operand_extent(const kisa_operand *o, const uint32_t *turns, uint32_t n_loops,
                         uint64_t *first, uint64_t *end);

/* One past the last byte of |space| that a verified program touches; 0: it touches none. */
uint64_t kisa_space_end(const kisa_program *program, kisa_space space);

/* --- Cost
 * ---------------------------------------------------------------------------------------------------------------------------------
 */

#define KISA_CLOCK_HZ 1.0e9
#define KISA_DRAM_BYTES_PER_S 53.687e9 /* 50 GiB/s, a chip */
#define KISA_LINK_BYTES_PER_S 34.36e9  /* 32 GiB/s, neighbour chips */

/* Busy time of one instruction (one turn) on its engine in cycles, and the bytes it moves to and
 * from device DRAM. */
typedef struct kisa_cost_of {
    kisa_engine engine;
    double cycles;
    uint64_t dram_bytes;
    double flops;
} kisa_cost_of;
kisa_cost_of kisa_cost(const kisa_inst *inst);

/* Scoreboard over the streams of one device step on |n_tpbs| TPBs, 4 a chip: an instruction starts
 * when its engine is free and what it reads has been written; LDW hides behind the running MATMUL;
 * DMA and DRAM operands share the chip's bandwidth; WAIT/SIGNAL tie the streams. */
typedef struct kisa_estimate {
    double latency_s;
    double busy_s[KISA_ENGINE_COUNT]; /* summed over TPBs */
    double pe_flops;
    uint64_t dram_bytes;
    kisa_engine bottleneck;
} kisa_estimate;
void kisa_estimate_run(const kisa_program *programs, uint32_t n_tpbs, kisa_estimate *out);

#endif
