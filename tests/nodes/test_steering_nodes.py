"""Keyframe images and cameras as nodes of the standalone host."""

from __future__ import annotations

import math

import pytest
import torch
from animatediff_toys import toy_config, toy_state
from safetensors.torch import save_file
from steering_toys import toy_file
from videoldm.core.families import image_motion
from videoldm.core.families.animatediff_config import LIKENESS
from videoldm.core.networks.sites import UNetLayout
from videoldm.nodes.choices import AS_PUBLISHED, IMAGE_MOTIONS
from videoldm.nodes.stages.camera_texts import read_camera
from videoldm.nodes.stages.cameras import camera_path
from videoldm.nodes.stages.texts import absolute_frames

LAYOUT = UNetLayout(channels=(32, 32), layers=1, depths=(0, 1))


def with_modules(run, parts, tmp_path, variant: str, **how):
    config = toy_config(variant, layout=LAYOUT, heads=8, norm_groups=32)
    path = tmp_path / "models" / "videoldm" / f"{variant}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in toy_state(config).items()}, path)
    layers = run("VideoLDM_LoadTemporalLayers", layers=path.name)
    return run("VideoLDM_InjectTemporalLayers", model=parts["model"], layers=layers, **how)


def sampled(run, parts, model, frames=6, **changed):
    latent = {"samples": torch.zeros(frames, 4, 4, 4)}
    told = dict(model=model, positive=parts["positive"], negative=parts["negative"])
    more = dict(latent_image=latent, steps=3, seed=3, cfg=2.0) | changed
    return run("KSampler", **told, **more)["samples"]


# --------------------------------------------------------------------------------------------------
# Keyframe images.


def test_the_presets_are_those_of_the_layers():
    assert IMAGE_MOTIONS == (AS_PUBLISHED, *LIKENESS)
    assert image_motion("small motion")[0] == 1.0


def test_images_and_presets_steer_ksampler(run, parts, tmp_path):
    model = with_modules(run, parts, tmp_path, "pia")
    image = {"samples": torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1))}

    def given(motion, frames="0, 5"):
        return run("VideoLDM_KeyframeImages", model=model, images=image, frames=frames,
                   motion=motion)  # fmt: skip

    plain = sampled(run, parts, model)
    small, large = (sampled(run, parts, given(m)) for m in ("small motion", "large motion"))
    assert not torch.allclose(plain, small, atol=1e-3)
    assert not torch.allclose(small, large, atol=1e-3)
    usual = [sampled(run, parts, given(m)) for m in (AS_PUBLISHED, "moderate motion")]
    torch.testing.assert_close(*usual)
    with pytest.raises(ValueError, match="2 keyframe images cannot stand at the 1 frames"):
        given("small motion", "0")


def test_the_layers_first_convolution_replaces_the_models_where_asked(run, parts, tmp_path):
    usual = with_modules(run, parts, tmp_path, "pia")
    layers = run("VideoLDM_LoadTemporalLayers", layers="pia.safetensors")
    asked = dict(model=parts["model"], layers=layers, first_convolution="of the layers")
    own = run("VideoLDM_InjectTemporalLayers", **asked)
    assert not torch.allclose(sampled(run, parts, usual), sampled(run, parts, own), atol=1e-2)
    ejected, plain = run("VideoLDM_EjectTemporalLayers", model=own), parts["model"]
    assert torch.equal(sampled(run, parts, ejected), sampled(run, parts, plain))


def test_layers_without_an_input_for_images_say_so(run, parts, tmp_path):
    image = {"samples": torch.zeros(1, 4, 4, 4)}
    with pytest.raises(ValueError, match="no temporal layers: put Inject Temporal Layers"):
        run("VideoLDM_KeyframeImages", model=parts["model"], images=image)
    model = with_modules(run, parts, tmp_path, "v3")
    with pytest.raises(ValueError, match="have no input for images: connect the images to"):
        run("VideoLDM_KeyframeImages", model=model, images=image)


def test_frames_that_count_from_the_end_are_refused():
    assert absolute_frames("0, 15") == [0, 15]
    with pytest.raises(ValueError, match="frame -1 counts from the end"):
        absolute_frames("0, -1")
    with pytest.raises(ValueError, match="0 frames are named"):
        absolute_frames(" ")


# --------------------------------------------------------------------------------------------------
# Noise levels.


def test_layers_bring_their_noise_levels_unless_told_otherwise(run, parts, tmp_path):
    own = parts["model"].core.schedule.sigmas
    brought = with_modules(run, parts, tmp_path, "v3").core.schedule.sigmas
    kept = with_modules(run, parts, tmp_path, "v3", noise_levels="of the model")
    assert not torch.allclose(brought, own) and torch.equal(kept.core.schedule.sigmas, own)


# --------------------------------------------------------------------------------------------------
# Cameras.


def test_moves_are_spread_over_their_frames():
    path = camera_path("0-4: pan right 40\n2-4: zoom in 1, truck left 0.5", 6)
    to_world = torch.linalg.inv(path.world_to_camera)
    forward = to_world[:, :3, 2]
    angles = [math.degrees(math.atan2(x, z)) for x, _, z in forward.tolist()]
    assert angles == pytest.approx([0, 10, 20, 30, 40, 40])
    assert to_world[2, :3, 3].abs().max() == 0 and to_world[4, :3, 3].norm() > 1
    assert torch.equal(to_world[4], to_world[5])


@pytest.mark.parametrize(
    ("move", "axis", "sign"),
    [("truck right", 0, 1), ("pedestal up", 1, -1), ("zoom in", 2, 1), ("zoom out", 2, -1)],
)
def test_shifts_go_where_they_say(move, axis, sign):
    to_world = torch.linalg.inv(camera_path(move, 3).world_to_camera)
    assert to_world[-1, axis, 3] * sign == pytest.approx(1)


def test_turns_go_where_they_say():
    """x points right and y down: tilting up looks towards smaller y, and a clockwise roll turns the
    camera's x axis down, so that upright things lean to the left."""
    up, rolled = (
        torch.linalg.inv(camera_path(move, 2).world_to_camera)[-1]
        for move in ("tilt up 30", "roll clockwise 30")
    )
    assert up[1, 2] == pytest.approx(-0.5)
    assert rolled[1, 0] == pytest.approx(0.5)


def test_poses_of_a_film_are_read():
    row = " ".join(map(str, [7, 0.5, 0.9, 0.5, 0.5, 0, 0, 1, 0, 0, 0.1, 0, 1, 0, 0, 0, 0, 1, 0]))
    path = camera_path(f"https://a.film/x\n{row}\n{row}", 2)
    assert len(path) == 2 and path.intrinsics[0].tolist() == [0.5, 0.9, 0.5, 0.5]
    assert path.world_to_camera[0, 0, 3] == 0.1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fly left", 'move "fly left" is not known, known are pan right, left'),
        ("pan up", "known are pan"),
        ("0-20: pan left", "frames 0-20 of .* video of 16 frames"),
        ("1 2 3\n" + " ".join("1" * 19), 'a pose has 19 numbers, but "1 2 3" has 3'),
        (" ".join(["nan"] * 19), "not finite"),
    ],
)
def test_what_is_no_camera_is_one_sentence(text, words):
    with pytest.raises(ValueError, match=words):
        read_camera(text, 16)


def test_layers_that_cannot_follow_a_camera_say_so(run, video_model, tmp_path):
    path = tmp_path / "models" / "videoldm" / "camera.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in toy_file((32, 32)).items()}, path)
    with pytest.raises(ValueError, match="cannot follow a camera: motion modules can"):
        run("VideoLDM_CameraControl", model=video_model(), weights=path.name)


def test_layers_that_were_not_trained_with_images_among_the_frames_say_so(run, parts, tmp_path):
    with pytest.raises(ValueError, match="not trained with images among the frames"):
        with_modules(run, parts, tmp_path, "v3", image_frames="all")
