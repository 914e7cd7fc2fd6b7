/* Writes an ONNX model that hands its input on: y = Identity(x), float32[N].
 *
 * identity_onnx N FILE */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "onnx/onnx.pb-c.h"

#define N_FIELDS(list) (sizeof(list) / sizeof *(list))

int main(int argc, char **argv)
{
    long long n = argc == 3 ? atoll(argv[1]) : 0;
    if (n <= 0) {
        (void)fprintf(stderr, "usage: identity_onnx N FILE\n");
        return 2;
    }
    Onnx__TensorShapeDimension dim;
    onnx__tensor_shape_dimension__init(&dim);
    dim.value_case = ONNX__TENSOR_SHAPE_DIMENSION__VALUE_DIM_VALUE;
    dim.dim_value = n;
    Onnx__TensorShapeDimension *dims[] = {&dim};
    Onnx__TensorShapeProto shape = ONNX__TENSOR_SHAPE_PROTO__INIT;
    shape.n_dim = N_FIELDS(dims);
    shape.dim = dims;
    Onnx__TypeTensor tensor = ONNX__TYPE_TENSOR__INIT;
    tensor.elem_type = 1; /* FLOAT */
    tensor.has_elem_type = true;
    tensor.shape = &shape;
    Onnx__TypeProto type;
    onnx__type_proto__init(&type);
    type.value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    type.tensor_type = &tensor;

    char x[] = "x", y[] = "y", identity[] = "Identity", name[] = "identity";
    Onnx__ValueInfoProto input = ONNX__VALUE_INFO_PROTO__INIT, output = input;
    input.name = x;
    output.name = y;
    input.type = output.type = &type;
    Onnx__ValueInfoProto *inputs[] = {&input}, *outputs[] = {&output};
    char *from[] = {x}, *to[] = {y};
    Onnx__NodeProto node = ONNX__NODE_PROTO__INIT;
    node.op_type = identity;
    node.n_input = N_FIELDS(from);
    node.input = from;
    node.n_output = N_FIELDS(to);
    node.output = to;
    Onnx__NodeProto *nodes[] = {&node};
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
    opset.version = 13;
    Onnx__OperatorSetIdProto *opsets[] = {&opset};
    Onnx__ModelProto model = ONNX__MODEL_PROTO__INIT;
    model.has_ir_version = true;
    model.ir_version = 7;
    model.graph = &graph;
    model.n_opset_import = N_FIELDS(opsets);
    model.opset_import = opsets;

    uint8_t bytes[1024]; /* some 80 are used */
    size_t size = onnx__model_proto__pack(&model, bytes);
    FILE *f = fopen(argv[2], "wb");
    if (!f || fwrite(bytes, 1, size, f) != size || fclose(f)) {
        perror(argv[2]);
        return 1;
    }
    return 0;
}
