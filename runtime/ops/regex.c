#include "regex.h"

#include <stdlib.h>

#include "ops_impl.h"

#define MAX_DEPTH 100   /* of nested groups */
#define MAX_REPEAT 1000 /* as in RE2 */
#define NO_LIMIT (-1)

typedef enum opcode {
    CODE_SET,   /* one character of a set */
    CODE_SPLIT, /* goes on at |x| and at |y| */
    CODE_JUMP,  /* goes on at |x| */
    CODE_BEGIN,
    CODE_END,
    CODE_BOUNDARY,
    CODE_NO_BOUNDARY,
    CODE_MATCH
} opcode;

/* Jumps are relative, so that code can be moved and copied. */
struct kop_regex_instruction {
    opcode op;
    bool negated; /* SET */
    int32_t x, y; /* SET: the first range and the number of them */
};

struct kop_regex_range {
    int32_t low, high;
};

typedef struct parser {
    kop_call *call;
    const char *at, *end;
    kop_regex *re;
    bool fold, dot_all; /* (?i), (?s) */
    int depth;
} parser;

static kaena_status bad(const parser *p, const char *what)
{
    return KOP_BAD(p->call, "the pattern has %s before '%.40s'", what, p->at);
}

/* --- Code ------------------------------------------------------------------------------------ */

static kaena_status emit(parser *p, kop_regex_instruction i)
{
    kop_regex *re = p->re;
    if (re->n_code == KOP_REGEX_MAX_CODE)
        return bad(p, "too many repetitions");
    if (re->n_code == re->cap_code) {
        uint32_t cap = re->cap_code ? re->cap_code * 2 : 64;
        kop_regex_instruction *code = kop_alloc(p->call, cap, sizeof *code);
        if (!code)
            return KAENA_RESOURCE_EXHAUSTED;
        if (re->n_code)
            memcpy(code, re->code, re->n_code * sizeof *code);
        re->code = code;
        re->cap_code = cap;
    }
    re->code[re->n_code++] = i;
    return KAENA_OK;
}

/* Puts |i| before what stands from |at| on, which has no jumps from before. */
static kaena_status insert(parser *p, uint32_t at, kop_regex_instruction i)
{
    KAENA_TRY(emit(p, i));
    kop_regex_instruction *code = p->re->code;
    memmove(code + at + 1, code + at, (p->re->n_code - 1 - at) * sizeof *code);
    code[at] = i;
    return KAENA_OK;
}

static kaena_status add_range(parser *p, int32_t low, int32_t high)
{
    kop_regex *re = p->re;
    if (re->n_ranges == re->cap_ranges) {
        uint32_t cap = re->cap_ranges ? re->cap_ranges * 2 : 64;
        kop_regex_range *ranges = kop_alloc(p->call, cap, sizeof *ranges);
        if (!ranges)
            return KAENA_RESOURCE_EXHAUSTED;
        if (re->n_ranges)
            memcpy(ranges, re->ranges, re->n_ranges * sizeof *ranges);
        re->ranges = ranges;
        re->cap_ranges = cap;
    }
    re->ranges[re->n_ranges++] = (kop_regex_range){low, high};
    return KAENA_OK;
}

/* The letters of [low, high] in the other case, too, when (?i) holds. */
static kaena_status add_folded(parser *p, int32_t low, int32_t high)
{
    KAENA_TRY(add_range(p, low, high));
    for (int32_t shift = -32; p->fold && shift <= 32; shift += 64) {
        int32_t from = shift < 0 ? 'a' : 'A', to = shift < 0 ? 'z' : 'Z';
        int32_t a = low > from ? low : from, b = high < to ? high : to;
        if (a <= b)
            KAENA_TRY(add_range(p, a + shift, b + shift));
    }
    return KAENA_OK;
}

static kaena_status emit_set(parser *p, uint32_t first, bool negated)
{
    return emit(p, (kop_regex_instruction){.op = CODE_SET,
                                           .negated = negated,
                                           .x = (int32_t)first,
                                           .y = (int32_t)(p->re->n_ranges - first)});
}

/* --- Characters and classes ------------------------------------------------------------------ */

static int32_t next_character(parser *p)
{
    int32_t c;
    size_t n = kop_utf8_decode(p->at, (size_t)(p->end - p->at), &c);
    c = c < 0 ? (unsigned char)*p->at : c;
    p->at += n;
    return c;
}

static bool accept(parser *p, const char *text)
{
    size_t n = strlen(text);
    if ((size_t)(p->end - p->at) < n || memcmp(p->at, text, n) != 0)
        return false;
    p->at += n;
    return true;
}

/* Named classes: ranges of ASCII, in pairs. */
static const struct {
    const char *name;
    const char *pairs;
} classes[] = {{"d", "09"},           {"s", "\t\n\f\r  "},
               {"w", "09AZ__az"},     {"alnum", "09AZaz"},
               {"alpha", "AZaz"},     {"ascii", "\001\177"},
               {"blank", "\t\t  "},   {"cntrl", "\001\037\177\177"},
               {"digit", "09"},       {"graph", "!~"},
               {"lower", "az"},       {"print", " ~"},
               {"punct", "!/:@[`{~"}, {"space", "\t\r  "},
               {"upper", "AZ"},       {"word", "09AZ__az"},
               {"xdigit", "09AFaf"}};

/* The ranges of a class, or those between them. */
static kaena_status add_class(parser *p, const char *pairs, bool negated)
{
    int32_t next = 0;
    for (const char *s = pairs; *s; s += 2) {
        if (!negated)
            KAENA_TRY(add_folded(p, s[0], s[1]));
        else if (s[0] > next)
            KAENA_TRY(add_range(p, next, s[0] - 1));
        next = s[1] + 1;
    }
    return negated ? add_range(p, next, INT32_MAX) : KAENA_OK;
}

/* The class of \d, \S and the like; NULL: |c| is none. */
static const char *class_of_letter(char c)
{
    for (size_t i = 0; i < 3; i++)
        if (classes[i].name[0] == (c | 0x20))
            return classes[i].pairs;
    return NULL;
}

/* Behind a backslash: one character. */
static kaena_status escaped(parser *p, int32_t *out)
{
    static const char letters[] = "afnrtv", values[] = "\a\f\n\r\t\v";
    if (p->at == p->end)
        return bad(p, "a '\\' that escapes nothing");
    char c = *p->at;
    const char *known = strchr(letters, c);
    if (known) {
        p->at++;
        *out = values[known - letters];
        return KAENA_OK;
    }
    if (c == 'x') {
        char *end;
        bool braces = p->at + 1 < p->end && p->at[1] == '{';
        char digits[9] = "";
        (void)snprintf(digits, braces ? sizeof digits : 3, "%s", p->at + 1 + braces);
        long v = strtol(digits, &end, 16);
        p->at += 1 + braces + (end - digits);
        if (end == digits || v > 0x10ffff || v < 0 || (braces && !accept(p, "}")))
            return bad(p, "a wrong '\\x'");
        *out = (int32_t)v;
        return KAENA_OK;
    }
    if (c == 'p' || c == 'P')
        return KAENA_FAIL(p->call->err, UNIMPLEMENTED,
                          "character classes by Unicode property (\\p) are not supported");
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
        return bad(p, "an unknown escape");
    *out = next_character(p);
    return KAENA_OK;
}

/* One thing in brackets: a class (*single is false), or a character that may begin a range. */
static kaena_status bracket_item(parser *p, bool *single, int32_t *c)
{
    *single = false;
    for (size_t i = 3; p->at + 1 < p->end && p->at[0] == '[' && p->at[1] == ':' &&
                       i < sizeof classes / sizeof *classes;
         i++) {
        char name[16], negated[16];
        (void)snprintf(name, sizeof name, "[:%s:]", classes[i].name);
        (void)snprintf(negated, sizeof negated, "[:^%s:]", classes[i].name);
        bool not = accept(p, negated);
        if (not || accept(p, name))
            return add_class(p, classes[i].pairs, not );
    }
    if (p->at < p->end - 1 && *p->at == '\\' && class_of_letter(p->at[1])) {
        char letter = p->at[1];
        p->at += 2;
        return add_class(p, class_of_letter(letter), letter < 'a');
    }
    *single = true;
    if (accept(p, "\\"))
        return escaped(p, c);
    *c = next_character(p);
    return KAENA_OK;
}

/* Behind '['. */
static kaena_status bracket(parser *p)
{
    uint32_t first = p->re->n_ranges;
    bool negated = accept(p, "^");
    for (bool any = false; !any || p->at == p->end || *p->at != ']'; any = true) {
        bool single, high_single;
        int32_t low, high;
        if (p->at == p->end)
            return bad(p, "a '[' without ']'");
        KAENA_TRY(bracket_item(p, &single, &low));
        if (!single)
            continue;
        high = low;
        if (p->end - p->at > 1 && p->at[0] == '-' && p->at[1] != ']') {
            p->at++;
            KAENA_TRY(bracket_item(p, &high_single, &high));
            if (!high_single || high < low)
                return bad(p, "a wrong range");
        }
        KAENA_TRY(add_folded(p, low, high));
    }
    p->at++;
    return emit_set(p, first, negated);
}

/* --- Structure ------------------------------------------------------------------------------- */

static kaena_status alternatives(parser *p);

/* Behind '('. Flags hold until the group ends. */
static kaena_status group(parser *p)
{
    bool fold = p->fold, dot_all = p->dot_all;
    if (++p->depth > MAX_DEPTH)
        return bad(p, "too many nested groups");
    if (accept(p, "?P<") ||
        (p->end - p->at > 2 && p->at[2] != '=' && p->at[2] != '!' && accept(p, "?<"))) {
        while (p->at < p->end && *p->at != '>')
            p->at++;
        if (!accept(p, ">"))
            return bad(p, "a group whose name does not end");
    } else if (accept(p, "?")) {
        for (bool on = true; p->at < p->end && *p->at != ':' && *p->at != ')'; p->at++) {
            if (*p->at == '-' && on)
                on = false;
            else if (*p->at == 'i')
                p->fold = on;
            else if (*p->at == 's')
                p->dot_all = on;
            else if (*p->at != 'U')
                return bad(p, "an unknown flag of a group");
        }
        if (accept(p, ")")) { /* for the rest of the group around it */
            p->depth--;
            return KAENA_OK;
        }
        if (!accept(p, ":"))
            return bad(p, "a '(' without ')'");
    }
    KAENA_TRY(alternatives(p));
    if (!accept(p, ")"))
        return bad(p, "a '(' without ')'");
    p->fold = fold;
    p->dot_all = dot_all;
    p->depth--;
    return KAENA_OK;
}

/* Behind a backslash outside of brackets. */
static kaena_status escape(parser *p)
{
    static const struct {
        const char *letter;
        opcode op;
    } assertions[] = {
        {"A", CODE_BEGIN}, {"z", CODE_END}, {"b", CODE_BOUNDARY}, {"B", CODE_NO_BOUNDARY}};
    for (size_t i = 0; i < sizeof assertions / sizeof *assertions; i++)
        if (accept(p, assertions[i].letter))
            return emit(p, (kop_regex_instruction){.op = assertions[i].op});
    uint32_t first = p->re->n_ranges;
    if (p->at < p->end && class_of_letter(*p->at)) {
        char letter = *p->at++;
        KAENA_TRY(add_class(p, class_of_letter(letter), letter < 'a'));
        return emit_set(p, first, false);
    }
    int32_t c;
    KAENA_TRY(escaped(p, &c));
    KAENA_TRY(add_folded(p, c, c));
    return emit_set(p, first, false);
}

static kaena_status atom(parser *p)
{
    uint32_t first = p->re->n_ranges;
    if (accept(p, "("))
        return group(p);
    if (accept(p, "["))
        return bracket(p);
    if (accept(p, "\\"))
        return escape(p);
    if (accept(p, "^"))
        return emit(p, (kop_regex_instruction){.op = CODE_BEGIN});
    if (accept(p, "$"))
        return emit(p, (kop_regex_instruction){.op = CODE_END});
    if (strchr("*+?", *p->at))
        return bad(p, "nothing to repeat");
    if (accept(p, ".")) {
        if (!p->dot_all)
            KAENA_TRY(add_range(p, '\n', '\n'));
        return emit_set(p, first, true);
    }
    int32_t c = next_character(p);
    KAENA_TRY(add_folded(p, c, c));
    return emit_set(p, first, false);
}

/* "{m}", "{m,}" or "{m,n}"; anything else is text. */
static bool counts(parser *p, int32_t *least, int32_t *most)
{
    char *end;
    const char *s = p->at + 1;
    if (*p->at != '{' || *s < '0' || *s > '9')
        return false;
    long low = strtol(s, &end, 10), high = low;
    if (*end == ',') {
        s = end + 1;
        high = *s == '}' ? NO_LIMIT : strtol(s, &end, 10);
        end = *s == '}' ? (char *)(uintptr_t)s : end;
        if (high != NO_LIMIT && (*s < '0' || *s > '9'))
            return false;
    }
    if (*end != '}')
        return false;
    p->at = end + 1;
    *least = (int32_t)(low > MAX_REPEAT ? MAX_REPEAT + 1 : low);
    *most = (int32_t)(high > MAX_REPEAT ? MAX_REPEAT + 1 : high);
    return true;
}

/* What stands from |start| on, |least| to |most| times. */
static kaena_status repeat(parser *p, uint32_t start, int32_t least, int32_t most)
{
    kop_regex *re = p->re;
    uint32_t n = re->n_code - start;
    int32_t size = (int32_t)n;
    if (least > MAX_REPEAT || most > MAX_REPEAT || (most != NO_LIMIT && most < least))
        return bad(p, "a wrong number of repetitions");
    if (least == 0 && most == NO_LIMIT) {
        KAENA_TRY(
            insert(p, start, (kop_regex_instruction){.op = CODE_SPLIT, .x = 1, .y = size + 2}));
        return emit(p, (kop_regex_instruction){.op = CODE_JUMP, .x = -(size + 1)});
    }
    kop_regex_instruction *copy = kop_alloc(p->call, n, sizeof *copy);
    if (!copy)
        return KAENA_RESOURCE_EXHAUSTED;
    if (n)
        memcpy(copy, re->code + start, n * sizeof *copy);
    re->n_code = start;
    for (int32_t i = 0; i < (most == NO_LIMIT ? least : most); i++) {
        if (i >= least)
            KAENA_TRY(emit(p, (kop_regex_instruction){.op = CODE_SPLIT, .x = 1, .y = size + 1}));
        for (uint32_t k = 0; k < n; k++)
            KAENA_TRY(emit(p, copy[k]));
    }
    if (most == NO_LIMIT)
        KAENA_TRY(emit(p, (kop_regex_instruction){.op = CODE_SPLIT, .x = -size, .y = 1}));
    return KAENA_OK;
}

static kaena_status concatenation(parser *p)
{
    while (p->at < p->end && *p->at != '|' && *p->at != ')') {
        uint32_t start = p->re->n_code;
        KAENA_TRY(atom(p));
        for (bool more = true; more && p->at < p->end;) {
            int32_t least = 0, most = NO_LIMIT;
            if (accept(p, "+"))
                least = 1;
            else if (accept(p, "?"))
                most = 1;
            else if (!accept(p, "*") && !counts(p, &least, &most))
                break;
            (void)accept(p, "?"); /* as few as possible: the same for a match of all */
            KAENA_TRY(repeat(p, start, least, most));
            KAENA_TRY(kop_poll(p->call));
        }
    }
    return KAENA_OK;
}

static kaena_status alternatives(parser *p)
{
    uint32_t start = p->re->n_code;
    KAENA_TRY(concatenation(p));
    while (accept(p, "|")) {
        uint32_t jump = p->re->n_code + 1;
        KAENA_TRY(insert(
            p, start,
            (kop_regex_instruction){.op = CODE_SPLIT, .x = 1, .y = (int32_t)(jump + 1 - start)}));
        KAENA_TRY(emit(p, (kop_regex_instruction){.op = CODE_JUMP}));
        KAENA_TRY(concatenation(p));
        p->re->code[jump].x = (int32_t)(p->re->n_code - jump);
    }
    return KAENA_OK;
}

kaena_status kop_regex_compile(kop_call *call, const char *pattern, kop_regex *out)
{
    kop_regex re = {.code = NULL};
    parser p = {.call = call, .at = pattern, .end = pattern + strlen(pattern), .re = &re};
    KAENA_TRY(alternatives(&p));
    if (p.at != p.end)
        return bad(&p, "a ')' without '('");
    KAENA_TRY(emit(&p, (kop_regex_instruction){.op = CODE_MATCH}));
    uint32_t *work = kop_alloc(call, re.n_code, 5 * sizeof *work);
    if (!work)
        return KAENA_RESOURCE_EXHAUSTED;
    re.list[0] = work;
    re.list[1] = work + re.n_code;
    re.seen = work + 2 * (size_t)re.n_code;
    re.stack = work + 3 * (size_t)re.n_code;
    *out = re;
    return KAENA_OK;
}

/* --- Matching: all states at once ------------------------------------------------------------- */

static bool is_word(const char *at, const char *begin, const char *end)
{
    if (at < begin || at >= end)
        return false;
    char c = *at;
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool holds(opcode op, const char *at, const char *begin, const char *end)
{
    bool boundary = (at > begin && is_word(at - 1, begin, end)) != is_word(at, begin, end);
    if (op == CODE_BEGIN)
        return at == begin;
    if (op == CODE_END)
        return at == end;
    return op == CODE_BOUNDARY ? boundary : !boundary;
}

/* Adds what can be reached from instruction |pc| without a character to |list|; true when that is a
 * match. |step| marks what is there already. */
static bool follow(const kop_regex *re, uint32_t pc, uint32_t step, const char *at,
                   const char *begin, const char *end, uint32_t *list, uint32_t *n)
{
    uint32_t depth = 0;
    bool match = false;
    re->stack[depth++] = pc;
    while (depth > 0) {
        pc = re->stack[--depth];
        if (re->seen[pc] == step)
            continue;
        re->seen[pc] = step;
        const kop_regex_instruction *i = &re->code[pc];
        switch (i->op) {
        case CODE_SET:
            list[(*n)++] = pc;
            break;
        case CODE_SPLIT:
            re->stack[depth++] = pc + (uint32_t)i->y;
            re->stack[depth++] = pc + (uint32_t)i->x;
            break;
        case CODE_JUMP:
            re->stack[depth++] = pc + (uint32_t)i->x;
            break;
        case CODE_BEGIN:
        case CODE_END:
        case CODE_BOUNDARY:
        case CODE_NO_BOUNDARY:
            if (holds(i->op, at, begin, end))
                re->stack[depth++] = pc + 1;
            break;
        case CODE_MATCH:
            match = true;
            break;
        }
    }
    return match;
}

static bool in_set(const kop_regex *re, const kop_regex_instruction *set, int32_t c)
{
    bool found = false;
    for (int32_t k = 0; k < set->y && !found; k++)
        found = c >= re->ranges[set->x + k].low && c <= re->ranges[set->x + k].high;
    return found != set->negated;
}

kaena_status kop_regex_match(kop_call *call, const kop_regex *re, kaena_string text, bool *out)
{
    const char *begin = text.size ? text.data : "", *end = begin + text.size, *at = begin;
    uint32_t n = 0, step = 1, now = 0;
    memset(re->seen, 0, re->n_code * sizeof *re->seen);
    bool match = follow(re, 0, step, at, begin, end, re->list[now], &n);
    while (at < end && n > 0) {
        int32_t c;
        size_t length = kop_utf8_decode(at, (size_t)(end - at), &c);
        c = c < 0 ? (unsigned char)*at : c;
        at += length;
        if (++step == UINT32_MAX) { /* marks may not come round */
            memset(re->seen, 0, re->n_code * sizeof *re->seen);
            step = 1;
        }
        uint32_t n_next = 0;
        match = false;
        for (uint32_t i = 0; i < n; i++) {
            uint32_t pc = re->list[now][i];
            if (in_set(re, &re->code[pc], c))
                match |= follow(re, pc + 1, step, at, begin, end, re->list[!now], &n_next);
        }
        now = !now;
        n = n_next;
        KAENA_TRY(kop_poll(call));
    }
    *out = match && at == end;
    return KAENA_OK;
}
