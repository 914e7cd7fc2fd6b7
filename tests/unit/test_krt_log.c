#include "ktest.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "krt_log_queue.h"
#include "krt_log_sink.h"

/* ---- the queue ---- */

KTEST(krt_log_queue, lines_come_out_as_they_went_in)
{
    krt_log_queue *q = krt_log_queue_create(1000);
    char out[100];
    uint64_t time;
    for (int round = 0; round < 100; round++) { /* the ring turns several times */
        for (int i = 0; i < 3; i++) {
            char line[32];
            int n = snprintf(line, sizeof line, "line %d of %d", i, round);
            krt_log_queue_put(q, (uint64_t)(round * 3 + i), line, (size_t)n);
        }
        for (int i = 0; i < 3; i++) {
            char want[32];
            int n = snprintf(want, sizeof want, "line %d of %d", i, round);
            size_t got = krt_log_queue_get(q, out, sizeof out, &time);
            cr_assert(got == (size_t)n && memcmp(out, want, got) == 0);
            cr_assert(time == (uint64_t)(round * 3 + i));
        }
    }
    cr_assert(krt_log_queue_get(q, out, sizeof out, &time) == 0);
    cr_assert(krt_log_queue_lost(q) == 0);
    (void)krt_log_queue_destroy(q);
}

KTEST(krt_log_queue, the_oldest_go_and_are_counted)
{
    krt_log_queue *q = krt_log_queue_create(200);
    char out[100];
    uint64_t time = 0;
    for (uint64_t i = 0; i < 50; i++)
        krt_log_queue_put(q, i, "0123456789", 10);
    uint64_t lost = krt_log_queue_lost(q), n = 0;
    while (krt_log_queue_get(q, out, sizeof out, &time) == 10)
        cr_assert(time == lost + n++);
    cr_assert(lost > 0 && n > 0 && lost + n == 50 && time == 49);
    cr_assert(krt_log_queue_lost(q) == 0);
    (void)krt_log_queue_destroy(q);
}

KTEST(krt_log_queue, what_is_too_large_is_lost_or_waits)
{
    krt_log_queue *q = krt_log_queue_create(200);
    char large[300] = {0}, out[300];
    uint64_t time;
    krt_log_queue_put(q, 1, "small", 5);
    krt_log_queue_put(q, 2, large, sizeof large);
    cr_assert(krt_log_queue_lost(q) == 1);
    cr_assert(krt_log_queue_get(q, out, 4, &time) == 0);
    cr_assert(krt_log_queue_get(q, out, 5, &time) == 5);
    (void)krt_log_queue_destroy(q);
}

static void *release_soon(void *q)
{
    krt_log_queue_release(q);
    return NULL;
}

KTEST(krt_log_queue, what_is_held_waits_for_its_release_or_the_end)
{
    krt_log_queue *q = krt_log_queue_create(200);
    char out[8];
    uint64_t time;
    pthread_t thread;
    krt_log_queue_hold(q);
    cr_assert(krt_log_queue_get(q, out, sizeof out, &time) == 0); /* nothing is held */
    krt_log_queue_put(q, 1, "a", 1);
    krt_log_queue_put(q, 2, "b", 1);
    cr_assert(pthread_create(&thread, NULL, release_soon, q) == 0);
    cr_assert(krt_log_queue_get(q, out, sizeof out, &time) == 1 && out[0] == 'a');
    cr_assert(pthread_join(thread, NULL) == 0);
    krt_log_queue_hold(q);
    krt_log_queue_stop(q, krt_log_now_ns() + 1000000);
    cr_assert(krt_log_queue_get(q, out, sizeof out, &time) == 1 && out[0] == 'b');
    cr_assert(krt_log_now_ns() >= krt_log_queue_deadline(q));
    (void)krt_log_queue_destroy(q);
}

KTEST(krt_log_queue, waits_end)
{
    krt_log_queue *q = krt_log_queue_create(200);
    krt_log_queue_wait(q, 1, krt_log_now_ns() + 1000); /* the clock */
    krt_log_queue_put(q, 1, "x", 1);
    krt_log_queue_wait(q, 1, UINT64_MAX); /* a line */
    krt_log_queue_kick(q);
    krt_log_queue_wait(q, 100, UINT64_MAX); /* a kick */
    cr_assert(krt_log_queue_deadline(q) == UINT64_MAX);
    krt_log_queue_stop(q, 77);
    krt_log_queue_wait(q, 100, UINT64_MAX); /* the end */
    krt_log_queue_pause(q, UINT64_MAX);
    cr_assert(krt_log_queue_deadline(q) == 77);
    (void)krt_log_queue_destroy(q);
}

/* ---- forms ---- */

static kaena_log_record record_of(const char *text, const kaena_log_field *fields, size_t n)
{
    return (kaena_log_record){.time = {.tv_sec = 1700000000, .tv_nsec = 123456789},
                              .level = KAENA_LOG_WARNING,
                              .program = "krtd7",
                              .text = text,
                              .fields = fields,
                              .n_fields = n};
}

KTEST(krt_log_form, text_is_one_line_with_its_fields)
{
    const kaena_log_field fields[] = {{"model", "m"}, {"what", "a \"b\"\n"}, {"empty", ""}};
    kaena_log_record r = record_of("two\nlines \x1b[31m", fields, 3);
    char out[KAENA_LOG_LINE + 1];
    out[kaena_log_text(&r, true, out)] = 0;
    cr_assert_str_eq(out, "2023-11-14T22:13:20.123Z warning krtd7: two\\nlines \\x1b[31m model=m "
                          "what=\"a \\\"b\\\"\\n\" empty=\"\"");
    out[kaena_log_text(&r, false, out)] = 0;
    cr_assert(strncmp(out, "two", 3) == 0);
}

KTEST(krt_log_form, text_that_does_not_fit_is_cut)
{
    char value[KAENA_LOG_LINE * 2], out[KAENA_LOG_LINE];
    memset(value, 'a', sizeof value - 1);
    value[sizeof value - 1] = 0;
    const kaena_log_field fields[] = {{"a", value}, {"b", value}};
    kaena_log_record r = record_of(value, fields, 2);
    cr_assert(kaena_log_text(&r, true, out) == KAENA_LOG_LINE);
}

KTEST(krt_log_form, json_parses_whatever_the_text_is)
{
    char all[256];
    for (int i = 1; i < 256; i++)
        all[i - 1] = (char)i;
    all[255] = 0;
    const kaena_log_field fields[] = {{"model", "\xff\xc3(\xed\xa0\x80 \xe2\x82\xac"},
                                      {"all", all}};
    kaena_log_record r = record_of("say \"hi\"\n", fields, 2);
    char out[KRT_LOG_BYTES];
    json_t *root = json_loadb(out, krt_log_json(&r, out), 0, NULL);
    cr_assert(root);
    cr_assert_str_eq(json_string_value(json_object_get(root, "time")),
                     "2023-11-14T22:13:20.123456Z");
    cr_assert_str_eq(json_string_value(json_object_get(root, "level")), "warning");
    cr_assert_str_eq(json_string_value(json_object_get(root, "daemon")), "krtd7");
    cr_assert_str_eq(json_string_value(json_object_get(root, "text")), "say \"hi\"\n");
    cr_assert_str_eq(json_string_value(json_object_get(root, "model")),
                     "\xef\xbf\xbd\xef\xbf\xbd(\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd \xe2\x82\xac");
    cr_assert(strlen(json_string_value(json_object_get(root, "all"))) > 255);
    json_decref(root);
}

KTEST(krt_log_form, json_leaves_out_what_does_not_fit)
{
    static char value[4 * KRT_LOG_BYTES];
    memset(value, 1, sizeof value - 1);
    const kaena_log_field fields[] = {{"a", value}, {"b", "there"}};
    kaena_log_record r = record_of("text", fields, 2);
    char out[KRT_LOG_BYTES];
    json_t *root = json_loadb(out, krt_log_json(&r, out), 0, NULL);
    cr_assert(root && !json_object_get(root, "a"));
    cr_assert_str_eq(json_string_value(json_object_get(root, "b")), "there");
    json_decref(root);
}

KTEST(krt_log_form, the_journal_gets_fields)
{
    const kaena_log_field fields[] = {{"request_id", "ab"}, {"what", "1\n2"}};
    kaena_log_record r = record_of("text", fields, 2);
    char out[KRT_LOG_BYTES];
    size_t n = krt_log_journal(&r, out);
    static const char want[] = "MESSAGE=text\nPRIORITY=4\nSYSLOG_IDENTIFIER=krtd\n"
                               "KAENA_DAEMON=krtd7\nKAENA_REQUEST_ID=ab\n"
                               "KAENA_WHAT\n\3\0\0\0\0\0\0\0001\n2\n";
    cr_assert(n == sizeof want - 1 && memcmp(out, want, n) == 0, "%.*s", (int)n, out);
}

KTEST(krt_log_form, syslog_gets_rfc_5424)
{
    const kaena_log_field fields[] = {{"model", "a]\"\\b"}};
    kaena_log_record r = record_of("two\nlines", fields, 1);
    char out[KRT_LOG_BYTES + 1];
    out[krt_log_rfc5424(&r, "host", 42, out)] = 0;
    cr_assert_str_eq(out, "<28>1 2023-11-14T22:13:20.123456Z host krtd 42 - [kaena@32473 "
                          "daemon=\"krtd7\" model=\"a\\]\\\"\\\\b\"] two lines");
}

/* ---- configuration ---- */

static kaena_status parse(const char *text, krt_log_config *out, kaena_arena *arena, kaena_err *err)
{
    json_t *root = json_loads(text, 0, NULL);
    cr_assert(root, "%s", text);
    kaena_err_init(err);
    kaena_status st = krt_log_config_parse(root, "log", arena, out, err);
    json_decref(root);
    return st;
}

KTEST(krt_log_config, says_what_each_sink_is)
{
    krt_log_config c;
    kaena_arena arena;
    kaena_err err;
    kaena_arena_init(&arena, 0);
    cr_assert(parse("{\"level\": \"debug\", \"sinks\": ["
                    "{\"type\": \"stderr\", \"format\": \"json\", \"level\": \"error\"},"
                    "{\"type\": \"file\", \"path\": \"/x/{daemon}/{daemon}.log\", \"keep\": 2},"
                    "{\"type\": \"syslog\", \"address\": \"[::1]:514\"},"
                    "{\"type\": \"cloudwatch\", \"group\": \"g\"}]}",
                    &c, &arena, &err) == KAENA_OK,
              "%s", err.what);
    krt_log_config_expand(&c, "k1", &arena);
    cr_assert(c.n_sinks == 4 && c.has_level && c.level == KAENA_LOG_DEBUG);
    cr_assert(c.sinks[0].json && c.sinks[0].level == KAENA_LOG_ERROR);
    cr_assert_str_eq(c.sinks[1].path, "/x/k1/k1.log");
    cr_assert(c.sinks[1].keep == 2 && c.sinks[1].max_bytes == 10000000 && !c.sinks[1].level);
    cr_assert_str_eq(c.sinks[2].address, "[::1]:514");
    cr_assert_str_eq(c.sinks[3].stream, "k1");
    cr_assert(c.sinks[3].flush_ms == 5000);
    kaena_arena_fini(&arena);
}

KTEST(krt_log_config, names_what_is_wrong)
{
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"[]", "log: must be an object"},
        {"{\"levels\": 1}", "log.levels: unknown key"},
        {"{\"level\": \"loud\"}", "log.level: must be error, warning"},
        {"{\"sinks\": []}", "log.sinks: must be a list of 1 to 8"},
        {"{\"sinks\": [{}]}", "log.sinks[0].type: must be stderr, journal"},
        {"{\"sinks\": [{\"type\": \"pipe\"}]}", "log.sinks[0].type: must be"},
        {"{\"sinks\": [{\"type\": \"file\"}]}", "log.sinks[0]: 'path' is missing"},
        {"{\"sinks\": [{\"type\": \"file\", \"path\": \"\"}]}",
         "log.sinks[0].path: must be a text"},
        {"{\"sinks\": [{\"type\": \"file\", \"path\": \"/x\", \"keep\": -1}]}",
         "log.sinks[0].keep: must be an integer from 0 to 1000"},
        {"{\"sinks\": [{\"type\": \"file\", \"path\": \"/x\", \"max_bytes\": 10}]}",
         "log.sinks[0].max_bytes: must be 0"},
        {"{\"sinks\": [{\"type\": \"stderr\", \"path\": \"/x\"}]}",
         "log.sinks[0].path: unknown key"},
        {"{\"sinks\": [{\"type\": \"stderr\", \"format\": \"xml\"}]}", "log.sinks[0].format: must"},
        {"{\"sinks\": [{\"type\": \"cloudwatch\"}]}", "log.sinks[0]: 'group' is missing"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        krt_log_config c;
        kaena_arena arena;
        kaena_err err;
        kaena_arena_init(&arena, 0);
        cr_assert(parse(rows[i].text, &c, &arena, &err) == KAENA_INVALID_ARGUMENT, "%s",
                  rows[i].text);
        cr_assert(strncmp(err.what, rows[i].says, strlen(rows[i].says)) == 0, "%s gives %s",
                  rows[i].text, err.what);
        kaena_arena_fini(&arena);
    }
}
