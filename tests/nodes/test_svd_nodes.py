"""Stable Video Diffusion through the nodes: as a whole, only its decoder, only its layers."""

from __future__ import annotations

import pytest
import svd_toys as toys
import torch
from node_inputs import strategy
from videoldm.core.diffusion.guidance import per_frame_scale
from videoldm.core.diffusion.noise import NoiseSource
from videoldm.core.families import svd, svd_sampling
from videoldm.core.families.open_clip_image import squashed_pixels
from videoldm.core.networks.autoencoder import encode_moments
from videoldm.core.tasks.decoding import decode
from videoldm.core.tasks.start_image import StartImage

WIDTH, HEIGHT, FRAMES = 32, 16, 4
SIZE = dict(width=WIDTH, height=HEIGHT)
PUBLISHED = dict(steps=2, cfg=2.5, sampler_name="euler", schedule="as published", seed=3)
ROUNDING = 1e-4
"""Tolerance relative to the largest value: the nodes sample in the VE form, from sigma 700."""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    toys.write_single(folder / "checkpoints")
    toys.write_single(folder / "checkpoints", "image_decoder.safetensors", temporal=False)
    return folder


@pytest.fixture
def run(models, run_on):
    return run_on(models)


@pytest.fixture
def loaded(run):
    """MODEL, layers, CLIP_VISION and VAE."""
    return run("VideoLDM_LoadVideoModel", model=toys.FILE)[:4]


def image(seed=1, height=24, width=40):
    return torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(seed))


def start(run, loaded, **changes):
    """The positive and negative conditioning of a start image, by input name."""
    _, _, vision, vae = loaded
    values = dict(clip_vision=vision, vae=vae, image=image(), **SIZE) | changes
    made = run("VideoLDM_StartImage", **values)
    return dict(zip(("positive", "negative"), made, strict=True))


def sample(run, model, prompts, frames=FRAMES, **changes):
    values = dict(model=model, frames=frames, **SIZE, **PUBLISHED, **prompts) | changes
    return run("VideoLDM_VideoSampler", **values)["samples"]


def reference(models, prompts, *, first_scale=2.5, last_scale=2.5, frames=FRAMES):
    """The latents that core samples from the same start image without the nodes."""
    tokens, more = prompts["positive"][0]
    given = StartImage(embedding=tokens, latents=more["concat_latent_image"])
    core = svd.load(models / "checkpoints" / toys.FILE).model
    source = NoiseSource((PUBLISHED["seed"],), tuple(range(frames)))
    noise = source.initial(torch.empty(1, frames, 4, HEIGHT // 8, WIDTH // 8))
    made = svd_sampling.image_to_video(
        core, given, noise, steps=2, first_scale=first_scale, last_scale=last_scale
    )
    return core.unscaled(made)[0]


def close(got, expected):
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= ROUNDING * expected.abs().max()


# ----------------------------------------------------------------------------------------- sampling


def test_a_video_is_what_the_published_sampler_makes(run, loaded, models):
    prompts = start(run, loaded)
    close(sample(run, loaded[0], prompts), reference(models, prompts))


def test_the_guidance_rises_from_frame_to_frame_with_cores_node(run, loaded, models):
    prompts = start(run, loaded)
    ramp = run("VideoLinearCFGGuidance", model=loaded[0], min_cfg=1.0)
    made = sample(run, ramp, prompts)
    close(made, reference(models, prompts, first_scale=1.0))
    assert not torch.allclose(made[-1], sample(run, loaded[0], prompts)[0])
    triangle = run("VideoTriangleCFGGuidance", model=loaded[0], min_cfg=1.0)
    assert not torch.allclose(sample(run, triangle, prompts), made)


def test_the_ramp_is_cores(run, loaded):
    ramp = run("VideoLinearCFGGuidance", model=loaded[0], min_cfg=1.0).ramp
    assert torch.equal(ramp(2.5, 5), per_frame_scale(1.0, 2.5, 5))
    triangle = run("VideoTriangleCFGGuidance", model=loaded[0], min_cfg=1.0).ramp
    torch.testing.assert_close(triangle(3.0, 5), torch.tensor([1.0, 2.0, 3.0, 2.0, 1.0]))


def test_the_ramp_may_fall_to_cfg_0(run, loaded):
    ramp = run("VideoLinearCFGGuidance", model=loaded[0], min_cfg=1.0)
    empty = run("EmptyLatentImage", width=WIDTH, height=HEIGHT, batch_size=FRAMES)
    values = dict(latent_image=empty, steps=2, scheduler="karras", **start(run, loaded))
    falling = run("KSampler", model=ramp, cfg=0.0, **values)["samples"]
    constant = run("KSampler", model=loaded[0], cfg=0.0, **values)["samples"]
    assert falling.isfinite().all() and not torch.allclose(falling, constant)


def test_cores_conditioning_and_ours_are_alike_but_for_what_the_encoder_sees(run, loaded):
    _, _, vision, vae = loaded
    values = dict(clip_vision=vision, vae=vae, width=WIDTH, height=HEIGHT)
    theirs = run("SVD_img2vid_Conditioning", init_image=image(height=HEIGHT, width=WIDTH),
                 video_frames=FRAMES, fps=7, augmentation_level=0.0, **values)  # fmt: skip
    ours = start(run, loaded, image=image(height=HEIGHT, width=WIDTH), augmentation=0.0)
    for their, own in zip(theirs, ours.values(), strict=False):
        assert their[0][1].keys() == own[0][1].keys()
        torch.testing.assert_close(their[0][1]["concat_latent_image"],
                                   own[0][1]["concat_latent_image"])  # fmt: skip
        assert their[0][0].shape == own[0][0].shape
    assert theirs[2]["samples"].shape == (FRAMES, 4, HEIGHT // 8, WIDTH // 8)
    made = sample(run, loaded[0], dict(zip(("positive", "negative"), theirs, strict=False)))
    assert made.isfinite().all()


def test_cores_loader_gives_the_same_parts(run, loaded):
    model, vision, vae = run("ImageOnlyCheckpointLoader", ckpt_name=toys.FILE)
    prompts = start(run, loaded)
    again = start(run, (model, None, vision, vae))
    assert torch.equal(prompts["positive"][0][0], again["positive"][0][0])
    assert torch.equal(sample(run, model, prompts), sample(run, loaded[0], prompts))


def test_cores_sampler_takes_our_conditioning(run, loaded):
    prompts = start(run, loaded)
    empty = run("EmptyLatentImage", width=WIDTH, height=HEIGHT, batch_size=FRAMES)
    made = [run("KSampler", model=loaded[0], latent_image=empty, steps=3, cfg=2.5, scheduler=one,
                sampler_name="euler", **prompts)["samples"]
            for one in ("karras", "exponential", "simple", "normal", "sgm_uniform")]  # fmt: skip
    assert all(one.isfinite().all() for one in made)
    assert not torch.allclose(made[0], made[1])
    with pytest.raises(ValueError, match="continuous from 700 to 0.002"):
        run("KSampler", model=loaded[0], latent_image=empty, scheduler="ddim_uniform", **prompts)


def test_a_longer_video_goes_on_from_its_last_frame(run, loaded):
    prompts, window = start(run, loaded), 4
    long = sample(run, loaded[0], prompts, frames=7,
                  **strategy("prediction", window=window, context_frames=1))  # fmt: skip
    assert len(long) == 7
    assert torch.equal(long[:window], sample(run, loaded[0], prompts))
    tokens, more = prompts["positive"][0]
    further = [[tokens, {**more, "concat_latent_image": long[window - 1 : window]}]]
    core = loaded[0].core
    frames = tuple(range(window - 1, 2 * window - 1))
    noise = NoiseSource((3,), frames).initial(torch.empty(1, window, 4, HEIGHT // 8, WIDTH // 8))
    given = StartImage(embedding=further[0][0], latents=further[0][1]["concat_latent_image"])
    made = svd_sampling.image_to_video(core, given, noise, steps=2, first_scale=2.5,
                                       last_scale=2.5)  # fmt: skip
    close(long[window:], core.unscaled(made)[0, 1:])


def test_windows_of_a_longer_video_move_the_same_image(run, loaded):
    prompts = start(run, loaded)
    made = sample(run, loaded[0], prompts, frames=9,
                  **strategy("sliding windows", window=4, overlap=2))  # fmt: skip
    assert len(made) == 9 and made.isfinite().all()


def test_an_encoded_image_may_take_the_place_of_the_start_image(run, loaded):
    prompts = start(run, loaded)
    context = {"samples": prompts["positive"][0][1]["concat_latent_image"]}
    made = sample(run, loaded[0], prompts, context=context)
    plain = sample(run, loaded[0], prompts)
    torch.testing.assert_close(made[:1], context["samples"])  # The given frame is kept.
    torch.testing.assert_close(made[1:], plain[1:], atol=1e-3, rtol=1e-3)


# -------------------------------------------------------------------------------------- start image


def test_the_start_image_is_encoded_as_published(run, loaded, models):
    picture = image(height=HEIGHT, width=WIDTH)
    prompts = start(run, loaded, image=picture, augmentation=0.3, seed=5, fps=9, motion=40)
    tokens, more = prompts["positive"][0]
    found = svd.load(models / "checkpoints" / toys.FILE)
    pixels = picture.movedim(-1, 1) * 2 - 1
    with torch.no_grad():
        shown = squashed_pixels(pixels, found.image_encoder.config.image_size)
        torch.testing.assert_close(tokens[0], found.image_encoder(shown).image_embeds)
        noise = NoiseSource((5,), (0,)).like(pixels[None], stream="augmentation")[0]
        mode, _ = encode_moments(found.encoder, pixels + 0.3 * noise)
    torch.testing.assert_close(more["concat_latent_image"], mode, atol=1e-5, rtol=1e-5)
    assert (more["fps"], more["motion_bucket_id"], more["augmentation_level"]) == (9, 40, 0.3)
    nothing, same = prompts["negative"][0]
    assert not nothing.any() and not same["concat_latent_image"].any() and same["fps"] == 9


@pytest.mark.parametrize("changes, words", [
    ({"width": 64}, "encoded for 32x16, but the video is 64x16: set both"),
    ({"schedule": "trailing"}, "continuous from 700 to 0.002, but the schedule trailing"),
    ({"sampler_name": "heun"}, "published with euler, not with heun"),
    (strategy("prediction", window=4, context_frames=2), "context_frames is 2 but must be 1"),
    (strategy("prediction", window=4, context_frames=1, context_guidance=2.0),
     "context_guidance is 2 but must be 1"),
    (strategy("prediction", window=4, context_frames=1, perturbation=50),
     "perturbation is 50 but must be 0"),
    ({"schedule": "karras", **strategy("sparse first")}, "the model cannot be given frames"),
])  # fmt: skip
def test_what_it_cannot_do_is_one_sentence(run, loaded, changes, words):
    with pytest.raises(ValueError, match=words):
        sample(run, loaded[0], start(run, loaded), **changes)


def test_prompts_without_a_start_image_are_refused(run, loaded):
    prompts = start(run, loaded)
    text = [[torch.zeros(1, 77, toys.CONTEXT), {}]]
    with pytest.raises(ValueError, match="negative conditioning carries none: connect .* Start"):
        sample(run, loaded[0], prompts | {"negative": text})
    wide = [[torch.zeros(1, 1, 2 * toys.CONTEXT), prompts["positive"][0][1]]]
    with pytest.raises(ValueError, match="encoded for"):
        sample(run, loaded[0], prompts | {"positive": wide})


def test_it_is_no_model_for_interpolation(run, loaded):
    with pytest.raises(ValueError, match="cannot be given frames"):
        run("VideoLDM_InterpolateFrames", model=loaded[0],
            latent={"samples": torch.zeros(2, 4, 2, 4)}, **start(run, loaded))  # fmt: skip


# -------------------------------------------------------------------------------------------- parts


def test_files_without_a_part_say_so_when_it_is_used(run, models):
    state = {f"{toys.files.UNET}{k}": v.clone().contiguous()
             for k, v in svd.unet_to_foreign(toys.unet(), "ldm").items()}  # fmt: skip
    toys.save_file(state, models / "checkpoints" / "unet.safetensors")
    _, _, vision, vae, *_ = run("VideoLDM_LoadVideoModel", model="unet.safetensors")
    with pytest.raises(ValueError, match="unet.safetensors holds no VAE"):
        run("VideoLDM_TemporalVAEDecode", samples={"samples": torch.zeros(2, 4, 2, 4)}, vae=vae)
    with pytest.raises(ValueError, match="unet.safetensors holds no image encoder"):
        vision.encode_image(image())


def test_the_decoder_alone_decodes_any_latents_in_blended_chunks(run, loaded):
    vae = run("VideoLDM_LoadTemporalVAE", vae=toys.FILE)
    assert vae.reach is None and vae.latent_channels == 4
    raw = torch.randn(1, 10, 4, 2, 4, generator=torch.Generator().manual_seed(2))
    latent = {"samples": raw[0]}

    def decoded(**settings):
        return run("VideoLDM_TemporalVAEDecode", samples=latent, vae=vae, **settings)

    whole = decoded(chunk=10)
    with torch.no_grad():
        expected = vae(raw)[0].movedim(1, -1) / 2 + 0.5
    torch.testing.assert_close(whole, expected.clamp(0, 1))
    blended = decoded(chunk=6, overlap=2)
    parts = torch.cat(list(decode(vae, raw, chunk=4, reach=1)), dim=1)[0]
    torch.testing.assert_close(blended, (parts.movedim(1, -1) / 2 + 0.5).clamp(0, 1))
    assert not torch.allclose(blended, whole)  # The decoder is not local.
    with pytest.raises(ValueError, match="overlap 4 must be at most half of chunk 6"):
        decoded(chunk=6)
    again = run("VideoLDM_TemporalVAEEncode", images=torch.rand(2, 16, 32, 3), vae=vae)
    assert again["samples"].shape == (2, 4, 2, 4)


def test_a_file_with_an_image_decoder_decodes_frame_by_frame(run):
    _, _, _, vae, *_ = run("VideoLDM_LoadVideoModel", model="image_decoder.safetensors")
    assert vae.reach == 0
    with pytest.raises(ValueError, match="image_decoder.safetensors holds no temporal decoder"):
        run("VideoLDM_LoadTemporalVAE", vae="image_decoder.safetensors")


def test_its_layers_alone_are_put_in_by_site(run, loaded):
    layers = run("VideoLDM_LoadTemporalLayers", layers=toys.FILE)
    assert layers.spec == loaded[1].spec and layers.spec.reads_image_only
    ejected = run("VideoLDM_EjectTemporalLayers", model=loaded[0])
    prompts = start(run, loaded)
    again = run("VideoLDM_InjectTemporalLayers", model=ejected, layers=layers, sites="")
    part = run("VideoLDM_InjectTemporalLayers", model=ejected, layers=layers, sites="up=0")
    whole, put_back, some, none = (sample(run, one, prompts)
                                   for one in (loaded[0], again, part, ejected))  # fmt: skip
    assert torch.equal(whole, put_back)
    assert not torch.allclose(some, whole) and not torch.allclose(some, none)


def test_frames_that_are_images_of_their_own_are_left_to_the_image_model(run, loaded):
    layers = run("VideoLDM_LoadTemporalLayers", layers=toys.FILE)
    ejected = run("VideoLDM_EjectTemporalLayers", model=loaded[0])
    prompts = start(run, loaded)

    def with_images(text):
        model = run("VideoLDM_InjectTemporalLayers", model=ejected, layers=layers,
                    image_frames=text)  # fmt: skip
        return sample(run, model, prompts)

    video, some, every = (with_images(text) for text in ("", "1", "all"))
    alone = sample(run, ejected, prompts)
    # The same modules run layer by layer, which adds in a different order.
    torch.testing.assert_close(every, alone, rtol=0, atol=1e-4 * float(alone.abs().max()))
    assert not torch.allclose(some[0], alone[0], atol=1e-3) and not torch.allclose(some, video)
    for wrong, match in (("1-", "must be a number or a range"), ("3-1", "end before they begin")):
        with pytest.raises(ValueError, match=match):
            with_images(wrong)
