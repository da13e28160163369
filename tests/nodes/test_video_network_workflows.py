"""The published workflows of networks made for video without ComfyUI, with toys in their place."""

from __future__ import annotations

import factorised_toys as toys
import pytest
import torch
from diffusers import AutoencoderKL
from model_toys import fill
from PIL import Image
from templates import ROOT, read, twin
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel
from videoldm.core import families
from videoldm.core.families import lvdm, videocrafter
from videoldm.core.families.stable_diffusion_text import TextModel
from videoldm.core.families.video_parts import VideoParts
from videoldm.core.graph.api_format import graph_from_api
from videoldm.core.graph.execute import Executor
from videoldm.core.graph.load import load_workflow
from videoldm.core.media.files import open_video
from videoldm.core.networks.image_resampler import ImageResampler, ResamplerConfig
from videoldm.core.text.clip_vocabulary import ClipTokenizer
from videoldm.nodes import node_registry

SIDE, FRAMES = 64, 4
NETWORKS = {
    "lvdm_text_to_video": (lvdm, "text"),
    "videocrafter_text_to_video": (videocrafter, "videocrafter 1"),
    "videocrafter_image_to_video": (videocrafter, "videocrafter image"),
}
TEXT = CLIPTextConfig(hidden_size=24, intermediate_size=24, num_hidden_layers=1,
                      num_attention_heads=2)  # fmt: skip
VISION = CLIPVisionConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                          num_attention_heads=2, image_size=28, patch_size=14)  # fmt: skip
RESAMPLER = ResamplerConfig(width=16, depth=1, heads=2, head_width=8, queries=3, embedding=16,
                            out=12, expansion=2)  # fmt: skip


def parts(name: str) -> VideoParts:
    """A toy of the network that a workflow loads, with all that its file holds."""
    torch.manual_seed(0)
    family, network = NETWORKS[name]
    state = toys.checkpoint(network, average=False, first_stage=False)
    levels = {"block_out_channels": (8,) * 4, "norm_num_groups": 4, "latent_channels": 4}
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4,
             "up_block_types": ("UpDecoderBlock2D",) * 4}  # fmt: skip
    return VideoParts(
        model=family.assemble(state, name).model,
        autoencoder=fill(AutoencoderKL(**levels, **kinds).eval()),
        text=TextModel(CLIPTextModel(TEXT).eval(), ClipTokenizer(0), 77, 0),
        image_encoder=CLIPVisionModel(VISION).eval(),
        resampler=fill(ImageResampler(RESAMPLER)) if network.endswith("image") else None,
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_it_runs_headless(toys, tmp_path, monkeypatch, name):
    found = name, parts(name)
    monkeypatch.setattr(families, "load_video_parts", lambda path, untold, **where: found)
    model = read(ROOT / "workflows" / f"{name}.json")["models"][0]
    (tmp_path / "models" / "videoldm").mkdir(parents=True)
    (tmp_path / "models" / "videoldm" / model["name"]).write_bytes(b"{}")
    Image.new("RGB", (40, 30), (200, 90, 20)).save(tmp_path / "input" / "example.png")
    prompt = twin(ROOT / "workflows" / f"{name}.json")
    for node in prompt.values():
        if node["class_type"] == "VideoLDM_VideoSampler":
            node["inputs"] |= dict(width=SIDE, height=SIDE, frames=FRAMES, steps=2)
    Executor(node_registry()).run(graph_from_api(prompt))
    (file,) = (tmp_path / "output").rglob("*.mp4")
    video = open_video(file)
    assert (video.frames, video.width, video.height) == (FRAMES, SIDE, SIDE)


@pytest.mark.parametrize("name", NETWORKS)
def test_both_forms_are_one_workflow(name):
    registry, file = node_registry(), ROOT / "workflows" / f"{name}.json"
    (as_ui, as_api) = (
        load_workflow(path, registry) for path in (file, file.parent / "api" / file.name)
    )
    shown, plain = ({key: node.inputs for key, node in one.nodes.items()}
                    for one in (as_ui, as_api))  # fmt: skip
    assert shown.keys() == plain.keys()
