"""Run by ComfyUI's own Python, without a server: recorded AnimateDiff cases through its U-Net.

python inside_motion_modules.py COMFYUI CASE ...      (folders of cases; answers with JSON: the
largest error of every output over its largest value, by case)
"""

import json
import logging
import sys
from pathlib import Path

from inside import ROOT, begin


def image_model(folder: Path):
    """The base U-Net of a case as a MODEL of ComfyUI."""
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models
    from animatediff_cases import floats

    config = json.loads((folder / "config.json").read_text())["config"]
    large = "adm_in_channels" in config
    kind = comfy.supported_models.SDXL if large else comfy.supported_models.SD15
    base = comfy.model_base.SDXL if large else comfy.model_base.BaseModel
    known, arguments = kind({}), unet_config(config)
    known.unet_config = arguments  # Toys have other numbers of heads than the published models.
    model = base(known)
    state = floats(folder / "unet.safetensors")
    own = {k.removeprefix("model.diffusion_model."): v for k, v in state.items()}
    model.diffusion_model.load_state_dict(own)
    return comfy.model_patcher.ModelPatcher(model, "cpu", "cpu")


def unet_config(config: dict) -> dict:
    """The arguments of ComfyUI's U-Net, which takes transformer depths per residual block."""
    levels, count = len(config["channel_mult"]), config["num_res_blocks"]
    given = config.get("transformer_depth", [1] * levels)
    depths = [
        given[level] if 2**level in config["attention_resolutions"] else 0
        for level in range(levels)
    ]
    large = "adm_in_channels" in config
    return dict(
        image_size=32,
        in_channels=config["in_channels"],
        out_channels=config["out_channels"],
        model_channels=config["model_channels"],
        num_res_blocks=[count] * levels,
        channel_mult=config["channel_mult"],
        transformer_depth=[depth for depth in depths for _ in range(count)],
        transformer_depth_output=[depth for depth in depths for _ in range(count + 1)],
        transformer_depth_middle=config.get("transformer_depth_middle", 1),
        context_dim=config["context_dim"],
        use_spatial_transformer=True,
        use_linear_in_transformer=config["use_linear_in_transformer"],
        legacy=False,
        num_heads=-1 if large else config["num_heads"],
        num_head_channels=config["num_head_channels"] if large else -1,
        num_classes="sequential" if large else None,
        adm_in_channels=config.get("adm_in_channels"),
    )


def answer(model, inputs: dict, frames: int | None = None, context=None, control=None):
    """The prediction of the MODEL's U-Net for the videos of a case, [b t c h w]; control: residuals
    of a ControlNet."""
    import copy

    import torch
    from videoldm.core.networks.conditions import Conditions
    from videoldm.nodes.host.comfyui.layers import FRAME_BATCH, FrameBatch

    x = inputs["sample"][:, :frames]
    videos, count = x.shape[:2]
    options = {"wrappers": copy.copy(model.wrappers), "cond_or_uncond": list(range(videos))}
    if context is not None:
        batch = FrameBatch(frames=count, conditions=Conditions(context=context))
        options[FRAME_BATCH] = batch

    def rows(value):
        return value.repeat_interleave(count, dim=0)

    told = None
    if "time_ids" in inputs:
        from videoldm.core.networks.layers.positions import sinusoid

        sizes = sinusoid(inputs["time_ids"], 8).flatten(1)
        told = rows(torch.cat([inputs["text_embeds"], sizes], dim=1))
    steps, text = rows(inputs["timestep"].expand(videos)), rows(inputs["encoder_hidden_states"])
    out = model.model.diffusion_model(
        x.flatten(0, 1), steps, text, told, control=control, transformer_options=options
    )
    return out.unflatten(0, (videos, count))


def errors(case) -> dict[str, float]:
    from dataclasses import replace

    from animatediff_cases import Model, likeness_of, neighbour
    from videoldm.core.families import animatediff
    from videoldm.core.networks.context_frames import given_frames
    from videoldm.core.networks.temporal_layers import FULL_STRENGTH, Strength
    from videoldm.nodes.host.comfyui.layers import eject, inject
    from videoldm.nodes.host.comfyui.loaders import _loaded_layers

    known, image = Model(case), image_model(neighbour(case, "base_unet_dir"))
    inputs, expected = case.inputs(), case.expected()
    frames = case.told["shapes"]["frames"]

    def put_in(loras=(), strength=FULL_STRENGTH, own_input=False, **changes):
        layers = animatediff.assemble(known.state, replace(known.config, **changes), loras=loras)
        loaded = _loaded_layers(layers.spec, layers.state_dict(), "the case", (None, ()))
        return inject(image, loaded, strength, own_input=own_input)

    def apart(got, wanted) -> float:
        return float((got - wanted).abs().max() / wanted.abs().max())

    video, alone = put_in(), answer(image, inputs)
    found = {}
    if known.config.variant == "pia":
        told = case.told["mask"]
        context = given_frames(inputs["image_latent"][:, None], [told["cond_frame"]], frames)
        for own, name in ((False, "out_dreambooth"), (True, "out")):
            pia = put_in(own_input=own, likeness=likeness_of(told["preset"]))
            given = answer(pia, inputs, context=context)
            found["image" if own else name] = apart(given, expected[name])
    elif known.config.variant == "animatelcm i2v":
        context = given_frames(inputs["img_latent"][:, None], [0], frames)
        found["image"] = apart(answer(video, inputs, context=context), expected["out"])
        found["no image"] = apart(answer(video, inputs), expected["out_no_image"])
    else:
        found["out"] = apart(answer(video, inputs), expected["out"])
    if "out_motion_lora" in expected:
        with_lora = put_in(known.motion_loras())
        found["out_motion_lora"] = apart(answer(with_lora, inputs), expected["out_motion_lora"])
    if "out_one_frame_no_temporal" in expected:
        wanted = expected["out_one_frame_no_temporal"]
        found["one frame"] = apart(answer(video, inputs, 1), wanted)
    off = put_in(strength=Strength(overall=0.0))
    found["off or ejected"] = max(apart(answer(m, inputs), alone) for m in (off, eject(video)))
    found["betas"] = brought(video, image, known.config.layers_spec().host.betas)
    return found


def brought(video, image, betas) -> float:
    """The largest relative error of the MODEL's noise levels against those of the layers, or of the
    image model if the layers have none."""
    from videoldm.core.diffusion.schedules import SCHEDULES

    sigmas = video.get_model_object("model_sampling").sigmas.double()
    wanted = image.get_model_object("model_sampling").sigmas.double()
    if betas is not None:
        wanted = SCHEDULES[betas.name](start=betas.first, end=betas.last).sigmas
    return float((sigmas / wanted - 1).abs().max())


def main(comfyui, *folders):
    begin(comfyui)
    sys.path.insert(0, str(ROOT / "tests" / "families"))
    logging.getLogger().setLevel(logging.ERROR)
    import torch
    from golden_cases import Case

    torch.set_num_threads(1)
    with torch.inference_mode():
        print(json.dumps({folder: errors(Case(Path(folder))) for folder in folders}))


if __name__ == "__main__":
    main(*sys.argv[1:])
