"""Measures the time of a step of our sampler and of ComfyUI's KSampler, on the same embedded model
with the same layers: 8 frames of 64x64 at cfg 3, as the difference of 45 and 5 steps.

Run with ComfyUI's Python:  python measure_steps.py COMFYUI [REPEATS] [--no-network]

Without the network a step takes a few milliseconds, which shows the difference exactly; with it,
the difference is smaller than the variation between runs on a busy machine.
"""

import json
import logging
import statistics
import sys
import time

from inside import begin

FRAMES, SIDE, CFG = 8, 64, 3.0
MANY, FEW = 45, 5


class Samplers:
    """Both samplers; each method samples `steps` steps."""

    def __init__(self, host):
        from videoldm.nodes.stages.sampling import VideoRequest
        from videoldm.nodes.stages.strategy import Strategy

        self.host = host
        self.request = VideoRequest(
            width=SIDE, height=SIDE, frames=FRAMES, cfg=CFG, guidance_rescale=0.0,
            strategy=Strategy(name="single clip"),
        )  # fmt: skip

    def ours(self, model, prompts, steps):
        from videoldm.nodes.stages.sampling import Settings, sample_video

        how = Settings(steps=steps, sampler_name="euler", schedule="trailing", seed=1)
        sample_video(self.host, model, prompts, self.request, how)

    def core(self, model, prompts, steps):
        import torch

        from nodes import common_ksampler

        latents, side = model.model.latent_format, SIDE // self.host.facts(model).factor
        empty = {"samples": torch.zeros(FRAMES, latents.latent_channels, side, side)}
        common_ksampler(model, 1, steps, CFG, "euler", "simple", *prompts, empty)


def cases(host):
    """name -> (model, (positive, negative)): plain, with a LoRA, with a ControlNet, with both."""
    import torch
    from server_nodes import TestControlNet
    from videoldm.core.networks.temporal_layers import Strength

    from nodes import ControlNetApplyAdvanced

    model, clip, _ = host.load_image_model("embedded")
    layers = host.load_temporal_layers("embedded: text to video")
    video = host.inject(model, layers, Strength())
    plain = tuple(host.encode_text(clip, text) for text in ("a red circle moves right", ""))
    hints = torch.rand(FRAMES, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(1))
    (control,) = TestControlNet().make(model)
    apply = ControlNetApplyAdvanced().apply_controlnet
    controlled = apply(*plain, control, hints, 0.7, 0.0, 1.0)[:2]
    patched = with_lora(video)
    return {"plain": (video, plain), "LoRA": (patched, plain), "ControlNet": (video, controlled),
            "LoRA and ControlNet": (patched, controlled)}  # fmt: skip


def with_lora(model):
    """A clone with a random LoRA on the self-attention of its U-Net's middle block."""
    import comfy.sd
    import torch

    state = model.model.diffusion_model.state_dict()
    ends = ("middle_block.1.", "attn1.to_v.weight")
    key = next(key for key in state if key.startswith(ends[0]) and key.endswith(ends[1]))
    rows, columns = state[key].shape
    name, generator = key.removesuffix(".weight"), torch.Generator().manual_seed(0)
    lora = {f"diffusion_model.{name}.lora_{way}.weight": torch.randn(*shape, generator=generator)
            for way, shape in (("up", (rows, 4)), ("down", (4, columns)))}  # fmt: skip
    return comfy.sd.load_lora_for_models(model, None, lora, 0.1, 0)[0]


def without_network(model):
    """A clone whose U-Net, layers included, returns its input."""
    clone = model.clone()
    wrappers = clone.wrappers["diffusion_model"]
    inner, clone.wrappers["diffusion_model"] = wrappers, {}
    clone.add_wrapper_with_key("diffusion_model", "left out", lambda executor, x, *_, **__: x)
    clone.wrappers["diffusion_model"] |= inner
    return clone


def per_step(sample, case) -> float:
    """Milliseconds of processor time per step, which other processes hardly affect."""
    taken = {}
    for steps in (FEW, MANY):
        begun = time.process_time()
        sample(*case, steps)
        taken[steps] = time.process_time() - begun
    return 1e3 * (taken[MANY] - taken[FEW]) / (MANY - FEW)


def measure(host, repeats: int, network: bool) -> dict[str, dict[str, float]]:
    """The minimum and median time per step of both samplers, run in turn, by case."""
    samplers, found = Samplers(host), {}
    for name, (model, prompts) in cases(host).items():
        case = (model if network else without_network(model), prompts)
        both = {"ours": samplers.ours, "core": samplers.core}
        for sample in both.values():
            sample(*case, 2)
        taken = {which: [] for which in both}
        for _ in range(repeats):
            for which, sample in both.items():
                taken[which].append(per_step(sample, case))
        found[name] = {
            f"{which} {what.__name__}": round(what(ms), 2)
            for which, ms in taken.items()
            for what in (min, statistics.median)
        }
        print(name, found[name], file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    comfyui, *given = sys.argv[1:]
    numbers = [one for one in given if one.isdigit()]
    host = begin(comfyui)
    logging.getLogger("videoldm").setLevel(logging.ERROR)
    import torch

    torch.set_num_threads(1)
    with torch.inference_mode():
        print(json.dumps(measure(host, int((numbers or [3])[0]), "--no-network" not in given)))
