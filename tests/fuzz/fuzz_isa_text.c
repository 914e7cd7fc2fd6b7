/* Fuzz target: assembler, printer, encoder, decoder, verifier and estimate. What assembles survives
 * printing and encoding unchanged, whether it verifies or not. */
#include <stdlib.h>
#include <string.h>

#include "isa.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void must_encode_same(const kisa_program *a, const kisa_program *b)
{
    kaena_strbuf x = {0}, y = {0};
    kisa_encode(a, &x);
    kisa_encode(b, &y);
    must(x.size == y.size && (!x.size || memcmp(x.data, y.data, x.size) == 0));
    kaena_strbuf_fini(&x);
    kaena_strbuf_fini(&y);
}

static void verify(const kisa_program *p)
{
    static const uint64_t io_bytes[2] = {4096, 4096};
    static const bool io_written[2] = {false, true};
    const kisa_limits limits = {.sb_bytes = KISA_SB_BYTES,
                                .weights_bytes = 65536,
                                .scratch_bytes = 65536,
                                .n_io = 2,
                                .io_bytes = io_bytes,
                                .io_written = io_written};
    kisa_program both[2] = {*p, *p};
    kaena_err err;
    kaena_err_init(&err);
    for (uint32_t n = 1; n <= 2; n++) {
        if (kisa_verify(both, n, &limits, &err) != KAENA_OK) {
            must(err.what[0] != 0);
            continue;
        }
        kisa_estimate e;
        kisa_estimate_run(both, n, &e);
        must(e.latency_s >= 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 1 << 16)
        return 0;
    kaena_arena arena;
    kaena_arena_init(&arena, (size_t)256 << 20);
    kaena_err err;
    kaena_err_init(&err);
    kisa_program p, again;
    char *text = malloc(size + 1);
    must(text != NULL);
    memcpy(text, data, size);
    text[size] = 0;
    if (kisa_assemble(&arena, text, &p, &err) != KAENA_OK) {
        must(err.what[0] != 0);
    } else {
        kaena_strbuf out = {0};
        kisa_print_program(&p, &out);
        must(kisa_assemble(&arena, out.data ? out.data : "", &again, &err) == KAENA_OK);
        must_encode_same(&p, &again);
        kaena_strbuf_fini(&out);
        kisa_encode(&p, &out);
        must(kisa_decode(&arena, out.data, out.size, &again, &err) == KAENA_OK);
        must_encode_same(&p, &again);
        kaena_strbuf_fini(&out);
        verify(&p);
    }
    free(text);
    kaena_arena_fini(&arena);
    return 0;
}
