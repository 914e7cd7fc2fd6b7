#!/usr/bin/python3
"""Writes the seeds of fuzz_onnx: small models of all ages and operators, and damaged ones.

usage: make_onnx_corpus.py DIRECTORY      (needs Debian's python3-onnx)
"""
import pathlib
import random
import sys

import numpy as np
from onnx import AttributeProto, TensorProto, helper, numpy_helper

F = TensorProto.FLOAT


def tensor(name, values, dtype=np.float32):
    return numpy_helper.from_array(np.array(values, dtype), name)


def model(nodes, shape, consts=(), opset=13, ir=7, outputs=('y',), dtype=F, functions=(), domains=()):
    graph = helper.make_graph(
        nodes, 'g', [helper.make_tensor_value_info('x', dtype, shape)],
        [helper.make_tensor_value_info(o, F, None) for o in outputs], list(consts))
    imports = [helper.make_opsetid('', opset)] if opset else []
    imports += [helper.make_opsetid(d, 1) for d in domains]
    m = helper.make_model(graph, opset_imports=imports, functions=list(functions))
    m.ir_version = ir
    if not opset:
        del m.opset_import[:]
    return m.SerializeToString()


def node(op, inputs='x', outputs='y', **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def seeds():
    image = [1, 2, 4, 4]
    weights = tensor('w', np.arange(36).reshape(2, 2, 3, 3) / 36)
    two = tensor('two', [1, 2])
    yield 'conv', model([node('Conv', 'x w', 'c', pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
                         node('BatchNormalization', 'c two two two two', 'b'), node('Relu', 'b')],
                        image, [weights, two], opset=9, ir=3)
    yield 'pool', model([node('MaxPool', 'x', 'm', kernel_shape=[2, 2], strides=[2, 2]),
                         node('AveragePool', 'x', 'a', kernel_shape=[2, 2], auto_pad='SAME_UPPER'),
                         node('GlobalAveragePool', 'm')], image, outputs=('y', 'a'))
    yield 'shape', model([node('Shape', 'x', 's'), node('Gather', 's i', 'g'),
                          node('Unsqueeze', 'g', 'u', axes=[0]), node('Concat', 'u m', 'r', axis=0),
                          node('Reshape', 'x r', 'f'), node('Softmax', 'f')], image,
                         [tensor('i', 0, np.int64), tensor('m', [-1], np.int64)], opset=11)
    yield 'gemm', model([node('Flatten', 'x', 'f'), node('Gemm', 'f w two', 'y', transB=1, alpha=0.5)],
                        [1, 3], [tensor('w', np.ones((2, 3))), two], opset=7, ir=3)
    yield 'softmax_flat', model([node('Softmax', axis=1)], image, opset=9)
    yield 'old_add', model([node('Add', 'x two', 'y', broadcast=1, axis=1)], image, [two], opset=0, ir=1)
    yield 'old_prelu', model([node('PRelu', 'x two')], image, [two], opset=6, ir=3)
    yield 'clip', model([node('Clip', min=0.0, max=6.0)], image, opset=6, ir=3)
    yield 'pad', model([node('Pad', pads=[0, 0, 1, 1, 0, 0, 1, 1], value=1.0)], image, opset=2, ir=3)
    yield 'slice', model([node('Slice', starts=[0, 1], ends=[1, 2])], image, opset=9)
    yield 'split', model([node('Split', 'x', 'a y', axis=2)], image)
    yield 'reduce', model([node('ReduceMean', axes=[2, 3], keepdims=0)], image)
    yield 'resize', model([node('Resize', 'x r s')], image,
                          [tensor('r', []), tensor('s', [1, 1, 2, 2])])
    yield 'upsample', model([node('Upsample', scales=[1.0, 1.0, 2.0, 1.5], mode='linear')], image, opset=7)
    yield 'upsample_1', model([node('Upsample', height_scale=2.0, width_scale=2.0)], image, opset=1, ir=3)
    yield 'tile_1', model([node('Tile', 'x n a')], image, [tensor('n', 2), tensor('a', 1)], opset=1, ir=3)
    yield 'topk', model([node('TopK', 'x', 'y i', k=2)], image, opset=1, ir=3, outputs=('y', 'i'))
    yield 'dropout', model([node('Dropout', 'x', 'y m', ratio=0.5)], image, opset=9, outputs=('y', 'm'))
    yield 'cast_name', model([node('Cast', to='FLOAT16')], image, opset=5, ir=3)
    yield 'cast_like', model([node('CastLike', 'x i')], image, [tensor('i', 0, np.int8)], opset=15, ir=8)
    yield 'constants', model([node('Constant', '', 'a', value_floats=[1.0, 2.0]),
                              node('Constant', '', 'b', value_int=3),
                              node('Constant', '', 'c', value=two),
                              node('ConstantOfShape', 'b1', 'd', value=tensor('v', [2.0])),
                              node('Add', 'a c')], image, [tensor('b1', [2], np.int64)],
                             outputs=('y', 'b', 'd'))
    yield 'fill', model([node('ConstantFill', '', 'y', shape=[2, 3], value=4.0)], image, opset=1, ir=3)
    yield 'scaler', model([node('ImageScaler', bias=[1.0, 2.0], scale=2.0)], image, opset=1, ir=3)
    yield 'affine', model([node('Affine', alpha=2.0, beta=1.0)], image, opset=1, ir=3)
    yield 'group', model([node('GroupNormalization', 'x two two', 'y', num_groups=2)], [1, 4, 2, 2], [two],
                         opset=18, ir=8)
    yield 'unsorted', model([node('Neg', 'b', 'y'), node('Abs', 'x', 'b')], image)
    yield 'cycle', model([node('Add', 'x b', 'a'), node('Neg', 'a', 'b'), node('Neg', 'b')], image)
    yield 'twice', model([node('Neg'), node('Abs')], image)
    yield 'symbolic', model([node('Neg')], ['n', 3, None])
    yield 'unknown', model([node('Nowhere', domain='com.example')], image, domains=['com.example'])
    yield 'sequence', model([node('SequenceConstruct', 'x', 's'), node('SequenceLength', 's')], image)
    branch = helper.make_graph([node('Neg', 'x', 'z')], 'b', [], [helper.make_tensor_value_info('z', F, None)])
    yield 'subgraph', model([node('If', 'x', 'y', then_branch=branch, else_branch=branch)], [1],
                            dtype=TensorProto.BOOL)
    inner = node('LeakyRelu', 't', 'q')
    inner.attribute.append(AttributeProto(name='alpha', type=AttributeProto.FLOAT, ref_attr_name='slope'))
    f = helper.make_function('local', 'Leak', ['p'], ['q'], [node('Neg', 'p', 't'), inner],
                             [helper.make_opsetid('', 13)], ['slope'])
    yield 'function', model([node('Leak', 'x', 'y', domain='local', slope=0.5)], image, ir=8,
                            functions=[f], domains=['local'])
    again = helper.make_function('local', 'Again', ['p'], ['q'], [node('Again', 'p', 'q', domain='local')],
                                 [helper.make_opsetid('local', 1)])
    yield 'recursion', model([node('Again', 'x', 'y', domain='local')], image, ir=8, functions=[again],
                             domains=['local'])
    huge = tensor('w', [1, 2])
    huge.dims[0] = 1 << 40
    yield 'huge', model([node('Add', 'x w')], image, [huge])
    outside = tensor('w', [1, 2])
    outside.ClearField('raw_data')
    outside.data_location = TensorProto.EXTERNAL
    for key, value in (('location', '../../etc/passwd'), ('offset', '-1'), ('length', '99999999999999999999')):
        outside.external_data.add(key=key, value=value)
    yield 'external', model([node('Add', 'x w')], image, [outside])
    typed = TensorProto(name='w', data_type=TensorProto.FLOAT16, dims=[2], int32_data=[0x3c00, 0x4000])
    yield 'typed', model([node('Cast', 'w', 'y', to=F)], image, [typed])
    strings = TensorProto(name='w', data_type=TensorProto.STRING, dims=[2], string_data=[b'a', b'\0'])
    yield 'strings', model([node('Identity', 'w')], image, [strings])
    yield 'nested', nested(40)
    yield 'many', b'\x08\x07\x3a\x80\x08' + b'\x0a\x00' * 512
    yield from bodies()


def body(nodes, inputs, outputs):
    return helper.make_graph(nodes, 'b', [helper.make_tensor_value_info(i, F, None) for i in inputs],
                             [helper.make_tensor_value_info(o, F, None) for o in outputs])


def bodies():
    """Subgraphs that read names around them, through several levels, and hide some."""
    yes, limit = tensor('yes', True, np.bool_), tensor('limit', 3, np.int64)
    inner = body([node('Add', 'x h', 'z')], [], ['z'])
    outer = body([node('Neg', 'x', 'h'), node('If', 'c', 'y', then_branch=inner, else_branch=inner)], [], ['y'])
    yield 'captures', model([node('Abs', 'x', 'h'), node('ReduceMax', 'x', 'm', keepdims=0), node('Greater', 'm m', 'c'),
                             node('If', 'c', 'y', then_branch=outer, else_branch=body([], [], ['h']))], [2])
    turn = body([node('Add', 'v x', 'w'), node('Identity', 'w', 's')], ['i', 'go', 'v'], ['go', 'w', 's'])
    turn.input[0].type.tensor_type.elem_type = TensorProto.INT64
    turn.input[1].type.tensor_type.elem_type = TensorProto.BOOL
    yield 'loop', model([node('Loop', 'limit yes x', 'y z', body=turn)], [2], [yes, limit], opset=16, ir=8,
                        outputs=('y', 'z'))
    step = body([node('Add', 'a b', 't'), node('Clip', 't', 'u', min=0.5)], ['a', 'b'], ['t', 'u'])
    scan = node('Scan', 's x', 'y z', body=step, num_scan_inputs=1)
    yield 'scan', model([scan], [2, 3], [tensor('s', [0, 0, 0])], opset=9, outputs=('y', 'z'))
    old = helper.make_node('Scan', ['', 's', 'x'], ['y', 'z'], body=step, num_scan_inputs=1, directions=[1])
    yield 'scan_8', model([old], [2, 3, 1], [tensor('s', [[0], [0]])], opset=8, outputs=('y', 'z'))
    each = body([node('Mul', 'e x', 'f')], ['e'], ['f'])
    yield 'sequence_map', model([node('SplitToSequence', 'x', 's', axis=0), node('SequenceMap', 's', 't', body=each),
                                 node('ConcatFromSequence', 't', axis=0)], [2, 1], opset=17, ir=8)
    element = helper.make_tensor_type_proto(F, [2])
    yield 'optional', model([helper.make_node('Optional', [], ['o'], type=helper.make_sequence_type_proto(element)),
                             node('OptionalHasElement', 'o')], [2], opset=15, ir=8)


def nested(depth):
    """graph { node { attribute { g { node ..."""
    inner = b''
    for level in range(depth):
        tag = 0x3a if level == depth - 1 else (0x0a, 0x2a, 0x32)[(depth - 2 - level) % 3]
        size = bytes([len(inner) & 0x7f | 0x80, len(inner) >> 7]) if len(inner) > 127 else bytes([len(inner)])
        inner = bytes([tag]) + size + inner
    return b'\x08\x07' + inner


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(1)
    for name, data in seeds():
        (out / name).write_bytes(data)
        damaged = bytearray(data[:rng.randrange(len(data) // 2, len(data))])
        for _ in range(3):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        (out / (name + '_damaged')).write_bytes(bytes(damaged))


if __name__ == '__main__':
    main()
