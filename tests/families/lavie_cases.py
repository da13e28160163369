"""Runs the recorded cases of LaVie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from einops import rearrange
from golden_cases import Case, check_close, check_sampled
from torch import Tensor
from videoldm.core.diffusion.denoiser import to_vp
from videoldm.core.families import lavie
from videoldm.core.families import lavie_sampling as sampling
from videoldm.core.families import lavie_upsampling as upsampling
from videoldm.core.families.lavie_config import LavieConfig, detect
from videoldm.core.families.lavie_keys import BLOCK_ATTENTION
from videoldm.core.families.stable_diffusion_keys import rename_all
from videoldm.core.networks.conditions import NOISE_LEVEL, Conditions
from videoldm.core.networks.diffusion_model import DiffusionModel
from videoldm.core.networks.layers.block_attention import BlockAttentionSpec, rotary_phases, turn
from videoldm.core.tasks import keyframe_conditioning as keyframes
from videoldm.core.tasks.interpolation import FACTOR
from videoldm.core.weights.checkpoints import load_into

# Tolerances: about three times the measured errors. The originals' own float32 differs from float64
# by 2e-6 to 6e-6 of the scale, and by 2e-5 in super-resolution, whose steps divide by more.
EXACT = 0.0
ATTENTION = 2e-6
NOISED = 1e-5  # The original's float32 errs by 3e-6 at noise level 0, where 1 - abar is 1e-4.
FORWARD = BASE_SAMPLING = 2e-5
INTERPOLATION = 1e-5
VSR_SAMPLING = 6e-5


def model_of(case: Case, **override: Tensor) -> DiffusionModel:
    config = LavieConfig.from_original(case.config)
    state = case.weights() | override
    config = replace(config, in_channels=state["conv_in.weight"].shape[1])
    return lavie.diffusion_model(config, lavie.assemble(state, config))


def prompts_of(case: Case, scale: float) -> sampling.Prompts:
    inputs = case.raw("inputs")
    return sampling.Prompts(
        text=inputs["prompt_embeds"], negative=inputs["negative_prompt_embeds"], scale=scale
    )


class Steps:
    """Collects the latents after every step but the last."""

    def __init__(self, method: str, tolerance: float):
        self.method, self.tolerance, self.latents = method, tolerance, []

    def __call__(self, step) -> None:
        if step.index:
            sigma = torch.tensor(step.sigma)
            self.latents.append(step.x if self.method == "euler" else to_vp(step.x, sigma))

    def check(self, final: Tensor, expected: dict[str, Tensor], prefix: str = "") -> None:
        for i, latents in enumerate([*self.latents, final]):
            name = f"{prefix}latents_after_step{i}"
            check_sampled(latents, expected[name], name, self.tolerance)
        name = f"{prefix}final_latents"
        check_sampled(final, expected[name], name, self.tolerance)


# --------------------------------------------------------------------------------------------------
# Networks.


def forward(case: Case, folder: Path) -> None:
    inputs, network = case.inputs(), model_of(case).network
    labels, spec = inputs.get("class_labels"), network.spec
    x, *low_res = (inputs[name] for name in ("sample", "low_res") if name in inputs)
    x, behind = torch.cat([x, *low_res], 2).split([spec.latent_channels, spec.concatenated], 2)
    given = Conditions(
        text=inputs["encoder_hidden_states"],
        concatenated=behind if behind.shape[2] else None,
        ids={} if labels is None else {NOISE_LEVEL: labels},
    )
    with torch.no_grad():
        out = network(x, inputs["timestep"], given)
    check_close(out, case.expected()["output"], "output", FORWARD)
    written = case.folder / "checkpoint.pt"
    if not written.is_file():
        written = folder / "checkpoint.pt"
        torch.save({"ema": case.weights()}, written)
    loaded = lavie.load(written, config=LavieConfig.from_original(case.config))
    own, again = network.state_dict(), loaded.network.state_dict()
    assert own.keys() == again.keys() and all(torch.equal(own[k], again[k]) for k in own)


def temporal_attention(case: Case, folder: Path) -> None:
    weights, expected = case.weights(), case.raw("expected")
    hidden = case.raw("inputs")["hidden_states"]
    table = weights["time_rel_pos_bias.relative_attention_bias.weight"]
    layer = BlockAttentionSpec(heads=table.shape[1]).build(hidden.shape[-1])
    weights.pop("rotary_emb.freqs")
    state = rename_all(weights, BLOCK_ATTENTION, "the attention")
    norm = {f"norm.{k}": v for k, v in layer.norm.state_dict().items()}
    load_into(layer, state | norm, "the attention")
    frames = hidden.shape[1]
    out = layer.attend(rearrange(hidden, "n t c -> t n c"), frames)
    check_close(rearrange(out, "t n c -> n t c"), expected["output"], "output", ATTENTION)
    check_close(layer.bias(frames), expected["bias_heads_query_key"], "bias", ATTENTION)
    turned = turn(expected["query_scaled_before_rotary"], rotary_phases(frames))
    check_close(turned, expected["query_after_rotary"], "query", ATTENTION)


def published_files(case: Case, folder: Path) -> None:
    """Nothing here is large: every weight is a view of a single number."""
    for name, told in case.told["files"].items():
        state = lavie.read(case.folder / name)
        assert len(state) == told["tensors"]
        config = detect({k: v.shape for k, v in state.items()})
        assert name == f"lavie_{config.kind}.pt"
        network = lavie.load(case.folder / name).network
        assert all(p.untyped_storage().nbytes() == 4 for p in network.parameters())


# --------------------------------------------------------------------------------------------------
# Sampling.


def base_sampling(case: Case, folder: Path) -> None:
    model, expected, inputs = model_of(case), case.expected(), case.inputs()
    settings = case.told["settings"]
    prompts = prompts_of(case, settings["guidance_scale"])
    for name, told in case.told["methods"].items():
        method = "euler" if name.startswith("euler") else name
        for steps, key in ((50, "timesteps_50_steps"), (settings["steps"], "timesteps_this_case")):
            how = sampling.plan(method, steps)
            timesteps = how.schedule.timestep(how.sigmas[:-1])
            torch.testing.assert_close(timesteps, torch.tensor(told[key]), atol=1e-3, rtol=0)
        collected = Steps(method, BASE_SAMPLING)
        latents = sampling.text_to_video(
            model,
            prompts,
            inputs["initial_noise"],
            method=method,
            steps=settings["steps"],
            step_noise=lambda i, x, name=name: inputs[f"{name}.noise_step{i}"],
            callback=collected,
        )
        collected.check(latents, expected, f"{name}.")


def interpolation_sampling(case: Case, folder: Path) -> None:
    inputs, facts = case.inputs(), case.told["facts"]
    latents = inputs["input_video_latents"]
    keys = latents[:, ::FACTOR]
    condition = keyframes.copied_keys(keys)
    check_close(condition, case.expected()["x_start"], "condition", EXACT)
    assert (
        keyframes.key_of_frame(keys.shape[1]).tolist()
        == facts["key_frame_used_by_each_output_frame"]
    )
    stretched = facts.get("stretched_input_frame_index_for_16_frame_clip")
    assert stretched in (None, sampling.stretched_frames(16))
    _interpolate(case, model_of(case), condition)


def interpolation_mask_sampling(case: Case, folder: Path) -> None:
    inputs, expected = case.inputs(), case.expected()
    override = {k[len("override.") :]: v for k, v in inputs.items() if k.startswith("override.")}
    latents = inputs["input_video_latents"]
    mask = torch.tensor(case.told["facts"]["mask_frame_pattern"])
    # The original has other masks, too: with the first frames given, or those at both ends.
    if mask[::FACTOR].sum() == 0:
        assert torch.equal(mask, keyframes.generated_mask(latents.shape[1]))
    check_close(mask, expected["mask_latent"][0, :, 0, 0, 0], "mask", EXACT)
    _interpolate(case, model_of(case, **override), keyframes.masked_latents(latents, mask))


def _interpolate(case: Case, model: DiffusionModel, condition: Tensor) -> None:
    inputs, expected, settings = case.inputs(), case.expected(), case.told["settings"]
    seen = torch.cat([inputs["initial_noise"], condition], dim=2)
    check_close(seen, expected["unet_input_step0"], "what the network sees", EXACT)
    facts = case.told["facts"]
    assert sampling.respaced_timesteps(50).tolist()[::-1] == facts["timestep_map_50"]
    assert sampling.respaced_timesteps(settings["steps"]).tolist()[::-1] == facts["timestep_map"]
    collected = Steps("respaced_ddim", INTERPOLATION)
    final = sampling.interpolate(
        model,
        condition,
        prompts_of(case, settings["cfg_scale"]),
        inputs["initial_noise"],
        steps=settings["steps"],
        windows=sampling.KeyWindows(condition.shape[1]),  # The original has no windows.
        callback=collected,
    )
    collected.check(final, expected)


class Recorded:
    """Recorded noise; its state is the number of tensors drawn so far."""

    def __init__(self, drawn: Sequence[Tensor], state: int = 0):
        self.drawn, self.state = drawn, state

    def __call__(self, shape: Sequence[int]) -> Tensor:
        self.state += 1
        return self.drawn[self.state - 1]

    def copy(self) -> Recorded:
        return Recorded(self.drawn, self.state)


def vsr_sampling(case: Case, folder: Path) -> None:
    inputs, expected, settings = case.inputs(), case.expected(), case.told["settings"]
    model, low_res = model_of(case), inputs["low_res_video"]
    # The network of a small case was built for fewer noise levels than the published one's 350.
    model = replace(model, max_noise_level=max(model.max_noise_level, settings["noise_level"]))
    size = settings.get("chunk", 8)
    chunks = range(-(-low_res.shape[1] // size))
    names = [f"chunk{i}.{kind}_noise" for i in chunks for kind in ("low_res", "initial")]
    noise = Recorded([inputs[name] for name in names])
    collected: list[Steps] = []

    def callback(step) -> None:
        if step.index == 0:
            collected.append(Steps("ddim", VSR_SAMPLING))
        collected[-1](step)

    made = upsampling.upsample_chunks(
        model,
        low_res,
        prompts_of(case, settings["guidance_scale"]),
        noise,
        steps=settings["steps"],
        chunks=upsampling.Chunks(noise_level=settings["noise_level"], chunk=size),
        callback=callback,
    )
    for i, latents in enumerate(made):
        collected[i].check(latents, expected, f"chunk{i}.")
        noised = upsampling.noised_low_res(
            model,
            low_res[:, i * size : (i + 1) * size],
            inputs[f"chunk{i}.low_res_noise"],
            settings["noise_level"],
        )
        check_close(noised, expected[f"chunk{i}.low_res_noisy"], "low resolution", NOISED)
    assert i == chunks[-1] and noise.state == len(names)


KINDS: dict[str, Callable[[Case, Path], None]] = {
    "base": forward,
    "interpolation": forward,
    "vsr": forward,
    "base_temporal_attention": temporal_attention,
    "fake_full_pt": published_files,
    "base_sampling": base_sampling,
    "interpolation_sampling": interpolation_sampling,
    "interpolation_mask_sampling": interpolation_mask_sampling,
    "vsr_sampling": vsr_sampling,
}
