"""GET /videoldm/selection: the frames that a Load Video chooses, before anything is queued.

The query holds the node's inputs by name. The answer is JSON: `filename`, `subfolder` and `type` as
/view takes them, and `frames`, `shown`, `frame_rate`, `width`, `height`; or `error`, the sentence
with which the node would end.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

ROUTE = "/videoldm/selection"
REMEMBERED = 50  # previews whose files are shown again for the same selection
KINDS: dict[str, type] = {
    "start": int, "count": int, "stride": int, "width": int, "height": int, "multiple_of": int,
    "fit": str, "force_rate": float, "start_time": float, "duration": float, "alpha": str,
}  # fmt: skip
DEFAULTS = {"start": 0, "count": 0, "stride": 1, "width": 0, "height": 0, "fit": "crop",
            "multiple_of": 8}  # fmt: skip


class SelectionPreviews:
    """Makes previews one at a time, and the same one once."""

    def __init__(self) -> None:
        self.made: OrderedDict[tuple, dict[str, Any]] = OrderedDict()
        self.turn = asyncio.Lock()

    async def answer(self, request: web.Request) -> web.Response:
        try:
            settings = _settings(request.query)
            async with self.turn:
                found = await asyncio.to_thread(self._preview, request.query["file"], settings)
        except (ValueError, OSError, KeyError, TypeError) as error:
            return web.json_response({"error": str(error)})
        return web.json_response(found)

    def _preview(self, file: str, settings: dict[str, Any]) -> dict[str, Any]:
        from ...choices import RENDERED
        from ...stages.previewing import preview_selection
        from .host import host

        changed = 0.0 if file in RENDERED else host.folders.input_path(file).stat().st_mtime
        key = (file, changed, json.dumps(settings, sort_keys=True))
        found = self.made.pop(key, None)
        if found is None or not found["path"].exists():
            found = preview_selection(host, file, settings)
        self.made[key] = found
        while len(self.made) > REMEMBERED:
            self.made.popitem(last=False)
        name, folder = host.folders.relative(found["path"])
        shown = {"filename": name, "subfolder": folder, "type": "temp"}
        return shown | {key: value for key, value in found.items() if not isinstance(value, Path)}


def _settings(query: Mapping[str, str]) -> dict[str, Any]:
    given = {name: kind(query[name]) for name, kind in KINDS.items() if name in query}
    edit = json.loads(query.get("edit") or "null")
    if edit is not None and not isinstance(edit, dict):
        raise ValueError(f"edit must be an object, got {type(edit).__name__}")
    return {**DEFAULTS, **given, "ping_pong": query.get("ping_pong") == "true", "edit": edit}


def offer_previews() -> None:
    """Add the route, while ComfyUI loads its custom nodes."""
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.routes.get(ROUTE)(SelectionPreviews().answer)
