#include <string.h>

#include "graph.h"
#include "names.h"
#include "text.h"

#define MAX_ATTRS 64 /* of one node */

typedef struct parser {
    kgr_cursor c;
    kgr_graph *g;
} parser;

/* "%name", which names no value yet. */
static kaena_status parse_new_name(parser *p, const char **out)
{
    KAENA_TRY(kgr_text_expect(&p->c, '%'));
    KAENA_TRY(kgr_text_name(&p->c, out));
    if (kgr_value_find(p->g, *out))
        return kgr_text_fail(&p->c, "a second value '%s'", *out);
    return KAENA_OK;
}

/* "%name" of a value defined before. */
static kaena_status parse_known(parser *p, kgr_value **out)
{
    const char *name;
    KAENA_TRY(kgr_text_expect(&p->c, '%'));
    KAENA_TRY(kgr_text_name(&p->c, &name));
    *out = kgr_value_find(p->g, name);
    return *out ? KAENA_OK : kgr_text_fail(&p->c, "no value '%s' is defined before", name);
}

static kaena_status parse_declared(parser *p, kgr_value **out)
{
    const char *name;
    kop_tensor t;
    KAENA_TRY(parse_new_name(p, &name));
    KAENA_TRY(kgr_text_expect(&p->c, ':'));
    KAENA_TRY(kgr_text_type(&p->c, &t));
    *out = kgr_value_add(p->g, name, t.dtype, t.unranked ? NULL : &t.shape);
    return *out ? KAENA_OK : kgr_text_no_memory(&p->c);
}

static kaena_status parse_input(parser *p)
{
    kgr_value *v;
    KAENA_TRY(parse_declared(p, &v));
    return kgr_input_add(p->g, v) ? KAENA_OK : kgr_text_no_memory(&p->c);
}

static kaena_status parse_const(parser *p)
{
    kgr_value *v;
    KAENA_TRY(parse_declared(p, &v));
    KAENA_TRY(kgr_text_expect(&p->c, '='));
    return kgr_text_contents(&p->c, &v->t, &v->digest);
}

static kaena_status parse_output(parser *p)
{
    kgr_value *v;
    KAENA_TRY(parse_known(p, &v));
    if (v->is_output)
        return kgr_text_fail(&p->c, "'%s' is an output already", v->name);
    return kgr_output_add(p->g, v) ? KAENA_OK : kgr_text_no_memory(&p->c);
}

/* --- Attributes ------------------------------------------------------------------------------ */

/* An integer has digits and a sign only; everything else that strtod reads is a float. */
static bool is_integer(const char *word)
{
    return word[strspn(word, "+-0123456789")] == 0;
}

/* The elements of a list of one type, "[" taken. */
static kaena_status parse_list(parser *p, kop_attr *a, bool typed)
{
    kgr_cursor *c = &p->c;
    kop_tensor t = {.dtype = a->type == KOP_ATTR_FLOATS    ? KAENA_F32
                             : a->type == KOP_ATTR_STRINGS ? KAENA_STRING
                                                           : KAENA_I64};
    /* Counted ahead, on the cursor's copy: elements hold no brackets but strings may. */
    kgr_cursor ahead = *c;
    int64_t n = 0;
    for (; kgr_text_peek(&ahead) != ']'; n++) {
        char word[KGR_WORD];
        kaena_string s;
        if (n)
            KAENA_TRY(kgr_text_expect(&ahead, ','));
        if (kgr_text_peek(&ahead) == '"') {
            KAENA_TRY(kgr_text_quoted(&ahead, &s));
            t.dtype = KAENA_STRING;
        } else {
            KAENA_TRY(kgr_text_word(&ahead, word));
            if (!is_integer(word) && t.dtype == KAENA_I64)
                t.dtype = KAENA_F32;
        }
    }
    if (typed && n)
        return kgr_text_fail(c, "only an empty list says its type");
    t.shape = (kaena_shape){1, {n}};
    t.data = kaena_arena_array(c->arena, (size_t)n, kaena_dtype_size(t.dtype));
    const char **strings = KAENA_NEW_N(c->arena, const char *, (size_t)n);
    if (!t.data || !strings)
        return kgr_text_no_memory(c);
    for (int64_t i = 0; i < n; i++) {
        if (i)
            KAENA_TRY(kgr_text_expect(c, ','));
        KAENA_TRY(kgr_text_element(c, &t, (size_t)i));
        if (t.dtype == KAENA_STRING)
            strings[i] = ((const kaena_string *)t.data)[i].data;
    }
    a->n = (uint32_t)n;
    a->type = t.dtype == KAENA_I64   ? KOP_ATTR_INTS
              : t.dtype == KAENA_F32 ? KOP_ATTR_FLOATS
                                     : KOP_ATTR_STRINGS;
    if (a->type == KOP_ATTR_INTS)
        a->u.ints = t.data;
    else if (a->type == KOP_ATTR_FLOATS)
        a->u.floats = t.data;
    else
        a->u.strings = strings;
    return kgr_text_expect(c, ']');
}

/* A number, a tensor ("float32[2]{1, 2}") or an empty typed list. */
static kaena_status parse_word_attr(parser *p, kop_attr *a)
{
    kgr_cursor *c = &p->c, start = *c;
    char word[KGR_WORD];
    KAENA_TRY(kgr_text_word(c, word));
    bool floats = strcmp(word, "floats") == 0;
    if (floats || strcmp(word, "strings") == 0) {
        a->type = floats ? KOP_ATTR_FLOATS : KOP_ATTR_STRINGS;
        KAENA_TRY(kgr_text_expect(c, '['));
        return parse_list(p, a, true);
    }
    *c = start;
    if (kaena_dtype_parse(word) != KAENA_DTYPE_NONE) {
        kop_tensor *t = KAENA_NEW(c->arena, kop_tensor);
        if (!t)
            return kgr_text_no_memory(c);
        KAENA_TRY(kgr_text_type(c, t));
        a->type = KOP_ATTR_TENSOR;
        a->u.tensor = t;
        return kgr_text_data(c, t);
    }
    if (is_integer(word)) {
        a->type = KOP_ATTR_INT;
        return kgr_text_int(c, &a->u.i);
    }
    kop_tensor one = {.dtype = KAENA_F32, .data = &a->u.f};
    a->type = KOP_ATTR_FLOAT;
    return kgr_text_element(c, &one, 0);
}

static kaena_status parse_attr(parser *p, kgr_node *n)
{
    kop_attr a = {.type = KOP_ATTR_INTS};
    KAENA_TRY(kgr_text_name(&p->c, &a.name));
    KAENA_TRY(kgr_text_expect(&p->c, '='));
    if (kgr_attr_find(n, a.name))
        return kgr_text_fail(&p->c, "attribute '%s' is set twice", a.name);
    if (n->n_attr == MAX_ATTRS)
        return kgr_text_fail(&p->c, "more than %d attributes", MAX_ATTRS);
    if (kgr_text_peek(&p->c) == '"') {
        kaena_string s;
        KAENA_TRY(kgr_text_quoted(&p->c, &s));
        if (memchr(s.data, 0, s.size))
            return kgr_text_fail(&p->c, "an attribute has no zero byte");
        a.type = KOP_ATTR_STRING;
        a.u.s = s.data;
    } else if (kgr_text_take(&p->c, '[')) {
        KAENA_TRY(parse_list(p, &a, false));
    } else {
        KAENA_TRY(parse_word_attr(p, &a));
    }
    return kgr_attr_set(p->g, n, &a) ? KAENA_OK : kgr_text_no_memory(&p->c);
}

/* --- Nodes ----------------------------------------------------------------------------------- */

typedef struct result {
    const char *name;
    kop_tensor t;
} result;

static kaena_status parse_results(parser *p, result results[KOP_MAX_OUTPUTS], uint32_t *n)
{
    do {
        if (*n == KOP_MAX_OUTPUTS)
            return kgr_text_fail(&p->c, "more than %d results", KOP_MAX_OUTPUTS);
        result *r = &results[*n];
        KAENA_TRY(parse_new_name(p, &r->name));
        for (uint32_t i = 0; i < *n; i++)
            if (strcmp(results[i].name, r->name) == 0)
                return kgr_text_fail(&p->c, "a second value '%s'", r->name);
        KAENA_TRY(kgr_text_expect(&p->c, ':'));
        KAENA_TRY(kgr_text_type(&p->c, &r->t));
        (*n)++;
    } while (kgr_text_take(&p->c, ','));
    return kgr_text_expect(&p->c, '=');
}

static kaena_status parse_operands(parser *p, kgr_value *in[KOP_MAX_INPUTS + 1], uint32_t *n)
{
    KAENA_TRY(kgr_text_expect(&p->c, '('));
    while (!kgr_text_take(&p->c, ')')) {
        if (*n == KOP_MAX_INPUTS + 1)
            return kgr_text_fail(&p->c, "more than %d operands", KOP_MAX_INPUTS + 1);
        if (*n)
            KAENA_TRY(kgr_text_expect(&p->c, ','));
        in[*n] = NULL;
        if (!kgr_text_take_word(&p->c, "_"))
            KAENA_TRY(parse_known(p, &in[*n]));
        (*n)++;
    }
    return KAENA_OK;
}

/* @"name" from "origin" device | host "reason", each of them optional; attributes stand before. */
typedef struct suffix {
    const char *name, *origin, *reason;
    int32_t device;
} suffix;

static kaena_status parse_suffix(parser *p, suffix *s)
{
    kgr_cursor *c = &p->c;
    if (kgr_text_take(c, '@')) {
        KAENA_TRY(kgr_text_name(c, &s->name));
        if (kgr_names_find(p->g->node_names, s->name))
            return kgr_text_fail(c, "a second node '%s'", s->name);
    }
    if (kgr_text_take_word(c, "from"))
        KAENA_TRY(kgr_text_name(c, &s->origin));
    if (kgr_text_take_word(c, "device"))
        s->device = KGR_DEVICE;
    else if (kgr_text_take_word(c, "host"))
        s->device = KGR_HOST;
    if (s->device == KGR_HOST && kgr_text_peek(c) == '"')
        KAENA_TRY(kgr_text_name(c, &s->reason));
    return KAENA_OK;
}

/* Finds the suffix behind the attributes before the node is made, which wants its name: attributes
 * are parsed into a node that stands in no graph and are moved over. */
static kaena_status parse_node(parser *p)
{
    result results[KOP_MAX_OUTPUTS];
    kgr_value *in[KOP_MAX_INPUTS + 1];
    const char *out_names[KOP_MAX_OUTPUTS];
    uint32_t n_out = 0, n_in = 0;
    char word[KGR_WORD];
    KAENA_TRY(parse_results(p, results, &n_out));
    KAENA_TRY(kgr_text_word(&p->c, word));
    kop_op op = kop_find(word);
    if (op == KOP_NONE)
        return kgr_text_fail(&p->c, "'%s' is not an operator", word);
    KAENA_TRY(parse_operands(p, in, &n_in));
    kgr_node attrs = {.op = op};
    if (kgr_text_take(&p->c, '{')) {
        while (!kgr_text_take(&p->c, '}')) {
            if (attrs.n_attr)
                KAENA_TRY(kgr_text_expect(&p->c, ','));
            KAENA_TRY(parse_attr(p, &attrs));
        }
    }
    suffix s = {0};
    KAENA_TRY(parse_suffix(p, &s));
    for (uint32_t i = 0; i < n_out; i++)
        out_names[i] = results[i].name;
    kgr_node *n = kgr_node_add(p->g, NULL, op, s.name, s.origin, in, n_in, out_names, n_out);
    if (!n)
        return kgr_text_no_memory(&p->c);
    for (uint32_t i = 0; i < n_out; i++)
        n->out[i]->t = results[i].t;
    n->attr = attrs.attr;
    n->n_attr = attrs.n_attr;
    n->device = s.device;
    n->reason = s.reason;
    return KAENA_OK;
}

static kaena_status parse_items(parser *p)
{
    while (!kgr_text_take(&p->c, '}')) {
        if (kgr_text_peek(&p->c) == '%')
            KAENA_TRY(parse_node(p));
        else if (kgr_text_take_word(&p->c, "input"))
            KAENA_TRY(parse_input(p));
        else if (kgr_text_take_word(&p->c, "const"))
            KAENA_TRY(parse_const(p));
        else if (kgr_text_take_word(&p->c, "output"))
            KAENA_TRY(parse_output(p));
        else
            return kgr_text_fail(&p->c, "input, const, output, a node or '}' expected");
    }
    if (kgr_text_peek(&p->c))
        return kgr_text_fail(&p->c, "text behind the graph");
    return KAENA_OK;
}

kaena_status kgr_parse(kaena_arena *arena, const char *text, size_t size, kgr_graph **out,
                       kaena_err *err)
{
    parser p = {.c = {.p = text,
                      .end = text + size,
                      .line_start = text,
                      .line = 1,
                      .random_left = KGR_RANDOM_MAX,
                      .arena = arena,
                      .err = err}};
    kaena_string name;
    if (!kgr_text_take_word(&p.c, "graph"))
        return kgr_text_fail(&p.c, "'graph' expected");
    KAENA_TRY(kgr_text_quoted(&p.c, &name));
    KAENA_TRY(kgr_text_expect(&p.c, '{'));
    p.g = kgr_graph_create(arena, name.data);
    if (!p.g)
        return kgr_text_no_memory(&p.c);
    KAENA_TRY(parse_items(&p));
    KAENA_TRY(kgr_check(p.g, err));
    *out = p.g;
    return KAENA_OK;
}
