"""Images of every depth keep their range; what a file claims is checked before it is decoded."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from videoldm.core.media import images as video_images
from videoldm.core.media.files import open_video, read_frames
from videoldm.core.media.info import fault_reason
from videoldm.nodes.host.standalone.images import load_image

RAMP = np.linspace(0, 65535, 64).round().astype(np.uint16)[None].repeat(16, 0)
SCALED = RAMP / 65535
DEEP = {
    "16 bits.png": RAMP,
    "16 bits.tiff": RAMP,
    "16 bits big endian.tiff": RAMP.astype(">u2"),
    "integers of 8 bits.tiff": (SCALED * 255).round().astype(np.int32),
    "integers of 16 bits.tiff": RAMP.astype(np.int32),
    "integers of 31 bits.tiff": (SCALED * (2**31 - 1)).astype(np.int32),
    "floats.tiff": SCALED.astype(np.float32),
    "floats to 255.tiff": (SCALED * 255).astype(np.float32),
    "floats to 65535.tiff": RAMP.astype(np.float32),
}


def assert_ramp(image: torch.Tensor, tolerance: float = 0.003) -> None:
    """An image [h, w, 3] that is grey and rises evenly from 0 to 1."""
    expected = torch.from_numpy(SCALED).float()[..., None].expand(-1, -1, 3)
    assert image.shape == (16, 64, 3) and (image - expected).abs().max() <= tolerance


@pytest.mark.parametrize("name", DEEP)
def test_deep_grey_keeps_its_range(tmp_path, name):
    path = tmp_path / name
    Image.fromarray(DEEP[name]).save(path)
    image, mask = load_image(path)
    tolerance = 0.003 if "8 bits" in name else 1e-5
    assert_ramp(image[0], tolerance)
    assert not mask.any() and mask.shape == (1, 16, 64)
    assert_ramp(next(read_frames(tmp_path))[0].permute(1, 2, 0).add(1).div(2))


def test_the_highlights_of_float_images_are_cut(tmp_path):
    Image.fromarray((SCALED * 2).astype(np.float32)).save(tmp_path / "a.tiff")
    image, _ = load_image(tmp_path / "a.tiff")
    assert (image[0, 0, :, 0] - torch.from_numpy(SCALED[0] * 2).clamp(0, 1)).abs().max() < 1e-5


def tiff(path: Path, values: np.ndarray, tags: dict[int, int]) -> Path:
    """Writes an uncompressed grey TIFF, with extra `tags` of one short each."""
    height, width = values.shape
    bits = values.dtype.itemsize * 8
    shorts = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 277: 1, 278: height, 339: 1}
    shorts |= tags
    offsets = {273: 8 + 2 + 12 * (len(shorts) + 2) + 4, 279: values.nbytes}
    entries = {tag: (3, struct.pack("<HH", value, 0)) for tag, value in shorts.items()}
    entries |= {tag: (4, struct.pack("<I", value)) for tag, value in offsets.items()}
    table = b"".join(
        struct.pack("<HHI", tag, kind, 1) + value for tag, (kind, value) in sorted(entries.items())
    )
    head = b"II*\x00" + struct.pack("<IH", 8, len(entries)) + table + bytes(4)
    path.write_bytes(head + values.tobytes())
    return path


def test_integers_without_sign_and_white_that_is_zero(tmp_path):
    whole = (SCALED * (2**32 - 1)).astype("<u4")
    image, _ = load_image(tiff(tmp_path / "unsigned.tiff", whole, {}))
    assert_ramp(image[0], 1e-5)
    image, _ = load_image(tiff(tmp_path / "inverted.tiff", 65535 - RAMP, {262: 0}))
    assert_ramp(image[0], 1e-5)


def test_one_grey_of_sixteen_bits_may_be_transparent(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.png", transparency=65535)
    _, mask = load_image(tmp_path / "a.png")
    assert mask[0, :, -1].min() == 1 and mask[0, :, :-1].max() == 0
    frame = next(read_frames(_only(tmp_path)))[0]
    assert frame[:, :, -1].max() == -1 and frame[:, :, -2].min() > 0.9


def _only(folder: Path) -> Path:
    assert len(list(folder.iterdir())) == 1
    return folder


def test_images_of_a_folder_stand_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned 90 degrees clockwise
    picture = np.zeros((16, 32, 3), np.uint8)
    picture[:, :16] = 255
    Image.fromarray(picture).save(tmp_path / "0.jpg", exif=exif, quality=95)
    info, frame = open_video(tmp_path), next(read_frames(tmp_path))[0]
    assert (info.width, info.height) == (16, 32)
    assert frame[:, :14].min() > 0.9 and frame[:, 18:].max() < -0.9


def test_texts_of_any_size_do_not_keep_the_pixels_from_being_read(tmp_path):
    chunk = b"zTXt" + b"workflow\0\0" + zlib.compress(b"x" * 80_000_000)
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    packed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(whole[:33] + packed + whole[33:])
    assert_ramp(load_image(tmp_path / "a.png")[0][0], 1e-5)


# What is refused.


def bomb(path: Path, width: int, height: int) -> Path:
    Image.new("1", (width, height)).save(path)
    return path


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [8000, 13_000, 20_000])
@pytest.mark.parametrize("read", [load_image, open_video])
def test_huge_pictures_of_small_files_are_refused_by_their_header(tmp_path, side, read):
    path = bomb(tmp_path / "a.png", side, side)
    began = time.process_time()
    with pytest.raises(ValueError, match=r"a.png (is|claims)") as caught:
        read(path)
    assert time.process_time() - began < 1
    assert "\n" not in str(caught.value) and "Decompression" not in str(caught.value)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to measure memory")
def test_what_a_huge_picture_costs(tmp_path):
    """Less than 500 MB, interpreter and libraries included."""
    path = bomb(tmp_path / "a.png", 13_000, 13_000)
    script = (
        "from pathlib import Path\n"
        "from videoldm.core.media.image_files import open_image\n"
        f"try: open_image(Path({str(path)!r}))\n"
        "except ValueError as error: print(error)\n"
        "print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])\n"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    sentence, kilobytes = told.stdout.splitlines()
    assert re.search("13000x13000, 169 million pixels, but at most 67 million", sentence)
    assert int(kilobytes) < 500_000


def test_an_animation_that_repeats_a_large_picture_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(video_images, "UNSUSPECTED_PIXELS", 10 * 400 * 400)
    frames = [Image.new("L", (400, 400), 10 * number) for number in range(18)]
    path = tmp_path / "a.webp"
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    words = f"after 11 frames: 11 of 400x400 do not fit in {path.stat().st_size} bytes"
    with pytest.raises(ValueError, match=words):
        open_video(path)


def test_large_photographs_are_read(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (500, 700, 3), np.uint8)
    picture = Image.fromarray(noise).resize((5000, 3500))
    picture.save(tmp_path / "a.jpg", quality=80)
    assert load_image(tmp_path / "a.jpg")[0].shape == (1, 3500, 5000, 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "format is not known"),
        (b"no image", "format is not known"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "a.png is corrupt or truncated: |format is not known"),
    ],
)
def test_what_is_no_image_is_one_sentence_with_a_reason(tmp_path, content, words):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        load_image(path)
    assert not str(caught.value).rstrip().endswith(":") and "Errno" not in str(caught.value)


def test_pixels_that_are_no_numbers_are_named(tmp_path):
    values = SCALED.astype(np.float32)
    values[3, 3] = np.nan
    Image.fromarray(values).save(tmp_path / "a.tiff")
    with pytest.raises(ValueError, match="a.tiff is damaged: there are NaN or infinite pixels"):
        load_image(tmp_path / "a.tiff")


@pytest.mark.parametrize("fault", [IndexError("index out of range"), KeyError(3), TypeError("a")])
def test_a_reader_that_stumbles_is_no_reason_in_python_s_words(fault):
    assert fault_reason(fault) == "its parts do not fit together"
    assert fault_reason(OSError("Truncated file.")) == "truncated file"
