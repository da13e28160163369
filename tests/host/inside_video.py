"""Checks of inside_sampling.py: our VIDEO as later versions of ComfyUI call it."""

from fractions import Fraction
from tempfile import TemporaryDirectory

FRAMES, WIDTH, HEIGHT = 5, 22, 18


class Counted:
    """A clip in memory that counts how often its frames are asked for."""

    def __init__(self):
        import torch

        self.asked = 0
        self.pixels = torch.rand(
            FRAMES, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(7)
        )
        self.pixels = self.pixels * 2 - 1

    def __call__(self):
        self.asked += 1
        return iter(self.pixels.split(2))

    def video(self):
        from videoldm.core.media.files import VideoStream
        from videoldm.nodes.host.comfyui.video import StreamedVideo

        return StreamedVideo(VideoStream(self, Fraction(8), FRAMES, WIDTH, HEIGHT))

    def images(self):
        return (self.pixels.movedim(1, -1) + 1) / 2


def edits(toys):
    """Crops and new sizes: what they give, and that nothing is made before."""
    import torch
    from comfy.utils import common_upscale

    source = Counted()
    video, images = source.video(), source.images()
    cropped = video.as_cropped(3, 5, 9, 100)
    resized = video.as_resized(12, 10, "bilinear", "center", post_crop=(1, 2, 7, 6))
    both = cropped.as_resized(16, 24, "area", unheard_of=1)
    found = {
        "asked": source.asked,
        "sizes": [list(one.get_display_dimensions()) for one in (video, cropped, resized, both)],
        "itself": [video.as_cropped(*one) is video for one in (
            (), (0, 0, WIDTH, HEIGHT), (0, 0, 999, 999), (2, 2, 1, 9))],
        "pending": [one.has_pending_frame_edits() for one in (video, cropped, resized)],
    }  # fmt: skip
    whole = common_upscale(images.movedim(-1, 1), 12, 10, "bilinear", "center").movedim(1, -1)
    expected = {"cropped": images[:, 4:18, 2:10], "resized": whole[:, 2:8, 1:8]}
    for name, one in (("cropped", cropped), ("resized", resized)):
        got = one.get_components().images
        found[name] = got.shape == expected[name].shape and torch.allclose(
            got, expected[name], atol=1e-6
        )
    return found


def files(toys):
    """Sizes and frames of files written with settings that only later versions have."""
    from pathlib import Path

    from videoldm.core.media.files import open_video

    cases = {
        "plain.mp4": {}, "medium.mp4": {"preset": "medium"}, "fast.mp4": {"preset": "ultrafast"},
        "fast.webm": {"preset": "ultrafast"}, "later.mp4": {"unheard_of": 3, "crf": 20},
        "none.mp4": {"unheard_of": None, "preset": None},
    }  # fmt: skip
    found = {}
    with TemporaryDirectory() as folder:
        for name, given in cases.items():
            source = Counted()
            path = Path(folder) / name
            source.video().as_cropped(0, 0, 16, 8).save_to(str(path), **given)
            info = open_video(path)
            found[name] = [info.width, info.height, info.frames, source.asked]
    return found


def edited_by_others(toys):
    """A VIDEO of ComfyUI's whose stream source lacks edits that its frames have."""
    from pathlib import Path

    from comfy_api.latest import InputImpl
    from videoldm.nodes.host.comfyui.video import stream_of

    class Edited(InputImpl.VideoFromFile):
        def has_pending_frame_edits(self):
            return True

        def get_components(self):
            parts = super().get_components()
            parts.images = parts.images[:, :8, :16]
            return parts

    with TemporaryDirectory() as folder:
        path = Path(folder) / "whole.mp4"
        Counted().video().save_to(str(path))
        whole, edited = (stream_of(kind(str(path))) for kind in (InputImpl.VideoFromFile, Edited))
        sizes = [[one.width, one.height, one.frames_tensor().shape[-1]] for one in (whole, edited)]
    return sizes


CHECKS = (edits, files, edited_by_others)
