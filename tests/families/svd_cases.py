"""Runs the recorded cases of Stable Video Diffusion."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from golden_cases import Case, check_close, check_sampled
from torch import Tensor
from videoldm.core.diffusion.samplers import sample_euler
from videoldm.core.diffusion.schedules import get_sigmas_karras
from videoldm.core.families import svd, svd_decoder
from videoldm.core.families import svd_files as files
from videoldm.core.families import svd_sampling as sampling
from videoldm.core.families.open_clip_image import squashed_pixels
from videoldm.core.families.svd_config import SvdConfig
from videoldm.core.networks.autoencoder import decode_frames, encode_moments
from videoldm.core.networks.conditions import AUGMENTATION, FPS_ID, MOTION, Conditions
from videoldm.core.tasks.decoding import decode
from videoldm.core.tasks.start_image import StartImage
from videoldm.core.weights.checkpoints import part

# Tolerances: about three times the measured errors; for sampling, that of the cases: a step of the
# original down from sigma 700 leaves the difference of numbers that are 700 times as large.
FORWARD = 1e-5
SAMPLING = 1e-4

UNET = "model.diffusion_model."


def unet_of(case: Case, **told: Any) -> svd.UNet:
    state = part(case.weights(), UNET)
    shapes = {k: v.shape for k, v in state.items()}
    built, width = case.config, case.config["num_head_channels"]
    if width == -1:  # The number of heads is given instead; all levels then have the same width.
        width = built["model_channels"] // built["num_heads"]
    config = svd.detect(shapes, head_width=width, **told)
    if config.layout.channels == (config.context_width,) * config.layout.levels:
        # Equal widths do not tell what the second attention reads; the case does.
        config = replace(config, text_over_time=built["use_spatial_context"])
    return svd.assemble_unet(state, "the case", config)


def check_config(config: SvdConfig, told: dict[str, Any]) -> None:
    """The configuration detected from the weights is that of the original."""
    kernel = told["video_kernel_size"]
    assert config.kernel == ((kernel, kernel) if isinstance(kernel, int) else tuple(kernel[:2]))
    assert config.linear == told["use_linear_in_transformer"]
    assert config.text_over_time == told["use_spatial_context"]
    assert config.context_width == told["context_dim"]
    assert config.ids_width == told["adm_in_channels"]
    assert config.layout.layers == told["num_res_blocks"]
    factors = told["channel_mult"]
    assert config.layout.channels == tuple(told["model_channels"] * one for one in factors)


def unet(case: Case, folder: Path) -> None:
    inputs, expected, frames = case.raw("inputs"), case.raw("expected"), case.told["shapes"]

    def clips(name: str) -> Tensor:
        return inputs[name].unflatten(0, (-1, frames["num_video_frames"]))

    x = clips("x")
    numbers = {FPS_ID: "fps_id", MOTION: "motion_bucket_id", AUGMENTATION: "cond_aug"}
    ids = {name: clips(theirs)[:, 0] for name, theirs in numbers.items()}
    for run in case.told["runs"]:
        parts = unet_of(case, blend=run["merge_strategy"])
        check_config(parts.config, case.config)
        network, indicator = svd.diffusion_model(parts).network, run["image_only_indicator"]
        latents, behind = x.split([network.spec.latent_channels, network.spec.concatenated], 2)
        given = Conditions(
            image=clips(run["context"]),
            concatenated=behind if behind.shape[2] else None,
            ids=ids,
            image_only=None if indicator is None else inputs[indicator],
        )
        network.spec.check(given)
        with torch.no_grad():
            out = network(latents, clips("timesteps"), given)
        check_close(out.flatten(0, 1), expected[run["name"]], run["name"], FORWARD)
    check_names(case, parts)


def check_names(case: Case, parts: svd.UNet) -> None:
    """Written with either naming, the weights are unchanged."""
    state, theirs = part(case.weights(), UNET), case.told.get("keymap_to_diffusers")
    both = {"ldm": {k: k for k in state}} | ({"diffusers": theirs} if theirs else {})
    for naming, keys in both.items():
        back = svd.unet_to_foreign(parts, naming)
        assert back.keys() == {keys[k] for k in state}
        assert all(torch.equal(back[keys[k]], v) for k, v in state.items())
        again = svd.assemble_unet(back, naming, replace(parts.config))
        assert all(
            torch.equal(a, b)
            for a, b in zip(again.image.parameters(), parts.image.parameters(), strict=True)
        )


def sampling_edm(case: Case, folder: Path) -> None:
    inputs, expected, told = case.raw("inputs"), case.raw("expected"), case.told["sampler"]
    weights = Case((case.folder / case.told["weights"]["unet_case_dir"]).resolve())
    model = svd.diffusion_model(unet_of(weights))
    start = StartImage(
        embedding=inputs["crossattn"],
        latents=inputs["concat"],
        fps=float(inputs["fps_id"][0]) + 1,
        motion=float(inputs["motion_bucket_id"][0]),
        augmentation=float(inputs["cond_aug"][0]),
    )
    bounds = (told["sigma_min"], told["sigma_max"])
    levels = get_sigmas_karras(told["num_steps"], *bounds, told["rho"])
    torch.testing.assert_close(levels, expected["sigmas"], rtol=1e-5, atol=0)
    found = model.preconditioning.coefficients(expected["sigmas"][:-1])
    for name, value in found._asdict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7)
    seen: list[Tensor] = []
    scales = dict(first_scale=told["min_scale"], last_scale=told["max_scale"])
    noise, report = inputs["noise"][None], lambda step: seen.append(step.x)
    if torch.equal(levels, sampling.sigmas(model, told["num_steps"])):
        steps = told["num_steps"]
        out = sampling.image_to_video(model, start, noise, steps=steps, callback=report, **scales)
    else:  # Other noise levels than the published ones.
        x = noise * math.sqrt(1 + float(levels[0]) ** 2)
        denoiser = sampling.denoiser(model, start, noise.shape[1], **scales)
        out = sample_euler(denoiser, x, levels, callback=report)
    for i, x in enumerate(seen):
        expected_x = expected[f"step{i}/x_in"]
        # `x_in` is the sampler's x, not the scaled input of the network.
        check_sampled(x[0], expected_x, f"step {i}", SAMPLING)
    check_sampled(out[0], expected["samples"], "samples", SAMPLING)
    assert math.isclose(float(levels[0]), told["sigma_max"], rel_tol=1e-6)


# --------------------------------------------------------------------------------------------------
# First stages.


def parts_of(case: Case) -> files.Parts:
    """The case's weights, taken apart like those of a whole file; they have no U-Net."""
    return files.take_apart(case.weights(), "the case")


def check_encoder(case: Case, encoder: AutoencoderKL) -> None:
    inputs, expected = case.raw("inputs"), case.raw("expected")
    with torch.no_grad():
        raw = encoder.encoder(inputs["image"])
        mean, _ = encode_moments(encoder, inputs["image"])
    check_close(raw, expected["encoder_raw"], "encoder", FORWARD)
    check_close(mean, expected["mode_latent"], "mode", FORWARD)


def vae_temporal(case: Case, folder: Path) -> None:
    inputs, expected, told = case.raw("inputs"), case.raw("expected"), case.config
    parts, blend = parts_of(case), "fixed" if told["merge_strategy"] == "fixed" else "learned"
    state = parts.encoder | parts.decoder
    decoder = svd_decoder.from_state(state, "the case", blend=blend)
    assert decoder.reach is None
    check_encoder(case, decoder.autoencoder)
    frames, chunk = case.told["shapes"]["frames"], case.told["shapes"]["chunk"]
    single = inputs["z"][:1]

    def whole(z: Tensor, frames: int) -> Tensor:
        with torch.no_grad():
            return decoder(z.unflatten(0, (-1, frames))).flatten(0, 1)

    found = {
        "decode": whole(inputs["z"], frames),
        "decode_two_videos": whole(inputs["z_two_videos"], frames),
        "decode_single_frame": whole(single, 1),
        "decode_chunked": torch.cat(list(decode(decoder, inputs["z"][None], chunk=chunk)), 1)[0],
    }
    if "decode_skip_video" in expected:
        with torch.no_grad():
            found["decode_skip_video"] = decoder.with_strength(0.0)(inputs["z"][None])[0]
    for name, value in found.items():
        check_close(value, expected[name], name, FORWARD)
    back = svd_decoder.to_foreign(decoder, "ldm", blend)
    assert back.keys() == state.keys()
    # For a fixed share a, 1 - (1 - a) need not equal a to the last bit.
    for k, v in state.items():
        torch.testing.assert_close(back[k], v, atol=1e-7 if blend == "fixed" else 0, rtol=0)
    names = case.told.get("keymap_to_diffusers")
    if names and blend == "learned":
        theirs = svd_decoder.to_foreign(decoder, "diffusers")
        assert theirs.keys() == set(names.values())
        again = svd_decoder.from_state(theirs, "diffusers")
        assert all(torch.equal(a, b) for a, b in zip(again.parameters(), decoder.parameters(),
                                                     strict=True))  # fmt: skip


def vae_image(case: Case, folder: Path) -> None:
    decoder, encoder = files.autoencoders_of(parts_of(case), "the case", torch.float32)
    check_encoder(case, encoder)
    with torch.no_grad():
        out = decode_frames(decoder, case.raw("inputs")["z"][None])[0]
    check_close(out, case.raw("expected")["decode"], "decode", FORWARD)


def clip_preprocess(case: Case, folder: Path) -> None:
    pixels = squashed_pixels(case.raw("inputs")["image"])
    check_close(pixels, case.raw("expected")["pixel_values"], "pixels", FORWARD)


KINDS: dict[str, Callable[[Case, Path], None]] = {
    "unet": unet,
    "sampling_edm": sampling_edm,
    "vae_temporal": vae_temporal,
    "vae_image": vae_image,
    "clip_preprocess": clip_preprocess,
}
