"""Distances between two sets of features [n d], of real and of generated videos.

frechet   |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))         (Heusel et al. 2017; FVD, FID)
kernel    unbiased MMD^2 with the kernel (x.y / d + 1)^3      (Binkowski et al. 2018; KVD, KID)
"""

from __future__ import annotations

import torch
from torch import Tensor

SMALL = 1e-10


def frechet_distance(x: Tensor, y: Tensor) -> Tensor:
    """Fréchet distance of the two Gaussians with the features' means and unbiased covariances."""
    _check(x, y)
    difference = (x.mean(0) - y.mean(0)).square().sum()
    first, second = torch.cov(x.T), torch.cov(y.T)
    root = _square_root(first)
    both = _square_root(root @ second @ root)
    return difference + torch.trace(first + second) - 2 * torch.trace(both)


def _square_root(matrix: Tensor) -> Tensor:
    """Square root of a positive semidefinite matrix; tiny singular values are left as they are."""
    u, s, v = torch.linalg.svd(matrix)
    return u @ torch.diag(torch.where(s > SMALL, s.sqrt(), s)) @ v


def kernel_distance(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased squared maximum mean discrepancy, in float64; it may be negative."""
    _check(x, y)
    x, y = x.double(), y.double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(a: Tensor) -> Tensor:
        found = kernel(a, a)
        return (found.sum() - found.trace()) / (len(a) * (len(a) - 1))

    return within(x) + within(y) - 2 * kernel(x, y).mean()


def _check(x: Tensor, y: Tensor) -> None:
    if min(len(x), len(y)) < 2 or x.shape[1:] != y.shape[1:] or x.ndim != 2:
        raise ValueError(
            "Expected two sets of 2 features or more and of one size, got shapes "
            f"{list(x.shape)} and {list(y.shape)}."
        )
