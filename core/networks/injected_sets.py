"""The sets of temporal layers in a network as a whole, and one forward pass through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from einops import repeat
from torch import Tensor

from ..diffusion.curves import FIRST_STEP, Amount, Curve, StepAt
from ..diffusion.schedules import SCHEDULES, NoiseSchedule
from .cameras import CameraUse
from .conditions import FRAME_RATE, Conditions, NetworkSpec
from .context_frames import no_context
from .image_conditions import KeyframeImages, SegmentImages
from .layers.scales import PLAIN, Scales
from .layers.specs import BlockPlace
from .temporal_layers import (
    FULL_STRENGTH,
    CameraFeatures,
    OwnInputs,
    SetInputs,
    Strength,
    TemporalLayers,
)
from .temporal_layers_spec import Betas, TemporalLayersSpec
from .weight_updates import Frames, updated


@dataclass(frozen=True, eq=False)
class Injection:
    """One set of temporal layers and how it is used.

    strength: how much of it. camera: the camera path that it follows. images: images that its
    frames continue. own_levels: whether it brings the noise schedule that it was trained with.
    own_input: whether its first convolution, if any, replaces the image network's. image_frames:
    frame numbers that are independent images (Stable Video Diffusion's image-only indicator).
    """

    layers: TemporalLayers
    strength: Strength = FULL_STRENGTH
    camera: CameraUse | None = None
    images: KeyframeImages | None = None
    own_levels: bool = True
    own_input: bool = False
    image_frames: tuple[range, ...] = ()

    @property
    def off(self) -> bool:
        """Whether none of its layers acts. The image network is then unchanged: it keeps its own
        norms, attention and noise levels, and no context frames are put into its input."""
        return all(curve.constant == 0.0 for curve in self._residuals)

    def acts(self, frames: Sequence[int], step: StepAt | None) -> bool:
        """Whether any of its layers acts on any of these frames at a step."""
        step = step or FIRST_STEP
        return any(curve.at(frame, step) for curve in self._residuals for frame in frames)

    @property
    def _residuals(self) -> list[Curve]:
        """The strengths of all its layers; for a set without layers, the overall strength."""
        strength = self.strength
        found = [strength.residual_at(site) for site in self.layers.spec.sites]
        return found or [strength.curve.at_place("") * strength.overall]


class InjectedSets(Sequence[Injection]):
    """Sets of temporal layers, in the order in which they act at each site."""

    def __init__(self, injections: Sequence[Injection] = ()):
        self._injections = tuple(injections)

    def __len__(self) -> int:
        return len(self._injections)

    def __getitem__(self, index: int) -> Injection:
        return self._injections[index]

    def __iter__(self) -> Iterator[Injection]:
        return iter(self._injections)

    @property
    def specs(self) -> list[TemporalLayersSpec]:
        return [one.layers.spec for one in self]

    @property
    def active(self) -> InjectedSets:
        """Those that are not switched off."""
        return InjectedSets([one for one in self if not one.off])

    def acting(self, frames: Sequence[int], step: StepAt | None) -> InjectedSets:
        """Those that act on any of these frames at a step."""
        return InjectedSets([one for one in self if one.acts(frames, step)])

    def changed(
        self, fits: Callable[[Injection], bool], change: Callable[[Injection], Injection]
    ) -> InjectedSets | None:
        """The same sets, with the last one that fits changed; None if none fits."""
        fitting = [k for k, one in enumerate(self) if fits(one)]
        if not fitting:
            return None
        at = fitting[-1]
        return InjectedSets([change(one) if k == at else one for k, one in enumerate(self)])

    # What they were trained for, and what they read.

    @property
    def context_channels(self) -> int:
        """Latent channels of context frames; 0 if no set reads them."""
        return max((spec.context.channels for spec in self.specs if spec.context), default=0)

    @property
    def ids(self) -> dict[str, int | None]:
        """The ids that any set reads, see `NetworkSpec.ids`."""
        rates = [spec.rates for spec in self.specs if spec.rates]
        return {FRAME_RATE: min(rates)} if rates else {}

    def added_to(self, image: NetworkSpec) -> NetworkSpec:
        """The spec of an image network with these sets in it."""
        return replace(
            image,
            name=f"{image.name} with {len(self)} sets of temporal layers",
            ids={**image.ids, **self.ids},
            context=self.context_channels,
            image_only=self.image_only,
            times=True,
            views=self.reads_views,
        )

    @property
    def image_only(self) -> bool:
        """Whether any set reads which frames are independent images."""
        return any(spec.reads_image_only for spec in self.specs)

    @property
    def reads_views(self) -> bool:
        """Whether the temporal attention of all sets can be windowed."""
        return len(self) > 0 and all(spec.reads_views for spec in self.specs)

    @property
    def task(self) -> str:
        """The task of the last set that declares one; the others adapt it."""
        return next((one.trained.task for one in reversed(self.specs) if one.trained.task), "")

    @property
    def shared_noise(self) -> float:
        """How much noise frames share (alpha of `noise.mixed_noise`): as in the training of the
        active set that acts last."""
        active = self.active
        return active[-1].layers.spec.trained.shared_noise if active else 0.0

    def check_frames(self, frames: int) -> None:
        """Raise ValueError for more frames than some set can see together."""
        most = min((s.max_frames for s in self.specs if s.max_frames is not None), default=frames)
        if frames > most:
            raise ValueError(
                f"the temporal layers see at most {most} frames together, but {frames} were given; "
                "longer videos need windows"
            )

    # What they change in the image network.

    @property
    def betas(self) -> Betas | None:
        """Betas of the noise schedule of the last active set that was trained with its own."""
        bringing = [one.layers.spec for one in self.active if one.own_levels]
        brought = [spec.host.betas for spec in bringing if spec.host.betas is not None]
        return brought[-1] if brought else None

    def schedule(self, own: NoiseSchedule) -> NoiseSchedule:
        """The noise schedule of a network with these sets: its `own` unless an active set was
        trained with another."""
        if self.betas is None:
            return own
        name, first, last = self.betas
        brought = SCHEDULES[name](own.steps, start=first, end=last)
        if torch.allclose(brought.sigmas.float(), own.sigmas.float(), rtol=1e-4, atol=0):
            return own
        return replace(brought, whole_steps=own.whole_steps)

    @property
    def pooled_norms(self) -> bool:
        return any(spec.host.pooled_norms for spec in self.specs)

    @property
    def sparse_causal(self) -> bool:
        return any(spec.host.sparse_causal for spec in self.specs)


class LayerPass:
    """The active sets during one forward pass on latents of `shape` (b, t, c, h, w).

    The network first passes x and its steps (:meth:`put_context_in_place`), then the time embedding
    (:meth:`add_embedding`), and then calls this at every site in the order of the forward pass,
    within :meth:`updated`.
    """

    def __init__(
        self,
        sets: InjectedSets,
        conditions: Conditions,
        shape: Sequence[int],
        device: torch.device | str,
    ):
        self.videos, self.frames = shape[:2]
        self.size = tuple(shape[-2:])
        self.numbers, self.step = conditions.numbers(self.frames), conditions.step
        self.sets, views = sets.acting(self.numbers, self.step), conditions.views
        self.sets.check_frames(self.frames if views is None else views.longest)
        self.embedding: Tensor | None = None
        self.latents: Tensor | None = None
        if conditions.context is None and self.sets.context_channels:
            # Sets that read context frames were also trained with an empty mask.
            b, t, _, h, w = shape
            none = no_context((b, t, self.sets.context_channels, h, w), device)
            conditions = replace(conditions, context=none)
        self.conditions = conditions

    @property
    def sites(self) -> set[str]:
        """The sites of all layers."""
        return {site for spec in self.sets.specs for site in spec.sites}

    def put_context_in_place(self, x: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """The input [b, t, c, h, w] and its steps [], [b] or [b, t], with context frames in place
        of noisy ones, each at its own step, if a set was trained that way. Extra input channels
        after those of the latents are kept."""
        self.latents = x
        if not any(one.layers.puts_context_in_place for one in self.sets):
            return x, steps
        context = self.conditions.context
        given, channels = context.mask.bool(), context.latents.shape[2]
        latents, rest = x[:, :, :channels], x[:, :, channels:]
        latents = torch.where(given[:, :, None, None, None], context.latents.to(x.dtype), latents)
        x = torch.cat([latents, rest], dim=2) if rest.shape[2] else latents
        steps = steps if steps.ndim == 2 else steps.expand(len(x))[:, None]
        return x, torch.where(given, context.step.to(steps.dtype)[:, None], steps)

    def add_embedding(self, part: Tensor) -> None:
        """Add a part of the network's time embedding, [b, e] or [b, t, e]."""
        self.embedding = part if self.embedding is None else self.embedding + part

    @cached_property
    def _inputs(self) -> list[SetInputs]:
        """The inputs of each set's layers, computed at the first site."""
        return [
            one.layers.prepare(
                self.embedding,
                self.frames,
                self.conditions,
                OwnInputs(
                    self._camera(one),
                    self._images(one),
                    self.latents if one.own_input else None,
                    self._image_only(one),
                ),
            )
            for one in self.sets
        ]

    def _images(self, one: Injection) -> SegmentImages | None:
        """The image conditions of a set for the frames of this segment."""
        if one.images is None or one.layers.context is None:
            return None
        have, size = tuple(one.images.latents.shape[-2:]), tuple(self.size)
        if have != size:
            raise ValueError(
                f"the keyframe images are {have[1]}x{have[0]} latent positions, but the video has "
                f"{size[1]}x{size[0]}: resize them before they are encoded"
            )
        numbers = self.numbers
        return one.images.of_segment(numbers, self.embedding, self.videos)

    def _image_only(self, one: Injection) -> Tensor | None:
        """[b t] 1 for frames that are independent images for this set; None if it has none."""
        if not one.image_frames:
            return None
        found = [float(any(at in part for part in one.image_frames)) for at in self.numbers]
        return self.embedding.new_tensor(found).expand(self.videos, -1)

    def _camera(self, one: Injection) -> CameraFeatures | None:
        """The camera conditions of a set for this segment, relative to the first frame of each
        window that attention sees."""
        encoder, use = one.layers.camera, one.camera
        if encoder is None or use is None or not use.strength:
            return None
        height, width = (side * encoder.spec.shuffle for side in self.size)
        views, numbers = self.conditions.views, self.numbers
        windows = [tuple(range(self.frames))] if views is None else views.windows
        found = {}
        for window in windows:
            rays = use.path.at([numbers[k] for k in window]).rays(width, height)
            tokens = encoder(rays.to(self.embedding))
            found[window] = [repeat(one, "t n c -> (b t) n c", b=self.videos) for one in tokens]
        return CameraFeatures(found, use.strength)

    @contextmanager
    def updated(self) -> Iterator[None]:
        """A context in which updates of the layers' weights act."""
        frames = Frames(self.numbers, self.videos, self.step)
        with ExitStack() as stack:
            for one in self.sets:
                stack.enter_context(updated(one.layers, one.layers.updates, frames))
            yield

    def __call__(self, site: str, h: Tensor, place: BlockPlace | None = None) -> Tensor:
        """Run every set's layer at the site on h; in a transformer block, those at this place."""
        for one, inputs in zip(self.sets, self._inputs, strict=True):
            if one.layers.acts_at(site, place):
                strength, scales = self._amount(one.strength.residual_at(site), h), PLAIN
                if one.strength.scales_attention:
                    keys, queries = one.strength.keys_at(site), one.strength.queries_at(site)
                    scales = Scales(*(self._per_token(curve, h) for curve in (keys, queries)))
                h = one.layers.run(site, h, inputs, strength, scales)
        return h

    def _amount(self, curve: Curve, h: Tensor) -> Amount:
        """A strength for h, broadcast to its frames and positions if it varies."""
        if h.ndim == 3:
            return self._per_token(curve, h)
        amount = curve.amount(self.numbers, self.step, tuple(h.shape[-2:]))
        if not isinstance(amount, Tensor):
            return amount
        return repeat(amount, "t h w -> (b t) 1 h w", b=self.videos).to(h)

    def _per_token(self, curve: Curve, h: Tensor) -> Amount:
        """The same as [(b t), 1 or n, 1], for h or its tokens [(b t), n, c]."""
        height, width = h.shape[-2:] if h.ndim == 4 else grid_of(h.shape[1], self.size)
        amount = curve.amount(self.numbers, self.step, (height, width))
        if not isinstance(amount, Tensor):
            return amount
        return repeat(amount, "t h w -> (b t) (h w) 1", b=self.videos).to(h)


def grid_of(tokens: int, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the U-Net level that has so many tokens, for latents of `size`."""
    height, width = size
    while height * width > tokens:
        height, width = (height + 1) // 2, (width + 1) // 2
    return height, width
