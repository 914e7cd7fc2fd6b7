/* The binary form. All numbers little-endian; a string is its length (u32), its bytes and a zero.
 *
 *   "KGRF" u32 version graph
 *   graph     string name  u32 inputs, constants, nodes, outputs  and these
 *   input     string name, type
 *   constant  string name, type, u8 0 and the elements from the next multiple of 8 on, or u8 1 and
 *             a u64 digest
 *   node      string operator, name, origin, reason  u8 device  u32 n, u32 operand + 1 (0: absent)
 *             ... u32 n, string name and type of each result  u32 n, attributes
 *             u32 n, graph of each body (version 2)
 *   output    u32 value
 *   type      u8 dtype, u8 rank (255: unranked), u8 form (version 2), i64 dimensions
 *   attribute string name, u8 type, then i64 | f32 | string | u32 n and elements | type and
 *             elements
 *
 * Values of a graph are numbered in the order in which they are defined: inputs, constants, results
 * of nodes. Graphs without bodies whose values are all tensors are written as version 1.
 */
#include <string.h>

#include "checked.h"
#include "graph.h"
#include "names.h"

#define MAGIC "KGRF"
#define VERSION 2
#define UNRANKED 255
#define MAX_ATTRS 64

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are copied as they lie");

/* --- Writing --------------------------------------------------------------------------------- */

typedef struct writer {
    kaena_strbuf *out;
    size_t start;       /* of this graph within |out| */
    uint32_t *index_of; /* [n_values] of the graph or body being written */
    uint32_t version;
} writer;

static void put_u8(writer *w, unsigned v)
{
    uint8_t byte = (uint8_t)v;
    kaena_strbuf_add(w->out, &byte, 1);
}

static void put_u32(writer *w, uint32_t v)
{
    kaena_strbuf_add(w->out, &v, sizeof v);
}

static void put_bytes(writer *w, const char *s, size_t size)
{
    put_u32(w, (uint32_t)size);
    kaena_strbuf_add(w->out, s, size);
    put_u8(w, 0);
}

static void put_string(writer *w, const char *s)
{
    put_bytes(w, s ? s : "", s ? strlen(s) : 0);
}

static void put_type(writer *w, const kop_tensor *t)
{
    put_u8(w, t->dtype);
    put_u8(w, t->unranked ? UNRANKED : (unsigned)t->shape.rank);
    if (w->version > 1)
        put_u8(w, t->form);
    if (!t->unranked)
        kaena_strbuf_add(w->out, t->shape.dim, (size_t)t->shape.rank * sizeof t->shape.dim[0]);
}

static void put_data(writer *w, const kop_tensor *t)
{
    size_t n = kop_elements(t);
    const kaena_string *strings = t->dtype == KAENA_STRING ? t->data : NULL;
    for (size_t i = 0; strings && i < n; i++)
        put_bytes(w, strings[i].data, strings[i].size);
    if (strings)
        return;
    while ((w->out->size - w->start) % 8)
        put_u8(w, 0);
    kaena_strbuf_add(w->out, t->data, n * kaena_dtype_size(t->dtype));
}

static void put_attr(writer *w, const kop_attr *a)
{
    put_string(w, a->name);
    put_u8(w, a->type);
    switch (a->type) {
    case KOP_ATTR_INT:
        kaena_strbuf_add(w->out, &a->u.i, sizeof a->u.i);
        return;
    case KOP_ATTR_FLOAT:
        kaena_strbuf_add(w->out, &a->u.f, sizeof a->u.f);
        return;
    case KOP_ATTR_STRING:
        put_string(w, a->u.s);
        return;
    case KOP_ATTR_INTS:
        put_u32(w, a->n);
        kaena_strbuf_add(w->out, a->u.ints, a->n * sizeof *a->u.ints);
        return;
    case KOP_ATTR_FLOATS:
        put_u32(w, a->n);
        kaena_strbuf_add(w->out, a->u.floats, a->n * sizeof *a->u.floats);
        return;
    case KOP_ATTR_STRINGS:
        put_u32(w, a->n);
        for (uint32_t i = 0; i < a->n; i++)
            put_string(w, a->u.strings[i]);
        return;
    case KOP_ATTR_TENSOR:
        put_type(w, a->u.tensor);
        put_data(w, a->u.tensor);
        return;
    }
}

static void put_graph(writer *w, const kgr_graph *g);

static void put_node(writer *w, const kgr_node *n, uint32_t *next)
{
    put_string(w, kop_row_of(n->op)->name);
    put_string(w, n->name);
    put_string(w, n->origin);
    put_string(w, n->reason);
    put_u8(w, (unsigned)n->device);
    put_u32(w, n->n_in);
    for (uint32_t i = 0; i < n->n_in; i++)
        put_u32(w, n->in[i] ? w->index_of[n->in[i]->id] + 1 : 0);
    put_u32(w, n->n_out);
    for (uint32_t i = 0; i < n->n_out; i++) {
        w->index_of[n->out[i]->id] = (*next)++;
        put_string(w, n->out[i]->name);
        put_type(w, &n->out[i]->t);
    }
    put_u32(w, n->n_attr);
    for (uint32_t i = 0; i < n->n_attr; i++)
        put_attr(w, &n->attr[i]);
    if (w->version > 1)
        put_u32(w, n->n_body);
    for (uint32_t i = 0; i < n->n_body; i++)
        put_graph(w, n->body[i]);
}

static bool is_written_const(const kgr_value *v)
{
    return v->n_uses && (v->t.data || v->digest);
}

static void put_const(writer *w, const kgr_value *v)
{
    put_string(w, v->name);
    put_type(w, &v->t);
    put_u8(w, v->t.data == NULL);
    if (v->t.data)
        put_data(w, &v->t);
    else
        kaena_strbuf_add(w->out, &v->digest, sizeof v->digest);
}

static void put_graph(writer *w, const kgr_graph *g)
{
    kaena_arena scratch;
    kaena_arena_init(&scratch, 0);
    uint32_t *outer = w->index_of, n_consts = 0, next = 0;
    w->index_of = KAENA_NEW_N(&scratch, uint32_t, g->n_values);
    for (uint32_t i = 0; i < g->n_values; i++)
        n_consts += is_written_const(g->values[i]);
    put_string(w, g->name);
    put_u32(w, g->n_inputs);
    put_u32(w, n_consts);
    put_u32(w, g->n_nodes);
    put_u32(w, g->n_outputs);
    for (uint32_t i = 0; i < g->n_inputs; i++) {
        w->index_of[g->inputs[i]->id] = next++;
        put_string(w, g->inputs[i]->name);
        put_type(w, &g->inputs[i]->t);
    }
    for (uint32_t i = 0; i < g->n_values; i++)
        if (is_written_const(g->values[i])) {
            w->index_of[i] = next++;
            put_const(w, g->values[i]);
        }
    for (const kgr_node *n = g->first; n; n = n->next)
        put_node(w, n, &next);
    for (uint32_t i = 0; i < g->n_outputs; i++)
        put_u32(w, w->index_of[g->outputs[i]->id]);
    w->index_of = outer;
    kaena_arena_fini(&scratch);
}

static uint32_t version_of(const kgr_graph *g)
{
    for (uint32_t i = 0; i < g->n_inputs; i++)
        if (g->inputs[i]->t.form != KOP_FORM_TENSOR)
            return 2;
    for (const kgr_node *n = g->first; n; n = n->next) {
        if (n->n_body)
            return 2;
        for (uint32_t i = 0; i < n->n_out; i++)
            if (n->out[i]->t.form != KOP_FORM_TENSOR)
                return 2;
    }
    return 1;
}

void kgr_serialise(const kgr_graph *g, kaena_strbuf *out)
{
    writer w = {.out = out, .start = out->size, .version = version_of(g)};
    kaena_strbuf_add(out, MAGIC, 4);
    put_u32(&w, w.version);
    put_graph(&w, g);
}

/* --- Reading --------------------------------------------------------------------------------- */

typedef struct reader {
    const uint8_t *data;
    size_t size, at;
    kgr_graph *g;   /* the body being read, or the whole graph */
    uint32_t depth; /* of that body */
    uint32_t version;
    kaena_arena *arena;
    kaena_err *err;
} reader;

#define BAD(r, ...) KAENA_FAIL((r)->err, INVALID_ARGUMENT, "graph, byte " __VA_ARGS__)

static kaena_status no_memory(const reader *r)
{
    return KAENA_FAIL(r->err, RESOURCE_EXHAUSTED, "graph of %zu bytes takes more than %zu", r->size,
                      r->arena->quota);
}

/* |n| elements of |width|, as they lie in the file. */
static kaena_status get_raw(reader *r, uint64_t n, size_t width, const void **out)
{
    uint64_t bytes;
    if (!kaena_mul_u64(n, width, &bytes) || !kaena_range_inside(r->at, bytes, r->size))
        return BAD(r, "%zu: cut off", r->at);
    *out = r->data + r->at;
    r->at += (size_t)bytes;
    return KAENA_OK;
}

static kaena_status get_copy(reader *r, void *out, size_t size)
{
    const void *p = NULL;
    KAENA_TRY(get_raw(r, 1, size, &p));
    memcpy(out, p, size);
    return KAENA_OK;
}

static kaena_status get_u8(reader *r, uint8_t *out)
{
    return get_copy(r, out, 1);
}

static kaena_status get_u32(reader *r, uint32_t *out)
{
    return get_copy(r, out, 4);
}

/* A count of things that take at least |width| bytes each. */
static kaena_status get_count(reader *r, size_t width, uint32_t most, uint32_t *out)
{
    uint32_t n;
    KAENA_TRY(get_u32(r, &n));
    if (n > most || n > (r->size - r->at) / width)
        return BAD(r, "%zu: a count of %u", r->at - 4, n);
    *out = n;
    return KAENA_OK;
}

static kaena_status get_bytes(reader *r, kaena_string *out)
{
    uint32_t n;
    const void *p = NULL;
    KAENA_TRY(get_count(r, 1, UINT32_MAX, &n));
    KAENA_TRY(get_raw(r, (uint64_t)n + 1, 1, &p));
    if (((const char *)p)[n] != 0)
        return BAD(r, "%zu: a string does not end", r->at - 1);
    *out = (kaena_string){p, n};
    return KAENA_OK;
}

static kaena_status get_string(reader *r, const char **out)
{
    kaena_string s;
    KAENA_TRY(get_bytes(r, &s));
    if (memchr(s.data, 0, s.size))
        return BAD(r, "%zu: a name with a zero byte", r->at - 1);
    *out = s.data;
    return KAENA_OK;
}

static kaena_status get_type(reader *r, kop_tensor *out)
{
    uint8_t dtype, rank;
    kop_tensor t = {0};
    KAENA_TRY(get_u8(r, &dtype));
    KAENA_TRY(get_u8(r, &rank));
    if (r->version > 1)
        KAENA_TRY(get_u8(r, &t.form));
    if (t.form >= KOP_FORM_COUNT)
        return BAD(r, "%zu: form %u", r->at - 1, t.form);
    t.dtype = (kaena_dtype)dtype;
    t.unranked = rank == UNRANKED;
    if ((dtype && !kaena_dtype_size(t.dtype)) || (!t.unranked && rank > KAENA_MAX_RANK))
        return BAD(r, "%zu: element type %u, rank %u", r->at - 2, dtype, rank);
    t.shape.rank = t.unranked ? 0 : rank;
    for (int32_t i = 0; i < t.shape.rank; i++) {
        KAENA_TRY(get_copy(r, &t.shape.dim[i], sizeof t.shape.dim[i]));
        if (t.shape.dim[i] < KAENA_DIM_UNKNOWN)
            return BAD(r, "%zu: a negative dimension", r->at - 8);
    }
    *out = t;
    return KAENA_OK;
}

static kaena_status get_data(reader *r, kop_tensor *t)
{
    int64_t n;
    const void *p = NULL;
    if (t->form != KOP_FORM_TENSOR || t->unranked || t->dtype == KAENA_DTYPE_NONE ||
        !kaena_shape_elements(&t->shape, &n))
        return BAD(r, "%zu: contents of unknown size", r->at);
    if (t->dtype != KAENA_STRING) {
        size_t pad = (8 - r->at % 8) % 8;
        KAENA_TRY(get_raw(r, pad, 1, &p));
        KAENA_TRY(get_raw(r, (uint64_t)n, kaena_dtype_size(t->dtype), &p));
        t->data = (void *)p;
        return KAENA_OK;
    }
    if ((uint64_t)n > (r->size - r->at) / 5)
        return BAD(r, "%zu: %lld strings", r->at, (long long)n);
    kaena_string *strings = KAENA_NEW_N(r->arena, kaena_string, (size_t)n);
    if (!strings)
        return no_memory(r);
    t->data = strings;
    for (int64_t i = 0; i < n; i++)
        KAENA_TRY(get_bytes(r, &strings[i]));
    return KAENA_OK;
}

static kaena_status get_strings(reader *r, kop_attr *a)
{
    KAENA_TRY(get_count(r, 5, UINT32_MAX, &a->n));
    const char **strings = KAENA_NEW_N(r->arena, const char *, a->n);
    if (!strings)
        return no_memory(r);
    a->u.strings = strings;
    for (uint32_t i = 0; i < a->n; i++)
        KAENA_TRY(get_string(r, &strings[i]));
    return KAENA_OK;
}

/* Lists are copied by kgr_attr_set before anybody reads an element, so they need no alignment here.
 */
static kaena_status get_attr(reader *r, kgr_node *n)
{
    kop_attr a = {0};
    uint8_t type;
    const void *p = NULL;
    kop_tensor t;
    KAENA_TRY(get_string(r, &a.name));
    KAENA_TRY(get_u8(r, &type));
    a.type = (kop_attr_type)type;
    switch (a.type) {
    case KOP_ATTR_INT:
        KAENA_TRY(get_copy(r, &a.u.i, sizeof a.u.i));
        break;
    case KOP_ATTR_FLOAT:
        KAENA_TRY(get_copy(r, &a.u.f, sizeof a.u.f));
        break;
    case KOP_ATTR_STRING:
        KAENA_TRY(get_string(r, &a.u.s));
        break;
    case KOP_ATTR_INTS:
        KAENA_TRY(get_count(r, sizeof(int64_t), UINT32_MAX, &a.n));
        KAENA_TRY(get_raw(r, a.n, sizeof(int64_t), &p));
        a.u.ints = p;
        break;
    case KOP_ATTR_FLOATS:
        KAENA_TRY(get_count(r, sizeof(float), UINT32_MAX, &a.n));
        KAENA_TRY(get_raw(r, a.n, sizeof(float), &p));
        a.u.floats = p;
        break;
    case KOP_ATTR_STRINGS:
        KAENA_TRY(get_strings(r, &a));
        break;
    case KOP_ATTR_TENSOR:
        KAENA_TRY(get_type(r, &t));
        KAENA_TRY(get_data(r, &t));
        a.u.tensor = &t;
        break;
    default:
        return BAD(r, "%zu: attribute type %u", r->at - 1, type);
    }
    if (kgr_attr_find(n, a.name))
        return BAD(r, "%zu: attribute '%s' twice", r->at, a.name);
    return kgr_attr_set(r->g, n, &a) ? KAENA_OK : no_memory(r);
}

static kaena_status get_value_name(reader *r, const char **out)
{
    KAENA_TRY(get_string(r, out));
    if (!**out || kgr_value_find(r->g, *out))
        return BAD(r, "%zu: a second value '%s'", r->at, *out);
    return KAENA_OK;
}

static kaena_status get_declared(reader *r, kgr_value **out)
{
    const char *name;
    kop_tensor t;
    KAENA_TRY(get_value_name(r, &name));
    KAENA_TRY(get_type(r, &t));
    *out = kgr_value_add(r->g, name, t.dtype, t.unranked ? NULL : &t.shape);
    if (!*out)
        return no_memory(r);
    (*out)->t.form = t.form;
    return KAENA_OK;
}

static kaena_status get_const(reader *r)
{
    kgr_value *v = NULL;
    uint8_t without;
    KAENA_TRY(get_declared(r, &v));
    KAENA_TRY(get_u8(r, &without));
    if (!without)
        return get_data(r, &v->t);
    KAENA_TRY(get_copy(r, &v->digest, sizeof v->digest));
    return v->digest ? KAENA_OK : BAD(r, "%zu: a digest of 0", r->at - 8);
}

/* The value of that number, which is defined already. */
static kaena_status get_known(reader *r, uint32_t index, kgr_value **out)
{
    if (index >= r->g->n_values)
        return BAD(r, "%zu: value %u is not defined before", r->at - 4, index);
    *out = r->g->values[index];
    return KAENA_OK;
}

/* A node before it is in the graph. */
typedef struct draft {
    const char *op_name, *name, *origin, *reason;
    kop_op op;
    uint8_t device;
    kgr_value **in;
    const char **out_names;
    kop_tensor *out;
    uint32_t n_in, n_out;
} draft;

static kaena_status get_operands(reader *r, draft *d)
{
    KAENA_TRY(get_count(r, 4, KOP_MAX_BODY_OPERANDS, &d->n_in));
    d->in = KAENA_NEW_N(r->arena, kgr_value *, d->n_in);
    if (!d->in)
        return no_memory(r);
    for (uint32_t i = 0; i < d->n_in; i++) {
        uint32_t index;
        KAENA_TRY(get_u32(r, &index));
        if (index)
            KAENA_TRY(get_known(r, index - 1, &d->in[i]));
    }
    return KAENA_OK;
}

static kaena_status get_results(reader *r, draft *d)
{
    KAENA_TRY(get_count(r, 8, KOP_MAX_BODY_OPERANDS, &d->n_out));
    kgr_names *names = kgr_names_create(r->arena);
    d->out = KAENA_NEW_N(r->arena, kop_tensor, d->n_out);
    d->out_names = KAENA_NEW_N(r->arena, const char *, d->n_out);
    if (!names || !d->out || !d->out_names)
        return no_memory(r);
    for (uint32_t i = 0; i < d->n_out; i++) {
        KAENA_TRY(get_value_name(r, &d->out_names[i]));
        if (kgr_names_find(names, d->out_names[i]))
            return BAD(r, "%zu: a second value '%s'", r->at, d->out_names[i]);
        if (!kgr_names_add(names, d->out_names[i], d))
            return no_memory(r);
        KAENA_TRY(get_type(r, &d->out[i]));
    }
    return KAENA_OK;
}

static kaena_status get_graph(reader *r);

static kaena_status get_bodies(reader *r, kgr_node *n)
{
    kgr_graph *outer = r->g, *body[2];
    uint32_t n_body = 0;
    if (r->version > 1)
        KAENA_TRY(get_count(r, 16, 2, &n_body));
    if (n_body == 0)
        return KAENA_OK;
    if (r->depth == KGR_MAX_DEPTH)
        return BAD(r, "%zu: bodies are nested deeper than %d", r->at, KGR_MAX_DEPTH);
    for (uint32_t i = 0; i < n_body; i++) {
        r->depth++;
        KAENA_TRY(get_graph(r));
        r->depth--;
        body[i] = r->g;
        r->g = outer;
    }
    return kgr_node_set_bodies(r->g, n, body, n_body) ? KAENA_OK : no_memory(r);
}

static kaena_status add_node(reader *r, const draft *d, kgr_node **out)
{
    kgr_node *n =
        kgr_node_add(r->g, NULL, d->op, d->name, d->origin, d->in, d->n_in, d->out_names, d->n_out);
    if (!n)
        return no_memory(r);
    for (uint32_t i = 0; i < d->n_out; i++)
        n->out[i]->t = d->out[i];
    n->device = d->device;
    if (*d->reason && !(n->reason = kaena_arena_strdup(r->arena, d->reason)))
        return no_memory(r);
    *out = n;
    return KAENA_OK;
}

static kaena_status get_node(reader *r)
{
    draft d = {0};
    kgr_node *n = NULL;
    uint32_t n_attr;
    KAENA_TRY(get_string(r, &d.op_name));
    KAENA_TRY(get_string(r, &d.name));
    KAENA_TRY(get_string(r, &d.origin));
    KAENA_TRY(get_string(r, &d.reason));
    KAENA_TRY(get_u8(r, &d.device));
    d.op = kop_find(d.op_name);
    if (d.op == KOP_NONE)
        return KAENA_FAIL(r->err, UNIMPLEMENTED,
                          "operator '%s' of node '%s' is unknown to this version", d.op_name,
                          d.name);
    if (d.device > KGR_PLAN || !*d.name || kgr_names_find(r->g->node_names, d.name))
        return BAD(r, "%zu: a second node '%s', or device %u", r->at, d.name, d.device);
    KAENA_TRY(get_operands(r, &d));
    KAENA_TRY(get_results(r, &d));
    KAENA_TRY(add_node(r, &d, &n));
    KAENA_TRY(get_count(r, 6, MAX_ATTRS, &n_attr));
    for (uint32_t i = 0; i < n_attr; i++)
        KAENA_TRY(get_attr(r, n));
    return get_bodies(r, n);
}

static kaena_status get_boundary(reader *r, uint32_t n_outputs)
{
    for (uint32_t i = 0; i < n_outputs; i++) {
        uint32_t index;
        kgr_value *v = NULL;
        KAENA_TRY(get_u32(r, &index));
        KAENA_TRY(get_known(r, index, &v));
        if (v->is_output)
            return BAD(r, "%zu: '%s' is an output twice", r->at - 4, v->name);
        if (!kgr_output_add(r->g, v))
            return no_memory(r);
    }
    return KAENA_OK;
}

static kaena_status get_graph(reader *r)
{
    const char *name;
    uint32_t n_inputs, n_consts, n_nodes, n_outputs;
    KAENA_TRY(get_string(r, &name));
    KAENA_TRY(get_count(r, 1, UINT32_MAX, &n_inputs));
    KAENA_TRY(get_count(r, 1, UINT32_MAX, &n_consts));
    KAENA_TRY(get_count(r, 1, UINT32_MAX, &n_nodes));
    KAENA_TRY(get_count(r, 1, UINT32_MAX, &n_outputs));
    r->g = kgr_graph_create(r->arena, name);
    if (!r->g)
        return no_memory(r);
    for (uint32_t i = 0; i < n_inputs; i++) {
        kgr_value *v = NULL;
        KAENA_TRY(get_declared(r, &v));
        if (!kgr_input_add(r->g, v))
            return no_memory(r);
    }
    for (uint32_t i = 0; i < n_consts; i++)
        KAENA_TRY(get_const(r));
    for (uint32_t i = 0; i < n_nodes; i++)
        KAENA_TRY(get_node(r));
    return get_boundary(r, n_outputs);
}

static kaena_status get_file(reader *r)
{
    char magic[4];
    KAENA_TRY(get_copy(r, magic, 4));
    KAENA_TRY(get_u32(r, &r->version));
    if (memcmp(magic, MAGIC, 4) != 0 || r->version < 1 || r->version > VERSION)
        return BAD(r, "0: not a graph of version 1 to %d", VERSION);
    KAENA_TRY(get_graph(r));
    if (r->at != r->size)
        return BAD(r, "%zu: %zu bytes too many", r->at, r->size - r->at);
    return KAENA_OK;
}

kaena_status kgr_deserialise(kaena_arena *arena, const void *data, size_t size, kgr_graph **out,
                             kaena_err *err)
{
    if ((uintptr_t)data % 8)
        return KAENA_FAIL(err, INTERNAL, "the graph's bytes are not 8-byte aligned");
    reader r = {.data = data, .size = size, .arena = arena, .err = err};
    KAENA_TRY(get_file(&r));
    KAENA_TRY(kgr_check(r.g, err));
    *out = r.g;
    return KAENA_OK;
}
