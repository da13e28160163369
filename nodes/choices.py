"""Combo options, repeated here so that listing nodes needs no torch; a test compares them with
core."""

SAMPLERS = (
    "euler", "euler_ancestral", "heun", "ddim", "ddpm", "dpmpp_2m", "dpmpp_2m_sde", "unipc",
    "lcm",
)  # fmt: skip
SCHEDULES = (
    "uniform", "normal", "karras", "exponential", "trailing", "leading", "linspace", "strided",
)  # fmt: skip
AS_PUBLISHED = "as published"
"""As a schedule: noise levels and step formulas of the model family's original script. As a
sampler: the one that the temporal layers were published with; steps 0 and cfg 0 mean the same."""
USUAL_SAMPLER, USUAL_STEPS, USUAL_CFG = "dpmpp_2m", 25, 3.0
"""For models without published settings."""
IMAGE_MOTIONS = (
    AS_PUBLISHED, "small motion", "moderate motion", "large motion", "loop small", "loop moderate",
    "loop large", "style transfer large", "style transfer moderate", "style transfer small",
)  # fmt: skip
"""How far frames may depart from the image that they continue (PIA's presets)."""
BORDERS = ("automatic", "continued", "blended", "independent")
SINGLE_SEGMENT, SPARSE_FIRST, SLIDING_WINDOWS = "single clip", "sparse first", "sliding windows"
PREDICTION, HIERARCHICAL, VIDEO_TO_VIDEO = "prediction", "hierarchical", "video to video"
ROLLING = "rolling"
STRATEGIES = (
    SINGLE_SEGMENT, SPARSE_FIRST, SLIDING_WINDOWS, PREDICTION, HIERARCHICAL, VIDEO_TO_VIDEO,
    ROLLING,
)  # fmt: skip
CONTINUING = (PREDICTION, HIERARCHICAL)
"""Strategies whose segments continue the last frames of other segments."""
WHOLE = (SINGLE_SEGMENT, SPARSE_FIRST, VIDEO_TO_VIDEO)
"""Strategies in which the model sees all frames at once."""
FROM_CONTEXT = (SINGLE_SEGMENT, SLIDING_WINDOWS, *CONTINUING)
"""Strategies that accept context frames."""
ALL_TOGETHER = "all frames together"
FREQUENCY_FILTERS = ("butterworth", "gaussian", "ideal")
VIEWS = "views"
WINDOW_SCHEDULES = ("static", "uniform", "looped", "batched", VIEWS)
FUSES = ("pyramid", "flat", "overlap-linear", "relative")

BLENDS = ("linear", "spherical")
"""How one prompt fades into the next."""

RENDERED = ("rendered: shapes", "rendered: driving")
RENDERED_FRAMES = 61

VIDEO_FORMATS = (
    "mp4", "webm", "gif", "png", "mp4 (H.265)", "mp4 (AV1)", "webm (AV1)", "mov (ProRes 4444)",
    "webp", "apng",
)  # fmt: skip
AS_FRAMES, AS_SHORTER = "as the frames", "as the shorter of both"
AUDIO_LENGTHS = (AS_FRAMES, AS_SHORTER)
OVER_BLACK, KEEP_ALPHA = "over black", "keep"
ALPHA = (OVER_BLACK, KEEP_ALPHA)
FRAMES_AND_VIDEO, VIDEO_ONLY = "frames", "video only"
LOADED = (FRAMES_AND_VIDEO, VIDEO_ONLY)
FITS = ("crop", "stretch")

MISFITS = REFUSE, REPEAT_LAST, CROP = "refuse", "repeat the last", "crop"
"""What to do when the number of frames does not fill whole latent frames of a 3D VAE."""
