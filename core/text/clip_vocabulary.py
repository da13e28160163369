"""CLIP's published vocabulary, from the package ``instant-clip-tokenizer``.

Single-file checkpoints contain no tokenizer. For the keywords that this project uses, this one
gives the results of transformers' ``CLIPTokenizer``, without a download.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

BEGIN, END = 49406, 49407


class VocabularyError(ValueError):
    """The published vocabulary is not installed; the message says what to install."""


@dataclass(frozen=True)
class ClipTokenizer:
    """Byte pair encoding with CLIP's 49408 tokens.

    ``pad_token_id`` is the end token for OpenAI's CLIP (Stable Diffusion 1) and 0 for OpenCLIP
    (Stable Diffusion 2).
    """

    pad_token_id: int = END
    model_max_length: int = 77

    bos_token_id = BEGIN
    eos_token_id = END
    vocab_size = END + 1

    def __len__(self) -> int:
        return self.vocab_size

    def __call__(
        self,
        prompts: str | Sequence[str],
        *,
        padding: bool | str = False,
        max_length: int | None = None,
        truncation: bool = False,
        add_special_tokens: bool = True,
    ) -> dict[str, list]:
        """Token ids under ``input_ids``: a list for one prompt, a list of lists for several.

        ``padding`` "max_length" pads to ``max_length`` (77 by default); ``truncation`` cuts there
        and keeps the end token. Raises VocabularyError without the package.
        """
        one = isinstance(prompts, str)
        length = self.model_max_length if max_length is None else max_length
        rows = [
            self._ids(text, length if truncation else None, add_special_tokens)
            for text in ([prompts] if one else prompts)
        ]
        if padding:
            wanted = length if padding == "max_length" else max(map(len, rows), default=0)
            rows = [row + [self.pad_token_id] * (wanted - len(row)) for row in rows]
        return {"input_ids": rows[0] if one else rows}

    def _ids(self, text: str, length: int | None, special: bool) -> list[int]:
        ids = list(_vocabulary().encode(" ".join(text.split())))
        if length is not None:
            ids = ids[: length - 2 * special]
        return [BEGIN, *ids, END] if special else ids


@lru_cache(maxsize=1)
def _vocabulary():
    try:
        from instant_clip_tokenizer import Tokenizer
    except ImportError:
        raise VocabularyError(
            "single-file checkpoints need CLIP's vocabulary to read prompts: "
            "pip install instant-clip-tokenizer."
        ) from None
    return Tokenizer()
