"""Device and precision, decided only here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = ("auto", "fp32", "fp16", "bf16")
IMAGES_STAY_BELOW = 2**30
"""Bytes: decoded images up to this size stay on the compute device, larger ones go to the CPU."""


@dataclass(frozen=True)
class Policy:
    """The requested device and dtype; "auto" is CUDA, else the CPU, and fp16, on the CPU fp32.

    Weights are stored in `dtype`; latents between stages are float32 on `device`.
    """

    wanted_device: str = "auto"
    wanted_dtype: str = "auto"

    def __post_init__(self) -> None:
        if self.wanted_device.partition(":")[0] not in DEVICES:
            known = ", ".join(DEVICES)
            raise ValueError(f"device {self.wanted_device!r} must be one of {known} or cuda:N")
        if self.wanted_dtype not in DTYPES:
            raise ValueError(f"dtype {self.wanted_dtype!r} must be one of {', '.join(DTYPES)}")

    @property
    def device(self) -> torch.device:
        import torch

        if self.wanted_device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.wanted_device.startswith("cuda") and not torch.cuda.is_available():
            raise ValueError(f"device {self.wanted_device} was asked for, but torch sees no GPU")
        return torch.device(self.wanted_device)

    @property
    def dtype(self) -> torch.dtype:
        import torch

        if self.wanted_dtype == "auto":
            return torch.float32 if self.device.type == "cpu" else torch.float16
        named = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
        return named[self.wanted_dtype]

    def place_for_images(self, size: int) -> torch.device:
        """The device for decoded images of `size` bytes."""
        import torch

        return self.device if size <= IMAGES_STAY_BELOW else torch.device("cpu")


def free_memory(device: torch.device | str) -> int | None:
    """Free bytes on a device; None if the system does not tell."""
    import torch

    device = torch.device(device)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    known = [_available(), _left_in_group()]
    return min((one for one in known if one is not None), default=None)


def _available() -> int | None:
    """Available bytes of main memory, without swapping; None except on Linux."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return 1024 * int(found[0]) if found else None


def _left_in_group() -> int | None:
    """Bytes left in a container (cgroup v2), cached files being free; None if unlimited."""
    folder = Path("/sys/fs/cgroup")
    try:
        most = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        kinds = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return None if most == "max" else int(most) - used + int(kinds.get("inactive_file", 0))
