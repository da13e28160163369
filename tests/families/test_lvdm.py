import factorised_toys as toys
import pytest
import torch
from diffusers import AutoencoderKL
from model_toys import normal
from safetensors.torch import save_file
from videoldm.core.diffusion.schedules import scaled_linear
from videoldm.core.families import factorised_files as files
from videoldm.core.families import factorised_keys as keys
from videoldm.core.families import lvdm, videocrafter
from videoldm.core.families.factorised_config import FACTORS, unet_config
from videoldm.core.networks.autoencoder_3d import Autoencoder3D
from videoldm.core.networks.conditions import Conditions
from videoldm.core.weights.checkpoints import CheckpointError

TOY = lvdm.LvdmHints(autoencoder=toys.AUTOENCODER, task="prediction")
SKY = lvdm.LvdmHints(data="sky", task="interpolation")
PARAMETERS = {
    "lvdm_short_sky": 548_904_580,
    "lvdm_long_sky_pred": 549_163_908,
    "lvdm_long_sky_interp": 549_181_060,
    "lvdm_t2v": 958_924_964,
}


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


# ---------------------------------------------------------------------------- published names


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_key_of_a_published_file_is_used_and_none_is_missing(name):
    state = toys.manifest(name)
    found = lvdm.assemble(state, name, SKY, device="meta")
    assert count(found.model.network) == PARAMETERS[name]
    back = {k: v.shape for k, v in lvdm.to_original(found).items()}
    assert {k: state[k].shape for k in back} == back
    assert {k for k in state if k.startswith(lvdm.UNET)} <= back.keys()
    if isinstance(found.autoencoder, Autoencoder3D):
        assert count(found.autoencoder) == 19_446_759
        assert {k for k in state if k.startswith(lvdm.AUTOENCODER)} <= back.keys()
    else:
        assert count(found.autoencoder) == 83_653_863
        assert count(found.text_encoder) == 123_060_480
    if name != "lvdm_t2v":
        average = lvdm.assemble(state, name, SKY, weights="average", device="meta")
        assert count(average.model.network) == PARAMETERS[name]


def test_the_sizes_of_the_published_networks_are_read_off_their_shapes():
    unet = files.take_apart(toys.manifest("lvdm_long_sky_interp"), "a").unet
    config = unet_config({k: v.shape for k, v in unet.items()})
    assert config.channels == (256, 512, 768, 1024) and config.layers == 3
    assert config.attended == (False, True, True, True) and config.scale_shift
    assert config.attention.heads == 4 and config.attention.max_distance == 5
    assert config.given.levels == 251
    unet = files.take_apart(toys.manifest("lvdm_t2v"), "a").unet
    config = unet_config({k: v.shape for k, v in unet.items()})
    assert config.channels == (320, 640, 1280, 1280) and config.layers == 2
    assert config.attended == (True, True, True, False) and not config.scale_shift
    assert config.attention.heads == 8 and config.attention.text == 768


def test_a_training_checkpoint_of_the_autoencoder_is_read_without_its_losses(tmp_path):
    state = toys.manifest("lvdm_ae_sky_training_ckpt")
    assert sum(k.startswith("loss.") for k in state) == 56
    inner = {k: v for k, v in state.items() if not k.startswith("loss.")}
    module = lvdm.autoencoder_of(inner, SKY, "a")
    assert count(module) == 19_446_759 and module.config.factors == (4, 8, 8)
    assert keys.autoencoder_to_original(module.state_dict(), module.config).keys() == inner.keys()
    own = keys.autoencoder_to_original(toys.autoencoder().state_dict(), toys.AUTOENCODER)
    losses = {"loss.logvar": torch.zeros(()), "loss.discriminator.main.0.weight": torch.zeros(1)}
    torch.save({"epoch": 3, "state_dict": own | losses}, tmp_path / "ae.ckpt")
    loaded = lvdm.load_autoencoder(tmp_path / "ae.ckpt", TOY)
    assert equal(loaded.state_dict(), toys.autoencoder().state_dict())


@pytest.mark.parametrize("name", toys.CONFIGS)
def test_names_and_sizes_go_both_ways(name):
    config, own = toys.CONFIGS[name], toys.network(name).state_dict()
    original = keys.unet_to_original(own, config)
    assert unet_config({k: v.shape for k, v in original.items()}) == config
    assert equal(keys.unet_from_original(original, config), own)


def test_of_a_weight_that_is_listed_twice_the_inner_one_is_used():
    own = toys.autoencoder().state_dict()
    original = keys.autoencoder_to_original(own, toys.AUTOENCODER)
    assert len(original) - len(own) == sum(k.endswith(".conv.weight") for k in original)
    outer = {k: v + 1 if f"{k[:-7]}.conv.weight" in original else v for k, v in original.items()}
    assert equal(keys.autoencoder_from_original(outer, toys.AUTOENCODER), own)


# ------------------------------------------------------------------------------ files at toy size


@pytest.mark.parametrize(
    "packing", ["lightning", "plain", "safetensors", "deepspeed", "several GPUs", "compiled"]
)
def test_every_packing_gives_the_same_model(packing, tmp_path):
    state = toys.checkpoint("unconditional")
    path = tmp_path / ("a.safetensors" if packing == "safetensors" else "a.ckpt")
    if packing == "lightning":
        best = {"callbacks": {}, "optimizer_states": [], "lr_schedulers": []}
        torch.save({"epoch": 7, "global_step": 1, "state_dict": state, **best}, path)
    elif packing == "deepspeed":
        torch.save({"module": {f"_forward_module.{k}": v for k, v in state.items()}}, path)
    elif packing == "several GPUs":
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    elif packing == "compiled":
        torch.save({k.replace(lvdm.UNET, f"{lvdm.UNET}_orig_mod."): v for k, v in state.items()},
                   path)  # fmt: skip
    elif packing == "plain":
        torch.save(state, path)
    else:
        save_file({k: v.clone() for k, v in state.items()}, path)
    found = lvdm.load(path, TOY)
    assert equal(found.model.network.state_dict(), toys.network("unconditional").state_dict())
    assert equal(found.autoencoder.state_dict(), toys.autoencoder().state_dict())
    assert found.text_encoder is None and found.model.task == ""
    raw = normal(1, 2, 4, 2, 2)
    torch.testing.assert_close(found.model.scaled(raw), found.autoencoder.scaled(raw))
    torch.testing.assert_close(found.model.unscaled(raw), found.autoencoder.unscaled(raw))


@pytest.mark.parametrize("before", ["", "diffusion_model."])
def test_a_u_net_alone_needs_no_prefix(before, tmp_path):
    original = keys.unet_to_original(
        toys.network("unconditional").state_dict(), toys.CONFIGS["unconditional"]
    )
    torch.save({before + key: tensor for key, tensor in original.items()}, tmp_path / "a.ckpt")
    found = lvdm.load(tmp_path / "a.ckpt", TOY)
    assert equal(found.model.network.state_dict(), toys.network("unconditional").state_dict())


@pytest.mark.parametrize(
    "name, weights, seed",
    [
        ("unconditional", "published", 0),
        ("unconditional", "raw", 0),
        ("unconditional", "average", 9),
        ("given frames", "published", 9),
        ("given frames", "raw", 0),
    ],
)
def test_which_weights(name, weights, seed):
    found = lvdm.assemble(toys.checkpoint(name), "a", TOY, weights=weights)
    assert equal(found.model.network.state_dict(), toys.network(name, seed).state_dict())


def test_a_file_without_an_average_says_so():
    state = toys.checkpoint("given frames", average=False)
    with pytest.raises(CheckpointError, match="a.ckpt has no running average"):
        lvdm.assemble(state, "a.ckpt", TOY)
    assert lvdm.assemble(state, "a.ckpt", TOY, weights="raw").model.task == "prediction"
    with pytest.raises(ValueError, match="published, raw, average, not 'ema'"):
        lvdm.assemble(state, "a.ckpt", TOY, weights="ema")


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda s: s.pop("model.diffusion_model.out.2.bias"), r"lacks keys \(1\): conv_out.bias"),
        (lambda s: s.update({"more.weight": torch.ones(1)}), r"unknown keys \(1\): more.weight"),
        (
            lambda s: s.update({"model.diffusion_model.more.weight": torch.ones(1)}),
            r"unknown keys \(1\): more.weight",
        ),
        (
            lambda s: s.update({"model.diffusion_model.out.2.bias": torch.ones(5)}),
            "misshapen.*conv_out.bias",
        ),
        (
            lambda s: s.update({"model.diffusion_model.out.2.weight": torch.ones(4, 32, 3, 3, 3)}),
            "misshapen.*conv_out.weight",
        ),
        (
            lambda s: s.pop("model.diffusion_model.middle_block.1.norm_t.weight"),
            "lacks the key middle_block.1.norm_t.weight",
        ),
        (lambda s: s.pop("first_stage_model.quant_conv.conv.bias"), "lacks keys.*mix_moments"),
        (lambda s: s.pop("model_ema.diffusion_modelout2bias"), "running average .* lacks keys"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(change, words):
    state = toys.checkpoint("unconditional")
    change(state)
    with pytest.raises(CheckpointError, match=words):
        lvdm.assemble(state, "a.ckpt", TOY, weights="average" if "average" in words else "raw")


def test_what_weights_do_not_tell_must_be_said():
    state = toys.manifest("lvdm_long_sky_pred")
    with pytest.raises(CheckpointError, match="specify one of sky, taichi, ucf, got None"):
        lvdm.assemble(state, "a", lvdm.LvdmHints(task="prediction"))
    with pytest.raises(CheckpointError, match="specify one of the two, got None"):
        lvdm.assemble(state, "a", lvdm.LvdmHints(data="sky"))
    with pytest.raises(CheckpointError, match="autoencoder of 1 stages do not reveal"):
        lvdm.assemble(toys.checkpoint("unconditional"), "a", SKY)
    hints = lvdm.LvdmHints(data="taichi", task="prediction")
    taichi = lvdm.assemble(state, "a", hints, device="meta").model
    assert taichi.latent_scale == 0.175733933 and taichi.latent_shift == -0.03291025


def test_attention_whose_heads_cannot_be_told_is_refused():
    state = {k: v for k, v in toys.checkpoint("unconditional").items() if "relative" not in k}
    with pytest.raises(
        CheckpointError, match="without relative positions does not reveal its numb"
    ):
        lvdm.assemble(state, "a", TOY)


def test_the_autoencoder_may_be_wider_inside_than_its_latents(monkeypatch):
    monkeypatch.setitem(FACTORS, 1, toys.AUTOENCODER.factors)
    module = toys.autoencoder(latent_channels=6, inner_channels=4)
    original = keys.autoencoder_to_original(module.state_dict(), module.config)
    again = lvdm.autoencoder_of(original, SKY, "a")
    assert again.config.latent_channels == 6 and again.config.inner_channels == 4
    assert equal(again.state_dict(), module.state_dict())
    assert module(module.encode(normal(1, 2, 3, 4, 4))).shape == (1, 2, 3, 4, 4)


def test_other_files_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match="it is a 3D autoencoder alone"):
        lvdm.assemble(toys.manifest("lvdm_ae_sky_training_ckpt"), "a", SKY)
    with pytest.raises(
        CheckpointError, match="not an LVDM model: it is a video model .VideoCrafter"
    ):
        lvdm.assemble(toys.manifest("videocrafter2_t2v_512"), "a", SKY)
    with pytest.raises(CheckpointError, match="holds no 3D autoencoder"):
        torch.save(toys.checkpoint("unconditional", first_stage=False), tmp_path / "a.ckpt")
        lvdm.load_autoencoder(tmp_path / "a.ckpt", SKY)
    assert lvdm.detect({"encoder.conv_in.weight": (1, 2, 3, 4)}) is None


def test_kinds_of_files():
    kinds = {
        "lvdm_short_sky": "unconditional",
        "lvdm_long_sky_pred": "given frames",
        "lvdm_t2v": "text to video",
        "lvdm_ae_sky_training_ckpt": "autoencoder",
        "videocrafter1_t2v_512": None,
    }
    for name, kind in kinds.items():
        assert lvdm.detect({k: v.shape for k, v in toys.manifest(name).items()}) == kind


def test_a_loaded_model_denoises():
    found = lvdm.assemble(toys.checkpoint("unconditional"), "a", TOY).model
    x = normal(1, 3, 4, 4, 6)
    made = found.denoiser(Conditions())(x, torch.tensor(2.0))
    assert made.shape == x.shape and torch.isfinite(made).all()
    with pytest.raises(ValueError, match="takes no conditions, but was also given text"):
        found.denoiser(Conditions(text=normal(1, 7, 24)))


# -------------------------------------------------------------------------------- noise schedule


def test_the_noise_levels_are_those_that_the_file_was_trained_with():
    state = toys.checkpoint("unconditional")
    usual = lvdm.assemble(state, "a", TOY).model.schedule
    assert torch.equal(usual.betas, scaled_linear(start=1.5e-3, end=1.55e-2).betas)
    for same in (state | {"betas": state["betas"].half()}, without_betas(state)):
        assert torch.equal(lvdm.assemble(same, "a", TOY).model.schedule.betas, usual.betas)
    other = scaled_linear(500, start=1e-3, end=2e-2).betas
    found = lvdm.assemble(state | {"betas": other.float()}, "a", TOY).model.schedule
    torch.testing.assert_close(found.betas, other, rtol=1e-6, atol=0)
    with pytest.raises(CheckpointError, match="a: its table betas is not a noise schedule"):
        lvdm.assemble(state | {"betas": torch.zeros(1000)}, "a", TOY)


def without_betas(state):
    return {k: v for k, v in state.items() if k != "betas"}


# ------------------------------------------------------------------------- autoencoder of images


def test_the_latents_of_images_have_one_scale_whatever_the_size_of_their_autoencoder():
    levels = 3  # as the autoencoder of Stable Diffusion's upscaler, whose latents have another one
    kinds = {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
    }
    module = AutoencoderKL(block_out_channels=(32,) * levels, latent_channels=4, **kinds)
    state = {f"first_stage_model.{k}": v for k, v in module.state_dict().items()}
    for family, name in ((lvdm, "text"), (videocrafter, "videocrafter 1")):
        alone = toys.checkpoint(name, average=False, first_stage=False)
        found = family.assemble(state | alone, "a")
        assert found.autoencoder.config.scaling_factor == found.model.latent_scale == 0.18215
