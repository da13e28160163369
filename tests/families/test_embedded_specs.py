"""Files of the embedded family that describe their layers by one flat table are still read."""

import json

import pytest
from videoldm.core.families.embedded import loading as embedded
from videoldm.core.families.embedded.motion_attention import MotionTransformerSpec
from videoldm.core.families.embedded.specs import spec_from_dict, spec_from_table
from videoldm.core.networks.layers.block_attention import BlockAttentionSpec, TemporalModuleSpec
from videoldm.core.networks.layers.residual import TemporalResBlockSpec
from videoldm.core.networks.layers.transformer import (
    SpaceTimeTransformerSpec,
    TemporalTransformerSpec,
)
from videoldm.core.networks.sites import UNetLayout
from videoldm.core.networks.temporal_layers import TemporalLayers
from videoldm.core.weights.checkpoints import CheckpointError, Header, save

LAYOUT = UNetLayout(channels=(32, 64), layers=1, depths=(1, 1), mid_depth=1)
OLD = {  # as the first version wrote it
    "betas": [], "block_place": "before_feed_forward", "block_positions": "rotary_and_bias",
    "clip_attention": [1], "context_channels": 8, "context_in_place": True, "eps": 1e-05,
    "expansion": 2, "family": "", "heads": [], "kernel": 3,
    "layout": {"channels": [32, 64], "depths": [1, 1], "layers": 1, "mid_depth": 1},
    "learned_blend": True, "max_distance": 32, "modules": False, "motion_attention": [0],
    "motions": 8, "norm_groups": 8, "pooled_host_norms": False, "pooled_norm": False,
    "positions": "sinusoidal", "rates": 0, "shared_noise": 1.0,
    "sites": ["down.0.attn.0", "mid.attn.0", "up.1.res.0"], "sparse_causal": False,
    "text_width": 16, "told_noise": True, "trained_frames": 16,
}  # fmt: skip


def test_a_flat_table_becomes_a_layer_for_each_site():
    spec = spec_from_dict(json.loads(json.dumps(OLD)))
    assert list(spec.layers) == OLD["sites"]
    moving, everywhere, convolution = spec.layers.values()
    assert isinstance(moving, MotionTransformerSpec) and moving.motions == 8
    assert (moving.heads, moving.text, moving.embedding, moving.context) == (1, 16, 128, 32)
    assert isinstance(everywhere, SpaceTimeTransformerSpec) and everywhere.heads == 2
    assert everywhere.positions == "rotary_and_sinusoidal"
    assert isinstance(convolution, TemporalResBlockSpec) and convolution.context == 32
    assert spec.context.in_place and spec.context.channels == 8
    assert spec.prompt_reader.motions == 8 and spec.trained.shared_noise == 1.0


def test_sites_inside_and_between_modules_get_layers_of_their_own():
    spec = spec_from_table(LAYOUT, sites=("down.0.attn.0.block.0", "mid.out", "in"), modules=True,
                           heads=(4, 2), learned_blend=False, told_noise=False)  # fmt: skip
    block, module, first = spec.layers.values()
    assert isinstance(block, BlockAttentionSpec) and block.heads == 4
    assert isinstance(module, TemporalModuleSpec) and not module.learned_blend
    assert isinstance(first, TemporalResBlockSpec) and first.embedding is None
    plain = spec_from_table(LAYOUT, sites=("mid.attn.0",), heads=(4, 4)).layers["mid.attn.0"]
    assert isinstance(plain, TemporalTransformerSpec)
    assert plain.heads == 2  # as these files were trained: a table's heads are for layers in blocks


@pytest.mark.parametrize("name", embedded.TEMPORAL_LAYERS)
def test_the_files_of_the_project_load_and_are_written_in_the_present_form(name, tmp_path):
    layers = embedded.load_temporal_layers(name)
    path = tmp_path / "again.safetensors"
    config = layers.spec.as_dict()
    save(path, layers.state_dict(), Header(family="embedded", kind="temporal_layers",
                                           config=config), dtype=None)  # fmt: skip
    again = embedded.load_temporal_layers(path)
    assert again.spec == layers.spec and again.state_dict().keys() == layers.state_dict().keys()
    assert "positions" not in config and set(config["layers"]) == set(layers.spec.sites)


def test_files_that_cannot_be_read_are_refused_in_one_sentence():
    for values, words in (
        ({**OLD, "colour": 1}, "no colour"),
        ({**OLD, "heads": [2]}, "1 numbers of heads, but 2 levels"),
        ({**OLD, "positions": "relative"}, "relative positions"),
        ({k: v for k, v in OLD.items() if k != "layout"}, "the layout must be an object"),
        ({**OLD, "kernel": "3"}, "kernel must be a whole number, not '3'"),
        (
            {**OLD, "layout": {**OLD["layout"], "depths": None}},
            "depths of the layout must be a list",
        ),
        ({**OLD, "learned_blend": 1}, "learned_blend must be true or false"),
    ):
        with pytest.raises(CheckpointError, match=f"cannot be read: .*{words}"):
            TemporalLayers(spec_from_dict(values))
