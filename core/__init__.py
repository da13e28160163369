"""The mathematics of the pack, in pure torch: nothing here knows of ComfyUI or of nodes.

One alphabet for every einops pattern and every shape in a docstring:

    b  videos in a batch      t  frames               c  channels
    h  height                 w  width                n  tokens of a sequence
    d  width of a token       k  attention heads

Videos are always ``b t c h w``. Pixels lie in [-1, 1]; latents are already scaled to about unit
variance. Layouts of a host (ComfyUI's ``[B, H, W, C]`` images) exist only in that host's folder.
"""
