"""Checks of inside_sampling.py: our models survive what later versions of ComfyUI do to models.

Dynamic memory needs a GPU; its handling of buffers and hooks is imitated here.
"""

from collections import Counter
from dataclasses import replace


def with_levels(toys, name="levels"):
    """The image model with layers that have noise levels of their own."""
    from safetensors.torch import load_file
    from videoldm.core.networks.temporal_layers import Strength
    from videoldm.core.weights.checkpoints import read_header, save

    file, changed = (toys.folder / f"{one}.safetensors" for one in ("text_to_video", name))
    header = read_header(file)
    betas = {"betas": ["linear", 1e-4, 2e-2]}
    config = {**header.config, "host": {**header.config["host"], **betas}}
    save(changed, load_file(file), replace(header, config=config), dtype=None)
    return toys.host.inject(toys.image, toys.layers(name), Strength())


def with_core_levels(model):
    """The model patched by ComfyUI's own node for noise levels, whose patch has buffers."""
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    return ModelSamplingDiscrete().patch(model, "eps", zsnr=True)[0]


def alternating(toys):
    """Whether models of one checkpoint with different noise levels give the same again in turn, if
    buffers backed up under another patch are restored, by path, before each run."""
    import comfy.model_management as manager
    import comfy.utils
    import torch

    base = toys.image.model
    theirs = with_core_levels(toys.text_to_video)
    models = {"plain": toys.text_to_video, "brought": with_levels(toys), "core's": theirs,
              "image": toys.image}  # fmt: skip
    fresh = {name: (toys.sample(model), toys.core(model)) for name, model in models.items()}
    manager.unload_all_models()
    theirs.patch_model(load_weights=False)
    backup = {key: one.clone() for key, one in base.named_buffers()}
    theirs.unpatch_model(unpatch_weights=False)
    same = {name: [] for name in models}
    for name, model in [*models.items(), *models.items()]:
        manager.unload_all_models()
        model.patch_model(load_weights=False)
        for key, value in backup.items() if model is not theirs else ():
            comfy.utils.set_attr_buffer(base, key, value)
        model.unpatch_model(unpatch_weights=False)
        again = toys.sample(model), toys.core(model)
        same[name] += [torch.equal(a, b) for a, b in zip(again, fresh[name], strict=True)]
    results = {float(one.sum()) for one, _ in fresh.values()}
    return {"same": same, "different": len(results), "backed up": sorted(backup)}


def buffers_of_patches(toys):
    """Buffers in the modules that we patch in, and in the noise levels of our models."""
    import torch

    found = {}
    for name, model in {"brought": with_levels(toys), "own": toys.text_to_video}.items():
        sampling = model.get_model_object("model_sampling")
        patches = {**model.object_patches, "model_sampling": sampling}
        modules = {key: one for key, one in patches.items() if isinstance(one, torch.nn.Module)}
        found[name] = [f"{key}.{inner}" for key, one in modules.items()
                       for inner, _ in one.named_buffers()]  # fmt: skip
    return found


def brought_levels_of_core_models(toys):
    """A copy of ComfyUI's model sampling with the noise levels of a schedule, then written to by
    path."""
    import comfy.model_sampling as core
    import comfy.utils
    import torch
    from videoldm.core.diffusion.schedules import linear
    from videoldm.nodes.host.comfyui.noise_levels import with_schedule

    class Sampling(core.ModelSamplingDiscrete, core.EPS):
        pass

    class Holder(torch.nn.Module):
        def __init__(self, sampling):
            super().__init__()
            self.model_sampling = sampling

    theirs, schedule = Sampling(), linear()
    made = with_schedule(theirs, schedule)
    before = made.sigmas.clone()
    comfy.utils.set_attr_buffer(Holder(made), "model_sampling.sigmas", theirs.sigmas)
    sigma = torch.tensor([0.5, 3.0])
    return {
        "buffers": len(list(made.named_buffers())), "theirs": len(list(theirs.named_buffers())),
        "kept": torch.equal(made.sigmas, before) and torch.equal(before, schedule.sigmas.float()),
        "kind": isinstance(made, Sampling), "copied": not torch.equal(before, theirs.sigmas),
        "timesteps": made.timestep(sigma).tolist(),
    }  # fmt: skip


def nothing_written_to(toys):
    """Inputs of our layers and guider that are modified in place, in both samplers, at cfg 1 and
    3."""
    import torch

    written, watched = [], Counter()

    def watching(name):
        def wrapper(executor, *args, **kwargs):
            given = [one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor)]
            copies = [one.clone() for one in given]
            watched[name] += 1
            result = executor(*args, **kwargs)
            pairs = zip(given, copies, strict=True)
            written.extend(name for one, copy in pairs if not torch.equal(one, copy))
            return result

        return wrapper

    for base in (toys.text_to_video, toys.prediction):
        model = base.clone()
        for kind in ("calc_cond_batch", "apply_model", "predict_noise"):
            model.add_wrapper_with_key(kind, "watching", watching(kind))
        # Outside of our wrapper, so that it sees the same inputs.
        ours = model.wrappers["diffusion_model"]
        model.wrappers["diffusion_model"] = {"watching": [watching("diffusion_model")], **ours}
        context = {"samples": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))}
        for cfg in (1.0, 3.0):
            toys.core(model, cfg=cfg)
            toys.sample(model, cfg=cfg)
            if base is toys.prediction:
                toys.sample(model, cfg=cfg, context=context)
    return {"written": written, "watched": watched}


def swapped_patcher(toys):
    """A dynamic patcher that delegates conditions with hooks, as ComfyUI's does."""
    import torch

    expected = toys.sample(prompts=toys.hooked())
    delegates, model = [], toys.text_to_video.clone()

    class Dynamic(type(model)):
        def is_dynamic(self):
            return not getattr(self, "delegate", False)

        def get_non_dynamic_delegate(self):
            made = toys.text_to_video.clone()
            delegates.append(made)
            return made

        def patch_hooks(self, *args, **kwargs):
            raise AssertionError("hooks act on the dynamic patcher")

        apply_hooks = pre_run = patch_hooks

    model.__class__ = Dynamic
    found = toys.sample(model, prompts=toys.hooked())
    return {"delegates": len(delegates), "same": torch.equal(found, expected)}


def renewable(toys):
    """Whether the patcher of everything that we load can be re-created, by name."""
    found = {}
    upsampler = toys.loaders.own_wires(
        toys.loaders.UPSAMPLER, toys.folder / "upsampler.safetensors"
    )
    decoder = toys.loaders.temporal_vae(toys.folder / "temporal_decoder.safetensors")
    models = {
        "image": toys.image, "injected": toys.text_to_video, "brought": with_levels(toys),
        "ejected": toys.host.eject(toys.text_to_video), "upsampler": upsampler[0],
    }  # fmt: skip
    others = {
        "clip": toys.clip.patcher, "vae": toys.vae.patcher, "decoder": decoder.patcher,
        "upsampler's clip": upsampler[1].patcher, "upsampler's vae": upsampler[2].patcher,
    }  # fmt: skip
    for name, model in models.items():
        others[name] = model
        for k, one in enumerate(model.get_nested_additional_models()):
            others[f"{name}'s layers {k}"] = one
    for name, patcher in others.items():
        init = patcher.cached_patcher_init
        again = init and init[0](*init[1], disable_dynamic=True)
        have = patcher.model.state_dict()
        found[name] = bool(again) and have.keys() == again.model.state_dict().keys()
    return found


def unknown_arguments(toys):
    """Overrides and wrappers called with arguments that this version of ComfyUI does not have."""
    import torch
    from videoldm.nodes.host.comfyui.layers import fold_frames

    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(6))
    decoded = toys.vae.decode(latents)
    seen = []

    def executor(model, conds, x, timestep, options, **more):
        seen.append((tuple(x.shape), more))
        return [x]

    options = {"transformer_options": {}}
    for x in (latents, latents[None].transpose(1, 2)):
        fold_frames(executor, None, [None], x, torch.ones(len(x)), options, later=1)
    return {
        "decode": torch.equal(toys.vae.decode(latents, later=1), decoded),
        "decode_tiled": toys.vae.decode_tiled(latents, later=1).shape == decoded.shape,
        "calc_cond_batch": [list(shape) + [more] for shape, more in seen],
    }


def overrides(toys):
    """Methods that override one of a ComfyUI class, and those among them that do not accept unknown
    keyword arguments, as "class.method"."""
    import importlib
    import inspect
    import pkgutil

    from videoldm.nodes.host import comfyui

    found, strict = set(), set()
    names = [one.name for one in pkgutil.iter_modules(comfyui.__path__)]
    for module in (importlib.import_module(f"{comfyui.__name__}.{name}") for name in names):
        for kind in vars(module).values():
            if not inspect.isclass(kind) or kind.__module__ != module.__name__:
                continue
            above = [one for one in kind.__mro__[1:] if one.__module__.startswith("comfy")]
            for name, function in vars(kind).items():
                if name.startswith("__") or not inspect.isfunction(function):
                    continue
                if any(inspect.isfunction(vars(one).get(name)) for one in above):
                    found.add(f"{kind.__name__}.{name}")
                    takes = inspect.signature(function).parameters.values()
                    if not any(one.kind is one.VAR_KEYWORD for one in takes):
                        strict.add(f"{kind.__name__}.{name}")
    return {"found": sorted(found), "strict": sorted(strict)}


CHECKS = (alternating, buffers_of_patches, brought_levels_of_core_models, nothing_written_to,
          swapped_patcher, renewable, unknown_arguments, overrides)  # fmt: skip
