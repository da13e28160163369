"""Runs the recorded cases of ModelScope."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from golden_cases import Case, check_close, check_sampled
from torch import Tensor
from videoldm.core.diffusion.guidance import guided
from videoldm.core.diffusion.schedules import get_sigmas_leading
from videoldm.core.families import modelscope, published_plan
from videoldm.core.networks.conditions import Conditions
from videoldm.core.networks.diffusion_model import DiffusionModel

# Tolerances: about three times the measured errors.
FORWARD = 1e-5
SAMPLING = 1e-5


def unet(case: Case, folder: Path) -> None:
    inputs, expected, state = case.inputs(), case.expected(), case.weights()
    told, shapes = case.config, {k: v.shape for k, v in state.items()}
    config = modelscope.detect(shapes, norm_groups=told.get("norm_num_groups", 32))
    parts = modelscope.assemble(state, "the case", config)
    assert parts.config.head_width == told["attention_head_dim"]
    assert parts.config.layout.channels == tuple(told["block_out_channels"])
    assert parts.config.layout.layers == told["layers_per_block"]
    assert parts.config.context_width == told["cross_attention_dim"]
    model = modelscope.diffusion_model(parts)
    x, given = inputs["sample"], Conditions(text=inputs["encoder_hidden_states"])
    with torch.no_grad():
        out = model.network(x, inputs["timestep"], given)
        check_close(out, expected["out"], "out", FORWARD)
        if "out_single_frame" in expected:
            single = model.network(x[:, :1], inputs["timestep"], given)
            check_close(single, expected["out_single_frame"], "single frame", FORWARD)
    if "keymap_original" in case.told:
        check_names(case, parts, state)
    if "sampler" in case.told:
        sampled(case, model)


def check_names(case: Case, parts: modelscope.UNet, state: dict[str, Tensor]) -> None:
    """Written with either naming, the weights are unchanged."""
    names, squeezed = case.told["keymap_original"], set(case.told["original_squeeze"])
    theirs = modelscope.to_foreign(parts, "diffusers")
    assert theirs.keys() == state.keys() == set(names.values())
    assert all(torch.equal(theirs[k], v) for k, v in state.items())
    original = modelscope.to_foreign(parts, "ldm")
    assert original.keys() == names.keys()
    for old, new in names.items():
        value = state[new][..., None] if old in squeezed else state[new]
        assert torch.equal(original[old], value)
    again = modelscope.assemble(original, "original")
    own, other = parts.layers.state_dict(), again.layers.state_dict()
    assert all(torch.equal(own[k], other[k]) for k in own)


def sampled(case: Case, model: DiffusionModel) -> None:
    """DDIM with the second prompt, guided away from the first."""
    inputs, expected, told = case.inputs(), case.expected(), case.told["sampler"]
    steps = told["num_inference_steps"]
    plan = published_plan("modelscope", "ddim", steps)
    if plan.schedule.steps % steps:
        # ModelScope's own steps are one more; the cases were sampled by diffusers' scheduler.
        levels = get_sigmas_leading(plan.schedule, steps, offset=1, end_on_first=True)
        plan = replace(plan, sigmas=levels)
    timesteps = model.schedule.timestep(plan.sigmas[:-1])
    torch.testing.assert_close(timesteps, expected["ddim/timesteps"].float(), atol=1e-3, rtol=0)
    text = inputs["encoder_hidden_states"]
    uncond, cond = (model.denoiser(Conditions(text=one)) for one in text[:2].split(1))
    out = plan.run(guided(cond, uncond, told["guidance_scale"]), inputs["sample"][:1])
    check_sampled(out, expected["ddim/samples"], "samples", SAMPLING)


KINDS: dict[str, Callable[[Case, Path], None]] = {"unet3d": unet}
