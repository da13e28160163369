"""The standalone host: tensor layouts, devices, folders, and specs of V3 classes."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from videoldm.core.families import stable_diffusion as sd
from videoldm.core.families import stable_diffusion_keys
from videoldm.core.families.stable_diffusion_specs import autoencoder_config
from videoldm.nodes.host.shared.folders import Folders
from videoldm.nodes.host.standalone import io
from videoldm.nodes.host.standalone.devices import Policy
from videoldm.nodes.host.standalone.registry import build_registry, node_spec
from videoldm.nodes.host.tensors import (
    images_from,
    latent_from,
    latents_of,
    pixels_of,
    same_device,
)

# --------------------------------------------------------------------------------------------------
# Layouts.


def test_frames_as_batch_and_five_axes_are_the_same_video():
    frames = torch.randn(5, 4, 2, 3)
    flat = latents_of({"samples": frames})
    deep = latents_of({"samples": frames.movedim(0, 1)[None]})
    assert flat.shape == (1, 5, 4, 2, 3) and torch.equal(flat, deep)
    assert torch.equal(latent_from(flat)["samples"], frames)


def test_several_videos_travel_with_five_axes():
    videos = torch.randn(2, 5, 4, 2, 3)
    latent = latent_from(videos)
    assert latent["samples"].shape == (2, 4, 5, 2, 3)
    assert torch.equal(latents_of(latent), videos)


@pytest.mark.parametrize("samples", [torch.zeros(4, 2, 3), torch.zeros(0, 4, 2, 3), None, "x"])
def test_other_shapes_are_refused(samples):
    with pytest.raises(ValueError, match="latents must be|LATENT must hold"):
        latents_of({"samples": samples})


def test_nan_names_the_frame():
    samples = torch.zeros(2, 4, 5, 2, 3)
    samples[1, 0, 3] = float("inf")
    with pytest.raises(ValueError, match="in 1 of 5 frames, the first is frame 3"):
        latents_of({"samples": samples})
    long = torch.zeros(40, 4, 2, 3)
    long[[21, 37], 0] = float("nan")
    with pytest.raises(ValueError, match="in 2 of 40 frames, the first is frame 21"):
        latents_of({"samples": long})


def test_images_come_back_as_they_were():
    images = torch.rand(3, 4, 6, 3)
    pixels = pixels_of(images)
    assert pixels.shape == (1, 3, 3, 4, 6) and -1 <= pixels.min() and pixels.max() <= 1
    torch.testing.assert_close(images_from(pixels), images)
    assert pixels_of(torch.rand(2, 4, 6, 4)).shape == (1, 2, 3, 4, 6)
    with pytest.raises(ValueError, match="an IMAGE must be"):
        pixels_of(torch.rand(4, 6, 3))


def test_raw_and_scaled_latents_invert_each_other(toys, run):
    model = run("VideoLDM_LoadImageModel").values[0]
    latent = {"samples": torch.randn(3, 4, 2, 2)}
    scaled = toys.to_core(model, latent)
    torch.testing.assert_close(scaled, ((latent["samples"] - 0.1) * 0.7)[None])
    torch.testing.assert_close(toys.from_core(model, scaled)["samples"], latent["samples"])


def test_a_device_without_a_number_is_the_current_one():
    assert same_device(torch.device("cuda"), torch.device("cuda:0"))
    assert not same_device(torch.device("cpu"), torch.device("cuda"))


# --------------------------------------------------------------------------------------------------
# Devices.


def test_the_cpu_works_in_float32_unless_told():
    assert Policy("cpu").dtype == torch.float32
    assert Policy("cpu", "bf16").dtype == torch.bfloat16
    assert Policy("cpu").device == torch.device("cpu")


@pytest.mark.parametrize(("device", "dtype", "words"), [
    ("gpu", "auto", "'gpu' must be one of"), ("cpu", "fp8", "'fp8' must be one of"),
])  # fmt: skip
def test_unknown_devices_and_precisions_are_refused(device, dtype, words):
    with pytest.raises(ValueError, match=words):
        Policy(device, dtype)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_said_so():
    with pytest.raises(ValueError, match="cuda was asked for, but torch sees no GPU"):
        _ = Policy("cuda").device


# --------------------------------------------------------------------------------------------------
# Folders.


@pytest.fixture
def folders(tmp_path):
    for path in ("models/loras/style", "more/loras", "input/sub", "output"):
        (tmp_path / path).mkdir(parents=True)
    for path in (
        "models/loras/style/a.safetensors",
        "more/loras/b.safetensors",
        "models/loras/readme.txt",
        "input/sub/clip.mp4",
        "input/x.png",
        "output/y.mp4",
    ):
        (tmp_path / path).touch()  # fmt: skip
    return Folders(models=[tmp_path / "models", tmp_path / "more"], input=tmp_path / "input",
                   output=tmp_path / "output")  # fmt: skip


def test_models_of_all_folders_are_listed_and_found(folders, tmp_path):
    assert folders.model_names("loras") == ["b.safetensors", "style/a.safetensors"]
    assert folders.model_path("loras", "b.safetensors") == tmp_path / "more/loras/b.safetensors"
    assert folders.model_names("vae") == []


def test_inputs_may_name_their_folder(folders, tmp_path):
    assert folders.input_names("video") == ["sub/clip.mp4"]
    assert folders.input_path("sub/clip.mp4") == tmp_path / "input/sub/clip.mp4"
    assert folders.input_path("y.mp4 [output]") == tmp_path / "output/y.mp4"


def test_a_folder_of_images_has_changed_when_one_of_them_has(folders, tmp_path):
    frames = tmp_path / "input/frames"
    frames.mkdir()
    for name in ("1.png", "2.png"):
        (frames / name).touch()
    (frames / "gone.png").symlink_to(tmp_path / "nowhere")
    before = folders.input_changed("frames")
    os.utime(frames / "1.png", (before + 9, before + 9))
    assert folders.input_changed("frames") == before + 9
    assert folders.input_changed("x.png") == (tmp_path / "input/x.png").stat().st_mtime


def test_only_allowed_files_lie_outside(folders, tmp_path):
    outside = tmp_path / "elsewhere.mp4"
    outside.touch()
    with pytest.raises(ValueError, match="leads out of the folder"):
        folders.input_path(str(outside))
    name = folders.allow(outside)
    assert folders.input_path(name) == outside and name in folders.input_names("video")


def test_saved_files_count_up_and_fill_in_their_names(folders, tmp_path):
    file = folders.new_file("clips/a_%width%x%height%", ".mp4", size=(64, 32))
    assert file.path == tmp_path / "output/clips/a_64x32_00001_.mp4"
    assert folders.new_file("clips/a_64x32", ".webm").path.name == "a_64x32_00002_.webm"
    assert folders.relative(file.finish()) == ("a_64x32_00001_.mp4", "clips")
    year = folders.new_file("%year%-%date:yyyy%", ".mp4").path.name[:9]
    assert year[:4].isdigit() and year[:4] == year[5:]


# --------------------------------------------------------------------------------------------------
# V3 classes.


class Slow(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Slow",
            inputs=[
                io.MultiType.Input("any", types=[io.Image, io.Mask], optional=True),
                io.Int.Input("seed", default=3, min=0, max=9, control_after_generate=True),
                io.Float.Input("forced", force_input=True),
            ],
            outputs=[io.Int.Output(display_name="number"), io.Mask.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(cls, seed, **more):
        return io.NodeOutput(seed + 1, cls.hidden.unique_id, ui={"text": ["done"]})


def test_a_v3_class_becomes_a_spec():
    spec = node_spec(Slow)
    any_, seed, forced = spec.inputs
    assert (any_.type, any_.kind, any_.required) == ("IMAGE,MASK", "socket", False)
    assert (seed.kind, seed.default, seed.maximum, seed.has_control) == ("widget", 3, 9, True)
    assert (forced.kind, forced.type) == ("socket", "FLOAT")
    assert [(one.name, one.type) for one in spec.outputs] == [("number", "INT"), ("MASK", "MASK")]
    result = asyncio.run(spec.execute(seed=4, forced=0.0, unique_id="7"))
    assert result.values == (5, "7") and result.ui == {"text": ["done"]}
    assert Slow.hidden.unique_id is None


def test_two_nodes_cannot_share_an_id():
    with pytest.raises(ValueError, match="two nodes are called Slow"):
        build_registry([Slow, Slow])


def test_unknown_widget_options_are_refused_as_comfyui_does():
    with pytest.raises(TypeError, match="no option maximum"):
        io.Int.Input("a", maximum=3)


# --------------------------------------------------------------------------------------------------
# Published files.


def test_a_published_vae_is_read_by_its_own_names(run, toys, tmp_path, monkeypatch):
    small = autoencoder_config((32, 32), 0.5)
    spec = replace(sd.SPECS["stable diffusion 1"], autoencoder=small)
    monkeypatch.setitem(sd.SPECS, "stable diffusion 1", spec)
    module = AutoencoderKL(**small).eval()
    state = stable_diffusion_keys.autoencoder_to_ldm(module.state_dict(), 2, 2)
    folder = tmp_path / "models" / "vae"
    folder.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "a.safetensors")
    vae = run("VAELoader", vae_name="a.safetensors")
    images = torch.rand(2, 8, 8, 3)
    latent = run("VAEEncode", pixels=images, vae=vae)
    with torch.inference_mode():
        expected = module.encode(pixels_of(images)[0]).latent_dist.mode()
    torch.testing.assert_close(latent["samples"], expected, atol=1e-4, rtol=1e-4)
    assert run("VAEDecode", samples=latent, vae=vae).shape == (2, 8, 8, 3)


def test_a_published_checkpoint_gives_model_clip_and_vae(
    run, toys, toy_family, tmp_path, monkeypatch
):
    folder = tmp_path / "models" / "checkpoints"
    folder.mkdir(parents=True)
    save_file({"a": torch.zeros(1)}, folder / "sd.safetensors")
    from videoldm.core.families.embedded import loading as embedded

    found = embedded.load_image_model()
    monkeypatch.setattr(sd, "load", lambda path, **there: found)
    model, clip, vae = run("CheckpointLoaderSimple", ckpt_name="sd.safetensors").values
    assert model.core.schedule.whole_steps and vae.factor == 4
    assert clip.encode("a cat")[0][0].shape[-1] == 32
    with pytest.raises(ValueError, match="holds an image model.*; an upsampler is needed"):
        run("VideoLDM_LoadUpsampler", upsampler="sd.safetensors")
