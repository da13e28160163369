"""Model files with changed headers, tensors and names, and pickles that try to run code."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import lavie_toys
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from . import flows, values

State = dict[str, Tensor]
FAMILY: list[Path] = []
"""The folder of the toy family, appended by `__main__` before the first case."""


def make(rng: Random, folder: Path) -> list[list[str]]:
    """One model file that is loaded by a workflow, converted, or listed."""
    place, flow, content = rng.choice(PLACES)(rng)
    path = folder / "models" / place
    path.write_bytes(content)
    roll = rng.random()
    if roll < 0.1:
        return [["models"]]
    if roll < 0.3:
        return [["convert", str(Path("models") / place), "--output", "output/converted"]]
    flows.written(flow, folder / "workflow.json")
    return [flows.run_command(rng, "workflow.json")]


# --------------------------------------------------------------------------------------------------
# (path below models, the workflow that loads it, content) of each kind of file.


def _own_image_model(rng: Random) -> tuple:
    name, content = _file(rng, "image_model", _family("image_model"))
    return f"checkpoints/{name}", flows.picture(model=name), content


def _own_layers(rng: Random) -> tuple:
    name, content = _file(rng, "x", _family("text_to_video"))
    return f"videoldm/{name}", flows.clip_from_text(layers=name), content


def _own_vae(rng: Random) -> tuple:
    kind = rng.choice(("temporal_decoder", "autoencoder"))
    name, content = _file(rng, "x", _family(kind))
    flow = flows.picture()
    if rng.random() < 0.5:
        flow["7"] = flows.node("VAELoader", vae_name=name)
    else:
        flow["7"] = flows.node("VideoLDM_LoadTemporalVAE", vae=name)
    flow["5"]["inputs"]["vae"] = ["7", 0]
    return f"vae/{name}", flow, content


def _lavie(rng: Random) -> tuple:
    state, _ = _published("base")
    name, content = _file(rng, "x", (state, {}))
    flow = flows.clip_from_text()
    flow["2"] = flows.node("VideoLDM_LoadVideoModel", model=name)
    flow["5"]["inputs"]["model"] = ["2", 0]
    del flow["3"]
    return f"videoldm/{name}", flow, content


def _lora(rng: Random) -> tuple:
    name, content = _file(rng, "x", (_lora_state(rng), {}))
    flow = flows.picture()
    flow["7"] = flows.node("LoraLoader", model=["1", 0], clip=["1", 1], lora_name=name,
                           strength_model=1.0, strength_clip=1.0)  # fmt: skip
    flow["2"]["inputs"]["clip"], flow["4"]["inputs"]["model"] = ["7", 1], ["7", 0]
    return f"loras/{name}", flow, content


PLACES: tuple[Callable[[Random], tuple], ...] = (_own_image_model, _own_layers, _own_vae, _lavie,
                                                 _lora)  # fmt: skip


@cache
def _family(name: str) -> tuple[State, dict[str, str]]:
    content = (FAMILY[0] / f"{name}.safetensors").read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    return load_file(FAMILY[0] / f"{name}.safetensors"), header["__metadata__"]


@cache
def _published(kind: str) -> tuple[State, dict[str, str]]:
    return lavie_toys.state_of(lavie_toys.config_of(kind)), {}


# --------------------------------------------------------------------------------------------------
# LoRA.

ENDINGS = (
    ("lora_down.weight", "lora_up.weight"), ("lora_A.weight", "lora_B.weight"),
    ("lora.down.weight", "lora.up.weight"), ("lora_A.default.weight", "lora_B.default.weight"),
    ("hada_w1_a", "hada_w1_b"), ("lokr_w1", "lokr_w2"), ("diff", "diff_b"), ("oft_blocks", "alpha"),
    ("dora_scale", "lora_mid.weight"), ("set_weight", "reshape_weight"), ("a1.weight", "b1.weight"),
)  # fmt: skip
PREFIXES = ("lora_unet_", "unet.", "diffusion_model.", "lora_te_", "lora_te1_", "text_encoder.", "",
            "base_model.model.", "transformer.", "bundle_emb.x.")  # fmt: skip


def _lora_state(rng: Random) -> State:
    """A LoRA for two modules of the embedded model, in a spelling that may or may not fit."""
    weights = {k: v for k, v in _family("image_model")[0].items()
               if k.startswith("unet.") and k.endswith(".weight") and v.ndim > 1}  # fmt: skip
    state: State = {}
    for key in rng.sample(sorted(weights), 2):
        path, weight = key.removeprefix("unet.").removesuffix(".weight"), weights[key]
        prefix, (down, up) = rng.choice(PREFIXES), rng.choice(ENDINGS)
        path = path.replace(".", "_") if prefix.endswith("_") else path
        rank = rng.choice((1, 2))
        state[f"{prefix}{path}.{down}"] = torch.ones(rank, *weight.shape[1:])
        state[f"{prefix}{path}.{up}"] = torch.ones(len(weight), rank, *(1,) * (weight.ndim - 2))
        if rng.random() < 0.5:
            alpha = rng.choice((1.0, 0.0, float("nan"), -4.0))
            state[f"{prefix}{path}.alpha"] = torch.tensor(alpha)
    return state


# --------------------------------------------------------------------------------------------------
# Tensors and files.


def _file(rng: Random, stem: str, loaded: tuple[State, dict[str, str]]) -> tuple[str, bytes]:
    """(file name, content) of a file, possibly broken."""
    state, metadata = dict(loaded[0]), dict(loaded[1])
    for _ in range(rng.choice((0, 0, 1, 2))):
        rng.choice((_drop, _add, _reshape, _retype, _fill, _rename))(state, rng)
    if metadata and rng.random() < 0.4:
        metadata = _other_metadata(metadata, rng)
    if rng.random() < 0.45:
        return _pickled(rng, stem, state)
    content = save({k: v.contiguous() for k, v in state.items()}, metadata or None)
    if rng.random() < 0.3:
        content = rng.choice((_other_header, values.broken))(content, rng)
    ending = rng.choice(("safetensors", "safetensors", "safetensors", "sft", "ckpt", "bin"))
    return f"{stem}.{ending}", content


def _drop(state: State, rng: Random) -> None:
    for key in rng.sample(sorted(state), min(len(state), rng.choice((1, 3, 1000)))):
        del state[key]


def _add(state: State, rng: Random) -> None:
    key = rng.choice(("loss.logvar", "model_ema.decay", "logit_scale", "global_step", "a" * 2000,
                      "é\n", "", "state_dict", "unet.conv_in.weight.more"))  # fmt: skip
    state[key] = torch.ones(rng.choice((1, 3)))


def _some(state: State, rng: Random) -> str | None:
    return rng.choice(sorted(state)) if state else None


def _reshape(state: State, rng: Random) -> None:
    key = _some(state, rng)
    if key is not None:
        old = state[key]
        scalar = old.flatten()[0] if old.numel() else torch.ones(())
        state[key] = rng.choice((old.flatten(), old[None], old.new_ones(0), torch.ones(7), scalar))


def _retype(state: State, rng: Random) -> None:
    kind = rng.choice((torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.bool,
                       torch.float8_e4m3fn, torch.complex64))  # fmt: skip
    key = _some(state, rng)
    for name in [key] if rng.random() < 0.5 else list(state):
        if name is not None:
            state[name] = state[name].real.to(kind)


def _fill(state: State, rng: Random) -> None:
    key = _some(state, rng)
    if key is not None and state[key].is_floating_point():
        state[key] = torch.full_like(state[key], rng.choice((float("nan"), float("inf"), 0.0)))


def _rename(state: State, rng: Random) -> None:
    prefix = rng.choice(("module.", "model.diffusion_model.", "state_dict.", "unet."))
    for key in list(state):
        state[prefix + key] = state.pop(key)


def _other_metadata(metadata: dict[str, str], rng: Random) -> dict[str, str]:
    """The metadata with one entry mutated or replaced by other text."""
    key = rng.choice(sorted(metadata))
    try:
        told = values.mutated(json.loads(metadata[key]), rng, rng.choice((1, 1, 3)))
        text = values.to_text(told)
    except ValueError:
        text = values.text(rng)
    return metadata | {key: text.encode("utf-8", "replace").decode()}


def _other_header(content: bytes, rng: Random) -> bytes:
    """A safetensors file with mutated offsets, shapes and types, or a wrong header length."""
    size = struct.unpack("<Q", content[:8])[0]
    if rng.random() < 0.2:
        return struct.pack("<Q", rng.choice((0, 2**63, 2**40, size + 1))) + content[8:]
    header = values.mutated(json.loads(content[8 : 8 + size]), rng, rng.choice((1, 2)))
    text = values.to_text(header).encode("utf-8", "replace")
    return struct.pack("<Q", len(text)) + text + content[8 + size :]


# --------------------------------------------------------------------------------------------------
# Pickles.


class _Call:
    """An object that is pickled as a call, which unsafe unpickling would make."""

    def __init__(self, function: Any, *arguments: Any):
        self.told = function, arguments

    def __reduce__(self) -> tuple:
        return self.told


def _hostile(rng: Random) -> Any:
    """An object whose unpickling, if unsafe, mostly makes a file or folder called canary."""
    code = "import os; os.mkdir('canary')"
    return rng.choice((
        _Call(os.mkdir, "canary"), _Call(os.system, "mkdir canary"), _Call(exec, code),
        _Call(eval, f"exec({code!r})"), _Call(open, "canary", "w"),
        _Call(__import__, "antigravity"), _Call(torch.hub.load, "x", "y"),
        _Call(pickle.loads, b"x"), _Call(torch.zeros, 10**12),
    ))  # fmt: skip


def _pickled(rng: Random, stem: str, state: Any) -> tuple[str, bytes]:
    name = f"{stem}.{rng.choice(('ckpt', 'pt', 'pth', 'bin', 'safetensors'))}"
    roll = rng.random()
    if roll < 0.35:
        state = rng.choice((_hostile(rng), {**state, "more": _hostile(rng)}, [_hostile(rng)]))
    elif roll < 0.5:
        state = rng.choice((None, 3, [], {}, "x", [state], {"a": {"b": None}}, {1: torch.ones(1)},
                            {"ema": 3}, torch.ones(3)))  # fmt: skip
    else:
        state = {rng.choice(("ema", "state_dict", "model", "module")): state} \
            if roll < 0.8 else state  # fmt: skip
    target = io.BytesIO()
    if rng.random() < 0.2:
        pickle.dump(state, target, protocol=rng.choice((0, 2, 4)))
    else:
        torch.save(state, target, _use_new_zipfile_serialization=rng.random() < 0.8)
    content = target.getvalue()
    if rng.random() < 0.15:
        content = values.broken(content, rng)
    elif rng.random() < 0.1:
        content = _other_zip(rng)
    return name, content


def _other_zip(rng: Random) -> bytes:
    """An archive that is not a checkpoint, or whose members lead out of the folder."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in rng.choice((["archive/data.pkl"], ["../canary"], ["a/data.pkl", "a/version"])):
            archive.writestr(name, rng.choice((b"", b"\x80\x02}q\x00.", b"x" * 100)))
    return target.getvalue()
