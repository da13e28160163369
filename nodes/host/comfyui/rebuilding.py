"""Lets ComfyUI rebuild our patchers when it needs one without dynamic memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def rebuildable(patcher: Any, factory: Callable[..., Any], *arguments: Any) -> Any:
    """The patcher, marked to be rebuilt by factory(*arguments, disable_dynamic=...)."""
    patcher.cached_patcher_init = factory, arguments
    return patcher
