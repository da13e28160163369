"""Run by ComfyUI's own Python, without a server: a toy with two text encoders in ComfyUI's own
classes, its prompts, and videos with motion modules and a ControlNet.

python inside_two_encoders.py COMFYUI FOLDER     (FOLDER holds toy.safetensors, layers.safetensors,
hints.safetensors and asked.json; writes found.safetensors and control.safetensors there)
"""

import json
import logging
import sys
from pathlib import Path

from inside import begin


def clip_of(state: dict, told: dict):
    """ComfyUI's CLIP with two encoders of toy sizes, and its tokenizer."""
    import comfy.sd1_clip
    import comfy.sdxl_clip

    options = {"clip_l_model_config": told["text"], "clip_g_model_config": told["second"]}
    model = comfy.sdxl_clip.SDXLClipModel(model_options=options)
    known = comfy.supported_models.SDXL({})
    own = {k: v for k, v in state.items() if k.startswith("conditioner.")}
    own = known.process_clip_state_dict(dict(own))
    for name in ("clip_l", "clip_g"):
        part = {k.removeprefix(f"{name}."): v for k, v in own.items() if k.startswith(name)}
        part = {k.removeprefix("transformer."): v for k, v in part.items()}
        missing, unknown = getattr(model, name).load_sd(part)
        assert not unknown and set(missing) <= {"text_projection.weight"}, (missing, unknown)
    return model, comfy.sdxl_clip.SDXLTokenizer()


def model_of(state: dict, told: dict):
    """A MODEL with ComfyUI's U-Net at toy size."""
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models
    import torch

    known = comfy.supported_models.SDXL({})
    known.unet_config = told["unet"]
    model = comfy.model_base.SDXL(known)
    # Published models embed each size in 256 sinusoids.
    model.embedder = type(model.embedder)(told["sizes"])
    prefix = "model.diffusion_model."
    own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    model.diffusion_model.load_state_dict(own)
    return comfy.model_patcher.ModelPatcher(model, *[torch.device("cpu")] * 2)


class Clip:
    """The methods of CLIP that ComfyUI's nodes call."""

    def __init__(self, model, tokenizer):
        self.model, self.tokenizer = model, tokenizer

    def tokenize(self, text: str):
        return self.tokenizer.tokenize_with_weights(text)

    def encode_from_tokens_scheduled(self, tokens, add_dict=None):
        self.model.reset_clip_options()
        tokens, whole = self.model.encode_token_weights(tokens)[:2]
        return [[tokens, {"pooled_output": whole, **(add_dict or {})}]]


def told_apart(clip: Clip, told: dict):
    """A conditioning by ComfyUI's node with a prompt for each encoder, and sizes."""
    from comfy_extras.nodes_clip_sdxl import CLIPTextEncodeSDXL

    return CLIPTextEncodeSDXL.execute(clip, **told["apart"]).args[0]


def controlled(model, prompts, folder: Path) -> list:
    """Both prompts with a ControlNet, whose weights are also written to a file."""
    from safetensors.torch import load_file, save_file
    from server_nodes import TestControlNet

    from nodes import ControlNetApplyAdvanced

    # One head for each 64 channels, as in all published ones.
    (control,) = TestControlNet().make(model, num_heads=1, num_head_channels=-1)
    state = control.control_model.state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "control.safetensors")
    hints = load_file(folder / "hints.safetensors")["images"]
    apply = ControlNetApplyAdvanced().apply_controlnet
    return apply(*prompts, control, hints, 0.7, 0.0, 0.8)[:2]


def main() -> None:
    comfyui, folder = sys.argv[1], Path(sys.argv[2])
    host = begin(comfyui)
    logging.disable(logging.WARNING)
    import comfy.sample
    import torch
    from safetensors.torch import load_file, save_file
    from videoldm.core.networks.temporal_layers import Strength
    from videoldm.nodes.host.comfyui import loaders

    torch.set_grad_enabled(False)
    told = json.loads((folder / "asked.json").read_text())
    state = load_file(folder / "toy.safetensors")
    clip, tokenizer = clip_of(state, told)
    found, prompts = {}, []
    for k, (text, layer) in enumerate(told["prompts"]):
        clip.reset_clip_options()
        if layer is not None:
            clip.set_clip_options({"layer": layer})
        tokens, whole = clip.encode_token_weights(tokenizer.tokenize_with_weights(text))[:2]
        found |= {f"tokens {k}": tokens, f"whole {k}": whole}
        prompts.append([[tokens, {"pooled_output": whole}]])
    image = model_of(state, told)
    latent = torch.zeros(told["latent"])
    noise = comfy.sample.prepare_noise(latent, told["seed"])
    apart = told_apart(Clip(clip, tokenizer), told)
    found |= {"tokens apart": apart[0][0], "whole apart": apart[0][1]["pooled_output"]}
    layers = loaders.temporal_layers(folder / "layers.safetensors")
    video = host.inject(image, layers, Strength())
    followed = controlled(image, prompts[:2], folder)
    for name, model, both in (
        ("image", image, prompts[:2]), ("video", video, prompts[:2]),
        ("apart", video, (apart, prompts[1])), ("followed", video, followed),
    ):  # fmt: skip
        for how, (steps, cfg) in told["how"].items():
            found[f"{name} {how}"] = comfy.sample.sample(
                model, noise, steps, cfg, "euler", "normal", *both, latent, seed=told["seed"]
            )
    save_file({k: v.float().contiguous() for k, v in found.items()}, folder / "found.safetensors")
    print(json.dumps(sorted(found)))


if __name__ == "__main__":
    main()
