"""Benchmark inference: images/s, ms in data, forward and decoding, peak memory, matrix rate.

    python -m tools.benchmark infer ems_resnet18_ee model.T=4 threads=1 --rival published
    python -m tools.benchmark infer runs/demo/checkpoint_best.pt
    python -m tools.benchmark infer runs/ann/converted.pt eval.T=64              64 steps of a converted network
    python -m tools.benchmark infer spikeyolo_s --rival dense --rival fastest    with fused weights

Arguments are those of `python -m tools.benchmark train`.
"""

from functools import partial

from ._turns import run

main = partial(run, "infer", __doc__)
