import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from model_toys import fill, normal, seeded, toy_unet
from safetensors.torch import save_file
from videoldm.core.diffusion.preconditioning import discrete
from videoldm.core.diffusion.schedules import scaled_linear
from videoldm.core.families import lavie
from videoldm.core.families import lavie_sampling as sampling
from videoldm.core.families import lavie_upsampling as upsampling
from videoldm.core.families import lora as loras
from videoldm.core.families.lavie_config import KINDS, LavieConfig, detect
from videoldm.core.families.lavie_keys import frequency_keys, split
from videoldm.core.networks.conditions import NOISE_LEVEL, Conditions
from videoldm.core.networks.diffusion_model import DiffusionModel
from videoldm.core.networks.sites import UNetLayout
from videoldm.core.networks.video_unet import VideoUNet, eject
from videoldm.core.tasks import keyframe_conditioning as keyframes
from videoldm.core.tasks.independent_chunks import one_stream
from videoldm.core.tasks.segment import SegmentCondition
from videoldm.core.weights.checkpoints import CheckpointError

MANIFESTS = Path(__file__).parents[1] / "manifests"
TEXT, NEGATIVE = normal(1, 5, 16, seed=1), normal(1, 5, 16, seed=2)
PROMPTS = sampling.Prompts(text=TEXT, negative=NEGATIVE, scale=3.0)


def config_of(kind: str, **changes) -> LavieConfig:
    depths = (0, 1) if kind == "vsr" else (1, 0)
    values = dict(
        kind=kind,
        layout=UNetLayout(channels=(32, 64), layers=1, depths=depths),
        heads=(1, 2),
        context_width=16,
        in_channels={"base": 4, "interpolation": 8, "vsr": 7}[kind],
        norm_groups=8,
        only_cross_attention=(True, False) if kind == "vsr" else (),
        noise_levels=400 if kind == "vsr" else 0,
        modules=("down.0.out", "mid.out", "up.1.out") if kind == "vsr" else (),
    )
    return LavieConfig(**values | changes)


def parts_of(config: LavieConfig, seed: int = 0) -> lavie.Parts:
    parts = lavie.build(config)
    unet, layers = (part.to_empty(device="cpu") for part in (parts.unet, parts.layers))
    for part in (unet, layers):
        for name, parameter in part.named_parameters():
            fans = parameter[0].numel() if parameter.ndim > 1 else 25
            ones = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            drawn = torch.randn(parameter.shape, generator=seeded(seed + len(name)))
            parameter.data = ones + drawn / fans**0.5
    return lavie.Parts(unet.eval(), layers.eval())


def model_of(kind: str, **changes) -> DiffusionModel:
    config = config_of(kind, **changes)
    return lavie.diffusion_model(config, parts_of(config))


# ------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_of_the_published_file_is_used_and_none_is_missing(kind):
    with gzip.open(MANIFESTS / f"lavie_{kind}.json.gz", "rt") as file:
        manifest = json.load(file)
    shapes = manifest["tensors"]
    config = detect(shapes)
    assert config == LavieConfig.from_original(manifest["meta"]["config"])
    with torch.device("meta"):
        state = {k: torch.empty(shape) for k, shape in shapes.items()}
    parts = lavie.assemble(state, config)
    image, temporal = split(state, config)
    assert len(image) + len(temporal) + len(frequency_keys(config)) == len(shapes)
    back = lavie.to_original(parts, config)
    assert {k: list(v.shape) for k, v in back.items()} == shapes
    again = LavieConfig.from_dict(json.loads(json.dumps(config.as_dict())))
    assert again == config


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_both_packings_and_both_kinds_of_file_give_the_same_model(kind, wrapped, dtype, tmp_path):
    config = config_of(kind)
    state = lavie.to_original(parts_of(config), config)
    state = {k: v.to(dtype) for k, v in state.items()}
    torch.save({"ema": state, "step": 5} if wrapped else state, tmp_path / "a.pt")
    lavie.write(tmp_path / "b.safetensors", state, config, dtype=None)
    one = lavie.load(tmp_path / "a.pt", config=config).network.state_dict()
    two = lavie.load(tmp_path / "b.safetensors").network.state_dict()
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    assert all(v.dtype == torch.float32 for v in one.values())


@pytest.mark.parametrize("kind", KINDS)
def test_taking_apart_and_putting_together_changes_nothing(kind):
    config = config_of(kind)
    parts = parts_of(config)
    state = lavie.to_original(parts, config)
    again = lavie.to_original(lavie.assemble(state, config), config)
    assert again.keys() == state.keys() and all(torch.equal(again[k], state[k]) for k in state)


def test_the_header_decides_before_the_shapes_do(tmp_path):
    config = config_of("interpolation", heads=(4, 2))
    lavie.write(tmp_path / "a.safetensors", lavie.to_original(parts_of(config), config), config)
    model = lavie.load(tmp_path / "a.safetensors")
    (layers,) = model.network.sets
    assert layers.spec.layers["down.0.attn.0.block.0"].heads == 4
    assert eject(model.network).config.norm_num_groups == 8


def test_heads_are_told_by_the_biases():
    config = config_of("base")
    shapes = {k: v.shape for k, v in lavie.to_original(lavie.build(config), config).items()}
    assert detect(shapes, norm_groups=8) == config


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda s: s.pop("conv_out.bias"), "lacks keys \\(1\\): conv_out.bias"),
        (lambda s: s.update({"more.weight": torch.ones(1)}), "unknown keys \\(1\\): more.weight"),
        (lambda s: s.update({"conv_out.bias": torch.ones(5)}), "misshapen.*conv_out.bias"),
        (lambda s: s.pop(next(k for k in s if "freqs" in k)), "lacks keys"),
        (lambda s: s.pop(next(k for k in s if "attn_temp.to_q" in k)), "lacks keys"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(change, words, tmp_path):
    config = config_of("base")
    state = lavie.to_original(parts_of(config), config)
    change(state)
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=words):
        lavie.load(tmp_path / "a.pt", config=config)


def test_other_files_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match="no weight file"):
        lavie.load(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("not weights")
    with pytest.raises(CheckpointError, match="text.pt"):
        lavie.load(tmp_path / "text.pt")
    torch.save({"ema": {"a": 3}}, tmp_path / "numbers.pt")
    with pytest.raises(CheckpointError, match="no tensor at"):
        lavie.load(tmp_path / "numbers.pt")
    save_file(toy_unet().state_dict(), tmp_path / "image.safetensors")
    with pytest.raises(CheckpointError, match="no LaVie model"):
        lavie.load(tmp_path / "image.safetensors")


# ------------------------------------------------------------------------- image model and layers


def test_its_layers_go_into_another_checkpoint_of_the_same_layout():
    model = model_of("base")
    other = fill(eject(model_of("base").network), seed=7)
    (layers,) = model.network.sets
    host = replace(model.ejected(), network=type(model.network)(other, []))
    moved = host.with_layers(layers)
    x = normal(1, 3, 4, 8, 8)
    out = moved.network(x, torch.tensor(5), Conditions(text=TEXT))
    assert moved.network.image_unet is other and moved.schedule.betas[0].item() == pytest.approx(
        1e-4
    )
    assert not torch.allclose(
        out, model.network(x, torch.tensor(5), Conditions(text=TEXT)), atol=1e-3
    )


def test_a_lora_for_the_image_model_applies():
    model = model_of("base")
    module = "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    factors = {
        f"lora_unet_{module}.lora_down.weight": normal(2, 32),
        f"lora_unet_{module}.lora_up.weight": normal(32, 2),
    }
    unet = model.network.image_unet
    changed = loras.apply(unet, factors)
    before, after = unet.state_dict(), changed.state_dict()
    assert [k for k in before if not torch.equal(before[k], after[k])] == [
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames, height, width", [(1, 4, 4), (3, 5, 7), (9, 6, 3)])
def test_any_number_of_frames_and_any_size(kind, frames, height, width):
    model = model_of(kind)
    x, behind = normal(2, frames, 4, height, width), model.network.spec.concatenated
    given = Conditions(
        text=TEXT.expand(2, -1, -1),
        concatenated=normal(2, frames, behind, height, width, seed=1) if behind else None,
        ids={NOISE_LEVEL: torch.tensor([50, 20])} if kind == "vsr" else {},
    )
    out = model.network(x, torch.tensor([5, 900]), given)
    assert out.shape == x.shape and torch.isfinite(out).all()


# ---------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize("method", ["ddpm", "ddim", "euler"])
@pytest.mark.parametrize("steps", [1, 3, 50])
def test_text_to_video_by_every_method(method, steps):
    how = sampling.plan(method, steps)
    assert len(how.sigmas) == steps + 1
    if steps == 3:
        made = sampling.text_to_video(
            model_of("base"), PROMPTS, normal(1, 3, 4, 4, 4), method=method, steps=steps,
            step_noise=lambda i, x: normal(*x.shape, seed=i),
        )  # fmt: skip
        assert torch.isfinite(made).all()


def test_respaced_timesteps_are_spread_evenly_whatever_their_number():
    """round(k 999 / (N - 1)), but for exact halves, where the original's running sum may fall on
    either side: at 21 steps it gives 499 for 499.5."""
    for steps in range(2, 1001):
        found = sampling.respaced_timesteps(steps).tolist()[::-1]
        assert found[0] == 0 and found[-1] == 999 and len(set(found)) == steps
        for k, got in enumerate(found):
            twice, odd = divmod(2 * k * 999, steps - 1)
            halfway = odd == 0 and twice % 2
            assert abs(2 * got - twice) == 1 if halfway else got == round(k * 999 / (steps - 1))
    assert sampling.respaced_timesteps(21)[10] == 499
    assert sampling.respaced_timesteps(1).tolist() == [0]
    with pytest.raises(ValueError, match="1001"):
        sampling.respaced_timesteps(1001)


def test_guidance_below_one_is_off_where_the_original_has_it_off():
    model, x = model_of("interpolation"), normal(1, 5, 4, 4, 4)
    condition, weak = keyframes.copied_keys(normal(1, 2, 4, 4, 4)), replace(PROMPTS, scale=0.5)
    off = replace(PROMPTS, negative=None)
    made = [sampling.interpolate(model, condition, how, x, steps=1) for how in (weak, off)]
    assert not torch.allclose(*made)
    made = [sampling.text_to_video(model_of("base"), how, x, method="ddim", steps=1)
            for how in (weak, off)]  # fmt: skip
    assert torch.equal(*made)


def test_layers_bring_their_schedule_and_leave_with_it():
    (layers,) = model_of("base").network.sets
    unet = fill(eject(model_of("base").network), seed=7)
    eps = discrete("eps", scaled_linear())
    host = DiffusionModel(network=VideoUNet(unet, []), preconditioning=eps, factor=8,
                          latent_scale=0.18215)  # fmt: skip
    video = host.with_layers(layers).with_layers(layers)
    assert video.schedule.betas[-1].item() == pytest.approx(2e-2)
    assert video.ejected().schedule is host.schedule


def test_euler_tells_the_network_real_timesteps():
    how = sampling.plan("euler", 50)
    expected = torch.linspace(999, 0, 50, dtype=torch.float64)
    told = how.schedule.timestep(how.sigmas[:-1]).double()
    torch.testing.assert_close(told, expected, atol=2e-3, rtol=0)
    assert how.sigmas[0].item() == pytest.approx(157.4072723, rel=1e-6)


def test_guidance_is_off_at_scale_1():
    model, x = model_of("base"), normal(1, 2, 4, 4, 4)
    guided = replace(PROMPTS, scale=1.0).denoiser(model, SegmentCondition(frames=range(x.shape[1])))
    plain = model.denoiser(Conditions(text=TEXT))
    assert torch.equal(guided(x, torch.tensor(2.0)), plain(x, torch.tensor(2.0)))


def test_key_frame_k_serves_the_frames_around_it():
    assert keyframes.key_of_frame(4).tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3]
    assert keyframes.key_of_frame(1).tolist() == [0]
    for keys in range(1, 40):
        frames = keyframes.key_of_frame(keys)
        assert len(frames) == 4 * keys - 3
        assert frames[::4].tolist() == list(range(keys))
    with pytest.raises(ValueError, match="at least 1 key frame, got 0"):
        keyframes.key_of_frame(0)


def test_a_clip_is_stretched_to_two_frames_or_more():
    assert sampling.stretched_frames(5, 2) == [0, 4] and sampling.stretched_frames(1, 2) == [0, 0]
    for length, frames in ((0, 61), (5, 1)):
        with pytest.raises(ValueError, match=f"got {length} and {frames}"):
            sampling.stretched_frames(length, frames)


def test_long_interpolations_are_made_in_windows_that_agree_with_their_own_keys():
    model, keys = model_of("interpolation"), normal(1, 5, 4, 4, 4)
    condition, noise = keyframes.copied_keys(keys), normal(1, 17, 4, 4, 4, seed=3)
    short = dict(steps=2, windows=sampling.KeyWindows(9, 5))
    made = sampling.interpolate(model, condition, PROMPTS, noise, **short)
    assert made.shape == noise.shape
    # A window's part of the condition is what its own key frames alone would give.
    assert torch.equal(condition[:, 8:17], keyframes.copied_keys(keys[:, 2:]))
    with pytest.raises(ValueError, match="do not begin on key frames"):
        windows = sampling.KeyWindows(9, 4)
        sampling.interpolate(model, condition, PROMPTS, noise, steps=2, windows=windows)


def test_windows_of_the_published_length_share_13_frames_and_fade_into_each_other():
    """157 frames in windows of 61 that begin at 0, 48 and 96; the weight of a frame falls with its
    distance from the middle of its window."""
    begun = []

    def denoiser_for(told):
        begun.append((told.frames.start, told.frames.stop))
        return lambda x, sigma: torch.full_like(x, float(told.frames.start))

    frames = torch.zeros(1, 157, 1, 1, 1)
    denoise = keyframes.interpolating_denoiser(denoiser_for, frames)
    made = denoise(frames, torch.tensor(1.0))[0, :, 0, 0, 0]
    assert begun == [(0, 61), (48, 109), (96, 157)]
    assert made[:48].unique() == 0 and made[61:96].unique() == 48 and made[109:].unique() == 96
    earlier, later = torch.arange(13, 0, -1.0), torch.arange(1, 14.0)
    torch.testing.assert_close(made[48:61], 48 * later / (earlier + later))


def test_interpolation_takes_windows_of_the_published_length_by_itself():
    model, begun = model_of("interpolation"), set()
    model.network.register_forward_pre_hook(
        lambda _, inputs: begun.add(round(inputs[2].concatenated[0, 0, 0, 0, 0].item()))
    )
    condition = torch.arange(157.0).reshape(1, -1, 1, 1, 1).expand(1, -1, 4, 2, 2)
    sampling.interpolate(model, condition, PROMPTS, normal(1, 157, 4, 2, 2), steps=1)
    assert begun == {0, 48, 96}


@pytest.mark.parametrize("window, overlap", [(10, 2), (9, 4), (9, 9), (9, -3)])
def test_windows_that_do_not_begin_and_end_on_key_frames_are_refused(window, overlap):
    frames = torch.zeros(1, 17, 4, 2, 2)
    with pytest.raises(ValueError, match=f"of {window} frames that share {overlap} do not begin"):
        keyframes.interpolating_denoiser(lambda told: None, frames, window=window, overlap=overlap)


def test_the_variant_with_a_mask():
    model, mask = model_of("interpolation", in_channels=9), keyframes.generated_mask(9)
    assert mask.tolist() == [0, 1, 1, 1, 0, 1, 1, 1, 0]
    condition = keyframes.masked_latents(normal(1, 9, 4, 4, 4), mask)
    made = sampling.interpolate(model, condition, PROMPTS, normal(1, 9, 4, 4, 4), steps=2)
    assert made.shape == (1, 9, 4, 4, 4)
    with pytest.raises(ValueError, match="5 channels"):
        sampling.interpolate(model, condition[:, :, 1:], PROMPTS, normal(1, 9, 4, 4, 4), steps=2)


def test_chunks_are_independent_and_draw_from_one_stream():
    model, low_res = model_of("vsr"), normal(1, 5, 3, 4, 6).clamp(-1, 1)
    noise = one_stream(seeded(10))
    short = dict(steps=2, how=upsampling.Chunks(chunk=3))
    made = list(upsampling.upsample_chunks(model, low_res, PROMPTS, noise, **short))
    assert [chunk.shape[1] for chunk in made] == [3, 2]
    again = one_stream(seeded(10))
    for shape in ((1, 3, 3, 4, 6), (1, 3, 4, 4, 6)):
        again(shape)
    (last,) = upsampling.upsample_chunks(model, low_res[:, 3:], PROMPTS, again, **short)
    torch.testing.assert_close(last, made[1])


def test_blended_windows_do_not_depend_on_length_where_they_are_the_same():
    model, low_res = model_of("vsr"), normal(1, 7, 3, 4, 4).clamp(-1, 1)
    how = upsampling.Chunks(chunk=4, overlap=2)
    short = dict(steps=2, how=how)
    made = upsampling.upsample_blended(model, low_res, PROMPTS, 3, **short)
    assert made.shape == (1, 7, 4, 4, 4) and torch.isfinite(made).all()
    again = upsampling.upsample_blended(model, low_res[:, :4], PROMPTS, 3, **short)
    torch.testing.assert_close(again[:, :1], made[:, :1], atol=0.5, rtol=1)
    how = replace(how, tile=3, tile_overlap=1)
    tiles = upsampling.upsample_blended(model, low_res, PROMPTS, 3, steps=2, how=how)
    assert tiles.shape == made.shape


def test_the_network_never_sees_more_than_one_chunk():
    model, seen = model_of("vsr"), []
    model.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    low_res = normal(1, 19, 3, 4, 4)
    upsampling.upsample_blended(model, low_res, PROMPTS, 0, steps=1)
    chunks = upsampling.upsample_chunks(
        model, iter(low_res.split(3, dim=1)), PROMPTS, one_stream(seeded()), steps=1
    )
    assert sum(chunk.shape[1] for chunk in chunks) == 19
    assert set(seen) == {8, 3}


def test_the_noise_level_has_a_limit():
    model, low_res = model_of("vsr"), normal(1, 2, 3, 4, 4)
    assert model.max_noise_level == 350
    with pytest.raises(ValueError, match="351"):
        upsampling.upsample_blended(
            model, low_res, PROMPTS, 0, how=upsampling.Chunks(noise_level=351)
        )


def test_two_schedules_are_in_play():
    model = model_of("vsr")
    noised = upsampling.noised_low_res(model, torch.ones(1, 1, 1, 1, 1), torch.zeros(1), 50)
    assert noised.item() == pytest.approx(0.995411, abs=1e-6)
    assert model.schedule.betas[500] != model.noise_schedule_for_low_res.betas[500]


def test_bytes():
    values = torch.tensor([-1.2, -1, 0.0, 0.999, 1.1])
    assert upsampling.rounded_bytes(values).tolist() == [0, 0, 128, 255, 255]
    assert upsampling.truncated_bytes(values).tolist() == [0, 0, 127, 254, 255]
