"""Run by ComfyUI's own Python, outside of a server: curves over the steps of ComfyUI's samplers.

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
    """The steps that the model's evaluations are told to belong to, and the step in whose callback
    each of them was followed by, in the order of both."""
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
    """The largest difference between ComfyUI's curves and ours of the same points."""
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


def main() -> None:
    comfyui, family, *samplers = sys.argv[1:]
    host = begin(comfyui)
    logging.disable(logging.WARNING)
    import torch

    torch.set_grad_enabled(False)
    toys = Toys(host, Path(family))
    found = {"steps": {name: followed(toys, name) for name in samplers}}
    print(json.dumps(found | {"curves": curves_of_the_host()}))


if __name__ == "__main__":
    main()
