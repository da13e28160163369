"""Loading workflows: every form of JSON, images and videos that carry one, damaged files."""

from __future__ import annotations

import io
import json
import math
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from graph_toys import REGISTRY, full_api, node, ui
from PIL import Image, PngImagePlugin
from PIL.PngImagePlugin import PngInfo
from videoldm.core.graph import WorkflowError, graph_to_api, load_workflow, parse_workflow, to_ui
from videoldm.core.graph.json_text import read_json, write_json
from videoldm.core.media.writing import write_video as write_frames

PROMPT = full_api()
WORKFLOW = to_ui(PROMPT, REGISTRY)


def is_the_prompt(graph) -> bool:
    got = {key: (raw["class_type"], raw["inputs"]) for key, raw in graph_to_api(graph).items()}
    return got == {key: (raw["class_type"], raw["inputs"]) for key, raw in PROMPT.items()}


def picture() -> Image.Image:
    return Image.fromarray(np.zeros((16, 16, 3), np.uint8))


def write_video(path: Path, tags: dict[str, str], codec: str, **options) -> Path:
    with av.open(str(path), "w", **options) as container:
        container.metadata.update(tags)
        stream = container.add_stream(codec, rate=8)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(2):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("data", [
    PROMPT, {"prompt": PROMPT}, {"output": PROMPT}, WORKFLOW, {"workflow": WORKFLOW},
    {"prompt": PROMPT, "workflow": WORKFLOW}, {"prompt": PROMPT, "client_id": "x"},
])  # fmt: skip
def test_json_in_every_wrapping(tmp_path, data) -> None:
    path = tmp_path / "file.txt"
    path.write_text("\ufeff" + json.dumps(data), encoding="utf-8")
    assert is_the_prompt(load_workflow(path, REGISTRY))


def test_ids_written_as_numbers_are_links_and_pairs_of_numbers_are_not() -> None:
    prompt = {"1": {"class_type": "Int", "inputs": {"value": 1}},
              "2": {"class_type": "Any", "inputs": {"value": [1, 0]}},
              "3": {"class_type": "Any", "inputs": {"value": [512, 0]}}}  # fmt: skip
    graph = parse_workflow(prompt, REGISTRY)
    assert graph.nodes["2"].inputs["value"] == ("1", 0)
    assert graph.nodes["3"].inputs["value"] == [512, 0]


def test_what_the_frontend_adds_for_its_own_widgets_is_no_input() -> None:
    exported = {
        key: raw | {"inputs": raw["inputs"] | {"$$comfy_animation_preview": ""}}
        for key, raw in PROMPT.items()
    }
    assert is_the_prompt(parse_workflow(exported, REGISTRY))


def test_wrapped_arrays_survive_the_round_trip() -> None:
    prompt = {"1": {"class_type": "Points", "inputs": {"points": {"__value__": ["a", 1]}}}}
    graph = parse_workflow(prompt, REGISTRY)
    assert graph.nodes["1"].inputs["points"] == ["a", 1] and not graph.nodes["1"].links
    assert graph_to_api(graph) == prompt


@pytest.mark.parametrize("chunk", ["text", "compressed", "international"])
def test_png_text_of_every_kind(tmp_path, chunk) -> None:
    info = PngInfo()
    add = info.add_itxt if chunk == "international" else info.add_text
    for key, value in (("workflow", WORKFLOW), ("prompt", PROMPT)):
        add(key, json.dumps(value), **({"zip": True} if chunk == "compressed" else {}))
    picture().save(tmp_path / "file.json", "PNG", pnginfo=info)
    graph = load_workflow(tmp_path / "file.json", REGISTRY)
    assert is_the_prompt(graph) and graph.workflow == WORKFLOW


@pytest.mark.parametrize("form", ["WEBP", "JPEG"])
def test_exif_of_webp_and_jpeg(tmp_path, form) -> None:
    exif = Image.Exif()
    exif[0x0110] = f"prompt:{json.dumps(PROMPT)}"
    exif[0x010F] = f"workflow:{json.dumps(WORKFLOW)}"
    picture().save(tmp_path / "x.png", form, exif=exif)
    graph = load_workflow(tmp_path / "x.png", REGISTRY)
    assert is_the_prompt(graph) and graph.workflow == WORKFLOW


@pytest.mark.parametrize(("name", "codec", "options"), [
    ("a.mp4", "mpeg4", {"options": {"movflags": "use_metadata_tags+faststart"}}),
    ("a.mov", "mpeg4", {"options": {"movflags": "use_metadata_tags"}}),
    ("a.webm", "libvpx-vp9", {}),
])  # fmt: skip
def test_tags_of_videos(tmp_path, name, codec, options) -> None:
    tags = {"prompt": json.dumps(PROMPT), "workflow": json.dumps(WORKFLOW)}
    path = write_video(tmp_path / name, tags, codec, **options)
    path = path.rename(tmp_path / "renamed.json")
    graph = load_workflow(path, REGISTRY)
    assert is_the_prompt(graph) and graph.workflow == WORKFLOW


def test_the_comment_that_videohelpersuite_writes(tmp_path) -> None:
    comment = json.dumps({"prompt": json.dumps(PROMPT), "workflow": WORKFLOW})
    path = write_video(tmp_path / "a.mp4", {"comment": comment}, "mpeg4")
    assert is_the_prompt(load_workflow(path, REGISTRY))


def test_the_prompt_stands_in_when_the_workflow_needs_unknown_nodes() -> None:
    strange = ui([node(1, "Gone", properties={"Node name for S&R": "Gone"})], [])
    graph = parse_workflow({"workflow": strange, "prompt": PROMPT}, REGISTRY)
    assert is_the_prompt(graph) and graph.workflow == strange
    damaged = {"nodes": [{}]}
    assert is_the_prompt(parse_workflow({"workflow": damaged, "prompt": PROMPT}, REGISTRY))
    other = {"1": {"class_type": "AlsoGone", "inputs": {}}}
    kept = parse_workflow({"workflow": strange, "prompt": other}, REGISTRY)
    assert kept.nodes["1"].class_type == "Gone"


def test_a_picture_cut_off_behind_its_text_still_gives_the_workflow(tmp_path) -> None:
    info = PngInfo()
    info.add_text("workflow", json.dumps(WORKFLOW))
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png", pnginfo=info)
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[:-4000])
    assert is_the_prompt(load_workflow(tmp_path / "a.png", REGISTRY))


def refusal(path: Path) -> str:
    with pytest.raises(WorkflowError) as caught:
        load_workflow(path, REGISTRY)
    message = str(caught.value)
    assert path.name in message and "\n" not in message
    return message


@pytest.mark.parametrize(("content", "message"), [
    (b"", "is empty"),
    (b"{\"1\": {\"class_type\"", "is not valid JSON: .* at line 1 column"),
    (b"\x00\x01\xff\xfe", "is neither JSON nor a PNG"),
    (b"[1, 2]", "is not a workflow, expected .*, given a list"),
    (b"{\"a\": 1}", "given an object with 'a'"),
    (b"{\"nodes\": [], \"links\": []}", "has 0 nodes that run"),
    (b"\x89PNG\r\n\x1a\n" + b"x" * 40, "cannot be read as image"),
    (b"\x00\x00\x00\x18ftypmp42" + b"x" * 40, "cannot be read as video"),
    (b"\x1aE\xdf\xa3" + b"x" * 40, "cannot be read as video"),
    (b"[" * 100000, "nested too deeply|not valid JSON"),
])  # fmt: skip
def test_damaged_files_are_refused_in_one_sentence(tmp_path, content, message) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    import re

    assert re.search(message, refusal(path)), refusal(path)


def test_files_that_are_missing_or_carry_nothing(tmp_path) -> None:
    assert "cannot be read (no such file" in refusal(tmp_path / "none.json")
    assert "cannot be read (is a directory" in refusal(tmp_path)
    picture().save(tmp_path / "a.png")
    assert "carries no workflow" in refusal(tmp_path / "a.png")
    info = PngInfo()
    info.add_text("workflow", "{broken")
    picture().save(tmp_path / "b.png", pnginfo=info)
    assert 'the "workflow" in' in refusal(tmp_path / "b.png")


@pytest.mark.parametrize(("prompt", "message"), [
    ({"1": {"class_type": 3}, "2": {"class_type": "Int"}}, 'node 1 has no "class_type"'),
    ({"1": {"class_type": "Int", "inputs": []}}, 'node 1 .* "inputs" that is a list, expected'),
    ({"1": {"class_type": "Int"}, "2": 5}, 'node 2 has no "class_type"'),
])  # fmt: skip
def test_malformed_prompts_name_the_node(prompt, message) -> None:
    with pytest.raises(WorkflowError, match=message):
        parse_workflow(prompt, REGISTRY)


@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_pipes_and_devices_are_refused_without_waiting_for_them(tmp_path, kind) -> None:
    path = tmp_path / "pipe" if kind == "fifo" else Path("/dev/zero")
    if kind == "fifo":
        os.mkfifo(path)
    assert "a pipe or a device, not a file" in refusal(path)


# Texts that other programs write, and our own.


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(*chunks: bytes, behind: bool = False) -> bytes:
    """Return a PNG with chunks before or behind its pixels."""
    file = io.BytesIO()
    picture().save(file, "PNG")
    head, pixels, end = file.getvalue()[:33], file.getvalue()[33:-12], file.getvalue()[-12:]
    parts = [head, pixels, *chunks, end] if behind else [head, *chunks, pixels, end]
    return b"".join(parts)


def text_of(data: object) -> bytes:
    return json.dumps(data).encode()


@pytest.mark.parametrize("behind", [True, False])
def test_the_private_chunk_of_animated_pngs(tmp_path, behind) -> None:
    chunks = [chunk(b"comf", key + b"\0" + text_of(data))
              for key, data in ((b"prompt", PROMPT), (b"workflow", WORKFLOW))]  # fmt: skip
    (tmp_path / "a.png").write_bytes(png_with(*chunks, behind=behind))
    graph = load_workflow(tmp_path / "a.png", REGISTRY)
    assert is_the_prompt(graph) and graph.workflow == WORKFLOW


def test_text_in_other_encodings_than_the_standard_s(tmp_path) -> None:
    titled = {key: raw | {"_meta": {"title": "Läufer 跑"}} for key, raw in PROMPT.items()}
    text = json.dumps(titled, ensure_ascii=False)
    (tmp_path / "a.png").write_bytes(png_with(chunk(b"tEXt", b"prompt\0" + text.encode())))
    assert load_workflow(tmp_path / "a.png", REGISTRY).nodes["1"].title == "Läufer 跑"
    latin = text.replace("跑", "").encode("latin-1")
    (tmp_path / "b.png").write_bytes(png_with(chunk(b"tEXt", b"prompt\0" + latin)))
    assert load_workflow(tmp_path / "b.png", REGISTRY).nodes["1"].title == "Läufer "


def test_large_compressed_texts_are_read_and_pillow_s_limits_left_alone(tmp_path) -> None:
    limits = PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
    large = {**WORKFLOW, "extra": {"note": "x" * 6_000_000}}
    packed = b"workflow\0\0" + zlib.compress(text_of(large))
    (tmp_path / "a.png").write_bytes(png_with(chunk(b"zTXt", packed), behind=True))
    assert is_the_prompt(load_workflow(tmp_path / "a.png", REGISTRY))
    assert limits == (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY)


def test_a_text_that_unpacks_without_end_is_not_unpacked(tmp_path) -> None:
    bomb = zlib.compress(b" " * 200_000_000, 9)
    (tmp_path / "a.png").write_bytes(png_with(chunk(b"zTXt", b"workflow\0\0" + bomb)))
    begun = time.process_time()
    assert "carries no workflow" in refusal(tmp_path / "a.png")
    assert time.process_time() - begun < 2


def test_a_workflow_in_a_picture_of_any_size_is_read_without_its_pixels(tmp_path) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    parts = [b"\x89PNG\r\n\x1a\n", header, chunk(b"tEXt", b"prompt\0" + text_of(PROMPT)),
             chunk(b"IDAT", zlib.compress(bytes(1000))), chunk(b"IEND", b"")]  # fmt: skip
    (tmp_path / "a.png").write_bytes(b"".join(parts))
    assert is_the_prompt(load_workflow(tmp_path / "a.png", REGISTRY))


@pytest.mark.parametrize("damage", [
    chunk(b"zTXt", b"workflow\0\0no zlib"), chunk(b"zTXt", b"workflow\0\7x"),
    chunk(b"iTXt", b"workflow\0\1"), chunk(b"iTXt", b"workflow\0\1\0\0\0x"),
    chunk(b"tEXt", b"workflow"), struct.pack(">I", 2**31 - 1) + b"tEXtworkflow\0{}",
])  # fmt: skip
def test_damaged_texts_are_passed_over(tmp_path, damage) -> None:
    (tmp_path / "a.png").write_bytes(png_with(damage))
    assert "carries no workflow" in refusal(tmp_path / "a.png")


@pytest.mark.parametrize("other", [b"a cat on a mat", b"", b"[" * 100_000, b'"words"', b"{}", b"5"])
def test_of_two_keys_the_one_that_is_a_workflow_wins(tmp_path, other) -> None:
    for good, bad, data in ((b"workflow", b"prompt", WORKFLOW), (b"prompt", b"workflow", PROMPT)):
        chunks = [chunk(b"tEXt", bad + b"\0" + other), chunk(b"tEXt", good + b"\0" + text_of(data))]
        (tmp_path / "a.png").write_bytes(png_with(*chunks))
        assert is_the_prompt(load_workflow(tmp_path / "a.png", REGISTRY))


def test_our_own_gifs(tmp_path) -> None:
    texts = {"workflow": json.dumps(WORKFLOW), "prompt": json.dumps(PROMPT)}
    frames = torch.linspace(-1, 1, 2).view(2, 1, 1, 1).expand(2, 3, 16, 16)
    write_frames(tmp_path / "a.gif", [frames], frame_rate=8, metadata=texts)
    graph = load_workflow(tmp_path / "a.gif", REGISTRY)
    assert is_the_prompt(graph) and graph.workflow == WORKFLOW


# NaN and infinity, and JSON that is too large.


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_have_are_read_as_null(tmp_path, number) -> None:
    text = json.dumps({**PROMPT, "5": {**PROMPT["5"], "is_changed": "#"}}).replace('"#"', number)
    (tmp_path / "a.json").write_text(text)
    assert is_the_prompt(load_workflow(tmp_path / "a.json", REGISTRY))
    wired = json.dumps(PROMPT).replace('["1", 0]', f'["1", {number}]')
    (tmp_path / "b.json").write_text(wired)
    with pytest.raises(WorkflowError, match='input "model" is wired to output null of node 1'):
        load_workflow(tmp_path / "b.json", REGISTRY)


@pytest.mark.parametrize("value", [
    math.nan, [math.inf, 1.5], {"a": {"b": (-math.inf, "x", True, None, 3)}}, np.float64("nan"),
])  # fmt: skip
def test_numbers_that_json_does_not_have_are_written_as_null(value) -> None:
    text = write_json(value)
    assert "NaN" not in text and "Infinity" not in text and "null" in text
    assert read_json(json.dumps(value)) == json.loads(text)


@pytest.mark.parametrize(("text", "message"), [
    ("1" * 5000, "a number of 5000 digits"),
    ('{"a":' * 200 + "1" + "}" * 200, "nested too deeply, more than 100 levels"),
    ("[" + "1," * 4_500_000, "is too large, at most 8,000,000 bytes"),
])  # fmt: skip
def test_json_beyond_all_measure(tmp_path, text, message) -> None:
    (tmp_path / "a.json").write_text(text)
    assert message in refusal(tmp_path / "a.json")


def test_the_engine_does_not_import_torch() -> None:
    code = "import sys, videoldm.core.graph; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "av", "PIL", "numpy"} & set(done.stdout.split())
