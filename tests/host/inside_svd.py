"""Run by ComfyUI's own Python, without a server: recorded forward passes of video models through
ComfyUI's U-Net, with this pack's layers injected.

python inside_svd.py COMFYUI CASE ...      (folders of cases; answers with JSON: the largest error
of every output over its largest value, by case)
"""

import json
import logging
import sys
from pathlib import Path

from inside import ROOT, begin


def put_in(model):
    """A MODEL of ComfyUI with the layers of this project's video model injected."""
    from videoldm.core.networks.temporal_layers import FULL_STRENGTH
    from videoldm.nodes.host.comfyui.layers import inject
    from videoldm.nodes.host.comfyui.loaders import _loaded_layers
    from videoldm.nodes.host.comfyui.model import build_patcher

    (own,) = model.sets
    layers = own.layers
    loaded = _loaded_layers(layers.spec, layers.state_dict(), "the case", (None, ()))
    return inject(build_patcher(model, None), loaded, FULL_STRENGTH)


def through(patcher, frames, x, steps, context, y=None, image_only=None):
    """The output [(b t) c h w] of the MODEL's own forward pass, wrappers included."""
    import copy

    from videoldm.core.networks.conditions import Conditions
    from videoldm.nodes.host.comfyui.layers import FRAME_BATCH, FrameBatch

    batch = FrameBatch(frames=frames, conditions=Conditions(image_only=image_only))
    options = {"wrappers": copy.copy(patcher.wrappers), FRAME_BATCH: batch}
    return patcher.model.diffusion_model(x, steps, context, y, transformer_options=options)


def apart(got, wanted) -> float:
    return float((got - wanted).abs().max() / wanted.abs().max())


def image_to_video(case) -> dict[str, float]:
    """Errors of each run with injected layers, and with ComfyUI's own class if that supports it."""
    import torch
    from svd_cases import UNET, svd, unet_of
    from videoldm.core.networks.layers.positions import sinusoid
    from videoldm.core.weights.checkpoints import part

    inputs, expected = case.raw("inputs"), case.raw("expected")
    frames, found = case.told["shapes"]["num_video_frames"], {}
    width = case.config["adm_in_channels"] // 3
    y = torch.cat(
        [sinusoid(inputs[one], width) for one in ("fps_id", "motion_bucket_id", "cond_aug")], dim=1
    )
    for run in case.told["runs"]:
        model = svd.diffusion_model(unet_of(case, blend=run["merge_strategy"]))
        indicator = run["image_only_indicator"]
        only = None if indicator is None else inputs[indicator]
        given = inputs["x"], inputs["timesteps"], inputs[run["context"]], y
        out = through(put_in(model), frames, *given, image_only=only)
        found[run["name"]] = apart(out, expected[run["name"]])
        core = own_class(case.config, run["merge_strategy"])
        if core is not None:
            core.load_state_dict(part(case.weights(), UNET))
            zeros = torch.zeros(len(out) // frames, frames)
            out = core(*given, num_video_frames=frames,
                       image_only_indicator=zeros if only is None else only)  # fmt: skip
            found[f"{run['name']}, ComfyUI's own"] = apart(out, expected[run["name"]])
            if only is None or not only.any():
                found |= sampled(case, model, core)
    return found


def sampled(case, model, core) -> dict[str, float]:
    """Errors of one guided evaluation by a MODEL with our layers and by a MODEL as ComfyUI's own
    loader returns it, against this project's model."""
    import torch
    from comfy_extras.nodes_video_model import VideoLinearCFGGuidance
    from videoldm.core.families.svd_sampling import denoiser
    from videoldm.core.tasks.segment import SegmentCondition
    from videoldm.core.tasks.start_image import StartImage
    from videoldm.nodes.host import host
    from videoldm.nodes.host.interface import Guidance
    from videoldm.nodes.host.shared.start_image import prompts_of

    frames, sigma = 5, torch.tensor(30.0)
    random = torch.Generator().manual_seed(7)
    x = sigma * torch.randn(1, frames, 4, 6, 8, generator=random)
    start = StartImage(
        embedding=torch.randn(1, 1, case.config["context_dim"], generator=random),
        latents=torch.randn(1, 4, 6, 8, generator=random), motion=80.0,
    )  # fmt: skip
    wanted = denoiser(model, start, frames, first_scale=1.5, last_scale=3.0)(x, sigma)
    theirs, found = comfyui_model(case.config, core), {}
    facts = host.facts(theirs)
    assert facts.begins_with_image and facts.task == "image to video" and facts.family
    assert facts.schedule.sigma_max == float(theirs.model.model_sampling.sigma_max)
    for name, patcher in (("ours", put_in(model)), ("ComfyUI's", theirs)):
        (rising,) = VideoLinearCFGGuidance().patch(patcher, 1.5)
        denoise = host.denoiser_for(rising, *prompts_of(start), Guidance(cfg=3.0))
        found[f"guided, {name}"] = apart(denoise(SegmentCondition(frames=range(frames)))(x, sigma),
                                         wanted)  # fmt: skip
    return found


def comfyui_model(config: dict, unet):
    """A MODEL of ComfyUI's own class around its own U-Net."""
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models
    import torch
    from comfy.ldm.modules.diffusionmodules.openaimodel import Timestep

    known = comfy.supported_models.SVD_img2vid({})
    known.unet_config = {**config, "disable_unet_model_creation": True}
    model = comfy.model_base.SVD_img2vid(known)
    model.embedder = Timestep(config["adm_in_channels"] // 3)
    model.diffusion_model = unet
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, cpu, cpu)


def own_class(config: dict, merge: str):
    """ComfyUI's own video U-Net of a case; None for options that it does not have."""
    import comfy.ops
    import torch
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    if merge != "learned_with_images" or not config["use_spatial_context"]:
        return None
    levels, count = len(config["channel_mult"]), config["num_res_blocks"]
    attends = [2**level in config["attention_resolutions"] for level in range(levels)]
    return UNetModel(
        image_size=32, in_channels=config["in_channels"], out_channels=config["out_channels"],
        model_channels=config["model_channels"], num_res_blocks=[count] * levels,
        channel_mult=config["channel_mult"], num_heads=-1,
        num_head_channels=config["num_head_channels"], use_spatial_transformer=True,
        transformer_depth=[int(one) for one in attends for _ in range(count)],
        transformer_depth_output=[int(one) for one in attends for _ in range(count + 1)],
        transformer_depth_middle=1, context_dim=config["context_dim"],
        use_linear_in_transformer=config["use_linear_in_transformer"], num_classes="sequential",
        adm_in_channels=config["adm_in_channels"], use_temporal_resblock=True,
        use_temporal_attention=True, extra_ff_mix_layer=config["extra_ff_mix_layer"],
        use_spatial_context=True, merge_strategy=merge, merge_factor=0.5,
        video_kernel_size=config["video_kernel_size"], operations=comfy.ops.manual_cast,
        dtype=torch.float32,
    ).eval()  # fmt: skip


def text_to_video(case) -> dict[str, float]:
    from videoldm.core.families import modelscope

    inputs, expected, state = case.inputs(), case.expected(), case.weights()
    groups = case.config.get("norm_num_groups", 32)
    config = modelscope.detect({k: v.shape for k, v in state.items()}, norm_groups=groups)
    patcher = put_in(modelscope.diffusion_model(modelscope.assemble(state, "the case", config)))
    found = {}
    for name, frames in (("out", None), ("out_single_frame", 1)):
        if name in expected:
            x = inputs["sample"][:, :frames]
            count = x.shape[1]
            steps = inputs["timestep"].expand(len(x)).repeat_interleave(count)
            text = inputs["encoder_hidden_states"].repeat_interleave(count, dim=0)
            out = through(patcher, count, x.flatten(0, 1), steps, text)
            found[name] = apart(out, expected[name].flatten(0, 1))
    return found


def decoded() -> dict[str, float]:
    """Errors of the full-size temporal decoder, with random weights, as ComfyUI's own VAE: decoded
    in chunks although memory seems to be short, and frame by frame."""
    import comfy.sd
    import torch
    from svd_toys import manifest
    from videoldm.core.families import svd_decoder
    from videoldm.core.tasks.decoding import decode
    from videoldm.nodes.host import host

    prefix, random = "first_stage_model.", torch.Generator().manual_seed(0)
    state = {}
    for key, empty in manifest("svd_temporal_decoder_first_stage").items():
        fan = max(empty[0].numel(), 1) if empty.ndim > 1 else 100
        drawn = torch.randn(empty.shape, generator=random) / fan**0.5
        norm = "norm" in key or "layers.0." in key
        state[key.removeprefix(prefix)] = drawn + (1 if norm and key.endswith("weight") else 0)
    raw = torch.randn(1, 5, 4, 2, 2, generator=random)
    ours = svd_decoder.from_state(state, "the file")
    wanted = torch.cat(list(decode(ours, raw * 0.18215, chunk=2, reach=1)), dim=1)
    vae = comfy.sd.VAE(sd=dict(state), dtype=torch.float32)
    theirs = host.decoder(vae)
    assert theirs.reach is None
    vae.memory_used_decode = lambda shape, dtype: 1e15  # ComfyUI would decode one by one.
    made = torch.cat(list(decode(theirs, raw, chunk=2, reach=1)), dim=1)
    alone = theirs.vae.decode(raw[0]).movedim(-1, 1) * 2 - 1
    return {"decoder": apart(made, wanted), "one by one": apart(alone, made[0].clamp(-1, 1))}


KINDS = {"svd": image_to_video, "modelscope": text_to_video}


def main(comfyui, *folders):
    begin(comfyui)
    sys.path[:0] = [str(ROOT / "tests" / "families"), str(ROOT / "tests")]
    logging.getLogger().setLevel(logging.ERROR)
    import torch
    from golden_cases import Case

    torch.set_num_threads(1)
    with torch.inference_mode():
        cases = {folder: Case(Path(folder)) for folder in folders}
        found = {folder: KINDS[one.family](one) for folder, one in cases.items()}
        print(json.dumps({**found, "decoder": decoded()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
