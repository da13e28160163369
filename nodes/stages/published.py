"""Settings published with a model, for inputs left at their defaults."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ...core.diffusion.sampling_plan import UsualSettings
from ...core.families import usual_settings
from ..choices import AS_PUBLISHED, USUAL_CFG, USUAL_SAMPLER, USUAL_STEPS
from .running import Settings
from .video_request import VideoRequest

if TYPE_CHECKING:
    from ..host.interface import ModelFacts

USUAL = UsualSettings(sampler=USUAL_SAMPLER, steps=USUAL_STEPS, cfg=USUAL_CFG)


def with_published_defaults(
    facts: ModelFacts, request: VideoRequest, settings: Settings
) -> tuple[VideoRequest, Settings]:
    """The request and settings with the model's own sampler, steps and cfg in place of "as
    published" and 0."""
    usual = usual_settings(facts.family) or USUAL
    name = usual.sampler if settings.sampler_name == AS_PUBLISHED else settings.sampler_name
    settings = replace(settings, sampler_name=name, steps=settings.steps or usual.steps)
    return replace(request, cfg=request.cfg or usual.cfg), settings
