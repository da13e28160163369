"""Adapters of image models: files that change the weights of a U-Net and of its text encoder.

W' = W + strength * difference, where the difference is stored in fewer numbers than the weight:
LoRA (Hu et al. 2021), LoHa (Hyeon-Woo et al. 2022) and LoKr (Yeh et al. 2024), or whole; with
DoRA (Liu et al. 2024) the length of W + difference is stored as well.
"""

from .beside import beside
from .files import read_lora
from .merging import apply, merge, parse

__all__ = ["apply", "beside", "merge", "parse", "read_lora"]
