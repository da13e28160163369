"""LaVie's files: every key used, both packings, refusals; its layers in other image models."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lavie_parts import TEXT, config_of, model_of, parts_of
from model_toys import fill, normal, toy_unet
from safetensors.torch import save_file
from videoldm.core.families import lavie
from videoldm.core.families import lora as loras
from videoldm.core.families.lavie_config import KINDS, LavieConfig, detect
from videoldm.core.families.lavie_keys import frequency_keys, split
from videoldm.core.networks.conditions import NOISE_LEVEL, Conditions
from videoldm.core.networks.video_unet import eject
from videoldm.core.weights.checkpoints import CheckpointError

MANIFESTS = Path(__file__).parents[1] / "manifests"


# ------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_of_the_published_file_is_used_and_none_is_missing(kind):
    with gzip.open(MANIFESTS / f"lavie_{kind}.json.gz", "rt") as file:
        manifest = json.load(file)
    shapes = manifest["tensors"]
    config = detect(shapes)
    assert config == LavieConfig.from_original(manifest["meta"]["config"])
    with torch.device("meta"):
        state = {k: torch.empty(shape) for k, shape in shapes.items()}
    parts = lavie.assemble(state, config)
    image, temporal = split(state, config)
    assert len(image) + len(temporal) + len(frequency_keys(config)) == len(shapes)
    back = lavie.to_original(parts, config)
    assert {k: list(v.shape) for k, v in back.items()} == shapes
    again = LavieConfig.from_dict(json.loads(json.dumps(config.as_dict())))
    assert again == config


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_both_packings_and_both_kinds_of_file_give_the_same_model(kind, wrapped, dtype, tmp_path):
    config = config_of(kind)
    state = lavie.to_original(parts_of(config), config)
    state = {k: v.to(dtype) for k, v in state.items()}
    torch.save({"ema": state, "step": 5} if wrapped else state, tmp_path / "a.pt")
    lavie.write(tmp_path / "b.safetensors", state, config, dtype=None)
    one = lavie.load(tmp_path / "a.pt", config=config).network.state_dict()
    two = lavie.load(tmp_path / "b.safetensors").network.state_dict()
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    assert all(v.dtype == torch.float32 for v in one.values())


@pytest.mark.parametrize("kind", KINDS)
def test_taking_apart_and_putting_together_changes_nothing(kind):
    config = config_of(kind)
    parts = parts_of(config)
    state = lavie.to_original(parts, config)
    again = lavie.to_original(lavie.assemble(state, config), config)
    assert again.keys() == state.keys() and all(torch.equal(again[k], state[k]) for k in state)


def test_the_header_decides_before_the_shapes_do(tmp_path):
    config = config_of("interpolation", heads=(4, 2))
    lavie.write(tmp_path / "a.safetensors", lavie.to_original(parts_of(config), config), config)
    model = lavie.load(tmp_path / "a.safetensors")
    (layers,) = model.network.sets
    assert layers.spec.layers["down.0.attn.0.block.0"].heads == 4
    assert eject(model.network).config.norm_num_groups == 8


def test_heads_are_told_by_the_biases():
    config = config_of("base")
    shapes = {k: v.shape for k, v in lavie.to_original(lavie.build(config), config).items()}
    assert detect(shapes, norm_groups=8) == config


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda s: s.pop("conv_out.bias"), "lacks keys \\(1\\): conv_out.bias"),
        (lambda s: s.update({"more.weight": torch.ones(1)}), "unknown keys \\(1\\): more.weight"),
        (lambda s: s.update({"conv_out.bias": torch.ones(5)}), "misshapen.*conv_out.bias"),
        (lambda s: s.pop(next(k for k in s if "freqs" in k)), "lacks keys"),
        (lambda s: s.pop(next(k for k in s if "attn_temp.to_q" in k)), "lacks keys"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(change, words, tmp_path):
    config = config_of("base")
    state = lavie.to_original(parts_of(config), config)
    change(state)
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=words):
        lavie.load(tmp_path / "a.pt", config=config)


def test_other_files_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match="no weight file"):
        lavie.load(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("not weights")
    with pytest.raises(CheckpointError, match="text.pt"):
        lavie.load(tmp_path / "text.pt")
    torch.save({"ema": {"a": 3}}, tmp_path / "numbers.pt")
    with pytest.raises(CheckpointError, match="no tensor at"):
        lavie.load(tmp_path / "numbers.pt")
    save_file(toy_unet().state_dict(), tmp_path / "image.safetensors")
    with pytest.raises(CheckpointError, match="not a LaVie model"):
        lavie.load(tmp_path / "image.safetensors")


# ------------------------------------------------------------------------- image model and layers


def test_its_layers_go_into_another_checkpoint_of_the_same_layout():
    model = model_of("base")
    other = fill(eject(model_of("base").network), seed=7)
    (layers,) = model.network.sets
    host = replace(model.ejected(), network=type(model.network)(other, []))
    moved = host.with_layers(layers)
    x = normal(1, 3, 4, 8, 8)
    out = moved.network(x, torch.tensor(5), Conditions(text=TEXT))
    assert moved.network.image_unet is other and moved.schedule.betas[0].item() == pytest.approx(
        1e-4
    )
    assert not torch.allclose(
        out, model.network(x, torch.tensor(5), Conditions(text=TEXT)), atol=1e-3
    )


def test_a_lora_for_the_image_model_applies():
    model = model_of("base")
    module = "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    factors = {
        f"lora_unet_{module}.lora_down.weight": normal(2, 32),
        f"lora_unet_{module}.lora_up.weight": normal(32, 2),
    }
    unet = model.network.image_unet
    changed = loras.apply(unet, factors)
    before, after = unet.state_dict(), changed.state_dict()
    assert [k for k in before if not torch.equal(before[k], after[k])] == [
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames, height, width", [(1, 4, 4), (3, 5, 7), (9, 6, 3)])
def test_any_number_of_frames_and_any_size(kind, frames, height, width):
    model = model_of(kind)
    x, behind = normal(2, frames, 4, height, width), model.network.spec.concatenated
    given = Conditions(
        text=TEXT.expand(2, -1, -1),
        concatenated=normal(2, frames, behind, height, width, seed=1) if behind else None,
        ids={NOISE_LEVEL: torch.tensor([50, 20])} if kind == "vsr" else {},
    )
    out = model.network(x, torch.tensor([5, 900]), given)
    assert out.shape == x.shape and torch.isfinite(out).all()
