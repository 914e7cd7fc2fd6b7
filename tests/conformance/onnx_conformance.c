/* ONNX test cases: directories with model.onnx and test_data_set_*; see conf_run.c for the options.
 */
#include "conformance.h"
#include "onnx_import.h"

static bool is_unsupported(kaena_arena *arena, const char *dir, kaena_err *err)
{
    kaena_err refused;
    kgr_graph *g;
    kcc_import_info info;
    kaena_err_init(&refused);
    const char *path = kaena_arena_printf(arena, "%s/model.onnx", dir);
    if (kcc_import_onnx(arena, path, NULL, &g, &info, &refused) != KAENA_UNIMPLEMENTED)
        return false;
    *err = refused;
    return true;
}

int main(int argc, char **argv)
{
    static const conf_suite suite = {.model = "model.onnx",
                                     .read_set = conf_onnx_set,
                                     .import = conf_onnx_import,
                                     .is_unsupported = is_unsupported};
    return conf_main(&suite, argc, argv);
}
