#!/usr/bin/env python3
"""The recorded pictures on a device: float32 number by number, half precision by how the picture looks.

Usage: on_device.py [--device cuda] [--precision f32,f16] PROGRAM MODEL      (pip package numpy)

f32: latents and picture within 2e-3 of the peak; f16 and bf16: the picture within a mean of 1.5/255; tf32: reported.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

DATA = pathlib.Path(__file__).resolve().parents[1] / "data/tiny_sd"
SCHEDULERS = {"pndm": "pndm", "ddim": "ddim", "euler": "euler", "dpm_solver": "dpm++"}


def check(args, precision, name, folder):
    case = DATA / name
    prompt = json.loads((case / "meta.json").read_text())["prompts"][0]
    command = [args.program, "--model", args.model, "--device", args.device, "--precision", precision, "--prompt", prompt, "--scheduler",
               SCHEDULERS[name], "--noise", str(case / "initial_noise.npy"), "--dump", f"{folder}/dump", "--output", f"{folder}/out.png"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"FAIL {name} {precision}: {done.stderr.strip()[-300:]}")
        return False
    worst = 0.0
    for file in case.glob("*.npy"):
        if file.name != "initial_noise.npy":
            wanted = np.load(file)
            got = np.load(f"{folder}/dump/{file.name}")
            worst = max(worst, float(np.abs(got - wanted).max() / np.abs(wanted).max()))
    bytes_of = lambda image: np.rint((np.clip(image, -1, 1) / 2 + 0.5) * 255)
    mean = float(np.abs(bytes_of(np.load(f"{folder}/dump/image.npy")) - bytes_of(np.load(case / "image.npy"))).mean())
    good = {"f32": worst <= 2e-3, "f16": mean <= 1.5, "bf16": mean <= 1.5}.get(precision, True)
    step = [part for part in done.stdout.split("(") if part.endswith("s/step), decode") or "s/step" in part]
    print(f"{'PASS' if good else 'FAIL'} {name} {precision}: {worst:.2e} of the peak, picture {mean:.3f}/255, {step[-1].split(')')[0] if step else ''}",
          flush=True)
    return good


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="f32,tf32,f16,bf16")
    parser.add_argument("program")
    parser.add_argument("model")
    args = parser.parse_args()
    failed = 0
    for precision in args.precision.split(","):
        for name in SCHEDULERS:
            with tempfile.TemporaryDirectory() as folder:
                failed += not check(args, precision, name, folder)
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
