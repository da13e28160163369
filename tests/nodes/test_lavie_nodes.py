"""LaVie through the nodes: files are loaded by their content, stages match the published ones."""

from __future__ import annotations

import lavie_toys as toys
import pytest
import torch
from node_inputs import strategy
from safetensors.torch import save_file
from videoldm.core.families import lavie
from videoldm.core.families import lavie_sampling as sampling
from videoldm.core.families import lavie_upsampling as upsampling
from videoldm.core.tasks import keyframe_conditioning as keyframes
from videoldm.core.tasks.independent_chunks import NoiseStream
from videoldm.nodes.host import host

PUBLISHED = {"schedule": "as published", "steps": 2, "seed": 3}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    toys.write_lavie(folder)
    toys.write_image_models(folder)
    return folder


@pytest.fixture
def run(models, run_on):
    return run_on(models)


@pytest.fixture
def image(run):
    """MODEL, CLIP and VAE of a toy Stable Diffusion 1.4, and two encoded prompts."""
    return with_prompts(run, *run("VideoLDM_LoadImageModel", model=toys.SD))


def with_prompts(run, model, clip, vae):
    prompts = [run("CLIPTextEncode", clip=clip, text=text) for text in ("a cat", "blur")]
    return {"model": model, "clip": clip, "vae": vae,
            "prompts": dict(zip(("positive", "negative"), prompts, strict=True))}  # fmt: skip


def load(run, kind):
    return run("VideoLDM_LoadVideoModel", model=toys.FILES[kind])[:2]


def core_prompts(image, scale):
    text, negative = (image["prompts"][name][0][0] for name in ("positive", "negative"))
    return sampling.Prompts(text=text, negative=negative, scale=scale)


def core_model(models, kind):
    return lavie.load(models / "videoldm" / toys.FILES[kind])


def close(latent, expected):
    got, expected = latent["samples"], expected[0]
    assert got.shape == expected.shape
    error = (got - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert error < 1e-5, float(error)


# -------------------------------------------------------------------------------------------- files


def test_image_models_may_be_folders(run):
    assert host.folders.model_names("checkpoints") == [toys.SD, toys.UPSCALER]
    with pytest.raises(ValueError, match="no file 'nothing'"):
        host.folders.model_path("checkpoints", "nothing")


def test_the_kind_is_told_by_what_the_file_holds(run):
    facts = {kind: host.facts(load(run, kind)[0]) for kind in toys.FILES}
    assert {kind: one.family for kind, one in facts.items()} == {
        kind: f"lavie {kind}" for kind in toys.FILES
    }
    assert [one.low_res_channels for one in facts.values()] == [0, 4, 3]
    assert [one.is_upsampler for one in facts.values()] == [False, False, True]


def test_a_file_that_is_none_of_them_is_one_sentence(run, models):
    torch.save({"a.weight": torch.ones(2)}, models / "videoldm" / "other.pt")
    for node, name in (("VideoLDM_LoadVideoModel", "model"),
                       ("VideoLDM_LoadTemporalLayers", "layers")):  # fmt: skip
        with pytest.raises(
            ValueError, match="other.pt is not a LaVie model; its first keys are a.w"
        ):
            run(node, **{name: "other.pt"})


# ------------------------------------------------------------------------------------ text to video


@pytest.mark.parametrize("method", ["ddpm", "ddim", "euler"])
def test_a_clip_is_what_the_published_sampler_gives(run, image, models, method):
    latent = run("VideoLDM_VideoSampler", model=load(run, "base")[0], width=32, height=16,
                 frames=3, cfg=7.5, sampler_name=method, **image["prompts"],
                 **PUBLISHED)  # fmt: skip
    model = core_model(models, "base")
    source = sampling_source(3)
    noise = source.initial(torch.empty(1, 3, 4, 2, 4))
    made = sampling.text_to_video(model, core_prompts(image, 7.5), noise, method=method, steps=2,
                                  step_noise=source)  # fmt: skip
    close(latent, model.unscaled(made))


def sampling_source(frames, spacing=1):
    from videoldm.core.diffusion.noise import NoiseSource

    return NoiseSource((3,), tuple(range(0, frames * spacing, spacing)))


def test_its_layers_alone_go_into_the_image_model_and_out_again(run, image):
    layers = run("VideoLDM_LoadTemporalLayers", layers=toys.FILES["base"])
    video = run("VideoLDM_InjectTemporalLayers", model=image["model"], layers=layers, sites="")
    assert host.facts(video).schedule.betas[0] == pytest.approx(1e-4)
    sizes = dict(width=16, height=16, frames=3, steps=2)
    made = [run("VideoLDM_VideoSampler", model=one, **sizes, **image["prompts"])["samples"]
            for one in (video, run("VideoLDM_EjectTemporalLayers", model=video),
                        image["model"])]  # fmt: skip
    assert not torch.allclose(made[0], made[2])
    assert torch.equal(made[1], made[2])


def test_a_lora_for_the_image_model_changes_the_video_model(run, image, models):
    (models / "loras").mkdir(exist_ok=True)
    module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    save_file({f"{module}.lora_down.weight": torch.ones(2, 32),
               f"{module}.lora_up.weight": torch.ones(32, 2)},
              models / "loras" / "one.safetensors")  # fmt: skip
    model, _ = load(run, "base")
    changed = run("LoraLoaderModelOnly", model=model, lora_name="one.safetensors")
    sizes = dict(width=16, height=16, frames=2, steps=1)
    made = [run("VideoLDM_VideoSampler", model=one, **sizes, **image["prompts"])["samples"]
            for one in (model, changed)]  # fmt: skip
    assert not torch.allclose(*made)


# ------------------------------------------------------------------------------------ interpolation


@pytest.mark.parametrize("keys", [2, 5])
def test_all_frames_are_made_anew_from_copied_keys(run, image, models, keys):
    given = {"samples": torch.randn(keys, 4, 2, 3, generator=torch.Generator().manual_seed(1))}
    latent = run("VideoLDM_InterpolateFrames", model=load(run, "interpolation")[0], latent=given,
                 cfg=4.0, sampler_name="ddim", keep_keys=False, **image["prompts"],
                 **PUBLISHED)  # fmt: skip
    model = core_model(models, "interpolation")
    frames = 4 * keys - 3
    noise = sampling_source(frames).initial(torch.empty(1, frames, 4, 2, 3))
    condition = keyframes.copied_keys(model.scaled(given["samples"])[None])
    made = sampling.interpolate(model, condition, core_prompts(image, 4.0), noise, steps=2)
    close(latent, model.unscaled(made))


def test_keys_are_kept_and_passes_repeated_where_asked(run, image):
    given = {"samples": torch.randn(3, 4, 2, 2)}
    model, _ = load(run, "interpolation")
    latent = run("VideoLDM_InterpolateFrames", model=model, latent=given, passes=2, window_keys=2,
                 steps=1, **image["prompts"])  # fmt: skip
    assert latent["samples"].shape[0] == 33
    torch.testing.assert_close(latent["samples"][::16], given["samples"])


def test_frames_that_are_all_made_anew_do_not_begin_as_blends(run, image):
    given = {"samples": torch.randn(2, 4, 2, 2)}
    with pytest.raises(ValueError, match="denoise 0.5 starts from blended frames"):
        run("VideoLDM_InterpolateFrames", model=load(run, "interpolation")[0], latent=given,
            denoise=0.5, steps=1, **image["prompts"])  # fmt: skip


def test_the_variant_with_a_mask_encodes_grey_frames(run, image, models):
    config = toys.config_of("interpolation", in_channels=9)
    torch.save(toys.state_of(config), models / "videoldm" / "mask.pt")
    model, *_ = run("VideoLDM_LoadVideoModel", model="mask.pt")
    given = {"samples": torch.randn(2, 4, 2, 2)}
    inputs = dict(model=model, latent=given, steps=1, **image["prompts"])
    with pytest.raises(ValueError, match="connect the input vae"):
        run("VideoLDM_InterpolateFrames", **inputs)
    latent = run("VideoLDM_InterpolateFrames", vae=image["vae"], **inputs)
    assert latent["samples"].shape == (5, 4, 2, 2)


# --------------------------------------------------------------------------------- super-resolution


@pytest.fixture
def upscaler(run):
    return with_prompts(run, *run("VideoLDM_LoadUpsampler", upsampler=toys.UPSCALER))


def upsample(run, upscaler, model, images, **inputs):
    values = dict(cfg=5.0, sampler_name="ddim", noise_level=50, chunk=3, overlap=1)
    return run("VideoLDM_UpsampleVideo", model=model, images=images, **upscaler["prompts"],
               **{**PUBLISHED, **values, **inputs})[0]  # fmt: skip


def test_independent_chunks_are_the_published_ones(run, upscaler, models):
    images = torch.rand(4, 4, 6, 3, generator=torch.Generator().manual_seed(2))
    model, _ = load(run, "vsr")
    latent = upsample(run, upscaler, model, images, borders="independent")
    core, low_res = core_model(models, "vsr"), images.permute(0, 3, 1, 2)[None] * 2 - 1
    noise = NoiseStream(torch.Generator().manual_seed(3))
    made = upsampling.upsample_chunks(core, low_res, core_prompts(upscaler, 5.0), noise, steps=2,
                                      chunks=upsampling.Chunks(chunk=3))  # fmt: skip
    close(latent, core.unscaled(torch.cat(list(made), dim=1)))


def test_automatic_borders_are_blended(run, upscaler):
    images, (model, _) = torch.rand(5, 4, 4, 3), load(run, "vsr")
    made = {borders: upsample(run, upscaler, model, images, borders=borders)["samples"]
            for borders in ("automatic", "blended", "continued", "independent")}  # fmt: skip
    assert torch.equal(made["automatic"], made["blended"])
    assert all(one.shape == (5, 4, 4, 4) and one.isfinite().all() for one in made.values())
    tiled = upsample(run, upscaler, model, images, tile=3, tile_overlap=1)["samples"]
    assert tiled.shape == (5, 4, 4, 4)


def test_the_upscaler_alone_is_the_image_model_of_the_video_upsampler(run, upscaler):
    images, (model, layers) = torch.rand(2, 4, 4, 3), load(run, "vsr")
    ejected = run("VideoLDM_EjectTemporalLayers", model=model)
    again = run("VideoLDM_InjectTemporalLayers", model=ejected, layers=layers, sites="")
    whole, put_back = (upsample(run, upscaler, one, images)["samples"] for one in (model, again))
    assert torch.equal(whole, put_back)
    alone = upsample(run, upscaler, upscaler["model"], images, schedule="trailing")
    assert alone["samples"].shape == whole.shape


# ------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("node, kind, words", [
    ("VideoLDM_VideoSampler", "interpolation", "interpolates between frames: use it"),
    ("VideoLDM_VideoSampler", "vsr", "Upsample Video"),
])  # fmt: skip
def test_a_model_of_another_stage_names_the_node_it_needs(run, image, node, kind, words):
    with pytest.raises(ValueError, match=words):
        run(node, model=load(run, kind)[0], width=16, height=16, **image["prompts"])


@pytest.mark.parametrize("change, words", [
    ({"sampler_name": "heun"}, "ddpm or ddim or euler, not with heun"),
    (strategy("video to video", denoise=0.5, latent={"samples": torch.zeros(3, 4, 2, 2)}),
     "denoise is 0.5"),
])  # fmt: skip
def test_settings_that_were_never_published_are_refused(run, image, change, words):
    values = {"sampler_name": "ddim", **change}
    with pytest.raises(ValueError, match=words):
        run("VideoLDM_VideoSampler", model=load(run, "base")[0], width=16, height=16, frames=3,
            **image["prompts"], **PUBLISHED, **values)  # fmt: skip


def test_other_models_have_no_published_settings(run, image):
    with pytest.raises(ValueError, match="for models of a published family"):
        run("VideoLDM_VideoSampler", model=image["model"], width=16, height=16, frames=2,
            sampler_name="ddim", **image["prompts"], **PUBLISHED)  # fmt: skip
