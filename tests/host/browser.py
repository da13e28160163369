"""Drives ComfyUI's frontend in the system's Chromium, as a user would."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comfyui_server import ROOT, Server

SHOTS = ROOT / "output" / "browser"
"""Where screenshots are saved; git ignores `output`."""
RENDERINGS = {"classic": False, "nodes_2": True}
"""Whether Vue draws the nodes ("Nodes 2.0"), or else the canvas."""
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Workflow.Persist": False,
    "Comfy.Execution.PreviewMethod": "latent2rgb",
    "Comfy.Notification.ShowVersionUpdates": False,
    "Comfy.Release.Status": "skipped",
    "Comfy.Minimap.Visible": False,
    "Comfy.RightSidePanel.IsOpen": False,
}


def chromium() -> str | None:
    """The path of the browser, or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    given = os.environ.get("CHROMIUM")
    return given or next(filter(None, map(shutil.which, names)), None)


def missing_browser() -> str | None:
    """Why no browser is available for tests, or None."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "playwright is not installed (pip install playwright)"
    return None if chromium() else "there is no Chromium (apt install chromium)"


@dataclass
class Frontend:
    """One tab that shows ComfyUI's frontend."""

    server: Server
    page: Any
    name: str = "page"
    errors: list[str] = field(default_factory=list)

    def open(self, rendering: str = "classic", **settings: Any) -> Frontend:
        """Load the frontend with one rendering and further settings, and an empty graph."""
        chosen = {"Comfy.VueNodes.Enabled": RENDERINGS[rendering], "Comfy.Locale": "en"}
        names = {key.replace("__", "."): value for key, value in settings.items()}
        self.server.post("/settings", SETTINGS | chosen | names)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"http://127.0.0.1:{self.server.port}/")
        self.page.wait_for_function("() => window.app?.extensionManager && app.isGraphReady")
        self.page.wait_for_function("() => app.extensionManager.setting && app.vueAppReady")
        self.page.wait_for_timeout(500)
        self.js("() => app.graph.clear()")
        return self

    def js(self, function: str, argument: Any = None) -> Any:
        return self.page.evaluate(function, argument)

    # The graph.

    def load(self, workflow: dict[str, Any]) -> None:
        """Open a workflow like a file, and zoom to fit it."""
        self.js("async data => { await app.loadGraphData(data, true, true); }", workflow)
        self.fit()

    def fit(self) -> None:
        self.page.wait_for_timeout(300)
        self.js("() => app.extensionManager.command.execute('Comfy.Canvas.FitView')")
        self.page.wait_for_timeout(700)

    def graph(self) -> dict[str, Any]:
        """The graph as saving would write it."""
        return self.js("() => app.graph.serialize()")

    def prompt(self) -> dict[str, Any]:
        """The prompt that queueing would send, in API form."""
        return self.js("async () => (await app.graphToPrompt()).output")

    def node(self, kind: str) -> int:
        """The id of the first node of a type."""
        return self.js("kind => Number(app.graph.nodes.find(n => n.type === kind).id)", kind)

    def value(self, node: int, widget: str) -> Any:
        return self.js(
            "([id, name]) => app.graph.getNodeById(id).widgets.find(w => w.name === name).value",
            [node, widget],
        )

    def set(self, kind: str, widget: str, value: Any) -> None:
        """Set the value of a widget in all nodes of a type."""
        self.js(
            """([kind, name, value]) => app.graph.nodes.filter((n) => n.type === kind).forEach(
                (n) => { n.widgets.find((w) => w.name === name).value = value; })""",
            [kind, widget, value],
        )

    def queue(self) -> str:
        """Press Run; returns the prompt's id."""
        with self.page.expect_response(lambda reply: reply.url.endswith("/prompt")) as answer:
            self.page.get_by_test_id("queue-button").first.click()
        reply = answer.value.json()
        assert "prompt_id" in reply, reply
        return reply["prompt_id"]

    def queue_refused(self) -> None:
        """Press Run for a prompt that the server refuses."""
        with self.page.expect_response(lambda reply: reply.url.endswith("/prompt")) as answer:
            self.page.get_by_test_id("queue-button").first.click()
        assert answer.value.status == 400

    def shot(self, name: str, **options: Any) -> Path:
        SHOTS.mkdir(parents=True, exist_ok=True)
        path = SHOTS / f"{self.name}_{name}.png"
        self.page.screenshot(path=path, **options)
        return path


def one_node(kind: str, values: list, size: list[int]) -> dict:
    node = {"id": 1, "type": kind, "pos": [100, 100], "size": size, "flags": {}, "order": 0,
            "mode": 0, "inputs": [], "outputs": [], "properties": {},
            "widgets_values": values}  # fmt: skip
    return {"version": 0.4, "last_node_id": 1, "last_link_id": 0, "nodes": [node], "links": [],
            "groups": [], "config": {}, "extra": {}}  # fmt: skip
