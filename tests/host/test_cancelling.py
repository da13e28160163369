"""Queueing and cancelling many runs leaks neither memory nor hooks."""

from __future__ import annotations

import random
import time

import pytest
import torch
from comfyui_server import Listener
from node_inputs import strategy
from toy_prompts import latents, nodes, sampler, saved

CYCLES, SEED, GROWTH = 50, 11, 0.05
EARLY, WITHIN = 0.4, 0.2
"""Longest wait in seconds before a run is stopped: from queueing, and from its first step."""


@pytest.mark.slow
def test_fifty_cancelled_runs_leave_no_memory_behind_and_the_next_is_right(comfyui):
    whole = nodes(n11=saved("9"), n12=saved("8"))
    comfyui.clear()
    expected = latents(comfyui, whole)
    moments = random.Random(SEED)
    for number in range(5):
        cancelled(comfyui, number, moments)
    before, _ = memory(comfyui, 0)
    for number in range(5, 5 + CYCLES):
        cancelled(comfyui, number, moments)
        if not number % 10:
            comfyui.clear()  # The next run is also cancelled while models load.
    after, hooks = memory(comfyui, 1)
    print(f"{before / 2**20:.1f} MiB before, {after / 2**20:.1f} after {CYCLES} cycles, "
          f"{after / before - 1:+.2%}")  # fmt: skip
    assert after <= before * (1 + GROWTH)
    assert hooks == 0
    comfyui.clear()
    found = latents(comfyui, whole)
    assert all(torch.equal(found[node], expected[node]) for node in ("8", "9"))


def cancelled(comfyui, number: int, moments: random.Random) -> None:
    """Queue a run that would take minutes and stop it: even numbers while it waits or loads, odd
    ones while it samples."""
    windows = strategy("sliding windows", window=3, overlap=1) if number % 3 == 1 else {}
    kind, inputs = sampler("3", steps=1000, sampler_name="ddpm", seed=number, **windows)
    prompt = comfyui.filled(nodes(n9=(kind, inputs), n11=saved("9")))
    listener = Listener(comfyui)
    prompt_id = comfyui.queue(prompt, client=listener.client)
    until = time.monotonic() + 120
    while number % 2 and not samples(listener):
        assert time.monotonic() < until, f"cycle {number} did not sample"
        time.sleep(0.02)
    time.sleep(moments.uniform(0, WITHIN if number % 2 else EARLY))
    comfyui.post("/queue", {"delete": [prompt_id]})
    while busy(comfyui):
        assert time.monotonic() < until, f"cycle {number} was not stopped"
        comfyui.post("/interrupt", {})
        time.sleep(0.1)
    listener.close()


def samples(listener) -> bool:
    """Whether a node has reported progress."""
    told = [one for one in listener.messages if isinstance(one, dict)]
    return any(one["type"] == "progress" for one in told)


def busy(comfyui) -> bool:
    queue = comfyui.get("/queue")
    return bool(queue["queue_running"] or queue["queue_pending"])


def memory(comfyui, number: int) -> tuple[int, int]:
    """(bytes of the server's process with models unloaded, hooks left on its U-Nets)"""
    comfyui.clear()
    time.sleep(1)
    prompt = {"1": {"class_type": "TestMemory", "inputs": {"number": number}}}
    told = comfyui.run(prompt)["outputs"]["1"]["text"]
    return int(told[0]), int(told[1])
