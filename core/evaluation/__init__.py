"""Measuring what the models make: metrics, rules that read pixels, and the figures of the embedded
family (:mod:`.embedded`), with contact sheets of uncurated samples (:mod:`.samples`)."""
