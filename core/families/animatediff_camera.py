"""CameraCtrl (He et al. 2024): a pose encoder, and a linear layer that merges its features into the
first attention of Stable Diffusion 1's motion modules."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..networks.camera_encoder import CameraEncoderSpec
from ..networks.layers.motion_module import MotionModuleSpec
from ..networks.layers.specs import LayerSpec
from ..networks.sites import site_of_diffusers_path
from ..networks.temporal_layers import TemporalLayers, key
from ..networks.temporal_layers_spec import TemporalLayersSpec
from ..weights.checkpoints import CheckpointError, complain, load_into
from ..weights.weight_files import is_safetensors, read_pickle, read_weights
from .animatediff_config import TABLE
from .stable_diffusion_keys import rename

NESTED = ("pose_encoder_state_dict", "attention_processor_state_dict")
"""The two parts of the published file."""

_ENCODER = re.compile(r"^(?:.*?\.)?(?P<own>encoder_(?:conv_in|down_\w+_blocks)\..*)$")
_MERGE = re.compile(
    r"^(?:.*?\.)?(?P<module>(?:down|up)_blocks\.\d+\.motion_modules\.\d+)\.temporal_transformer"
    r"\.transformer_blocks\.(?P<block>\d+)\.attention_blocks\.0\.(?:processor\.)?qkv_merge"
    r"\.(?P<which>weight|bias)$"
)


@dataclass(frozen=True)
class CameraWeights:
    """The contents of a file. tensors: under their names in temporal layers. sites: of the motion
    modules that follow the camera."""

    spec: CameraEncoderSpec
    tensors: Mapping[str, Tensor]
    sites: frozenset[str]
    name: str = "the file"

    def followed_by(self, spec: TemporalLayersSpec) -> TemporalLayersSpec:
        """`spec` with motion modules that follow a camera; CheckpointError if it does not fit."""
        lacking = [site for site in self.sites if site not in spec.layers]
        fits = not lacking and self.spec.widths == spec.layout.channels
        if not fits or not all(_can_follow(spec.layers[site]) for site in self.sites):
            raise CheckpointError(
                f"{self.name} is for motion modules of widths "
                f"{', '.join(map(str, self.spec.widths))}, which these temporal layers do not have"
            )
        layers = {
            site: replace(layer, follows_camera=True) if site in self.sites else layer
            for site, layer in spec.layers.items()
        }
        return replace(spec, layers=layers, camera=self.spec)

    def beside(self, layers: TemporalLayers, dtype: torch.dtype = torch.float32) -> TemporalLayers:
        """New layers with the camera's weights added; `layers` is not changed."""
        spec = self.followed_by(layers.spec)
        with torch.device("meta"):
            made = TemporalLayers(spec)
        state = {**layers.state_dict(), **self.tensors}
        return load_into(made, state, self.name, dtype).eval().requires_grad_(False)


def _can_follow(layer: LayerSpec) -> bool:
    """Whether it is a motion module with as many channels as the features of the camera."""
    return isinstance(layer, MotionModuleSpec) and layer.narrowing == 1


def read(path: str | os.PathLike) -> CameraWeights:
    """Read a file; CheckpointError if it holds no camera control."""
    path = Path(path)
    if is_safetensors(path):
        return from_original(read_weights(path), path.name)
    found = read_pickle(path)
    parts = [found.get(name) for name in NESTED] if isinstance(found, Mapping) else []
    nested = [part for part in parts if isinstance(part, Mapping)]
    return from_original(_joined(nested) if nested else read_weights(path), path.name)


def _joined(parts: list[Mapping[str, Any]]) -> dict[str, Tensor]:
    return {k: v for part in parts for k, v in part.items() if isinstance(v, Tensor)}


def from_original(state: Mapping[str, Tensor], name: str = "the file") -> CameraWeights:
    """Rename the weights; position tables are dropped, other unknown keys are an error."""
    encoder, tensors, sites, unknown = {}, {}, set(), []
    for old, tensor in state.items():
        own, merge = _ENCODER.match(old), _MERGE.match(old)
        if TABLE.search(old):
            continue
        if merge:
            site = site_of_diffusers_path(merge["module"].replace("motion_modules", "attentions"))
            sites.add(site)
            path = f"layers.{key(site)}.blocks.{merge['block']}.merge.{merge['which']}"
            tensors[path] = tensor
        elif own:
            encoder[own["own"]] = tensor
        else:
            unknown.append(old)
    if not encoder or not sites:
        raise CheckpointError(f"{name} holds no camera control: it has no pose encoder and merges")
    complain("has unknown", name, unknown)
    spec = _spec(encoder, state, name)
    names = _table(spec)
    renamed = {old: rename(old, names) for old in encoder}
    complain("has unknown", name, [old for old, new in renamed.items() if new is None])
    tensors |= {f"camera.{renamed[old]}": tensor for old, tensor in encoder.items()}
    return CameraWeights(spec, tensors, frozenset(sites), name)


def _spec(
    encoder: Mapping[str, Tensor], state: Mapping[str, Tensor], name: str
) -> CameraEncoderSpec:
    widths: list[int] = []
    while f"encoder_down_conv_blocks.{len(widths)}.0.block1.bias" in encoder:
        widths.append(len(encoder[f"encoder_down_conv_blocks.{len(widths)}.0.block1.bias"]))
    first = encoder.get("encoder_conv_in.weight")
    if not widths or first is None or first.shape[1] != 384:
        raise CheckpointError(f"{name} has a pose encoder of an unknown kind")
    blocks = 0
    while f"encoder_down_conv_blocks.0.{blocks}.block1.bias" in encoder:
        blocks += 1
    tables = [v.shape[1] for k, v in state.items() if TABLE.search(k) and v.ndim == 3]
    return CameraEncoderSpec(widths=tuple(widths), blocks=blocks, positions=min(tables, default=16))


def _table(spec: CameraEncoderSpec) -> dict[str, str]:
    """The file's module path -> the path in :class:`~..camera_encoder.CameraEncoder`."""
    found = {"encoder_conv_in": "conv_in"}
    for level in range(len(spec.widths)):
        for k in range(spec.blocks):
            number = level * spec.blocks + k
            conv, own = f"encoder_down_conv_blocks.{level}.{k}", f"convolutions.{number}"
            names = ("block1", "block2", "in_conv")
            found |= {f"{conv}.{name}": f"{own}.{name}" for name in names}
            block, own = f"encoder_down_attention_blocks.{level}.{k}", f"attentions.{number}"
            found |= {
                f"{block}.attention_blocks.0.{name}": (
                    f"{own}.attentions.0.{name.removesuffix('.0')}.base"
                )
                for name in ("to_q", "to_k", "to_v", "to_out.0")
            }
            found |= {
                f"{block}.norms.0": f"{own}.norms.0",
                f"{block}.ff_norm": f"{own}.norm",
                f"{block}.ff.net.0.proj": f"{own}.feed_forward.inner.base",
                f"{block}.ff.net.2": f"{own}.feed_forward.outer.base",
            }
    return found
