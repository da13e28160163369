"""Training the image model with its text encoder, on single frames."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..families.embedded import included
from ..families.embedded import loading as embedded
from ..text.encoders import (
    BoxEncoder,
    TextConfig,
    box_tensors,
    build_text_encoder,
    encode_text,
    load_tokenizer,
    tokenize,
    train_tokenizer,
)
from ..text.known_words import words_of
from ..weights.checkpoints import Header, save
from .latents import LatentVideos, VideoPlan, latent_videos
from .recipe import Recipe
from .velocity import draw_steps, normal_like, velocity_error


class TrainImageModel:
    """The image U-Net, the text encoder and the box encoder, trained from scratch."""

    def __init__(self, recipe: Recipe, cache: Path):
        self.recipe = recipe
        self.videos = latent_videos(
            VideoPlan(**recipe.data["clips"]), embedded.load_autoencoder(), cache
        )
        self.tokenizer = tokenizer_for(self.videos)
        labels = [box.label for video in self.videos.boxes for frame in video for box in frame]
        self.words = all_words([*self.videos.captions, labels])
        self._build()

    def _build(self) -> None:
        """Build the networks from the recipe's `model`."""
        recipe = self.recipe
        self.text = TextConfig(vocabulary=len(self.tokenizer), **recipe.model.get("text", {}))
        sizes = {"text_width": self.text.width} | recipe.model.get("unet", {})
        self.unet = embedded.ImageUNetConfig(**embedded.tuples(sizes))
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
        self.more_of = recipe.data.get("more_of", {})

    def batch(self, step: int) -> dict:
        """Latents of frames with captions; every second batch also has bounding boxes."""
        random = np.random.default_rng((self.recipe.seed, step))
        video = self.videos.draw(self.recipe.batch, random, self.more_of)
        frame = random.integers(self.videos.latents.shape[1], size=self.recipe.batch)
        captions = [self._caption(int(i), random) for i in video]
        batch = {
            "latents": self.videos.latents[video, frame].float(),
            "ids": tokenize(self.tokenizer, captions, self.text.length),
        }
        if step % 2:
            boxes = [self._boxes(int(i), int(t), random) for i, t in zip(video, frame, strict=True)]
            batch |= zip(
                ("corners", "labels", "present"),
                box_tensors(boxes, self.tokenizer, self.slots),
                strict=True,
            )
        return batch

    def _caption(self, video: int, random: np.random.Generator) -> str:
        if random.random() < self.drop:
            return ""
        return self.videos.captions[video][int(random.random() < 0.4)]

    def _boxes(self, video: int, frame: int, random: np.random.Generator) -> list:
        """The frame's boxes, clipped to the image; none with probability 0.1."""
        if random.random() < 0.1:
            return []
        return [box for box in map(inside, self.videos.boxes[video][frame]) if box][: self.slots]

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
        return {"loss": error.square().mean()}

    def save(self, path: Path, notes: dict) -> None:
        config = {"unet": vars(self.unet), "text": vars(self.text), "boxes": {"slots": self.slots},
                  "words": self.words}  # fmt: skip
        save(
            path,
            self.module.state_dict(),
            Header(family=embedded.FAMILY, kind="image_model", config=config, notes=notes),
        )


def all_words(texts: Iterable[Iterable[str]]) -> list[str]:
    """All words of the texts, sorted: the model's file lists what it was trained with."""
    return sorted({word for some in texts for one in some for word in words_of(one)})


def tokenizer_for(videos: LatentVideos):
    """The family's tokenizer, trained on the captions if there is none yet."""
    folder = included.WEIGHTS / "tokenizer"
    if not (folder / "vocab.json").is_file():
        train_tokenizer([with_motion for with_motion, _ in videos.captions], folder)
    return load_tokenizer(folder)


def inside(box):
    """The box clipped to the image; None if a side is then at most 2 % of the image's."""
    cut = replace(
        box, x0=max(0.0, box.x0), y0=max(0.0, box.y0), x1=min(1.0, box.x1), y1=min(1.0, box.y1)
    )
    return cut if min(cut.x1 - cut.x0, cut.y1 - cut.y0) > 0.02 else None
