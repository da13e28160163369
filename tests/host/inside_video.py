"""Checks of inside_sampling.py: our VIDEO, called as later versions of ComfyUI call it."""

from fractions import Fraction
from tempfile import TemporaryDirectory

FRAMES, WIDTH, HEIGHT = 5, 22, 18


class Counted:
    """A video in memory that counts how often its frames are read."""

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
    """The results of crops and resizes, and whether frames are read before they are needed."""
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
    """Sizes and frame counts of files written with settings that only later versions have."""
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
    """A VIDEO of ComfyUI whose stream source lacks edits that its frames have."""
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


def trims(toys):
    """The frames of trims, whether frames are read before they are needed, and impossible trims."""
    import torch

    source = Counted()
    video = source.video()
    part, loose = video.as_trimmed(0.25, 0.25), video.as_trimmed(0.25, 9, strict_duration=False)
    asked = source.asked
    images = source.images()
    return {
        "asked": asked,
        "frames": [part.get_frame_count(), loose.get_frame_count()],
        "same": [
            torch.allclose(one.get_components().images, images[2:stop], atol=1e-6)
            for one, stop in ((part, 4), (loose, 5))
        ],
        "none": [video.as_trimmed(0.25, 9) is None, video.as_trimmed(9, 0) is None],
        "all": video.as_trimmed(0, 0).get_frame_count(),
        "duration": part.get_duration(),
    }


def trimmed_by_core(toys):
    """For trimmed files: [frames that ComfyUI decodes, frames that we read, whether they agree]."""
    from pathlib import Path

    import torch
    from comfy_api.latest import InputImpl
    from videoldm.core.media.files import write_video
    from videoldm.nodes.host.comfyui.video import stream_of

    levels = torch.linspace(-0.9, 0.9, 40)[:, None, None, None].expand(-1, 3, 16, 32)
    found = []
    with TemporaryDirectory() as folder:
        for rate in (8, Fraction(24000, 1001)):
            path = Path(folder) / "a.mp4"
            write_video(path, [levels], frame_rate=rate)
            for start, duration in ((0, 0), (0.5, 0), (0.51, 0.7), (1, 0.5), (0.3, 1.1)):
                video = InputImpl.VideoFromFile(str(path), start_time=start, duration=duration)
                core = video.get_components().images.mean((1, 2, 3)) * 2 - 1
                ours = stream_of(video).frames_tensor().mean((1, 2, 3))
                same = core.shape == ours.shape and float((core - ours).abs().max()) < 0.02
                found.append([len(core), len(ours), same])
    return found


def sources(toys):
    """Whether the stream source is one file, its frames, and codecs of files saved with a codec."""
    from pathlib import Path

    import av
    from videoldm.core.media.files import open_video

    source = Counted()
    video = source.video()
    paths = [video.get_stream_source() for _ in range(2)]
    with TemporaryDirectory() as folder:
        codecs = []
        for name, codec in (("a.mp4", "av1"), ("b.webm", "av1"), ("c.mp4", "h264")):
            path = Path(folder) / name
            source.video().save_to(str(path), codec=codec)
            with av.open(str(path)) as file:
                codecs.append(file.streams.video[0].codec_context.codec.name)
    found = open_video(paths[0]).frames if isinstance(paths[0], str) else 0
    return {"one": paths[0] == paths[1], "frames": found, "codecs": codecs}


def transparency(toys):
    """The shapes of a transparent VIDEO's parts in ComfyUI, and whether we read them back."""
    from types import SimpleNamespace

    import torch
    from videoldm.core.media.files import VideoStream
    from videoldm.nodes.host.comfyui.video import StreamedVideo, stream_of

    pixels = torch.rand(3, 4, 8, 8) * 2 - 1
    parts = StreamedVideo(VideoStream.from_tensor(pixels, 8)).get_components()
    again = stream_of(SimpleNamespace(get_components=lambda: parts)).frames_tensor()
    return [
        list(parts.images.shape),
        list(parts.alpha.shape),
        torch.allclose(again, pixels, atol=1e-6),
    ]


CHECKS = (edits, files, edited_by_others, trims, trimmed_by_core, sources, transparency)
