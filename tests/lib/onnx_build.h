/* Builds small ONNX models in memory for tests. */
#ifndef ONNX_BUILD_H
#define ONNX_BUILD_H

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "onnx/onnx.pb-c.h"

/* Grows a repeated field of pointers and returns the new, initialised element. */
#define OB_APPEND(arena, list, n, type, init)                                                      \
    ((list) = ob_grow((arena), (void **)(list), &(n), sizeof(type)), *(list)[(n)-1] = (type)init,  \
     (list)[(n)-1])

static inline void *ob_grow(kaena_arena *arena, void **list, size_t *n, size_t size)
{
    void **more = kaena_arena_array(arena, *n + 1, sizeof *more);
    if (*n)
        memcpy(more, list, *n * sizeof *more);
    more[*n] = kaena_arena_alloc(arena, size);
    (*n)++;
    return more;
}

static inline Onnx__ModelProto *ob_model(kaena_arena *arena, int64_t ir_version, int64_t opset)
{
    Onnx__ModelProto *m = KAENA_NEW(arena, Onnx__ModelProto);
    *m = (Onnx__ModelProto)ONNX__MODEL_PROTO__INIT;
    m->has_ir_version = 1;
    m->ir_version = ir_version;
    m->graph = KAENA_NEW(arena, Onnx__GraphProto);
    *m->graph = (Onnx__GraphProto)ONNX__GRAPH_PROTO__INIT;
    m->graph->name = kaena_arena_strdup(arena, "test");
    if (opset) {
        Onnx__OperatorSetIdProto *o =
            OB_APPEND(arena, m->opset_import, m->n_opset_import, Onnx__OperatorSetIdProto,
                      ONNX__OPERATOR_SET_ID_PROTO__INIT);
        o->has_version = 1;
        o->version = opset;
    }
    return m;
}

/* Words of |text|, separated by spaces; "-" is an empty name. */
static inline char **ob_words(kaena_arena *arena, const char *text, size_t *n)
{
    char **words = kaena_arena_array(arena, strlen(text) + 1, sizeof *words);
    char *copy = kaena_arena_strdup(arena, text), *save;
    *n = 0;
    for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
        words[(*n)++] = strcmp(w, "-") == 0 ? kaena_arena_strdup(arena, "") : w;
    return words;
}

static inline void ob_fill_node(kaena_arena *arena, Onnx__NodeProto *n, const char *op,
                                const char *in, const char *out)
{
    n->op_type = kaena_arena_strdup(arena, op);
    n->name = kaena_arena_printf(arena, "n_%s", out);
    n->input = ob_words(arena, in, &n->n_input);
    n->output = ob_words(arena, out, &n->n_output);
}

/* A node named "n_<outputs>". */
static inline Onnx__NodeProto *ob_node(kaena_arena *arena, Onnx__ModelProto *m, const char *op,
                                       const char *in, const char *out)
{
    Onnx__GraphProto *g = m->graph;
    Onnx__NodeProto *n =
        OB_APPEND(arena, g->node, g->n_node, Onnx__NodeProto, ONNX__NODE_PROTO__INIT);
    ob_fill_node(arena, n, op, in, out);
    return n;
}

static inline Onnx__AttributeProto *ob_attr(kaena_arena *arena, Onnx__NodeProto *n,
                                            const char *name, int32_t type)
{
    Onnx__AttributeProto *a = OB_APPEND(arena, n->attribute, n->n_attribute, Onnx__AttributeProto,
                                        ONNX__ATTRIBUTE_PROTO__INIT);
    a->name = kaena_arena_strdup(arena, name);
    a->has_type = 1;
    a->type = type;
    return a;
}

static inline void ob_int(kaena_arena *arena, Onnx__NodeProto *n, const char *name, int64_t v)
{
    Onnx__AttributeProto *a = ob_attr(arena, n, name, ONNX__ATTRIBUTE_TYPE__INT);
    a->has_i = 1;
    a->i = v;
}

static inline void ob_float(kaena_arena *arena, Onnx__NodeProto *n, const char *name, float v)
{
    Onnx__AttributeProto *a = ob_attr(arena, n, name, ONNX__ATTRIBUTE_TYPE__FLOAT);
    a->has_f = 1;
    a->f = v;
}

static inline void ob_string(kaena_arena *arena, Onnx__NodeProto *n, const char *name,
                             const char *v)
{
    Onnx__AttributeProto *a = ob_attr(arena, n, name, ONNX__ATTRIBUTE_TYPE__STRING);
    a->has_s = 1;
    a->s = (ProtobufCBinaryData){strlen(v), (uint8_t *)kaena_arena_strdup(arena, v)};
}

static inline void ob_ints(kaena_arena *arena, Onnx__NodeProto *n, const char *name, size_t count,
                           const int64_t *v)
{
    Onnx__AttributeProto *a = ob_attr(arena, n, name, ONNX__ATTRIBUTE_TYPE__INTS);
    a->n_ints = count;
    a->ints = kaena_arena_memdup(arena, v, count * sizeof *v);
}

static inline void ob_floats(kaena_arena *arena, Onnx__NodeProto *n, const char *name, size_t count,
                             const float *v)
{
    Onnx__AttributeProto *a = ob_attr(arena, n, name, ONNX__ATTRIBUTE_TYPE__FLOATS);
    a->n_floats = count;
    a->floats = kaena_arena_memdup(arena, v, count * sizeof *v);
}

/* Dimensions as text: "1 3 ? height"; NULL: no shape at all. */
static inline Onnx__ValueInfoProto *ob_value(kaena_arena *arena, const char *name, int32_t dtype,
                                             const char *dims)
{
    Onnx__ValueInfoProto *v = KAENA_NEW(arena, Onnx__ValueInfoProto);
    *v = (Onnx__ValueInfoProto)ONNX__VALUE_INFO_PROTO__INIT;
    v->name = kaena_arena_strdup(arena, name);
    v->type = KAENA_NEW(arena, Onnx__TypeProto);
    *v->type = (Onnx__TypeProto)ONNX__TYPE_PROTO__INIT;
    Onnx__TypeTensor *t = KAENA_NEW(arena, Onnx__TypeTensor);
    *t = (Onnx__TypeTensor)ONNX__TYPE_TENSOR__INIT;
    v->type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    v->type->tensor_type = t;
    t->has_elem_type = 1;
    t->elem_type = dtype;
    if (!dims)
        return v;
    t->shape = KAENA_NEW(arena, Onnx__TensorShapeProto);
    *t->shape = (Onnx__TensorShapeProto)ONNX__TENSOR_SHAPE_PROTO__INIT;
    size_t n;
    char **words = ob_words(arena, dims, &n);
    for (size_t i = 0; i < n; i++) {
        Onnx__TensorShapeDimension *d =
            OB_APPEND(arena, t->shape->dim, t->shape->n_dim, Onnx__TensorShapeDimension,
                      ONNX__TENSOR_SHAPE_DIMENSION__INIT);
        if (words[i][0] >= '0' && words[i][0] <= '9') {
            d->value_case = ONNX__TENSOR_SHAPE_DIMENSION__VALUE_DIM_VALUE;
            d->dim_value = atoll(words[i]);
        } else if (strcmp(words[i], "?") != 0) {
            d->value_case = ONNX__TENSOR_SHAPE_DIMENSION__VALUE_DIM_PARAM;
            d->dim_param = words[i];
        }
    }
    return v;
}

static inline void ob_input(kaena_arena *arena, Onnx__ModelProto *m, const char *name,
                            int32_t dtype, const char *dims)
{
    m->graph->input = ob_grow(arena, (void **)m->graph->input, &m->graph->n_input, 1);
    m->graph->input[m->graph->n_input - 1] = ob_value(arena, name, dtype, dims);
}

static inline void ob_output(kaena_arena *arena, Onnx__ModelProto *m, const char *name)
{
    m->graph->output = ob_grow(arena, (void **)m->graph->output, &m->graph->n_output, 1);
    m->graph->output[m->graph->n_output - 1] = ob_value(arena, name, 1, NULL);
}

/* An initializer of one dimension, its elements in raw_data. */
static inline Onnx__TensorProto *ob_tensor(kaena_arena *arena, Onnx__ModelProto *m,
                                           const char *name, int32_t dtype, int64_t n,
                                           const void *data, size_t bytes)
{
    Onnx__GraphProto *g = m->graph;
    Onnx__TensorProto *t = OB_APPEND(arena, g->initializer, g->n_initializer, Onnx__TensorProto,
                                     ONNX__TENSOR_PROTO__INIT);
    t->name = kaena_arena_strdup(arena, name);
    t->n_dims = 1;
    t->dims = kaena_arena_memdup(arena, &n, sizeof n);
    t->has_data_type = 1;
    t->data_type = dtype;
    t->has_raw_data = data != NULL;
    if (data)
        t->raw_data = (ProtobufCBinaryData){bytes, kaena_arena_memdup(arena, data, bytes)};
    return t;
}

static inline void *ob_pack(kaena_arena *arena, const Onnx__ModelProto *m, size_t *size)
{
    *size = onnx__model_proto__get_packed_size(m);
    uint8_t *data = kaena_arena_alloc(arena, *size);
    cr_assert(onnx__model_proto__pack(m, data) == *size);
    return data;
}

#endif
