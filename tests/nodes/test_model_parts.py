"""Files with only some parts of a model: those work, and using a missing part is an error."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from stable_diffusion_toys import toy_model, toy_spec
from videoldm.core.families import stable_diffusion as sd
from videoldm.core.families.embedded import included
from videoldm.core.families.embedded import loading as embedded
from videoldm.core.families.known_models import of_layout, of_text_width
from videoldm.core.networks.sites import SD1, layout_of
from videoldm.core.weights.checkpoints import Header, read_header, read_state, save
from videoldm.nodes.command.models import describe_file
from videoldm.nodes.headless import main
from videoldm.nodes.host.shared.missing_parts import MissingPart, check_clip, check_vae

SPEC = toy_spec("plain")


@pytest.fixture
def checkpoints(toys, tmp_path, monkeypatch):
    """models/checkpoints, with the toy registered as a published model."""
    monkeypatch.setitem(sd.SPECS, "toy", SPEC)
    folder = tmp_path / "models" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def write(folder, name, *prefixes):
    state = sd.to_ldm(toy_model(SPEC), SPEC)
    kept = {k: v.clone().contiguous() for k, v in state.items() if k.startswith(prefixes)}
    save_file(kept, folder / name)
    return kept


def test_a_unet_alone_samples_with_another_ones_prompts(run, checkpoints):
    write(checkpoints, "unet.safetensors", sd.UNET)
    write(checkpoints, "text.safetensors", sd.UNET, "cond_stage_model.")
    model, clip, vae = run("CheckpointLoaderSimple", ckpt_name="unet.safetensors").values
    other = run("CheckpointLoaderSimple", ckpt_name="text.safetensors").values[1]
    prompts = {"positive": other.encode("a"), "negative": other.encode("")}
    latent = run("EmptyLatentImage", width=64, height=64)
    result = run("KSampler", model=model, latent_image=latent, steps=1, cfg=1.0, **prompts)
    assert result["samples"].shape == (1, 4, 32, 32) and bool(result["samples"].isfinite().all())
    with pytest.raises(ValueError, match="^unet.safetensors holds no text encoder; load one with"):
        run("CLIPTextEncode", clip=clip, text="a cat")
    with pytest.raises(ValueError, match="^unet.safetensors holds no VAE; load one with Load VAE"):
        run("VAEDecode", vae=vae, samples=result)
    with pytest.raises(ValueError, match="^unet.safetensors holds no VAE"):
        run("VideoLDM_TemporalVAEDecode", vae=vae, samples=result)
    with pytest.raises(ValueError, match="^unet.safetensors holds no text encoder"):
        run("VideoLDM_LongHorizonSegments", clip=clip)


def test_a_lora_changes_the_model_although_the_text_encoder_is_missing(run, checkpoints, tmp_path):
    write(checkpoints, "unet.safetensors", sd.UNET)
    (tmp_path / "models" / "loras").mkdir()
    key = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    save_file({f"{key}.diff": torch.ones(16, 16)}, tmp_path / "models" / "loras" / "a.safetensors")
    model, clip, _ = run("CheckpointLoaderSimple", ckpt_name="unet.safetensors").values
    changed, same = run("LoraLoader", model=model, clip=clip, lora_name="a.safetensors").values
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    before, after = (m.core.network.image_unet.state_dict()[name] for m in (model, changed))
    torch.testing.assert_close(after, before + 1)
    assert same is clip


def test_a_vae_out_of_a_checkpoint_and_a_decoder_alone(run, checkpoints, tmp_path):
    folder = tmp_path / "models" / "vae"
    folder.mkdir()
    torch.manual_seed(1)
    from diffusers import AutoencoderKL
    from videoldm.core.families.stable_diffusion_specs import autoencoder_config

    module = AutoencoderKL(**autoencoder_config((32, 32), 0.2)).eval()
    state = {k: v.clone() for k, v in module.state_dict().items()}
    save_file({f"first_stage_model.{k}": v for k, v in state.items()}, folder / "whole.safetensors")
    kept = {k: v for k, v in state.items() if k.startswith(("decoder.", "post_quant_conv."))}
    save_file(kept, folder / "decoder.safetensors")
    latent = {"samples": torch.randn(1, 4, 4, 4)}
    whole, decoder = (run("VAELoader", vae_name=f"{n}.safetensors") for n in ("whole", "decoder"))
    pictures = [run("VAEDecode", vae=vae, samples=latent) for vae in (whole, decoder)]
    torch.testing.assert_close(*pictures)
    with pytest.raises(ValueError, match="has a decoder and no encoder"):
        run("VAEEncode", vae=decoder, pixels=torch.rand(1, 8, 8, 3))


@pytest.mark.parametrize("channels, words", [
    (9, "an inpainting model of .* which also takes a mask and an image"),
    (8, r"an image editing model of .* \(InstructPix2Pix\)"),
])  # fmt: skip
def test_models_of_other_tasks_are_named_by_the_nodes(run, checkpoints, channels, words):
    state = write(checkpoints, "a.safetensors", sd.UNET)
    first = f"{sd.UNET}input_blocks.0.0.weight"
    save_file(state | {first: torch.ones(8, channels, 3, 3)}, checkpoints / "a.safetensors")
    for node, name in (("CheckpointLoaderSimple", "ckpt_name"), ("VideoLDM_LoadUpsampler",
                                                                 "upsampler")):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            run(node, **{name: "a.safetensors"})


def test_what_comfyui_puts_in_place_of_a_missing_part_is_named():
    class Invalid:
        first_stage_model = None

    check_clip(object())
    check_vae(object())
    with pytest.raises(ValueError, match="holds no text encoder; load one with Load CLIP"):
        check_clip(None)
    for vae in (None, Invalid()):
        with pytest.raises(ValueError, match="holds no VAE; load one with Load VAE"):
            check_vae(vae)


# --------------------------------------------------------------------------------------------------
# This project's own format.


def null_in(config, path):
    *outer, last = path.split(".")
    for name in outer:
        config = config[name]
    config[last] = None


@pytest.mark.parametrize("field", ["unet", "unet.channels", "unet.text_width", "unet.layers",
                                   "text", "text.width", "text.layers", "boxes"])  # fmt: skip
def test_null_fields_of_own_files_are_one_sentence(toy_family, tmp_path, field):
    source = toy_family / "image_model.safetensors"
    header = read_header(source)
    config = json.loads(json.dumps(header.config))
    null_in(config, field)
    target = tmp_path / "mine.safetensors"
    save(target, read_state(source), Header(**vars(header) | {"config": config}), dtype=None)
    with pytest.raises(
        ValueError, match="^mine.safetensors has a broken configuration: "
    ) as caught:
        embedded.load_image_model(target)
    assert "NoneType" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("config, words", [
    ({}, "'autoencoder' is missing"),
    ({"autoencoder": {"colour": 3}, "kernel": 3}, "'colour' is not known"),
    ({"autoencoder": {"channels": "8"}, "kernel": 3}, "mine.safetensors has a broken config"),
])  # fmt: skip
def test_fields_of_own_files_that_are_missing_or_unknown(tmp_path, config, words):
    header = Header(family="embedded", kind="temporal_decoder", config=config)
    save(tmp_path / "mine.safetensors", {"a": torch.ones(1)}, header)
    with pytest.raises(ValueError, match=words):
        embedded.load_temporal_decoder(tmp_path / "mine.safetensors")


@pytest.mark.parametrize("text, words", [
    ("{", "has a broken header: "), ("[]", "has a header without family, kind and config"),
    ("{}", "broken header: family must be a text, got null"),
    ('{"family": "x", "kind": "y", "config": null}', "config must be a table, got null"),
    ('{"family": 3, "kind": "y", "config": {}}', "family must be a text, got 3"),
    ('{"family": "x", "kind": "y", "config": {}, "more": 1}', "a header without family"),
])  # fmt: skip
def test_broken_headers_are_one_sentence_everywhere(
    run, checkpoints, tmp_path, text, words, capsys
):
    path = checkpoints / "mine.safetensors"
    save_file({"a": torch.ones(1)}, path, metadata={"videoldm": text})
    with pytest.raises(ValueError, match=f"^mine.safetensors .*{words}") as caught:
        run("CheckpointLoaderSimple", ckpt_name="mine.safetensors")
    assert "\n" not in str(caught.value)
    assert describe_file(path)["name"] == "mine"
    assert main(["convert", str(path), "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_list_of_models_survives_what_cannot_be_read(tmp_path):
    (tmp_path / "gone.safetensors").symlink_to(tmp_path / "nowhere.safetensors")
    (tmp_path / "half.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    (tmp_path / "empty.safetensors").touch()
    for name in ("gone", "half", "empty"):
        found = describe_file(tmp_path / f"{name}.safetensors")
        assert found["error"].startswith("not readable: ") and len(found["error"]) > 20, name


# --------------------------------------------------------------------------------------------------
# Names.


def test_the_names_of_models_are_those_of_the_models(toy_family):
    """The sizes that the table calls embedded are those of the embedded model's files."""
    for name, words in (
        ("image_model", "the embedded model"),
        ("upsampler", "the embedded upsamp"),
    ):
        path = included.WEIGHTS / f"{name}.safetensors"
        config = embedded.tuples(read_header(path).config["unet"])
        with torch.device("meta"):
            unet = embedded.build_unet(embedded.ImageUNetConfig(**config))
        assert of_layout(layout_of(unet.config)).startswith(words)
        assert of_text_width(config["text_width"]) == "the embedded model"
    assert of_layout(SD1) == "Stable Diffusion 1.x and 2.x"
    assert of_layout(SPEC.layout) == "a U-Net with 2 levels of 8 to 16 channels"


def test_who_only_looks_for_an_attribute_is_told_that_a_missing_part_has_none():
    part = MissingPart("x.safetensors holds no VAE")
    assert getattr(part, "patcher", None) is None
    for use in (lambda: part.decode, lambda: part(1)):
        with pytest.raises(ValueError, match="x.safetensors holds no VAE"):
            use()
