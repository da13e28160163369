"""Camera poses for every frame, from moves or poses given as text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...core.networks.cameras import CameraPath
from .camera_texts import Move, read_camera

INTRINSICS = (0.4748, 0.8441, 0.5, 0.5)
"""fx, fy, cx, cy of a typical RealEstate10K clip, as fractions of width and height."""
TURNS = {"pan": (2, 0), "tilt": (2, 1), "roll": (0, 1)}
"""Each rotates the first axis towards the second. x is right, y down, z into the image."""
SHIFTS = {"truck": 0, "pedestal": 1, "zoom": 2}


def camera_path(text: str, frames: int) -> CameraPath:
    """The cameras of a video of `frames` frames from a text for `read_camera`."""
    found = read_camera(text, frames)
    if found and not isinstance(found[0], Move):
        return _given(torch.tensor(found, dtype=torch.float64))
    return _moved(found, frames)


def _moved(moves: Sequence[Move], frames: int) -> CameraPath:
    """Cameras from moves; simultaneous moves add up."""
    camera, poses = torch.eye(4, dtype=torch.float64), []
    for frame in range(frames):
        poses.append(torch.linalg.inv(camera))
        for move in moves:
            if move.first <= frame < move.last:
                camera = camera @ _step(move.kind, move.amount / (move.last - move.first))
    rows = torch.tensor(INTRINSICS, dtype=torch.float64).repeat(frames, 1)
    return CameraPath(intrinsics=rows, world_to_camera=torch.stack(poses))


def _step(kind: str, amount: float) -> Tensor:
    """The transform [4 4] from a frame's camera to that of the previous frame."""
    made = torch.eye(4, dtype=torch.float64)
    if kind in SHIFTS:
        made[SHIFTS[kind], 3] = amount
        return made
    (i, j), angle = TURNS[kind], math.radians(amount)
    made[i, i] = made[j, j] = math.cos(angle)
    made[j, i], made[i, j] = math.sin(angle), -math.sin(angle)
    return made


def _given(rows: Tensor) -> CameraPath:
    """Cameras from poses [f 19]."""
    matrices = torch.eye(4, dtype=torch.float64).repeat(len(rows), 1, 1)
    matrices[:, :3] = rows[:, 7:].reshape(-1, 3, 4)
    return CameraPath(intrinsics=rows[:, 1:5], world_to_camera=matrices)
