"""Times examples/stable_diffusion beside ONNX Runtime's CPU for the same network calls, and prints the ratio.

Usage: sd_vs_ort.py [--threads N] [--turns N] [PROGRAM]

Needs the pip packages numpy and onnxruntime. Four prompts in one batch, guidance, 20 steps with the tiny model: one call of
the text encoder, 21 of the UNet (8 rows each), four of the decoder. The two take turns; the least time of each counts.
Sessions are loaded before the clock starts, as kn's networks are; what kn needs for scheduler and pictures is within its
time. The ratio must not be above 2.5.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnxruntime

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "examples/stable_diffusion/tiny/model"
PROMPTS = ["a blue moon left of an orange star on a black background",
           "a large red heart on a white background",
           "a small green square above a large purple ring on a yellow background",
           "a white cross right of a red triangle on a blue background"]
UNET_CALLS = 21  # PNDM's for 20 steps


class Ort:
    def __init__(self, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        load = lambda part: onnxruntime.InferenceSession(str(MODEL / part / "model.onnx"), options,
                                                         providers=["CPUExecutionProvider"])
        self.text, self.unet, self.decoder = load("text_encoder"), load("unet"), load("vae_decoder")

    def seconds(self):
        random = np.random.default_rng(0)
        ids = random.integers(0, 150, (5, 77))
        latents = random.standard_normal((8, 4, 16, 16), dtype=np.float32)
        start = time.perf_counter()
        hidden = self.text.run(["last_hidden_state"], {"input_ids": ids})[0]
        hidden = np.concatenate([hidden[:1]] * 4 + [hidden[1:]])
        for step in range(UNET_CALLS):
            out = self.unet.run(None, {"sample": latents, "timestep": np.array([950 - 45 * step]),
                                       "encoder_hidden_states": hidden})[0]
        for row in range(4):
            self.decoder.run(None, {"latent_sample": out[row:row + 1]})
        return time.perf_counter() - start


def kn_seconds(program, threads):
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--device", "cpu", "--threads", str(threads), "--output", f"{folder}/sheet.png"]
        for prompt in PROMPTS:
            command += ["--prompt", prompt]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert f"({UNET_CALLS} UNet calls)" in text, text
    stage = lambda name: float(re.search(rf"{name} ([0-9.]+) s", text)[1])
    return stage("text") + stage("denoise") + stage("decode")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("program", nargs="?", default=str(ROOT / "build/release/bin/stable_diffusion"))
    args = parser.parse_args()
    rival = Ort(args.threads)
    rival.seconds()
    ort, own = [], []
    for _ in range(args.turns):
        ort.append(rival.seconds())
        own.append(kn_seconds(args.program, args.threads))
    ratio = min(own) / min(ort)
    print(f"four pictures, 20 steps, {args.threads} threads: kn {min(own):.2f} s, ONNX Runtime {min(ort):.2f} s, "
          f"ratio {ratio:.2f} (at most 2.5)")
    return 0 if ratio <= 2.5 else 1


if __name__ == "__main__":
    sys.exit(main())
