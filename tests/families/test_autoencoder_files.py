"""Autoencoders in files of their own, in every naming that circulates."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from test_model_files import ONE, QUERY, TO_Q, VAE, linear_attention, old_attention
from videoldm.core.families import stable_diffusion_autoencoders as autoencoders
from videoldm.core.families import stable_diffusion_keys as keys
from videoldm.core.families.stable_diffusion_specs import autoencoder_config
from videoldm.core.weights.checkpoints import CheckpointError

WIDTHS = (32, 64)
CONFIG = autoencoder_config(WIDTHS, 0.18215) | {"layers_per_block": 1}


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(3)
    return AutoencoderKL(**CONFIG).eval()


VAES = {
    "ldm": lambda s, d: s,
    "ldm, first_stage_model.": lambda s, d: {VAE + k: v for k, v in s.items()},
    "ldm, vae.": lambda s, d: {f"vae.{k}": v for k, v in s.items()},
    "ldm, to_q": lambda s, d: old_attention(s, TO_Q),
    "ldm, to_q, linear": lambda s, d: linear_attention(old_attention(s, TO_Q)),
    "ldm, query": lambda s, d: old_attention(s, QUERY),
    "ldm, query, linear": lambda s, d: linear_attention(old_attention(s, QUERY)),
    "ldm, linear": lambda s, d: linear_attention(s),
    "leftovers": lambda s, d: s | {"loss.logvar": ONE, "loss.discriminator.main.0.weight": ONE,
                                   "model_ema.decay": ONE, "global_step": ONE, "num_updates": ONE,
                                   "loss.perceptual_loss.lin0.model.1.weight": ONE},
    "diffusers": lambda s, d: d,
    "diffusers, vae.": lambda s, d: {f"vae.{k}": v for k, v in d.items()},
    "diffusers, before 0.14": lambda s, d: {
        k.replace("0.to_q.", "0.query.").replace("0.to_k.", "0.key.").replace("0.to_v.", "0.value.")
        .replace("0.to_out.0.", "0.proj_attn."): v for k, v in d.items()},
    "diffusers, convolutions": lambda s, d: {
        k: v[..., None, None] if ".attentions.0.to_" in k and v.ndim == 2 else v
        for k, v in d.items()},
}  # fmt: skip


@pytest.mark.parametrize("spelling", VAES)
def test_all_spellings_of_a_vae_load_to_the_same_outputs(vae, spelling, tmp_path):
    plain = dict(vae.state_dict())
    state = VAES[spelling](keys.autoencoder_to_ldm(plain, 2, 1), plain)
    save_file({k: v.clone().contiguous() for k, v in state.items()}, tmp_path / "a.safetensors")
    loaded = autoencoders.load(tmp_path / "a.safetensors")
    assert loaded.config.block_out_channels == WIDTHS
    pixels = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        latents = [one.encode(pixels).latent_dist.mean for one in (vae, loaded)]
        torch.testing.assert_close(*latents, rtol=1e-5, atol=1e-5)
        pictures = [one.decode(latents[0]).sample for one in (vae, loaded)]
        torch.testing.assert_close(*pictures, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", ["ldm", "diffusers"])
@pytest.mark.parametrize("quant", [True, False])
def test_a_decoder_alone_decodes(vae, layout, quant, tmp_path):
    plain = dict(vae.state_dict())
    state = keys.autoencoder_to_ldm(plain, 2, 1) if layout == "ldm" else plain
    ends = ("decoder.", "post_quant_conv.", *(("quant_conv.",) if quant else ()))
    own = {k: v.clone().contiguous() for k, v in state.items() if k.startswith(ends)}
    save_file(own, tmp_path / "a.safetensors")
    loaded = autoencoders.load(tmp_path / "a.safetensors")
    assert not hasattr(loaded, "encoder")
    latents = torch.rand(1, 4, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(
            loaded.decode(latents).sample, vae.decode(latents).sample, rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("state, words", [
    ({"decoder.conv_in.weight": torch.ones(8, 4, 3, 3)}, "no autoencoder for images"),
    ({"decoder.conv_in.weight": torch.ones(8, 4, 1, 3, 3)}, "no autoencoder for images"),
    ({"decoder.conv_in.weight": torch.ones(8, 16, 3, 3)},
     "latents of 16 channels, as of Stable Diffusion 3 or Flux; the models here have 4"),
    ({"taesd_decoder.1.weight": ONE}, "holds no autoencoder: it is a small autoencoder for prev"),
    ({"encoder.conv_in.weight": torch.ones(8, 3, 3, 3)}, "holds no autoencoder"),
    ({"double_blocks.0.img_attn.qkv.weight": ONE}, "holds no autoencoder: it is Flux"),
])  # fmt: skip
def test_files_without_such_an_autoencoder_are_named(state, words, tmp_path):
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=words):
        autoencoders.load(tmp_path / "a.safetensors")
