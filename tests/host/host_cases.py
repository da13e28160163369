"""One table of cases for both hosts: models, bad inputs, strengths, ejecting, latents, files.

A case is a function of `Bench` that returns a JSON value, a Tensor, or a dict of these.
"""

import dataclasses
from types import SimpleNamespace

from host_bench import FRAMES, LAYERS, SIDE, normal, refusal

# --------------------------------------------------------------------------------------------------
# Facts of every kind of model.

MODELS = {
    "an image model": lambda b: b.image,
    "text to video": lambda b: b.video("embedded: text to video"),
    "prediction": lambda b: b.video("embedded: prediction"),
    "interpolation": lambda b: b.video("embedded: interpolation"),
    "two sets": lambda b: b.video("embedded: text to video", "rates"),
    "a set switched off": lambda b: b.video("rates", overall=0.0),
    "an upsampler": lambda b: b.upsampler[0],
    "an upsampler without its layers": lambda b: b.host.eject(b.upsampler[0]),
    **{name: lambda b, name=name: b.video(name) for name in LAYERS},
}


def facts(bench, model):
    found = vars(bench.host.facts(model))
    return {name: plain(value) for name, value in found.items()} | {
        "sigmas": bench.host.sigmas(model, "karras", 5, 1.0)
    }


def plain(value):
    """A fact as plain values: a schedule becomes its noise levels."""
    if hasattr(value, "alphas_cumprod"):
        return value.sigmas.float()
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)
    return value if isinstance(value, str | int | float | None) else str(value)


FACTS = {f"facts of {name}": lambda b, make=make: facts(b, make(b))
         for name, make in MODELS.items()}  # fmt: skip


# --------------------------------------------------------------------------------------------------
# Strengths, ejecting, conditions: numbers.

OFF = {
    "as a whole": {"overall": 0.0},
    "by kind": {"kinds": {"attention": 0.0, "convolution": 0.0}},
    "by site": {"sites": {"down": 0.0, "mid": 0.0, "up": 0.0}},
}


def switched_off(bench, name, off):
    """Whether a set that is switched off or ejected gives exactly the image model, with context
    frames too if it takes them; and its output at full strength."""
    import torch

    model = bench.video(name, **off)
    takes = bench.host.facts(model).takes_context
    more = {"context": bench.given((0, 2), level=30.0)} if takes else {}
    image = bench.denoised(bench.image)
    return {
        "equal": torch.equal(bench.denoised(model, **more), image),
        "levels": torch.equal(bench.host.sigmas(model, "uniform", 9, 1.0),
                              bench.host.sigmas(bench.image, "uniform", 9, 1.0)),
        "ejected": torch.equal(bench.denoised(bench.host.eject(bench.video(name))), image),
        "at full strength": bench.denoised(bench.video(name), **more),
    }  # fmt: skip


NUMBERS = {
    "the image model": lambda b: b.denoised(b.image),
    "guided": lambda b: b.denoised(b.image, cfg=3.0),
    "guided and rescaled": lambda b: b.denoised(b.video("rates"), cfg=3.0, rescale=0.7),
    "half strength": lambda b: b.denoised(b.video("rates", overall=0.5)),
    "attention alone": lambda b: b.denoised(b.video("rates", kinds={"convolution": 0.0})),
    "one level alone": lambda b: b.denoised(b.video("rates", sites={"up": 0.0, "mid": 0.0})),
    "two sets": lambda b: b.denoised(b.video("embedded: prediction", "rates")),
    "frame rate": lambda b: b.denoised(b.video("rates"), rate=2),
    "times": lambda b: b.denoised(b.video("rates"), times=(0, 3, 4, 9)),
    "given frames": lambda b: b.denoised(
        b.video("embedded: prediction"), context=b.given((0, 3), level=30.0)),
    "given frames in place": lambda b: b.denoised(
        b.video("in place"), context=b.given((1,), level=30.0), cfg=3.0),
    "no given frames": lambda b: b.denoised(b.video("in place"), context=b.given().dropped()),
    "an upsampler": lambda b: b.denoised(
        b.upsampler[0], concatenated=normal(1, FRAMES, 3, SIDE, SIDE), noise_level=20),
    "encoded text": lambda b: b.prompts[0][0][0],
    "latents for core": lambda b: b.host.to_core(b.image, {"samples": normal(3, 4, 2, 2)}),
    "latents from core": lambda b: b.host.from_core(b.image, normal(1, 3, 4, 2, 2))["samples"],
    "encoded frames": lambda b: b.host.encode(
        b.loaded[2], b.host.pixels(normal(3, 16, 16, 3).sigmoid()))["samples"],
    "decoded frames": lambda b: b.host.decoder(b.loaded[2])(normal(1, 3, 4, 4, 4)),
    "decoded in time": lambda b: b.host.decoder(
        b.host.load_temporal_vae("temporal_decoder.safetensors"))(normal(1, 3, 4, 4, 4)),
    **{f"{name}, off {how}": lambda b, name=name, off=off: switched_off(b, name, off)
       for how, off in OFF.items() for name in ("in place", "noise levels", "changed modules")},
}  # fmt: skip


# --------------------------------------------------------------------------------------------------
# Bad inputs: error messages.


def wide(prompts):
    return [[[tokens.repeat(1, 1, 2), more] for tokens, more in prompt] for prompt in prompts]


def box():
    return SimpleNamespace(label="a car", x0=0.1, y0=0.2, x1=0.5, y1=0.6)


def small_frames(channels=3, side=SIDE):
    return normal(1, FRAMES, channels, side, side)


REFUSED = {
    "positive prompt of another width": lambda b: b.denoiser(
        b.image, [wide(b.prompts)[0], b.prompts[1]]),
    "negative prompt of another width": lambda b: b.denoiser(
        b.image, [b.prompts[0], wide(b.prompts)[1]]),
    "no prompts": lambda b: b.denoiser(b.image, [[], b.prompts[1]]),
    "layers of another layout": lambda b: b.video("another layout"),
    "layers of another layout behind others": lambda b: b.video("rates", "another layout"),
    "a frame rate too high": lambda b: b.denoiser(b.video("rates"), rate=3),
    "a frame rate below 0": lambda b: b.denoiser(b.video("rates"), rate=-1),
    "given frames for an image model": lambda b: b.denoiser(b.image, context=b.given()),
    "given frames for layers that take none": lambda b: b.denoiser(
        b.video("rates"), context=b.given()),
    "given frames of another size": lambda b: b.denoised(
        b.video("in place"), context=b.given(shape=(4, 4, SIDE))),
    "given frames of other latents": lambda b: b.denoised(
        b.video("embedded: prediction"), context=b.given(shape=(8, SIDE, SIDE))),
    "given frames of another length": lambda b: b.denoised(
        b.video("embedded: prediction"), context=b.given(frames=FRAMES + 1)),
    "times of another length": lambda b: b.denoised(b.video("rates"), times=(0, 1)),
    "latents of another model in sampling": lambda b: b.denoised(
        b.image, x=normal(1, FRAMES, 8, SIDE, SIDE)),
    "small frames for an image model": lambda b: b.denoiser(b.image, concatenated=small_frames()),
    "no small frames for an upsampler": lambda b: b.denoiser(b.upsampler[0]),
    "small frames of other channels": lambda b: b.denoiser(
        b.upsampler[0], concatenated=small_frames(4), noise_level=0),
    "small frames of another size": lambda b: b.denoised(
        b.upsampler[0], concatenated=small_frames(side=4), noise_level=0),
    "a noise level too high": lambda b: b.denoiser(
        b.upsampler[0], concatenated=small_frames(), noise_level=351),
    "a noise level for an image model": lambda b: b.denoiser(b.image, noise_level=3),
    "latents of another VAE": lambda b: b.host.to_core(b.image, {"samples": normal(3, 8, 2, 2)}),
    "latents of another shape": lambda b: b.host.to_core(b.image, {"samples": normal(4, 2, 2)}),
    "latents that are not finite": lambda b: b.host.to_core(
        b.image, {"samples": normal(3, 4, 2, 2) / 0}),
    "latents of another model for the VAE": lambda b: b.host.decoder(b.loaded[2])(
        normal(1, 3, 8, 4, 4)),
    "images of another shape": lambda b: b.host.pixels(normal(3, 16, 16)),
    "an unknown schedule": lambda b: b.host.sigmas(b.image, "slow", 5, 1.0),
    "no steps": lambda b: b.host.sigmas(b.image, "karras", 0, 1.0),
    "boxes for a CLIP without any": lambda b: b.host.encode_boxes(
        b.without_boxes(b.loaded[1]), "a car", [box(), box()]),
    "an upsampler as an image model": lambda b: b.host.load_image_model("upsampler.safetensors"),
    "an image model as an upsampler": lambda b: b.host.load_upsampler("image_model.safetensors"),
    "a decoder as an image model": lambda b: b.host.load_image_model(
        "temporal_decoder.safetensors"),
    "a file of nonsense": lambda b: b.layers("nonsense"),
    "an unknown embedded part": lambda b: b.layers("embedded: prediction of weather"),
    "a VAE without an encoder": lambda b: b.host.encode(
        b.host.load_temporal_vae("temporal_decoder.safetensors"), normal(1, 1, 3, 16, 16)),
    "a KSampler with an upsampler": lambda b: b.ksample(b.upsampler[0], *b.prompts, FRAMES),
}  # fmt: skip


# --------------------------------------------------------------------------------------------------
# Files and warnings.


def metadata(bench):
    hidden = SimpleNamespace(prompt={"1": {"x": float("nan")}}, extra_pnginfo={"workflow": [1]})
    empty = SimpleNamespace(prompt=None, extra_pnginfo=None)
    return {
        "both": bench.host.metadata(hidden),
        "none": bench.host.metadata(empty),
        "unwanted": bench.without_metadata(lambda: bench.host.metadata(hidden)),
    }


def kept(bench):
    """Where the latents of an interrupted run are saved, and what the file holds."""
    from safetensors.torch import load_file

    path = bench.host.save_unfinished(bench.host.from_core(bench.image, normal(1, 3, 4, 2, 2)))
    found = load_file(path)
    return {"file": [path.parent.name, path.suffix], "names": sorted(found),
            "latents": found["latent_tensor"]}  # fmt: skip


def long_latents(bench):
    """Whether latents that are mapped from a file equal those in memory, read in parts and as a
    whole."""
    import torch
    from videoldm.core.tasks.gathering import is_mapped
    from videoldm.nodes.host.shared.arriving import latents
    from videoldm.nodes.stages import running

    read, model = [], bench.image
    chunks = [normal(1, n, 4, 2, 2, seed=n) for n in (20, 7, 13)]
    for held in (running.HELD, 0):
        running.HELD, before = held, running.HELD
        latent = running.gathered(bench.host, model, chunks)
        running.HELD = before
        parts = latents(latent, lambda one: bench.host.to_core(model, one)).frames()
        parts = [parts] if isinstance(parts, torch.Tensor) else list(parts)
        raw = bench.host.raw(latent)
        read.append((torch.cat([one.cpu() for one in parts], dim=1), raw.cpu()))
        assert (len(parts), is_mapped(latent["samples"])) == (
            (3, True) if held == 0 else (1, False)
        )
    return {"equal": [torch.equal(*pair) for pair in zip(*read, strict=True)], "raw": read[0][1]}


def warned(*names, frames=FRAMES, how=(), **strength):
    return lambda b: b.warnings(
        lambda: b.ksample(b.video(*names, **strength), *b.prompts, frames, *how)
    )


def told_of(text, *labels, file="few words"):
    """A case: the warnings while a prompt, with labels of boxes, is encoded."""

    def encode(bench):
        clip = bench.host.load_image_model(f"{file}.safetensors")[1]
        boxes = [SimpleNamespace(label=label, x0=0.1, y0=0.2, x1=0.5, y1=0.6) for label in labels]
        return bench.warnings(
            lambda: bench.host.encode_boxes(clip, text, boxes) if boxes
            else bench.host.encode_text(clip, text)
        )  # fmt: skip

    return encode


OTHERS = {
    "metadata": metadata,
    "what was kept": kept,
    "long latents": long_latents,
    "warnings of an image model": warned(),
    "warnings of too long a clip": warned("too long"),
    "no warnings of a short one": warned("too long", frames=2),
    "no warnings of what is switched off": warned("too long", overall=0.0),
    "warnings of another task": warned("rates"),
    "warnings of two sets": warned("rates", "too long"),
    "warnings of a sampler and a cfg": warned("few steps", how=("dpmpp_2m", 7.0)),
    "warnings of a cfg": warned("few steps", how=("lcm", 7.0)),
    "no warnings of the layers' own": warned("few steps", how=("lcm", 1.5)),
    "warnings of words": told_of("a (grey:1.2) circle, 2 elephants (and a Red car)"),
    "warnings of a label": told_of("a car", "red truck"),
    "no warnings of words": told_of("a ((red) circle:0.5), \\(gray\\)"),
    "no warnings of the empty prompt": told_of(""),
    "no warnings of any words": told_of("a grey elephant", file="image_model"),
}

CASES = FACTS | NUMBERS | {
    name: lambda b, case=case: refusal(case, b) for name, case in REFUSED.items()
} | OTHERS  # fmt: skip
