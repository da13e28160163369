"""Fine-tuning a temporal decoder: what is trained, what is saved, and the discriminator."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL
from training_toys import CPU
from videoldm.core.families.embedded import loading as embedded
from videoldm.core.families.image_models import load_temporal_autoencoder
from videoldm.core.families.stable_diffusion_specs import autoencoder_config
from videoldm.core.networks.autoencoder import decode_frames
from videoldm.core.tasks.decoding import decode
from videoldm.core.training import video_decoder_task
from videoldm.core.training.discriminator import VideoDiscriminator
from videoldm.core.training.recipe import load_recipe
from videoldm.core.training.tasks import build_task
from videoldm.core.training.trainer import train
from videoldm.core.training.video_decoder_task import decoder_layers


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A toy autoencoder as diffusers saves one, with attention in the middle."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model")
    config = autoencoder_config((8, 16), 0.5) | {"norm_num_groups": 4, "layers_per_block": 1}
    AutoencoderKL(**config).save_pretrained(path / "vae")
    return path


def toy(folder, *changes: str):
    changes = (
        f"start_from.autoencoder={folder}", "steps=3", "batch=2", "learning_rate=0.01", "warmup=1",
        "data.size=16", "data.frames=4", "data.max_size=16", "precision=fp32", "ema=0.5",
        "data.discriminator={width = 8, depth = 1}", "data.losses.disc_start=1", *changes,
    )  # fmt: skip
    return load_recipe("decoder_fine_tuning", changes)


def run(recipe, folder):
    task = build_task(recipe, folder)
    before = {k: v.clone() for k, v in task.module.state_dict().items()}
    path = train(recipe, task, folder, device=CPU, workers=0, report=lambda _: None)
    after = task.module.state_dict()
    return task, path, {k for k in before if not torch.equal(before[k], after[k])}


@pytest.mark.parametrize("with_image_decoder", [False, True])
def test_temporal_layers_and_their_judge_are_trained_and_the_encoder_is_not(
    folder, tmp_path, with_image_decoder
):
    recipe = toy(folder, f"model.image_decoder={str(with_image_decoder).lower()}")
    task, path, moved = run(recipe, tmp_path)
    assert {key.partition(".")[0] for key in moved} == {"decoder", "discriminator"}
    assert any("decoder.layers." in key for key in moved)
    assert any("decoder.autoencoder." in key for key in moved) == with_image_decoder
    encoder, decoder = load_temporal_autoencoder(path)
    assert encoder is None and decoder.reach == 2 * len(decoder.spec)
    latents = torch.randn(1, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made, saved = task.decoder(latents), decoder(latents)
    torch.testing.assert_close(saved, made, atol=0.02, rtol=0)  # weights are saved in float16


def test_before_training_it_is_the_image_decoder_and_chunks_do_not_matter(folder, tmp_path):
    task = build_task(toy(folder), tmp_path)
    latents = torch.randn(1, 26, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(
            task.decoder(latents), decode_frames(task.module["image"], latents), atol=1e-5, rtol=0
        )
        for layer in task.decoder.layers.values():
            torch.nn.init.normal_(layer.conv2.weight, 0, 0.1)
        whole = task.decoder(latents)
        parts = torch.cat(list(decode(task.decoder, latents, chunk=4)), dim=1)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)


def test_the_recipe_takes_an_encoder_of_the_pack_by_name(tmp_path):
    task = build_task(toy("autoencoder", "model.spatial=[3, 1, 1, 1]"), tmp_path)
    own = embedded.load_autoencoder().config.block_out_channels
    assert tuple(task.decoder.autoencoder.config.block_out_channels) == tuple(own)
    assert {site: layer.spatial for site, layer in task.decoder.spec.items() if "mid" in site} == {
        "mid.res.0": 3, "mid.res.1": 3,
    }  # fmt: skip


def test_the_judge_sees_how_frames_follow_each_other():
    torch.manual_seed(0)
    judge = VideoDiscriminator(width=8, depth=1)
    video = torch.randn(1, 6, 3, 16, 16, requires_grad=True)
    answer = judge(video)
    assert answer.shape[:3] == (1, 1, 6)
    changed = video.detach().clone()
    changed[:, 0] = 0
    moved = (judge(changed) - answer).abs().amax((0, 1, 3, 4))
    assert moved[1] > 0 and moved[2] > 0
    judge.frozen(video).mean().backward()
    assert video.grad.abs().sum() > 0
    assert all(p.grad is None for p in judge.parameters())


def test_wrong_settings_are_refused_in_one_sentence(folder, tmp_path):
    with pytest.raises(ValueError, match="--set start_from.autoencoder=FILE"):
        build_task(load_recipe("decoder_fine_tuning"), tmp_path)
    with pytest.raises(ValueError, match="disc_loss must be one of hinge, vanilla"):
        build_task(toy(folder, "data.losses.disc_loss=best"), tmp_path)
    image = AutoencoderKL(**autoencoder_config((32, 64), 1.0))
    with pytest.raises(ValueError, match="each of the 2 levels"):
        decoder_layers(image, {"spatial": (3, 3)})


def test_a_frozen_decoder_in_channels_last_memory_is_trained_around(tmp_path):
    """The pack's files are loaded that way, and torch used to crash in the backward pass."""
    recipe = toy("autoencoder", "precision=bf16", "data.losses.disc_weight=0", "steps=1")
    task, _, moved = run(recipe, tmp_path)
    assert moved and all(key.startswith("decoder.layers.") for key in moved)
    assert "discriminator" not in task.module  # its weight is 0
    assert not any(p.requires_grad for p in task.decoder.autoencoder.parameters())


@pytest.fixture
def noise_of_each_frame(monkeypatch):
    """Adds noise to the latents, independent for each frame, as those of image models have."""
    plain = video_decoder_task.encode

    def noisy(autoencoder, video, **how):
        latents = plain(autoencoder, video, **how)
        generator = torch.Generator().manual_seed(int(1000 * video.double().abs().sum()))
        return latents + 0.5 * torch.randn(latents.shape, generator=generator)

    monkeypatch.setattr(video_decoder_task, "encode", noisy)


def held_out(task) -> dict[str, float]:
    batches = [task.batch(10**6 + i) for i in range(4)]
    with torch.no_grad():
        each = [task.loss(batch, torch.Generator()) for batch in batches]
    return {key: float(sum(one[key] for one in each)) / 4 for key in ("loss", "flicker", "psnr")}


def test_layers_learn_in_time_what_single_frames_cannot_tell(noise_of_each_frame, tmp_path):
    """On held-out videos: PSNR rises and flicker falls, by more than with layers of kernel 1, which
    see single frames only."""
    found = {}
    for kernel in (3, 1):
        changes = (
            "steps=40", "batch=1", "learning_rate=5e-3", "data.size=32", "data.max_size=32",
            "data.losses.disc_weight=0", "precision=bf16", f"model.kernel={kernel}",
        )  # fmt: skip
        task = build_task(toy("autoencoder", *changes), tmp_path)
        before = held_out(task)
        folder = tmp_path / str(kernel)
        train(task.recipe, task, folder, device=CPU, workers=0, report=lambda _: None)
        after = held_out(task)
        assert after["loss"] < before["loss"] and after["psnr"] > before["psnr"]
        found[kernel] = after["flicker"] / before["flicker"]
    assert found[3] < 0.93
    assert found[3] < found[1] - 0.02
