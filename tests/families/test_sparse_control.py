"""SparseCtrl's files and effects, in addition to the recorded cases."""

import pytest
import torch
from diffusers import ControlNetModel
from model_toys import fill, normal, toy_unet
from safetensors.torch import save_file
from steering_toys import motion_config
from torch import nn
from videoldm.core.families import animatediff_sparse
from videoldm.core.networks.conditions import Conditions
from videoldm.core.networks.sites import SD1, layout_of
from videoldm.core.networks.sparse_control import (
    SparseControl,
    SparseControlNet,
    sparse_condition,
)
from videoldm.core.networks.temporal_layers import TemporalLayers
from videoldm.core.networks.video_unet import VideoUNet
from videoldm.core.weights.checkpoints import CheckpointError

X, TEXT, STEP = normal(1, 4, 4, 8, 8), normal(1, 5, 16, seed=1), torch.tensor(500)


def toy_sparse(latents: bool = False, seed: int = 3, masked: bool = True) -> SparseControlNet:
    unet, channels = toy_unet(attention_head_dim=8, norm_num_groups=32), 3 + latents + masked
    encoder = ControlNetModel.from_unet(unet, conditioning_channels=channels)
    if latents:
        encoder.controlnet_cond_embedding = nn.Conv2d(channels, 32, 3, padding=1)
    layers = TemporalLayers(motion_config(layout_of(unet.config)).layers_spec())
    network = SparseControlNet(fill(encoder, seed), fill(layers, seed), takes_latents=latents)
    return network.eval().requires_grad_(False)


def image(latents: bool = False) -> torch.Tensor:
    return normal(1, 4, 8, 8, seed=9) if latents else torch.rand(1, 3, 64, 64)


@pytest.mark.parametrize("latents", [False, True])
@pytest.mark.parametrize("packing", ["bare", "controlnet"])
def test_a_file_loads_to_equal_answers(latents, packing, tmp_path):
    toy = toy_sparse(latents)
    config = motion_config(layout_of(toy.config))
    state = animatediff_sparse.to_original(toy, config)
    if packing == "bare":
        path = tmp_path / "it.safetensors"
        save_file({k: v.contiguous() for k, v in state.items()}, path)
    else:
        # As published: wrapped, with the training's configuration.
        path = tmp_path / "it.ckpt"
        torch.save({"controlnet": {**state, "animatediff_config": {"a": 1}}}, path)
    loaded = animatediff_sparse.load(path)
    assert loaded.takes_latents == latents
    ours, theirs = toy.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    condition = sparse_condition(image(latents), [1], range(4))
    answer = SparseControl(network=loaded, condition=condition)(X, STEP, TEXT)
    assert len(answer.skips) == 4 and answer.middle.isfinite().all()


def test_at_full_size_every_key_is_used_and_none_is_missing():
    with torch.device("meta"):
        encoder = ControlNetModel(
            block_out_channels=SD1.channels, cross_attention_dim=768, attention_head_dim=8,
            conditioning_channels=4,
        )  # fmt: skip
        layers = TemporalLayers(motion_config(SD1).layers_spec())
    state = animatediff_sparse.to_original(SparseControlNet(encoder, layers), motion_config(SD1))
    loaded = animatediff_sparse.assemble(state)
    assert loaded.layers.spec == layers.spec and loaded.config.conditioning_channels == 4
    first = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0"
    assert f"{first}.attention_blocks.0.to_q.weight" in state
    with pytest.raises(CheckpointError, match=r"has unknown keys \(1\): down_blocks.0.motion_mod"):
        animatediff_sparse.assemble(state | {f"{first}.other": state["conv_in.bias"]})


def test_frames_without_an_image_see_those_with_one():
    network = toy_sparse()
    still = SparseControl(network=network, condition=sparse_condition(image()[:0], [], range(4)))
    given = SparseControl(network=network, condition=sparse_condition(image(), [2], range(4)))
    a, b = still(X, STEP, TEXT).middle, given(X, STEP, TEXT).middle
    changed = (a - b).abs().amax((1, 2, 3))
    assert (changed > 1e-4).all()


@pytest.mark.parametrize("latents", [False, True])
def test_a_network_that_was_trained_without_a_mask_reads_the_images_alone(latents):
    toy = toy_sparse(latents, masked=False)
    state = animatediff_sparse.to_original(toy, motion_config(layout_of(toy.config)))
    network = animatediff_sparse.assemble(state)
    assert network.takes_latents == latents and network.config.conditioning_channels == 3 + latents
    condition = sparse_condition(image(latents), [1], range(4))
    unmasked = torch.cat([condition[:, :-1], torch.zeros_like(condition[:, -1:])], dim=1)
    given, same, black = (
        SparseControl(network=network, condition=one)(X, STEP, TEXT).middle
        for one in (condition, unmasked, torch.zeros_like(condition))
    )
    assert torch.equal(given, same)
    assert (given - black).abs().max() > 1e-4


def test_images_stand_at_absolute_frames():
    both = torch.stack([torch.full((3, 2, 2), 0.25), torch.full((3, 2, 2), 0.75)])
    window = sparse_condition(both, [4, 40], range(36, 44))
    assert window[:, -1, 0, 0].tolist() == [0, 0, 0, 0, 1, 0, 0, 0]
    assert window[4, :3].unique().tolist() == [0.75] and window[3, :3].abs().sum() == 0


def test_it_does_not_see_the_noise():
    network, condition = toy_sparse(), sparse_condition(image(), [0], range(4))
    control = SparseControl(network=network, condition=condition)
    a, b = control(X, STEP, TEXT).middle, control(2 * X, STEP, TEXT).middle
    assert torch.equal(a, b)


def test_it_steers_a_video_unet_and_strength_is_a_factor():
    unet = toy_unet(attention_head_dim=8, norm_num_groups=32)
    video, network = VideoUNet(fill(unet), []), toy_sparse()
    condition = sparse_condition(image(), [0], range(4))
    out = []
    for strength in (0.0, 1.0):
        control = SparseControl(network=network, condition=condition, strength=strength)
        with torch.no_grad():
            out.append(video.with_controls([control])(X, STEP, Conditions(text=TEXT)))
    with torch.no_grad():
        torch.testing.assert_close(out[0], video(X, STEP, Conditions(text=TEXT)))
    assert not torch.allclose(out[0], out[1], atol=1e-3)


def test_another_file_is_one_sentence(tmp_path):
    save_file({"a.b": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="x.safetensors is not a SparseCtrl"):
        animatediff_sparse.load(tmp_path / "x.safetensors")
