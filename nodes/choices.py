"""What the combos offer. Named here so that listing the nodes needs no torch; a test compares."""

SAMPLERS = (
    "euler", "euler_ancestral", "heun", "ddim", "ddpm", "dpmpp_2m", "dpmpp_2m_sde", "unipc",
)  # fmt: skip
SCHEDULES = (
    "uniform", "normal", "karras", "exponential", "trailing", "leading", "linspace", "strided",
)  # fmt: skip
AS_PUBLISHED = "as published"
"""Beside the schedules: noise levels, and what goes with them, as in a family's own script."""
BORDERS = ("automatic", "continued", "blended", "independent")
SINGLE_CLIP = "single clip"
CONTINUING = ("prediction", "hierarchical")
"""Strategies in which clips continue the last frames of others."""
STRATEGIES = (SINGLE_CLIP, "sliding windows", *CONTINUING)

EMBEDDED = "embedded"
EMBEDDED_LAYERS = (
    "embedded: text to video", "embedded: prediction", "embedded: interpolation",
)  # fmt: skip
RENDERED = ("rendered: shapes", "rendered: driving")
RENDERED_FRAMES = 61

VIDEO_FORMATS = ("mp4", "webm", "gif", "png")
FITS = ("crop", "stretch")
