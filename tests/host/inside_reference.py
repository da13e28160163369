"""Checks of inside_sampling.py: Reference Window with ComfyUI's KSampler and context windows."""


def reference(toys):
    import inside_frames as frames
    from videoldm.core.networks.reference import ReferenceWindow

    plain = frames.windowed(toys.text_to_video, 4, 1, causal_window_fix=False)
    x = frames.noise()

    def made(how, model=plain):
        return toys.core(toys.host.with_reference(model, how), x=x)

    without = toys.core(plain, x=x)
    whole = ReferenceWindow(end=1.0)
    late = toys.host.with_reference(toys.text_to_video, whole)
    late = frames.windowed(late, 4, 1, causal_window_fix=False)
    return {
        "nothing": frames.apart(made(ReferenceWindow(strength=0, negative=0, end=1.0)), without),
        "read": frames.apart(made(whole), without),
        "in the other order of nodes": frames.apart(toys.core(late, x=x), made(whole)),
        "in the first step": frames.apart(made(ReferenceWindow(end=0.0)), without),
        "afterwards": frames.apart(toys.core(plain, x=x), without),
        "no windows": frames.apart(
            made(whole, toys.text_to_video), toys.core(toys.text_to_video, x=x)
        ),
    }


CHECKS = (reference,)
