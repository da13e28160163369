"""Run by ComfyUI's own Python, without a server: how our sampling works inside ComfyUI.

python inside_sampling.py COMFYUI FAMILY      (FAMILY is the toy family's folder; answers with JSON)
"""

import json
import logging
import sys
from collections import Counter
from pathlib import Path

import inside_frames
import inside_models
import inside_optical_flow
import inside_reference
import inside_video
from inside import begin

FRAMES, SIDE, LATENT = 6, 32, 8
PROMPTS = ("a red circle", "")


class Toys:
    """The toy family as ComfyUI's objects, and our sampler with small settings."""

    def __init__(self, host, folder: Path):
        from videoldm.core.networks.temporal_layers import Strength
        from videoldm.nodes.host.comfyui import loaders

        self.host, self.loaders, self.folder = host, loaders, folder
        kind, file = loaders.IMAGE_MODEL, folder / "image_model.safetensors"
        self.image, self.clip, self.vae = loaders.own_wires(kind, file)
        self.text_to_video, self.prediction = (
            host.inject(self.image, self.layers(name), Strength())
            for name in ("text_to_video", "prediction")
        )
        self.prompts = [host.encode_text(self.clip, text) for text in PROMPTS]

    def layers(self, name):
        return self.loaders.temporal_layers(self.folder / f"{name}.safetensors")

    def sample(self, model=None, prompts=None, *, steps=3, sampler="euler", **changed):
        from videoldm.nodes.stages.sampling import Settings, VideoRequest, sample_video
        from videoldm.nodes.stages.strategy import Strategy

        usual = dict(
            width=SIDE, height=SIDE, frames=FRAMES, cfg=3.0, guidance_rescale=0.0,
            strategy=Strategy(name="single clip"),
        )  # fmt: skip
        how = Settings(steps=steps, sampler_name=sampler, schedule="trailing", seed=1)
        request = VideoRequest(**usual | changed)
        model, prompts = model or self.text_to_video, tuple(prompts or self.prompts)
        return sample_video(self.host, model, prompts, request, how)[0]["samples"]

    def core(self, model, prompts=None, *, steps=3, cfg=3.0, x=None):
        """Sample with ComfyUI's KSampler."""
        import torch

        from nodes import common_ksampler

        generator = torch.Generator().manual_seed(2)
        x = torch.randn(FRAMES, 4, LATENT, LATENT, generator=generator) if x is None else x
        how = (1, steps, cfg, "euler", "simple", *(prompts or self.prompts))
        return common_ksampler(model, *how, {"samples": x})[0]["samples"]

    def controlled(self, frames=FRAMES):
        """The prompts with a ControlNet of random weights."""
        import torch
        from server_nodes import TestControlNet

        from nodes import ControlNetApplyAdvanced

        hints = torch.rand(frames, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(1))
        (control,) = TestControlNet().make(self.image)
        apply = ControlNetApplyAdvanced().apply_controlnet
        return apply(*self.prompts, control, hints, 0.7, 0.0, 0.8)[:2]

    def hooked(self):
        """The prompts, the first with a LoRA hook."""
        import comfy.hooks
        import torch

        generator = torch.Generator().manual_seed(0)
        name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_v"
        lora = {f"{name}.lora_{way}.weight": torch.randn(*shape, generator=generator)
                for way, shape in (("up", (32, 4)), ("down", (4, 32)))}  # fmt: skip
        hook = comfy.hooks.create_hook_lora(lora, 1.0, 1.0)
        return comfy.hooks.set_hooks_for_conditioning(self.prompts[0], hook), self.prompts[1]


def distance(a, b) -> float:
    return float((a - b).abs().max() / b.std())


# --------------------------------------------------------------------------------------------------
# How often wrappers are called.


def cases(model):
    """Arguments of `Toys.sample` by name; `model` continues context frames."""
    from videoldm.nodes.stages.strategy import Strategy

    windows = Strategy(name="sliding windows", window=4, overlap=2, free_noise=False)
    continued = Strategy(name="prediction", window=4, prediction_model=model)
    return {
        "single clip": {},
        "sliding windows": {"strategy": windows, "frames": 10},
        "prediction": {"strategy": continued, "frames": 10},
        "heun": {"sampler": "heun"},
    }


def calls(toys):
    """How often a run calls wrappers of other nodes and prepares ControlNets, by case."""

    counts = Counter()

    def counting(name):
        def wrapper(executor, *args, **kwargs):
            counts[name] += 1
            return executor(*args, **kwargs)

        return wrapper

    model = toys.prediction.clone()
    for name in ("outer_sample", "prepare_sampling", "sampler_sample", "predict_noise"):
        model.add_wrapper_with_key(name, "test", counting(name))
    positive, negative = toys.controlled(frames=10)
    control = positive[0][1]["control"]
    kind = type(control)
    for name in ("pre_run", "cleanup"):
        method = getattr(kind, name)
        setattr(kind, name, _counted(counts, name, method))
    found = {}
    for name, changed in cases(model).items():
        counts.clear()
        toys.sample(model, (positive, negative), **changed)
        found[name] = dict(counts)
    return found


def _counted(counts, name, method):
    def call(self, *args, **kwargs):
        counts[name] += 1
        return method(self, *args, **kwargs)

    return call


# --------------------------------------------------------------------------------------------------
# What is done once per segment instead of once per evaluation.


def evaluation_alone(toys):
    """Whether the denoiser gives the same outside of a sampling run as inside one."""
    import torch
    from videoldm.core.tasks.segment import Evaluations, SegmentCondition, in_scope
    from videoldm.nodes.host.interface import Guidance

    prompts, size = toys.controlled(), (1, 4, LATENT, LATENT)
    made = toys.host.denoiser_for(toys.text_to_video, *prompts, Guidance(cfg=3.0, rescale=0.5))
    condition = SegmentCondition(frames=range(FRAMES))
    denoiser, sigma = made(condition), torch.tensor(3.0)
    x = 3 * torch.randn(1, FRAMES, *size[1:], generator=torch.Generator().manual_seed(3))
    alone = denoiser(x, sigma)
    planned = Evaluations(condition, size, torch.tensor([3.0, 0.0]))
    inside = in_scope(made, planned, lambda: denoiser(x, sigma))
    return {"same": torch.equal(alone, inside), "sense": distance(alone, x)}


def many_windows(toys):
    """Sampling in more windows with ControlNets than are kept prepared, against all frames at
    once."""
    import torch
    from videoldm.nodes.stages.strategy import Strategy

    prompts = toys.controlled(frames=14)
    windows = Strategy(name="sliding windows", window=2, overlap=0, free_noise=False)
    changed = {"frames": 14, "steps": 2}
    whole = toys.sample(toys.image, prompts, strategy=windows, **changed)
    single = toys.sample(toys.image, prompts, **changed)
    return {"apart": distance(whole, single), "finite": bool(torch.isfinite(whole).all())}


def controls_of_a_clip(toys):
    """Copies of a ControlNet for frames 2 to 4, with a previous one and a clone on another GPU."""
    from videoldm.core.tasks.segment import SegmentCondition
    from videoldm.nodes.host.comfyui.segment_prompts import SegmentPrompts

    positive, negative = toys.controlled()
    control = positive[0][1]["control"]
    control.set_previous_controlnet(toys.controlled()[0][0][1]["control"])
    control.multigpu_clones = {"cuda:1": toys.controlled()[0][0][1]["control"]}
    # ComfyUI's node gives both prompts the same object.
    prompts = SegmentPrompts(positive, negative).of_segment(SegmentCondition(frames=range(2, 5)))
    ours, theirs = (prompts[name][0][1]["control"] for name in ("positive", "negative"))
    parts = (ours, ours.previous_controlnet, ours.multigpu_clones["cuda:1"])
    return {
        "shared": ours is theirs, "copied": ours is not control,
        "hints": [len(one.cond_hint_original) for one in parts],
        "before": len(control.cond_hint_original),
    }  # fmt: skip


def ranges_of_frames(toys):
    """A condition from noise level 3 to 1 with a mask of two images, for 2 videos of 4 frames."""
    import torch
    from videoldm.nodes.host.comfyui.frame_levels import at_levels

    mask = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0))
    one = {"timestep_start": 3.0, "timestep_end": 1.0, "mask": mask, "strength": 0.5}
    free = {"strength": 1.0}

    def given(*levels):
        sigma = torch.tensor([levels]).expand(2, -1)
        return at_levels({"positive": [one, free], "negative": None}, sigma, (3, 3))

    found = given(0.0, 1.0, 2.0, 4.0)["positive"]
    expected = torch.stack([0 * mask[0], mask[1], mask[0], 0 * mask[1]] * 2)
    return {
        "masks": torch.equal(found[0]["mask"], expected), "others": found[1] is free,
        "no range": set(found[0]) == {"mask", "strength"},
        "left out": given(0.0, 0.5, 4.0, 5.0)["positive"] == [free],
        "alike": given(5.0, 5.0, 5.0, 5.0)["positive"] == [one, free],
    }  # fmt: skip


def interrupted(toys):
    """Whether the run after an interrupted one gives the same as a fresh one."""
    import torch

    fresh = toys.sample()

    class Stop(BaseException):
        pass

    def stop(*args):
        raise Stop

    report, toys.host.reports.progress = toys.host.reports.progress, stop
    try:
        toys.sample(prompts=toys.controlled())
        ended = False
    except Stop:
        ended = True
    finally:
        toys.host.reports.progress = report
    return {"ended": ended, "same": torch.equal(toys.sample(), fresh)}


CHECKS = (calls, evaluation_alone, many_windows, controls_of_a_clip, ranges_of_frames,
          interrupted,
          *inside_models.CHECKS, *inside_video.CHECKS, *inside_frames.CHECKS,
          *inside_reference.CHECKS, *inside_optical_flow.CHECKS)  # fmt: skip


def main(comfyui, family):
    host = begin(comfyui)
    logging.getLogger("videoldm").setLevel(logging.ERROR)
    import torch

    torch.set_num_threads(1)
    with torch.inference_mode():
        toys = Toys(host, Path(family))
        print(json.dumps({check.__name__: check(toys) for check in CHECKS}))


if __name__ == "__main__":
    main(*sys.argv[1:])
