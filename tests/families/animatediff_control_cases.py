"""What is run with the cases of SparseCtrl and CameraCtrl, which steer AnimateDiff's layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from animatediff_cases import base_unet, floats, neighbour
from einops import rearrange
from golden_cases import Case, check_close
from torch import Tensor
from videoldm.core.families import animatediff, animatediff_sparse
from videoldm.core.families.animatediff_config import detect
from videoldm.core.networks.conditions import Conditions
from videoldm.core.networks.sites import layout_of
from videoldm.core.networks.sparse_control import SparseControl, sparse_condition
from videoldm.core.networks.video_unet import inject

FORWARD = 1e-5
# Features inside, of float32 against the original in float64.
INSIDE = 4e-5


def video_unet(case: Case):
    """The base U-Net with the motion modules that the case names."""
    unet = base_unet(neighbour(case, "base_unet_dir"))
    named = neighbour(case, "motion_module_dir") / "motion_module.safetensors"
    state = animatediff.without_prefix(floats(named))
    found = detect({k: tuple(v.shape) for k, v in state.items()})
    config = replace(found, layout=layout_of(unet.config))
    return inject(unet, animatediff.assemble(state, config))


def sparse_ctrl(case: Case, folder: Path) -> None:
    network = animatediff_sparse.load(case.folder / "controlnet.safetensors", dtype=torch.float32)
    video, inputs, expected = video_unet(case), case.inputs(), case.expected()
    frames = case.told["shapes"]["frames"]
    images = rearrange(case.raw("inputs")["images"], "1 c n h w -> n c h w")
    images = images / 255 if images.dtype == torch.uint8 else images.float()
    for name, run in case.told["runs"].items():
        controls = []
        if "index" in run:
            at = run["index"]
            condition = sparse_condition(images[: len(at)], at, range(frames))
            network.sees_noise = not run.get("set_noisy_sample_input_to_zero", True)
            controls = [
                SparseControl(network=network, condition=condition, strength=run.get("scale", 1.0),
                              guess=run.get("guess_mode", False))
            ]  # fmt: skip
            check_residuals(controls[0], inputs, expected, name)
        text = Conditions(text=inputs["encoder_hidden_states"])
        with torch.no_grad():
            out = video.with_controls(controls)(inputs["sample"], inputs["timestep"], text)
        check_close(out, expected[f"{name}/unet_out"], f"{name}/unet_out", FORWARD)
    mask = expected["main/conditioning_mask"]
    condition = sparse_condition(images, case.told["runs"]["main"]["index"], range(frames))
    assert torch.equal(condition[None, :, -1:], mask)


def check_residuals(
    control: SparseControl, inputs: dict[str, Tensor], expected: dict[str, Tensor], name: str
) -> None:
    skips, middle = control(inputs["sample"], inputs["timestep"], inputs["encoder_hidden_states"])
    found = {f"{name}/down_{i}": skip for i, skip in enumerate(skips)} | {f"{name}/mid": middle}
    for key in found.keys() & expected.keys():
        wanted = rearrange(expected[key], "b t c h w -> (b t) c h w")
        check_close(found[key], wanted, key, INSIDE)


KINDS: dict[str, Callable[[Case, Path], None]] = {"sparsectrl": sparse_ctrl}
