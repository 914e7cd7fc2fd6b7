/* Operators of a TensorFlow graph, those inside of functions too. */
#include "file.h"
#include "tf_import.h"
#include "tf_translate.h"

static kaena_status count_nodes(kcc_census *c, Tensorflow__NodeDef *const *node, size_t n,
                                const kcc_name_table *functions, kaena_err *err)
{
    uint32_t unused;
    for (size_t i = 0; i < n; i++) {
        const char *op = node[i]->op ? node[i]->op : "";
        KAENA_TRY(
            kcc_census_add(c, op, tf_op_find(op) || kcc_name_find(functions, op, &unused), err));
    }
    return KAENA_OK;
}

/* The functions' names, which call as operators do. */
static kaena_status name_functions(const Tensorflow__FunctionDefLibrary *library,
                                   kcc_name_table *out, kaena_err *err)
{
    for (size_t i = 0; library && i < library->n_function; i++) {
        const Tensorflow__OpDef *signature = library->function[i]->signature;
        if (signature && signature->name &&
            kcc_name_add(out, signature->name, 0) == KCC_NAME_NO_MEMORY)
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for the list of operators");
    }
    return KAENA_OK;
}

kaena_status kcc_tf_census(const char *path, kcc_census *out, kaena_err *err)
{
    kaena_file file;
    Tensorflow__GraphDef *pb;
    path = kaena_path_of_uri(path);
    KAENA_TRY(kaena_file_open(path, &file, err));
    kaena_status s =
        tf_graph_def_parse(out->arena, file.data, file.size, tf_is_text(path), &pb, err);
    kaena_file_close(&file);
    KAENA_TRY_WRAP(err, s, "'%s'", path);
    kcc_name_table functions = {.arena = out->arena};
    KAENA_TRY(name_functions(pb->library, &functions, err));
    KAENA_TRY(count_nodes(out, pb->node, pb->n_node, &functions, err));
    for (size_t i = 0; pb->library && i < pb->library->n_function; i++)
        KAENA_TRY(count_nodes(out, pb->library->function[i]->node_def,
                              pb->library->function[i]->n_node_def, &functions, err));
    return KAENA_OK;
}
