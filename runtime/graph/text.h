/* What printing and parsing of the text form share, and the parser's cursor. Private to this
 * folder. */
#ifndef KGR_TEXT_H
#define KGR_TEXT_H

#include "graph.h"

/* Letters, digits and _.:/- make a name that needs no quotes, unless it ends in ':'. */
static inline bool kgr_is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == ':' || c == '/' || c == '-';
}
bool kgr_name_is_bare(const char *name);

/* Of a constant's contents; never 0. */
uint64_t kgr_digest(const kop_tensor *t);

typedef struct kgr_cursor {
    const char *p, *end, *line_start;
    uint32_t line;
    int64_t random_left; /* elements that `random` and `fill` may still make */
    kaena_arena *arena;
    kaena_err *err;
} kgr_cursor;

/* Fails with line and column before the message. */
kaena_status kgr_text_fail(const kgr_cursor *c, const char *fmt, ...) KAENA_CHECKED
    KAENA_PRINTF(2, 3);
kaena_status kgr_text_no_memory(const kgr_cursor *c) KAENA_CHECKED;

/* After white space and comments: the next character, 0 at the end. */
char kgr_text_peek(kgr_cursor *c);
/* Takes |ch| if it is next. */
bool kgr_text_take(kgr_cursor *c, char ch);
kaena_status kgr_text_expect(kgr_cursor *c, char ch) KAENA_CHECKED;

/* Takes a run of [A-Za-z0-9_.+-] into |out|: keywords, types, numbers. */
#define KGR_WORD 64
kaena_status kgr_text_word(kgr_cursor *c, char out[KGR_WORD]) KAENA_CHECKED;
/* Takes |word| if that whole word is next. */
bool kgr_text_take_word(kgr_cursor *c, const char *word);
/* A quoted string; |out| is the arena's and terminated. */
kaena_status kgr_text_quoted(kgr_cursor *c, kaena_string *out) KAENA_CHECKED;
/* A quoted string without zero bytes, or a bare name. */
kaena_status kgr_text_name(kgr_cursor *c, const char **out) KAENA_CHECKED;
kaena_status kgr_text_int(kgr_cursor *c, int64_t *out) KAENA_CHECKED;

/* "float32[1,?]", "float32[*]". */
kaena_status kgr_text_type(kgr_cursor *c, kop_tensor *out) KAENA_CHECKED;
/* Element |i| of |t|, whose data has room for it. */
kaena_status kgr_text_element(kgr_cursor *c, kop_tensor *t, size_t i) KAENA_CHECKED;
/* "{1, 2}" for a tensor of known type and shape; sets data. */
kaena_status kgr_text_data(kgr_cursor *c, kop_tensor *t) KAENA_CHECKED;
/* The right side of a constant: data, `random SEED`, `fill NUMBER` or `digest HEX`. */
kaena_status kgr_text_contents(kgr_cursor *c, kop_tensor *t, uint64_t *digest) KAENA_CHECKED;

#endif
