"""Resizing, prompts and textual inversions equal ComfyUI's functions, without a server."""

from __future__ import annotations

import itertools

import pytest
import torch
from inside_process import ran_inside
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel
from videoldm.core.diffusion.resizing import resize
from videoldm.core.text.clip_vocabulary import ClipTokenizer
from videoldm.core.text.text_variants import first_layers
from videoldm.nodes.host import host
from videoldm.nodes.host.shared.embeddings import Embeddings
from videoldm.nodes.host.shared.prompt_encoder import PromptEncoder

WIDTH, LAYERS = 32, 4
SAME = 2e-5
CONFIG = {
    "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": LAYERS,
    "num_attention_heads": 2, "hidden_act": "quick_gelu", "max_position_embeddings": 77,
    "eos_token_id": 49407, "projection_dim": WIDTH,
}  # fmt: skip


@pytest.fixture
def ask(tmp_path):
    """ask(name=inputs) returns the results, by name, of functions of comfyui_functions.py."""

    def answer(**jobs):
        job, found = tmp_path / "job.pt", tmp_path / "answer.pt"
        torch.save(jobs, job)
        ran_inside("comfyui_functions.py", job, found)
        return torch.load(found, weights_only=True)

    return answer


def test_resizing(ask):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 4, 9, 14, generator=generator)
    latents[0, :, :3] = 0
    latents[1, :, 4] = latents[1, :, 5]
    latents[1, :, 7] = -latents[1, :, 6]
    images = torch.rand(2, 3, 9, 14, generator=generator) * 1.2 - 0.1
    video = torch.randn(2, 4, 3, 9, 14, generator=generator)
    sizes = [(14, 9), (28, 18), (21, 5), (7, 30), (1, 1), (13, 13)]
    crops = ("disabled", "center")
    both = ("nearest-exact", "bilinear", "area", "bicubic")
    jobs = [
        (x, *size, method, crop)
        for x, methods in ((latents, (*both, "bislerp")), (images, (*both, "lanczos")),
                           (video, ("bilinear", "bislerp")), (images[:, :1], ("lanczos",)),
                           (torch.rand(1, 4, 9, 14, generator=generator), ("lanczos",)))
        for method, size, crop in itertools.product(methods, sizes, crops)
    ]  # fmt: skip
    theirs = ask(resized=jobs)["resized"]
    far = {}
    for job, expected in zip(jobs, theirs, strict=True):
        got = resize(*job)
        far[f"{list(job[0].shape)} {job[1:]}"] = apart(got, expected.reshape(got.shape))
    assert {name: one for name, one in far.items() if not one < SAME} == {}


TEXTS = [
    "a red circle", "", "a (red:1.4) circle, ((blue)) (square:0.3)", "a embedding:two here",
    "(embedding:two:1.3), and embedding:one", "embedding:two, a cat", "embedding:two.pt",
    "embedding:sub/three here", "three embedding:three here", "a cat embedding:nowhere, on grass",
    "embedding:nowhere", "a (embedding:wide:1.5) cat embedding:two here", "cat,embedding:two",
    "word " * 73 + "embedding:two end", "word " * 70 + "embedding:ten end of it (all:1.2)",
    "(word " * 20 + ")" * 20 + " embedding:one", "embedding:two<lora:x:1> there",
    r"a \(cat\) (embedding:one) " + "many words, " * 40,
]  # fmt: skip


@pytest.mark.parametrize("kind", ["stable diffusion 1", "stable diffusion 2"])
def test_prompts_with_textual_inversions_and_clip_skip(kind, ask, tmp_path, monkeypatch):
    monkeypatch.setattr(host, "warn", lambda sentence: None)
    folder = tmp_path / "embeddings"
    (folder / "sub").mkdir(parents=True)
    spread = torch.Generator().manual_seed(1)
    files = {"one.bin": 1, "two.pt": 2, "sub/three.safetensors": 3, "ten.safetensors": 10}
    for name, count in files.items():
        vectors = torch.randn(count, WIDTH, generator=spread) * 0.03
        if name.endswith(".safetensors"):
            save_file({"emb_params": vectors}, folder / name)
        else:
            torch.save({"string_to_param": {"*": vectors}} if name.endswith(".pt")
                       else {"<x>": vectors[0]}, folder / name)  # fmt: skip
    torch.save({"<x>": torch.ones(2, 48)}, folder / "wide.pt")

    torch.manual_seed(0)
    encoder = CLIPTextModel(CLIPTextConfig(**CONFIG)).eval()
    state = {f"text_model.{k.removeprefix('text_model.')}": v
             for k, v in encoder.state_dict().items()}  # fmt: skip
    second = kind == "stable diffusion 2"
    texts = [(text, None) for text in TEXTS]
    texts += [("a red circle", layer) for layer in ((-2, -3, -4) if second else (-1, -2, -4, -9))]
    job = {"kind": kind, "config": CONFIG, "folder": str(folder), "state": state, "texts": texts}
    theirs = ask(prompts=job)["prompts"]

    clip = PromptEncoder(
        first_layers(encoder, LAYERS - second), ClipTokenizer(0 if second else 49407), 77,
        embeddings=Embeddings([folder], WIDTH), dropped=int(second),
    )  # fmt: skip
    far = {}
    for (text, layer), expected in zip(texts, theirs, strict=True):
        one = clip if layer is None else clip.stopping_at(layer)
        far[text, layer] = apart(one.encode(text)[0][0], expected)
    assert {name: one for name, one in far.items() if not one < SAME} == {}


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max())
