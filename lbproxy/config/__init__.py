"""What was asked: `model` (the values and their defaults), `load` (YAML to model), `diff` (old and new to a plan)."""
