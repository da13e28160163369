"""How ComfyUI rebuilds a patcher of ours when it needs one without dynamic memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def renewable(patcher: Any, factory: Callable[..., Any], *arguments: Any) -> Any:
    """The patcher, which factory(*arguments, disable_dynamic=...) makes again."""
    patcher.cached_patcher_init = factory, arguments
    return patcher
