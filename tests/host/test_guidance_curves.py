"""Guidance and ControlNet strength over frames and steps, per frame, and alike in both hosts."""

from __future__ import annotations

import torch
from test_core_numbers import applied, compared
from test_curves_in_comfyui import SAME, curve, saved_all
from toy_prompts import distance, given, ksampler, latents, nodes, sampler


def guided(model: str, key: str) -> tuple[str, dict]:
    return "VideoLDM_GuidanceCurve", {"model": [model, 0], "curve": [key, 0]}


def assert_same(pairs: dict) -> None:
    far = {key: distance(*pair) for key, pair in pairs.items()}
    print(far)
    assert max(far.values()) < SAME


def test_a_constant_guidance_curve_is_the_number_bit_for_bit(comfyui):
    extra = dict(
        n20=curve("[[0, 0.5], [1, 0.5]]", "steps"), n21=curve("[[0, 1], [5, 1]]", "frames"),
        n22=guided("3", "20"), n23=guided("3", "21"),
        n30=ksampler("22", cfg=4.0), n31=ksampler("3", cfg=2.0), n32=sampler("22", cfg=4.0),
        n33=sampler("3", cfg=2.0), n34=ksampler("23"), n35=ksampler("3"),
        n36=sampler("22", cfg=4.0, guidance_rescale=0.5),
        n37=sampler("3", cfg=2.0, guidance_rescale=0.5),
        n38=ksampler("22", cfg=2.0), n39=ksampler("3", cfg=1.0),
    )  # fmt: skip
    pairs = compared(comfyui, nodes(**extra, **saved_all(*map(str, range(30, 40)))))
    for one, other in zip(range(30, 40, 2), range(31, 40, 2), strict=True):
        for host in (0, 1):
            assert distance(pairs[str(one)][host], pairs[str(other)][host]) == 0
    assert distance(pairs["30"][1], pairs["34"][1]) > 0.01


def test_guidance_over_frames_and_steps_is_the_same_in_both_hosts(comfyui):
    extra = dict(
        n20=curve("[[0, 0.2], [5, 1.4]]", "frames"),
        n21=curve("[[0, 1], [0, 0.6], [1, 0.2]]", "steps", times=["20", 0]),
        n22=guided("3", "21"), n30=ksampler("22", sampler_name="heun"),
        n31=sampler("22", sampler_name="heun"), n32=sampler("22", guidance_rescale=0.5),
        n33=ksampler("22", sampler_name="dpmpp_2m"),
    )  # fmt: skip
    assert_same(compared(comfyui, nodes(**extra, **saved_all("30", "31", "32", "33"))))


def test_every_frame_has_its_own_cfg(comfyui):
    """On the image model, whose frames are independent of each other."""
    extra = dict(
        n20=curve("[[0, 0.5], [5, 1.5]]", "frames", interpolation="linear"),
        n21=guided("1", "20"), n30=ksampler("21", cfg=4.0), n31=sampler("21", cfg=4.0),
    )  # fmt: skip
    for frame in (0, 2, 5):
        cfg = 4.0 * (0.5 + 0.2 * frame)
        extra |= {f"n{40 + frame}": ksampler("1", cfg=cfg), f"n{50 + frame}": sampler("1", cfg=cfg)}
    keys = [f"{10 * k + frame}" for k in (4, 5) for frame in (0, 2, 5)]
    pairs = compared(comfyui, nodes(**extra, **saved_all("30", "31", *keys)))
    for key in keys:
        whole, frame = pairs["30" if key[0] == "4" else "31"], int(key[1])
        for host in (0, 1):
            assert distance(whole[host][frame], pairs[key][host][frame]) < SAME


def test_the_order_of_other_nodes_of_guidance_does_not_matter(comfyui):
    rescale = {"multiplier": 0.6}
    extra = dict(
        n20=curve("[[0, 0.5], [5, 1.5]]", "frames"), n21=guided("3", "20"),
        n22=("RescaleCFG", {"model": ["21", 0], **rescale}),
        n23=("RescaleCFG", {"model": ["3", 0], **rescale}), n24=guided("23", "20"),
        n30=ksampler("22"), n31=ksampler("24"), n32=ksampler("21"),
    )  # fmt: skip
    found = latents(comfyui, nodes(**extra, **saved_all("30", "31", "32")))
    assert distance(found["30"], found["31"]) == 0
    assert distance(found["30"], found["32"]) > 0.001


def test_guidance_that_rises_over_the_frames_keeps_rising(comfyui):
    """A Guidance Curve on top of ComfyUI's linear guidance multiplies both ramps."""
    extra = dict(
        n20=curve("[[0, 0.25], [5, 1]]", "frames", interpolation="linear"), n21=guided("1", "20"),
        n22=("VideoLinearCFGGuidance", {"model": ["1", 0], "min_cfg": 1.0}),
        n23=guided("22", "20"), n24=curve("[[0, 0.25], [5, 1]]", "frames", times=["20", 0],
                                          interpolation="linear"), n25=guided("1", "24"),
        n30=ksampler("21", cfg=4.0), n31=ksampler("22", cfg=4.0), n32=ksampler("23", cfg=4.0),
        n33=ksampler("25", cfg=4.0),
    )  # fmt: skip
    found = latents(comfyui, nodes(**extra, **saved_all("30", "31", "32", "33")))
    assert distance(found["30"], found["31"]) < SAME
    assert distance(found["32"], found["33"]) < SAME
    assert distance(found["32"], found["31"]) > 0.01


# --------------------------------------------------------------------------------------------------
# ControlNets.


def controlled(key: str, points: str, **more) -> tuple[str, dict]:
    """Prompts of node `key`, with ControlNet strength multiplied by the curve of node `points`."""
    values = {"positive": [key, 0], "negative": [key, 1], "curve": [points, 0], **more}
    return "VideoLDM_ControlNetStrength", values


def hinted(comfyui) -> dict:
    """A ControlNet (16) with an image per frame (17), and at half strength (18)."""
    folder = comfyui.base / "models" / "controlnet"
    folder.mkdir(exist_ok=True)
    images = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    path = str(folder / "toy.safetensors")
    return dict(
        n13=given(comfyui, "hints", images),
        n14=("VAEDecode", {"samples": ["13", 0], "vae": ["1", 2]}),
        n16=("TestSavedControlNet", {"model": ["1", 0], "file": path}),
        n17=applied("16", "14"), n18=applied("16", "14", strength=0.5),
    )  # fmt: skip


LOADED = {"16": {"class_type": "ControlNetLoader",
                 "inputs": {"control_net_name": "toy.safetensors"}}}  # fmt: skip


def by(key: str) -> dict:
    return {"positive": [key, 0], "negative": [key, 1]}


def test_a_controlnets_curve_is_the_same_in_both_hosts(comfyui):
    extra = hinted(comfyui) | dict(
        n20=curve("[[0, 0], [5, 1.4]]", "frames"),
        n21=curve("[[0, 1], [1, 0.3]]", "steps", times=["20", 0]), n22=controlled("17", "21"),
        n23=applied("16", "14", "22", "22", strength=0.3),
        n30=ksampler("3", **by("22")), n31=sampler("3", **by("22")), n32=ksampler("3", **by("23")),
        n33=ksampler("3", **by("17")), n34=ksampler("3"),
    )  # fmt: skip
    keys = [str(k) for k in range(30, 35)]
    pairs = compared(comfyui, nodes(**extra, **saved_all(*keys)), LOADED)
    assert_same(pairs)
    assert distance(pairs["30"][1], pairs["33"][1]) > 0.01
    assert distance(pairs["30"][1], pairs["34"][1]) > 0.01


def test_a_constant_curve_of_a_controlnet_is_its_strength(comfyui):
    extra = hinted(comfyui) | dict(
        n20=curve("[[0, 0.5]]", "steps"), n21=curve("[[0, 0]]", "frames"),
        n22=controlled("17", "20"), n23=controlled("17", "21"),
        n30=ksampler("3", **by("22")), n31=ksampler("3", **by("18")),
        n32=ksampler("3", **by("23")), n33=ksampler("3"), n34=sampler("3", **by("23")),
        n35=sampler("3"),
    )  # fmt: skip
    keys = [str(k) for k in range(30, 36)]
    pairs = compared(comfyui, nodes(**extra, **saved_all(*keys)), LOADED)
    for one, other in (("30", "31"), ("32", "33"), ("34", "35")):
        for host in (0, 1):
            assert distance(pairs[one][host], pairs[other][host]) == 0


def test_every_frame_has_its_own_strength_of_a_controlnet(comfyui):
    """KSampler on the image model: each frame as if the ControlNet had its strength."""
    extra = hinted(comfyui) | dict(
        n20=curve("[[0, 0.5], [3, 1], [5, 0]]", "frames", interpolation="hold"),
        n22=controlled("17", "20"), n30=ksampler("1", **by("22")),
        n31=ksampler("1", **by("17")), n32=ksampler("1", **by("18")), n33=ksampler("1"),
    )  # fmt: skip
    pairs = compared(comfyui, nodes(**extra, **saved_all("30", "31", "32", "33")), LOADED)
    for host in (0, 1):
        for frame, key in ((0, "32"), (2, "32"), (3, "31"), (4, "31"), (5, "33")):
            far = distance(pairs["30"][host][frame], pairs[key][host][frame])
            assert far < SAME, (host, frame)
