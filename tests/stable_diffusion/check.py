"""Runs the example as its users do: recorded pictures, other exports of the model, files, and everything that is wrong.

Usage: check.py PROGRAM MODEL      (pip packages numpy, onnx)
"""

import json
import os
import pathlib
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import time

import numpy as np

import variants

PROGRAM, MODEL = sys.argv[1], pathlib.Path(sys.argv[2])
DATA = pathlib.Path(__file__).resolve().parents[1] / "data/tiny_sd"
TOLERANCE = 2e-3  # of the peak
RED = "a red ring on a white background"
problems = []


def expect(holds, what):
    if not holds:
        problems.append(what)
        print("FAIL", what, flush=True)


def draw(folder, *args, **options):
    command = [PROGRAM, "--device", "cpu", "--output", f"{folder}/out.png", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, **options)


def difference(got, wanted):
    return float(np.abs(got - wanted).max() / np.abs(wanted).max()) if got.shape == wanted.shape else float("inf")


def recorded_pictures(folder):
    for name, scheduler in (("pndm", "pndm"), ("ddim", "ddim"), ("euler", "euler"), ("dpm_solver", "dpm++")):
        case = DATA / name
        prompt = json.loads((case / "meta.json").read_text())["prompts"][0]
        done = draw(folder, "--prompt", prompt, "--scheduler", scheduler, "--noise", case / "initial_noise.npy", "--dump", folder / name)
        expect(done.returncode == 0, f"{name}: {done.stderr}")
        for file in sorted(case.glob("*.npy")):
            if file.name == "initial_noise.npy":
                continue
            got = difference(np.load(folder / name / file.name), np.load(file))
            expect(got <= TOLERANCE, f"{name}/{file.name}: {got:.2e} of the peak")
        expect(len(list((folder / name).glob("latents_after_step_*.npy"))) == (21 if name == "pndm" else 20), f"{name}: a file for every step")


def other_exports(folder):
    variants.write_all(MODEL, folder / "models")
    images = {}
    for name in ("", "plain_types", "rows", "fixed"):
        model = folder / "models" / name if name else MODEL
        done = draw(folder, "--model", model, "--prompt", RED, "--steps", 2, "--seed", 3, "--guidance", 2, "--dump", folder / f"dump{name}")
        expect(done.returncode == 0, f"{name}: {done.stderr}")
        images[name] = np.load(folder / f"dump{name}/image.npy")
        expect(difference(images[name], images[""]) <= TOLERANCE, f"{name}: the picture differs")
    wrong_size(folder, folder / "models/fixed", "--width", 160)


def exports_of_optimum(folder):
    """make_exports.py says what they are."""
    with tarfile.open(DATA.parent / "stable_diffusion/exports.tar.xz") as archive:
        archive.extractall(folder)
    for model in sorted(path for path in folder.iterdir() if path.is_dir()):
        case = json.loads((model / "expected/case.json").read_text())
        args = ["--model", model, "--noise", model / "expected/initial_noise.npy", "--dump", folder / f"{model.name}_dump"]
        for key in ("prompt", "negative", "steps", "guidance"):
            args += [f"--{key}", case[key]] if key in case else []
        done = draw(folder, *args)
        expect(done.returncode == 0, f"{model.name}: {done.stderr}")
        if done.returncode != 0:
            continue
        drawn = folder / f"{model.name}_dump"
        if "half" in case:
            np.save(folder / "loud.npy", 3e5 * np.load(model / "expected/initial_noise.npy"))
            loud = draw(folder, "--model", model, "--prompt", RED, "--steps", 1, "--noise", folder / "loud.npy")
            expect(loud.returncode == 0 and "has NaN" in loud.stderr, f"{model.name}: an overflow is told: {loud.stderr}")
            got = float(np.abs(np.load(drawn / "image.npy") - np.load(model / "expected/image.npy")).mean() / 2)
            expect(got <= 1.5 / 255, f"{model.name}: the picture differs by a mean of {got * 255:.2f} / 255")
            continue
        for file in sorted((model / "expected").glob("*.npy")):
            if file.name != "initial_noise.npy":
                got = difference(np.load(drawn / file.name), np.load(file))
                expect(got <= TOLERANCE, f"{model.name}/{file.name}: {got:.2e} of the peak")


def wrong_size(folder, model, *args):
    done = draw(folder, "--model", model, "--prompt", RED, *args)
    expect(done.returncode == 1 and "128 x 128" in done.stderr, f"fixed size: {done.stderr}")


def png_size(file):
    return struct.unpack(">II", file.read_bytes()[16:24])


def files_and_seeds(folder):
    short = ["--prompt", RED, "--steps", 2]
    first = folder / "a"
    draw(folder, *short, "--seed", 7, "--progress-images", folder / "emerging")
    shutil.copy(folder / "out.png", first)
    expect(len(list((folder / "emerging").glob("step_*.png"))) == 3, "a progress image for every step")
    expect(RED.encode() in first.read_bytes() and b"Seed: 7" in first.read_bytes(), "the PNG carries the parameters")
    draw(folder, *short, "--seed", 7)
    expect(first.read_bytes() == (folder / "out.png").read_bytes(), "one seed, one picture")
    draw(folder, *short, "--seed", 8)
    expect(first.read_bytes() != (folder / "out.png").read_bytes(), "another seed, another picture")
    done = draw(folder, *short, "--prompt", "a blue moon on a black background", "--count", 3, "--height", 64)
    expect(png_size(folder / "out.png") == (3 * 128 + 16, 2 * 64 + 8), "a sheet of two prompts by three")
    expect(all(png_size(folder / f"out_{i}.png") == (128, 64) for i in range(6)), "each picture by itself")
    expect("s/step" in done.stderr and "million parameters" in done.stdout, "progress and summary")
    long = draw(folder, "--prompt", "red " * 75 + "unseen end", "--steps", 1)
    expect("unseen end" in long.stderr, f"what is cut is shown: {long.stderr}")
    init = draw(folder, *short, "--init", first, "--strength", 0.5, "--width", 96, "--height", 64)
    expect(init.returncode == 0 and png_size(folder / "out.png") == (96, 64), f"start from a picture: {init.stderr}")


def started_elsewhere(folder):
    (folder / "link").symlink_to(PROGRAM)
    for program in (PROGRAM, folder / "link"):
        done = subprocess.run([program, "--prompt", RED, "--steps", "1", "--device", "cpu"], cwd=folder, capture_output=True, text=True)
        expect(done.returncode == 0 and (folder / "stable_diffusion.png").exists(), f"started elsewhere: {done.stderr}")


def broken_models(folder):
    def model(name, change):
        shutil.copytree(MODEL, folder / name)
        change(folder / name)
        return ["--model", folder / name]

    yield model("no_unet", lambda m: (m / "unet/model.onnx").unlink()), 1, "unet/model.onnx"
    yield model("no_vocabulary", lambda m: (m / "tokenizer/vocab.json").unlink()), 1, "vocab.json: cannot be read"
    yield model("no_tokenizer", lambda m: shutil.rmtree(m / "tokenizer")), 1, "tokenizer/vocab.json: cannot be read"
    yield model("no_scheduler", lambda m: shutil.rmtree(m / "scheduler")), 1, "scheduler_config.json"
    yield model("text_for_unet", lambda m: (m / "unet/model.onnx").write_text("hello")), 1, "unet/model.onnx"
    yield model("wrong_unet", lambda m: shutil.copy(m / "vae_decoder/model.onnx", m / "unet/model.onnx")), 1, "is no UNet"
    yield model("bad_config", lambda m: (m / "unet/config.json").write_text("[1]")), 1, "unet/config.json"
    yield model("cut_unet", lambda m: os.truncate(m / "unet/model.onnx", 100000)), 1, "unet/model.onnx"
    yield model("edm", lambda m: (m / "scheduler/scheduler_config.json").write_text('{"_class_name": "EDMEulerScheduler"}')), 1, "EDMEulerScheduler"


def broken_exports(folder):
    """Folders of optimum's whose parts do not belong together."""
    with tarfile.open(DATA.parent / "stable_diffusion/exports.tar.xz") as archive:
        archive.extractall(folder / "exports")

    def model(name, base, change):
        shutil.copytree(folder / "exports" / base, folder / name)
        change(folder / name)
        return ["--model", folder / name, "--steps", 1]

    def swap(part, base):
        return lambda m: (shutil.rmtree(m / part), shutil.copytree(folder / "exports" / base / part, m / part))

    yield model("no_second_tokenizer", "xl", lambda m: shutil.rmtree(m / "tokenizer_2")), 1, "tokenizer_2/vocab.json: cannot be read"
    yield model("no_second_encoder", "xl", lambda m: shutil.rmtree(m / "text_encoder_2")), 1, "needs a second text encoder"
    yield model("no_second_network", "xl", lambda m: (m / "text_encoder_2/model.onnx").unlink()), 1, "text_encoder_2/model.onnx: is missing"
    yield model("first_as_second", "xl", lambda m: shutil.copy(m / "text_encoder/model.onnx", m / "text_encoder_2/model.onnx")), 1, "text_embeds"
    yield model("no_decoder", "xl", lambda m: shutil.rmtree(m / "vae_decoder")), 1, "vae_decoder/model.onnx: is missing"
    yield model("no_encoder", "v", lambda m: None) + ["--init", folder / "init.png"], 1, "vae_encoder/model.onnx: is missing"
    yield model("another_unet", "v", swap("unet", "xl")), 1, "needs a second text encoder"
    yield model("another_width", "xl", swap("unet", "v")), 1, "width 16"
    yield model("tiny_text", "v", lambda m: (shutil.rmtree(m / "text_encoder"), shutil.copytree(MODEL / "text_encoder", m / "text_encoder"))), 1, "takes ids below 152"
    yield model("odd_size", "v", lambda m: None) + ["--width", 40], 1, "multiples of 16"


def bad_input(folder):
    noise = np.zeros((1, 4, 16, 16), np.float32)
    np.save(folder / "good.npy", noise)
    np.save(folder / "shape.npy", noise[:, :3])
    noise[0, 1, 2, 3] = np.nan
    np.save(folder / "nan.npy", noise)
    (folder / "text.npy").write_text("hello")
    draw(folder, "--prompt", RED, "--steps", 1)
    (folder / "out.png").rename(folder / "init.png")
    cases = [
        (["--width", 100], 1, "multiples of 32"), (["--height", 144], 1, "multiples of 32"), (["--width", -32], 1, "multiples of 32"), (["--height", 320000], 1, "16384"),
        (["--steps", 0], 1, "from 1 to 1000"), (["--steps", 1001], 1, "from 1 to 1000"), (["--steps", "x"], 2, "--steps"),
        (["--scheduler", "lcm", "--steps", 51], 1, "at most 50"), (["--scheduler", "none"], 2, "none"),
        (["--noise", folder / "nan.npy"], 1, "NaN"), (["--noise", folder / "shape.npy"], 1, "the noise is f32[1, 3, 16, 16]"),
        (["--noise", folder / "text.npy"], 1, "text.npy"), (["--noise", folder / "none.npy"], 1, "none.npy"),
        (["--noise", folder / "good.npy", "--count", 2], 1, "the noise is"),
        (["--init", folder / "text.npy"], 1, "text.npy"), (["--init", folder / "none.png"], 1, "none.png"), (["--strength", 0.5], 2, "--init"),
        (["--scheduler-config", folder / "text.npy"], 1, "text.npy"), (["--model", folder / "none"], 1, "no such folder"),
        (["--guidance", "nan"], 1, "guidance"), (["--device", "tpu"], 2, "tpu"), (["--device", "cuda:99"], 3, "cuda:99"),
        (["--precision", "f8"], 2, "f8"), (["--count", 0], 2, "--count"), (["--unknown"], 2, "--unknown"),
        (["--output", folder / "none/out.png"], 1, "does not exist"), (["--output", folder], 1, "is a folder"),
        (["--output", "/dev/full", "--steps", 1], 1, "No space left"), (["--dump", folder / "text.npy/dump"], 1, "text.npy"),
        (["--prompt", b"\xff"], 1, "UTF-8"),
        *broken_models(folder), *broken_exports(folder),
    ]
    before = set(folder.rglob("*"))
    for args, status, word in cases:
        command = [PROGRAM, "--device", "cpu", "--output", folder / "out.png", "--prompt", RED, *[a if isinstance(a, bytes) else str(a) for a in args]]
        done = subprocess.run(command, capture_output=True, timeout=600)
        lines = [line for line in done.stderr.decode(errors="replace").splitlines() if not line.startswith("[")]
        name = " ".join(map(str, args))
        expect(done.returncode == status and len(lines) == 1 and word in lines[0], f"{name}: status {done.returncode}, {lines}")
    for args in ([], ["--prompt"]):
        done = subprocess.run([PROGRAM, *args], capture_output=True, text=True)
        expect(done.returncode == 2 and len(done.stderr.splitlines()) == 1, f"{args}: {done.stderr}")
    expect(set(folder.rglob("*")) == before, f"left behind: {set(folder.rglob('*')) - before}")


def full_disk(folder):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))

    before = set(folder.rglob("*"))
    done = draw(folder, "--prompt", RED, "--steps", 1, "--dump", folder / "new/dump", preexec_fn=limit)
    expect(done.returncode == 1 and "cannot be written" in done.stderr, f"full disk: {done.stderr}")
    expect(set(folder.rglob("*")) == before, f"left behind by a full disk: {set(folder.rglob('*')) - before}")


def interrupted(folder):
    before = set(folder.rglob("*"))
    command = [PROGRAM, "--device", "cpu", "--prompt", RED, "--steps", "500", "--output", f"{folder}/out.png", "--dump", f"{folder}/dump"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        lines = [line for line in process.stderr.read().splitlines() if not line.startswith("[")]
        expect(process.wait(60) == 130 and lines == ["stable_diffusion: interrupted"], f"Ctrl-C: {process.returncode}, {lines}")
    expect(set(folder.rglob("*")) == before, "left behind by Ctrl-C")


def main():
    for part in (recorded_pictures, exports_of_optimum, other_exports, files_and_seeds, started_elsewhere, bad_input, full_disk, interrupted):
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            part(pathlib.Path(folder))
        print(f"{part.__name__}: {time.monotonic() - start:.1f} s", flush=True)
    print(f"{len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
