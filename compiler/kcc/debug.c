/* The DEBUG section: text, a line per run of instructions and per tensor. */
#include <inttypes.h>

#include "compile.h"

static void layers(const kcc_module *m, uint32_t step, kaena_strbuf *out)
{
    for (uint32_t i = 0; i < m->n_layers; i++) {
        const kcc_layer *l = &m->layer[i];
        kaena_strbuf_printf(out, "code step=%u tpb=%u first=%u end=%u operator=%s layer=%s\n", step,
                            l->tpb, l->first, l->end, l->node->origin, l->node->name);
    }
}

static void tensors(const kcc_module *m, uint32_t step, kaena_strbuf *out)
{
    for (uint32_t i = 0; i < m->n_nodes; i++)
        for (uint32_t k = 0; k < m->node[i]->n_out; k++) {
            const kgr_value *v = m->node[i]->out[k];
            const kcc_view *view = kcc_view_of(m, v);
            char shape[KAENA_SHAPE_TEXT];
            kaena_strbuf_printf(
                out, "tensor step=%u space=%s offset=%" PRIu64 " dtype=%s shape=%s strides=", step,
                kisa_space_name((kisa_space)view->buf->space),
                view->buf->offset + (uint64_t)view->offset, kaena_dtype_name(view->dtype),
                kaena_shape_print(&view->shape, shape, sizeof shape));
            for (int32_t d = 0; d < view->shape.rank; d++)
                kaena_strbuf_printf(out, "%s%" PRId64, d ? "," : "", view->stride[d]);
            kaena_strbuf_printf(out, " name=%s\n", v->name);
        }
}

void kcc_debug_text(const kcc_compilation *c, kaena_strbuf *out)
{
    uint32_t step = 0; /* device steps in the order of their programs */
    for (const kcc_unit *u = c->units; u; u = u->next)
        for (uint32_t i = 0; i < u->plan.n_steps; i++)
            if (u->module[i]) {
                layers(u->module[i], step, out);
                tensors(u->module[i], step++, out);
            }
}
