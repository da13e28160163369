"""Runs the recorded cases of LVDM."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import factorised_cases as factorised
import recipe
import torch
import torch.nn.functional as F
from factorised_cases import FORWARD, SAMPLED, UNET
from golden_cases import Case, check_close, check_sampled
from torch import Tensor
from videoldm.core.diffusion.denoiser import to_ve
from videoldm.core.diffusion.guidance import guided
from videoldm.core.diffusion.samplers import sample_ddpm
from videoldm.core.diffusion.schedules import (
    NoiseSchedule,
    get_sigmas_at,
    scaled_linear,
    timesteps_strided,
)
from videoldm.core.families import factorised_keys as keys
from videoldm.core.families import lvdm
from videoldm.core.families.factorised_files import load_autoencoder_3d
from videoldm.core.families.factorised_sampling import sample_ddim
from videoldm.core.networks.autoencoder import decode_frames
from videoldm.core.networks.autoencoder_3d import Autoencoder3D
from videoldm.core.networks.conditions import Conditions
from videoldm.core.networks.layers.positions import sinusoid
from videoldm.core.tasks.overlapped_decoding import decode_overlapped
from videoldm.core.text.encoders import encode_text

PIXELS = 1e-5
EXACT = 1e-12


# --------------------------------------------------------------------------------------------------
# 3D autoencoder.


def autoencoder_of(case: Case) -> Autoencoder3D:
    told = case.told
    latents = dict(scale=told.get("scale_factor", 1.0), shift=told.get("shift_factor", 0.0))
    config = factorised.autoencoder_config(told["config"], **latents)
    shapes = factorised.shapes_of(Autoencoder3D, config, keys.autoencoder_to_original)
    # The recipe's key of a weight that is listed twice is the inner one.
    inner = {k: s for k, s in shapes.items() if f"{k[:-7]}.conv.weight" not in shapes}
    state = factorised.weights(case, inner)
    return load_autoencoder_3d(state, config, case.folder.name)


@torch.no_grad()
def autoencoder(case: Case, folder: Path) -> None:
    module, inputs, expected = autoencoder_of(case), case.inputs(), case.expected()
    found = module.posterior(inputs["video"])
    sample = found.sample(inputs["posterior_noise"])
    config = module.config
    got = {
        "mean": found.mean,
        "logvar_clamped": found.logvar,
        "std": found.std,
        "z_sample": sample,
        "z_scaled": module.encode(inputs["video"], inputs["posterior_noise"]),
        "decode_raw": module(module.scaled(inputs["z_raw"])),
        "decode_scaled": module(inputs["z_diffusion"]),
        "recon_mode": module(module.encode(inputs["video"])),
    }
    for name, tensor in got.items():
        check_close(tensor, expected[name], name, PIXELS)
    moments = torch.cat([found.mean, found.logvar], dim=2)
    assert (expected["moments"][:, :, config.latent_channels :].abs() < 20).all()
    check_close(moments, expected["moments"], "moments", PIXELS)
    packed = case.folder / "model.ckpt"
    if packed.is_file():
        loaded = lvdm.load_autoencoder(packed, lvdm.LvdmHints(autoencoder=config)).state_dict()
        own = module.state_dict()
        assert own.keys() == loaded.keys() and all(torch.equal(own[k], loaded[k]) for k in own)


@torch.no_grad()
def overlapped(case: Case, folder: Path) -> None:
    """What is kept of every window is what the corrected original keeps."""
    module, z, expected = autoencoder_of(case), case.inputs()["z"], case.expected()
    runs = {f"clean_{w}_{o}": (w, o) for w, o in case.told["settings"]}
    runs["split_decode"] = (case.told["split_t"], 0)
    runs["full_decode"] = (z.shape[1], 0)
    for name, (window, overlap) in runs.items():
        made = decode_overlapped(module, z.split(3, dim=1), window=window, overlap=overlap)
        check_close(torch.cat(list(made), dim=1), expected[name], name, PIXELS)


# --------------------------------------------------------------------------------------------------
# Checkpoints.


def checkpoint(case: Case, folder: Path) -> Path:
    """The case's own checkpoint, or one written from its recipe as Lightning packs it."""
    if (case.folder / "model.ckpt").is_file():
        return case.folder / "model.ckpt"
    told, params = case.told["recipe"], case.told["config"]["params"]
    unet = factorised.unet_shapes(factorised.unet_config(params["unet_config"]["params"]))
    inner = factorised.autoencoder_config(params["first_stage_config"]["params"])
    listed = factorised.shapes_of(Autoencoder3D, inner, keys.autoencoder_to_original)
    state = {"betas": schedule_of(params).betas.float(), "alphas_cumprod": torch.zeros(1000)}
    for key, shape in unet.items():
        flat = f"model_ema.diffusion_model{key}".replace(".", "")
        state[UNET + key] = recipe.tensor(told["seed"], UNET + key, shape)
        state[flat.replace("model_ema", "model_ema.", 1)] = recipe.tensor(
            told["ema_seed"], UNET + key, shape
        )
    for key, shape in listed.items():
        inside = f"{key[:-7]}.conv.weight"
        name = "first_stage_model." + (inside if inside in listed else key)
        state["first_stage_model." + key] = recipe.tensor(told["seed"], name, shape)
    packed = {"epoch": 7, "global_step": 1, "state_dict": state, "callbacks": {}}
    torch.save(packed, folder / "model.ckpt")
    return folder / "model.ckpt"


def schedule_of(told: Mapping[str, Any]) -> NoiseSchedule:
    """What the original calls linear is linear in sqrt(beta)."""
    return scaled_linear(
        told.get("timesteps", 1000), start=told["linear_start"], end=told["linear_end"]
    )


def hints_of(case: Case) -> lvdm.LvdmHints:
    params = case.told["config"]["params"]
    first_stage = params["first_stage_config"]["params"]
    inner = None
    if "encoder" in first_stage["ddconfig"]:
        latents = dict(scale=params["scale_factor"], shift=params["shift_factor"])
        inner = factorised.autoencoder_config(first_stage, **latents)
    return lvdm.LvdmHints(
        task="interpolation" if params.get("p_interp") else "prediction",
        prediction=params.get("parameterization", "eps"),
        autoencoder=inner,
        text=case.told.get("clip_config"),
    )


def model_of(case: Case, folder: Path, weights: lvdm.Weights = "published") -> lvdm.LvdmModel:
    return lvdm.load(checkpoint(case, folder), hints_of(case), weights=weights)


def decoded(found: lvdm.LvdmModel, latents: Tensor) -> Tensor:
    if isinstance(found.autoencoder, Autoencoder3D):
        return found.autoencoder(latents)
    return decode_frames(found.autoencoder, latents)


@torch.no_grad()
def model(case: Case, folder: Path) -> None:
    """Checks the network of a checkpoint, with its raw weights and with their average."""
    inputs, expected = case.inputs(), case.expected()
    for prefix, weights in (("raw", "raw"), ("ema", "average")):
        if f"{prefix}.eps" not in expected:
            continue
        found = model_of(case, folder, weights)
        given = Conditions(text=inputs.get("context"))
        out = found.model.network(inputs["x"], inputs["t"], given)
        check_close(out, expected[f"{prefix}.eps"], f"{prefix}.eps", FORWARD)
    pixels = decoded(found, inputs["x"][:1])
    check_close(pixels, expected["decode_first_stage"], "decode_first_stage", PIXELS)


@torch.no_grad()
def model_given_frames(case: Case, folder: Path) -> None:
    """Given frames are in x, also for the unconditional branch."""
    inputs, expected = case.inputs(), case.expected()
    for prefix, weights in (("raw", "raw"), ("ema", "average")):
        network = model_of(case, folder, weights).model.network
        for run in case.told["runs"]:
            given = {k[len(run) + 1 :]: v for k, v in inputs.items() if k.startswith(f"{run}.")}
            x = given["x"].clone()
            mask = given["mask"][0, :, 0, 0, 0].bool()
            if "noisy_cond" in given:
                x[:, mask] = given["noisy_cond"]
            if prefix == "raw":
                check_close(x, expected[f"raw.{run}.x_after"], "x", EXACT)
            told = factorised.conditions(given | {"latents": x}, network.config)
            cond = network(given["x"], given["t"], told)
            uncond = network(x, given["t"], Conditions())
            for out, name in ((cond, "eps_cond"), (uncond, "eps_uncond_on_overwritten_x")):
                check_close(out, expected[f"{prefix}.{run}.{name}"], f"{run}.{name}", FORWARD)


# --------------------------------------------------------------------------------------------------
# Sampling.


def schedules(case: Case, folder: Path) -> None:
    inputs, expected = case.raw("inputs"), case.raw("expected")
    for name, told in case.told["runs"].items():
        schedule = schedule_of(told)
        abar = schedule.alphas_cumprod
        check_close(schedule.betas, expected[f"{name}.betas"], "betas", 1e-11)
        check_close(abar, expected[f"{name}.alphas_cumprod"], "abar", EXACT)
        lists = {k.rpartition(".")[0] for k in expected if k.startswith(f"{name}.ddim")}
        assert lists
        for listed in lists:
            steps = int(listed.removeprefix(f"{name}.ddim"))
            timesteps = timesteps_strided(schedule.steps, steps)
            assert torch.equal(timesteps.flip(0), expected[f"{listed}.timesteps"])
            # The original computes its lists from a float32 table.
            a = abar[timesteps].flip(0)
            before = torch.cat([abar[:1], a[:-1]])
            sigmas = ((1 - before) / (1 - a) * (1 - a / before)).sqrt()
            for got, what in ((a, "alphas"), (before, "alphas_prev"), (sigmas, "sigmas_eta1")):
                check_close(got, expected[f"{listed}.{what}"], what, 3e-6)
    t = inputs["t"]
    for name in (k for k in expected if k.startswith("timestep_embedding_")):
        width = int(name.rpartition("_")[2])
        got = F.pad(sinusoid(t, width), (0, width % 2))
        check_close(got, expected[name], name, 1e-4)


@torch.no_grad()
def ddim_short(case: Case, folder: Path) -> None:
    source = Case(case.folder.parent / case.told["model_case"])
    inputs, expected = case.inputs(), case.expected()
    for run, told in case.told["runs"].items():
        found = model_of(source, folder, "average" if told.get("ema") else "raw")
        denoiser, schedule = found.model.denoiser(Conditions()), found.model.schedule
        start, noise = inputs[f"{run}.noise.0"], factorised.step_noise(inputs, run)
        steps = factorised.Steps(schedule, expected, run)
        if told["sampler"] == "ddpm":
            sigmas = get_sigmas_at(schedule, torch.arange(told["timesteps"] - 1, -1, -1))
            x = to_ve(start, sigmas[0])
            made = sample_ddpm(denoiser, x, sigmas, noise=noise, callback=steps)
        else:
            how = dict(eta=told["eta"], step_noise=noise, callback=steps)
            made = sample_ddim(denoiser, start, schedule, told["S"], **how)
        steps.check_all_compared()
        check_sampled(made, expected[f"{run}.sample"], run, SAMPLED)
        if told.get("decode"):
            check_sampled(decoded(found, made), expected[f"{run}.video"], run, SAMPLED)


@torch.no_grad()
def ddim_text(case: Case, folder: Path) -> None:
    source = Case(case.folder.parent / case.told["model_case"])
    inputs, expected = case.inputs(), case.expected()
    found = model_of(source, folder)
    ids = {"context": "input_ids", "uncond_context": "uncond_input_ids"}
    texts = {name: encode_text(found.text_encoder, inputs[key]) for name, key in ids.items()}
    for name, text in texts.items():
        check_close(text, expected[name], name, FORWARD)
    cond, uncond = (found.model.denoiser(Conditions(text=text)) for text in texts.values())
    schedule = found.model.schedule
    for run, told in case.told["runs"].items():
        scale = factorised.guidance_of(told, told.get("scale", 1.0))
        steps = factorised.Steps(schedule, expected, run)
        made = sample_ddim(
            guided(cond, uncond, scale),
            inputs[f"{run}.noise.0"],
            schedule,
            told["S"],
            eta=told["eta"],
            step_noise=factorised.step_noise(inputs, run),
            callback=steps,
        )
        steps.check_all_compared()
        check_sampled(made, expected[f"{run}.sample"], run, SAMPLED)
        if f"{run}.video" in expected:
            check_sampled(decoded(found, made), expected[f"{run}.video"], run, SAMPLED)


KINDS: dict[str, Callable[[Case, Path], None]] = {
    "ae_small": autoencoder,
    "ae_sky": autoencoder,
    "ae_overlap": overlapped,
    "short_unet": factorised.run_unet,
    "t2v_unet": factorised.run_unet,
    "pred_unet": factorised.run_unet,
    "interp_unet": factorised.run_unet,
    "timeembed_unet": factorised.run_unet,
    "model_short": model,
    "model_t2v": model,
    "model_pred": model_given_frames,
    "model_interp": model_given_frames,
    "schedules": schedules,
    "ddim_short": ddim_short,
    "ddim_t2v": ddim_text,
}
