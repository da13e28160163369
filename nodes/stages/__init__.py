"""One module per stage, between wire values and core's tasks."""
