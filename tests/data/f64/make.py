"""Makes f64 references: zoo cases run in double by ONNX's reference evaluator.

Usage: make.py ZOO NAME...   ->  NAME_output_I.npy beside this file

Every float32 of the model (weights, constants, attributes of Cast and ConstantOfShape, inputs) becomes a double before
the run, so the reference has no float32 rounding of its own. Not for networks with Erf or Gelu: the evaluator's erf
gives float32.
"""

import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

HERE = pathlib.Path(__file__).parent
FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE


def widen_tensor(tensor):
    if tensor.data_type == FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))


def widen_type(value):
    if value.type.tensor_type.elem_type == FLOAT:
        value.type.tensor_type.elem_type = DOUBLE


def widen_graph(graph):
    for tensor in graph.initializer:
        widen_tensor(tensor)
    for value in [*graph.input, *graph.output, *graph.value_info]:
        widen_type(value)
    for node in graph.node:
        if node.op_type == "ConstantOfShape" and not node.attribute:
            zero = numpy_helper.from_array(np.zeros(1))
            node.attribute.append(onnx.helper.make_attribute("value", zero))
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                widen_tensor(attribute.t)
            elif attribute.type == onnx.AttributeProto.GRAPH:
                widen_graph(attribute.g)
            elif attribute.name in ("to", "dtype") and attribute.i == FLOAT:
                attribute.i = DOUBLE


def main():
    zoo = pathlib.Path(sys.argv[1])
    for name in sys.argv[2:]:
        model = onnx.load(zoo / name / "model.onnx")
        widen_graph(model.graph)
        feed = {}
        for file in (zoo / name / "test_data_set_0").glob("input_*.pb"):
            tensor = onnx.load_tensor(file)
            array = numpy_helper.to_array(tensor)
            feed[tensor.name] = array.astype(np.float64) if array.dtype == np.float32 else array
        for i, output in enumerate(ReferenceEvaluator(model).run(None, feed)):
            assert np.asarray(output).dtype != np.float32, name
            np.save(HERE / f"{name}_output_{i}.npy", output)
        print(name)


main()
