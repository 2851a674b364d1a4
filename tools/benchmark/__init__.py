"""Measurements, run by hand: `python -m tools.benchmark neurons`."""
