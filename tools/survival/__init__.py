"""Whether a training survives: `python -m tools.survival`."""
