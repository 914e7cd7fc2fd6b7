"""ONNX Runtime through its C interface, as scripts/setup --bench installs it: expected values for tests."""

import ctypes
import pathlib

import numpy as np

# Positions in the append-only table of functions.
GET_ERROR_MESSAGE, CREATE_ENV, CREATE_SESSION, RUN, CREATE_OPTIONS = 2, 3, 7, 9, 10
TENSOR_WITH_DATA, TENSOR_DATA, DIM_COUNT, DIMS, TENSOR_TYPE_AND_SHAPE, CPU_MEMORY_INFO = 49, 51, 61, 62, 65, 69
API_VERSION = 13
TYPES = {"float32": 1, "int64": 7}


def library(source):
    """The path of the library, or None where it is not installed."""
    found = sorted((pathlib.Path(source) / "build-node" / "node_modules" / "onnxruntime-node" / "bin").glob("*/linux/x64/libonnxruntime.so*"))
    return found[0] if found else None


class Session:
    """One model; everything it makes lives as long as the process."""

    def __init__(self, path, model):
        class Base(ctypes.Structure):
            _fields_ = [("get_api", ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_uint32)), ("version", ctypes.c_void_p)]

        runtime = ctypes.CDLL(str(path))
        runtime.OrtGetApiBase.restype = ctypes.POINTER(Base)
        self.api = runtime.OrtGetApiBase().contents.get_api(API_VERSION)
        self.session = ctypes.c_void_p()
        env, options = ctypes.c_void_p(), ctypes.c_void_p()
        self.call(CREATE_ENV, ctypes.c_int(3), b"test", ctypes.byref(env))
        self.call(CREATE_OPTIONS, ctypes.byref(options))
        self.call(CREATE_SESSION, env, str(model).encode(), options, ctypes.byref(self.session))

    def call(self, function, *arguments):
        status = ctypes.CFUNCTYPE(ctypes.c_void_p)(self.api[function])(*arguments)
        if status:
            text = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)(self.api[GET_ERROR_MESSAGE])(status)
            raise RuntimeError(f"ONNX Runtime: {text.decode()}")

    def run(self, inputs, outputs):
        """|inputs|: {name: array}; gives the float32 |outputs| by name."""
        memory = ctypes.c_void_p()
        self.call(CPU_MEMORY_INFO, ctypes.c_int(1), ctypes.c_int(0), ctypes.byref(memory))
        values = (ctypes.c_void_p * len(inputs))()
        for k, array in enumerate(inputs.values()):
            dims = (ctypes.c_int64 * array.ndim)(*array.shape)
            self.call(TENSOR_WITH_DATA, memory, array.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(array.nbytes), dims,
                      ctypes.c_size_t(array.ndim), ctypes.c_int(TYPES[array.dtype.name]),
                      ctypes.byref(values, k * ctypes.sizeof(ctypes.c_void_p)))
        results = (ctypes.c_void_p * len(outputs))()
        names = [(ctypes.c_char_p * len(group))(*(n.encode() for n in group)) for group in (inputs, outputs)]
        self.call(RUN, self.session, None, names[0], values, ctypes.c_size_t(len(inputs)), names[1], ctypes.c_size_t(len(outputs)), results)
        return {name: self.array(value) for name, value in zip(outputs, results)}

    def array(self, value):
        info, rank, data = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.POINTER(ctypes.c_float)()
        value = ctypes.c_void_p(value)
        self.call(TENSOR_TYPE_AND_SHAPE, value, ctypes.byref(info))
        self.call(DIM_COUNT, info, ctypes.byref(rank))
        dims = (ctypes.c_int64 * rank.value)()
        self.call(DIMS, info, dims, rank)
        self.call(TENSOR_DATA, value, ctypes.byref(data))
        return np.ctypeslib.as_array(data, tuple(dims)).copy()
