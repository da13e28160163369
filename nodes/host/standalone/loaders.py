"""Loads models by name, when a node requests them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ....core import families
from ....core.diffusion.curves import Curve
from ....core.families import controlnets, image_models
from ....core.families.checkpoint_hints import CheckpointHints
from ....core.families.image_models import ImageModel
from ....core.families.lora import apply as apply_lora
from ....core.families.lora import beside, read_lora
from ....core.networks.cameras import CameraUse
from ....core.networks.injected_sets import Injection
from ....core.networks.sites import layout_of
from ....core.networks.temporal_layers import TemporalLayers
from ....core.networks.video_unet import eject
from ....core.networks.weight_updates import Scheduled
from ....core.weights.weight_files import header_of
from ..shared.embeddings import Embeddings
from ..shared.folders import Folders
from ..shared.image_prompter import ImagePrompter
from ..shared.missing_parts import (
    NO_CLIP,
    NO_CLIP_VISION,
    NO_LAYERS,
    NO_VAE,
    MissingPart,
    without_clip,
)
from ..shared.model_kinds import check_kind
from ..shared.model_names import (
    IMAGE_MODEL,
    TEMPORAL_DECODER,
    TEMPORAL_LAYERS,
    UPSAMPLER,
    VIDEO_MODEL,
    model_file,
)
from ..shared.prompt_encoder import PromptEncoder
from ..shared.steering import can_follow_camera
from ..shared.two_prompt_encoders import OneOfTwo, TwoPromptEncoders
from ..shared.vae import VideoVAE
from ..shared.vae_3d import VideoVAE3D
from ..shared.video_vae import video_vae
from .clip_vision import ClipVision
from .control import StandaloneControlNet, StandaloneSparseControl
from .devices import Policy
from .model import StandaloneModel

FP8 = {
    "fp8_e4m3fn": torch.float8_e4m3fn,
    "fp8_e4m3fn_fast": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}
Clip = PromptEncoder | TwoPromptEncoders
Loaded = tuple[StandaloneModel, Clip | MissingPart, VideoVAE | MissingPart]


@dataclass(frozen=True)
class Loaders:
    """The folders that files are in, and the device and dtype of models."""

    folders: Folders
    policy: Policy

    @property
    def _there(self) -> dict[str, Any]:
        return {"dtype": self.policy.dtype, "device": self.policy.device}

    def image_model(self, name: str) -> Loaded:
        """A text-to-image model that comes with the pack, or a checkpoint."""
        return self._checkpoint(model_file(self.folders, IMAGE_MODEL, name), IMAGE_MODEL)

    def upsampler(self, name: str) -> Loaded:
        return self._checkpoint(model_file(self.folders, UPSAMPLER, name), UPSAMPLER)

    def temporal_layers(self, name: str) -> TemporalLayers:
        """Temporal layers that come with the pack, or those in a file."""
        path = model_file(self.folders, TEMPORAL_LAYERS, name)
        return families.load_temporal_layers(path, **self._there)

    def video_model(self, name: str, hints: CheckpointHints) -> tuple:
        """A video model in one file: MODEL, layers, CLIP_VISION, VAE and CLIP."""
        path = model_file(self.folders, VIDEO_MODEL, name)
        _, found = families.load_video_parts(path, hints, **self._there)
        layers = [one.layers for one in found.model.sets] or [MissingPart(NO_LAYERS.format(name))]
        vision = MissingPart(NO_CLIP_VISION.format(path.name))
        if found.resampler is not None:
            vision = ImagePrompter(found)
        elif found.image_encoder is not None:
            vision = ClipVision(found.image_encoder)
        clip = without_clip(path.name, found.model)
        if found.text is not None:
            clip = self._clip(found.text)
        vae = video_vae(found, path.name)
        return StandaloneModel(found.model), layers[0], vision, vae, clip

    def temporal_vae(self, name: str) -> VideoVAE | VideoVAE3D:
        path = model_file(self.folders, TEMPORAL_DECODER, name)
        own = families.load_video_autoencoder(path, **self._there)
        if own is not None:
            return VideoVAE3D(own)
        return VideoVAE(*image_models.load_temporal_autoencoder(path, **self._there))

    def image_vae(self, name: str) -> VideoVAE:
        path = self.folders.model_path("vae", name)
        header = header_of(path)
        if header is not None and header.kind == TEMPORAL_DECODER:
            return VideoVAE(*image_models.load_temporal_autoencoder(path, **self._there))
        return VideoVAE(image_models.load_autoencoder(path, **self._there))

    def diffusion_model(self, name: str, weight_dtype: str = "default") -> StandaloneModel:
        """A U-Net in the folder diffusion_models, its weights rounded to `weight_dtype`."""
        path = self.folders.model_path("diffusion_models", name)
        model, *_ = self._checkpoint(path, IMAGE_MODEL)
        if weight_dtype != "default":
            round_weights(eject(model.core.network), FP8[weight_dtype])
        return model

    def text_encoder(self, *names: str, device: str = "default") -> Clip:
        """The text encoder in a file in the folder text_encoders, or two in two files."""
        there = self._there | ({} if device == "default" else {"device": device})
        paths = tuple(self.folders.model_path("text_encoders", name) for name in names)
        if len(paths) == 2:
            return self._clip(image_models.load_text_encoders(paths, **there))
        return self._clip(image_models.load_text_encoder(paths[0], **there))

    def _checkpoint(self, path: Path, wanted: str) -> Loaded:
        """An image model or an upsampler, in this project's format or a published one."""
        header = header_of(path)
        if header is not None:
            check_kind(path.name, header.kind, wanted, header.family)
            return self._wires(image_models.load_own(path, wanted, **self._there), path.name)
        found = image_models.load(path, **self._there)
        check_kind(path.name, image_models.kind_of(found), wanted)
        return self._wires(with_whole_steps(found), path.name)

    def _wires(self, found: ImageModel, file: str) -> Loaded:
        """A model with its CLIP and VAE; placeholders raise an error if the file lacks them."""
        clip = MissingPart(NO_CLIP.format(file))
        vae = MissingPart(NO_VAE.format(file))
        if found.text_encoder is not None:
            clip = self._clip(found, found.box_encoder, found.known_words)
        if found.autoencoder is not None:
            vae = VideoVAE(found.autoencoder)
        return StandaloneModel(found.model), clip, vae

    def controlnet(self, name: str) -> StandaloneControlNet:
        path = self.folders.model_path("controlnet", name)
        network = controlnets.load(path, **self._there)
        # As in ComfyUI, which recognises shuffle ControlNets by their names.
        return StandaloneControlNet(network, path.stem.endswith(("_shuffle", "_shuffle_fp16")))

    def sparse_control(self, name: str, frames: Sequence[int]) -> StandaloneSparseControl:
        path = self.folders.model_path("controlnet", name)
        return StandaloneSparseControl(
            families.load_sparse_control(path, **self._there), tuple(frames)
        )

    def follow_camera(self, model: StandaloneModel, name: str, use: CameraUse) -> StandaloneModel:
        """The model with a camera followed by its last motion modules, by the weights of a file."""
        weights = families.read_camera_control(self.folders.model_path("videoldm", name))

        def change(one: Injection) -> Injection:
            layers = weights.beside(one.layers, self.policy.dtype)
            return replace(one, layers=layers.to(model.core.device), camera=use)

        return model.steered(can_follow_camera, change)

    def _clip(self, found: Any, box_encoder: Any = None, known_words: Any = None) -> Clip:
        length, second = found.text_length, getattr(found, "second_text", None)
        if second is not None:
            both = (found.text_encoder, found.tokenizer), (second.encoder, second.tokenizer)
            return TwoPromptEncoders(*(
                OneOfTwo(*one, length, embeddings=self._embeddings(one[0])) for one in both
            ))  # fmt: skip
        return PromptEncoder(
            found.text_encoder, found.tokenizer, length, box_encoder,
            self._embeddings(found.text_encoder), found.dropped_layers,
            known_words=known_words,
        )  # fmt: skip

    def _embeddings(self, encoder: nn.Module) -> Embeddings:
        roots = tuple(self.folders.model_roots("embeddings"))
        return Embeddings(roots, encoder.config.hidden_size)

    def lora(self, model: StandaloneModel | None, clip: Clip | None, name: str,
             strength_model: float, strength_clip: float) -> tuple:  # fmt: skip
        """Copies of the model and the CLIP with a LoRA merged in."""
        path = self.folders.model_path("loras", name)
        lora = read_lora(path)
        if model is not None and strength_model:
            model = _model_with_lora(model, lora, strength_model, path.name)
        if strength_clip:
            clip = _clip_with_lora(clip, lora, strength_clip, path.name)
        return model, clip

    def motion_lora(self, layers: TemporalLayers, name: str, strength: Curve) -> TemporalLayers:
        """The layers with a LoRA on them."""
        path = self.folders.model_path("loras", name)
        updates = families.load_layer_updates(path, layers, nn)
        return layers.with_updates([Scheduled(updates, strength)])

    def scheduled_lora(self, model: StandaloneModel, name: str, strength: Curve
                       ) -> StandaloneModel:  # fmt: skip
        """The model with an unmerged LoRA on the modules of its image U-Net."""
        path, network = self.folders.model_path("loras", name), model.core.network
        unet = eject(network)
        table = image_models.unet_table(layout_of(unet.config))
        updates = beside(unet, read_lora(path), table, path.name).to(model.core.device)
        updates = updates.to(model.core.dtype)
        network = network.with_updates([*network.updates, Scheduled(updates, strength)])
        return replace(model, core=replace(model.core, network=network))


def with_whole_steps(found: ImageModel) -> ImageModel:
    """The image model with integer timesteps, as ComfyUI's own models get them."""
    schedule = replace(found.model.schedule, whole_steps=True)
    return replace(found, model=found.model.with_schedule(schedule))


def round_weights(module: nn.Module, dtype: torch.dtype) -> None:
    """Round weights to the values of a smaller dtype, in place; they keep their own dtype."""
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype).to(parameter.dtype)


def _clip_with_lora(clip: Any, lora: Any, strength: float, name: str) -> Any:
    def changed(one: PromptEncoder, kind: str) -> PromptEncoder:
        return replace(one, encoder=apply_lora(one.encoder, lora, strength, kind=kind, name=name))

    if isinstance(clip, TwoPromptEncoders):
        first, second = changed(clip.first, "first_text"), changed(clip.second, "second_text")
        return replace(clip, first=first, second=second)
    return changed(clip, "text") if isinstance(clip, PromptEncoder) else clip


def _model_with_lora(
    model: StandaloneModel, lora: Any, strength: float, name: str
) -> StandaloneModel:
    network = model.core.network
    unet = eject(network)
    table = image_models.unet_table(layout_of(unet.config))
    changed = network.with_image_unet(apply_lora(unet, lora, strength, table=table, name=name))
    return replace(model, core=replace(model.core, network=changed))
