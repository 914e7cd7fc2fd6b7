#include "mx_import.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "mx_internal.h"

#define MAX_LISTED 8 /* unsupported operators, or names to choose from, in one message */

/* --- Operators we do not have ---------------------------------------------------------------- */

static kaena_status refuse(const mx_import *imp, const uint32_t *order, uint32_t n, uint32_t first)
{
    const mx_node *nodes = imp->symbol->nodes;
    const char *listed[MAX_LISTED] = {nodes[first].op};
    uint32_t n_listed = 1, n_nodes = 0;
    for (uint32_t i = 0; i < n; i++) {
        const mx_node *node = &nodes[order[i]];
        if (mx_is_variable(node) || mx_row_find(node->op))
            continue;
        bool seen = false;
        for (uint32_t k = 0; k < n_listed && !seen; k++)
            seen = strcmp(listed[k], node->op) == 0;
        if (!seen && n_listed < MAX_LISTED)
            listed[n_listed++] = node->op;
        n_nodes++;
    }
    kaena_strbuf others = {0};
    for (uint32_t k = 1; k < n_listed; k++)
        kaena_strbuf_printf(&others, "%s%s", k > 1 ? ", " : "; also unsupported: ", listed[k]);
    (void)KAENA_FAIL(imp->err, UNIMPLEMENTED,
                     "node '%s': operator %s is not supported (%u %s in all)%s", nodes[first].name,
                     nodes[first].op, n_nodes, n_nodes == 1 ? "node" : "nodes",
                     others.data ? others.data : "");
    kaena_strbuf_fini(&others);
    kaena_err_hint(imp->err, "'kcc list-operators --framework MXNET' shows the supported ones; "
                             "select outputs before this node with --io-config");
    return KAENA_UNIMPLEMENTED;
}

static kaena_status check_operators(const mx_import *imp, const uint32_t *order, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const mx_node *node = &imp->symbol->nodes[order[i]];
        if (!mx_is_variable(node) && !mx_row_find(node->op))
            return refuse(imp, order, n, order[i]);
    }
    return KAENA_OK;
}

/* --- Nodes ----------------------------------------------------------------------------------- */

static kaena_status need_shape(const mx_import *imp, const mx_value *m)
{
    if (m->variable == MX_NO_NODE)
        return KAENA_FAIL(imp->err, UNIMPLEMENTED, "zeros of a shape that nothing says");
    const char *name = imp->symbol->nodes[m->variable].name;
    (void)KAENA_FAIL(imp->err, FAILED_PRECONDITION, "the shape of input '%s' is not known", name);
    kaena_err_hint(imp->err,
                   "say it: --io-config '{\"inputs\":{\"%s\":[[1,3,224,224],\"float32\"]}}', or "
                   "--input_shapes of kaena_mx_compile",
                   name);
    return KAENA_FAILED_PRECONDITION;
}

/* Zeros with an open first dimension, an initial state, are as many as the batch. */
static kaena_status resolve_batch(mx_import *imp, mx_value *m)
{
    kaena_shape s = m->hint;
    if (!m->is_fill || !m->has_hint || imp->batch == 0)
        return need_shape(imp, m);
    for (int32_t i = 0; i < s.rank; i++) {
        if (s.dim[i] != 0)
            continue;
        if (i > 0 && m->hint.dim[i - 1] == 0)
            return need_shape(imp, m);
        s.dim[i] = imp->batch;
    }
    return mx_resolve(imp, m, &s);
}

static kaena_status bind_operand(mx_xlat *x, uint32_t i)
{
    mx_import *imp = x->imp;
    mx_entry e = x->node->in[i];
    char slot[32], kind;
    if (!mx_row_slot(x->row, i, slot, sizeof slot, &kind))
        return KAENA_FAIL(imp->err, INVALID_ARGUMENT, "%u inputs; the operator has fewer",
                          x->node->n_in);
    if (e.index >= imp->n_values[e.node])
        return KAENA_FAIL(imp->err, UNIMPLEMENTED, "output %u of node '%s' (%s) is not supported",
                          e.index, imp->symbol->nodes[e.node].name, imp->symbol->nodes[e.node].op);
    mx_value *m = &imp->values[e.node][e.index];
    if (!m->v && m->variable != MX_NO_NODE && kind != '-' &&
        !(kind == '*' && mx_is_missing(imp, m->variable)))
        KAENA_TRY(mx_variable(imp, m->variable, m));
    if (kind == ' ' && !m->v)
        KAENA_TRY(resolve_batch(imp, m));
    x->in[i] = m;
    return KAENA_OK;
}

static kaena_status translate(mx_xlat *x)
{
    if (x->node->n_in > MX_MAX_INPUTS)
        return KAENA_FAIL(x->imp->err, UNIMPLEMENTED, "%u inputs; at most %d are supported",
                          x->node->n_in, MX_MAX_INPUTS);
    for (uint32_t i = 0; i < x->node->n_in; i++)
        KAENA_TRY(bind_operand(x, i));
    x->n_in = x->node->n_in;
    KAENA_TRY(x->row->translate(x));
    return x->status;
}

static kaena_status import_node(mx_import *imp, uint32_t at)
{
    const mx_node *node = &imp->symbol->nodes[at];
    mx_xlat x = {.imp = imp,
                 .node = node,
                 .row = mx_row_find(node->op),
                 .n_out = 1,
                 .nothing = {.name = "", .t = {.dtype = KAENA_F32}}};
    for (uint32_t i = 0; i < MX_MAX_OUTPUTS; i++)
        x.out[i].variable = MX_NO_NODE;
    KAENA_TRY_WRAP(imp->err, translate(&x), "node '%s' (%s)", node->name, node->op);
    imp->values[at] = kaena_arena_memdup(imp->arena, x.out, x.n_out * sizeof *x.out);
    imp->n_values[at] = x.n_out;
    return imp->values[at] ? KAENA_OK : mx_no_memory(imp);
}

static kaena_status import_variable(mx_import *imp, uint32_t at)
{
    imp->values[at] = KAENA_NEW(imp->arena, mx_value);
    if (!imp->values[at])
        return mx_no_memory(imp);
    imp->values[at]->variable = at;
    imp->n_values[at] = 1;
    return KAENA_OK;
}

/* --- Outputs --------------------------------------------------------------------------------- */

static kaena_status name_nodes(const mx_import *imp, kcc_name_table *names)
{
    for (uint32_t i = 0; i < imp->symbol->n_nodes; i++)
        if (kcc_name_add(names, imp->symbol->nodes[i].name, i) == KCC_NAME_NO_MEMORY)
            return mx_no_memory(imp);
    return KAENA_OK;
}

static bool is_decimal(const char *s, uint32_t *out)
{
    if (strlen(s) == 0 || strlen(s) > 4 || strspn(s, "0123456789") != strlen(s))
        return false;
    *out = (uint32_t)atoi(s);
    return true;
}

/* "conv1_output" -> output 0 of node conv1; "bn_mean" -> output 1 of node bn. */
static bool find_output(const mx_import *imp, const kcc_name_table *names, const char *name,
                        mx_entry *out)
{
    const char *bar = strrchr(name, '_');
    char *stem = bar ? kaena_arena_printf(imp->arena, "%.*s", (int)(bar - name), name) : NULL;
    const mx_row *row;
    *out = (mx_entry){0};
    if (!stem || !kcc_name_find(names, stem, &out->node) ||
        !(row = mx_row_find(imp->symbol->nodes[out->node].op)))
        return false;
    const char *list = row->outputs;
    for (uint32_t i = 0; *list; i++) {
        size_t n = strcspn(list, ",");
        if (strlen(bar + 1) == n && strncmp(bar + 1, list, n) == 0) {
            out->index = i;
            return true;
        }
        list += n + (list[n] == ',');
    }
    return strcmp(bar + 1, "output") == 0 ||
           (strncmp(bar + 1, "output", 6) == 0 && is_decimal(bar + 7, &out->index));
}

static kaena_status choose_heads(const mx_import *imp, const mx_entry **heads, uint32_t *n)
{
    *heads = imp->symbol->heads;
    *n = imp->symbol->n_heads;
    if (imp->io->n_outputs == 0)
        return KAENA_OK;
    kcc_name_table names = {.arena = imp->arena};
    KAENA_TRY(name_nodes(imp, &names));
    *n = imp->io->n_outputs;
    mx_entry *list = KAENA_NEW_N(imp->arena, mx_entry, *n);
    if (!list)
        return mx_no_memory(imp);
    for (uint32_t i = 0; i < *n; i++) {
        if (find_output(imp, &names, imp->io->outputs[i], &list[i]))
            continue;
        (void)KAENA_FAIL(imp->err, INVALID_ARGUMENT, "there is no output '%s'",
                         imp->io->outputs[i]);
        kaena_err_hint(imp->err, "outputs are called as MXNet lists them: 'conv1_output' is what "
                                 "node 'conv1' makes");
        return KAENA_INVALID_ARGUMENT;
    }
    *heads = list;
    return KAENA_OK;
}

/* Every input that |io| speaks of is a variable of the symbol. */
static kaena_status check_inputs(const mx_import *imp)
{
    kcc_name_table names = {.arena = imp->arena};
    uint32_t at;
    if (imp->io->n_inputs == 0)
        return KAENA_OK;
    KAENA_TRY(name_nodes(imp, &names));
    for (uint32_t i = 0; i < imp->io->n_inputs; i++) {
        const char *name = imp->io->inputs[i].name;
        if (kcc_name_find(&names, name, &at) && mx_is_variable(&imp->symbol->nodes[at]))
            continue;
        kaena_strbuf known = {0};
        uint32_t n = 0;
        for (uint32_t k = 0; k < imp->symbol->n_nodes && n < MAX_LISTED; k++) {
            const mx_node *node = &imp->symbol->nodes[k];
            if (mx_is_variable(node) && !(imp->params && mx_params_find(imp->params, node->name)))
                kaena_strbuf_printf(&known, "%s'%s'", n++ ? ", " : "", node->name);
        }
        (void)KAENA_FAIL(imp->err, INVALID_ARGUMENT, "the symbol has no input '%s'", name);
        kaena_err_hint(imp->err, "its inputs are %s", known.data ? known.data : "none");
        kaena_strbuf_fini(&known);
        return KAENA_INVALID_ARGUMENT;
    }
    return KAENA_OK;
}

static kaena_status add_output(mx_import *imp, mx_entry e)
{
    const mx_node *node = &imp->symbol->nodes[e.node];
    if (e.index >= imp->n_values[e.node])
        return KAENA_FAIL(imp->err, UNIMPLEMENTED, "output %u of node '%s' (%s) is not supported",
                          e.index, node->name, node->op);
    mx_value *m = &imp->values[e.node][e.index];
    bool variable = mx_is_variable(node);
    if (!m->v && variable)
        KAENA_TRY(mx_variable(imp, e.node, m));
    if (!m->v)
        KAENA_TRY(resolve_batch(imp, m));
    const char *name =
        variable ? node->name
                 : mx_output_name(imp, node, mx_row_find(node->op), imp->n_values[e.node], e.index);
    kgr_value *v = m->v;
    if (!name)
        return mx_no_memory(imp);
    if (!v->producer || v->is_output || strcmp(v->name, name) != 0) {
        kgr_node *n = kgr_node_add(imp->g, NULL, KOP_Identity, NULL, variable ? NULL : node->op, &v,
                                   1, &name, 1);
        if (!n)
            return mx_no_memory(imp);
        KAENA_TRY(kgr_infer_node(n, imp->err));
        v = n->out[0];
        if (strcmp(v->name, name) != 0)
            v->output_name = name;
    }
    return kgr_output_add(imp->g, v) ? KAENA_OK : mx_no_memory(imp);
}

/* Inputs in the order of the symbol, whatever used them first. */
static kaena_status add_inputs(mx_import *imp)
{
    for (uint32_t i = 0; i < imp->symbol->n_nodes; i++) {
        if (!mx_is_variable(&imp->symbol->nodes[i]) || !imp->values[i])
            continue;
        kgr_value *v = imp->values[i]->v;
        if (v && !kgr_is_const(v) && !kgr_input_add(imp->g, v))
            return mx_no_memory(imp);
    }
    return KAENA_OK;
}

/* --- The whole ------------------------------------------------------------------------------- */

/* Inputs are of the type that most of the parameters have. */
static kaena_dtype float_type(const mx_params *p)
{
    uint64_t half = 0, single = 0;
    for (uint32_t i = 0; p && i < p->n; i++) {
        half += p->list[i].dtype == KAENA_F16 ? p->list[i].bytes / 2 : 0;
        single += p->list[i].dtype == KAENA_F32 ? p->list[i].bytes / 4 : 0;
    }
    return half > single ? KAENA_F16 : KAENA_F32;
}

static kaena_status import_graph(mx_import *imp)
{
    const mx_entry *heads;
    uint32_t n_heads, *order, n;
    imp->values = KAENA_NEW_N(imp->arena, mx_value *, imp->symbol->n_nodes);
    imp->n_values = KAENA_NEW_N(imp->arena, uint32_t, imp->symbol->n_nodes);
    imp->g = kgr_graph_create(imp->arena, "mxnet");
    if (!imp->values || !imp->n_values || !imp->g)
        return mx_no_memory(imp);
    KAENA_TRY(check_inputs(imp));
    KAENA_TRY(choose_heads(imp, &heads, &n_heads));
    KAENA_TRY(mx_symbol_order(imp->arena, imp->symbol, heads, n_heads, &order, &n, imp->err));
    KAENA_TRY(check_operators(imp, order, n));
    for (uint32_t i = 0; i < n; i++)
        KAENA_TRY((mx_is_variable(&imp->symbol->nodes[order[i]]) ? import_variable
                                                                 : import_node)(imp, order[i]));
    for (uint32_t i = 0; i < n_heads; i++)
        KAENA_TRY(add_output(imp, heads[i]));
    return add_inputs(imp);
}

static kaena_status import_parsed(kaena_arena *arena, const mx_symbol *symbol,
                                  const mx_params *params, const kcc_io_config *io, kgr_graph **out,
                                  kcc_import_info *info, kaena_err *err)
{
    static const kcc_io_config nothing_said;
    mx_import imp = {.arena = arena,
                     .symbol = symbol,
                     .params = params,
                     .io = io ? io : &nothing_said,
                     .err = err,
                     .float_type = float_type(params)};
    KAENA_TRY(import_graph(&imp));
    int64_t v = symbol->version;
    const char *producer = kaena_arena_printf(arena, "MXNet %" PRId64 ".%" PRId64 ".%" PRId64,
                                              v / 10000, v / 100 % 100, v % 100);
    if (!producer)
        return mx_no_memory(&imp);
    *info = (kcc_import_info){
        .framework = "MXNET", .model_name = "", .producer = producer, .n_nodes = symbol->n_nodes};
    *out = imp.g;
    return KAENA_OK;
}

kaena_status kcc_import_mx_bytes(kaena_arena *arena, const void *symbol, size_t symbol_size,
                                 const void *params, size_t params_size, const kcc_io_config *io,
                                 kgr_graph **out, kcc_import_info *info, kaena_err *err)
{
    mx_symbol s;
    mx_params p;
    KAENA_TRY(mx_symbol_parse(arena, symbol, symbol_size, &s, err));
    if (params)
        KAENA_TRY_WRAP(err, mx_params_parse(arena, params, params_size, &p, err), "parameters");
    return import_parsed(arena, &s, params ? &p : NULL, io, out, info, err);
}

/* --- Files ----------------------------------------------------------------------------------- */

#define SYMBOL_END "-symbol.json"
#define PARAMS_END ".params"

/* "dir/resnet" and "dir/resnet-symbol.json" are the same model. */
static int stem_length(const char *prefix)
{
    size_t n = strlen(prefix), m = strlen(SYMBOL_END);
    bool whole = n > m && strcmp(prefix + n - m, SYMBOL_END) == 0;
    return (int)(whole ? n - m : n);
}

int64_t kcc_mx_epoch_of(const char *file, const char *base, size_t n_base)
{
    if (strncmp(file, base, n_base) != 0 || file[n_base] != '-')
        return -1;
    const char *digits = file + n_base + 1;
    size_t n = strspn(digits, "0123456789");
    if (n < 4 || n > 9 || strcmp(digits + n, PARAMS_END) != 0)
        return -1;
    return atoll(digits);
}

kaena_status kcc_mx_params_path(kaena_arena *arena, const char *prefix, int64_t epoch,
                                const char **out, kaena_err *err)
{
    prefix = kaena_path_of_uri(prefix);
    int n = stem_length(prefix);
    const char *slash = memrchr(prefix, '/', (size_t)n);
    const char *base = slash ? slash + 1 : prefix;
    size_t n_base = (size_t)(prefix + n - base);
    const char *dir = slash ? kaena_arena_printf(arena, "%.*s", (int)(base - prefix), prefix) : ".";
    DIR *d = epoch < 0 && dir ? opendir(dir) : NULL;
    if (epoch < 0 && dir && !d)
        return KAENA_FAIL(err, NOT_FOUND, "'%s': %s", dir, strerror(errno));
    for (const struct dirent *e; d && (e = readdir(d));) {
        int64_t at = kcc_mx_epoch_of(e->d_name, base, n_base);
        epoch = at > epoch ? at : epoch;
    }
    if (d)
        closedir(d);
    if (epoch < 0) {
        (void)KAENA_FAIL(err, NOT_FOUND, "there are no parameters '%.*s-NNNN.params'", n, prefix);
        kaena_err_hint(err, "name the file with --params, or say --params none to make every "
                            "parameter an input");
        return KAENA_NOT_FOUND;
    }
    *out = kaena_arena_printf(arena, "%.*s-%04" PRId64 ".params", n, prefix, epoch);
    return *out && dir ? KAENA_OK : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
}

static kaena_status read_symbol(kaena_arena *arena, const char *prefix, mx_symbol *out,
                                kaena_err *err)
{
    kaena_file file;
    prefix = kaena_path_of_uri(prefix);
    const char *path = kaena_arena_printf(arena, "%.*s" SYMBOL_END, stem_length(prefix), prefix);
    if (!path)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
    KAENA_TRY(kaena_file_open(path, &file, err));
    kaena_status s = mx_symbol_parse(arena, (const char *)file.data, file.size, out, err);
    kaena_file_close(&file);
    return s == KAENA_OK ? s : kaena_err_wrap(err, s, "'%s'", path);
}

kaena_status kcc_mx_census(const char *prefix, kcc_census *out, kaena_err *err)
{
    mx_symbol s;
    KAENA_TRY(read_symbol(out->arena, prefix, &s, err));
    for (uint32_t i = 0; i < s.n_nodes; i++) {
        const char *op = s.nodes[i].op;
        if (!mx_is_variable(&s.nodes[i]))
            KAENA_TRY(kcc_census_add(out, op, mx_row_find(op) != NULL, err));
    }
    return KAENA_OK;
}

kaena_status kcc_import_mx(kaena_arena *arena, const char *prefix, const char *params,
                           const kcc_io_config *io, kgr_graph **out, kcc_import_info *info,
                           kaena_err *err)
{
    mx_symbol symbol;
    mx_params p;
    kaena_file file;
    KAENA_TRY(read_symbol(arena, prefix, &symbol, err));
    if (params && strcmp(params, KCC_MX_NO_PARAMS) == 0)
        return import_parsed(arena, &symbol, NULL, io, out, info, err);
    if (!params)
        KAENA_TRY(kcc_mx_params_path(arena, prefix, -1, &params, err));
    params = kaena_path_of_uri(params);
    KAENA_TRY(kaena_file_open(params, &file, err));
    kaena_status s = mx_params_parse(arena, file.data, file.size, &p, err);
    if (s == KAENA_OK && !p.named)
        s = KAENA_FAIL(err, INVALID_ARGUMENT, "its arrays have no names");
    if (s == KAENA_OK)
        s = import_parsed(arena, &symbol, &p, io, out, info, err);
    else
        (void)kaena_err_wrap(err, s, "'%s'", params);
    kaena_file_close(&file);
    return s;
}
