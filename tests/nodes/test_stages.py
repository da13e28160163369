"""The stages run at toy size and fit together."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from node_inputs import strategy
from torch.overrides import TorchFunctionMode
from videoldm.core.media.files import open_video, read_metadata
from videoldm.core.tasks.back_projection import back_projected
from videoldm.core.tasks.interpolation import linear_blend
from videoldm.nodes.stages.running import SEED, Settings, sampling_for

SMALL = {"width": 16, "height": 16, "steps": 2, "seed": 3}
STEPS = {"steps": 2, "seed": 3}


def test_a_clip_is_a_batch_of_frames_in_comfyui_layout(sample, video_model):
    latent = sample(video_model(), frames=5)
    assert latent["samples"].shape == (5, 4, 4, 4)


def test_the_same_seed_gives_the_same_video_and_another_one_another(sample, video_model):
    model = video_model()
    first, again = sample(model, frames=3), sample(model, frames=3)
    other = sample(model, frames=3, seed=4)
    assert torch.equal(first["samples"], again["samples"])
    assert not torch.allclose(first["samples"], other["samples"])


def test_injection_changes_a_clone_and_ejection_restores_the_image_model(
    run, sample, parts, video_model
):
    image = sample(parts["model"], frames=3)["samples"]
    injected = video_model()
    assert not torch.allclose(sample(injected, frames=3)["samples"], image)
    assert torch.equal(sample(parts["model"], frames=3)["samples"], image)
    ejected = run("VideoLDM_EjectTemporalLayers", model=injected)
    assert torch.equal(sample(ejected, frames=3)["samples"], image)


def test_strength_zero_is_the_image_model(sample, parts, video_model):
    off = video_model(strength=0.0)
    image = sample(parts["model"], frames=3)["samples"]
    assert torch.equal(sample(off, frames=3)["samples"], image)


def test_sparse_first_samples_a_few_frames_and_fills_in_the_others(sample, video_model):
    model = video_model()
    plain = sample(model, frames=5)["samples"]

    def sparse(fill_denoise=1.0, **more):
        chosen = strategy("sparse first", first_frames=2, fill_steps=2, fill_denoise=fill_denoise)
        return sample(model, frames=5, **chosen, **more)["samples"]

    alone = sparse()
    assert alone.shape == plain.shape and not torch.allclose(alone, plain)
    apart = (sparse(0.5) - alone).abs().mean(dim=(1, 2, 3))
    assert 0 < apart[[0, 4]].max() < apart[[1, 2, 3]].min()
    for more in ({"steps": 3}, {"sampler_name": "euler_ancestral"}):
        changed = (sparse(**more) - alone).abs().mean(dim=(1, 2, 3))
        assert changed[[0, 4]].min() > 0.01, more


def test_the_first_segment_of_a_long_video_can_be_sparse_first(run, sample, parts, video_model):
    model = video_model("prediction")
    sparse = {"first_frames": 2, "fill_steps": 2, "fill_denoise": 0.5}
    first = sample(model, frames=5, **strategy("sparse first", **sparse))["samples"]
    chosen = strategy(
        "prediction", window=5, first_segment="sparse first",
        **{f"first_segment__{name}": value for name, value in sparse.items()},
    )  # fmt: skip
    made = sample(model, frames=9, **chosen)["samples"]
    assert len(made) == 9 and torch.equal(made[:5], first)
    given = run("VideoLDM_TemporalVAEEncode", images=torch.rand(1, 16, 16, 3), vae=parts["vae"])
    told = [sample(model, frames=9, context=given, **one)["samples"]
            for one in (chosen, strategy("prediction", window=5))]  # fmt: skip
    assert torch.equal(*told), "a segment that begins with given frames is sampled as all others"


def test_frames_share_noise_as_the_layers_that_came_last_were_trained(toys, video_model):
    settings = Settings(steps=2, sampler_name="euler", schedule="uniform", seed=3)
    segments = [(None, {"videoldm_frames": (4, 8), SEED: 9})]
    x = torch.empty(1, 8, 4, 16, 16)
    for name, correlation in (("text to video", 0.5), ("prediction", 0.0)):
        for conditioning, other in (([], correlation), (segments, 0.0)):
            sampling = sampling_for(toys, video_model(name), settings, conditioning)
            noise = sampling.noise(1, range(8)).initial(x)[0].flatten(1)
            found = torch.corrcoef(noise)
            assert abs(found[0, 3] - correlation) < 0.1
            assert abs(found[0, 5] - other) < 0.1  # in the next segment, if there is one


def test_sliding_windows_give_the_length_asked_for(sample, video_model):
    latent = sample(video_model(), frames=11, **strategy("sliding windows", window=5, overlap=2))
    assert latent["samples"].shape[0] == 11


def test_a_video_begins_with_the_frames_it_was_given(run, sample, parts, video_model):
    images = torch.rand(1, 16, 16, 3)
    given = run("VideoLDM_TemporalVAEEncode", images=images, vae=parts["vae"])
    model = video_model("prediction")
    for chosen, frames in (
        (strategy(), 5), (strategy("prediction", window=5), 9),
        (strategy("sliding windows", window=5, overlap=2), 9),
    ):  # fmt: skip
        latent = sample(model, frames=frames, context=given, **chosen)
        assert latent["samples"].shape[0] == frames
        torch.testing.assert_close(latent["samples"][:1], given["samples"], atol=1e-5, rtol=1e-5)


def test_perturbation_and_context_guidance_change_what_follows(run, sample, parts, video_model):
    given = run("VideoLDM_TemporalVAEEncode", images=torch.rand(1, 16, 16, 3), vae=parts["vae"])
    model = video_model("prediction")
    plain = sample(model, frames=4, context=given)["samples"]
    for change in (strategy(perturbation=300), strategy(context_guidance=2.0)):
        assert not torch.allclose(
            sample(model, frames=4, context=given, **change)["samples"], plain
        )


def test_hierarchical_video_has_every_frame(sample, video_model):
    latent = sample(
        video_model(), frames=18,
        **strategy(
            "hierarchical", window=5, passes=1, prediction_model=video_model("prediction"),
            interpolation_model=video_model("interpolation"),
        ),
    )  # fmt: skip
    assert latent["samples"].shape[0] == 18


def test_video_to_video_starts_from_the_video(sample, video_model):
    model = video_model()
    clip = sample(model, frames=4)

    def changed(denoise, **more):
        chosen = strategy("video to video", latent=clip, denoise=denoise)
        return sample(model, seed=8, **chosen, **{"frames": 4, **more})["samples"]

    # With another seed, because the noise that the video was made from would lead back to it.
    near, far = changed(0.01, steps=1), changed(0.9)
    distance = [(x - clip["samples"]).abs().mean() for x in (near, far)]
    assert distance[0] < 0.5 * distance[1]


def test_interpolation_keeps_the_given_frames(run, sample, parts, video_model):
    clip = sample(video_model(), frames=3)
    prompts = {"positive": parts["positive"], "negative": parts["negative"]}
    for passes, frames in ((1, 9), (2, 33)):
        longer = run("VideoLDM_InterpolateFrames", model=video_model("interpolation"),
                     latent=clip, passes=passes, **prompts, **STEPS)  # fmt: skip
        assert longer["samples"].shape[0] == frames
        kept = longer["samples"][:: 4**passes]
        torch.testing.assert_close(kept, clip["samples"], atol=1e-5, rtol=1e-5)


def test_denoise_below_one_starts_from_blended_frames(run, sample, parts, video_model):
    clip = sample(video_model(), frames=3)
    prompts = {"positive": parts["positive"], "negative": parts["negative"]}
    blend = linear_blend(clip["samples"][None])[0]
    near, far = (
        run("VideoLDM_InterpolateFrames", model=video_model("interpolation"), latent=clip,
            denoise=denoise, **prompts, **STEPS)["samples"]
        for denoise in (0.01, 1.0)
    )  # fmt: skip
    assert (near - blend).abs().mean() < 0.5 * (far - blend).abs().mean()


def test_back_projection_keeps_what_the_small_frames_show(run, parts):
    model, _, vae = run("VideoLDM_LoadUpsampler").values
    images = torch.rand(3, 8, 8, 3)
    latent = run("VideoLDM_UpsampleVideo", model=model, positive=parts["positive"],
                 negative=parts["negative"], images=images, **STEPS).values[0]  # fmt: skip
    video = run("VideoLDM_TemporalVAEDecodeToVideo", samples=latent, vae=vae, chunk=2)
    held = run("VideoLDM_BackProjection", video=video, images=images)
    found = [one.get_components().images for one in (video, held)]
    small = [x.unflatten(1, (8, 4)).unflatten(3, (8, 4)).mean((2, 4)) for x in found]
    distance = [(x - images).abs().mean() for x in small]
    assert distance[1] < 0.5 * distance[0]
    expected = torch.cat(list(back_projected(
        [part[None] for part in video.stream.chunks()], images.movedim(3, 1)[None] * 2 - 1
    )), dim=1)  # fmt: skip
    given = held.stream.frames_tensor()
    assert torch.equal(given, expected[0]), "frames are not clamped or rounded on the way"


def test_keyframes_come_out_exactly_and_their_residual_is_spread(run, sample, parts, video_model):
    vae = run("VideoLDM_LoadTemporalVAE")
    latent = sample(video_model(), frames=5)
    keys = torch.rand(2, 16, 16, 3)
    video = run("VideoLDM_TemporalVAEDecodeToVideo", samples=latent, vae=vae, chunk=3)
    restored = run("VideoLDM_KeyframeResidual", video=video, key_frames=keys)
    assert (restored.get_frame_rate(), restored.get_frame_count()) == (15, 5)
    before, after = (one.get_components().images for one in (video, restored))
    torch.testing.assert_close(after[[0, 4]], keys)
    assert not torch.allclose(after[1:4], before[1:4], atol=1e-3)


def test_frames_of_another_video_are_refused_before_anything_is_decoded(run, sample, video_model):
    latent = sample(video_model(), frames=3)
    video = run("VideoLDM_TemporalVAEDecodeToVideo", samples=latent,
                vae=run("VideoLDM_LoadTemporalVAE"))  # fmt: skip
    for kind, more, message in (
        ("BackProjection", {"images": torch.rand(4, 8, 8, 3)},
         "4 low-resolution frames cannot belong to a video of 3 frames"),
        ("BackProjection", {"images": torch.rand(3, 8, 5, 3)},
         "low-resolution frames of 5x8 cannot belong to a video of 16x16"),
        ("KeyframeResidual", {"key_frames": torch.rand(2, 16, 16, 3)},
         "2 keyframes every 4 frames belong to 5 frames, not to 3"),
        ("KeyframeResidual", {"key_frames": torch.rand(2, 8, 16, 3), "key_spacing": 2},
         "the keyframes are 16x8, the video is 16x16"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            run(f"VideoLDM_{kind}", video=video, **more)


def test_noise_of_the_published_script_cannot_be_the_same_in_every_frame(run, parts):
    model = run("VideoLDM_LoadUpsampler").values[0]
    with pytest.raises(ValueError, match="same_noise needs borders continued or blended"):
        run("VideoLDM_UpsampleVideo", model=model, positive=parts["positive"],
            negative=parts["negative"], images=torch.rand(3, 8, 8, 3), borders="independent",
            same_noise=True, **STEPS)  # fmt: skip


def test_upsampled_latents_decode_to_four_times_the_size(run, parts):
    model, _, vae = run("VideoLDM_LoadUpsampler").values
    latent = run(
        "VideoLDM_UpsampleVideo", model=model, positive=parts["positive"],
        negative=parts["negative"], images=torch.rand(5, 16, 20, 3), chunk=4, overlap=1, tile=12,
        tile_overlap=4, **STEPS,
    ).values[0]  # fmt: skip
    assert latent["samples"].shape == (5, 4, 16, 20)
    assert run("VideoLDM_TemporalVAEDecode", samples=latent, vae=vae).shape == (5, 64, 80, 3)


def test_decoding_does_not_depend_on_the_chunk(run, sample, video_model):
    vae = run("VideoLDM_LoadTemporalVAE")
    latent = sample(video_model(), frames=11)
    whole = run("VideoLDM_TemporalVAEDecode", samples=latent, vae=vae, chunk=64)
    parts = run("VideoLDM_TemporalVAEDecode", samples=latent, vae=vae, chunk=3)
    assert whole.shape == (11, 16, 16, 3) and 0 <= whole.min() and whole.max() <= 1
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-5)


def test_a_video_is_decoded_while_it_is_saved_and_carries_the_workflow(
    run, sample, video_model, tmp_path
):
    vae = run("VideoLDM_LoadTemporalVAE")
    latent = sample(video_model(), frames=7)
    video = run("VideoLDM_TemporalVAEDecodeToVideo", samples=latent, vae=vae, chunk=3)
    shown = run("VideoLDM_SaveVideo", video=video, filename_prefix="clips/a",
                prompt={"1": {}}, extra_pnginfo={"workflow": {"nodes": []}})  # fmt: skip
    (result,) = shown.ui["images"]
    assert shown.ui["animated"] and result["subfolder"] == "clips" and result["type"] == "output"
    path = tmp_path / "output" / "clips" / result["filename"]
    assert open_video(path).frames == 7
    assert json.loads(read_metadata(path)["workflow"]) == {"nodes": []}


@pytest.mark.parametrize("format", ["mp4", "webm", "gif", "png"])
def test_every_format_is_saved_and_counted_up(run, format, tmp_path):
    for number in (1, 2):
        shown = run("VideoLDM_SaveVideo", images=torch.rand(3, 16, 16, 3), format=format)
        names = [one["filename"] for one in shown.ui["images"]]
        subfolders = {one["subfolder"] for one in shown.ui["images"]}
        assert len(names) == (3 if format == "png" else 1)
        assert all((tmp_path / "output" / s / n).is_file() for s in subfolders for n in names)
        assert f"_{number:05}_" in (names[0] + "".join(subfolders))


def test_preview_writes_a_temporary_file(run, tmp_path):
    shown = run("VideoLDM_PreviewVideo", images=torch.rand(2, 16, 16, 3))
    (result,) = shown.ui["images"]
    assert result["type"] == "temp"
    assert (tmp_path / "output/temp" / result["subfolder"] / result["filename"]).is_file()


def test_a_rendered_clip_needs_no_file(run):
    for world in ("shapes", "driving"):
        loaded = run("VideoLDM_LoadVideo", file=f"rendered: {world}", stride=4)
        images, rate, frames, audio, *_ = loaded.values
        assert images.shape == (16, 64, 64, 3) and frames == 16 and rate == 15 / 4
        assert audio is None and loaded.ui is None, "nobody is there to see a preview"
        assert 0 <= images.min() and images.max() <= 1 and images.std() > 0.05


def test_a_saved_clip_is_loaded_again(run, toys, tmp_path):
    images = (
        torch.rand(1, 1, 1, 3).expand(5, 20, 28, 3) * torch.linspace(0.2, 1, 5)[:, None, None, None]
    )
    run("VideoLDM_SaveVideo", images=images, filename_prefix="clip", quality=0, frame_rate=12.0)
    path = next((tmp_path / "output").glob("clip*.mp4"))
    name = toys.folders.allow(path)
    loaded, rate, frames, audio, *_ = run("VideoLDM_LoadVideo", file=name, start=1, count=3).values
    assert (rate, frames, audio) == (12.0, 3, None) and loaded.shape == (3, 16, 24, 3)
    torch.testing.assert_close(loaded, images[1:4, 2:18, 2:26], atol=0.03, rtol=0)
    sized = run("VideoLDM_LoadVideo", file=name, width=8, height=16).values[0]
    assert sized.shape == (5, 16, 8, 3)


def test_segments_hold_their_frames_and_fade_over(run, parts, sample, video_model):
    segments = json.dumps([
        {"prompt": "a red circle moves right", "frames": 5},
        {"prompt": "a blue square moves up", "frames": 6, "overlap": 2, "seed": 9},
    ])  # fmt: skip
    conditioning, frames = run("VideoLDM_LongHorizonSegments", clip=parts["clip"],
                               segments=segments).values  # fmt: skip
    assert frames == 9
    assert [more["videoldm_frames"] for _, more in conditioning] == [(0, 5), (3, 9)]
    windows = strategy("sliding windows", window=4, overlap=1, free_noise=False)
    inputs = {"frames": frames, **windows}
    model = video_model(strength=0.0)
    latent = sample(model, positive=conditioning, **inputs)["samples"]
    first = sample(model, **inputs)["samples"]
    torch.testing.assert_close(latent[:3], first[:3], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(latent[3], first[3], atol=1e-4)


def test_boxes_change_the_tokens_behind_the_text(run, parts):
    boxes = '[{"label": "red car", "x0": 0.1, "y0": 0.2, "x1": 0.5, "y1": 0.6}]'
    text = "a red circle moves right"
    with_box = run("VideoLDM_BoundingBoxes", clip=parts["clip"], text=text, boxes=boxes)[0][0]
    without = parts["positive"][0][0]
    assert with_box.shape == without.shape == (1, 16 + 2, 32)
    assert torch.equal(with_box[:, :16], without[:, :16])
    assert not torch.equal(with_box[:, 16], without[:, 16])


class _HostCopies(TorchFunctionMode):
    """Records calls that copy tensors of more than 32 elements to the host."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        target = [*args[1:], *(kwargs or {}).values()] if name == "to" else []
        leaves = name in ("cpu", "numpy", "tolist", "__array__")
        # A torch.device is the compute device, which is the CPU in this test.
        leaves = leaves or any(isinstance(one, str) and one == "cpu" for one in target)
        # Noise is drawn on the CPU on purpose, so that it is the same on every device.
        leaves = leaves and not sys._getframe(1).f_code.co_filename.endswith("noise.py")
        if leaves and isinstance(args[0], torch.Tensor) and args[0].numel() > 32:
            self.found.append((name, tuple(args[0].shape)))
        return function(*args, **(kwargs or {}))


def test_latents_stay_where_they_are_from_stage_to_stage(run, toys, sample, parts, video_model):
    prompts = {"positive": parts["positive"], "negative": parts["negative"]}
    model, longer_model = video_model(), video_model("interpolation")
    up_model, _, vae = run("VideoLDM_LoadUpsampler").values
    with _HostCopies() as copies:
        latent = sample(model, frames=3)
        latent = run("VideoLDM_InterpolateFrames", model=longer_model, latent=latent, **prompts,
                     **STEPS)  # fmt: skip
        images = run("VideoLDM_TemporalVAEDecode", samples=latent, vae=vae)
        run("VideoLDM_UpsampleVideo", model=up_model, images=images, **prompts, **STEPS)
    assert copies.found == []
    assert toys.round_trips.count == 0


def test_a_round_trip_is_counted(toys):
    toys.round_trips.to(torch.zeros(3), "meta")
    assert (toys.round_trips.count, toys.round_trips.bytes) == (1, 12)
