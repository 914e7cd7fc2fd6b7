#include "tf_import.h"

#include <string.h>

#include "file.h"
#include "pb_text.h"
#include "pb_unpack.h"
#include "tf_prepare.h"

bool tf_is_text(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot && strcmp(dot, ".pbtxt") == 0;
}

kaena_status tf_graph_def_parse(kaena_arena *arena, const void *data, size_t size, bool text,
                                Tensorflow__GraphDef **out, kaena_err *err)
{
    ProtobufCMessage *m;
    if (text)
        KAENA_TRY(kcc_pb_text_parse(arena, &tensorflow__graph_def__descriptor, data, size,
                                    KCC_PB_SKIP_UNKNOWN, &m, err));
    else
        KAENA_TRY(kcc_pb_unpack(arena, &tensorflow__graph_def__descriptor, data, size, &m, err));
    *out = (Tensorflow__GraphDef *)m;
    return KAENA_OK;
}

/* |unmap| (may be NULL) is closed once the message is unpacked. */
static kaena_status import_bytes(kaena_arena *arena, const void *data, size_t size, bool text,
                                 kaena_file *unmap, const kcc_io_config *io, kgr_graph **out,
                                 kcc_import_info *info, kaena_err *err)
{
    static const kcc_io_config nothing_said;
    Tensorflow__GraphDef *pb;
    kaena_status s = tf_graph_def_parse(arena, data, size, text, &pb, err);
    if (unmap)
        kaena_file_close(unmap);
    KAENA_TRY(s);
    tf_graph *tf;
    tf_boundary boundary;
    kgr_graph *g;
    KAENA_TRY(tf_graph_of_pb(arena, pb, &tf, err));
    if (tf->n_nodes == 0)
        return KAENA_FAIL(err, INVALID_ARGUMENT,
                          "no node in it: not a TensorFlow graph, or damaged");
    KAENA_TRY(tf_boundary_of(tf, io ? io : &nothing_said, &boundary, err));
    const tf_checkpoint none = {.bundle = NULL};
    KAENA_TRY(tf_prepare(tf, &boundary, /* saver= */ NULL, &none, err));
    KAENA_TRY(tf_translate(tf, &boundary, "", &g, err));
    *info = (kcc_import_info){.framework = "TENSORFLOW",
                              .model_name = "",
                              .producer = "",
                              .ir_version = tf->producer,
                              .n_nodes = tf->n_nodes};
    *out = g;
    return KAENA_OK;
}

kaena_status kcc_import_tf_bytes(kaena_arena *arena, const void *data, size_t size, bool text,
                                 const kcc_io_config *io, kgr_graph **out, kcc_import_info *info,
                                 kaena_err *err)
{
    return import_bytes(arena, data, size, text, NULL, io, out, info, err);
}

kaena_status kcc_import_tf_graph(kaena_arena *arena, const char *path, const kcc_io_config *io,
                                 kgr_graph **out, kcc_import_info *info, kaena_err *err)
{
    kaena_file file;
    path = kaena_path_of_uri(path);
    KAENA_TRY(kaena_file_open(path, &file, err));
    KAENA_TRY_WRAP(
        err, import_bytes(arena, file.data, file.size, tf_is_text(path), &file, io, out, info, err),
        "'%s'", path);
    return KAENA_OK;
}
