#include "framework.h"

#include <string.h>
#include <sys/stat.h>

#include "compile.h"
#include "file.h"
#include "mx_import.h"
#include "onnx_import.h"
#include "tf_import.h"
#include "tf_translate.h"

static const kcc_io_config *io_of(const kcc_compilation *c)
{
    return c->io_config ? &c->io : NULL;
}

static kaena_status import_onnx(kcc_compilation *c, kaena_err *err)
{
    return kcc_import_onnx(c->arena, c->model, io_of(c), &c->graph, &c->info, err);
}

static kaena_status census_onnx(const kcc_compilation *c, kcc_census *out, kaena_err *err)
{
    return kcc_onnx_census(c->model, out, err);
}

static bool onnx_operator(uint32_t i, const char **name, kop_op *canonical)
{
    if (i + 1 >= KOP_COUNT)
        return kcc_onnx_foreign_operator(i + 1 - KOP_COUNT, name, canonical);
    *canonical = (kop_op)(i + 1);
    *name = kop_row_of(*canonical)->name;
    return true;
}

/* A SavedModel is a directory, or the file in it that has the graph. */
static const char *saved_model_dir(const kcc_compilation *c)
{
    struct stat st;
    const char *path = kaena_path_of_uri(c->model), *slash = strrchr(path, '/');
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return path;
    const char *file = slash ? slash + 1 : path;
    if (strcmp(file, "saved_model.pb") != 0 && strcmp(file, "saved_model.pbtxt") != 0)
        return NULL;
    return slash ? kaena_arena_printf(c->arena, "%.*s", (int)(slash - path + 1), path) : ".";
}

static kaena_status import_tensorflow(kcc_compilation *c, kaena_err *err)
{
    const char *dir = saved_model_dir(c);
    if (dir)
        return kcc_import_saved_model(c->arena, dir, &c->choice, io_of(c), &c->graph, &c->info,
                                      &c->chosen, err);
    return kcc_import_tf_graph(c->arena, c->model, io_of(c), &c->graph, &c->info, err);
}

static kaena_status census_tensorflow(const kcc_compilation *c, kcc_census *out, kaena_err *err)
{
    const char *dir = saved_model_dir(c);
    return dir ? kcc_saved_model_census(dir, &c->choice, out, err)
               : kcc_tf_census(c->model, out, err);
}

static bool tensorflow_operator(uint32_t i, const char **name, kop_op *canonical)
{
    const tf_op_row *row = tf_op_at(i);
    if (!row)
        return false;
    *canonical = row->canonical;
    *name = row->name;
    return true;
}

static kaena_status import_mxnet(kcc_compilation *c, kaena_err *err)
{
    return kcc_import_mx(c->arena, c->model, c->params, io_of(c), &c->graph, &c->info, err);
}

static kaena_status census_mxnet(const kcc_compilation *c, kcc_census *out, kaena_err *err)
{
    return kcc_mx_census(c->model, out, err);
}

static bool mxnet_operator(uint32_t i, const char **name, kop_op *canonical)
{
    *name = kcc_mx_operator(i, canonical);
    return *name != NULL;
}

static const kcc_framework frameworks[] = {
    {"MXNET", import_mxnet, census_mxnet, mxnet_operator},
    {"ONNX", import_onnx, census_onnx, onnx_operator},
    {"TENSORFLOW", import_tensorflow, census_tensorflow, tensorflow_operator},
};

#define N_FRAMEWORKS (sizeof frameworks / sizeof frameworks[0])

const kcc_framework *kcc_framework_at(uint32_t i)
{
    return i < N_FRAMEWORKS ? &frameworks[i] : NULL;
}

const kcc_framework *kcc_framework_find(const char *name)
{
    for (uint32_t i = 0; i < N_FRAMEWORKS; i++)
        if (strcmp(frameworks[i].name, name) == 0)
            return &frameworks[i];
    return NULL;
}

void kcc_framework_names(kaena_strbuf *out)
{
    for (uint32_t i = 0; i < N_FRAMEWORKS; i++)
        kaena_strbuf_printf(out, "%s%s",
                            i == 0                 ? ""
                            : i + 1 < N_FRAMEWORKS ? ", "
                                                   : " or ",
                            frameworks[i].name);
}
