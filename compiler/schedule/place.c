/* Placement: stages of a pipeline, or times between barriers. */
#include <string.h>

#include "cost.h"
#include "schedule.h"

/* Cost of a node on one TPB in cycles, roughly: the PE array's or the slower engines' arithmetic,
 * and the bytes it moves. */
static double node_cost(const kgr_node *n)
{
    bool pe = n->op == KOP_Conv || n->op == KOP_Gemm || n->op == KOP_MatMul;
    double bytes = 0;
    for (uint32_t i = 0; i < n->n_in; i++)
        if (n->in[i])
            bytes +=
                (double)kop_elements(&n->in[i]->t) * (double)kaena_dtype_size(n->in[i]->t.dtype);
    bool depthwise =
        n->op == KOP_Conv && n->in[1]->t.shape.dim[1] == 1 && n->in[0]->t.shape.dim[1] > 1;
    return kcc_node_flops(n) / (pe && !depthwise ? 2.0 * 128 * 64 : 256.0) + bytes / 50 + 64;
}

/* Runs needed when none may cost more than |most|. */
static uint32_t runs_at(const double *cost, uint32_t n, double most)
{
    uint32_t runs = 1;
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (sum > 0 && sum + cost[i] > most) {
            runs++;
            sum = 0;
        }
        sum += cost[i];
    }
    return runs;
}

#define CUT_STEPS 60 /* of bisection */

void kcc_cut_evenly(const double *cost, uint32_t n, uint32_t parts, int32_t *part)
{
    double lo = 0, hi = 0;
    for (uint32_t i = 0; i < n; i++) {
        lo = cost[i] > lo ? cost[i] : lo;
        hi += cost[i];
    }
    for (int step = 0; step < CUT_STEPS; step++) {
        double mid = (lo + hi) / 2;
        if (runs_at(cost, n, mid) <= parts)
            hi = mid;
        else
            lo = mid;
    }
    int32_t run = 0;
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (sum > 0 && sum + cost[i] > hi && run + 1 < (int32_t)parts) {
            run++;
            sum = 0;
        }
        sum += cost[i];
        part[i] = run;
    }
}

/* The node reads what was written in time |now|. */
static bool reads_now(const kcc_module *m, const kgr_node *n, const uint32_t *written, uint32_t now)
{
    for (uint32_t k = 0; k < n->n_in; k++) {
        const kcc_buffer *b = n->in[k] ? kcc_view_of(m, n->in[k])->buf : NULL;
        if (b && b->space != KISA_WEIGHTS && written[b->id] == now)
            return true;
    }
    return false;
}

/* A new time begins where a node reads what was written in the current one; a section is one time.
 */
static void find_times(kcc_module *m)
{
    uint32_t now = 0, *written = KAENA_NEW_N(m->arena, uint32_t, m->n_buffers);
    const kcc_section *s = m->sections;
    memset(written, 0xff, m->n_buffers * sizeof *written);
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        const kgr_node *n = m->node[i];
        bool border = s && (i == s->first || i == s->end);
        s = s && i == s->end ? s->next : s;
        border = border || (s && i == s->first);
        bool inside = s && i >= s->first;
        if (i > 0 && (border || (!inside && reads_now(m, n, written, now))))
            now++;
        for (uint32_t k = 0; k < n->n_out; k++)
            written[kcc_view_of(m, n->out[k])->buf->id] = now;
        m->time[i] = now;
    }
}

kaena_status kcc_place(kcc_module *m, kaena_err *err)
{
    (void)err;
    m->stage = KAENA_NEW_N(m->arena, int32_t, m->n_nodes);
    m->time = KAENA_NEW_N(m->arena, uint32_t, m->n_nodes);
    bool pipeline = m->opt->optimize == KCC_OPTIMIZE_THROUGHPUT && m->n_tpbs > 1;
    if (!pipeline) {
        for (uint32_t i = 0; i < m->n_nodes; i++)
            m->stage[i] = -1;
        kcc_find_sections(m);
        if (m->n_tpbs > 1) {
            find_times(m);
            return KAENA_OK;
        }
    } else {
        double *cost = KAENA_NEW_N(m->arena, double, m->n_nodes);
        for (uint32_t i = 0; i < m->n_nodes; i++)
            cost[i] = node_cost(m->node[i]);
        kcc_cut_evenly(cost, m->n_nodes, m->n_tpbs, m->stage);
    }
    for (uint32_t i = 0; i < m->n_nodes; i++)
        m->time[i] = i;
    return KAENA_OK;
}
