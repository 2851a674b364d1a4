"""Benchmark training steps: images/s, ms of data, forward, loss, backward and optimizer, peak memory, matrix rate.

    python -m tools.benchmark train ems_resnet18_ee model.T=4 threads=1 --rival published
    python -m tools.benchmark train spikeyolo_s model.T=1 train.precision=bf16 --rival silu --json times.json
    python -m tools.benchmark train configs/demo.yaml --data                    with its loader
    python -m tools.benchmark train configs/coco/spikeyolo_s.yaml --classes 80 --channels 3   without its dataset
    python -m tools.benchmark train spikeyolo_s --rival train.channels_last=true --rival train.compile=true
    python -m tools.benchmark train eas_snn_s model.T=3 --rival convolutions --rival sampler

A name has batch size 2 and 320 x 320 pixels unless train.batch_size and data.size are given. Steps are those of
train.py with the same config; inputs are random, in the type of the dataset's.
"""

from functools import partial

from ._turns import run

main = partial(run, "train", __doc__)
