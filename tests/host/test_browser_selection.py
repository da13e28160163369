"""After a run, Load Video plays what it loaded, in both renderings."""

from __future__ import annotations

import pytest
from test_browser_nodes import open_api
from test_media import clip, load, prompt, save

PLAYED = """() => [...document.querySelectorAll('video')]
    .filter((one) => one.offsetParent !== null && one.readyState > 0 && one.src.includes(NAME))
    .map((one) => one.duration)"""


pytestmark = pytest.mark.usefixtures("no_errors")


def lasts(frontend, name: str, expected: float) -> list[float]:
    """Durations in seconds of the visible videos with this name, once the expected one is shown."""
    for _ in range(60):
        frontend.page.wait_for_timeout(250)
        found = [round(one, 2) for one in frontend.js(PLAYED.replace("NAME", f"'{name}'"))]
        if found == [expected]:
            break
    return found


def run(frontend, comfyui, **given) -> None:
    for name, value in given.items():
        frontend.set("VideoLDM_LoadVideo", name, value)
    comfyui.wait(frontend.queue(), within=120)


def test_a_part_is_played_after_the_run_and_the_whole_file_again_after_the_next(frontend, comfyui):
    clip(comfyui.base / "input" / "sound.mp4")
    open_api(frontend, prompt(n1=load(), n2=save("seen", video=["1", 5])))
    assert lasts(frontend, "sound.mp4", 4.0) == [4.0]
    run(frontend, comfyui, start_time=1.0, duration=2.0, ping_pong=True)
    assert lasts(frontend, "selection_", 3.5) == [3.5]
    frontend.fit()
    frontend.shot("selection")
    run(frontend, comfyui, start_time=0, duration=0, ping_pong=False)
    assert lasts(frontend, "sound.mp4", 4.0) == [4.0]
    run(frontend, comfyui, file="rendered: shapes", count=30)
    assert lasts(frontend, "selection_", 2.0) == [2.0]
