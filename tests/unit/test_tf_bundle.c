/* Sorted tables and tensor bundles: every form they may have, and what is said about damage. */
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bundle_build.h"
#include "file.h"
#include "ktest.h"
#include "sstable.h"
#include "tf_bundle.h"

enum {
    T_FLOAT = TENSORFLOW__DATA_TYPE__DT_FLOAT,
    T_STRING = TENSORFLOW__DATA_TYPE__DT_STRING,
    T_BOOL = TENSORFLOW__DATA_TYPE__DT_BOOL,
    T_COMPLEX = TENSORFLOW__DATA_TYPE__DT_COMPLEX64,
};

typedef struct fixture {
    kaena_arena a;
    kaena_err err;
    bb_bundle b;
    kcc_tf_bundle *bundle;
    kop_tensor t;
} fixture;

static fixture begin(void)
{
    fixture f = {0};
    kaena_arena_init(&f.a, 0);
    bb_header(&f.b, 1, false, 0);
    return f;
}

static kaena_status open(fixture *f)
{
    return kcc_tf_bundle_open_bytes(&f->a, f->b.index.data, f->b.index.size, f->b.data.data,
                                    f->b.data.size, &f->bundle, &f->err);
}

static void end(fixture *f)
{
    kcc_tf_bundle_close(f->bundle);
    bb_fini(&f->b);
    kaena_arena_fini(&f->a);
}

/* --- Tables ---------------------------------------------------------------------------------- */

/* Known values of CRC-32C: RFC 3720, B.4. */
KTEST(tf_bundle, crc32c_is_castagnolis)
{
    uint8_t zeros[32] = {0}, rising[32];
    for (uint8_t i = 0; i < 32; i++)
        rising[i] = i;
    cr_assert(kcc_crc32c(0, zeros, 32) == 0x8a9136aa);
    cr_assert(kcc_crc32c(0, rising, 32) == 0x46dd794e);
    cr_assert(kcc_crc32c(kcc_crc32c(0, rising, 7), rising + 7, 25) == 0x46dd794e);
    cr_assert(kcc_crc32c(0, "123456789", 9) == 0xe3069283);
}

KTEST(tf_bundle, tables_of_every_form_give_their_entries)
{
    char keys[50][16], values[50][16];
    bb_entry e[50];
    for (int i = 0; i < 50; i++) {
        (void)snprintf(keys[i], sizeof keys[i], "key/%03d", i * 3);
        (void)snprintf(values[i], sizeof values[i], "value %d", i);
        e[i] = (bb_entry){keys[i], strlen(keys[i]), values[i], strlen(values[i])};
    }
    static const struct {
        size_t n, per_block, interval;
        bool snappy;
    } forms[] = {{50, 50, 1, false}, {50, 50, 16, false}, {50, 7, 3, true},
                 {50, 1, 1, true},   {1, 10, 16, false},  {0, 1, 1, false}};
    for (size_t k = 0; k < sizeof forms / sizeof *forms; k++) {
        kaena_arena a;
        kaena_err err;
        kaena_strbuf file = {0};
        kcc_sstable t;
        kaena_arena_init(&a, 0);
        bb_table(&file, e, forms[k].n, forms[k].per_block, forms[k].interval, forms[k].snappy);
        KTEST_OK(err, kcc_sstable_read(&a, file.data, file.size, &t, &err));
        cr_assert(t.n_entries == forms[k].n);
        for (size_t i = 0; i < forms[k].n; i++) {
            const kcc_sstable_entry *found = kcc_sstable_find(&t, keys[i], strlen(keys[i]));
            cr_assert(found == &t.entries[i] && strcmp(found->key, keys[i]) == 0);
            cr_assert(strcmp((const char *)found->value, values[i]) == 0);
        }
        cr_assert(!kcc_sstable_find(&t, "key/001", 7) && !kcc_sstable_find(&t, "", 0));
        cr_assert(!kcc_sstable_find(&t, "z", 1));
        kaena_strbuf_fini(&file);
        kaena_arena_fini(&a);
    }
}

KTEST(tf_bundle, every_cut_and_every_changed_bit_of_a_table_is_an_error)
{
    bb_entry e[] = {{"", 0, "head", 4}, {"ab", 2, "x", 1}, {"abc", 3, "yy", 2}};
    kaena_strbuf file = {0};
    bb_table(&file, e, 3, 2, 2, true);
    for (size_t i = 0; i < file.size * 9; i++) {
        kaena_arena a;
        kaena_err err;
        kcc_sstable t;
        char *copy = malloc(file.size);
        size_t size = i % 9 == 8 ? i / 9 : file.size;
        memcpy(copy, file.data, size);
        if (i % 9 < 8)
            copy[i / 9] = (char)(copy[i / 9] ^ (1 << i % 9));
        kaena_arena_init(&a, 64 << 20);
        kaena_err_init(&err);
        kaena_status s = kcc_sstable_read(&a, copy, size, &t, &err);
        /* Nobody reads the footer's padding and the block of filters: there nothing is lost. */
        if (s == KAENA_OK)
            cr_assert(t.n_entries == 3 && t.entries[2].key_size == 3 &&
                          strcmp(t.entries[2].key, "abc") == 0 &&
                          memcmp(t.entries[2].value, "yy", 2) == 0 && size == file.size,
                      "bit %zu of byte %zu", i % 9, i / 9);
        else
            cr_assert(err.what[0]);
        kaena_arena_fini(&a);
        free(copy);
    }
    kaena_strbuf_fini(&file);
}

KTEST(tf_bundle, a_table_that_expands_without_end_is_refused)
{
    /* Each key is one byte longer than the one before, which it shares: quadratic in the file. */
    enum { N = 20000 };
    kaena_strbuf block = {0}, file = {0}, handle = {0}, footer = {0};
    for (uint64_t i = 0; i < N; i++) {
        bb_varint(&block, i);
        bb_varint(&block, 1);
        bb_varint(&block, 0);
        kaena_strbuf_add(&block, "k", 1);
    }
    bb_u32(&block, 0);
    kaena_strbuf_add(&file, block.data, block.size);
    kaena_strbuf_add(&file, "", 1);
    bb_u32(&file, kcc_crc32c_mask(kcc_crc32c(0, file.data, file.size)));
    bb_varint(&handle, 0);
    bb_varint(&handle, block.size);
    bb_entry index = {"z", 1, handle.data, handle.size};
    bb_block(&file, NULL, 0, 1, false, &footer);
    bb_block(&file, &index, 1, 1, false, &footer);
    while (footer.size < 40)
        kaena_strbuf_add(&footer, "", 1);
    kaena_strbuf_add(&footer, "\x57\xfb\x80\x8b\x24\x75\x47\xdb", 8);
    kaena_strbuf_add(&file, footer.data, footer.size);
    kaena_arena a;
    kaena_err err;
    kcc_sstable t;
    kaena_arena_init(&a, 0);
    KTEST_FAILS(err, RESOURCE_EXHAUSTED, "expands",
                kcc_sstable_read(&a, file.data, file.size, &t, &err));
    cr_assert(a.used < file.size * KCC_SSTABLE_EXPANSION + 2 * KCC_SSTABLE_EXPANSION_BASE);
    kaena_arena_fini(&a);
    kaena_strbuf_fini(&block);
    kaena_strbuf_fini(&file);
    kaena_strbuf_fini(&handle);
    kaena_strbuf_fini(&footer);
}

/* --- Bundles --------------------------------------------------------------------------------- */

KTEST(tf_bundle, tensors_are_what_was_written)
{
    fixture f = begin();
    static const float numbers[6] = {1, 2, 3, 4, 5, -6};
    bb_add(&f.b, "a/empty", T_FLOAT, 2, (int64_t[]){0, 3}, NULL, 0);
    bb_add(&f.b, "a/flag", T_BOOL, 0, NULL, "\2", 1);
    bb_add(&f.b, "a/w", T_FLOAT, 2, (int64_t[]){2, 3}, numbers, sizeof numbers);
    bb_add(&f.b, "b", T_FLOAT, 0, NULL, numbers + 3, 4);
    bb_finish(&f.b, 2, 2, true);
    KTEST_OK(f.err, open(&f));
    KTEST_OK(f.err, kcc_tf_bundle_read(f.bundle, "a/w", &f.t, &f.err));
    cr_assert(f.t.dtype == KAENA_F32 && f.t.shape.rank == 2 && f.t.shape.dim[1] == 3);
    cr_assert(memcmp(f.t.data, numbers, sizeof numbers) == 0);
    const void *first = f.t.data;
    for (int i = 0; i < 5; i++)
        KTEST_OK(f.err, kcc_tf_bundle_read(f.bundle, "a/w", &f.t, &f.err));
    cr_assert(f.t.data == first, "read once");
    KTEST_OK(f.err, kcc_tf_bundle_read(f.bundle, "a/flag", &f.t, &f.err));
    cr_assert(*(uint8_t *)f.t.data == 1, "a bool is 0 or 1");
    KTEST_OK(f.err, kcc_tf_bundle_read(f.bundle, "a/empty", &f.t, &f.err));
    cr_assert(f.t.data && kop_elements(&f.t) == 0);
    KTEST_OK(f.err, kcc_tf_bundle_read(f.bundle, "b", &f.t, &f.err));
    cr_assert(f.t.shape.rank == 0 && *(float *)f.t.data == 4);
    cr_assert(kcc_tf_bundle_has(f.bundle, "b") && !kcc_tf_bundle_has(f.bundle, ""));
    cr_assert_str_eq(kcc_tf_bundle_name(f.bundle, 0), "a/empty");
    cr_assert(!kcc_tf_bundle_name(f.bundle, 4));
    KTEST_FAILS(f.err, NOT_FOUND, "tensor 'c'", kcc_tf_bundle_read(f.bundle, "c", &f.t, &f.err));
    end(&f);
}

/* Lengths, their checksum, the bytes; the checksum of it all into |crc|. */
static kaena_strbuf strings(const char *const *s, size_t n, uint32_t *crc)
{
    kaena_strbuf b = {0};
    uint32_t c = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t size = (uint32_t)strlen(s[i]);
        bb_varint(&b, size);
        c = kcc_crc32c(c, &size, 4);
    }
    uint32_t masked = kcc_crc32c_mask(c);
    bb_u32(&b, masked);
    c = kcc_crc32c(c, &masked, 4);
    for (size_t i = 0; i < n; i++) {
        kaena_strbuf_add(&b, s[i], strlen(s[i]));
        c = kcc_crc32c(c, s[i], strlen(s[i]));
    }
    *crc = c;
    return b;
}

KTEST(tf_bundle, strings_have_lengths_and_two_checksums)
{
    fixture f = begin();
    char longer[301];
    memset(longer, 'x', 300);
    longer[300] = 0;
    const char *const words[] = {"one", "", longer};
    uint32_t crc;
    kaena_strbuf bytes = strings(words, 3, &crc);
    bb_add_key(&f.b, "s", 1, T_STRING, 1, (int64_t[]){3}, bytes.data, bytes.size, crc);
    bb_add_key(&f.b, "s2", 2, T_STRING, 1, (int64_t[]){3}, bytes.data, bytes.size, crc + 1);
    bytes.data[0]++;
    bb_add_key(&f.b, "s3", 2, T_STRING, 1, (int64_t[]){3}, bytes.data, bytes.size, crc);
    bb_finish(&f.b, 2, 2, false);
    KTEST_OK(f.err, open(&f));
    KTEST_OK(f.err, kcc_tf_bundle_read(f.bundle, "s", &f.t, &f.err));
    const kaena_string *s = f.t.data;
    for (int i = 0; i < 3; i++)
        cr_assert(s[i].size == strlen(words[i]) && memcmp(s[i].data, words[i], s[i].size) == 0);
    KTEST_FAILS(f.err, DATA_LOSS, "checksum", kcc_tf_bundle_read(f.bundle, "s2", &f.t, &f.err));
    KTEST_FAILS(f.err, DATA_LOSS, "checksum of the strings' lengths",
                kcc_tf_bundle_read(f.bundle, "s3", &f.t, &f.err));
    kaena_strbuf_fini(&bytes);
    end(&f);
}

/* Adds the entry of tensor "p" of shape [3, 200] with the given slices of dimension 1. */
static void add_sliced(fixture *f, const int64_t (*parts)[2], size_t n)
{
    bb_tensor t;
    Tensorflow__BundleEntryProto *pb = bb_describe(&t, T_FLOAT, 2, (int64_t[]){3, 200});
    Tensorflow__TensorSliceProto slice[4], *slices[4];
    Tensorflow__TensorSliceProto__Extent extent[4][2], *extents[4][2];
    for (size_t i = 0; i < n; i++) {
        slice[i] = (Tensorflow__TensorSliceProto)TENSORFLOW__TENSOR_SLICE_PROTO__INIT;
        for (int d = 0; d < 2; d++) {
            extent[i][d] =
                (Tensorflow__TensorSliceProto__Extent)TENSORFLOW__TENSOR_SLICE_PROTO__EXTENT__INIT;
            extents[i][d] = &extent[i][d];
        }
        extent[i][1].start = parts[i][0];
        extent[i][1].length = parts[i][1];
        extent[i][1].has_length_case = TENSORFLOW__TENSOR_SLICE_PROTO__EXTENT__HAS_LENGTH_LENGTH;
        slice[i].n_extent = 2;
        slice[i].extent = extents[i];
        slices[i] = &slice[i];
    }
    pb->n_slices = n;
    pb->slices = slices;
    bb_add_entry(&f->b, "p", 1, pb);
}

/* "p"'s slices of 150 and 50 columns under the keys that TensorFlow gives them: 0, "p", rank 2, for
 * each dimension start and length. */
static void add_parts(fixture *f)
{
    float part[450];
    for (int i = 0; i < 450; i++)
        part[i] = (float)(i / 150 * 200 + i % 150);
    bb_add_key(&f->b, "\0p\0\1\1\2\x80\x7f\x80\xc0\x96", 11, T_FLOAT, 2, (int64_t[]){3, 150}, part,
               sizeof part, kcc_crc32c(0, part, sizeof part));
    for (int i = 0; i < 150; i++)
        part[i] = (float)(i / 50 * 200 + 150 + i % 50);
    bb_add_key(&f->b, "\0p\0\1\1\2\x80\x7f\xc0\x96\xb2", 11, T_FLOAT, 2, (int64_t[]){3, 50}, part,
               600, kcc_crc32c(0, part, 600));
}

KTEST(tf_bundle, slices_are_put_together)
{
    fixture f = begin();
    add_parts(&f);
    add_sliced(&f, (const int64_t[][2]){{0, 150}, {150, 50}}, 2);
    bb_finish(&f.b, 4, 2, false);
    KTEST_OK(f.err, open(&f));
    KTEST_OK(f.err, kcc_tf_bundle_read(f.bundle, "p", &f.t, &f.err));
    cr_assert(kop_elements(&f.t) == 600);
    for (int i = 0; i < 600; i++)
        cr_assert(((float *)f.t.data)[i] == (float)i, "element %d", i);
    end(&f);
}

KTEST(tf_bundle, slices_that_do_not_fill_the_tensor_are_refused)
{
    static const struct {
        int64_t parts[3][2];
        size_t n;
        const char *what;
    } cases[] = {
        {{{0, 150}}, 1, "do not cover"},
        {{{0, 150}, {150, 51}}, 2, "outside"},
        {{{0, 150}, {100, 50}, {150, 50}}, 3, "overlap"},
        {{{0, 150}, {140, 50}}, 2, "overlap"},
        {{{0, 100}, {100, 100}}, 2, "does not have it"},
        {{{-1, 150}, {150, 50}}, 2, "outside"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f = begin();
        add_parts(&f);
        add_sliced(&f, cases[i].parts, cases[i].n);
        bb_finish(&f.b, 4, 2, false);
        KTEST_OK(f.err, open(&f));
        kaena_status s = kcc_tf_bundle_read(f.bundle, "p", &f.t, &f.err);
        cr_assert(s != KAENA_OK && strstr(f.err.what, cases[i].what), "case %zu: %s", i,
                  f.err.what);
        end(&f);
    }
}

KTEST(tf_bundle, big_endian_files_are_turned)
{
    fixture f = {0};
    kaena_arena_init(&f.a, 0);
    bb_header(&f.b, 1, true, 0);
    bb_add(&f.b, "x", T_FLOAT, 1, (int64_t[]){2}, "\x3f\x80\0\0\x40\0\0\0", 8);
    bb_finish(&f.b, 4, 2, false);
    KTEST_OK(f.err, open(&f));
    KTEST_OK(f.err, kcc_tf_bundle_read(f.bundle, "x", &f.t, &f.err));
    cr_assert(((float *)f.t.data)[0] == 1 && ((float *)f.t.data)[1] == 2);
    end(&f);
}

KTEST(tf_bundle, entries_that_contradict_the_data_are_refused)
{
    static const struct {
        int dtype;
        size_t rank;
        int64_t dims[9];
        int64_t offset, size;
        int32_t shard;
        kaena_status status;
        const char *what;
    } cases[] = {
        {T_FLOAT, 1, {2}, 0, 4, 0, KAENA_DATA_LOSS, "do not hold"},
        {T_FLOAT, 1, {2}, 12, 8, 0, KAENA_DATA_LOSS, "past its end"},
        {T_FLOAT, 1, {2}, -8, 8, 0, KAENA_DATA_LOSS, "past its end"},
        {T_FLOAT, 1, {2}, 0, 8, 7, KAENA_DATA_LOSS, "data file 7 of 1"},
        {T_FLOAT, 1, {2}, 0, 8, -1, KAENA_DATA_LOSS, "data file -1"},
        {T_FLOAT, 1, {2}, 0, 8, 0, KAENA_DATA_LOSS, "checksum"},
        {T_FLOAT, 1, {-2}, 0, 8, 0, KAENA_INVALID_ARGUMENT, "dimension"},
        {T_FLOAT, 3, {1 << 30, 1 << 30, 1 << 30}, 0, 8, 0, KAENA_DATA_LOSS, "too many"},
        {T_FLOAT, 9, {1, 1, 1, 1, 1, 1, 1, 1, 1}, 0, 4, 0, KAENA_UNIMPLEMENTED, "dimensions"},
        {T_COMPLEX, 0, {0}, 0, 8, 0, KAENA_UNIMPLEMENTED, "complex64"},
        {99, 0, {0}, 0, 8, 0, KAENA_INVALID_ARGUMENT, "99"},
        {T_STRING, 1, {1 << 30}, 0, 8, 0, KAENA_DATA_LOSS, "do not hold"},
        {T_STRING, 1, {9}, 0, 9, 0, KAENA_DATA_LOSS, "missing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f = begin();
        bb_tensor t;
        Tensorflow__BundleEntryProto *pb =
            bb_describe(&t, cases[i].dtype, cases[i].rank, cases[i].dims);
        pb->offset = cases[i].offset;
        pb->size = cases[i].size;
        pb->shard_id = cases[i].shard;
        kaena_strbuf_add(&f.b.data, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
        bb_add_entry(&f.b, "x", 1, pb);
        bb_finish(&f.b, 4, 2, false);
        KTEST_OK(f.err, open(&f));
        kaena_status s = kcc_tf_bundle_read(f.bundle, "x", &f.t, &f.err);
        cr_assert(s == cases[i].status && strstr(f.err.what, cases[i].what), "case %zu: %s: %s", i,
                  kaena_status_name(s), f.err.what);
        cr_assert(strstr(f.err.what, "tensor 'x'"));
        end(&f);
    }
}

KTEST(tf_bundle, overlapping_entries_do_not_multiply_the_file)
{
    fixture f = begin();
    char data[4096] = {0}, name[8];
    uint32_t crc = kcc_crc32c(0, data, sizeof data);
    bb_tensor t;
    kaena_strbuf_add(&f.b.data, data, sizeof data);
    for (int i = 0; i < 10; i++) {
        Tensorflow__BundleEntryProto *pb = bb_describe(&t, T_FLOAT, 1, (int64_t[]){1024});
        pb->size = sizeof data;
        pb->crc32c = kcc_crc32c_mask(crc);
        (void)snprintf(name, sizeof name, "x%d", i);
        bb_add_entry(&f.b, name, 2, pb);
    }
    bb_finish(&f.b, 4, 2, false);
    KTEST_OK(f.err, open(&f));
    KTEST_OK(f.err, kcc_tf_bundle_read(f.bundle, "x0", &f.t, &f.err));
    KTEST_OK(f.err, kcc_tf_bundle_read(f.bundle, "x1", &f.t, &f.err));
    KTEST_FAILS(f.err, RESOURCE_EXHAUSTED, "overlap",
                kcc_tf_bundle_read(f.bundle, "x2", &f.t, &f.err));
    end(&f);
}

KTEST(tf_bundle, headers_are_checked)
{
    static const struct {
        int32_t shards, consumer;
        const char *what;
    } cases[] = {{0, 0, "0 data files"},
                 {-1, 0, "-1 data files"},
                 {INT32_MAX, 0, "2147483647 data files"},
                 {1, 2, "version 2"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f = {0};
        kaena_arena_init(&f.a, 0);
        bb_header(&f.b, cases[i].shards, false, cases[i].consumer);
        bb_finish(&f.b, 4, 2, false);
        kaena_err_init(&f.err);
        cr_assert(open(&f) != KAENA_OK && strstr(f.err.what, cases[i].what), "%s", f.err.what);
        end(&f);
    }
    fixture f = {0};
    kaena_arena_init(&f.a, 0);
    bb_add(&f.b, "x", T_FLOAT, 0, NULL, "1234", 4);
    bb_finish(&f.b, 4, 2, false);
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "no header", open(&f));
    end(&f);
}

/* --- Files ----------------------------------------------------------------------------------- */

KTEST(tf_bundle, data_files_are_opened_when_needed)
{
    char dir[] = "/tmp/kaena-bundle-XXXXXX", prefix[PATH_MAX], path[PATH_MAX + 32];
    fixture f = {0};
    bb_tensor t;
    kaena_arena_init(&f.a, 0);
    bb_header(&f.b, 3, false, 0);
    static const float value = 7;
    for (int i = 0; i < 2; i++) {
        Tensorflow__BundleEntryProto *pb = bb_describe(&t, T_FLOAT, 0, NULL);
        pb->size = 4;
        pb->shard_id = 1 + i;
        pb->crc32c = kcc_crc32c_mask(kcc_crc32c(0, &value, 4));
        bb_add_entry(&f.b, i ? "y" : "x", 1, pb);
    }
    bb_finish(&f.b, 4, 2, false);
    cr_assert(mkdtemp(dir));
    (void)snprintf(prefix, sizeof prefix, "%s/variables", dir);
    KTEST_FAILS(f.err, NOT_FOUND, "variables.index",
                kcc_tf_bundle_open(&f.a, prefix, &f.bundle, &f.err));
    (void)snprintf(path, sizeof path, "%s.index", prefix);
    KTEST_OK(f.err, kaena_file_write(path, f.b.index.data, f.b.index.size, &f.err));
    (void)snprintf(path, sizeof path, "%s.data-00001-of-00003", prefix);
    KTEST_OK(f.err, kaena_file_write(path, &value, 4, &f.err));
    KTEST_OK(f.err, kcc_tf_bundle_open(&f.a, prefix, &f.bundle, &f.err));
    KTEST_OK(f.err, kcc_tf_bundle_read(f.bundle, "x", &f.t, &f.err));
    cr_assert(*(float *)f.t.data == 7);
    KTEST_FAILS(f.err, NOT_FOUND, "data-00002-of-00003",
                kcc_tf_bundle_read(f.bundle, "y", &f.t, &f.err));
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s.index", prefix);
    (void)unlink(path);
    KTEST_OK(f.err, kaena_file_write(prefix, "old", 3, &f.err));
    kcc_tf_bundle *none;
    KTEST_FAILS(f.err, UNIMPLEMENTED, "format V1", kcc_tf_bundle_open(&f.a, prefix, &none, &f.err));
    (void)unlink(prefix);
    (void)rmdir(dir);
    end(&f);
}

KTEST(tf_bundle, checkpoints_of_real_models_are_read_whole)
{
    static const struct {
        const char *prefix;
        uint32_t n;
    } cases[] = {{"models/tensorflow/models/cifar_saved_model/saved_model/variables/variables", 14},
                 {"models/tensorflow/models/cppflow_mlp_tf2/saved_model/variables/variables", 5},
                 {"models/tensorflow/models/vespa_batch_norm/saved_model/variables/variables", 18}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[PATH_MAX];
        fixture f = {0};
        uint32_t n = 0;
        kaena_arena_init(&f.a, 0);
        KTEST_OK(f.err, kcc_tf_bundle_open(&f.a, ktest_shared(path, sizeof path, cases[i].prefix),
                                           &f.bundle, &f.err));
        for (const char *name; (name = kcc_tf_bundle_name(f.bundle, n)); n++)
            KTEST_OK(f.err, kcc_tf_bundle_read(f.bundle, name, &f.t, &f.err));
        cr_assert(n == cases[i].n, "%u tensors", n);
        end(&f);
    }
}
