"""Benchmarks: `python -m tools.benchmark train ems_resnet18_ee`, `infer`, `neurons`, `events`, `simulation`."""
