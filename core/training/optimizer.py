"""The optimiser of every recipe: Muon for weight matrices, AdamW for everything else.

Muon (Jordan et al. 2024) replaces the momentum of a matrix by the nearest orthogonal matrix, so
that every direction of the update has the same length; convolutions count as matrices [out, in *
k]. With its updates scaled to the root mean square of AdamW's (Liu et al. 2025) both share one
learning rate.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def orthogonalised(matrix: Tensor, steps: int = 5) -> Tensor:
    """Approximate U V^T of ``matrix`` = U S V^T by a quintic Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.bfloat16()
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).to(matrix.dtype)


class MuonAdamW(torch.optim.Optimizer):
    """Muon for parameters of two or more axes, AdamW for the others and for embeddings."""

    def __init__(
        self,
        module: nn.Module,
        *,
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
    ):
        matrices, others = split_parameters(module)
        groups = [dict(params=matrices, muon=True), dict(params=others, muon=False)]
        super().__init__(
            [g for g in groups if g["params"]],
            dict(lr=lr, weight_decay=weight_decay, momentum=momentum, betas=betas),
        )

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            update = self._muon if group["muon"] else self._adamw
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    update(parameter, parameter.grad, group, self.state[parameter])

    @staticmethod
    def _muon(parameter: Tensor, gradient: Tensor, group: dict, state: dict) -> None:
        momentum = state.setdefault("momentum", torch.zeros_like(parameter))
        momentum.lerp_(gradient, 1 - group["momentum"])
        direction = orthogonalised(gradient.lerp(momentum, group["momentum"]).flatten(1))
        scale = 0.2 * max(direction.shape) ** 0.5
        parameter.add_(direction.view(parameter.shape), alpha=-group["lr"] * scale)

    @staticmethod
    def _adamw(parameter: Tensor, gradient: Tensor, group: dict, state: dict) -> None:
        if not state:
            state |= {
                "step": 0,
                "mean": torch.zeros_like(parameter),
                "square": torch.zeros_like(parameter),
            }
        state["step"] += 1
        beta1, beta2 = group["betas"]
        state["mean"].lerp_(gradient, 1 - beta1)
        state["square"].lerp_(gradient.square(), 1 - beta2)
        mean = state["mean"] / (1 - beta1 ** state["step"])
        square = state["square"] / (1 - beta2 ** state["step"])
        parameter.addcdiv_(mean, square.sqrt() + 1e-8, value=-group["lr"])


def split_parameters(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The trained parameters: matrices and convolutions, and the rest (with embeddings)."""
    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    trained: Iterable[nn.Parameter] = [p for p in module.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim >= 2 and id(p) not in embeddings]
    chosen = {id(p) for p in matrices}
    return matrices, [p for p in trained if id(p) not in chosen]
