"""Published image checkpoints: names and shapes at full size, values at toy size, and bad files."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from stable_diffusion_toys import (
    FULL,
    TOYS,
    assert_same,
    manifest,
    published,
    save_folder,
    shapes_of,
    toy_model,
    toy_spec,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from videoldm.core.diffusion.schedules import scaled_linear
from videoldm.core.families import stable_diffusion as sd
from videoldm.core.families import stable_diffusion_folders as folders
from videoldm.core.families import stable_diffusion_keys as keys
from videoldm.core.families.stable_diffusion_parts import take_apart
from videoldm.core.networks.sites import SD1, SDXL
from videoldm.core.text.clip_vocabulary import ClipTokenizer
from videoldm.core.text.encoders import encode_text, train_tokenizer

# --------------------------------------------------------------------------------------------------
# Full size, on the meta device.


@pytest.mark.parametrize("family", FULL)
def test_published_files_are_told_apart_by_names_and_shapes(family):
    assert sd.detect(shapes_of(published(family))) == family


@pytest.mark.parametrize("family", FULL)
def test_every_published_key_is_used_and_none_is_missing(family):
    spec = sd.SPECS[family]
    parts = vars(sd.arranged(take_apart(published(family)), spec))
    modules = {
        "unet": folders.build_unet(spec.unet),
        "autoencoder": folders.build_autoencoder(spec.autoencoder),
        "text": folders.build_text_encoder(spec.text),
    }
    for name, module in modules.items():
        state = module.state_dict()
        own = keys.clip_names(state) if name == "text" else state
        assert shapes_of(parts[name]) == shapes_of(own), name


@pytest.mark.parametrize("family", FULL)
def test_writing_a_published_file_gives_its_names_and_shapes_back(family):
    spec = sd.SPECS[family]
    file = published(family)
    whole = sd.from_ldm(file, family, device="meta", prediction="eps")
    written = shapes_of(sd.to_ldm(whole, spec))
    left_out = set(manifest(FULL[family])["tensors"]) - set(written)
    assert written.items() <= shapes_of(file).items()
    assert all(
        ".resblocks.23." in k or k.endswith(("position_ids", "text_projection", "logit_scale"))
        for k in left_out
    )


def test_the_unet_table_is_the_published_one():
    prefix = "model.diffusion_model."
    published_map = manifest("sd15_unet_keymap")["map"]
    table = keys.unet_table(SD1)
    ours = {k: keys.rename(k.removeprefix(prefix), table) for k in published_map}
    assert ours == published_map


def test_the_unet_table_of_sdxl_names_every_weight_of_diffusers_unet():
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=SDXL.channels,
            layers_per_block=2,
            cross_attention_dim=64,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=64,
            use_linear_projection=True,
        )
    state = unet.state_dict()
    there = keys.unet_to_ldm(state, SDXL)
    assert "label_emb.0.2.weight" in there and "output_blocks.2.2.conv.weight" in there
    assert list(keys.unet_from_ldm(there, SDXL)) == list(state)


# --------------------------------------------------------------------------------------------------
# Toy size: real values.


@pytest.mark.parametrize("toy", TOYS)
def test_a_model_written_in_ldm_names_loads_back_to_equal_outputs(toy, tmp_path):
    spec = toy_spec(toy)
    model = toy_model(spec)
    state = sd.to_ldm(model, spec)
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "a.safetensors")
    torch.save({"state_dict": state | {"betas": torch.ones(3)}}, tmp_path / "a.ckpt")
    for file in ("a.safetensors", "a.ckpt"):
        loaded = sd.load(tmp_path / file, specs={toy: spec})
        assert_same(model, loaded)
        assert loaded.name == toy
        assert not any(p.requires_grad for p in loaded.text_encoder.parameters())
    again = sd.to_ldm(loaded, spec)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[k], state[k]) for k in state)


def test_an_open_clip_tower_gives_its_last_but_one_layer_after_the_final_norm():
    spec = toy_spec("linear")
    whole = CLIPTextModel(CLIPTextConfig(**spec.text | dict(num_hidden_layers=4))).eval()
    file = keys.text_to_open_clip(whole.state_dict(), 4)
    file |= {"text_projection": torch.ones(12, 12), "logit_scale": torch.tensor(1.0)}
    used = folders.load_text_encoder(
        folders.build_text_encoder(spec.text),
        keys.text_from_open_clip(file, 3),
        "it",
        torch.float32,
    )
    ids = torch.arange(77)[None]
    with torch.no_grad():
        layers = whole(input_ids=ids, output_hidden_states=True).hidden_states
        norm = getattr(whole, "text_model", whole).final_layer_norm
        torch.testing.assert_close(encode_text(used, ids), norm(layers[-2]))


class OpenClip(torch.nn.Module):
    """OpenCLIP's text tower in torch's own layers, under its published names, without the head."""

    class Block(torch.nn.Module):
        def __init__(self, width: int, heads: int, inner: int):
            super().__init__()
            self.ln_1, self.ln_2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
            self.attn = torch.nn.MultiheadAttention(width, heads, batch_first=True)
            self.mlp = torch.nn.Sequential()
            self.mlp.add_module("c_fc", torch.nn.Linear(width, inner))
            self.mlp.add_module("gelu", torch.nn.GELU())
            self.mlp.add_module("c_proj", torch.nn.Linear(inner, width))

        def forward(self, x, mask):
            h = self.ln_1(x)
            x = x + self.attn(h, h, h, attn_mask=mask, need_weights=False)[0]
            return x + self.mlp(self.ln_2(x))

    def __init__(self, width=12, heads=2, inner=20, layers=4):
        super().__init__()
        self.token_embedding = torch.nn.Embedding(49408, width)
        self.positional_embedding = torch.nn.Parameter(torch.randn(77, width))
        self.transformer = torch.nn.Module()
        self.transformer.resblocks = torch.nn.ModuleList(
            [self.Block(width, heads, inner) for _ in range(layers)]
        )
        self.ln_final = torch.nn.LayerNorm(width)

    def forward(self, ids, skip):
        x = self.token_embedding(ids) + self.positional_embedding
        mask = torch.full((77, 77), float("-inf")).triu(1)
        blocks = list(self.transformer.resblocks)
        for block in blocks[: len(blocks) - skip]:
            x = block(x, mask)
        return self.ln_final(x)


def test_an_open_clip_tower_gives_what_open_clip_itself_gives():
    torch.manual_seed(0)
    original = OpenClip().eval()
    for parameter in original.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    converted = keys.text_from_open_clip(original.state_dict(), 3)
    ours = folders.load_text_encoder(
        folders.build_text_encoder(toy_spec("linear").text), converted, "it", torch.float32
    )
    ids = torch.randint(0, 49408, (2, 77))
    with torch.no_grad():
        torch.testing.assert_close(
            encode_text(ours, ids), original(ids, skip=1), rtol=1e-4, atol=1e-5
        )


def test_a_diffusers_folder_loads_to_equal_outputs(tmp_path):
    model = toy_model(toy_spec("plain"))
    save_folder(model, tmp_path / "a", prediction_type="v_prediction")
    encoder = tmp_path / "a" / "text_encoder"
    (encoder / "model.safetensors").rename(encoder / "model.fp16.safetensors")
    loaded = sd.load(tmp_path / "a")
    assert_same(model, loaded)
    assert loaded.model.prediction == "v"
    torch.testing.assert_close(loaded.model.schedule.alphas_cumprod, scaled_linear().alphas_cumprod)
    assert loaded.tokenizer == ClipTokenizer(49407)


def test_a_folder_of_an_upscaler_brings_its_second_schedule(tmp_path):
    model = toy_model(toy_spec("upscaler"))
    save_folder(model, tmp_path, prediction_type="v_prediction")
    (tmp_path / "low_res_scheduler").mkdir()
    (tmp_path / "low_res_scheduler" / "scheduler_config.json").write_text(
        '{"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02}'
    )
    loaded = sd.load(tmp_path, dtype=torch.float16)
    assert loaded.model.max_noise_level == 350 and loaded.model.low_res_channels == 3
    assert loaded.model.noise_schedule_for_low_res.betas[-1] == pytest.approx(0.02)
    assert loaded.model.dtype == torch.float16 and loaded.autoencoder.dtype == torch.float32


def test_a_folders_own_tokenizer_is_preferred(tmp_path):
    save_folder(toy_model(toy_spec("plain")), tmp_path)
    train_tokenizer(["a red circle", "a blue square"], tmp_path / "words", vocabulary=600)
    CLIPTokenizer.from_pretrained(str(tmp_path / "words")).save_pretrained(tmp_path / "tokenizer")
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / "tokenizer" / name).write_bytes((tmp_path / "words" / name).read_bytes())
    tokenizer = sd.load(tmp_path).tokenizer
    assert isinstance(tokenizer, CLIPTokenizer) and len(tokenizer) < 700


def test_old_folders_names_of_the_autoencoders_attention_are_understood():
    state = toy_model(toy_spec("plain")).autoencoder.state_dict()
    old = {}
    for key, tensor in state.items():
        for before, after in keys.OLD_AUTOENCODER_ATTENTION.items():
            key = key.replace(f".attentions.0.{after}.", f".attentions.0.{before}.")
        old[key] = tensor
    assert old.keys() != state.keys()
    assert keys.modern_autoencoder(old).keys() == state.keys()


@pytest.mark.parametrize("spread, expected", [(0.05, "eps"), (0.2, "v")])
def test_the_prediction_of_stable_diffusion_2_is_told_by_a_weight(spread, expected):
    spec = toy_spec("linear")
    model = toy_model(spec)
    up = model.model.network.image_unet.up_blocks[-1]
    bias = up.attentions[-1].transformer_blocks[0].norm1.bias.data
    bias.copy_(torch.linspace(-1, 1, len(bias)))
    bias.mul_(spread / bias.std(unbiased=False))
    state = sd.to_ldm(model, spec)
    assert sd.from_ldm(state, "it", specs={"a": spec}).model.prediction == expected
    assert sd.from_ldm(state, "it", specs={"a": spec}, prediction="x0").model.prediction == "x0"


def test_published_numbers_of_the_upscaler():
    whole = sd.from_ldm(published("stable diffusion x4 upscaler"), "x4", device="meta")
    model = whole.model
    assert (model.factor, model.latent_scale, model.latent_channels) == (4, 0.08333, 4)
    assert (model.prediction, model.max_noise_level, model.low_res_channels) == ("v", 350, 3)
    assert model.schedule.betas[0] == pytest.approx(1e-4)
    assert whole.tokenizer.pad_token_id == 0 and whole.dropped_layers == 1


def test_a_spec_must_match_in_channels_too():
    spec = toy_spec("plain")
    shapes = shapes_of(sd.to_ldm(toy_model(spec), spec))
    wider = replace(spec, unet=spec.unet | dict(in_channels=9))
    assert sd.detect(shapes, {"wider": wider, "a": spec}) == "a"
