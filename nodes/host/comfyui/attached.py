"""A value on a MODEL together with the wrapper that acts on it."""

from __future__ import annotations

from typing import Any


def attach(clone: Any, kind: str, key: str, value: Any, wrapper: Any) -> None:
    """Attach a value and its wrapper to a clone of a MODEL, in place of those it has under the key;
    kind: one of ComfyUI's `WrappersMP`. Wrappers nest in the order in which they were added."""
    clone.remove_wrappers_with_key(kind, key)
    clone.set_attachments(key, value)
    clone.add_wrapper_with_key(kind, key, wrapper)
