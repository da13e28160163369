"""Run by ComfyUI's own Python: networks made for video as its MODELs, in our sampling and in its
KSampler, against this project's core; prints JSON."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import inside

host = inside.begin(sys.argv[1])

import comfy.sample  # noqa: E402
import torch  # noqa: E402
from videoldm.core.diffusion.guidance import guided  # noqa: E402
from videoldm.core.networks.conditions import Conditions  # noqa: E402
from videoldm.core.networks.context_frames import given_frames  # noqa: E402
from videoldm.core.tasks.segment import SegmentCondition  # noqa: E402
from videoldm.nodes.host.comfyui.vae import VideoLDMVAE  # noqa: E402
from videoldm.nodes.host.comfyui.video_network import build_video_patcher  # noqa: E402
from videoldm.nodes.host.interface import Guidance  # noqa: E402
from videoldm.nodes.host.shared.conditioning import with_frames  # noqa: E402
from videoldm.nodes.host.shared.image_tokens import IMAGE_TOKENS  # noqa: E402
from videoldm.nodes.host.shared.vae_3d import VideoVAE3D  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1]))

import factorised_toys as toys  # noqa: E402
from videoldm.core.families import lvdm, videocrafter  # noqa: E402

FRAMES = 4
LEVELS = torch.tensor([[0.0, 0.3, 2.0, 14.0]])


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def distance(a, b):
    return float((a - b).norm() / b.norm())


def models():
    """Toy models by their kind of conditioning."""
    toy = lvdm.LvdmHints(autoencoder=toys.AUTOENCODER, task="prediction")
    alone = dict(average=False, first_stage=False)
    crafters = ("videocrafter 1", "videocrafter image")
    return {
        "unconditional": lvdm.assemble(toys.checkpoint("unconditional"), "a", toy).model,
        "text": lvdm.assemble(toys.checkpoint("text", **alone), "a").model,
        "given": lvdm.assemble(toys.checkpoint("given frames"), "a", toy).model,
        "velocity": lvdm.assemble(
            toys.checkpoint("unconditional"), "a", replace(toy, prediction="v")
        ).model,
    } | {one: videocrafter.assemble(toys.checkpoint(one, **alone), "a").model for one in crafters}


def conditioning(model, seed):
    width = model.network.spec.text
    return [[None if width is None else normal(1, 7, width, seed=seed), {}]]


def one_evaluation(model, sigma):
    """The relative error of denoised frames, with guidance and context frames where the model has
    them."""
    patcher = build_video_patcher(model)
    x = normal(1, FRAMES, model.latent_channels, 8, 8)
    context = None
    if model.takes_context:
        context = given_frames(normal(1, 1, model.latent_channels, 8, 8, seed=3), [0], FRAMES)
    condition = SegmentCondition(frames=range(FRAMES), context=context)
    positive, negative = (conditioning(model, seed) for seed in (1, 2))
    cfg = 1.0 if positive[0][0] is None else 3.0
    made = host.denoiser_for(patcher, positive, negative, Guidance(cfg=cfg))(condition)(x, sigma)
    sides = [
        model.denoiser(Conditions(text=one[0][0], context=context)) for one in (positive, negative)
    ]
    with torch.no_grad():
        return distance(made, guided(*sides, cfg)(x, sigma))


def core_sampler(model):
    """ComfyUI's Euler steps on 5-D latents against ours."""
    from videoldm.core.diffusion.samplers import sample_euler

    patcher = build_video_patcher(model)
    noise = normal(1, model.latent_channels, FRAMES, 8, 8)
    positive, negative = (conditioning(model, seed) for seed in (1, 2))
    sigmas = torch.tensor([14.0, 3.0, 0.5, 0.0])
    made = comfy.sample.sample_custom(
        patcher, noise, 3.0 if positive[0][0] is not None else 1.0,
        comfy.samplers.sampler_object("euler"), sigmas, positive, negative,
        torch.zeros_like(noise), disable_pbar=True,
    )  # fmt: skip
    sides = [model.denoiser(Conditions(text=one[0][0])) for one in (positive, negative)]
    cfg = 1.0 if positive[0][0] is None else 3.0
    x = noise.transpose(1, 2) * sigmas[0]
    expected = model.unscaled(sample_euler(guided(*sides, cfg), x, sigmas)).transpose(1, 2)
    return {"shape": list(made.shape), "off": distance(made, expected)}


def by_frame(model):
    """Relative errors with a prompt for each half of the frames: of our evaluation, and of a step
    of ComfyUI's sampler."""
    patcher, width = build_video_patcher(model), model.network.spec.text
    texts = [normal(1, 7, width, seed=seed) for seed in (1, 5)]
    image = None if model.network.spec.image is None else normal(1, 3, model.network.spec.image)
    more = {} if image is None else {IMAGE_TOKENS: image}
    halves = [with_frames([[text, more]], *range_of)[0]
              for text, range_of in zip(texts, ((0, 2), (2, FRAMES)), strict=True)]  # fmt: skip
    each = torch.stack([texts[0], texts[0], texts[1], texts[1]], dim=1)
    x, sigma = normal(1, FRAMES, model.latent_channels, 8, 8), torch.tensor(2.0)
    shown = None if image is None else image[:, None].expand(-1, FRAMES, -1, -1)
    expected = model.denoiser(Conditions(text=each, image=shown))(x, sigma)
    condition = SegmentCondition(frames=range(FRAMES))
    ours = host.denoiser_for(patcher, halves, halves, Guidance(cfg=1.0))(condition)(x, sigma)
    noise = (x / sigma).transpose(1, 2)
    theirs = comfy.sample.sample_custom(
        patcher, noise, 1.0, comfy.samplers.sampler_object("euler"), torch.tensor([2.0, 0.0]),
        halves, halves, torch.zeros_like(noise), disable_pbar=True,
    )  # fmt: skip
    scaled = model.unscaled(expected).transpose(1, 2)
    return {"ours": distance(ours, expected), "theirs": distance(theirs, scaled)}


def autoencoder():
    """The shapes of latents and frames that ComfyUI's VAE nodes get."""
    module = toys.autoencoder()
    vae = VideoLDMVAE(VideoVAE3D(module))
    images = torch.rand(8, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    latents = vae.encode(images)
    pixels = vae.decode(latents)
    return {"latents": list(latents.shape), "pixels": list(pixels.shape)}


with torch.no_grad():
    found = {
        "evaluation": {
            name: one_evaluation(model, torch.tensor(2.0)) for name, model in models().items()
        },
        "a level per frame": {
            name: one_evaluation(model, LEVELS) for name, model in models().items()
        },
        "ksampler": {
            name: core_sampler(model) for name, model in models().items() if name != "given"
        },
        "by frame": {
            name: by_frame(model) for name, model in models().items() if model.network.spec.text
        },
        "vae": autoencoder(),
    }
print(json.dumps(found))
