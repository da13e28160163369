"""Stand-ins for ComfyUI's nodes have its names, and whole workflows run on them."""

from __future__ import annotations

import json
import time

import pytest
import torch
from node_inputs import strategy
from PIL import Image
from videoldm.core.graph import Executor, graph_from_api, validate
from videoldm.nodes import node_registry
from videoldm.nodes.headless import main

# Ids, inputs and outputs as ComfyUI has them.
COMFYUI = {
    "CheckpointLoaderSimple": (["ckpt_name"], ["MODEL", "CLIP", "VAE"]),
    "UNETLoader": (["unet_name", "weight_dtype"], ["MODEL"]),
    "CLIPLoader": (["clip_name", "type", "device"], ["CLIP"]),
    "DualCLIPLoader": (["clip_name1", "clip_name2", "type", "device"], ["CLIP"]),
    "VAELoader": (["vae_name"], ["VAE"]),
    "LoraLoader": (["model", "clip", "lora_name", "strength_model", "strength_clip"],
                   ["MODEL", "CLIP"]),
    "LoraLoaderModelOnly": (["model", "lora_name", "strength_model"], ["MODEL"]),
    "CLIPTextEncode": (["text", "clip"], ["CONDITIONING"]),
    "CLIPTextEncodeSDXL": (["clip", "width", "height", "crop_w", "crop_h", "target_width",
                            "target_height", "text_g", "text_l"], ["CONDITIONING"]),
    "EmptyLatentImage": (["width", "height", "batch_size"], ["LATENT"]),
    "KSampler": (["model", "seed", "steps", "cfg", "sampler_name", "scheduler", "positive",
                  "negative", "latent_image", "denoise"], ["LATENT"]),
    "KSamplerAdvanced": (["model", "add_noise", "noise_seed", "steps", "cfg", "sampler_name",
                          "scheduler", "positive", "negative", "latent_image", "start_at_step",
                          "end_at_step", "return_with_leftover_noise"], ["LATENT"]),
    "ContextWindowsManual": (["model", "context_length", "context_overlap", "context_schedule",
                              "context_stride", "closed_loop", "fuse_method", "dim", "freenoise",
                              "cond_retain_index_list", "split_conds_to_windows",
                              "latent_retain_index_list", "causal_window_fix"], ["MODEL"]),
    "CLIPSetLastLayer": (["clip", "stop_at_clip_layer"], ["CLIP"]),
    "ConditioningZeroOut": (["conditioning"], ["CONDITIONING"]),
    "ConditioningCombine": (["conditioning_1", "conditioning_2"], ["CONDITIONING"]),
    "ConditioningAverage": (["conditioning_to", "conditioning_from", "conditioning_to_strength"],
                            ["CONDITIONING"]),
    "ConditioningConcat": (["conditioning_to", "conditioning_from"], ["CONDITIONING"]),
    "ConditioningSetTimestepRange": (["conditioning", "start", "end"], ["CONDITIONING"]),
    "ControlNetLoader": (["control_net_name"], ["CONTROL_NET"]),
    "ControlNetApply": (["conditioning", "control_net", "image", "strength"], ["CONDITIONING"]),
    "ControlNetApplyAdvanced": (["positive", "negative", "control_net", "image", "strength",
                                 "start_percent", "end_percent", "vae"],
                                ["CONDITIONING", "CONDITIONING"]),
    "LatentUpscale": (["samples", "upscale_method", "width", "height", "crop"], ["LATENT"]),
    "LatentUpscaleBy": (["samples", "upscale_method", "scale_by"], ["LATENT"]),
    "SaveLatent": (["samples", "filename_prefix"], ["LATENT"]),
    "LoadLatent": (["latent"], ["LATENT"]),
    "ImageScale": (["image", "upscale_method", "width", "height", "crop"], ["IMAGE"]),
    "ImageScaleBy": (["image", "upscale_method", "scale_by"], ["IMAGE"]),
    "VAEDecode": (["samples", "vae"], ["IMAGE"]),
    "VAEEncode": (["pixels", "vae"], ["LATENT"]),
    "LoadImage": (["image"], ["IMAGE", "MASK"]),
    "SaveImage": (["images", "filename_prefix"], ["IMAGE"]),
    "PreviewImage": (["images"], []),
    "LoadVideo": (["file"], ["VIDEO"]),
    "GetVideoComponents": (["video"], ["IMAGE", "AUDIO", "FLOAT", "INT", "COMBO"]),
    "CreateVideo": (["images", "fps", "audio", "bit_depth"], ["VIDEO"]),
    "SaveVideo": (["video", "filename_prefix", "format", "codec"], ["VIDEO"]),
    "ImageOnlyCheckpointLoader": (["ckpt_name"], ["MODEL", "CLIP_VISION", "VAE"]),
    "SVD_img2vid_Conditioning": (
        ["clip_vision", "init_image", "vae", "width", "height", "video_frames", "motion_bucket_id",
         "fps", "augmentation_level"],
        ["CONDITIONING", "CONDITIONING", "LATENT"]),
    "VideoLinearCFGGuidance": (["model", "min_cfg"], ["MODEL"]),
    "VideoTriangleCFGGuidance": (["model", "min_cfg"], ["MODEL"]),
    "PrimitiveInt": (["value"], ["INT"]),
    "PrimitiveFloat": (["value"], ["FLOAT"]),
    "PrimitiveString": (["value"], ["STRING"]),
    "PrimitiveStringMultiline": (["value"], ["STRING"]),
    "PrimitiveBoolean": (["value"], ["BOOLEAN"]),
}  # fmt: skip


@pytest.mark.parametrize("node_id", COMFYUI)
def test_names_are_comfyuis(node_id):
    spec = node_registry()[node_id]
    inputs, outputs = COMFYUI[node_id]
    assert [one.name for one in spec.inputs] == inputs
    assert [one.type for one in spec.outputs] == outputs


def test_the_list_above_is_whole():
    from videoldm.nodes.host.standalone.core_nodes import CORE_NODES

    assert {one.define_schema().node_id for one in CORE_NODES} == set(COMFYUI)


def test_ksampler_makes_a_video_of_a_model_with_layers(run):
    model, clip, _ = run("VideoLDM_LoadImageModel").values
    prompts = {"positive": run("CLIPTextEncode", clip=clip, text="a red circle"),
               "negative": run("CLIPTextEncode", clip=clip, text="")}  # fmt: skip
    latent = run("EmptyLatentImage", width=16, height=16, batch_size=3)
    settings = {"steps": 2, "seed": 5, "latent_image": latent, **prompts}
    image = run("KSampler", model=model, **settings)["samples"]
    layers = run("VideoLDM_LoadTemporalLayers", layers="embedded: text to video")
    video_model = run("VideoLDM_InjectTemporalLayers", model=model, layers=layers, sites="")
    video = run("KSampler", model=video_model, **settings)["samples"]
    assert image.shape == video.shape == (3, 4, 4, 4)
    assert not torch.allclose(image, video)
    # Frames of the image model are independent of each other, those of the video model are not.
    fewer = {"samples": torch.zeros(2, 4, 4, 4)}
    settings["latent_image"] = fewer
    assert torch.allclose(run("KSampler", model=model, **settings)["samples"], image[:2], atol=1e-5)
    assert not torch.allclose(
        run("KSampler", model=video_model, **settings)["samples"], video[:2], atol=1e-5
    )


def test_denoise_zero_gives_the_latents_back(run):
    model, clip, _ = run("VideoLDM_LoadImageModel").values
    prompt = run("CLIPTextEncode", clip=clip, text="")
    latent = {"samples": torch.randn(1, 4, 4, 4)}
    same = run("KSampler", model=model, positive=prompt, negative=prompt, latent_image=latent,
               denoise=0.0, steps=2)  # fmt: skip
    torch.testing.assert_close(same["samples"], latent["samples"])


def test_a_lora_changes_a_copy_and_strength_zero_changes_nothing(run, toys, tmp_path):
    from safetensors.torch import save_file

    folder = tmp_path / "models" / "loras"
    folder.mkdir(parents=True)
    model, clip, _ = run("VideoLDM_LoadImageModel").values
    weights = model.core.network.image_unet.state_dict()
    path = next(key for key in weights if key.endswith("attn1.to_q.weight")).removesuffix(".weight")
    rows, columns = weights[f"{path}.weight"].shape
    lora = {f"unet.{path}.lora_A.weight": torch.ones(2, columns),
            f"unet.{path}.lora_B.weight": torch.ones(rows, 2)}  # fmt: skip
    save_file(lora, folder / "a.safetensors")
    before = weights[f"{path}.weight"].clone()
    loras = {"model": model, "lora_name": "a.safetensors"}
    changed = run("LoraLoaderModelOnly", strength_model=0.5, **loras)
    after = changed.core.network.image_unet.state_dict()[f"{path}.weight"]
    torch.testing.assert_close(after, before + 1.0)
    assert torch.equal(model.core.network.image_unet.state_dict()[f"{path}.weight"], before)
    assert run("LoraLoaderModelOnly", strength_model=0.0, **loras) is model


def test_images_keep_their_pixels_and_transparency(run, toys, tmp_path):
    picture = Image.new("RGBA", (6, 4), (255, 0, 51, 255))
    picture.putpixel((0, 0), (0, 0, 0, 0))
    picture.save(tmp_path / "input" / "a.png")
    image, mask = run("LoadImage", image="a.png").values
    assert image.shape == (1, 4, 6, 3) and image[0, 1, 1].tolist() == pytest.approx([1, 0, 0.2])
    assert mask[0, 0, 0] == 1 and mask[0, 1, 1] == 0
    saved = run(
        "SaveImage", images=image, filename_prefix="b", prompt={"1": {}}, extra_pnginfo=None
    )
    again = Image.open(tmp_path / "output" / "b_00001_.png")
    assert torch.equal(saved, image)
    assert again.getpixel((2, 2)) == (255, 0, 51) and again.text["prompt"] == '{"1": {}}'


def test_a_workflow_of_core_nodes_around_the_stages_runs(toys, tmp_path):
    wired = {
        "1": ("VideoLDM_LoadImageModel", {"model": "embedded"}),
        "2": ("VideoLDM_LoadTemporalLayers", {"layers": "embedded: text to video"}),
        "3": ("VideoLDM_InjectTemporalLayers", {
            "model": ["1", 0], "layers": ["2", 0], "strength": 1.0, "attention_strength": 1.0,
            "convolution_strength": 1.0, "sites": "mid=0.5"}),
        "4": ("PrimitiveString", {"value": "a red circle moves right"}),
        "5": ("CLIPTextEncode", {"clip": ["1", 1], "text": ["4", 0]}),
        "6": ("CLIPTextEncode", {"clip": ["1", 1], "text": ""}),
        "7": ("VideoLDM_VideoSampler", {
            "model": ["3", 0], "positive": ["5", 0], "negative": ["6", 0], "width": 16,
            "height": 16, "frames": 3, "steps": 2, "cfg": 2.0, "sampler_name": "euler",
            "schedule": "uniform", "seed": 1, "guidance_rescale": 0.0, **strategy()}),
        "8": ("VAEDecode", {"samples": ["7", 0], "vae": ["1", 2]}),
        "9": ("CreateVideo", {"images": ["8", 0], "fps": 8.0}),
        "10": ("SaveVideo", {"video": ["9", 0], "filename_prefix": "video/a", "format": "auto"}),
        "11": ("GetVideoComponents", {"video": ["9", 0]}),
        "12": ("PreviewImage", {"images": ["11", 0]}),
    }  # fmt: skip
    api = {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in wired.items()}
    events = []
    executor = Executor(node_registry())
    result = executor.run(graph_from_api(api), on_event=events.append)
    (saved,) = result.ui["10"]["images"]
    assert (tmp_path / "output" / "video" / saved["filename"]).is_file()
    assert len(result.ui["12"]["images"]) == 3
    steps = [
        (one.value, one.total) for one in events if one.kind == "progress" and one.node_id == "7"
    ]
    assert steps == [(1, 2), (2, 2)]
    assert executor.run(graph_from_api(api)).executed == []


def test_what_was_finished_of_an_interrupted_video_is_kept(
    run, toys, monkeypatch, tmp_path, caplog
):
    model, clip, _ = run("VideoLDM_LoadImageModel").values
    layers = run("VideoLDM_LoadTemporalLayers", layers="embedded: prediction")
    model = run("VideoLDM_InjectTemporalLayers", model=model, layers=layers, sites="")
    prompt = run("CLIPTextEncode", clip=clip, text="")

    def stop(done, total, part):
        if done > 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(toys, "progress", stop)
    with pytest.raises(KeyboardInterrupt):
        run("VideoLDM_VideoSampler", model=model, positive=prompt, negative=prompt, width=16,
            height=16, frames=9, steps=2, **strategy("prediction", window=5))  # fmt: skip
    from safetensors.torch import load_file

    (path,) = (tmp_path / "output" / "latents").iterdir()
    assert load_file(path)["latent_tensor"].shape == (5, 4, 4, 4)
    assert "kept the 5 finished frames" in caplog.text


def test_prefixes_are_filled_in_from_other_nodes(toys, tmp_path, monkeypatch):
    """By the command, and by the node itself for hosts that pass the prefix as it was typed."""
    from videoldm.nodes.host.standalone.io import HiddenHolder
    from videoldm.nodes.stages.media import filled_prefix

    load = {"file": "rendered: shapes", "start": 0, "count": 2, "stride": 1, "width": 16,
            "height": 16, "fit": "crop", "multiple_of": 8}  # fmt: skip
    prefix = "%VideoLDM_LoadVideo.file%/%Load Video (Video LDM).count%_%date:yyyy%_%width%"
    workflow = {
        "1": {"class_type": "VideoLDM_LoadVideo", "inputs": load},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
        "3": {"class_type": "VideoLDM_SaveVideo", "inputs": {
            "images": ["1", 0], "filename_prefix": prefix, "format": "mp4", "quality": 18,
            "frame_rate": 8.0}},
    }  # fmt: skip
    (tmp_path / "flow.json").write_text(json.dumps(workflow))
    arguments = ["--quiet", "--device", "cpu", "--output", str(tmp_path / "output")]
    assert main(["run", str(tmp_path / "flow.json"), *arguments]) == 0
    stem, year = tmp_path / "output" / "rendered_ shapes", time.strftime("%Y")
    names = [f"2_{year}_16_00001_.png", f"2_{year}_16_00002_.png", f"2_{year}_16_00003_.mp4"]
    assert sorted(path.name for path in stem.iterdir()) == names

    hidden = HiddenHolder(prompt=workflow, extra_pnginfo=None)
    assert filled_prefix("%VideoLDM_LoadVideo.count%x", hidden) == "2x"
    assert filled_prefix("%VideoLDM_LoadVideo.count%x", HiddenHolder()) == (
        "%VideoLDM_LoadVideo.count%x"
    )


@pytest.mark.parametrize("node, inputs", [
    ("SaveImage", {"images": ["1", 0]}),
    ("SaveVideo", {"video": ["4", 0], "format": "auto"}),
    ("VideoLDM_SaveVideo", {"images": ["1", 0], "format": "mp4", "quality": 1, "frame_rate": 8.0}),
])  # fmt: skip
def test_prefixes_are_checked_before_anything_runs(toys, node, inputs):
    load = {"file": "rendered: shapes", "start": 0, "count": 2, "stride": 1, "width": 16,
            "height": 16, "fit": "crop", "multiple_of": 8}  # fmt: skip
    api = {
        "1": {"class_type": "VideoLDM_LoadVideo", "inputs": load},
        "4": {"class_type": "CreateVideo", "inputs": {"images": ["1", 0], "fps": 8.0}},
        "9": {"class_type": node, "inputs": {**inputs, "filename_prefix": "../x"}},
    }
    (problem,) = validate(graph_from_api(api), node_registry())
    assert problem.node_id == "9" and "leads out of the folder" in problem.message
