"""Training the diffusion models: the image model with its text encoder, then temporal layers.

Both minimise the error of the velocity (Salimans & Ho 2022) at uniformly drawn steps, the image
model on single frames, the temporal layers on clips with everything else frozen (Video LDM, eq. 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import worlds
from ..anchors import spread_evenly
from ..autoencoder import encode
from ..checkpoints import Header, load_into, part, save
from ..context_frames import ContextFrames, no_context, perturbed
from ..families import embedded
from ..interpolation import linear_blend
from ..low_resolution import shrink
from ..sites import layout_of
from ..temporal_layers import TemporalLayers, TemporalLayersConfig
from ..text import (
    BoxEncoder,
    TextConfig,
    box_tensors,
    build_text_encoder,
    encode_text,
    load_tokenizer,
    tokenize,
    train_tokenizer,
)
from ..video_unet import VideoUNet, inject
from .autoencoder_tasks import FrameMixture
from .latents import ClipPlan, LatentClips, latent_clips, reading_scenes
from .optimizer import MuonAdamW
from .recipe import Recipe

SCHEDULE = embedded.noise_schedule()
BLEND_STEPS = 20, 350
"""Steps of the forward process at which clips are also trained from blended key frames."""


def velocity_error(
    network, x0: Tensor, noise: Tensor, steps: Tensor, start: Tensor | None = None
) -> Tensor:
    """Squared error [b, ...] of the predicted velocity; ``network(x_t, t)``, steps [b].

    start: what x_t is a noised version of, when that is not x0 itself; the velocity still is the
    one that leads from x_t to x0.
    """
    if start is not None:
        signal, spread = SCHEDULE.signal_and_spread(steps, x0)
        noise = noise + signal * (start - x0) / spread
    x_t = SCHEDULE.add_noise(x0, noise, steps)
    return (network(x_t, steps).float() - SCHEDULE.velocity(x0, noise, steps)).square()


def draw_steps(
    count: int, generator: torch.Generator, device: torch.device, noisy: float = 0.0
) -> Tensor:
    """Steps of the forward process, spread evenly over the batch: uniform, or with ``noisy`` > 0
    more often late ones, at density (1 - t) ** (-noisy / (1 + noisy)).
    """
    offset = torch.rand((), generator=generator, device=device)
    spread = (torch.arange(count, device=device) + offset) / count
    spread = 1 - (1 - spread) ** (1 + noisy)
    return (spread * SCHEDULE.steps).long().clamp_max(SCHEDULE.steps - 1)


def normal_like(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


# -------------------------------------------------------------------------------------------------
# The image model.


class TrainImageModel:
    """The image U-Net, the text encoder and the box encoder, from random weights."""

    def __init__(self, recipe: Recipe, cache: Path):
        self.recipe = recipe
        self.autoencoder = embedded.load_autoencoder()
        self.clips = latent_clips(ClipPlan(**recipe.data["clips"]), self.autoencoder, cache)
        self.tokenizer = tokenizer_for(self.clips)
        self.unet = embedded.ImageUNetConfig(**embedded.tuples(recipe.model.get("unet", {})))
        self.text = TextConfig(vocabulary=len(self.tokenizer), **recipe.model.get("text", {}))
        self.slots = recipe.model.get("boxes", {}).get("slots", 4)
        self.module = nn.ModuleDict(
            {
                "unet": embedded.build_unet(self.unet).to(memory_format=torch.channels_last),
                "text_encoder": build_text_encoder(self.text),
                "box_encoder": BoxEncoder(self.text.width, self.text.vocabulary, slots=self.slots),
            }
        )
        self.drop = recipe.data.get("drop_caption", 0.1)
        self.noisy = recipe.data.get("noisy", 0.0)

    def batch(self, step: int) -> dict:
        """Frames with captions; every second batch also has its boxes, as extra tokens."""
        random = np.random.default_rng((self.recipe.seed, step))
        clip = random.integers(len(self.clips), size=self.recipe.batch)
        frame = random.integers(self.clips.latents.shape[1], size=self.recipe.batch)
        captions = [self._caption(int(i), random) for i in clip]
        batch = {
            "latents": self.clips.latents[clip, frame].float(),
            "ids": tokenize(self.tokenizer, captions, self.text.length),
        }
        if step % 2:
            boxes = [self._boxes(int(i), int(t), random) for i, t in zip(clip, frame, strict=True)]
            batch |= zip(
                ("corners", "labels", "present"),
                box_tensors(boxes, self.tokenizer, self.slots),
                strict=True,
            )
        return batch

    def _caption(self, clip: int, random: np.random.Generator) -> str:
        if random.random() < self.drop:
            return ""
        return self.clips.captions[clip][int(random.random() < 0.4)]

    def _boxes(self, clip: int, frame: int, random: np.random.Generator) -> list:
        """The frame's boxes that lie inside the image, or none (one time in ten)."""
        if random.random() < 0.1:
            return []
        return [box for box in map(inside, self.clips.boxes[clip][frame]) if box][: self.slots]

    def loss(self, batch: dict, generator: torch.Generator) -> dict[str, Tensor]:
        text = encode_text(self.module["text_encoder"], batch["ids"])
        if "corners" in batch:
            tokens = self.module["box_encoder"](batch["corners"], batch["labels"], batch["present"])
            text = torch.cat([text, tokens.to(text.dtype)], dim=1)
        x0 = batch["latents"].contiguous(memory_format=torch.channels_last)
        steps = draw_steps(len(x0), generator, x0.device, self.noisy)
        error = velocity_error(
            lambda x, t: self.module["unet"](x, t, text).sample,
            x0,
            normal_like(x0, generator),
            steps,
        )
        return {"loss": error.mean()}

    def save(self, path: Path, notes: dict) -> None:
        config = {"unet": vars(self.unet), "text": vars(self.text), "boxes": {"slots": self.slots}}
        save(
            path,
            self.module.state_dict(),
            Header(family=embedded.FAMILY, kind="image_model", config=config, notes=notes),
        )


def tokenizer_for(clips: LatentClips):
    """The family's tokenizer, learned from the captions when it is not there yet."""
    folder = embedded.FOLDER / "tokenizer"
    if not (folder / "vocab.json").is_file():
        train_tokenizer([with_motion for with_motion, _ in clips.captions], folder)
    return load_tokenizer(folder)


def inside(box):
    """The box cut to the image, or None when less than two per cent of the image's side is left."""
    cut = replace(
        box, x0=max(0.0, box.x0), y0=max(0.0, box.y0), x1=min(1.0, box.x1), y1=min(1.0, box.y1)
    )
    return cut if min(cut.x1 - cut.x0, cut.y1 - cut.y0) > 0.02 else None


# -------------------------------------------------------------------------------------------------
# Temporal layers.


class TrainTemporalLayers:
    """Temporal layers in the frozen image U-Net: text to video, prediction or interpolation.

    ``data.given`` says which frames are given: ``"none"``, ``"first"`` (0, 1 or 2 leading frames,
    with the probabilities ``data.given_first``; Video LDM section 3.2; or, with probability
    ``data.given_ends``, the first and the last) or ``"every fourth"`` (section 3.3). With the
    latter, half the batches are noised blends of the key frames, whose ghosts the layers learn to
    undo.

    ``data.drawn_frames`` = [least, most] trains on the first and a few other frames of each clip:
    what moves where shows in them as well as in all, for a fraction of the work. With
    ``data.successive_frames`` = [least, most], every second batch is of so many frames that follow
    each other, which teach steadiness. With ``data.anchors`` = n, half of all batches are of n
    frames spread evenly over the clip, which sampling begins with. ``data.two_objects`` is the
    share of clips that are drawn from those with two shapes alone.
    """

    def __init__(self, recipe: Recipe, cache: Path):
        self.recipe = recipe
        image = embedded.load_image_model()
        self.text_encoder, self.tokenizer = image.text_encoder, image.tokenizer
        self.length = image.text_length
        self.sets = [
            latent_clips(ClipPlan(**plan), image.autoencoder, cache)
            for plan in recipe.data["clips"]
        ]
        self.given = recipe.data.get("given", "none")
        self.given_first = recipe.data.get("given_first", (0.2, 0.4, 0.4))
        self.given_ends = recipe.data.get("given_ends", 0.0)
        self.drawn_frames = recipe.data.get("drawn_frames")
        self.successive_frames = recipe.data.get("successive_frames")
        self.anchors = recipe.data.get("anchors", 0)
        self.two_objects = recipe.data.get("two_objects", 0.0)
        self.perturb = recipe.data.get("perturb", 0)
        self.noisy = recipe.data.get("noisy", 0.0)
        unet = frozen(image.model.network.image_unet)
        self.layers = layers_for(unet, recipe)
        if "reading" in recipe.data:
            plan = ClipPlan(**recipe.data["reading"])
            self._teach_reading(plan, recipe.data["reading_steps"])
        if self.layers.prompt is not None:
            self.layers.prompt.requires_grad_(False).embed.requires_grad_(True)
        self.module = inject(unet, self.layers)

    def batch(self, step: int) -> dict:
        """Clips of one set (sets take turns), with captions and the frames that are given."""
        random = np.random.default_rng((self.recipe.seed, step))
        rate = step % len(self.sets)
        clips = self.sets[rate]
        chosen = self._choose(clips, random)
        captions = ["" if random.random() < 0.1 else clips.captions[i][0] for i in chosen]
        frames = clips.latents.shape[1]
        if self.anchors and random.random() < 0.5:
            times = torch.tensor(spread_evenly(frames, self.anchors))
        else:
            times = drawn_times(frames, self.drawn_frames, self.successive_frames, random)
        latents = clips.latents[chosen][:, times].float()
        masks = np.stack([self._mask(latents.shape[1], random) for _ in chosen])
        return {
            "latents": latents,
            "ids": tokenize(self.tokenizer, captions, self.length),
            "times": times,
            "rate": torch.full((len(chosen),), rate),
            "mask": torch.from_numpy(masks),
            "level": int(random.integers(self.perturb)) if self.perturb and step % 2 else 0,
            "from_blend": self.given == "every fourth" and step // 2 % 2 == 1,
        }

    def _choose(self, clips: LatentClips, random: np.random.Generator) -> np.ndarray:
        chosen = random.integers(len(clips), size=self.recipe.batch)
        two = clips.with_two_shapes if self.two_objects else []
        if not two:
            return chosen
        again = random.choice(two, size=self.recipe.batch)
        return np.where(random.random(self.recipe.batch) < self.two_objects, again, chosen)

    def _mask(self, frames: int, random: np.random.Generator) -> np.ndarray:
        mask = np.zeros(frames, np.float32)
        if self.given == "first" and random.random() < self.given_ends:
            mask[[0, -1]] = 1
        elif self.given == "first":
            mask[: random.choice(3, p=self.given_first)] = 1
        elif self.given == "every fourth" and random.random() < 0.95:
            mask[::4] = 1
        return mask

    def loss(self, batch: dict, generator: torch.Generator) -> dict[str, Tensor]:
        x0, mask = batch["latents"], batch["mask"]
        with torch.no_grad(), torch.autocast(x0.device.type, enabled=False):
            text = encode_text(self.text_encoder, batch["ids"])
        context = self._context(x0, mask, batch["level"], generator)
        steps = draw_steps(len(x0), generator, x0.device, self.noisy)
        start = None
        if batch["from_blend"]:
            first, last = BLEND_STEPS
            steps = first + steps * (last - first) // SCHEDULE.steps
            start = self._partly_blended(x0, generator)
        rate = batch["rate"] if self.layers.rate is not None else None
        error = velocity_error(
            lambda x, t: self.module(
                x, t, text, context_frames=context, rate=rate, times=batch["times"]
            ),
            x0,
            normal_like(x0, generator),
            steps,
            start,
        )
        wanted = (1 - mask)[:, :, None, None, None].expand_as(error)
        return {"loss": (error * wanted).sum() / wanted.sum()}

    def _teach_reading(self, plan: ClipPlan, steps: int, batch: int = 96) -> None:
        """Before the first step: what reads the motions off the prompts learns it, from captions
        and scenes alone, and is left as it is from then on. Attention follows about the right
        motions from the start.
        """
        prompt, clips = self.layers.prompt, self.sets[0].plan
        scenes = [clips.scene(i)[0] for i in range(clips.count)] + reading_scenes(plan)
        captions = [worlds.caption(scene) for scene in scenes]
        ids = tokenize(self.tokenizer, captions, self.length)
        with torch.no_grad():
            text = torch.cat([encode_text(self.text_encoder, part) for part in ids.split(128)])
        motions = torch.stack([told_motions(scene) for scene in scenes]).float()
        prompt.start_whitening(text[:512].flatten(0, 1))
        optimizer = MuonAdamW(prompt, lr=4e-3, weight_decay=0.05)
        random = np.random.default_rng(self.recipe.seed)
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = 4e-3 * (1 - step / steps)
            chosen = random.integers(len(scenes), size=batch)
            percents = 100 * (prompt(text[chosen])[2] - motions[chosen])
            percents.square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    @staticmethod
    def _partly_blended(x0: Tensor, generator: torch.Generator) -> Tensor:
        """Clips on their way from the linear blend of their key frames to the truth: what sampling
        that starts from the blend meets (Delbracio & Milanfar 2023, eq. 3).
        """
        share = torch.rand(len(x0), generator=generator, device=x0.device)
        return torch.lerp(x0, linear_blend(x0[:, ::4]), share[:, None, None, None, None])

    def _context(
        self, x0: Tensor, mask: Tensor, level: int, generator: torch.Generator
    ) -> ContextFrames | None:
        if self.given == "none":
            return None
        context = replace(no_context(x0.shape, x0.device), mask=mask)
        context = replace(context, latents=x0 * context.expanded_mask)
        return perturbed(context, SCHEDULE, level, normal_like(x0, generator))

    def save(self, path: Path, notes: dict) -> None:
        save(
            path,
            self.layers.state_dict(),
            Header(
                family=embedded.FAMILY,
                kind="temporal_layers",
                config=self.layers.config.as_dict(),
                notes=notes,
            ),
        )


def drawn_times(
    frames: int,
    drawn: Sequence[int] | None,
    successive: Sequence[int] | None,
    random: np.random.Generator,
) -> Tensor:
    """Which of a clip's ``frames`` frames a batch shows: all; or the first and others, so many as
    ``drawn`` = (least, most) allows; or, every second time, as ``successive`` does, neighbours."""
    if drawn is None:
        return torch.arange(frames)
    if successive is not None and random.random() < 0.5:
        least, most = successive
        count = int(random.integers(least, most + 1))
        return torch.arange(count) + int(random.integers(frames - count + 1))
    least, most = drawn
    others = 1 + random.choice(frames - 1, size=random.integers(least - 1, most), replace=False)
    return torch.from_numpy(np.sort(np.append(others, 0)))


def told_motions(scene: worlds.Scene) -> Tensor:
    """What the layers are told of a scene [8, 2]: (x, y) in parts of the image's sides per frame.

    Of each of two shapes, how its left, right, upper and lower edge move; zeros for a shape that is
    not there. Of a road, how four places of it move, for a slow and for a fast car.
    """
    if isinstance(scene, worlds.ShapesScene):
        edges = torch.from_numpy(worlds.shapes.edge_motions(scene)).flatten(0, 1)
        return F.pad(edges, (0, 0, 0, 8 - len(edges)))
    return torch.from_numpy(worlds.driving.road_motions(scene))


def frozen(unet: nn.Module) -> nn.Module:
    """Exclude an image U-Net from training.

    Its memory layout goes back to the default: on the CPU, torch 2.13 crashes in the backward pass
    of a channels-last group norm whose own scale needs no gradient.
    """
    return unet.requires_grad_(False).to(memory_format=torch.contiguous_format)


def layers_for(unet: nn.Module, recipe: Recipe) -> TemporalLayers:
    """The temporal layers that a recipe puts into an image U-Net: new, or as far as they fit those
    it starts from.
    """
    config = TemporalLayersConfig(
        layout=layout_of(unet.config),
        text_width=unet.config.cross_attention_dim,
        **embedded.tuples(recipe.model),
    )
    layers = TemporalLayers(config)
    if "layers" in recipe.start_from:
        start(layers, embedded.path_of(recipe.start_from["layers"]))
    return layers


def start(layers: TemporalLayers, path: Path) -> None:
    """Take over every tensor of a trained file that fits ``layers``; the rest stays new."""
    _, state = embedded.read(path, "temporal_layers")
    own = layers.state_dict()
    fitting = {k: v.float() for k, v in state.items() if k in own and own[k].shape == v.shape}
    layers.load_state_dict(fitting, strict=False)


# -------------------------------------------------------------------------------------------------
# The upsampler.


class TrainUpsampler:
    """The x4 upsampler: first its image U-Net on single frames, then temporal layers in it.

    Low-resolution frames are noised to a drawn level (at most ``MAX_NOISE_LEVEL``) that the network
    is told, so that it learns not to trust their flaws (Ho et al. 2021). ``data.same_noise`` gives
    all frames of a clip the same noise, as sampling does.
    """

    def __init__(self, recipe: Recipe, cache: Path):
        self.recipe = recipe
        image = embedded.load_image_model()
        self.autoencoder = image.autoencoder
        self.text_encoder, self.tokenizer = image.text_encoder, image.tokenizer
        self.length = image.text_length
        self.frames = FrameMixture(
            size=recipe.data["size"],
            frames=recipe.data["frames"],
            real_share=recipe.data["real_share"],
        )
        self.same_noise = recipe.data.get("same_noise", False)
        self.unet_config = embedded.ImageUNetConfig(**embedded.tuples(recipe.model["unet"]))
        self.unet = embedded.build_unet(self.unet_config).to(memory_format=torch.channels_last)
        self.layers = TemporalLayers(
            TemporalLayersConfig(
                layout=layout_of(self.unet.config), **embedded.tuples(recipe.model["layers"])
            )
        )
        self.module: VideoUNet = inject(self.unet, self.layers)
        self._freeze()

    def _freeze(self) -> None:
        """Single frames train the image U-Net, clips the temporal layers."""
        if "unet" in self.recipe.start_from:
            _, state = embedded.read(embedded.path_of(self.recipe.start_from["unet"]), "upsampler")
            load_into(self.unet, part(state, "unet."), "upsampler")
        if self.frames.frames > 1:
            frozen(self.unet)
        else:
            self.layers.requires_grad_(False)
            self.unet.requires_grad_(True)

    def batch(self, step: int) -> dict:
        random = np.random.default_rng((self.recipe.seed, step))
        clips = [self.frames.draw(random) for _ in range(self.recipe.batch)]
        return {
            "video": torch.from_numpy(np.stack(clips)),
            "levels": torch.from_numpy(
                random.integers(embedded.MAX_NOISE_LEVEL, size=self.recipe.batch)
            ),
        }

    def loss(self, batch: dict, generator: torch.Generator) -> dict[str, Tensor]:
        video, levels = batch["video"], batch["levels"]
        with torch.no_grad():
            x0 = encode(self.autoencoder, video, chunk=64).float()
            text = encode_text(
                self.text_encoder, tokenize(self.tokenizer, [""], self.length).to(video.device)
            ).expand(len(video), -1, -1)
        low = shrink(video)
        low = SCHEDULE.add_noise(low, self._noise(low, generator), levels)
        steps = draw_steps(len(x0), generator, x0.device)
        steps = steps[torch.randperm(len(steps), generator=generator, device=x0.device)]
        error = velocity_error(
            lambda x, t: self.module(torch.cat([x, low], dim=2), t, text, class_labels=levels),
            x0,
            self._noise(x0, generator),
            steps,
        )
        return {"loss": error.mean()}

    def _noise(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Noise like x [b, t, ...], of its own for every frame or the same for all."""
        if self.same_noise:
            return normal_like(x[:, :1], generator).expand_as(x)
        return normal_like(x, generator)

    def save(self, path: Path, notes: dict) -> None:
        state = {f"unet.{k}": v for k, v in self.unet.state_dict().items()}
        state |= {f"layers.{k}": v for k, v in self.layers.state_dict().items()}
        config = {"unet": vars(self.unet_config), "layers": self.layers.config.as_dict()}
        save(
            path,
            state,
            Header(family=embedded.FAMILY, kind="upsampler", config=config, notes=notes),
        )
