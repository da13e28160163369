import pytest
import torch
from model_toys import fill, normal
from videoldm.core.networks import autoencoder as a

VIDEO = normal(2, 5, 3, 8, 12).tanh()


@pytest.fixture(scope="module")
def autoencoder():
    config = a.AutoencoderConfig(channels=(16, 16, 32), latent_channels=4, scale=0.6, shift=0.2)
    return a.build_autoencoder(config).eval().requires_grad_(False)


def decoder_of(autoencoder, **changes):
    return a.TemporalDecoder(autoencoder, **changes).eval().requires_grad_(False)


def test_encoding_is_the_mode_of_the_posterior_scaled(autoencoder):
    latents = a.encode(autoencoder, VIDEO)
    assert latents.shape == (2, 5, 4, 2, 3)
    mode = autoencoder.encode(VIDEO[:, 3]).latent_dist.mode()
    torch.testing.assert_close(latents[:, 3], (mode - 0.2) * 0.6, atol=1e-5, rtol=1e-4)
    mean, logvar = a.encode_moments(autoencoder, VIDEO[0])
    posterior = autoencoder.encode(VIDEO[0]).latent_dist
    torch.testing.assert_close(mean, posterior.mean)
    torch.testing.assert_close(logvar, posterior.logvar)


@pytest.mark.parametrize("chunk", [2, 16])
def test_with_a_generator_encoding_draws_from_the_posterior_each_frame_for_itself(
    autoencoder, chunk
):
    still = VIDEO[:1, :1].expand(-1, 4, -1, -1, -1)
    drawn, mode = (
        a.encode(autoencoder, still, chunk=chunk, generator=generator)
        for generator in (torch.Generator().manual_seed(3), None)
    )
    noise = torch.randn(4, 4, 2, 3, generator=torch.Generator().manual_seed(3))
    deviation = autoencoder.encode(still[0]).latent_dist.std
    torch.testing.assert_close(drawn - mode, (0.6 * deviation * noise)[None], atol=1e-5, rtol=1e-4)
    assert drawn.diff(dim=1).abs().min() > 0 and mode.diff(dim=1).abs().max() < 1e-5


@pytest.mark.parametrize("chunk", [1, 3, 16])
def test_the_chunk_changes_memory_alone(autoencoder, chunk):
    expected = a.encode(autoencoder, VIDEO)
    torch.testing.assert_close(a.encode(autoencoder, VIDEO, chunk=chunk), expected)


def test_scaling_is_undone(autoencoder):
    raw = normal(2, 4)
    torch.testing.assert_close(a.unscaled(autoencoder, a.scaled(autoencoder, raw)), raw)


def test_decoding_frame_by_frame_is_the_image_decoder(autoencoder):
    latents = normal(2, 5, 4, 2, 3)
    pixels = a.decode_frames(autoencoder, latents)
    assert pixels.shape == (2, 5, 3, 8, 12)
    expected = autoencoder.decode(latents[:, 1] / 0.6 + 0.2).sample
    torch.testing.assert_close(pixels[:, 1], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("spatial", [None, (3, 3, 1, 1)])
@pytest.mark.parametrize("frames", [1, 2, 9])
def test_an_untrained_temporal_decoder_is_the_image_decoder(autoencoder, frames, spatial):
    latents = normal(1, frames, 4, 2, 3)
    pixels = decoder_of(autoencoder, spatial=spatial)(latents)
    torch.testing.assert_close(pixels, a.decode_frames(autoencoder, latents), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("kernel", "spatial"), [(1, None), (3, None), (3, (3, 3, 1, 1))])
def test_a_frame_depends_on_its_reach_and_no_further(autoencoder, kernel, spatial):
    decoder = decoder_of(autoencoder, kernel=kernel, spatial=spatial)
    fill(decoder.temporal, scale=0.3)
    frames = 2 * decoder.reach + 7
    middle = frames // 2
    latents = normal(1, frames, 4, 2, 3)
    changed = latents.clone()
    changed[:, middle] += 10 * normal(4, 2, 3, seed=3)
    moved = (decoder(latents) - decoder(changed)).abs().amax((0, 2, 3, 4))
    outside = torch.tensor([abs(k - middle) > decoder.reach for k in range(frames)])
    assert (moved[outside] < 1e-6).all()
    assert moved[middle] > 1e-3
    assert decoder.reach == len(decoder.temporal) * (kernel - 1)
    if kernel == 3:
        assert moved[middle + 2] > 0 and moved[middle - 2] > 0


def test_temporal_convolutions_are_as_wide_as_asked_at_every_resolution(autoencoder):
    def kernels(**changes):
        return [b.conv1.kernel_size for b in decoder_of(autoencoder, **changes).temporal]

    assert kernels() == [(3, 1, 1)] * 4
    assert kernels(spatial=(3, 3, 1, 1)) == [(3, 3, 3)] * 2 + [(3, 1, 1)] * 2
    with pytest.raises(ValueError):
        decoder_of(autoencoder, spatial=(3, 3))


def test_training_the_temporal_decoder_can_leave_the_image_decoder_alone(autoencoder):
    decoder = a.TemporalDecoder(autoencoder)
    decoder(normal(1, 4, 4, 2, 3)).square().mean().backward()
    moved = {n for n, p in decoder.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved and all(n.startswith("temporal.") for n in moved)
    assert {f"temporal.{k}.conv2.weight" for k in range(len(decoder.temporal))} <= moved


def test_a_config_as_a_dict_builds_the_same_config(autoencoder):
    config = a.AutoencoderConfig(channels=(16, 32), latent_channels=3)
    values = a.config_dict(config)
    assert values["channels"] == [16, 32] and config.factor == 2
    values["channels"] = tuple(values["channels"])
    assert a.AutoencoderConfig(**values) == config


def test_what_does_not_fit_is_refused_with_the_numbers(autoencoder):
    with pytest.raises(ValueError, match="10x8 must be divisible by 4"):
        a.encode(autoencoder, VIDEO[..., :10])
    with pytest.raises(ValueError, match=r"\[b, t, 3, h, w\], got shape \[2, 5, 2, 8, 12\]"):
        a.encode(autoencoder, VIDEO[:, :, :2])
    with pytest.raises(ValueError, match=r"\[2, 4, 2, 3\]"):
        decoder_of(autoencoder)(normal(2, 4, 2, 3))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"scale": {}}, "scale must be a finite number, got {}"),
        ({"scale": None}, "scale must be a finite number, got None"),
        ({"shift": float("nan")}, "shift must be a finite number, got nan"),
        ({"shift": True}, "shift must be a finite number, got True"),
        ({"scale": 0}, "another number than 0"),
    ],
)
def test_scale_and_shift_are_numbers(change, words):
    with pytest.raises(ValueError, match=words):
        a.AutoencoderConfig(**change)
