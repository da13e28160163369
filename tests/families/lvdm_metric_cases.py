"""Runs the recorded case of LVDM's metrics."""

from __future__ import annotations

from pathlib import Path

import recipe
import torch
from golden_cases import Case, check_close, check_sampled
from videoldm.core.evaluation.distances import frechet_distance, kernel_distance
from videoldm.core.evaluation.i3d import I3D, from_state, preprocessed

TOLERANCE = 1e-4
ZERO = 1e-2  # what is left of the distance of a set to itself in float32


@torch.no_grad()
def video_distance(case: Case, folder: Path) -> None:
    inputs, expected, told = case.raw("inputs"), case.raw("expected"), case.told["recipe"]
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in I3D().state_dict().items()}
    network = from_state(recipe.weights(told, shapes), case.folder.name)
    seen = preprocessed(inputs["videos_uint8"])
    part = seen.transpose(1, 2)[:, :, :2, ::28, ::28]
    check_close(part, expected["preprocessed_sub"], "preprocessed", 1e-5)
    check_close(network(seen), expected["logits"], "logits", TOLERANCE)
    real, fake = inputs["feat_real"], inputs["feat_fake"]
    distance = frechet_distance(fake, real).reshape(1)
    check_sampled(distance, expected["frechet"], "frechet", TOLERANCE)
    assert abs(frechet_distance(real, real)) < ZERO
    check_sampled(kernel_distance(fake, real).reshape(1), expected["kvd"], "kvd", TOLERANCE)


KINDS = {"fvd": video_distance}
