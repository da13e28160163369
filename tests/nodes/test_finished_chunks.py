"""What a stage reports about cached chunks, and about those that have to be recomputed."""

from __future__ import annotations

import shutil

import pytest
from kill.flows import flows, segmented
from PIL import Image
from videoldm.core.tasks.chunk_store import ChunkRequest
from videoldm.core.tasks.kept_runs import OUTPUTS
from videoldm.nodes.host.standalone.host import StandaloneHost
from videoldm.nodes.stages.shown import cache_summary

SEGMENTS = [("a red circle", 1), ("a blue square", 2), ("a red car", 3), ("a blue car", 4)]


def asked(text: str, level: str = "segment") -> list[ChunkRequest]:
    """Windows of 4 frames that overlap by 1, one per character: "x" was cached, "." was not."""
    return [ChunkRequest(range(3 * k, 3 * k + 4), level, one == "x") for k, one in enumerate(text)]


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ("....", ""),
        ("xx", "2 of 2 chunks were finished before: nothing was made again"),
        ("xx.x", "3 of 4 chunks were finished before; made again were frames 6 to 9"),
        ("xx...", "2 of 5 chunks were finished before; made again were frames 6 to 9, and 2 chunks "
         "behind them, to frame 15, that continue from what was made or have other prompts"),
    ],
)  # fmt: skip
def test_what_follows_from_a_chunk_that_is_made_again_is_said(found, sentence):
    assert cache_summary(asked(found), "segment") == sentence


def test_where_chunks_do_not_continue_each_other_nothing_follows():
    assert cache_summary(asked("x..x"), None) == (
        "2 of 4 chunks were finished before; the others were made"
    )


def test_a_run_says_what_depends_on_the_segment_that_was_changed(runs):
    runs(segmented(*SEGMENTS))
    assert runs.result["texts"] == {}
    runs(segmented(*SEGMENTS[:2], ("a red car", 5), SEGMENTS[3]))
    assert runs.result["texts"] == {"7": [
        "5 of 12 chunks were finished before; made again were frames 15 to 18, and 6 chunks behind "
        "them, to frame 36, that continue from what was made or have other prompts"
    ]}  # fmt: skip
    runs(segmented(*SEGMENTS))
    assert "nothing was made again" in runs.result["texts"]["7"][0]


def test_a_page_is_shown_the_windows_over_pictures_of_their_frames(runs, monkeypatch):
    seen = {}

    def pictures(host, model, latent, at):
        seen["at"] = list(at)
        return [Image.new("RGB", (4, 2), (k, 0, 0)) for k in at]

    monkeypatch.setattr(StandaloneHost, "shows_previews", True)
    monkeypatch.setattr(StandaloneHost, "thumbnails", pictures)
    from videoldm.nodes.stages import shown as module

    shown, show = [], module._shown
    monkeypatch.setattr(module, "_shown",
                        lambda *given: shown.append(show(*given)) or shown[-1])  # fmt: skip
    runs(flows()["prediction"])
    (told,) = shown[0]["videoldm_windows"]
    assert told["continued"] == "segment" and "text" not in shown[0]
    assert told["windows"][:2] == [[0, 3, 1, "segment", False], [3, 6, 1, "segment", False]]
    assert set(told["nodes"]) == {"1", "11", "12", "2", "21", "22", "3", "7"}
    assert told["nodes"]["2"] == {key: flows()["prediction"]["2"][key]
                                  for key in ("class_type", "inputs")}  # fmt: skip
    (plan,) = shown[0]["videoldm_plan"]
    assert (plan["frames"], plan["rows"], plan["together"]) == (19, 6 * 3, 4)
    assert seen["at"] == list(range(19)) and told["pictures"]["count"] == 19
    runs(flows()["prediction"])
    shutil.rmtree(runs.store / OUTPUTS)
    runs(flows()["prediction"])
    again = shown[1]["videoldm_windows"][0]["windows"]
    assert len(again) == len(told["windows"]) and all(one[4] for one in again)
