/* `kcc check`: where every operator of a model would run. `kcc list-operators`: what there is
 * ("import": nothing of it is left in a compiled model). */
#include <string.h>

#include "compile.h"

/* What became of an operator of the framework. */
typedef struct tally {
    uint32_t device, host; /* nodes of the graph */
    const char *reason;
} tally;

typedef struct checking {
    kcc_compilation *c;
    kcc_census census;
    tally *of; /* by row of the census */
} checking;

/* Operators that the importer put in place of the model's have its names; the rest count as
 * themselves. */
static kaena_status name_nodes(checking *k, kaena_err *err)
{
    for (const kgr_node *n = k->c->graph->first; n; n = n->next)
        if (!kcc_census_find(&k->census, n->origin)) {
            KAENA_TRY(kcc_census_add(&k->census, n->origin, true, err));
            kcc_census_find(&k->census, n->origin)->count = 0;
        }
    return KAENA_OK;
}

static void place_nodes(checking *k)
{
    k->of = KAENA_NEW_N(k->c->arena, tally, k->census.n);
    for (const kgr_node *n = k->c->graph->first; n; n = n->next) {
        tally *t = &k->of[kcc_census_find(&k->census, n->origin) - k->census.row];
        const char *reason = NULL;
        if (kcc_lowerable(n, &reason)) {
            t->device++;
        } else {
            t->host++;
            t->reason = reason;
        }
    }
}

static void print_table(const checking *k, kaena_strbuf *out)
{
    uint32_t total = 0, device = 0, host = 0, nothing = 0;
    kaena_strbuf_printf(out, "%-28s %8s %8s %8s  %s\n", "Operator", "Count", "Device", "Host",
                        "Why on the host");
    for (uint32_t i = 0; i < k->census.n; i++) {
        const kcc_census_row *row = &k->census.row[i];
        const tally *t = &k->of[i];
        kaena_strbuf_printf(out, "%-28s %8u %8u %8u  %s\n", row->op, row->count, t->device, t->host,
                            t->reason ? t->reason : "");
        total += row->count;
        *(t->host ? &host : t->device ? &device : &nothing) += row->count;
    }
    kaena_strbuf_printf(out,
                        "%u of %u operators (%.1f %%) run on the device, %u on the host, %u leave "
                        "nothing to run\n",
                        device, total - nothing,
                        total > nothing ? 100.0 * device / (total - nothing) : 100.0, host,
                        nothing);
}

/* Where the table of lowerings sends an operator, whatever its shapes and types. */
static const char *place_of(kop_op canonical)
{
    return canonical == KOP_NONE ? "import" : kcc_row_of(canonical) ? "device" : "host";
}

/* Of a model that cannot be imported: what the tables alone say. */
static void print_known(const checking *k, kaena_strbuf *out)
{
    uint32_t total = 0, unknown = 0;
    const char *name;
    kop_op canonical;
    const char **place = KAENA_NEW_N(k->c->arena, const char *, k->census.n);
    for (uint32_t i = 0; k->c->framework->operator_at(i, &name, &canonical); i++) {
        const kcc_census_row *row = kcc_census_find(&k->census, name);
        if (row)
            place[row - k->census.row] = place_of(canonical);
    }
    kaena_strbuf_printf(out, "%-28s %8s  %s\n", "Operator", "Count", "Runs on");
    for (uint32_t i = 0; i < k->census.n; i++) {
        const kcc_census_row *row = &k->census.row[i];
        kaena_strbuf_printf(out, "%-28s %8u  %s\n", row->op, row->count,
                            !row->known ? "NOT SUPPORTED"
                            : place[i]  ? place[i]
                                        : "import");
        total += row->count;
        unknown += row->known ? 0 : row->count;
    }
    kaena_strbuf_printf(out, "%u of %u operators (%.1f %%) are not supported\n", unknown, total,
                        total ? 100.0 * unknown / total : 0.0);
}

kaena_status kcc_check(kcc_compilation *c, kaena_strbuf *out, kaena_err *err)
{
    checking k = {.c = c, .census = {.arena = c->arena}};
    KAENA_TRY(c->framework->census(c, &k.census, err));
    kaena_status status = kcc_compile(c, "fold", err);
    if (status != KAENA_OK) {
        print_known(&k, out);
        return status;
    }
    KAENA_TRY(name_nodes(&k, err));
    place_nodes(&k);
    print_table(&k, out);
    return KAENA_OK;
}

void kcc_list_operators(const kcc_framework *framework, kaena_strbuf *out)
{
    const char *name;
    kop_op canonical;
    for (uint32_t i = 0; framework->operator_at(i, &name, &canonical); i++)
        kaena_strbuf_printf(out, "%-28s %s\n", name, place_of(canonical));
}
