"""Toy nodes that count, write and fail, and workflows of them, for tests of the command line."""

from __future__ import annotations

import json
import os
import signal

from videoldm.nodes.host.standalone import host, io, ui
from videoldm.nodes.host.standalone.registry import build_registry

RAN: list[str] = []


class Count(io.ComfyNode):
    """Reports steps of progress; at step `signal_at` it sends a signal to its own process."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Toy_Count", display_name="Count Steps", category="toy", description="Counts.",
            inputs=[
                io.Int.Input("steps", default=4, min=1, max=100, tooltip="How many steps."),
                io.Int.Input("seed", default=0, min=0, max=99, control_after_generate=True),
                io.Int.Input("signal_at", default=-1, min=-1, max=100),
                io.Combo.Input("signal", options=["SIGINT", "SIGTERM"]),
            ],
            outputs=[io.Latent.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, steps, seed, signal_at, **inputs):
        RAN.append(f"count {steps} {seed}")
        for step in range(steps):
            if step == signal_at:
                os.kill(os.getpid(), getattr(signal, inputs["signal"]))
            host.progress(step + 1, steps)
        return io.NodeOutput((steps, seed))


class Write(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Toy_Write", display_name="Write", category="toy",
            inputs=[io.Latent.Input("latent"), io.String.Input("prefix", default="toy")],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(cls, latent, prefix):
        file = host.folders.new_file(prefix, ".txt")
        with file.writing() as partial:
            partial.write_text(str(latent))
        print("a library that talks on stdout")
        return io.NodeOutput(
            ui={"images": [ui.SavedResult(*host.folders.relative(file.path), io.FolderType.output)],
                "text": (f"wrote {latent}",)}
        )  # fmt: skip


class Fail(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Toy_Fail", display_name="Fail", is_output_node=True, category="toy",
            inputs=[io.Latent.Input("latent"), io.Combo.Input("how", options=list(FAULTS))],
            outputs=[io.Latent.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, latent, how):
        if how == "blocked":
            return io.NodeOutput(block_execution="there is nothing to do for 3 of 4 frames")
        raise FAULTS[how]


FAULTS = {
    "value": ValueError("7 frames do not fit 4 positions"),
    "file": FileNotFoundError(2, "No such file or directory"),
    "weights": ValueError("no weight file at x.safetensors"),
    "bug": KeyError("x"),
    "blocked": None,
}
REGISTRY = build_registry([Count, Write, Fail])


def count(**inputs) -> dict:
    given = {"steps": 4, "seed": 0, "signal_at": -1, "signal": "SIGINT", **inputs}
    return {"class_type": "Toy_Count", "inputs": given}


def write(prefix: str = "toy", source: str = "1") -> dict:
    return {"class_type": "Toy_Write", "inputs": {"latent": [source, 0], "prefix": prefix}}


def fail(how: str) -> dict:
    return {"class_type": "Toy_Fail", "inputs": {"latent": ["1", 0], "how": how}}


def workflow(path="w.json", **nodes) -> str:
    with open(path, "w") as file:
        json.dump({key.removeprefix("n"): node for key, node in nodes.items()}, file)
    return path


def objects(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]
