"""One module per stage: they translate node inputs for core's tasks, and results back."""
