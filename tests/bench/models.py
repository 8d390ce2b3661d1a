"""Full-sized networks with random weights, for benchmarks; weights go to an external file."""

import math

import numpy as np
import onnx
from onnx import TensorProto, helper


class Writer:
    """Collects nodes and weights of one network."""

    def __init__(self, seed=0):
        self.nodes = []
        self.weights = []
        self.random = np.random.default_rng(seed)
        self.count = 0

    def op(self, kind, *inputs, **attributes):
        self.count += 1
        name = f"{kind}_{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, array):
        self.count += 1
        name = f"weight_{self.count}"
        self.weights.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def weight(self, *shape):
        return self.constant(self.random.standard_normal(shape, np.float32) * np.float32(0.02))

    def ints(self, *values):
        return self.constant(np.array(values, np.int64))

    def linear(self, x, width_in, width_out):
        return self.op("Add", self.op("MatMul", x, self.weight(width_in, width_out)),
                       self.weight(width_out))

    def save(self, path, inputs, output):
        self.nodes[-1].output[0] = output.name
        graph = helper.make_graph(self.nodes, "bench", inputs, [output], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save_model(model, path, save_as_external_data=True, location="weights.bin",
                        size_threshold=1024)


def write_bert_base(path, batch=1, sequence=128, layers=12, width=768, heads=12, vocabulary=30522):
    """The encoder of BERT-base as PyTorch exports it: erf GELU, attention in parts, an additive mask."""
    w = Writer()
    head = width // heads
    unit, zero = np.ones(width, np.float32), np.zeros(width, np.float32)

    def norm(x):
        return w.op("LayerNormalization", x, w.constant(unit), w.constant(zero), axis=-1,
                    epsilon=1e-12)

    def heads_first(x, order):
        x = w.op("Reshape", x, w.ints(batch, sequence, heads, head))
        return w.op("Transpose", x, perm=order)

    x = w.op("Add", w.op("Gather", w.weight(vocabulary, width), "input_ids"),
             w.weight(1, sequence, width))
    x = norm(x)
    mask = w.op("Unsqueeze", w.op("Cast", "attention_mask", to=TensorProto.FLOAT), w.ints(1, 2))
    mask = w.op("Mul", w.op("Sub", w.constant(np.float32(1)), mask), w.constant(np.float32(-1e4)))
    for _ in range(layers):
        q = heads_first(w.linear(x, width, width), [0, 2, 1, 3])
        k = heads_first(w.linear(x, width, width), [0, 2, 3, 1])
        v = heads_first(w.linear(x, width, width), [0, 2, 1, 3])
        scores = w.op("Div", w.op("MatMul", q, k), w.constant(np.float32(head**0.5)))
        attention = w.op("MatMul", w.op("Softmax", w.op("Add", scores, mask), axis=-1), v)
        attention = w.op("Transpose", attention, perm=[0, 2, 1, 3])
        attention = w.op("Reshape", attention, w.ints(batch, sequence, width))
        x = norm(w.op("Add", w.linear(attention, width, width), x))
        inner = w.linear(x, width, 4 * width)
        erf = w.op("Erf", w.op("Div", inner, w.constant(np.float32(2**0.5))))
        gelu = w.op("Mul", w.op("Mul", inner, w.op("Add", erf, w.constant(np.float32(1)))),
                    w.constant(np.float32(0.5)))
        x = norm(w.op("Add", w.linear(gelu, 4 * width, width), x))
    w.op("Identity", x)
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, [batch, sequence])
              for name in ("input_ids", "attention_mask")]
    w.save(path, inputs, helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, sequence, width]))


def write_wide_mlp(path, megabytes=500, width=4096):
    """Matrices of width x width until the file has this size."""
    w = Writer()
    x = "x"
    for _ in range(math.ceil(megabytes * 1e6 / (width * width * 4))):
        x = w.op("Relu", w.op("MatMul", x, w.weight(width, width)))
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width]) for name in ("x", "y")]
    w.save(path, info[:1], info[1])
