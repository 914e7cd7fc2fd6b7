#include "conformance.h"

/* Shape inference and the reference evaluation of the operators. */
static kaena_status execute_eval(kaena_arena *arena, kgr_graph *g, const kop_tensor *in,
                                 kop_tensor *out, kaena_err *err)
{
    kop_env env = {.arena = arena};
    KAENA_TRY(kgr_infer(g, /* infer_data= */ true, err));
    KAENA_TRY(kgr_check(g, err));
    return kgr_eval(g, in, out, &env, err);
}

const conf_backend conf_backends[] = {
    {"eval", execute_eval},
};
const size_t conf_n_backends = sizeof conf_backends / sizeof conf_backends[0];
