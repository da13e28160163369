"""Loads models by name as ComfyUI's objects, whose patchers ComfyUI can rebuild
(`cached_patcher_init`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import comfy.diffusers_load
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import folder_paths
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

from ....core import families
from ....core.families import image_models
from ....core.families.checkpoint_hints import CheckpointHints
from ....core.families.image_models import ImageModel
from ....core.networks.cameras import CameraUse
from ....core.networks.temporal_layers import FULL_STRENGTH, TemporalLayers
from ....core.networks.temporal_layers_spec import TemporalLayersSpec
from ....core.weights.checkpoints import load_into
from ....core.weights.weight_files import header_of
from ..interface import FolderAccess
from ..shared.missing_parts import NO_LAYERS, MissingPart
from ..shared.model_kinds import check_kind
from ..shared.model_names import (
    IMAGE_MODEL,
    TEMPORAL_DECODER,
    TEMPORAL_LAYERS,
    UPSAMPLER,
    VIDEO_MODEL,
    model_file,
)
from ..shared.steering import can_follow_camera
from ..shared.vae import VideoVAE
from ..shared.vae_3d import VideoVAE3D
from .clip import build_clip
from .layers import InjectedSet, LoadedLayers, inject, steered
from .model import build_patcher
from .rebuilding import rebuildable as _rebuildable
from .sparse_control import SparseControlObject
from .vae import VideoLDMVAE
from .video_models import further_parts, video_patcher


class Loaders:
    """Loaders by name."""

    def __init__(self, folders: FolderAccess):
        self.folders = folders

    def image_model(self, name: str) -> tuple[Any, Any, Any]:
        """A text-to-image model that comes with the pack, or a checkpoint in the models folder."""
        path = model_file(self.folders, IMAGE_MODEL, name)
        header = header_of(path)
        if header is not None:
            check_kind(path.name, header.kind, IMAGE_MODEL, header.family)
            return own_wires(IMAGE_MODEL, path)
        return _diffusers(path) if path.is_dir() else _checkpoint(path)[:3]

    def upsampler(self, name: str) -> tuple[Any, Any, Any]:
        path = model_file(self.folders, UPSAMPLER, name)
        header = header_of(path)
        if header is not None:
            check_kind(path.name, header.kind, UPSAMPLER, header.family)
            return own_wires(UPSAMPLER, path)
        model = _published_upsampler_patcher(path)
        if path.is_dir():
            return model, *_diffusers_upsampler_parts(path)
        return model, *_checkpoint(path, output_model=False)[1:3]

    def video_model(self, name: str, hints: CheckpointHints) -> tuple:
        """A video model in one file: MODEL, layers, CLIP_VISION, VAE and CLIP."""
        path = model_file(self.folders, VIDEO_MODEL, name)
        _, found = families.load_video_parts(path, hints)
        model, layers = (
            video_patcher(found.model, path, hints),
            MissingPart(NO_LAYERS.format(name)),
        )
        for own in found.model.sets:
            rebuild = _layers_patcher, (path,)
            layers = _loaded_layers(own.layers.spec, own.layers.state_dict(), path.name, rebuild)
            model = inject(model, layers, FULL_STRENGTH)
        return model, layers, *further_parts(found, path, hints)

    def temporal_layers(self, name: str) -> LoadedLayers:
        """Layers that come with the pack, or those in a file."""
        return temporal_layers(model_file(self.folders, TEMPORAL_LAYERS, name))

    def sparse_control(self, name: str, frames: Sequence[int]) -> SparseControlObject:
        path, manager = self.folders.model_path("controlnet", name), comfy.model_management
        dtype = manager.unet_dtype(supported_dtypes=[torch.float16, torch.bfloat16, torch.float32])
        network = families.load_sparse_control(path, dtype=dtype).requires_grad_(False)
        return SparseControlObject(network, frames)

    def follow_camera(self, model: Any, name: str, use: CameraUse) -> Any:
        """The model with a camera followed by its last motion modules, by the weights of a file."""
        path = self.folders.model_path("videoldm", name)

        def change(one: InjectedSet) -> InjectedSet:
            rebuild = one.layers.patcher.cached_patcher_init
            return one.used(_with_camera(one.layers.module, path, rebuild), camera=use)

        return steered(model, can_follow_camera, change)

    def temporal_vae(self, name: str) -> VideoLDMVAE:
        return temporal_vae(model_file(self.folders, TEMPORAL_DECODER, name))


def _checkpoint(path: Path, **options: Any) -> tuple:
    """What ComfyUI's own loader returns: MODEL, CLIP, VAE and more."""
    return comfy.sd.load_checkpoint_guess_config(
        str(path), output_vae=True, output_clip=True,
        embedding_directory=folder_paths.get_folder_paths("embeddings"), **options,
    )  # fmt: skip


def _diffusers(path: Path) -> tuple[Any, Any, Any]:
    """(MODEL, CLIP, VAE) of a diffusers folder by ComfyUI's own loader, which cannot tell from the
    U-Net's weights whether it predicts velocities."""
    model, clip, vae = comfy.diffusers_load.load_diffusers(
        str(path), embedding_directory=folder_paths.get_folder_paths("embeddings")
    )
    if image_models.predicts_velocity(path):
        (model,) = ModelSamplingDiscrete().patch(model, "v_prediction", zsnr=False)
    return model, clip, vae


def _diffusers_upsampler_parts(path: Path) -> tuple[Any, Any]:
    """(CLIP, VAE) of an upsampler's folder. ComfyUI's own loader assumes autoencoders of four
    levels; an upsampler's has three."""
    weights = image_models.find_text_encoder(path)
    embeddings = folder_paths.get_folder_paths("embeddings")
    clip = comfy.sd.load_clip([str(weights)], embedding_directory=embeddings)
    vae = VideoLDMVAE(_diffusers_vae(path))
    _rebuildable(vae.patcher, _diffusers_vae_patcher, path)
    return clip, vae


def _diffusers_vae(path: Path) -> VideoVAE:
    return VideoVAE(image_models.load_folder_autoencoder(path))


# --------------------------------------------------------------------------------------------------
# Builders. ComfyUI also calls those of patchers when it needs one without dynamic memory.


def own_wires(kind: str, path: Path) -> tuple[Any, Any, Any]:
    """(MODEL, CLIP, VAE) of a file in this project's format."""
    found = _read(kind, path)
    patcher = build_patcher(found.model, image_models.autoencoder_of(path, kind))
    model = _rebuildable(patcher, _model_patcher, kind, path)
    if found.model.sets:
        model = _with_own_layers(model, kind, found, path)
    clip = build_clip(found)
    _rebuildable(clip.patcher, _clip_patcher, kind, path)
    vae = VideoLDMVAE(VideoVAE(found.autoencoder))
    _rebuildable(vae.patcher, _vae_patcher, kind, path)
    return model, clip, vae


def temporal_layers(path: Path) -> LoadedLayers:
    """The temporal layers in a file, with operations that ComfyUI casts and offloads."""
    spec, state = _read_layers(path)
    return _loaded_layers(spec, state, path.name, (_layers_patcher, (path,)))


def temporal_vae(path: Path) -> VideoLDMVAE:
    """A temporal decoder, with the matching encoder if one is known."""
    vae = VideoLDMVAE(_read_temporal_vae(path))
    _rebuildable(vae.patcher, _temporal_vae_patcher, path)
    return vae


def _read(kind: str, path: Path) -> ImageModel:
    return image_models.load_own(path, kind, dtype=torch.float32, device="cpu")


def _read_temporal_vae(path: Path) -> VideoVAE | VideoVAE3D:
    own = families.load_video_autoencoder(path)
    if own is not None:
        return VideoVAE3D(own)
    return VideoVAE(*image_models.load_temporal_autoencoder(path))


def _read_layers(path: Path) -> tuple[TemporalLayersSpec, dict[str, torch.Tensor]]:
    """The spec and weights of temporal layers; of a whole video model, only its layers."""
    layers = families.load_temporal_layers(path)
    return layers.spec, layers.state_dict()


def _with_own_layers(model: Any, kind: str, found: ImageModel, path: Path) -> Any:
    """The model with the temporal layers that are in the same file injected."""
    for index, injection in enumerate(found.model.sets):
        layers = injection.layers
        rebuild = (_own_layers_patcher, (kind, path, index))
        loaded = _loaded_layers(layers.spec, layers.state_dict(), kind, rebuild)
        model = inject(model, loaded, injection.strength)
    return model


def _loaded_layers(
    spec: TemporalLayersSpec, state: dict[str, torch.Tensor], name: str, rebuild: tuple,
    disable_dynamic: bool = False,
) -> LoadedLayers:  # fmt: skip
    manager = comfy.model_management
    layers = TemporalLayers(spec, ops=comfy.ops.manual_cast)
    size = sum(tensor.numel() for tensor in state.values())
    dtypes = [torch.float16, torch.bfloat16, torch.float32]
    dtype = manager.unet_dtype(model_params=size, supported_dtypes=dtypes)
    layers = load_into(layers, state, name, dtype).eval().requires_grad_(False)
    patcher = _patcher_kind(disable_dynamic)(
        layers, load_device=manager.get_torch_device(), offload_device=manager.unet_offload_device()
    )
    patcher.cached_patcher_init = rebuild
    return LoadedLayers(layers, patcher)


def _patcher_kind(disable_dynamic: bool) -> Callable[..., Any]:
    # Looked up on each call: ComfyUI replaces the class when it starts.
    if disable_dynamic:
        return comfy.model_patcher.ModelPatcher
    return comfy.model_patcher.CoreModelPatcher


def _model_patcher(kind: str, path: Path, disable_dynamic: bool = False) -> Any:
    model, autoencoder = _read(kind, path).model, image_models.autoencoder_of(path, kind)
    patcher = build_patcher(model, autoencoder, disable_dynamic=disable_dynamic)
    return _rebuildable(patcher, _model_patcher, kind, path)


def _published_upsampler_patcher(path: Path, disable_dynamic: bool = False) -> Any:
    """The U-Net of a published x4 upscaler, with our upsampler's conditions."""
    found = image_models.load(path, dtype=torch.float32, device="cpu")
    check_kind(path.name, image_models.kind_of(found), UPSAMPLER)
    patcher = build_patcher(found.model, None, disable_dynamic=disable_dynamic)
    return _rebuildable(patcher, _published_upsampler_patcher, path)


def _clip_patcher(kind: str, path: Path, disable_dynamic: bool = False) -> Any:
    clip = build_clip(_read(kind, path), disable_dynamic=disable_dynamic)
    return _rebuildable(clip.patcher, _clip_patcher, kind, path)


def _vae_patcher(kind: str, path: Path, disable_dynamic: bool = False) -> Any:
    vae = VideoVAE(_read(kind, path).autoencoder)
    patcher = VideoLDMVAE(vae, disable_dynamic=disable_dynamic).patcher
    return _rebuildable(patcher, _vae_patcher, kind, path)


def _diffusers_vae_patcher(path: Path, disable_dynamic: bool = False) -> Any:
    patcher = VideoLDMVAE(_diffusers_vae(path), disable_dynamic=disable_dynamic).patcher
    return _rebuildable(patcher, _diffusers_vae_patcher, path)


def _temporal_vae_patcher(path: Path, disable_dynamic: bool = False) -> Any:
    patcher = VideoLDMVAE(_read_temporal_vae(path), disable_dynamic=disable_dynamic).patcher
    return _rebuildable(patcher, _temporal_vae_patcher, path)


def _layers_patcher(path: Path, disable_dynamic: bool = False) -> Any:
    spec, state = _read_layers(path)
    rebuild = (_layers_patcher, (path,))
    return _loaded_layers(spec, state, path.name, rebuild, disable_dynamic).patcher


def _with_camera(
    layers: TemporalLayers, path: Path, rebuild: tuple, disable_dynamic: bool = False
) -> LoadedLayers:
    """The layers with a camera's weights added; `rebuild`, (function, arguments), rebuilds the
    patcher of the layers without them."""
    weights = families.read_camera_control(path)
    state = {**layers.state_dict(), **weights.tensors}
    made = _camera_layers_patcher, (path, rebuild)
    spec = weights.followed_by(layers.spec)
    return _loaded_layers(spec, state, path.name, made, disable_dynamic)


def _camera_layers_patcher(path: Path, rebuild: tuple, disable_dynamic: bool = False) -> Any:
    make, arguments = rebuild
    layers = make(*arguments, disable_dynamic=disable_dynamic).model
    return _with_camera(layers, path, rebuild, disable_dynamic).patcher


def _own_layers_patcher(kind: str, path: Path, index: int, disable_dynamic: bool = False) -> Any:
    layers = _read(kind, path).model.sets[index].layers
    rebuild = (_own_layers_patcher, (kind, path, index))
    return _loaded_layers(layers.spec, layers.state_dict(), kind, rebuild, disable_dynamic).patcher
