#include "host.h"

#include <fenv.h>

kaena_status host_run(const kgr_graph *graph, const kop_tensor *in, const neff_tensor *declared,
                      kop_tensor *out, kaena_arena *arena, const atomic_bool *stop, kaena_err *err)
{
    kop_env env = {.arena = arena, .stop = stop};
    fenv_t saved;
    (void)fegetenv(&saved);
    (void)fesetenv(FE_DFL_ENV);
    kaena_status status = kgr_eval(graph, in, out, &env, err);
    (void)fesetenv(&saved);
    KAENA_TRY(status);
    for (uint32_t i = 0; i < graph->n_outputs; i++) {
        const neff_tensor *want = &declared[i];
        /* What is empty may not know of what. */
        if (out[i].form != KOP_FORM_TENSOR && out[i].count == 0)
            out[i].dtype = want->dtype;
        if (out[i].dtype == want->dtype && out[i].form == want->form &&
            (want->dynamic || kaena_shape_equal(&out[i].shape, &want->shape)))
            continue;
        char have[KAENA_SHAPE_TEXT], shape[KAENA_SHAPE_TEXT];
        return KAENA_FAIL(
            err, DATA_LOSS, "'%s' came out as %s%s, declared is %s%s", want->name,
            kaena_dtype_name(out[i].dtype), kaena_shape_print(&out[i].shape, have, sizeof have),
            kaena_dtype_name(want->dtype), kaena_shape_print(&want->shape, shape, sizeof shape));
    }
    return KAENA_OK;
}
