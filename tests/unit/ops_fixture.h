/* Operators called with tensors and attributes written as text, for the tests of runtime/ops.
 *
 *     ops_check(KOP_Gather, "axis=1", "f32[2,2] 1 2 3 4 ; int64[1] -1", "f32[2,1] 2 4");
 *     ops_refuse(KOP_Gather, "axis=2", "f32[2,2] ; int64[1]", 1, KAENA_INVALID_ARGUMENT, "axis");
 *
 * A tensor without values has type and shape only ("f32[2,?]", "f32*" without rank): then the call
 * is inferred, not evaluated.
 * "-" is an absent input. Strings: "string[2] a 'b c'".
 * Attributes: i=1 f=0.5 s='text' list=[1,2] floats=[0.5,2.0] t={f32[1] 5} names=('a','b').
 */
#ifndef OPS_FIXTURE_H
#define OPS_FIXTURE_H

#include <ctype.h>
#include <math.h>

#include "ktest.h"
#include "ops.h"

#define OPS_MAX 16

typedef struct ops_call {
    kaena_arena arena;
    kaena_err err;
    kop_attr attr[OPS_MAX];
    kop_tensor in[OPS_MAX], want[OPS_MAX], out[OPS_MAX];
    const kop_tensor *in_ptr[OPS_MAX];
    bool all_data;
    kop_env env;
    kop_call call;
} ops_call;

static inline const char *ops_skip(const char *s)
{
    while (*s == ' ')
        s++;
    return s;
}

static inline const char *ops_parse_string(ops_call *c, const char *s, kaena_string *out)
{
    if (*s != '\'') {
        size_t word = strcspn(s, " ;}");
        *out = (kaena_string){kaena_arena_memdup(&c->arena, s, word), word};
        return s + word;
    }
    size_t n = strcspn(s + 1, "'");
    cr_assert(*s == '\'' && s[n + 1] == '\'', "no string at '%s'", s);
    *out = (kaena_string){kaena_arena_memdup(&c->arena, s + 1, n), n};
    return s + n + 2;
}

/* A tensor up to ';', '}' or the end. */
static inline const char *ops_parse_tensor(ops_call *c, const char *s, kop_tensor *t)
{
    char name[16] = "";
    size_t n = 0, values = 0;
    s = ops_skip(s);
    while (isalnum((unsigned char)*s) && n < sizeof name - 1)
        name[n++] = *s++;
    *t = (kop_tensor){.dtype = kaena_dtype_parse(name)};
    cr_assert(t->dtype != KAENA_DTYPE_NONE, "no type '%s'", name);
    if (*s == '*') {
        t->unranked = true;
        return ops_skip(s + 1);
    }
    cr_assert(*s == '[', "no shape in '%s'", s);
    for (s++; *s != ']'; s += *s == ',') {
        bool open = *s == '?';
        char *end = (char *)(uintptr_t)s + 1;
        t->shape.dim[t->shape.rank++] = open ? KAENA_DIM_UNKNOWN : strtoll(s, &end, 10);
        s = end;
    }
    s = ops_skip(s + 1);
    int64_t elements;
    if (!kaena_shape_elements(&t->shape, &elements))
        return s;
    if (elements > 0 && (*s == ';' || *s == '}' || !*s))
        return s;
    t->data = kaena_arena_array(&c->arena, (size_t)elements, kaena_dtype_size(t->dtype));
    for (; *s && *s != ';' && *s != '}'; s = ops_skip(s), values++) {
        char *end;
        cr_assert(values < (size_t)elements, "too many values at '%s'", s);
        if (t->dtype == KAENA_STRING)
            end = (char *)(uintptr_t)ops_parse_string(c, s, (kaena_string *)t->data + values);
        else if (kaena_dtype_is_float(t->dtype))
            kop_set_float(t, values, strtod(s, &end));
        else
            kop_set_int(t, values,
                        t->dtype == KAENA_U64 ? (int64_t)strtoull(s, &end, 10)
                                              : strtoll(s, &end, 10));
        cr_assert(end != s, "no value at '%s'", s);
        s = end;
    }
    cr_assert_eq(values, (size_t)elements, "%zu values for %lld", values, (long long)elements);
    return s;
}

static inline uint32_t ops_parse_tensors(ops_call *c, const char *s, kop_tensor *t,
                                         const kop_tensor **ptr)
{
    uint32_t n = 0;
    for (s = ops_skip(s); *s; s = ops_skip(s + (*s == ';')), n++) {
        cr_assert(n < OPS_MAX);
        if (ptr)
            ptr[n] = *s == '-' ? NULL : &t[n];
        if (*s == '-')
            s = ops_skip(s + 1);
        else
            s = ops_parse_tensor(c, s, &t[n]);
        cr_assert(*s == ';' || !*s, "what is '%s'?", s);
    }
    return n;
}

static inline const char *ops_parse_value(ops_call *c, const char *s, kop_attr *a)
{
    a->n = 1;
    if (*s == '\'') {
        const char *end = strchr(s + 1, '\'');
        a->type = KOP_ATTR_STRING;
        a->u.s = kaena_arena_printf(&c->arena, "%.*s", (int)(end - s - 1), s + 1);
        return end + 1;
    }
    if (*s == '{') {
        kop_tensor *t = kaena_arena_alloc(&c->arena, sizeof *t);
        a->type = KOP_ATTR_TENSOR;
        a->u.tensor = t;
        return ops_parse_tensor(c, s + 1, t) + 1;
    }
    if (*s == '(') {
        const char **v = kaena_arena_array(&c->arena, OPS_MAX, sizeof *v);
        a->type = KOP_ATTR_STRINGS;
        a->u.strings = v;
        a->n = 0;
        for (s++; *s != ')'; s += *s == ',') {
            size_t n = strcspn(s + 1, "'");
            v[a->n++] = kaena_arena_printf(&c->arena, "%.*s", (int)n, s + 1);
            s += n + 2;
        }
        return s + 1;
    }
    char *end;
    if (*s == '[' && memchr(s, '.', strcspn(s, "]"))) {
        float *v = kaena_arena_array(&c->arena, OPS_MAX, sizeof *v);
        a->type = KOP_ATTR_FLOATS;
        a->u.floats = v;
        a->n = 0;
        for (s++; *s != ']'; s = end + (*end == ',')) {
            v[a->n++] = strtof(s, &end);
            cr_assert(end != s, "what is '%s'?", s);
        }
        return s + 1;
    }
    if (*s == '[') {
        int64_t *v = kaena_arena_array(&c->arena, OPS_MAX, sizeof *v);
        a->type = KOP_ATTR_INTS;
        a->u.ints = v;
        a->n = 0;
        for (s++; *s != ']'; s = end + (*end == ',')) {
            v[a->n++] = strtoll(s, &end, 10);
            cr_assert(end != s, "what is '%s'?", s);
        }
        return s + 1;
    }
    size_t length = strcspn(s, " ");
    if (memchr(s, '.', length)) {
        a->type = KOP_ATTR_FLOAT;
        a->u.f = strtof(s, &end);
    } else {
        a->type = KOP_ATTR_INT;
        a->u.i = strtoll(s, &end, 10);
    }
    return end;
}

static inline void ops_prepare(ops_call *c, kop_op op, const char *attrs, const char *in)
{
    memset(c, 0, sizeof *c);
    kaena_arena_init(&c->arena, 64u << 20);
    c->call = (kop_call){
        .op = op, .name = "node", .attr = c->attr, .in = c->in_ptr, .out = c->out, .err = &c->err};
    kaena_err_init(&c->err);
    for (const char *s = ops_skip(attrs); *s; s = ops_skip(s)) {
        kop_attr *a = &c->attr[c->call.n_attr++];
        size_t n = strcspn(s, "=");
        a->name = kaena_arena_printf(&c->arena, "%.*s", (int)n, s);
        s = ops_parse_value(c, s + n + 1, a);
    }
    c->call.n_in = ops_parse_tensors(c, in, c->in, c->in_ptr);
    c->all_data = true;
    for (uint32_t i = 0; i < c->call.n_in; i++)
        c->all_data = c->all_data && (!c->in_ptr[i] || c->in[i].data);
    c->env.arena = &c->arena;
}

static inline void ops_compare(kop_op op, uint32_t i, const kop_tensor *want, const kop_tensor *t)
{
    const char *name = kop_row_of(op)->name;
    char a[KAENA_SHAPE_TEXT], b[KAENA_SHAPE_TEXT];
    cr_assert(t->dtype == want->dtype, "%s: output %u is %s", name, i, kaena_dtype_name(t->dtype));
    cr_assert(t->unranked == want->unranked, "%s: output %u: rank", name, i);
    if (want->unranked)
        return;
    cr_assert(kaena_shape_equal(&t->shape, &want->shape), "%s: output %u is %s, not %s", name, i,
              kaena_shape_print(&t->shape, a, sizeof a),
              kaena_shape_print(&want->shape, b, sizeof b));
    for (size_t j = 0; t->data && want->data && j < kop_elements(t); j++) {
        if (t->dtype == KAENA_STRING) {
            kaena_string v = ((kaena_string *)t->data)[j], w = ((kaena_string *)want->data)[j];
            cr_assert(v.size == w.size && (w.size == 0 || memcmp(v.data, w.data, w.size) == 0),
                      "%s: output %u[%zu] is '%.*s', not '%.*s'", name, i, j, (int)v.size, v.data,
                      (int)w.size, w.data);
            continue;
        }
        double w = kop_get_float(want, j), v = kop_get_float(t, j);
        bool same = isnan(w) ? isnan(v) : w == v || fabs(v - w) <= 2e-6 * fmax(1, fabs(w));
        cr_assert(same, "%s: output %u[%zu] is %.9g, not %.9g", name, i, j, v, w);
    }
}

/* Inference and, where every input has data, evaluation give |want|. */
static inline void ops_check(kop_op op, const char *attrs, const char *in, const char *want)
{
    ops_call *c = malloc(sizeof *c);
    ops_prepare(c, op, attrs, in);
    c->call.n_out = ops_parse_tensors(c, want, c->want, NULL);
    kaena_status status = kop_infer(&c->call);
    cr_assert(status == KAENA_OK, "%s: infer: %s", kop_row_of(op)->name, c->err.what);
    for (uint32_t i = 0; i < c->call.n_out && !c->all_data; i++)
        ops_compare(op, i, &c->want[i], &c->out[i]);
    if (c->all_data) {
        c->call.env = &c->env;
        status = kop_eval(&c->call);
        cr_assert(status == KAENA_OK, "%s: eval: %s", kop_row_of(op)->name, c->err.what);
        for (uint32_t i = 0; i < c->call.n_out; i++)
            ops_compare(op, i, &c->want[i], &c->out[i]);
    }
    kaena_arena_fini(&c->arena);
    free(c);
}

/* The call with |n_out| outputs fails with |code| and a message that contains |text|. */
static inline void ops_refuse(kop_op op, const char *attrs, const char *in, uint32_t n_out,
                              kaena_status code, const char *text)
{
    ops_call *c = malloc(sizeof *c);
    ops_prepare(c, op, attrs, in);
    c->call.n_out = n_out;
    c->call.env = c->all_data ? &c->env : NULL;
    kaena_status status = c->all_data ? kop_eval(&c->call) : kop_infer(&c->call);
    cr_assert(status == code && strstr(c->err.what, text), "%s: %s: '%s' lacks '%s'",
              kop_row_of(op)->name, kaena_status_name(status), c->err.what, text);
    kaena_arena_fini(&c->arena);
    free(c);
}

#endif
