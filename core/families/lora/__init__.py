"""Adapters for image models: files that change the weights of a U-Net and of its text encoder.

W' = W + strength * difference, with the difference in factorised form, as LoRA (Hu et al. 2021),
LoHa (Hyeon-Woo et al. 2022) or LoKr (Yeh et al. 2024), or in full; DoRA (Liu et al. 2024) also
stores the norm of W + difference.
"""

from .beside import beside
from .files import read_lora
from .merging import apply, merge, parse

__all__ = ["apply", "beside", "merge", "parse", "read_lora"]
