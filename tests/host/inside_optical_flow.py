"""Checks of inside_sampling.py: our OPTICAL_FLOW in ComfyUI's nodes, and its own in ours."""


def frames():
    """Two frames of a texture that moves one pixel to the left, [2 3 h w] in [0, 1]."""
    import torch

    random = torch.Generator().manual_seed(0)
    texture = torch.rand(1, 3, 33, 48, generator=random)
    texture = torch.nn.functional.interpolate(texture, scale_factor=4, mode="bicubic").clamp(0, 1)
    return torch.cat([texture[..., :128, at : at + 160] for at in range(2)])


def emitted(toys):
    """The median (x, y) of our flow, called through the class by which ComfyUI calls RAFT."""
    from comfy.model_management import load_model_gpu
    from comfy_extras.void_noise_warp import RaftOpticalFlow

    patcher = toys.host.optical_flow(gradients())
    load_model_gpu(patcher)
    first, second = frames()
    flow = RaftOpticalFlow(patcher.model)(first, second)[:, 8:-8, 8:-8]
    return [round(float(one.median()), 1) for one in flow]


def gradients():
    from videoldm.core.tasks.optical_flow import GradientFlow

    return GradientFlow()


def accepted(toys):
    """RAFT as ComfyUI's loader wraps it: whether our flow equals that of ComfyUI's class, and the
    shape of the flow of frames whose size RAFT does not accept."""
    import comfy.model_management as manager
    import comfy.model_patcher
    import torch
    from comfy_extras.void_noise_warp import RaftOpticalFlow
    from torchvision.models.optical_flow import raft_large

    torch.manual_seed(0)
    patcher = comfy.model_patcher.ModelPatcher(
        raft_large(weights=None, progress=False).eval().float(),
        load_device=manager.get_torch_device(), offload_device=manager.unet_offload_device(),
    )  # fmt: skip
    first, second = frames()
    flow = toys.host.flow(patcher)
    own = flow(first[None] * 2 - 1, second[None] * 2 - 1)[0]
    theirs = RaftOpticalFlow(patcher.model)(first, second)
    small = flow(first[None, :, :50, :70], second[None, :, :50, :70])
    return {"same": bool(torch.allclose(own, theirs, atol=1e-4)), "small": list(small.shape)}


CHECKS = (emitted, accepted)
