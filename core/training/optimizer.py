"""The optimiser of every recipe: Muon for weight matrices, AdamW for everything else.

Muon (Jordan et al. 2024) replaces the momentum of a matrix by the nearest semi-orthogonal matrix,
so that all singular values of the update are equal; convolutions count as matrices [out, in * k].
Scaling its updates to the root mean square of AdamW's (Liu et al. 2025) lets both share one
learning rate.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def orthogonalised(matrices: Tensor, steps: int = 5) -> Tensor:
    """U V^T of ``matrices`` [..., m, n] = U S V^T, approximated by a quintic Newton-Schulz
    iteration in bfloat16."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class MuonAdamW(torch.optim.Optimizer):
    """Muon for parameters with two or more axes, AdamW for the others and for embeddings.

    Updates are batched: matrices of one shape are orthogonalised together. With the learning rate
    in a tensor, a step never synchronises with the device and can be captured as a CUDA graph.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        lr: float | Tensor,
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
            moved = [p for p in group["params"] if p.grad is not None]
            if not moved:
                continue
            torch._foreach_mul_(moved, 1 - group["lr"] * group["weight_decay"])
            (self._muon if group["muon"] else self._adamw)(moved, group)

    def _muon(self, parameters: list[Tensor], group: dict) -> None:
        gradients = [p.grad for p in parameters]
        momenta = self._state("momentum", parameters)
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        directions = torch._foreach_lerp(gradients, momenta, group["momentum"])
        for alike in _by_shape(directions):
            together = torch.stack([directions[i].flatten(1) for i in alike])
            scale = 0.2 * max(together.shape[1:]) ** 0.5
            updates = orthogonalised(together).mul_(-scale * group["lr"]).unbind()
            shaped = [u.view(parameters[i].shape) for i, u in zip(alike, updates, strict=True)]
            torch._foreach_add_([parameters[i] for i in alike], shaped)

    def _adamw(self, parameters: list[Tensor], group: dict) -> None:
        gradients = [p.grad for p in parameters]
        means, squares = (self._state(name, parameters) for name in ("mean", "square"))
        (count,) = self._state("step", parameters[:1], of_one=True)
        count += 1
        beta1, beta2 = group["betas"]
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_lerp_(squares, torch._foreach_mul(gradients, gradients), 1 - beta2)
        roots = torch._foreach_sqrt(torch._foreach_div(squares, 1 - beta2**count))
        torch._foreach_add_(roots, 1e-8)
        updates = torch._foreach_div(torch._foreach_div(means, 1 - beta1**count), roots)
        torch._foreach_add_(parameters, torch._foreach_mul(updates, -1 * group["lr"]))

    def _state(self, name: str, parameters: list[Tensor], *, of_one: bool = False) -> list[Tensor]:
        """Each parameter's state `name`, created as zeros: of its shape, or a scalar."""
        for parameter in parameters:
            if name not in self.state[parameter]:
                zeros = parameter.new_zeros(()) if of_one else torch.zeros_like(parameter)
                self.state[parameter][name] = zeros
        return [self.state[parameter][name] for parameter in parameters]


def _by_shape(tensors: list[Tensor]) -> Iterable[list[int]]:
    """Indices of the tensors, grouped by the shape of their matrices [out, in * k]."""
    found: dict[tuple[int, int], list[int]] = {}
    for i, tensor in enumerate(tensors):
        found.setdefault((tensor.shape[0], tensor[0].numel()), []).append(i)
    return found.values()


def split_parameters(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The trained parameters: (matrices and convolutions, the rest including embeddings)."""
    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    trained: Iterable[nn.Parameter] = [p for p in module.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim >= 2 and id(p) not in embeddings]
    chosen = {id(p) for p in matrices}
    return matrices, [p for p in trained if id(p) not in chosen]
