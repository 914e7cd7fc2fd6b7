/* Writes an ONNX model that hands its input on, or the first K elements of it: y = Identity(x) or
 * Slice(x), float32[N].
 *
 * identity_onnx N FILE [K] */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "onnx/onnx.pb-c.h"

#define N_FIELDS(list) (sizeof(list) / sizeof *(list))

/* The type float32[n], with all it points to. */
typedef struct vector {
    Onnx__TensorShapeDimension dim, *dims[1];
    Onnx__TensorShapeProto shape;
    Onnx__TypeTensor tensor;
    Onnx__TypeProto type;
} vector;

static void describe(vector *v, long long n)
{
    onnx__tensor_shape_dimension__init(&v->dim);
    v->dim.value_case = ONNX__TENSOR_SHAPE_DIMENSION__VALUE_DIM_VALUE;
    v->dim.dim_value = n;
    v->dims[0] = &v->dim;
    onnx__tensor_shape_proto__init(&v->shape);
    v->shape.n_dim = N_FIELDS(v->dims);
    v->shape.dim = v->dims;
    onnx__type_tensor__init(&v->tensor);
    v->tensor.elem_type = 1; /* FLOAT */
    v->tensor.has_elem_type = true;
    v->tensor.shape = &v->shape;
    onnx__type_proto__init(&v->type);
    v->type.value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    v->type.tensor_type = &v->tensor;
}

int main(int argc, char **argv)
{
    long long n = argc == 3 || argc == 4 ? atoll(argv[1]) : 0, k = argc == 4 ? atoll(argv[3]) : n;
    if (n <= 0 || k <= 0 || k > n) {
        (void)fprintf(stderr, "usage: identity_onnx N FILE [K]\n");
        return 2;
    }
    vector in, out;
    describe(&in, n);
    describe(&out, k);

    char x[] = "x", y[] = "y", identity[] = "Identity", slice[] = "Slice", name[] = "identity";
    Onnx__ValueInfoProto input = ONNX__VALUE_INFO_PROTO__INIT, output = input;
    input.name = x;
    output.name = y;
    input.type = &in.type;
    output.type = &out.type;
    Onnx__ValueInfoProto *inputs[] = {&input}, *outputs[] = {&output};
    char *from[] = {x}, *to[] = {y};
    Onnx__NodeProto node = ONNX__NODE_PROTO__INIT;
    node.op_type = k < n ? slice : identity;
    node.n_input = N_FIELDS(from);
    node.input = from;
    node.n_output = N_FIELDS(to);
    node.output = to;
    Onnx__NodeProto *nodes[] = {&node};
    char starts[] = "starts", ends[] = "ends";
    int64_t from_0[] = {0}, to_k[] = {k};
    Onnx__AttributeProto start = ONNX__ATTRIBUTE_PROTO__INIT, end = start;
    start.name = starts;
    end.name = ends;
    start.has_type = end.has_type = true;
    start.type = end.type = 7; /* INTS */
    start.n_ints = end.n_ints = 1;
    start.ints = from_0;
    end.ints = to_k;
    Onnx__AttributeProto *attributes[] = {&start, &end};
    node.n_attribute = k < n ? N_FIELDS(attributes) : 0;
    node.attribute = attributes;
    Onnx__GraphProto graph = ONNX__GRAPH_PROTO__INIT;
    graph.name = name;
    graph.n_node = N_FIELDS(nodes);
    graph.node = nodes;
    graph.n_input = N_FIELDS(inputs);
    graph.input = inputs;
    graph.n_output = N_FIELDS(outputs);
    graph.output = outputs;
    char domain[] = "";
    Onnx__OperatorSetIdProto opset = ONNX__OPERATOR_SET_ID_PROTO__INIT;
    opset.domain = domain;
    opset.has_version = true;
    opset.version = 9; /* Slice still has attributes */
    Onnx__OperatorSetIdProto *opsets[] = {&opset};
    Onnx__ModelProto model = ONNX__MODEL_PROTO__INIT;
    model.has_ir_version = true;
    model.ir_version = 7;
    model.graph = &graph;
    model.n_opset_import = N_FIELDS(opsets);
    model.opset_import = opsets;

    uint8_t bytes[1024]; /* some 150 are used */
    size_t size = onnx__model_proto__pack(&model, bytes);
    FILE *f = fopen(argv[2], "wb");
    if (!f || fwrite(bytes, 1, size, f) != size || fclose(f)) {
        perror(argv[2]);
        return 1;
    }
    return 0;
}
