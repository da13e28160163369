"""The parts that are trained on latents: the image model, and its temporal layers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ...families.embedded import loading as embedded
from ...families.embedded.worlds import Box
from ...networks.conditions import FRAME_RATE, Conditions
from ...networks.context_frames import ContextFrames
from ...networks.video_unet import eject, inject
from ...tasks.interpolation import FACTOR
from ...text.encoders import box_tensors, encode_text, tokenize
from ...weights.checkpoints import Header, save
from ..image_model_task import TrainImageModel, all_words, tokenizer_for
from ..temporal_layers_task import frozen, layers_for, video_loss
from ..velocity import SCHEDULE, draw_steps, normal_like, velocity_error, video_noise
from .clips import Clips
from .drawn import chances, indices
from .material import Material
from .plan import Part

NO_BOXES = 0.1
"""Probability that the boxes of a frame are dropped."""
KINDS = "base", "slow"
"""Sets of clips for the temporal layers."""


class ImageModel(TrainImageModel):
    """See the base class; frames of the base clips, with their boxes in every second step."""

    pattern = (0, 1)

    def __init__(self, part: Part, material: Material):
        self.recipe, self.latents = part, material.latents("base")
        clips = material.clips("base")
        self.tokenizer = tokenizer_for(clips)
        self._build()
        # With motion, without, and the empty caption.
        words = [pair[k] for k in range(2) for pair in clips.captions] + [""]
        self.ids = tokenize(self.tokenizer, words, self.text.length)
        self.corners = clips.corners
        self.labels, self.label_ids = self._labels(clips)
        labels = [label for clip in clips.labels for frame in clip for label in frame]
        self.words = all_words([words, labels])

    def _labels(self, clips: Clips) -> tuple[Tensor, Tensor]:
        """The label index of every box [n, t, SLOTS], and the tokens of each label."""
        known = {"": 0}
        numbers = [
            [[known.setdefault(one, len(known)) for one in frame] for frame in clip]
            for clip in clips.labels
        ]
        rows = [[Box(label=label, x0=0.0, y0=0.0, x1=1.0, y1=1.0)] for label in known]
        return torch.tensor(numbers), box_tensors(rows, self.tokenizer, 1)[1][:, 0]

    @property
    def saved_modules(self) -> dict[str, nn.Module]:
        return {"": self.module}

    def place(self, device: torch.device) -> None:
        self.module.to(device)
        for name in ("ids", "corners", "labels", "label_ids"):
            setattr(self, name, getattr(self, name).to(device))

    def draw_batch(self, variant: int, generator: torch.Generator) -> dict[str, Tensor]:
        data, count = self.recipe.data, self.recipe.batch
        clips, frames = self.latents.shape[:2]
        clip, frame = indices(clips, count, generator), indices(frames, count, generator)
        still = chances(data["still_caption"], count, generator)
        none = chances(data["drop_caption"], count, generator)
        words = (clip + still * clips).masked_fill(none, 2 * clips)
        batch = {"latents": self.latents[clip, frame].float(), "ids": self.ids[words]}
        if variant:
            given = ~chances(NO_BOXES, count, generator)
            labels = self.labels[clip, frame]
            batch |= {
                "corners": self.corners[clip, frame].float(),
                "labels": self.label_ids[labels],
                "present": (labels > 0) & given[:, None],
            }
        return batch


class VideoLayers:
    """One set of temporal layers in the frozen image U-Net for text to video, prediction and
    interpolation (Video LDM, sections 3.1 to 3.3; LVDM, section 3.3).

    Two of three steps have 16 base frames of which none, the first or the first two are given, with
    probabilities ``data.given_first``; the others have 17 frames of which every fourth is given,
    with probability ``data.give_keys``. Given frames are noised to a random level with probability
    ``data.perturbed``. Frame-rate class 1 marks 16 frames to a base frame, class 0 the other rates.
    """

    pattern = (0, 0, 1)

    def __init__(self, part: Part, material: Material):
        self.recipe = part
        image = embedded.load_image_model()
        unet = frozen(eject(image.model.network))
        self.layers = layers_for(unet, part)
        self.module = inject(unet, self.layers)
        self.image, self.clips = image, [material.clips(name) for name in KINDS]
        self.latents = [material.latents(name) for name in KINDS]
        self.rates = [torch.zeros(len(self.clips[0]), dtype=torch.long), self.clips[1].rates]

    @property
    def saved_modules(self) -> dict[str, nn.Module]:
        return {"": self.layers}

    def place(self, device: torch.device) -> None:
        self.module.to(device)
        encoder = self.image.text_encoder.to(device)
        self.texts = [self._texts(clips, encoder, device) for clips in self.clips]
        self.rates = [rates.to(device) for rates in self.rates]

    @torch.no_grad()
    def _texts(self, clips: Clips, encoder: nn.Module, device: torch.device) -> Tensor:
        """Encoded captions [n + 1, tokens, d], float16; the last one is empty."""
        words = [moving for moving, _ in clips.captions] + [""]
        ids = tokenize(self.image.tokenizer, words, self.image.text_length)
        return torch.cat([encode_text(encoder, part.to(device)).half() for part in ids.split(256)])

    def draw_batch(self, variant: int, generator: torch.Generator) -> dict[str, Tensor]:
        data, count, slow = self.recipe.data, self.recipe.batch, variant
        latents = self.latents[slow]
        clip = indices(len(latents), count, generator)
        drop = data["drop_slow_caption" if slow else "drop_caption"]
        words = clip.masked_fill(chances(drop, count, generator), len(latents))
        mask = (self._keys if slow else self._first)(latents.shape[1], generator)
        return {
            "latents": latents[clip].float(),
            "text": self.texts[slow][words].float(),
            "rate": self.rates[slow][clip],
            "mask": mask.float(),
            "level": self._levels(generator),
            "kind": KINDS[slow],
        }

    def _first(self, frames: int, generator: torch.Generator) -> Tensor:
        """Mask [b, t] of given frames: none, the first or the first two."""
        none, one, _ = self.recipe.data["given_first"]
        place = torch.rand(self.recipe.batch, generator=generator, device=generator.device)
        given = (place > none).long() + (place > none + one).long()
        return torch.arange(frames, device=generator.device) < given[:, None]

    def _keys(self, frames: int, generator: torch.Generator) -> Tensor:
        """Mask [b, t] of given frames: every fourth or none."""
        some = chances(self.recipe.data["give_keys"], self.recipe.batch, generator)
        return (torch.arange(frames, device=generator.device) % FACTOR == 0) & some[:, None]

    def _levels(self, generator: torch.Generator) -> Tensor:
        """Noise levels [b] of the given frames; 0 = clean."""
        data, count = self.recipe.data, self.recipe.batch
        noised = chances(data["perturbed"], count, generator)
        return noised * indices(data["highest_level"], count, generator)

    def loss(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        x0, mask, rate = batch["latents"], batch["mask"], batch["rate"]
        steps = draw_steps(len(x0), generator, x0.device, self.recipe.data["noisy"])
        context = _given(x0, mask, batch["level"], normal_like(x0, generator))
        conditions = Conditions(text=batch["text"], context=context, ids={FRAME_RATE: rate})
        noise = video_noise(x0, generator, self.layers.spec.trained.shared_noise)
        error = velocity_error(lambda x, t: self.module(x, t, conditions), x0, noise, steps)
        wanted = (1 - mask)[:, :, None, None, None]
        loss = video_loss(error * wanted, wanted, 0.0)
        return {"loss": loss, batch["kind"]: loss.detach()}

    def save(self, path: Path, notes: dict) -> None:
        config = self.layers.spec.as_dict()
        header = Header(family=embedded.FAMILY, kind="temporal_layers", config=config, notes=notes)
        save(path, self.layers.state_dict(), header)


def _given(x0: Tensor, mask: Tensor, level: Tensor, noise: Tensor) -> ContextFrames:
    """Context frames, noised to the level [b] of each video."""
    noised = torch.where((level > 0).view(-1, 1, 1, 1, 1), SCHEDULE.add_noise(x0, noise, level), x0)
    latents = noised * mask[:, :, None, None, None]
    return ContextFrames(latents=latents, mask=mask, noise_level=level.float())
