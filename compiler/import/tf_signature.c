#include "tf_signature.h"

#include <stdlib.h>
#include <string.h>

#include "strbuf.h"
#include "tf_prepare.h"

#define INIT_SIGNATURE "__saved_model_init_op" /* what TensorFlow 2 runs after loading */
#define MAX_LISTED 16

static kaena_status no_memory(kaena_err *err)
{
    return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for the graph");
}

/* --- Finding one --------------------------------------------------------------------------------
 */

/* The variable that the signature's inference changes, as far as that can be seen; or NULL. */
static const tf_node *changes(tf_graph *g, const Tensorflow__SignatureDef *s)
{
    tf_walk w = {.g = g};
    kaena_err ignored;
    for (size_t i = 0; i < s->n_outputs; i++) {
        const Tensorflow__TensorInfo *info = s->outputs[i]->value;
        tf_edge e;
        if (!info || info->encoding_case != TENSORFLOW__TENSOR_INFO__ENCODING_NAME ||
            tf_graph_find_edge(g, info->name, &e, NULL) != KAENA_OK)
            continue;
        if (!tf_walk_push(&w, e.node))
            return NULL;
    }
    /* What is wrong with another signature is not this one's trouble. */
    if (tf_inline_calls(g, &w, &ignored) != KAENA_OK)
        return NULL;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const tf_node *n = g->nodes[i];
        tf_edge changed = tf_walk_seen(&w, n) ? tf_changed_state(n) : (tf_edge){NULL, 0};
        if (changed.node)
            return tf_handle_of(changed);
    }
    return NULL;
}

static kaena_status refuse_signature(tf_graph *g, const Tensorflow__MetaGraphDef *meta,
                                     const char *name, kaena_err *err)
{
    kaena_strbuf names = {0};
    uint32_t n = 0;
    for (size_t i = 0; i < meta->n_signature_def; i++) {
        const char *key = meta->signature_def[i]->key;
        if (strcmp(key, INIT_SIGNATURE) != 0 && n++ < MAX_LISTED)
            kaena_strbuf_printf(&names, "%s'%s'", n > 1 ? ", " : "", key);
    }
    for (size_t i = 0; i < meta->n_signature_def; i++) {
        const Tensorflow__MetaGraphDef__SignatureEntry *e = meta->signature_def[i];
        const tf_node *v =
            e->value && strcmp(e->key, INIT_SIGNATURE) != 0 ? changes(g, e->value) : NULL;
        if (!v)
            continue;
        (void)KAENA_FAIL(err, FAILED_PRECONDITION,
                         "inference with signature '%s' changes variable '%s': a compiled model "
                         "keeps no state (there is no signature '%s'; there are %s)",
                         e->key, v->name, name, names.data);
        kaena_strbuf_fini(&names);
        return KAENA_FAILED_PRECONDITION;
    }
    (void)KAENA_FAIL(err, NOT_FOUND, "no signature '%s'; there %s %s", name,
                     n == 1 ? "is only" : "are", n ? names.data : "none");
    kaena_strbuf_fini(&names);
    if (n) {
        kaena_err_hint(err, "choose one with --signature");
        return KAENA_NOT_FOUND;
    }
    const Tensorflow__SavedObjectGraph *og = meta->object_graph_def;
    for (size_t i = 0; og && i < og->n_concrete_functions && i < MAX_LISTED; i++)
        kaena_strbuf_printf(&names, "%s%s", i ? ", " : "", og->concrete_functions[i]->key);
    if (names.data)
        kaena_err_hint(err, "save it with signatures=..., or name a function with --signature: %s",
                       names.data);
    else
        kaena_err_hint(err, "save the model with a signature");
    kaena_strbuf_fini(&names);
    return KAENA_NOT_FOUND;
}

/* --- Functions ----------------------------------------------------------------------------------
 */

/* The function that |name| means: its own name, or an attribute of the saved object. */
static const Tensorflow__SavedObjectGraph__FunctionEntry *
find_concrete(const Tensorflow__SavedObjectGraph *og, const char *name)
{
    for (size_t i = 0; og->n_nodes > 0 && i < og->nodes[0]->n_children; i++) {
        const Tensorflow__TrackableObjectGraph__TrackableObject__ObjectReference *c =
            og->nodes[0]->children[i];
        if (strcmp(c->local_name, name) != 0 || c->node_id < 0 || (size_t)c->node_id >= og->n_nodes)
            continue;
        const Tensorflow__SavedObject *o = og->nodes[c->node_id];
        if (o->kind_case == TENSORFLOW__SAVED_OBJECT__KIND_FUNCTION &&
            o->function->n_concrete_functions > 0)
            name = o->function->concrete_functions[0];
        else if (o->kind_case == TENSORFLOW__SAVED_OBJECT__KIND_BARE_CONCRETE_FUNCTION)
            name = o->bare_concrete_function->concrete_function_name;
        break;
    }
    for (size_t i = 0; i < og->n_concrete_functions; i++)
        if (strcmp(og->concrete_functions[i]->key, name) == 0)
            return og->concrete_functions[i];
    return NULL;
}

typedef struct maker {
    tf_graph *g;
    const Tensorflow__SavedObjectGraph *og;
    kaena_err *err;
} maker;

static Tensorflow__AttrValue *new_attr(const maker *m, tf_node *n, const char *name,
                                       Tensorflow__AttrValue__ValueCase kind)
{
    Tensorflow__AttrValue *v = KAENA_NEW(m->g->arena, Tensorflow__AttrValue);
    if (!v)
        return NULL;
    *v = (Tensorflow__AttrValue)TENSORFLOW__ATTR_VALUE__INIT;
    v->value_case = kind;
    return tf_node_set_attr(m->g, n, name, v) ? v : NULL;
}

static tf_node *new_node(const maker *m, const char *name, const char *op)
{
    const char *fresh = tf_graph_fresh_name(m->g, name);
    return fresh ? tf_node_add(m->g, fresh, op) : NULL;
}

static kaena_status add_typed(const maker *m, const char *name, const char *op,
                              Tensorflow__DataType dtype, tf_node **out)
{
    tf_node *n = new_node(m, name, op);
    Tensorflow__AttrValue *v =
        n ? new_attr(m, n, "dtype", TENSORFLOW__ATTR_VALUE__VALUE_TYPE) : NULL;
    if (!v)
        return no_memory(m->err);
    v->type = dtype;
    *out = n;
    return KAENA_OK;
}

/* What the function takes from the object it belongs to. */
static kaena_status add_bound(const maker *m, tf_node *call, int32_t object)
{
    tf_node *n = NULL;
    if (object < 0 || (size_t)object >= m->og->n_nodes)
        return KAENA_FAIL(m->err, INVALID_ARGUMENT, "it takes object %d, which is none", object);
    const Tensorflow__SavedObject *o = m->og->nodes[object];
    if (o->kind_case == TENSORFLOW__SAVED_OBJECT__KIND_VARIABLE) {
        n = tf_graph_find(m->g, o->variable->name);
        if (!n || strcmp(n->op, "VarHandleOp") != 0)
            KAENA_TRY(add_typed(m, o->variable->name, "VarHandleOp", o->variable->dtype, &n));
    } else if (o->kind_case == TENSORFLOW__SAVED_OBJECT__KIND_CONSTANT) {
        n = tf_graph_find(m->g, o->constant->operation);
    }
    if (!n)
        return KAENA_FAIL(m->err, UNIMPLEMENTED,
                          "it takes object %d, which is neither a variable nor a constant", object);
    return tf_node_add_input(m->g, call, (tf_edge){n, 0}) ? KAENA_OK : no_memory(m->err);
}

static Tensorflow__SignatureDef__TensorEntry *new_entry(const maker *m, const char *key,
                                                        const tf_node *n, size_t port,
                                                        Tensorflow__DataType dtype)
{
    kaena_arena *a = m->g->arena;
    Tensorflow__SignatureDef__TensorEntry *e = KAENA_NEW(a, Tensorflow__SignatureDef__TensorEntry);
    Tensorflow__TensorInfo *info = KAENA_NEW(a, Tensorflow__TensorInfo);
    if (!e || !info)
        return NULL;
    *e = (Tensorflow__SignatureDef__TensorEntry)TENSORFLOW__SIGNATURE_DEF__TENSOR_ENTRY__INIT;
    *info = (Tensorflow__TensorInfo)TENSORFLOW__TENSOR_INFO__INIT;
    info->encoding_case = TENSORFLOW__TENSOR_INFO__ENCODING_NAME;
    info->name = kaena_arena_printf(a, "%s:%zu", n->name, port);
    info->dtype = dtype;
    e->key = (char *)(uintptr_t)key;
    e->value = info;
    return info->name ? e : NULL;
}

/* Adds a call of |f| with Placeholders, and a signature that says so. */
static kaena_status call_function(const maker *m, const Tensorflow__FunctionDef *f,
                                  const Tensorflow__SavedConcreteFunction *bound, kcc_tf_chosen *c)
{
    const Tensorflow__OpDef *s = f->signature;
    kaena_arena *a = m->g->arena;
    if (bound->n_bound_inputs > s->n_input_arg)
        return KAENA_FAIL(m->err, INVALID_ARGUMENT, "it takes fewer arguments than are bound");
    size_t n_own = s->n_input_arg - bound->n_bound_inputs;
    tf_node *call = new_node(m, "PartitionedCall", "PartitionedCall");
    Tensorflow__AttrValue *fn =
        call ? new_attr(m, call, "f", TENSORFLOW__ATTR_VALUE__VALUE_FUNC) : NULL;
    Tensorflow__NameAttrList *name = KAENA_NEW(a, Tensorflow__NameAttrList);
    Tensorflow__SignatureDef *sig = KAENA_NEW(a, Tensorflow__SignatureDef);
    if (!fn || !name || !sig)
        return no_memory(m->err);
    *name = (Tensorflow__NameAttrList)TENSORFLOW__NAME_ATTR_LIST__INIT;
    name->name = s->name;
    fn->func = name;
    *sig = (Tensorflow__SignatureDef)TENSORFLOW__SIGNATURE_DEF__INIT;
    sig->inputs = KAENA_NEW_N(a, Tensorflow__SignatureDef__TensorEntry *, n_own);
    sig->outputs = KAENA_NEW_N(a, Tensorflow__SignatureDef__TensorEntry *, s->n_output_arg);
    if (!sig->inputs || !sig->outputs)
        return no_memory(m->err);
    for (size_t i = 0; i < n_own; i++) {
        tf_node *p;
        KAENA_TRY(add_typed(m, s->input_arg[i]->name, "Placeholder", s->input_arg[i]->type, &p));
        sig->inputs[i] = new_entry(m, s->input_arg[i]->name, p, 0, s->input_arg[i]->type);
        if (!sig->inputs[i] || !tf_node_add_input(m->g, call, (tf_edge){p, 0}))
            return no_memory(m->err);
        sig->n_inputs++;
    }
    for (size_t i = 0; i < bound->n_bound_inputs; i++)
        KAENA_TRY(add_bound(m, call, bound->bound_inputs[i]));
    for (size_t i = 0; i < s->n_output_arg; i++) {
        sig->outputs[i] = new_entry(m, s->output_arg[i]->name, call, i, s->output_arg[i]->type);
        if (!sig->outputs[i])
            return no_memory(m->err);
        sig->n_outputs++;
    }
    c->signature = sig;
    c->signature_name = s->name;
    return KAENA_OK;
}

kaena_status tf_signature_find(tf_graph *g, const Tensorflow__MetaGraphDef *meta, const char *name,
                               kcc_tf_chosen *c, kaena_err *err)
{
    const char *wanted = name ? name : KCC_TF_DEFAULT_SIGNATURE;
    for (size_t i = 0; i < meta->n_signature_def; i++) {
        const Tensorflow__MetaGraphDef__SignatureEntry *e = meta->signature_def[i];
        if (strcmp(e->key, wanted) != 0 || !e->value)
            continue;
        c->signature = e->value;
        c->signature_name = e->key;
        return KAENA_OK;
    }
    const Tensorflow__SavedObjectGraph *og = meta->object_graph_def;
    const Tensorflow__SavedObjectGraph__FunctionEntry *e =
        name && og ? find_concrete(og, name) : NULL;
    if (!e || !e->value)
        return refuse_signature(g, meta, wanted, err);
    const Tensorflow__FunctionDef *f;
    KAENA_TRY(tf_function_find(g, e->key, &f, err));
    const maker m = {g, og, err};
    KAENA_TRY_WRAP(err, call_function(&m, f, e->value, c), "function '%s'", e->key);
    return KAENA_OK;
}

/* --- The boundary -------------------------------------------------------------------------------
 */

typedef Tensorflow__SignatureDef__TensorEntry entry;

static int by_key(const void *a, const void *b)
{
    return strcmp((*(const entry *const *)a)->key, (*(const entry *const *)b)->key);
}

/* The entries in the order of their keys: the message keeps none. */
static entry **sorted(kaena_arena *arena, entry *const *list, size_t n)
{
    entry **copy = KAENA_NEW_N(arena, entry *, n);
    for (size_t i = 0; copy && i < n; i++)
        copy[i] = list[i];
    if (copy)
        qsort(copy, n, sizeof *copy, by_key);
    return copy;
}

static kaena_status edge_of(tf_graph *g, const entry *e, tf_edge *edge, const char **name,
                            kaena_err *err)
{
    if (!e->value || e->value->encoding_case != TENSORFLOW__TENSOR_INFO__ENCODING_NAME)
        return KAENA_FAIL(err, UNIMPLEMENTED, "it is a sparse tensor, which is not supported");
    KAENA_TRY(tf_graph_find_edge(g, e->value->name, edge, err));
    *name = kaena_arena_printf(g->arena, "%s:%u", edge->node->name, edge->port);
    return *name ? KAENA_OK : no_memory(err);
}

/* What the user says, with keys replaced by the tensors' names. */
static kaena_status rename_io(tf_graph *g, const kcc_tf_chosen *c, const kcc_io_config *io,
                              kcc_io_config *out, kaena_err *err)
{
    *out = *io;
    out->inputs = KAENA_NEW_N(g->arena, kcc_io_input, io->n_inputs);
    if (!out->inputs)
        return no_memory(err);
    for (uint32_t i = 0; i < io->n_inputs; i++) {
        out->inputs[i] = io->inputs[i];
        bool known = false;
        for (size_t k = 0; k < c->signature->n_inputs && !known; k++) {
            const entry *e = c->signature->inputs[k];
            tf_edge edge;
            const char *name;
            if (edge_of(g, e, &edge, &name, NULL) != KAENA_OK)
                continue;
            known = tf_io_find(&(kcc_io_config){.inputs = &out->inputs[i], .n_inputs = 1}, name);
            if (!known && strcmp(e->key, io->inputs[i].name) == 0) {
                known = true;
                out->inputs[i].name = name;
            }
        }
        if (known)
            continue;
        kaena_strbuf names = {0};
        for (size_t k = 0; k < c->signature->n_inputs && k < MAX_LISTED; k++) {
            const Tensorflow__TensorInfo *info = c->signature->inputs[k]->value;
            kaena_strbuf_printf(&names, "%s'%s'", k ? ", " : "",
                                info && info->encoding_case ==
                                            TENSORFLOW__TENSOR_INFO__ENCODING_NAME
                                    ? info->name
                                    : c->signature->inputs[k]->key);
        }
        (void)KAENA_FAIL(err, INVALID_ARGUMENT,
                         "there is no input '%s'; the inputs of signature '%s' are %s",
                         io->inputs[i].name, c->signature_name, names.data ? names.data : "none");
        kaena_strbuf_fini(&names);
        return KAENA_INVALID_ARGUMENT;
    }
    return KAENA_OK;
}

static kaena_status add_input(tf_graph *g, const entry *e, const kcc_io_config *io, tf_boundary *b,
                              kaena_err *err)
{
    tf_input in = {0};
    kaena_shape shape;
    bool unranked;
    KAENA_TRY(edge_of(g, e, &in.edge, &in.name, err));
    for (uint32_t i = 0; i < b->n_in; i++)
        if (strcmp(b->in[i].name, in.name) == 0)
            return KAENA_OK; /* one tensor under two keys */
    KAENA_TRY(tf_dtype((int)e->value->dtype, &in.dtype, err));
    KAENA_TRY(tf_shape(e->value->tensor_shape, &shape, &unranked, err));
    KAENA_TRY(tf_input_shape(io, in.name, in.dtype, &shape, unranked, &in.shape, err));
    b->in[b->n_in++] = in;
    return KAENA_OK;
}

static kaena_status add_output(tf_graph *g, const char *name, tf_edge edge, tf_boundary *b)
{
    for (uint32_t i = 0; i < b->n_out; i++)
        if (strcmp(b->out[i].name, name) == 0)
            return KAENA_OK;
    b->out[b->n_out++] = (tf_output){name, edge};
    (void)g;
    return KAENA_OK;
}

/* Outputs that the user names: by key, else by tensor. */
static kaena_status said_outputs(tf_graph *g, const kcc_tf_chosen *c, const kcc_io_config *io,
                                 tf_boundary *b, kaena_err *err)
{
    for (uint32_t i = 0; i < io->n_outputs; i++) {
        tf_edge edge = {NULL, 0};
        const char *name = NULL;
        for (size_t k = 0; k < c->signature->n_outputs && !name; k++)
            if (strcmp(c->signature->outputs[k]->key, io->outputs[i]) == 0)
                KAENA_TRY(edge_of(g, c->signature->outputs[k], &edge, &name, err));
        if (!name) {
            KAENA_TRY_WRAP(err, tf_graph_find_edge(g, io->outputs[i], &edge, err), "output '%s'",
                           io->outputs[i]);
            name = kaena_arena_printf(g->arena, "%s:%u", edge.node->name, edge.port);
        }
        if (!name)
            return no_memory(err);
        KAENA_TRY(add_output(g, name, edge, b));
    }
    return KAENA_OK;
}

kaena_status tf_signature_boundary(tf_graph *g, const kcc_tf_chosen *c, const kcc_io_config *io,
                                   tf_boundary *out, kaena_err *err)
{
    const Tensorflow__SignatureDef *s = c->signature;
    tf_boundary b = {0};
    kcc_io_config said;
    KAENA_TRY(rename_io(g, c, io, &said, err));
    entry **in = sorted(g->arena, s->inputs, s->n_inputs);
    entry **results = sorted(g->arena, s->outputs, s->n_outputs);
    b.in = KAENA_NEW_N(g->arena, tf_input, s->n_inputs);
    b.out = KAENA_NEW_N(g->arena, tf_output, s->n_outputs + io->n_outputs);
    if (!in || !results || !b.in || !b.out)
        return no_memory(err);
    for (size_t i = 0; i < s->n_inputs; i++)
        KAENA_TRY_WRAP(err, add_input(g, in[i], &said, &b, err), "signature '%s', input '%s'",
                       c->signature_name, in[i]->key);
    if (io->n_outputs > 0)
        KAENA_TRY(said_outputs(g, c, io, &b, err));
    for (size_t i = 0; io->n_outputs == 0 && i < s->n_outputs; i++) {
        tf_edge edge;
        const char *name;
        KAENA_TRY_WRAP(err, edge_of(g, results[i], &edge, &name, err),
                       "signature '%s', output '%s'", c->signature_name, results[i]->key);
        KAENA_TRY(add_output(g, name, edge, &b));
    }
    if (b.n_out == 0)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "signature '%s' has no outputs",
                          c->signature_name);
    *out = b;
    return KAENA_OK;
}

kaena_status tf_signature_walk(tf_walk *w, tf_graph *g, const kcc_tf_chosen *c, kaena_err *err)
{
    const Tensorflow__SignatureDef *s = c->signature;
    tf_boundary b = {0};
    b.in = KAENA_NEW_N(g->arena, tf_input, s->n_inputs);
    b.out = KAENA_NEW_N(g->arena, tf_output, s->n_outputs);
    if (!b.in || !b.out)
        return no_memory(err);
    for (; b.n_in < s->n_inputs; b.n_in++)
        KAENA_TRY(edge_of(g, s->inputs[b.n_in], &b.in[b.n_in].edge, &b.in[b.n_in].name, err));
    for (; b.n_out < s->n_outputs; b.n_out++)
        KAENA_TRY(edge_of(g, s->outputs[b.n_out], &b.out[b.n_out].edge, &b.out[b.n_out].name, err));
    return tf_walk_boundary(w, g, &b) ? KAENA_OK : no_memory(err);
}

/* --- State --------------------------------------------------------------------------------------
 */

kaena_status tf_signature_check_state(tf_graph *g, const kcc_tf_chosen *c, const tf_boundary *b,
                                      kaena_err *err)
{
    tf_walk w;
    /* A signature that trains the model changes its variables as well; what is served then are the
     * values in the checkpoint. But without inputs nothing is left to compute, and the answer is
     * the state itself. */
    if (c->signature->n_inputs > 0)
        return KAENA_OK;
    if (!tf_walk_boundary(&w, g, b))
        return no_memory(err);
    KAENA_TRY(tf_inline_calls(g, &w, err));
    for (size_t i = 0; i < c->meta->n_signature_def; i++) {
        const Tensorflow__MetaGraphDef__SignatureEntry *e = c->meta->signature_def[i];
        if (!e->value || e->value == c->signature || strcmp(e->key, INIT_SIGNATURE) == 0)
            continue;
        const tf_node *v = changes(g, e->value);
        if (!v || !tf_walk_seen(&w, v))
            continue;
        (void)KAENA_FAIL(err, FAILED_PRECONDITION,
                         "signature '%s' reads variable '%s', which inference with signature '%s' "
                         "changes: a compiled model keeps no state",
                         c->signature_name, v->name, e->key);
        return KAENA_FAILED_PRECONDITION;
    }
    return KAENA_OK;
}
