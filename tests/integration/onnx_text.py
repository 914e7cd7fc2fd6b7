"""Networks of a few lines, for tests that need models whose right answers are known."""

import subprocess

import daemon

HEAD = 'ir_version: 8 opset_import { version: 17 } graph { name: "%s"'
TAIL = ' output { name: "y" type { tensor_type { elem_type: 1 } } } }'


def write(path, text):
    """|text|: an onnx.ModelProto as text."""
    schema = daemon.SOURCE / "proto/onnx/onnx.proto"
    with open(path, "wb") as out:
        subprocess.run(["protoc", "-I", daemon.SOURCE / "proto", "--encode=onnx.ModelProto", schema],
                       input=text.encode(), check=True, stdout=out)


def _input(*dims):
    return ' input { name: "x" type { tensor_type { elem_type: 1 shape { %s } } } }' % " ".join(
        f'dim {{ dim_param: "{d}" }}' if isinstance(d, str) else f"dim {{ dim_value: {d} }}" for d in dims)


ANY = ("--dynamic-batch", "--io-config", '{"inputs":{"x":[[256],"float32"]}}')  # for an open first dimension


def add(n, constant, name="add"):
    """y[n] = x + constant; |n| may be a name: an open dimension."""
    return (HEAD % name + _input(n) + f' initializer {{ name: "c" data_type: 1 float_data: {constant} }}'
            ' node { op_type: "Add" input: "x" input: "c" output: "y" }' + TAIL)


def matmul(rows, width, layers, name="matmul"):
    """y = x after |layers| products with a matrix that only turns the elements by one place."""
    weights = ", ".join("1" if (i + 1) % width == j else "0" for i in range(width) for j in range(width))
    text = HEAD % name + _input(rows, width)
    text += f' initializer {{ name: "w" dims: {width} dims: {width} data_type: 1 float_data: [{weights}] }}'
    names = ["x", *(f"h{i}" for i in range(1, layers)), "y"]
    for a, b in zip(names, names[1:]):
        text += f' node {{ op_type: "MatMul" input: "{a}" input: "w" output: "{b}" }}'
    return text + TAIL


def compile_model(directory, name, text, *options):
    """Returns the path of the artifact."""
    write(directory / f"{name}.onnx", text)
    neff = directory / f"{name}.neff"
    daemon.compile_model(directory / f"{name}.onnx", neff, *options)
    return neff
