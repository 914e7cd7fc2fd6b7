#include "conformance.h"
#include "lower.h"
#include "passes.h"

/* Shape inference and the reference evaluation of the operators. */
static kaena_status execute_eval(kaena_arena *arena, kgr_graph *g, const kop_tensor *in,
                                 kop_tensor *out, uint32_t *device_nodes, kaena_err *err)
{
    (void)device_nodes;
    kop_env env = {.arena = arena};
    KAENA_TRY(kgr_infer(g, /* infer_data= */ true, err));
    KAENA_TRY(kgr_check(g, err));
    return kgr_eval(g, in, out, &env, err);
}

/* The same after the compiler's passes, which leave a graph's function alone. */
static kaena_status execute_passes(kaena_arena *arena, kgr_graph *g, const kop_tensor *in,
                                   kop_tensor *out, uint32_t *device_nodes, kaena_err *err)
{
    (void)device_nodes;
    kop_env env = {.arena = arena};
    const kcc_options opt = {.cast = KCC_CAST_NONE, .num_tpbs = 1};
    static kaena_status (*const passes[])(kgr_graph *, const kcc_options *, kaena_err *) = {
        kcc_pass_infer, kcc_pass_quantise, kcc_pass_fold, kcc_pass_simplify, kcc_pass_fuse};
    for (size_t i = 0; i < sizeof passes / sizeof *passes; i++) {
        KAENA_TRY(passes[i](g, &opt, err));
        KAENA_TRY(kgr_check(g, err));
    }
    return kgr_eval(g, in, out, &env, err);
}

/* Compiled for one TPB, or in parts for four, and run by emulated devices. */
static kaena_status execute_device(kaena_arena *arena, kgr_graph *g, const kop_tensor *in,
                                   kop_tensor *out, uint32_t *device_nodes, kaena_err *err)
{
    return conf_execute_device(arena, g, 1, in, out, device_nodes, err);
}

static kaena_status execute_device4(kaena_arena *arena, kgr_graph *g, const kop_tensor *in,
                                    kop_tensor *out, uint32_t *device_nodes, kaena_err *err)
{
    return conf_execute_device(arena, g, 4, in, out, device_nodes, err);
}

/* As device, with all inputs but the first constants and every node on the device that can be: the
 * cases of operators have their weights as inputs, and are too small to be worth the way. */
static kaena_status execute_weights(kaena_arena *arena, kgr_graph *g, const kop_tensor *in,
                                    kop_tensor *out, uint32_t *device_nodes, kaena_err *err)
{
    KAENA_TRY(kgr_infer(g, /* infer_data= */ false, err));
    for (uint32_t i = 1; i < g->n_inputs; i++) {
        kgr_value *v = g->inputs[i];
        if (v->is_output || !in[i].data || in[i].form != KOP_FORM_TENSOR)
            return conf_execute_device(arena, g, 1, in, out, device_nodes, err);
    }
    for (uint32_t i = 1; i < g->n_inputs; i++) {
        g->inputs[i]->is_input = false;
        g->inputs[i]->t = in[i];
    }
    g->n_inputs = g->n_inputs ? 1 : 0;
    KAENA_TRY(kgr_infer(g, /* infer_data= */ false, err));
    for (kgr_node *n = g->first; n; n = n->next) {
        const char *reason;
        bool known = true;
        for (uint32_t i = 0; i < n->n_out; i++)
            known = known && n->out[i]->t.form == KOP_FORM_TENSOR && !n->out[i]->t.unranked &&
                    kaena_shape_known(&n->out[i]->t.shape);
        if (known && kcc_lowerable(n, &reason)) {
            n->device = KGR_DEVICE;
            n->reason = "of the test";
        }
    }
    return conf_execute_device(arena, g, 1, in, out, device_nodes, err);
}

const conf_backend conf_backends[] = {
    {"eval", execute_eval, false},      {"passes", execute_passes, false},
    {"device", execute_device, true},   {"device4", execute_device4, true},
    {"weights", execute_weights, true},
};
const size_t conf_n_backends = sizeof conf_backends / sizeof conf_backends[0];
