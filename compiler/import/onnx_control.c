/* If, Loop, Scan and SequenceMap. */
#include <string.h>

#include "onnx_internal.h"

/* Subgraphs of one node and what they capture. */
typedef struct bodies {
    kgr_graph *body[2];
    uint32_t n_body;
    kgr_value **value; /* [captures->n] outside */
} bodies;

bool onnx_has_bodies(const char *op)
{
    static const char *const ops[] = {"If", "Loop", "Scan", "SequenceMap"};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (strcmp(op, ops[i]) == 0)
            return true;
    return false;
}

static kaena_status find_captures(onnx_xlat *x, bodies *b)
{
    b->value = KAENA_NEW_N(x->imp->arena, kgr_value *, x->captures->n);
    if (!b->value)
        return onnx_xlat_no_memory(x);
    KAENA_TRY(onnx_capture_values(x, b->value));
    /* Translations of old forms inside want to know types. */
    onnx_infer_so_far(x->imp);
    return KAENA_OK;
}

static kaena_status import_body(onnx_xlat *x, const char *attr, uint32_t n_formal, bodies *b)
{
    onnx_attr *list;
    uint32_t n;
    Onnx__GraphProto *pb = NULL;
    KAENA_TRY(onnx_attrs_resolve(x->scope, x->pb, &list, &n));
    for (uint32_t i = 0; i < n && !pb; i++)
        if (strcmp(list[i].name, attr) == 0)
            pb = onnx_attr_graph(list[i].pb);
    if (!pb)
        return KAENA_FAIL(x->imp->err, INVALID_ARGUMENT, "it has no subgraph '%s'", attr);
    KAENA_TRY(onnx_body_import(x, pb, n_formal, b->value, &b->body[b->n_body]));
    b->n_body++;
    return KAENA_OK;
}

/* Adds the node with what its bodies capture behind |in|: constants became the bodies' own. */
static kaena_status add_node(onnx_xlat *x, kop_op op, kgr_value *const *in, uint32_t n_in,
                             const bodies *b, uint32_t n_out, kgr_node **out)
{
    kaena_arena *arena = x->imp->arena;
    uint32_t n = n_in, n_most = n_in + x->captures->n;
    kgr_value **all = KAENA_NEW_N(arena, kgr_value *, n_most);
    const char **names = KAENA_NEW_N(arena, const char *, n_out);
    if (!all || !names)
        return onnx_xlat_no_memory(x);
    if (n_most > KOP_MAX_BODY_OPERANDS || n_out > KOP_MAX_BODY_OPERANDS)
        return KAENA_FAIL(x->imp->err, UNIMPLEMENTED,
                          "its subgraphs read %u values; at most %d are supported", n_most,
                          KOP_MAX_BODY_OPERANDS);
    if (n_in)
        memcpy(all, in, n_in * sizeof *all);
    for (uint32_t i = 0; i < x->captures->n; i++)
        if (b->value[i] && !kgr_is_const(b->value[i]))
            all[n++] = b->value[i];
    for (uint32_t i = 0; i < n_out; i++)
        names[i] = i < x->n_out ? x->out_names[i] : NULL;
    kgr_node *node =
        kgr_node_add(x->imp->g, NULL, op, x->name, x->pb->op_type, all, n, names, n_out);
    if (!node || !kgr_node_set_bodies(x->imp->g, node, b->body, b->n_body))
        return onnx_xlat_no_memory(x);
    for (uint32_t i = 0; i < x->n_out && i < n_out; i++)
        x->out[i] = node->out[i];
    x->done = true;
    *out = node;
    return KAENA_OK;
}

static kaena_status check_results(onnx_xlat *x, uint32_t n)
{
    if (x->n_out <= n)
        return KAENA_OK;
    return KAENA_FAIL(x->imp->err, INVALID_ARGUMENT, "%u outputs; its subgraph gives %u", x->n_out,
                      n);
}

static kaena_status import_if(onnx_xlat *x)
{
    bodies b = {0};
    kgr_node *n;
    if (x->n_in != 1 || !x->in[0])
        return onnx_xlat_bad(x, "it takes one input, the condition");
    KAENA_TRY(find_captures(x, &b));
    KAENA_TRY(import_body(x, "then_branch", 0, &b));
    KAENA_TRY(import_body(x, "else_branch", 0, &b));
    if (b.body[0]->n_outputs != b.body[1]->n_outputs)
        return KAENA_FAIL(x->imp->err, INVALID_ARGUMENT, "its branches have %u and %u outputs",
                          b.body[0]->n_outputs, b.body[1]->n_outputs);
    KAENA_TRY(check_results(x, b.body[0]->n_outputs));
    return add_node(x, KOP_If, x->in, 1, &b, b.body[0]->n_outputs, &n);
}

static kaena_status need_all(onnx_xlat *x, uint32_t first)
{
    for (uint32_t i = first; i < x->n_in; i++)
        if (!x->in[i])
            return KAENA_FAIL(x->imp->err, INVALID_ARGUMENT, "input %u is left out", i);
    return KAENA_OK;
}

static kaena_status import_loop(onnx_xlat *x)
{
    bodies b = {0};
    kgr_node *n;
    while (x->n_in < 2)
        x->in[x->n_in++] = NULL;
    KAENA_TRY(need_all(x, 2));
    uint32_t carried = x->n_in - 2;
    KAENA_TRY(find_captures(x, &b));
    KAENA_TRY(import_body(x, "body", x->n_in, &b));
    if (b.body[0]->n_outputs < carried + 1)
        return KAENA_FAIL(x->imp->err, INVALID_ARGUMENT,
                          "its subgraph has %u outputs for a condition and %u carried values",
                          b.body[0]->n_outputs, carried);
    KAENA_TRY(check_results(x, b.body[0]->n_outputs - 1));
    if (b.body[0]->n_outputs == 1)
        return onnx_xlat_bad(x, "it has no results");
    KAENA_TRY(add_node(x, KOP_Loop, x->in, x->n_in, &b, b.body[0]->n_outputs - 1, &n));
    return kgr_attr_int(x->imp->g, n, "kaena.carried", carried) ? KAENA_OK : onnx_xlat_no_memory(x);
}

/* --- Scan ------------------------------------------------------------------------------------ */

typedef struct scan {
    uint32_t carried, n_scans; /* states, scan inputs */
    uint32_t n_out;
} scan;

static kaena_status scan_attrs(onnx_xlat *x, const scan *s, kgr_node *n)
{
    if (!kgr_attr_int(x->imp->g, n, "kaena.carried", s->carried) ||
        !kgr_attr_int(x->imp->g, n, "num_scan_inputs", s->n_scans))
        return onnx_xlat_no_memory(x);
    return KAENA_OK;
}

/* How many of the inputs, from |first| on, are states and how many scans. */
static kaena_status scan_operands(onnx_xlat *x, uint32_t first, scan *s)
{
    int64_t n_scans = onnx_xlat_int(x, "num_scan_inputs", 0);
    if (n_scans < 1 || n_scans > (int64_t)x->n_in - first)
        return KAENA_FAIL(x->imp->err, INVALID_ARGUMENT, "num_scan_inputs is %lld of %u inputs",
                          (long long)n_scans, x->n_in - first);
    s->n_scans = (uint32_t)n_scans;
    s->carried = x->n_in - first - s->n_scans;
    return need_all(x, first);
}

static kaena_status scan_results(onnx_xlat *x, const bodies *b, scan *s)
{
    s->n_out = b->body[0]->n_outputs;
    if (s->n_out < s->carried || s->n_out == 0)
        return KAENA_FAIL(x->imp->err, INVALID_ARGUMENT,
                          "its subgraph has %u outputs for %u states", s->n_out, s->carried);
    return check_results(x, s->n_out);
}

static kaena_status import_scan9(onnx_xlat *x)
{
    static const char *const lists[] = {"scan_input_axes", "scan_input_directions",
                                        "scan_output_axes", "scan_output_directions"};
    bodies b = {0};
    scan s;
    kgr_node *n;
    KAENA_TRY(scan_operands(x, 0, &s));
    KAENA_TRY(find_captures(x, &b));
    KAENA_TRY(import_body(x, "body", x->n_in, &b));
    KAENA_TRY(scan_results(x, &b, &s));
    KAENA_TRY(add_node(x, KOP_Scan, x->in, x->n_in, &b, s.n_out, &n));
    KAENA_TRY(scan_attrs(x, &s, n));
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const kop_attr *a = onnx_xlat_attr(x, lists[i]);
        uint32_t want = i < 2 ? s.n_scans : s.n_out - s.carried;
        if (a && (a->type != KOP_ATTR_INTS || a->n != want))
            return KAENA_FAIL(x->imp->err, INVALID_ARGUMENT, "attribute '%s' must have %u numbers",
                              lists[i], want);
        if (a && !kgr_attr_set(x->imp->g, n, a))
            return onnx_xlat_no_memory(x);
    }
    return KAENA_OK;
}

/* The first |n_own| operands are slices of one sample, whose first dimension is that of the steps;
 * |b| is the body of the steps. The graph that holds a Scan over them, and its node's operands. */
static kaena_status batch_body(onnx_xlat *x, const scan *s, const bodies *b, kgr_graph **out)
{
    onnx_import *imp = x->imp;
    const kgr_graph *step = b->body[0];
    kgr_graph *g = kgr_graph_create(imp->arena, "batch");
    kgr_value **in = KAENA_NEW_N(imp->arena, kgr_value *, step->n_inputs);
    if (!g || !in)
        return onnx_xlat_no_memory(x);
    for (uint32_t i = 0; i < step->n_inputs; i++) {
        const kgr_value *of = step->inputs[i];
        in[i] = kgr_value_add(g, of->name, of->t.dtype, NULL);
        if (!in[i] || !kgr_input_add(g, in[i]))
            return onnx_xlat_no_memory(x);
        in[i]->t.form = of->t.form;
    }
    kgr_node *n = kgr_node_add(g, NULL, KOP_Scan, "steps", x->pb->op_type, in, step->n_inputs, NULL,
                               s->n_out);
    if (!n || !kgr_node_set_bodies(g, n, b->body, 1))
        return onnx_xlat_no_memory(x);
    KAENA_TRY(scan_attrs(x, s, n));
    const kop_attr *a = onnx_xlat_attr(x, "directions");
    if (a && (a->type != KOP_ATTR_INTS || a->n != s->n_scans))
        return KAENA_FAIL(imp->err, INVALID_ARGUMENT, "attribute 'directions' must have %u numbers",
                          s->n_scans);
    if (a && !kgr_attr_ints(g, n, "scan_input_directions", a->u.ints, a->n))
        return onnx_xlat_no_memory(x);
    for (uint32_t i = 0; i < s->n_out; i++)
        if (!kgr_output_add(g, n->out[i]))
            return onnx_xlat_no_memory(x);
    *out = g;
    return KAENA_OK;
}

/* Operator set 8: everything has a batch in front, and scans run along the second dimension. A Scan
 * over the samples holds one over the steps. */
static kaena_status import_scan8(onnx_xlat *x)
{
    bodies b = {0};
    scan s;
    kgr_node *n;
    if (onnx_xlat_in(x, 0))
        return KAENA_FAIL(x->imp->err, UNIMPLEMENTED,
                          "lengths of sequences (input 0) are not supported; export the model with "
                          "operator set 9 or newer");
    KAENA_TRY(scan_operands(x, 1, &s));
    KAENA_TRY(find_captures(x, &b));
    KAENA_TRY(import_body(x, "body", x->n_in - 1, &b));
    KAENA_TRY(scan_results(x, &b, &s));
    bodies batch = b;
    KAENA_TRY(batch_body(x, &s, &b, &batch.body[0]));
    KAENA_TRY(add_node(x, KOP_Scan, x->in + 1, x->n_in - 1, &batch, s.n_out, &n));
    return scan_attrs(x, &(scan){.n_scans = x->n_in - 1}, n);
}

/* --- SequenceMap ----------------------------------------------------------------------------- */

/* The subgraph, whose inputs are elements and captures, becomes the body of a Loop over the places:
 * body(i, cond, results..., sequences..., captured...) -> cond, results... */
static kaena_status map_body(onnx_xlat *x, const kgr_graph *element, uint32_t n_own,
                             kgr_graph **out)
{
    onnx_import *imp = x->imp;
    uint32_t n_results = element->n_outputs;
    kgr_graph *g = kgr_graph_create(imp->arena, element->name);
    kgr_value **of = KAENA_NEW_N(imp->arena, kgr_value *, element->n_inputs),
              **made = KAENA_NEW_N(imp->arena, kgr_value *, n_results),
              **result = KAENA_NEW_N(imp->arena, kgr_value *, n_results);
    if (!g || !of || !made || !result)
        return onnx_xlat_no_memory(x);
    kgr_value *place = kgr_value_add(g, "place", KAENA_I64, &(kaena_shape){0}),
              *cond = kgr_value_add(g, "cond", KAENA_BOOL, &(kaena_shape){0});
    if (!place || !cond || !kgr_input_add(g, place) || !kgr_input_add(g, cond))
        return onnx_xlat_no_memory(x);
    for (uint32_t i = 0; i < n_results; i++) {
        result[i] = kgr_value_add(g, "result", KAENA_DTYPE_NONE, NULL);
        if (!result[i] || !kgr_input_add(g, result[i]))
            return onnx_xlat_no_memory(x);
        result[i]->t.form = KOP_FORM_SEQUENCE;
    }
    for (uint32_t i = 0; i < element->n_inputs; i++) {
        bool sequence = i < n_own && x->in[i]->t.form == KOP_FORM_SEQUENCE;
        of[i] = kgr_value_add(g, element->inputs[i]->name, element->inputs[i]->t.dtype, NULL);
        if (!of[i] || !kgr_input_add(g, of[i]))
            return onnx_xlat_no_memory(x);
        of[i]->t.form = sequence ? KOP_FORM_SEQUENCE : element->inputs[i]->t.form;
        if (!sequence)
            continue;
        kgr_value *in[2] = {of[i], place};
        kgr_node *at = kgr_node_add(g, NULL, KOP_SequenceAt, NULL, x->pb->op_type, in, 2, NULL, 1);
        if (!at)
            return onnx_xlat_no_memory(x);
        of[i] = at->out[0];
    }
    if (!kgr_copy_nodes(g, NULL, element, of, made) || !kgr_output_add(g, cond))
        return onnx_xlat_no_memory(x);
    for (uint32_t i = 0; i < n_results; i++) {
        kgr_value *in[2] = {result[i], made[i]};
        kgr_node *insert =
            kgr_node_add(g, NULL, KOP_SequenceInsert, NULL, x->pb->op_type, in, 2, NULL, 1);
        if (!insert || !kgr_output_add(g, insert->out[0]))
            return onnx_xlat_no_memory(x);
    }
    *out = g;
    return KAENA_OK;
}

/* The element type of result |i|, which an empty sequence has too. */
static kaena_status result_dtype(onnx_xlat *x, uint32_t i, kaena_dtype *out)
{
    for (size_t k = 0; k < x->pb->n_attribute; k++) {
        const Onnx__GraphProto *pb = onnx_attr_graph(x->pb->attribute[k]);
        kop_tensor t;
        if (!pb || i >= pb->n_output)
            continue;
        KAENA_TRY(
            onnx_type_of_pb(pb->output[i]->type, "a result of the subgraph", &t, x->imp->err));
        *out = t.dtype;
    }
    return KAENA_OK;
}

static kaena_status import_sequence_map(onnx_xlat *x)
{
    bodies b = {0};
    kgr_node *length, *n;
    if (x->n_in == 0)
        return onnx_xlat_bad(x, "it has no input");
    KAENA_TRY(need_all(x, 0));
    KAENA_TRY(find_captures(x, &b));
    KAENA_TRY(import_body(x, "body", x->n_in, &b));
    uint32_t n_results = b.body[0]->n_outputs, n_in = 0;
    KAENA_TRY(check_results(x, n_results));
    kgr_value **in = KAENA_NEW_N(x->imp->arena, kgr_value *, 2 + n_results + x->n_in);
    if (!in)
        return onnx_xlat_no_memory(x);
    KAENA_TRY(onnx_xlat_add(x, KOP_SequenceLength, "length", x->in, 1, &length));
    in[n_in++] = length->out[0];
    in[n_in++] = NULL;
    for (uint32_t i = 0; i < n_results; i++) {
        kgr_node *empty;
        kaena_dtype dtype = KAENA_DTYPE_NONE;
        KAENA_TRY(result_dtype(x, i, &dtype));
        KAENA_TRY(onnx_xlat_add(x, KOP_SequenceEmpty, "empty", NULL, 0, &empty));
        if (!kgr_attr_int(x->imp->g, empty, "dtype", (int64_t)dtype))
            return onnx_xlat_no_memory(x);
        in[n_in++] = empty->out[0];
    }
    for (uint32_t i = 0; i < x->n_in; i++)
        in[n_in++] = x->in[i];
    KAENA_TRY(map_body(x, b.body[0], x->n_in, &b.body[0]));
    KAENA_TRY(add_node(x, KOP_Loop, in, n_in, &b, n_results, &n));
    return kgr_attr_int(x->imp->g, n, "kaena.carried", n_results) ? KAENA_OK
                                                                  : onnx_xlat_no_memory(x);
}

kaena_status onnx_control(onnx_xlat *x)
{
    if (strcmp(x->op, "If") == 0)
        return import_if(x);
    if (strcmp(x->op, "Loop") == 0)
        return import_loop(x);
    if (strcmp(x->op, "SequenceMap") == 0)
        return import_sequence_map(x);
    return x->opset < 9 ? import_scan8(x) : import_scan9(x);
}
