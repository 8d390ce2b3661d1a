"""Runs the example beside diffusers' schedulers over ONNX Runtime, and compares latents and pictures.

Usage: compare.py [--only WORD] PROGRAM MODEL

Needs the pip packages diffusers, torch, transformers, onnxruntime, pillow (exit status 77 without them). The reference
does what diffusers' pipelines do: one CPU generator gives the VAE's sample, the start noise and the steps' noise. A
difference of more than 2e-3 of the peak fails.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import warnings

try:
    import diffusers
    import numpy as np
    import onnxruntime
    import torch
    from PIL import Image
    from transformers import CLIPTokenizer
    import variants
    from make_schedules import CLASSES
except ImportError as error:
    print("skipped:", error)
    sys.exit(77)

warnings.filterwarnings("ignore")
diffusers.logging.set_verbosity_error()
TOLERANCE = 2e-3
RED, TWO = "a red ring on a white background", "a small yellow heart above a blue cross on a black background"
CASES = {
    "euler_a": dict(prompts=[RED, TWO], scheduler="euler-a", steps=6, seed=5, guidance=3.0, width=160, negative="a green moon"),
    "lcm": dict(prompts=[TWO], scheduler="lcm", steps=4, seed=77, guidance=1.0, count=2),
    "ddim_clipped": dict(prompts=[RED], scheduler="ddim", steps=5, guidance=7.5, config=dict(clip_sample=True, clip_sample_range=2.0)),
    "karras": dict(prompts=[TWO], scheduler="dpm++-karras", steps=9, seed=2**40 + 3, guidance=4.0, height=96),
    "img2img": dict(prompts=[RED], steps=10, seed=3, strength=0.6, init="pndm"),
    "img2img_noise": dict(prompts=[RED], scheduler="dpm++", steps=8, seed=9, strength=0.75, init="ddim", noise=True),
    "img2img_euler": dict(prompts=[RED, TWO], scheduler="euler", steps=7, seed=4, strength=0.31, init="euler"),
    "v_prediction": dict(prompts=[RED], scheduler="euler", steps=5, seed=8,
                         config=dict(prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True)),
    "linspace": dict(prompts=[RED], scheduler="euler", steps=4, seed=1, config=dict(timestep_spacing="linspace")),
    "sde": dict(prompts=[TWO], steps=5, seed=6, config=dict(_class_name="DPMSolverMultistepScheduler", algorithm_type="sde-dpmsolver++",
                                                            solver_order=2, lambda_min_clipped=float("-inf"))),
    "pndm_noise": dict(prompts=[RED, TWO], steps=5, noise=True, seed=31, guidance=1.5, negative="a star"),
    "runge_kutta": dict(prompts=[RED], steps=4, seed=12, config=dict(skip_prk_steps=False)),
    "unipc": dict(prompts=[RED], scheduler="unipc", steps=8, seed=21, guidance=4.0),
    "heun": dict(prompts=[TWO], scheduler="heun", steps=5, seed=22),
    "img2img_heun": dict(prompts=[RED], scheduler="heun", steps=6, seed=23, strength=0.5, init="pndm"),
    "single": dict(prompts=[RED, TWO], scheduler="dpm++-single", steps=7, seed=24),
    "img2img_deis": dict(prompts=[TWO], scheduler="deis", steps=8, seed=25, strength=0.7, init="ddim"),
    "lms": dict(prompts=[RED], scheduler="lms", steps=6, seed=26),
    "ddpm": dict(prompts=[RED], scheduler="ddpm", steps=6, seed=27, count=2),
    "guided_lcm": dict(model="guided", prompts=[RED, TWO], scheduler="lcm", steps=4, seed=2, guidance=8.5),
    "xl": dict(model="xl", prompts=[RED, TWO], scheduler="euler", steps=5, seed=14, guidance=3.0, width=160),
    "xl_negative": dict(model="xl", prompts=[RED], scheduler="ddim", steps=4, seed=15, guidance=2.5, negative="", count=2),
    "xl_unguided": dict(model="xl", prompts=[RED], scheduler="dpm++", steps=4, seed=16, guidance=1.0),
}


def guidance_embedding(scale, rows, width):
    """diffusers' get_guidance_scale_embedding."""
    half = width // 2
    angles = (scale - 1) * 1000.0 * torch.exp(torch.arange(half) * -(np.log(10000.0) / (half - 1)))
    return torch.cat([torch.sin(angles), torch.cos(angles)]).float().repeat(rows, 1).numpy()


class Reference:
    def __init__(self, model):
        self.model = model
        self.is_xl = (model / "text_encoder_2").exists()
        load = lambda part: onnxruntime.InferenceSession(f"{model}/{part}/model.onnx", providers=["CPUExecutionProvider"])
        self.text, self.unet, self.decoder, self.encoder = map(load, ("text_encoder", "unet", "vae_decoder", "vae_encoder"))
        self.text_2 = load("text_encoder_2") if self.is_xl else None
        self.tokenizer = CLIPTokenizer.from_pretrained(f"{model}/tokenizer")
        self.embeds_guidance = any(value.name == "timestep_cond" for value in self.unet.get_inputs())
        self.scale = json.loads((model / "vae_decoder/config.json").read_text())["scaling_factor"]

    def embed(self, texts):
        ids = self.tokenizer(texts, padding="max_length", max_length=77, truncation=True).input_ids
        feed = {"input_ids": np.array(ids, np.int64)}
        if not self.is_xl:
            return self.text.run(["last_hidden_state"], feed)[0], None
        hidden = [text.run(["hidden_states.2"], feed)[0] for text in (self.text, self.text_2)]  # the last but one of 4
        return np.concatenate(hidden, -1), self.text_2.run(["text_embeds"], feed)[0]

    def conditions(self, case, prompts, guided):
        """Hidden states, and what else the UNet reads."""
        hidden, pooled = self.embed(prompts)
        height, width = case.get("height", 128), case.get("width", 128)
        extra = {}
        if guided:
            negative, negative_pooled = self.embed([case.get("negative", "")] * len(prompts))
            if self.is_xl and "negative" not in case:
                negative, negative_pooled = np.zeros_like(negative), np.zeros_like(negative_pooled)
            hidden = np.concatenate([negative, hidden])
            pooled = np.concatenate([negative_pooled, pooled]) if self.is_xl else None
        if self.is_xl:
            extra["text_embeds"] = pooled
            extra["time_ids"] = np.array([[height, width, 0, 0, height, width]] * len(hidden), np.float32)
        if self.embeds_guidance:
            extra["timestep_cond"] = guidance_embedding(case["guidance"], len(hidden), 256)
        return hidden, extra

    def scheduler(self, case):
        config = json.loads((self.model / "scheduler/scheduler_config.json").read_text()) | case.get("config", {})
        name = case.get("scheduler")
        class_name, options = CLASSES[name] if name else (config["_class_name"], {})
        if class_name in ("DDIMScheduler", "DDPMScheduler"):
            options = dict(clip_sample=config.get("clip_sample", False))
        return getattr(diffusers, class_name).from_config(config, **options)

    def __call__(self, case, picture, noise):
        generator = torch.Generator().manual_seed(case.get("seed", 0))
        prompts = [p for p in case["prompts"] for _ in range(case.get("count", 1))]
        guidance = case.get("guidance", 2.0)
        guided = guidance > 1 and not self.embeds_guidance
        hidden, extra = self.conditions(case, prompts, guided)
        scheduler = self.scheduler(case)
        scheduler.set_timesteps(case["steps"])
        timesteps = scheduler.timesteps
        shape = (len(prompts), 4, case.get("height", 128) // 8, case.get("width", 128) // 8)
        if picture is None:
            x = torch.from_numpy(noise) if noise is not None else torch.randn(shape, generator=generator)
            x = x * scheduler.init_noise_sigma
        else:
            start = max(case["steps"] - min(int(case["steps"] * case["strength"]), case["steps"]), 0)
            timesteps = timesteps[start * scheduler.order:]
            if hasattr(scheduler, "set_begin_index"):
                scheduler.set_begin_index(start * scheduler.order)
            pixels = np.asarray(picture, np.float32).transpose(2, 0, 1)[None] / 255 * 2 - 1
            mean, variance = torch.from_numpy(self.encoder.run(None, {"sample": pixels})[0]).chunk(2, 1)
            if noise is None:
                mean = mean + torch.exp(0.5 * variance.clamp(-30, 20)) * torch.randn(mean.shape, generator=generator)
            fresh = torch.from_numpy(noise) if noise is not None else torch.randn(shape, generator=generator)
            x = scheduler.add_noise((mean * self.scale).repeat(len(prompts), 1, 1, 1), fresh, timesteps[:1])
        latents = []
        draws = dict(generator=generator) if "generator" in scheduler.step.__code__.co_varnames else {}
        for t in timesteps:
            y = scheduler.scale_model_input(torch.cat([x, x]) if guided else x, t)
            feed = {"sample": y.float().numpy(), "timestep": np.array([int(t)]), "encoder_hidden_states": hidden} | extra
            e = torch.from_numpy(self.unet.run(None, feed)[0])
            if guided:
                a, b = e.chunk(2)
                e = a + guidance * (b - a)
            x = scheduler.step(e, t, x, return_dict=False, **draws)[0]
            latents.append(x.numpy())
        return hidden, latents, self.decoder.run(None, {"latent_sample": (x / self.scale).numpy()})[0]


def run_program(program, model, case, folder, picture, noise):
    command = [program, "--device", "cpu", "--model", str(model), "--dump", f"{folder}/dump", "--output", f"{folder}/out.png",
               "--steps", str(case["steps"]), "--guidance", str(case.get("guidance", 2.0)), "--seed", str(case.get("seed", 0))]
    for prompt in case["prompts"]:
        command += ["--prompt", prompt]
    for key in ("scheduler", "negative", "width", "height", "count", "strength"):
        if key in case:
            command += [f"--{key}", str(case[key])]
    if "config" in case:
        config = json.loads((model / "scheduler/scheduler_config.json").read_text()) | case["config"]
        pathlib.Path(f"{folder}/config.json").write_text(json.dumps(config))
        command += ["--scheduler-config", f"{folder}/config.json"]
    if picture is not None:
        picture.save(f"{folder}/init.png")
        command += ["--init", f"{folder}/init.png"]
    if noise is not None:
        np.save(f"{folder}/noise.npy", noise)
        command += ["--noise", f"{folder}/noise.npy"]
    subprocess.run(command, check=True, capture_output=True)


def difference(a, b):
    assert a.shape == b.shape, (a.shape, b.shape)
    return float(np.abs(a - b).max() / np.abs(b).max())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="")
    parser.add_argument("program")
    parser.add_argument("model", type=pathlib.Path)
    args = parser.parse_args()
    data = pathlib.Path(__file__).resolve().parents[1] / "data/tiny_sd"
    scratch = tempfile.TemporaryDirectory()
    variants.write_all(args.model, pathlib.Path(scratch.name))
    folders = {"": args.model, "guided": pathlib.Path(scratch.name) / "guided", "xl": pathlib.Path(scratch.name) / "xl"}
    references = {kind: Reference(folder) for kind, folder in folders.items()}
    ran = failed = 0
    for name, case in CASES.items():
        if args.only not in name:
            continue
        picture = noise = None
        if "init" in case:
            pixels = np.clip(np.load(data / case["init"] / "image.npy")[0], -1, 1).transpose(1, 2, 0) / 2 + 0.5
            picture = Image.fromarray(np.rint(pixels * 255).astype(np.uint8))
        if case.get("noise"):
            count = len(case["prompts"]) * case.get("count", 1)
            noise = np.random.default_rng(case["seed"]).standard_normal((count, 4, 16, 16)).astype(np.float32)
        kind = case.get("model", "")
        hidden, latents, image = references[kind](case, picture, noise)
        with tempfile.TemporaryDirectory() as folder:
            run_program(args.program, folders[kind], case, folder, picture, noise)
            load = lambda file: np.load(f"{folder}/dump/{file}.npy")
            found = [difference(load("text_embeddings"), hidden)]
            found += [difference(load(f"latents_after_step_{k:02d}"), wanted) for k, wanted in enumerate(latents)]
            found.append(difference(load("image"), image))
        worst = max(found)
        ran += 1
        failed += not worst <= TOLERANCE
        print("PASS" if worst <= TOLERANCE else "FAIL", name, f"{worst:.2e} of the peak", flush=True)
    print(f"{ran - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
