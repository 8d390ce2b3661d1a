"""Writes exports.tar.xz: model folders as optimum exports them, and what diffusers draws with the same weights.

Usage: make_exports.py OUT.tar.xz      (pip packages optimum-onnx, diffusers, transformers, torch)

Three pipelines with the structures of public repositories, but narrow, shallow and of random weights: "v" as Stable
Diffusion 2.1 (v-prediction, OpenCLIP's text encoder, padding with "!"), "lcm" as the distilled 1.x models (guidance
is an input), "xl" as SDXL in half precision (two text encoders, time ids). Each folder holds expected/: case.json, the
start noise, text embeddings, latents after every step and the picture, from diffusers' pipeline in f32.
"""

import json
import pathlib
import sys
import tarfile
import tempfile
import warnings

warnings.filterwarnings("ignore")

import diffusers
import numpy as np
import torch
from optimum.exporters.onnx import main_export
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

BETAS = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
PROMPT, NEGATIVE = "an astronaut's 2 horses, detailed!! (oil)", "blurry!"
CASES = {
    "v": dict(steps=3, guidance=7.5, negative=NEGATIVE, width=48, height=32),
    "lcm": dict(steps=2, guidance=8.5, width=32, height=32),
    "xl": dict(steps=2, guidance=5.0, width=32, height=48, half=True),
}


def tokenizer(folder, pad="<|endoftext|>"):
    """CLIP's form of a vocabulary, with few words."""
    letters = [chr(c) for c in range(ord("!"), ord("~") + 1)]
    merges = ["a n</w>", "t r", "o n", "h o", "r s", "e d</w>", "! !</w>", "i l</w>", "' s</w>"]
    words = letters + [letter + "</w>" for letter in letters] + [merge.replace(" ", "") for merge in merges] + ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    return CLIPTokenizer(f"{folder}/vocab.json", f"{folder}/merges.txt", pad_token=pad, model_max_length=77), len(words)


def text_encoder(words, width, layers, act, kind=CLIPTextModel):
    return kind(CLIPTextConfig(vocab_size=words, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers, num_attention_heads=2,
                               hidden_act=act, projection_dim=width, eos_token_id=2 if kind is CLIPTextModel else words - 1))


def unet(**options):
    down = ("CrossAttnDownBlock2D", "DownBlock2D")
    return diffusers.UNet2DConditionModel(**dict(dict(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, norm_num_groups=4, block_out_channels=(8, 16), down_block_types=down,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=16), **options))


def vae(**options):
    return diffusers.AutoencoderKL(latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4, sample_size=64,
                                   down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, **options)


def pipeline(name, folder):
    words, count = tokenizer(folder)
    padded, _ = tokenizer(folder, "!")
    plain = dict(safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    if name == "v":
        return diffusers.StableDiffusionPipeline(
            vae=vae(), text_encoder=text_encoder(count, 16, 3, "gelu"), tokenizer=padded,
            unet=unet(attention_head_dim=[1, 2], use_linear_projection=True, upcast_attention=True),
            scheduler=diffusers.DDIMScheduler(**BETAS, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False, steps_offset=1), **plain)
    if name == "lcm":
        return diffusers.LatentConsistencyModelPipeline(
            vae=vae(), text_encoder=text_encoder(count, 16, 2, "quick_gelu"), tokenizer=words, unet=unet(attention_head_dim=2, time_cond_proj_dim=32),
            scheduler=diffusers.LCMScheduler(**BETAS), **plain)
    return diffusers.StableDiffusionXLPipeline(
        vae=vae(scaling_factor=0.13025, force_upcast=True), text_encoder=text_encoder(count, 8, 3, "quick_gelu"), tokenizer=words,
        text_encoder_2=text_encoder(count, 16, 4, "gelu", CLIPTextModelWithProjection), tokenizer_2=padded,
        unet=unet(down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                  attention_head_dim=[1, 2], transformer_layers_per_block=[1, 2], use_linear_projection=True, cross_attention_dim=24,
                  addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=16 + 6 * 8),
        scheduler=diffusers.EulerDiscreteScheduler(**BETAS, steps_offset=1, timestep_spacing="leading"), add_watermarker=False)


def round_weights(module, gain):
    """To 5 bits, which pack well and are exact in half precision; the text shall matter to the UNet."""
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if gain and "attn2.to_out" in name or name.startswith("conv_out"):
                weight *= 4
            mantissa, exponent = torch.frexp(weight)
            weight.copy_(torch.ldexp(torch.round(mantissa * 32) / 32, exponent).clamp(-60, 60))
            weight[weight.abs() < 2**-14] = 0


def draw(pipe, case, out):
    noise = np.random.default_rng(5).standard_normal((1, 4, case["height"] // 8, case["width"] // 8)).astype(np.float32)
    latents = []

    def keep(_pipe, _step, _timestep, tensors):
        latents.append(tensors["latents"].numpy().copy())
        return tensors

    options = dict(prompt=PROMPT, width=case["width"], height=case["height"], num_inference_steps=case["steps"], guidance_scale=case["guidance"],
                   generator=torch.Generator().manual_seed(0))
    if "negative" in case:
        options["negative_prompt"] = case["negative"]
    guided = pipe.unet.config.time_cond_proj_dim is None
    with torch.no_grad():
        last = pipe(**options, latents=torch.from_numpy(noise), output_type="latent", callback_on_step_end=keep).images
        image = pipe.vae.decode(last / pipe.vae.config.scaling_factor).sample.numpy()
        text, negative = pipe.encode_prompt(PROMPT, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=guided,
                                            negative_prompt=case.get("negative"))[:2]
    out.mkdir(parents=True)
    (out / "case.json").write_text(json.dumps(dict(case, prompt=PROMPT)))
    np.save(out / "initial_noise.npy", noise)
    np.save(out / "text_embeddings.npy", (torch.cat([negative, text]) if guided else text).numpy())
    for k, x in enumerate(latents):
        np.save(out / f"latents_after_step_{k:02d}.npy", x)
    np.save(out / "image.npy", image)


def packed(info):
    """Without the encoder, which these cases do not read, and without its maker."""
    return None if "vae_encoder" in info.name else info.replace(deep=False, uid=0, gid=0, uname="", gname="", mtime=0)


def main():
    with tempfile.TemporaryDirectory() as scratch, tarfile.open(sys.argv[1], "w:xz", preset=9) as archive:
        scratch = pathlib.Path(scratch)
        for name, case in CASES.items():
            torch.manual_seed(11)
            pipe = pipeline(name, scratch)
            for part in ("text_encoder", "text_encoder_2", "unet", "vae"):
                if getattr(pipe, part, None) is not None:
                    round_weights(getattr(pipe, part).eval(), part == "unet")
            pipe.set_progress_bar_config(disable=True)
            pipe.save_pretrained(scratch / "torch" / name)
            main_export(f"{scratch}/torch/{name}", f"{scratch}/{name}", task="text-to-image", dtype="fp16" if "half" in case else None,
                        do_validation=False, local_files_only=True)
            draw(pipe, case, scratch / name / "expected")
            archive.add(scratch / name, name, filter=packed)


if __name__ == "__main__":
    main()
