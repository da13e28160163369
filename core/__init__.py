"""The models and algorithms, independent of ComfyUI and of the nodes.

Every einops pattern and every shape in a docstring uses these letters:

    b  videos in a batch      t  frames               c  channels
    h  height                 w  width                n  tokens in a sequence
    d  channels of a token    k  attention heads

Videos are always ``b t c h w``. Pixels lie in [-1, 1]; latents are already scaled to about unit
variance. Host layouts (ComfyUI's ``[B, H, W, C]`` images) exist only in that host's folder.
"""
