"""Motion modules distilled to a few steps, and the usual settings of published models."""

from __future__ import annotations

import pytest
import torch
from animatediff_toys import TWO_LEVELS, VIDEO, same, toy_config, toy_state
from diffusers import MotionAdapter
from model_toys import fill
from safetensors.torch import save_file
from videoldm.core.diffusion.samplers import sample_euler
from videoldm.core.families import families, load_temporal_layers, usual_settings
from videoldm.core.families import published_plan as families_plan
from videoldm.core.families.animatediff_config import VARIANTS
from videoldm.core.families.animatediff_sampling import published_plan

NAME = "animatediff_lightning_4step_{}.safetensors"


def toy_adapter() -> MotionAdapter:
    """diffusers' class with the defaults with which it reads Lightning's files."""
    return fill(
        MotionAdapter(
            block_out_channels=(32, 64), motion_layers_per_block=1, motion_norm_num_groups=8
        )
    )


@pytest.mark.parametrize("spelling", ["comfyui", "diffusers"])
def test_the_name_of_a_file_tells_its_steps(tmp_path, spelling):
    """Nothing in the weights does: they are the second version's, published in both spellings."""
    config = toy_config("v2", layout=TWO_LEVELS, heads=8)
    state = toy_state(config) if spelling == "comfyui" else toy_adapter().state_dict()
    state = {k: v.contiguous() for k, v in state.items()}
    files = [tmp_path / name for name in (NAME.format(spelling), "mm_v2.safetensors")]
    for file in files:
        save_file(state, file)
    fast, plain = (load_temporal_layers(file) for file in files)
    assert fast.spec.trained.family == "animatediff v2 lightning 4"
    assert plain.spec.trained.family == "animatediff v2"
    assert fast.spec.host == plain.spec.host and fast.spec.host.betas.name == "linear"
    assert same(fast, plain)


def test_files_for_diffusers_give_what_diffusers_gives(tmp_path):
    """Its class against our layers, at one frame: over more, the norms' statistics differ."""
    adapter = toy_adapter().eval()
    file = tmp_path / NAME.format("diffusers")
    save_file({k: v.contiguous() for k, v in adapter.state_dict().items()}, file)
    layers, x = load_temporal_layers(file), VIDEO[0, :1, :1].repeat(1, 32, 1, 1)
    with torch.no_grad():
        wanted = adapter.down_blocks[0].motion_modules[0](x, num_frames=1)
        torch.testing.assert_close(layers.at("down.0.attn.0")(x, 1), wanted)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_lightnings_plan_is_eulers_from_the_last_timestep(steps):
    plan = published_plan(f"animatediff v2 lightning {steps}", "euler", steps)
    times = plan.schedule.timestep(plan.sigmas[:-1]).tolist()
    assert plan.sampler is sample_euler and plan.sigmas[-1] == 0
    assert times == [1000 - 1000 // steps * k - 1 for k in range(steps)]
    with pytest.raises(ValueError, match="published with euler, not with ddim"):
        published_plan("animatediff v2 lightning 4", "ddim", 4)


def test_settings_come_with_whatever_can_be_sampled_as_published():
    fast, slow = usual_settings("animatediff v2 lightning 2"), usual_settings("animatediff v2")
    assert (fast.sampler, fast.steps, fast.cfg, fast.max_steps) == ("euler", 2, 1.0, 2)
    assert (slow.sampler, slow.max_steps, slow.max_cfg) == ("ddim", None, None)
    lcm = usual_settings("animatediff animatelcm")
    assert (lcm.sampler, lcm.steps, lcm.max_steps, lcm.max_cfg) == ("lcm", 4, 8, 2.0)
    assert usual_settings("") is usual_settings("animatediff sdxl") is None
    told = {one.name for one in families() if one.usual_settings}
    names = [f"animatediff {variant}" for variant in VARIANTS]
    names += ["lavie base", "lavie interpolation", "modelscope"]
    assert told == {name.split()[0] for name in names}
    usual = {name: usual_settings(name) for name in names}
    for name, one in usual.items():
        if one is not None:
            plan = families_plan(name, one.sampler, one.steps)
            assert len(plan.sigmas) > one.steps
