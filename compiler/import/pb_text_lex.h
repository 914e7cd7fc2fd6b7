/* The words of protobuf's text form. */
#ifndef KCC_PB_TEXT_LEX_H
#define KCC_PB_TEXT_LEX_H

#include <stdbool.h>

#include "pb_budget.h"

typedef enum pb_token {
    PB_TOKEN_END,
    PB_TOKEN_WORD,   /* a name, or a number: begins with a letter, digit, '_', '.' or '-' */
    PB_TOKEN_STRING, /* one piece, with its quotes, escapes not yet read */
    PB_TOKEN_SIGN    /* one character */
} pb_token;

typedef struct pb_lexer {
    const char *at, *end, *line_start;
    int line;
    /* The current token: */
    pb_token kind;
    const char *token; /* not terminated */
    size_t size;
    int token_line, token_column;
    kaena_err *err;
} pb_lexer;

void pb_lexer_init(pb_lexer *l, const char *text, size_t size, kaena_err *err);
/* Reads the next token. */
kaena_status pb_lexer_next(pb_lexer *l) KAENA_CHECKED;
bool pb_lexer_at_sign(const pb_lexer *l, char sign);
bool pb_lexer_at_word(const pb_lexer *l, const char *word);
/* A failure at the current token. */
kaena_status pb_lexer_fail(const pb_lexer *l, const char *what);
/* The current string and those that follow it directly, joined, with a terminator that |*out_size|
 * does not count; steps behind them. */
kaena_status pb_lexer_string(pb_lexer *l, kcc_pb_budget *budget, char **out,
                             size_t *out_size) KAENA_CHECKED;

#endif
