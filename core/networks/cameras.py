"""Camera poses per frame, and the rays through the pixels of their images (CameraCtrl, He
et al. 2024, arXiv 2404.02101, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

WIDE = 1280 / 720
"""Aspect ratio of RealEstate10K's videos, for which poses are given."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraPath:
    """The cameras of frames 0, 1, 2, ... of a video; the last one is repeated beyond the end.

    intrinsics: [f 4] focal lengths fx, fy and centre cx, cy, as fractions of the image's width and
    height. world_to_camera: [f 4 4] float64. ratio: aspect ratio of that image.
    """

    intrinsics: Tensor
    world_to_camera: Tensor
    ratio: float = WIDE

    def __post_init__(self) -> None:
        count = len(self.intrinsics)
        if self.intrinsics.shape != (count, 4) or self.world_to_camera.shape != (count, 4, 4):
            raise ValueError(
                "a camera path is [f, 4] intrinsics and [f, 4, 4] poses, got "
                f"{list(self.intrinsics.shape)} and {list(self.world_to_camera.shape)}"
            )
        if not count:
            raise ValueError("a camera path has at least 1 camera, got 0")

    def __len__(self) -> int:
        return len(self.intrinsics)

    def at(self, frames: Sequence[int]) -> CameraPath:
        """The cameras of these absolute frame numbers."""
        rows = [min(frame, len(self) - 1) for frame in frames]
        return replace(
            self, intrinsics=self.intrinsics[rows], world_to_camera=self.world_to_camera[rows]
        )

    @property
    def to_first(self) -> Tensor:
        """[f 4 4] from each camera to the first, float32; exactly the identity for the first."""
        poses = self.world_to_camera.double()
        relative = poses[0] @ torch.linalg.inv(poses)
        relative[0] = torch.eye(4, dtype=torch.float64)
        return relative.float()

    def pixels(self, width: int, height: int) -> Tensor:
        """Intrinsics [f 4] in pixels of an image of this size, which is the given one cropped where
        its aspect ratio differs."""
        fx, fy, cx, cy = self.intrinsics.double().unbind(1)
        if self.ratio > width / height:
            fx = fx * (height * self.ratio) / width
        else:
            fy = fy * (width / self.ratio) / height
        return torch.stack([fx * width, fy * height, cx * width, cy * height], dim=1).float()

    def rays(self, width: int, height: int) -> Tensor:
        """Plücker coordinates [f 6 height width] of the rays through pixel centres, relative to the
        first camera: o x d, then d of unit length."""
        fx, fy, cx, cy = (one[:, None, None] for one in self.pixels(width, height).unbind(1))
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        x, y = (x - cx) / fx, (y - cy) / fy
        seen = torch.stack([x, y, torch.ones_like(x)], dim=-1)
        seen = seen / seen.norm(dim=-1, keepdim=True)
        rotation, origin = self.to_first[:, :3, :3], self.to_first[:, :3, 3]
        d = torch.einsum("f i j, f h w j -> f h w i", rotation, seen)
        moment = torch.linalg.cross(origin[:, None, None].expand_as(d), d, dim=-1)
        return torch.cat([moment, d], dim=-1).movedim(-1, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraUse:
    """A camera path to follow, and how strongly."""

    path: CameraPath
    strength: float = 1.0
