"""The declaration of a set of temporal layers: which layer is at which site, what else the set
reads, what it changes in the image network, and what it was trained for. Files store it as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from .camera_encoder import CameraEncoderSpec
from .context_encoder import ContextEncoderSpec
from .declared import check_kinds, declare
from .image_conditions import ImageEncoderSpec, MaskedImageSpec

# The kinds of layers that every family may use.
from .layers import (  # noqa: F401
    block_attention as block_layers,
)
from .layers.specs import LayerSpec, ModuleSpec, spec_from_dict
from .sites import UNetLayout, all_sites, check_site, is_in_block

TASKS = ("text to video", "prediction", "interpolation", "upsampling", "image to video")
"""The tasks that temporal layers are trained for."""
PARTS = ("context", "prompt_reader", "camera")
"""Optional modules of a set besides its layers."""


class Betas(NamedTuple):
    """A schedule of schedules.SCHEDULES with its first and last beta."""

    name: str
    first: float
    last: float


@dataclass(frozen=True, kw_only=True)
class HostChanges:
    """Changes to the image network itself while the layers are in it, as in training.

    pooled_norms: its group norms, except those of transformers, pool statistics over all frames.
    sparse_causal: its self-attention reads the first and the previous frame instead of its own.
    betas: its noise schedule, if that is not the image model's.
    """

    pooled_norms: bool = False
    sparse_causal: bool = False
    betas: Betas | None = None


@dataclass(frozen=True, kw_only=True)
class TrainedFor:
    """What the layers were trained for. task: one of TASKS, "" = not declared. frames: length of
    the segments, for defaults and warnings. shared_noise: alpha of `noise.mixed_noise`. family: a
    published model by its family and name, whose own settings are known."""

    task: str = ""
    frames: int = 16
    shared_noise: float = 0.0
    family: str = ""

    def __post_init__(self) -> None:
        if self.task and self.task not in TASKS:
            raise ValueError(f"task {self.task!r} must be one of {', '.join(TASKS)}")


@dataclass(frozen=True, kw_only=True)
class TemporalLayersSpec:
    """layers: by site. context: how context frames are read, None = not at all. rates: number of
    frame-rate classes, 0 = the frame rate is not read. prompt_reader: a family's own, see
    :class:`.layers.specs.LayerInputs`. camera: how camera poses are read.

    Raises ValueError for sites that the layout does not have, and for layers that do not act at
    sites of that kind.
    """

    layout: UNetLayout
    layers: Mapping[str, LayerSpec]
    host: HostChanges = HostChanges()
    context: ContextEncoderSpec | ImageEncoderSpec | MaskedImageSpec | None = None
    rates: int = 0
    prompt_reader: ModuleSpec | None = None
    camera: CameraEncoderSpec | None = None
    trained: TrainedFor = field(default_factory=TrainedFor)

    def __post_init__(self) -> None:
        parts = (self, *self.layers.values(), self.context, self.prompt_reader)
        parts = (*parts, self.camera, self.trained)
        for one in filter(None, parts):
            check_kinds(type(one), vars(one), getattr(one, "kind", "a set of temporal layers"))
        unknown = sorted(set(map(check_site, self.layers)) - set(all_sites(self.layout)))
        if unknown:
            raise ValueError(
                f"no such sites in a U-Net of {self.layout.levels} levels: {', '.join(unknown[:5])}"
            )
        for site, layer in self.layers.items():
            if is_in_block(site) != (layer.place is not None):
                where = "inside a transformer block" if is_in_block(site) else "between modules"
                raise ValueError(f"the site {site} lies {where}: no place for {layer.kind!r}")

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites that have a layer."""
        return tuple(self.layers)

    def fits(self, host: UNetLayout) -> bool:
        """Whether the layers can be injected into a U-Net of this layout: the depth of its
        transformers matters only to layers inside of them."""
        if any(map(is_in_block, self.layers)):
            return host == self.layout
        return (host.channels, host.layers) == (self.layout.channels, self.layout.layers)

    @property
    def embedding(self) -> int:
        """Width of the U-Net's time embedding."""
        return 4 * self.layout.channels[0]

    @cached_property
    def max_frames(self) -> int | None:
        """The most frames that the layers can see together; None = no limit."""
        limits = [one.max_frames for one in self.layers.values() if one.max_frames is not None]
        return min(limits, default=None)

    @cached_property
    def reads_image_only(self) -> bool:
        """Whether any layer leaves frames unchanged that are independent images."""
        return any(layer.reads_image_only for layer in self.layers.values())

    @cached_property
    def reads_views(self) -> bool:
        """Whether the attention of all layers can be windowed."""
        return all(layer.reads_views for layer in self.layers.values())

    def as_dict(self) -> dict[str, Any]:
        """JSON values, for a file's header."""
        declared = {name: getattr(self, name) for name in PARTS}
        return {
            "layout": asdict(self.layout),
            "layers": {site: layer.as_dict() for site, layer in self.layers.items()},
            "host": asdict(self.host),
            "rates": self.rates,
            "trained": asdict(self.trained),
            **{name: one.as_dict() for name, one in declared.items() if one is not None},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TemporalLayersSpec:
        """Inverse of :meth:`as_dict`, also after JSON; ValueError for what cannot be read."""
        fields = dict(values)
        by_site, host = fields.pop("layers", None), fields.pop("host", {})
        if not isinstance(by_site, Mapping) or not isinstance(host, Mapping):
            raise ValueError("layers and host must be objects")
        declared = {name: spec_from_dict(fields.pop(name)) for name in PARTS if name in fields}
        return declare(
            cls,
            fields
            | declared
            | {
                "layout": layout_from_dict(fields.get("layout")),
                "layers": {site: spec_from_dict(one) for site, one in by_site.items()},
                "host": declare(HostChanges, {**host, "betas": _betas(host.get("betas"))}, "host"),
                "trained": declare(TrainedFor, fields.get("trained", {}), "trained"),
            },
            "a set of temporal layers",
        )


def _betas(values: Any) -> Betas | None:
    if not values:
        return None
    if not isinstance(values, (list, tuple)) or len(values) != 3:
        raise ValueError(f"betas must be a name and two numbers, not {str(values)[:80]!r}")
    name, first, last = values
    if not isinstance(name, str) or not all(isinstance(one, (int, float)) for one in (first, last)):
        raise ValueError(f"betas must be a name and two numbers, not {str(values)[:80]!r}")
    return Betas(name, first, last)


def layout_from_dict(values: Any) -> UNetLayout:
    """A layout from JSON values, where tuples are lists."""
    return declare(UNetLayout, values, "the layout")
