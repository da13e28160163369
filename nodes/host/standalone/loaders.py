"""Names to models. Nothing is loaded before a node asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ....core import families
from ....core.families import (
    controlnets,
    stable_diffusion,
    stable_diffusion_keys,
    stable_diffusion_text,
)
from ....core.families import stable_diffusion_autoencoders as autoencoders
from ....core.families.embedded import loading as embedded
from ....core.families.lora import apply as apply_lora
from ....core.families.lora import read_lora
from ....core.families.stable_diffusion import ImageModel
from ....core.networks.sites import layout_of
from ....core.networks.temporal_layers import TemporalLayers
from ....core.networks.video_unet import eject
from ....core.weights.weight_files import header_of
from ...choices import EMBEDDED
from ..shared.embeddings import Embeddings
from ..shared.folders import Folders
from ..shared.missing_parts import NO_CLIP, NO_VAE, MissingPart
from ..shared.model_kinds import IMAGE_MODEL, UPSAMPLER, check_can_be_sampled, check_kind
from ..shared.model_names import embedded_part
from ..shared.prompt_encoder import PromptEncoder
from ..shared.vae import VideoVAE
from .control import StandaloneControlNet
from .devices import Policy
from .model import StandaloneModel

FP8 = {
    "fp8_e4m3fn": torch.float8_e4m3fn,
    "fp8_e4m3fn_fast": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}
Loaded = tuple[StandaloneModel, PromptEncoder | MissingPart, VideoVAE | MissingPart]


@dataclass(frozen=True)
class Loaders:
    """Where files are looked for and where models go."""

    folders: Folders
    policy: Policy

    @property
    def _there(self) -> dict[str, Any]:
        return {"dtype": self.policy.dtype, "device": self.policy.device}

    def image_model(self, name: str) -> Loaded:
        """The embedded text-to-image model, or a checkpoint of the models folder."""
        if name == EMBEDDED:
            return self._wires(embedded.load_image_model(**self._there), EMBEDDED)
        return self._checkpoint(name, IMAGE_MODEL)

    def upsampler(self, name: str) -> Loaded:
        if name == EMBEDDED:
            return self._wires(embedded.load_upsampler(**self._there), EMBEDDED)
        return self._checkpoint(name, UPSAMPLER)

    def temporal_layers(self, name: str) -> TemporalLayers:
        """Those of "embedded: text to video" and its kin, or a file of the folder videoldm."""
        part = embedded_part(name)
        if part is not None:
            return embedded.load_temporal_layers(part, **self._there)
        path = self.folders.model_path("videoldm", name)
        return families.load_temporal_layers(path, **self._there)

    def video_model(self, name: str) -> tuple[StandaloneModel, TemporalLayers]:
        """A published U-Net with temporal layers in one file of the folder videoldm."""
        path = self.folders.model_path("videoldm", name)
        family, model = families.load_video_model(path, **self._there)
        check_can_be_sampled(path.name, model.task)
        (own,) = model.sets
        return StandaloneModel(model, family), own.layers

    def temporal_vae(self, name: str) -> VideoVAE:
        path = None if name == EMBEDDED else self.folders.model_path("vae", name)
        decoder = embedded.load_temporal_decoder(path, **self._there)
        # Decoder files hold no encoder; the embedded autoencoder has the one that fits.
        encoder = embedded.load_autoencoder(**self._there) if name == EMBEDDED else None
        return VideoVAE(encoder, decoder)

    def image_vae(self, name: str) -> VideoVAE:
        path = self.folders.model_path("vae", name)
        header = header_of(path)
        if header is not None and header.kind == "temporal_decoder":
            return VideoVAE(None, embedded.load_temporal_decoder(path, **self._there))
        if header is not None:
            return VideoVAE(embedded.load_autoencoder(path, **self._there))
        return VideoVAE(autoencoders.load(path, **self._there))

    def diffusion_model(self, name: str, weight_dtype: str = "default") -> StandaloneModel:
        """A U-Net of the folder diffusion_models, its weights rounded as `weight_dtype` says."""
        model, *_ = self._checkpoint(name, IMAGE_MODEL, folder="diffusion_models")
        if weight_dtype != "default":
            round_weights(eject(model.core.network), FP8[weight_dtype])
        return model

    def text_encoder(self, name: str, device: str = "default") -> PromptEncoder:
        """The text encoder of Stable Diffusion 1 or 2 from a file of the folder text_encoders."""
        there = self._there | ({} if device == "default" else {"device": device})
        path = self.folders.model_path("text_encoders", name)
        return self._clip(stable_diffusion_text.load(path, **there))

    def _checkpoint(self, name: str, wanted: str, folder: str = "checkpoints") -> Loaded:
        """A checkpoint of this project's own format, or a single file of Stable Diffusion."""
        path = self.folders.model_path(folder, name)
        header = header_of(path)
        if header is not None:
            return self._wires(self._own(path, header.kind, wanted), header.family, path.name)
        found = stable_diffusion.load(path, **self._there)
        found = self._wires(with_whole_steps(found), "stable diffusion", path.name)
        check_kind(path.name, UPSAMPLER if found[0].facts.is_upsampler else IMAGE_MODEL, wanted)
        return found

    def _own(self, path: Path, have: str, wanted: str) -> Any:
        load: dict[str, Callable[..., Any]] = {
            IMAGE_MODEL: embedded.load_image_model,
            UPSAMPLER: embedded.load_upsampler,
        }
        check_kind(path.name, have, wanted)
        return load[wanted](path, **self._there)

    def _wires(self, found: Any, family: str, file: str = EMBEDDED) -> Loaded:
        """A model with its CLIP and VAE; what the file does not hold says so when it is used."""
        clip = MissingPart(NO_CLIP.format(file))
        vae = MissingPart(NO_VAE.format(file))
        if found.text_encoder is not None:
            clip = self._clip(found, found.box_encoder)
        if found.autoencoder is not None:
            vae = VideoVAE(found.autoencoder)
        return StandaloneModel(found.model, family), clip, vae

    def controlnet(self, name: str) -> StandaloneControlNet:
        path = self.folders.model_path("controlnet", name)
        network = controlnets.load(path, **self._there)
        # As in ComfyUI, which knows these by the end of their names.
        return StandaloneControlNet(network, path.stem.endswith(("_shuffle", "_shuffle_fp16")))

    def _clip(self, found: Any, box_encoder: Any = None) -> PromptEncoder:
        width = found.text_encoder.config.hidden_size
        embeddings = Embeddings(tuple(self.folders.model_roots("embeddings")), width)
        return PromptEncoder(
            found.text_encoder, found.tokenizer, found.text_length, box_encoder, embeddings,
            found.dropped_layers,
        )  # fmt: skip

    def lora(self, model: StandaloneModel | None, clip: PromptEncoder | None, name: str,
             strength_model: float, strength_clip: float) -> tuple:  # fmt: skip
        """The model and the CLIP with a LoRA merged in; those that were given are not changed."""
        path = self.folders.model_path("loras", name)
        lora = read_lora(path)
        if model is not None and strength_model:
            model = _model_with_lora(model, lora, strength_model, path.name)
        if isinstance(clip, PromptEncoder) and strength_clip:
            encoder = apply_lora(clip.encoder, lora, strength_clip, kind="text", name=path.name)
            clip = replace(clip, encoder=encoder)
        return model, clip


def with_whole_steps(found: ImageModel) -> ImageModel:
    """The image model that is told whole timesteps, as ComfyUI tells its own."""
    schedule = replace(found.model.schedule, whole_steps=True)
    return replace(found, model=found.model.with_schedule(schedule))


def round_weights(module: nn.Module, dtype: torch.dtype) -> None:
    """Give weights that nobody else has the values that they have in a smaller dtype."""
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype).to(parameter.dtype)


def _model_with_lora(
    model: StandaloneModel, lora: Any, strength: float, name: str
) -> StandaloneModel:
    network = model.core.network
    unet = eject(network)
    table = stable_diffusion_keys.unet_table(layout_of(unet.config))
    changed = network.with_image_unet(apply_lora(unet, lora, strength, table=table, name=name))
    return replace(model, core=replace(model.core, network=changed))
