#!/usr/bin/env python3
"""Stable Diffusion 1.5 at full size with random weights, on a GPU: kn beside PyTorch.

    sd15.py --program build/release/bin/stable_diffusion [--out DIR] [--only export,kn,eager,compile]
    sd15.py --tiny --device cpu --program ...        tiny sizes on the CPU: does the script work?

Needs torch, onnx and diffusers (pip; `pip install --no-deps diffusers` will do where huggingface_hub and safetensors are).
`export` writes DIR/model, the folder that optimum would write, in half precision; its text encoder is CLIP's architecture
written out here, its vocabulary the tiny model's. `kn` draws 512 x 512 with guidance, 20 steps of DDIM, F16: with cold
caches of kn's own, from process start to the picture, then with warm ones; a step's time is the median.
`eager` and `compile` time the same UNet call (two rows) in PyTorch: eager in a CUDA graph, and
torch.compile(mode="reduce-overhead"). What is measured goes to DIR/sd15.json at once; the table has every figure that is there.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import time
import warnings

import torch
import torch_graph
from torch import nn

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = ROOT / "examples/stable_diffusion/tiny/model"
RUNS = 20


class ClipText(nn.Module):
    """CLIP's text encoder: pre-norm layers under a causal mask, x sigmoid(1.702 x)."""

    def __init__(self, width, layers, heads, vocabulary=49408, length=77):
        super().__init__()
        self.heads = heads
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.layers = nn.ModuleList(nn.ModuleDict(dict(
            norm1=nn.LayerNorm(width), qkv=nn.Linear(width, 3 * width), out=nn.Linear(width, width),
            norm2=nn.LayerNorm(width), up=nn.Linear(width, 4 * width), down=nn.Linear(4 * width, width))) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids):
        batch, length = ids.shape
        x = self.token(ids) + self.position.weight[:length]
        mask = torch.full((length, length), torch.finfo(x.dtype).min, dtype=x.dtype, device=x.device).triu(1)
        for layer in self.layers:
            q, k, v = (t.reshape(batch, length, self.heads, -1).transpose(1, 2) for t in layer["qkv"](layer["norm1"](x)).chunk(3, -1))
            weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + mask).softmax(-1)
            x = x + layer["out"]((weights @ v).transpose(1, 2).reshape(batch, length, -1))
            y = layer["up"](layer["norm2"](x))
            x = x + layer["down"](y * torch.sigmoid(1.702 * y))
        return self.norm(x)


class Decoder(nn.Module):
    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def forward(self, latents):
        return self.vae.decoder(self.vae.post_quant_conv(latents))


class Call(nn.Module):
    def __init__(self, unet):
        super().__init__()
        self.unet = unet

    def forward(self, sample, timestep, hidden):
        return self.unet(sample, timestep, hidden, return_dict=False)[0]


def make_unet(tiny):
    from diffusers import UNet2DConditionModel
    widths = (32, 32, 64, 64) if tiny else (320, 640, 1280, 1280)
    return Call(UNet2DConditionModel(sample_size=16 if tiny else 64, block_out_channels=widths, cross_attention_dim=96 if tiny else 768,
                                     attention_head_dim=8))


def make_vae(tiny):
    from diffusers import AutoencoderKL
    widths = (32, 32, 32, 32) if tiny else (128, 256, 512, 512)
    kinds = dict(down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4)
    return Decoder(AutoencoderKL(block_out_channels=widths, layers_per_block=2, latent_channels=4, **kinds))


class Bench:
    def __init__(self, args):
        self.args = args
        self.out = args.out
        self.out.mkdir(parents=True, exist_ok=True)
        self.dtype = torch.float32 if args.device == "cpu" else torch.float16
        self.file = self.out / "sd15.json"
        self.figures = json.loads(self.file.read_text()) if self.file.exists() else {}

    def note(self, **figures):
        self.figures.update(figures)
        self.file.write_text(json.dumps(self.figures, indent=1))
        print(figures, flush=True)

    def on_device(self, make, *args):
        torch.manual_seed(0)
        with torch.device(self.args.device):
            return make(*args).to(self.dtype).eval()

    def write(self, name, module, inputs, names, output, axes):
        folder = self.out / "model" / name
        folder.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(module, inputs, str(folder / "model.onnx"), input_names=names, output_names=[output], opset_version=17,
                              dynamo=False, dynamic_axes=axes)

    def export(self):
        tiny, device = self.args.tiny, self.args.device
        start = time.perf_counter()
        shutil.rmtree(self.out / "model", ignore_errors=True)
        for name in ("tokenizer", "scheduler"):
            shutil.copytree(TINY / name, self.out / "model" / name)
        text = self.on_device(ClipText, *((96, 2, 4) if tiny else (768, 12, 12)))
        self.write("text_encoder", text, (torch.randint(0, 150, (2, 77), device=device),), ["input_ids"], "last_hidden_state",
                   {"input_ids": {0: "batch"}})
        rows = {"sample": {0: "batch", 2: "height", 3: "width"}, "timestep": {0: "steps"}, "encoder_hidden_states": {0: "batch"}}
        unet = self.on_device(make_unet, tiny)
        self.write("unet", unet, self.unet_inputs(), list(rows), "out_sample", rows)
        size = 16 if tiny else 64
        (self.out / "model/unet/config.json").write_text(json.dumps(dict(sample_size=size, in_channels=4)))
        del unet
        self.write("vae_decoder", self.on_device(make_vae, tiny), (torch.randn(1, 4, size, size, device=device, dtype=self.dtype),),
                   ["latent_sample"], "sample", {"latent_sample": {0: "batch", 2: "height", 3: "width"}})
        (self.out / "model/vae_decoder/config.json").write_text(json.dumps(dict(scaling_factor=0.18215)))
        self.note(export_s=time.perf_counter() - start)

    def unet_inputs(self):
        size, width = (16, 96) if self.args.tiny else (64, 768)
        options = dict(device=self.args.device, dtype=self.dtype)
        return (torch.randn(2, 4, size, size, **options), torch.tensor([500], device=self.args.device), torch.randn(2, 77, width, **options))

    def kn(self):
        cache = self.out / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        precision = "f32" if self.args.device == "cpu" else "f16"
        command = [self.args.program, "--model", str(self.out / "model"), "--prompt", "a red circle on a blue background", "--steps", "20",
                   "--scheduler", "ddim", "--guidance", "7.5", "--device", self.args.device, "--precision", precision, "--output", str(self.out / "picture.png")]
        for name in ("cold", "warm"):
            start = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ, XDG_CACHE_HOME=str(cache)))
            if done.returncode != 0:
                self.note(kn_problem=done.stderr[-300:])
                return
            self.note(**{f"kn_{name}_start_to_picture_s": time.perf_counter() - start, f"kn_{name}_summary": done.stdout})
        self.note(kn_step_s=float(re.search(r"\(([0-9.]+) s/step\)", done.stdout)[1]))

    def time(self, call):
        if self.args.device == "cpu":
            start = time.perf_counter()
            call()
            return time.perf_counter() - start
        for _ in range(3):
            call()
        torch.cuda.synchronize()
        times = []
        for _ in range(RUNS):
            start = time.perf_counter()
            call()
            torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    def peer(self):
        torch.backends.cudnn.benchmark = True
        unet = self.on_device(make_unet, self.args.tiny).to(memory_format=torch.channels_last)
        sample, *rest = self.unet_inputs()
        return unet, (sample.contiguous(memory_format=torch.channels_last), *rest)

    @torch.no_grad()
    def eager(self):
        unet, inputs = self.peer()
        if self.args.device == "cpu":
            self.note(eager_step_s=self.time(lambda: unet(*inputs)))
            return
        graph, _ = torch_graph.capture(lambda: unet(*inputs))
        self.note(eager_step_s=self.time(graph.replay))

    @torch.no_grad()
    def compile(self):
        unet, inputs = self.peer()
        start = time.perf_counter()
        compiled = torch.compile(unet, mode="reduce-overhead")
        for _ in range(3):
            compiled(*inputs)
        self.note(compile_setup_s=time.perf_counter() - start, compile_step_s=self.time(lambda: compiled(*inputs)))

    def table(self):
        rows = [("kn, whole step (UNet, guidance, scheduler)", "kn_step_s"), ("PyTorch eager in a CUDA graph, UNet alone", "eager_step_s"),
                ("torch.compile, UNet alone", "compile_step_s"), ("kn, cold caches: process start to picture", "kn_cold_start_to_picture_s"),
                ("kn, warm caches: process start to picture", "kn_warm_start_to_picture_s")]
        print("| 512 x 512, guidance, F16 | seconds |\n|---|---|")
        for text, key in rows:
            print(f"| {text} | {self.figures[key]:.4f} |" if key in self.figures else f"| {text} | not measured |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default=str(ROOT / "build/release/bin/stable_diffusion"))
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build/bench/sd15")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--only", default="export,kn,eager,compile")
    args = parser.parse_args()
    bench = Bench(args)
    for part in args.only.split(","):
        try:
            getattr(bench, part)()
        except Exception as error:  # one part's failure is a figure too
            bench.note(**{part + "_problem": f"{type(error).__name__}: {error}"[:400]})
    bench.table()


if __name__ == "__main__":
    main()
