"""Writes schedules.json: what diffusers' schedulers do with given network outputs, step by step.

Usage: make_schedules.py OUT.json      (pip packages diffusers, scipy, torch)

Each case: a scheduler_config.json, the name that the example's --scheduler would get, steps, how many of them a start
from a picture skips; then timesteps, init_noise_sigma, what add_noise makes of 1 and of 0, input scales, and the
sample after every step. The network's output at step k is output(k); fresh noise is noise(j) for the j-th draw.
"""

import json
import sys
import warnings

import numpy as np
import torch
import diffusers
from diffusers.schedulers import (scheduling_ddpm, scheduling_dpmsolver_multistep, scheduling_dpmsolver_singlestep,
                                  scheduling_euler_ancestral_discrete, scheduling_k_dpm_2_ancestral_discrete,
                                  scheduling_lcm, scheduling_tcd)

SHAPE = (1, 2, 2, 2)
warnings.filterwarnings("ignore")
diffusers.logging.set_verbosity_error()


def series(a, b):
    index = np.arange(int(np.prod(SHAPE)))
    return torch.from_numpy((1.5 * np.sin(a + b * index)).astype(np.float32).reshape(SHAPE))


def output(k):
    return series(0.7 + 1.3 * k, 2.1)


def noise(j):
    return series(0.2 + 0.9 * j, 1.7)


draws = 0


def recorded_noise(*_, **__):
    global draws
    draws += 1
    return noise(draws)


SD1 = dict(_class_name="PNDMScheduler", beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
           num_train_timesteps=1000, set_alpha_to_one=False, skip_prk_steps=True, steps_offset=1, trained_betas=None,
           clip_sample=False)
TINY = dict(SD1, prediction_type="epsilon", timestep_spacing="leading")
CLASSES = {
    "pndm": ("PNDMScheduler", {}),
    "ddim": ("DDIMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {}),
    "dpm++-karras": ("DPMSolverMultistepScheduler", dict(use_karras_sigmas=True)),
    "lcm": ("LCMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "kdpm2": ("KDPM2DiscreteScheduler", {}),
    "kdpm2-a": ("KDPM2AncestralDiscreteScheduler", {}),
    "dpm++-single": ("DPMSolverSinglestepScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "tcd": ("TCDScheduler", {}),
}


def cases():
    for name in CLASSES:
        for steps in (1, 4, 7, 20):
            yield name, TINY, steps, 0
        yield name, SD1, 6, 0
        yield name, dict(TINY, prediction_type="v_prediction"), 8, 0
        yield name, dict(TINY, timestep_spacing="linspace", beta_schedule="linear", beta_start=1e-4, beta_end=0.02), 9, 0
        yield name, dict(TINY, timestep_spacing="trailing", set_alpha_to_one=True), 7, 0
        yield name, TINY, 10, 4
        yield name, dict(TINY, beta_schedule="squaredcos_cap_v2", num_train_timesteps=100), 10, 0
        if name in ("ddim", "euler", "euler-a", "dpm++", "dpm++-karras", "lcm", "ddpm", "unipc", "tcd"):
            yield name, dict(TINY, rescale_betas_zero_snr=True, prediction_type="v_prediction",
                             timestep_spacing="trailing"), 6, 0
    yield "pndm", dict(TINY, skip_prk_steps=False), 8, 0
    yield "pndm", dict(TINY, skip_prk_steps=False, prediction_type="v_prediction"), 6, 0
    yield "pndm", TINY, 10, 1
    for name in ("ddim", "lcm", "ddpm"):
        yield name, dict(TINY, clip_sample=True, clip_sample_range=1.25), 5, 0
        yield name, dict(TINY, thresholding=True, sample_max_value=1.5), 5, 0
    for name in ("ddim", "euler", "dpm++", "lcm", "ddpm", "heun", "lms", "dpm++-single", "deis", "unipc", "tcd"):
        yield name, dict(TINY, prediction_type="sample"), 5, 0
    for extra in (dict(use_karras_sigmas=True), dict(use_exponential_sigmas=True), dict(interpolation_type="log_linear"),
                  dict(final_sigmas_type="sigma_min"), dict(use_karras_sigmas=True, sigma_min=0.1, sigma_max=9.0),
                  dict(timestep_type="continuous", prediction_type="v_prediction")):
        yield "euler", dict(TINY, _class_name="EulerDiscreteScheduler", **extra), 6, 0
    plus = dict(TINY, _class_name="DPMSolverMultistepScheduler")
    for order in (1, 2, 3):
        for kind in ("dpmsolver++", "sde-dpmsolver++"):
            for steps in (6, 17):
                yield None, dict(plus, solver_order=order, algorithm_type=kind), steps, 0
        for kind in ("dpmsolver", "sde-dpmsolver"):
            if order < 3 or kind == "dpmsolver":
                yield None, dict(plus, solver_order=order, algorithm_type=kind, final_sigmas_type="sigma_min"), 6, 0
    for extra in (dict(solver_type="heun"), dict(solver_type="heun", algorithm_type="sde-dpmsolver++"),
                  dict(solver_type="heun", algorithm_type="dpmsolver", final_sigmas_type="sigma_min"),
                  dict(lower_order_final=False), dict(euler_at_final=True, final_sigmas_type="sigma_min"),
                  dict(use_exponential_sigmas=True), dict(use_lu_lambdas=True), dict(lambda_min_clipped=-5.1),
                  dict(lambda_min_clipped=-5.1, timestep_spacing="linspace"), dict(thresholding=True, sample_max_value=2.0),
                  dict(lambda_min_clipped=float("-inf"))):
        yield None, dict(plus, **extra), 6, 0
    yield None, dict(plus, use_karras_sigmas=True), 12, 5
    for name in ("heun", "lms", "kdpm2", "kdpm2-a", "dpm++-single", "deis", "unipc"):
        for extra in (dict(use_karras_sigmas=True), dict(use_exponential_sigmas=True), dict(use_beta_sigmas=True)):
            yield None, dict(TINY, _class_name=CLASSES[name][0], **extra), 6, 1
    yield "heun", dict(TINY, clip_sample=True, clip_sample_range=1.5), 5, 0
    for kind in ("fixed_small_log", "fixed_large"):
        yield "ddpm", dict(TINY, variance_type=kind), 6, 0
    yield "tcd", dict(TINY, original_inference_steps=40), 4, 0
    yield "tcd", TINY, 51, 0
    for name in ("euler", "dpm++"):
        yield None, dict(TINY, _class_name=CLASSES[name][0], use_beta_sigmas=True), 9, 0
    single = dict(TINY, _class_name="DPMSolverSinglestepScheduler")
    for order in (1, 2, 3):
        for kind, solver in (("dpmsolver++", "midpoint"), ("sde-dpmsolver++", "heun"), ("dpmsolver++", "heun"), ("sde-dpmsolver++", "midpoint")):
            yield None, dict(single, solver_order=order, algorithm_type=kind, solver_type=solver), 6, 0
        for solver in ("midpoint", "heun"):
            yield None, dict(single, solver_order=order, algorithm_type="dpmsolver", solver_type=solver, final_sigmas_type="sigma_min"), 6, 0
        for steps in (7, 8, 9):
            yield None, dict(single, solver_order=order, lower_order_final=True, final_sigmas_type="sigma_min"), steps, 0
        yield None, dict(single, solver_order=order), 10, 2
    yield None, dict(single, lambda_min_clipped=-5.1, thresholding=True), 6, 0
    for order in (1, 2, 3):
        deis = dict(TINY, _class_name="DEISMultistepScheduler", solver_order=order)
        unipc = dict(TINY, _class_name="UniPCMultistepScheduler", solver_order=order)
        for steps, skipped in ((6, 0), (17, 3)):
            yield None, deis, steps, skipped
            yield None, dict(unipc, solver_type="bh1", final_sigmas_type="sigma_min"), steps, skipped
            yield None, unipc, steps, skipped
        yield None, dict(deis, lower_order_final=False), 6, 0
        yield None, dict(unipc, lower_order_final=False, final_sigmas_type="sigma_min"), 6, 0
        yield None, dict(unipc, predict_x0=False, final_sigmas_type="sigma_min"), 6, 0
        yield None, dict(unipc, disable_corrector=[0, 2]), 6, 0
    yield None, dict(unipc, thresholding=True, solver_type="midpoint"), 6, 0
    yield None, dict(TINY, _class_name="LCMScheduler", original_inference_steps=40, timestep_scaling=8.0), 4, 0


def run(name, config, steps, skipped):
    global draws
    draws = 0
    class_name, options = CLASSES[name] if name else (config["_class_name"], {})
    if name in ("ddim", "ddpm"):
        options = dict(clip_sample=config.get("clip_sample", False))
    scheduler = getattr(diffusers, class_name).from_config(dict(config), **options)
    scheduler.set_timesteps(steps)
    skipped_calls = skipped * (1 if name == "pndm" else scheduler.order)
    timesteps = scheduler.timesteps[skipped_calls:]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(skipped_calls)
    eta = dict(eta=0.0) if class_name == "TCDScheduler" else {}  # as pipelines say
    one, zero = torch.ones(SHAPE), torch.zeros(SHAPE)
    mix = [float(scheduler.add_noise(a, b, timesteps[:1]).flatten()[0]) for a, b in ((one, zero), (zero, one))]
    x = noise(0)
    scales, samples = [], []
    for k, t in enumerate(timesteps):
        scales.append(float(scheduler.scale_model_input(one, t).flatten()[0]))
        x = scheduler.step(output(k), t, x, return_dict=False, **eta)[0]
        samples.append([round(float(v), 7) for v in x.flatten()])
    assert np.isfinite(samples).all() or config.get("rescale_betas_zero_snr"), (name, config, samples)
    return dict(name=name, config=config, steps=steps, skipped=skipped, timesteps=[float(t) for t in timesteps],
                init_noise_sigma=float(scheduler.init_noise_sigma), add_noise=mix, scales=scales, samples=samples)


def main():
    for module in (scheduling_ddpm, scheduling_dpmsolver_multistep, scheduling_dpmsolver_singlestep, scheduling_euler_ancestral_discrete,
                   scheduling_k_dpm_2_ancestral_discrete, scheduling_lcm, scheduling_tcd):
        module.randn_tensor = recorded_noise
    rows = []
    for case in cases():
        try:
            rows.append(run(*case))
        except (ValueError, IndexError) as error:  # what diffusers cannot do either
            rows.append(dict(name=case[0], config=case[1], steps=case[2], skipped=case[3], error=str(error)[:60]))
            print(case[0], case[2:], error)
    with open(sys.argv[1], "w") as file:
        file.write("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    print(len(rows), "cases")


if __name__ == "__main__":
    main()
