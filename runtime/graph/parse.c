#include <string.h>

#include "graph.h"
#include "names.h"
#include "text.h"

#define MAX_ATTRS 64 /* of one node */

typedef struct parser {
    kgr_cursor c;
    kgr_graph *g;   /* the body in which the cursor stands, or the whole graph */
    uint32_t depth; /* of that body */
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
    if (!*out)
        return kgr_text_no_memory(&p->c);
    (*out)->t.form = t.form;
    return KAENA_OK;
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
    if (v->t.form != KOP_FORM_TENSOR)
        return kgr_text_fail(&p->c, "constants are tensors");
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
        if (t->form != KOP_FORM_TENSOR)
            return kgr_text_fail(c, "an attribute of type %s", kop_form_name(t->form));
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

/* A node before it is in the graph, which wants its name: what stands behind the operands is parsed
 * first. Lists double in the arena. */
typedef struct draft {
    kop_op op;
    const char **out_names;
    kop_tensor *out;
    kgr_value **in;
    kgr_graph **body;
    uint32_t n_out, n_in, n_body;
    kgr_node attrs; /* stands in no graph: its attributes are moved over */
    const char *name, *origin, *reason;
    kgr_place device;
} draft;

/* Makes room for another of |n| elements of |size|: where n is a power of two, or 0. */
static kaena_status grow(parser *p, void *list, uint32_t n, size_t size, uint32_t most,
                         const char *what)
{
    if (n == most)
        return kgr_text_fail(&p->c, "more than %u %s", most, what);
    if (n & (n - 1))
        return KAENA_OK;
    void *old, *fresh = kaena_arena_array(p->c.arena, n ? 2 * (size_t)n : 1, size);
    if (!fresh)
        return kgr_text_no_memory(&p->c);
    memcpy(&old, list, sizeof old);
    if (n)
        memcpy(fresh, old, n * size);
    memcpy(list, &fresh, sizeof fresh);
    return KAENA_OK;
}

static kaena_status parse_results(parser *p, draft *d)
{
    kgr_names *names = kgr_names_create(p->c.arena);
    if (!names)
        return kgr_text_no_memory(&p->c);
    do {
        const char *name;
        KAENA_TRY(grow(p, &d->out, d->n_out, sizeof *d->out, KOP_MAX_BODY_OPERANDS, "results"));
        KAENA_TRY(grow(p, &d->out_names, d->n_out, sizeof *d->out_names, KOP_MAX_BODY_OPERANDS,
                       "results"));
        KAENA_TRY(parse_new_name(p, &name));
        if (kgr_names_find(names, name))
            return kgr_text_fail(&p->c, "a second value '%s'", name);
        if (!kgr_names_add(names, name, d))
            return kgr_text_no_memory(&p->c);
        KAENA_TRY(kgr_text_expect(&p->c, ':'));
        KAENA_TRY(kgr_text_type(&p->c, &d->out[d->n_out]));
        d->out_names[d->n_out++] = name;
    } while (kgr_text_take(&p->c, ','));
    return kgr_text_expect(&p->c, '=');
}

static kaena_status parse_operands(parser *p, draft *d)
{
    KAENA_TRY(kgr_text_expect(&p->c, '('));
    while (!kgr_text_take(&p->c, ')')) {
        KAENA_TRY(grow(p, &d->in, d->n_in, sizeof *d->in, KOP_MAX_BODY_OPERANDS, "operands"));
        if (d->n_in)
            KAENA_TRY(kgr_text_expect(&p->c, ','));
        kgr_value *v = NULL;
        if (!kgr_text_take_word(&p->c, "_"))
            KAENA_TRY(parse_known(p, &v));
        d->in[d->n_in++] = v;
    }
    return KAENA_OK;
}

/* @"name" from "origin" device | host "reason", each of them optional. */
static kaena_status parse_suffix(parser *p, draft *d)
{
    kgr_cursor *c = &p->c;
    if (kgr_text_take(c, '@')) {
        KAENA_TRY(kgr_text_name(c, &d->name));
        if (kgr_names_find(p->g->node_names, d->name))
            return kgr_text_fail(c, "a second node '%s'", d->name);
    }
    if (kgr_text_take_word(c, "from"))
        KAENA_TRY(kgr_text_name(c, &d->origin));
    if (kgr_text_take_word(c, "device"))
        d->device = KGR_DEVICE;
    else if (kgr_text_take_word(c, "host"))
        d->device = KGR_HOST;
    else if (kgr_text_take_word(c, "plan"))
        d->device = KGR_PLAN;
    if (d->device == KGR_HOST && kgr_text_peek(c) == '"')
        KAENA_TRY(kgr_text_name(c, &d->reason));
    return KAENA_OK;
}

static kaena_status parse_graph(parser *p);

static kaena_status parse_bodies(parser *p, draft *d)
{
    kgr_graph *outer = p->g;
    while (kgr_text_take_word(&p->c, "body")) {
        KAENA_TRY(grow(p, &d->body, d->n_body, sizeof *d->body, 2, "bodies"));
        if (p->depth == KGR_MAX_DEPTH)
            return kgr_text_fail(&p->c, "bodies are nested deeper than %d", KGR_MAX_DEPTH);
        p->depth++;
        KAENA_TRY(parse_graph(p));
        p->depth--;
        d->body[d->n_body++] = p->g;
        p->g = outer;
    }
    return KAENA_OK;
}

static kaena_status add_node(parser *p, const draft *d)
{
    kgr_node *n =
        kgr_node_add(p->g, NULL, d->op, d->name, d->origin, d->in, d->n_in, d->out_names, d->n_out);
    if (!n)
        return kgr_text_no_memory(&p->c);
    for (uint32_t i = 0; i < d->n_out; i++)
        n->out[i]->t = d->out[i];
    n->attr = d->attrs.attr;
    n->n_attr = d->attrs.n_attr;
    n->device = d->device;
    n->reason = d->reason;
    return d->n_body == 0 || kgr_node_set_bodies(p->g, n, d->body, d->n_body)
               ? KAENA_OK
               : kgr_text_no_memory(&p->c);
}

static kaena_status parse_node(parser *p)
{
    draft d = {0};
    char word[KGR_WORD];
    KAENA_TRY(parse_results(p, &d));
    KAENA_TRY(kgr_text_word(&p->c, word));
    d.op = kop_find(word);
    if (d.op == KOP_NONE)
        return kgr_text_fail(&p->c, "'%s' is not an operator", word);
    KAENA_TRY(parse_operands(p, &d));
    if (kgr_text_take(&p->c, '{')) {
        while (!kgr_text_take(&p->c, '}')) {
            if (d.attrs.n_attr)
                KAENA_TRY(kgr_text_expect(&p->c, ','));
            KAENA_TRY(parse_attr(p, &d.attrs));
        }
    }
    KAENA_TRY(parse_suffix(p, &d));
    KAENA_TRY(parse_bodies(p, &d));
    return add_node(p, &d);
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
    return KAENA_OK;
}

/* Name and items, for p->g. */
static kaena_status parse_graph(parser *p)
{
    kaena_string name;
    KAENA_TRY(kgr_text_quoted(&p->c, &name));
    KAENA_TRY(kgr_text_expect(&p->c, '{'));
    p->g = kgr_graph_create(p->c.arena, name.data);
    return p->g ? parse_items(p) : kgr_text_no_memory(&p->c);
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
    if (!kgr_text_take_word(&p.c, "graph"))
        return kgr_text_fail(&p.c, "'graph' expected");
    KAENA_TRY(parse_graph(&p));
    if (kgr_text_peek(&p.c))
        return kgr_text_fail(&p.c, "text behind the graph");
    KAENA_TRY(kgr_check(p.g, err));
    *out = p.g;
    return KAENA_OK;
}
