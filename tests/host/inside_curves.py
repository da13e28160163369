"""Run by ComfyUI's own Python, without a server: curves over the steps of ComfyUI's samplers.

python inside_curves.py COMFYUI FAMILY      (FAMILY is the toy family's folder; answers with JSON)
"""

import json
import logging
import sys
from pathlib import Path

from inside import begin
from inside_sampling import FRAMES, LATENT, Toys

STEPS = 4


def followed(toys, sampler, scheduler="normal"):
    """The step that each evaluation of the model is assigned to, and the step of each callback, in
    the order in which they happen."""
    import comfy.patcher_extension
    import comfy.sample
    import torch
    from videoldm.core.diffusion.curves import Curve, Line
    from videoldm.core.networks.temporal_layers import Strength
    from videoldm.nodes.host.comfyui.steps import step_at

    curve = Strength(curve=Curve(lines=(Line(((0, 1), (1, 0.5))),)))
    model = toys.host.inject(toys.image, toys.layers("text_to_video"), curve)
    events = []

    def watch(executor, x, timesteps, context, y, control, transformer_options, **more):
        step = step_at(transformer_options)
        events.append(("evaluated", step.index, step.total))
        return executor(x, timesteps, context, y, control, transformer_options, **more)

    kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    model.add_wrapper_with_key(kind, "watch", watch)
    x = torch.zeros(FRAMES, 4, LATENT, LATENT)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    comfy.sample.sample(
        model, noise, STEPS, 1.0, sampler, scheduler, *toys.prompts, x, seed=1,
        callback=lambda index, *_: events.append(("reported", index)),
    )  # fmt: skip
    return events


def curves_of_the_host():
    """The largest difference between ComfyUI's curves and ours through the same points."""
    import numpy as np
    from comfy_api.input import LinearCurve, MonotoneCubicCurve
    from videoldm.nodes.host.comfyui.curves import DrawnCurve, read_curve

    generator, worst, places = np.random.default_rng(0), {}, np.linspace(-0.1, 1.1, 301)
    for kind in (LinearCurve, MonotoneCubicCurve):
        far = []
        for count in (1, 2, 3, 5, 9):
            xs = np.sort(generator.random(count))
            theirs = kind([(x, y) for x, y in zip(xs, generator.random(count), strict=True)])
            ours = read_curve(theirs)
            (line,) = ours.lines
            far.append(max(abs(line(x) - theirs.interp(x)) for x in places.tolist()))
            far.append(abs(DrawnCurve(ours).interp(0.3) - theirs.interp(0.3)))
        worst[kind.__name__] = float(max(far))
    raw = read_curve({"points": [[0, 0.2], [1, 0.8]], "interpolation": "linear"})
    return worst | {"raw": raw.lines[0](0.5), "other": read_curve(3.0) is None}


def lora_keys():
    """For Stable Diffusion 1.5 and XL: how many LoRA keys of the U-Net's linear layers and
    convolutions ComfyUI knows, and up to 5 of those that we do not."""
    import comfy.lora
    import comfy.model_base
    import comfy.ops
    import comfy.supported_models
    import torch
    from videoldm.core.families.image_models import unet_table
    from videoldm.core.families.lora.names import module_names, sort_keys
    from videoldm.nodes.host.comfyui.model import unet_layout

    found = {}
    for kind, base in ((comfy.supported_models.SD15, "BaseModel"),
                       (comfy.supported_models.SDXL, "SDXL")):  # fmt: skip
        config = dict(kind.unet_config) | FULL_SIZE[kind.__name__]
        known = kind(config)
        known.unet_config = config
        known.custom_operations = comfy.ops.disable_weight_init
        model = getattr(comfy.model_base, base)(known, device=torch.device("meta"))
        unet = model.diffusion_model
        names = {new: old for old, new in unet_table(unet_layout(config)).items()}
        ours = module_names(dict(unet.named_parameters()), "unet", names)
        missing, count = [], 0
        for key, target in comfy.lora.model_lora_keys_unet(model, {}).items():
            path = str(target).removeprefix("diffusion_model.").removesuffix(".weight")
            module = unet.get_submodule(path) if path in ours.values() else None
            if not isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
                continue
            if "class_embedding" in key:  # diffusers calls XL's add_embedding.
                continue
            (spelt,) = sort_keys({f"{key}.lora_down.weight": 0.0}, key).unet
            count += 1
            if ours.get(spelt) != path:
                missing.append(key)
        found[kind.__name__] = count, missing[:5]
    return found


FULL_SIZE = {
    "SD15": dict(
        image_size=32, in_channels=4, out_channels=4, num_res_blocks=[2] * 4,
        channel_mult=[1, 2, 4, 4], transformer_depth=[1, 1, 1, 1, 1, 1, 0, 0],
        transformer_depth_output=[1] * 9 + [0] * 3, transformer_depth_middle=1,
        use_spatial_transformer=True, legacy=False, num_heads=8, num_head_channels=-1,
    ),
    "SDXL": dict(
        image_size=32, in_channels=4, out_channels=4, num_res_blocks=[2] * 3,
        channel_mult=[1, 2, 4], transformer_depth=[0, 0, 2, 2, 10, 10],
        transformer_depth_output=[0, 0, 0, 2, 2, 2, 10, 10, 10], transformer_depth_middle=10,
        use_spatial_transformer=True, legacy=False, num_heads=-1, num_head_channels=64,
        num_classes="sequential",
    ),
}  # fmt: skip


def main() -> None:
    comfyui, family, *samplers = sys.argv[1:]
    host = begin(comfyui)
    logging.disable(logging.WARNING)
    import torch

    torch.set_grad_enabled(False)
    toys = Toys(host, Path(family))
    found = {"steps": {name: followed(toys, name) for name in samplers}}
    found |= {"curves": curves_of_the_host(), "keys": lora_keys()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
