"""Training the whole embedded family within a given number of minutes.

`plan.toml` lists the parts, their data and their share of the time. :mod:`.clips` renders the data,
:mod:`.pixel_tasks` and :mod:`.latent_tasks` define the losses, :mod:`.timed` takes the steps and
:mod:`.run` schedules the parts.
"""
