"""Options of combos, listed here so that node listings need no torch; a test compares."""

SAMPLERS = (
    "euler", "euler_ancestral", "heun", "ddim", "ddpm", "dpmpp_2m", "dpmpp_2m_sde", "unipc",
    "lcm",
)  # fmt: skip
SCHEDULES = (
    "uniform", "normal", "karras", "exponential", "trailing", "leading", "linspace", "strided",
)  # fmt: skip
AS_PUBLISHED = "as published"
"""Beside the schedules: noise levels, and what goes with them, as in a family's own script. Beside
the samplers: that of the temporal layers; steps and cfg 0 say the same."""
USUAL_SAMPLER, USUAL_STEPS, USUAL_CFG = "dpmpp_2m", 25, 3.0
"""Of models of which nothing was published."""
IMAGE_MOTIONS = (
    AS_PUBLISHED, "small motion", "moderate motion", "large motion", "loop small", "loop moderate",
    "loop large", "style transfer large", "style transfer moderate", "style transfer small",
)  # fmt: skip
"""How far the frames of a video may get from an image that they continue."""
BORDERS = ("automatic", "continued", "blended", "independent")
SINGLE_SEGMENT, SPARSE_FIRST, SLIDING_WINDOWS = "single clip", "sparse first", "sliding windows"
PREDICTION, HIERARCHICAL, VIDEO_TO_VIDEO = "prediction", "hierarchical", "video to video"
ROLLING = "rolling"
STRATEGIES = (
    SINGLE_SEGMENT, SPARSE_FIRST, SLIDING_WINDOWS, PREDICTION, HIERARCHICAL, VIDEO_TO_VIDEO,
    ROLLING,
)  # fmt: skip
CONTINUING = (PREDICTION, HIERARCHICAL)
"""Strategies in which segments continue the last frames of others."""
WHOLE = (SINGLE_SEGMENT, SPARSE_FIRST, VIDEO_TO_VIDEO)
"""Strategies in which the model sees all frames together."""
FROM_CONTEXT = (SINGLE_SEGMENT, SLIDING_WINDOWS, *CONTINUING)
"""Strategies that can begin with given frames."""
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
"""What to do with frames of which a VAE of videos cannot make whole latent frames."""
