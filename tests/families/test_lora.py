"""LoRA files in all their spellings, against the closed form."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel
from videoldm.core.families import lora
from videoldm.core.families.stable_diffusion_keys import inverse, rename, unet_table
from videoldm.core.networks.sites import layout_of
from videoldm.core.weights.checkpoints import CheckpointError

RANK = 2
QUERY = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
OUT = "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0"
CONV = "mid_block.resnets.0.conv1"
POINT = "down_blocks.0.attentions.0.proj_in"
TEXT = "encoder.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=12,
        norm_num_groups=4,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).eval()


@pytest.fixture(scope="module")
def text_encoder() -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            hidden_size=12,
            intermediate_size=20,
            num_hidden_layers=2,
            num_attention_heads=2,
            vocab_size=100,
        )
    ).eval()


def factors(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Random down and up for a weight, as trainers shape them."""
    generator = torch.Generator().manual_seed(len(weight))
    down = torch.randn(RANK, *weight.shape[1:], generator=generator)
    up = torch.randn(len(weight), RANK, *(1,) * (weight.ndim - 2), generator=generator)
    return down, up


def product(down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return (up.flatten(1) @ down.flatten(1)).reshape(len(up), *down.shape[1:])


def kohya(path: str, down, up, alpha: float = 1.0, prefix: str = "lora_unet_") -> dict:
    flat = prefix + path.replace(".", "_")
    return {
        f"{flat}.lora_down.weight": down,
        f"{flat}.lora_up.weight": up,
        f"{flat}.alpha": torch.tensor(alpha),
    }


@pytest.mark.parametrize("path", [QUERY, OUT, CONV, POINT])
def test_a_merged_weight_is_the_closed_form(unet, path):
    state = unet.state_dict()
    down, up = factors(state[f"{path}.weight"])
    merged = lora.merge(state, kohya(path, down, up, alpha=3.0), 0.7)
    expected = state[f"{path}.weight"] + 0.7 * 3.0 / RANK * product(down, up)
    torch.testing.assert_close(merged[f"{path}.weight"], expected)
    assert all(merged[k] is v for k, v in state.items() if k != f"{path}.weight")


def spellings(path: str, down, up) -> dict[str, dict]:
    old = path.replace(".to_", ".processor.to_").removesuffix(".0")
    return {
        "kohya": kohya(path, down, up, alpha=RANK),
        "peft": {f"unet.{path}.lora_A.weight": down, f"unet.{path}.lora_B.weight": up},
        "peft, bare": {
            f"base_model.model.{path}.lora_A.default.weight": down,
            f"base_model.model.{path}.lora_B.default.weight": up,
        },
        "processor": {f"unet.{old}_lora.down.weight": down, f"unet.{old}_lora.up.weight": up},
        "processor, bare": {f"{old}_lora.down.weight": down, f"{old}_lora.up.weight": up},
        "dotted": {f"unet.{path}.lora.down.weight": down, f"unet.{path}.lora.up.weight": up},
    }


@pytest.mark.parametrize("path", [QUERY, OUT])
def test_all_spellings_mean_the_same(unet, path):
    state = unet.state_dict()
    down, up = factors(state[f"{path}.weight"])
    expected = state[f"{path}.weight"] + product(down, up)
    for name, file in spellings(path, down, up).items():
        torch.testing.assert_close(lora.merge(state, file)[f"{path}.weight"], expected, msg=name)


@pytest.mark.parametrize("path", [QUERY, CONV])
def test_ldm_spellings_are_known_where_the_layout_is(unet, path):
    state, layout = unet.state_dict(), layout_of(unet.config)
    old = rename(path, inverse(unet_table(layout)))
    down, up = factors(state[f"{path}.weight"])
    merged = lora.merge(state, kohya(old, down, up, alpha=RANK), table=unet_table(layout))
    torch.testing.assert_close(
        merged[f"{path}.weight"], state[f"{path}.weight"] + product(down, up)
    )


def test_a_convolution_in_three_factors(unet):
    state = unet.state_dict()
    weight = state[f"{CONV}.weight"]
    down, mid = torch.randn(RANK, weight.shape[1], 1, 1), torch.randn(RANK, RANK, 3, 3)
    up = torch.randn(weight.shape[0], RANK, 1, 1)
    file = kohya(CONV, down, up, alpha=RANK)
    file["lora_unet_" + CONV.replace(".", "_") + ".lora_mid.weight"] = mid
    x = torch.randn(1, weight.shape[1], 5, 5)
    conv = torch.nn.functional.conv2d
    change = conv(conv(conv(x, down), mid, padding=1), up)
    got = conv(x, lora.merge(state, file)[f"{CONV}.weight"] - weight, padding=1)
    torch.testing.assert_close(got, change, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "key",
    [
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_{}.weight",
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.{}.weight",
        "text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora.{}.weight",
    ],
)
def test_text_encoders_whatever_the_version_of_transformers(text_encoder, key):
    state = text_encoder.state_dict()
    own = next(k for k in state if k.endswith(f"{TEXT}.weight"))
    down, up = factors(state[own])
    file = {key.format("down"): down, key.format("up"): up}
    merged = lora.merge(state, file, 0.5, "text")
    torch.testing.assert_close(merged[own], state[own] + 0.5 * product(down, up))


def test_one_file_serves_both_parts(unet, text_encoder):
    down, up = factors(unet.state_dict()[f"{QUERY}.weight"])
    text = torch.zeros(12, 12)
    file = kohya(QUERY, down, up) | kohya("text_model." + TEXT, *factors(text), prefix="lora_te_")
    assert list(lora.parse(file, unet.state_dict())) == [QUERY]
    (path,) = lora.parse(file, text_encoder.state_dict(), "text")
    assert path.endswith(TEXT)


def test_apply_leaves_the_network_alone_and_shares_what_did_not_change(unet):
    before = {k: v.clone() for k, v in unet.state_dict().items()}
    down, up = factors(before[f"{QUERY}.weight"])
    clone = lora.apply(unet, kohya(QUERY, down, up))
    assert all(torch.equal(v, before[k]) for k, v in unet.state_dict().items())
    own, cloned = dict(unet.named_parameters()), dict(clone.named_parameters())
    different = [k for k in own if own[k].data_ptr() != cloned[k].data_ptr()]
    assert different == [f"{QUERY}.weight"]
    x, text = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 12)
    with torch.no_grad():
        assert not torch.equal(unet(x, 3, text).sample, clone(x, 3, text).sample)
        same = lora.apply(unet, kohya(QUERY, down, up), 0.0)
        assert torch.equal(unet(x, 3, text).sample, same(x, 3, text).sample)


def test_the_dtype_of_the_weights_is_kept(unet):
    state = {k: v.half() for k, v in unet.state_dict().items()}
    down, up = factors(state[f"{QUERY}.weight"])
    assert lora.merge(state, kohya(QUERY, down, up))[f"{QUERY}.weight"].dtype == torch.float16


def test_alpha_in_the_metadata_counts(unet, tmp_path):
    state = unet.state_dict()
    down, up = factors(state[f"{QUERY}.weight"])
    file = {f"unet.{QUERY}.lora_A.weight": down, f"unet.{QUERY}.lora_B.weight": up}
    save_file(
        file,
        tmp_path / "a.safetensors",
        metadata={"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 8})},
    )
    merged = lora.merge(state, lora.read_lora(tmp_path / "a.safetensors"))
    torch.testing.assert_close(
        merged[f"{QUERY}.weight"], state[f"{QUERY}.weight"] + 8 / RANK * product(down, up)
    )


def test_a_pickled_adapter_of_tensors_alone_is_read(unet, tmp_path):
    state = unet.state_dict()
    down, up = factors(state[f"{QUERY}.weight"])
    file = spellings(QUERY, down, up)["processor, bare"]
    torch.save({"state_dict": {f"module.{k}": v for k, v in file.items()}}, tmp_path / "a.ckpt")
    merged = lora.merge(state, lora.read_lora(tmp_path / "a.ckpt"))
    torch.testing.assert_close(
        merged[f"{QUERY}.weight"], state[f"{QUERY}.weight"] + product(down, up)
    )


def test_unknown_keys_are_counted_and_the_first_five_named(unet):
    file = {f"lora_unet_nowhere_{i}.lora_down.weight": torch.ones(1, 1) for i in range(7)}
    with pytest.raises(CheckpointError, match=r"unknown keys \(7\): .*nowhere_0.*_4$") as e:
        lora.merge(unet.state_dict(), file)
    assert "nowhere_5" not in str(e.value)
    flat = "lora_unet_" + QUERY.replace(".", "_")
    with pytest.raises(CheckpointError, match="lacks the factor hada_w1_b of .*_attn1_to_q"):
        lora.merge(unet.state_dict(), {f"{flat}.hada_w1_a": torch.ones(1)})


def test_a_missing_factor_and_a_wrong_size_are_named(unet):
    state = unet.state_dict()
    down, up = factors(state[f"{QUERY}.weight"])
    with pytest.raises(CheckpointError, match=f"lacks the factor up of {QUERY}"):
        lora.merge(state, {f"unet.{QUERY}.lora_A.weight": down})
    for bad, words in (
        (kohya(QUERY, down[:, :3], up), r"\(2, 3\) and \(8, 2\), but its weight is \(8, 8\)"),
        (kohya(QUERY, down, up[:, :1]), r"by \(8, 1\) times \(2, 8\), which do not fit"),
    ):
        with pytest.raises(CheckpointError, match=words):
            lora.merge(state, bad)
