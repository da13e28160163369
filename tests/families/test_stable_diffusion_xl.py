"""Image models with two text encoders: files, folders, prompts, noise levels, LoRAs."""

from __future__ import annotations

import pytest
import torch
from model_toys import normal
from safetensors.torch import load_file, save_file
from videoldm.core.families import stable_diffusion as sd
from videoldm.core.families import stable_diffusion_folders as folders
from videoldm.core.families import stable_diffusion_keys as keys
from videoldm.core.families import stable_diffusion_xl as xl
from videoldm.core.families.lora import apply
from videoldm.core.families.stable_diffusion_parts import take_apart
from videoldm.core.networks.conditions import Conditions
from videoldm.core.text.encoders import hidden_states_after
from videoldm.core.weights.checkpoints import CheckpointError
from xl_toys import NAME, POOLED, SPEC, state_of, toy_model, write_file, write_folder

SPECS = {NAME: SPEC}
FULL = sd.SPECS["stable diffusion xl"]


def full_size() -> dict[str, torch.Tensor]:
    """The single file at full size on the meta device, by diffusers' and transformers' modules."""
    prefixed = dict(
        unet=keys.unet_to_ldm(folders.build_unet(FULL.unet).state_dict(), FULL.layout),
        autoencoder=keys.autoencoder_to_ldm(
            folders.build_autoencoder(FULL.autoencoder).state_dict(), 4, 2
        ),
        text=folders.build_text_encoder(FULL.text).state_dict(),
        second=xl.second_text_to_ldm(xl.SecondText(xl.build(FULL.second_text, "it"), None), 32),
    )
    names = dict(unet="model.diffusion_model.", autoencoder="first_stage_model.",
                 text="conditioner.embedders.0.transformer.text_model.",
                 second="conditioner.embedders.1.model.")  # fmt: skip
    extra = {"conditioner.embedders.1.model.logit_scale": torch.empty((), device="meta"),
             "conditioner.embedders.0.transformer.text_model.embeddings.position_ids":
             torch.empty(1, 77, device="meta")}  # fmt: skip
    return extra | {names[k] + key: v for k, part in prefixed.items() for key, v in part.items()}


def test_the_published_sizes():
    """Parameters as published: 2,567 million, and 817 million of both text encoders."""
    state = full_size()
    assert sd.detect({k: v.shape for k, v in state.items()}) == "stable diffusion xl"
    count = {part: sum(v.numel() for v in found.values())
             for part, found in vars(take_apart(state)).items()}  # fmt: skip
    assert count["unet"] == 2_567_463_684
    assert count["text"] == 123_060_480
    assert count["second_text"] == 694_659_840
    assert state["conditioner.embedders.1.model.text_projection"].shape == (1280, 1280)
    loaded = sd.from_ldm(state, "it", device="meta")
    assert loaded.second_text is not None and loaded.model.latent_scale == 0.13025
    assert loaded.model.network.spec.pooled_text


def answers(model: sd.ImageModel) -> list[torch.Tensor]:
    ids = torch.randint(0, 49407, (1, 77), generator=torch.Generator().manual_seed(1))
    ids[:, -1] = 49407
    with torch.no_grad():
        first, _ = hidden_states_after(model.text_encoder, ids, -2)
        second, pooled = hidden_states_after(model.second_text.encoder, ids, -2)
        given = Conditions(text=torch.cat([first, second], -1), pooled_text=pooled)
        x = normal(1, 3, 4, 8, 8, seed=5)
        denoised = model.model.denoiser(given)(x, torch.tensor(3.0))
        pixels = model.autoencoder.decode(x[0]).sample
    return [first, second, pooled, denoised, pixels]


def assert_same(one: sd.ImageModel, two: sd.ImageModel) -> None:
    for a, b in zip(answers(one), answers(two), strict=True):
        # Weights in a mapped file are aligned differently, so that other kernels are used.
        assert (a - b).abs().max() < 1e-4 * a.abs().max()


def test_files_and_folders_load_back_to_equal_outputs(tmp_path):
    model = toy_model()
    assert answers(model)[2].shape == (1, POOLED)
    loaded = sd.load(write_file(tmp_path / "a.safetensors"), specs=SPECS)
    assert_same(model, loaded)
    assert loaded.name == NAME and loaded.second_text.tokenizer.pad_token_id == 0
    assert loaded.tokenizer.pad_token_id == 49407
    folder = sd.load(write_folder(tmp_path / "folder"))
    assert_same(model, folder)
    assert folder.second_text.tokenizer.pad_token_id == 0
    state = state_of(model)
    again = state_of(loaded)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[k], state[k]) for k in state)


def test_files_that_comfyui_wrote_are_read(tmp_path):
    """Its text encoders have transformers' names, and a projection transposed as in nn.Linear."""
    state = state_of(model := toy_model())
    ours = {k: v for k, v in state.items() if not k.startswith("conditioner.")}
    first = model.text_encoder.state_dict()
    first = {f"text_model.{k.removeprefix('text_model.')}": v for k, v in first.items()}
    second = model.second_text.encoder.state_dict()
    ours |= {f"text_encoders.clip_l.transformer.{k}": v for k, v in first.items()}
    ours |= {f"text_encoders.clip_g.transformer.{k}": v for k, v in second.items()}
    save_file({k: v.contiguous() for k, v in ours.items()}, tmp_path / "a.safetensors")
    assert_same(model, sd.load(tmp_path / "a.safetensors", specs=SPECS))


def test_a_file_says_what_it_predicts_and_at_which_noise_levels(tmp_path):
    eps = sd.load(write_file(tmp_path / "a.safetensors"), specs=SPECS).model
    assert eps.prediction == "eps"
    told = {"v_pred": torch.ones(1), "ztsnr": torch.ones(1)}
    v = sd.load(write_file(tmp_path / "b.safetensors", **told), specs=SPECS).model
    assert v.prediction == "v"
    assert v.schedule.sigmas[-1] > 100 * eps.schedule.sigmas[-1]
    other = write_file(tmp_path / "c.safetensors", edm_mean=torch.ones(4))
    with pytest.raises(CheckpointError, match="noise levels of its own"):
        sd.load(other, specs=SPECS)


def test_a_model_without_a_text_encoder_has_none_of_both(tmp_path):
    state = load_file(write_file(tmp_path / "a.safetensors"))
    kept = {k: v for k, v in state.items() if not k.startswith("conditioner.")}
    save_file(kept, tmp_path / "b.safetensors")
    loaded = sd.load(tmp_path / "b.safetensors", specs=SPECS)
    assert loaded.text_encoder is None and loaded.second_text is None


def test_the_refiner_is_refused_in_one_sentence(tmp_path):
    folder = write_folder(tmp_path / "folder")
    (folder / "text_encoder").rename(folder / "gone")
    with pytest.raises(CheckpointError, match="refiner of Stable Diffusion XL"):
        sd.load(folder)
    where = "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight"
    with pytest.raises(CheckpointError, match="it is the refiner of Stable Diffusion XL"):
        sd.from_ldm({where: torch.zeros(64, 1280)}, "it")


def test_the_autoencoder_stays_in_float32(tmp_path):
    loaded = sd.load(write_file(tmp_path / "a.safetensors"), specs=SPECS, dtype=torch.float16)
    assert next(loaded.autoencoder.parameters()).dtype == torch.float32
    assert loaded.model.network.dtype == torch.float16


@pytest.mark.parametrize("spelling", ["kohya", "diffusers"])
def test_loras_change_each_text_encoder_by_its_own_part(spelling):
    model = toy_model()
    names = {"kohya": ("lora_te1_text_model_encoder_layers_1_mlp_fc1.lora_{}.weight",
                       "lora_te2_text_model_encoder_layers_1_mlp_fc1.lora_{}.weight"),
             "diffusers": ("text_encoder.text_model.encoder.layers.1.mlp.fc1.lora_linear_layer.{}"
                           ".weight",
                           "text_encoder_2.text_model.encoder.layers.1.mlp.fc1.lora_linear_layer.{}"
                           ".weight")}[spelling]  # fmt: skip
    lora, sizes = {}, ((16, 32), (24, 40))
    for k, (name, (into, out)) in enumerate(zip(names, sizes, strict=True)):
        lora[name.format("down")] = normal(2, into, seed=2 * k)
        lora[name.format("up")] = normal(out, 2, seed=2 * k + 1)
    for k, (kind, encoder) in enumerate(
        (("first_text", model.text_encoder), ("second_text", model.second_text.encoder))
    ):
        changed = apply(encoder, lora, 0.5, kind=kind)
        down, up = (lora[names[k].format(way)] for way in ("down", "up"))
        layer = getattr(encoder, "text_model", encoder).encoder.layers[1].mlp.fc1.weight
        new = getattr(changed, "text_model", changed).encoder.layers[1].mlp.fc1.weight
        torch.testing.assert_close(new, layer + 0.5 * up @ down)


@pytest.mark.parametrize("prefix", ["lora_te2_text_model_encoder_layers_1_mlp_fc1.lora_{}.weight",
                                    "text_encoder_2.text_model.encoder.layers.1.mlp.fc1.lora_{}"
                                    ".weight"])  # fmt: skip
def test_a_lora_of_the_second_text_encoder_alone_changes_it_and_nothing_else(prefix):
    model = toy_model()
    ways = ("down", "up") if prefix.startswith("lora_") else ("A", "B")
    down, up = normal(2, 24, seed=1), normal(40, 2, seed=2)
    lora = {prefix.format(way): one for way, one in zip(ways, (down, up), strict=True)}
    second = model.second_text.encoder
    changed = apply(second, lora, 0.5, kind="second_text")
    place = "text_model.encoder.layers.1.mlp.fc1.weight"
    before, after = second.state_dict(), changed.state_dict()
    torch.testing.assert_close(after[place], before[place] + 0.5 * up @ down)
    assert all(after[k] is before[k] or k == place or torch.equal(after[k], before[k])
               for k in before)  # fmt: skip
    unet = model.model.network.image_unet
    for module, kind in ((model.text_encoder, "first_text"), (unet, "unet")):
        same = apply(module, lora, 0.5, kind=kind).state_dict()
        assert all(torch.equal(v, same[k]) for k, v in module.state_dict().items())
    with pytest.raises(CheckpointError, match="for other text encoders only"):
        apply(model.text_encoder, lora, 0.5, kind="text")
