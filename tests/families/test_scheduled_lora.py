"""LoRAs beside a network: they act as if merged, with a strength for every frame and step."""

from __future__ import annotations

import pytest
import torch
from animatediff_toys import toy_config, toy_layers
from model_toys import fill, normal, toy_unet
from test_lora_kinds import hadamard, kronecker, kronecker_factored, low_rank, whole
from test_lora_kinds import keys as spelt
from videoldm.core.diffusion.curves import Curve, Line, StepAt, per_frame
from videoldm.core.families import lora
from videoldm.core.families.stable_diffusion_keys import inverse, rename, unet_table
from videoldm.core.networks.conditions import Conditions
from videoldm.core.networks.injected_sets import Injection
from videoldm.core.networks.sites import layout_of
from videoldm.core.networks.video_unet import VideoUNet
from videoldm.core.networks.weight_updates import Frames, Scheduled, updated
from videoldm.core.weights.checkpoints import CheckpointError

FRAMES = 4
VIDEO, TEXT = normal(2, FRAMES, 4, 8, 8), normal(2, 5, 16, seed=1)
PATHS = (
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k",
    "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj",
    "down_blocks.0.attentions.0.proj_in",
    "down_blocks.0.resnets.0.conv1",
    "down_blocks.0.resnets.0.time_emb_proj",
    "down_blocks.0.downsamplers.0.conv",
    "up_blocks.1.resnets.0.conv_shortcut",
    "time_embedding.linear_1",
    "conv_out",
)


SPELLING = {"down": "lora_down.weight", "up": "lora_up.weight", "mid": "lora_mid.weight",
            "magnitude": "dora_scale"}  # fmt: skip


def keys(path, **factors):
    return spelt(path, **{SPELLING.get(name, name): one for name, one in factors.items()})


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return fill(toy_unet(), scale=0.05)


def toy_file(unet, paths=PATHS, seed=0):
    """A plain LoRA for modules of every kind."""
    file = {}
    for k, path in enumerate(paths):
        weight = unet.get_submodule(path).weight
        down = 0.3 * normal(2, *weight.shape[1:], seed=seed + 2 * k)
        up = 0.3 * normal(len(weight), 2, *[1] * (weight.ndim - 2), seed=seed + 2 * k + 1)
        file |= keys(path, down=down, up=up, alpha=torch.tensor(3.0))
    return file


def run(unet, updates=(), sets=(), **given):
    network = VideoUNet(unet, sets, updates=updates)
    with torch.no_grad():
        return network(VIDEO, torch.tensor(500), Conditions(text=TEXT, **given))


def close(one, two, atol=2e-5):
    torch.testing.assert_close(one, two, atol=atol, rtol=1e-4)


@pytest.mark.parametrize("path", PATHS)
def test_beside_a_module_it_is_as_if_it_were_merged(unet, path):
    file = toy_file(unet, [path])
    one = Scheduled(lora.beside(unet, file), Curve(0.7))
    found, expected = run(unet, [one]), run(lora.apply(unet, file, 0.7))
    close(found, expected)
    assert not torch.allclose(run(unet), expected, atol=1e-4)
    # The same strength for every frame, on the path for strengths that differ.
    nearly = Curve(lines=(Line(((0, 0.7), (1, 0.7 + 1e-7)), "hold", "frames"),))
    close(run(unet, [Scheduled(one.updates, nearly)]), expected)


KINDS = {f.__name__: f for f in (low_rank, hadamard, kronecker, kronecker_factored, whole)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", [PATHS[0], PATHS[4]])
def test_every_kind_of_difference_has_a_layer(unet, kind, path):
    factors, _ = KINDS[kind](unet.get_submodule(path).weight)
    file = keys(path, **factors)
    one = Scheduled(lora.beside(unet, file), Curve(0.4))
    close(run(unet, [one]), run(lora.apply(unet, file, 0.4)), atol=1e-4)


def test_a_convolution_in_three_and_a_bias(unet):
    path = PATHS[6]  # which has a stride of 2
    width = len(unet.get_submodule(path).weight)
    file = keys(
        path, down=normal(3, width, 1, 1), mid=normal(2, 3, 3, 3, seed=1),
        up=0.2 * normal(width, 2, 1, 1, seed=2), diff_b=normal(width, seed=3),
    )  # fmt: skip
    close(run(unet, [Scheduled(lora.beside(unet, file), Curve(0.6))]),
          run(lora.apply(unet, file, 0.6)), atol=1e-4)  # fmt: skip


def test_several_add_up_and_one_of_strength_0_is_not_there(unet):
    one, two = toy_file(unet), toy_file(unet, PATHS[:4], seed=90)
    first = Scheduled(lora.beside(unet, one), Curve(0.5))
    second = Scheduled(lora.beside(unet, two), Curve(-0.3))
    close(run(unet, [first, second]), run(lora.apply(lora.apply(unet, one, 0.5), two, -0.3)))
    assert torch.equal(run(unet, [Scheduled(first.updates, Curve(0.0))]), run(unet))
    off = Curve(lines=(Line(((0, 1), (0.5, 0)), "hold"),))
    late = run(unet, [Scheduled(first.updates, off)], step=StepAt(7, 10))
    assert torch.equal(late, run(unet))
    assert not unet.get_submodule(PATHS[0])._forward_hooks


@pytest.mark.parametrize("frames", [None, (5, 6, 0, 1)])
def test_every_frame_is_the_image_model_merged_with_its_own_strength(unet, frames):
    file, values = toy_file(unet), [0.0, 0.3, 0.6, 1.0, 0.1, -0.5, 0.9]
    found = run(unet, [Scheduled(lora.beside(unet, file), per_frame(values))], frames=frames)
    for k, frame in enumerate(frames or range(FRAMES)):
        alone = run(lora.apply(unet, file, values[frame]))
        close(found[:, k], alone[:, k])


def test_steps_change_the_strength(unet):
    file = toy_file(unet)
    ramp = Scheduled(lora.beside(unet, file), Curve(lines=(Line(((0, 1), (1, 0))),)))
    for index, strength in ((0, 1.0), (2, 0.5), (4, 0.0)):
        close(run(unet, [ramp], step=StepAt(index, 5)), run(lora.apply(unet, file, strength)))


@pytest.mark.parametrize("variant", ["v1", "v2"])
def test_with_temporal_layers_a_constant_one_is_as_if_it_were_merged(unet, variant):
    file, sets = toy_file(unet), [Injection(toy_layers(toy_config(variant)))]
    expected = run(lora.apply(unet, file, 0.7), sets=sets)
    updates = lora.beside(unet, file)
    for curve in (Curve(0.7), per_frame([0.7, 0.7 + 1e-7])):
        close(run(unet, [Scheduled(updates, curve)], sets), expected, atol=1e-4)


def test_a_network_keeps_its_updates_whatever_else_changes(unet):
    updates = [Scheduled(lora.beside(unet, toy_file(unet)), Curve(0.5))]
    network = VideoUNet(unet, []).with_updates(updates)
    for other in (network.with_sets([]), network.with_controls([]), network.with_image_unet(unet)):
        assert list(other.updates) == updates


def test_ldms_names_reach_the_modules_of_an_ldm_network(unet):
    """Such as ComfyUI's U-Net: the same modules under other names."""
    path, names = PATHS[0], inverse(unet_table(layout_of(unet.config)))
    old = rename(path, names)
    assert old.startswith("input_blocks.")
    parts, root = old.split("."), torch.nn.Linear(32, 32, bias=False)
    for part in reversed(parts):
        root = torch.nn.ModuleDict({part: root})
    for name in (path, old):
        factors = dict(down=normal(2, 32), up=normal(32, 2))
        assert lora.beside(root, keys(name, **factors), names).paths == (old,)


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        (dict(down=normal(2, 9), up=normal(32, 2)), "but its weight is"),
        (dict(down=normal(2, 32)), "lacks the factor up"),
        (
            dict(down=normal(2, 32), up=normal(32, 2), magnitude=normal(32)),
            "merge it with Load LoRA",
        ),
        (dict(set_weight=normal(32, 32)), "merge it with Load LoRA"),
    ],
)
def test_what_cannot_stand_beside_is_refused_in_one_sentence(unet, factors, words):
    with pytest.raises(CheckpointError, match=words):
        lora.beside(unet, keys(PATHS[0], **factors))


def test_rows_that_are_no_frames_are_refused(unet):
    one = Scheduled(lora.beside(unet, toy_file(unet, PATHS[:1])), per_frame([0.1, 0.2]))
    linear = unet.get_submodule(PATHS[0])
    with updated(unet, [one], Frames(range(4), 1, None)), pytest.raises(ValueError, match="3 rows"):
        linear(normal(3, 7, 32))
