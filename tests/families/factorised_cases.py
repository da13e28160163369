"""What LVDM's and VideoCrafter's recorded cases share: configurations, weights, checkpoints and
the calls of their networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import recipe
import torch
from golden_cases import Case, check_close, check_sampled
from safetensors.torch import load_file
from torch import Tensor
from videoldm.core.families import factorised_keys as keys
from videoldm.core.families.factorised_files import load_unet
from videoldm.core.families.factorised_sampling import GUIDANCE
from videoldm.core.networks.autoencoder_3d import Autoencoder3DConfig
from videoldm.core.networks.conditions import Conditions
from videoldm.core.networks.context_frames import CLEAN, ContextFrames
from videoldm.core.networks.factorised_unet import (
    FRAMES_PER_SECOND,
    FactorisedConfig,
    FactorisedUNet,
    GivenFramesSpec,
)
from videoldm.core.networks.layers.factorised_transformers import (
    InterleavedTransformerSpec,
    SplitAttentionSpec,
    StackedTransformersSpec,
)

UNET = "model.diffusion_model."
# Both about ten times the measured errors; a wrong eps in a norm gives 0.2.
FORWARD, SAMPLED = 2e-5, 3e-5
TEXT_LENGTH = 77


def unet_config(told: Mapping[str, Any]) -> FactorisedConfig:
    """The configuration for the original's parameters."""
    base, mult = told["model_channels"], told["channel_mult"]
    stacked = "temporal_conv" in told
    given = None
    if told["in_channels"] != told["out_channels"]:
        given = GivenFramesSpec(levels=told.get("num_classes", 0))
    return FactorisedConfig(
        channels=tuple(base * m for m in mult),
        layers=told["num_res_blocks"],
        attended=tuple(2**i in told["attention_resolutions"] for i in range(len(mult))),
        attention=_attention(told, stacked),
        latent_channels=told["out_channels"],
        pooled_norm=not stacked,
        scale_shift=told.get("use_scale_shift_norm", False),
        kernel=told.get("kernel_size_t", 1),
        time_convolutions=_time_convolutions(told),
        first_attention=told.get("addition_attention", False),
        frames_per_second=told.get("fps_cond", False),
        given=given,
    )


def _attention(told: Mapping[str, Any], stacked: bool):
    distance = told["temporal_length"]
    if stacked:
        text = told["context_dim"]
        return StackedTransformersSpec(
            head_width=told["num_head_channels"],
            text=text,
            image=text if told.get("use_image_attention") else None,
            max_distance=distance if told["use_relative_position"] else None,
            depth=told["transformer_depth"],
            time_depth=told.get("temporal_transformer_depth", 1),
        )
    heads, head_width = (
        None if told.get(name, -1) == -1 else told[name]
        for name in ("num_heads", "num_head_channels")
    )
    how = dict(heads=None if head_width else heads, head_width=head_width, max_distance=distance)
    if told["use_temporal_transformer"]:
        depth = told.get("transformer_depth", 1)
        return InterleavedTransformerSpec(text=told["context_dim"], depth=depth, **how)
    return SplitAttentionSpec(**how)


def _time_convolutions(told: Mapping[str, Any]) -> tuple[int, ...]:
    if not told.get("temporal_conv", False):
        return ()
    return (3, 3, 1, 1) if told.get("tempspatial_aware") else (1, 1, 1, 1)


def autoencoder_config(told: Mapping[str, Any], **latents: float) -> Autoencoder3DConfig:
    encoder = told["ddconfig"]["encoder"]["params"]
    return Autoencoder3DConfig(
        width=encoder["n_hiddens"],
        factors=tuple(encoder["downsample"]),
        latent_channels=told["embed_dim"],
        inner_channels=encoder["z_channels"],
        **latents,
    )


def shapes_of(module_class: type, config: Any, to_original) -> dict[str, torch.Size]:
    """Shapes of a network's weights under the original's names."""
    with torch.device("meta"):
        state = module_class(config).state_dict()
    return {key: tensor.shape for key, tensor in to_original(state, config).items()}


def unet_shapes(config: FactorisedConfig) -> dict[str, torch.Size]:
    return shapes_of(FactorisedUNet, config, keys.unet_to_original)


def weights(case: Case, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """The weights stored with the case, without their prefix, or those of its recipe."""
    stored = case.folder / "weights.safetensors"
    told = case.told["recipe"]
    if not stored.is_file():
        return recipe.weights(told, shapes)
    return {k.removeprefix(told["prefix"]): v.float() for k, v in load_file(stored).items()}


def run_unet(case: Case, folder: Path) -> None:
    """Checks every run of a network's case, and that its sizes are detected from its weights."""
    config = unet_config(case.told["config"])
    network = load_unet(weights(case, unet_shapes(config)), case.folder.name)
    assert network.config == config
    inputs, expected = case.inputs(), case.expected()
    for run in case.told["runs"]:
        given = {k.removeprefix(f"{run}."): v for k, v in inputs.items() if k.startswith(f"{run}.")}
        if run in case.told.get("fps_int", {}):
            given["fps"] = torch.tensor([case.told["fps_int"][run]])
        latents = given["x"][:, :, : config.latent_channels]
        with torch.no_grad():
            out = network(latents, given["t"], conditions(given, config))
        check_close(out, expected[f"{run}.out"], f"{run}.out", FORWARD)


def conditions(given: Mapping[str, Tensor], config: FactorisedConfig) -> Conditions:
    """A run's inputs besides x and t; given frames are in x already."""
    found: dict[str, Any] = {}
    text = given.get("context")
    if text is not None and config.attention.image is not None:
        found["text"], found["image"] = text[:, :TEXT_LENGTH], text[:, TEXT_LENGTH:]
    elif text is not None:
        found["text"] = text
    if "fps" in given:
        found["ids"] = {FRAMES_PER_SECOND: given["fps"]}
    if config.given is not None:
        x, channels = given["x"], config.latent_channels
        mask = x[:, :, channels] if x.shape[2] > channels else given["mask"][:, :, 0]
        level = given.get("y", given.get("s", torch.full((len(x),), CLEAN)))
        found["context"] = ContextFrames(
            latents=given.get("latents", x[:, :, :channels]),
            mask=mask[..., 0, 0],
            noise_level=level.float(),
        )
    return Conditions(**found)


# --------------------------------------------------------------------------------------------------
# Sampling.


def step_noise(inputs: Mapping[str, Tensor], run: str):
    """noise.0 is what a run starts from, noise.1 what its first step adds."""
    return lambda index, x: inputs[f"{run}.noise.{index + 1}"]


def guidance_of(told: Mapping[str, Any], scale: float) -> float:
    """A run's guidance scale in the usual form; in every form, the originals skip guidance at 1."""
    return 1.0 if scale == 1.0 else GUIDANCE[told.get("uc_type") or "usual"](scale)


class Steps:
    """Compares x and the denoised x of every step with the recorded ones. At the end, call
    `check_all_compared`."""

    def __init__(self, schedule, expected: Mapping[str, Tensor], run: str):
        self.schedule, self.expected, self.run = schedule, expected, run
        self.compared: set[str] = set()

    def __call__(self, step) -> None:
        prefix, index = self.run, step.index
        name = f"{prefix}.pred_x0.{index}"
        if name in self.expected:
            self._compare(step.denoised, name)
        name = f"{prefix}.x.{index - 1}"
        if name in self.expected:
            scale = self.schedule.input_scale(torch.tensor(step.sigma, dtype=torch.float64))
            self._compare(step.x * scale.to(step.x), name)

    def _compare(self, got: Tensor, name: str) -> None:
        check_sampled(got, self.expected[name], name, SAMPLED)
        self.compared.add(name)

    def check_all_compared(self) -> None:
        """Checks that nothing recorded was left out, but the last x, which is the sample."""
        denoised, x = (
            {k for k in self.expected if k.startswith(f"{self.run}.{what}.")}
            for what in ("pred_x0", "x")
        )
        last = f"{self.run}.x.{len(x) - 1}"
        assert last in x and self.compared == denoised | x - {last}
