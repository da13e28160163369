"""The nodes that the command knows, and the host, configured by the arguments."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ...core.graph import Registry
from ..host.standalone.host import StandaloneHost, host
from ..host.standalone.imports import uncollected
from .errors import INVALID, MISSING, CommandError


def load_registry() -> Registry:
    """This pack's nodes and the stand-ins for ComfyUI's own."""
    from .. import node_registry

    return node_registry()


def configure(args: argparse.Namespace) -> StandaloneHost:
    """Set the host's folders, device and precision; CommandError for invalid ones."""
    for folder in args.models:
        if not Path(folder).expanduser().is_dir():
            raise CommandError(f"there is no models folder {folder}", MISSING)
    running = hasattr(args, "device")
    try:
        host.configure(
            models=args.models,
            input=args.input,
            output=args.output if running else "output",
            device=args.device if running else "auto",
            dtype=args.dtype if running else "auto",
            embed_metadata=not getattr(args, "no_metadata", False),
            check_memory=not getattr(args, "no_memory_check", False),
        )
    except ValueError as error:
        raise CommandError(str(error)) from error
    return host


def require_device(host: StandaloneHost) -> None:
    """Raise CommandError for a device that this machine lacks (this imports torch)."""
    try:
        with uncollected():
            host.policy.device  # noqa: B018 (looks for the device)
    except (ValueError, RuntimeError) as error:
        raise CommandError(str(error).splitlines()[0]) from error


def writable(folder: Path) -> Path:
    """Create the folder of the results; CommandError if it is not writable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise CommandError(f"output folder {folder} cannot be made ({reason})", INVALID) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CommandError(f"output folder {folder} cannot be written to (permission denied)")
    return folder
