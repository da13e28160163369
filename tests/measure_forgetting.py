"""Measures how much an image model forgets of its images when it is fine-tuned on videos.

    python -m tests.measure_forgetting

A toy image model of both worlds is fine-tuned on videos of one. The loss of held-out images of the
other rises; with images of both worlds as half of each batch, it must rise by at most 0.6 as much.
"""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from videoldm.core.families.embedded import worlds
from videoldm.core.networks.video_unet import inject
from videoldm.core.training.joint_tasks import PromptedVideos, joint_error
from videoldm.core.training.optimizer import MuonAdamW

sys.path.append(str(Path(__file__).parent))
from model_toys import normal, seeded, toy_layers, toy_unet  # noqa: E402

FRAMES, SIDE, RATE = 4, 8, 3e-3
WORDS = {world: normal(1, 2, 16, seed=k) for k, world in enumerate(worlds.WORLDS)}


@dataclass(frozen=True)
class Clips:
    """Small clips of every world, used directly in place of latents: [n t 4 h w]."""

    of: dict[str, torch.Tensor]

    def images(self, world: str, step: int, count: int) -> PromptedVideos:
        frames = self.of[world][self._chosen(step, count), step % FRAMES][:, None]
        return PromptedVideos(frames, WORDS[world].expand(count, -1, -1))

    def videos(self, world: str, step: int, count: int) -> PromptedVideos:
        return PromptedVideos(
            self.of[world][self._chosen(step, count)], WORDS[world].expand(count, -1, -1)
        )

    def _chosen(self, step: int, count: int) -> torch.Tensor:
        return torch.arange(step * count, (step + 1) * count) % len(self.of["driving"])


def rendered(count: int, seed: int) -> Clips:
    return Clips({world: _rendered(world, count, seed) for world in WORDS})


def _rendered(world: str, count: int, seed: int) -> torch.Tensor:
    clips = []
    for index in range(count):
        scene = worlds.sample_scene(world, seed + index)
        video = torch.from_numpy(worlds.render(scene, times=np.arange(FRAMES), size=4 * SIDE))
        small = F.avg_pool2d(video, 4)
        clips.append(torch.cat([small, small.mean(1, keepdim=True)], dim=1))
    return torch.stack(clips)


def fine_tune(network, parts, steps: int):
    """A fine-tuned copy, with all weights trained; `parts(step)` returns the batch of a step."""
    network = copy.deepcopy(network).train().requires_grad_(True)
    optimizer = MuonAdamW(network, lr=RATE, weight_decay=0.0)
    for step in range(steps):
        loss, _ = joint_error(network, parts(step), seeded(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@torch.no_grad()
def image_loss(network, clips: Clips, world: str) -> float:
    """The mean loss on a world's images, with the same noise and noise levels in each call."""
    images = clips.images(world, 0, len(clips.of[world]))
    return float(np.mean([joint_error(network, [images], seeded(k))[0].item() for k in range(4)]))


def losses(clips: Clips, held_out: Clips, before: int, after: int) -> dict[str, float]:
    """The image loss of the world shapes before fine-tuning on driving, and after it with and
    without images in the batch: `before` steps on images of both worlds, then `after` on videos."""
    torch.manual_seed(0)
    unet = toy_unet()
    image_model = fine_tune(
        inject(unet, toy_layers(unet)),
        lambda step: [clips.images(world, step, 8) for world in WORDS], before,
    )  # fmt: skip
    with_images = fine_tune(
        image_model,
        lambda step: [clips.videos("driving", step, 4),
                      *(clips.images(world, step, 2) for world in WORDS)], after,
    )  # fmt: skip
    without = fine_tune(image_model, lambda step: [clips.videos("driving", step, 8)], after)
    networks = {"before": image_model, "with": with_images, "without": without}
    return {name: image_loss(one, held_out, "shapes") for name, one in networks.items()}


def main() -> int:
    found = losses(rendered(48, 0), rendered(24, 1000), before=60, after=30)
    forgotten = {name: found[name] - found["before"] for name in ("with", "without")}
    print(", ".join(f"{name} {loss:.4f}" for name, loss in found.items()))
    print(
        f"with images {forgotten['with'] / forgotten['without']:.2f} of what is forgotten without"
    )
    kept = forgotten["without"] > 0.1 * found["before"]
    return 0 if kept and forgotten["with"] < 0.6 * forgotten["without"] else 1


if __name__ == "__main__":
    sys.exit(main())
