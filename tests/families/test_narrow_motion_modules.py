"""Motion modules whose transformers have half the channels of the image network's (the original's
temporal_attention_dim_div 2)."""

import pytest
import torch
from animatediff_toys import forward, toy_config, toy_state
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from model_toys import fill, normal
from videoldm.core.families import animatediff
from videoldm.core.families import animatediff_keys as keys
from videoldm.core.families.animatediff_config import detect
from videoldm.core.networks.layers.motion_module import MotionModuleSpec
from videoldm.core.networks.temporal_layers_spec import TemporalLayersSpec

SPEC = MotionModuleSpec(heads=4, norm_groups=8, narrowing=2)


@pytest.mark.parametrize("spelling", ["original", "hotshot", "diffusers"])
def test_they_are_told_by_their_shapes_and_keep_every_key(spelling):
    variant = "hotshot xl" if spelling == "hotshot" else "v3"
    config = toy_config(variant, narrowing=2, spelling=spelling)
    state = toy_state(config)
    found = detect({k: tuple(v.shape) for k, v in state.items()}, norm_groups=8, heads=4)
    assert found.narrowing == 2 and found.tables
    layers = animatediff.assemble(state, config)
    back = animatediff.to_original(layers, config)
    assert back.keys() == state.keys() and all(torch.equal(back[k], state[k]) for k in back)
    assert TemporalLayersSpec.from_dict(layers.spec.as_dict()) == layers.spec
    assert torch.isfinite(forward(layers)).all()


def test_one_gives_what_another_implementation_gives():
    # One frame: diffusers takes statistics of the norm over all frames, the originals per frame.
    other = AnimateDiffTransformer3D(
        num_attention_heads=4, attention_head_dim=32 // 4 // 2, in_channels=32, norm_num_groups=8,
        positional_embeddings="sinusoidal", num_positional_embeddings=32,
    )  # fmt: skip
    fill(other)
    names = {old: keys._with_base(new) for old, new in keys.tails(1, 2, "diffusers").items()}
    state = {k: v for k, v in other.state_dict().items() if not keys.TABLE.search(k)}
    own = SPEC.build(32)
    own.load_state_dict(keys.rename_all(state, names, "it"))
    h = normal(1, 32, 4, 4)
    with torch.no_grad():
        expected = other(h, num_frames=1)
        torch.testing.assert_close(own(h, 1), expected, atol=1e-5, rtol=1e-5)
    blocks = other.transformer_blocks[0], own.blocks[0]
    tokens = normal(5, 3, 16)
    at = torch.zeros(3, 16) + keys.interleaved_sinusoid(torch.arange(3), 16)
    with torch.no_grad():
        expected = blocks[0](tokens).transpose(0, 1)
        frames = blocks[1](tokens.transpose(0, 1).contiguous(), at)
    torch.testing.assert_close(frames, expected, atol=1e-5, rtol=1e-5)
