#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <xxhash.h>

#include "graph.h"
#include "text.h"

#define PRINTED_ELEMENTS 64

bool kgr_name_is_bare(const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < n; i++)
        if (!kgr_is_name_char(name[i]))
            return false;
    return n > 0 && name[n - 1] != ':';
}

static void print_quoted(kaena_strbuf *out, const char *s, size_t size)
{
    kaena_strbuf_add(out, "\"", 1);
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\')
            kaena_strbuf_printf(out, "\\%c", c);
        else if (c == '\n')
            kaena_strbuf_printf(out, "\\n");
        else if (c < 0x20 || c == 0x7f)
            kaena_strbuf_printf(out, "\\x%02x", c);
        else
            kaena_strbuf_add(out, &s[i], 1);
    }
    kaena_strbuf_add(out, "\"", 1);
}

static void print_name(kaena_strbuf *out, const char *name)
{
    if (kgr_name_is_bare(name))
        kaena_strbuf_printf(out, "%s", name);
    else
        print_quoted(out, name, strlen(name));
}

static void print_type(kaena_strbuf *out, const kop_tensor *t)
{
    char text[KAENA_SHAPE_TEXT];
    if (t->form != KOP_FORM_TENSOR)
        kaena_strbuf_printf(out, "%s(", kop_form_name(t->form));
    kaena_strbuf_printf(out, "%s%s%s", kaena_dtype_name(t->dtype),
                        t->unranked ? "[*]" : kaena_shape_print(&t->shape, text, sizeof text),
                        t->form != KOP_FORM_TENSOR ? ")" : "");
}

/* Shortest of the forms that read back as the same number; always recognisable as a float. */
static void print_float(kaena_strbuf *out, double v, int digits)
{
    char text[40];
    if (isnan(v))
        (void)snprintf(text, sizeof text, "nan");
    else
        (void)snprintf(text, sizeof text, "%.*g", digits, v);
    bool plain = strpbrk(text, ".eni") == NULL;
    kaena_strbuf_printf(out, "%s%s", text, plain ? ".0" : "");
}

static void print_element(kaena_strbuf *out, const kop_tensor *t, size_t i)
{
    switch (t->dtype) {
    case KAENA_F32:
    case KAENA_F16:
    case KAENA_BF16:
        print_float(out, kop_get_float(t, i), 9);
        return;
    case KAENA_F64:
        print_float(out, kop_get_float(t, i), 17);
        return;
    case KAENA_STRING:
        print_quoted(out, ((const kaena_string *)t->data)[i].data,
                     ((const kaena_string *)t->data)[i].size);
        return;
    case KAENA_BOOL:
        kaena_strbuf_printf(out, "%s", kop_get_int(t, i) ? "true" : "false");
        return;
    case KAENA_U64:
        kaena_strbuf_printf(out, "%" PRIu64, ((const uint64_t *)t->data)[i]);
        return;
    case KAENA_U8:
    case KAENA_I8:
    case KAENA_U16:
    case KAENA_I16:
    case KAENA_I32:
    case KAENA_I64:
    case KAENA_U32:
    case KAENA_DTYPE_NONE:
        kaena_strbuf_printf(out, "%" PRId64, kop_get_int(t, i));
        return;
    }
}

static void print_data(kaena_strbuf *out, const kop_tensor *t)
{
    size_t n = kop_elements(t);
    kaena_strbuf_printf(out, "{");
    for (size_t i = 0; i < n; i++) {
        kaena_strbuf_printf(out, "%s", i ? ", " : "");
        print_element(out, t, i);
    }
    kaena_strbuf_printf(out, "}");
}

uint64_t kgr_digest(const kop_tensor *t)
{
    size_t n = kop_elements(t);
    uint64_t hash = 0;
    if (t->dtype == KAENA_STRING)
        for (size_t i = 0; i < n; i++) {
            const kaena_string *s = &((const kaena_string *)t->data)[i];
            hash = XXH3_64bits_withSeed(s->data, s->size, hash);
        }
    else
        hash = XXH3_64bits(t->data, n * kaena_dtype_size(t->dtype));
    return hash ? hash : 1; /* 0 means that there is none */
}

typedef struct printer {
    kaena_strbuf *out;
    bool with_data;
    uint32_t depth; /* of bodies */
} printer;

static void indent(printer *p, uint32_t more)
{
    for (uint32_t i = 0; i < p->depth + more; i++)
        kaena_strbuf_add(p->out, "  ", 2);
}

static void print_const(printer *p, const kgr_value *v)
{
    kaena_strbuf *out = p->out;
    indent(p, 1);
    kaena_strbuf_printf(out, "const %%");
    print_name(out, v->name);
    kaena_strbuf_printf(out, ": ");
    print_type(out, &v->t);
    kaena_strbuf_printf(out, " = ");
    if (!v->t.data)
        kaena_strbuf_printf(out, "digest %016" PRIx64, v->digest);
    else if (!p->with_data && kop_elements(&v->t) > PRINTED_ELEMENTS)
        kaena_strbuf_printf(out, "digest %016" PRIx64, kgr_digest(&v->t));
    else
        print_data(out, &v->t);
    kaena_strbuf_printf(out, "\n");
}

static void print_attr(kaena_strbuf *out, const kop_attr *a)
{
    print_name(out, a->name);
    kaena_strbuf_printf(out, "=");
    switch (a->type) {
    case KOP_ATTR_INT:
        kaena_strbuf_printf(out, "%" PRId64, a->u.i);
        return;
    case KOP_ATTR_FLOAT:
        print_float(out, (double)a->u.f, 9);
        return;
    case KOP_ATTR_STRING:
        print_quoted(out, a->u.s, strlen(a->u.s));
        return;
    case KOP_ATTR_TENSOR:
        print_type(out, a->u.tensor);
        print_data(out, a->u.tensor);
        return;
    case KOP_ATTR_INTS:
    case KOP_ATTR_FLOATS:
    case KOP_ATTR_STRINGS:
        break;
    }
    /* An empty list says what it is empty of; the elements of others do. */
    if (a->n == 0 && a->type != KOP_ATTR_INTS)
        kaena_strbuf_printf(out, "%s", a->type == KOP_ATTR_FLOATS ? "floats" : "strings");
    kaena_strbuf_printf(out, "[");
    for (uint32_t i = 0; i < a->n; i++) {
        kaena_strbuf_printf(out, "%s", i ? "," : "");
        if (a->type == KOP_ATTR_INTS)
            kaena_strbuf_printf(out, "%" PRId64, a->u.ints[i]);
        else if (a->type == KOP_ATTR_FLOATS)
            print_float(out, (double)a->u.floats[i], 9);
        else
            print_quoted(out, a->u.strings[i], strlen(a->u.strings[i]));
    }
    kaena_strbuf_printf(out, "]");
}

static void print_operands(kaena_strbuf *out, const kgr_node *n)
{
    for (uint32_t i = 0; i < n->n_in; i++) {
        kaena_strbuf_printf(out, "%s%s", i ? ", " : "", n->in[i] ? "%" : "_");
        if (n->in[i])
            print_name(out, n->in[i]->name);
    }
}

static void print_items(printer *p, const kgr_graph *g);

static void print_bodies(printer *p, const kgr_node *n)
{
    p->depth++;
    for (uint32_t i = 0; i < n->n_body; i++) {
        kaena_strbuf_printf(p->out, " body ");
        print_quoted(p->out, n->body[i]->name, strlen(n->body[i]->name));
        kaena_strbuf_printf(p->out, " {\n");
        print_items(p, n->body[i]);
        indent(p, 0);
        kaena_strbuf_printf(p->out, "}");
    }
    p->depth--;
}

static void print_node(printer *p, const kgr_node *n)
{
    kaena_strbuf *out = p->out;
    indent(p, 1);
    for (uint32_t i = 0; i < n->n_out; i++) {
        kaena_strbuf_printf(out, "%s%%", i ? ", " : "");
        print_name(out, n->out[i]->name);
        kaena_strbuf_printf(out, ": ");
        print_type(out, &n->out[i]->t);
    }
    kaena_strbuf_printf(out, " = %s(", kop_row_of(n->op)->name);
    print_operands(out, n);
    kaena_strbuf_printf(out, ")");
    for (uint32_t i = 0; i < n->n_attr; i++) {
        kaena_strbuf_printf(out, "%s", i ? ", " : " {");
        print_attr(out, &n->attr[i]);
    }
    kaena_strbuf_printf(out, "%s @", n->n_attr ? "}" : "");
    print_quoted(out, n->name, strlen(n->name));
    if (strcmp(n->origin, kop_row_of(n->op)->name) != 0) {
        kaena_strbuf_printf(out, " from ");
        print_quoted(out, n->origin, strlen(n->origin));
    }
    if (n->device)
        kaena_strbuf_printf(out, n->device == KGR_DEVICE ? " device"
                                 : n->device == KGR_PLAN ? " plan"
                                                         : " host");
    if (n->device == KGR_HOST && n->reason) {
        kaena_strbuf_printf(out, " ");
        print_quoted(out, n->reason, strlen(n->reason));
    }
    print_bodies(p, n);
    kaena_strbuf_printf(out, "\n");
}

static void print_items(printer *p, const kgr_graph *g)
{
    for (uint32_t i = 0; i < g->n_inputs; i++) {
        indent(p, 1);
        kaena_strbuf_printf(p->out, "input %%");
        print_name(p->out, g->inputs[i]->name);
        kaena_strbuf_printf(p->out, ": ");
        print_type(p->out, &g->inputs[i]->t);
        kaena_strbuf_printf(p->out, "\n");
    }
    for (uint32_t i = 0; i < g->n_values; i++) {
        const kgr_value *v = g->values[i];
        if (v->n_uses && (v->t.data || v->digest))
            print_const(p, v);
    }
    for (const kgr_node *n = g->first; n; n = n->next)
        print_node(p, n);
    for (uint32_t i = 0; i < g->n_outputs; i++) {
        indent(p, 1);
        kaena_strbuf_printf(p->out, "output %%");
        print_name(p->out, g->outputs[i]->name);
        kaena_strbuf_printf(p->out, "\n");
    }
}

void kgr_print(const kgr_graph *g, bool with_data, kaena_strbuf *out)
{
    printer p = {out, with_data, 0};
    kaena_strbuf_printf(out, "graph ");
    print_quoted(out, g->name, strlen(g->name));
    kaena_strbuf_printf(out, " {\n");
    print_items(&p, g);
    kaena_strbuf_printf(out, "}\n");
}
