"""Weight differences as adapters store them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Factors = Mapping[str, Tensor]
"""A file's tensors for one module, by the names that `names.ENDINGS` gives them."""


class Incomplete(ValueError):
    """A factor is missing; the message is its name."""


class Misfit(ValueError):
    """Factors do not fit each other; the message gives their shapes."""


@dataclass(frozen=True)
class Product:
    """a b, or with a core the Tucker decomposition of a convolution.

    ``a`` [o, p], ``b`` [q, i ...], ``core`` [p, q, kh, kw] (None: p = q, the rank).
    """

    a: Tensor
    b: Tensor
    core: Tensor | None = None

    @property
    def rank(self) -> int:
        return len(self.b)

    def matrix(self) -> Tensor:
        """[o, (i ...)] in float32, all axes but the first flattened; raises Misfit."""
        a, b = self.a.float().flatten(1), self.b.float().flatten(1)
        inner = self.core.shape[:2] if self.core is not None else (len(b), a.shape[1])
        if inner != (a.shape[1], len(b)):
            shapes = [tuple(x.shape) for x in (self.a, self.core, self.b) if x is not None]
            raise Misfit(" times ".join(map(str, shapes)))
        if self.core is None:
            return a @ b
        return torch.einsum("op,pqhw,qi->oihw", a, self.core.float(), b).flatten(1)


def difference_of(factors: Factors) -> Tensor | None:
    """The weight difference that these factors make: [o, (i ...)] in float32, all axes but the
    first flattened, or [o] for a vector; None if they make none.

    Raises Incomplete or Misfit.
    """
    for marks, build in _KINDS.items():
        if any(mark in factors for mark in marks):
            return build(factors)
    return None


def _need(factors: Factors, *names: str) -> list[Tensor]:
    missing = [name for name in names if name not in factors]
    if missing:
        raise Incomplete(missing[0])
    return [factors[name] for name in names]


def scale_of(factors: Factors, rank: int) -> float:
    """alpha / rank; alpha defaults to the rank."""
    return float(factors["alpha"]) / rank if "alpha" in factors else 1.0


def _low_rank(factors: Factors) -> Tensor:
    """LoRA: alpha / r * up down."""
    up, down = _need(factors, "up", "down")
    product = Product(up, down, factors.get("mid"))
    return product.matrix() * scale_of(factors, product.rank)


def _hadamard(factors: Factors) -> Tensor:
    """LoHa: alpha / r * (a1 b1) . (a2 b2), element by element."""
    first, second = (_hadamard_half(factors, k) for k in (1, 2))
    one, two = first.matrix(), second.matrix()
    if one.shape != two.shape:
        raise Misfit(f"{tuple(one.shape)} by elements {tuple(two.shape)}")
    return one * two * scale_of(factors, first.rank)


def _hadamard_half(factors: Factors, k: int) -> Product:
    a, b = _need(factors, f"hada_w{k}_a", f"hada_w{k}_b")
    if "hada_t1" not in factors and "hada_t2" not in factors:
        return Product(a, b)
    (core,) = _need(factors, f"hada_t{k}")
    return Product(a.flatten(1).T, b, core)


def _kronecker(factors: Factors) -> Tensor:
    """LoKr: alpha / r * w1 (x) w2, each in full or factorised; if both are in full, there is no
    rank, hence no alpha. All axes but the first are columns, where (i1 i2 k) is (i1) (x) (i2 k)."""
    rank, parts = None, []
    for name in ("lokr_w1", "lokr_w2"):
        if name in factors:
            parts.append(factors[name].float().flatten(1))
            continue
        a, b = _need(factors, f"{name}_a", f"{name}_b")
        core = factors.get("lokr_t2") if name == "lokr_w2" else None
        product = Product(a if core is None else a.flatten(1).T, b, core)
        rank = product.rank
        parts.append(product.matrix())
    return torch.kron(*parts) * (1.0 if rank is None else scale_of(factors, rank))


def _whole(factors: Factors) -> Tensor:
    """The full difference, which has no alpha."""
    tensor = factors["diff"].float()
    return tensor.flatten(1) if tensor.ndim > 1 else tensor


_KINDS: dict[tuple[str, ...], Callable[[Factors], Tensor]] = {
    ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"): _hadamard,
    ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b"): _kronecker,
    ("down", "up", "mid"): _low_rank,
    ("diff",): _whole,
}
