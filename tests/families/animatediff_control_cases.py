"""Runs the recorded cases of SparseCtrl and CameraCtrl, which steer AnimateDiff's layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from animatediff_cases import base_unet, floats, neighbour
from einops import rearrange
from golden_cases import Case, check_close
from torch import Tensor
from videoldm.core.families import animatediff, animatediff_camera, animatediff_sparse
from videoldm.core.families.animatediff_config import detect
from videoldm.core.networks.cameras import CameraPath, CameraUse
from videoldm.core.networks.conditions import Conditions
from videoldm.core.networks.injected_sets import Injection
from videoldm.core.networks.layers.motion_module import with_positions
from videoldm.core.networks.layers.positions import interleaved_sinusoid
from videoldm.core.networks.sites import layout_of, level_of, site_of_diffusers_path
from videoldm.core.networks.sparse_control import SparseControl, sparse_condition
from videoldm.core.networks.temporal_layers import TemporalLayers
from videoldm.core.networks.video_unet import inject

FORWARD = 1e-5
# Intermediate features, in float32 against the original's float64.
INSIDE = 4e-5
EXACT = 1e-6


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
    at = case.told["runs"]["main"]["index"]
    condition = sparse_condition(images[: len(at)], at, range(frames))
    assert torch.equal(condition[None, :, -1:], mask)


def check_residuals(
    control: SparseControl, inputs: dict[str, Tensor], expected: dict[str, Tensor], name: str
) -> None:
    skips, middle = control(inputs["sample"], inputs["timestep"], inputs["encoder_hidden_states"])
    found = {f"{name}/down_{i}": skip for i, skip in enumerate(skips)} | {f"{name}/mid": middle}
    recorded = {key for key in expected if key.startswith((f"{name}/down_", f"{name}/mid"))}
    assert len(recorded) >= 2, recorded
    for key in recorded:
        wanted = rearrange(expected[key], "b t c h w -> (b t) c h w")
        check_close(found[key], wanted, key, INSIDE)


# --------------------------------------------------------------------------------------------------
# CameraCtrl.


def camera_path(case: Case) -> CameraPath:
    poses = case.raw("inputs")["poses"]
    last = torch.tensor([0.0, 0, 0, 1], dtype=torch.float64).expand(len(poses), 1, 4)
    matrices = torch.cat([poses[:, 7:].reshape(-1, 3, 4).double(), last], dim=1)
    ratio = case.told["original_pose_width"] / case.told["original_pose_height"]
    return CameraPath(intrinsics=poses[:, 1:5], world_to_camera=matrices, ratio=ratio)


def camera_ctrl(case: Case, folder: Path) -> None:
    path, inputs, expected = camera_path(case), case.inputs(), case.raw("expected")
    check_rays(case, path, expected)
    camera = animatediff_camera.read(case.folder / "weights.safetensors")
    camera = replace(camera, tensors={k: v.float() for k, v in camera.tensors.items()})
    video = video_unet(case)
    plain = video.injections[0].layers
    layers = camera.beside(plain)
    height, width = (8 * side for side in inputs["sample"].shape[-2:])
    with torch.no_grad():
        features = layers.camera(path.rays(width, height))
    for level, tokens in enumerate(features):
        wanted = rearrange(expected[f"pose_feature_{level}"], "1 c t h w -> t (h w) c")
        check_close(tokens, wanted, f"pose feature {level}", INSIDE)
    check_attention(layers, features, expected)
    text = Conditions(text=inputs["encoder_hidden_states"])

    usual = case.told["config"]["attention_processor_kwargs"]["scale"]

    def run(use: CameraUse | None, layers=layers) -> Tensor:
        network = video.with_sets([Injection(layers, camera=use)])
        with torch.no_grad():
            return network(inputs["sample"], inputs["timestep"], text)

    camera_use = CameraUse(path=path, strength=usual)
    runs = {
        "main": lambda: run(camera_use),
        "half_scale": lambda: run(replace(camera_use, strength=0.5)),
        "zero_feature": lambda: run(camera_use, with_features(layers, torch.zeros_like)),
        "reversed_time": lambda: run(camera_use, with_features(layers, reversed_time)),
        "zero_merge": lambda: run(None),
    }
    assert runs.keys() == case.told["runs"].keys()
    for name, made in runs.items():
        wanted = rearrange(expected[f"{name}/unet_out"], "b c t h w -> b t c h w")
        check_close(made(), wanted, f"{name}/unet_out", FORWARD)


def reversed_time(tokens: Tensor) -> Tensor:
    return tokens.flip(0)


def check_rays(case: Case, path: CameraPath, expected: dict[str, Tensor]) -> None:
    check_close(path.to_first, expected["c2w"], "to the first camera", EXACT)
    for name in ("main", "other"):
        height, width = case.told["sizes"][name]
        pixels = expected[f"intrinsics_{name}"]
        check_close(path.pixels(width, height), pixels, f"intrinsics {name}", EXACT)
        check_close(path.rays(width, height), expected[f"plucker_{name}"], f"rays {name}", EXACT)


def with_features(layers: TemporalLayers, change: Callable[[Tensor], Tensor]) -> TemporalLayers:
    """The layers with changed camera features."""
    made = TemporalLayers(layers.spec)
    made.load_state_dict(layers.state_dict())
    made.camera.register_forward_hook(lambda _, __, found: [change(one) for one in found])
    return made


def check_attention(
    layers: TemporalLayers, features: list[Tensor], expected: dict[str, Tensor]
) -> None:
    """Checks the first attention of two modules, from the recorded output of its norm."""
    names = [k.removesuffix(".attn0:in") for k in expected if k.endswith(".attn0:in")]
    assert len(names) == 2, names
    for name in names:
        module = name.removeprefix("main/").replace("motion_modules", "attentions")
        site = site_of_diffusers_path(module)
        block = layers.at(site).blocks[0]
        h, wanted = (
            rearrange(expected[f"{name}.attn0:{end}"], "n t c -> t n c") for end in ("in", "out")
        )
        tokens = features[level_of(site, layers.spec.layout)][:, : h.shape[1]]
        at = interleaved_sinusoid(torch.arange(len(h)), h.shape[-1])
        with torch.no_grad():
            read = with_positions(h, at)
            read = read + block.merge(read + tokens)
            got = block.attentions[0](read, len(h), plus=torch.zeros_like(h))
        check_close(got, wanted, f"{name}.attn0", INSIDE)


KINDS: dict[str, Callable[[Case, Path], None]] = {
    "sparsectrl": sparse_ctrl,
    "cameractrl": camera_ctrl,
}
