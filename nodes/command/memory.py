"""Peak memory of this process."""

from __future__ import annotations

import sys


def peak_memory() -> dict[str, float]:
    """Return "peak_memory_mb", and "peak_gpu_memory_mb" when a GPU was used; {} if unknown."""
    found = {}
    resident = _peak_resident()
    if resident is not None:
        found["peak_memory_mb"] = round(resident / 1e6, 1)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        found["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / 1e6, 1)
    return found


def _peak_resident() -> int | None:
    """Peak resident bytes; None on Windows, where Python does not tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
