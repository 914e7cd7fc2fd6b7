/* requires: the graph as imported
 * establishes: device and reason of the nodes that the user placed; later passes leave nodes pinned
 * to the host in one piece */
#include <string.h>

#include "passes.h"

static bool means(const char *name, const kgr_node *n)
{
    return strcmp(name, n->origin) == 0 || strcmp(name, kop_row_of(n->op)->name) == 0 ||
           strcmp(name, n->name) == 0;
}

static kaena_status pin(kgr_graph *g, const char *name, kgr_place device, const char *option,
                        kaena_err *err)
{
    bool found = false;
    for (kgr_node *n = g->first; n; n = n->next) {
        if (!means(name, n))
            continue;
        found = true;
        if (n->device && n->device != device)
            return KAENA_FAIL(err, INVALID_ARGUMENT,
                              "node '%s' (%s) is named by --host-ops and by --device-ops", n->name,
                              n->origin);
        n->device = device;
        n->reason = option;
    }
    if (found)
        return KAENA_OK;
    (void)KAENA_FAIL(err, NOT_FOUND, "%s '%s': the model has no such operator or node", option,
                     name);
    kaena_err_hint(err, "'kcc check' lists the model's operators");
    return KAENA_NOT_FOUND;
}

kaena_status kcc_pass_pin(kgr_graph *g, const kcc_options *opt, kaena_err *err)
{
    for (uint32_t i = 0; i < opt->n_host_ops; i++)
        KAENA_TRY(pin(g, opt->host_ops[i], KGR_HOST, "--host-ops", err));
    for (uint32_t i = 0; i < opt->n_device_ops; i++)
        KAENA_TRY(pin(g, opt->device_ops[i], KGR_DEVICE, "--device-ops", err));
    return KAENA_OK;
}
