"""Queueing and cancelling over and over leaves nothing behind."""

from __future__ import annotations

import random
import time

import pytest
import torch
from node_inputs import strategy
from toy_prompts import latents, nodes, sampler, saved

CYCLES, SEED, GROWTH = 50, 11, 0.05
LONGEST = 6.0
"""Seconds until a run is stopped: the models are loaded by then, and it samples."""


@pytest.mark.slow
def test_fifty_cancelled_runs_leave_no_memory_behind_and_the_next_is_right(comfyui):
    whole = nodes(n11=saved("9"), n12=saved("8"))
    comfyui.clear()
    started = time.monotonic()
    expected = latents(comfyui, whole)
    lasts = min(time.monotonic() - started, LONGEST)
    moments = random.Random(SEED)
    for number in range(5):
        cancelled(comfyui, number, moments.uniform(0, lasts))
    before, _ = memory(comfyui, 0)
    for number in range(5, 5 + CYCLES):
        cancelled(comfyui, number, moments.uniform(0, lasts))
        if not number % 10:
            comfyui.clear()  # The next ones are also cancelled while models load.
    after, hooks = memory(comfyui, 1)
    print(f"{before / 2**20:.1f} MiB before, {after / 2**20:.1f} after {CYCLES} cycles, "
          f"{after / before - 1:+.2%}")  # fmt: skip
    assert after <= before * (1 + GROWTH)
    assert hooks == 0
    comfyui.clear()
    found = latents(comfyui, whole)
    assert all(torch.equal(found[node], expected[node]) for node in ("8", "9"))


def cancelled(comfyui, number: int, after: float) -> None:
    """Queue a run that would take minutes, and stop it while it waits, loads, or samples."""
    windows = strategy("sliding windows", window=3, overlap=1) if number % 3 == 1 else {}
    kind, inputs = sampler("3", steps=1000, sampler_name="ddpm", seed=number, **windows)
    prompt = nodes(n9=(kind, inputs), n11=saved("9"))
    prompt_id = comfyui.queue(comfyui.filled(prompt))
    time.sleep(after)
    comfyui.post("/queue", {"delete": [prompt_id]})
    until = time.monotonic() + 120
    while busy(comfyui):
        assert time.monotonic() < until, f"cycle {number} was not stopped"
        comfyui.post("/interrupt", {})
        time.sleep(0.1)


def busy(comfyui) -> bool:
    queue = comfyui.get("/queue")
    return bool(queue["queue_running"] or queue["queue_pending"])


def memory(comfyui, number: int) -> tuple[int, int]:
    """Bytes of the server's process with its models unloaded, and hooks left on its U-Nets."""
    comfyui.clear()
    time.sleep(1)
    prompt = {"1": {"class_type": "TestMemory", "inputs": {"number": number}}}
    told = comfyui.run(prompt)["outputs"]["1"]["text"]
    return int(told[0]), int(told[1])
