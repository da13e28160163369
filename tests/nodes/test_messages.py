"""Messages name what users know: models, files and nodes."""

from __future__ import annotations

import pytest
import torch
from videoldm.core.families.known_models import of_latents
from videoldm.core.graph.calls import cause_of
from videoldm.core.graph.messages import shown_path
from videoldm.nodes.host.shared.misfits import check_latents_fit


def said(function, *given, **more) -> str:
    with pytest.raises(ValueError) as caught:
        function(*given, **more)
    return str(caught.value)


def test_latents_of_another_vae():
    assert check_latents_fit(4, 4) is None
    assert said(check_latents_fit, 4, 8) == (
        "the latents are Stable Diffusion's (4 channels), but the model works with the embedded "
        "model's (8 channels): make them by Temporal VAE Encode, with the VAE that was loaded with "
        "the model"
    )
    assert "but the VAE decodes Stable Diffusion's" in said(check_latents_fit, 16, 4, vae=True)
    assert of_latents(5) == "those of another model (5 channels)"


@pytest.mark.parametrize(("error", "text"), [
    (ValueError("7 frames do not fit 4"), "7 frames do not fit 4"),
    (PermissionError(13, "Permission denied", "/a/x"), "permission denied: /a/x"),
    (KeyError("x"), "unexpected KeyError: 'x'"),
    (KeyError(), "unexpected KeyError without a reason"),
    (ValueError(""), "unexpected ValueError without a reason"),
    (RuntimeError("  \n "), "unexpected RuntimeError without a reason"),
    (TypeError("object of type 'NoneType' has no len()\n  more"),
     "unexpected TypeError: object of type 'NoneType' has no len()"),
    (MemoryError(), "there is not enough memory: take fewer or smaller frames, or tiles "
     "(MemoryError)"),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
     "there is not enough memory: take fewer or smaller frames, or tiles (CUDA out of memory. "
     "Tried to allocate 2 GiB)"),
    (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: "
                  "you tried"),
     "there is not enough memory: take fewer or smaller frames, or tiles ([enforce fail at "
     "alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried)"),
], ids=str)  # fmt: skip
def test_the_cause_of_a_failure_is_one_line_and_never_empty(error, text):
    assert cause_of(error) == text


def test_a_path_keeps_its_end_and_controls_are_escapes():
    assert shown_path("a/b.json") == "a/b.json"
    long = shown_path("/folder" * 40 + "/name.json")
    assert len(long) == 80 and long.startswith("...") and long.endswith("/name.json")
    assert shown_path("\x01" * 250) == "..." + ("\\x01" * 250)[-77:]
