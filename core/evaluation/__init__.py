"""Measuring what the models make: metrics, rules that read pixels, and the figures of the embedded
family (:mod:`.included`), with contact sheets of uncurated samples (:mod:`.samples`)."""

PROGRAMS = {
    "embedded": "the figures of the models that come with the pack",
    "samples": "contact sheets of them",
    "drift": "what long videos lose, by strategy (hours at 10,000 frames)",
    "speed": "LaVie's and LVDM's full-size networks against a plain convolution (minutes, 8 GB)",
    "memory": "super-resolution of 61 frames against 16, LaVie's and the x4 upsampler's (minutes)",
    "fine_tuning": "flicker and PSNR of a decoder before and after fine-tuning in time, beside a "
    "control (5 minutes)",
    "training": "one step of the recipes for Stable Diffusion's models, in shapes alone (minutes)",
    "lvdm-claims": "LVDM's means against drift over 1,024 frames of the embedded world (an hour)",
    "decoder": "Stable Video Diffusion's full-size decoder against diffusers' (3 minutes, 6 GB)",
}
"""What can be measured, by the name that the command line takes."""

MODULES = {
    "speed": "speed",
    "memory": "memory",
    "decoder": "decoder",
    "fine_tuning": "fine_tuning",
    "training": "training",
    "lvdm-claims": "lvdm_claims",
}
"""Where the `report` of those is that give values and a text, not figures of the pack's models."""

KEEPING = ("lvdm-claims", "fine_tuning")
"""Those of them whose report gets a folder to keep what it makes, and where to say what comes."""

SAYING = ("decoder",)
"""Those whose report gets where to say what comes, and keeps nothing."""
