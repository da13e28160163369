"""Parts of different models on one node, in words that their owner knows."""

from __future__ import annotations

from collections.abc import Sequence

from ....core.families.known_models import of_layout, of_text_width
from ....core.sites import UNetLayout


def check_layers_fit(made_for: UNetLayout, have: UNetLayout) -> None:
    """Raise ValueError for temporal layers that were made for another U-Net."""
    if made_for != have:
        raise ValueError(
            f"these temporal layers are made for {of_layout(made_for)}, "
            f"but the model is {of_layout(have)}"
        )


def check_prompts_fit(conditioning: Sequence, which: str, wanted: int | None) -> None:
    """Raise ValueError for prompts that another family's CLIP encoded.

    wanted: the width of the tokens that the model takes, None for any.
    """
    for tokens, _ in conditioning:
        if tokens is None or wanted is None or tokens.shape[-1] == wanted:
            continue
        encoded_for = of_text_width(tokens.shape[-1])
        raise ValueError(
            f"the {which} prompt was encoded for {encoded_for}, but this is "
            f"{of_text_width(wanted)}; take the CLIP that was loaded with the model"
        )
