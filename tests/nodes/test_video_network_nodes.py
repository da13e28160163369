"""Networks made for video through the nodes: loading, sampling in latent frames, and their VAE."""

from __future__ import annotations

import factorised_toys as toys
import pytest
import torch
from model_toys import fill, normal
from node_inputs import strategy
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModel
from videoldm.core.families import lvdm, videocrafter
from videoldm.core.families.video_parts import VideoParts
from videoldm.core.networks.autoencoder_3d import Autoencoder3DConfig
from videoldm.core.networks.conditions import Conditions
from videoldm.core.networks.image_resampler import ImageResampler, ResamplerConfig
from videoldm.core.tasks.segment import SegmentCondition
from videoldm.nodes.host import host
from videoldm.nodes.host.interface import Guidance
from videoldm.nodes.host.shared.conditioning import with_frames
from videoldm.nodes.host.shared.image_prompter import ImagePrompter
from videoldm.nodes.host.shared.image_tokens import with_image
from videoldm.nodes.host.standalone.model import StandaloneModel, denoiser_for

FACTORS = Autoencoder3DConfig(width=16, factors=(2, 2, 2), scale=0.5, shift=1.5)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A network conditioned on frames with its autoencoder beside it, one conditioned on text, and
    one file with raw and averaged weights."""
    folder = tmp_path_factory.mktemp("models") / "videoldm"
    lvdm.save_model(folder / "own.safetensors", toys.network("given frames"), FACTORS, {})
    embedded_header = lvdm.autoencoder_header(FACTORS, {})
    lvdm.save(folder / lvdm.BESIDE, toys.autoencoder().state_dict(), embedded_header)
    alone = dict(average=False, first_stage=False)
    text = {k: v.contiguous() for k, v in toys.checkpoint("text", **alone).items()}
    save_file(text, folder / "text.safetensors")
    both = toys.checkpoint("unconditional", first_stage=False)
    save_file({k: v.clone().contiguous() for k, v in both.items()}, folder / "two.safetensors")
    return folder.parent


@pytest.fixture
def run(models, run_on):
    return run_on(models)


@pytest.fixture
def own(run):
    """MODEL, VAE and the empty prompt of the network conditioned on frames."""
    model, _, _, vae, clip = run("VideoLDM_LoadVideoModel", model="own.safetensors")
    return model, vae, host.encode_text(clip, "")


def sampled(run, own, **more):
    model, _, prompt = own
    given = dict(model=model, positive=prompt, negative=prompt, width=16, height=16, steps=2)
    given |= dict(seed=4, cfg=1.0, sampler_name="ddim", schedule="as published")
    return run("VideoLDM_VideoSampler", **given | more)["samples"]


def test_lengths_are_frames_and_latents_have_a_time_axis(run, own):
    made = sampled(run, own, frames=8)
    assert made.shape == (1, 4, 4, 8, 8)
    assert host.facts(own[0]).temporal_factor == 2


def test_a_length_that_does_not_fit_names_the_two_nearest(run, own):
    with pytest.raises(ValueError, match="frames 7 does not fit.*take 6 or 8"):
        sampled(run, own, frames=7)


def test_context_positions_are_frames_as_well(run, own):
    given = {"samples": normal(1, 4, 2, 8, 8)}
    how = strategy("single clip", context_positions="4, -1", hold_context=True)
    made = sampled(run, own, frames=8, context=given, **how)
    assert torch.allclose(made[:, :, [2, 3]], given["samples"], atol=1e-5)
    how = strategy("single clip", context_positions="4, 5", hold_context=True)
    with pytest.raises(ValueError, match="the frames 4 and 5, which share one latent frame"):
        sampled(run, own, frames=8, context=given, **how)


def test_a_long_video_is_predicted_and_filled_in(run, own):
    long = strategy(
        "hierarchical", window=6, context_frames=2, passes=1, interpolation_model=own[0],
        perturbation=100, context_guidance=1.1,
    )  # fmt: skip
    made = sampled(run, own, frames=34, **long)
    assert made.shape == (1, 4, 17, 8, 8) and torch.isfinite(made).all()
    again = sampled(run, own, frames=34, **long)
    assert torch.equal(made, again)


SCRIPT = dict(window=8, context_frames=2, passes=1, perturbation=100, context_guidance=1.1)


def test_as_published_a_third_of_the_gaps_is_filled_in(run, own, caplog):
    long = strategy("hierarchical", **SCRIPT, interpolation_model=own[0], as_published=True)
    made = sampled(run, own, frames=40, **long)
    # 7 key frames in two windows, of which the first 3 are filled in between.
    assert made.shape == (1, 4, 9, 8, 8) and torch.isfinite(made).all()
    assert "as published, the video has 18 frames, not 40" in caplog.text
    right = sampled(run, own, frames=40, **strategy("hierarchical", **SCRIPT,
                                                    interpolation_model=own[0]))  # fmt: skip
    assert torch.equal(made[:, :, 0], right[:, :, 0])  # the first window has no context


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(window=6), "as published, window is 8, not 6"),
        (dict(context_frames=4), "as published, context_frames is 2, not 4"),
        (dict(passes=2), "as published, passes is 1, not 2"),
    ],
)
def test_the_published_script_knows_its_own_lengths_alone(run, own, changes, message):
    long = strategy("hierarchical", **SCRIPT | changes, interpolation_model=own[0],
                    as_published=True)  # fmt: skip
    with pytest.raises(ValueError, match=message):
        sampled(run, own, frames=40, **long)


def interpolated(run, own, keys, **more):
    model, _, prompt = own
    given = dict(model=model, positive=prompt, negative=prompt, latent={"samples": keys}, passes=1)
    given |= dict(steps=2, seed=4, cfg=1.0, sampler_name="ddim", schedule="as published")
    return run("VideoLDM_InterpolateFrames", **given | more)["samples"]


def test_key_frames_are_filled_in_as_in_a_long_video(run, own):
    long = strategy("hierarchical", **SCRIPT, interpolation_model=own[0])
    whole = sampled(run, own, frames=26, **long)
    keys = whole[:, :, ::4]
    filled = interpolated(run, own, keys, context_guidance=1.1, perturbation=100)
    assert (filled - whole).norm() < 1e-4 * whole.norm()
    plain = interpolated(run, own, keys)
    assert (plain - whole).norm() > 1e-2 * whole.norm()


def test_words_for_a_model_without_text_are_refused(run):
    clip = run("VideoLDM_LoadVideoModel", model="own.safetensors")[4]
    with pytest.raises(ValueError, match="trained without text, but the prompt has 2 words"):
        host.encode_text(clip, "a dog")


def test_both_sets_of_weights_are_offered(run):
    given = dict(model="two.safetensors", latents_of="sky")
    raw, average = (
        run("VideoLDM_LoadVideoModel", **given, weights=one)[0].core.network.conv_in.weight
        for one in ("raw", "average")
    )
    published = run("VideoLDM_LoadVideoModel", **given)[0].core.network.conv_in.weight
    assert not torch.equal(raw, average) and torch.equal(raw, published)


def test_a_network_made_for_video_has_no_layers_for_other_models(run, own):
    layers = run("VideoLDM_LoadVideoModel", model="own.safetensors")[1]
    with pytest.raises(ValueError, match="no temporal layers for other image models"):
        layers.spec.layers  # noqa: B018


def test_core_s_ksampler_samples_it_on_five_axes(run, own):
    model, _, prompt = own
    made = run(
        "KSampler", model=model, seed=1, steps=2, cfg=1.0, sampler_name="euler",
        scheduler="normal", positive=prompt, negative=prompt, denoise=1.0,
        latent_image={"samples": torch.zeros(1, 4, 3, 8, 8)},
    )  # fmt: skip
    assert made["samples"].shape == (1, 4, 3, 8, 8) and made["samples"].any()


@pytest.mark.parametrize(("misfit", "frames"), [("repeat the last", 6), ("crop", 4)])
def test_frames_that_do_not_fit_are_refused_repeated_or_cropped(run, own, misfit, frames):
    images = torch.rand(5, 16, 16, 3)
    with pytest.raises(ValueError, match="5 frames do not fit.*of 2: load 4 or 6"):
        run("VideoLDM_TemporalVAEEncode", images=images, vae=own[1])
    latents = run("VideoLDM_TemporalVAEEncode", images=images, vae=own[1], misfit=misfit)
    assert latents["samples"].shape == (1, 4, frames // 2, 8, 8)


def test_a_long_video_is_decoded_in_blended_chunks(run, own):
    samples = {"samples": normal(1, 4, 12, 8, 8)}
    chunks = run("VideoLDM_TemporalVAEDecode", samples=samples, vae=own[1], chunk=12, overlap=4)
    whole = run("VideoLDM_TemporalVAEDecode", samples=samples, vae=own[1], chunk=24)
    assert chunks.shape == whole.shape == (24, 16, 16, 3)
    assert (chunks - whole).abs().mean() < 0.1  # close, but not equal: the decoder is not local


def test_an_image_stands_beside_the_prompt(run):
    torch.manual_seed(0)
    small = dict(hidden_size=16, num_attention_heads=2, intermediate_size=16)
    vision = CLIPVisionConfig(**small, num_hidden_layers=1, image_size=28, patch_size=14)
    sizes = dict(width=16, depth=1, heads=2, head_width=8, queries=3, embedding=16, out=12)
    resampler = fill(ImageResampler(ResamplerConfig(**sizes, expansion=2)), 0)
    alone = dict(average=False, first_stage=False)
    model = videocrafter.assemble(toys.checkpoint("videocrafter image", **alone), "a").model
    found = VideoParts(
        model=model, image_encoder=CLIPVisionModel(vision).eval(), resampler=resampler
    )
    prompt = [[normal(1, 7, 24), {}]]
    given = dict(positive=prompt, negative=prompt, clip_vision=ImagePrompter(found), fps=8)
    images = torch.rand(1, 20, 30, 3)
    positive, negative = run("VideoLDM_ImagePrompt", **given, image=images)
    tokens = positive[0][1]["videoldm_image_tokens"]
    assert tokens.shape == (1, 3, 12)
    assert not torch.equal(tokens, negative[0][1]["videoldm_image_tokens"])
    with pytest.raises(ValueError, match="connect that of a model that reads an image"):
        run("VideoLDM_ImagePrompt", **given | {"clip_vision": object()}, image=images)


def test_an_image_stands_beside_a_prompt_for_every_frame():
    alone = dict(average=False, first_stage=False)
    core = videocrafter.assemble(toys.checkpoint("videocrafter image", **alone), "a").model
    image, texts = normal(1, 3, 12), [normal(1, 7, 24, seed=seed) for seed in (1, 2)]
    halves = [with_frames(with_image([[text, {}]], image), start, start + 2)[0]
              for text, start in zip(texts, (0, 2), strict=True)]  # fmt: skip
    condition, x = SegmentCondition(frames=range(4)), normal(1, 4, 4, 8, 8)
    made = denoiser_for(StandaloneModel(core=core), halves, halves, Guidance())(condition)
    each = torch.stack([texts[0], texts[0], texts[1], texts[1]], dim=1)
    wanted = Conditions(text=each, image=image[:, None].expand(-1, 4, -1, -1))
    with torch.no_grad():
        found = made(x, torch.tensor(2.0))
        assert torch.allclose(found, core.denoiser(wanted)(x, torch.tensor(2.0)), atol=1e-5)


def test_a_network_in_our_own_format_finds_its_autoencoder_beside_it(models):
    found = lvdm.load_parts(models / "videoldm" / "own.safetensors", hints=lvdm.CheckpointHints())
    assert found.autoencoder.config == FACTORS
