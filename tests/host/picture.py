"""Takes the README's picture of a template, as ComfyUI's frontend draws it.

python tests/host/picture.py            writes web/pictures/text_to_video_graph.jpg
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

sys.path.append(str(Path(__file__).resolve().parents[1]))

from browser import Frontend, chromium  # noqa: E402
from comfyui_server import ROOT, Server  # noqa: E402

NAME = "text_to_video"
WINDOW = {"width": 3000, "height": 1500}
WIDTH, MARGIN = 2140, 24
AREA = """() => {
    const boxes = [...app.graph.nodes, ...app.graph.groups].map((one) => one.boundingRect);
    const ends = [0, 1].map((k) => [
        Math.min(...boxes.map((box) => box[k])),
        Math.max(...boxes.map((box) => box[k] + box[k + 2])),
    ]);
    const at = (k) => app.canvas.ds.convertOffsetToCanvas([ends[0][k], ends[1][k]]);
    const { left, top } = app.canvas.canvas.getBoundingClientRect();
    return [at(0), at(1)].flatMap(([x, y]) => [x + left, y + top]);
}"""


def picture(server: Server) -> Image.Image:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport=WINDOW)
        page.set_default_timeout(120_000)
        tab = Frontend(server, page).open(LiteGraph__Canvas__MinFontSizeForLOD=0)
        tab.load(json.loads((ROOT / "workflows" / f"{NAME}.json").read_text()))
        page.wait_for_timeout(1000)
        left, top, right, bottom = tab.js(AREA)
        shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        browser.close()
    box = left - MARGIN, top - MARGIN, right + MARGIN, bottom + MARGIN
    return shot.crop(tuple(map(round, box)))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder)).start()
        try:
            taken = picture(server)
        finally:
            server.stop()
    height = round(taken.height * WIDTH / taken.width)
    target = ROOT / "web" / "pictures" / f"{NAME}_graph.jpg"
    taken.resize((WIDTH, height), Image.Resampling.LANCZOS).save(target, quality=88)
    print(target.relative_to(ROOT), taken.size)


if __name__ == "__main__":
    main()
