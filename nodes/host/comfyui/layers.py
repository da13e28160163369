"""Temporal layers in a MODEL of ComfyUI's.

Nothing of the image U-Net is replaced. A wrapper around its forward pass sets forward hooks on the
modules that layers sit behind, for that one pass, and takes them off again: clones of a model share
its weights, and a model without the wrapper is the image model bit for bit. ComfyUI loads the
layers' weights along with the model as its additional models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import comfy.patcher_extension
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor, nn

from ....core.context_frames import ContextFrames, no_context
from ....core.sites import UNetLayout, ldm_path
from ....core.temporal_layers import Strength, TemporalLayers
from ....core.temporal_layers import Told as ToldLayers
from .embedded_model import unet_layout

KEY = "videoldm"
"""Of the wrapper, the additional models and the attachment in a ModelPatcher."""
TOLD = "videoldm"
"""Of a `Told` among the transformer options."""
APPLY_MODEL = comfy.patcher_extension.WrappersMP.APPLY_MODEL
DIFFUSION_MODEL = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL


@dataclass(frozen=True, eq=False)
class LoadedLayers:
    """Temporal layers on a wire: the module, and the patcher through which ComfyUI moves it."""

    module: TemporalLayers
    patcher: Any


@dataclass(frozen=True, eq=False)
class InjectedSet:
    """One set of layers in a model, and how much of it is used."""

    layers: LoadedLayers
    strength: Strength


@dataclass(frozen=True, kw_only=True)
class Told:
    """What this pack's own stages tell the layers of the clip that is being denoised."""

    frames: int
    context: ContextFrames | None = None
    rate: int | None = None


def sets_of(model: Any) -> tuple[InjectedSet, ...]:
    """The sets of layers in a model, in the order in which they act."""
    return model.get_attachment(KEY) or ()


def inject(model: Any, layers: LoadedLayers, strength: Strength) -> Any:
    """A clone of the model with the layers in it; ValueError unless they were made for it."""
    unet = getattr(model.model, "diffusion_model", None)
    if not isinstance(unet, UNetModel):
        raise ValueError(
            f"temporal layers need a U-Net such as Stable Diffusion's, got {type(unet).__name__}"
        )
    have, made_for = unet_layout(model.model.model_config.unet_config), layers.module.config.layout
    if have != made_for:
        raise ValueError(
            f"temporal layers for channels {made_for.channels} with depths {made_for.depths} do "
            f"not fit a U-Net of channels {have.channels} with depths {have.depths}"
        )
    _check_reach(layers.module)
    return _with_sets(model, (*sets_of(model), InjectedSet(layers, strength)), have)


def eject(model: Any) -> Any:
    """A clone without any layers."""
    clone = model.clone()
    for kind in (APPLY_MODEL, DIFFUSION_MODEL):
        clone.remove_wrappers_with_key(kind, KEY)
    clone.remove_additional_models(KEY)
    clone.remove_attachments(KEY)
    return clone


def _with_sets(model: Any, sets: tuple[InjectedSet, ...], layout: UNetLayout) -> Any:
    clone = eject(model)
    clone.set_attachments(KEY, sets)
    # A set that is in twice is loaded once.
    patchers = {id(one.layers.module): one.layers.patcher for one in sets}
    clone.set_additional_models(KEY, list(patchers.values()))
    clone.add_wrapper_with_key(APPLY_MODEL, KEY, fold_frames)
    clone.add_wrapper_with_key(DIFFUSION_MODEL, KEY, TemporalPass(sets, layout))
    return clone


def _check_reach(layers: TemporalLayers) -> None:
    inner = [site for site in layers.config.placed if ".block." in site]
    if layers.config.reaches_inside:
        raise ValueError(
            f"these layers change the image model inside its modules ({len(inner)} of "
            f"{len(layers.config.placed)} sit in transformer blocks), which needs `videoldm run`"
        )


# --------------------------------------------------------------------------------------------------
# One forward pass.


def fold_frames(
    executor: Any, x: Tensor, t: Tensor, c_concat: Tensor | None, c_crossattn: Tensor | None,
    control: Any, transformer_options: dict[str, Any], **conditions: Any,
) -> Tensor:  # fmt: skip
    """The wrapper that lets a model of images take latents [b, c, t, h, w]: frames as batch."""
    if x.ndim != 5:
        return executor(x, t, c_concat, c_crossattn, control, transformer_options, **conditions)
    videos, frames = len(x), x.shape[2]

    def fold(value: Any) -> Any:
        if not isinstance(value, Tensor) or len(value) != videos:
            return value
        if value.ndim == 5:
            return value.transpose(1, 2).flatten(0, 1)
        return value.repeat_interleave(frames, dim=0)

    told = {**transformer_options, TOLD: Told(frames=frames)}
    given = (fold(one) for one in (x, t, c_concat, c_crossattn))
    conditions = {name: fold(value) for name, value in conditions.items()}
    denoised = executor(*given, control, told, **conditions)
    return denoised.unflatten(0, (videos, frames)).transpose(1, 2)


@dataclass(frozen=True, eq=False)
class TemporalPass:
    """The wrapper around a U-Net's forward pass that makes it a video model's.

    The batch holds the frames of as many videos as ComfyUI joined conditions; a `Told` among the
    transformer options says otherwise.
    """

    sets: tuple[InjectedSet, ...]
    layout: UNetLayout

    def __call__(
        self, executor: Any, x: Tensor, timesteps: Tensor, context: Tensor | None, y: Any,
        control: Any, transformer_options: dict[str, Any], **more: Any,
    ) -> Tensor:  # fmt: skip
        told = transformer_options.get(TOLD)
        if told is None:
            together = len(transformer_options.get("cond_or_uncond", ())) or 1
            told = Told(frames=len(x) // together)
        run = _Pass(self.sets, self.layout, x, context, told)
        if run.puts_in_place:
            x, timesteps = run.put_in_place(x, timesteps)
        with run.hooked(executor.class_obj):
            return executor(x, timesteps, context, y, control, transformer_options, **more)


class _Pass:
    """One forward pass on [(b t), c, h, w]; it knows the time embedding once the U-Net does."""

    def __init__(self, sets: Sequence[InjectedSet], layout: UNetLayout, x: Tensor,
                 text: Tensor | None, told: Told):  # fmt: skip
        if len(x) % told.frames:
            raise ValueError(f"a batch of {len(x)} frames cannot hold clips of {told.frames}")
        self.sets, self.layout, self.x, self.text = sets, layout, x, text
        self.frames, self.context, self.rate = told.frames, told.context, told.rate
        self.embedding: Tensor | None = None  # [(b t), e]

    @property
    def videos(self) -> int:
        return len(self.x) // self.frames

    @cached_property
    def told(self) -> list[ToldLayers]:
        """What each set is told; first asked for at the first site, after the time embedding."""
        text = None if self.text is None else self.text[:: self.frames]
        embedding = self.embedding.unflatten(0, (self.videos, self.frames))
        embedding = embedding if self.puts_in_place else embedding[:, 0]
        return [
            one.layers.module.tell(
                embedding,
                self.frames,
                context=self._context(one.layers.module), rate=self._rate(one.layers.module),
                text=text,
            )
            for one in self.sets
        ]  # fmt: skip

    def _context(self, layers: TemporalLayers) -> ContextFrames | None:
        """Layers that know given frames have always been told in training: so also of none."""
        if layers.context is None:
            return None
        if self.context is None:
            height, width = self.x.shape[-2:]
            shape = self.videos, self.frames, layers.config.context_channels, height, width
            return no_context(shape, self.x.device)
        return self._given(self.context)

    def _given(self, context: ContextFrames) -> ContextFrames:
        """The given frames once more for each condition that ComfyUI joined in the batch."""
        again = self.videos // len(context.latents)

        def spread(value: Tensor) -> Tensor:
            return value.to(self.x.device).repeat(again, *[1] * (value.ndim - 1))

        return ContextFrames(
            latents=spread(context.latents),
            mask=spread(context.mask),
            noise_level=spread(context.noise_level),
        )

    @property
    def puts_in_place(self) -> bool:
        """Whether given frames also stand in the network's own input, each at its own step."""
        sets = (one.layers.module.config for one in self.sets)
        return self.context is not None and any(
            getattr(config, "context_in_place", False) for config in sets
        )

    def put_in_place(self, x: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """The network's input [(b t), c, h, w] and steps [(b t)] with the given frames in them."""
        context = self._given(self.context)
        given = context.mask.bool().flatten()
        latents = context.latents.flatten(0, 1).to(x)
        channels = latents.shape[1]
        head = torch.where(given[:, None, None, None], latents, x[:, :channels])
        levels = context.noise_level.to(timesteps).repeat_interleave(self.frames)
        steps = torch.where(given, levels, timesteps)
        return torch.cat([head, x[:, channels:]], dim=1), steps

    def _rate(self, layers: TemporalLayers) -> Tensor | None:
        known = layers.config.rates
        if not known:
            return None
        rate = self.rate or 0
        if not 0 <= rate < known:
            raise ValueError(f"the frame-rate class {rate} must lie in 0 .. {known - 1}")
        return torch.full((self.videos,), rate, device=self.x.device)

    def run(self, site: str, h: Tensor) -> Tensor:
        """Hand h to every set's layer at the site."""
        for one, told in zip(self.sets, self.told, strict=True):
            h = one.layers.module.run(site, h, told, one.strength.at(site))
        return h

    # Hooks.

    @contextmanager
    def hooked(self, unet: UNetModel) -> Iterator[None]:
        with ExitStack() as stack:
            for handle in self._handles(unet):
                stack.callback(handle.remove)
            yield

    def _handles(self, unet: UNetModel) -> Iterator[Any]:
        yield unet.time_embed.register_forward_hook(self._add_embedding)
        if unet.num_classes is not None:
            yield unet.label_emb.register_forward_hook(self._add_embedding)
        # Layers at the end of a level act after the layer of the module that ends it.
        for site in sorted(self._sites(), key=lambda site: site.endswith(".out")):
            yield self._hook(unet, site)

    def _sites(self) -> list[str]:
        return list({site: None for one in self.sets for site in one.layers.module.config.placed})

    def _add_embedding(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        self.embedding = output if self.embedding is None else self.embedding + output

    def _hook(self, unet: UNetModel, site: str) -> Any:
        if site.startswith("down.") and site.endswith(".out"):
            # The skip connection leaves before this site: so before the next level, not after.
            following = _after_level(unet, int(site.split(".")[1]), self.layout)
            return following.register_forward_pre_hook(partial(self._run_before, site))
        return _module_at(unet, site, self.layout).register_forward_hook(
            partial(self._run_after, site)
        )

    def _run_after(self, site: str, module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        return self.run(site, output)

    def _run_before(self, site: str, module: nn.Module, args: tuple) -> tuple:
        return (self.run(site, args[0]), *args[1:])


def _module_at(unet: UNetModel, site: str, layout: UNetLayout) -> nn.Module:
    """The module whose output is the tensor at the site."""
    way, *rest = site.split(".")
    if way == "in":
        return unet.input_blocks[0][0]
    if rest[-1] != "out":
        return unet.get_submodule(ldm_path(site, layout))
    if way == "mid":
        return unet.middle_block[-1]
    return unet.output_blocks[(int(rest[0]) + 1) * (layout.layers + 1) - 1][-1]


def _after_level(unet: UNetModel, level: int, layout: UNetLayout) -> nn.Module:
    """The first module after a level on the way down, its down-sampler included."""
    if level == layout.levels - 1:
        return unet.middle_block[0]
    return unet.input_blocks[(level + 1) * (layout.layers + 1) + 1][0]
