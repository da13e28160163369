"""Runs the recorded cases of AnimateDiff and of the families derived from it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from einops import rearrange
from golden_cases import Case, check_close, check_sampled
from safetensors.torch import load_file
from torch import Tensor
from videoldm.core.diffusion.denoiser import to_ve, to_vp
from videoldm.core.diffusion.guidance import guided
from videoldm.core.diffusion.noise import StepNoise
from videoldm.core.diffusion.preconditioning import discrete
from videoldm.core.diffusion.samplers import sample_lcm
from videoldm.core.diffusion.schedules import SCHEDULES, get_sigmas_at, scaled_linear
from videoldm.core.families import animatediff
from videoldm.core.families.animatediff_config import LIKENESS, detect
from videoldm.core.families.animatediff_lora import MotionLora
from videoldm.core.families.animatediff_sampling import lcm_timesteps, published_plan
from videoldm.core.families.lora import apply as apply_lora
from videoldm.core.families.stable_diffusion_folders import build_unet
from videoldm.core.networks.conditions import SIZES, Conditions
from videoldm.core.networks.context_frames import ContextFrames, given_frames
from videoldm.core.networks.diffusion_model import DiffusionModel
from videoldm.core.networks.image_conditions import ImageEncoderSpec, MaskedImage, MaskedImageSpec
from videoldm.core.networks.injected_sets import Injection
from videoldm.core.networks.sites import layout_of, site_of_diffusers_path
from videoldm.core.networks.temporal_layers_spec import Betas
from videoldm.core.networks.video_unet import VideoUNet
from videoldm.core.weights.checkpoints import load_into, part

# Tolerances: about three times the measured errors.
FORWARD = 1e-5
SAMPLING = 1e-5
EXACT = 0.0


# --------------------------------------------------------------------------------------------------
# Networks.


def floats(path: Path) -> dict[str, Tensor]:
    return {k: v.float() for k, v in load_file(path).items()}


def neighbour(case: Case, name: str) -> Path:
    """The folder that the case names under ``name``."""
    return (case.folder / case.told["weights"][name].split()[0]).resolve()


def base_unet(folder: Path):
    told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    names = told["ldm_to_diffusers"]
    unet = build_unet(unet_config(told["config"]))
    state = part(floats(folder / "unet.safetensors"), "model.diffusion_model.")
    return load_into(unet, {names[k]: v for k, v in state.items()}, "the base U-Net")


def unet_config(config: dict) -> dict:
    """diffusers' U-Net configuration, from latent diffusion's."""
    widths = tuple(config["model_channels"] * factor for factor in config["channel_mult"])
    depths = [
        (config.get("transformer_depth") or [1] * len(widths))[level]
        if 2**level in config["attention_resolutions"]
        else 0
        for level in range(len(widths))
    ]
    more = {}
    if "adm_in_channels" in config:
        more = dict(
            addition_embed_type="text_time",
            addition_time_embed_dim=config["addition_time_embed_dim"],
            projection_class_embeddings_input_dim=config["adm_in_channels"],
            transformer_layers_per_block=[max(d, 1) for d in depths],
        )
    return dict(
        block_out_channels=widths,
        layers_per_block=config["num_res_blocks"],
        down_block_types=tuple(f"{'CrossAttn' * bool(d)}DownBlock2D" for d in depths),
        up_block_types=tuple(f"{'CrossAttn' * bool(d)}UpBlock2D" for d in depths[::-1]),
        attention_head_dim=config["num_heads"],
        cross_attention_dim=config["context_dim"],
        use_linear_projection=config["use_linear_in_transformer"],
        **more,
    )


def module_state(case: Case) -> dict[str, Tensor]:
    named = case.told["weights"]["motion_module"].split()[0]
    state = animatediff.without_prefix(floats(case.folder / named))
    encoder = case.folder / "img_encoder.safetensors"
    return state | (floats(encoder) if encoder.is_file() else {})


class Model:
    """The base U-Net and the motion modules of a case, assembled for each of its outputs."""

    def __init__(self, case: Case):
        self.case, self.state = case, module_state(case)
        self.unet = base_unet(neighbour(case, "base_unet_dir"))
        told = case.told["config"]
        module = told.get("motion_module_kwargs", {})
        shapes = {k: tuple(v.shape) for k, v in self.state.items()}
        config = detect(shapes, heads=module.get("num_attention_heads", 8))
        self.config = replace(
            config,
            layout=layout_of(self.unet.config),
            # The original's configuration says so; a file shows it only by its positions.
            pooled_norms=not told["use_inflated_groupnorm"],
        )
        assert self.config.middle == told["motion_module_mid_block"]
        assert self.config.positions == told["pe_max_len"]

    def with_lora(self, name: str, how: str, strength: float | None = None):
        """The U-Net with one of the case's LoRAs merged."""
        strength = self.case.told[how]["scale"] if strength is None else strength
        return apply_lora(self.unet, floats(self.case.folder / name), strength)

    def motion_loras(self) -> list[MotionLora]:
        file = floats(self.case.folder / "motion_lora.safetensors")
        return [MotionLora(file, self.case.told["motion_lora"]["scale"])]

    def __call__(
        self, *, unet=None, loras=(), silent=False, frames=None,
        context: ContextFrames | None = None, own_input: bool = False, **changes,
    ) -> Tensor:  # fmt: skip
        layers = animatediff.assemble(self.state, replace(self.config, **changes), loras=loras)
        if silent:
            # What the layers change in the image network remains.
            nothing = {k: torch.zeros_like(v) for k, v in layers.state_dict().items()}
            layers.load_state_dict(nothing, assign=True)
        inputs = self.case.inputs()
        ids = {SIZES: inputs["time_ids"]} if "time_ids" in inputs else {}
        given = Conditions(
            text=inputs["encoder_hidden_states"],
            pooled_text=inputs.get("text_embeds"),
            ids=ids,
            context=context,
        )
        with torch.no_grad():
            network = VideoUNet(unet or self.unet, [])
            network = network.with_sets([Injection(layers, own_input=own_input)])
            return network(inputs["sample"][:, :frames], inputs["timestep"], given)

    def check_modules(self, expected: dict[str, Tensor]) -> None:
        """Checks each module whose input and output are recorded, on its own."""
        layers = animatediff.assemble(self.state, self.config)
        names = {k[len("out/") : -len(":in")] for k in expected if k.endswith(":in")} - {"conv_in"}
        assert names
        for name in names:
            site = site_of_diffusers_path(
                re.sub("motion_modules|temporal_attentions", "attentions", name)
            )
            h, out = expected[f"out/{name}:in"], expected[f"out/{name}:out"]
            with torch.no_grad():
                got = layers.at(site)(h.flatten(0, 1), h.shape[1]).unflatten(0, h.shape[:2])
            check_close(got, out, name, FORWARD)


# --------------------------------------------------------------------------------------------------
# One pass.


def motion_module(case: Case, folder: Path) -> None:
    model, expected = Model(case), case.expected()
    outputs = {"out": {}}
    if "motion_lora" in case.told:
        outputs["out_motion_lora"] = {"loras": model.motion_loras()}
    if "adapter_lora" in case.told:
        adapted = model.with_lora("adapter_lora.safetensors", "adapter_lora")
        outputs["out_adapter"] = {"unet": adapted}
        if "motion_lora" in case.told:
            outputs["out_adapter_motion_lora"] = {"unet": adapted, "loras": model.motion_loras()}
    if "lcm_lora" in case.told:
        alpha = case.told["lcm_lora"]["alpha"]
        fast = model.with_lora("lcm_lora.safetensors", "lcm_lora", alpha)
        outputs["out_lcm_lora"] = {"unet": fast}
    run_all(model, outputs, expected)
    model.check_modules(expected)


def hotshot_xl(case: Case, folder: Path) -> None:
    model, expected = Model(case), case.expected()
    outputs = {
        "out": {},
        "out_no_temporal": {"silent": True},
        # With its layers injected, which pass a single frame unchanged.
        "out_one_frame_no_temporal": {"frames": 1},
    }
    run_all(model, outputs, expected)
    model.check_modules(expected)


def run_all(model: Model, outputs: dict[str, dict], expected: dict[str, Tensor]) -> None:
    """Checks every output of a case."""
    for name, how in outputs.items():
        if name in expected:
            check_close(model(**how), expected[name], name, FORWARD)
    kept = {name for name in expected if name.startswith("out") and "/" not in name}
    assert {"out"} <= kept <= set(outputs), kept


def pia(case: Case, folder: Path) -> None:
    model, inputs, expected = Model(case), case.inputs(), case.expected()
    told, frames = case.told["mask"], case.told["shapes"]["frames"]
    for preset in case.told["mask_presets"]["table"]:
        assert list(LIKENESS.values())[preset["index"]] == tuple(preset["values"])
        assert list(LIKENESS)[preset["index"]] == preset["name"]
    for one in case.told["mask_presets"]["resolved"]:
        check_likeness(one["preset"], one["cond_frame"], one["coef"])
    image = inputs["image_latent"][:, None]
    context = given_frames(image, [told["cond_frame"]], frames)
    likeness = likeness_of(told["preset"])
    how = {"context": context, "likeness": likeness}
    run_all(model, {"out": {**how, "own_input": True}, "out_dreambooth": how}, expected)
    model.check_modules(expected)
    seen = MaskedImage(MaskedImageSpec(likeness=likeness, levels=4))(context, torch.float32)[0][0]
    joined = torch.cat([inputs["mask_sample"], inputs["masked_sample"]], dim=2)
    check_close(seen.unflatten(0, joined.shape[:2]), joined, "mask and image", EXACT)


def likeness_of(preset: int) -> tuple[float, ...]:
    return list(LIKENESS.values())[preset]


def check_likeness(preset: int, place: int, expected: list[float]) -> None:
    context = given_frames(torch.ones(1, 1, 4, 1, 1), [place], len(expected))
    planes = MaskedImage(MaskedImageSpec(likeness=likeness_of(preset), levels=1))
    (seen,), _ = planes(context, torch.float32)
    assert seen[:, 0].flatten().tolist() == torch.tensor(expected).tolist()


def image_to_video(case: Case, folder: Path) -> None:
    model, inputs, expected = Model(case), case.inputs(), case.expected()
    frames = case.told["shapes"]["frames"]
    context = given_frames(inputs["img_latent"][:, None], [0], frames)
    usual, *others = case.told["motion_scales"]
    outputs = {
        "out": {"context": context, "motion": usual},
        "out_no_image": {},
        **{f"out_scale{one}": {"context": context, "motion": one} for one in others},
    }
    run_all(model, outputs, expected)
    check_features(case, ImageEncoderSpec(widths=model.config.layout.channels, motion=usual))


def image_encoder(case: Case, folder: Path) -> None:
    told = case.told["config"]
    check_features(
        case,
        ImageEncoderSpec(
            widths=tuple(told["channels"]), blocks=told["nums_rb"], motion=told["motion_scale"]
        ),
    )


def check_features(case: Case, spec: ImageEncoderSpec) -> None:
    image, expected = case.inputs()["img_latent"], case.expected()
    context = given_frames(image[:, None], [0], case.told["shapes"]["frames"])
    state = part(floats(case.folder / "img_encoder.safetensors"), "img_encoder.")
    encoder = load_into(spec.build(1), state, "the image encoder")
    with torch.no_grad():
        features, _ = encoder(context, torch.float32)
    for i, feature in enumerate(features):
        wanted = expected[f"features/{i}"]
        check_close(feature.unflatten(0, wanted.shape[:2]), wanted, f"features {i}", FORWARD)


# --------------------------------------------------------------------------------------------------
# Sampling.


def diffusion_model(case: Case) -> DiffusionModel:
    """The model of a case, with Stable Diffusion's noise levels until the layers bring theirs."""
    model = Model(Case(neighbour(case, "model_case_dir")))
    layers = animatediff.assemble(model.state, model.config)
    image = DiffusionModel(
        network=VideoUNet(model.unet, []),
        preconditioning=discrete("eps", scaled_linear()),
        factor=8,
        latent_scale=0.18215,
    )
    return image.with_layers(layers)


def ddim_sampling(case: Case, folder: Path) -> None:
    model, steps = diffusion_model(case), case.told["sampler"]["num_inference_steps"]
    plan = published_plan(model.sets.specs[0].trained.family, "ddim", steps)
    eta = case.told["sampler"]["eta"]
    sample(case, model, plan.sigmas, partial(plan.sampler, eta=eta), noise=step_noise(case))


def lcm_sampling(case: Case, folder: Path) -> None:
    model, told = diffusion_model(case), case.told["sampler"]
    for distilled, tables in case.told["timestep_tables"].items():
        for steps, expected in tables.items():
            found = lcm_timesteps(int(steps), distilled=int(distilled))
            assert found.tolist() == expected
    betas = Betas(told["beta_schedule"], told["beta_start"], told["beta_end"])
    if betas != model.sets.betas:  # users of the image-to-video layers may choose others
        schedule = SCHEDULES[betas.name](start=betas.first, end=betas.last)
        model = model.with_schedule(schedule)
    timesteps = lcm_timesteps(
        told["num_inference_steps"], distilled=told["original_inference_steps"]
    )
    sigmas = get_sigmas_at(model.schedule, timesteps)
    sample(case, model, sigmas, sample_lcm, noise=step_noise(case))


def step_noise(case: Case) -> StepNoise | None:
    """The noise of each step, or None: neither a single LCM step nor DDIM at eta 0 adds any."""
    noise = case.raw("inputs").get("noise")
    return None if noise is None else lambda i, x: rearrange(noise[i], "b c t h w -> b t c h w")


def sample(case: Case, model: DiffusionModel, sigmas: Tensor, sampler, **more) -> None:
    inputs, expected = case.inputs(), case.expected()
    abar = expected["alphas_cumprod"]
    torch.testing.assert_close(model.schedule.alphas_cumprod.float(), abar, atol=2e-6, rtol=1e-4)
    timesteps = model.schedule.timestep(sigmas[:-1])
    assert timesteps.tolist() == expected["timesteps"].tolist()
    negative, positive = (
        model.denoiser(Conditions(text=text[None])) for text in inputs["text_embeddings"]
    )
    denoiser = guided(positive, negative, case.told["sampler"]["guidance_scale"])
    after = []

    def callback(step) -> None:
        if step.index:
            after.append(to_vp(step.x, torch.tensor(step.sigma)))

    x = to_ve(inputs["latents"], sigmas[0])
    final = sampler(denoiser, x, sigmas, callback=callback, **more)
    for i, latents in enumerate([*after, final]):
        check_sampled(latents, expected[f"step{i}/latents"], f"after step {i}", SAMPLING)
    check_sampled(final, expected["samples"], "samples", SAMPLING)


KINDS: dict[str, Callable[[Case, Path], None]] = {
    "mm": motion_module,
    "mm_hotshotxl": hotshot_xl,
    "mm_pia": pia,
    "mm_animatelcm_i2v": image_to_video,
    "img_encoder_animatelcm_i2v": image_encoder,
    "sampling_ddim": ddim_sampling,
    "sampling_lcm": lcm_sampling,
}
