"""Motion modules in ComfyUI's U-Net match the originals, and its KSampler the standalone host."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from animatediff_toys import toy_config, toy_state
from inside_process import found_inside
from safetensors.torch import save_file
from toy_prompts import distance, ksampler, nodes, sampler, saved
from videoldm.core.networks.sites import UNetLayout

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "families"))

from golden_cases import discover  # noqa: E402
from test_core_numbers import compared  # noqa: E402

FORWARD = 1e-5
"""Relative to the largest value; the target is 1e-4."""
SAME = 1e-4
"""Relative to the standard deviation of latents."""
ALL = [one for one in discover() if one.family == "animatediff"]
CASES = [one for one in ALL if one.kind.startswith("mm_")]
STEERED = [one for one in ALL if one.kind in ("sparsectrl", "cameractrl")]
RUNS = {
    "sparsectrl": {"main", "single", "half", "none", "noisy_input", "no_controlnet"},
    "cameractrl": {"main", "half_scale", "zero_merge"},
}
"""The runs of each kind of case that the nodes can express."""


def name_of(case):
    return f"{case.folder.name}:{case.kind}"


ROLLING = {"strategy": "rolling", "strategy.window": 3, "strategy.lookahead": True,
           "strategy.eta": 0.0}  # fmt: skip


@pytest.fixture(scope="module")
def errors():
    return found_inside("inside_motion_modules.py", *(one.folder for one in CASES))


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_comfyuis_unet_gives_what_the_original_gives(errors, case):
    found = errors[str(case.folder)]
    print(found)
    assert found.pop("off or ejected") == 0
    assert found.pop("betas") < 1e-5
    assert {"out", "image"} & set(found) and max(found.values()) < FORWARD


@pytest.fixture(scope="module")
def steered():
    return found_inside("inside_motion_controls.py", *(one.folder for one in STEERED))


@pytest.mark.parametrize("case", STEERED, ids=name_of)
def test_steered_modules_in_comfyuis_unet_give_what_the_originals_give(steered, case):
    found = steered[str(case.folder)]
    print(found)
    assert found.keys() == RUNS[case.kind]
    assert max(found.values()) < FORWARD


@pytest.fixture(scope="module")
def modules(comfyui):
    """Write files of motion modules for the server's toy model."""
    layout = UNetLayout(channels=(32, 32), layers=1, depths=(0, 1))
    folder = comfyui.base / "models" / "videoldm" / "motion"
    folder.mkdir(parents=True, exist_ok=True)
    for variant in ("v1", "v2"):
        config = toy_config(variant, layout=layout, heads=8, norm_groups=32)
        state = {k: v.contiguous() for k, v in toy_state(config).items()}
        save_file(state, folder / f"{variant}.safetensors")
    comfyui.clear()


@pytest.mark.parametrize("variant", ["v1", "v2"])
def test_cores_ksampler_gives_the_same_in_both_hosts(comfyui, modules, variant):
    layers = f"motion/{variant}.safetensors"
    prompt = nodes(n2=("VideoLDM_LoadTemporalLayers", {"layers": layers}),
                   n50=ksampler("1"), n70=saved("8"), n71=saved("9"), n72=saved("50"),
                   n51=sampler("3", **ROLLING, frames=2), n73=saved("51"))  # fmt: skip
    pairs = compared(comfyui, prompt)
    far = {key: distance(*pair) for key, pair in pairs.items()}
    print(far)
    assert max(far.values()) < SAME
    assert distance(pairs["8"][0], pairs["50"][0]) > 0.01, "the modules do nothing"
