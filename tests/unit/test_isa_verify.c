/* Verification: every rule has a form that passes at its limit and one just beyond it that is
 * refused with the right message. */
#include <string.h>

#include "isa.h"
#include "ktest.h"

#define WEIGHTS_BYTES 65536
#define SCRATCH_BYTES 1048576

static const uint64_t io_bytes[3] = {4096, 4096, 64};
static const bool io_written[3] = {false, true, false};
static const kisa_limits limits = {.sb_bytes = KISA_SB_BYTES,
                                   .weights_bytes = WEIGHTS_BYTES,
                                   .scratch_bytes = SCRATCH_BYTES,
                                   .n_io = 3,
                                   .io_bytes = io_bytes,
                                   .io_written = io_written};

/* Verifies one program per TPB; a program of one line gets its HALT here. */
static kaena_status verify(const char *const *text, uint32_t n_tpbs, kaena_err *err)
{
    kaena_arena arena;
    kaena_arena_init(&arena, 0);
    kisa_program p[KISA_MAX_TPBS];
    for (uint32_t i = 0; i < n_tpbs; i++) {
        const char *with_halt =
            strstr(text[i], "HALT") ? text[i] : kaena_arena_printf(&arena, "%s\nHALT\n", text[i]);
        KTEST_OK(*err, kisa_assemble(&arena, with_halt, &p[i], err));
    }
    kaena_status status = kisa_verify(p, n_tpbs, &limits, err);
    kaena_arena_fini(&arena);
    return status;
}

typedef struct verify_case {
    const char *text;
    const char *refused; /* part of the message; NULL: passes */
} verify_case;

static void run_cases(const verify_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        kaena_err err;
        kaena_err_init(&err);
        kaena_status s = verify(&cases[i].text, 1, &err);
        if (!cases[i].refused) {
            cr_assert(s == KAENA_OK, "%s\nis refused: %s", cases[i].text, err.what);
            continue;
        }
        cr_assert(s == KAENA_DATA_LOSS, "%s\npasses", cases[i].text);
        cr_assert(strstr(err.what, cases[i].refused), "%s\n'%s' lacks '%s'", cases[i].text,
                  err.what, cases[i].refused);
    }
}
#define RUN(cases) run_cases((cases), sizeof(cases) / sizeof *(cases))

KTEST(isa_verify, structure)
{
    static const verify_case cases[] = {
        {"HALT", NULL},
        {"HALT\nWAIT sem=0 value=1", "the program does not end with HALT"},
        {"HALT\nHALT", "tpb 0: instruction 0: HALT: instructions follow"},
        {"LOOP count=2\nHALT", "inside 1 loops"},
        {"END\nHALT", "END: without a LOOP"},
        {"LOOP count=0\nEND", "LOOP: count: 0 is not in [1, 4294967295]"},
        {"LOOP count=1\nLOOP count=1\nLOOP count=1\nLOOP count=1\nEND\nEND\nEND\nEND", NULL},
        {"LOOP count=1\nLOOP count=1\nLOOP count=1\nLOOP count=1\nLOOP "
         "count=1\nEND\nEND\nEND\nEND\n"
         "END",
         "nests more than 4 deep"},
    };
    RUN(cases);
    kaena_err err;
    kisa_inst bad = {.op = 0x7777};
    kisa_inst two[2] = {bad, {.op = KISA_HALT}};
    KTEST_FAILS(err, DATA_LOSS, "unknown opcode 0x7777",
                kisa_verify(&(kisa_program){two, 2}, 1, &limits, &err));
    KTEST_FAILS(err, DATA_LOSS, "does not end with HALT",
                kisa_verify(&(kisa_program){NULL, 0}, 1, &limits, &err));
    KTEST_FAILS(err, DATA_LOSS, "not 1 to 64", kisa_verify(NULL, 0, &limits, &err));
    KTEST_FAILS(err, DATA_LOSS, "not 1 to 64", kisa_verify(NULL, 65, &limits, &err));
}

KTEST(isa_verify, one_operand)
{
    static const verify_case cases[] = {
        /* ends: of every space, and of every reach */
        {"FILL dst=SB+0xbffffc:f32[1,1,1,1]<0,0,0,4>", NULL},
        {"FILL dst=SB+0xc00000:f32[1,1,1,1]<0,0,0,4>",
         "FILL: dst: writes past the end of SB (12582916 > 12582912)"},
        {"FILL dst=SCRATCH+0xfff00:f32[1,1,1,64]<0,0,0,4>", NULL},
        {"FILL dst=SCRATCH+0xfff00:f32[1,1,1,65]<0,0,0,4>", "past the end of SCRATCH"},
        {"FILL dst=IO1+0:f32[1,1,1,1024]<0,0,0,4>", NULL},
        {"FILL dst=IO1+0:f32[1,1,1,1025]<0,0,0,4>", "past the end of IO (4100 > 4096)"},
        {"COPY dst=SB+0:i8[1,1,1,64]<0,0,0,1> src=IO2+0:i8[1,1,1,64]<0,0,0,1>", NULL},
        {"COPY dst=SB+0:i8[1,1,1,65]<0,0,0,1> src=IO2+0:i8[1,1,1,65]<0,0,0,1>",
         "src: reads past the end of IO (65 > 64)"},
        {"COPY dst=SB+0:i8[1,1,1,2]<0,0,0,1> src=WEIGHTS+0xfffe:i8[1,1,1,2]<0,0,0,1>", NULL},
        {"COPY dst=SB+0:i8[1,1,1,2]<0,0,0,1> src=WEIGHTS+0xffff:i8[1,1,1,2]<0,0,0,1>",
         "past the end of WEIGHTS"},
        {"FILL dst=SB+12:f32[1,1,1,4]<0,0,0,-4>", NULL},
        {"FILL dst=SB+8:f32[1,1,1,4]<0,0,0,-4>", "before the start of SB"},
        {"LOOP count=3\nFILL dst=SB+0:f32[1,1,1,1]<0,0,0,4>{6291454}\nEND",
         "offset, strides and advances must be multiples of 4"},
        {"LOOP count=3\nFILL dst=SB+4:f32[1,1,1,1]<0,0,0,4>{6291452}\nEND", NULL},
        {"LOOP count=3\nFILL dst=SB+8:f32[1,1,1,2]<0,0,0,4>{6291452}\nEND", "past the end of SB"},
        {"LOOP count=3\nFILL dst=SB+8:f32[1,1,1,1]<0,0,0,4>{-4}\nEND", NULL},
        {"LOOP count=4\nFILL dst=SB+8:f32[1,1,1,1]<0,0,0,4>{-4}\nEND", "before the start"},
        /* numbers near the end of 64 bits */
        {"FILL dst=SB+0xfffffffffffffff0:f32[1,1,1,8]<0,0,0,4>", "past 2^63"},
        {"FILL dst=SB+0:f32[4294967295,4294967295,4294967295,4294967295]"
         "<9223372036854775804,9223372036854775804,9223372036854775804,4>",
         "past 2^63"},
        {"FILL dst=SB+0:f32[1,1,1,1]<-9223372036854775808,0,0,0>", NULL},
        {"LOOP count=4294967295\nFILL dst=SB+0:f32[2,1,1,1]<-9223372036854775808,0,0,0>"
         "{9223372036854775804}\nEND",
         "before the start of SB, or past 2^63"},
        /* spaces */
        {"FILL dst=WEIGHTS+0:f32[1,1,1,1]<0,0,0,4>", "dst: may not be in WEIGHTS"},
        {"FILL dst=PSUM+0:f32[1,1,1,1]<0,0,0,4>", "dst: may not be in PSUM"},
        {"FILL value=0", "dst: may not be in NONE"},
        {"FILL dst=IO0+0:f32[1,1,1,1]<0,0,0,4>", "tensor 0 of IO, which the step only reads"},
        {"FILL dst=IO3+0:f32[1,1,1,1]<0,0,0,4>", "no tensor 3 in IO (3)"},
        {"FILL dst=SB1+0:f32[1,1,1,1]<0,0,0,4>", "names a tensor of IO"},
        {"COPY dst=SB+0:f32[1,1,1,1]<0,0,0,4> src=IO1+0:f32[1,1,1,1]<0,0,0,4>",
         "reads tensor 1 of IO, which the step writes"},
        {"COPY dst=SB+0:f32[1,1,1,1]<0,0,0,4> src=PSUM+0:f32[1,1,1,1]<0,0,0,4>",
         "src: may not be in PSUM"},
        {"ACT dst=SB+0:f32[1,1,1,1]<0,0,0,4> src=SB+0:f32[1,1,1,1]<0,0,0,4> "
         "bias=NONE+4:f32[1,1,1,1]<0,0,0,4>",
         "bias: absent but not zero"},
        /* types and counts */
        {"FILL dst=SB+0:string[1,1,1,1]<0,0,0,16>", "may not be of type string"},
        {"LRN size=1 dst=SB+0:i32[1,1,1,1]<0,0,0,4> src=SB+64:f32[1,1,1,1]<0,0,0,4>",
         "dst: may not be of type int32"},
        {"FILL dst=SB+0:f32[1,0,1,1]<0,0,0,4>", "count 0 in dimension 1"},
        {"FILL dst=SB+2:f32[1,1,1,1]<0,0,0,4>", "multiples of 4"},
        {"FILL dst=SB+0:f32[1,1,2,1]<0,0,6,4>", "multiples of 4"},
        {"FILL dst=SB+0:f32[1,1,1,1]<0,0,6,2>", NULL},
        {"FILL dst=SB+0:f32[1,1,1,1]<0,0,0,4>{4}", "advances with loop 0, inside 0 loops"},
        /* elements of a destination are distinct */
        {"FILL dst=SB+0:f32[1,1,1,2]<0,0,0,0>", "dst: elements overlap"},
        {"FILL dst=SB+0:f32[1,1,4,4]<0,0,16,4>", NULL},
        {"FILL dst=SB+0:f32[1,1,4,4]<0,0,12,4>", "elements overlap (stride 12 of dimension 2)"},
        {"FILL dst=SB+0:f32[1,4,4,4]<16,16,64,4>", NULL},
        {"FILL dst=SB+0:f32[1,4,4,4]<16,48,64,4>", "elements overlap"},
        {"FILL dst=SB+1024:f32[1,1,4,4]<0,0,-16,4>", NULL},
    };
    RUN(cases);
}

KTEST(isa_verify, destinations_against_sources)
{
    static const verify_case cases[] = {
        /* the identical element is fine where the function is element-wise */
        {"COPY dst=SB+0:bf16[1,1,8,8]<0,0,32,4> src=SB+0:f32[1,1,8,8]<0,0,32,4>", NULL},
        {"COPY dst=SB+0:bf16[1,1,8,8]<0,0,16,2> src=SB+0:f32[1,1,8,8]<0,0,32,4>",
         "dst overlaps src"},
        {"COPY dst=SB+4:f32[1,1,1,8]<0,0,0,4> src=SB+0:f32[1,1,1,8]<0,0,0,4>", "dst overlaps src"},
        {"COPY dst=SB+32:f32[1,1,1,8]<0,0,0,4> src=SB+0:f32[1,1,1,8]<0,0,0,4>", NULL},
        {"COPY dst=SB+28:f32[1,1,1,8]<0,0,0,4> src=SB+0:f32[1,1,1,8]<0,0,0,4>", "overlaps"},
        {"COPY dst=SB+28:f32[1,1,1,8]<0,0,0,4> src=SCRATCH+0:f32[1,1,1,8]<0,0,0,4>", NULL},
        /* a transpose in place is not */
        {"COPY dst=SB+0:f32[1,1,8,8]<0,0,32,4> src=SB+0:f32[1,1,8,8]<0,0,4,32>", "overlaps"},
        /* columns of one table do not touch each other */
        {"COPY dst=SB+0:f32[1,1,8,4]<0,0,32,4> src=SB+16:f32[1,1,8,4]<0,0,32,4>", NULL},
        {"COPY dst=SB+0:f32[1,1,8,5]<0,0,32,4> src=SB+16:f32[1,1,8,5]<0,0,32,4>", "overlaps"},
        {"COPY dst=SB+24:f32[1,1,8,4]<0,0,32,4> src=SB+40:f32[1,1,8,4]<0,0,32,4>", NULL},
        {"COPY dst=SB+24:f32[1,1,8,4]<0,0,32,4> src=SB+36:f32[1,1,8,4]<0,0,32,4>", "overlaps"},
        {"COPY dst=SB+24:f32[1,1,8,5]<0,0,32,4> src=SB+44:f32[1,1,8,4]<0,0,32,4>", "overlaps"},
        {"LOOP count=4\nCOPY dst=SB+0:f32[1,1,8,4]<0,0,64,4>{512} "
         "src=SB+16:f32[1,1,8,4]<0,0,64,4>{8}\nEND",
         NULL},
        {"LOOP count=7\nCOPY dst=SB+0:f32[1,1,8,4]<0,0,64,4>{512} "
         "src=SB+16:f32[1,1,8,4]<0,0,64,4>{8}\nEND",
         "overlaps"},
        /* what counts is the same turn */
        {"LOOP count=4\nCOPY dst=SB+32:f32[1,1,1,8]<0,0,0,4>{32} "
         "src=SB+0:f32[1,1,1,8]<0,0,0,4>{32}\nEND",
         NULL},
        {"LOOP count=4\nCOPY dst=SB+32:f32[1,1,1,8]<0,0,0,4>{0} "
         "src=SB+0:f32[1,1,1,8]<0,0,0,4>{32}\nEND",
         "overlaps"},
        /* neighbours are read */
        {"LRN size=3 bias=1 dst=SB+0:f32[1,1,4,8]<0,0,32,4> src=SB+0:f32[1,1,4,8]<0,0,32,4>",
         "dst overlaps src"},
        {"SOFTMAX dst=SB+0:f32[1,1,4,8]<0,0,32,4> src=SB+0:f32[1,1,4,8]<0,0,32,4>", NULL},
        {"SOFTMAX dst=SB+0:f32[1,1,4,8]<0,0,32,4> src=SB+32:f32[1,1,4,8]<0,0,32,4>", "overlaps"},
        {"ACT dst=SB+0:f32[1,1,4,8]<0,0,32,4> src=SB+0:f32[1,1,4,8]<0,0,32,4> "
         "residual=SB+0:f32[1,1,4,8]<0,0,32,4>",
         NULL},
        {"ACT dst=SB+0:f32[1,1,4,8]<0,0,32,4> src=SB+128:f32[1,1,4,8]<0,0,32,4> "
         "bias=SB+96:f32[1,1,1,8]<0,0,0,4>",
         "dst overlaps bias"},
    };
    RUN(cases);
}

#define LDW16 "LDW weights=WEIGHTS+0:bf16[1,4,8,32]<0,512,64,2> k=16\n"

KTEST(isa_verify, matrix_products)
{
    static const verify_case cases[] = {
        {LDW16 "MATMUL moving=SB+0:bf16[1,1,512,16]<0,0,32,2> psum_row=1536", NULL},
        {LDW16 "MATMUL moving=SB+0:bf16[1,1,512,16]<0,0,32,2> psum_row=1537",
         "psum_row: rows 1537 to 2048 pass the last (2047)"},
        {LDW16 "MATMUL moving=SB+0:bf16[1,1,513,16]<0,0,32,2>", "513 rows, more than 512"},
        {LDW16 "MATMUL moving=SB+0:bf16[4,8,16,16]<0,0,32,2>", NULL},
        {LDW16 "MATMUL moving=SB+0:bf16[65536,65536,65536,16]<0,0,0,2>", "rows, more than 512"},
        {LDW16 "MATMUL moving=SB+0:bf16[1,1,4,15]<0,0,32,2>",
         "15 columns, but the tile has k = 16"},
        {LDW16 "MATMUL moving=SB+0:bf16[1,1,4,16]<0,0,64,4>", "columns are not contiguous"},
        {LDW16 "MATMUL moving=SB+0:f16[1,1,4,16]<0,0,64,2>",
         "type float16 does not go with a tile of bfloat16"},
        {LDW16 "MATMUL moving=SB+0:bf16[1,1,4,16]<0,0,64,2> accumulate=2", "is not in [0, 1]"},
        {"MATMUL moving=SB+0:bf16[1,1,4,16]<0,0,64,2>", "no LDW before it"},
        {LDW16 "LOOP count=2\nMATMUL moving=SB+0:bf16[1,1,4,16]<0,0,64,2>\nEND",
         "no LDW before it"},
        {"LOOP count=2\n" LDW16 "END\nMATMUL moving=SB+0:bf16[1,1,4,16]<0,0,64,2>",
         "no LDW before it"},
        {"LDW weights=WEIGHTS+0:i8[1,1,4,64]<0,0,64,1> k=13\n"
         "MATMUL moving=SB+0:u8[1,1,4,13]<0,0,16,1>\nMATMUL moving=SB+0:i8[1,1,4,13]<0,0,16,1>",
         NULL},
        {"LDW weights=WEIGHTS+0:f32[1,1,128,16]<0,0,64,4> k=128", NULL},
        {"LDW weights=WEIGHTS+0:f32[1,1,129,16]<0,0,64,4> k=129", "129 is not in [1, 128]"},
        {"LDW weights=WEIGHTS+0:u8[1,1,4,64]<0,0,64,1> k=13", "may not be of type uint8"},
        {"LDW weights=WEIGHTS+0:bf16[1,5,8,32]<0,512,64,2> k=16", "5 panels, more than 4"},
        {"LDW weights=WEIGHTS+0:bf16[1,1,9,32]<0,0,64,2> k=16",
         "counts are [1,1,9,32], not [1,1,8,32]"},
        {"LDW weights=WEIGHTS+0:bf16[1,1,8,16]<0,0,64,2> k=16", "not [1,1,8,32]"},
        {"LDW weights=WEIGHTS+0:bf16[1,1,8,32]<0,0,128,2> k=16", "rows are 128 bytes apart"},
        {"LDW weights=WEIGHTS+32:bf16[1,1,8,32]<0,0,64,2> k=16", "not aligned to 64"},
        {"LDW weights=WEIGHTS+0:bf16[1,2,8,32]<0,544,64,2> k=16", "not aligned to 64"},
        {"LOOP count=2\nLDW weights=WEIGHTS+0:bf16[1,1,8,32]<0,0,64,2>{32} k=16\nEND",
         "not aligned to 64"},
        {"LDW weights=IO0+0:bf16[1,1,8,32]<0,0,64,2> k=16", "may not be in IO"},
        {"LDW weights=SB+0:bf16[1,1,8,32]<0,0,64,2> k=16", NULL},
        {"LDW weights=WEIGHTS+0xfe00:bf16[1,1,8,32]<0,0,64,2> k=16", NULL},
        {"LDW weights=WEIGHTS+0xfe40:bf16[1,1,8,32]<0,0,64,2> k=16", "past the end of WEIGHTS"},
    };
    RUN(cases);
}

#define DST "dst=SB+0:f32[1,1,4,8]<0,0,32,4> "
#define SRC "src=SB+0:f32[1,1,4,8]<0,0,32,4> "

KTEST(isa_verify, act_and_tt)
{
    static const verify_case cases[] = {
        {"ACT " DST "src=PSUM+0:f32[1,1,4,8]<0,0,256,4>", NULL},
        {"ACT " DST "src=PSUM+0x7fc00:i32[1,1,4,8]<0,0,256,4>", NULL},
        {"ACT " DST "src=PSUM+0x7fd00:i32[1,1,4,8]<0,0,256,4>", "past the end of PSUM"},
        {"ACT " DST "src=PSUM+0:f32[1,1,4,8]<0,0,128,4>", "not rows of PSUM"},
        {"ACT " DST "src=PSUM+0:f32[1,1,4,8]<0,0,256,8>", "not rows of PSUM"},
        {"ACT " DST "src=PSUM+224:f32[1,1,4,8]<0,0,256,4>", NULL},
        {"ACT " DST "src=PSUM+228:f32[1,1,4,8]<0,0,256,4>", "not rows of PSUM"},
        {"LOOP count=2\nACT " DST "src=PSUM+0:f32[1,1,4,8]<0,0,256,4>{128}\nEND",
         "not rows of PSUM"},
        {"ACT " DST "src=PSUM+0:bf16[1,1,4,8]<0,0,256,2>", "not rows of PSUM"},
        {"ACT " DST "src=PSUM+0:bf16[1,1,4,1]<0,0,256,2>", "PSUM holds float32 or int32"},
        {"ACT " DST "src=SB+0:f32[1,1,8,4]<0,0,16,4>", "dst overlaps src"},
        {"ACT " DST "src=SB+1024:f32[1,1,8,4]<0,0,16,4>",
         "src: counts are [1,1,8,4], not [1,1,4,8]"},
        {"ACT " DST SRC "scale=WEIGHTS+0:f32[1,1,1,8]<0,0,0,4>", NULL},
        {"ACT " DST SRC "scale=WEIGHTS+0:f32[1,1,1,7]<0,0,0,4>", "scale: counts"},
        {"ACT " DST SRC "bias=WEIGHTS+0:f32[1,1,1,8]<0,0,0,8>", "bias: columns are not contiguous"},
        {"ACT " DST SRC "bias=WEIGHTS+0:bf16[1,1,1,8]<0,0,0,2>", "may not be of type bfloat16"},
        {"ACT " DST SRC "residual=SB+1024:bf16[1,1,4,8]<0,0,16,2>", NULL},
        {"ACT " DST SRC "residual=SB+1024:bf16[1,1,4,4]<0,0,16,2>", "residual: counts"},
        {"ACT " DST SRC "func=THRESHOLDED_RELU", NULL},
        {"ACT " DST SRC "func=200", "func: 200 is not in"},
        {"TT " DST "a=SB+0:f32[1,1,4,8]<0,0,32,4> b=SB+512:bf16[1,1,4,8]<0,0,0,0>", NULL},
        {"TT " DST "a=SB+0:f32[1,1,4,8]<0,0,32,4> b=SB+512:bf16[1,1,1,8]<0,0,0,0>", "b: counts"},
        {"TT " DST "a=SB+0:f32[1,1,4,8]<0,0,32,4> b=SB+512:i32[1,1,4,8]<0,0,0,0>",
         "must all be int32, or none"},
        {"TT dst=SB+0:i32[1,1,1,8]<0,0,0,4> a=SB+0:i32[1,1,1,8]<0,0,0,4> "
         "b=SB+512:i32[1,1,1,8]<0,0,0,0> op=MAX",
         NULL},
        {"TT dst=SB+0:i32[1,1,1,8]<0,0,0,4> a=SB+0:i32[1,1,1,8]<0,0,0,4> "
         "b=SB+512:i32[1,1,1,8]<0,0,0,0> op=DIV",
         "op: DIV is not for int32"},
        {"TT dst=SB+0:i32[1,1,1,8]<0,0,0,4> a=SB+0:i32[1,1,1,8]<0,0,0,4> "
         "b=SB+512:i32[1,1,1,8]<0,0,0,0> func=RELU",
         "int32 takes IDENTITY only"},
        {"TTT " DST "a=SB+0:f32[1,1,4,8]<0,0,32,4> b=SB+512:bf16[1,1,4,8]<0,0,0,0> "
         "c=SB+512:bf16[1,1,4,8]<0,0,16,2>",
         NULL},
        {"TTT op=BLEND " DST "a=SB+2048:bool[1,1,4,8]<0,0,8,1> b=SB+512:bf16[1,1,4,8]<0,0,0,0> "
         "c=SB+512:bf16[1,1,4,8]<0,0,16,2>",
         "bool is for SELECT only"},
        {"TTT " DST "a=SB+0:f32[1,1,4,8]<0,0,32,4> b=SB+512:bf16[1,1,4,4]<0,0,0,0> "
         "c=SB+512:bf16[1,1,4,8]<0,0,16,2>",
         "b: counts"},
    };
    RUN(cases);
}

#define BYTES "QUANT dst=SB+0:u8[1,1,4,8]<0,0,8,1> scale_all=1 high=255 "

KTEST(isa_verify, quantising)
{
    static const verify_case cases[] = {
        {BYTES "src=PSUM+0:i32[1,1,4,8]<0,0,256,4> bias=WEIGHTS+0:i32[1,1,1,8]<0,0,0,4> zero=128",
         NULL},
        {BYTES "src=SB+512:f32[1,1,4,8]<0,0,32,4> divide=1", NULL},
        {BYTES "src=SB+512:f32[1,1,4,8]<0,0,32,4> bias_all=1", "not for a src of floats"},
        {BYTES "src=SB+512:i8[1,1,4,8]<0,0,32,4> low=-1", "low, high: -1 to 255"},
        {"QUANT dst=SB+0:i8[1,1,4,8]<0,0,8,1> high=128 src=SB+512:i32[1,1,4,8]<0,0,32,4>",
         "low, high: 0 to 128"},
        {"QUANT dst=SB+0:i8[1,1,4,8]<0,0,8,1> low=1 src=SB+512:i32[1,1,4,8]<0,0,32,4>",
         "low, high: 1 to 0"},
        {"QUANT dst=SB+0:i32[1,1,4,8]<0,0,32,4> scale_all=1 src=SB+512:u8[1,1,4,8]<0,0,8,1>", NULL},
        {"QUANT dst=SB+0:i32[1,1,4,8]<0,0,32,4> scale_all=2 src=SB+512:u8[1,1,4,8]<0,0,8,1>",
         "int32 takes integers and no scale"},
        {"QUANT dst=SB+0:f32[1,1,4,8]<0,0,32,4> scale_all=2 zero=1 "
         "src=SB+512:u8[1,1,4,8]<0,0,8,1>",
         "zero: for int8 and uint8 only"},
    };
    RUN(cases);
}

#define WINDOW_HEAD                                                                                \
    "WINDOW src=SB+0:f32[1,8,8,4]<0,128,16,4> dst=SB+4096:f32[1,4,4,4]<0,64,16,4> kernel_h=2 "     \
    "kernel_w=2 stride_h=2 stride_w=2 dilation_h=1 "

KTEST(isa_verify, pooling_engine)
{
    static const verify_case cases[] = {
        {WINDOW_HEAD "dilation_w=1", NULL},
        {WINDOW_HEAD, "dilation_w: 0 is not in [1, 4096]"},
        {WINDOW_HEAD "dilation_w=1 kind=AVG_PAD pad_y0=1 pad_y1=0", "ends before it starts"},
        {WINDOW_HEAD "dilation_w=1 y0=1000000001", "y0: 1000000001 is not in"},
        {"WINDOW src=SB+0:f32[1,8,8,4]<0,128,16,4> dst=SB+4096:f32[1,4,4,3]<0,64,16,4> kernel_h=2 "
         "kernel_w=2 stride_h=2 stride_w=2 dilation_h=1 dilation_w=1",
         "src: counts are [1,8,8,4], not [1,8,8,3]"},
        {"WINDOW src=SB+0:f32[1,1,1,1]<0,0,0,4> dst=SB+4:f32[1,300000,1,1]<0,4,0,4> kernel_h=1 "
         "kernel_w=1 stride_h=4096 stride_w=1 dilation_h=1 dilation_w=1 y0=919000000",
         "windows reach a row past 2^31"},
        {"DWCONV src=SB+0:f32[1,9,9,4]<0,144,16,4> weights=WEIGHTS+0:bf16[1,3,3,4]<0,24,8,2> "
         "dst=SB+4096:f32[1,4,4,4]<0,64,16,4> stride_h=2 stride_w=2 dilation_h=1 dilation_w=1",
         NULL},
        {"DWCONV src=SB+0:f32[1,8,9,4]<0,144,16,4> weights=WEIGHTS+0:bf16[1,3,3,4]<0,24,8,2> "
         "dst=SB+4096:f32[1,4,4,4]<0,64,16,4> stride_h=2 stride_w=2 dilation_h=1 dilation_w=1",
         "src: counts are [1,8,9,4], not [1,9,9,4]"},
        {"DWCONV src=SB+0:f32[1,9,9,4]<0,144,16,4> weights=WEIGHTS+0:bf16[1,3,3,5]<0,24,8,2> "
         "dst=SB+4096:f32[1,4,4,4]<0,64,16,4> stride_h=2 stride_w=2 dilation_h=1 dilation_w=1",
         "weights: counts"},
        {"REDUCE src=SB+0:f32[1,4,4,8]<0,128,32,4> dst=SB+4096:f32[1,1,1,8]<0,0,0,4> axes=0x6 "
         "scale=0.0625",
         NULL},
        {"REDUCE src=SB+0:f32[1,4,4,8]<0,128,32,4> dst=SB+4096:f32[1,1,1,8]<0,0,0,4> axes=0x6 "
         "op=MAX scale=0.0625",
         "scale: must be 1 for MAX"},
        {"REDUCE src=SB+0:f32[1,4,4,8]<0,128,32,4> dst=SB+4096:f32[1,1,4,8]<0,0,32,4> axes=0x6 "
         "scale=1",
         "dst: counts are [1,1,4,8], not [1,1,1,8]"},
        {"REDUCE src=SB+0:f32[1,4,4,8]<0,128,32,4> dst=SB+4096:f32[1,4,4,8]<0,128,32,4> axes=0x10 "
         "scale=1",
         "axes: 16 is not in [1, 15]"},
        {"SOFTMAX dst=SB+0:f32[1,1,4,8]<0,0,32,4> src=SB+1024:f32[1,1,4,8]<0,0,4,16>",
         "src: columns are not contiguous"},
        {"NORM dst=SB+0:bf16[1,1,4,8]<0,0,16,2> src=SB+1024:f32[1,1,4,8]<0,0,32,4> "
         "scale=WEIGHTS+0:f32[1,1,4,8]<0,0,0,4> bias=WEIGHTS+64:f32[1,1,4,8]<0,0,0,4> "
         "epsilon=1e-5",
         NULL},
        {"NORM dst=SB+0:f32[1,1,4,8]<0,0,32,4> src=SB+0:f32[1,1,4,8]<0,0,32,4> kind=RMS", NULL},
        {"NORM dst=SB+0:f32[1,1,4,8]<0,0,32,4> src=SB+16:f32[1,1,4,8]<0,0,32,4>", "overlaps"},
        {"NORM dst=SB+0:f32[1,1,4,8]<0,0,32,4> src=SB+1024:f32[1,1,4,8]<0,0,4,16>",
         "src: columns are not contiguous"},
        {"NORM dst=SB+0:f32[1,1,4,8]<0,0,32,4> src=SB+1024:f32[1,1,4,8]<0,0,32,4> "
         "scale=WEIGHTS+0:f32[1,1,1,8]<0,0,0,4>",
         "scale: counts are [1,1,1,8], not [1,1,4,8]"},
        {"LRN size=3 dst=SB+0:f32[1,1,4,8]<0,0,4,16> src=SB+1024:f32[1,1,4,8]<0,0,32,4>",
         "dst: columns are not contiguous"},
        {"LRN size=4097 dst=SB+0:f32[1,1,4,8]<0,0,32,4> src=SB+1024:f32[1,1,4,8]<0,0,32,4>",
         "size: 4097"},
        {"RESIZE src=SB+0:f32[1,2,2,4]<0,32,16,4> dst=SB+256:f32[1,4,4,4]<0,64,16,4> "
         "y_index=WEIGHTS+0:i32[1,1,4,2]<0,0,8,4> y_weight=WEIGHTS+64:f32[1,1,4,2]<0,0,8,4> "
         "x_index=WEIGHTS+0:i32[1,1,4,2]<0,0,8,4> x_weight=WEIGHTS+64:f32[1,1,4,2]<0,0,8,4>",
         NULL},
        {"RESIZE src=SB+0:f32[1,2,2,4]<0,32,16,4> dst=SB+256:f32[1,4,4,4]<0,64,16,4> "
         "y_index=WEIGHTS+0:i32[1,1,4,2]<0,0,8,4> y_weight=WEIGHTS+64:f32[1,1,4,1]<0,0,8,4> "
         "x_index=WEIGHTS+0:i32[1,1,4,2]<0,0,8,4> x_weight=WEIGHTS+64:f32[1,1,4,2]<0,0,8,4>",
         "y_weight: counts"},
        {"RESIZE src=SB+0:f32[1,2,2,4]<0,32,16,4> dst=SB+256:f32[1,4,4,4]<0,64,16,4> "
         "y_index=WEIGHTS+0:i32[1,1,4,2]<0,0,8,4> y_weight=WEIGHTS+64:f32[1,1,4,2]<0,0,8,4> "
         "x_index=WEIGHTS+0:i32[1,1,3,2]<0,0,8,4> x_weight=WEIGHTS+64:f32[1,1,3,2]<0,0,8,4>",
         "x_index: counts"},
    };
    RUN(cases);
}

KTEST(isa_verify, copies)
{
    static const verify_case cases[] = {
        {"COPY dst=SB+0:f32[1,1,1,8]<0,0,0,4> src=SB+64:i64[1,1,1,8]<0,0,0,8>", NULL},
        {"COPY dst=SB+0:f32[1,1,1,8]<0,0,0,4> src=SB+64:i64[1,1,1,7]<0,0,0,8>", "src: counts"},
        {"PACK src=SB+0:f32[2,1,5,20]<400,0,80,4> dst=SB+1024:bf16[2,2,3,32]<384,192,64,2>", NULL},
        {"PACK src=SB+0:bf16[1,1,5,20]<0,0,2,80> dst=SB+2048:bf16[1,2,3,32]<0,192,64,2>", NULL},
        {"PACK src=SB+0:i8[1,1,5,20]<0,0,20,1> dst=SB+1024:i8[1,2,2,64]<0,128,64,1>", NULL},
        {"PACK src=SB+0:f32[1,1,5,20]<0,0,80,4> dst=SB+1024:bf16[1,2,2,32]<0,192,64,2>",
         "dst: counts are [1,2,2,32], not [1,2,3,32]"},
        {"PACK src=SB+0:f32[1,1,5,20]<0,0,80,4> dst=SB+1024:bf16[1,1,3,32]<0,192,64,2>",
         "dst: counts"},
        {"PACK src=SB+0:f32[1,2,5,20]<0,0,80,4> dst=SB+1024:bf16[1,2,3,32]<0,192,64,2>",
         "src: counts are [1,2,5,20], not [1,1,5,20]"},
        {"PACK src=SB+0:f32[1,1,5,20]<0,0,80,4> dst=SB+1024:bf16[1,2,3,32]<0,384,128,2>",
         "panel rows are 128 bytes apart"},
        {"PACK src=SB+0:i8[1,1,5,20]<0,0,20,1> dst=SB+1024:bf16[1,2,3,32]<0,192,64,2>",
         "neither both float nor both int8"},
        {"PACK src=SB+0:f32[1,1,5,20]<0,0,80,4> dst=SB+128:bf16[1,2,3,32]<0,192,64,2>",
         "dst overlaps src"},
        {"FILL dst=SB+0:bf16[1,1,1,8]<0,0,0,2> value=0xffff", NULL},
        {"FILL dst=SB+0:bf16[1,1,1,8]<0,0,0,2> value=0x10000", "has more than 16 bits"},
        {"FILL dst=SB+0:i64[1,1,1,8]<0,0,0,8> value=0xffffffffffffffff", NULL},
        {"GATHER bound=10 table=WEIGHTS+0:f32[1,10,1,8]<0,32,0,4> "
         "index=IO0+0:i64[1,1,1,3]<0,0,0,8> "
         "dst=SB+0:f32[1,3,1,8]<0,32,0,4>",
         NULL},
        {"GATHER bound=11 table=WEIGHTS+0:f32[1,10,1,8]<0,32,0,4> "
         "index=IO0+0:i64[1,1,1,3]<0,0,0,8> "
         "dst=SB+0:f32[1,3,1,8]<0,32,0,4>",
         "table: counts are [1,10,1,8], not [1,11,1,8]"},
        {"GATHER bound=10 table=WEIGHTS+0:f32[1,10,1,8]<0,32,0,4> "
         "index=IO0+0:i64[1,1,1,4]<0,0,0,8> "
         "dst=SB+0:f32[1,3,1,8]<0,32,0,4>",
         "index: counts"},
        {"GATHER bound=10 table=WEIGHTS+0:f32[1,10,1,8]<0,32,0,4> "
         "index=IO0+0:f32[1,1,1,3]<0,0,0,4> "
         "dst=SB+0:f32[1,3,1,8]<0,32,0,4>",
         "index: may not be of type float32"},
        {"GATHER bound=10 table=WEIGHTS+0:f32[1,10,1,8]<0,32,0,4> "
         "index=IO0+0:i64[1,1,1,3]<0,0,0,8> "
         "dst=SB+0:bf16[1,3,1,8]<0,32,0,2>",
         "type bfloat16 is not table's"},
    };
    RUN(cases);
}

KTEST(isa_verify, work_is_bounded)
{
    static const verify_case cases[] = {
        /* 2^20 elements, 2^26 turns; a turn itself is a step too */
        {"LOOP count=67108000\nFILL dst=SB+0:i8[1,1,1,1048576]<0,0,0,1>\nEND", NULL},
        {"LOOP count=67108864\nFILL dst=SB+0:i8[1,1,1,1048576]<0,0,0,1>\nEND", "2^46"},
        {"LOOP count=4294967295\nLOOP count=4294967295\nLOOP count=4294967295\n"
         "FILL dst=SB+0:i8[1,1,1,1]<0,0,0,1>\nEND\nEND\nEND",
         "2^46"},
        {"REDUCE src=SB+0:f32[4294967295,4294967295,4294967295,1]<0,0,0,0> "
         "dst=SB+64:f32[1,1,1,1]<0,0,0,4> axes=0x7 scale=1",
         "2^46"},
    };
    RUN(cases);
}

KTEST(isa_verify, semaphores)
{
    kaena_err err;
    static const char *const pair[] = {"LOOP count=3\nSIGNAL mask=0x2 sem=4 amount=2\nEND\nHALT",
                                       "WAIT sem=4 value=6\nHALT"};
    KTEST_OK(err, verify(pair, 2, &err));
    static const char *const never[] = {
        "LOOP count=3\nSIGNAL mask=0x2 sem=4 amount=2\nEND\nHALT",
        "FILL dst=SB+0:i8[1,1,1,1]<0,0,0,1>\nWAIT sem=4 value=7\nHALT"};
    KTEST_FAILS(err, DATA_LOSS,
                "tpb 1: instruction 1: WAIT: semaphore 4 never reaches 7 (every TPB waits or has "
                "halted, and it is at 6)",
                verify(never, 2, &err));
    static const char *const dead[] = {"WAIT sem=0 value=1\nSIGNAL mask=0x2 sem=0 amount=1\nHALT",
                                       "WAIT sem=0 value=1\nSIGNAL mask=0x1 sem=0 amount=1\nHALT"};
    KTEST_FAILS(err, DATA_LOSS, "never reaches 1", verify(dead, 2, &err));
    static const char *const relay[] = {
        "LOOP count=100\nSIGNAL mask=0x2 sem=0 amount=1\nWAIT sem=1 value=1\nEND\nHALT",
        "LOOP count=100\nWAIT sem=0 value=1\nSIGNAL mask=0x1 sem=1 amount=1\nEND\nHALT"};
    KTEST_OK(err, verify(relay, 2, &err));
    static const verify_case cases[] = {
        {"SIGNAL mask=0x2 sem=0 amount=1", "mask 0x2 names a TPB past the last (1)"},
        {"SIGNAL mask=0 sem=0 amount=1", "mask: 0 is not in"},
        {"SIGNAL mask=0x1 sem=32 amount=1", "sem: 32 is not in [0, 31]"},
        {"SIGNAL mask=0x1 sem=31 amount=0", "amount: 0"},
        {"WAIT sem=0 value=1", "never reaches 1"},
        {"LOOP count=65538\nSIGNAL mask=0x1 sem=0 amount=65535\nEND", "passes 2^32"},
        {"LOOP count=65537\nSIGNAL mask=0x1 sem=0 amount=65535\nEND", NULL},
        {"LOOP count=4194304\nSIGNAL mask=0x1 sem=0 amount=1\nEND", NULL},
        {"LOOP count=4194305\nSIGNAL mask=0x1 sem=0 amount=1\nEND", "more than 4194304"},
        /* loops that do not synchronise are not walked */
        {"LOOP count=4294967295\nLOOP count=1000\nEND\nEND\nSIGNAL mask=0x1 sem=0 amount=1\n"
         "WAIT sem=0 value=1",
         NULL},
    };
    RUN(cases);
    const char *wide[KISA_MAX_TPBS];
    for (int i = 0; i < KISA_MAX_TPBS; i++)
        wide[i] = "SIGNAL mask=0xffffffffffffffff sem=0 amount=1\nWAIT sem=0 value=64\nHALT";
    KTEST_OK(err, verify(wide, KISA_MAX_TPBS, &err));
}
