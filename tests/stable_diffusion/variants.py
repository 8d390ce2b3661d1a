"""Writes the tiny model in other forms that exporters give it.

Usage: variants.py MODEL OUT      (pip package onnx)

OUT/plain_types: int32 ids, no pooled output, a scalar float timestep; the picture must not change.
OUT/rows: one timestep for each row, of int32.
OUT/fixed: batch 2 and 16 x 16 latents fixed, half-precision inputs and outputs of the decoder.
OUT/guided: guidance is an input (timestep_cond), as in LCM's models; it adds sum(timestep_cond) / 1000 to the latents.
OUT/xl: two text encoders with all hidden states, pooled text and time ids, as SDXL; the UNet reads
    (text 1 - text 2 / 2) and adds sum(text_embeds row) / 1000 + sum(time_ids * (1, 2, 3, 4, 5, 6)) / 1e5 to the latents.
"""

import pathlib
import shutil
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Editor:
    """Puts nodes between the inputs and the network."""

    def __init__(self, folder, part):
        self.file = folder / part / "model.onnx"
        self.model = onnx.load(self.file)
        self.graph = self.model.graph
        self.nodes = []

    def input(self, name):
        return next(value for value in self.graph.input if value.name == name)

    def redeclare(self, name, dtype, dims):
        """The input gets another type; what the network reads is called NAME_inside."""
        for node in self.graph.node:
            for i, read in enumerate(node.input):
                if read == name:
                    node.input[i] = name + "_inside"
        self.input(name).CopyFrom(helper.make_tensor_value_info(name, dtype, dims))
        return name, name + "_inside"

    def add_input(self, name, dtype, dims):
        self.graph.input.append(helper.make_tensor_value_info(name, dtype, dims))
        return name

    def add(self, op, inputs, output, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output], name="variant_" + output, **attributes))
        return output

    def constant(self, name, values):
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def keep_outputs(self, keep):
        outputs = [value for value in self.graph.output if value.name in keep]
        del self.graph.output[:]
        self.graph.output.extend(outputs)

    def save(self):
        nodes = self.nodes + list(self.graph.node)
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        onnx.save(self.model, self.file)


def copied(model, out, name):
    shutil.rmtree(out / name, ignore_errors=True)
    shutil.copytree(model, out / name)
    return out / name


def int32_ids(folder, part):
    edit = Editor(folder, part)
    outside, inside = edit.redeclare("input_ids", TensorProto.INT32, ["batch_size", "sequence_length"])
    edit.add("Cast", [outside], inside, to=TensorProto.INT64)
    return edit


def plain_types(folder):
    edit = int32_ids(folder, "text_encoder")
    edit.keep_outputs(["last_hidden_state"])
    edit.save()
    edit = Editor(folder, "unet")
    outside, inside = edit.redeclare("timestep", TensorProto.FLOAT, [])
    whole = edit.add("Cast", [outside], "timestep_whole", to=TensorProto.INT64)
    edit.add("Reshape", [whole, edit.constant("variant_one", np.array([1], np.int64))], inside)
    edit.save()


def one_timestep_a_row(folder):
    edit = Editor(folder, "unet")
    outside, inside = edit.redeclare("timestep", TensorProto.INT32, ["batch_size"])
    edit.add("Cast", [outside], inside, to=TensorProto.INT64)
    edit.save()


def fixed(folder):
    edit = Editor(folder, "unet")
    for name in ("sample", "encoder_hidden_states"):
        edit.input(name).type.tensor_type.shape.dim[0].dim_value = 2
    for axis in (2, 3):
        edit.input("sample").type.tensor_type.shape.dim[axis].dim_value = 16
    edit.save()
    edit = Editor(folder, "vae_decoder")
    outside, inside = edit.redeclare("latent_sample", TensorProto.FLOAT16, [2, 4, 16, 16])
    edit.add("Cast", [outside], inside, to=TensorProto.FLOAT)
    edit.save()


def added_to_sample(edit, terms):
    outside, inside = edit.redeclare("sample", TensorProto.FLOAT, ["batch_size", 4, "height", "width"])
    shape = edit.constant("variant_column", np.array([-1, 1, 1, 1], np.int64))
    for i, term in enumerate(terms):
        column = edit.add("Reshape", [term, shape], f"variant_term_{i}")
        outside = edit.add("Add", [outside, column], inside if i + 1 == len(terms) else f"variant_sum_{i}")


def row_sum(edit, name, weights, scale):
    weighted = edit.add("Mul", [name, edit.constant(name + "_weights", np.asarray(weights, np.float32) * np.float32(scale))], name + "_weighted")
    return edit.add("ReduceSum", [weighted, edit.constant(name + "_axis", np.array([1], np.int64))], name + "_sum", keepdims=0)


def guided(folder):
    edit = Editor(folder, "unet")
    edit.add_input("timestep_cond", TensorProto.FLOAT, ["batch_size", 256])
    added_to_sample(edit, [row_sum(edit, "timestep_cond", np.ones(256), 1e-3)])
    edit.save()


def xl(folder):
    edit = Editor(folder, "text_encoder")
    # The sums behind the embeddings and behind the last part of every layer.
    adds = [node.output[0] for node in edit.graph.node if node.op_type == "Add"]
    final = [node for node in edit.graph.node if node.op_type == "LayerNormalization"][-1].input[0]
    first = [node for node in edit.graph.node if node.op_type == "LayerNormalization"][0].input[0]
    second = [node for node in edit.graph.node if node.op_type == "LayerNormalization"][2].input[0]
    third = [node for node in edit.graph.node if node.op_type == "LayerNormalization"][4].input[0]
    assert {first, second, third, final} <= set(adds)
    for i, name in enumerate((first, second, third, final)):
        edit.graph.node.append(helper.make_node("Identity", [name], [f"hidden_states.{i}"]))
        edit.graph.output.append(helper.make_tensor_value_info(f"hidden_states.{i}", TensorProto.FLOAT, ["batch_size", "sequence_length", 96]))
    edit.save()
    shutil.copytree(folder / "text_encoder", folder / "text_encoder_2")
    shutil.copytree(folder / "tokenizer", folder / "tokenizer_2")
    edit = Editor(folder, "text_encoder_2")
    for value in edit.graph.output:
        if value.name == "pooler_output":
            edit.graph.node.append(helper.make_node("Identity", ["pooler_output"], ["text_embeds"]))
            value.name = "text_embeds"
    edit.save()
    edit = Editor(folder, "unet")
    outside, inside = edit.redeclare("encoder_hidden_states", TensorProto.FLOAT, ["batch_size", "sequence_length", 192])
    halves = helper.make_node("Split", [outside], ["variant_text_1", "variant_text_2"], axis=2, name="variant_split")
    edit.nodes.append(halves)
    half = edit.add("Mul", ["variant_text_2", edit.constant("variant_half", np.float32(0.5))], "variant_text_half")
    edit.add("Sub", ["variant_text_1", half], inside)
    edit.add_input("text_embeds", TensorProto.FLOAT, ["batch_size", 96])
    edit.add_input("time_ids", TensorProto.FLOAT, ["batch_size", 6])
    added_to_sample(edit, [row_sum(edit, "text_embeds", np.ones(96), 1e-3), row_sum(edit, "time_ids", [1, 2, 3, 4, 5, 6], 1e-5)])
    edit.save()


def write_all(model, out):
    out.mkdir(parents=True, exist_ok=True)
    for name, change in (("plain_types", plain_types), ("rows", one_timestep_a_row), ("fixed", fixed), ("guided", guided), ("xl", xl)):
        change(copied(model, out, name))


if __name__ == "__main__":
    write_all(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
