"""The command on ASCII-only terminals, with titles and file names in any language."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from PIL import Image

TITLES = "Bild ä 跑", "Sichern \x1b[31m\ud800"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "input").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "input" / "ä.png")
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "ä.png"},
              "_meta": {"title": TITLES[0]}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "ä"},
              "_meta": {"title": TITLES[1]}},
    }  # fmt: skip
    (tmp_path / "wörk.json").write_text(json.dumps(prompt), encoding="utf-8")
    (tmp_path / os.fsdecode(b"bad\xff.json")).write_text(json.dumps(prompt), encoding="utf-8")
    prompt["1"]["inputs"]["image"] = "跑.png"
    (tmp_path / "gone.json").write_text(json.dumps(prompt), encoding="utf-8")
    return tmp_path


def command(folder, *arguments: str, **environment: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-m", "videoldm.nodes.headless", *arguments], cwd=folder,
                          env={**os.environ, **environment}, capture_output=True)  # fmt: skip
    return done.returncode, (done.stdout + done.stderr).decode()


def test_an_ascii_terminal_gets_escapes(folder):
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    code, said = command(folder, "run", "wörk.json", **ascii_only)
    assert code == 0 and r"Bild \xe4 \u8dd1: done" in said and r"saved output/\xe4_00001_" in said
    assert r"Sichern \x1b[31m\ud800: done" in said and said.isascii() and "\x1b" not in said
    code, said = command(folder, "validate", "gone.json", **ascii_only)
    assert code == 3 and r'node 1 "Bild \xe4 \u8dd1" (LoadImage)' in said


def test_file_names_that_are_no_text_in_the_c_locale(folder):
    name = os.fsdecode(b"bad\xff.json")
    code, said = command(folder, "validate", name, "wörk.json", LC_ALL="C")
    assert code == 0 and r"bad\udcff.json: ok (2 nodes)" in said and ": ok (2 nodes)" in said
    code, said = command(folder, "nodes", "\x1b ä", LC_ALL="C")
    assert code == 2 and r'there is no node "\x1b' in said


def test_long_arguments_are_shortened(folder):
    code, said = command(folder, "run", "wörk.json", "--seed", "9" * 5000)
    assert code == 2 and len(said) < 450
