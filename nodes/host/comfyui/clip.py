"""The text encoder of one of this pack's models as a ComfyUI CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sd
import comfy.supported_models_base
import folder_paths
import torch
from torch import Tensor, nn

from ....core.families.image_models import ImageModel
from ..shared.embeddings import Embeddings
from ..shared.missing_parts import check_boxes
from ..shared.prompt_encoder import PromptEncoder

Tokens = dict[str, list]


class VideoLDMTextModel(nn.Module):
    """The text encoder, and the box encoder if there is one.

    Weights are named as in ComfyUI's CLIP-L, so that LoRA files apply to them.
    """

    def __init__(self, found: ImageModel, device: Any = None, dtype: Any = None,
                 model_options: Any = None):  # fmt: skip
        super().__init__()
        # It is small, and is evaluated in float32 like every text encoder in ComfyUI.
        encoder = found.text_encoder.to(device=device, dtype=torch.float32)
        self.clip_l = nn.Module()
        self.clip_l.transformer = encoder if hasattr(encoder, "text_model") else _Named(encoder)
        self.box_encoder = found.box_encoder
        if self.box_encoder is not None:
            self.box_encoder.to(device=device, dtype=torch.float32)
        boxes = self.box_encoder
        self._whole = PromptEncoder(
            encoder, found.tokenizer, found.text_length, boxes, known_words=found.known_words
        )
        self._clip = self._whole
        self.dtypes = {torch.float32}

    def encode_token_weights(self, tokens: Tokens) -> tuple[Tensor, None]:
        return self._given(self._clip.encode_from_tokens_scheduled(tokens["l"])), None

    def encode_boxes(self, text: str, boxes: Sequence[Any]) -> Tensor:
        """Tokens [1, n, d] of a prompt, followed by those of the bounding boxes."""
        return self._given(self._clip.encode(text, boxes))

    @staticmethod
    def _given(conditioning: list) -> Tensor:
        return conditioning[0][0].to(comfy.model_management.intermediate_device())

    # ComfyUI sets the last layer to use, among other options that this model does not have.

    def set_clip_options(self, options: dict[str, Any]) -> None:
        if options.get("layer") is not None:
            self._clip = self._whole.stopping_at(options["layer"])

    def reset_clip_options(self) -> None:
        self._clip = self._whole

    def load_sd(self, sd: dict[str, Tensor]) -> Any:
        return self.load_state_dict(sd, strict=False)


class _Named(nn.Module):
    """An encoder under the name `text_model`, a level that newer versions of transformers lack."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.text_model = encoder


class VideoLDMTokenizer:
    """Weighted prompts to chunks of (token, weight)."""

    def __init__(self, found: ImageModel, folders: Sequence[str]):
        embeddings = Embeddings(
            [Path(one) for one in folders], found.text_encoder.config.hidden_size
        )
        self._clip = PromptEncoder(
            found.text_encoder,
            found.tokenizer,
            found.text_length,
            embeddings=embeddings,
            known_words=found.known_words,
        )

    def tokenize_with_weights(
        self, text: str, return_word_ids: bool = False, **options: Any
    ) -> Tokens:
        chunks = self._clip.tokenize(text)
        if return_word_ids:
            chunks = [[(*token, k) for k, token in enumerate(chunk)] for chunk in chunks]
        return {"l": chunks}

    def untokenize(self, chunk: Sequence[tuple]) -> list[tuple]:
        words = self._clip.tokenizer
        return [
            (token, words.decode([token[0]]) if isinstance(token[0], int) else "embedding")
            for token in chunk
        ]

    def state_dict(self) -> dict[str, Tensor]:
        return {}


def build_clip(found: ImageModel, *, disable_dynamic: bool = False) -> comfy.sd.CLIP:
    """A CLIP with the text encoder of a model in this project's format."""
    folders = folder_paths.get_folder_paths("embeddings")
    target = comfy.supported_models_base.ClipTarget(
        lambda **_: VideoLDMTokenizer(found, folders),
        lambda **params: VideoLDMTextModel(found, **params),
    )
    return comfy.sd.CLIP(target, disable_dynamic=disable_dynamic)


def encode_boxes(clip: comfy.sd.CLIP, text: str, boxes: Sequence[Any]) -> list:
    """A CONDITIONING of a prompt with boxes; ValueError for a CLIP without a box encoder."""
    encoder = clip.cond_stage_model
    check_boxes(boxes, getattr(encoder, "box_encoder", None))
    clip.load_model()
    return [[encoder.encode_boxes(text, boxes), {"pooled_output": None}]]
