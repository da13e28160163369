"""ModelScope's files, network and layers, at full size on the meta device and as toys."""

import pytest
import svd_toys as toys
import torch
from model_toys import normal, toy_unet
from modelscope_toys import CONFIG
from modelscope_toys import unet as toy
from safetensors.torch import save_file
from videoldm.core.families import (
    family_of,
    load_temporal_layers,
    load_video_model,
    modelscope,
    published_plan,
)
from videoldm.core.families import modelscope_keys as keys
from videoldm.core.networks.conditions import Conditions
from videoldm.core.networks.sites import SD2
from videoldm.core.networks.temporal_layers import TemporalLayers
from videoldm.core.networks.temporal_layers_spec import TemporalLayersSpec
from videoldm.core.networks.video_unet import VideoUNet, eject, inject
from videoldm.core.weights.checkpoints import CheckpointError

STEP = torch.tensor([500])
NAMES = ("ldm", "diffusers")


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def same(one, two):
    own, other = one.state_dict(), two.state_dict()
    return own.keys() == other.keys() and all(torch.equal(own[k], other[k]) for k in own)


# ---------------------------------------------------------------------------- published names


@pytest.mark.parametrize("names", NAMES)
def test_every_key_of_a_published_file_is_used_and_none_is_missing(names):
    name = {"ldm": "modelscope_original_unet", "diffusers": "modelscope_diffusers_unet"}[names]
    state = toys.manifest(name)
    unet = modelscope.assemble(state, name)
    assert unet.config.layout == SD2 and unet.config.head_width == 64
    assert unet.config.context_width == 1024
    assert count(unet.image) + count(unet.layers) == 1_411_233_860
    back = modelscope.to_foreign(unet, names)
    assert {k: v.shape for k, v in back.items()} == {k: v.shape for k, v in state.items()}


def test_the_two_namings_agree_on_what_is_what():
    ldm, diffusers = (keys.table(SD2, names) for names in NAMES)
    table = toys.names("modelscope_unet_keymap")
    assert len(table) == 1480
    for old, new in table.items():
        assert keys.rename(old, ldm) == keys.rename(new, diffusers)


# ---------------------------------------------------------------------------- files


@pytest.mark.parametrize("prefix", ("", "model.diffusion_model.", "unet."))
@pytest.mark.parametrize("names", NAMES)
def test_a_file_of_either_naming_is_known_by_its_weights(names, prefix, tmp_path):
    path, unet = tmp_path / "toy.safetensors", toy()
    state = {prefix + k: v.contiguous() for k, v in modelscope.to_foreign(unet, names).items()}
    save_file(state, path)
    name, model = load_video_model(path)
    assert family_of(path).name == name == "modelscope" and model.task == "text to video"
    assert same(model.network.image_unet, unet.image) and same(model.network.sets[0], unet.layers)
    assert same(load_temporal_layers(path), unet.layers)
    assert model.network.spec.takes == ("text", "times", "reference")


def test_a_pickle_and_a_folder_of_diffusers(tmp_path):
    unet = toy()
    torch.save(modelscope.to_foreign(unet, "ldm"), tmp_path / "text2video_pytorch_model.pth")
    (tmp_path / "unet").mkdir()
    state = {k: v.contiguous() for k, v in modelscope.to_foreign(unet, "diffusers").items()}
    save_file(state, tmp_path / "unet" / "diffusion_pytorch_model.safetensors")
    for path in (tmp_path / "text2video_pytorch_model.pth", tmp_path, tmp_path / "unet"):
        assert family_of(path).name == "modelscope"
        assert same(modelscope.load(path).network.sets[0], unet.layers)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"input_blocks.1.0.more.weight": torch.zeros(1)}, "has unknown keys .1.: input_blocks.1"),
        ({"middle_block.3.temopral_conv.conv4.3.bias": None}, "lacks keys .1.: .*mid_res_1"),
        ({"input_blocks.1.0.temopral_conv.conv1.2.weight": None}, "is not a U-Net of ModelScope"),
        ({"out.2.bias": torch.zeros(7)}, "misshapen keys .1.: conv_out.bias"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(change, words):
    state = {**modelscope.to_foreign(toy(), "ldm"), **change}
    with pytest.raises(CheckpointError, match=words):
        modelscope.assemble({k: v for k, v in state.items() if v is not None}, "toy")


def test_other_files_are_not_its_own(tmp_path):
    save_file({"input_blocks.0.0.weight": torch.zeros(4, 4, 3, 3)}, tmp_path / "sd.safetensors")
    assert not modelscope.detects(tmp_path / "sd.safetensors")
    assert not modelscope.detects(tmp_path)


# ---------------------------------------------------------------------------- layers


def host():
    return toy_unet(
        block_out_channels=(32, 64), layers_per_block=1, in_channels=4, norm_num_groups=32,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), cross_attention_dim=24,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=2,
    )  # fmt: skip


def test_its_layers_sit_in_an_image_model_and_come_out_again():
    image, x = host(), normal(1, 3, 4, 8, 8)
    given = Conditions(text=normal(1, 5, 24))
    network = inject(image, toy().layers)
    with torch.no_grad():
        alone = VideoUNet(image, [])(x, STEP, given)
        assert not torch.allclose(network(x, STEP, given), alone)
        ejected = VideoUNet(eject(network), [])(x, STEP, given)
    assert torch.equal(ejected, alone)


def test_made_from_scratch_they_change_nothing():
    image, x = host(), normal(1, 3, 4, 8, 8)
    given = Conditions(text=normal(1, 5, 24))
    with torch.no_grad():
        alone = VideoUNet(image, [])(x, STEP, given)
        fresh = inject(image, TemporalLayers(CONFIG.layers_spec()))(x, STEP, given)
    assert torch.equal(fresh, alone)


def test_their_description_survives_a_file():
    spec = CONFIG.layers_spec()
    assert TemporalLayersSpec.from_dict(spec.as_dict()) == spec
    assert spec.trained.task == "text to video" and "in" in spec.sites


def test_the_order_of_frames_matters_through_the_convolutions_alone():
    layers, h = toy().layers, normal(5, 32, 4, 4)
    attended = layers.at("down.0.attn.0")
    turned = attended(h.flip(0), 5).flip(0)
    torch.testing.assert_close(turned, attended(h, 5), rtol=1e-4, atol=1e-5)
    convolved = layers.at("down.0.res.0")
    assert not torch.allclose(convolved(h.flip(0), 5).flip(0), convolved(h, 5))


def test_settings_as_published():
    plan = published_plan("modelscope", "ddim", 50)
    assert plan.schedule.timestep(plan.sigmas[:2]).round().tolist() == [981, 961]
    # 1000 // 30 is 33, which fits 31 times.
    assert len(published_plan("modelscope", "ddim", 30).sigmas) == 32
    with pytest.raises(ValueError, match="was published with ddim, not with euler"):
        published_plan("modelscope", "euler", 50)
