"""Every kind of adapter against its closed form: merging gives the difference that is built here
from the definition."""

from __future__ import annotations

import pytest
import torch
from test_lora import CONV, OUT, POINT, QUERY, TEXT, text_encoder, unet  # noqa: F401
from videoldm.core.families import lora
from videoldm.core.weights.checkpoints import CheckpointError

RANK, ALPHA, STRENGTH = 2, 3.0, 0.7
NORM = "down_blocks.0.resnets.0.norm1"
PATHS = [QUERY, OUT, CONV, POINT]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def keys(path: str, **factors: torch.Tensor) -> dict[str, torch.Tensor]:
    return {f"lora_unet_{path.replace('.', '_')}.{k}": v for k, v in factors.items()}


def merged(unet, path, strength=STRENGTH, name="weight", **factors):  # noqa: F811
    return lora.merge(unet.state_dict(), keys(path, **factors), strength)[f"{path}.{name}"]


def columns(weight: torch.Tensor) -> int:
    return weight[0].numel()


# --------------------------------------------------------------------------------------------------
# One function per kind: (factors, difference) for a weight. The alpha is ALPHA, the rank RANK.


def low_rank(weight):
    down, up = normal(RANK, columns(weight)), normal(len(weight), RANK, seed=1)
    factors = {"lora_down.weight": down.reshape(RANK, *weight.shape[1:]), "lora_up.weight": up}
    return factors, ALPHA / RANK * torch.einsum("or,rc->oc", up, down)


def hadamard(weight):
    a1, a2 = normal(len(weight), RANK, seed=1), normal(len(weight), RANK, seed=2)
    b1, b2 = normal(RANK, columns(weight), seed=3), normal(RANK, columns(weight), seed=4)
    product = torch.empty(len(weight), columns(weight))
    for row in range(len(weight)):
        for column in range(columns(weight)):
            product[row, column] = (a1[row] @ b1[:, column]) * (a2[row] @ b2[:, column])
    factors = dict(hada_w1_a=a1, hada_w1_b=b1, hada_w2_a=a2, hada_w2_b=b2)
    return factors, ALPHA / RANK * product


def kron(w1, w2):
    """w1 [o1, i1] (x) w2 [o2, i2, ...] by its definition: the block (a, b) is w1[a, b] w2."""
    blocks = [torch.cat([w1[a, b] * w2 for b in range(w1.shape[1])], dim=1) for a in range(len(w1))]
    return torch.cat(blocks, dim=0)


def kronecker(weight):
    """Both factors are whole: there is no rank, so alpha does not count."""
    w1 = normal(2, 4, seed=1)
    w2 = normal(len(weight) // 2, weight.shape[1] // 4, *weight.shape[2:], seed=2)
    return dict(lokr_w1=w1, lokr_w2=w2), kron(w1, w2)


def kronecker_factored(weight):
    w1 = normal(2, 4, seed=1)
    inner = columns(weight) // 4
    a, b = normal(len(weight) // 2, RANK, seed=2), normal(RANK, inner, seed=3)
    w2 = (a @ b).reshape(len(weight) // 2, -1, *weight.shape[2:])
    return dict(lokr_w1=w1, lokr_w2_a=a, lokr_w2_b=b), ALPHA / RANK * kron(w1, w2)


def kronecker_all_factored(weight):
    factors, _ = kronecker_factored(weight)
    a, b = normal(2, RANK, seed=5), normal(RANK, 4, seed=6)
    w2 = factors["lokr_w2_a"] @ factors["lokr_w2_b"]
    w2 = w2.reshape(len(weight) // 2, -1, *weight.shape[2:])
    del factors["lokr_w1"]
    return factors | dict(lokr_w1_a=a, lokr_w1_b=b), ALPHA / RANK * kron(a @ b, w2)


def whole(weight):
    """A whole difference has no alpha."""
    difference = normal(*weight.shape)
    return dict(diff=difference), difference


KINDS = [low_rank, hadamard, kronecker, kronecker_factored, kronecker_all_factored, whole]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_its_closed_form_with_alpha_and_strength(unet, kind, path):  # noqa: F811
    weight = unet.state_dict()[f"{path}.weight"]
    factors, difference = kind(weight)
    expected = weight + STRENGTH * difference.reshape(weight.shape)
    got = merged(unet, path, alpha=torch.tensor(ALPHA), **factors)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert (got - weight).abs().max() > 0.1


@pytest.mark.parametrize("kind", [low_rank, hadamard, kronecker_factored])
def test_without_an_alpha_the_scale_is_one(unet, kind):  # noqa: F811
    weight = unet.state_dict()[f"{CONV}.weight"]
    factors, difference = kind(weight)
    expected = weight + STRENGTH * RANK / ALPHA * difference.reshape(weight.shape)
    torch.testing.assert_close(merged(unet, CONV, **factors), expected, rtol=1e-5, atol=1e-5)


def as_layers(*convolutions):
    """The one 3x3 kernel that equals a sequence of convolutions: its impulse response."""
    side = torch.eye(convolutions[-1].shape[1])[..., None, None]
    x = torch.nn.functional.pad(side, (1, 1, 1, 1))
    for kernel in reversed(convolutions):
        x = torch.nn.functional.conv2d(x, kernel, padding=kernel.shape[-1] // 2)
    return x.transpose(0, 1).flip(2, 3)


def test_cores_of_convolutions_are_convolutions_between_two_of_size_one(unet):  # noqa: F811
    weight = unet.state_dict()[f"{CONV}.weight"]
    rows, inputs = weight.shape[:2]

    def three(seed):
        a, b = normal(RANK, rows, seed=seed), normal(RANK, inputs, seed=seed + 1)
        core = normal(RANK, RANK, 3, 3, seed=seed + 2)
        return a, b, core, as_layers(a.T[..., None, None], core, b[..., None, None])

    (a1, b1, t1, one), (a2, b2, t2, two) = three(1), three(5)
    got = merged(unet, CONV, 1.0, hada_w1_a=a1, hada_w1_b=b1, hada_t1=t1, hada_w2_a=a2,
                 hada_w2_b=b2, hada_t2=t2, alpha=torch.tensor(ALPHA))  # fmt: skip
    torch.testing.assert_close(got, weight + ALPHA / RANK * one * two, rtol=1e-4, atol=1e-4)

    factors = {"lora_up.weight": a1.T[..., None, None], "lora_mid.weight": t1,
               "lora_down.weight": b1[..., None, None]}  # fmt: skip
    torch.testing.assert_close(
        merged(unet, CONV, 1.0, **factors), weight + one, rtol=1e-4, atol=1e-4
    )

    w1 = normal(2, 2, seed=9)
    a, b, core = a1[:, : rows // 2], b1[:, : inputs // 2], t1
    small = as_layers(a.T[..., None, None], core, b[..., None, None])
    got = merged(unet, CONV, 1.0, lokr_w1=w1, lokr_w2_a=a, lokr_w2_b=b, lokr_t2=core)
    torch.testing.assert_close(got, weight + kron(w1, small), rtol=1e-4, atol=1e-4)


# --------------------------------------------------------------------------------------------------
# DoRA.


def rescaled(weight, magnitude, axes):
    """Magnitude times direction: `weight` with the lengths of its rows or columns set."""
    length = weight.pow(2).sum(dim=axes, keepdim=True).sqrt()
    return magnitude.reshape(length.shape) * weight / length


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", [low_rank, hadamard, kronecker_factored])
@pytest.mark.parametrize("strength", [1.0, 0.7])
def test_dora_by_columns_and_by_rows(unet, kind, path, strength):  # noqa: F811
    weight = unet.state_dict()[f"{path}.weight"]
    factors, difference = kind(weight)
    factors["alpha"] = torch.tensor(ALPHA)
    changed = weight + difference.reshape(weight.shape)
    tail = (1,) * (weight.ndim - 2)
    inputs = 1 + normal(1, weight.shape[1], *tail).abs()
    outputs = 1 + normal(len(weight), 1, *tail).abs()
    by_column = rescaled(changed, inputs, (0, *range(2, weight.ndim)))
    by_row = rescaled(changed, outputs, tuple(range(1, weight.ndim)))
    for magnitude, whole in ((inputs, by_column), (outputs, by_row)):
        got = merged(unet, path, strength, dora_scale=magnitude, **factors)
        expected = weight + strength * (whole - weight)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_pefts_magnitude_vectors_are_by_rows_whatever_their_axes(unet):  # noqa: F811
    for path in (QUERY, CONV):
        weight = unet.state_dict()[f"{path}.weight"]
        rows = len(weight)
        down, up = normal(RANK, *weight.shape[1:]), normal(rows, RANK, *weight.shape[2:])
        if weight.ndim == 4:
            up = up[:, :, :1, :1]
        magnitude = 1 + normal(rows).abs()
        changed = weight + (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
        expected = rescaled(changed, magnitude, tuple(range(1, weight.ndim)))
        shape = (rows,) if weight.ndim == 2 else (1, rows, 1, 1)
        for end in ("lora_magnitude_vector", "lora_magnitude_vector.default.weight"):
            file = {f"unet.{path}.lora_A.weight": down, f"unet.{path}.lora_B.weight": up,
                    f"unet.{path}.{end}": magnitude.reshape(shape)}  # fmt: skip
            got = lora.merge(unet.state_dict(), file)[f"{path}.weight"]
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


# --------------------------------------------------------------------------------------------------
# Biases, norms, new values, additions.


def test_biases_are_added_with_the_strength_alone(unet):  # noqa: F811
    state = unet.state_dict()
    bias, change = state[f"{CONV}.bias"], normal(len(state[f"{CONV}.bias"]))
    expected = bias + STRENGTH * change
    for ending in ("diff_b", "b_norm"):
        torch.testing.assert_close(merged(unet, CONV, name="bias", **{ending: change}), expected)
    file = {f"diffusion_model.{CONV}.bias.diff": change}
    torch.testing.assert_close(lora.merge(state, file, STRENGTH)[f"{CONV}.bias"], expected)


def test_the_bias_of_pefts_second_factor_has_the_scale_of_the_factors(unet):  # noqa: F811
    state = unet.state_dict()
    weight, change = state[f"{CONV}.weight"], normal(len(state[f"{CONV}.bias"]))
    factors, _ = low_rank(weight)
    file = {f"unet.{CONV}.lora_A.weight": factors["lora_down.weight"],
            f"unet.{CONV}.lora_B.weight": factors["lora_up.weight"],
            f"unet.{CONV}.lora_B.bias": change,
            f"unet.{CONV}.alpha": torch.tensor(ALPHA)}  # fmt: skip
    got = lora.merge(state, file, STRENGTH)[f"{CONV}.bias"]
    torch.testing.assert_close(got, state[f"{CONV}.bias"] + STRENGTH * ALPHA / RANK * change)


def test_norms_change_by_their_differences(unet):  # noqa: F811
    state = unet.state_dict()
    change = {name: normal(len(state[f"{NORM}.weight"]), seed=k) for k, name in enumerate("wb")}
    got = lora.merge(state, keys(NORM, w_norm=change["w"], b_norm=change["b"]), STRENGTH)
    for name, key in (("w", f"{NORM}.weight"), ("b", f"{NORM}.bias")):
        torch.testing.assert_close(got[key], state[key] + STRENGTH * change[name])


def test_a_new_value_has_no_strength(unet):  # noqa: F811
    value = normal(*unet.state_dict()[f"{NORM}.weight"].shape)
    torch.testing.assert_close(merged(unet, NORM, 0.3, set_weight=value), value)


def test_channels_that_a_file_adds_change_nothing_here(unet):  # noqa: F811
    """`reshape_weight` pads the weight with zeros; the new inputs are zero."""
    weight = unet.state_dict()["conv_in.weight"]
    wider = (len(weight), 8, 3, 3)
    down, up = normal(RANK, *wider[1:]), normal(len(weight), RANK, 1, 1)
    difference = (up.flatten(1) @ down.flatten(1)).reshape(wider)
    factors = {"lora_down.weight": down, "lora_up.weight": up}
    got = merged(unet, "conv_in", reshape_weight=torch.tensor(wider), **factors)
    torch.testing.assert_close(got, weight + STRENGTH * difference[:, :4])
    x = normal(1, 4, 5, 5)
    padded = torch.nn.functional.pad(weight, (0, 0, 0, 0, 0, 4)) + STRENGTH * difference
    conv = torch.nn.functional.conv2d
    torch.testing.assert_close(
        conv(x, got), conv(torch.nn.functional.pad(x, (0, 0, 0, 0, 0, 4)), padded)
    )
    same = merged(unet, QUERY, reshape_weight=torch.tensor((8, 8)),
                  **low_rank(unet.state_dict()[f"{QUERY}.weight"])[0])  # fmt: skip
    plain = merged(unet, QUERY, **low_rank(unet.state_dict()[f"{QUERY}.weight"])[0])
    assert torch.equal(same, plain)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_factors_of_any_precision_are_summed_in_float32(unet, dtype):  # noqa: F811
    weight = unet.state_dict()[f"{QUERY}.weight"]
    factors = {k: v.to(dtype) for k, v in low_rank(weight)[0].items()}
    down, up = factors["lora_down.weight"].float(), factors["lora_up.weight"].float()
    torch.testing.assert_close(merged(unet, QUERY, 1.0, **factors), weight + up @ down)


# --------------------------------------------------------------------------------------------------
# Keys and files for other models.


def test_what_came_along_is_skipped(unet, text_encoder):  # noqa: F811
    """Textual inversions, further text encoders, unused layers."""
    factors, difference = low_rank(unet.state_dict()[f"{QUERY}.weight"])
    one = torch.ones(2, 12)
    file = keys(QUERY, **factors, alpha=torch.tensor(ALPHA)) | {
        "bundle_emb.mood.string_to_param.*": one,
        "bundle_emb.mood.clip_g": one,
        "lora_te2_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight": one,
        "text_encoder_2.text_model.encoder.layers.0.mlp.fc1.lora_A.weight": one,
        "lora_te_text_model_encoder_layers_5_mlp_fc1.lora_down.weight": one,
        "lora_te1_text_projection.lora_down.weight": one,
    }
    state = unet.state_dict()
    got = lora.merge(state, file, 1.0)
    torch.testing.assert_close(got[f"{QUERY}.weight"], state[f"{QUERY}.weight"] + difference)
    words = text_encoder.state_dict()
    assert all(a is b for a, b in zip(lora.merge(words, file, kind="text").values(),
                                      words.values(), strict=True))  # fmt: skip


@pytest.mark.parametrize("file, words", [
    ({"bundle_emb.a.string_to_param.*": torch.ones(1)}, None),
    ({"lora_te2_text_model_x.lora_down.weight": torch.ones(1)}, "for other text encoders only"),
    ({"model.diffusion_model.input_blocks.0.0.weight": torch.ones(1)}, "is not a LoRA; its first"),
    ({f"unet.{QUERY}.oft_blocks": torch.ones(1)}, "holds OFT adapters, which are not supported"),
    ({f"unet.{QUERY}.a1.weight": torch.ones(1)}, "holds GLoRA adapters"),
    ({f"unet.{QUERY}.on_input": torch.ones(1)}, r"holds \(IA\)3 adapters"),
    ({f"unet.{QUERY}.lora_A.weight": torch.ones(2, 8), f"unet.{QUERY}.what": torch.ones(1)},
     r"has unknown keys \(1\): unet.*what"),
    ({"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(2, 8),
      "lora_te2_what": torch.ones(1)}, r"has unknown keys \(1\): lora_te2_what"),
    ({"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": torch.ones(1)}, "made for Flux"),
    ({"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": torch.ones(1)},
     "made for Flux"),
    ({"transformer.transformer_blocks.0.attn.to_q.lora_A.weight": torch.ones(1)},
     "made for Stable Diffusion 3"),
    ({"down_blocks.0.motion_modules.0.temporal_transformer.proj_in.lora_A.weight": torch.ones(1)},
     "made for the motion modules of AnimateDiff"),
    (keys(QUERY, **{"diff_b": torch.ones(8)}), "changes the bias of .*to_q, which has none"),
    (keys(CONV, **{"diff_b": torch.ones(3)}), r"by \(3,\), but it is 16 long"),
    (keys(QUERY, diff=torch.ones(8, 8), dora_scale=torch.ones(3)), "to 3 norms, but its weight"),
])  # fmt: skip
def test_a_file_that_cannot_be_used_is_one_sentence(unet, file, words):  # noqa: F811
    state = unet.state_dict()
    if words is None:
        assert all(a is state[k] for k, a in lora.merge(state, file).items())
        return
    with pytest.raises(CheckpointError, match=words) as caught:
        lora.merge(state, file, name="it.safetensors")
    assert "\n" not in str(caught.value) and str(caught.value).startswith("it.safetensors ")


@pytest.mark.parametrize("kind", ["unet", "text"])
@pytest.mark.parametrize("width, words", [
    (768, "is made for Stable Diffusion 1.x, but this is a model whose prompts have width 12"),
    (2048, "is made for Stable Diffusion XL, but"),
])  # fmt: skip
def test_a_lora_of_another_family_is_told_by_its_width(unet, text_encoder, kind, width, words):  # noqa: F811
    state = (unet if kind == "unet" else text_encoder).state_dict()
    path = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    file = {f"{path}.lora_down.weight": torch.ones(2, width),
            f"{path}.lora_up.weight": torch.ones(8, 2)}  # fmt: skip
    with pytest.raises(CheckpointError, match=words):
        lora.merge(state, file, kind=kind)


@pytest.mark.parametrize("factors", [
    {"lora_down.weight": torch.zeros(4), "lora_up.weight": torch.zeros(4)},
    {"lora_down.weight": torch.zeros(()), "lora_up.weight": torch.zeros(8, 2)},
    {"diff": torch.zeros(())},
    {"hada_w1_a": torch.zeros(3), "hada_w1_b": torch.zeros(3), "hada_w2_a": torch.zeros(3),
     "hada_w2_b": torch.zeros(3)},
    {"lokr_w1": torch.zeros(3), "lokr_w2": torch.zeros(5)},
])  # fmt: skip
def test_factors_with_too_few_axes_are_one_sentence(unet, factors):  # noqa: F811
    with pytest.raises(CheckpointError, match=r"changes .*(fit|but)"):
        lora.merge(unet.state_dict(), keys(QUERY, **factors), 1.0)
