"""Writes ONNX's own node cases, out of the pip package onnx, in the backend-test layout.

Usage: generate.py OUT    ->    OUT/NAME/{model.onnx, test_data_set_K/{input,output}_I.pb}
"""

import pathlib
import sys

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_node_model_tests

MESSAGES = (onnx.TensorProto, onnx.SequenceProto, onnx.OptionalProto, onnx.MapProto)


def message(value, info):
    """The message that the type of the graph's input or output asks for."""
    if isinstance(value, MESSAGES):
        return value
    if info.type.HasField("map_type"):
        return numpy_helper.from_dict(value, info.name)
    if info.type.HasField("sequence_type"):
        return numpy_helper.from_list(value, info.name)
    if info.type.HasField("optional_type"):
        return numpy_helper.from_optional(value, info.name)
    return numpy_helper.from_array(np.asarray(value), info.name)


def write_case(case, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(case.model.SerializeToString())
    graph = case.model.graph
    for number, (inputs, outputs) in enumerate(case.data_sets):
        data = folder / f"test_data_set_{number}"
        data.mkdir(exist_ok=True)
        for kind, values, infos in (("input", inputs, graph.input), ("output", outputs, graph.output)):
            for i, value in enumerate(values):
                path = data / f"{kind}_{i}.pb"
                path.write_bytes(message(value, infos[i]).SerializeToString())


def main():
    out = pathlib.Path(sys.argv[1])
    stamp = out / "generated-by"
    if stamp.exists() and stamp.read_text() == onnx.__version__:
        return
    cases = load_node_model_tests()
    for case in cases:
        write_case(case, out / case.name)
    stamp.write_text(onnx.__version__)
    print(f"{len(cases)} cases written")


if __name__ == "__main__":
    main()
