"""Damages good models at random: some in their bytes, some in their meaning.

Usage: make_mutants.py ZOO OUT COUNT [SEED]    ->    OUT/NAME/model.onnx and OUT/index.json as make_hostile.py

Any answer will do, as long as it is one. The same seed makes the same files; a name tells how to make one
again: MODEL.SEED.NUMBER.
"""

import json
import pathlib
import random
import shutil
import sys

import onnx
from onnx import TensorProto

NUMBERS = (0, 1, -1, 2, -2, 3, 7, 255, 2**31 - 1, -(2**31), 2**62, -(2**63), 2**63 - 1)


def flip_bits(data, r):
    data = bytearray(data)
    for _ in range(r.choice((1, 2, 8, 64))):
        data[r.randrange(len(data))] ^= 1 << r.randrange(8)
    return bytes(data)


def cut(data, r):
    start = r.randrange(len(data))
    return data[:start] + data[start + r.randrange(1, 200):]


def repeat(data, r):
    start = r.randrange(len(data))
    return data[:start] + data[start:start + r.randrange(1, 400)] * 2 + data[start:]


def graphs_of(graph):
    """The graph and those in its nodes' attributes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs_of(attribute.g)


def change_attribute(graph, r):
    attributes = [a for node in graph.node for a in node.attribute]
    if not attributes:
        return
    attribute = r.choice(attributes)
    if attribute.ints:
        attribute.ints[r.randrange(len(attribute.ints))] = r.choice(NUMBERS)
        if r.random() < 0.3:
            attribute.ints.append(r.choice(NUMBERS))
    elif attribute.HasField("i"):
        attribute.i = r.choice(NUMBERS)
    elif attribute.HasField("f"):
        attribute.f = r.choice((0.0, -1.0, float("nan"), float("inf"), 1e-40, 1e38))
    else:
        attribute.name += "x"


def change_constant(graph, r):
    tensors = [t for t in graph.initializer if t.data_type == TensorProto.INT64]
    tensors += [a.t for node in graph.node if node.op_type == "Constant" for a in node.attribute
                if a.HasField("t") and a.t.data_type == TensorProto.INT64]
    tensors = [t for t in tensors if t.raw_data]
    if not tensors:
        return
    tensor = r.choice(tensors)
    at = 8 * r.randrange(len(tensor.raw_data) // 8)
    number = r.choice(NUMBERS).to_bytes(8, "little", signed=True)
    tensor.raw_data = tensor.raw_data[:at] + number + tensor.raw_data[at + 8:]


def change_dims(graph, r):
    tensors = [t for t in graph.initializer if t.dims]
    if tensors:
        tensor = r.choice(tensors)
        tensor.dims[r.randrange(len(tensor.dims))] = r.choice(NUMBERS)


def change_dtype(graph, r):
    if graph.initializer:
        r.choice(graph.initializer).data_type = r.randrange(25)


def rewire(graph, r):
    nodes = [node for node in graph.node if node.input]
    names = [name for node in graph.node for name in node.output] + [i.name for i in graph.initializer]
    if nodes and names:
        node = r.choice(nodes)
        node.input[r.randrange(len(node.input))] = r.choice([*names, ""])


def change_arity(graph, r):
    nodes = [node for node in graph.node if node.input]
    if nodes:
        node = r.choice(nodes)
        if r.random() < 0.5:
            del node.input[r.randrange(len(node.input))]
        else:
            node.input.append(r.choice(node.input))


def change_operator(graph, r):
    if len(graph.node) > 1:
        r.choice(graph.node).op_type = r.choice(graph.node).op_type


def change_input(graph, r):
    if graph.input:
        tensor = r.choice(graph.input).type.tensor_type
        if tensor.shape.dim and r.random() < 0.7:
            tensor.shape.dim[r.randrange(len(tensor.shape.dim))].dim_value = r.choice(NUMBERS)
        else:
            tensor.elem_type = r.randrange(25)


BYTES = (flip_bits, flip_bits, cut, repeat)
MEANING = (change_attribute, change_attribute, change_constant, change_constant, change_dims, change_dtype,
           rewire, change_arity, change_operator, change_input)


def mutant(data, r):
    if r.random() < 0.3:
        return r.choice(BYTES)(data, r)
    model = onnx.ModelProto.FromString(data)
    for _ in range(r.choice((1, 1, 2, 4))):
        r.choice(MEANING)(r.choice(list(graphs_of(model.graph))), r)
    if r.random() < 0.05:
        model.opset_import[0].version = r.choice((1, 7, 12, 13, 18, 28, 99))
    return model.SerializeToString()


def main():
    zoo, out, count = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else 0
    shutil.rmtree(out, ignore_errors=True)
    models = sorted(path for path in zoo.glob("*/model.onnx") if path.stat().st_size < 400_000)
    index = {}
    for number in range(count):
        r = random.Random(f"{seed}.{number}")
        path = r.choice(models)
        name = f"{path.parent.name}.{seed}.{number}"
        (out / name).mkdir(parents=True)
        (out / name / "model.onnx").write_bytes(mutant(path.read_bytes(), r))
        shutil.copytree(path.parent / "test_data_set_0", out / name / "test_data_set_0",
                        ignore=shutil.ignore_patterns("output_*"))
        index[name] = {"kind": "mutant", "what": "damaged at random", "accept": "ok-or-error",
                       "inputs": True}
    (out / "index.json").write_text(json.dumps(index, indent=1))
    print(len(index), "mutants")


if __name__ == "__main__":
    main()
