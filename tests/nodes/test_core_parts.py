"""Stand-ins for ComfyUI's loaders of a single network, and for its nodes of videos with sound."""

from __future__ import annotations

import pytest
import torch
import xl_toys
from safetensors.torch import save_file
from stable_diffusion_toys import toy_model, toy_spec
from videoldm.core.families import stable_diffusion as sd
from videoldm.core.families.stable_diffusion_specs import SPECS
from videoldm.core.media.files import read_audio
from videoldm.core.networks.conditions import SIZES
from videoldm.nodes.host.shared.sizes import size_ids
from videoldm.nodes.host.standalone.devices import Policy
from videoldm.nodes.host.standalone.host import host
from videoldm.nodes.host.standalone.loaders import Loaders

TEXT = "cond_stage_model.transformer."
SPEC, OPEN_SPEC = toy_spec("plain"), toy_spec("linear")


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The models folder, with the toy registered as a family of its own."""
    monkeypatch.setitem(SPECS, "toy", SPEC)
    for name in ("diffusion_models", "text_encoders"):
        (tmp_path / "models" / name).mkdir(parents=True)
    return tmp_path / "models"


@pytest.fixture(scope="module")
def toy():
    model = toy_model(SPEC)
    return model, sd.to_ldm(model, SPEC)


def part(state, prefix, new=""):
    return {new + k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}


@pytest.mark.parametrize("kind", ["checkpoint", "bare", "wrapped", "diffusers"])
def test_a_diffusion_model_alone(run, folders, toy, kind):
    model, ldm = toy
    unet = model.model.network.image_unet
    state = {"checkpoint": ldm, "bare": part(ldm, "model.diffusion_model."),
             "wrapped": part(ldm, "model.diffusion_model.", "diffusion_model."),
             "diffusers": unet.state_dict()}[kind]  # fmt: skip
    save_file(state, folders / "diffusion_models" / "it.safetensors")
    loaded = run("UNETLoader", unet_name="it.safetensors")
    assert loaded.core.latent_scale == 0.5 and loaded.core.factor == 2
    assert loaded.core.schedule.whole_steps
    for key, weight in loaded.core.network.image_unet.state_dict().items():
        assert torch.equal(weight, unet.state_dict()[key]), key


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("fp8_e4m3fn", torch.float8_e4m3fn), ("fp8_e5m2", torch.float8_e5m2),
     ("fp8_e4m3fn_fast", torch.float8_e4m3fn)],
)  # fmt: skip
def test_fp8_rounds_the_weights(run, folders, toy, name, dtype):
    save_file(toy[1], folders / "diffusion_models" / "it.safetensors")
    loaded = run("UNETLoader", unet_name="it.safetensors", weight_dtype=name)
    whole = toy[0].model.network.image_unet.conv_in.weight
    rounded = loaded.core.network.image_unet.conv_in.weight
    assert torch.equal(rounded, whole.to(dtype).float()) and not torch.equal(rounded, whole)


@pytest.mark.parametrize(
    "prefix",
    ["text_model.", "", f"{TEXT}text_model.", "clip_l.transformer.text_model."],
)
def test_a_text_encoder_alone(run, folders, toy, prefix):
    model, ldm = toy
    state = part(ldm, f"{TEXT}text_model.", prefix)
    extra = {"text_projection.weight": torch.ones(12, 12), "logit_scale": torch.ones(())}
    save_file(state | extra, folders / "text_encoders" / "it.safetensors")
    clip = run("CLIPLoader", clip_name="it.safetensors", type="stable_diffusion")
    ids = torch.tensor([[token for token, _ in clip.tokenize("a cat")[0]]])
    expected = model.text_encoder(input_ids=ids).last_hidden_state
    torch.testing.assert_close(clip.encode("a cat")[0][0], expected)
    assert clip.embeddings.width == 12 and clip.dropped == 0
    assert (
        run("CLIPLoader", clip_name="it.safetensors", type="flux2", device="cpu").device.type
        == "cpu"
    )


def test_an_open_clip_text_encoder_alone(run, folders, monkeypatch):
    monkeypatch.setitem(SPECS, "toy", OPEN_SPEC)
    model = toy_model(OPEN_SPEC)
    state = part(sd.to_ldm(model, OPEN_SPEC), "cond_stage_model.model.")
    save_file(state, folders / "text_encoders" / "it.safetensors")
    clip = run("CLIPLoader", clip_name="it.safetensors")
    ids = torch.tensor([[token for token, _ in clip.tokenize("a cat")[0]]])
    assert ids[0, -1] == 0, "padding of Stable Diffusion 2"
    expected = model.text_encoder(input_ids=ids).last_hidden_state
    torch.testing.assert_close(clip.encode("a cat")[0][0], expected)
    with pytest.raises(ValueError, match="last 1 of its 4 layers"):
        run("CLIPSetLastLayer", clip=clip, stop_at_clip_layer=-1)
    assert run("CLIPSetLastLayer", clip=clip, stop_at_clip_layer=-2).stop == -2


@pytest.mark.parametrize("spelling", ["transformers", "open_clip"])
def test_two_text_encoders_of_two_files(run, folders, monkeypatch, spelling):
    monkeypatch.setitem(SPECS, "toy xl", xl_toys.SPEC)
    model = xl_toys.toy_model()
    state = xl_toys.state_of(model)
    first = part(state, "conditioner.embedders.0.transformer.")
    second = part(state, "conditioner.embedders.1.model.")
    if spelling == "transformers":
        second = model.second_text.encoder.state_dict()
    for name, weights in (("l", first), ("g", second)):
        save_file(weights, folders / "text_encoders" / f"{name}.safetensors")
    expected = Loaders(host.folders, Policy("cpu", "fp32"))._clip(model).encode("a red circle")
    for names in (("l", "g"), ("g", "l")):
        files = {f"clip_name{k + 1}": f"{name}.safetensors" for k, name in enumerate(names)}
        clip = run("DualCLIPLoader", **files, type="sdxl")
        ((tokens, more),) = clip.encode("a red circle")
        torch.testing.assert_close(tokens, expected[0][0])
        torch.testing.assert_close(more["pooled_output"], expected[0][1]["pooled_output"])
    same = {"clip_name1": "l.safetensors", "clip_name2": "l.safetensors"}
    with pytest.raises(ValueError, match="l.safetensors of width 16 and l.* are not the two"):
        run("DualCLIPLoader", **same, type="sdxl")
    with pytest.raises(ValueError, match="the type flux needs ComfyUI"):
        run("DualCLIPLoader", **same, type="flux")


def test_a_prompt_for_each_text_encoder_and_sizes(run):
    clip = Loaders(host.folders, Policy("cpu", "fp32"))._clip(xl_toys.toy_model())
    sizes = dict(width=640, height=480, crop_w=8, crop_h=16, target_width=64, target_height=32)
    texts = {"text_g": "a red circle", "text_l": "by night"}
    ((tokens, more),) = run("CLIPTextEncodeSDXL", clip=clip, **sizes, **texts)
    width = xl_toys.TEXT["hidden_size"]
    torch.testing.assert_close(tokens[..., :width], clip.encode("by night")[0][0][..., :width])
    whole = clip.encode("a red circle")[0]
    torch.testing.assert_close(tokens[..., width:], whole[0][..., width:])
    torch.testing.assert_close(more["pooled_output"], whole[1]["pooled_output"])
    spec = xl_toys.toy_model().model.network.spec
    told = size_ids(spec, [[tokens, more]])[SIZES]
    assert told.tolist() == [[480, 640, 16, 8, 32, 64]]
    longer = {"text_l": ", ".join(["a red circle moves"] * 30), "text_g": "short"}
    ((tokens, _),) = run("CLIPTextEncodeSDXL", clip=clip, **sizes, **longer)
    assert tokens.shape[1] == 2 * 77
    with pytest.raises(ValueError, match="2 different sizes"):
        size_ids(spec, [[tokens, more], [tokens, {**more, "width": 8}]])
    assert size_ids(spec, clip.encode("a red circle")) == {}


def test_a_prompt_for_each_of_two_needs_two_text_encoders(run):
    _, clip, _ = run("VideoLDM_LoadImageModel").values
    with pytest.raises(ValueError, match="this CLIP has 1: use CLIP Text Encode"):
        run("CLIPTextEncodeSDXL", clip=clip, text_g="a", text_l="b")


def test_files_and_types_for_other_models_are_one_sentence(run, folders, toy):
    from videoldm.nodes.host.standalone.core_nodes_parts import CLIP_TYPES

    save_file({"a.b": torch.ones(1)}, folders / "text_encoders" / "none.safetensors")
    wide = {"text_model.embeddings.token_embedding.weight": torch.ones(9, 1280)}
    save_file(wide, folders / "text_encoders" / "wide.safetensors")
    for name, words in (("none", "no CLIP text encoder"), ("wide", "width 1280, known are 768 ")):
        with pytest.raises(ValueError, match=words):
            run("CLIPLoader", clip_name=f"{name}.safetensors")
    with pytest.raises(ValueError, match="the type sd3 needs ComfyUI"):
        run("CLIPLoader", clip_name="wide.safetensors", type="sd3")
    assert CLIP_TYPES[0] == "stable_diffusion" and len(set(CLIP_TYPES)) == len(CLIP_TYPES)
    save_file({"a.b": torch.ones(1)}, folders / "diffusion_models" / "none.safetensors")
    with pytest.raises(ValueError, match="none.safetensors is none of"):
        run("UNETLoader", unet_name="none.safetensors")


# --------------------------------------------------------------------------------------------------
# Videos with sound.


@pytest.mark.parametrize("channels", [1, 2])
def test_a_video_is_made_with_its_sound(run, toys, tmp_path, channels):
    rate, seconds = 16_000, 2
    wave = torch.sin(torch.arange(rate * seconds) * 2 * torch.pi * 440 / rate) / 2
    audio = {"waveform": wave.expand(1, channels, -1), "sample_rate": rate}
    video = run("CreateVideo", images=torch.rand(8, 32, 32, 3), fps=4.0, audio=audio)
    run("SaveVideo", video=video, filename_prefix="a", format="mp4")
    found = read_audio(tmp_path / "output" / "a_00001_.mp4")
    assert found.sample_rate == rate and found.waveform.shape[0] == channels
    assert found.waveform.shape[1] == pytest.approx(rate * seconds, abs=2048)
    middle = found.waveform[0, 4000:-4000]
    assert float(middle.std()) == pytest.approx(float(wave.std()), rel=0.1)
    back = run("GetVideoComponents", video=video).values
    assert torch.equal(back[1]["waveform"], audio["waveform"]) and back[2] == 4.0


def test_longer_sound_ends_with_the_pictures(run, toys, tmp_path):
    audio = {"waveform": torch.rand(1, 2, 16_000 * 5) - 0.5, "sample_rate": 16_000}
    video = run("CreateVideo", images=torch.rand(4, 32, 32, 3), fps=4.0, audio=audio)
    run("SaveVideo", video=video, filename_prefix="a", format="mp4")
    found = read_audio(tmp_path / "output" / "a_00001_.mp4")
    assert found.waveform.shape[1] == pytest.approx(16_000, abs=2048)
