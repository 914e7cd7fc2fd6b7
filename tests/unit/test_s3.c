/* What S3 answers and how its URLs are written, without a network. */
#include <string.h>

#include "ktest.h"
#include "s3_internal.h"

KTEST(s3, urls)
{
    kaena_err err;
    s3_object o;
    KTEST_OK(err, s3_object_parse("s3://my-bucket.2/a/b c", &o, &err));
    cr_assert_str_eq(o.bucket, "my-bucket.2");
    cr_assert_str_eq(o.key, "a/b c");
    KTEST_OK(err, s3_object_parse("s3://bucket", &o, &err));
    cr_assert_str_eq(o.key, "");
    static const char *const bad[] = {"s3://",         "s3:///key",    "s3://ab/x",   "s3://-abc/x",
                                      "s3://Bucket/x", "s3://a_b_c/x", "s3://a@b:c/x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        KTEST_FAILS(err, INVALID_ARGUMENT, "does not name a bucket",
                    s3_object_parse(bad[i], &o, &err));
}

KTEST(s3, encoding)
{
    kaena_strbuf out = {0};
    s3_encode(&out, "a/b c+\xc3\xbc~._-%41?&=", true);
    cr_assert_str_eq(out.data, "a/b%20c%2B%C3%BC~._-%2541%3F%26%3D");
    kaena_strbuf_fini(&out);
    s3_encode(&out, "a/b", false);
    cr_assert_str_eq(out.data, "a%2Fb");
    kaena_strbuf_fini(&out);
}

KTEST(s3, lists)
{
    static const char first[] =
        "<?xml version=\"1.0\"?><ListBucketResult "
        "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
        "<Name>b</Name><NextContinuationToken>t&amp;1</NextContinuationToken>"
        "<IsTruncated>true</IsTruncated>"
        "<Contents><Key>a &lt;1&gt;</Key><Size>12</Size></Contents>"
        "<Contents><Key>b</Key><Size>0</Size></Contents></ListBucketResult>";
    static const char last[] = "<ListBucketResult><Contents><Key>c</Key><Size>7</Size></Contents>"
                               "</ListBucketResult>";
    kaena_arena arena;
    kaena_err err;
    s3_list list = {0};
    kaena_arena_init(&arena, 1 << 20);
    KTEST_OK(err, s3_list_parse(&arena, first, strlen(first), &list, &err));
    cr_assert_eq(list.n, 2);
    cr_assert_str_eq(list.key[0], "a <1>");
    cr_assert_eq(list.size[0], 12);
    cr_assert_str_eq(list.next, "t&1");
    KTEST_OK(err, s3_list_parse(&arena, last, strlen(last), &list, &err));
    cr_assert_eq(list.n, 3);
    cr_assert_null(list.next);
    for (size_t cut = 0; cut < strlen(last); cut++)
        KTEST_FAILS(err, INTERNAL, "not the XML", s3_list_parse(&arena, last, cut, &list, &err));
    kaena_arena_fini(&arena);
}

KTEST(s3, hostile_lists)
{
    kaena_arena arena;
    kaena_err err;
    s3_list list = {0};
    kaena_strbuf text = {0};
    kaena_arena_init(&arena, 1 << 20);
    for (int i = 0; i < 100; i++)
        kaena_strbuf_printf(&text, "<a>");
    KTEST_FAILS(err, INTERNAL, "not the XML",
                s3_list_parse(&arena, text.data, text.size, &list, &err));
    text.size = 0;
    kaena_strbuf_printf(&text, "<ListBucketResult><Contents><Key>");
    for (int i = 0; i < 10000; i++)
        kaena_strbuf_printf(&text, "k");
    kaena_strbuf_printf(&text, "</Key></Contents></ListBucketResult>");
    KTEST_FAILS(err, INTERNAL, "not the XML",
                s3_list_parse(&arena, text.data, text.size, &list, &err));
    kaena_strbuf_fini(&text);
    kaena_arena_fini(&arena);
}

KTEST(s3, errors)
{
    static const char body[] = "<Error><Code>NoSuchKey</Code><Message>It is &quot;gone&quot;."
                               "</Message><Resource>/b/k</Resource></Error>";
    char code[32], message[64];
    s3_error_parse(body, strlen(body), code, sizeof code, message, sizeof message);
    cr_assert_str_eq(code, "NoSuchKey");
    cr_assert_str_eq(message, "It is \"gone\".");
    s3_error_parse("<html>no", 8, code, sizeof code, message, sizeof message);
    cr_assert_str_empty(code);
}
