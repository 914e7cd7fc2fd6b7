/* Variables become constants. */
#include <inttypes.h>
#include <string.h>

#include "pb_unpack.h"
#include "tf_rewrite.h"
#include "tf_slice.h"
#include "tf_translate.h"

#define MAX_PASSED 256 /* nodes that a handle may go through */

static bool is_op(const tf_node *n, const char *op)
{
    return strcmp(n->op, op) == 0;
}

static bool is_one_of(const tf_node *n, const char *const *ops)
{
    for (; *ops; ops++)
        if (is_op(n, *ops))
            return true;
    return false;
}

/* --- Handles ------------------------------------------------------------------------------------
 */

const tf_node *tf_handle_of(tf_edge e)
{
    static const char *const pass[] = {"Identity", "Enter",     "RefEnter",        "RefIdentity",
                                       "Switch",   "RefSwitch", "NextIteration",   "Exit",
                                       "Merge",    "LoopCond",  "PreventGradient", NULL};
    for (uint32_t i = 0; i < MAX_PASSED && e.node; i++) {
        const tf_node *n = e.node;
        if (is_op(n, "IdentityN") || is_op(n, "While")) {
            if (e.port >= n->n_in)
                return n;
            e = n->in[e.port];
        } else if (is_one_of(n, pass) && n->n_in > 0) {
            e = n->in[0];
        } else {
            return n;
        }
    }
    return e.node;
}

static bool is_variable(const tf_node *n)
{
    static const char *const ops[] = {"VariableV2", "Variable", "VarHandleOp", NULL};
    return is_one_of(n, ops);
}

tf_edge tf_changed_state(const tf_node *n)
{
    static const char *const prefixes[] = {
        "Assign",          "ScatterUpdate",   "ScatterAdd",    "ScatterSub",
        "ScatterMul",      "ScatterDiv",      "ScatterMin",    "ScatterMax",
        "ScatterNdUpdate", "ResourceScatter", "ResourceApply", "ResourceSparseApply",
        "Apply",           "SparseApply",     "CountUpTo",     "ResourceCountUpTo"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (n->n_in > 0 && strncmp(n->op, prefixes[i], strlen(prefixes[i])) == 0)
            return n->in[0];
    /* These two begin as operators without state do. */
    if (n->n_in > 0 && (is_op(n, "ScatterNdAdd") || is_op(n, "ScatterNdSub")))
        return n->in[0];
    return (tf_edge){NULL, 0};
}

/* What a person calls it. */
static const char *variable_name(const tf_node *n)
{
    return n ? n->name : "?";
}

/* --- Where the values lie -----------------------------------------------------------------------
 */

typedef struct place {
    const tf_node *variable;
    kaena_string key, slice;
} place;

typedef struct resolver {
    tf_graph *g;
    const tf_walk *w;
    const tf_checkpoint *c;
    place *place_of;        /* by node id; key.data NULL: none */
    kcc_name_table objects; /* full names of checkpointed objects -> index of |keys| */
    const char **keys;
    kaena_err *err;
} resolver;

static kaena_status no_memory(const resolver *r)
{
    return KAENA_FAIL(r->err, RESOURCE_EXHAUSTED, "no memory for the graph");
}

/* Element |i| of a constant of strings. */
static bool const_string(resolver *r, tf_edge e, uint32_t i, kaena_string *out)
{
    e = tf_edge_origin(e);
    const Tensorflow__AttrValue *v =
        e.node && is_op(e.node, "Const") ? tf_node_attr(e.node, "value") : NULL;
    if (!v || v->value_case != TENSORFLOW__ATTR_VALUE__VALUE_TENSOR ||
        v->tensor->dtype != TENSORFLOW__DATA_TYPE__DT_STRING || i >= v->tensor->n_string_val)
        return false;
    *out =
        (kaena_string){(const char *)v->tensor->string_val[i].data, v->tensor->string_val[i].len};
    (void)r;
    return true;
}

/* Assign(variable, RestoreV2(file, names, slices):i), in the saver's part of the graph. */
static void note_restore(resolver *r, const tf_node *n)
{
    if (n->n_in < 2 || (!is_op(n, "Assign") && !is_op(n, "AssignVariableOp")))
        return;
    tf_edge from = tf_edge_origin(n->in[1]);
    const tf_node *v = tf_handle_of(n->in[0]), *restore = from.node;
    place p = {.variable = v};
    if (!v || !is_variable(v) || !is_op(restore, "RestoreV2") || restore->n_in != 3 ||
        !const_string(r, restore->in[1], from.port, &p.key))
        return;
    if (!const_string(r, restore->in[2], from.port, &p.slice))
        p.slice = (kaena_string){"", 0};
    r->place_of[v->id] = p;
}

/* What the checkpoint's own object graph says: the full name of a variable and its key. */
static kaena_status note_objects(resolver *r)
{
    static const char name[] = "_CHECKPOINTABLE_OBJECT_GRAPH";
    kop_tensor t;
    ProtobufCMessage *m;
    if (!r->c->bundle || !kcc_tf_bundle_has(r->c->bundle, name))
        return KAENA_OK;
    KAENA_TRY(kcc_tf_bundle_read(r->c->bundle, name, &t, r->err));
    if (t.dtype != KAENA_STRING || kop_elements(&t) != 1)
        return KAENA_FAIL(r->err, INVALID_ARGUMENT, "'%s' is not one string", name);
    const kaena_string *s = t.data;
    KAENA_TRY_WRAP(r->err,
                   kcc_pb_unpack(r->g->arena, &tensorflow__trackable_object_graph__descriptor,
                                 s->data, s->size, &m, r->err),
                   "'%s'", name);
    const Tensorflow__TrackableObjectGraph *og = (const Tensorflow__TrackableObjectGraph *)m;
    size_t n = 0;
    for (size_t i = 0; i < og->n_nodes; i++)
        n += og->nodes[i]->n_attributes;
    r->keys = KAENA_NEW_N(r->g->arena, const char *, n);
    if (!r->keys)
        return no_memory(r);
    n = 0;
    for (size_t i = 0; i < og->n_nodes; i++)
        for (size_t k = 0; k < og->nodes[i]->n_attributes; k++) {
            const Tensorflow__TrackableObjectGraph__TrackableObject__SerializedTensor *a =
                og->nodes[i]->attributes[k];
            if (!*a->full_name || n >= UINT32_MAX)
                continue;
            r->keys[n] = a->checkpoint_key;
            if (kcc_name_add(&r->objects, a->full_name, (uint32_t)n++) == KCC_NAME_NO_MEMORY)
                return no_memory(r);
        }
    return KAENA_OK;
}

/* The name that a variable has beside its node's. */
static const char *shared_name(const resolver *r, const tf_node *n)
{
    const Tensorflow__AttrValue *v = tf_node_attr(n, "shared_name");
    if (!v || v->value_case != TENSORFLOW__ATTR_VALUE__VALUE_S || v->s.len == 0)
        return n->name;
    const char *s = kaena_arena_printf(r->g->arena, "%.*s", (int)v->s.len, (const char *)v->s.data);
    return s ? s : n->name;
}

/* The key in the checkpoint under which the value of |n| lies; NULL: none. */
static const char *key_of(const resolver *r, const tf_node *n)
{
    const place *p = &r->place_of[n->id];
    if (p->key.data)
        return kaena_arena_printf(r->g->arena, "%.*s", (int)p->key.size, p->key.data);
    const char *const names[] = {shared_name(r, n), n->name};
    for (int i = 0; i < 2; i++) {
        uint32_t k;
        if (kcc_name_find(&r->objects, names[i], &k) && kcc_tf_bundle_has(r->c->bundle, r->keys[k]))
            return r->keys[k];
        if (kcc_tf_bundle_has(r->c->bundle, names[i]))
            return names[i];
    }
    return NULL;
}

/* --- Values --------------------------------------------------------------------------------------
 */

/* The part of the tensor that the variable is. */
static kaena_status cut_slice(const resolver *r, const place *p, kop_tensor *t)
{
    tf_box box;
    int64_t n;
    if (!p->key.data || p->slice.size == 0)
        return KAENA_OK;
    KAENA_TRY(tf_slice_parse(p->slice.data, p->slice.size, &t->shape, &box, r->err));
    size_t element = kaena_dtype_size(t->dtype);
    void *data = kaena_shape_elements(&box.size, &n)
                     ? kaena_arena_array(r->g->arena, (size_t)n, element)
                     : NULL;
    if (!data)
        return no_memory(r);
    tf_box_extract(&box, t->data, data, &t->shape, element);
    t->shape = box.size;
    t->data = data;
    return KAENA_OK;
}

/* What the graph says about the variable must fit what the checkpoint has. */
static kaena_status check_type(const resolver *r, const tf_node *n, const kop_tensor *t)
{
    const Tensorflow__AttrValue *d = tf_node_attr(n, "dtype"), *s = tf_node_attr(n, "shape");
    char have[KAENA_SHAPE_TEXT], want[KAENA_SHAPE_TEXT];
    kaena_dtype dtype = t->dtype;
    kaena_shape shape = t->shape;
    bool unranked = false;
    if (d && d->value_case == TENSORFLOW__ATTR_VALUE__VALUE_TYPE)
        KAENA_TRY(tf_dtype((int)d->type, &dtype, r->err));
    if (dtype != t->dtype)
        return KAENA_FAIL(r->err, INVALID_ARGUMENT, "the checkpoint has %s, the graph %s",
                          kaena_dtype_name(t->dtype), kaena_dtype_name(dtype));
    if (s && s->value_case == TENSORFLOW__ATTR_VALUE__VALUE_SHAPE)
        KAENA_TRY(tf_shape(s->shape, &shape, &unranked, r->err));
    bool fits = unranked || shape.rank == t->shape.rank;
    for (int32_t i = 0; fits && !unranked && i < shape.rank; i++)
        fits = shape.dim[i] < 0 || shape.dim[i] == t->shape.dim[i];
    if (fits)
        return KAENA_OK;
    return KAENA_FAIL(r->err, INVALID_ARGUMENT, "the checkpoint has shape %s, the graph %s",
                      kaena_shape_print(&t->shape, have, sizeof have),
                      kaena_shape_print(&shape, want, sizeof want));
}

static kaena_status make_constant(resolver *r, tf_node *n)
{
    if (!r->c->bundle) {
        (void)KAENA_FAIL(r->err, NOT_FOUND,
                         "it has no value: the model comes without a checkpoint");
        kaena_err_hint(r->err, "give the whole SavedModel directory with its variables/, or freeze "
                               "the graph");
        return KAENA_NOT_FOUND;
    }
    const char *key = key_of(r, n);
    kop_tensor *t = KAENA_NEW(r->g->arena, kop_tensor);
    if (!t)
        return no_memory(r);
    if (!key)
        return KAENA_FAIL(r->err, NOT_FOUND, "the checkpoint has no value for it");
    KAENA_TRY(kcc_tf_bundle_read(r->c->bundle, key, t, r->err));
    KAENA_TRY(cut_slice(r, &r->place_of[n->id], t));
    KAENA_TRY(check_type(r, n, t));
    tf_node_make_const(n, t);
    return KAENA_OK;
}

/* --- What inference must not do ------------------------------------------------------------------
 */

static kaena_status refuse_state(const resolver *r, const tf_node *n)
{
    static const struct {
        const char *prefix, *what;
    } kinds[] = {
        {"HashTable", "a look-up table"},
        {"MutableHashTable", "a look-up table"},
        {"MutableDenseHashTable", "a look-up table"},
        {"LookupTable", "a look-up table"},
        {"AnonymousHashTable", "a look-up table"},
        {"AnonymousMutable", "a look-up table"},
        {"ParseExample", "the parsing of tf.Example records"},
        {"ParseSingleExample", "the parsing of tf.Example records"},
        {"ParseSequenceExample", "the parsing of tf.Example records"},
        {"DecodeJpeg", "the decoding of files"},
        {"DecodePng", "the decoding of files"},
        {"DecodeImage", "the decoding of files"},
        {"PyFunc", "a Python function"},
        {"EagerPyFunc", "a Python function"},
        {"Iterator", "an input pipeline"},
        {"ReadFile", "the reading of files"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strncmp(n->op, kinds[i].prefix, strlen(kinds[i].prefix)) != 0)
            continue;
        (void)KAENA_FAIL(r->err, UNIMPLEMENTED,
                         "node '%s' (%s) is %s, which a compiled model cannot have", n->name, n->op,
                         kinds[i].what);
        kaena_err_hint(r->err, "leave this step to the client: choose a signature whose inputs "
                               "come after it, or name such inputs in --io-config");
        return KAENA_UNIMPLEMENTED;
    }
    return KAENA_OK;
}

static kaena_status refuse_changes(const resolver *r)
{
    for (uint32_t i = 0; i < r->g->n_nodes; i++) {
        const tf_node *n = r->g->nodes[i];
        if (!tf_walk_seen(r->w, n))
            continue;
        tf_edge changed = tf_changed_state(n);
        /* What is written into an input of the model, or into something computed, is no state. */
        if (changed.node && is_variable(tf_handle_of(changed))) {
            (void)KAENA_FAIL(r->err, FAILED_PRECONDITION,
                             "inference changes variable '%s' (node '%s', %s): a compiled model "
                             "keeps no state from one inference to the next",
                             variable_name(tf_handle_of(changed)), n->name, n->op);
            kaena_err_hint(r->err, "choose a signature that only reads, or make the variable an "
                                   "input and an output of the model");
            return KAENA_FAILED_PRECONDITION;
        }
    }
    return KAENA_OK;
}

/* Readers of a handle become operators on the value. */
static const struct {
    const char *op, *becomes;
} readers[] = {{"ReadVariableOp", "Identity"},
               {"ResourceGather", "Gather"},
               {"ResourceGatherNd", "GatherNd"},
               {"VariableShape", "Shape"}};

static const char *reader_becomes(const tf_node *n)
{
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++)
        if (is_op(n, readers[i].op))
            return readers[i].becomes;
    return NULL;
}

bool tf_is_variable(const tf_node *n)
{
    return is_variable(n) || reader_becomes(n);
}

kaena_status tf_resolve_variables(tf_graph *g, const tf_walk *w, const tf_checkpoint *c,
                                  kaena_err *err)
{
    resolver r = {.g = g, .w = w, .c = c, .objects = {.arena = g->arena}, .err = err};
    r.place_of = KAENA_NEW_N(g->arena, place, g->n_nodes);
    if (!r.place_of)
        return no_memory(&r);
    KAENA_TRY(refuse_changes(&r));
    for (uint32_t i = 0; i < g->n_nodes; i++)
        note_restore(&r, g->nodes[i]);
    KAENA_TRY_WRAP(err, note_objects(&r), "checkpoint");
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        tf_node *n = g->nodes[i];
        if (!tf_walk_seen(w, n))
            continue;
        KAENA_TRY(refuse_state(&r, n));
        if (is_variable(n))
            KAENA_TRY_WRAP(err, make_constant(&r, n), "variable '%s'", n->name);
        else if (reader_becomes(n))
            n->op = reader_becomes(n);
    }
    return KAENA_OK;
}
