/* The module: creation, and the emission of every node into the programs. */
#include <string.h>

#include "cost.h"
#include "lower.h"

kcc_module *kcc_module_create(kaena_arena *arena, const kcc_options *opt, kgr_graph *g,
                              kgr_node *const *nodes, uint32_t n_nodes, kgr_value *const *inputs,
                              uint32_t n_inputs, kgr_value *const *outputs, uint32_t n_outputs,
                              kcc_weights *weights)
{
    kcc_module *m = KAENA_NEW(arena, kcc_module);
    *m = (kcc_module){.arena = arena,
                      .weights_arena = arena,
                      .opt = opt,
                      .graph = g,
                      .n_tpbs = opt->num_tpbs,
                      .n_nodes = n_nodes,
                      .cap_nodes = n_nodes * 2 + 16,
                      .n_io = n_inputs + n_outputs,
                      .weights = weights};
    m->node = KAENA_NEW_N(arena, kgr_node *, m->cap_nodes);
    if (n_nodes)
        memcpy(m->node, nodes, n_nodes * sizeof *nodes);
    m->io = KAENA_NEW_N(arena, kgr_value *, m->n_io);
    m->io_written = KAENA_NEW_N(arena, bool, m->n_io);
    for (uint32_t i = 0; i < m->n_io; i++) {
        m->io[i] = i < n_inputs ? inputs[i] : outputs[i - n_inputs];
        m->io_written[i] = i >= n_inputs;
    }
    m->code = KAENA_NEW_N(arena, kcc_code, m->n_tpbs);
    return m;
}

static void add_layer(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t first,
                      uint64_t weight_bytes)
{
    if (m->n_layers == m->cap_layers) {
        uint32_t capacity = m->cap_layers ? m->cap_layers * 2 : 128;
        kcc_layer *grown = KAENA_NEW_N(m->arena, kcc_layer, capacity);
        if (m->n_layers)
            memcpy(grown, m->layer, m->n_layers * sizeof *grown);
        m->layer = grown;
        m->cap_layers = capacity;
    }
    m->layer[m->n_layers++] =
        (kcc_layer){n, tpb, first, m->code[tpb].n, 1, kcc_node_flops(n), weight_bytes};
}

static kaena_status emit_node(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                              uint32_t parts, kaena_err *err)
{
    uint32_t first = m->code[tpb].n, pieces;
    uint64_t before, after;
    (void)kcc_weights_pieces(m->weights, &pieces, &before);
    KAENA_TRY_WRAP(err, kcc_row_of(n->op)->emit(m, n, tpb, part, parts, err), "%s '%s'",
                   kop_row_of(n->op)->name, n->name);
    (void)kcc_weights_pieces(m->weights, &pieces, &after);
    if (m->code[tpb].n > first)
        add_layer(m, n, tpb, first, after - before);
    return KAENA_OK;
}

static uint64_t all_tpbs(uint32_t n)
{
    return n == 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1;
}

/* Every TPB tells every other that it has come here, and waits for all: semaphore 0 counts
 * arrivals. */
static void emit_barrier(kcc_module *m, uint32_t nth)
{
    for (uint32_t t = 0; t < m->n_tpbs; t++) {
        kisa_signal *s = &kcc_inst(m, t, KISA_SIGNAL)->u.signal;
        s->mask = all_tpbs(m->n_tpbs);
        s->amount = 1;
        kcc_inst(m, t, KISA_WAIT)->u.wait.value = nth * m->n_tpbs;
    }
}

/* The view of one item: of TPB |tpb|'s first, and where the loop's turns lead from there. What is
 * the same for all matrices stays as it is. */
static kcc_view item_view(const kcc_module *m, const kcc_section *s, const kcc_view *whole,
                          uint32_t tpb)
{
    kcc_view item = *whole;
    if (s->axis == 1 && (whole->shape.rank != 4 || whole->shape.dim[1] == 1))
        return item;
    item.shape.dim[s->axis] = 1;
    if (whole->buf->section) {
        item.offset += (int64_t)(tpb * s->frame_bytes);
        return item;
    }
    item.offset += s->items / m->n_tpbs * tpb * whole->stride[s->axis];
    item.per_turn = whole->stride[s->axis];
    return item;
}

/* Gives every value that the section touches its view for TPB |tpb|, or, where it has one, back
 * that of all items: |whole|, of inputs and outputs, node by node. */
static void set_views(kcc_module *m, const kcc_section *s, const kcc_view *whole, uint32_t tpb,
                      bool items)
{
    uint32_t at = 0;
    for (uint32_t i = s->first; i < s->end; i++) {
        const kgr_node *n = m->node[i];
        for (uint32_t k = 0; k < n->n_in + n->n_out; k++, at++) {
            const kgr_value *v = k < n->n_in ? n->in[k] : n->out[k - n->n_in];
            if (!v || !whole[at].buf || whole[at].buf->space == KISA_WEIGHTS || kcc_is_silent(s, n))
                continue;
            bool one = items || whole[at].buf->section;
            kcc_view view = one ? item_view(m, s, &whole[at], tpb) : whole[at];
            whole[at].buf->halo_done = false;
            kcc_view_set(m, v, &view);
        }
    }
}

static kaena_status emit_section(kcc_module *m, const kcc_section *s, kaena_err *err)
{
    uint32_t n_views = 0;
    for (uint32_t i = s->first; i < s->end; i++)
        n_views += m->node[i]->n_in + m->node[i]->n_out;
    kcc_view *whole = KAENA_NEW_N(m->arena, kcc_view, n_views), *next = whole;
    for (uint32_t i = s->first; i < s->end; i++) {
        const kgr_node *n = m->node[i];
        for (uint32_t k = 0; k < n->n_in + n->n_out; k++, next++) {
            const kgr_value *v = k < n->n_in ? n->in[k] : n->out[k - n->n_in];
            if (v)
                *next = *kcc_view_of(m, v);
        }
    }
    for (uint32_t t = 0; t < m->n_tpbs; t++) {
        const uint32_t turns = (uint32_t)(s->items / m->n_tpbs), first = m->n_layers;
        set_views(m, s, whole, t, true);
        kcc_loop(m, t, turns);
        for (uint32_t i = s->first; i < s->end; i++)
            if (!kcc_is_silent(s, m->node[i]))
                KAENA_TRY(emit_node(m, m->node[i], t, 0, 1, err));
        kcc_end(m, t);
        for (uint32_t k = first; k < m->n_layers; k++)
            m->layer[k].turns = turns;
    }
    set_views(m, s, whole, 0, false);
    return KAENA_OK;
}

static kaena_status emit_sharded(kcc_module *m, kaena_err *err)
{
    uint32_t barriers = 0;
    const kcc_section *s = m->sections;
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        if (m->n_tpbs > 1 && i > 0 && m->time[i] != m->time[i - 1])
            emit_barrier(m, ++barriers);
        if (s && i == s->first) {
            KAENA_TRY(emit_section(m, s, err));
            i = s->end - 1;
            s = s->next;
            continue;
        }
        for (uint32_t t = 0; t < m->n_tpbs; t++)
            KAENA_TRY(emit_node(m, m->node[i], t, t, m->n_tpbs, err));
    }
    return KAENA_OK;
}

/* A stage waits for the one before, works, and tells the next. */
static kaena_status emit_pipeline(kcc_module *m, kaena_err *err)
{
    for (uint32_t t = 0; t < m->n_tpbs; t++) {
        if (t > 0)
            kcc_inst(m, t, KISA_WAIT)->u.wait.value = 1;
        for (uint32_t i = 0; i < m->n_nodes; i++)
            if (m->stage[i] == (int32_t)t)
                KAENA_TRY(emit_node(m, m->node[i], t, 0, 1, err));
        if (t + 1 < m->n_tpbs) {
            kisa_signal *s = &kcc_inst(m, t, KISA_SIGNAL)->u.signal;
            s->mask = UINT64_C(1) << (t + 1);
            s->amount = 1;
        }
    }
    return KAENA_OK;
}

kaena_status kcc_emit(kcc_module *m, kaena_err *err)
{
    bool pipeline = m->n_nodes && m->stage[0] >= 0;
    KAENA_TRY(pipeline ? emit_pipeline(m, err) : emit_sharded(m, err));
    for (uint32_t t = 0; t < m->n_tpbs; t++)
        kcc_inst(m, t, KISA_HALT);
    return KAENA_OK;
}
