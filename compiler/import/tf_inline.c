/* Calls become what they call. */
#include <string.h>

#include "tf_rewrite.h"
#include "tf_translate.h"

/* A call on its way: the calls around it, against recursion. */
typedef struct call {
    const struct call *around; /* NULL: called by the graph itself */
    const char *function;
    uint32_t depth;
} call;

typedef struct inliner {
    tf_graph *g;
    tf_walk *w;
    kcc_name_table functions; /* name -> index into the library */
    const call **call_of;     /* by node id, of |capacity|; NULL: of the graph itself */
    uint32_t capacity;
    uint32_t n_inlined;
    kaena_err *err;
} inliner;

/* A body on its way into the graph. */
typedef struct body {
    inliner *il;
    const Tensorflow__FunctionDef *f;
    tf_node *caller;
    const call *call;
    Tensorflow__AttrEntry *const *attr; /* of the call */
    size_t n_attr;
    kcc_name_table arg_names; /* argument -> index into signature.input_arg */
    uint32_t *first_arg;      /* [n_input_arg + 1] the first place in |arg| */
    tf_edge *arg;             /* what stands for them; node NULL: nothing may */
    kcc_name_table names;     /* node of the body -> index into |node| */
    tf_node **node;
} body;

static kaena_status no_memory(const inliner *il)
{
    return KAENA_FAIL(il->err, RESOURCE_EXHAUSTED, "no memory for the graph");
}

/* --- The library -------------------------------------------------------------------------------
 */

static kaena_status index_library(inliner *il)
{
    const Tensorflow__FunctionDefLibrary *l = il->g->library;
    if (!l)
        return KAENA_OK;
    if (l->n_function > TF_MAX_FUNCTIONS)
        return KAENA_FAIL(il->err, UNIMPLEMENTED, "%zu functions; at most %u are supported",
                          l->n_function, TF_MAX_FUNCTIONS);
    for (size_t i = 0; i < l->n_function; i++) {
        if (!l->function[i]->signature)
            return KAENA_FAIL(il->err, INVALID_ARGUMENT, "function number %zu has no signature", i);
        if (kcc_name_add(&il->functions, l->function[i]->signature->name, (uint32_t)i) ==
            KCC_NAME_NO_MEMORY)
            return no_memory(il);
    }
    return KAENA_OK;
}

static const Tensorflow__FunctionDef *find_function(const inliner *il, const char *name)
{
    uint32_t i;
    return kcc_name_find(&il->functions, name, &i) ? il->g->library->function[i] : NULL;
}

kaena_status tf_function_find(const tf_graph *g, const char *name,
                              const Tensorflow__FunctionDef **out, kaena_err *err)
{
    const Tensorflow__FunctionDefLibrary *l = g->library;
    for (size_t i = 0; l && i < l->n_function; i++)
        if (l->function[i]->signature && strcmp(l->function[i]->signature->name, name) == 0) {
            *out = l->function[i];
            return KAENA_OK;
        }
    return KAENA_FAIL(err, NOT_FOUND, "the model has no function '%s'", name);
}

/* --- Attributes --------------------------------------------------------------------------------
 */

/* What the call says for the body's attribute |name|, else the signature's default, or NULL. */
static const Tensorflow__AttrValue *call_attr(const body *b, const char *name)
{
    for (size_t i = 0; i < b->n_attr; i++)
        if (strcmp(b->attr[i]->key, name) == 0)
            return b->attr[i]->value;
    const Tensorflow__OpDef *s = b->f->signature;
    for (size_t i = 0; i < s->n_attr; i++)
        if (strcmp(s->attr[i]->name, name) == 0)
            return s->attr[i]->default_value;
    return NULL;
}

static kaena_status set_attrs(const body *b, tf_node *n, const Tensorflow__NodeDef *pb)
{
    if (pb->n_attr > 256)
        return KAENA_FAIL(b->il->err, INVALID_ARGUMENT, "%zu attributes; at most 256 make sense",
                          pb->n_attr);
    for (size_t i = 0; i < pb->n_attr; i++) {
        const Tensorflow__AttrValue *v = pb->attr[i]->value;
        if (v && v->value_case == TENSORFLOW__ATTR_VALUE__VALUE_PLACEHOLDER)
            v = call_attr(b, v->placeholder);
        if (v && !tf_node_set_attr(b->il->g, n, pb->attr[i]->key, v))
            return no_memory(b->il);
    }
    return KAENA_OK;
}

/* How many values the argument takes. */
static kaena_status arg_values(const body *b, const Tensorflow__OpDef__ArgDef *arg, uint32_t *out)
{
    const char *name = *arg->number_attr ? arg->number_attr : arg->type_list_attr;
    *out = 1;
    if (!*name)
        return KAENA_OK;
    const Tensorflow__AttrValue *v = call_attr(b, name);
    if (v && v->value_case == TENSORFLOW__ATTR_VALUE__VALUE_I && v->i >= 0 && v->i <= TF_MAX_PORTS)
        *out = (uint32_t)v->i;
    else if (v && v->value_case == TENSORFLOW__ATTR_VALUE__VALUE_LIST &&
             v->list->n_type <= TF_MAX_PORTS)
        *out = (uint32_t)v->list->n_type;
    else
        return KAENA_FAIL(b->il->err, INVALID_ARGUMENT, "argument '%s' has no known length",
                          arg->name);
    return KAENA_OK;
}

/* --- Nodes of a body ----------------------------------------------------------------------------
 */

static kaena_status keep_call(inliner *il, const tf_node *n, const call *c)
{
    if (n->id >= il->capacity) {
        uint32_t wanted = il->g->n_nodes + il->g->n_nodes / 2 + 16;
        const call **fresh = KAENA_NEW_N(il->g->arena, const call *, wanted);
        if (!fresh)
            return no_memory(il);
        if (il->capacity)
            memcpy(fresh, il->call_of, il->capacity * sizeof *fresh);
        il->call_of = fresh;
        il->capacity = wanted;
    }
    il->call_of[n->id] = c;
    return KAENA_OK;
}

static kaena_status add_node(const body *b, const char *name, const char *op, tf_node **out)
{
    inliner *il = b->il;
    if (++il->n_inlined > TF_MAX_INLINED)
        return KAENA_FAIL(il->err, RESOURCE_EXHAUSTED,
                          "the functions' bodies have more than %u nodes when they are put in the "
                          "place of their calls",
                          TF_MAX_INLINED);
    const char *full = kaena_arena_printf(il->g->arena, "%s/%s", b->caller->name, name);
    const char *fresh = full ? tf_graph_fresh_name(il->g, full) : NULL;
    tf_node *n = fresh ? tf_node_add(il->g, fresh, op) : NULL;
    if (!n)
        return no_memory(il);
    *out = n;
    return keep_call(il, n, b->call);
}

/* The number of the result |name| of a function that is called by its name. */
static bool function_port(const Tensorflow__FunctionDef *f, const char *name, uint32_t *port)
{
    for (size_t i = 0; i < f->signature->n_output_arg; i++)
        if (strcmp(f->signature->output_arg[i]->name, name) == 0) {
            *port = (uint32_t)i;
            return true;
        }
    return false;
}

/* "argument", "argument:1", "node:output:0", "node:output". */
static kaena_status find_value(const body *b, const char *text, tf_edge *out)
{
    kaena_err *err = b->il->err;
    char *name = kaena_arena_strdup(b->il->g->arena, text);
    if (!name)
        return no_memory(b->il);
    char *output = strchr(name, ':'), *number = NULL;
    uint32_t index = 0, i;
    if (output) {
        *output++ = 0;
        number = strchr(output, ':');
        if (number)
            *number++ = 0;
    }
    const char *digits = number ? number : output;
    bool is_node = kcc_name_find(&b->names, name, &i);
    if (digits && (number || !is_node)) {
        for (; *digits >= '0' && *digits <= '9' && index <= TF_MAX_PORTS; digits++)
            index = index * 10 + (uint32_t)(*digits - '0');
        if (*digits || index > TF_MAX_PORTS)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "'%s' is not the name of a result", text);
    }
    if (is_node) {
        tf_edge e = {b->node[i], 0};
        if (output && *output >= '0' && *output <= '9' && !number)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "'%s' is not the name of a result", text);
        const Tensorflow__FunctionDef *called = find_function(b->il, e.node->op);
        bool found = called && output && function_port(called, output, &e.port);
        if (output && !found && !tf_op_port_of(e.node, output, index, &e.port))
            return KAENA_FAIL(err, INVALID_ARGUMENT, "'%s': %s has no such result", text,
                              e.node->op);
        *out = e;
        return KAENA_OK;
    }
    if (!kcc_name_find(&b->arg_names, name, &i) || index >= b->first_arg[i + 1] - b->first_arg[i])
        return KAENA_FAIL(err, INVALID_ARGUMENT, "the function has nothing called '%s'", text);
    *out = b->arg[b->first_arg[i] + index];
    if (!out->node)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "argument '%s' has no value", text);
    return KAENA_OK;
}

static kaena_status set_inputs(const body *b, tf_node *n, const Tensorflow__NodeDef *pb)
{
    for (size_t i = 0; i < pb->n_input; i++) {
        const char *name = pb->input[i];
        uint32_t k;
        if (*name == '^') {
            /* An argument is there before anything runs. */
            if (kcc_name_find(&b->names, name + 1, &k) &&
                !tf_node_add_control(b->il->g, n, b->node[k]))
                return no_memory(b->il);
            continue;
        }
        tf_edge e;
        KAENA_TRY_WRAP(b->il->err, find_value(b, name, &e), "input %zu", i);
        if (!tf_node_add_input(b->il->g, n, e))
            return no_memory(b->il);
    }
    return KAENA_OK;
}

/* Whether a node of a body does something that its results do not show: it runs even where nobody
 * takes them. */
static bool acts(const tf_node *n)
{
    static const char *const calls[] = {"StatefulPartitionedCall", "If", "While", "Case"};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (strcmp(n->op, calls[i]) == 0)
            return true;
    return tf_changed_state(n).node;
}

/* Puts the body into the graph; |actor| gets control inputs from what acts in it. */
static kaena_status add_body(body *b, tf_node *actor)
{
    const Tensorflow__FunctionDef *f = b->f;
    inliner *il = b->il;
    kaena_arena *arena = il->g->arena;
    b->names = (kcc_name_table){.arena = arena};
    b->node = KAENA_NEW_N(arena, tf_node *, f->n_node_def);
    if (!b->node)
        return no_memory(il);
    for (size_t i = 0; i < f->n_node_def; i++) {
        const Tensorflow__NodeDef *pb = f->node_def[i];
        if (!*pb->name || !*pb->op)
            return KAENA_FAIL(il->err, INVALID_ARGUMENT, "node number %zu has no %s", i,
                              *pb->name ? "operator" : "name");
        KAENA_TRY(add_node(b, pb->name, pb->op, &b->node[i]));
        /* Attributes first: they say how many results a node has. */
        KAENA_TRY_WRAP(il->err, set_attrs(b, b->node[i], pb), "node '%s' (%s)", pb->name, pb->op);
        switch (kcc_name_add(&b->names, pb->name, (uint32_t)i)) {
        case KCC_NAME_ADDED:
            break;
        case KCC_NAME_EXISTS:
            return KAENA_FAIL(il->err, INVALID_ARGUMENT, "there are two nodes '%s'", pb->name);
        case KCC_NAME_NO_MEMORY:
            return no_memory(il);
        }
    }
    for (size_t i = 0; i < f->n_node_def; i++) {
        const Tensorflow__NodeDef *pb = f->node_def[i];
        KAENA_TRY_WRAP(il->err, set_inputs(b, b->node[i], pb), "node '%s' (%s)", pb->name, pb->op);
        if (acts(b->node[i]) && !tf_node_add_control(il->g, actor, b->node[i]))
            return no_memory(il);
    }
    return KAENA_OK;
}

/* The edges of the function's results. */
static kaena_status find_results(const body *b, tf_edge *out)
{
    const Tensorflow__OpDef *s = b->f->signature;
    kcc_name_table ret = {.arena = b->il->g->arena};
    for (size_t i = 0; i < b->f->n_ret; i++)
        if (kcc_name_add(&ret, b->f->ret[i]->key, (uint32_t)i) == KCC_NAME_NO_MEMORY)
            return no_memory(b->il);
    for (size_t i = 0; i < s->n_output_arg; i++) {
        uint32_t k;
        if (!kcc_name_find(&ret, s->output_arg[i]->name, &k))
            return KAENA_FAIL(b->il->err, INVALID_ARGUMENT, "result '%s' is nowhere made",
                              s->output_arg[i]->name);
        KAENA_TRY_WRAP(b->il->err, find_value(b, b->f->ret[k]->value, &out[i]), "result '%s'",
                       s->output_arg[i]->name);
    }
    return KAENA_OK;
}

/* --- Calls --------------------------------------------------------------------------------------
 */

static kaena_status begin_call(inliner *il, tf_node *n, const char *name, body *out)
{
    const call *around = n->id < il->capacity ? il->call_of[n->id] : NULL;
    uint32_t depth = around ? around->depth + 1 : 1;
    const Tensorflow__FunctionDef *f = find_function(il, name);
    if (!f)
        return KAENA_FAIL(il->err, INVALID_ARGUMENT, "the model has no function '%s'", name);
    for (const call *c = around; c; c = c->around)
        if (strcmp(c->function, name) == 0)
            return KAENA_FAIL(il->err, UNIMPLEMENTED,
                              "function '%s' calls itself, which is not supported", name);
    if (depth > TF_MAX_CALL_DEPTH)
        return KAENA_FAIL(il->err, UNIMPLEMENTED, "calls are nested more than %d deep",
                          TF_MAX_CALL_DEPTH);
    call *c = KAENA_NEW(il->g->arena, call);
    if (!c)
        return no_memory(il);
    *c = (call){around, name, depth};
    *out = (body){.il = il, .f = f, .caller = n, .call = c};
    return KAENA_OK;
}

/* Names and numbers of the arguments. */
static kaena_status begin_arguments(body *b, uint32_t *n_args)
{
    const Tensorflow__OpDef *s = b->f->signature;
    kaena_arena *arena = b->il->g->arena;
    uint32_t n = 0;
    b->arg_names = (kcc_name_table){.arena = arena};
    b->first_arg = KAENA_NEW_N(arena, uint32_t, s->n_input_arg + 1);
    if (!b->first_arg)
        return no_memory(b->il);
    for (size_t i = 0; i < s->n_input_arg; i++) {
        uint32_t values;
        KAENA_TRY(arg_values(b, s->input_arg[i], &values));
        b->first_arg[i] = n;
        if (kcc_name_add(&b->arg_names, s->input_arg[i]->name, (uint32_t)i) == KCC_NAME_NO_MEMORY)
            return no_memory(b->il);
        if (n + values > b->caller->n_in)
            return KAENA_FAIL(b->il->err, INVALID_ARGUMENT,
                              "function '%s' takes more arguments than the %u it gets", s->name,
                              b->caller->n_in);
        n += values;
    }
    b->first_arg[s->n_input_arg] = n;
    *n_args = n;
    return KAENA_OK;
}

static kaena_status check_count(const body *b, uint32_t n_args, uint32_t given)
{
    if (n_args == given)
        return KAENA_OK;
    return KAENA_FAIL(b->il->err, INVALID_ARGUMENT, "function '%s' takes %u arguments and gets %u",
                      b->f->signature->name, n_args, given);
}

/* The call |n| of function |name| becomes an IdentityN of the body's results. */
static kaena_status inline_call(inliner *il, tf_node *n, const char *name,
                                Tensorflow__AttrEntry *const *attr, size_t n_attr)
{
    body b;
    uint32_t n_args;
    KAENA_TRY(begin_call(il, n, name, &b));
    b.attr = attr;
    b.n_attr = n_attr;
    KAENA_TRY(begin_arguments(&b, &n_args));
    KAENA_TRY(check_count(&b, n_args, n->n_in));
    b.arg = n->in;
    size_t n_out = b.f->signature->n_output_arg;
    tf_edge *out = KAENA_NEW_N(il->g->arena, tf_edge, n_out);
    if (!out)
        return no_memory(il);
    tf_node **control = n->control;
    uint32_t n_control = n->n_control;
    n->control = NULL;
    n->n_control = n->cap_control = 0;
    KAENA_TRY(add_body(&b, n));
    KAENA_TRY(find_results(&b, out));
    n->op = "IdentityN";
    n->in = out;
    n->n_in = n->cap_in = (uint32_t)n_out;
    n->n_attr = 0;
    for (uint32_t i = 0; i < n_control; i++)
        if (!tf_node_add_control(il->g, n, control[i]))
            return no_memory(il);
    return KAENA_OK;
}

/* Region |r| of |n| becomes the body of |fn|, whose arguments are |n|'s inputs from |first| on. */
static kaena_status inline_region(inliner *il, tf_node *n, uint32_t r, uint32_t first,
                                  const Tensorflow__NameAttrList *fn)
{
    body b;
    uint32_t n_args;
    kaena_arena *arena = il->g->arena;
    KAENA_TRY(begin_call(il, n, fn->name, &b));
    b.attr = fn->attr;
    b.n_attr = fn->n_attr;
    KAENA_TRY(begin_arguments(&b, &n_args));
    KAENA_TRY(check_count(&b, n_args, n->n_in - first));
    tf_region *region = &n->region[r];
    size_t n_out = b.f->signature->n_output_arg;
    *region = (tf_region){.n_in = n_args, .n_out = (uint32_t)n_out};
    region->in = KAENA_NEW_N(arena, tf_edge, n_args);
    region->out = KAENA_NEW_N(arena, tf_edge, n_out);
    b.arg = KAENA_NEW_N(arena, tf_edge, n_args);
    if (!region->in || !region->out || !b.arg)
        return no_memory(il);
    for (size_t i = 0; i < b.f->signature->n_input_arg; i++) {
        const Tensorflow__OpDef__ArgDef *a = b.f->signature->input_arg[i];
        for (uint32_t k = b.first_arg[i]; k < b.first_arg[i + 1]; k++) {
            /* What is a resource outside is the same one inside. */
            if (a->type == TENSORFLOW__DATA_TYPE__DT_RESOURCE) {
                b.arg[k] = n->in[first + k];
                continue;
            }
            tf_node *arg;
            KAENA_TRY(add_node(&b, a->name, "_Arg", &arg));
            b.arg[k] = region->in[k] = (tf_edge){arg, 0};
        }
    }
    KAENA_TRY(add_body(&b, n));
    return find_results(&b, region->out);
}

static kaena_status add_regions(inliner *il, tf_node *n, const char *op, uint32_t first,
                                Tensorflow__NameAttrList *const *fn, uint32_t n_fn)
{
    if (n->n_in < first)
        return KAENA_FAIL(il->err, INVALID_ARGUMENT, "an input is missing");
    n->region = KAENA_NEW_N(il->g->arena, tf_region, n_fn);
    if (!n->region)
        return no_memory(il);
    for (uint32_t i = 0; i < n_fn; i++) {
        KAENA_TRY_WRAP(il->err, inline_region(il, n, i, first, fn[i]), "function '%s'",
                       fn[i]->name);
        n->n_region = i + 1;
    }
    n->op = op;
    return KAENA_OK;
}

static kaena_status function_attr(const inliner *il, const tf_node *n, const char *name,
                                  Tensorflow__NameAttrList **out)
{
    const Tensorflow__AttrValue *v = tf_node_attr(n, name);
    if (!v || v->value_case != TENSORFLOW__ATTR_VALUE__VALUE_FUNC)
        return KAENA_FAIL(il->err, INVALID_ARGUMENT, "attribute '%s' is not a function", name);
    *out = v->func;
    return KAENA_OK;
}

static bool is_op(const tf_node *n, const char *op)
{
    return strcmp(n->op, op) == 0;
}

/* Rewrites |n| if it calls functions. */
static kaena_status rewrite(inliner *il, tf_node *n)
{
    Tensorflow__NameAttrList *fn[2] = {NULL, NULL};
    if (n->n_region)
        return KAENA_OK;
    if (is_op(n, "PartitionedCall") || is_op(n, "StatefulPartitionedCall")) {
        KAENA_TRY(function_attr(il, n, "f", &fn[0]));
        return inline_call(il, n, fn[0]->name, fn[0]->attr, fn[0]->n_attr);
    }
    if (is_op(n, "If") || is_op(n, "StatelessIf")) {
        KAENA_TRY(function_attr(il, n, "then_branch", &fn[0]));
        KAENA_TRY(function_attr(il, n, "else_branch", &fn[1]));
        return add_regions(il, n, "If", 1, fn, 2);
    }
    if (is_op(n, "While") || is_op(n, "StatelessWhile")) {
        KAENA_TRY(function_attr(il, n, "cond", &fn[0]));
        KAENA_TRY(function_attr(il, n, "body", &fn[1]));
        return add_regions(il, n, "While", 0, fn, 2);
    }
    if (is_op(n, "Case") || is_op(n, "StatelessCase")) {
        const Tensorflow__AttrValue *v = tf_node_attr(n, "branches");
        if (!v || v->value_case != TENSORFLOW__ATTR_VALUE__VALUE_LIST || v->list->n_func == 0 ||
            v->list->n_func > TF_MAX_PORTS)
            return KAENA_FAIL(il->err, INVALID_ARGUMENT,
                              "attribute 'branches' is not a list of functions");
        return add_regions(il, n, "Case", 1, v->list->func, (uint32_t)v->list->n_func);
    }
    if (!tf_op_find(n->op) && find_function(il, n->op)) {
        /* The old way to call: the function's name is the operator. */
        Tensorflow__AttrEntry *entries =
            KAENA_NEW_N(il->g->arena, Tensorflow__AttrEntry, n->n_attr);
        Tensorflow__AttrEntry **attr =
            KAENA_NEW_N(il->g->arena, Tensorflow__AttrEntry *, n->n_attr);
        if (!entries || !attr)
            return no_memory(il);
        for (uint32_t i = 0; i < n->n_attr; i++) {
            entries[i] = (Tensorflow__AttrEntry)TENSORFLOW__ATTR_ENTRY__INIT;
            entries[i].key = (char *)(uintptr_t)n->attr[i].name;
            entries[i].value = (Tensorflow__AttrValue *)(uintptr_t)n->attr[i].value;
            attr[i] = &entries[i];
        }
        return inline_call(il, n, n->op, attr, n->n_attr);
    }
    return KAENA_OK;
}

kaena_status tf_inline_calls(tf_graph *g, tf_walk *w, kaena_err *err)
{
    inliner il = {.g = g, .w = w, .functions = {.arena = g->arena}, .err = err};
    KAENA_TRY(index_library(&il));
    for (tf_node *n; (n = tf_walk_next(w));) {
        const char *op = n->op;
        KAENA_TRY_WRAP(err, rewrite(&il, n), "node '%s' (%s)", n->name, op);
        if (!tf_walk_inputs(w, n))
            return no_memory(&il);
    }
    return KAENA_OK;
}
