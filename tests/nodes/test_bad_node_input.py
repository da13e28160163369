"""Bad input raises a one-sentence error that states the numbers, before anything is sampled."""

from __future__ import annotations

import json

import pytest
import torch
from node_inputs import strategy
from videoldm.nodes.host.file_names import inside
from videoldm.nodes.host.shared.folders import Folders

STEPS = {"steps": 1}


@pytest.fixture
def wires(run):
    model, clip, vae = run("VideoLDM_LoadImageModel").values
    prompts = {"positive": clip.encode("a red circle"), "negative": clip.encode("")}
    return {"model": model, "clip": clip, "vae": vae, "prompts": prompts}


def latent(frames=2, side=4, value=0.1):
    return {"samples": torch.full((frames, 4, side, side), float(value))}


def given(name):
    return f"embedded: {name}"


def refused(run, node_id, words, **inputs):
    with pytest.raises(ValueError, match=words) as caught:
        run(node_id, **inputs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("inputs", "words"), [
    ({"width": 18}, "18x16 must be divisible by 4"),
    (strategy("sliding windows", window=4, overlap=4),
     "overlap 4 must be smaller than window 4"),
    ({"context": latent()}, "cannot be given frames"),
    (strategy("prediction"), "cannot be given frames"),
    (strategy("sparse first"), "cannot be given frames"),
    (strategy("sparse first", first_frames=7), "first_frames 7 must not exceed frames 6"),
    ({"context": latent(), **strategy("sparse first")}, "takes no context frames"),
    (strategy("video to video", latent=latent(2)), "latent has 2 frames, but the video has 6"),
    (strategy("video to video", latent=latent(6, side=8)),
     "frames of latent are 32x32 pixels, but the video is 16x16"),
])  # fmt: skip
def test_the_sampler_refuses(run, wires, inputs, words):
    settings = {"width": 16, "height": 16, "frames": 6, **STEPS, **wires["prompts"]}
    refused(run, "VideoLDM_VideoSampler", words, model=wires["model"], **{**settings, **inputs})


def test_context_must_fit_the_video(run, wires):
    layers = run("VideoLDM_LoadTemporalLayers", layers=given("prediction"))
    model = run("VideoLDM_InjectTemporalLayers", model=wires["model"], layers=layers, sites="")
    settings = {"model": model, "width": 16, "height": 16, **STEPS, **wires["prompts"]}
    sampler = "VideoLDM_VideoSampler"
    refused(run, sampler, "32x32 pixels, but the video is 16x16", frames=4,
            context=latent(side=8), **settings)  # fmt: skip
    refused(run, sampler, "2 context frames leave nothing", frames=2,
            context=latent(2), **strategy(context_frames=2), **settings)  # fmt: skip
    refused(run, sampler, "NaN .* in 2 of 2 frames, the first is frame 0", frames=4,
            context=latent(value=float("nan")), **settings)  # fmt: skip
    refused(run, sampler, "context_frames 3 must be smaller than window 3", frames=9,
            **strategy("prediction", window=3, context_frames=3), **settings)  # fmt: skip


def test_prompts_of_another_family_are_refused(run, wires):
    foreign = [[torch.zeros(1, 77, 768), {}]]
    inputs = {"model": wires["model"], "width": 16, "height": 16, **STEPS}
    refused(run, "VideoLDM_VideoSampler", "for Stable Diffusion 1.x, but this is a model .* 32",
            positive=foreign, negative=wires["prompts"]["negative"], **inputs)  # fmt: skip


def test_layers_of_another_layout_are_refused(run, toys, wires):
    from videoldm.core.families.embedded.specs import spec_from_table
    from videoldm.core.networks.sites import SD1
    from videoldm.core.networks.temporal_layers import TemporalLayers

    with torch.device("meta"):
        layers = TemporalLayers(spec_from_table(SD1, sites=("mid.res.0",)))
    refused(run, "VideoLDM_InjectTemporalLayers", "are made for Stable Diffusion 1.x and 2.x, but",
            model=wires["model"], layers=layers.to_empty(device="cpu"), sites="")  # fmt: skip


@pytest.mark.parametrize(("sites", "words"), [
    ("down.0", "written as in down.0=0.5"),
    ("down.0=much", "written as in down.0=0.5"),
    ("left.0=1", "'left.0' is not a site"),
])  # fmt: skip
def test_strengths_per_site_are_read_strictly(run, wires, sites, words):
    layers = run("VideoLDM_LoadTemporalLayers", layers=given("text to video"))
    refused(run, "VideoLDM_InjectTemporalLayers", words, model=wires["model"], layers=layers,
            sites=sites)  # fmt: skip


def test_interpolation_needs_its_layers_and_two_frames(run, wires):
    node, prompts = "VideoLDM_InterpolateFrames", wires["prompts"]
    refused(run, node, "cannot be given frames", model=wires["model"], latent=latent(), **prompts)
    layers = run("VideoLDM_LoadTemporalLayers", layers=given("interpolation"))
    model = run("VideoLDM_InjectTemporalLayers", model=wires["model"], layers=layers, sites="")
    refused(run, node, "1 frame was given", model=model, latent=latent(1), **prompts)


def test_upsampling_needs_an_upsampler_and_fitting_settings(run, wires):
    node, images = "VideoLDM_UpsampleVideo", torch.rand(2, 8, 8, 3)
    refused(run, node, "not an upsampler", model=wires["model"], images=images, **wires["prompts"])
    model = run("VideoLDM_LoadUpsampler").values[0]
    inputs = {"model": model, "images": images, **wires["prompts"]}
    refused(run, node, "noise_level 900 is above the 350", noise_level=900, **inputs)
    refused(run, node, "overlap 8 must be smaller than chunk 8", chunk=8, overlap=8, **inputs)
    sampler = {**wires["prompts"], "width": 16, "height": 16}
    refused(run, "VideoLDM_VideoSampler", "is an upsampler", model=model, **sampler)


def test_decoding_and_encoding_check_sizes(run, wires):
    vae = wires["vae"]
    refused(
        run, "VideoLDM_TemporalVAEDecode", "tile of 6 pixels", samples=latent(), vae=vae, tile=6
    )
    refused(run, "VideoLDM_TemporalVAEDecode", ".3 channels., but the VAE decodes .* .4 channels.",
            samples={"samples": torch.zeros(2, 3, 4, 4)}, vae=vae)  # fmt: skip
    refused(run, "VideoLDM_TemporalVAEDecode", "NaN", samples=latent(value=float("nan")), vae=vae)
    refused(run, "VideoLDM_TemporalVAEEncode", "18x16 must be divisible by 4",
            images=torch.rand(1, 16, 18, 3), vae=vae)  # fmt: skip


@pytest.mark.parametrize(("segments", "words"), [
    ("[", "segments must be a JSON list: .* line 1"),
    ("[]", "at least 1 entry"),
    ("{}", "prompts at frames must be written as in"),
    ('[{"frames": 4}]', "segment 1 lacks the entry prompt"),
    ('[{"prompt": "a", "frames": "four"}]', "segment 1: frames must be a number of .*, got .four."),
    ('[{"prompt": "a", "frames": 4, "colour": 1}]', "has an entry .colour.,"),
    ('[{"prompt": "a", "frames": 0}]', "segment 1 must have 1 to 100000 frames, not 0"),
    (json.dumps([{"prompt": "a", "frames": 4}, {"prompt": "b", "frames": 9, "overlap": 4}]),
     "segment 2: overlap 4 must be from 0 to less than the 4 frames"),
])  # fmt: skip
def test_segments_are_read_strictly(run, wires, segments, words):
    refused(run, "VideoLDM_LongHorizonSegments", words, clip=wires["clip"], segments=segments)


@pytest.mark.parametrize(("boxes", "words"), [
    ('[{"label": "car", "x0": 0.5, "y0": 0, "x1": 0.2, "y1": 1}]', "box 1: the corners"),
    ('[{"label": "car"}]', "box 1 lacks the entry x0"),
    (json.dumps([{"label": "car", "x0": 0, "y0": 0, "x1": 1, "y1": 1}] * 3),
     "3 bounding boxes given, at most 2"),
])  # fmt: skip
def test_boxes_are_read_strictly(run, wires, boxes, words):
    refused(run, "VideoLDM_BoundingBoxes", words, clip=wires["clip"], text="", boxes=boxes)


def test_boxes_need_a_clip_that_knows_them(run, wires):
    from dataclasses import replace

    clip = replace(wires["clip"], box_encoder=None)
    refused(run, "VideoLDM_BoundingBoxes", "no box encoder", clip=clip, text="")


def test_saving_needs_exactly_one_clip(run):
    refused(run, "VideoLDM_SaveVideo", "exactly 1 of the inputs video and images")


def test_clips_that_do_not_fit_are_refused(run, toys, tmp_path):
    node = "VideoLDM_LoadVideo"
    refused(
        run,
        node,
        "rendered video of 61 frames has 1 of them",
        file="rendered: shapes",
        start=60,
        count=2,
    )
    refused(run, node, "there is no file 'no.mp4' in the input folder", file="no.mp4")
    broken = tmp_path / "input" / "broken.mp4"
    broken.write_bytes(b"not a video at all")
    refused(run, node, "broken.mp4", file="broken.mp4")


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a/../../b", ".", "x\0"])
def test_names_cannot_lead_out_of_their_folder(tmp_path, name):
    with pytest.raises(ValueError, match="the name"):
        inside(tmp_path, name)
    folders = Folders(models=[tmp_path], input=tmp_path, output=tmp_path)
    for look in (lambda: folders.model_path("loras", name), lambda: folders.input_path(name)):
        with pytest.raises(ValueError, match="the name"):
            look()
    if name != ".":
        with pytest.raises(ValueError, match="name"):
            folders.new_file(name, ".mp4")


def test_missing_models_say_where_they_were_looked_for(run, toys, tmp_path):
    refused(run, "CheckpointLoaderSimple", "no file 'gone.ckpt' among the checkpoints in .*models",
            ckpt_name="gone.ckpt")  # fmt: skip


def test_files_of_the_wrong_kind_are_refused(run, toys, toy_family, tmp_path):
    folder = tmp_path / "models" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "layers.safetensors").symlink_to(toy_family / "prediction.safetensors")
    refused(run, "CheckpointLoaderSimple", "holds temporal layers, for .*; an image model",
            ckpt_name="layers.safetensors")  # fmt: skip
