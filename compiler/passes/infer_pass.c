/* requires: types of graph inputs and constants
 * establishes: type and shape of every value, all dimensions known but those that depend on data */
#include "passes.h"

static kaena_status check_inputs(const kgr_graph *g, kaena_err *err)
{
    char text[KAENA_SHAPE_TEXT];
    for (uint32_t i = 0; i < g->n_inputs; i++) {
        const kgr_value *v = g->inputs[i];
        if (v->t.dtype == KAENA_DTYPE_NONE)
            return KAENA_FAIL(err, INVALID_ARGUMENT,
                              "the model does not say the type of input '%s'", v->name);
        if (v->t.form != KOP_FORM_TENSOR || (!v->t.unranked && kaena_shape_known(&v->t.shape)))
            continue;
        (void)KAENA_FAIL(err, FAILED_PRECONDITION, "input '%s' has no fixed shape: %s", v->name,
                         v->t.unranked ? "[*]" : kaena_shape_print(&v->t.shape, text, sizeof text));
        kaena_err_hint(err,
                       "say it with --io-config '{\"inputs\":{\"%s\":[[...],\"%s\"]}}'; every "
                       "input with open dimensions needs an entry",
                       v->name, kaena_dtype_name(v->t.dtype));
        return KAENA_FAILED_PRECONDITION;
    }
    return KAENA_OK;
}

kaena_status kcc_pass_infer(kgr_graph *g, const kcc_options *opt, kaena_err *err)
{
    (void)opt;
    KAENA_TRY(check_inputs(g, err));
    KAENA_TRY(kgr_infer(g, true, err));
    (void)kgr_remove_dead(g);
    return KAENA_OK;
}
