"""Benchmarks of neurons, detectors and event loading: `python -m tools.benchmark neurons`."""
