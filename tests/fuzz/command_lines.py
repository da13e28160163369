"""Command lines: settings, names, prefixes and paths that a user might type."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

from . import flows, values

PREFIXES = (
    "a", "a/b/c", "%year%-%month%/%date:yyyy-MM-dd_hh-mm-ss%", "%width%x%height%", "%", "%date:%",
    "../up", "a/../../up", "/elsewhere/x", "~/x", "a/", "/", ".", "..", "", " ", "a\\b", "..\\up",
    "C:/x", "x" * 250, "x" * 5000, "a/" * 200 + "b", "con.mp4", "a\tb", "\n", "\udcff", "é" * 120,
    "-rf", "%node.widget%", "%VideoLDM_LoadVideo.count%", "%9.x%", "a*b?c", "workflow.json",
)  # fmt: skip
PLACES = ("1.count", "1.file", "1.start", "2.filename_prefix", "2.format", "2.quality",
          "VideoLDM_LoadVideo.width", "Load Video (Video LDM).count", "9.count", "1", "", ".", "1.",
          ".count", "1.nothing", "1.count.more", "seed")  # fmt: skip
FILES = ("workflow.json", "none.json", "input", ".", "", "/dev/null", "/dev/zero", "pipe", "\udcff",
         "x" * 300, "input/../workflow.json", "link.json", "--", "-", "~")  # fmt: skip
COMMANDS = ("run", "validate", "nodes", "models", "convert", "evaluate", "train", "nothing", "")


def make(rng: Random, folder: Path) -> list[list[str]]:
    """A valid workflow, and a command line that may be invalid."""
    flows.written(flows.copy_clip(), folder / "workflow.json")
    os.mkfifo(folder / "pipe")
    (folder / "link.json").symlink_to("link.json")
    return [rng.choice((_set, _set, _prefix, _prefix, _files, _folders, _words))(rng)]


def _set(rng: Random) -> list[str]:
    settings = []
    for _ in range(rng.choice((1, 1, 3))):
        given = rng.choice((values.argument(rng), str(rng.choice(values.NUMBERS)), "3", "mp4"))
        settings += ["--set", rng.choice((f"{rng.choice(PLACES)}={given}", rng.choice(PLACES)))]
    return flows.run_command(rng, "workflow.json", *settings)


def _prefix(rng: Random) -> list[str]:
    form = rng.choice(("mp4", "gif", "png", "webm"))
    return flows.run_command(
        rng, "workflow.json", f"--set=2.filename_prefix={rng.choice(PREFIXES)}",
        f"--set=2.format={form}", *rng.choice(((), ("--contact-sheet",), ("--no-metadata",))),
    )  # fmt: skip


def _files(rng: Random) -> list[str]:
    command = rng.choice(("run", "validate", "convert"))
    files = [rng.choice(FILES) for _ in range(rng.choice((1, 1, 2)))]
    quiet = ["--quiet"] if command == "run" else []
    return [command, *quiet, *files]


def _folders(rng: Random) -> list[str]:
    folder = rng.choice(("none", "workflow.json", "", "pipe", "\udcff", "x" * 300, "a/b/c",
                         "output/../output"))  # fmt: skip
    option = rng.choice(("--input=", "--output=output/", "--models="))
    return flows.run_command(rng, "workflow.json", f"{option}{folder}")


def _words(rng: Random) -> list[str]:
    """Any words after a command, but never the name of a recipe, which would start a training."""
    options = "--json", "--quiet", "--seed", "--only", "--help"
    words = [rng.choice((values.argument(rng), rng.choice(options)))
             for _ in range(rng.choice((0, 1, 2)))]  # fmt: skip
    command = rng.choice(COMMANDS)
    words = ["embedded", "--only", *words] if command == "evaluate" and words else words
    return [command, *words]
