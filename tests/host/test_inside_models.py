"""Our models survive what later versions of ComfyUI do to models; see inside_models.py."""

from __future__ import annotations

FIXED = {
    "DrawnCurve.interp", "ScheduleSampling.timestep", "SparseControlObject.copy",
    "StreamedVideo.get_components", "StreamedVideo.get_container_format",
    "StreamedVideo.get_stream_source", "VideoLDMConfig.inpaint_model",
    "VideoLDMLatents.process_in", "VideoLDMLatents.process_out",
}  # fmt: skip
"""Overrides that are getters or take a single tensor."""


def test_the_same_checkpoint_with_and_without_noise_levels_of_its_own(inside):
    found = inside["alternating"]
    assert found["backed up"] == ["model_sampling.log_sigmas", "model_sampling.sigmas"]
    assert found["different"] == 4
    assert found["same"] == {name: [True] * 4 for name in ("plain", "brought", "core's", "image")}


def test_what_we_patch_in_has_no_buffers(inside):
    assert inside["buffers_of_patches"] == {"brought": [], "own": []}


def test_levels_that_layers_bring_to_a_model_of_comfyui_stay(inside):
    found = inside["brought_levels_of_core_models"]
    assert found["theirs"] == 2 and found["buffers"] == 0
    assert found["kept"] and found["kind"] and found["copied"]
    # Linear betas 1e-4 .. 2e-2: sigma is 0.5 after 145 steps and 3 after 476.
    assert found["timesteps"] == [144, 475]


def test_nothing_is_written_into_what_we_are_given(inside):
    found = inside["nothing_written_to"]
    assert found["written"] == []
    assert set(found["watched"]) == {
        "calc_cond_batch", "apply_model", "predict_noise", "diffusion_model"}  # fmt: skip


def test_the_patcher_that_hooks_are_handed_to_is_followed(inside):
    assert inside["swapped_patcher"] == {"delegates": 1, "same": True}


def test_everything_that_we_load_can_be_made_anew(inside):
    found = inside["renewable"]
    assert len(found) >= 13
    assert [name for name, again in found.items() if not again] == []


def test_arguments_of_later_versions_are_taken_and_handed_on(inside):
    found = inside["unknown_arguments"]
    assert found["decode"] and found["decode_tiled"]
    assert found["calc_cond_batch"] == [[2, 4, 8, 8, {"later": 1}]] * 2


def test_overrides_take_arguments_of_later_versions(inside):
    found = inside["overrides"]
    assert {"VideoLDMVAE.decode", "VideoLDMModel.concat_cond"} <= set(found["found"])
    assert set(found["strict"]) <= FIXED, found["strict"]
