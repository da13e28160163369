"""Run by ComfyUI's own Python, without a server: recorded cases of SparseCtrl and CameraCtrl
through ComfyUI's U-Net.

python inside_motion_controls.py COMFYUI CASE ...      (folders of cases; answers with JSON: the
largest error of every run over its largest value, by case)
"""

import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

from inside import ROOT, begin
from inside_motion_modules import answer, image_model

OUTSIDE = 31
"""A frame beyond the end of every case's video: a control with an image there has no effect."""


def video_model(case):
    """The base U-Net of a case with its motion modules injected, as a MODEL of ComfyUI."""
    from dataclasses import replace

    from animatediff_cases import floats, neighbour
    from videoldm.core.families import animatediff
    from videoldm.core.families.animatediff_config import detect
    from videoldm.core.networks.temporal_layers import FULL_STRENGTH
    from videoldm.nodes.host.comfyui.layers import inject
    from videoldm.nodes.host.comfyui.loaders import _loaded_layers
    from videoldm.nodes.host.comfyui.model import unet_layout

    image = image_model(neighbour(case, "base_unet_dir"))
    named = neighbour(case, "motion_module_dir") / "motion_module.safetensors"
    state = animatediff.without_prefix(floats(named))
    config = detect({k: tuple(v.shape) for k, v in state.items()})
    config = replace(config, layout=unet_layout(image.model.model_config.unet_config))
    layers = animatediff.assemble(state, config)
    loaded = _loaded_layers(layers.spec, layers.state_dict(), "the case", (None, ()))
    return inject(image, loaded, FULL_STRENGTH)


def apart(got, wanted) -> float:
    """The largest error of videos [b t c h w], relative to the largest value."""
    return float((got - wanted).abs().max() / wanted.abs().max())


# --------------------------------------------------------------------------------------------------
# SparseCtrl.


def sparse_control(case, run: dict, model):
    """The CONTROL_NET of a run, with its strength and images."""
    import torch
    from videoldm.core.families import animatediff_sparse
    from videoldm.nodes.host.comfyui.sparse_control import SparseControlObject

    file = case.folder / "controlnet.safetensors"
    network = animatediff_sparse.load(file, dtype=torch.float32)
    network.sees_noise = not run.get("set_noisy_sample_input_to_zero", True)
    frames = run["index"] or [OUTSIDE]
    images = case.raw("inputs")["images"][0].movedim(1, 0)[: len(frames)]
    images = images / 255 if images.dtype == torch.uint8 else images.float()
    control, vae = SparseControlObject(network, frames), None
    if network.takes_latents:
        vae = encoder_of(images / network.latent_scale)
        images = torch.zeros(len(images), 3, *(8 * side for side in images.shape[-2:]))
    control.set_cond_hint(images, run.get("scale", 1.0), vae=vae)
    control.pre_run(model.model, model.model.model_sampling.percent_to_sigma)
    return control


def encoder_of(latents):
    """A VAE that returns these latents for any images."""
    return SimpleNamespace(encode=lambda images: latents, spacial_compression_encode=lambda: 8)


def sparse_errors(case) -> dict[str, float]:
    model, inputs, expected = video_model(case), case.inputs(), case.expected()
    sampling, x = model.model.model_sampling, inputs["sample"].flatten(0, 1)
    sigma = sampling.sigma(inputs["timestep"].float())
    noisy = x * (sigma**2 + 1) ** 0.5  # in the VE form of the sampler
    count = case.told["shapes"]["frames"]
    text = inputs["encoder_hidden_states"].repeat_interleave(count, dim=0)
    options = {"cond_or_uncond": list(range(len(x) // count))}
    found = {}
    for name, run in case.told["runs"].items():
        if run.get("guess_mode"):
            continue  # Apply ControlNet has no input for it.
        given = None
        if "index" in run:
            control = sparse_control(case, run, model)
            levels = sigma.expand(len(x))
            given = control.get_control(noisy, levels, {"c_crossattn": text}, 2, options)
        found[name] = apart(answer(model, inputs, control=given), expected[f"{name}/unet_out"])
    return found


# --------------------------------------------------------------------------------------------------
# CameraCtrl.


def camera_errors(case) -> dict[str, float]:
    import torch
    from animatediff_control_cases import camera_path
    from videoldm.core.networks.cameras import CameraUse
    from videoldm.nodes.host.comfyui.loaders import Loaders

    model, inputs, expected = video_model(case), case.inputs(), case.raw("expected")
    file = case.folder / "weights.safetensors"
    loaders = Loaders(SimpleNamespace(model_path=lambda kind, name: file))

    def run(strength: float):
        use = CameraUse(path=camera_path(case), strength=strength)
        return answer(loaders.follow_camera(model, file.name, use), inputs)

    made = {"main": run(1.0), "half_scale": run(0.5), "zero_merge": run(0.0)}
    assert torch.equal(made["zero_merge"], answer(model, inputs))
    wanted = {name: expected[f"{name}/unet_out"].transpose(1, 2) for name in made}
    return {name: apart(got, wanted[name]) for name, got in made.items()}


KINDS = {"sparsectrl": sparse_errors, "cameractrl": camera_errors}


def main(comfyui, *folders):
    begin(comfyui)
    sys.path.insert(0, str(ROOT / "tests" / "families"))
    logging.getLogger().setLevel(logging.ERROR)
    import torch
    from golden_cases import Case

    torch.set_num_threads(1)
    with torch.inference_mode():
        cases = {folder: Case(Path(folder)) for folder in folders}
        print(json.dumps({folder: KINDS[one.kind](one) for folder, one in cases.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
