"""ComfyUI's loader of Stable Video Diffusion works with this pack's nodes, in both hosts."""

from __future__ import annotations

import pytest
import svd_toys
from test_core_numbers import compared
from test_video_models import SAME, check_alike, ksampled, moved, prompt, relative_rms
from toy_prompts import saved, strategy

FILE = "video/svd_of_core.safetensors"
SIZE = {"width": 32, "height": 32}
SHORT = SIZE | {"frames": 2, "steps": 4}
"""With fewer steps, rounding at the first sigma, 700, shows in the result."""


@pytest.fixture
def file(comfyui):
    folder = comfyui.base / "models" / "checkpoints" / "video"
    path = svd_toys.write_as_core_detects(folder, "svd_of_core.safetensors")
    comfyui.clear()
    yield path
    path.unlink()


def test_cores_loader_gives_a_model_that_our_nodes_move_an_image_with(comfyui, file):
    """MODEL and VAE come from ComfyUI's loader (1), the image encoder from ours (5)."""
    long = {"frames": 3} | strategy("prediction", window=2, context_frames=1)
    start = {"clip_vision": ["5", 2], "vae": ["1", 2], "image": ["2", 0]}
    empty = {"clip_vision": ["5", 2], "init_image": ["2", 0], "vae": ["1", 2], "video_frames": 2,
             "motion_bucket_id": 127, "fps": 6, "augmentation_level": 0.0}  # fmt: skip
    pairs = compared(comfyui, prompt(
        n1=("ImageOnlyCheckpointLoader", {"ckpt_name": FILE}),
        n5=("VideoLDM_LoadVideoModel", {"model": FILE}),
        n3=("VideoLDM_StartImage", start | SIZE),
        n9=moved("1", **SHORT),
        n10=("VideoLinearCFGGuidance", {"model": ["1", 0], "min_cfg": 1.0}),
        n11=moved("10", **SHORT | long), n91=saved("11"),
        n12=moved("5", **SHORT), n92=saved("12"),
        n40=("SVD_img2vid_Conditioning", empty | SIZE),
        n41=ksampled("1", steps=4, latent_image=["40", 2]), n93=saved("41"),
        n50=("VideoLDM_TemporalVAEDecode", {"samples": ["9", 0], "vae": ["1", 2]}),
        n51=("VideoLDM_TemporalVAEEncode", {"images": ["50", 0], "vae": ["1", 2]}),
        n94=saved("51"),
    ))  # fmt: skip
    check_alike(pairs)
    theirs, ours = pairs["9"][1], pairs["12"][1]
    assert theirs.shape == (2, 4, 4, 4) and pairs["11"][1].shape == (3, 4, 4, 4)
    assert relative_rms(ours, theirs) <= SAME, "our loader's MODEL is another one"
    assert theirs.diff(dim=0).abs().max() > SAME, "frames do not differ"
