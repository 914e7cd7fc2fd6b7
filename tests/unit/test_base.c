#include <math.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"
#include "checked.h"
#include "dtype.h"
#include "file.h"
#include "ktest.h"
#include "npy.h"
#include "shape.h"
#include "strbuf.h"

KTEST(err, wrap_puts_the_outer_context_first)
{
    kaena_err err;
    kaena_err_init(&err);
    cr_assert(KAENA_FAIL(&err, DATA_LOSS, "section %u", 3u) == KAENA_DATA_LOSS);
    cr_assert(kaena_err_wrap(&err, KAENA_DATA_LOSS, "load '%s'", "a.neff") == KAENA_DATA_LOSS);
    cr_assert_str_eq(err.what, "load 'a.neff': section 3");
    cr_assert(err.code == KAENA_DATA_LOSS);
    cr_assert(kaena_err_wrap(NULL, KAENA_ABORTED, "x") == KAENA_ABORTED);
}

KTEST(err, long_messages_are_cut_not_overrun)
{
    char text[1000];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = 0;
    kaena_err err;
    kaena_err_init(&err);
    (void)KAENA_FAIL(&err, INTERNAL, "%s", text);
    (void)kaena_err_wrap(&err, KAENA_INTERNAL, "%s", text);
    kaena_err_hint(&err, "%s", text);
    cr_assert(strlen(err.what) < sizeof err.what && strlen(err.hint) < sizeof err.hint);
}

KTEST(arena, quota_bounds_what_it_holds)
{
    kaena_arena a;
    kaena_arena_init(&a, 1 << 20);
    size_t got = 0;
    while (kaena_arena_alloc(&a, 4096))
        got += 4096;
    cr_assert(got >= (1 << 19) && a.used <= 1 << 20, "%zu of %zu", got, a.used);
    cr_assert_null(kaena_arena_array(&a, SIZE_MAX / 2, 8));
    kaena_arena_fini(&a);
}

KTEST(arena, rewinding_keeps_one_block)
{
    kaena_arena a;
    kaena_arena_init(&a, 1 << 20);
    cr_assert(kaena_arena_empty(&a));
    void *first = kaena_arena_alloc(&a, 100);
    cr_assert(first && kaena_arena_alloc(&a, 500000) && kaena_arena_alloc(&a, 60000));
    cr_assert_not(kaena_arena_empty(&a));
    memset(first, 7, 100);
    for (int i = 0; i < 3; i++) {
        kaena_arena_rewind(&a);
        cr_assert(kaena_arena_empty(&a));
        cr_assert_gt(a.used, 0U);
        cr_assert_lt(a.used, 100000U);
        unsigned char *again = kaena_arena_alloc(&a, 100);
        cr_assert(again && again[0] == 0 && again[99] == 0);
        memset(again, 7, 100);
    }
    kaena_arena_fini(&a);
    cr_assert(kaena_arena_empty(&a));
    kaena_arena_rewind(&a);
    cr_assert_null(a.head);
}

KTEST(arena, memory_is_zeroed_and_aligned)
{
    kaena_arena a;
    kaena_arena_init(&a, 0);
    for (size_t size = 0; size < 100000; size = size * 3 + 1) {
        const unsigned char *p = kaena_arena_alloc(&a, size);
        cr_assert((uintptr_t)p % 64 == 0);
        for (size_t i = 0; i < size; i++)
            cr_assert(p[i] == 0);
    }
    cr_assert_str_eq(kaena_arena_printf(&a, "%d-%s", 7, "x"), "7-x");
    kaena_arena_fini(&a);
}

KTEST(arena, join_hands_everything_over)
{
    kaena_arena a, b;
    kaena_arena_init(&a, 0);
    kaena_arena_init(&b, 1 << 20);
    char *x = kaena_arena_strdup(&a, "x"), *y = kaena_arena_strdup(&b, "y");
    char *large = kaena_arena_alloc(&b, 200000);
    size_t used = a.used + b.used;
    kaena_arena_join(&a, &b);
    cr_assert(a.used == used && b.used == 0);
    kaena_arena_fini(&b);
    large[199999] = 1;
    cr_assert_str_eq(x, "x");
    cr_assert_str_eq(y, "y");
    kaena_arena_init(&b, 0);
    kaena_arena_join(&b, &a);
    cr_assert_str_eq(y, "y");
    kaena_arena_fini(&b);
}

KTEST(dtype, every_half_survives_the_round_trip)
{
    for (uint32_t h = 0; h < 65536; h++) {
        float f = kaena_f16_to_f32((uint16_t)h);
        uint16_t back = kaena_f16_from_f32(f);
        if (isnan(f))
            cr_assert(back == 0x7e00, "%04x -> %04x", h, back);
        else
            cr_assert(back == h, "%04x -> %g -> %04x", h, (double)f, back);
    }
}

/* The float halfway between two neighbouring halves goes to the even one, its neighbours to the
 * nearer. */
KTEST(dtype, half_rounds_to_nearest_even)
{
    for (uint32_t h = 0; h < 0x7bff; h++) {
        double lo = (double)kaena_f16_to_f32((uint16_t)h),
               hi = (double)kaena_f16_to_f32((uint16_t)(h + 1));
        float mid = (float)((lo + hi) / 2);
        cr_assert(kaena_f16_from_f32(mid) == (h & 1 ? h + 1 : h), "%04x", h);
        cr_assert(kaena_f16_from_f32(nextafterf(mid, 0)) == h, "%04x", h);
        cr_assert(kaena_f16_from_f32(nextafterf(mid, INFINITY)) == h + 1, "%04x", h);
    }
    cr_assert(kaena_f16_from_f32(65520.0f) == 0x7c00 && kaena_f16_from_f32(65519.9f) == 0x7bff);
    cr_assert(kaena_f16_from_f32(-1e30f) == 0xfc00);
}

KTEST(dtype, bfloat16_rounds_to_nearest_even)
{
    for (uint32_t b = 0; b < 65536; b++) {
        float f = kaena_bf16_to_f32((uint16_t)b);
        cr_assert(kaena_bf16_from_f32(f) == (isnan(f) ? 0x7fc0 : b), "%04x", b);
        if ((b & 0x7fff) >= 0x7f80)
            continue;
        uint32_t mid = b << 16 | 0x8000;
        cr_assert(kaena_bf16_from_f32(kaena_f32_from_bits(mid)) == b + (b & 1), "%04x", b);
        cr_assert(kaena_bf16_from_f32(kaena_f32_from_bits(mid - 1)) == b, "%04x", b);
        cr_assert(kaena_bf16_from_f32(kaena_f32_from_bits(mid + 1)) == b + 1, "%04x", b);
    }
}

KTEST(dtype, casts_saturate_wrap_and_round_once)
{
    const double f[] = {300.7, -1.5, NAN, -300, 1e300};
    uint8_t u8[5];
    int8_t i8[5];
    int64_t i64[5];
    kaena_cast(u8, KAENA_U8, f, KAENA_F64, 5);
    kaena_cast(i8, KAENA_I8, f, KAENA_F64, 5);
    kaena_cast(i64, KAENA_I64, f, KAENA_F64, 5);
    cr_assert(u8[0] == 255 && u8[1] == 0 && u8[2] == 0 && u8[3] == 0 && u8[4] == 255);
    cr_assert(i8[0] == 127 && i8[1] == -1 && i8[2] == 0 && i8[3] == -128);
    cr_assert(i64[0] == 300 && i64[4] == INT64_MAX);
    int32_t wide = 0x12345678;
    uint8_t narrow, truth;
    kaena_cast(&narrow, KAENA_U8, &wide, KAENA_I32, 1);
    kaena_cast(&truth, KAENA_BOOL, &wide, KAENA_I32, 1);
    cr_assert(narrow == 0x78 && truth == 1);
    /* Just above halfway between two bfloat16: rounding through float first would land on the tie.
     */
    double d = 1.0 + 1.0 / 256 + 1e-12;
    uint16_t b;
    kaena_cast(&b, KAENA_BF16, &d, KAENA_F64, 1);
    cr_assert(b == 0x3f81);
}

KTEST(dtype, names_parse_back)
{
    for (int t = 0; t < 32; t++)
        if (kaena_dtype_size((kaena_dtype)t))
            cr_assert(kaena_dtype_parse(kaena_dtype_name((kaena_dtype)t)) == (kaena_dtype)t);
    cr_assert(kaena_dtype_parse("float33") == KAENA_DTYPE_NONE);
}

KTEST(shape, broadcast)
{
    kaena_shape a = {3, {2, 1, 5}}, b = {2, {4, 1}}, c = {1, {3}}, r;
    cr_assert(kaena_shape_broadcast(&a, &b, &r));
    cr_assert(kaena_shape_equal(&r, &(kaena_shape){3, {2, 4, 5}}));
    cr_assert(!kaena_shape_broadcast(&a, &c, &r));
    cr_assert(kaena_shape_broadcast(&(kaena_shape){0}, &c, &r) && kaena_shape_equal(&r, &c));
    cr_assert(kaena_shape_broadcast(&(kaena_shape){1, {0}}, &(kaena_shape){1, {1}}, &r) &&
              r.dim[0] == 0);
}

KTEST(shape, elements_and_text)
{
    int64_t n;
    char text[KAENA_SHAPE_TEXT];
    cr_assert(kaena_shape_elements(&(kaena_shape){0}, &n) && n == 1);
    cr_assert(kaena_shape_elements(&(kaena_shape){2, {3, 4}}, &n) && n == 12);
    cr_assert(!kaena_shape_elements(&(kaena_shape){2, {INT64_MAX, 4}}, &n));
    cr_assert(!kaena_shape_elements(&(kaena_shape){1, {KAENA_DIM_UNKNOWN}}, &n));
    cr_assert_str_eq(kaena_shape_print(&(kaena_shape){2, {3, -1}}, text, sizeof text), "[3,?]");
    cr_assert_str_eq(kaena_shape_print(&(kaena_shape){0}, text, sizeof text), "[]");
}

KTEST(npy, round_trip)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/tmp/kaena_test_npy_%d.npy", (int)getpid());
    const float data[6] = {1, -2, 3.5f, 0, 1e30f, -0.0f};
    kaena_shape s = {2, {2, 3}};
    kaena_err err;
    kaena_npy got;
    KTEST_OK(err, kaena_npy_write(path, KAENA_F32, &s, data, &err));
    KTEST_OK(err, kaena_npy_read(path, &got, &err));
    cr_assert(got.dtype == KAENA_F32 && kaena_shape_equal(&got.shape, &s) &&
              got.bytes == sizeof data);
    cr_assert(memcmp(got.data, data, sizeof data) == 0);
    kaena_npy_free(&got);
    uint8_t scalar = 7;
    KTEST_OK(err, kaena_npy_write(path, KAENA_U8, &(kaena_shape){0}, &scalar, &err));
    KTEST_OK(err, kaena_npy_read(path, &got, &err));
    cr_assert(got.shape.rank == 0 && *(uint8_t *)got.data == 7);
    kaena_npy_free(&got);
    (void)unlink(path);
    KTEST_FAILS(err, NOT_FOUND, path, kaena_npy_read(path, &got, &err));
}

/* An npy file of |descr| with two elements. */
static size_t npy_of(uint8_t *file, const char *descr, const void *data, size_t size)
{
    char text[128];
    int n = snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': (2,), }",
                     descr);
    memcpy(file, "\x93NUMPY\1\0", 8);
    file[8] = (uint8_t)n;
    file[9] = 0;
    memcpy(file + 10, text, (size_t)n);
    memcpy(file + 10 + n, data, size);
    return 10 + (size_t)n + size;
}

static void check_strings(const char *descr, const void *data, size_t size, const char *first,
                          const char *second)
{
    uint8_t file[256];
    kaena_npy got;
    kaena_err err;
    size = npy_of(file, descr, data, size);
    KTEST_OK(err, kaena_npy_parse(file, size, &got, &err));
    const kaena_string *s = got.data;
    cr_assert(got.dtype == KAENA_STRING && got.bytes == 2 * sizeof *s);
    cr_assert(s[0].size == strlen(first) && memcmp(s[0].data, first, s[0].size) == 0);
    cr_assert(s[1].size == strlen(second) && memcmp(s[1].data, second, s[1].size) == 0);
    kaena_npy_free(&got);
}

KTEST(npy, strings)
{
    check_strings("|S3", "ab\0abc", 6, "ab", "abc");
    check_strings("|S0", "", 0, "", "");
    static const uint32_t text[] = {0xfc, 0x1f600, 0xd800, 0};
    check_strings("<U2", text, sizeof text, "\xc3\xbc\xf0\x9f\x98\x80", "\xef\xbf\xbd");
    uint32_t swapped[4];
    for (int i = 0; i < 4; i++)
        swapped[i] = __builtin_bswap32(text[i]);
    check_strings(">U2", swapped, sizeof swapped, "\xc3\xbc\xf0\x9f\x98\x80", "\xef\xbf\xbd");
    kaena_npy got;
    kaena_err err;
    uint8_t file[256];
    size_t size = npy_of(file, "|S99999999999", "", 0);
    KTEST_FAILS(err, INVALID_ARGUMENT, "S999", kaena_npy_parse(file, size, &got, &err));
}

KTEST(npy, every_truncation_is_refused)
{
    static const char file[] = "\x93NUMPY\x01\x00\x47\x00{'descr': '<f4', 'fortran_order': False, "
                               "'shape': (2,), }             \n\0\0\0\0\0\0\0\0";
    kaena_err err;
    kaena_npy got;
    size_t size = sizeof file - 1;
    KTEST_OK(err, kaena_npy_parse(file, size, &got, &err));
    kaena_npy_free(&got);
    for (size_t cut = 0; cut < size; cut++) {
        char *copy = malloc(cut ? cut : 1);
        memcpy(copy, file, cut);
        cr_assert(kaena_npy_parse(copy, cut, &got, &err) == KAENA_INVALID_ARGUMENT, "%zu", cut);
        free(copy);
    }
}

KTEST(checked, limits)
{
    int64_t i = 5;
    uint64_t u = 5;
    cr_assert(!kaena_add_i64(INT64_MAX, 1, &i) && i == 5);
    cr_assert(!kaena_mul_i64(INT64_MIN, -1, &i) && i == 5);
    cr_assert(kaena_mul_i64(-3, 4, &i) && i == -12);
    cr_assert(!kaena_add_u64(UINT64_MAX, 1, &u) && !kaena_mul_u64(UINT64_MAX, 2, &u) && u == 5);
    cr_assert(kaena_range_inside(10, 0, 10) && kaena_range_inside(0, 10, 10));
    cr_assert(!kaena_range_inside(11, 0, 10) && !kaena_range_inside(1, UINT64_MAX, 10));
    cr_assert(kaena_align_up(65, 64) == 128 && kaena_align_up(64, 64) == 64);
}

KTEST(strbuf, grows)
{
    kaena_strbuf b = {0};
    for (int i = 0; i < 1000; i++)
        kaena_strbuf_printf(&b, "%d,", i);
    cr_assert(b.size == 3890 && strncmp(b.data, "0,1,2,", 6) == 0 && b.data[b.size] == 0);
    kaena_strbuf_fini(&b);
}

KTEST(file, replaces_regular_files_only)
{
    kaena_err err;
    char dir[] = "/tmp/kaena-file-XXXXXX";
    cr_assert_not_null(mkdtemp(dir));
    KTEST_FAILS(err, INVALID_ARGUMENT, "not a regular file", kaena_file_write(dir, "x", 1, &err));
    KTEST_FAILS(err, INVALID_ARGUMENT, "not a regular file",
                kaena_file_write("/dev/null", "x", 1, &err));
    cr_assert_eq(rmdir(dir), 0);
}
