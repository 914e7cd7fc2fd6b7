/* Strings: casts, cases, pieces, regular expressions, vocabularies. */
#include "ops_agree.h"
#include "ops_fixture.h"

#define BAD KAENA_INVALID_ARGUMENT

KTEST(ops_text, cast_to_strings)
{
    ops_check(KOP_Cast, "to=8", "f32[6] 1 0.1 -2.5 1e20 1e-7 16777216",
              "string[6] 1.0 0.1 -2.5 1e+20 1e-07 16777216.0");
    ops_check(KOP_Cast, "to=8", "f32[3] nan inf -inf", "string[3] NaN INF -INF");
    ops_check(KOP_Cast, "to=8", "float64[2] 0.1 0.30000000000000004",
              "string[2] 0.1 0.30000000000000004");
    ops_check(KOP_Cast, "to=8", "float16[1] 0.1", "string[1] 0.1");
    ops_check(KOP_Cast, "to=8", "uint64[1] 18446744073709551615", "string[1] 18446744073709551615");
    ops_check(KOP_Cast, "to=8", "int8[2] -128 5", "string[2] -128 5");
    ops_check(KOP_Cast, "to=8", "string[1] a", "string[1] a");
}

KTEST(ops_text, cast_from_strings)
{
    ops_check(KOP_Cast, "to=1", "string[4] 1.5 -INF NaN 1e3", "f32[4] 1.5 -inf nan 1000");
    ops_check(KOP_Cast, "to=7", "string[2] -7 9223372036854775807",
              "int64[2] -7 9223372036854775807");
    ops_check(KOP_Cast, "to=13", "string[1] 18446744073709551615",
              "uint64[1] 18446744073709551615");
    ops_refuse(KOP_Cast, "to=1", "string[1] x1", 1, BAD, "'x1', is no number");
    ops_refuse(KOP_Cast, "to=1", "string[1] ''", 1, BAD, "element 0");
    ops_refuse(KOP_Cast, "to=3", "string[1] 200", 1, BAD, "no number of type int8");
}

KTEST(ops_text, comparison_and_order)
{
    ops_check(KOP_Equal, "", "string[2,1] a b ; string[2] a ''", "bool[2,2] 1 0 0 0");
    ops_check(KOP_NonZero, "", "string[3] a '' b", "int64[1,2] 0 2");
    ops_check(KOP_Unique, "", "string[4] b a b ''",
              "string[3] '' a b ; int64[3] 3 1 0 ; int64[4] 2 1 2 0 ; int64[3] 1 1 2");
    ops_check(KOP_Where, "", "bool[2] 1 0 ; string[1] a ; string[1] b", "string[2] a b");
}

KTEST(ops_text, normalizer)
{
    ops_check(KOP_StringNormalizer, "case_change_action='UPPER' stopwords=('monday')",
              "string[3] Monday tuesday 'gr\xc3\xbc\xc3\x9f'",
              "string[2] TUESDAY 'GR\xc3\x9c\xc3\x9f'");
    ops_check(KOP_StringNormalizer, "is_case_sensitive=1 stopwords=('monday')",
              "string[1,2] Monday monday", "string[1,1] Monday");
    ops_check(KOP_StringNormalizer, "stopwords=('a')", "string[2] a A", "string[1] ''");
    /* Bytes that are no UTF-8 stay as they are. */
    ops_check(KOP_StringNormalizer, "case_change_action='LOWER'", "string[1] 'A\xff\xc3'",
              "string[1] 'a\xff\xc3'");
    ops_refuse(KOP_StringNormalizer, "case_change_action='no'", "string[1] a", 1, BAD, "'no'");
    ops_refuse(KOP_StringNormalizer, "", "string[2,1] a b", 1, BAD, "[1,C]");
}

KTEST(ops_text, concat_and_split)
{
    ops_check(KOP_StringConcat, "", "string[2,1] a '' ; string[2] x y", "string[2,2] ax ay x y");
    ops_check(KOP_StringSplit, "delimiter=','", "string[2] 'a,,b' ''",
              "string[2,3] a '' b '' '' '' ; int64[2] 3 0");
    ops_check(KOP_StringSplit, "", "string[2] ' a  b c ' d",
              "string[2,3] a b c d '' '' ; int64[2] 3 1");
    ops_check(KOP_StringSplit, "maxsplit=1", "string[1] 'a b  c'",
              "string[1,2] a 'b  c' ; int64[1] 2");
    ops_check(KOP_StringSplit, "delimiter='--' maxsplit=1", "string[1] 'a--b--c'",
              "string[1,2] a 'b--c' ; int64[1] 2");
    ops_check(KOP_StringSplit, "delimiter=','", "string[1] 'a,'", "string[1,2] a '' ; int64[1] 2");
}

KTEST(ops_text, regular_expressions)
{
    static const struct {
        const char *pattern, *text;
        bool matches;
    } cases[] = {
        {"abc", "abc", true},
        {"abc", "abcd", false},
        {"abc", "xabc", false},
        {"", "", true},
        {"", "a", false},
        {"a|bc|d", "bc", true},
        {"a|bc|d", "d", true},
        {"a|bc|d", "ad", false},
        {"|a", "", true},
        {"(a|b)*c", "ababc", true},
        {"(a*)*", "aaaa", true},
        {"(a*)+b?", "aab", true},
        {"a+", "", false},
        {"a?a?a?aaa", "aaa", true},
        {"a{2,3}", "aa", true},
        {"a{2,3}", "aaaa", false},
        {"a{2}", "aaa", false},
        {"a{2,}", "aaaaa", true},
        {"(ab){0}", "", true},
        {"a{,2}", "a{,2}", true},
        {"a{x}", "a{x}", true},
        {"[a-c]+", "abcabc", true},
        {"[^a-c]", "b", false},
        {"[]a]+", "a]", true},
        {"[a-]+", "-a", true},
        {"[[:alpha:]_]+", "ab_C", true},
        {"[[:^digit:]]", "7", false},
        {"[\\d.]+", "3.14", true},
        {"\\w+@\\w+\\.com", "me_1@there.com", true},
        {"\\S+\\s\\S+", "a b", true},
        {"\\D", "5", false},
        {"\\x41\\x{e9}", "A\xc3\xa9", true},
        {".", "\xc3\xa9", true},
        {".", "\n", false},
        {"(?s).", "\n", true},
        {"(?i)aBc[x-z]", "AbCY", true},
        {"(?i:a)b", "Ab", true},
        {"(?i:a)b", "AB", false},
        {"(?P<n>a)(?:b)(?<m>c)", "abc", true},
        {"^a$", "a", true},
        {"a^b", "ab", false},
        {"a\\b.*", "a b", true},
        {"a\\bb", "ab", false},
        {"a\\Bb", "ab", true},
        {"a*?b+?", "aabb", true},
        {"\\.\\*", ".*", true},
        {"(x+x+)+y", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kop_attr pattern = {.name = "pattern", .type = KOP_ATTR_STRING, .u.s = cases[i].pattern};
        kaena_string text = {cases[i].text, strlen(cases[i].text)};
        kop_tensor in = {.dtype = KAENA_STRING, .data = &text}, out;
        const kop_tensor *ins[] = {&in};
        kaena_arena arena;
        kaena_err err;
        kaena_arena_init(&arena, 1u << 20);
        kaena_err_init(&err);
        kop_env env = {.arena = &arena};
        kop_call call = {.op = KOP_RegexFullMatch,
                         .attr = &pattern,
                         .n_attr = 1,
                         .n_in = 1,
                         .n_out = 1,
                         .in = ins,
                         .out = &out,
                         .env = &env,
                         .err = &err};
        cr_assert_eq(kop_eval(&call), KAENA_OK, "'%s': %s", cases[i].pattern, err.what);
        cr_assert_eq(*(bool *)out.data, cases[i].matches, "'%s' on '%s'", cases[i].pattern,
                     cases[i].text);
        kaena_arena_fini(&arena);
    }
}

KTEST(ops_text, wrong_expressions)
{
    static const char *const wrong[] = {
        "(a",    "a)",  "[a",    "*a",      "a{3,2}", "\\",    "\\q",  "[b-a]",        "[a-\\d]",
        "(?=a)", "\\1", "\\x{1", "a{1001}", "(?P<n",  "(?x)a", "\\xz", "(a{900}){900}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char attr[64];
        (void)snprintf(attr, sizeof attr, "pattern='%s'", wrong[i]);
        ops_refuse(KOP_RegexFullMatch, attr, "string[1] a", 1, BAD, "the pattern has");
    }
    ops_refuse(KOP_RegexFullMatch, "pattern='\\pL'", "string[1] a", 1, KAENA_UNIMPLEMENTED, "\\p");
}

/* Patterns of noise, of which some are expressions: compiling and matching end, in bounds. */
KTEST(ops_text, hostile_expressions)
{
    static const char alphabet[] = "ab|()*+?{},[]^$\\d.-:x19=<>PisB\xc3\xa9";
    uint32_t good = 0;
    ops_random_begin();
    for (uint32_t round = 0; round < 5000; round++) {
        char text[32];
        size_t n = ops_below(sizeof text);
        for (size_t i = 0; i < n; i++)
            text[i] = alphabet[ops_below(sizeof alphabet - 1)];
        text[n] = '\0';
        kop_attr pattern = {.name = "pattern", .type = KOP_ATTR_STRING, .u.s = text};
        kaena_string in[2] = {{"ab1\xc3\xa9", 5}, {text, n}};
        kop_tensor x = {.dtype = KAENA_STRING, .shape = {1, {2}}, .data = in}, out;
        const kop_tensor *ins[] = {&x};
        kaena_err err;
        kop_call call = {.op = KOP_RegexFullMatch,
                         .attr = &pattern,
                         .n_attr = 1,
                         .n_in = 1,
                         .n_out = 1,
                         .in = ins,
                         .out = &out,
                         .err = &err};
        good += ops_try(&call, 4u << 20);
    }
    cr_assert(good > 100, "only %u were expressions", good);
}

KTEST(ops_text, label_encoder)
{
    ops_check(KOP_LabelEncoder, "keys_strings=('a','b') values_int64s=[3,4] default_int64=9",
              "string[3] b c a", "int64[3] 4 9 3");
    ops_check(KOP_LabelEncoder, "keys_int64s=[1,2,1] values_strings=('x','y','z')", "int64[2] 1 5",
              "string[2] x _Unused");
    ops_check(KOP_LabelEncoder, "keys_floats=[1.0,0.0,nan] values_floats=[2.5,3.5,4.5]",
              "f32[4] -0.0 1 nan 7", "f32[4] 3.5 2.5 4.5 0");
    ops_refuse(KOP_LabelEncoder, "keys_strings=('a','b') values_int64s=[3]", "string[1] a", 1, BAD,
               "one length");
    ops_refuse(KOP_LabelEncoder, "keys_strings=('a') values_int64s=[3]", "int64[1] 1", 1, BAD,
               "the keys are string");
}

KTEST(ops_text, tf_idf)
{
    const char *grams = "mode='TF' min_gram_length=1 max_gram_length=2 max_skip_count=1 "
                        "ngram_counts=[0,2] ngram_indexes=[2,0,1] pool_int64s=[1,2,1,3]";
    ops_check(KOP_TfIdfVectorizer, grams, "int64[4] 1 2 3 1", "f32[3] 1 1 2");
    ops_check(KOP_TfIdfVectorizer, grams, "int64[2,2] 1 3 2 2", "f32[2,3] 0 1 1 2 0 0");
    ops_check(KOP_TfIdfVectorizer,
              "mode='TFIDF' ngram_counts=[0] ngram_indexes=[0,1] pool_strings=('a','b') "
              "weights=[0.5,2.0]",
              "string[4] b a b c", "f32[2] 0.5 4");
    ops_check(KOP_TfIdfVectorizer,
              "mode='IDF' ngram_counts=[0] ngram_indexes=[0,1] pool_strings=('a','b') "
              "weights=[0.5,2.0]",
              "string[2] b b", "f32[2] 0 2");
    ops_refuse(KOP_TfIdfVectorizer,
               "mode='TF' ngram_counts=[0,1] ngram_indexes=[0,1] pool_int64s=[1,2]", "int64[1] 1",
               1, BAD, "ngram_counts");
    ops_refuse(KOP_TfIdfVectorizer, "mode='TF' ngram_counts=[0] ngram_indexes=[0] pool_int64s=[1]",
               "string[1] a", 1, BAD, "both");
}
