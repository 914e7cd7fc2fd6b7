/* Explicit groups of TPBs. */
#include <stdlib.h>
#include <string.h>

#include "dev_internal.h"

static void mark(dev_system *sys, uint64_t tpbs, bool grouped)
{
    for (uint32_t c = 0; c < sys->config.n_chips; c++)
        for (uint32_t t = 0; t < DEV_TPBS_PER_CHIP; t++)
            if (tpbs & PLACE_BIT(c, t))
                sys->chips[c].tpb[t].grouped = grouped;
}

kaena_status dev_group_create(dev_system *sys, const char *name, uint32_t n, uint32_t chips,
                              dev_group **out, kaena_err *err)
{
    if (n < 1 || n > KISA_MAX_TPBS)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "group '%s': %u TPBs, not 1 to %d", name, n,
                          KISA_MAX_TPBS);
    if (chips >> sys->config.n_chips)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "group '%s': there are %u chips", name,
                          sys->config.n_chips);
    dev_group *g = calloc(1, sizeof *g);
    if (g)
        g->name = strdup(name);
    if (!g || !g->name) {
        free(g);
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "group '%s': no memory", name);
    }
    g->sys = sys;
    (void)pthread_mutex_lock(&sys->lock);
    kaena_status status = place_group_on(sys->chips, sys->config.n_chips, name, n,
                                         chips ? chips : UINT32_MAX, &g->tpbs, err);
    if (status == KAENA_OK)
        mark(sys, g->tpbs, true);
    (void)pthread_mutex_unlock(&sys->lock);
    if (status != KAENA_OK) {
        free(g->name);
        free(g);
        return status;
    }
    for (uint32_t k = 0; k < DEV_MAX_CHIPS * DEV_TPBS_PER_CHIP; k++)
        if (g->tpbs >> k & 1)
            g->place[g->n++] = (dev_place){.chip = (uint16_t)(k / DEV_TPBS_PER_CHIP),
                                           .tpb = (uint16_t)(k % DEV_TPBS_PER_CHIP)};
    *out = g;
    return KAENA_OK;
}

dev_group *dev_group_destroy(dev_group *g)
{
    if (!g)
        return NULL;
    (void)pthread_mutex_lock(&g->sys->lock);
    mark(g->sys, g->tpbs, false);
    (void)pthread_mutex_unlock(&g->sys->lock);
    free(g->name);
    free(g);
    return NULL;
}

const dev_place *dev_group_places(const dev_group *g, uint32_t *n)
{
    *n = g->n;
    return g->place;
}
