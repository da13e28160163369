"""Checks of inside_sampling.py: prompts, masks and hints of each frame, also in windows.

With temporal layers at strength 0, frames are independent: each is what the image model makes of it
with its own conditions, whatever else is in the batch.
"""

FRAMES = 10


def apart(a, b) -> float:
    return float((a - b).abs().max() / b.std())


def still(toys):
    """A model whose frames are independent of each other."""
    from videoldm.core.networks.temporal_layers import Strength

    return toys.host.inject(toys.image, toys.layers("text_to_video"), Strength(overall=0.0))


def noise(frames=FRAMES):
    import torch

    return torch.randn(frames, 4, 8, 8, generator=torch.Generator().manual_seed(2))


def travelling(toys):
    """Prompts that change over the frames."""
    from videoldm.nodes.stages.parsing import segments_conditioning
    from videoldm.nodes.stages.prompt_travel import Clock

    text = '"0:": "a red circle", "2": "a red circle", "7": "a blue square moves left"'
    return segments_conditioning(toys.host, toys.clip, text, Clock(frames=FRAMES))[0]


def masked(conditioning):
    """The prompts, each frame with a mask of its own."""
    import torch

    mask = torch.zeros(FRAMES, 32, 32)
    for frame in range(FRAMES):
        mask[frame, :, 3 * frame :] = 1
    return [[tokens, {**more, "mask": mask, "mask_strength": 1.0}] for tokens, more in conditioning]


def hinted(toys, positive, negative):
    """The prompts with a ControlNet that has a hint per frame."""
    from nodes import ControlNetApplyAdvanced

    control = toys.controlled(FRAMES)[0][0][1]["control"]
    hints = control.cond_hint_original.movedim(1, -1)
    apply = ControlNetApplyAdvanced().apply_controlnet
    return apply(positive, negative, control, hints, 0.7, 0.0, 0.8)[:2]


def windowed(model, length, overlap, **changed):
    """The model with ComfyUI's context windows."""
    from comfy_extras.nodes_context_windows import ContextWindowsManualNode

    how = dict(
        context_length=length, context_overlap=overlap, context_schedule="standard_static",
        context_stride=1, closed_loop=False, fuse_method="pyramid", dim=0, freenoise=False,
        cond_retain_index_list="", split_conds_to_windows=False, latent_retain_index_list="",
        causal_window_fix=True,
    )  # fmt: skip
    return ContextWindowsManualNode.execute(model, **how | changed)[0]


def prompts_of_frames(toys):
    """ComfyUI's KSampler with prompts of segments, against sampling each frame with its prompt."""
    from videoldm.nodes.host.shared.conditioning import text_for

    model, positive, negative = still(toys), travelling(toys), toys.prompts[1]
    whole = toys.core(model, (positive, negative), x=noise())
    alone = []
    for frame in range(FRAMES):
        own = [[text_for(positive, [frame]), {}]]
        alone.append(toys.core(model, (own, negative), x=noise())[frame])
    import torch

    alone, one = torch.stack(alone), toys.core(model, x=noise())
    return {"apart": apart(whole, alone), "sense": apart(whole, one)}


def core_windows(toys):
    """ComfyUI's KSampler with prompts, masks and hints per frame: in ComfyUI's windows, against all
    frames at once."""
    model = still(toys)
    positive, negative = hinted(toys, masked(travelling(toys)), toys.prompts[1])
    whole = toys.core(model, (positive, negative), x=noise())
    found = {"sense": apart(whole, toys.core(model, x=noise()))}
    cases = {
        "static": {}, "without the frame before": {"causal_window_fix": False},
        "uniform": {"context_schedule": "standard_uniform"},
        "looped": {"context_schedule": "looped_uniform", "closed_loop": True,
                   "causal_window_fix": False},
        "batched": {"context_schedule": "batched"},
    }  # fmt: skip
    for name, changed in cases.items():
        in_windows = toys.core(windowed(model, 4, 2, **changed), (positive, negative), x=noise())
        found[name] = apart(in_windows, whole)
    return found


def own_windows(toys):
    """The same for the Video Sampler, in its own windows."""
    from videoldm.nodes.stages.strategy import Strategy

    model = still(toys)
    prompts = hinted(toys, masked(travelling(toys)), toys.prompts[1])
    whole = toys.sample(model, prompts, frames=FRAMES)
    found = {"sense": apart(whole, toys.sample(model, frames=FRAMES))}
    for schedule in ("static", "uniform", "looped", "batched"):
        windows = Strategy(name="sliding windows", window=4, overlap=2, free_noise=False,
                           window_schedule=schedule, strides=2)  # fmt: skip
        in_windows = toys.sample(model, prompts, strategy=windows, frames=FRAMES)
        found[schedule] = apart(in_windows, whole)
    return found


def frames_of_others(toys):
    """What layers of other packs learn about the frames they act on, by sampler."""
    from videoldm.nodes.stages.strategy import Strategy

    told = []

    def look(n, context, value, options):
        within = options["ad_params"]
        told.append((tuple(within["sub_idxs"]), within["full_length"], len(n)))
        return n, context, value

    model = still(toys)
    model.set_model_attn2_patch(look)
    found = {}
    toys.core(model, x=noise())
    found["core's"] = sorted(set(told))
    told.clear()
    toys.core(windowed(model, 4, 2, causal_window_fix=False), x=noise())
    found["core's, in windows"] = sorted(set(told))
    told.clear()
    windows = Strategy(name="sliding windows", window=4, overlap=2, free_noise=False)
    toys.sample(model, frames=FRAMES, strategy=windows)
    found["ours, in windows"] = sorted(set(told))
    return found


CHECKS = (prompts_of_frames, core_windows, own_windows, frames_of_others)
