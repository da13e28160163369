"""Runs the recorded cases of VideoCrafter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import factorised_cases as factorised
import torch
from factorised_cases import FORWARD, SAMPLED
from golden_cases import Case, check_close, check_sampled
from videoldm.core.diffusion.guidance import guided
from videoldm.core.families import factorised_keys as keys
from videoldm.core.families import videocrafter
from videoldm.core.families.factorised_files import BETAS, SIGNAL_SCALES, read
from videoldm.core.families.factorised_sampling import sample_ddim
from videoldm.core.networks.autoencoder import decode_frames
from videoldm.core.networks.conditions import Conditions
from videoldm.core.networks.factorised_unet import FRAMES_PER_SECOND
from videoldm.core.networks.image_resampler import ImageResampler, ResamplerConfig

TABLES = 1e-6


def resampler(case: Case, folder: Path) -> None:
    told = case.told["config"]["args"]
    config = ResamplerConfig(
        width=told["dim"],
        depth=told["depth"],
        heads=told["heads"],
        head_width=told["dim_head"],
        queries=told["num_queries"],
        embedding=told["embedding_dim"],
        out=told["output_dim"],
        expansion=told["ff_mult"],
    )
    shapes = factorised.shapes_of(ImageResampler, config, keys.resampler_to_original)
    state = factorised.weights(case, shapes)
    module = videocrafter.load_resampler(state, case.folder.name, head_width=config.head_width)
    assert module.config == config
    with torch.no_grad():
        tokens = module(case.raw("inputs")["image_embeds"])
    check_close(tokens, case.raw("expected")["tokens"], "tokens", FORWARD)


@torch.no_grad()
def model_ddim(case: Case, folder: Path) -> None:
    """The checkpoint's network under the tables of signal scales of every published model."""
    inputs, expected = case.inputs(), case.expected()
    state = read(case.folder / case.told["ckpt_file"])
    # A stand-in of one tensor for a text encoder.
    state = {k: v for k, v in state.items() if not k.startswith("cond_stage_model.")}
    found = videocrafter.assemble(state, "the case")
    fps = {FRAMES_PER_SECOND: inputs["fps"]}
    texts = inputs["context"], inputs["uncond_context"]
    for run, told in case.told["runs"].items():
        scales = expected.get(f"{run}.scale_arr")
        if told["scale_kind"] == "vc2":
            check_close(state["scale_arr"], scales, "scale_arr", TABLES)
        tables = {SIGNAL_SCALES: scales} if scales is not None else {}
        schedule = videocrafter.schedule_of({BETAS: state[BETAS]} | tables, run)
        model = found.model.with_schedule(schedule)
        cond, uncond = (model.denoiser(Conditions(text=text, ids=fps)) for text in texts)
        steps = factorised.Steps(schedule, expected, run)
        made = sample_ddim(
            guided(cond, uncond, factorised.guidance_of(told, told["scale"])),
            inputs[f"{run}.noise.0"],
            schedule,
            told["S"],
            eta=told["eta"],
            step_noise=factorised.step_noise(inputs, run),
            callback=steps,
        )
        steps.check_all_compared()
        check_sampled(made, expected[f"{run}.sample"], run, SAMPLED)
        for t in (200, 999):
            name = f"{run}.q_sample_{t}"
            if name in expected:
                noised = schedule.add_noise(inputs["q_x0"], inputs["q_noise"], torch.tensor([t]))
                check_close(noised, expected[name], name, TABLES)
        if f"{run}.video" in expected:
            pixels = decode_frames(found.autoencoder, made)
            check_sampled(pixels, expected[f"{run}.video"], run, SAMPLED)


KINDS: dict[str, Callable[[Case, Path], None]] = {
    "vc1_512_unet": factorised.run_unet,
    "vc1_1024_unet": factorised.run_unet,
    "vc2_unet": factorised.run_unet,
    "i2v_unet": factorised.run_unet,
    "i2v_resampler": resampler,
    "vc2_model_ddim": model_ddim,
}
