"""ComfyUI's nodes work on our objects and our nodes on its; cancelling; progress; bad input."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
import torch
from comfyui_server import Listener, RunFailed
from node_inputs import strategy
from PIL import Image
from safetensors.torch import save_file
from toy_prompts import FRAMES, ksampler, latent, nodes, saved
from videoldm.core.media.files import open_video, read_frames, read_metadata


def test_ksampler_sees_the_frames_together_and_leaves_the_image_model_alone(comfyui):
    alone = {"n20": ksampler("1"), "n21": saved("20")}
    first = comfyui.run(nodes(**alone, n11=saved("8")))
    comfyui.clear()
    video = comfyui.run(nodes(n11=saved("8")))
    comfyui.clear()
    again = comfyui.run(nodes(**alone))
    assert latent(comfyui, first, "21").shape == (FRAMES, 4, 8, 8)
    assert not torch.equal(latent(comfyui, first, "11"), latent(comfyui, first, "21"))
    assert torch.equal(latent(comfyui, video, "11"), latent(comfyui, first, "11"))
    assert torch.equal(latent(comfyui, again, "21"), latent(comfyui, first, "21"))


def test_ejected_layers_give_the_image_model_bit_for_bit(comfyui):
    ejected = {"n20": ("VideoLDM_EjectTemporalLayers", {"model": ["3", 0]}),
               "n21": ksampler("20"), "n22": saved("21"),
               "n23": ksampler("1"), "n24": saved("23")}  # fmt: skip
    history = comfyui.run(nodes(**ejected))
    assert torch.equal(latent(comfyui, history, "22"), latent(comfyui, history, "24"))


def test_a_lora_of_core_changes_the_video_and_not_the_model_it_was_given(comfyui):
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_v"
    text = "lora_te_text_model_encoder_layers_0_self_attn_v_proj"
    state = {f"{one}.lora_{way}.weight": torch.randn(shape) for one in (name, text)
             for way, shape in (("up", (32, 4)), ("down", (4, 32)))}  # fmt: skip
    folder = comfyui.base / "models" / "loras"
    folder.mkdir(exist_ok=True)
    save_file(state, folder / "toy_lora.safetensors")
    lora = {"n20": ("LoraLoader", {"model": ["3", 0], "clip": ["1", 1],
                                   "lora_name": "toy_lora.safetensors",
                                   "strength_model": 1.0, "strength_clip": 1.0}),
            "n21": ksampler("20"), "n22": saved("21"),
            "n24": ("CLIPTextEncode", {"clip": ["20", 1], "text": "a red circle"}),
            "n25": ksampler("3", positive=["24", 0]), "n26": saved("25")}  # fmt: skip
    history = comfyui.run(nodes(**lora, n11=saved("8")))
    plain, model, clip = (latent(comfyui, history, node) for node in ("11", "22", "26"))
    assert not torch.equal(plain, model) and not torch.equal(plain, clip)
    comfyui.clear()
    assert torch.equal(latent(comfyui, comfyui.run(nodes(n11=saved("8"))), "11"), plain)


def test_our_video_goes_through_core_nodes_and_cores_through_ours(comfyui):
    video = {
        "n20": ("VideoLDM_TemporalVAEDecodeToVideo", {
            "samples": ["9", 0], "vae": ["10", 0], "frame_rate": 8.0, "chunk": 4, "tile": 0}),
        "n21": ("SaveVideo", {"video": ["20", 0], "filename_prefix": "video/core",
                              "format": "mp4", "format.codec": "h264"}),
        "n22": ("GetVideoComponents", {"video": ["20", 0]}),
        "n23": ("SaveImage", {"images": ["22", 0], "filename_prefix": "parts"}),
        "n24": ("VideoLDM_TemporalVAEDecode", {
            "samples": ["9", 0], "vae": ["10", 0], "chunk": 3, "tile": 0}),
        "n25": ("SaveImage", {"images": ["24", 0], "filename_prefix": "ours"}),
        "n26": ("VAEDecode", {"samples": ["9", 0], "vae": ["10", 0]}),
        "n27": ("SaveImage", {"images": ["26", 0], "filename_prefix": "core"}),
        "n28": ("CreateVideo", {"images": ["26", 0], "fps": 8.0}),
        "n29": ("VideoLDM_SaveVideo", {"filename_prefix": "video/ours", "format": "mp4",
                                       "quality": 0, "frame_rate": 8.0, "video": ["28", 0]}),
    }  # fmt: skip
    history = comfyui.run(comfyui.filled(nodes(**video)))
    shown = {node: comfyui.files({"outputs": {node: history["outputs"][node]}})
             for node in ("21", "23", "25", "27", "29")}  # fmt: skip
    parts, ours, core = (stack(shown[node]) for node in ("23", "25", "27"))
    assert len(parts) == FRAMES
    np.testing.assert_array_equal(parts, ours)
    np.testing.assert_allclose(core.astype(int), ours.astype(int), atol=1)
    for node in ("21", "29"):
        info = open_video(shown[node][0])
        assert (info.frames, float(info.frame_rate), info.width) == (FRAMES, 8.0, 32)
    back = torch.cat(list(read_frames(shown["29"][0])))
    # Videos store colour at half the resolution, but brightness in full.
    weights = [0.2126, 0.7152, 0.0722]
    brightness = [(one @ weights).ravel() for one in (back.movedim(1, -1).double().numpy(), core)]
    assert np.corrcoef(*brightness)[0, 1] > 0.9
    assert "VideoLDM_VideoSampler" in read_metadata(shown["29"][0])["prompt"]
    assert "VideoLDM_VideoSampler" in read_metadata(shown["21"][0])["prompt"]


def stack(files) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in files])


def test_cancel_stops_a_run_and_the_next_one_is_right(comfyui):
    whole = nodes(n11=saved("9"))
    comfyui.clear()
    expected = latent(comfyui, comfyui.run(whole), "11")
    long = nodes(n11=saved("9"))
    long["9"]["inputs"] |= {"steps": 1000, "sampler_name": "ddpm"}
    prompt_id = comfyui.queue(long)
    _wait_for_steps(comfyui, prompt_id)
    started = time.monotonic()
    comfyui.post("/interrupt", {})
    with pytest.raises(RunFailed, match="interrupted"):
        comfyui.wait(prompt_id, within=60)
    print(f"stopped after {time.monotonic() - started:.1f} s")
    comfyui.clear()
    assert torch.equal(latent(comfyui, comfyui.run(whole), "11"), expected)


def _wait_for_steps(comfyui, prompt_id: str) -> None:
    """Wait until the prompt runs, and 3 more seconds for its models to load."""
    while not any(one[1] == prompt_id for one in comfyui.get("/queue")["queue_running"]):
        time.sleep(0.1)
    time.sleep(3)


def test_progress_and_previews_of_all_frames_are_sent(comfyui):
    listener = Listener(comfyui)
    prompt = nodes(n11=saved("9"))
    prompt["9"]["inputs"]["seed"] = 77
    prompt_id = comfyui.queue(prompt, listener.client, preview_method="latent2rgb")
    comfyui.wait(prompt_id)
    listener.close()
    told = [one["data"] for one in listener.messages
            if isinstance(one, dict) and one["type"] == "progress"]  # fmt: skip
    steps = [one["value"] for one in told if one["node"] == "9"]
    assert steps == [1, 2, 3] and {one["max"] for one in told} == {3}
    ours = [one["data"] for one in listener.messages
            if isinstance(one, dict) and one["type"] == "videoldm.progress"]  # fmt: skip
    assert ours[-1]["part"] == {
        "stage": "segment", "segment": 1, "segments": 1, "step": 3, "steps": 3
    }  # fmt: skip
    assert ours[-1]["left"] == 0 and ours[-1]["memory"]["used"] > 0
    pictures = [one for one in listener.messages if isinstance(one, bytes)]
    shown = Image.open(io.BytesIO(pictures[-1][pictures[-1].index(b"RIFF") :]))
    assert shown.n_frames == FRAMES and max(shown.size) == 256


def test_bad_input_is_refused_with_the_reason(comfyui):
    wrong = nodes(n11=saved("9"))
    windows = strategy("sliding windows", window=16, overlap=20)
    wrong["9"]["inputs"] |= {"width": 40, "height": 40, **windows}
    with pytest.raises(RunFailed, match="overlap 20 must be smaller than window 16"):
        comfyui.run(wrong)
    other = nodes(n11=saved("9"))
    other["2"]["inputs"]["layers"] = "../checkpoints/toy/image_model.safetensors"
    with pytest.raises(RunFailed, match="Value not in list"):
        comfyui.run(other)
