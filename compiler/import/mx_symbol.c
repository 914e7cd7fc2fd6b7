#include "mx_symbol.h"

#include <jansson.h>
#include <string.h>

#include "mx_import.h"

typedef struct parser {
    kaena_arena *arena;
    kaena_err *err;
    mx_symbol *s;
} parser;

static kaena_status no_memory(kaena_err *err)
{
    return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for the symbol");
}

/* Brackets nest no deeper than KCC_MX_MAX_DEPTH, and there are no more values than
 * KCC_MX_MAX_VALUES: checked before the JSON library recurses and allocates. */
static kaena_status check_size(const char *text, size_t size, kaena_err *err)
{
    bool quoted = false;
    uint32_t depth = 0, values = 0;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (!quoted && (c == ',' || c == ':' || c == '[' || c == '{') &&
            ++values > KCC_MX_MAX_VALUES)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "not a symbol: more than %u values",
                              KCC_MX_MAX_VALUES);
        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = false;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '[' || c == '{') {
            if (++depth > KCC_MX_MAX_DEPTH)
                return KAENA_FAIL(err, INVALID_ARGUMENT,
                                  "not a symbol: brackets nest deeper than %d", KCC_MX_MAX_DEPTH);
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
    }
    return KAENA_OK;
}

/* [node, output] or, since 0.9, [node, output, version]. */
static kaena_status parse_entry(const parser *p, const json_t *j, mx_entry *out)
{
    size_t n = json_array_size(j);
    json_int_t v[3] = {0};
    if (n != 2 && n != 3)
        return KAENA_FAIL(p->err, INVALID_ARGUMENT, "an entry that is not [node, output]");
    for (size_t i = 0; i < n; i++) {
        const json_t *e = json_array_get(j, i);
        if (!json_is_integer(e))
            return KAENA_FAIL(p->err, INVALID_ARGUMENT, "an entry that is not [node, output]");
        v[i] = json_integer_value(e);
    }
    if (v[0] < 0 || v[0] >= p->s->n_nodes)
        return KAENA_FAIL(p->err, INVALID_ARGUMENT, "there is no node %lld, only %u",
                          (long long)v[0], p->s->n_nodes);
    if (v[1] < 0 || v[1] > UINT16_MAX)
        return KAENA_FAIL(p->err, INVALID_ARGUMENT, "no node has an output %lld", (long long)v[1]);
    *out = (mx_entry){(uint32_t)v[0], (uint32_t)v[1]};
    return KAENA_OK;
}

static kaena_status parse_entries(const parser *p, const json_t *j, const mx_entry **out,
                                  uint32_t *n_out)
{
    size_t n = json_array_size(j);
    mx_entry *list = KAENA_NEW_N(p->arena, mx_entry, n);
    if (!list)
        return no_memory(p->err);
    for (size_t i = 0; i < n; i++)
        KAENA_TRY(parse_entry(p, json_array_get(j, i), &list[i]));
    *out = list;
    *n_out = (uint32_t)n;
    return KAENA_OK;
}

static kaena_status copy_text(const parser *p, const json_t *j, const char *what, const char **out)
{
    if (!json_is_string(j))
        return KAENA_FAIL(p->err, INVALID_ARGUMENT, "%s is not a string", what);
    *out = kaena_arena_strdup(p->arena, json_string_value(j));
    return *out ? KAENA_OK : no_memory(p->err);
}

static kaena_status parse_attrs(const parser *p, json_t *j, mx_node *n)
{
    static const char *const keys[] = {"param", "attr", "attrs"};
    size_t most = 0;
    for (size_t k = 0; k < 3; k++)
        most += json_object_size(json_object_get(j, keys[k]));
    mx_attr *list = KAENA_NEW_N(p->arena, mx_attr, most);
    if (!list)
        return no_memory(p->err);
    for (size_t k = 0; k < 3; k++) {
        json_t *attrs = json_object_get(j, keys[k]), *value;
        const char *name;
        if (attrs && !json_is_object(attrs))
            return KAENA_FAIL(p->err, INVALID_ARGUMENT, "'%s' is not an object", keys[k]);
        json_object_foreach(attrs, name, value)
        {
            mx_attr *a = &list[n->n_attr++];
            a->name = kaena_arena_strdup(p->arena, name);
            if (!a->name)
                return no_memory(p->err);
            KAENA_TRY(copy_text(p, value, a->name, &a->text));
        }
    }
    n->attr = list;
    return KAENA_OK;
}

static kaena_status parse_node(const parser *p, json_t *j, mx_node *n)
{
    KAENA_TRY(copy_text(p, json_object_get(j, "name"), "its name", &n->name));
    KAENA_TRY(copy_text(p, json_object_get(j, "op"), "its operator", &n->op));
    KAENA_TRY_WRAP(p->err, parse_attrs(p, j, n), "'%s'", n->name);
    const json_t *in = json_object_get(j, "inputs");
    if (in && !json_is_array(in))
        return KAENA_FAIL(p->err, INVALID_ARGUMENT, "'%s': its inputs are no list", n->name);
    KAENA_TRY_WRAP(p->err, parse_entries(p, in, &n->in, &n->n_in), "'%s'", n->name);
    return KAENA_OK;
}

/* "attrs": {"mxnet_version": ["int", 10301]} since 0.9. */
static int64_t parse_version(const json_t *root)
{
    const json_t *pair = json_object_get(json_object_get(root, "attrs"), "mxnet_version");
    const json_t *v = json_array_get(pair, 1);
    return json_is_integer(v) ? json_integer_value(v) : 800;
}

static kaena_status parse_root(const parser *p, json_t *root)
{
    const json_t *nodes = json_object_get(root, "nodes"), *heads = json_object_get(root, "heads");
    if (!json_is_array(nodes) || !json_is_array(heads))
        return KAENA_FAIL(p->err, INVALID_ARGUMENT,
                          "not a symbol: it lacks the lists \"nodes\" and \"heads\"");
    size_t n = json_array_size(nodes);
    mx_node *list = KAENA_NEW_N(p->arena, mx_node, n);
    if (!list)
        return no_memory(p->err);
    if (n > INT32_MAX)
        return KAENA_FAIL(p->err, INVALID_ARGUMENT, "too many nodes");
    p->s->nodes = list;
    p->s->n_nodes = (uint32_t)n;
    for (size_t i = 0; i < n; i++)
        KAENA_TRY_WRAP(p->err, parse_node(p, json_array_get(nodes, i), &list[i]), "node %zu", i);
    KAENA_TRY_WRAP(p->err, parse_entries(p, heads, &p->s->heads, &p->s->n_heads), "\"heads\"");
    if (p->s->n_heads == 0)
        return KAENA_FAIL(p->err, INVALID_ARGUMENT, "the symbol has no outputs (\"heads\")");
    p->s->version = parse_version(root);
    return KAENA_OK;
}

kaena_status mx_symbol_parse(kaena_arena *arena, const char *text, size_t size, mx_symbol *out,
                             kaena_err *err)
{
    json_error_t e;
    if (size > KCC_MX_MAX_SYMBOL)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "%zu bytes are no symbol; at most %zu make sense",
                          size, KCC_MX_MAX_SYMBOL);
    KAENA_TRY(check_size(text, size, err));
    json_t *root = json_loadb(size ? text : "", size, 0, &e);
    if (!root)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "not JSON: line %d, column %d: %s", e.line,
                          e.column, e.text);
    mx_symbol s = {0};
    kaena_status status = parse_root(&(parser){arena, err, &s}, root);
    json_decref(root);
    if (status == KAENA_OK)
        *out = s;
    return status;
}

enum { UNSEEN, OPEN, DONE };

/* A depth-first walk with a stack of its own: |next[i]| is the operand of node i to look at. */
kaena_status mx_symbol_order(kaena_arena *arena, const mx_symbol *s, const mx_entry *heads,
                             uint32_t n_heads, uint32_t **order, uint32_t *n_order, kaena_err *err)
{
    uint8_t *state = KAENA_NEW_N(arena, uint8_t, s->n_nodes);
    uint32_t *next = KAENA_NEW_N(arena, uint32_t, s->n_nodes);
    uint32_t *stack = KAENA_NEW_N(arena, uint32_t, s->n_nodes);
    uint32_t *list = KAENA_NEW_N(arena, uint32_t, s->n_nodes), n = 0, depth = 0;
    if (!state || !next || !stack || !list)
        return no_memory(err);
    for (uint32_t h = 0; h < n_heads; h++) {
        if (state[heads[h].node] != UNSEEN)
            continue;
        state[heads[h].node] = OPEN;
        stack[depth++] = heads[h].node;
        while (depth > 0) {
            uint32_t at = stack[depth - 1];
            if (next[at] == s->nodes[at].n_in) {
                state[at] = DONE;
                list[n++] = at;
                depth--;
                continue;
            }
            uint32_t to = s->nodes[at].in[next[at]++].node;
            if (state[to] == OPEN)
                return KAENA_FAIL(err, INVALID_ARGUMENT, "node '%s' (%s) needs its own result",
                                  s->nodes[to].name, s->nodes[to].op);
            if (state[to] == UNSEEN) {
                state[to] = OPEN;
                stack[depth++] = to;
            }
        }
    }
    *order = list;
    *n_order = n;
    return KAENA_OK;
}
