/* Records as lines of JSON, as fields for the journal, as RFC 5424. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "krt_log_sink.h"

/* Of the documentation's private enterprise number, as structured data that no standard defines. */
#define SD_ID "kaena@32473"
#define FACILITY_DAEMON 3

typedef struct out {
    char *to;
    size_t size, room;
    bool full; /* something did not fit */
} out;

static void put(out *o, const void *data, size_t n)
{
    if (n > o->room - o->size) {
        o->full = true;
        return;
    }
    memcpy(o->to + o->size, data, n);
    o->size += n;
}

static void put_text(out *o, const char *text)
{
    put(o, text, strlen(text));
}

static void put_time(out *o, const struct timespec *t)
{
    char text[64], date[32];
    struct tm tm;
    (void)gmtime_r(&t->tv_sec, &tm);
    (void)strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
    put(o, text, (size_t)snprintf(text, sizeof text, "%s.%06ldZ", date, t->tv_nsec / 1000));
}

/* Bytes of the character at |s|, 0 where there is none that UTF-8 knows. */
static size_t character(const unsigned char *s)
{
    size_t n = *s < 0x80                 ? 1
               : *s >= 0xc2 && *s < 0xe0 ? 2
               : *s >= 0xe0 && *s < 0xf0 ? 3
               : *s >= 0xf0 && *s < 0xf5 ? 4
                                         : 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    bool good = n < 3 || !((*s == 0xe0 && s[1] < 0xa0) || (*s == 0xed && s[1] > 0x9f) ||
                           (*s == 0xf0 && s[1] < 0x90) || (*s == 0xf4 && s[1] > 0x8f));
    return good ? n : 0;
}

/* Quotes, backslashes and control characters as JSON wants them, what is not UTF-8 as U+FFFD. */
static void put_json_string(out *o, const char *text)
{
    put(o, "\"", 1);
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        char escape[8];
        size_t n = character(s);
        if (n == 0)
            put(o, "\xef\xbf\xbd", 3);
        else if (*s == '"' || *s == '\\')
            put(o, escape, (size_t)snprintf(escape, sizeof escape, "\\%c", *s));
        else if (*s < 0x20 || *s == 0x7f)
            put(o, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", *s));
        else
            put(o, s, n);
        s += n ? n : 1;
    }
    put(o, "\"", 1);
}

static void put_json_field(out *o, const char *key, const char *value)
{
    size_t before = o->size;
    put(o, ",", before > 1);
    put_json_string(o, key);
    put(o, ":", 1);
    put_json_string(o, value);
    if (o->full) { /* whole or not at all: what is left is still JSON */
        o->size = before;
        o->full = false;
    }
}

size_t krt_log_json(const kaena_log_record *r, char to[KRT_LOG_BYTES])
{
    out o = {.to = to, .room = KRT_LOG_BYTES - 1};
    put_text(&o, "{\"time\":\"");
    put_time(&o, &r->time);
    put_text(&o, "\"");
    put_json_field(&o, "level", kaena_log_level_name(r->level));
    put_json_field(&o, "daemon", r->program);
    put_json_field(&o, "text", r->text);
    for (size_t i = 0; i < r->n_fields; i++)
        put_json_field(&o, r->fields[i].key, r->fields[i].value);
    to[o.size++] = '}';
    return o.size;
}

/* KEY=value; with a size before the value where it has ends of lines. */
static void put_journal_field(out *o, const char *prefix, const char *key, const char *value)
{
    size_t before = o->size, n = strlen(value);
    put_text(o, prefix);
    for (const char *k = key; *k; k++) {
        char c = (char)toupper((unsigned char)*k);
        put(o, &c, 1);
    }
    if (memchr(value, '\n', n)) {
        unsigned char size[8];
        for (int i = 0; i < 8; i++)
            size[i] = (unsigned char)((uint64_t)n >> (8 * i));
        put(o, "\n", 1);
        put(o, size, sizeof size);
    } else {
        put(o, "=", 1);
    }
    put(o, value, n);
    put(o, "\n", 1);
    if (o->full) {
        o->size = before;
        o->full = false;
    }
}

size_t krt_log_journal(const kaena_log_record *r, char to[KRT_LOG_BYTES])
{
    out o = {.to = to, .room = KRT_LOG_BYTES};
    char priority[4];
    (void)snprintf(priority, sizeof priority, "%d", (int)r->level);
    put_journal_field(&o, "", "MESSAGE", r->text);
    put_journal_field(&o, "", "PRIORITY", priority);
    put_journal_field(&o, "", "SYSLOG_IDENTIFIER", "krtd");
    put_journal_field(&o, "KAENA_", "DAEMON", r->program);
    for (size_t i = 0; i < r->n_fields; i++)
        put_journal_field(&o, "KAENA_", r->fields[i].key, r->fields[i].value);
    return o.size;
}

/* A value of structured data: '"', '\' and ']' are escaped; control characters are not wanted. */
static void put_sd_value(out *o, const char *value)
{
    for (const char *s = value; *s; s++) {
        if (strchr("\"\\]", *s))
            put(o, "\\", 1);
        put(o, iscntrl((unsigned char)*s) ? " " : s, 1);
    }
}

size_t krt_log_rfc5424(const kaena_log_record *r, const char *host, long pid,
                       char to[KRT_LOG_BYTES])
{
    out o = {.to = to, .room = KRT_LOG_BYTES};
    char head[400];
    put(&o, head,
        (size_t)snprintf(head, sizeof head, "<%d>1 ", FACILITY_DAEMON * 8 + (int)r->level));
    put_time(&o, &r->time);
    put(&o, head,
        (size_t)snprintf(head, sizeof head, " %.255s krtd %ld - [" SD_ID " daemon=\"%.64s\"", host,
                         pid, r->program));
    for (size_t i = 0; i < r->n_fields; i++) {
        put_text(&o, " ");
        put_text(&o, r->fields[i].key);
        put_text(&o, "=\"");
        put_sd_value(&o, r->fields[i].value);
        put_text(&o, "\"");
    }
    put_text(&o, "] ");
    for (const char *s = r->text; *s; s++)
        put(&o, iscntrl((unsigned char)*s) ? " " : s, 1);
    return o.size;
}
