/* The instruction table: encode, decode, print, assemble, cost. Verification: test_isa_verify.c. */
#include <string.h>

#include "isa.h"
#include "ktest.h"

static uint64_t seed = 0x9e3779b97f4a7c15;

static uint64_t random_bits(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void random_operand(kisa_operand *o)
{
    static const kaena_dtype types[] = {KAENA_F32, KAENA_BF16, KAENA_I8, KAENA_I64, KAENA_BOOL};
    o->space = (uint8_t)(1 + random_bits() % (KISA_SPACE_COUNT - 1));
    o->dtype = (uint8_t)types[random_bits() % 5];
    o->tensor = o->space == KISA_IO ? (uint16_t)random_bits() : 0;
    o->offset = random_bits();
    for (int i = 0; i < KISA_DIMS; i++) {
        o->count[i] = (uint32_t)random_bits();
        o->stride[i] = (int64_t)random_bits();
    }
    for (int i = 0; i < KISA_MAX_LOOPS; i++)
        o->advance[i] = random_bits() % 2 ? (int64_t)random_bits() : 0;
}

/* Any bits in every field; fields with names mostly a value that has one. */
static kisa_inst random_instruction(const kisa_op_row *op)
{
    kisa_inst inst = {.op = op->op};
    size_t n;
    const kisa_field_row *row = kisa_fields(op->format, &n);
    for (size_t i = 0; i < n; i++) {
        uint8_t *at = (uint8_t *)&inst.u + row[i].offset;
        if (row[i].is_operand) {
            if (row[i].access != KISA_ACCESS_READ_OPT || random_bits() % 2)
                random_operand((kisa_operand *)(void *)at);
            continue;
        }
        uint64_t v = random_bits();
        if (kisa_kind_name((kisa_kind)row[i].kind, 0) && random_bits() % 4)
            v %= (uint64_t)row[i].most + 1;
        memcpy(at, &v, row[i].bytes);
    }
    return inst;
}

static void expect_same_code(const kisa_program *a, const kisa_program *b, const char *how)
{
    kaena_strbuf x = {0}, y = {0};
    kisa_encode(a, &x);
    kisa_encode(b, &y);
    cr_assert(x.size == y.size && (x.size == 0 || memcmp(x.data, y.data, x.size) == 0),
              "%s changes the program", how);
    kaena_strbuf_fini(&x);
    kaena_strbuf_fini(&y);
}

KTEST(isa, every_row_survives_encoding_and_printing)
{
    size_t rows;
    const kisa_op_row *op = kisa_op_rows(&rows);
    for (size_t i = 0; i < rows * 200; i++) {
        kaena_arena arena;
        kaena_arena_init(&arena, 0);
        kisa_inst inst = random_instruction(&op[i % rows]);
        kisa_program p = {&inst, 1}, back, again;
        kaena_err err;
        kaena_strbuf code = {0}, text = {0};
        kisa_encode(&p, &code);
        KTEST_OK(err, kisa_decode(&arena, code.data, code.size, &back, &err));
        expect_same_code(&p, &back, "decoding");
        kisa_print(&inst, &text);
        kaena_err_init(&err);
        cr_assert(kisa_assemble(&arena, text.data, &again, &err) == KAENA_OK, "%s: %s", text.data,
                  err.what);
        expect_same_code(&p, &again, text.data);
        kaena_strbuf_fini(&code);
        kaena_strbuf_fini(&text);
        kaena_arena_fini(&arena);
    }
}

KTEST(isa, every_truncation_is_refused)
{
    size_t rows;
    const kisa_op_row *op = kisa_op_rows(&rows);
    for (size_t i = 0; i < rows; i++) {
        kaena_arena arena;
        kaena_arena_init(&arena, 0);
        kisa_inst inst = random_instruction(&op[i]);
        kisa_program p = {&inst, 1}, back;
        kaena_strbuf code = {0};
        kisa_encode(&p, &code);
        kaena_err err;
        for (size_t n = 1; n < code.size; n++) {
            /* In a block of its own size, so that a read past its end is seen. */
            uint8_t *cut = malloc(n);
            memcpy(cut, code.data, n);
            KTEST_FAILS(err, DATA_LOSS, "cut off", kisa_decode(&arena, cut, n, &back, &err));
            free(cut);
        }
        code.data[2] ^= 1;
        KTEST_FAILS(err, DATA_LOSS, "takes",
                    kisa_decode(&arena, code.data, code.size, &back, &err));
        code.data[1] ^= 0x77;
        KTEST_FAILS(err, DATA_LOSS, "unknown opcode",
                    kisa_decode(&arena, code.data, code.size, &back, &err));
        kaena_strbuf_fini(&code);
        kaena_arena_fini(&arena);
    }
}

KTEST(isa, decoding_stays_inside_the_quota)
{
    kaena_arena arena;
    kaena_arena_init(&arena, 1 << 20);
    kisa_inst *halts = calloc(10000, sizeof *halts);
    for (int i = 0; i < 10000; i++)
        halts[i].op = KISA_HALT;
    kisa_program p = {halts, 10000}, back;
    kaena_strbuf code = {0};
    kisa_encode(&p, &code);
    kaena_err err;
    KTEST_FAILS(err, RESOURCE_EXHAUSTED, "no memory",
                kisa_decode(&arena, code.data, code.size, &back, &err));
    kaena_strbuf_fini(&code);
    kaena_arena_fini(&arena);
    free(halts);
}

KTEST(isa, the_tables_are_complete)
{
    size_t rows;
    const kisa_op_row *op = kisa_op_rows(&rows);
    for (size_t i = 0; i < rows; i++) {
        cr_assert(kisa_op_find(op[i].op) == &op[i], "opcode of %s is used twice", op[i].name);
        cr_assert_not_null(kisa_engine_name(op[i].engine));
        size_t n;
        const kisa_field_row *row = kisa_fields(op[i].format, &n);
        for (size_t f = 0; f < n; f++)
            if (!row[f].is_operand && kisa_kind_name((kisa_kind)row[f].kind, 0))
                for (int64_t v = 0; v <= row[f].most; v++)
                    cr_assert_not_null(kisa_kind_name((kisa_kind)row[f].kind, (uint64_t)v),
                                       "%s: %s: value %d has no name", op[i].name, row[f].name,
                                       (int)v);
    }
    cr_assert_null(kisa_op_find(0xffff));
    cr_assert_null(kisa_space_name(KISA_SPACE_COUNT));
}

KTEST(isa, operands_come_in_table_order)
{
    kisa_inst inst = {.op = KISA_ACT};
    kisa_operand *o[8];
    kisa_access access[8];
    cr_assert(kisa_operands(&inst, o, access) == 5);
    cr_assert(o[0] == &inst.u.act.src && access[0] == KISA_ACCESS_READ_PSUM);
    cr_assert(o[1] == &inst.u.act.dst && access[1] == KISA_ACCESS_WRITE);
    cr_assert(o[4] == &inst.u.act.residual && access[4] == KISA_ACCESS_READ_OPT);
    inst.op = 0xffff;
    cr_assert(kisa_operands(&inst, o, NULL) == 0);
}

KTEST(isa, programs_are_indented_by_loops)
{
    kisa_inst inst[4] = {{.op = KISA_LOOP}, {.op = KISA_WAIT}, {.op = KISA_END}, {.op = KISA_HALT}};
    inst[0].u.loop.count = 3;
    inst[1].u.wait = (kisa_wait){.sem = 2, .value = 7};
    kaena_strbuf text = {0};
    kisa_print_program(&(kisa_program){inst, 4}, &text);
    cr_assert_str_eq(text.data, "LOOP count=3\n    WAIT sem=2 value=7\nEND\nHALT\n");
    kaena_strbuf_fini(&text);
}

KTEST(isa, the_assembler_says_where_it_stumbles)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"HALT\nHALTS\n", "line 2, column 1: no instruction 'HALTS'"},
        {"LOOP turns=3", "line 1, column 6: LOOP has no field 'turns'"},
        {"LOOP count=3 count=3", "column 14: count is given twice"},
        {"LOOP count=4294967296", "column 12: number does not fit"},
        {"LOOP count=-1", "column 12: number does not fit"},
        {"LOOP count", "column 11: expected '='"},
        {"LOOP count=x", "no value 'x'"},
        {"FILL dst=XB+0:f32[1,1,1,1]<0,0,0,4>", "column 10: no space 'XB'"},
        {"FILL dst=SB+0:f31[1,1,1,1]<0,0,0,4>", "column 15: no element type 'f31'"},
        {"FILL dst=SB+0:f32[1,1,1]<0,0,0,4>", "expected 4 numbers"},
        {"FILL dst=SB+0:f32[1,1,1,1,1]<0,0,0,4>", "more than 4 numbers"},
        {"FILL dst=SB+0:f32[1,1,1,1]<0,0,0,4>{1,2,3,4,5}", "more than 4 numbers"},
        {"FILL dst=SB:f32[1,1,1,1]<0,0,0,4>", "expected '+'"},
        {"TT op=PLUS", "op: no value 'PLUS'"},
        {"TT alpha=nan:0x0", "not the bits of a NaN"},
    };
    kaena_arena arena;
    kaena_arena_init(&arena, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kaena_err err;
        kisa_program p;
        KTEST_FAILS(err, INVALID_ARGUMENT, cases[i].message,
                    kisa_assemble(&arena, cases[i].text, &p, &err));
    }
    kisa_program p;
    kaena_err err;
    KTEST_OK(err, kisa_assemble(&arena, "  # nothing\r\n\n\tHALT # the end", &p, &err));
    cr_assert(p.n == 1 && p.inst[0].op == KISA_HALT);
    kaena_arena_fini(&arena);
}

static kisa_program assemble(kaena_arena *arena, const char *text)
{
    kisa_program p;
    kaena_err err;
    KTEST_OK(err, kisa_assemble(arena, text, &p, &err));
    return p;
}

KTEST(isa, a_space_ends_where_the_last_turn_reaches)
{
    kaena_arena arena;
    kaena_arena_init(&arena, 0);
    kisa_program p = assemble(
        &arena, "COPY dst=SB+64:f32[1,1,1,16]<0,0,0,4> src=IO0+0:f32[1,1,1,16]<0,0,0,4>\n"
                "LOOP count=3\n"
                "COPY dst=SB+1024:f32[1,1,2,16]<0,0,128,4>{256} "
                "src=IO0+0:f32[1,1,2,16]<0,0,0,4>\n"
                "END\n"
                "COPY dst=SCRATCH+9000:f32[1,1,1,1]<0,0,0,4> src=SB+0:f32[1,1,1,1]<0,0,0,4>\n");
    cr_assert_eq(kisa_space_end(&p, KISA_SB), 1024U + 2 * 256 + 128 + 64);
    cr_assert_eq(kisa_space_end(&p, KISA_SCRATCH), 9004U);
    cr_assert_eq(kisa_space_end(&p, KISA_PSUM), 0U);
    kaena_arena_fini(&arena);
}

KTEST(isa_cost, rates_are_those_of_the_machine)
{
    kaena_arena arena;
    kaena_arena_init(&arena, 0);
    kisa_program p = assemble(
        &arena, "MATMUL moving=SB+0:bf16[1,1,512,128]<0,0,256,2>\n"
                "MATMUL moving=SB+0:f32[1,1,512,128]<0,0,512,4>\n"
                "MATMUL moving=SB+0:u8[1,1,512,128]<0,0,128,1>\n"
                "COPY dst=SB+0:f32[1,1,16,64]<0,0,256,4> src=IO0+0:f32[1,1,16,64]<0,0,0,4>\n");
    kisa_cost_of c = kisa_cost(&p.inst[0]);
    cr_assert(c.engine == KISA_ENGINE_PE && c.cycles == 512 && c.flops == 2.0 * 512 * 128 * 64);
    cr_assert(kisa_cost(&p.inst[1]).cycles == 2048 && kisa_cost(&p.inst[2]).cycles == 256);
    c = kisa_cost(&p.inst[3]);
    cr_assert(c.engine == KISA_ENGINE_DMA && c.dram_bytes == 256, "a repeated row moves once");
    kaena_arena_fini(&arena);
}

KTEST(isa_cost, the_estimate_adds_what_must_wait_and_overlaps_the_rest)
{
    kaena_arena arena;
    kaena_arena_init(&arena, 0);
    const char *mm = "LDW weights=WEIGHTS+0:bf16[1,4,64,32]<0,4096,64,2> k=128\n"
                     "MATMUL moving=SB+0:bf16[1,1,512,128]<0,0,256,2> psum_row=0\n"
                     "HALT\n";
    kisa_program one = assemble(&arena, mm), both[2];
    kisa_estimate e, twice, looped, chained;
    kisa_estimate_run(&one, 1, &e);
    cr_assert(e.latency_s > 512e-9 && e.latency_s < 2e-6, "%g", e.latency_s);
    cr_assert(e.pe_flops == 2.0 * 512 * 128 * 64 && e.dram_bytes == 16384);

    /* Two TPBs at once take no longer than the shared DRAM makes them. */
    both[0] = both[1] = one;
    kisa_estimate_run(both, 2, &twice);
    cr_assert(twice.latency_s < 1.6 * e.latency_s && twice.pe_flops == 2 * e.pe_flops);

    /* One after the other: the sum, but for weights, which are fetched ahead. */
    both[0] = assemble(&arena, "LDW weights=WEIGHTS+0:bf16[1,4,64,32]<0,4096,64,2> k=128\n"
                               "MATMUL moving=SB+0:bf16[1,1,512,128]<0,0,256,2> psum_row=0\n"
                               "SIGNAL mask=0x2 sem=1 amount=1\nHALT\n");
    both[1] =
        assemble(&arena, "WAIT sem=1 value=1\n"
                         "LDW weights=WEIGHTS+0:bf16[1,4,64,32]<0,4096,64,2> k=128\n"
                         "MATMUL moving=SB+0:bf16[1,1,512,128]<0,0,256,2> psum_row=0\nHALT\n");
    kisa_estimate_run(both, 2, &chained);
    cr_assert(chained.latency_s >= e.latency_s + 512e-9 * 0.999 &&
                  chained.latency_s < 2.1 * e.latency_s,
              "%g", chained.latency_s);

    /* A loop of a million turns costs a million times a turn, and not a million steps here. */
    kisa_program loop =
        assemble(&arena, "LOOP count=1000000\n"
                         "LDW weights=SB+0:bf16[1,4,64,32]<0,4096,64,2> k=128\n"
                         "MATMUL moving=SB+0:bf16[1,1,512,128]<0,0,256,2> psum_row=0\n"
                         "END\nHALT\n");
    kisa_estimate_run(&loop, 1, &looped);
    cr_assert(looped.latency_s > 0.4 && looped.latency_s < 0.7, "%g", looped.latency_s);
    cr_assert(looped.bottleneck == KISA_ENGINE_PE);
    cr_assert(looped.pe_flops == 1e6 * 2.0 * 512 * 128 * 64, "%g", looped.pe_flops);
    kaena_arena_fini(&arena);
}

KTEST(isa_cost, what_was_read_from_dram_stays_in_the_state_buffer)
{
    kaena_arena arena;
    kaena_arena_init(&arena, 0);
    const char *ldw = "LDW weights=WEIGHTS+0:bf16[1,4,64,32]<0,4096,64,2> k=128\n";
    kaena_strbuf text = {0};
    kisa_estimate e;
    /* Read twice, paid once. */
    kaena_strbuf_printf(&text, "%s%sHALT\n", ldw, ldw);
    kisa_program again = assemble(&arena, text.data);
    kisa_estimate_run(&again, 1, &e);
    cr_assert_eq(e.dram_bytes, 16384, "%lu", e.dram_bytes);
    kaena_strbuf_fini(&text);
    /* Half of it is new. */
    kaena_strbuf_printf(
        &text, "%sLDW weights=WEIGHTS+8192:bf16[1,4,64,32]<0,4096,64,2> k=128\nHALT\n", ldw);
    kisa_program half = assemble(&arena, text.data);
    kisa_estimate_run(&half, 1, &e);
    cr_assert_eq(e.dram_bytes, 16384 + 8192, "%lu", e.dram_bytes);
    kaena_strbuf_fini(&text);
    /* After waiting for others it may have changed. */
    kaena_strbuf_printf(&text, "%sSIGNAL mask=0x1 sem=0 amount=1\nWAIT sem=0 value=1\n%sHALT\n",
                        ldw, ldw);
    kisa_program waited = assemble(&arena, text.data);
    kisa_estimate_run(&waited, 1, &e);
    cr_assert_eq(e.dram_bytes, 2 * 16384, "%lu", e.dram_bytes);
    kaena_strbuf_fini(&text);
    kaena_arena_fini(&arena);
}

/* The machine's rates, from its dimensions. */
#define PE_PEAK (2.0 * 128 * 64 * 1e9) /* 16.4 TFLOP/s: 64 a chip of four */
#define DRAM_RATE (50.0 * (1 << 30))

KTEST(isa_cost, peaks_are_those_of_the_machine)
{
    kaena_arena arena;
    kaena_arena_init(&arena, 0);
    cr_assert(4 * PE_PEAK > 64e12 && 4 * PE_PEAK < 66e12);
    cr_assert(KISA_DRAM_BYTES_PER_S > 0.999 * DRAM_RATE && KISA_DRAM_BYTES_PER_S <= DRAM_RATE);
    kisa_program p = assemble(
        &arena, "LDW weights=SB+0:bf16[1,4,64,32]<0,4096,64,2> k=128\n"
                "MATMUL moving=SB+0:bf16[1,1,512,128]<0,0,256,2>\n"
                "ACT src=PSUM+0:f32[1,1,512,64]<0,0,256,4> dst=SB+0:bf16[1,1,512,64]<0,0,128,2> "
                "scale_all=1 bias_all=0 func=IDENTITY residual_after=0 alpha=0 beta=0\n"
                "WINDOW src=SB+0:bf16[1,112,112,64]<0,14336,128,2> "
                "dst=SB+0x200000:bf16[1,56,56,64]<0,7168,128,2> kind=MAX kernel_h=3 kernel_w=3 "
                "stride_h=2 stride_w=2 dilation_h=1 dilation_w=1 y0=-1 x0=-1 pad_y0=-1 pad_y1=113 "
                "pad_x0=-1 pad_x1=113\n"
                "COPY dst=SB+0:bf16[1,1,64,64]<0,0,128,2> src=SB+65536:bf16[1,1,64,64]<0,0,128,2>\n"
                "HALT\n");
    kisa_cost_of c = kisa_cost(&p.inst[1]);
    cr_assert_float_eq(c.flops / c.cycles * KISA_CLOCK_HZ, PE_PEAK, 1);
    cr_assert(kisa_cost(&p.inst[0]).cycles == 128, "a row of the tile a cycle");
    /* 64 lanes take an element a cycle each; a pooled result takes one for each of its taps. */
    cr_assert(kisa_cost(&p.inst[2]).cycles == 512);
    cr_assert(kisa_cost(&p.inst[3]).cycles == 56 * 56 * 9, "%g", kisa_cost(&p.inst[3]).cycles);
    /* 12 engines a chip, 16 bytes a cycle each. */
    cr_assert(kisa_cost(&p.inst[4]).cycles == 64 * 64 * 2 / 48.0);
    kaena_arena_fini(&arena);
}

/* |batch| images through 40 tiles of weights, as often as the state buffer has to see them. */
static kisa_estimate of_batch(kaena_arena *arena, uint32_t batch)
{
    kaena_strbuf text = {0};
    for (uint32_t tile = 0; tile < 40; tile++)
        kaena_strbuf_printf(&text,
                            "LDW weights=WEIGHTS+%u:bf16[1,4,64,32]<0,16384,64,2> k=128\n"
                            "MATMUL moving=SB+0:bf16[1,%u,49,128]<0,12544,256,2> psum_row=0\n",
                            tile / 4 * 65536 + tile % 4 * 4096, batch);
    kaena_strbuf_printf(&text, "HALT\n");
    kisa_program p = assemble(arena, text.data);
    kisa_estimate e;
    kisa_estimate_run(&p, 1, &e);
    kaena_strbuf_fini(&text);
    return e;
}

KTEST(isa_cost, no_estimate_is_beyond_the_peaks)
{
    kaena_arena arena;
    kaena_arena_init(&arena, 0);
    kisa_estimate e[9];
    for (uint32_t batch = 1; batch <= 8; batch++) {
        e[batch] = of_batch(&arena, batch);
        /* Tiles whose panels lie between those of others are read once, all of them. */
        cr_assert_eq(e[batch].dram_bytes, 40 * 16384, "%lu", e[batch].dram_bytes);
        cr_assert(e[batch].latency_s >= (double)e[batch].dram_bytes / DRAM_RATE);
        cr_assert(e[batch].latency_s * PE_PEAK >= e[batch].pe_flops);
        cr_assert(e[batch].busy_s[KISA_ENGINE_PE] <= e[batch].latency_s * 1.0001);
        cr_assert(e[batch].pe_flops == batch * e[1].pe_flops);
    }
    /* Twice the batch costs at least what its rows do, and at most twice as much. */
    for (uint32_t batch = 1; batch <= 4; batch++) {
        cr_assert(e[2 * batch].latency_s >= e[batch].latency_s);
        cr_assert(e[2 * batch].latency_s <= 2 * e[batch].latency_s);
    }
    cr_assert(e[1].bottleneck == KISA_ENGINE_DMA && e[1].latency_s < 1.2 * 40 * 16384 / DRAM_RATE);
    kaena_arena_fini(&arena);
}

KTEST(isa_cost, tpbs_of_a_chip_share_its_dram)
{
    kaena_arena arena;
    kaena_arena_init(&arena, 0);
    kisa_program one =
        assemble(&arena, "LOOP count=1000\n"
                         "LDW weights=WEIGHTS+0:bf16[1,4,64,32]<0,4096,64,2>{16384} k=128\n"
                         "MATMUL moving=SB+0:bf16[1,1,64,128]<0,0,256,2> psum_row=0\n"
                         "END\nHALT\n");
    kisa_program all[8] = {one, one, one, one, one, one, one, one};
    for (uint32_t n = 1; n <= 8; n++) {
        kisa_estimate e;
        kisa_estimate_run(all, n, &e);
        uint32_t chips = (n + 3) / 4;
        cr_assert(e.latency_s >= 0.99 * (double)e.dram_bytes / (chips * DRAM_RATE), "%u TPBs: %g s",
                  n, e.latency_s);
    }
    kaena_arena_fini(&arena);
}
