"""Help pages and locales are whole; the scripts compute what the nodes compute."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from videoldm.core.families.embedded import loading as embedded
from videoldm.core.tasks.interpolation import interpolated_frames
from videoldm.core.tasks.long_video import key_frames
from videoldm.core.tasks.window_schedules import WindowLayout
from videoldm.core.tasks.windows import FUSE_WEIGHTS, prediction_chunks, sliding_windows
from videoldm.nodes.boxes import EXAMPLE as BOXES
from videoldm.nodes.choices import FUSES, STRATEGIES, WINDOW_SCHEDULES
from videoldm.nodes.host.shared.setup_warnings import LayersKnown, SamplerSetup
from videoldm.nodes.host.shared.working_memory import NETWORKS, working_memory
from videoldm.nodes.sample import VideoSampler
from videoldm.nodes.segments import EXAMPLE
from videoldm.nodes.stages.prompt_travel import Clock
from videoldm.nodes.stages.texts import read_boxes, read_segments

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import help_pages  # noqa: E402

WEB = HERE.parent / "web"
SCHEMAS = help_pages.schemas()


def by_id(schema) -> str:
    return schema.node_id


# Help pages and locales.


@pytest.mark.parametrize("language", help_pages.LANGUAGES)
@pytest.mark.parametrize("schema", SCHEMAS, ids=by_id)
def test_every_node_has_a_help_page_whose_table_is_up_to_date(schema, language):
    path = help_pages.help_path(schema.node_id, language)
    assert path.is_file(), f"write {path}, then run python tests/help_pages.py"
    page = path.read_text("utf-8")
    title = help_pages.read_locale(language)[schema.node_id]["display_name"]
    assert page.startswith(f"# {title}\n")
    assert page.count("\n## ") >= 3, "inputs, an example, and where tensors live"
    assert page == help_pages.with_table(page, schema, language), "run python tests/help_pages.py"


def test_the_english_locale_is_what_the_schemas_say():
    assert help_pages.read_locale("en") == help_pages.english(), "run python tests/help_pages.py"


@pytest.mark.parametrize("language", help_pages.LANGUAGES[1:])
def test_other_locales_have_every_text(language):
    assert help_pages.keys(help_pages.read_locale(language)) == help_pages.keys(
        help_pages.english()
    )
    ours, english = (help_pages.read_locale(one, "main")["videoldm"] for one in (language, "en"))
    assert list(ours) == list(english)
    for key, text in english.items():
        assert set(re.findall(r"\[\w+\]", ours[key])) == set(re.findall(r"\[\w+\]", text)), key


def test_the_scripts_say_only_what_the_locales_know():
    texts = help_pages.read_locale("en", "main")["videoldm"]
    source = "".join(path.read_text("utf-8") for path in WEB.glob("*.js"))
    said = set(re.findall(r"say\(\"(\w+)\"", source)) | set(re.findall(r"\[\"(\w+)\", {", source))
    assert said - {"name"} <= set(texts)
    assert len(said) > 15


# What newer frontends ask of scripts.

SCRIPTS = {path.name: path.read_text("utf-8") for path in WEB.glob("*.js")}


def test_a_node_may_be_without_widgets():
    """`node.widgets` is undefined until a node has some."""
    for name, script in SCRIPTS.items():
        for line in script.splitlines():
            assert not re.search(r"\.widgets(?!\?\.| \?\?|\w)", line), f"{name}: {line.strip()}"


def test_widgets_of_scripts_are_no_namesakes_of_inputs():
    """Values are kept by a widget's name, which has to be unique in its node."""
    own = [name for script in SCRIPTS.values() for name in re.findall(
        r"""addStillWidget\([\w.]+, "(\w+)"|title: "(\w+)\"""", script)]  # fmt: skip
    own = ["".join(pair) for pair in own]
    inputs = {one.id for schema in SCHEMAS for one in schema.inputs}
    assert sorted(own) == ["drawing", "note", "picture", "selection", "status", "timeline"]
    assert inputs.isdisjoint(own)


# The scripts, run by Node.


@pytest.fixture(scope="module")
def javascript():
    """javascript(module, expression) evaluates an expression with a module's exports as `m`."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node to run the scripts with")

    def run(module: str, expression: str):
        code = f"import * as m from {json.dumps((WEB / module).as_uri())};"
        code += f"process.stdout.write(JSON.stringify({expression}));"
        command = [node, "--input-type=module", "--no-warnings", "-e", code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


TEXTS = [
    EXAMPLE, "", "[]", "{}", "[1]", "[null]", "[{", '"text"',
    '[{"prompt": "a", "frames": 4}]',
    '[{"prompt": "a", "frames": 4, "overlap": 9}]',
    '[{"prompt": "a", "frames": 4.0, "seed": null}]',
    '[{"prompt": "a", "frames": 4.5}]', '[{"prompt": "a", "frames": "4"}]',
    '[{"prompt": "a", "frames": true}]', '[{"prompt": 1, "frames": 4}]',
    '[{"prompt": "a"}]', '[{"frames": 4}]', '[{"prompt": "a", "frames": 0}]',
    '[{"prompt": "a", "frames": 4, "length": 2}]',
    '[{"prompt": "a", "frames": 4}, {"prompt": "b", "frames": 9, "overlap": 3}]',
    '[{"prompt": "a", "frames": 4}, {"prompt": "b", "frames": 9, "overlap": 4}]',
    '[{"prompt": "a", "frames": 4}, {"prompt": "b", "frames": 3, "overlap": 3}]',
    '[{"prompt": "a", "frames": 4}, {"prompt": "b", "frames": 3, "overlap": -1}]',
    '[{"prompt": "a", "frames": "2s"}, {"prompt": "b", "frames": "50%", "overlap": "0.2s"}]',
    '[{"prompt": "a", "frames": "2"}]', '[{"prompt": "a", "frames": "-2s"}]',
    '"0": "a", "16": "b"', '0 = "a", 16="b",', '{"0": "a", "-1": "b"}', '"0.5": "a", "1.0": "b"',
    '"0": "say \\"hi\\",\nyou", "12%": "back\\\\slash"', '"0:": "a", "8": "b", "9:12": "a"',
    '"16": "b", "1.5s": "a"', '"0:8": "a", "8:24": "b"', '"4:4": "a"', '"0": "a" "1": "b"',
    '"x": "a"',
    '"99": "a"', '"-99": "a"', '"1.5": "a"', '"0": "a", "0:4": "b"', '"0": a', '{}', '0.3 = "a"',
    '"200000": "a"', '"0": "a", "4": "a", "8": "b"', '"7.5%": "a", "0.29": "b"', '"8:": "a"',
]  # fmt: skip


def test_the_timeline_reads_what_the_node_reads(javascript):
    given = [(text, clock) for text in TEXTS for clock in (Clock(), Clock(frames=24, rate=8.0))]
    calls = [(text, vars(clock)) for text, clock in given]
    answers = javascript("timeline.js", f"{json.dumps(calls)}.map((one) => m.readSegments(...one))")
    assert sum("value" in one for one in answers) > 20
    for (text, clock), answer in zip(given, answers, strict=True):
        try:
            expected = [vars(one) for one in read_segments(text, clock)]
        except ValueError:
            assert "problem" in answer, text
            continue
        found = [{"seed": None, **one} for one in answer["value"]]
        assert found == expected, text


def test_one_frame_is_one_frame_in_every_language(javascript):
    texts = [text for language in help_pages.LANGUAGES
             for text in help_pages.read_locale(language, "main")["videoldm"].values()]  # fmt: skip
    names = sorted(set(re.findall(r"\[(\w+)\]", " ".join(texts))))
    said = {}
    for number in (1, 2):
        values = json.dumps(dict.fromkeys(names, number))
        said[number] = javascript(
            "wording.js", f"{json.dumps(texts)}.map((one) => m.filled(one, {values}))"
        )
    wrong = r"(?<![\d.])1 (frames|segments|windows|views|images|fenêtres|vues)\b"
    assert [one for one in said[1] if re.search(wrong, one)] == []
    assert "1 segment · 1 frame" in said[1] and "2 segments · 2 frames" in said[2]
    assert not any(re.search(r"\[[a-z]\w*\]", one) for one in said[1] + said[2])
    answers = javascript(
        "wording.js",
        """[
        m.filled("[frames] frames", { frames: "1" }), m.filled("[a] is [b]", { a: 0 }),
        m.filled("Segment [segment] needs 1", { segment: 1 })]""",
    )
    assert answers == ["1 frame", "0 is [b]", "Segment 1 needs 1"]


BOX = {"label": "red car", "x0": 0.1, "y0": 0.2, "x1": 0.5, "y1": 1}
BOX_TEXTS = [
    BOXES, "", "[]", "{}", "[1]", "[null]", "[{",
    *(json.dumps([BOX, BOX | changed]) for changed in (
        {}, {"label": ""}, {"label": 3}, {"label": None}, {"x0": 0.5}, {"x0": -0.1}, {"y1": 1.5},
        {"y1": "1"}, {"x0": None}, {"x0": True}, {"color": "red"}, {"color": None},
    )),
]  # fmt: skip


def test_the_drawn_boxes_are_those_that_the_node_reads(javascript):
    answers = javascript("boxes.js", f"{json.dumps(BOX_TEXTS)}.map((one) => m.readBoxes(one))")
    for text, answer in zip(BOX_TEXTS, answers, strict=True):
        try:
            expected = [vars(one) for one in read_boxes(text)]
        except ValueError:
            assert "problem" in answer, text
            continue
        assert answer["value"] == expected, text


def test_edited_boxes_stay_inside_the_picture_and_in_order(javascript):
    corners = [[0.3, 0.3, 0.3, 0.3], [1.4, 0.9, -2, -0.5], [0.999, 0.999, 1, 1], [0.7, 0, 0.2, 1]]
    steps = [[0, 0], [2, -2], [-0.05, 0.333], [-3, 3]]
    found = javascript(
        "boxes.js",
        f"""{json.dumps(corners)}.flatMap(([a, b, c, d]) => {{
            const box = m.span("car", [a, b], [c, d]);
            return [box, ...{json.dumps(steps)}.flatMap(([x, y]) => [
                m.moved(box, x, y), m.resized(box, x, y)])];
        }}).map((box) => m.writeBoxes([box]))""",
    )
    boxes = [read_boxes(text)[0] for text in found]
    assert len(boxes) == 36 and {box.label for box in boxes} == {"car"}
    before, moved = boxes[27], boxes[32]
    assert (before.x0, before.x1) == (0.2, 0.7)
    assert (moved.x0, moved.x1) == (0.15, 0.65), "moving keeps the size"


EDITS = {
    "add": "m.insertAfter(all, at)",
    "remove": "m.remove(all, at)",
    "split": "m.split(all, at)",
    "split early": "m.split(all, at, 1)",
    "earlier": "m.move(all, at, at - 1)",
    "later": "m.move(all, at, at + 1)",
    "shorten": "m.resize(all, at, 1)",
    "lengthen": "m.resize(all, at, all[at].frames + 5.4)",
    "overlap": "m.change(all, at, 'overlap', 99)",
    "prompt": "m.change(all, at, 'prompt', 'say \\\"hello\\\"')",
    "seed": "m.change(all, at, 'seed', 7)",
}
LISTS = [
    [("a", 32, 0)],
    [("a", 32, 0), ("b", 32, 8)],
    [("a", 5, 0), ("b", 9, 4), ("c", 2, 1), ("d", 1, 0)],
]


@pytest.mark.parametrize("edit", EDITS)
def test_every_edit_leaves_segments_that_the_node_takes(javascript, edit):
    given = [[dict(zip(("prompt", "frames", "overlap"), one, strict=True)) for one in segments]
             for segments in LISTS]  # fmt: skip
    places = [(all, at) for all in given for at in range(len(all))]
    function = f"([all, at]) => m.writeSegments({EDITS[edit]})"
    written = javascript("timeline.js", f"{json.dumps(places)}.map({function})")
    for (all, at), text in zip(places, written, strict=True):
        after = read_segments(text)
        change = {"add": 1, "remove": -1}.get(edit, 0)
        if edit.startswith("split"):
            assert total(after) == total_of(all)
        elif len(all) > 1 or edit != "remove":
            assert len(after) == len(all) + change
        if edit == "prompt":
            assert after[at].prompt == 'say "hello"'
        if edit == "seed":
            assert after[at].seed == 7


def total(segments) -> int:
    return sum(one.frames - one.overlap for one in segments)


def total_of(given) -> int:
    return sum(one["frames"] - one["overlap"] for one in given)


def test_estimates_count_as_the_tasks_do(javascript):
    settings = [dict(frames=frames, window=window, overlap=overlap, context_frames=overlap or 1,
                     passes=passes)
                for frames in (2, 16, 17, 61, 240) for window in (8, 16) for overlap in (0, 4)
                for passes in (1, 2)]  # fmt: skip
    strategies = json.dumps(STRATEGIES)
    each = f"{strategies}.map((strategy) => m.samplerSegments({{ ...one, strategy }}))"
    found = javascript("estimate.js", f"{json.dumps(settings)}.map((one) => {each})")
    for one, clips in zip(settings, found, strict=True):
        frames, window, context = one["frames"], one["window"], one["context_frames"]
        keys = key_frames(frames, one["passes"])
        between = [-(-(interpolated_frames(keys, k) - 1) // 4) for k in range(one["passes"])]
        assert clips == [
            1,
            1,
            len(sliding_windows(frames, window, one["overlap"])),
            len(prediction_chunks(frames, window, context)),
            len(prediction_chunks(keys, window, context)) + sum(max(n, 1) for n in between),
            1,
        ], one


WINDOWINGS = [
    dict(window_schedule=schedule, frames=frames, window=window, overlap=overlap, strides=strides,
         step=step)
    for schedule in WINDOW_SCHEDULES
    for frames in (1, 2, 15, 16, 17, 25, 48, 61, 100) for window, overlap in ((8, 0), (16, 4))
    for strides in (1, 3) for step in (0, 1, 2, 5)
]  # fmt: skip


def laid(one: dict) -> WindowLayout:
    names = {"window": "window", "overlap": "overlap", "strides": "strides",
             "schedule": "window_schedule"}  # fmt: skip
    return WindowLayout(**{name: one[key] for name, key in names.items()})


def test_the_browser_draws_the_windows_that_are_sampled(javascript):
    found = javascript("windows.js", f"{json.dumps(WINDOWINGS)}.map(m.windowsAt)")
    for one, windows in zip(WINDOWINGS, found, strict=True):
        wanted = laid(one).windows(one["frames"], one["step"])
        assert [tuple(window) for window in windows] == wanted, one
    broken = [dict(frames=8, window=4, overlap=4), dict(frames=0, window=4, overlap=0), {}]
    assert javascript("windows.js", f"{json.dumps(broken)}.map(m.windowsAt)") == [[], [], []]


@pytest.mark.parametrize("fuse", FUSES)
def test_the_browser_draws_the_weights_that_windows_have(javascript, fuse):
    for window, frames, overlap in (
        (range(0, 16), 48, 4), (range(12, 28), 48, 4), (range(32, 48), 48, 4), (range(7), 7, 6),
        (range(5, 9), 20, 1), ([18, 19, 0, 1, 2], 20, 2),
    ):  # fmt: skip
        given = json.dumps([list(window), frames, overlap, fuse])
        wanted = FUSE_WEIGHTS[fuse](tuple(window), frames, overlap)
        found = javascript("windows.js", f"m.weightsOf(...{given})")
        assert found == pytest.approx((wanted / wanted.max()).tolist(), abs=1e-6)


def memory(network: str, settings: str) -> str:
    """An expression of the estimate, with the numbers that the browser is served."""
    table = {one.id: one for one in VideoSampler.define_schema().inputs}["model"].extra_dict
    served = json.dumps(table["videoldm_networks"])
    return f"(m.useNetworks({served}), m.workingMemory({json.dumps(network)}, {settings}))"


def test_the_browser_and_the_runner_estimate_the_same_memory(javascript):
    assert javascript("estimate.js", "m.workingMemory('small', {})") == 0, "no numbers yet"
    for network in NETWORKS:
        cases = [dict(frames=frames, width=width, height=height, cfg=cfg)
                 for frames in (1, 16, 100_000)
                 for width, height in ((64, 64), (515, 320), (8192, 8))
                 for cfg in (1.0, 3.0)]  # fmt: skip
        found = javascript("estimate.js", f"{json.dumps(cases)}.map((one) => "
                           f"{memory(network, 'one')})")  # fmt: skip
        assert found == [working_memory(network, **one) for one in cases]


def test_the_browser_and_the_runner_count_the_same_frames_together(javascript):
    cases = [dict(strategy=strategy, frames=frames, window=window)
             for strategy in STRATEGIES
             for frames in (2, 16, 240) for window in (8, 64)]  # fmt: skip
    more = {"strategy": "video to video", "windows": "sliding windows", "window": 16}
    cases += [{**more, "frames": 8}, {**more, "frames": 64},
              {**more, "frames": 64, "window_schedule": "views"}]  # fmt: skip
    found = javascript("estimate.js", f"{json.dumps(cases)}.map(m.framesTogether)")
    inside = [one.pop("window_schedule", "") == "views" for one in cases]
    setups = [SamplerSetup(model=LayersKnown(), views=views, **one)
              for one, views in zip(cases, inside, strict=True)]  # fmt: skip
    assert found == [one.most_together for one in setups]


def test_figures_read_as_people_say_them(javascript):
    times = "[0.3, 9.96, 59, 61, 200, 3600, 7530].map(m.duration)"
    assert javascript("progress.js", times) == [
        "0.3 s", "10 s", "59 s", "1 min 1 s", "3 min 20 s", "1 h", "2 h 6 min",
    ]  # fmt: skip
    assert javascript("progress.js", "[2e5, 4.7e7, 3.44e9].map(m.bytes)") == [
        "1 MB", "47 MB", "3.4 GB",
    ]  # fmt: skip


MEASURE = """
import re, torch
from videoldm.core.networks.temporal_layers import Strength
from videoldm.nodes.host.standalone import host
from videoldm.nodes.stages.sampling import Settings, VideoRequest, sample_video
from videoldm.nodes.stages.strategy import read_strategy

def read(key):
    status = open("/proc/self/status").read()
    return int(re.search(key + r":\\s+(\\d+)", status)[1]) * 1024

def sample(frames, size):
    request = VideoRequest(
        width=size, height=size, frames=frames, cfg=1.0, guidance_rescale=0.0,
        strategy=read_strategy({"strategy": "single clip"}),
    )
    settings = Settings(steps=1, sampler_name="euler", schedule="trailing", seed=1)
    sample_video(host, model, (text, text), request, settings)

torch.set_num_threads(1)
model, clip, _ = host.load_image_model("embedded")
layers = host.load_temporal_layers("embedded: text to video")
model, text = host.inject(model, layers, Strength()), host.encode_text(clip, "a red circle")
sample(2, 32)
open("/proc/self/clear_refs", "w").write("5")  # Forgets the highest use so far.
before = read("VmRSS")
sample(16, 64)
print(read("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells")
def test_the_memory_estimate_is_near_what_is_measured(javascript):
    """Of the embedded model on a processor, within a factor of two; the text says "about"."""
    if not all(embedded.path_of(one).exists() for one in ("image_model", "text_to_video")):
        pytest.skip("the embedded weights are not there")
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    measured = int(done.stdout.split()[-1])
    settings = "{frames: 16, width: 64, height: 64, cfg: 1}"
    estimated = javascript("estimate.js", memory("small", settings))
    print(f"measured {measured / 1e6:.1f} MB, estimated {estimated / 1e6:.1f} MB")
    assert 0.5 < estimated / measured < 2
    assert javascript("estimate.js", memory("small", f"{settings[:-2]}3}}")) == (2 * estimated), (
        "guidance evaluates two prompts"
    )
