"""Evaluation of generated videos: metrics, rules that recognise content in pixels, the figures of
the embedded family (:mod:`.included`), and contact sheets of uncurated samples (:mod:`.samples`).
"""

PROGRAMS = {
    "embedded": "the figures of the models that come with the pack",
    "samples": "contact sheets of uncurated samples of these models",
    "drift": "drift of long videos by strategy (hours at 10,000 frames)",
    "speed": "LaVie's and LVDM's full-size networks vs. a plain convolution (minutes, 8 GB)",
    "memory": "super-resolution of 61 frames vs. 16, LaVie's and the x4 upsampler's (minutes)",
    "fine_tuning": "flicker and PSNR of a decoder before and after temporal fine-tuning, with a "
    "control (5 minutes)",
    "training": "memory of one step of the recipes for Stable Diffusion, without data (minutes)",
    "lvdm-claims": "LVDM's measures against drift over 1,024 frames of the embedded world (an "
    "hour)",
    "decoder": "Stable Video Diffusion's full-size decoder vs. diffusers' (3 minutes, 6 GB)",
}
"""The evaluations of the command line, with their help."""

MODULES = {
    "speed": "speed",
    "memory": "memory",
    "decoder": "decoder",
    "fine_tuning": "fine_tuning",
    "training": "training",
    "lvdm-claims": "lvdm_claims",
}
"""Modules of the programs that are run by a function `report`, which returns (values, text)."""

WITH_FOLDER = ("lvdm-claims", "fine_tuning")
"""Programs whose `report` takes a folder for its files and a callback for progress messages."""

WITH_PROGRESS = ("decoder",)
"""Programs whose `report` takes only a callback for progress messages."""
