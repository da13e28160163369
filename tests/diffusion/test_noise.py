import json
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from videoldm.core.diffusion import noise as n
from videoldm.core.diffusion.samplers import sample_euler_ancestral

GOLDEN = Path(__file__).parents[1] / "golden" / "animatediff_context_a"
SHAPE = (2, 3, 4)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(0, 2**40))
def test_noise_does_not_depend_on_chunking(sizes, seed):
    whole = n.frame_noise(seed, range(sum(sizes)), SHAPE)
    chunks, start = [], 0
    for size in sizes:
        chunks.append(n.frame_noise(seed, range(start, start + size), SHAPE))
        start += size
    assert torch.equal(torch.cat(chunks, dim=1), whole)


def test_noise_does_not_depend_on_the_batch():
    x = torch.empty(3, 4, *SHAPE)
    together = n.NoiseSource((5, 6, 7)).initial(x)
    for i, seed in enumerate((5, 6, 7)):
        assert torch.equal(together[i : i + 1], n.NoiseSource((seed,)).initial(x[:1]))


def test_every_address_has_noise_of_its_own():
    drawn = [
        n.frame_noise(seed, [frame], SHAPE, stream=stream)
        for seed in (0, 1, 2**63)
        for frame in (0, 1, 10_000)
        for stream in ("initial", "step 0", "step 1")
    ]
    flat = torch.stack([d.flatten() for d in drawn])
    assert len(flat.unique(dim=0)) == len(drawn)


def test_noise_is_standard_normal_and_independent_between_frames():
    noise = n.frame_noise(0, range(64), (4, 16, 16))[0].flatten(1)
    assert abs(noise.mean().item()) < 0.02 and abs(noise.std().item() - 1) < 0.02
    off_diagonal = torch.corrcoef(noise) - torch.eye(64)
    assert off_diagonal.abs().max() < 6 / noise.shape[1] ** 0.5


def test_a_window_sees_the_noise_of_its_frames():
    source = n.NoiseSource((3,), frames=tuple(range(20)))
    x = torch.empty(1, 20, *SHAPE)
    window = source.for_frames(range(8, 14))
    assert torch.equal(window(4, x[:, 8:14]), source(4, x)[:, 8:14])


def test_frames_that_share_noise_have_it_in_every_chunk():
    """At alpha = 1 any two frames correlate by 1/2, in the initial noise and in a step's."""
    shape, frames = (8, 32, 32), range(3, 9)
    source, x = n.NoiseSource((3, 4), tuple(frames), shared=1.0), torch.empty(2, 6, *shape)
    for drawn in (source.initial(x), source(2, x)):
        correlation = torch.corrcoef(drawn[0].flatten(1)) - 0.5 * torch.eye(6)
        torch.testing.assert_close(correlation, torch.full((6, 6), 0.5), rtol=0, atol=0.05)
        assert abs(torch.corrcoef(drawn[:, 0].flatten(1))[0, 1]) < 0.05  # videos are independent
    window = source.for_frames(range(5, 8))
    assert torch.equal(window(2, x[:, 2:5]), source(2, x)[:, 2:5])
    assert torch.equal(
        source.like(x, stream="augmentation"),
        replace(source, shared=0.0).like(x, stream="augmentation"),
    )


def test_a_sampled_frame_does_not_depend_on_its_neighbours():
    """With a denoiser that treats each frame alone, a chunk equals its part of the whole."""
    sigmas = torch.tensor([10.0, 3.0, 1.0, 0.0])
    source = n.NoiseSource((1,), frames=tuple(range(10)))
    x = source.initial(torch.empty(1, 10, *SHAPE)) * sigmas[0]
    alone = lambda x, sigma: x / (1 + sigma**2)  # noqa: E731
    whole = sample_euler_ancestral(alone, x, sigmas, noise=source)
    part = source.for_frames(range(4, 7))
    chunk = sample_euler_ancestral(alone, x[:, 4:7], sigmas, noise=part)
    assert torch.equal(chunk, whole[:, 4:7])


def test_a_source_that_does_not_fit_names_both_sizes():
    with pytest.raises(ValueError, match=r"2 videos of 5 frames.*\(1, 5, 2, 3, 4\)"):
        n.NoiseSource((1, 2))(0, torch.empty(1, 5, *SHAPE))
    with pytest.raises(ValueError, match="0 frames"):
        n.frame_noise(0, [], SHAPE)


def test_noise_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    n.frame_noise(0, range(3), SHAPE)
    n.free_noise_indices(32, 16, 4, 0)
    assert torch.equal(torch.get_rng_state(), before)


# --------------------------------------------------------------------------------------------------
# Noise shared between frames.


def test_free_noise_indices_are_those_of_the_original():
    cases = json.loads((GOLDEN / "freenoise.json").read_text())["cases"]
    assert len(cases) == 8
    for case in cases:
        indices = n.free_noise_indices(
            case["num_frames"], case["context_length"], case["context_overlap"], case["seed"]
        )
        assert indices == case["source_index"]


def test_free_noise_tensor_is_that_of_the_original():
    tensors = load_file(GOLDEN / "freenoise.safetensors")
    ours = n.free_noise(tensors["default"][None], window=16, overlap=4, seed=0)
    assert torch.equal(ours[0], tensors["freenoise"])


@given(st.integers(1, 80), st.integers(2, 16), st.data())
def test_every_full_window_of_free_noise_holds_the_same_noise(frames, window, data):
    overlap = data.draw(st.integers(0, window - 1))
    indices = n.free_noise_indices(frames, window, overlap, seed=1)
    assert len(indices) == frames
    for start in range(0, frames - window + 1, window - overlap):
        assert sorted(indices[start : start + window]) == list(range(window))


def test_free_noise_names_a_wrong_overlap():
    with pytest.raises(ValueError, match="overlap 16.*window 16"):
        n.free_noise_indices(32, 16, 16, 0)


def test_noise_that_is_shared_without_end_is_the_same_in_every_frame():
    x = torch.empty(2, 3, 4, 5, 6)
    noise = n.NoiseSource((7, 8), frames=(4, 9, 2), shared=inf).initial(x)
    assert torch.equal(noise, noise[:, :1].expand_as(x))
    assert not torch.allclose(noise[0], noise[1])
    later = n.NoiseSource((7, 8), frames=(5, 6, 7), shared=inf).initial(x)
    assert torch.equal(noise, later)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
def test_mixed_noise_correlates_as_published(alpha):
    noise = n.frame_noise(0, range(6), (4, 64, 64))
    shared = n.frame_noise(0, [0], (4, 64, 64), stream="shared")
    mixed = n.mixed_noise(noise, shared, alpha)[0].flatten(1)
    rho = alpha**2 / (1 + alpha**2)
    torch.testing.assert_close(torch.corrcoef(mixed)[0, 5].item(), rho, rtol=0, atol=0.03)
    torch.testing.assert_close(mixed.std(1), torch.ones(6), rtol=0, atol=0.03)
