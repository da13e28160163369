"""ControlNets: the residuals they add to a U-Net, and their file formats."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from model_toys import fill, normal, toy_layers, toy_model, toy_unet
from safetensors.torch import save_file
from videoldm.core.families import controlnets
from videoldm.core.families.stable_diffusion_keys import inverse, rename_all
from videoldm.core.families.stable_diffusion_specs import SPECS
from videoldm.core.networks.conditions import SIZES, Conditions
from videoldm.core.networks.controlnet import Control, summed
from videoldm.core.networks.injected_sets import Injection
from videoldm.core.networks.sites import layout_of
from videoldm.core.networks.temporal_layers import Strength
from videoldm.core.networks.video_unet import VideoUNet
from videoldm.core.weights.checkpoints import CheckpointError
from xl_toys import POOLED
from xl_toys import SPEC as XL


def toy_control(unet=None, seed: int | None = 3, **changes) -> ControlNetModel:
    """A ControlNet for a toy U-Net; `seed=None` keeps its zero-initialised outputs."""
    network = ControlNetModel.from_unet(unet or toy_unet(**changes)).eval().requires_grad_(False)
    return network if seed is None else fill(network, seed)


@pytest.fixture(scope="module")
def unet():
    return fill(toy_unet())


X, TEXT, STEP = normal(1, 3, 4, 8, 8), normal(1, 5, 16, seed=1), torch.tensor(500)
IMAGES = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(2))


def controlled(unet, *controls: Control, injections=()) -> torch.Tensor:
    return VideoUNet(unet, injections, controls)(X, STEP, Conditions(text=TEXT))


# --------------------------------------------------------------------------------------------------
# Residuals.


def test_a_fresh_controlnet_changes_nothing(unet):
    fresh = Control(network=toy_control(unet, seed=None), image=IMAGES)
    assert torch.equal(controlled(unet, fresh), controlled(unet))


def test_every_frame_gets_what_diffusers_gives_it(unet):
    network = toy_control(unet)
    got = controlled(unet, Control(network=network, image=IMAGES, strength=0.7))
    for k in range(3):
        frame = X[:, k], STEP, TEXT
        down, mid = network(*frame, IMAGES[k : k + 1], conditioning_scale=0.7, return_dict=False)
        expected = unet(*frame, down_block_additional_residuals=down,
                        mid_block_additional_residual=mid).sample  # fmt: skip
        torch.testing.assert_close(got[:, k], expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(got, controlled(unet), atol=1e-3)


def test_one_image_is_for_all_frames(unet):
    network = toy_control(unet)
    one = controlled(unet, Control(network=network, image=IMAGES[:1]))
    many = controlled(unet, Control(network=network, image=IMAGES[[0, 0, 0]]))
    torch.testing.assert_close(one, many)


def test_several_add_up_and_strength_is_a_factor():
    network = toy_control()
    whole, half = (Control(network=network, image=IMAGES, strength=s) for s in (1.0, 0.5))
    once, twice = whole(X, STEP, TEXT), summed([half(X, STEP, TEXT), half(X, STEP, TEXT)])
    for a, b in zip((*once.skips, once.middle), (*twice.skips, twice.middle), strict=True):
        torch.testing.assert_close(a, b)
    assert summed([]) is None


def test_pooled_answers_are_the_same_everywhere():
    network = toy_control()
    answer = Control(network=network, image=IMAGES, pooled=True)(X, STEP, TEXT)
    plain = Control(network=network, image=IMAGES)(X, STEP, TEXT)
    torch.testing.assert_close(answer.middle[..., 1, 2], plain.middle.mean((2, 3)))


@pytest.mark.parametrize("steps", [STEP, STEP[None], STEP.expand(1, 3)])
@pytest.mark.parametrize("text", [TEXT, TEXT[:, None].expand(-1, 3, -1, -1)])
def test_steps_and_text_per_frame(steps, text):
    control = Control(network=toy_control(), image=IMAGES)
    torch.testing.assert_close(control(X, steps, text).middle, control(X, STEP, TEXT).middle)


def test_temporal_layers_act_beside_it(unet):
    layers = fill(toy_layers(unet))
    control = Control(network=toy_control(unet), image=IMAGES)
    off, on = (
        controlled(unet, control, injections=[Injection(layers, Strength(overall=s))])
        for s in (0.0, 1.0)
    )
    torch.testing.assert_close(off, controlled(unet, control))
    assert not torch.allclose(on, off, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"block_out_channels": (32, 32)}, "levels of 32, 32 channels, but the model has 32, 64"),
        ({"cross_attention_dim": 24}, "text of width 24, but the model has 16"),
        ({"in_channels": 9}, "latents of 9 channels, but the model has 4"),
    ],
)
def test_one_for_another_family_is_refused(changes, words):
    control = Control(network=toy_control(**changes), image=IMAGES)
    with pytest.raises(ValueError, match=words):
        toy_model().with_controls([control])


# --------------------------------------------------------------------------------------------------
# Files.


def as_published(network: ControlNetModel) -> dict[str, torch.Tensor]:
    table = controlnets.table(layout_of(network.config))
    return rename_all(network.state_dict(), inverse(table), "the ControlNet")


@pytest.fixture
def toy():
    """Like Stable Diffusion 1: 8 heads, and a level without attention."""
    return toy_control(attention_head_dim=8, norm_num_groups=32)


@pytest.mark.parametrize("kind", ["published", "published, bare", "diffusers"])
@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_every_spelling_of_a_file_loads_to_equal_answers(toy, kind, ending, tmp_path):
    state = toy.state_dict() if kind == "diffusers" else as_published(toy)
    if kind == "published":
        state = {f"control_model.{key}": value for key, value in state.items()}
    path = tmp_path / f"it.{ending}"
    save_file(state, path) if ending == "safetensors" else torch.save(state, path)
    loaded = controlnets.load(path)
    first, second = (Control(network=n, image=IMAGES)(X, STEP, TEXT) for n in (toy, loaded))
    assert len(first.skips) == 4
    for a, b in zip((*first.skips, first.middle), (*second.skips, second.middle), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", ["published", "diffusers"])
def test_one_for_stable_diffusion_xl_reads_pooled_text_and_sizes(kind, tmp_path):
    heads = {"attention_head_dim": (1, 1, 1)}  # At most 64 channels per head, as published.
    unet = fill(UNet2DConditionModel(**XL.unet | heads), seed=1, scale=0.05)
    toy = toy_control(unet)
    state = toy.state_dict() if kind == "diffusers" else as_published(toy)
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "it.safetensors")
    loaded = controlnets.load(tmp_path / "it.safetensors")
    network = VideoUNet(unet, [], [Control(network=loaded, image=IMAGES, strength=0.7)])
    given = Conditions(
        text=normal(1, 5, 40, seed=1),
        pooled_text=normal(1, 3, POOLED, seed=2),
        ids={SIZES: torch.tensor([[64.0, 64, 8, 0, 64, 64]])},
    )
    got = network(X, STEP, given)
    for k in range(3):
        added = {"text_embeds": given.pooled_text[:, k], "time_ids": given.ids[SIZES]}
        frame = X[:, k], STEP, given.text
        down, mid = toy(*frame, IMAGES[k : k + 1], conditioning_scale=0.7,
                        added_cond_kwargs=added, return_dict=False)  # fmt: skip
        expected = unet(*frame, down_block_additional_residuals=down, added_cond_kwargs=added,
                        mid_block_additional_residual=mid).sample  # fmt: skip
        torch.testing.assert_close(got[:, k], expected, rtol=1e-4, atol=1e-5)
    other = replace(given, ids={SIZES: torch.tensor([[640.0, 64, 8, 0, 64, 64]])})
    alone = VideoUNet(unet, [])
    added = [network(X, STEP, one) - alone(X, STEP, one) for one in (given, other)]
    assert not torch.allclose(*added, atol=1e-3)


@pytest.mark.parametrize(
    "family", ["stable diffusion 1", "stable diffusion 2", "stable diffusion xl"]
)
def test_the_published_sizes_are_read_off_the_weights(family):
    unet = {k: v for k, v in SPECS[family].unet.items() if k != "up_block_types"}
    with torch.device("meta"):
        wanted = ControlNetModel.from_config(unet)
    state = wanted.state_dict()
    found = controlnets.config_of(state)
    with torch.device("meta"):
        built = ControlNetModel.from_config(found)
    assert {k: v.shape for k, v in built.state_dict().items()} == {
        k: v.shape for k, v in state.items()
    }
    heads = wanted.config.attention_head_dim
    assert built.config.attention_head_dim == heads
    published = as_published(wanted)
    assert controlnets.ldm_layout(published) == SPECS[family].layout
    last = 8 if family == "stable diffusion xl" else 11
    assert f"zero_convs.{last + 1}.0.weight" not in published
    assert {f"zero_convs.{last}.0.weight", "input_hint_block.14.bias", "time_embed.2.weight",
            "middle_block.2.in_layers.0.bias",
            "input_blocks.3.0.op.weight"} <= published.keys()  # fmt: skip


def test_other_files_are_refused(toy, tmp_path):
    published = as_published(toy)
    cases = {
        "lora.safetensors": ({"lora_controlnet": torch.zeros(0)}, "Control-LoRA"),
        "diff.safetensors": (published | {"difference": torch.zeros(0)}, "differences"),
        "union.safetensors": (published | {"task_embedding": torch.zeros(1)}, "several kinds"),
        "lacks.safetensors": (
            {k: v for k, v in published.items() if not k.startswith("input_hint_block.0")},
            "lacks",
        ),
        "other.safetensors": ({"a.b": torch.zeros(1)}, "not a ControlNet .* a.b"),
    }
    for name, (state, words) in cases.items():
        save_file(state, tmp_path / name)
        with pytest.raises(CheckpointError, match=words):
            controlnets.load(tmp_path / name)
