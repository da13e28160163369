"""What the nodes call: one module per stage, between wire values and core's tasks."""
