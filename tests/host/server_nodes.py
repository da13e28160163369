"""Custom nodes for the test server: they patch models as other packs do, and report on models.

Copied into the server's custom_nodes; not part of this pack.
"""

import gc
import json
import os

import comfy.cldm.cldm
import comfy.controlnet
import comfy.model_management as manager
import comfy.ops
import torch
from comfy.ldm.modules.attention import optimized_attention
from safetensors.torch import save_file


class TestAttention:
    """Changes cross-attention as IPAdapter and similar packs do, by a patch or per block."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "patch", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "how": (["patch", "replace"],)}}

    def patch(self, model, how):
        model = model.clone()
        if how == "patch":
            model.set_model_attn2_patch(lambda n, context, value, options: (n, context, value * 3))
            return (model,)
        for way, count in (("input", 12), ("middle", 1), ("output", 12)):
            for number in range(count):
                model.set_model_attn2_replace(attend_twice, way, number)
        return (model,)


def attend_twice(q, k, v, options):
    """Attention to the text, plus attention to its reversed features in place of image tokens."""
    heads = options["n_heads"]
    image = optimized_attention(q, k.flip(-1), 2 * v.flip(-1), heads)
    return optimized_attention(q, k, v, heads) + image


class TestControlNet:
    """A ControlNet with random weights for the U-Net of a model."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("CONTROL_NET",), "make", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def make(self, model, **changed):
        config = {**model.model.model_config.unet_config, "hint_channels": 3, **changed}
        config = {key: value for key, value in config.items() if key != "out_channels"}
        config |= {"dtype": torch.float32, "device": "cpu", "operations": comfy.ops.manual_cast}
        network = comfy.cldm.cldm.ControlNet(**config).eval().requires_grad_(False)
        generator = torch.Generator().manual_seed(4)
        for weight in network.parameters():
            spread = weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.1
            weight.data = torch.randn(weight.shape, generator=generator) * spread
        device = manager.get_torch_device()
        return (comfy.controlnet.ControlNet(network, load_device=device),)


class TestSavedControlNet(TestControlNet):
    """The same with 8 heads as in Stable Diffusion 1, also saved in the published format."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "file": ("STRING", {})}}

    def make(self, model, file):
        made = super().make(model, num_heads=8, num_head_channels=-1)
        state = made[0].control_model.state_dict()
        save_file({f"control_model.{key}": weight for key, weight in state.items()}, file)
        return made


class TestReport:
    """Reports what memory management knows about a model, a VAE and a CLIP."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "report", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}, "optional": {"model": ("MODEL",), "clip": ("CLIP",),
                                             "vae": ("VAE",), "after": ("LATENT",)}}  # fmt: skip

    def report(self, model=None, clip=None, vae=None, after=None):
        patchers = [one.patcher for one in (clip, vae) if one is not None]
        if model is not None:
            patchers += [model, *model.get_nested_additional_models()]
        return {"ui": {"text": [json.dumps([self.of(one) for one in patchers])]}}

    def of(self, patcher):
        factory, arguments = patcher.cached_patcher_init[:2]
        again = factory(*arguments, disable_dynamic=True)
        have, new = patcher.model.state_dict(), again.model.state_dict()
        return {
            "model": type(patcher.model).__name__,
            "managed": any(one.model is not None and one.model.is_clone(patcher)
                           for one in manager.current_loaded_models),  # fmt: skip
            "same": have.keys() == new.keys() and all(torch.equal(have[k], new[k]) for k in have),
            "cast": all(hasattr(one, "comfy_cast_weights") for one in patcher.model.modules()
                        if isinstance(one, (torch.nn.Linear, torch.nn.Conv3d))),
        }  # fmt: skip


class TestMemory:
    """Reports the bytes of memory of the server's process, and forward hooks left on U-Nets."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "measure", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"number": ("INT", {"default": 0, "max": 1 << 30})}}

    def measure(self, number):
        gc.collect()
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[1])
        unets = [one for one in gc.get_objects() if type(one).__name__ == "UNetModel"]
        hooks = sum(len(part._forward_hooks) + len(part._forward_pre_hooks)
                    for one in unets for part in one.modules())  # fmt: skip
        return {"ui": {"text": [str(pages * os.sysconf("SC_PAGE_SIZE")), str(hooks)]}}


NODE_CLASS_MAPPINGS = {
    one.__name__: one
    for one in (TestAttention, TestControlNet, TestSavedControlNet, TestReport, TestMemory)
}
