"""Single files of image models as they circulate: all namings load, leftovers of training are
ignored, and what cannot be used is named."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from stable_diffusion_toys import assert_same, published, shapes_of, toy_spec
from stable_diffusion_toys import toy_model as build_toy
from videoldm.core.families import stable_diffusion as sd
from videoldm.core.families import stable_diffusion_autoencoders as autoencoders
from videoldm.core.families import stable_diffusion_keys as keys
from videoldm.core.weights import weight_files
from videoldm.core.weights.checkpoints import CheckpointError

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model."
SPEC, OPEN_SPEC = toy_spec("plain"), toy_spec("linear")


@pytest.fixture(scope="module")
def toy():
    return build_toy(SPEC)


@pytest.fixture(scope="module")
def ldm(toy):
    """The single file of the toy, in the usual names."""
    return sd.to_ldm(toy, SPEC)


@pytest.fixture(scope="module")
def open_toy():
    """A toy, and its single file with OpenCLIP's names for the text encoder."""
    model = build_toy(OPEN_SPEC)
    return model, sd.to_ldm(model, OPEN_SPEC)


def load(state, spec=SPEC, **options):
    return sd.from_ldm(state, "it.safetensors", specs={"a": spec}, **options)


def below(state, prefix):
    return {k: v for k, v in state.items() if k.startswith(prefix)}


def without(state, prefix):
    return {k: v for k, v in state.items() if not k.startswith(prefix)}


def renamed(state, *pairs):
    """Keys with the beginnings replaced."""
    found = {}
    for key, value in state.items():
        for old, new in pairs:
            if key.startswith(old):
                key = new + key.removeprefix(old)
                break
        found[key] = value
    return found


def diffusers_unet(toy):
    return dict(toy.model.network.image_unet.state_dict())


def diffusers_vae(toy):
    return dict(toy.autoencoder.state_dict())


def transformers_text(toy):
    return {f"text_model.{k}": v for k, v in keys.clip_names(toy.text_encoder.state_dict()).items()}


# --------------------------------------------------------------------------------------------------
# Spellings of whole checkpoints: all load to the same outputs.


def old_attention(state, names):
    """The autoencoder's attention under other names."""
    table = dict(zip(("norm", "q", "k", "v", "proj_out"), names, strict=True))
    found = {}
    for key, value in state.items():
        head, _, tail = key.partition(".attn_1.")
        name, _, end = tail.rpartition(".")
        found[f"{head}.attn_1.{table[name]}.{end}" if tail else key] = value
    return found


def linear_attention(state):
    return {k: v[..., 0, 0] if ".attn_1." in k and v.ndim == 4 else v for k, v in state.items()}


def wider(value):
    return value.to(torch.float64) if value.is_floating_point() else value


TO_Q = ("group_norm", "to_q", "to_k", "to_v", "to_out.0")
SHORT = ("norm", "to_q", "to_k", "to_v", "to_out")
QUERY = ("group_norm", "query", "key", "value", "proj_attn")

WHOLE = {
    "usual": lambda toy, s: s,
    "double precision": lambda toy, s: {k: wider(v) for k, v in s.items()},
    "U-Net: diffusion_model.": lambda toy, s: renamed(s, (UNET, "diffusion_model.")),
    "U-Net: no prefix": lambda toy, s: renamed(s, (UNET, "")),
    "U-Net: diffusers": lambda toy, s: without(s, UNET) | diffusers_unet(toy),
    "U-Net: diffusers, unet.": lambda toy, s: without(s, UNET)
    | {f"unet.{k}": v for k, v in diffusers_unet(toy).items()},
    "text: no text_model.": lambda toy, s: renamed(
        s, (f"{TEXT}transformer.text_model.", f"{TEXT}transformer.")
    ),
    "text: no transformer.": lambda toy, s: renamed(s, (f"{TEXT}transformer.", TEXT)),
    "text: neither": lambda toy, s: renamed(s, (f"{TEXT}transformer.text_model.", TEXT)),
    "text: transformers alone": lambda toy, s: without(s, TEXT) | transformers_text(toy),
    "text: text_encoder.": lambda toy, s: renamed(s, (f"{TEXT}transformer.", "text_encoder.")),
    "text: clip_l.": lambda toy, s: renamed(s, (TEXT, "text_encoders.clip_l.")),
    "text: OpenCLIP": lambda toy, s: without(s, TEXT)
    | {f"{TEXT}model.{k}": v
       for k, v in keys.text_to_open_clip(toy.text_encoder.state_dict(), 3).items()},
    "text: further layers": lambda toy, s: s
    | {f"{TEXT}transformer.text_model.encoder.layers.7.mlp.fc1.bias": torch.ones(2)},
    "VAE: no prefix": lambda toy, s: renamed(s, (VAE, "")),
    "VAE: vae.": lambda toy, s: renamed(s, (VAE, "vae.")),
    "VAE: diffusers": lambda toy, s: without(s, VAE)
    | {f"vae.{k}": v for k, v in diffusers_vae(toy).items()},
    "VAE: to_q": lambda toy, s: old_attention(s, TO_Q),
    "VAE: to_q, short": lambda toy, s: old_attention(s, SHORT),
    "VAE: query": lambda toy, s: old_attention(s, QUERY),
    "VAE: linear attention": lambda toy, s: linear_attention(s),
    "VAE: to_q, linear": lambda toy, s: linear_attention(old_attention(s, TO_Q)),
}  # fmt: skip


@pytest.mark.parametrize("spelling", WHOLE)
def test_all_spellings_of_a_checkpoint_load_to_the_same_outputs(toy, ldm, spelling):
    state = WHOLE[spelling](toy, ldm)
    assert spelling == "usual" or shapes_of(state) != shapes_of(ldm) or "double" in spelling
    assert_same(toy, load(state))


@pytest.mark.parametrize("prefix", [f"{TEXT}transformer.text_model.", f"{TEXT}transformer."])
def test_open_clips_encoder_under_transformers_names(open_toy, prefix):
    model, state = open_toy
    own = keys.clip_names(model.text_encoder.state_dict())
    state = without(state, TEXT) | {prefix + k: v for k, v in own.items()}
    assert_same(model, load(state, OPEN_SPEC, prediction="eps"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_weights_of_any_precision(ldm, dtype):
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in ldm.items()}
    loaded = load(state).model.network.image_unet.state_dict()["conv_in.weight"]
    expected = ldm[f"{UNET}input_blocks.0.0.weight"].to(dtype).float()
    assert torch.equal(loaded, expected)


@pytest.mark.parametrize("end", ["scale_weight", "weight_scale"])
def test_weights_of_8_bits_with_a_scale_of_their_own(toy, ldm, end):
    key = f"{UNET}middle_block.1.transformer_blocks.0.attn1.to_q"
    scale = torch.tensor(0.25)
    state = ldm | {f"{key}.weight": (ldm[f"{key}.weight"] / scale), f"{key}.{end}": scale,
                   "scaled_fp8": torch.zeros(0)}  # fmt: skip
    assert_same(toy, load(state))


# --------------------------------------------------------------------------------------------------
# Leftovers.

ONE = torch.ones(1)
LEFTOVERS = {
    "schedule": {"betas": ONE, "alphas_cumprod": ONE, "log_one_minus_alphas_cumprod": ONE},
    "counters": {"global_step": ONE, "epoch": ONE, "model_ema.num_updates": ONE,
                 "model_ema.decay": ONE, "model.num_updates": ONE},
    "average": {"model_ema.diffusion_modelinput_blocks00weight": ONE},
    "losses": {"loss.logvar": ONE, f"{VAE}loss.discriminator.main.0.weight": ONE,
               "loss.perceptual_loss.net.slice1.0.weight": ONE},
    "k-diffusion": {"denoiser.sigmas": ONE, "denoiser.log_sigmas": ONE},
    "textual inversion": {"embedding_manager.initial_embeddings.x": ONE,
                          "embedding_manager.string_to_param_dict.*": ONE},
    "positions": {f"{TEXT}transformer.text_model.embeddings.position_ids": torch.arange(77)[None]},
    "temperature": {"logit_scale": ONE, f"{TEXT}logit_scale": ONE,
                    f"{TEXT}transformer.logit_scale": ONE},
    "CLIP's other half": {f"{TEXT}transformer.vision_model.embeddings.class_embedding": ONE,
                          f"{TEXT}transformer.visual_projection.weight": ONE,
                          f"{TEXT}transformer.text_projection.weight": ONE,
                          f"{TEXT}model.visual.proj": ONE},
    "optimizer": {"optimizer.state.0.exp_avg": ONE, "optimizer_states.0.x": ONE,
                  "lr_schedulers.0.last_epoch": ONE},
    "averages of the VAE": {f"{VAE}model_ema.encoderconv_inweight": ONE},
}  # fmt: skip


@pytest.mark.parametrize("kind", LEFTOVERS)
def test_leftovers_of_training_are_ignored(toy, ldm, kind):
    assert_same(toy, load(ldm | LEFTOVERS[kind]))


@pytest.mark.parametrize("key", [f"{VAE}adapter.weight", "control.x.weight", f"{UNET}new.weight"])
def test_what_is_no_leftover_is_not_dropped(ldm, key):
    with pytest.raises(CheckpointError, match=r"adapter|control\.x|is none of"):
        load(ldm | {key: ONE})


# --------------------------------------------------------------------------------------------------
# Parts.


@pytest.mark.parametrize("missing", [(VAE,), (TEXT,), (VAE, TEXT)])
@pytest.mark.parametrize("prefix", [UNET, "diffusion_model.", ""])
def test_what_is_there_is_loaded(toy, ldm, missing, prefix):
    state = ldm
    for one in missing:
        state = without(state, one)
    loaded = load(renamed(state, (UNET, prefix)))
    assert (loaded.autoencoder is None) == (VAE in missing)
    assert (loaded.text_encoder is None) == (TEXT in missing)
    model, whole = loaded.model, toy.model
    assert (model.factor, model.latent_scale) == (whole.factor, whole.latent_scale)
    own, expected = (m.network.image_unet.state_dict() for m in (model, whole))
    assert all(torch.equal(own[k], expected[k]) for k in expected)


def test_a_text_encoder_of_position_numbers_alone_is_missing(ldm):
    state = without(ldm, TEXT) | LEFTOVERS["positions"] | LEFTOVERS["temperature"]
    assert load(state).text_encoder is None


def test_a_file_with_only_the_running_average_is_loaded_from_it(toy, ldm):
    average = {f"model_ema.diffusion_model{k.removeprefix(UNET).replace('.', '')}": v
               for k, v in below(ldm, UNET).items()}  # fmt: skip
    counters = {"model_ema.num_updates": ONE, "model_ema.decay": ONE}
    assert_same(toy, load(without(ldm, UNET) | average | counters))
    own = {k: v + 1 for k, v in average.items()}
    assert_same(toy, load(ldm | own))  # The weights themselves win.


def test_an_incomplete_part_is_not_a_missing_one(ldm):
    for key in (
        f"{VAE}decoder.conv_in.bias",
        f"{TEXT}transformer.text_model.final_layer_norm.bias",
    ):
        with pytest.raises(CheckpointError, match=r"lacks keys \(1\)"):
            load({k: v for k, v in ldm.items() if k != key})


# --------------------------------------------------------------------------------------------------
# Containers.


@pytest.mark.parametrize("wrapper", [None, *weight_files.WRAPPERS])
def test_pickles_wrapped_as_trainers_wrap_them(toy, ldm, wrapper, tmp_path):
    whole = ldm if wrapper is None else {wrapper: ldm, "epoch": 3, "optimizer": {"lr": 0.1}}
    torch.save(whole, tmp_path / "a.ckpt")
    assert_same(toy, sd.load(tmp_path / "a.ckpt", specs={"a": SPEC}))


def test_the_format_is_told_by_the_file_not_by_its_name(toy, ldm, tmp_path):
    state = {k: v.contiguous() for k, v in ldm.items()}
    save_file(state, tmp_path / "a.ckpt")
    save_file(state, tmp_path / "a.sft")
    torch.save(state, tmp_path / "b.safetensors")
    for name in ("a.ckpt", "a.sft", "b.safetensors"):
        assert_same(toy, sd.load(tmp_path / name, specs={"a": SPEC}))


@pytest.mark.parametrize("content, words", [
    (b"", "is empty"),
    (b"<!DOCTYPE html><html>", "is a web page; the download"),
    (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
    (b"GGUF\x03\x00\x00\x00", "GGUF, which is not supported"),
    (b"\x10\x00\x00\x00\x00\x00\x00\x00{\"a\": 1}", "is not a readable safetensors file"),
    (b"\x80\x02}q\x00.", "cannot be read as tensors alone: Invalid magic"),
    (b"PK\x03\x04 not a zip", "cannot be read as tensors alone"),
    (b"\xff" * 100, "a.safetensors is not a readable"),
])  # fmt: skip
def test_files_of_other_bytes_are_one_sentence(tmp_path, content, words):
    (tmp_path / "a.safetensors").write_bytes(content)
    for read in (sd.load, autoencoders.load):
        with pytest.raises(CheckpointError, match=words) as caught:
            read(tmp_path / "a.safetensors")
        assert "\n" not in str(caught.value) and not str(caught.value).endswith(": ")


def test_files_that_may_not_be_read_and_folders_are_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="is a folder, expected a file"):
        weight_files.read_weights(tmp_path)
    save_file({"a": ONE}, tmp_path / "a.safetensors")

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(CheckpointError, match=r"a\.safetensors cannot be read: Permission denied$"):
        weight_files.read_weights(tmp_path / "a.safetensors")


# --------------------------------------------------------------------------------------------------
# Other models.


def changed_first(state, channels):
    first = state[f"{UNET}input_blocks.0.0.weight"]
    wide = torch.empty(len(first), channels, 3, 3, device=first.device)
    return state | {f"{UNET}input_blocks.0.0.weight": wide}


OTHERS = {
    "inpainting": (lambda s: changed_first(s, 9),
                   r"an inpainting model of Stable Diffusion 1\.x, .* \(9 channels instead of 4\)"),
    "editing": (lambda s: changed_first(s, 8), r"image editing model of Stable Diffusion 1\.x"),
    "depth": (lambda s: changed_first(s, 5), "a depth-to-image model"),
    "SDXL of another depth": (
        lambda s: {f"{UNET}label_emb.0.0.weight": ONE,
                   f"{UNET}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight":
                   torch.empty(640, 2048, device="meta")},
        "Stable Diffusion XL with unknown changes"),
    "SDXL's U-Net": (
        lambda s: {"add_embedding.linear_1.weight": ONE,
                   "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight":
                   torch.empty(1280, 2048, device="meta")},
        "it is Stable Diffusion XL with unknown changes"),
    "SVD": (lambda s: {f"{UNET}input_blocks.1.1.time_stack.0.norm_in.weight": ONE} | s,
            "it is Stable Video Diffusion"),
    "SD3": (lambda s: {"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": ONE},
            "it is Stable Diffusion 3"),
    "Flux": (lambda s: {"double_blocks.0.img_attn.qkv.weight": ONE}, "it is Flux"),
    "ControlNet": (lambda s: {"control_model.zero_convs.0.0.weight": ONE}, "it is a ControlNet"),
    "LoRA": (lambda s: {"lora_unet_x.lora_up.weight": ONE}, "it is a LoRA, for Load LoRA"),
    "inversion": (lambda s: {"emb_params": ONE}, "it is a textual inversion"),
    "motion module": (lambda s: {"down_blocks.0.motion_modules.0.x.weight": ONE},
                      "it is the motion modules of AnimateDiff"),
    "enlarger": (lambda s: {"model.1.sub.0.RDB1.conv1.0.weight": ONE}, "it is an image enlarger"),
    "VAE": (lambda s: below(s, VAE), "it is an autoencoder alone, for Load VAE"),
    "text encoder": (lambda s: below(s, TEXT), "it is a text encoder alone"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_other_models_are_named(kind):
    change, words = OTHERS[kind]
    state = change(published("stable diffusion 1"))
    with pytest.raises(CheckpointError, match=words) as caught:
        sd.from_ldm(state, "it.safetensors", device="meta")
    assert "\n" not in str(caught.value) and str(caught.value).startswith("it.safetensors is none")
