/* The artifact: what is written is read back, what is damaged is refused. */
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include "format.h"
#include "kaena/v1/runtime.pb-c.h"
#include "kneff.h"
#include "ktest.h"

static const int64_t dims[] = {1, 8};
static const float weights[16] = {1, 2, 3, 4, 5, 6, 7, 8};

/* in -(device: x + weights)-> sum -(host: Relu)-> out, on two TPBs. */
static void make(kneff *k)
{
    static const char *const text[] = {
        "TT op=ADD a=IO0+0:f32[1,1,1,8]<0,0,0,4> b=WEIGHTS+0:f32[1,1,1,8]<0,0,0,4> "
        "dst=IO1+0:f32[1,1,1,8]<0,0,0,4>\nSIGNAL mask=0x2 sem=0 amount=1\nHALT\n",
        "WAIT sem=0 value=1\nHALT\n"};
    kneff_init(k, 2, text);
    uint32_t in = kneff_value(k, "in", KAENA_F32, 2, dims);
    uint32_t sum = kneff_value(k, "sum", KAENA_F32, 2, dims);
    uint32_t out = kneff_value(k, "out", KAENA_F32, 2, dims);
    kneff_input(k, in);
    kneff_output(k, out);
    kneff_device(k, 0, 2, (uint32_t[]){in, sum}, 2);
    kneff_host(k,
               "graph \"h\" { input %sum: float32[1,8] %out: float32[1,8] = Relu(%sum) @\"r\" "
               "output %out }",
               1, &sum, 1, &out);
    kneff_weights(k, weights, sizeof weights);
}

static uint8_t *read_file(int fd, size_t *size)
{
    struct stat st;
    cr_assert(fstat(fd, &st) == 0);
    *size = (size_t)st.st_size;
    uint8_t *p = malloc(*size);
    cr_assert(pread(fd, p, *size, 0) == (ssize_t)*size);
    return p;
}

static kaena_status open_bytes(const void *data, size_t size, kaena_err *err)
{
    int fd = memfd_create("neff", MFD_CLOEXEC);
    cr_assert(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    neff_file *f = NULL;
    kaena_status status = neff_open_fd(fd, "m.neff", &f, err);
    if (status == KAENA_OK)
        f = neff_unref(f);
    else
        cr_assert_null(f);
    (void)close(fd);
    return status;
}

/* Makes header and table agree with their checksum again. */
static void seal(uint8_t *file)
{
    neff_disk_header h;
    memcpy(&h, file, sizeof h);
    h.xxh64 = 0;
    memset(h.digest, 0, sizeof h.digest);
    XXH64_state_t x;
    (void)XXH64_reset(&x, 0);
    (void)XXH64_update(&x, &h, sizeof h);
    (void)XXH64_update(&x, file + sizeof h, h.n_sections * sizeof(neff_disk_section));
    h.xxh64 = XXH64_digest(&x);
    memcpy(file + offsetof(neff_disk_header, xxh64), &h.xxh64, sizeof h.xxh64);
}

KTEST(neff, what_is_written_is_read_back)
{
    kneff k;
    make(&k);
    neff_file *f = kneff_open(&k);
    cr_assert(neff_n_values(f) == 3 && neff_n_inputs(f) == 1 && neff_n_outputs(f) == 1);
    neff_tensor t = neff_input(f, 0);
    cr_assert_str_eq(t.name, "in");
    cr_assert(t.dtype == KAENA_F32 && t.shape.rank == 2 && t.bytes == 32 && !t.dynamic);
    cr_assert_str_eq(neff_output(f, 0).name, "out");
    cr_assert_str_eq(neff_value(f, 1).name, "sum");
    cr_assert(neff_program(f, 0)->n == 3 && neff_program(f, 1)->n == 2);
    cr_assert(neff_program_at(f, 0, 1).n == 2);
    cr_assert(neff_n_graphs(f) == 1 && neff_graph(f, 0)->n_nodes == 1);
    uint64_t size;
    const uint8_t *w = neff_weights(f, &size);
    cr_assert(size == sizeof weights && memcmp(w, weights, sizeof weights) == 0);
    cr_assert((uintptr_t)w % 4096 == 0);
    uint32_t minor, major = neff_format_version(f, &minor);
    cr_assert(major == NEFF_FORMAT_MAJOR && minor == 0, "the lowest that the content needs");
    cr_assert_str_eq(neff_compiler(f), "kcc test");
    cr_assert_str_eq(neff_target(f), "inf1");
    cr_assert(strlen(neff_digest(f)) == 64);
    kaena_err err;
    KTEST_OK(err, neff_check_digest(f, NULL, &err));
    KTEST_OK(err, neff_check_weights(f, NULL, &err));
    cr_assert(!neff_weights_lost(f));
    neff_section_info s[8];
    cr_assert(neff_sections(f, s, 8) == 5);
    cr_assert_str_eq(s[0].name, "META");
    cr_assert_str_eq(s[4].name, "WEIGHTS");
    neff_file *again = neff_ref(f);
    cr_assert_null(neff_unref(f));
    cr_assert(neff_n_values(again) == 3);
    (void)neff_unref(again);
    kneff_fini(&k);
}

KTEST(neff, weights_come_in_pieces)
{
    kneff k;
    make(&k);
    static const struct neff_piece pieces[] = {{4, 8, "abcdefgh"}, {9000, 3, "xyz"}};
    k.content.weights = pieces;
    k.content.n_pieces = 2;
    k.content.weights_bytes = 10000;
    neff_file *f = kneff_open(&k);
    uint64_t size;
    const uint8_t *w = neff_weights(f, &size);
    cr_assert(size == 10000 && w[3] == 0 && memcmp(w + 4, "abcdefgh", 8) == 0);
    cr_assert(memcmp(w + 8999, "\0xyz\0", 5) == 0 && w[9999] == 0);
    kaena_err err;
    KTEST_OK(err, neff_check_weights(f, NULL, &err));
    (void)neff_unref(f);
    k.content.weights_bytes = 9002;
    char path[] = "/tmp/neff-pieces-XXXXXX";
    (void)close(mkstemp(path));
    KTEST_FAILS(err, INTERNAL, "piece 1", neff_write(path, &k.content, &err));
    (void)unlink(path);
    kneff_fini(&k);
}

KTEST(neff, another_version_is_refused_with_both_versions_and_the_remedy)
{
    kneff k;
    make(&k);
    int fd = kneff_write_fd(&k);
    size_t size;
    uint8_t *file = read_file(fd, &size);
    neff_disk_header *h = (void *)file;
    kaena_err err;
    h->major = 2;
    h->minor = 7;
    memcpy(h->compiler, "kcc 9.1.0", 10);
    /* Of another version only the prefix means anything. */
    memset(file + NEFF_PREFIX_BYTES, 0xff, size - NEFF_PREFIX_BYTES);
    KTEST_FAILS(
        err, FAILED_PRECONDITION,
        "the file is format 2.7, written by 'kcc 9.1.0', this reader is kaena " KAENA_VERSION
        " with format 1.1",
        open_bytes(file, size, &err));
    cr_assert(err.reason == KAENA__V1__ERROR_DETAIL__REASON__VERSION_MISMATCH);
    cr_assert_str_eq(err.hint, "recompile the model with kcc " KAENA_VERSION);
    h->major = NEFF_FORMAT_MAJOR;
    h->features = 0x30;
    KTEST_FAILS(err, FAILED_PRECONDITION, "features 0x30", open_bytes(file, size, &err));
    KTEST_FAILS(err, FAILED_PRECONDITION, "features 0x30",
                open_bytes(file, NEFF_PREFIX_BYTES, &err));
    free(file);

    /* A later minor version is read. */
    file = read_file(fd, &size);
    ((neff_disk_header *)(void *)file)->minor = 9;
    seal(file);
    KTEST_OK(err, open_bytes(file, size, &err));
    free(file);
    (void)close(fd);
    kneff_fini(&k);
}

KTEST(neff, every_field_of_the_header_is_checked)
{
    kneff k;
    make(&k);
    int fd = kneff_write_fd(&k);
    size_t size;
    uint8_t *file = read_file(fd, &size);
    kaena_err err;
    /* Without the checksum made right, any changed byte of header and table is refused. */
    size_t table = sizeof(neff_disk_header) + 5 * sizeof(neff_disk_section);
    for (size_t i = 0; i < table; i++) {
        if (i >= offsetof(neff_disk_header, digest) && i < sizeof(neff_disk_header))
            continue;
        file[i] ^= 0x41;
        cr_assert(open_bytes(file, size, &err) != KAENA_OK, "byte %zu does not matter", i);
        file[i] ^= 0x41;
    }
    KTEST_OK(err, open_bytes(file, size, &err));

#define FIELD(member, value, message)                                                              \
    do {                                                                                           \
        uint8_t *copy = malloc(size);                                                              \
        memcpy(copy, file, size);                                                                  \
        ((neff_disk_header *)(void *)copy)->member = (value);                                      \
        seal(copy);                                                                                \
        KTEST_FAILS(err, DATA_LOSS, message, open_bytes(copy, size, &err));                        \
        cr_assert(err.reason == KAENA__V1__ERROR_DETAIL__REASON__BAD_ARTIFACT);                    \
        free(copy);                                                                                \
    } while (0)
    FIELD(magic[1], 'M', "wrong magic number");
    FIELD(header_bytes, 127, "127 bytes");
    FIELD(compiler[0], 0, "not text");
    FIELD(compiler[2], 7, "not text");
    FIELD(target[3], '2', "target 'inf2', not 'inf1'");
    FIELD(n_tpbs, 0, "0 TPBs");
    FIELD(n_tpbs, 65, "65 TPBs");
    FIELD(n_tpbs, 1, "2 TPBs, the header says 1");
    FIELD(n_tpbs, 3, "no section CODE2");
    FIELD(file_bytes, size + 1, "its header says");
#undef FIELD
#define SECTION(i, member, value, message)                                                         \
    do {                                                                                           \
        uint8_t *copy = malloc(size);                                                              \
        memcpy(copy, file, size);                                                                  \
        ((neff_disk_section *)(void *)(copy + sizeof(neff_disk_header)))[i].member = (value);      \
        seal(copy);                                                                                \
        KTEST_FAILS(err, DATA_LOSS, message, open_bytes(copy, size, &err));                        \
        free(copy);                                                                                \
    } while (0)
    SECTION(0, name[0], 'B', "no section META");
    SECTION(0, name[0], 0, "name is not text");
    SECTION(2, name[4], '0', "section CODE0: there are two");
    SECTION(1, offset, 64, "overlaps");
    SECTION(1, offset, 100, "not a multiple of 64");
    SECTION(4, offset, 64 * 3, "not a multiple of 4096");
    SECTION(4, offset, UINT64_C(1) << 62, "past the end of the file");
    SECTION(4, size, UINT64_MAX, "past the end of the file");
    SECTION(1, size, 0, "wrong checksum");
    SECTION(1, xxh64, 1, "section CODE0: wrong checksum");
    SECTION(3, xxh64, 1, "section HOST0: wrong checksum");
    /* Unknown sections are passed over. */
    uint8_t *copy = malloc(size);
    memcpy(copy, file, size);
    memcpy(((neff_disk_section *)(void *)(copy + sizeof(neff_disk_header)))[4].name, "NEWTHING", 9);
    seal(copy);
    KTEST_FAILS(err, DATA_LOSS, "past the end of WEIGHTS", open_bytes(copy, size, &err));
    free(copy);
#undef SECTION
    free(file);
    (void)close(fd);
    kneff_fini(&k);
}

KTEST(neff, every_truncation_is_refused)
{
    kneff k;
    make(&k);
    int fd = kneff_write_fd(&k);
    size_t size;
    uint8_t *file = read_file(fd, &size);
    kaena_err err;
    for (size_t n = 0; n < size; n += n < 1200 ? 1 : 61)
        cr_assert(open_bytes(file, n, &err) == KAENA_DATA_LOSS, "%zu of %zu bytes", n, size);
    /* Also where the header agrees with the shorter file. */
    for (size_t n = sizeof(neff_disk_header); n < size; n += n < 1200 ? 1 : 61) {
        uint8_t *copy = malloc(n);
        memcpy(copy, file, n);
        ((neff_disk_header *)(void *)copy)->file_bytes = n;
        if (n >= sizeof(neff_disk_header) + 5 * sizeof(neff_disk_section))
            seal(copy);
        cr_assert(open_bytes(copy, n, &err) == KAENA_DATA_LOSS, "%zu of %zu bytes", n, size);
        free(copy);
    }
    free(file);
    (void)close(fd);
    kneff_fini(&k);
}

static bool not_any_more(void *asked)
{
    return ++*(int *)asked < 2;
}

KTEST(neff, checks_keep_the_pace_of_their_caller)
{
    kneff k;
    make(&k);
    int fd = kneff_write_fd(&k), asked = 0;
    kaena_err err;
    neff_file *f;
    const neff_pace pace = {not_any_more, &asked};
    KTEST_OK(err, neff_open_fd(fd, "m.neff", &f, &err));
    KTEST_OK(err, neff_check_weights(f, &pace, &err));
    cr_assert(asked == 1);
    KTEST_FAILS(err, CANCELLED, "given up", neff_check_digest(f, &pace, &err));
    cr_assert(asked == 2);
    (void)neff_unref(f);
    (void)close(fd);
    kneff_fini(&k);
}

KTEST(neff, damage_is_found)
{
    kneff k;
    make(&k);
    int fd = kneff_write_fd(&k);
    kaena_err err;
    neff_file *f;
    KTEST_OK(err, neff_open_fd(fd, "m.neff", &f, &err));
    neff_section_info s[8];
    (void)neff_sections(f, s, 8);
    cr_assert(pwrite(fd, "X", 1, (off_t)s[4].offset) == 1);
    KTEST_FAILS(err, DATA_LOSS, "WEIGHTS: wrong checksum", neff_check_weights(f, NULL, &err));
    KTEST_FAILS(err, DATA_LOSS, "wrong SHA-256", neff_check_digest(f, NULL, &err));
    /* Truncated while mapped: no signal, and the model knows. */
    cr_assert(ftruncate(fd, (off_t)s[4].offset) == 0);
    KTEST_FAILS(err, DATA_LOSS, "truncated", neff_check_weights(f, NULL, &err));
    cr_assert(neff_weights_lost(f));
    KTEST_FAILS(err, DATA_LOSS, "ends at byte", neff_check_digest(f, NULL, &err));
    (void)neff_unref(f);
    (void)close(fd);
    kneff_fini(&k);
}

KTEST(neff, what_is_no_file_is_refused)
{
    kaena_err err;
    neff_file *f = NULL;
    KTEST_FAILS(err, NOT_FOUND, "open '/nonexistent/x.neff'",
                neff_open("file:///nonexistent/x.neff", &f, &err));
    KTEST_FAILS(err, INVALID_ARGUMENT, "not a regular file", neff_open("/tmp", &f, &err));
    KTEST_FAILS(err, DATA_LOSS, "not a NEFF: only 0 bytes", open_bytes("", 0, &err));
    char junk[4096];
    memset(junk, 'j', sizeof junk);
    KTEST_FAILS(err, DATA_LOSS, "not a NEFF: wrong magic", open_bytes(junk, sizeof junk, &err));
}

/* Changes META by |...| and expects that it cannot be written, as reading refuses it. */
#define META(message, ...)                                                                         \
    do {                                                                                           \
        kneff k;                                                                                   \
        make(&k);                                                                                  \
        __VA_ARGS__;                                                                               \
        kaena_err err;                                                                             \
        KTEST_FAILS(err, DATA_LOSS, message,                                                       \
                    neff_write("/tmp/neff-refused.neff", &k.content, &err));                       \
        cr_assert(access("/tmp/neff-refused.neff", F_OK) != 0, "a file was left behind");          \
        kneff_fini(&k);                                                                            \
    } while (0)

KTEST(neff, meta_is_checked)
{
    char long_name[NEFF_MAX_NAME + 2];
    memset(long_name, 'n', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = 0;
    Kaena__V1__NeffWeightRange range = KAENA__V1__NEFF_WEIGHT_RANGE__INIT;
    Kaena__V1__NeffWeightRange *ranges[2] = {&range, &range};
    Kaena__V1__NeffSignature sig = KAENA__V1__NEFF_SIGNATURE__INIT;
    Kaena__V1__NeffSignature *sigs[1] = {&sig};
    char *sig_in[1] = {"sum"};
    Kaena__V1__NeffEstimate estimate = KAENA__V1__NEFF_ESTIMATE__INIT, *estimates[1] = {&estimate};
    Kaena__V1__NeffChoice choice = KAENA__V1__NEFF_CHOICE__INIT, *choices[1] = {&choice};
    Kaena__V1__NeffLayer layer = KAENA__V1__NEFF_LAYER__INIT, *layers[1] = {&layer};
    double engine_us = NAN;
    layer.name = "l";
    sig.name = "serve";
    sig.inputs = sig_in;
    sig.n_inputs = 1;
    META("0 contexts", k.meta.contexts = 0);
    META("65 contexts", k.meta.contexts = 65);
    META("bytes of SB", k.meta.sb_bytes = KISA_SB_BYTES + 1);
    META("bytes of SCRATCH", k.meta.scratch_bytes = UINT64_MAX);
    META("two values are named 'in'", k.values[1]->spec->name = "in");
    META("a value's name is empty", k.values[1]->spec->name = "");
    META("not printable text", k.values[1]->spec->name = "a\nb");
    META("not printable text", k.values[1]->spec->name = "\xc0\xaf");
    META("not printable text", k.values[1]->spec->name = "\xed\xa0\x80");
    META("not printable text", k.values[1]->spec->name = long_name);
    META("value 1 has no type", k.values[1]->spec = NULL);
    META("unknown element type 99", k.values[1]->spec->dtype = (Kaena__V1__DataType)99);
    META("dimension 0 is -1", k.values[1]->spec->shape[0] = -1);
    META("is too large", k.values[1]->spec->shape[0] = INT64_MAX);
    META("is too large", k.values[1]->spec->shape[0] = INT64_C(1) << 33);
    META("rank 9, more than 8", k.values[1]->spec->n_shape = 9;
         k.values[1]->spec->shape = (int64_t[9]){1});
    META("no value 3", k.inputs[0] = 3);
    META("output 'out' is listed twice", k.meta.n_outputs = 2; k.outputs[1] = k.outputs[0]);
    META("'in' is of a kind that a device cannot hold", k.values[0]->dynamic = 1);
    META("'in' has no shape, but is not dynamic", k.values[0]->spec->any_rank = 1);
    META("value 'in': unknown kind 4", k.values[0]->spec->kind = (Kaena__V1__ValueKind)4);
    META("value 'in': any rank, and one of 2",
         k.values[0]->dynamic = k.values[0]->spec->any_rank = 1);
    META("1 weight ranges for 2 TPBs", k.meta.weight_ranges = ranges; k.meta.n_weight_ranges = 1);
    META("weight range of TPB 0", k.meta.weight_ranges = ranges; k.meta.n_weight_ranges = 2;
         range.size = 65);
    META("signature 'serve' names an input", k.meta.signatures = sigs; k.meta.n_signatures = 1);
    META("not printable text", k.meta.advice = "a\nb");
    META("estimate 0: impossible amounts", k.meta.estimates = estimates; k.meta.n_estimates = 1;
         estimate.dram_utilisation = -1);
    META("choice 0: impossible amounts", k.meta.choices = choices; k.meta.n_choices = 1;
         choice.throughput_per_s = INFINITY);
    META("layer 'l': impossible amounts", k.meta.layers = layers; k.meta.n_layers = 1;
         layer.n_engine_us = 1; layer.engine_us = &engine_us);
}

KTEST(neff, plan_is_checked)
{
    META("plan: no steps", k.plan.n_steps = 0);
    META("step 0: of a kind", k.steps[0]->kind_case = KAENA__V1__NEFF_STEP__KIND__NOT_SET);
    META("step 1: reads 'sum', which no earlier step", k.steps[0]->device->io[1] = 2);
    META("step 0: no value 7", k.steps[0]->device->io[1] = 7);
    META("step 0: writes 'in', which is an input", k.steps[0]->device->io[1] = 0);
    META("step 0: reads 'out', which no earlier", k.steps[0]->device->io[0] = 2);
    META("say whether they are written", k.steps[0]->device->n_io_written = 1);
    META("'sum' is of a kind that a device cannot hold",
         k.values[1]->spec->dtype = KAENA__V1__DATA_TYPE__STRING);
    META("'sum' is of a kind that a device cannot hold", k.values[1]->dynamic = 1);
    META("1 entries for 2 TPBs", k.steps[0]->device->n_entries = 1);
    META("tpb 0: entry 3 is past", k.steps[0]->device->entries[0] = 3);
    META("never reaches 1", k.steps[0]->device->entries[0] = 2);
    META("step 0: tpb 0: instruction 0: TT: dst: writes past the end of IO (32 > 28)",
         k.values[1]->spec->shape[1] = 7);
    META("writes tensor 1 of IO, which the step only reads", k.steps[0]->device->io_written[1] = 0;
         k.steps[0]->device->io[1] = 0);
    META("no graph 1 in HOST", k.steps[1]->host->graph = 1);
    META("takes 1 and gives 1 values, the step says 0 and 1", k.steps[1]->host->n_inputs = 0);
    META("'out' is of another type or shape", k.values[2]->spec->shape[1] = 7);
    META("may allocate nothing", k.meta.host_quota_bytes = 0);
    META("no step makes output 'out'", k.plan.n_steps = 1);
}
