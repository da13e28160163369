"""Weight updates that are applied beside a network's weights instead of being merged (LoRA, Hu
et al. 2021): their strength can change over frames and steps, and no weight is ever swapped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from einops import repeat
from torch import Tensor, nn

from ..diffusion.curves import Amount, Curve, StepAt


class WeightUpdate(nn.Module):
    """scale * (composition of parts) + bias: what an update adds to a module's output.

    parts: linear maps or convolutions without bias, from the module's input to its output. bias:
    [o], not multiplied by the scale.
    """

    def __init__(self, parts: Sequence[nn.Module], scale: float = 1.0, bias: Tensor | None = None):
        super().__init__()
        self.parts, self.scale = nn.ModuleList(parts), scale
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor | float:
        more: Tensor | float = 0.0
        if len(self.parts):
            more = x
            for part in self.parts:
                more = part(more)
            more = self.scale * more
        if self.bias is None:
            return more
        at = (slice(None),) + (None,) * (x.ndim - 2 if x.ndim == 4 else 0)
        return more + self.bias.to(x)[at]


class WeightUpdates(nn.Module):
    """Updates by the path of the module that each of them changes."""

    def __init__(self, updates: dict[str, WeightUpdate]):
        super().__init__()
        self.paths = tuple(updates)
        self.updates = nn.ModuleList(updates.values())

    def items(self) -> Iterator[tuple[str, WeightUpdate]]:
        return zip(self.paths, self.updates, strict=True)


@dataclass(frozen=True, eq=False)
class Scheduled:
    """Updates with a strength by frame and step."""

    updates: WeightUpdates
    strength: Curve

    @property
    def by_frame(self) -> bool:
        """Whether the strength may differ between frames."""
        return any(line.over == "frames" for line in self.strength.lines)


@dataclass(frozen=True)
class Frames:
    """Absolute frame numbers of each of `videos` videos in a batch, and the sampler's step."""

    numbers: Sequence[int]
    videos: int
    step: StepAt | None


@contextmanager
def updated(root: nn.Module, scheduled: Sequence[Scheduled], frames: Frames) -> Iterator[None]:
    """A context in which the updates act on the modules of `root`.

    The inputs of these modules have the frames of all videos as batch axes, (b t) or b, t.
    """
    with ExitStack() as stack:
        for one in scheduled:
            amount = one.strength.amount(frames.numbers, frames.step)
            if not isinstance(amount, Tensor) and amount == 0.0:
                continue
            if isinstance(amount, Tensor):
                amount = repeat(amount.flatten(), "t -> (b t)", b=frames.videos)
            for path, update in one.updates.items():
                # Runs before hooks that rearrange the output.
                hook = partial(_add, update=update, amount=amount, path=path)
                module = root.get_submodule(path)
                stack.callback(module.register_forward_hook(hook, prepend=True).remove)
        yield


def _add(
    module: nn.Module, args: tuple, output: Tensor, *, update: WeightUpdate, amount: Amount,
    path: str,
) -> Tensor:  # fmt: skip
    more = update(args[0])
    if isinstance(amount, Tensor):
        amount = _along_frames(amount.to(output), output, path)
    return output + amount * more


def _along_frames(amount: Tensor, output: Tensor, path: str) -> Tensor:
    """amount [(b t)] shaped to multiply an output [(b t), ...] or [b, t, ...]."""
    for axes in (1, 2):
        if output.shape[:axes].numel() == len(amount):
            return amount.reshape(*output.shape[:axes], *[1] * (output.ndim - axes))
    raise ValueError(
        f"{path} is given {len(output)} rows for {len(amount)} frames: a LoRA whose strength "
        "changes over frames cannot act there"
    )
