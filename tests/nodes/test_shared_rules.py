"""Rules that both hosts share, tested on plain values without a host."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from videoldm.core.diffusion.schedules import scaled_linear
from videoldm.core.families import included_names, included_path
from videoldm.core.families.embedded.specs import spec_from_table
from videoldm.core.networks.conditions import NetworkSpec
from videoldm.core.networks.injected_sets import InjectedSets, Injection
from videoldm.core.networks.sites import UNetLayout
from videoldm.core.networks.temporal_layers import Strength, TemporalLayers
from videoldm.nodes.host.shared.folders import Folders
from videoldm.nodes.host.shared.latent_files import load_latent, save_unfinished
from videoldm.nodes.host.shared.misfits import check_prompts_fit
from videoldm.nodes.host.shared.missing_parts import check_boxes
from videoldm.nodes.host.shared.model_facts import TrainedNetwork, model_facts
from videoldm.nodes.host.shared.model_names import TEMPORAL_LAYERS


def test_layers_of_the_pack_are_named_and_files_are_not():
    parts = [included_path(TEMPORAL_LAYERS, name).stem for name in included_names(TEMPORAL_LAYERS)]
    assert parts == ["text_to_video", "prediction", "interpolation"]
    for file in ("embedded", "mine: text to video", "a/embedded: b.safetensors"):
        assert included_path(TEMPORAL_LAYERS, file) is None
    with pytest.raises(ValueError, match="'embedded: weather': choose one of embedded: text to"):
        included_path(TEMPORAL_LAYERS, "embedded: weather")


def test_what_was_finished_is_kept_whatever_it_is_worth(tmp_path):
    samples = torch.randn(3, 4, 2, 2)
    folders = Folders(output=tmp_path)
    first = save_unfinished(folders, {"samples": samples})
    assert first.parent == tmp_path / "latents" and first.name == "unfinished_00001_.latent"
    assert torch.equal(load_latent(first)["samples"], samples)
    second = save_unfinished(folders, {"samples": samples * float("nan")})
    assert second.name == "unfinished_00002_.latent" and second.is_file()


def test_boxes_need_an_encoder_of_boxes():
    assert check_boxes([object()], object()) is None
    with pytest.raises(ValueError, match="^2 bounding boxes were given, but this CLIP has no box"):
        check_boxes([object()] * 2, None)


# --------------------------------------------------------------------------------------------------
# Facts of a model.

LAYOUT = UNetLayout(channels=(32, 64), layers=1, depths=(0, 1))
IMAGE = NetworkSpec(name="image U-Net", latent_channels=4, text=16, width=32)


def facts(*sets, image=IMAGE, trained=TrainedNetwork(), **strength):  # noqa: B008 (frozen)
    injections = InjectedSets([
        Injection(TemporalLayers(spec_from_table(LAYOUT, norm_groups=8, **one)),
                  Strength(**strength)) for one in sets
    ])  # fmt: skip
    return model_facts(
        injections.added_to(image), injections, trained, factor=8,
        schedule=scaled_linear(), device=torch.device("cpu"), precision=2,
    )  # fmt: skip


def test_facts_of_an_image_model():
    found = facts()
    assert (found.latent_channels, found.channels, found.factor, found.precision) == (4, 32, 8, 2)
    assert found.layers.present is False and not found.takes_context and not found.is_upsampler
    assert (found.trained_frames, found.shared_noise, found.task, found.family) == (1, 0.0, "", "")


def test_facts_of_sets_of_layers():
    first = {"context_channels": 4, "task": "prediction", "trained_frames": 8, "shared_noise": 0.5}
    last = {"task": "interpolation", "trained_frames": 5, "family": "toy family"}
    found = facts(first, last)
    assert found.takes_context and found.trained_frames == 8 and found.shared_noise == 0.0
    assert (found.task, found.family) == ("interpolation", "toy family")
    assert facts(last, first).shared_noise == 0.5
    assert facts(first, overall=0.0).shared_noise == 0.0


def test_facts_of_an_upsampler():
    """Its own task takes precedence over that of injected layers, which only adapt it."""
    trained = TrainedNetwork(task="upsampling", max_noise_level=30)
    image = dataclasses.replace(IMAGE, concatenated=3)
    found = facts({"task": "prediction"}, image=image, trained=trained)
    assert found.is_upsampler and (found.low_res_channels, found.max_noise_level) == (3, 30)


@pytest.mark.parametrize("which", ["positive", "negative"])
def test_prompts_of_another_family_are_refused_by_name(which):
    fits, other = [[torch.zeros(1, 2, 768), {}]], [[torch.zeros(1, 2, 128), {}]]
    prompts = {"positive": fits, "negative": fits, which: other}
    check_prompts_fit(**prompts, wanted=None)
    with pytest.raises(ValueError, match=f"^the {which} prompt was encoded for the embedded model"):
        check_prompts_fit(**prompts, wanted=768)
    check_prompts_fit([[None, {}]], fits, 768)
