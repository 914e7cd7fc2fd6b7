#include "tf_artifact.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
#include "pb_unpack.h"
#include "tf_graph.h"

#define MAX_DEPTH 32 /* of directories in assets */

/* --- The message --------------------------------------------------------------------------------
 */

#define NEW(arena, type, init)                                                                     \
    __extension__({                                                                                \
        type *made = KAENA_NEW((arena), type);                                                     \
        *made = (type)init;                                                                        \
        made;                                                                                      \
    })

typedef struct maker {
    kaena_arena *arena; /* without a quota */
    const kcc_compilation *c;
    Tensorflow__GraphDef *graph;
    uint32_t capacity;
} maker;

static Tensorflow__TensorShapeProto *shape_pb(kaena_arena *a, const Kaena__V1__TensorSpec *spec)
{
    Tensorflow__TensorShapeProto *s =
        NEW(a, Tensorflow__TensorShapeProto, TENSORFLOW__TENSOR_SHAPE_PROTO__INIT);
    s->unknown_rank = spec->any_rank;
    s->n_dim = spec->any_rank ? 0 : spec->n_shape;
    s->dim = KAENA_NEW_N(a, Tensorflow__TensorShapeProto__Dim *, s->n_dim);
    for (size_t i = 0; i < s->n_dim; i++) {
        s->dim[i] =
            NEW(a, Tensorflow__TensorShapeProto__Dim, TENSORFLOW__TENSOR_SHAPE_PROTO__DIM__INIT);
        s->dim[i]->size = spec->shape[i];
    }
    return s;
}

static Tensorflow__AttrValue *add_attr(const maker *m, Tensorflow__NodeDef *n, const char *name,
                                       Tensorflow__AttrValue__ValueCase kind)
{
    Tensorflow__AttrEntry *e = NEW(m->arena, Tensorflow__AttrEntry, TENSORFLOW__ATTR_ENTRY__INIT);
    Tensorflow__AttrEntry **more = KAENA_NEW_N(m->arena, Tensorflow__AttrEntry *, n->n_attr + 1);
    if (n->n_attr)
        memcpy(more, n->attr, n->n_attr * sizeof *more);
    more[n->n_attr++] = e;
    n->attr = more;
    e->key = kaena_arena_strdup(m->arena, name);
    e->value = NEW(m->arena, Tensorflow__AttrValue, TENSORFLOW__ATTR_VALUE__INIT);
    e->value->value_case = kind;
    if (kind == TENSORFLOW__ATTR_VALUE__VALUE_LIST)
        e->value->list = NEW(m->arena, Tensorflow__AttrValue__ListValue,
                             TENSORFLOW__ATTR_VALUE__LIST_VALUE__INIT);
    return e->value;
}

static ProtobufCBinaryData bytes_of(const char *s)
{
    return (ProtobufCBinaryData){strlen(s), (uint8_t *)(uintptr_t)s};
}

static void add_text(const maker *m, Tensorflow__NodeDef *n, const char *name, const char *text)
{
    add_attr(m, n, name, TENSORFLOW__ATTR_VALUE__VALUE_S)->s = bytes_of(text);
}

static Tensorflow__NodeDef *add_node(maker *m, const char *name, const char *op)
{
    Tensorflow__NodeDef *n = NEW(m->arena, Tensorflow__NodeDef, TENSORFLOW__NODE_DEF__INIT);
    if (m->graph->n_node == m->capacity) {
        m->capacity = m->capacity ? m->capacity * 2 : 16;
        Tensorflow__NodeDef **more = KAENA_NEW_N(m->arena, Tensorflow__NodeDef *, m->capacity);
        if (m->graph->n_node)
            memcpy(more, m->graph->node, m->graph->n_node * sizeof *more);
        m->graph->node = more;
    }
    m->graph->node[m->graph->n_node++] = n;
    n->name = kaena_arena_strdup(m->arena, name);
    n->op = kaena_arena_strdup(m->arena, op);
    return n;
}

static void add_input(const maker *m, Tensorflow__NodeDef *n, const char *name)
{
    char **more = KAENA_NEW_N(m->arena, char *, n->n_input + 1);
    if (n->n_input)
        memcpy(more, n->input, n->n_input * sizeof *more);
    more[n->n_input++] = kaena_arena_strdup(m->arena, name);
    n->input = more;
}

static const Tensorflow__NodeDef *find_node(const maker *m, const char *name)
{
    for (size_t i = 0; i < m->graph->n_node; i++)
        if (strcmp(m->graph->node[i]->name, name) == 0)
            return m->graph->node[i];
    return NULL;
}

static const Kaena__V1__TensorSpec *spec_of(const kcc_compilation *c, uint32_t value)
{
    return c->meta->values[value]->spec;
}

/* TensorFlow's number of one of our types. */
static Tensorflow__DataType type_number(kaena_dtype dtype)
{
    for (int i = 1; i <= TENSORFLOW__DATA_TYPE__DT_UINT64; i++) {
        kaena_dtype t;
        if (tf_dtype(i, &t, NULL) == KAENA_OK && t == dtype)
            return (Tensorflow__DataType)i;
    }
    return TENSORFLOW__DATA_TYPE__DT_INVALID;
}

/* The types of |n| values as a list of numbers. */
static void add_types(const maker *m, Tensorflow__NodeDef *n, const char *name,
                      const uint32_t *values, size_t n_values)
{
    Tensorflow__AttrValue__ListValue *l =
        add_attr(m, n, name, TENSORFLOW__ATTR_VALUE__VALUE_LIST)->list;
    l->n_type = n_values;
    l->type = KAENA_NEW_N(m->arena, Tensorflow__DataType, n_values);
    for (size_t i = 0; i < n_values; i++)
        l->type[i] = type_number((kaena_dtype)spec_of(m->c, values[i])->dtype);
}

static void add_names(const maker *m, Tensorflow__NodeDef *n, const char *name,
                      const uint32_t *values, size_t n_values)
{
    Tensorflow__AttrValue__ListValue *l =
        add_attr(m, n, name, TENSORFLOW__ATTR_VALUE__VALUE_LIST)->list;
    l->n_s = n_values;
    l->s = KAENA_NEW_N(m->arena, ProtobufCBinaryData, n_values);
    for (size_t i = 0; i < n_values; i++)
        l->s[i] = bytes_of(spec_of(m->c, values[i])->name);
}

static void add_shapes(const maker *m, Tensorflow__NodeDef *n, const uint32_t *values,
                       size_t n_values)
{
    Tensorflow__AttrValue__ListValue *l =
        add_attr(m, n, "output_shapes", TENSORFLOW__ATTR_VALUE__VALUE_LIST)->list;
    l->n_shape = n_values;
    l->shape = KAENA_NEW_N(m->arena, Tensorflow__TensorShapeProto *, n_values);
    for (size_t i = 0; i < n_values; i++)
        l->shape[i] = shape_pb(m->arena, spec_of(m->c, values[i]));
}

/* "x:0" and "x" are one; "f:1" is a name for itself. */
static const char *node_name(const maker *m, const char *tensor)
{
    const char *node;
    uint32_t port;
    if (!tf_split_name(m->arena, tensor, &node, &port))
        return tensor;
    return port == 0 ? node : kaena_arena_printf(m->arena, "%s_%u", node, port);
}

/* Placeholders, the node, and an Identity for every output under its own name. Returns the tensor's
 * name for each of the model's inputs and outputs through |names|, in META's order. */
static void make_graph(maker *m, const char **in_names, const char **out_names)
{
    const Kaena__V1__NeffMeta *meta = m->c->meta;
    for (size_t i = 0; i < meta->n_inputs; i++) {
        const Kaena__V1__TensorSpec *spec = spec_of(m->c, meta->inputs[i]);
        in_names[i] = node_name(m, spec->name);
        Tensorflow__NodeDef *n = add_node(m, in_names[i], "Placeholder");
        add_attr(m, n, "dtype", TENSORFLOW__ATTR_VALUE__VALUE_TYPE)->type =
            type_number((kaena_dtype)spec->dtype);
        add_attr(m, n, "shape", TENSORFLOW__ATTR_VALUE__VALUE_SHAPE)->shape =
            shape_pb(m->arena, spec);
    }
    const char *name = "kaena_neff";
    while (find_node(m, name))
        name = kaena_arena_printf(m->arena, "%s_", name);
    Tensorflow__NodeDef *n = add_node(m, name, KCC_TF_COMPILED_OP);
    for (size_t i = 0; i < meta->n_inputs; i++)
        add_input(m, n, in_names[i]);
    add_text(m, n, "neff", KCC_TF_NEFF_NAME);
    add_text(m, n, "compiler", meta->compiler);
    add_attr(m, n, "num_tpbs", TENSORFLOW__ATTR_VALUE__VALUE_I)->i = meta->num_tpbs;
    add_names(m, n, "input_names", meta->inputs, meta->n_inputs);
    add_names(m, n, "output_names", meta->outputs, meta->n_outputs);
    add_types(m, n, "Tin", meta->inputs, meta->n_inputs);
    add_types(m, n, "Tout", meta->outputs, meta->n_outputs);
    add_shapes(m, n, meta->outputs, meta->n_outputs);
    for (size_t i = 0; i < meta->n_outputs; i++) {
        const Kaena__V1__TensorSpec *spec = spec_of(m->c, meta->outputs[i]);
        out_names[i] = node_name(m, spec->name);
        /* An output that is an input is that Placeholder. */
        if (find_node(m, out_names[i]))
            continue;
        Tensorflow__NodeDef *id = add_node(m, out_names[i], "Identity");
        add_input(m, id, i ? kaena_arena_printf(m->arena, "%s:%zu", name, i) : name);
        add_attr(m, id, "T", TENSORFLOW__ATTR_VALUE__VALUE_TYPE)->type =
            type_number((kaena_dtype)spec->dtype);
    }
}

/* The signature's entries with the compiled shapes, and the names that the tensors have now. */
static kaena_status
rename_entries(const maker *m, Tensorflow__SignatureDef__TensorEntry *const *from, size_t n,
               const uint32_t *values, size_t n_values, const char *const *names,
               Tensorflow__SignatureDef__TensorEntry ***out, size_t *n_out, kaena_err *err)
{
    *out = KAENA_NEW_N(m->arena, Tensorflow__SignatureDef__TensorEntry *, n);
    *n_out = 0;
    for (size_t i = 0; i < n; i++) {
        const Tensorflow__TensorInfo *was = from[i]->value;
        const char *node;
        uint32_t port;
        if (!tf_split_name(m->arena, was->name, &node, &port))
            return KAENA_FAIL(err, INTERNAL, "'%s' is not the name of a tensor", was->name);
        const char *full = kaena_arena_printf(m->arena, "%s:%u", node, port);
        for (size_t k = 0; k < n_values; k++) {
            const Kaena__V1__TensorSpec *spec = spec_of(m->c, values[k]);
            if (strcmp(spec->name, full) != 0)
                continue;
            Tensorflow__SignatureDef__TensorEntry *e =
                NEW(m->arena, Tensorflow__SignatureDef__TensorEntry,
                    TENSORFLOW__SIGNATURE_DEF__TENSOR_ENTRY__INIT);
            e->key = from[i]->key;
            e->value = NEW(m->arena, Tensorflow__TensorInfo, TENSORFLOW__TENSOR_INFO__INIT);
            *e->value = *was;
            e->value->name = kaena_arena_printf(m->arena, "%s:0", names[k]);
            e->value->tensor_shape = shape_pb(m->arena, spec);
            (*out)[(*n_out)++] = e;
        }
    }
    return KAENA_OK;
}

kaena_status kcc_tf_write_saved_model(const kcc_compilation *c, const char *path, kaena_err *err)
{
    const Kaena__V1__NeffMeta *meta = c->meta;
    const Tensorflow__SignatureDef *was = c->chosen.signature;
    kaena_arena *a = c->arena;
    maker m = {
        .arena = a, .c = c, .graph = NEW(a, Tensorflow__GraphDef, TENSORFLOW__GRAPH_DEF__INIT)};
    const char **in_names = KAENA_NEW_N(a, const char *, meta->n_inputs);
    const char **out_names = KAENA_NEW_N(a, const char *, meta->n_outputs);
    make_graph(&m, in_names, out_names);
    Tensorflow__SavedModel model = TENSORFLOW__SAVED_MODEL__INIT;
    Tensorflow__MetaGraphDef graph = TENSORFLOW__META_GRAPH_DEF__INIT, *graphs = &graph;
    Tensorflow__MetaGraphDef__SignatureEntry entry =
        TENSORFLOW__META_GRAPH_DEF__SIGNATURE_ENTRY__INIT;
    Tensorflow__MetaGraphDef__SignatureEntry *entries = &entry;
    Tensorflow__SignatureDef signature = TENSORFLOW__SIGNATURE_DEF__INIT;
    model.saved_model_schema_version = 1;
    model.n_meta_graphs = 1;
    model.meta_graphs = &graphs;
    graph.meta_info_def = c->chosen.meta->meta_info_def;
    graph.graph_def = m.graph;
    graph.n_asset_file_def = c->chosen.meta->n_asset_file_def;
    graph.asset_file_def = c->chosen.meta->asset_file_def;
    graph.n_signature_def = 1;
    graph.signature_def = &entries;
    entry.key = (char *)(uintptr_t)c->chosen.signature_name;
    entry.value = &signature;
    signature.method_name = was->method_name;
    KAENA_TRY(rename_entries(&m, was->inputs, was->n_inputs, meta->inputs, meta->n_inputs, in_names,
                             &signature.inputs, &signature.n_inputs, err));
    KAENA_TRY(rename_entries(&m, was->outputs, was->n_outputs, meta->outputs, meta->n_outputs,
                             out_names, &signature.outputs, &signature.n_outputs, err));
    size_t size = tensorflow__saved_model__get_packed_size(&model);
    uint8_t *packed = kaena_arena_alloc(a, size);
    (void)tensorflow__saved_model__pack(&model, packed);
    return kaena_file_write(path, packed, size, err);
}

/* --- Directories --------------------------------------------------------------------------------
 */

static kaena_status fail_errno(const char *what, const char *path, kaena_err *err)
{
    int e = errno;
    return kaena_err_set(err, kaena_status_of_errno(e), "%s '%s': %s", what, path, strerror(e));
}

static kaena_status copy_tree(kaena_arena *arena, const char *from, const char *to, int depth,
                              kaena_err *err);

static kaena_status copy_entry(kaena_arena *arena, const char *from, const char *to, int depth,
                               kaena_err *err)
{
    struct stat st;
    kaena_file file;
    if (lstat(from, &st) != 0)
        return fail_errno("read", from, err);
    if (S_ISDIR(st.st_mode))
        return copy_tree(arena, from, to, depth, err);
    if (!S_ISREG(st.st_mode))
        return KAENA_FAIL(err, INVALID_ARGUMENT, "asset '%s' is not a regular file", from);
    KAENA_TRY(kaena_file_open(from, &file, err));
    kaena_status s = kaena_file_write(to, file.data, file.size, err);
    kaena_file_close(&file);
    return s;
}

static kaena_status copy_tree(kaena_arena *arena, const char *from, const char *to, int depth,
                              kaena_err *err)
{
    kaena_status s = KAENA_OK;
    if (depth > MAX_DEPTH)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "assets '%s' are nested more than %d deep", from,
                          MAX_DEPTH);
    if (mkdir(to, 0755) != 0)
        return fail_errno("make", to, err);
    DIR *dir = opendir(from);
    if (!dir)
        return fail_errno("read", from, err);
    for (struct dirent *e; s == KAENA_OK && (e = readdir(dir));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        s = copy_entry(arena, kaena_arena_printf(arena, "%s/%s", from, e->d_name),
                       kaena_arena_printf(arena, "%s/%s", to, e->d_name), depth + 1, err);
    }
    (void)closedir(dir);
    return s;
}

kaena_status kcc_tf_copy_assets(const char *from, const char *to, kaena_err *err)
{
    static const char *const names[] = {"assets", "assets.extra"};
    kaena_arena arena;
    kaena_status s = KAENA_OK;
    kaena_arena_init(&arena, 0);
    for (size_t i = 0; s == KAENA_OK && i < sizeof names / sizeof *names; i++) {
        const char *source = kaena_arena_printf(&arena, "%s/%s", from, names[i]);
        struct stat st;
        if (stat(source, &st) == 0 && S_ISDIR(st.st_mode))
            s = copy_tree(&arena, source, kaena_arena_printf(&arena, "%s/%s", to, names[i]), 1,
                          err);
    }
    kaena_arena_fini(&arena);
    return s;
}

/* Whether |dir| holds what kaena_tf_compile writes. */
static bool is_compiled(kaena_arena *arena, const char *dir)
{
    kaena_file file;
    ProtobufCMessage *m;
    kaena_err ignored;
    bool found = false;
    if (kaena_file_open(kaena_arena_printf(arena, "%s/saved_model.pb", dir), &file, &ignored) !=
        KAENA_OK)
        return false;
    if (kcc_pb_unpack(arena, &tensorflow__saved_model__descriptor, file.data, file.size, &m,
                      &ignored) == KAENA_OK) {
        const Tensorflow__SavedModel *model = (const Tensorflow__SavedModel *)m;
        for (size_t i = 0; i < model->n_meta_graphs; i++)
            for (size_t k = 0;
                 model->meta_graphs[i]->graph_def && k < model->meta_graphs[i]->graph_def->n_node;
                 k++)
                found |=
                    strcmp(model->meta_graphs[i]->graph_def->node[k]->op, KCC_TF_COMPILED_OP) == 0;
    }
    kaena_file_close(&file);
    return found;
}

static bool is_empty(const char *path)
{
    DIR *dir = opendir(path);
    bool empty = dir != NULL;
    for (struct dirent *e; empty && (e = readdir(dir));)
        empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
    if (dir)
        (void)closedir(dir);
    return empty;
}

kaena_status kcc_tf_check_output(kaena_arena *arena, const char *path, bool *replaces,
                                 kaena_err *err)
{
    struct stat st;
    *replaces = false;
    if (lstat(path, &st) != 0)
        return errno == ENOENT ? KAENA_OK : fail_errno("write", path, err);
    if (S_ISDIR(st.st_mode) && is_empty(path))
        return KAENA_OK;
    if (S_ISDIR(st.st_mode) && is_compiled(arena, path)) {
        *replaces = true;
        return KAENA_OK;
    }
    (void)KAENA_FAIL(err, ALREADY_EXISTS, "'%s' is there and is no compiled SavedModel", path);
    kaena_err_hint(err, "remove it, or choose another --out_saved_model");
    return KAENA_ALREADY_EXISTS;
}

static kaena_status sync_path(const char *path, kaena_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno("write", path, err);
    kaena_status s = fsync(fd) == 0 ? KAENA_OK : fail_errno("write", path, err);
    (void)close(fd);
    return s;
}

/* What is in the directory is on disk before its name is. */
static kaena_status sync_directory(const char *dir, kaena_err *err)
{
    static const char *const files[] = {KCC_TF_NEFF_NAME, "saved_model.pb", ""};
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        int n = snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        if (n < 0 || (size_t)n >= sizeof path)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "'%s' is too long a path", dir);
        KAENA_TRY(sync_path(path, err));
    }
    return KAENA_OK;
}

kaena_status kcc_tf_deliver(const char *from, const char *to, kaena_err *err)
{
    KAENA_TRY(sync_directory(from, err));
    if (rename(from, to) == 0)
        return KAENA_OK;
    if ((errno == ENOTEMPTY || errno == EEXIST) &&
        renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE) == 0)
        return KAENA_OK;
    return fail_errno("write", to, err);
}
