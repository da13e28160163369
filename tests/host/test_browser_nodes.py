"""Additions of this pack to ComfyUI's frontend, in both renderings: bounding boxes, estimates,
progress and live previews, help pages, templates, and workflows in saved videos."""

from __future__ import annotations

import base64
import json

import pytest
from browser import Frontend, one_node
from comfyui_server import PACK, ROOT

SEGMENTS = [
    {"prompt": "a red circle moves right", "frames": 32},
    {"prompt": "a blue square", "frames": 24, "overlap": 8, "seed": 7},
]
TOY = {"model": "toy/image_model.safetensors", "layers": "toy/text_to_video.safetensors"}


pytestmark = pytest.mark.usefixtures("no_errors")


# Bounding boxes.


def test_boxes_are_drawn_moved_resized_labelled_and_deleted(frontend):
    frontend.load(one_node("VideoLDM_BoundingBoxes", ["by day", "[]"], [420, 620]))
    page, mouse = frontend.page, frontend.page.mouse
    area = page.locator(".videoldm-canvas").bounding_box()

    def drag(x0: float, y0: float, x1: float, y1: float) -> None:
        for k, (x, y) in enumerate([(x0, y0), ((x0 + x1) / 2, y1), (x1, y1)]):
            mouse.move(area["x"] + x * area["width"], area["y"] + y * area["height"])
            if k == 0:
                mouse.down()
        mouse.up()

    def boxes() -> list[dict]:
        return json.loads(frontend.value(1, "boxes"))

    drag(0.6, 0.7, 0.2, 0.5)
    page.keyboard.type("red car")
    page.keyboard.press("Tab")
    (box,) = boxes()
    assert box["label"] == "red car"
    corners = [0.2, 0.5, 0.6, 0.7]
    assert [box[k] for k in ("x0", "y0", "x1", "y1")] == pytest.approx(corners, abs=0.02)
    drag(0.4, 0.6, 0.5, 0.5)
    drag(0.695, 0.595, 0.8, 0.9)
    (box,) = boxes()
    corners = [0.3, 0.4, 0.8, 0.9]
    assert [box[k] for k in ("x0", "y0", "x1", "y1")] == pytest.approx(corners, abs=0.03)
    drag(0.05, 0.05, 0.051, 0.051)
    assert len(boxes()) == 1, "a click draws nothing"
    drag(0.05, 0.05, 0.2, 0.2)
    frontend.shot("boxes")
    last = boxes()[1]
    page.locator(".videoldm-box").nth(0).focus()
    page.keyboard.press("ArrowRight")
    moved, other = boxes()
    assert other == last and (moved["label"], moved["y1"]) == (box["label"], box["y1"])
    assert moved["x0"] == pytest.approx(box["x0"] + 0.01), "keys move the box that has the focus"
    box = moved
    page.locator(".videoldm-box").nth(1).focus()
    page.keyboard.press("Delete")
    assert boxes() == [box]
    assert len(frontend.graph()["nodes"]) == 1, "Delete is the box's, not the node's"
    page.keyboard.press("Control+z")
    page.wait_for_timeout(1000)
    assert len(boxes()) == 2, "undo takes back the last edit"


# Estimates, progress, previews.


def sampler_graph(**changed) -> dict:
    """A prompt for a small video of the toy family, in API form."""
    inputs = {"model": ["3", 0], "positive": ["4", 0], "negative": ["5", 0], "width": 32,
              "height": 32, "frames": 8, "steps": 30, "cfg": 3.0, **changed}  # fmt: skip
    nodes = {
        "1": ("VideoLDM_LoadImageModel", {"model": TOY["model"]}),
        "2": ("VideoLDM_LoadTemporalLayers", {"layers": TOY["layers"]}),
        "3": ("VideoLDM_InjectTemporalLayers", {"model": ["1", 0], "layers": ["2", 0]}),
        "4": ("CLIPTextEncode", {"clip": ["1", 1], "text": "a red circle"}),
        "5": ("CLIPTextEncode", {"clip": ["1", 1], "text": ""}),
        "6": ("VideoLDM_VideoSampler", inputs),
        "7": ("VideoLDM_TemporalVAEDecodeToVideo", {"samples": ["6", 0], "vae": ["1", 2],
                                                    "frame_rate": 4.0}),
        "8": ("VideoLDM_SaveVideo", {"video": ["7", 0], "filename_prefix": "video/seen"}),
    }  # fmt: skip
    return {key: {"class_type": kind, "inputs": given} for key, (kind, given) in nodes.items()}


def open_api(tab: Frontend, prompt: dict) -> None:
    """Open a prompt as a file, with all values: otherwise the tab would reuse its last ones."""
    prompt = tab.server.filled(prompt)
    tab.js("async (prompt) => { await app.loadApiJson(prompt, 'test'); }", prompt)
    tab.fit()


def estimate(tab: Frontend) -> str:
    return tab.page.locator(".videoldm-estimate").first.inner_text()


def test_the_estimate_follows_the_widgets(frontend):
    open_api(frontend, sampler_graph())
    assert estimate(frontend).startswith("8 frames · plays 2 s")
    frontend.js("""() => {
        const node = app.graph.nodes.find((n) => n.type === "VideoLDM_VideoSampler");
        for (const [name, value] of [["frames", 40], ["strategy", "prediction"]]) {
            const widget = node.widgets.find((w) => w.name === name);
            widget.value = value;
            widget.callback?.(value);
        }
    }""")
    assert estimate(frontend).startswith("40 frames · plays 10 s · 3 segments · about ")
    assert "MB on top of the models" in estimate(frontend)


WATCH = """async () => {
    const { api } = await import("/scripts/api.js");
    window.seen = { lines: new Set(), shown: 0, previews: [] };
    api.addEventListener("b_preview_with_metadata", async ({ detail }) => {
        const data = await detail.blob.arrayBuffer();
        const decoder = new ImageDecoder({ data, type: "image/webp" });
        await decoder.tracks.ready;
        window.seen.previews.push(decoder.tracks.selectedTrack.frameCount);
    });
    window.watching = setInterval(() => {
        const line = document.querySelector(".videoldm-progress:not(:empty)");
        if (line?.checkVisibility()) window.seen.lines.add(line.textContent);
        const images = [...document.querySelectorAll("img[src^='blob:']")];
        const sizes = images.map((one) => one.getBoundingClientRect().height);
        window.seen.shown = Math.max(window.seen.shown, ...sizes);
    }, 100);
}"""
WATCHED = {"width": 128, "height": 128}
"""Large enough for a run of seconds: one of 32x32 ends before a busy page is drawn."""
SEEN = """() => {
    clearInterval(window.watching);
    return { ...window.seen, lines: [...window.seen.lines] };
}"""


def test_progress_and_animated_previews_are_shown_while_a_node_runs(frontend, comfyui):
    seed = {"classic": 11, "nodes_2": 12}[frontend.name]  # Otherwise the second run is cached.
    open_api(frontend, sampler_graph(seed=seed, **WATCHED))
    frontend.js(WATCH)
    prompt_id = frontend.queue()
    frontend.page.wait_for_function("() => window.seen.shown > 40")
    frontend.shot("progress")
    comfyui.wait(prompt_id, within=600)
    frontend.page.wait_for_timeout(1000)
    seen = frontend.js(SEEN)
    assert any("of 30 · about" in line and "left" in line for line in seen["lines"]), seen["lines"]
    assert all(line.startswith("step ") and "in use" in line for line in seen["lines"])
    assert seen["previews"] and set(seen["previews"]) == {8}, "all frames of the clip"
    idle = frontend.page.locator(".videoldm-progress").all_inner_texts()
    assert set(idle) == {""}, "nothing runs any more"


def test_a_run_without_previews_still_shows_progress(frontend, comfyui):
    seed = {"classic": 21, "nodes_2": 22}[frontend.name]
    open_api(frontend, sampler_graph(seed=seed, **WATCHED))
    setting = "(value) => app.extensionManager.setting.set('Comfy.Execution.PreviewMethod', value)"
    frontend.js(setting, "none")
    frontend.js(WATCH)
    comfyui.wait(frontend.queue(), within=600)
    seen = frontend.js(SEEN)
    frontend.js(setting, "latent2rgb")
    assert seen["previews"] == [] and seen["lines"]


# Help pages and templates.


def test_the_help_page_of_a_node_is_shown(frontend):
    frontend.load(one_node("VideoLDM_LongHorizonSegments", [json.dumps(SEGMENTS)], [460, 520]))
    frontend.js("() => { app.canvas.selectItems([app.graph.nodes[0]]); }")
    frontend.page.get_by_test_id("info-button").click()
    page = frontend.page.locator(".node-help-content, [class*=help]").filter(has_text="timeline")
    page.first.wait_for()
    text = page.first.inner_text()
    assert "The timeline" in text and "Where tensors live" in text and "Shift+←" in text
    frontend.shot("help")


def test_every_node_s_help_is_found_in_both_languages(frontend):
    answers = frontend.js("""async (pack) => {
        const found = {};
        const ids = Object.keys(LiteGraph.registered_node_types);
        for (const id of ids.filter((one) => one.startsWith("VideoLDM_"))) {
            for (const path of [`${id}.md`, `${id}/fr.md`]) {
                const reply = await fetch(`/extensions/${pack}/docs/${path}`);
                found[path] = reply.ok && (await reply.text()).startsWith("# ");
            }
        }
        return found;
    }""", PACK)  # fmt: skip
    assert len(answers) >= 34 and all(answers.values()), answers


def test_templates_are_listed_with_their_thumbnails(frontend):
    frontend.js("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page = frontend.page
    page.get_by_test_id("template-workflows-content").wait_for()
    page.get_by_text(PACK, exact=True).first.click()
    names = sorted(file.stem for file in (ROOT / "workflows").glob("*.json"))
    show_all_cards(page, names)
    for name in names:
        page.get_by_test_id(f"template-workflow-{name}").scroll_into_view_if_needed()
        page.wait_for_function(
            "(id) => document.querySelector(`[data-testid='${id}'] img`)?.naturalWidth > 0",
            arg=f"template-workflow-{name}",
        )
    frontend.shot("templates")
    page.get_by_test_id(f"template-workflow-{names[-2]}").click()
    page.wait_for_function("() => app.graph.nodes.length > 5")


CARDS = """() => [...document.querySelectorAll("[data-testid^='template-workflow-']")]
    .map((one) => one.dataset.testid.replace("template-workflow-", ""))"""
SHOWN = f"""([names, count]) => {{ const shown = ({CARDS})();
    return shown.length > count && shown.every((one) => names.includes(one)); }}"""


def show_all_cards(page, names: list[str]) -> None:
    """Scroll down until the cards of exactly these templates are shown: the frontend loads 24 at a
    time."""
    page.wait_for_function(SHOWN, arg=[names, 0])
    while len(shown := page.evaluate(CARDS)) < len(names):
        page.get_by_test_id(f"template-workflow-{shown[-1]}").scroll_into_view_if_needed()
        page.mouse.wheel(0, 2000)
        page.wait_for_function(SHOWN, arg=[names, len(shown)])
    assert sorted(page.evaluate(CARDS)) == names


# Files as workflows.


@pytest.mark.parametrize("format", ["mp4", "webm"])
def test_a_saved_video_dropped_on_the_canvas_restores_the_graph(
    frontend, comfyui, format
):  # fmt: skip
    nodes = {
        "1": ("VideoLDM_LoadVideo", {"file": "rendered: shapes", "count": 4, "width": 32,
                                     "height": 32}),
        "2": ("VideoLDM_SaveVideo", {"images": ["1", 0], "format": format,
                                     "filename_prefix": f"video/dropped « {frontend.name} »"}),
    }  # fmt: skip
    open_api(frontend, {key: {"class_type": kind, "inputs": given}
                        for key, (kind, given) in nodes.items()})  # fmt: skip
    before = frontend.graph()
    history = comfyui.wait(frontend.queue(), within=600)
    (file,) = comfyui.files(history)
    assert file.suffix == f".{format}"
    frontend.js("() => app.graph.clear()")
    drop(frontend, file, f"video/{format}")
    frontend.page.wait_for_function("() => app.graph.nodes.length === 2")
    after = frontend.graph()
    for graph in (before, after):
        graph["nodes"].sort(key=lambda node: node["id"])
    for one, other in zip(before["nodes"], after["nodes"], strict=True):
        assert one["type"] == other["type"] and one["pos"] == other["pos"]
        assert one["widgets_values"] == other["widgets_values"]
    assert [link[1:5] for link in before["links"]] == [link[1:5] for link in after["links"]]


def drop(tab: Frontend, file, kind: str) -> None:
    """Drop a file on the canvas."""
    content = base64.b64encode(file.read_bytes()).decode()
    tab.js("""([content, name, type]) => {
        const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([bytes], name, { type }));
        const canvas = document.querySelector("#graph-canvas");
        const given = { dataTransfer, bubbles: true, cancelable: true, clientX: 700, clientY: 450 };
        for (const event of ["dragenter", "dragover", "drop"]) {
            canvas.dispatchEvent(new DragEvent(event, given));
        }
    }""", [content, file.name, kind])  # fmt: skip
