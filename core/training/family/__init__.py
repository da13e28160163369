"""The whole embedded family, trained in a given number of minutes.

`plan.toml` says which parts there are, on what each is trained and in which stretch of the time.
:mod:`.clips` renders, :mod:`.pixel_tasks` and :mod:`.latent_tasks` say what is learned,
:mod:`.timed` takes the steps and :mod:`.run` puts it all together.
"""
