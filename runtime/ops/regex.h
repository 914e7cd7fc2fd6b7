/* Regular expressions with RE2's syntax, matched in time linear in the text: no back-references, no
 * recursion over the text. Characters are those of UTF-8. */
#ifndef KAENA_OPS_REGEX_H
#define KAENA_OPS_REGEX_H

#include "ops.h"

#define KOP_REGEX_MAX_CODE 20000 /* instructions, so that x{1000}{1000} is refused */

typedef struct kop_regex_instruction kop_regex_instruction;
typedef struct kop_regex_range kop_regex_range;

/* A compiled expression; everything lives in the arena of the call's environment. */
typedef struct kop_regex {
    kop_regex_instruction *code;
    uint32_t n_code, cap_code;
    kop_regex_range *ranges;
    uint32_t n_ranges, cap_ranges;
    uint32_t *list[2], *stack, *seen; /* [n_code] each, of a run; |stack| twice as long */
} kop_regex;

/* Compiles |pattern|. INVALID_ARGUMENT: it is no expression, or too large; UNIMPLEMENTED: a
 * character class by Unicode property. */
kaena_status kop_regex_compile(kop_call *call, const char *pattern, kop_regex *out) KAENA_CHECKED;
/* Whether the expression matches all of |text|. */
kaena_status kop_regex_match(kop_call *call, const kop_regex *re, kaena_string text,
                             bool *out) KAENA_CHECKED;

#endif
