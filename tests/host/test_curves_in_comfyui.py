"""Curves in ComfyUI follow its samplers' steps, take its CURVE, and give the same in both hosts."""

from __future__ import annotations

import pytest
import torch
from inside_process import found_inside
from model_toys import normal
from node_inputs import strategy
from safetensors.torch import save_file
from test_core_numbers import compared
from toy_prompts import (
    distance,
    inject,
    ksampler,
    latents,
    nodes,
    sampler,
    saved,
    windows,
)

STEPS = 4
ONCE = ["euler", "euler_ancestral", "dpmpp_2m", "dpmpp_2m_sde", "lcm", "ddim", "uni_pc", "lms"]
TWICE = ["heun", "dpm_2", "dpm_2_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde", "heunpp2",
         "exp_heun_2_x0", "seeds_2"]  # fmt: skip
SAME = 1e-4
"""Relative to the standard deviation of latents."""


@pytest.fixture(scope="module")
def found(toy_family):
    return found_inside("inside_curves.py", toy_family, *ONCE, *TWICE)


@pytest.mark.parametrize("name", [*ONCE, *TWICE])
def test_a_step_of_comfyuis_samplers_is_a_step(found, name):
    """A step's callback follows its first evaluation; later evaluations may belong to it, too."""
    events = found["steps"][name]
    told = [event[1] for event in events if event[0] == "evaluated"]
    print(name, told)
    assert {event[2] for event in events if event[0] == "evaluated"} == {STEPS}
    assert sorted(set(told)) == list(range(STEPS))
    assert told == sorted(told)
    if name == "uni_pc":  # Its callback precedes the evaluation.
        return
    for before, event in zip(events, events[1:], strict=False):
        if event[0] == "reported":
            assert before[:2] == ["evaluated", event[1]]
    if name in TWICE:
        assert len(told) > STEPS + 1
        assert told.count(0) >= 2


def test_comfyuis_curves_are_read_as_it_evaluates_them(found):
    curves = found["curves"]
    print(curves)
    assert max(curves["LinearCurve"], curves["MonotoneCubicCurve"]) < 1e-12
    assert curves["raw"] == pytest.approx(0.5)
    assert curves["other"]


def curve(points: str, over: str, /, **more) -> tuple[str, dict]:
    values = {"points": points, "over": over, "interpolation": "smooth", **more}
    return "VideoLDM_StrengthCurve", values


def curved(**curves: str) -> tuple[str, dict]:
    kind, inputs = inject()
    return kind, inputs | {name: [key, 0] for name, key in curves.items()}


def test_curves_give_the_same_in_both_hosts(comfyui):
    extra = dict(
        n20=curve("[[0, 0], [3, 1.5], [5, 0.5]]", "frames"),
        n21=curve("[[0, 1], [0, 0.2], [1, 0]]", "steps", times=["20", 0]),
        n22=curve("[[0, 1], [5, 1.6]]", "frames"),
        n23=curved(curve="21", keys="22", queries="20"),
        n24=ksampler("23", sampler_name="heun"),
        n25=sampler("23", sampler_name="heun"),
        n26=ksampler("23", sampler_name="dpmpp_2m"),
        n28=curve("[[0, 0.2], [1, 2]]", "steps", sites="up, down.0.res.0", times=["22", 0]),
        n29=curved(curve="28", keys="28"),
        n27=ksampler("29", sampler_name="heun"),
    )  # fmt: skip
    kept = {f"n{30 + k}": saved(str(24 + k)) for k in range(4)}
    pairs = compared(comfyui, nodes(**extra, **kept, n40=saved("8")))
    far = {key: distance(*pair) for key, pair in pairs.items()}
    print(far)
    assert max(far.values()) < SAME


def test_a_constant_curve_is_the_number_bit_for_bit_in_comfyui(comfyui):
    half, whole = "[[0, 0.5], [5, 0.5]]", "[[0, 1], [1, 1]]"
    extra = dict(
        n20=curve(half, "frames"), n21=curve(whole, "steps"), n22=curve("[[0, 0]]", "steps"),
        n23=curved(curve="20", keys="21"), n24=inject(strength=0.5), n25=curved(curve="22"),
        n30=ksampler("23"), n31=ksampler("24"), n32=ksampler("25"), n33=ksampler("1"),
    )  # fmt: skip
    kept = {f"n{40 + k}": saved(str(30 + k)) for k in range(4)}
    pairs = compared(comfyui, nodes(**extra, **kept))
    for number, drawn in (("31", "30"), ("33", "32")):
        for host in (0, 1):
            assert distance(pairs[number][host], pairs[drawn][host]) == 0
    assert distance(pairs["31"][1], pairs["33"][1]) > 0.01


# --------------------------------------------------------------------------------------------------
# LoRAs over frames and steps.

PATHS = {
    "mid_block_attentions_0_transformer_blocks_0_attn1_to_v": (32, 32),
    "mid_block_attentions_0_transformer_blocks_0_attn2_to_k": (32, 32),
    "down_blocks_1_attentions_0_transformer_blocks_0_ff_net_0_proj": (256, 32),
    "down_blocks_0_resnets_0_conv1": (32, 32, 3, 3),
    "up_blocks_1_resnets_0_time_emb_proj": (32, 128),
}


@pytest.fixture(scope="module")
def loras(comfyui):
    """Write LoRA files for the server's toy model."""
    folder = comfyui.base / "models" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(("one", "two")):
        state = {}
        for k, (path, (out, *inner)) in enumerate(PATHS.items()):
            factors = dict(down=(4, *inner), up=(out, 4, *[1] * (len(inner) - 1)))
            for half, shape in factors.items():
                value = 0.25 * normal(*shape, seed=100 * seed + 2 * k + len(half))
                state[f"lora_unet_{path}.lora_{half}.weight"] = value
            state[f"lora_unet_{path}.alpha"] = torch.tensor(2.0)
        save_file(state, folder / f"{name}.safetensors")
    comfyui.clear()


def lora(model: str, name: str = "one", /, **more) -> tuple[str, dict]:
    values = {"model": [model, 0], "lora_name": f"{name}.safetensors", "strength": 0.7, **more}
    return "VideoLDM_LoadScheduledLoRA", values


def merged(model: str, name: str = "one", strength: float = 0.7) -> tuple[str, dict]:
    values = {"model": [model, 0], "lora_name": f"{name}.safetensors", "strength_model": strength}
    return "LoraLoaderModelOnly", values


def saved_all(*keys: str) -> dict:
    return {f"n{100 + k}": saved(key) for k, key in enumerate(keys)}


def test_a_lora_of_constant_strength_is_as_if_it_were_merged(comfyui, loras):
    """On the image model and the video model, one LoRA and two, in both hosts."""
    extra = dict(
        n20=lora("3"), n21=merged("3"), n22=lora("1"), n23=merged("1"),
        n24=lora("20", "two", strength=-0.4), n25=merged("21", "two", -0.4),
        n30=ksampler("20"), n31=ksampler("21"), n32=ksampler("22"), n33=ksampler("23"),
        n34=sampler("24"), n35=sampler("25"), n36=ksampler("3"), n37=ksampler("24"),
        n38=ksampler("25"),
    )  # fmt: skip
    pairs = compared(comfyui, nodes(**extra, **saved_all(*(str(k) for k in range(30, 39)))))
    for one, other in (("30", "31"), ("32", "33"), ("34", "35"), ("37", "38")):
        far = [distance(pairs[one][host], pairs[other][host]) for host in (0, 1)]
        print(one, far)
        assert max(far) < SAME
    assert distance(pairs["30"][1], pairs["36"][1]) > 0.01
    assert max(distance(*pair) for pair in pairs.values()) < SAME


def test_a_lora_over_frames_and_steps_is_the_same_in_both_hosts(comfyui, loras):
    extra = dict(
        n20=curve("[[0, 0], [5, 1.5]]", "frames"), n21=curve("[[0, 1], [1, 0.2]]", "steps"),
        n22=lora("1", curve=["20", 0]), n23=lora("22", "two", curve=["21", 0]),
        n24=inject("23"), n30=ksampler("23", sampler_name="heun"), n31=sampler("24"),
        n32=ksampler("24", sampler_name="heun"),
    )  # fmt: skip
    pairs = compared(comfyui, nodes(**extra, **saved_all("30", "31", "32")))
    far = {key: distance(*pair) for key, pair in pairs.items()}
    print(far)
    assert max(far.values()) < SAME


def test_frames_of_a_lora_are_the_image_models_of_their_strengths(comfyui, loras):
    """KSampler on the image model: each frame as if the LoRA were merged at its strength."""
    strengths = {0: 0.0, 3: 0.6, 5: 1.0}
    extra = dict(
        n20=curve("[[0, 0], [5, 1]]", "frames", interpolation="linear"),
        n21=lora("1", strength=1.0, curve=["20", 0]), n30=ksampler("21"),
    )  # fmt: skip
    for frame, strength in strengths.items():
        extra[f"n{40 + frame}"] = merged("1", strength=strength)
        extra[f"n{50 + frame}"] = ksampler(str(40 + frame))
    kept = saved_all("30", *(str(50 + frame) for frame in strengths))
    pairs = compared(comfyui, nodes(**extra, **kept))
    for frame in strengths:
        for host in (0, 1):
            whole, alone = pairs["30"][host], pairs[str(50 + frame)][host]
            assert distance(whole[frame], alone[frame]) < SAME


def test_windows_of_core_count_frames_absolutely(comfyui, loras):
    """Without temporal layers, windows change nothing, even if the strength varies over frames."""
    extra = dict(
        n20=curve("[[0, 0], [5, 1]]", "frames"), n21=lora("1", curve=["20", 0]),
        n22=windows("21", 4, 2), n30=ksampler("21"), n31=ksampler("22"),
    )  # fmt: skip
    extra["n22"][1]["freenoise"] = False
    found = latents(comfyui, nodes(**extra, **saved_all("30", "31")))
    assert distance(found["31"], found["30"]) < SAME


# --------------------------------------------------------------------------------------------------
# Windows, and values that are not curves.


def test_layers_go_by_absolute_frames_in_every_window(comfyui):
    """From frame 3 on the layers are off, and every window is exactly the image model."""
    parts = strategy("sliding windows", window=3, overlap=0)
    extra = dict(
        n18=curve("[[0, 0.5], [3, 0]]", "frames", interpolation="hold"), n19=curved(curve="18"),
        n20=curve("[[0, 1], [3, 0]]", "frames", interpolation="hold"), n21=curved(curve="20"),
        n22=windows("21", 3, 0), n23=windows("3", 3, 0), n24=windows("1", 3, 0),
        n30=ksampler("22"), n31=ksampler("24"), n32=ksampler("23"),
        n33=sampler("21", **parts), n34=sampler("19", **parts), n35=sampler("3", **parts),
    )  # fmt: skip
    for key in ("n22", "n23", "n24"):
        extra[key][1]["freenoise"] = False
    keys = [str(k) for k in range(30, 36)]
    pairs = compared(comfyui, nodes(**extra, **saved_all(*keys)))
    for host in (0, 1):
        found = {key: pairs[key][host] for key in keys}
        # Our sampler draws the layers' shared noise even where they are off, so that its reference
        # (34) has the layers too, at half strength before frame 3.
        for curved_, off, whole in (("30", "31", "32"), ("33", "34", "35")):
            assert torch.equal(found[curved_][3:], found[off][3:])
            assert torch.equal(found[curved_][:3], found[whole][:3])
            assert distance(found[whole][3:], found[off][3:]) > 0.01
            assert distance(found[whole][:3], found[off][:3]) > 0.001


def test_numbers_and_masks_are_curves_in_comfyui(comfyui):
    extra = dict(
        n20=("PrimitiveFloat", {"value": 0.5}),
        n21=("SolidMask", {"value": 0.5, "width": 64, "height": 64}),
        n22=curved(curve="20"), n23=curved(curve="21"), n24=inject(strength=0.5),
        n25=curve("[[0, 1]]", "frames", times=["21", 0]), n26=curved(curve="25"),
        n30=ksampler("22"), n31=ksampler("23"), n32=ksampler("24"), n33=ksampler("26"),
    )  # fmt: skip
    found = latents(comfyui, nodes(**extra, **saved_all("30", "31", "32", "33")))
    assert torch.equal(found["30"], found["32"])
    assert distance(found["31"], found["32"]) < SAME
    assert torch.equal(found["33"], found["31"])


def test_every_lora_key_that_comfyui_knows_is_known(found):
    """For Stable Diffusion 1.5 and XL, on the meta device."""
    print(found["keys"])
    for family, (known, unknown) in found["keys"].items():
        assert known > 500, family
        assert unknown == [], family
