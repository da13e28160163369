"""Runs the cases of `host_cases` on the toy family in either host.

python host_bench.py COMFYUI FOLDER ANSWER runs the table in ComfyUI's own Python, without a server
(FOLDER as `write_models` made it; ANSWER is written by torch.save).
"""

import dataclasses
import logging
import shutil
import sys
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

FRAMES, SIDE = 4, 8
LAYERS = {
    "in place": {"context_channels": 4, "context_in_place": True, "task": "prediction"},
    "noise levels": {"betas": ("linear", 1e-4, 2e-2), "trained_frames": 9},
    "changed modules": {"pooled_host_norms": True, "sparse_causal": True, "family": "toy family"},
    "rates": {"rates": 3, "task": "interpolation", "shared_noise": 0.5},
    "too long": {"task": "text to video", "trained_frames": 2},
    "few steps": {"task": "text to video", "family": "animatediff animatelcm"},
}
"""Arguments of `spec_from_table` for more sets of temporal layers than the toy family has."""


def write_models(folder: Path, family: Path) -> None:
    """Write the files that the cases need below `folder`/models."""
    import torch
    from safetensors.torch import save_file
    from toy_family import randomize_zeros
    from videoldm.core.families.embedded.specs import spec_from_table
    from videoldm.core.networks.sites import UNetLayout
    from videoldm.core.networks.temporal_layers import TemporalLayers
    from videoldm.core.networks.temporal_layers_spec import layout_from_dict
    from videoldm.core.weights.checkpoints import Header, read_header, save

    for kind in ("videoldm", "vae"):
        (folder / "models" / kind).mkdir(parents=True)
    toys = shutil.copytree(family, folder / "models" / "checkpoints")
    for file in toys.glob("*.safetensors"):
        randomize_zeros(file)
    shutil.copy(toys / "temporal_decoder.safetensors", folder / "models" / "vae")
    _of_few_words(toys)
    layout = layout_from_dict(read_header(family / "prediction.safetensors").config["layout"])
    other = UNetLayout(channels=(32, 64), layers=1, depths=(1, 0))
    wanted = [(name, layout, changes) for name, changes in LAYERS.items()]
    for name, have, changes in [*wanted, ("another layout", other, {})]:
        spec = spec_from_table(have, norm_groups=8, **changes)
        layers, generator = TemporalLayers(spec), torch.Generator().manual_seed(7)
        for weight in layers.parameters():
            weight.data += 0.1 * torch.randn(weight.shape, generator=generator)
        header = Header(family="embedded", kind="temporal_layers", config=spec.as_dict())
        path = folder / "models" / "videoldm" / f"{name}.safetensors"
        save(path, layers.state_dict(), header, dtype=None)
    save_file({"x": torch.zeros(1)}, folder / "models" / "videoldm" / "nonsense.safetensors")


def _of_few_words(folder: Path) -> None:
    """Write a copy of the image model whose header lists the words that it was trained with."""
    from safetensors.torch import load_file
    from videoldm.core.weights.checkpoints import read_header, save

    path = folder / "image_model.safetensors"
    header = read_header(path)
    header.config["words"] = ["a", "car", "circle", "gray", "red"]
    save(folder / "few words.safetensors", load_file(path), header, dtype=None)


class Bench:
    """A host with the toy family, and helpers for the cases."""

    def __init__(self, host, *, ksample, without_metadata, without_boxes):
        """Functions that differ between hosts: ksample(model, positive, negative, frames, sampler,
        cfg) -> latents, without_metadata(function) -> its result with metadata disabled,
        without_boxes(clip) -> a CLIP without a box encoder."""
        self.host, self.ksample = host, ksample
        self.without_metadata, self.without_boxes = without_metadata, without_boxes

    @cached_property
    def loaded(self):
        return self.host.load_image_model("image_model.safetensors")

    @property
    def image(self):
        return self.loaded[0]

    @cached_property
    def prompts(self):
        return [self.host.encode_text(self.loaded[1], text) for text in ("a red circle", "")]

    @cached_property
    def upsampler(self):
        return self.host.load_upsampler("upsampler.safetensors")

    def layers(self, name):
        file = name if name.startswith("embedded") else f"{name}.safetensors"
        return self.host.load_temporal_layers(file)

    def video(self, *names, model=None, **strength):
        """The image model, or another, with sets of layers injected, all at the same strength."""
        from videoldm.core.networks.temporal_layers import Strength

        model = self.image if model is None else model
        for name in names:
            model = self.host.inject(model, self.layers(name), Strength(**strength))
        return model

    def denoiser(self, model, prompts=None, cfg=1.0, rescale=0.0, **condition):
        from videoldm.core.tasks.segment import SegmentCondition
        from videoldm.nodes.host.interface import Guidance

        guidance = Guidance(cfg=cfg, rescale=rescale)
        denoiser_for = self.host.denoiser_for(model, *(prompts or self.prompts), guidance)
        return denoiser_for(SegmentCondition(**{"frames": range(FRAMES)} | condition))

    def denoised(self, model, *, x=None, **given):
        import torch

        x = normal(1, FRAMES, 4, SIDE, SIDE) if x is None else x
        return self.denoiser(model, **given)(3 * x, torch.tensor(3.0))

    def given(self, at=(0,), shape=(4, SIDE, SIDE), frames=FRAMES, level=0.0):
        """Context frames at the given positions."""
        import torch
        from videoldm.core.networks.context_frames import given_frames

        context = given_frames(normal(1, len(at), *shape, seed=1), at, frames)
        return dataclasses.replace(context, noise_level=torch.tensor([level]))

    def warnings(self, function):
        """The warnings logged while a function runs, without duplicates."""
        told, log = [], logging.getLogger("videoldm")
        handler = logging.Handler()
        handler.emit = lambda record: told.append(record.getMessage())
        log.addHandler(handler)
        try:
            function()
        finally:
            log.removeHandler(handler)
        return list(dict.fromkeys(told))


def normal(*shape, seed=0):
    import torch

    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def refusal(function, *given, **more):
    """The message of the ValueError that a call raises."""
    try:
        function(*given, **more)
    except ValueError as error:
        return str(error)
    return "not refused"


# --------------------------------------------------------------------------------------------------
# Running the table.


def answers(bench) -> dict:
    import torch
    from host_cases import CASES

    found = {}
    for name, case in CASES.items():
        with torch.inference_mode():
            try:
                found[name] = case(bench)
            except Exception as error:
                found[name] = f"{type(error).__name__}: {error}"
    return found


def in_comfyui(comfyui: str, folder: Path) -> dict:
    """The answers of ComfyUI's host. (Not for pytest's Python.)"""
    from inside import begin

    host = begin(comfyui)
    import folder_paths
    from comfy.cli_args import args

    import nodes

    for kind in ("checkpoints", "videoldm", "vae"):
        folder_paths.add_model_folder_path(kind, str(folder / "models" / kind), is_default=True)
    folder_paths.set_output_directory(str(folder / "output of ComfyUI"))
    _point_at(folder)

    def ksample(model, positive, negative, frames, sampler="euler", cfg=1.0):
        latent = {"samples": normal(frames, 4, SIDE, SIDE)}
        how = (1, 1, cfg, sampler, "simple", positive, negative)
        return nodes.common_ksampler(model, *how, latent)[0]["samples"]

    def without_metadata(function):
        args.disable_metadata = True
        try:
            return function()
        finally:
            args.disable_metadata = False

    def without_boxes(clip):
        clip = clip.clone()
        clip.cond_stage_model = SimpleNamespace(box_encoder=None)
        return clip

    own = {"ksample": ksample, "without_metadata": without_metadata, "without_boxes": without_boxes}
    return answers(Bench(host, **own))


def in_standalone(folder: Path) -> dict:
    """The answers of the standalone host."""
    from videoldm.nodes.host import host
    from videoldm.nodes.host.standalone.core_sampling import SamplerSettings, ksample

    before = host.folders, host.policy, host.embed_metadata
    host.configure(models=[folder / "models"], output=folder / "output", device="cpu", dtype="fp32")
    _point_at(folder)

    def sample(model, positive, negative, frames, sampler="euler", cfg=1.0):
        latent = {"samples": normal(frames, 4, SIDE, SIDE)}
        how = SamplerSettings(seed=1, steps=1, cfg=cfg, sampler_name=sampler, scheduler="simple")
        return ksample(host, model, positive, negative, latent, how)["samples"]

    def without_metadata(function):
        host.embed_metadata = False
        try:
            return function()
        finally:
            host.embed_metadata = True

    def without_boxes(clip):
        return dataclasses.replace(clip, box_encoder=None)

    own = {"ksample": sample, "without_metadata": without_metadata, "without_boxes": without_boxes}
    try:
        return answers(Bench(host, **own))
    finally:
        host.folders, host.policy, host.embed_metadata = before


def _point_at(folder: Path) -> None:
    """Use the toys as the embedded family."""
    from videoldm.core.families.embedded import included

    included.WEIGHTS = folder / "models" / "checkpoints"


def main(comfyui: str, folder: str, answer: str) -> None:
    found = in_comfyui(comfyui, Path(folder))
    import torch

    torch.save(found, answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
