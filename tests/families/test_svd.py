"""SVD: its files, networks and layers, at full size on the meta device and as toys."""

import re

import pytest
import svd_toys as toys
import torch
from diffusers import AutoencoderKL, UNetSpatioTemporalConditionModel
from model_toys import normal, toy_unet
from safetensors.torch import save_file
from torch import nn
from videoldm.core.families import (
    family_of,
    load_temporal_layers,
    load_video_model,
    svd,
    svd_decoder,
    svd_sampling,
)
from videoldm.core.families import svd_files as files
from videoldm.core.families.open_clip_image import projected_to_open_clip
from videoldm.core.families.stable_diffusion_keys import autoencoder_to_ldm
from videoldm.core.families.svd_config import SvdConfig
from videoldm.core.networks.conditions import AUGMENTATION, FPS_ID, MOTION, Conditions
from videoldm.core.networks.sites import block_sites
from videoldm.core.networks.temporal_decoder import VideoDecoder
from videoldm.core.networks.temporal_layers import TemporalLayers
from videoldm.core.networks.temporal_layers_spec import TemporalLayersSpec
from videoldm.core.networks.video_unet import VideoUNet, inject
from videoldm.core.tasks.decoding import decode
from videoldm.core.tasks.start_image import StartImage
from videoldm.core.weights.checkpoints import CheckpointError

UNET_PARAMETERS = 1_524_623_082
IDS = {FPS_ID: torch.tensor([6.0]), MOTION: torch.tensor([127.0]),
       AUGMENTATION: torch.tensor([0.02])}  # fmt: skip


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def same(one, two):
    own, other = one.state_dict(), two.state_dict()
    return own.keys() == other.keys() and all(torch.equal(own[k], other[k]) for k in own)


def given(frames=3, image_only=None, videos=1, **changes):
    return Conditions(
        image=normal(videos, 1, toys.CONTEXT, seed=2),
        concatenated=normal(videos, frames, 4, 8, 8, seed=3),
        ids=IDS,
        image_only=image_only,
        **changes,
    )


# ---------------------------------------------------------------------------- published names


@pytest.mark.parametrize("name", ("svd_xt_single_file", "svd_image_decoder_single_file"))
def test_every_key_of_a_single_file_is_used_or_named_as_left_over(name):
    state = toys.manifest(name)
    found = svd.assemble(files.take_apart(state, name), name, device="meta")
    assert count(found.model.network) == UNET_PARAMETERS
    used = {files.UNET + k: v for k, v in svd.unet_to_foreign(found.unet, "ldm").items()}
    encoder = found.encoder.state_dict()
    if isinstance(found.decoder, VideoDecoder):
        first = svd_decoder.to_foreign(found.decoder, "ldm")
    else:
        first = autoencoder_to_ldm(found.decoder.state_dict(), 4, 2)
    decoding = [k for k in first if k.startswith(files.DECODER)]
    used |= {files.FIRST_STAGE + k: first[k] for k in decoding}
    ours = {k: v for k, v in encoder.items() if k.startswith(files.ENCODER)}
    used |= {files.CONDITIONER + k: v for k, v in autoencoder_to_ldm(ours, 4, 2).items()}
    visual = projected_to_open_clip(found.image_encoder)
    used |= {f"{files.CLIP}{files.VISUAL}{k}": v for k, v in visual.items()}
    assert {k: v.shape for k, v in used.items()} == {k: state[k].shape for k in used}
    left = state.keys() - used.keys()
    assert all(
        k.startswith((f"{files.FIRST_STAGE}encoder.", f"{files.FIRST_STAGE}quant_conv."))
        or k.startswith((f"{files.CONDITIONER}decoder.", f"{files.CONDITIONER}post_quant_conv."))
        or k.removeprefix(files.CLIP) in files.TEXT_TOWER
        for k in left
    )


def test_files_of_14_and_of_25_frames_have_the_same_keys_and_shapes():
    for end in ("single_file", "image_decoder_single_file"):
        assert toys.names(f"svd_{end}") == toys.names(f"svd_xt_{end}")


def test_the_sizes_of_the_published_network_are_read_off_its_shapes():
    config = svd.detect({k: v.shape for k, v in toys.manifest("svd_unet_only").items()})
    assert config.layout.channels == (320, 640, 1280, 1280)
    assert config.layout.depths == (1, 1, 1, 0) and config.layout.mid_depth == 1
    assert [config.heads(width) for width in config.layout.channels] == [5, 10, 20, 20]
    assert (config.context_width, config.ids_width, config.in_channels) == (1024, 768, 8)
    assert config.kernel == (3, 1) and config.widens_first and config.text_over_time


@pytest.mark.parametrize("name", ("svd_unet_only", "svd_diffusers_unet"))
def test_files_of_the_unet_alone(name):
    unet = svd.assemble_unet(files.take_apart(toys.manifest(name), name).unet, name)
    assert count(unet.image) + count(unet.layers) == UNET_PARAMETERS
    table = toys.names("svd_unet_keymap")
    assert svd.unet_to_foreign(unet, "ldm").keys() == table.keys()
    assert svd.unet_to_foreign(unet, "diffusers").keys() == set(table.values())
    # The two namings agree on every weight.
    first, second = (svd.keys.table(unet.config.layout, one) for one in ("ldm", "diffusers"))
    for ldm, diffusers in table.items():
        assert svd.keys.rename(ldm, first) == svd.keys.rename(diffusers, second)


def test_the_temporal_decoder_of_either_naming():
    first = files.take_apart(toys.manifest("svd_temporal_decoder_first_stage"), "a")
    alone = svd_decoder.from_state(first.encoder | first.decoder, "a")
    folder = svd_decoder.from_state(toys.manifest("svd_diffusers_vae"), "b")
    assert not first.encoder and not hasattr(alone.autoencoder, "encoder")
    assert count(folder) == 97_742_847
    assert count(alone) == 63_579_183 == count(folder) - count(folder.autoencoder.encoder) - 72
    table = toys.names("svd_vae_keymap")
    back = svd_decoder.to_foreign(folder, "diffusers")
    assert back.keys() == set(table.values()) == toys.names("svd_diffusers_vae").keys()


def test_the_image_encoder_of_diffusers():
    state = toys.manifest("svd_diffusers_image_encoder")
    encoder = files.image_encoder_of(files.Parts(image=state), "a", torch.float32)
    assert count(encoder) == 632_076_800 and encoder.config.num_attention_heads == 16


# ---------------------------------------------------------------------------- files


@pytest.fixture(scope="module", params=(True, False), ids=("temporal decoder", "image decoder"))
def single(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("svd") / "toy.safetensors"
    save_file({k: v.contiguous().clone() for k, v in toys.single_file(request.param).items()}, path)
    return path


def test_a_single_file_is_loaded_with_all_of_its_parts(single):
    found = svd.load(single)
    expected = toys.decoder() if isinstance(found.decoder, VideoDecoder) else toys.autoencoder()
    assert same(found.unet.layers, toys.unet().layers)
    if isinstance(found.decoder, VideoDecoder):
        assert same(found.decoder.layers, expected.layers)
    else:
        assert same(found.decoder, expected)
    assert same(found.encoder.encoder, toys.autoencoder().encoder)
    pixels = normal(1, 3, 28, 28)
    with torch.no_grad():
        one, two = (e(pixels).image_embeds for e in (found.image_encoder, toys.image_encoder()))
    torch.testing.assert_close(one, two)


def test_the_registry_knows_it(single):
    name, model = load_video_model(single)
    assert family_of(single).name == name == "svd" and model.task == "image to video"
    assert load_temporal_layers(single).spec == model.sets.specs[0]
    assert model.network.spec.takes == (
        "image",
        "concatenated",
        "image_only",
        "times",
        "reference",
        *IDS,
    )


def test_the_temporal_decoder_is_loaded_alone(single, tmp_path):
    if "decoder.mid.block_1.mix_factor" not in "".join(toys.read_keys(single)):
        with pytest.raises(CheckpointError, match="toy.safetensors holds no temporal decoder"):
            svd.load_decoder(single)
        return
    expected = toys.decoder()
    (tmp_path / "vae").mkdir()
    file = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    state = svd_decoder.to_foreign(expected, "diffusers")
    save_file({k: v.contiguous() for k, v in state.items()}, file)
    for path in (single, file, file.parent, tmp_path):
        assert same(svd.load_decoder(path).layers, expected.layers)


def test_a_folder_of_diffusers(tmp_path):
    parts, decoder, image = toys.unet(), toys.decoder(), toys.image_encoder()
    states = {
        "unet/diffusion_pytorch_model": svd.unet_to_foreign(parts, "diffusers"),
        "vae/diffusion_pytorch_model": svd_decoder.to_foreign(decoder, "diffusers"),
        "image_encoder/model": {
            k if k.startswith(("vision_model.", "visual_projection")) else f"vision_model.{k}": v
            for k, v in image.state_dict().items()
        },
    }
    for name, state in states.items():
        (tmp_path / name).parent.mkdir()
        save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / f"{name}.safetensors")
    found = svd.load(tmp_path)
    assert same(found.unet.image, parts.image) and same(found.unet.layers, parts.layers)
    assert same(found.decoder, decoder) and same(found.image_encoder, image)
    assert family_of(tmp_path).name == "svd" == family_of(tmp_path / "unet").name


@pytest.mark.parametrize(
    "change, words",
    [
        ({f"{files.UNET}input_blocks.1.0.more.weight": 1}, "more.weight"),
        ({"another.weight": 1}, "toy has unknown keys .1.: another.weight"),
        ({f"{files.CLIP}more": 1}, "more"),
        ({f"{files.UNET}input_blocks.1.0.time_mixer.mix_factor": None}, "blend.mix_factor"),
        ({f"{files.FIRST_STAGE}decoder.mid.block_2.mix_factor": None}, "blend.mix_factor"),
        ({f"{files.FIRST_STAGE}decoder.conv_out.time_mix_conv.weight": None}, "layers at.*out"),
        ({f"{files.CLIP}visual.proj": None}, "lacks keys .1.: proj"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(change, words):
    state = toys.single_file()
    for key, value in change.items():
        state.pop(key, None)
        if value is not None:
            state[key] = torch.zeros(value)
    with pytest.raises(CheckpointError, match=words):
        svd.assemble(files.take_apart(state, "toy"), "toy")


def test_other_files_are_refused_in_one_sentence(tmp_path):
    save_file({"input_blocks.0.0.weight": torch.zeros(4, 4, 3, 3)}, tmp_path / "sd.safetensors")
    with pytest.raises(CheckpointError, match="sd.safetensors is not a U-Net of Stable Video"):
        svd.load(tmp_path / "sd.safetensors")
    assert not svd.detects(tmp_path / "sd.safetensors") and not svd.detects(tmp_path)


# ---------------------------------------------------------------------------- networks


def theirs(config: SvdConfig, state) -> UNetSpatioTemporalConditionModel:
    """diffusers' network, with the original's eps in its norms."""
    layout = config.layout
    network = UNetSpatioTemporalConditionModel(
        block_out_channels=layout.channels,
        layers_per_block=layout.layers,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        num_attention_heads=tuple(map(config.heads, layout.channels)),
        cross_attention_dim=config.context_width,
        addition_time_embed_dim=config.ids_width // 3,
        projection_class_embeddings_input_dim=config.ids_width,
    )
    network.load_state_dict(state)
    for name, module in network.named_modules():
        if isinstance(module, nn.GroupNorm) and ".resnets." in name:
            module.eps = 1e-5
    return network.eval()


def test_it_gives_what_another_implementation_gives():
    parts, x, told = toys.unet(), normal(2, 3, 4, 8, 8), given(videos=2)
    network, step = svd.diffusion_model(parts).network, torch.tensor([0.7])
    other = theirs(parts.config, svd.unet_to_foreign(parts, "diffusers"))
    ids = torch.cat(list(IDS.values()))[None].expand(2, -1)
    with torch.no_grad():
        own = network(x, step, told)
        joined = torch.cat([x, told.concatenated], 2)
        expected = other(joined, step, told.image, ids).sample
    torch.testing.assert_close(own, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("names", ("ldm", "diffusers"))
def test_without_a_second_attention_over_time_it_is_as_if_that_answered_nothing(names):
    """The original's disable_temporal_crossattention."""
    whole, x, step = toys.unet(), normal(1, 3, 4, 8, 8), torch.tensor([0.7])
    state = svd.unet_to_foreign(whole, names)
    block = r"(time_stack|temporal_transformer_blocks)\.\d+\.(attn2|norm2)\."
    without = {k: v for k, v in state.items() if not re.search(block, k)}
    assert len(state) - len(without) == 7 * len(list(block_sites(whole.config.layout)))
    unet = svd.assemble_unet(without)
    assert not unet.config.second_over_time
    assert svd.unet_to_foreign(unet, names).keys() == without.keys()
    silent = {k: v * 0 if re.search(r"second_attention\.to_out", k) else v
              for k, v in whole.layers.state_dict().items()}  # fmt: skip
    whole.layers.load_state_dict(silent)
    with torch.no_grad():
        one, other = (svd.diffusion_model(m).network(x, step, given()) for m in (unet, whole))
    torch.testing.assert_close(one, other)


def test_frames_that_are_images_do_not_read_the_layers():
    network = svd.diffusion_model(toys.unet()).network
    x, step = normal(1, 3, 4, 8, 8), torch.tensor([0.7])
    image = network.with_sets([])
    with torch.no_grad():
        alone = image(x, step, given())
        every = network(x, step, given(image_only=torch.ones(1, 3)))
        some = network(x, step, given(image_only=torch.tensor([[0.0, 1.0, 0.0]])))
    # The same modules, called part by part: their sums are in another order.
    torch.testing.assert_close(every, alone)
    torch.testing.assert_close(some[:, 1], alone[:, 1])
    assert not torch.allclose(some[:, 0], alone[:, 0])


def test_made_from_scratch_its_layers_change_nothing():
    config = toys.config_of()
    image = toys.unet().image
    with_layers = inject(image, TemporalLayers(config.layers_spec()), prompt="image")
    x, step = normal(1, 3, 4, 8, 8), torch.tensor([0.7])
    with torch.no_grad():
        without = VideoUNet(image, [], prompt="image")(x, step, given())
        assert torch.allclose(with_layers(x, step, given()), without, atol=1e-5)


def test_its_layers_sit_in_another_image_model_of_the_layout():
    config = toys.config_of()
    host = toy_unet(
        block_out_channels=(32, 64), layers_per_block=1, in_channels=4, norm_num_groups=32,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), cross_attention_dim=toys.CONTEXT,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=1,
    )  # fmt: skip
    network = inject(host, toys.unet().layers)
    assert network.spec.takes == ("text", "image_only", "times", "reference")
    text, x = normal(1, 5, toys.CONTEXT), normal(1, 3, 4, 8, 8)
    with torch.no_grad():
        out = network(x, torch.tensor([500]), Conditions(text=text))
        alone = VideoUNet(host, [])(x, torch.tensor([500]), Conditions(text=text))
    assert out.shape == x.shape and not torch.allclose(out, alone)
    again = TemporalLayersSpec.from_dict(config.layers_spec().as_dict())
    assert again == config.layers_spec()


def test_what_it_needs_and_does_not_take_is_said():
    model = svd.diffusion_model(toys.unet())
    with pytest.raises(ValueError, match="also given text"):
        model.denoiser(given(text=normal(1, 5, toys.CONTEXT)))
    with pytest.raises(ValueError, match="needs fps_id, motion, augmentation, but lacks motion"):
        told = Conditions(image=given().image, ids={FPS_ID: IDS[FPS_ID]})
        model.network(normal(1, 2, 4, 8, 8), torch.tensor([0.7]), told)


def test_sampling_as_published():
    model = svd.diffusion_model(toys.unet())
    start = StartImage(embedding=normal(1, 1, toys.CONTEXT), latents=normal(1, 4, 8, 8))
    noise = normal(1, 3, 4, 8, 8)
    out = svd_sampling.image_to_video(model, start, noise, steps=2)
    assert out.shape == noise.shape and out.isfinite().all()
    levels = svd_sampling.sigmas(model, 25)
    assert levels[0] == pytest.approx(700) and levels[-2] == pytest.approx(0.002)
    assert levels[12] == pytest.approx(15.589973449707031, rel=1e-5)
    # At the first frame, which guidance of 1 leaves alone, it is the denoiser with the image.
    scales = dict(first_scale=1.0, last_scale=2.5)
    guided = svd_sampling.denoiser(model, start, 3, **scales)(noise, torch.tensor(2.0))
    plain = model.denoiser(start.conditions(3))(noise, torch.tensor(2.0))
    torch.testing.assert_close(guided[:, 0], plain[:, 0])
    assert not torch.allclose(guided[:, 2], plain[:, 2])


# ---------------------------------------------------------------------------- decoding


def test_a_chunk_is_a_setting_and_its_seams_can_be_blended():
    decoder, latents = toys.decoder(), normal(1, 6, 4, 4, 4)
    whole = next(decode(decoder, latents, chunk=6))
    apart = torch.cat(list(decode(decoder, latents, chunk=3)), 1)
    with torch.no_grad():
        assert torch.equal(apart[:, 3:], decoder(latents[:, 3:]))
    assert not torch.allclose(apart, whole)
    blended = torch.cat(list(decode(decoder, latents, chunk=3, reach=1)), 1)
    assert blended.shape == whole.shape and not torch.allclose(blended, apart)


def test_without_its_layers_it_is_the_image_decoder():
    decoder, latents = toys.decoder(), normal(1, 2, 4, 4, 4)
    with torch.no_grad():
        frames = decoder.autoencoder.decode(latents[0] / 0.18215).sample
        alone = decoder.with_strength(0.0)(latents)[0]
        torch.testing.assert_close(alone, frames, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(decoder(latents)[0], frames)
    untrained = VideoDecoder(decoder.autoencoder, decoder.spec)
    with torch.no_grad():
        torch.testing.assert_close(untrained(latents)[0], frames)
    with pytest.raises(ValueError, match="no such sites in the decoder: up.7.res.0"):
        VideoDecoder(decoder.autoencoder, {"up.7.res.0": decoder.spec["up.0.res.0"]})


def test_it_decodes_the_latents_of_any_image_model_with_this_autoencoder():
    image = AutoencoderKL(**toys.autoencoder().config)
    decoder = VideoDecoder(image, toys.decoder().spec)
    assert decoder(normal(1, 2, 4, 4, 4)).shape == (1, 2, 3, 8, 8)
