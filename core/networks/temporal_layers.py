"""Temporal layers by site: the part of a video model that is trained, saved and shared.

A :class:`TemporalLayers` is a dict from site (see :mod:`.sites`) to layer, plus modules that read
other conditions for these layers: an encoder of context frames (Video LDM, section 3.2) and a
frame-rate embedding (section 3.3). Of the image U-Net it only knows the layout.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from ..diffusion.curves import FULL, Amount, Curve, is_prefix
from .conditions import FRAME_RATE, Conditions, first_frame_text
from .image_conditions import SegmentImages
from .layers.residual import per_frame
from .layers.scales import PLAIN, Scales
from .layers.specs import BlockPlace, LayerInputs
from .sites import kind_of, level_of, width_at
from .temporal_layers_spec import TemporalLayersSpec
from .weight_updates import Scheduled

PARTS = (".keys", ".queries")
"""After a site: for the keys or queries of its attention only."""


@dataclass(frozen=True)
class SetInputs:
    """The inputs of the layers of one set in one forward pass, by level."""

    frames: int
    levels: tuple[LayerInputs, ...]


@dataclass(frozen=True)
class CameraFeatures:
    """Features of the camera's poses. windows: tokens [(b t), n, c] by level, for each window of
    frames that attention sees; without views, for that of all frames."""

    windows: Mapping[tuple[int, ...], list[Tensor]]
    strength: float = 1.0

    def beside(self, levels: Sequence[LayerInputs], frames: int) -> list[LayerInputs]:
        """The inputs of the layers by level, with the features of each level added."""
        added = []
        for level, inputs in enumerate(levels):
            found = {window: tokens[level] for window, tokens in self.windows.items()}
            camera = found.get(tuple(range(frames)))
            strength = self.strength
            added.append(replace(inputs, camera=camera, cameras=found, camera_strength=strength))
        return added


@dataclass(frozen=True)
class OwnInputs:
    """Conditions of one set alone: the camera, images that its frames continue, the network's input
    [b t c h w] for a first layer that replaces the network's, and which frames [b t] are
    independent images, instead of the indicator for all sets."""

    camera: CameraFeatures | None = None
    images: SegmentImages | None = None
    latents: Tensor | None = None
    image_only: Tensor | None = None


class TemporalLayers(nn.Module):
    """See the module's docstring. Untrained, it changes nothing: every layer is the identity."""

    def __init__(self, spec: TemporalLayersSpec, ops=nn):
        super().__init__()
        self.spec, self.updates = spec, ()
        self.layers = nn.ModuleDict(
            {
                key(site): layer.build(width_at(site, spec.layout), ops)
                for site, layer in spec.layers.items()
            }
        )
        self.context = spec.context.build(spec.embedding, ops) if spec.context else None
        self.rate = ops.Embedding(spec.rates, spec.embedding) if spec.rates else None
        reader = spec.prompt_reader
        self.prompt = reader.build(spec.embedding, ops) if reader else None
        self.camera = spec.camera.build(spec.embedding, ops) if spec.camera else None

    def with_updates(self, updates: Sequence[Scheduled]) -> TemporalLayers:
        """The same layers, sharing all modules, with additional updates of their weights."""
        clone = copy.copy(self)
        clone.updates = (*self.updates, *updates)
        return clone

    @property
    def update_steps(self) -> bool:
        """Whether any update changes over a sampler's steps."""
        return any(one.strength.reads_steps for one in self.updates)

    def __contains__(self, site: str) -> bool:
        return key(site) in self.layers

    def at(self, site: str) -> nn.Module | None:
        """The layer at ``site``, or None."""
        return self.layers[key(site)] if site in self else None

    def prepare(
        self,
        embedding: Tensor,
        frames: int,
        conditions: Conditions,
        own: OwnInputs = OwnInputs(),  # noqa: B008 (frozen)
    ) -> SetInputs:
        """The inputs of the layers, from the U-Net's time ``embedding`` [b, e] or [b, t, e], the
        conditions, and the conditions of this set alone."""
        features = [None] * self.spec.layout.levels
        rate = conditions.ids.get(FRAME_RATE)
        text, extension = first_frame_text(conditions.text), None
        context = own.images or conditions.context
        if self.context is not None and context is not None:
            features, level = self.context(context, embedding.dtype)
            embedding = embedding if level is None else embedding + for_frames(level, embedding)
        if self.rate is not None and rate is not None:
            embedding = embedding + for_frames(self.rate(rate), embedding)
        if self.prompt is not None and text is not None:
            text, summary, extension = self.prompt(text)
            embedding = embedding + for_frames(summary, embedding)
        image_only = conditions.image_only if own.image_only is None else own.image_only
        inputs = LayerInputs(
            embedding=per_frame(embedding, frames),
            text=text,
            times=conditions.times,
            image_only=None if image_only is None else image_only.flatten(),
            extension=extension,
            views=conditions.views,
            latents=None if own.latents is None else own.latents.flatten(0, 1),
        )
        levels = [replace(inputs, context=found) for found in features]
        if own.camera is not None:
            levels = own.camera.beside(levels, frames)
        return SetInputs(frames, tuple(levels))

    @property
    def puts_context_in_place(self) -> bool:
        """Whether context frames also replace noisy ones in the network's input."""
        return self.spec.context is not None and self.spec.context.in_place

    def acts_at(self, site: str, place: BlockPlace | None) -> bool:
        """Whether the layer at ``site``, if any, acts at this place of a transformer block; None:
        after a module."""
        layer = self.spec.layers.get(site)
        return layer is not None and layer.place == place

    def run(
        self, site: str, h: Tensor, inputs: SetInputs, strength: Amount = 1.0,
        scales: Scales = PLAIN,
    ) -> Tensor:  # fmt: skip
        """Run the layer at ``site`` on ``h`` [(b t), c, h, w], or on tokens [(b t), n, c] inside a
        transformer block. Without a layer, or at strength 0, ``h`` is returned."""
        layer = self.at(site)
        if layer is None or (not isinstance(strength, Tensor) and strength == 0.0):
            return h
        read = inputs.levels[level_of(site, self.spec.layout)]
        if scales is not PLAIN:
            read = replace(read, scales=scales)
        return layer(h, inputs.frames, read, strength)


def for_frames(per_video: Tensor, embedding: Tensor) -> Tensor:
    """An embedding [b, e] shaped to be added to one per video [b, e] or per frame [b, t, e]."""
    return per_video if embedding.ndim == 2 else per_video[:, None]


def key(site: str) -> str:
    """The site as a state-dict key: underscores for dots, which would separate modules."""
    return site.replace(".", "_")


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How much of a layer is used: the product of all that applies to it; 0 switches it off.

    kinds: by "attention" and "convolution". sites: by site or prefix, such as "down.0"; with
    ".keys" or ".queries" appended, only for these, as are the curves ``keys`` and ``queries``. The
    places of curves are sites as well.
    """

    overall: float = 1.0
    kinds: Mapping[str, float] = field(default_factory=dict)
    sites: Mapping[str, float] = field(default_factory=dict)
    curve: Curve = FULL
    keys: Curve = FULL
    queries: Curve = FULL

    def at(self, site: str) -> float:
        """The number for a site, without the curve."""
        return self.overall * self.kinds.get(kind_of(site), 1.0) * self._of(site)

    def residual_at(self, site: str) -> Curve:
        """The strength of a site's layer."""
        return self.curve.at_place(site) * self.at(site)

    def keys_at(self, site: str) -> Curve:
        return self.keys.at_place(site) * self._of(site, ".keys")

    def queries_at(self, site: str) -> Curve:
        return self.queries.at_place(site) * self._of(site, ".queries")

    @property
    def reads_steps(self) -> bool:
        """Whether any strength changes over a sampler's steps."""
        return any(one.reads_steps for one in (self.curve, self.keys, self.queries))

    def places_without(self, sites: Sequence[str]) -> list[str]:
        """The names in numbers and curves that match none of these sites."""
        curves = self.curve, self.keys, self.queries
        numbers = (name.removesuffix(".keys").removesuffix(".queries") for name in self.sites)
        names = (*numbers, *(name for curve in curves for name in curve.places))
        return [name for name in names if not any(is_prefix(name, site) for site in sites)]

    @property
    def scales_attention(self) -> bool:
        """Whether keys or queries are scaled at all."""
        curves = self.keys.constant, self.queries.constant
        return curves != (1.0, 1.0) or any(name.endswith(PARTS) for name in self.sites)

    def _of(self, site: str, part: str = "") -> float:
        """The product of the numbers for a site, or for a part of its layer."""
        product = 1.0
        for name, value in self.sites.items():
            prefix = name.removesuffix(part) if part else name
            if part and prefix == name:
                continue
            if is_prefix(prefix, site):
                product *= value
        return product


FULL_STRENGTH = Strength()
