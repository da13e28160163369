"""Text conditions: a small CLIP text encoder with its tokenizer, and tokens for bounding boxes.

The encoder has CLIP's architecture (Radford et al. 2021) and is trained from scratch together with
the image model, like the transformer of the first latent diffusion models.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ..networks.layers.positions import sinusoid
from ..weights.checkpoints import CheckpointError, reason_of

BEGIN, END = "<|startoftext|>", "<|endoftext|>"


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    vocabulary: int
    width: int = 128
    layers: int = 4
    heads: int = 4
    length: int = 48  # tokens per prompt, shorter ones are padded


def build_text_encoder(config: TextConfig) -> CLIPTextModel:
    """Build the text encoder; its ``last_hidden_state`` [b, length, width] is the condition."""
    end = config.vocabulary - 1
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.width,
            intermediate_size=4 * config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=config.length,
            bos_token_id=end - 1,
            eos_token_id=end,
            pad_token_id=end,
            projection_dim=config.width,
        )
    )


def tokenize(tokenizer: CLIPTokenizer, prompts: Sequence[str], length: int) -> Tensor:
    """Token ids [b, length]; prompts are truncated, or padded with the end token."""
    ids = tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True)
    return torch.tensor(ids["input_ids"])


def encode_text(encoder: CLIPTextModel, ids: Tensor) -> Tensor:
    """Condition [b, n, d] for token ids [b, n]: the last hidden state, after the final norm."""
    return encoder(input_ids=ids).last_hidden_state


def hidden_states_after(
    encoder: CLIPTextModel, ids: Tensor, layer: int
) -> tuple[Tensor, Tensor | None]:
    """The hidden state [b, n, d] for ids [b, n] after a layer (-1 is the last), before the final
    norm, and the projected embedding [b, p] of the prompt, for encoders that have one."""
    found: list[Tensor] = []

    def keep(module: nn.Module, given: tuple, output: Tensor | tuple) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)

    layers = getattr(encoder, "text_model", encoder).encoder.layers
    hook = layers[layer].register_forward_hook(keep)
    try:
        output = encoder(input_ids=ids)
    finally:
        hook.remove()
    return found[0], getattr(output, "text_embeds", None)


# -------------------------------------------------------------------------------------------------
# Tokenizer.


def train_tokenizer(
    captions: Iterable[str], folder: str | os.PathLike, vocabulary: int = 1024
) -> None:
    """Learn byte pair merges from ``captions`` and write CLIP's ``vocab.json`` and ``merges.txt``.

    Any text can be encoded: the 256 bytes, within and at the end of a word, come first. There are
    fewer than ``vocabulary`` tokens if every word of the captions is a token before.
    """
    from tokenizers import pre_tokenizers

    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    base = [*bytes_, *(byte + "</w>" for byte in bytes_)]
    pairs = learn_merges(captions, vocabulary - len(base) - 2)
    words = [*base, *(first + second for first, second in pairs), BEGIN, END]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    vocab = {word: i for i, word in enumerate(dict.fromkeys(words))}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    merges = "".join(f"{first} {second}\n" for first, second in pairs)
    (folder / "merges.txt").write_text("#version: 0.2\n" + merges)


def learn_merges(captions: Iterable[str], count: int) -> list[tuple[str, str]]:
    """Byte pair merges (Sennrich et al. 2016) of the words in the captions, most frequent first.

    Ties are broken alphabetically, so that the result is deterministic, which the tokenizers
    library does not guarantee.
    """
    words = Counter(word for text in captions for word in re.findall("[a-z]+|,", text.lower()))
    split = {word: (*word[:-1], word[-1] + "</w>") for word in words}
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: Counter = Counter()
        for word, parts in split.items():
            for pair in itertools.pairwise(parts):
                pairs[pair] += words[word]
        if not pairs:
            break
        merges.append(min(pairs, key=lambda pair: (-pairs[pair], pair)))
        split = {word: merged(parts, merges[-1]) for word, parts in split.items()}
    return merges


def merged(parts: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """``parts`` with every occurrence of ``pair`` merged, from left to right."""
    out: list[str] = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return tuple(out)


def load_tokenizer(folder: str | os.PathLike) -> CLIPTokenizer:
    """Load a CLIP tokenizer from its ``vocab.json`` and ``merges.txt``."""
    for name in ("vocab.json", "merges.txt"):
        if not (Path(folder) / name).is_file():
            raise ValueError(f"no tokenizer in {folder}: {name} is missing")
    return read_tokenizer(folder)


def read_tokenizer(folder: str | os.PathLike) -> CLIPTokenizer:
    """The tokenizer that transformers wrote to ``folder``; CheckpointError if it is broken."""
    try:
        return CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    # The tokenizers library raises plain Exception.
    except Exception as error:
        raise CheckpointError(
            f"the tokenizer in {folder} cannot be read: {reason_of(error)}"
        ) from None


# -------------------------------------------------------------------------------------------------
# Bounding boxes.


class BoxEncoder(nn.Module):
    """One condition token per bounding box, appended to the text tokens (driving scenes).

    A token combines sinusoids of the box's corners with the mean embedding of its label's words.
    Every prompt gets ``slots`` tokens; slots without a box share a learned one.
    """

    def __init__(self, width: int, vocabulary: int, *, slots: int = 4, frequencies: int = 16):
        super().__init__()
        self.slots, self.frequencies = slots, frequencies
        self.label = nn.Embedding(vocabulary, width)
        self.project = nn.Sequential(
            nn.Linear(4 * frequencies + width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )
        self.empty = nn.Parameter(torch.zeros(width))

    def forward(self, corners: Tensor, labels: Tensor, present: Tensor) -> Tensor:
        """Tokens [b, slots, d] from corners [b, slots, 4] in [0, 1], label ids [b, slots, m]
        (negative = none) and presence [b, slots]."""
        words = (labels >= 0).unsqueeze(-1).to(self.empty.dtype)
        label = (self.label(labels.clamp_min(0)) * words).sum(-2) / words.sum(-2).clamp_min(1)
        at = sinusoid(corners * 64, self.frequencies, base=64.0).flatten(-2).to(self.empty.dtype)
        tokens = self.project(torch.cat([at, label], dim=-1))
        return torch.where(present.bool().unsqueeze(-1), tokens, self.empty.to(tokens.dtype))


def box_tensors(
    boxes: Sequence[Sequence], tokenizer: CLIPTokenizer, slots: int, words: int = 4
) -> tuple[Tensor, Tensor, Tensor]:
    """Corners, label ids and presence for :class:`BoxEncoder`. boxes: per prompt, a list of objects
    with a ``label`` of a few words and corners ``x0, y0, x1, y1`` in [0, 1].

    Raises ValueError for more boxes than slots and for corners outside the image or out of order.
    """
    corners = torch.zeros(len(boxes), slots, 4)
    labels = torch.full((len(boxes), slots, words), -1)
    present = torch.zeros(len(boxes), slots)
    for row, prompt_boxes in enumerate(boxes):
        if len(prompt_boxes) > slots:
            raise ValueError(
                f"{len(prompt_boxes)} bounding boxes given, at most {slots} can be used"
            )
        for slot, box in enumerate(prompt_boxes):
            if not (0 <= box.x0 < box.x1 <= 1 and 0 <= box.y0 < box.y1 <= 1):
                raise ValueError(
                    f"bounding box ({box.x0}, {box.y0}, {box.x1}, {box.y1}) must have "
                    "its corners in order within 0 .. 1"
                )
            ids = tokenizer(box.label, add_special_tokens=False)["input_ids"][:words]
            corners[row, slot] = torch.tensor([box.x0, box.y0, box.x1, box.y1])
            labels[row, slot, : len(ids)] = torch.tensor(ids)
            present[row, slot] = 1
    return corners, labels, present
