"""CameraCtrl's files and camera paths, in addition to the recorded cases."""

from dataclasses import replace

import pytest
import torch
from animatediff_toys import TEXT, VIDEO, toy_config, toy_layers, toy_unet_of_one_seed
from safetensors.torch import save_file
from steering_toys import toy_file
from videoldm.core.families import animatediff_camera
from videoldm.core.networks.cameras import CameraPath, CameraUse
from videoldm.core.networks.conditions import Conditions
from videoldm.core.networks.injected_sets import Injection
from videoldm.core.networks.layers.views import Views
from videoldm.core.networks.sites import SD1
from videoldm.core.networks.temporal_layers import key
from videoldm.core.networks.temporal_layers_spec import TemporalLayersSpec
from videoldm.core.networks.video_unet import VideoUNet
from videoldm.core.weights.checkpoints import CheckpointError


def path(count: int = 4, step: float = 0.1) -> CameraPath:
    """A camera path to the right."""
    poses = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    poses[:, 0, 3] = -step * torch.arange(count)
    return CameraPath(intrinsics=torch.tensor([[0.5, 0.9, 0.5, 0.5]]).repeat(count, 1),
                      world_to_camera=poses)  # fmt: skip


@pytest.mark.parametrize("packing", ["nested", "prefixed", "bare"])
def test_every_packing_gives_the_same_weights(packing, tmp_path):
    state = toy_file()
    encoder = {k: v for k, v in state.items() if k.startswith("encoder")}
    merges = {k: v for k, v in state.items() if k not in encoder}
    file = tmp_path / "it.ckpt"
    if packing == "nested":
        names = animatediff_camera.NESTED
        torch.save({names[0]: encoder, names[1]: merges, "epoch": 3}, file)
    else:
        head = ("pose_encoder.", "attention_processor.") if packing == "prefixed" else ("", "")
        file = tmp_path / "it.safetensors"
        save_file({head[k not in encoder] + k: v.contiguous() for k, v in state.items()}, file)
    found, plain = animatediff_camera.read(file), animatediff_camera.from_original(state)
    assert found.spec == plain.spec and found.sites == plain.sites
    assert found.tensors.keys() == plain.tensors.keys()
    assert all(torch.equal(found.tensors[k], plain.tensors[k]) for k in plain.tensors)


def test_at_full_size_every_key_finds_its_place():
    config = toy_config("v3", layout=SD1, heads=8, norm_groups=32)
    with torch.device("meta"):
        state = toy_file(SD1.channels)
    camera = animatediff_camera.from_original(state)
    spec = camera.followed_by(config.layers_spec())
    assert spec.camera.widths == SD1.channels and spec.camera.blocks == 2
    assert camera.tensors["camera.convolutions.2.in_conv.weight"].shape == (640, 320, 1, 1)
    assert TemporalLayersSpec.from_dict(spec.as_dict()) == spec
    assert {f"layers.{key(site)}.blocks.0.merge.weight" for site in camera.sites} <= set(
        camera.tensors
    )


LAYERS = toy_layers(toy_config("v3"))


CAMERA = animatediff_camera.from_original(toy_file())


def followed(
    use: CameraUse | None, frames: int = 4, numbers=None, views: Views | None = None, first: int = 0
) -> torch.Tensor:
    camera = replace(CAMERA, spec=replace(CAMERA.spec, heads=4))
    layers = camera.beside(LAYERS)
    network = VideoUNet(toy_unet_of_one_seed(), [Injection(layers, camera=use)])
    given = Conditions(text=TEXT, frames=numbers, views=views)
    with torch.no_grad():
        return network(VIDEO[:, first : first + frames], torch.tensor(500), given)


def test_a_path_steers_and_without_one_the_layers_are_as_before():
    plain = VideoUNet(toy_unet_of_one_seed(), [Injection(LAYERS)])
    with torch.no_grad():
        expected = plain(VIDEO[:, :4], torch.tensor(500), Conditions(text=TEXT))
    for use in (None, CameraUse(path=path(), strength=0.0)):
        torch.testing.assert_close(followed(use), expected)
    assert not torch.allclose(followed(CameraUse(path=path())), expected, atol=1e-3)
    right, left = (followed(CameraUse(path=path(step=step))) for step in (0.3, -0.3))
    assert not torch.allclose(right, left, atol=1e-3)


def test_windows_see_the_cameras_of_their_own_frames():
    long = path(12)
    window = followed(CameraUse(path=long), numbers=(8, 9, 10, 11))
    again = followed(CameraUse(path=long.at(range(8, 12))))
    torch.testing.assert_close(window, again, atol=1e-4, rtol=1e-4)
    assert torch.equal(long.at(range(8, 12)).to_first[0], torch.eye(4))
    assert torch.equal(long.at([20]).world_to_camera, long.at([11]).world_to_camera)


def test_more_frames_than_the_encoder_knows_are_refused():
    with pytest.raises(ValueError, match="at most 16 frames together, but 17 were given"):
        followed(CameraUse(path=path(17)), frames=17)


def views_of(*windows: range) -> Views:
    return Views(tuple(map(tuple, windows)), tuple((1.0,) * len(one) for one in windows))


def test_views_see_the_cameras_of_their_own_frames():
    """Without overlap, they equal separate videos, each with its own cameras."""
    use, parts = CameraUse(path=path(12)), (range(3), range(3, 6))
    together = followed(use, 6, numbers=tuple(range(5, 11)), views=views_of(*parts))
    for part in parts:
        alone = followed(use, 3, numbers=tuple(5 + frame for frame in part), first=part.start)
        torch.testing.assert_close(together[:, part], alone, atol=1e-4, rtol=1e-4)


def test_views_of_more_frames_than_the_encoder_knows():
    use = CameraUse(path=path(20))
    made = followed(use, 20, views=views_of(range(16), range(4, 20)))
    assert torch.isfinite(made).all()
    with pytest.raises(ValueError, match="at most 16 frames together, but 17 were given"):
        followed(use, 20, views=views_of(range(17), range(3, 20)))


def test_moments_are_right_in_segments_of_three_frames():
    """The cross product runs over the coordinates, even if another axis has three entries."""
    three, four = path(3).rays(6, 4), path(4).rays(6, 4)
    torch.testing.assert_close(three, four[:3])
    moment, d = three[:, :3], three[:, 3:]
    torch.testing.assert_close((moment * d).sum(1), torch.zeros(3, 4, 6), atol=1e-6, rtol=0)


def test_other_files_are_one_sentence():
    with pytest.raises(CheckpointError, match="the file holds no camera control"):
        animatediff_camera.from_original({"a.b": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="motion modules of widths 64, 64"):
        camera = animatediff_camera.from_original(toy_file((64, 64)))
        camera.followed_by(toy_config("v3").layers_spec())
