#include "tf_saved_model.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
#include "pb_text.h"
#include "pb_unpack.h"
#include "strbuf.h"
#include "tf_prepare.h"
#include "tf_signature.h"

static kaena_status no_memory(kaena_err *err)
{
    return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for the graph");
}

/* --- Choosing a graph ---------------------------------------------------------------------------
 */

/* Whether |tags|, separated by commas, are exactly the graph's. */
static bool has_tags(const Tensorflow__MetaGraphDef *m, const char *tags)
{
    const Tensorflow__MetaGraphDef__MetaInfoDef *info = m->meta_info_def;
    size_t n_tags = info ? info->n_tags : 0, n = 0;
    while (*tags) {
        size_t size = strcspn(tags, ",");
        bool found = false;
        for (size_t i = 0; i < n_tags && !found; i++)
            found = strlen(info->tags[i]) == size && memcmp(info->tags[i], tags, size) == 0;
        if (!found)
            return false;
        n++;
        tags += size + (tags[size] == ',');
    }
    return n == n_tags;
}

static void print_tags(kaena_strbuf *b, const Tensorflow__MetaGraphDef *m)
{
    const Tensorflow__MetaGraphDef__MetaInfoDef *info = m->meta_info_def;
    kaena_strbuf_printf(b, "'");
    for (size_t i = 0; info && i < info->n_tags; i++)
        kaena_strbuf_printf(b, "%s%s", i ? "," : "", info->tags[i]);
    kaena_strbuf_printf(b, "'");
}

static kaena_status choose_graph(const Tensorflow__SavedModel *m, const char *tags,
                                 const Tensorflow__MetaGraphDef **out, kaena_err *err)
{
    for (size_t i = 0; i < m->n_meta_graphs; i++)
        if (has_tags(m->meta_graphs[i], tags)) {
            *out = m->meta_graphs[i];
            return KAENA_OK;
        }
    if (m->n_meta_graphs == 0)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "no graph in it: not a SavedModel, or damaged");
    kaena_strbuf names = {0};
    for (size_t i = 0; i < m->n_meta_graphs && i < 16; i++) {
        kaena_strbuf_printf(&names, "%s", i ? ", " : "");
        print_tags(&names, m->meta_graphs[i]);
    }
    (void)KAENA_FAIL(err, NOT_FOUND, "no graph with exactly the tags '%s'; there %s %s", tags,
                     m->n_meta_graphs == 1 ? "is" : "are", names.data);
    kaena_err_hint(err, "choose one with --tags");
    kaena_strbuf_fini(&names);
    return KAENA_NOT_FOUND;
}

static kaena_status refuse_compiled(const Tensorflow__GraphDef *g, kaena_err *err)
{
    for (size_t i = 0; i < g->n_node; i++)
        if (strcmp(g->node[i]->op, KCC_TF_COMPILED_OP) == 0) {
            (void)KAENA_FAIL(err, FAILED_PRECONDITION,
                             "this SavedModel is compiled already: it holds a NEFF");
            kaena_err_hint(err, "compile the SavedModel that it was made from; serve this one as "
                                "it is");
            return KAENA_FAILED_PRECONDITION;
        }
    return KAENA_OK;
}

/* --- Importing ----------------------------------------------------------------------------------
 */

static kaena_status import_graph(kaena_arena *arena, const Tensorflow__MetaGraphDef *meta,
                                 kcc_tf_bundle *bundle, const char *signature,
                                 const kcc_io_config *io, kgr_graph **out, kcc_import_info *info,
                                 kcc_tf_chosen *chosen, kaena_err *err)
{
    static const kcc_io_config nothing_said;
    tf_graph *g;
    tf_boundary boundary;
    kcc_tf_chosen c = {.meta = meta};
    KAENA_TRY(tf_graph_of_pb(arena, meta->graph_def, &g, err));
    uint32_t n_nodes = g->n_nodes;
    KAENA_TRY(tf_signature_find(g, meta, signature, &c, err));
    KAENA_TRY(tf_signature_boundary(g, &c, io ? io : &nothing_said, &boundary, err));
    const tf_checkpoint checkpoint = {.bundle = bundle};
    KAENA_TRY(tf_prepare(g, &boundary, meta->saver_def, &checkpoint, err));
    KAENA_TRY(tf_signature_check_state(g, &c, &boundary, err));
    KAENA_TRY(tf_translate(g, &boundary, "", out, err));
    const char *version = meta->meta_info_def ? meta->meta_info_def->tensorflow_version : "";
    *info = (kcc_import_info){
        .framework = "TENSORFLOW",
        .model_name = "",
        .producer = *version ? kaena_arena_printf(arena, "TensorFlow %s", version) : "",
        .ir_version = g->producer,
        .n_nodes = n_nodes,
    };
    if (!info->producer)
        return no_memory(err);
    if (chosen)
        *chosen = c;
    return KAENA_OK;
}

/* Reads the message and chooses a graph; |unmap| (may be NULL) is closed once it is unpacked. */
static kaena_status load(kaena_arena *arena, const void *data, size_t size, bool text,
                         kaena_file *unmap, const kcc_tf_choice *choice,
                         const Tensorflow__MetaGraphDef **out, kaena_err *err)
{
    const char *tags = choice && choice->tags ? choice->tags : KCC_TF_DEFAULT_TAGS;
    ProtobufCMessage *m;
    kaena_status s =
        text ? kcc_pb_text_parse(arena, &tensorflow__saved_model__descriptor, data, size,
                                 KCC_PB_SKIP_UNKNOWN, &m, err)
             : kcc_pb_unpack(arena, &tensorflow__saved_model__descriptor, data, size, &m, err);
    if (unmap)
        kaena_file_close(unmap);
    KAENA_TRY(s);
    const Tensorflow__SavedModel *model = (const Tensorflow__SavedModel *)m;
    const Tensorflow__MetaGraphDef *meta = NULL;
    if (model->saved_model_schema_version > 1)
        return KAENA_FAIL(err, UNIMPLEMENTED,
                          "version %lld of SavedModel; 1 is the newest supported",
                          (long long)model->saved_model_schema_version);
    KAENA_TRY(choose_graph(model, tags, &meta, err));
    if (!meta->graph_def || meta->graph_def->n_node == 0)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "the graph has no nodes");
    KAENA_TRY(refuse_compiled(meta->graph_def, err));
    *out = meta;
    return KAENA_OK;
}

kaena_status kcc_import_saved_model_bytes(kaena_arena *arena, const void *data, size_t size,
                                          bool text, kcc_tf_bundle *bundle,
                                          const kcc_tf_choice *choice, const kcc_io_config *io,
                                          kgr_graph **out, kcc_import_info *info,
                                          kcc_tf_chosen *chosen, kaena_err *err)
{
    const Tensorflow__MetaGraphDef *meta;
    KAENA_TRY(load(arena, data, size, text, NULL, choice, &meta, err));
    return import_graph(arena, meta, bundle, choice ? choice->signature : NULL, io, out, info,
                        chosen, err);
}

/* --- Directories --------------------------------------------------------------------------------
 */

/* Without the slashes at the end. */
static const char *plain_path(kaena_arena *arena, const char *dir)
{
    dir = kaena_path_of_uri(dir);
    size_t size = strlen(dir);
    while (size > 1 && dir[size - 1] == '/')
        size--;
    return kaena_arena_printf(arena, "%.*s", (int)size, dir);
}

static bool exists(kaena_arena *arena, const char *dir, const char *name)
{
    const char *path = kaena_arena_printf(arena, "%s/%s", dir, name);
    return path && access(path, F_OK) == 0;
}

/* Says what the directory is that is no SavedModel. */
static kaena_status refuse_directory(kaena_arena *arena, const char *dir, kaena_err *err)
{
    if (exists(arena, dir, "export.meta")) {
        (void)KAENA_FAIL(err, UNIMPLEMENTED,
                         "'%s' is a session bundle (export.meta), the format before SavedModel, "
                         "which is not supported",
                         dir);
        kaena_err_hint(err, "load it with TensorFlow 1 and save it with tf.saved_model.save, or "
                            "freeze its graph");
        return KAENA_UNIMPLEMENTED;
    }
    if (exists(arena, dir, "keras_metadata.pb") || exists(arena, dir, "checkpoint")) {
        (void)KAENA_FAIL(err, NOT_FOUND,
                         "'%s' has weights, but neither saved_model.pb nor saved_model.pbtxt", dir);
        kaena_err_hint(err, "save the whole model with tf.saved_model.save");
        return KAENA_NOT_FOUND;
    }
    (void)KAENA_FAIL(err, NOT_FOUND, "'%s' has neither saved_model.pb nor saved_model.pbtxt", dir);
    kaena_err_hint(err, "give the directory that holds saved_model.pb; below a model server's "
                        "directory that is one of its versions");
    return KAENA_NOT_FOUND;
}

static kaena_status open_bundle(kaena_arena *arena, const char *dir, kcc_tf_bundle **out,
                                kaena_err *err)
{
    const char *prefix = kaena_arena_printf(arena, "%s/variables/variables", dir);
    if (!prefix)
        return no_memory(err);
    /* A model without variables has none; one that lacks its checkpoint is told so when a variable
     * is needed. */
    if (!exists(arena, dir, "variables/variables.index") &&
        !exists(arena, dir, "variables/variables"))
        return KAENA_OK;
    return kcc_tf_bundle_open(arena, prefix, out, err);
}

/* Reads the graph in |dir| that |choice| says; |*path| is its file. */
static kaena_status load_dir(kaena_arena *arena, const char *dir, const kcc_tf_choice *choice,
                             const Tensorflow__MetaGraphDef **out, const char **path,
                             kaena_err *err)
{
    static const struct {
        const char *name;
        bool text;
    } forms[] = {{"saved_model.pb", false}, {"saved_model.pbtxt", true}};
    struct stat st;
    if (stat(dir, &st) != 0)
        return kaena_err_set(err, kaena_status_of_errno(errno), "'%s': %s", dir, strerror(errno));
    for (size_t i = 0; i < 2; i++) {
        if (!exists(arena, dir, forms[i].name))
            continue;
        kaena_file file;
        *path = kaena_arena_printf(arena, "%s/%s", dir, forms[i].name);
        if (!*path)
            return no_memory(err);
        KAENA_TRY(kaena_file_open(*path, &file, err));
        KAENA_TRY_WRAP(err,
                       load(arena, file.data, file.size, forms[i].text, &file, choice, out, err),
                       "'%s'", *path);
        return KAENA_OK;
    }
    return refuse_directory(arena, dir, err);
}

kaena_status kcc_import_saved_model(kaena_arena *arena, const char *dir,
                                    const kcc_tf_choice *choice, const kcc_io_config *io,
                                    kgr_graph **out, kcc_import_info *info, kcc_tf_chosen *chosen,
                                    kaena_err *err)
{
    const Tensorflow__MetaGraphDef *meta;
    kcc_tf_bundle *bundle = NULL;
    const char *path;
    dir = plain_path(arena, dir);
    if (!dir)
        return no_memory(err);
    KAENA_TRY(load_dir(arena, dir, choice, &meta, &path, err));
    KAENA_TRY(open_bundle(arena, dir, &bundle, err));
    kaena_status s = import_graph(arena, meta, bundle, choice ? choice->signature : NULL, io, out,
                                  info, chosen, err);
    kcc_tf_bundle_close(bundle);
    return s == KAENA_OK ? s : kaena_err_wrap(err, s, "'%s'", path);
}

/* --- Counting -----------------------------------------------------------------------------------
 */

static kaena_status count(const Tensorflow__MetaGraphDef *meta, const kcc_tf_choice *choice,
                          kcc_census *out, kaena_err *err)
{
    tf_graph *g;
    tf_walk w;
    kcc_tf_chosen c = {.meta = meta};
    KAENA_TRY(tf_graph_of_pb(out->arena, meta->graph_def, &g, err));
    KAENA_TRY(tf_signature_find(g, meta, choice ? choice->signature : NULL, &c, err));
    KAENA_TRY(tf_signature_walk(&w, g, &c, err));
    KAENA_TRY(tf_inline_calls(g, &w, err));
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const tf_node *n = g->nodes[i];
        /* Calls and arguments are gone. */
        if (tf_walk_seen(&w, n) && strcmp(n->op, "IdentityN") != 0 && strcmp(n->op, "_Arg") != 0)
            KAENA_TRY(kcc_census_add(out, n->op, tf_op_find(n->op) || tf_is_variable(n), err));
    }
    return KAENA_OK;
}

kaena_status kcc_saved_model_census(const char *dir, const kcc_tf_choice *choice, kcc_census *out,
                                    kaena_err *err)
{
    const Tensorflow__MetaGraphDef *meta;
    const char *path;
    dir = plain_path(out->arena, dir);
    if (!dir)
        return no_memory(err);
    KAENA_TRY(load_dir(out->arena, dir, choice, &meta, &path, err));
    KAENA_TRY_WRAP(err, count(meta, choice, out, err), "'%s'", path);
    return KAENA_OK;
}
