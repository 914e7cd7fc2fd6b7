/* `kcc check`: where every operator of a model would run. `kcc list-operators`: what there is
 * ("import": nothing of it is left in a compiled model). */
#include <string.h>

#include "compile.h"

typedef struct tally {
    const char *origin;
    uint32_t device, host;
    const char *reason;
} tally;

kaena_status kcc_check(kcc_compilation *c, kaena_strbuf *out, kaena_err *err)
{
    KAENA_TRY(kcc_compile(c, "fold", err));
    tally *row = KAENA_NEW_N(c->arena, tally, c->graph->n_nodes);
    uint32_t n_rows = 0, total = 0, device = 0;
    for (const kgr_node *n = c->graph->first; n; n = n->next) {
        uint32_t k = 0;
        while (k < n_rows && strcmp(row[k].origin, n->origin) != 0)
            k++;
        if (k == n_rows)
            row[n_rows++].origin = n->origin;
        const char *reason = NULL;
        if (kcc_lowerable(n, &reason)) {
            row[k].device++;
            device++;
        } else {
            row[k].host++;
            row[k].reason = reason;
        }
        total++;
    }
    kaena_strbuf_printf(out, "%-28s %8s %8s %8s  %s\n", "Operator", "Count", "Device", "Host",
                        "Why on the host");
    for (uint32_t k = 0; k < n_rows; k++)
        kaena_strbuf_printf(out, "%-28s %8u %8u %8u  %s\n", row[k].origin,
                            row[k].device + row[k].host, row[k].device, row[k].host,
                            row[k].reason ? row[k].reason : "");
    kaena_strbuf_printf(out, "%u of %u operators (%.1f %%) run on the device\n", device, total,
                        total ? 100.0 * device / total : 100.0);
    return KAENA_OK;
}

void kcc_list_operators(const kcc_framework *framework, kaena_strbuf *out)
{
    const char *name;
    kop_op canonical;
    for (uint32_t i = 0; framework->operator_at(i, &name, &canonical); i++)
        kaena_strbuf_printf(out, "%-28s %s\n", name,
                            canonical == KOP_NONE   ? "import"
                            : kcc_row_of(canonical) ? "device"
                                                    : "host");
}
