/* Writes an ONNX model of about N nodes, for timing the compiler.
 *
 * many_nodes_onnx KIND N FILE
 *
 * - residual: blocks of two small convolutions, activations and a sum
 * - mlp: fully connected layers, each with its own weights, and normalisation
 * - host: as residual, every eighth block (of more at most 400) has an operator of the host
 * - fan: one value that all other nodes read, their results summed up in a tree
 * - bodies: after every 16 blocks an If with a block in each branch */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "onnx/onnx.pb-c.h"

#define CHANNELS 8
#define PIXELS 8

typedef struct builder {
    kaena_arena *arena;
    Onnx__GraphProto *g;
    size_t cap_node, cap_init;
    unsigned made; /* values so far */
    size_t total;  /* nodes so far, those of subgraphs too */
} builder;

static void *append(kaena_arena *arena, void *list, size_t n, size_t *cap, void *item)
{
    void **items = list;
    if (n == *cap) {
        *cap = *cap ? *cap * 2 : 16;
        items = kaena_arena_array(arena, *cap, sizeof *items);
        if (n)
            memcpy(items, list, n * sizeof *items);
    }
    items[n] = item;
    return items;
}

static char *fresh(builder *m)
{
    return kaena_arena_printf(m->arena, "v%u", m->made++);
}

/* A node of one result, whose name is returned; up to three inputs, the rest NULL. */
static char *node_named(builder *m, const char *op, char *a, char *b, char *c, char *out)
{
    Onnx__NodeProto *n = KAENA_NEW(m->arena, Onnx__NodeProto);
    *n = (Onnx__NodeProto)ONNX__NODE_PROTO__INIT;
    n->op_type = kaena_arena_strdup(m->arena, op);
    n->name = kaena_arena_printf(m->arena, "n_%s", out);
    n->input = KAENA_NEW_N(m->arena, char *, 3);
    char *in[3] = {a, b, c};
    while (n->n_input < 3 && in[n->n_input]) {
        n->input[n->n_input] = in[n->n_input];
        n->n_input++;
    }
    n->output = KAENA_NEW_N(m->arena, char *, 1);
    n->output[n->n_output++] = out;
    m->g->node = append(m->arena, m->g->node, m->g->n_node, &m->cap_node, n);
    m->g->n_node++;
    m->total++;
    return out;
}

static char *node(builder *m, const char *op, char *a, char *b, char *c)
{
    return node_named(m, op, a, b, c, fresh(m));
}

static Onnx__AttributeProto *attr(builder *m, const char *name, int32_t type)
{
    Onnx__NodeProto *n = m->g->node[m->g->n_node - 1];
    Onnx__AttributeProto *a = KAENA_NEW(m->arena, Onnx__AttributeProto);
    *a = (Onnx__AttributeProto)ONNX__ATTRIBUTE_PROTO__INIT;
    a->name = kaena_arena_strdup(m->arena, name);
    a->has_type = true;
    a->type = type;
    if (!n->attribute)
        n->attribute = KAENA_NEW_N(m->arena, Onnx__AttributeProto *, 2);
    n->attribute[n->n_attribute++] = a;
    return a;
}

/* A constant of small numbers that differ from each other's. */
static char *weights(builder *m, const int64_t *dims, size_t rank)
{
    Onnx__TensorProto *t = KAENA_NEW(m->arena, Onnx__TensorProto);
    *t = (Onnx__TensorProto)ONNX__TENSOR_PROTO__INIT;
    size_t n = 1;
    for (size_t i = 0; i < rank; i++)
        n *= (size_t)dims[i];
    t->name = fresh(m);
    t->n_dims = rank;
    t->dims = kaena_arena_memdup(m->arena, dims, rank * sizeof *dims);
    t->has_data_type = true;
    t->data_type = 1; /* FLOAT */
    t->n_float_data = n;
    t->float_data = KAENA_NEW_N(m->arena, float, n);
    uint32_t x = m->made;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        t->float_data[i] = (float)(int8_t)(x >> 24) / 1024;
    }
    m->g->initializer = append(m->arena, m->g->initializer, m->g->n_initializer, &m->cap_init, t);
    m->g->n_initializer++;
    return t->name;
}

static char *conv(builder *m, char *x)
{
    char *w = weights(m, (int64_t[]){CHANNELS, CHANNELS, 3, 3}, 4);
    char *y = node(m, "Conv", x, w, weights(m, (int64_t[]){CHANNELS}, 1));
    Onnx__AttributeProto *pads = attr(m, "pads", ONNX__ATTRIBUTE_TYPE__INTS);
    pads->n_ints = 4;
    pads->ints = kaena_arena_memdup(m->arena, (int64_t[]){1, 1, 1, 1}, 4 * sizeof(int64_t));
    return y;
}

/* Five nodes, or six. */
static char *block(builder *m, char *x, bool host)
{
    char *y = node(m, "Relu", conv(m, x), NULL, NULL);
    y = node(m, "Add", conv(m, y), x, NULL);
    if (host) {
        y = node(m, "CumSum", y, "axis", NULL);
        y = node(m, "Tanh", y, NULL, NULL);
    }
    return node(m, "Relu", y, NULL, NULL);
}

static char *layer(builder *m, char *x)
{
    char *y = node(m, "MatMul", x, weights(m, (int64_t[]){64, 64}, 2), NULL);
    y = node(m, "Add", y, weights(m, (int64_t[]){64}, 1), NULL);
    y = node(m, "LayerNormalization", y, weights(m, (int64_t[]){64}, 1), NULL);
    return node(m, "Gelu", y, NULL, NULL);
}

static char *fan(builder *m, char *x, size_t n)
{
    size_t leaves = n / 2;
    char **value = KAENA_NEW_N(m->arena, char *, leaves);
    for (size_t i = 0; i < leaves; i++)
        value[i] = node(m, "Mul", x, weights(m, (int64_t[]){CHANNELS, 1, 1}, 3), NULL);
    for (; leaves > 1; leaves = (leaves + 1) / 2)
        for (size_t i = 0; i < leaves / 2; i++) {
            value[i] = node(m, "Add", value[2 * i], value[2 * i + 1], NULL);
            if (i == leaves / 2 - 1 && leaves % 2)
                value[leaves / 2] = value[leaves - 1];
        }
    return value[0];
}

static Onnx__ValueInfoProto *info(kaena_arena *arena, const char *name, int32_t dtype,
                                  const int64_t *dims, size_t rank)
{
    Onnx__ValueInfoProto *v = KAENA_NEW(arena, Onnx__ValueInfoProto);
    *v = (Onnx__ValueInfoProto)ONNX__VALUE_INFO_PROTO__INIT;
    v->name = kaena_arena_strdup(arena, name);
    v->type = KAENA_NEW(arena, Onnx__TypeProto);
    *v->type = (Onnx__TypeProto)ONNX__TYPE_PROTO__INIT;
    Onnx__TypeTensor *t = v->type->tensor_type = KAENA_NEW(arena, Onnx__TypeTensor);
    *t = (Onnx__TypeTensor)ONNX__TYPE_TENSOR__INIT;
    v->type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    t->has_elem_type = true;
    t->elem_type = dtype;
    t->shape = KAENA_NEW(arena, Onnx__TensorShapeProto);
    *t->shape = (Onnx__TensorShapeProto)ONNX__TENSOR_SHAPE_PROTO__INIT;
    t->shape->dim = KAENA_NEW_N(arena, Onnx__TensorShapeDimension *, rank);
    for (size_t i = 0; i < rank; i++) {
        Onnx__TensorShapeDimension *d = KAENA_NEW(arena, Onnx__TensorShapeDimension);
        *d = (Onnx__TensorShapeDimension)ONNX__TENSOR_SHAPE_DIMENSION__INIT;
        d->value_case = ONNX__TENSOR_SHAPE_DIMENSION__VALUE_DIM_VALUE;
        d->dim_value = dims[i];
        t->shape->dim[t->shape->n_dim++] = d;
    }
    return v;
}

static Onnx__GraphProto *graph(kaena_arena *arena, const char *name)
{
    Onnx__GraphProto *g = KAENA_NEW(arena, Onnx__GraphProto);
    *g = (Onnx__GraphProto)ONNX__GRAPH_PROTO__INIT;
    g->name = kaena_arena_strdup(arena, name);
    g->input = KAENA_NEW_N(arena, Onnx__ValueInfoProto *, 2);
    g->output = KAENA_NEW_N(arena, Onnx__ValueInfoProto *, 1);
    return g;
}

static void give(builder *m, const char *y)
{
    m->g->output[m->g->n_output++] = info(m->arena, y, 1, NULL, 0);
}

/* An If with a block in each branch, which reads |x| from outside. */
static char *branches(builder *m, char *x)
{
    Onnx__GraphProto *body[2];
    for (int i = 0; i < 2; i++) {
        builder inner = {
            .arena = m->arena, .g = graph(m->arena, i ? "no" : "yes"), .made = m->made};
        body[i] = inner.g;
        give(&inner, block(&inner, x, false));
        m->made = inner.made;
        m->total += inner.total;
    }
    char *y = node(m, "If", "c", NULL, NULL);
    attr(m, "then_branch", ONNX__ATTRIBUTE_TYPE__GRAPH)->g = body[0];
    attr(m, "else_branch", ONNX__ATTRIBUTE_TYPE__GRAPH)->g = body[1];
    return y;
}

static bool fill(builder *m, const char *kind, size_t n)
{
    char *x = "x";
    bool mlp = strcmp(kind, "mlp") == 0, host = strcmp(kind, "host") == 0,
         bodies = strcmp(kind, "bodies") == 0;
    if (!mlp && !host && !bodies && strcmp(kind, "residual") != 0 && strcmp(kind, "fan") != 0)
        return false;
    const int64_t image[] = {1, CHANNELS, PIXELS, PIXELS}, rows[] = {16, 64};
    m->g->input[m->g->n_input++] = info(m->arena, "x", 1, mlp ? rows : image, mlp ? 2 : 4);
    if (bodies)
        m->g->input[m->g->n_input++] = info(m->arena, "c", 9, NULL, 0); /* BOOL */
    if (host) {
        Onnx__TensorProto *axis = KAENA_NEW(m->arena, Onnx__TensorProto);
        *axis = (Onnx__TensorProto)ONNX__TENSOR_PROTO__INIT;
        axis->name = kaena_arena_strdup(m->arena, "axis");
        axis->has_data_type = true;
        axis->data_type = 7; /* INT64 */
        axis->n_int64_data = 1;
        axis->int64_data = kaena_arena_memdup(m->arena, (int64_t[]){3}, sizeof(int64_t));
        m->g->initializer = append(m->arena, m->g->initializer, 0, &m->cap_init, axis);
        m->g->n_initializer = 1;
    }
    if (strcmp(kind, "fan") == 0)
        x = fan(m, x, n);
    size_t every = n / 2000 > 8 ? n / 2000 : 8; /* an artifact holds 512 graphs of the host */
    for (size_t i = 0; m->total < n; i++) {
        if (mlp)
            x = layer(m, x);
        else if (bodies && i % 16 == 15)
            x = branches(m, x);
        else
            x = block(m, x, host && i % every == every - 1);
    }
    give(m, node_named(m, "Neg", x, NULL, NULL, "y"));
    return true;
}

int main(int argc, char **argv)
{
    size_t n = argc == 4 ? strtoul(argv[2], NULL, 10) : 0;
    kaena_arena arena;
    kaena_arena_init(&arena, 0);
    builder m = {.arena = &arena, .g = graph(&arena, "many nodes")};
    if (n < 16 || n > 1000000 || !fill(&m, argv[1], n)) {
        (void)fprintf(stderr, "usage: many_nodes_onnx residual|mlp|host|fan|bodies N FILE\n");
        return 2;
    }
    char domain[] = "";
    Onnx__OperatorSetIdProto opset = ONNX__OPERATOR_SET_ID_PROTO__INIT;
    opset.domain = domain;
    opset.has_version = true;
    opset.version = 20;
    Onnx__OperatorSetIdProto *opsets[] = {&opset};
    Onnx__ModelProto model = ONNX__MODEL_PROTO__INIT;
    model.has_ir_version = true;
    model.ir_version = 8;
    model.n_opset_import = 1;
    model.opset_import = opsets;
    model.graph = m.g;
    size_t size = onnx__model_proto__get_packed_size(&model);
    uint8_t *data = kaena_arena_alloc(&arena, size);
    (void)onnx__model_proto__pack(&model, data);
    FILE *f = fopen(argv[3], "wb");
    bool good = f && fwrite(data, 1, size, f) == size;
    good = f && fclose(f) == 0 && good;
    kaena_arena_fini(&arena);
    if (!good)
        (void)fprintf(stderr, "many_nodes_onnx: cannot write '%s'\n", argv[3]);
    return good ? 0 : 1;
}
