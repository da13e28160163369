"""A small stand-in for `comfy_api.latest.ui`: results that output nodes report to the runner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .io import FolderType


class SavedResult(dict):
    """A written file: its name, its folder below that of the type, and the type."""

    def __init__(self, filename: str, subfolder: str, type: FolderType):
        super().__init__(filename=filename, subfolder=subfolder, type=FolderType(type).value)


class SavedImages:
    def __init__(self, results: Sequence[SavedResult], is_animated: bool = False):
        self.results, self.is_animated = list(results), is_animated

    def as_dict(self) -> dict[str, Any]:
        shown = {"images": self.results}
        return {**shown, "animated": (True,)} if self.is_animated else shown


class PreviewVideo:
    """Video files, which frontends play in the node."""

    def __init__(self, values: Sequence[SavedResult], **kwargs: Any):
        self.values = list(values)

    def as_dict(self) -> dict[str, Any]:
        return {"images": self.values, "animated": (True,)}


class PreviewText:
    def __init__(self, value: str, **kwargs: Any):
        self.value = value

    def as_dict(self) -> dict[str, Any]:
        return {"text": (self.value,)}
